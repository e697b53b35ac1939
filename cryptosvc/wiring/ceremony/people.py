"""Those present, and the keys they sign with: statements of governance as the ceremony goes, the transcript at its end.

Whoever proposes is named by capacity: the ceremony administrator, an operator, a security officer, and only then a
custodian. The key custodians approve. All of them stand in the custodian register, with the keys they brought.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cryptosvc.adapters.hsm import card
from cryptosvc.adapters.hsm.card import SigningKey
from cryptosvc.adapters.hsm.card_uri import SCHEME
from cryptosvc.core import dsse
from cryptosvc.core.ceremony.entries import Present
from cryptosvc.core.ceremony.rows import Role
from cryptosvc.core.custodian import CustodianRecord, CustodianState
from cryptosvc.core.errors import Forbidden

Turn = Callable[[str], None]
"""Told that a person is to put in a card."""

_PROPOSES = (Role.ADMINISTRATOR, Role.OPERATOR, Role.SECURITY_OFFICER, Role.CUSTODIAN)


class HeldKey:
    """A private key in memory."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key

    @property
    def spki(self) -> bytes:
        """SubjectPublicKeyInfo DER."""
        return self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, octets: bytes) -> bytes:
        """ECDSA over SHA-256, DER."""
        return self._key.sign(octets, ec.ECDSA(hashes.SHA256()))

    def agree(self, point: bytes) -> bytes:
        """ECDH, as `card.SigningKey`."""
        return card.agreed(self._key, point)


class OwnKey:
    """A key that somebody brought: a PEM file, or a card by its `pkcs11:` URI. A PIN is asked for at every signature.

    Args:
        where: path or URI.
        owner: whose it is.
        turn: told whose turn it is before a card is used.

    Raises:
        Malformed, Unavailable, Corrupt: as `card.open_key`.

    """

    def __init__(self, where: str, owner: str, turn: Turn) -> None:
        self._where = where
        self._owner = owner
        self._turn = turn
        with self._opened() as key:
            self.spki = key.spki

    def sign(self, octets: bytes) -> bytes:
        """ECDSA over SHA-256, DER."""
        with self._opened() as key:
            return key.sign(octets)

    def agree(self, point: bytes) -> bytes:
        """ECDH, as `card.SigningKey`."""
        with self._opened() as key:
            return key.agree(point)

    @contextmanager
    def _opened(self) -> Iterator[SigningKey]:
        if self._where.startswith(SCHEME):
            self._turn(self._owner)
        with card.open_key(self._where) as key:
            yield key


@dataclass(frozen=True, slots=True)
class Room:
    """Everyone who is there.

    Args:
        present: as the transcript's header names them.
        keys: person → their key.

    """

    present: tuple[Present, ...]
    keys: Mapping[str, SigningKey]

    def sign(self, person: str, payload_type: str, payload: bytes) -> bytes:
        """One person's DSSE envelope."""
        return dsse.emit(self._signed([person], payload_type, payload))

    def sign_all(self, payload_type: str, payload: bytes) -> dsse.Envelope:
        """One envelope with the signatures of everyone."""
        return self._signed([one.person for one in self.present], payload_type, payload)

    def first(self, role: Role) -> str | None:
        """Name the first person in a role."""
        return next((one.person for one in self.present if role in one.roles), None)

    def _signed(self, persons: Sequence[str], payload_type: str, payload: bytes) -> dsse.Envelope:
        keys = [self.keys[person] for person in persons]
        signers = {dsse.key_id(key.spki): key.sign for key in keys}
        return dsse.sign(payload_type, payload, signers)


@dataclass(frozen=True, slots=True)
class Controllers:
    """Who proposes, and who approves: custodian ids."""

    proposer: str
    approvers: tuple[str, ...]


def controllers(room: Room, register: Mapping[str, CustodianRecord]) -> Controllers:
    """Find who of those present proposes and approves.

    Raises:
        Forbidden: a key custodian is not in the register, or with another key; nobody who may propose is.

    """
    known = {one.person for one in room.present if _stands(one, register)}
    custodians = [one.person for one in room.present if Role.CUSTODIAN in one.roles]
    for person in custodians:
        if person not in known:
            raise _refused(f"key custodian {person} is not in the register with the key that is here")
    for role in _PROPOSES:
        for one in reversed(room.present):  # of custodians the last, so that the first ones approve
            if role in one.roles and one.person in known:
                others = tuple(person for person in custodians if person != one.person)
                return Controllers(one.person, others)
    raise _refused("nobody is here who could propose: administrator or operator must be in the register")


def _stands(one: Present, register: Mapping[str, CustodianRecord]) -> bool:
    record = register.get(one.person)
    if record is None or record.state is not CustodianState.REGISTERED:
        return False
    return dsse.key_id(record.key) == one.key_id


def _refused(what: str) -> Forbidden:
    return Forbidden(what, rule="ceremony/register", clause="G4.7", field="present")
