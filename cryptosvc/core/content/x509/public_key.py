"""P-256 public keys: SubjectPublicKeyInfo with an uncompressed point on the curve, and the key identifier of a point.

Source: RFC 5480 2; SEC 1 2.3; FIPS 186-4 D.1.2.3; RFC 5280 4.2.1.2 (2).
"""

import hashlib

from cryptosvc.core.content.x509 import der
from cryptosvc.core.errors import Malformed

POINT_OCTETS = 65
KEY_IDENTIFIER_OCTETS = 8

_P = 2**256 - 2**224 + 2**192 + 2**96 - 1
_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B

_ALGORITHM = der.encode(
    der.SEQUENCE,
    der.encode(der.OBJECT_IDENTIFIER, bytes.fromhex("2a8648ce3d0201")),  # id-ecPublicKey
    der.encode(der.OBJECT_IDENTIFIER, bytes.fromhex("2a8648ce3d030107")),  # prime256v1
)


def point_of(node: der.Node) -> bytes:
    """Read a SubjectPublicKeyInfo; return the 65 octets of the point.

    Raises:
        Malformed: another algorithm or curve, a compressed point, a point that is not on the curve.

    """
    fields = der.Fields(node, "public-key")
    algorithm = fields.take(der.SEQUENCE)
    bits = fields.take(der.BIT_STRING)
    fields.end()
    if algorithm.encoded != _ALGORITHM:
        raise Malformed("the public key is not id-ecPublicKey on prime256v1", rule="public-key/algorithm")
    point = bits.content[1:]
    if bits.content[0] or len(point) != POINT_OCTETS or point[0] != 0x04:
        raise Malformed("the public key is not an uncompressed P-256 point", rule="public-key/uncompressed")
    x, y = int.from_bytes(point[1:33]), int.from_bytes(point[33:])
    if x >= _P or y >= _P or (y * y - x * x * x + 3 * x - _B) % _P:
        raise Malformed("the public key is not a point on P-256", rule="public-key/on-curve")
    return point


def subject_public_key_info(point: bytes) -> bytes:
    """Write the SubjectPublicKeyInfo of a point, 65 octets; `point_of` reads it."""
    return der.encode(der.SEQUENCE, _ALGORITHM, der.encode(der.BIT_STRING, b"\x00", point))


def key_identifier(point: bytes) -> bytes:
    """Method 2: 0100 and the low 60 bits of the SHA-1 of the 65 octets of the point; 8 octets."""
    digest = hashlib.sha1(point, usedforsecurity=False).digest()
    return bytes((0x40 | digest[12] & 0x0F,)) + digest[13:]
