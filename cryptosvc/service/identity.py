"""Identify: the certificate of the TLS connection, and nothing a caller could write into a header.

The handshake has verified the certificate against the configured authorities; who it belongs to is for the
registry to say (`flow/admit.py`).
"""

import hashlib
import ssl
from collections.abc import Iterable, Mapping
from functools import lru_cache

_CERTIFICATE_PROPERTY = "x509_pem_cert"
"""gRPC's auth context property with the leaf certificate the peer proved possession of."""


def certificate_sha256(auth_context: Mapping[str, Iterable[bytes]]) -> bytes:
    """SHA-256 over the DER of the peer's certificate, 32 octets; empty where the connection carries none."""
    certificates = tuple(auth_context.get(_CERTIFICATE_PROPERTY, ()))
    return _digest(certificates[0]) if len(certificates) == 1 else b""


@lru_cache(maxsize=8192)
def _digest(pem: bytes) -> bytes:
    try:
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem.decode("ascii"))).digest()
    except ValueError:
        return b""
