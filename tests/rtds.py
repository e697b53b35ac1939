"""The DCC Reference Test Data Set and its key store, as tests read them; reached through `gbcs_data`, never committed.

Example:
    for message in commands(gbcs_data / "rtds"):
        content = precommand.parse(message.octets, PROFILE)
        key, record = published(gbcs_data, content.originator)
"""

from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from cryptosvc.core.content.base import Statement
from cryptosvc.core.content.gbcs import codes, framing, precommand
from cryptosvc.core.content.gbcs.profile import GbcsProfile
from cryptosvc.core.errors import Malformed
from cryptosvc.core.registry import KeyRecord
from tests.certificates import key_record

BROKER = "90-B3-D5-1F-30-00-00-02"
PROFILE = GbcsProfile.of([BROKER])
ECDSA = ec.ECDSA(hashes.SHA256())


class Message:
    """One file: the Pre-Command inside it, and its signature where it has one."""

    def __init__(self, path: Path) -> None:
        self.name = path.name.removesuffix("_GBCS.HEX")
        self.use_case = path.parent.name
        self.variant = self.use_case.split("_")[0]
        self.is_pre_command = "_PRECOMMAND" in self.name
        octets = bytes.fromhex(path.read_text())
        if octets[0] == framing.GENERAL_CIPHERING:
            _, start = framing.length(octets, 7, len(octets))
            octets = octets[start + 5 : -12]
        self.is_command = octets[2] == framing.COMMAND
        self.signature = b""
        if len(octets) > 65 and octets[-65] == 64 and octets[-66:] != bytes(66):
            self.signature, octets = octets[-64:], octets[:-65]
            try:
                framing.read(octets, 65_535)
            except Malformed:
                octets, self.signature = octets + b"\x40" + self.signature, b""
        self.octets = octets

    def __repr__(self) -> str:
        return self.name


@cache
def commands(folder: Path) -> tuple[Message, ...]:
    return tuple(message for path in sorted(folder.rglob("*.HEX")) if (message := Message(path)).is_command)


@cache
def published(folder: Path, entity: str) -> tuple[ec.EllipticCurvePrivateKey, KeyRecord]:
    """The published test key of an entity, and the record a registry would hold of it."""
    stem = folder / "keystore" / entity.replace("-", "").lower()
    key = serialization.load_pem_private_key(Path(f"{stem}-ds.key").read_bytes(), None)
    certificate = x509.load_pem_x509_certificate(Path(f"{stem}-ds.pem").read_bytes())
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    unit = certificate.subject.get_attributes_for_oid(x509.NameOID.ORGANIZATIONAL_UNIT_NAME)[0].value
    record = key_record("command-signing", key.public_key(), role=int(unit, 16), entity=entity)
    return key, record


def sign(key: ec.EllipticCurvePrivateKey, octets: bytes) -> bytes:
    r, s = decode_dss_signature(key.sign(octets, ECDSA))
    return r.to_bytes(32) + s.to_bytes(32)


def verifies(key: ec.EllipticCurvePublicKey, signature: bytes, octets: bytes) -> bool:
    r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
    try:
        key.verify(encode_dss_signature(r, s), octets, ECDSA)
    except InvalidSignature:
        return False
    return True


def statement(message: Message) -> Statement:
    """What a caller says beside it: a User its User ID and one of its User Roles, the DCC neither."""
    variant = "" if message.variant == "NA" else message.variant
    content = precommand.parse(message.octets, PROFILE)
    users = sorted(role for signer in content.code.signers for role in codes.USERS.get(signer, ()))
    users = [role for role in users if not variant or role in codes.ELIGIBLE_ROLES[variant]]
    if content.originator == BROKER or not users:
        return Statement(service_reference_variant=variant)
    return Statement(service_reference_variant=variant, user_id=content.originator, user_role=users[0])
