"""The signed form of a payload: SEQUENCE { payload, ecdsa-with-SHA256, signature }.

`finished` makes the artefact that leaves. `throwaway_copy` makes one for readers that only read signed things: its
key is derived from a public sentence, so nobody can mistake it for one that says something, and the copy never leaves
the inspector that made it.
"""

import hashlib
from functools import lru_cache

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from cryptosvc.core.content.x509 import der
from cryptosvc.core.content.x509.tbs import ECDSA_WITH_SHA256
from cryptosvc.core.errors import Internal

_COORDINATE_OCTETS = 32
_ECDSA_SHA256 = ec.ECDSA(hashes.SHA256())


@lru_cache(maxsize=1)
def _key() -> ec.EllipticCurvePrivateKey:
    scalar = hashlib.sha256(b"cryptosvc throwaway key: signatures by it mean nothing").digest()
    return ec.derive_private_key(int.from_bytes(scalar), ec.SECP256R1())


def throwaway_copy(payload: bytes) -> bytes:
    """Sign `payload` with the throwaway key and put both together."""
    return _put_together(payload, _key().sign(payload, _ECDSA_SHA256))


def finished(payload: bytes, signature: bytes) -> bytes:
    """Put what was signed and r‖s (64 octets) together: SEQUENCE { payload, ecdsa-with-SHA256, BIT STRING }."""
    if len(signature) != 2 * _COORDINATE_OCTETS:
        raise Internal("a P-256 signature is 64 octets", rule="signature/length")
    r = int.from_bytes(signature[:_COORDINATE_OCTETS])
    s = int.from_bytes(signature[_COORDINATE_OCTETS:])
    return _put_together(payload, encode_dss_signature(r, s))


def _put_together(payload: bytes, signature: bytes) -> bytes:
    return der.encode(
        der.SEQUENCE, payload, ECDSA_WITH_SHA256, der.encode(der.BIT_STRING, b"\x00", signature)
    )
