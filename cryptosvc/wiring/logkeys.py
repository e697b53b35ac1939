"""How an object of a module is found from a key's id alone."""

import hashlib

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cryptosvc.config.settings import Settings
from cryptosvc.core.keyclass import ceiling
from cryptosvc.core.names import KeyId, ModuleName, SystemName
from cryptosvc.core.registry import KeyRecord, KeyState, Origin

HEAD_KEY_CLASS = "log-authentication"
AUDIT_KEY_CLASS = "audit-signing"
SERVICE_KEY_CLASS = "service-signing"
_OBJECT_ID_OCTETS = 16


def object_id(key_id: str) -> bytes:
    """CKA_ID of a key the service makes: the first 16 octets of SHA-256 of its id."""
    return hashlib.sha256(key_id.encode()).digest()[:_OBJECT_ID_OCTETS]


def log_module(settings: Settings) -> ModuleName:
    """The module that holds the log's keys."""
    return ModuleName(settings.log.module or settings.modules[0].name)


def head_key(settings: Settings) -> KeyRecord:
    """The log-authentication key as the configuration names it; the store is never asked, since this key judges it."""
    return log_key(settings, settings.log.head_key)


def log_key(settings: Settings, key_id: str) -> KeyRecord:
    """A log-authentication key by its id alone, on the module of the log's keys."""
    return KeyRecord(
        key_id=KeyId(key_id),
        version=1,
        key_class=HEAD_KEY_CLASS,
        state=KeyState.ACTIVE,
        system=SystemName(settings.deployment.system),
        environment=settings.deployment.environment,
        module=log_module(settings),
        label=key_id,
        object_id=object_id(key_id),
        public_point=b"",
        certificate=b"",
        eui64=None,
        role=None,
        origin=Origin.GENERATED,
        transferable=ceiling(HEAD_KEY_CLASS).template.transferable,
        signs_for_eligible_user=False,
    )


def public_pem(public_point: bytes) -> str:
    """SubjectPublicKeyInfo, PEM."""
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public_point)
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
