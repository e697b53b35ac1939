"""The one request of a key that derives: made and signed while the key is generated, and never again.

A key of class key-agreement or prepayment may do nothing that a signature is part of (`core/keyclass.py`), so it has no request by way
of Sign. Its Organisation is asked to prove possession all the same. What stands in the request follows from the key's record alone:
the role, the entity and, where it is a name, the label; the usage asked for is keyAgreement. Nobody words it.

Source: Smart Energy Code G2.44(b); NIST SP 800-56A Rev 3, 5.6.3.2 (proof of possession); RFC 2986 4.1; RFC 5280 4.2.1.3.
"""

from cryptosvc.core.check import verify_p256
from cryptosvc.core.content.x509 import der, signed
from cryptosvc.core.content.x509.public_key import subject_public_key_info
from cryptosvc.core.keyclass import Usage, ceiling
from cryptosvc.core.registry import KeyRecord

_LONGEST_COMMON_NAME = 64


def _oid(encoded: str) -> bytes:
    return der.encode(der.OBJECT_IDENTIFIER, bytes.fromhex(encoded))


_COMMON_NAME = _oid("550403")
_ORGANISATIONAL_UNIT = _oid("55040b")
_UNIQUE_IDENTIFIER = _oid("55042d")
_EXTENSION_REQUEST = _oid("2a864886f70d01090e")
_KEY_USAGE = _oid("551d0f")
_VERSION = der.encode(der.INTEGER, b"\x00")
_KEY_AGREEMENT = der.encode(der.BIT_STRING, b"\x03\x08")
_CRITICAL = der.encode(der.BOOLEAN, b"\xff")
_ATTRIBUTES = der.encode(
    0xA0,
    der.encode(
        der.SEQUENCE,
        _EXTENSION_REQUEST,
        der.encode(
            der.SET,
            der.encode(
                der.SEQUENCE,
                der.encode(der.SEQUENCE, _KEY_USAGE, _CRITICAL, der.encode(der.OCTET_STRING, _KEY_AGREEMENT)),
            ),
        ),
    ),
)


def is_due(key: KeyRecord) -> bool:
    """Whether such a request is made with the key: it derives, and its record says whose it is and in which role."""
    derives = Usage.DERIVE in ceiling(key.key_class).template.usages
    return derives and key.role is not None and key.eui64 is not None


def information(key: KeyRecord, point: bytes) -> bytes:
    """The DER CertificationRequestInfo of a key for which `is_due`; `point` is its uncompressed point, 65 octets."""
    assert key.role is not None
    assert key.eui64 is not None
    parts = [
        (_ORGANISATIONAL_UNIT, der.encode(der.UTF8_STRING, f"{key.role:02X}".encode())),
        (_UNIQUE_IDENTIFIER, der.encode(der.BIT_STRING, b"\x00", key.eui64.octets)),
    ]
    label = key.asset.label
    if 1 <= len(label) <= _LONGEST_COMMON_NAME and label.isprintable() and label == label.strip():
        parts.insert(0, (_COMMON_NAME, der.encode(der.UTF8_STRING, label.encode())))
    name = (der.encode(der.SET, der.encode(der.SEQUENCE, kind, value)) for kind, value in parts)
    return der.encode(
        der.SEQUENCE,
        _VERSION,
        der.encode(der.SEQUENCE, *name),
        subject_public_key_info(point),
        _ATTRIBUTES,
    )


def finished(key: KeyRecord, point: bytes, signature: bytes) -> bytes:
    """The DER CertificationRequest, once r‖s (64 octets) verifies under the point; Corrupt where it does not."""
    signed_bytes = information(key, point)
    verify_p256(point, signature, signed_bytes)
    return signed.finished(signed_bytes, signature)
