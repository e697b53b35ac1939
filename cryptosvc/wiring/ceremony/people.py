"""Those present, and the keys they sign with: statements of governance as the ceremony goes, the transcript at its end.

Whoever proposes is named by capacity: the ceremony administrator, an operator, a security officer, and only then a
custodian. The key custodians approve. All of them stand in the custodian register, with the keys they brought.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from cryptosvc.core import dsse
from cryptosvc.core.ceremony.entries import Present
from cryptosvc.core.ceremony.rows import Role
from cryptosvc.core.custodian import CustodianRecord, CustodianState
from cryptosvc.core.errors import Forbidden, Malformed

Ask = Callable[[str], str]
"""Asks somebody for a secret, unseen; the argument says whom and for what."""

_PROPOSES = (Role.ADMINISTRATOR, Role.OPERATOR, Role.SECURITY_OFFICER, Role.CUSTODIAN)


class SigningKey(Protocol):
    """A key that one person signs with."""

    @property
    def spki(self) -> bytes:
        """SubjectPublicKeyInfo DER of a P-256 key."""

    def sign(self, octets: bytes) -> bytes:
        """ECDSA over SHA-256 of the octets, DER."""


class HeldKey:
    """A private key in memory."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key

    @property
    def spki(self) -> bytes:
        """See `SigningKey`."""
        return self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, octets: bytes) -> bytes:
        """See `SigningKey`."""
        return self._key.sign(octets, ec.ECDSA(hashes.SHA256()))


class FileKey:
    """A private key in a PEM file. Where a passphrase protects it, its owner types it for every signature."""

    def __init__(self, path: Path, owner: str, ask: Ask) -> None:
        self._path = path
        self._owner = owner
        self._ask = ask
        self.spki = self._load().spki

    def sign(self, octets: bytes) -> bytes:
        """See `SigningKey`."""
        return self._load().sign(octets)

    def _load(self) -> HeldKey:
        try:
            octets = self._path.read_bytes()
        except OSError as error:
            raise self._refused(f"cannot be read: {error.strerror}") from None
        try:
            try:
                key = load_pem_private_key(octets, None)
            except TypeError:  # it is encrypted
                passphrase = self._ask(f"{self._owner}: passphrase of {self._path.name}")
                key = load_pem_private_key(octets, passphrase.encode())
        except (ValueError, UnsupportedAlgorithm):
            raise self._refused("is no PEM private key, or the passphrase is another") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise self._refused("is not a P-256 key")
        return HeldKey(key)

    def _refused(self, what: str) -> Malformed:
        return Malformed(f"the key of {self._owner} {what}", rule="ceremony/key", field="present")


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
