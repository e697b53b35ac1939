"""A token opened for a transfer of keys: transport keys, wrapping, unwrapping, and what the module holds keys to.

The source wraps in a process of its own: the Security Officer logs in where no user is logged in, makes the trusted
wrapping keys as objects of one session, logs out, and the user wraps. Nothing trusted is ever an object of the token, so
nothing of it outlives the process, and no other process can wrap under it. A process logs in the one or the other and
the service's own processes have the user logged in; hence the process of its own.

Source: Smart Energy Code G2.22G, G2.22I; PKCS #11 3.0, 4.4.1 (CKA_TRUSTED is the Security Officer's to set); as seen on
modules: docs/adr/0012-transfer-wrapping.md.
"""

import secrets
from collections.abc import Sequence
from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from cryptosvc.adapters.hsm import agreeing, objects, pins, provision, secret_proof, wrapping
from cryptosvc.adapters.hsm.constants import CKU_SO, CKU_USER, Cka, Ckk, Ckm, Cko, Ckr
from cryptosvc.adapters.hsm.cryptoki import FALSE, CryptokiError, TemplateItem, require
from cryptosvc.adapters.hsm.pins import PinSource
from cryptosvc.adapters.hsm.provision import P256_PARAMETERS, Provisioner
from cryptosvc.core.errors import Conflict, Corrupt, Forbidden, Malformed, WrongState
from cryptosvc.core.handover.cargo import Arrival, Arrived, Wrapped
from cryptosvc.core.keyclass import Algorithm, Template, Usage, ceiling
from cryptosvc.core.registry import KeyRecord
from cryptosvc.core.transfer.mechanism import CLAUSE, OaepHash, Trust
from cryptosvc.core.transfer.proof import (
    CHALLENGE_OCTETS,
    Proof,
    answer_of_secret,
    challenge_of,
    check_value,
    digest_to_sign,
    is_symmetric,
    pair_of,
    proves_by_agreement,
)

_HELD = frozenset(
    (Ckr.KEY_NOT_WRAPPABLE, Ckr.WRAPPING_KEY_HANDLE_INVALID, Ckr.WRAPPING_KEY_TYPE_INCONSISTENT)
)
"""What modules answer where a transferable key is to be wrapped under a key that is not trusted."""
_PROBE = Template(Algorithm.EC_P256, frozenset({Usage.SIGN}), transferable=True)
_HALVES = 2
"""Objects of a pair that is whole: private and public."""
_ASKED_ALONE = frozenset((Cka.MODULUS_BITS,))
"""Given at generation, kept by some modules only."""


class TransferToken(Provisioner):
    """See the module; used as `Provisioner` is."""

    def hashes(self) -> tuple[OaepHash, ...]:
        """OAEP hashes the module has, as tried."""
        with self._translated("trying what it wraps with"):
            return wrapping.hashes_of(self._library.functions, self._session, self.mechanisms)

    def make_transport(self, label: str, object_id: bytes) -> bytes:
        """Make a transport key pair and read it back; SubjectPublicKeyInfo DER of its public half.

        Raises:
            Conflict: an object with this label and id exists.
            Forbidden: the module made another than was asked; it is destroyed.

        """
        functions = self._library.functions
        with self._translated("making a transport key"):
            if objects.matching(functions, self._session, label, object_id):
                raise Conflict(
                    f"the token has an object {label!r} already; take another name for this transfer",
                    rule="hsm/object-exists",
                )
            asked = wrapping.transport_pair_templates(label, object_id)
            pair = functions.generate_pair(self._session, Ckm.RSA_PKCS_KEY_PAIR_GEN, *asked)
            wrong = [
                one
                for handle, template in zip(pair, asked, strict=True)
                for one in self._differences(
                    handle, [item for item in template if item[0] not in _ASKED_ALONE]
                )
            ]
            if wrong:
                for handle in pair:
                    functions.C_DestroyObject(self._session, handle)
                raise Forbidden(
                    f"module {self.name} made the transport key otherwise than asked, so it was destroyed: "
                    + "; ".join(map(str, wrong)),
                    rule="hsm/template",
                    clause=CLAUSE,
                )
            modulus = functions.attribute(self._session, pair[0], Cka.MODULUS) or b""
        exponent = int.from_bytes(wrapping.PUBLIC_EXPONENT)
        public = rsa.RSAPublicNumbers(exponent, int.from_bytes(modulus)).public_key()
        return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def holds(self, label: str, object_id: bytes) -> bool:
        """Whether the token has any object with this label and id."""
        with self._translated("looking for an object"):
            return bool(objects.matching(self._library.functions, self._session, label, object_id))

    def trust(self) -> Trust:
        """What the module holds transferable keys to, as tried with keys of one session."""
        functions, session = self._library.functions, self._session
        made: list[int] = []
        with self._translated("trying what it holds keys to"):
            try:
                asked = [
                    provision.wanted_public("probe", b"\0", _PROBE),
                    provision.wanted("probe", b"\0", _PROBE),
                ]
                here = [[_for_a_session(item) for item in template] for template in asked]
                pair = functions.generate_pair(session, Ckm.EC_KEY_PAIR_GEN, *here)
                made += pair
                plain = wrapping.carrier_template(trusted=False, private=True)
                made.append(functions.generate(session, Ckm.AES_KEY_GEN, plain))
                if self._wraps(made[-1], pair[1]):
                    return Trust.NONE
                try:
                    marked = wrapping.carrier_template(trusted=True, private=True)
                    made.append(functions.generate(session, Ckm.AES_KEY_GEN, marked))
                except CryptokiError:
                    return Trust.ENFORCED
                return Trust.KEPT
            finally:
                for handle in made:
                    functions.C_DestroyObject(session, handle)

    def export(
        self,
        keys: Sequence[KeyRecord],
        transport: bytes,
        oaep_hash: OaepHash,
        so_pin: PinSource | None,
        transfer_id: str = "",
    ) -> Wrapped:
        """Wrap keys for another system, in a process of its own (`exporting.py`).

        Args:
            keys: transferable ones of this module.
            transport: SubjectPublicKeyInfo DER of the RSA key they go under.
            oaep_hash: of the wrapping of the carrier.
            so_pin: of the Security Officer; None for a module that has none.
            transfer_id: the check values of symmetric keys are for this transfer.

        Raises:
            Forbidden: the module does not wrap one of them, or wants the Security Officer.
            Unavailable, Corrupt: as `Provisioner`.

        """
        modulus, users = _modulus(transport), self.trust()
        functions, session = self._library.functions, self._session
        with self._translated("wrapping keys for a transfer"):
            public, carrier, trust = self._trusted(modulus, users, so_pin)
            try:
                blobs: dict[str, bytes] = {}
                checks: dict[str, str] = {}
                for key in keys:
                    handle = objects.find(functions, session, objects.Locator.of(key))
                    blobs[key.key_id] = wrapping.wrap_by_carrier(
                        functions, session, self.mechanisms, carrier, handle
                    )
                    if is_symmetric(key.key_class):
                        challenge = secrets.token_bytes(CHALLENGE_OCTETS)
                        checks[key.key_id] = check_value(
                            challenge, self._answer(handle, key, transfer_id, challenge)
                        )
                opened = wrapping.wrap_by_oaep(functions, session, public, carrier, oaep_hash)
                return Wrapped(opened, blobs, trust, checks)
            finally:
                functions.C_DestroyObject(session, carrier)
                functions.C_DestroyObject(session, public)

    def receive(
        self,
        transport: tuple[str, bytes],
        carrier: bytes,
        oaep_hash: OaepHash,
        arrivals: Sequence[Arrival],
        transfer_id: str,
    ) -> list[Arrived]:
        """Unwrap what is not there yet, have every key prove itself; the transport key is left as it is.

        May be called again after it was interrupted: what is there already is not unwrapped twice.

        Args:
            transport: label and id of the transport key.
            carrier: the wrapped carrier.
            oaep_hash: of its wrapping.
            arrivals: the keys.
            transfer_id: the proofs are for this transfer.

        Raises:
            WrongState: the transport key is gone, and not every key is there: a package opens once.
            Forbidden: the module does not unwrap something: it is damaged, or was wrapped for another key.

        """
        missing = [one for one in arrivals if not self._is_here(one.key)]
        if missing:
            if not self.holds(*transport):
                raise WrongState(
                    "the transport key of this offer is destroyed; a package opens once, so make a new offer",
                    rule="transfer/opened-already",
                    clause=CLAUSE,
                )
            self._unwrap(transport, carrier, oaep_hash, missing)
        return [self._proven(one, transfer_id) for one in arrivals]

    def _trusted(self, modulus: bytes, users: Trust, so_pin: PinSource | None) -> tuple[int, int, Trust]:
        """Transport public key, carrier, and what they are worth; the user is logged in again afterwards."""
        if users is Trust.ENFORCED and so_pin is None:
            raise Forbidden(
                f"module {self.name} wraps these keys under keys alone that its Security Officer marked; give the SO PIN",
                rule="transfer/security-officer",
                clause=CLAUSE,
            )
        if so_pin is None:
            return self._made(modulus, users, marks_public=users is Trust.NONE, private=True)
        self._log_in_as(CKU_SO, so_pin)
        try:
            return self._made(modulus, users, marks_public=True, private=False)
        finally:
            self._log_in_as(CKU_USER, self._config.pin)

    def _made(
        self, modulus: bytes, users: Trust, *, marks_public: bool, private: bool
    ) -> tuple[int, int, Trust]:
        functions, session = self._library.functions, self._session
        try:
            public = wrapping.create(
                functions, session, wrapping.transport_public_template(modulus, trusted=marks_public)
            )
        except CryptokiError as error:
            # kryoptic 1.5 has no CKA_TRUSTED on public keys: then the carrier cannot be held to trusted keys itself
            if not marks_public or error.code != Ckr.ATTRIBUTE_TYPE_INVALID:
                raise
            marks_public, users = False, Trust.KEPT if users is Trust.ENFORCED else users
            public = wrapping.create(
                functions, session, wrapping.transport_public_template(modulus, trusted=False)
            )
        template = wrapping.carrier_template(trusted=True, private=private, held=marks_public)
        return public, functions.generate(session, Ckm.AES_KEY_GEN, template), users

    def _log_in_as(self, user: int, source: PinSource) -> None:
        """Log out whoever is logged in. No read-only session may be open while the Security Officer is."""
        functions = self._library.functions
        functions.C_CloseSession(self._opened.login_session)
        functions.C_Logout(self._session)
        pin = source.read()
        try:
            functions.login(self._session, user, pin)
        finally:
            pins.wipe(pin)

    def _wraps(self, carrier: int, key: int) -> bool:
        try:
            wrapping.wrap_by_carrier(self._library.functions, self._session, self.mechanisms, carrier, key)
        except CryptokiError as error:
            if error.code not in _HELD:
                raise
            return False
        return True

    def _is_here(self, key: KeyRecord) -> bool:
        """Whether both halves of the key are there; half of it is destroyed, and comes again."""
        functions = self._library.functions
        with self._translated("looking for a key that arrives"):
            found = objects.matching(functions, self._session, key.label, key.object_id)
            if len(found) == (1 if is_symmetric(key.key_class) else _HALVES):
                objects.find(functions, self._session, objects.Locator.of(key))
                return True
            for handle in found:
                require("C_DestroyObject", functions.C_DestroyObject(self._session, handle))
            return False

    def _unwrap(
        self, transport: tuple[str, bytes], carrier: bytes, oaep_hash: OaepHash, missing: Sequence[Arrival]
    ) -> None:
        functions, session = self._library.functions, self._session
        with self._translated("unwrapping keys that arrive"):
            private = objects.find(functions, session, _transport_locator(*transport))
            arrived = wrapping.unwrap_by_oaep(
                functions, session, private, carrier, wrapping.arrived_carrier_template(), oaep_hash
            )
            try:
                for one in missing:
                    self._place(arrived, one)
            finally:
                functions.C_DestroyObject(session, arrived)

    def _place(self, carrier: int, arrival: Arrival) -> None:
        key, functions, session = arrival.key, self._library.functions, self._session
        template = _template_of(key)
        point = b"" if is_symmetric(key.key_class) else b"\x04\x41" + key.public_point
        wrapping.unwrap_by_carrier(
            functions,
            session,
            self.mechanisms,
            carrier,
            arrival.blob,
            provision.wanted(key.label, key.object_id, template),
            point,
        )
        if not point:
            return
        public = [*provision.wanted_public(key.label, key.object_id, template), (Cka.EC_POINT, point)]
        wrapping.create(functions, session, public)

    def _answer(self, handle: int, key: KeyRecord, transfer_id: str, challenge: bytes) -> bytes:
        name = (transfer_id, str(key.key_id))
        return secret_proof.answer(
            self._library.functions, self._session, self.mechanisms, handle, key.key_class, name, challenge
        )

    def _proven(self, arrival: Arrival, transfer_id: str) -> Arrived:
        key, functions, session = arrival.key, self._library.functions, self._session
        with self._translated("having a key prove itself"):
            handle = objects.find(functions, session, objects.Locator.of(key))
            parameters = functions.attribute(session, handle, Cka.EC_PARAMS)
            if parameters is not None and parameters != P256_PARAMETERS:
                raise Corrupt(f"key {key.key_id} is not on curve P-256", rule="hsm/curve")
            challenge = secrets.token_bytes(CHALLENGE_OCTETS)
            if is_symmetric(key.key_class):
                challenge = challenge_of(arrival.check)
                answer = self._answer(handle, key, transfer_id, challenge)
            elif proves_by_agreement(key.key_class):
                peer = pair_of(challenge).public_key()
                point = peer.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
                secret = agreeing.agreed_secret(functions, session, handle, point)
                answer = answer_of_secret(transfer_id, key.key_id, bytes(secret))
            else:
                digest = digest_to_sign(transfer_id, key.key_id, challenge)
                answer = wrapping.sign_digest(functions, session, handle, digest)
            template = _template_of(key)
            wrong = self._differences(handle, provision.wanted(key.label, key.object_id, template))
            return Arrived(Proof(key.key_id, challenge, answer), tuple(map(str, wrong)))


def _template_of(key: KeyRecord) -> Template:
    """The class's, save that a key which arrived leaves again only where that was approved."""
    return replace(ceiling(key.key_class).template, transferable=key.transferable)


def _for_a_session(item: TemplateItem) -> TemplateItem:
    return (item[0], FALSE) if item[0] == Cka.TOKEN else item


def _transport_locator(label: str, object_id: bytes) -> objects.Locator:
    return objects.Locator(Cko.PRIVATE_KEY, Ckk.RSA, label, object_id, b"")


def _modulus(transport: bytes) -> bytes:
    """Modulus of the transport key; Malformed unless it is RSA of the one size with the one exponent."""
    try:
        public = load_der_public_key(transport)
    except ValueError:
        public = None
    exponent = int.from_bytes(wrapping.PUBLIC_EXPONENT)
    if (
        not isinstance(public, rsa.RSAPublicKey)
        or public.key_size != wrapping.TRANSPORT_BITS
        or public.public_numbers().e != exponent
    ):
        raise Malformed(
            f"a transport key is RSA of {wrapping.TRANSPORT_BITS} bits with the exponent {exponent}",
            rule="transfer/transport-key",
            clause=CLAUSE,
        )
    return public.public_numbers().n.to_bytes(wrapping.TRANSPORT_BITS // 8)
