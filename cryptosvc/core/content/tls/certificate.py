"""The certificate a side sends must be of the key that signs: under another, its peer could not verify anything.

Which authority certified it is for the peer to judge: the Code does not say who certifies the DCC towards SMETS1
Devices, so the registry holds the certificate where one was registered, and else the public key alone decides.
"""

from datetime import UTC, datetime
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cryptosvc.core.errors import Forbidden
from cryptosvc.core.names import ContentForm, UnixNanoseconds
from cryptosvc.core.registry import KeyRecord

CLAUSE = "G2.44(d)"
_SECOND = 1_000_000_000


def require_own(encoded: bytes, key: KeyRecord, at: UnixNanoseconds) -> None:
    """Raise Forbidden unless the DER certificate is of this key, for signatures, and in force at that moment."""
    found = _facts(encoded)
    if found is None or found[0] != key.public_point or key.certificate not in (b"", encoded):
        raise _forbidden("the Certificate sent is not of the key asked for", "certificate")
    _, signs, begins, ends = found
    if not signs:
        raise _forbidden("the Certificate sent is not for digital signatures", "key-usage")
    if not begins <= at // _SECOND <= ends:
        raise _forbidden("the Certificate sent is not in force", "in-force")


@lru_cache(maxsize=256)
def _facts(encoded: bytes) -> tuple[bytes, bool, int, int] | None:
    """Point, whether it may sign, first and last second of validity; None where it is no certificate of a P-256 key."""
    try:
        certificate = x509.load_der_x509_certificate(encoded)
        public = certificate.public_key()
        usages = [found for found in certificate.extensions if isinstance(found.value, x509.KeyUsage)]
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension):
        return None
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        return None
    if certificate.public_bytes(Encoding.DER) != encoded:
        return None
    signs = all(found.value.digital_signature for found in usages)
    point = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return point, signs, _seconds(certificate.not_valid_before_utc), _seconds(certificate.not_valid_after_utc)


def _seconds(moment: datetime) -> int:
    return int(moment.astimezone(UTC).timestamp())


def _forbidden(what: str, rule: str) -> Forbidden:
    return Forbidden(what, rule=f"tls/{rule}", clause=CLAUSE, field=ContentForm.TLS_TRANSCRIPT.value)
