"""What a claim takes for ever: fingerprints, and how a group's are stored.

A fingerprint is 63 bits of SHA-256 over what must be unique; two different things with one fingerprint would make the
second a Conflict (once in 2**63 / operations), never the other way round. Beside each stands the position of the claim
in its group and 20 octets of the digest of the bytes it was taken for.
"""

import hashlib
import struct
from collections.abc import Iterator

DIGEST_OCTETS = 20
_ITEM = struct.Struct(">QB20s")
_MASK = (1 << 63) - 1
_sha256 = hashlib.sha256


def of_request(caller_id: str, request_id: str) -> int:
    """Fingerprint of a caller's request id."""
    return _number(f"request\0{caller_id}\0{request_id}")


def of_once(key_id: str, scope: str, value: str) -> int:
    """Fingerprint of a `Once` promise of a key."""
    return _number(f"once\0{key_id}\0{scope}\0{value}")


def of_rising(key_id: str, scope: str) -> int:
    """Fingerprint of a `Rising` promise of a key."""
    return _number(f"rising\0{key_id}\0{scope}")


def of_usage(key_id: str) -> int:
    """Fingerprint of the number of times a key with a usage limit was claimed."""
    return _number(f"usage\0{key_id}")


def of_moved(key_id: str) -> int:
    """Mark of a group that holds what claims of a key took in the system it came from."""
    return _number(f"moved\0{key_id}")


def emit(taken: list[tuple[int, int, bytes]]) -> bytes:
    """Print (fingerprint, position of the claim in its group, digest) of everything a group took."""
    pack = _ITEM.pack
    return b"".join([pack(fingerprint, position, digest) for fingerprint, position, digest in taken])


def parse(octets: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Read what `emit` printed."""
    return _ITEM.iter_unpack(octets)


def fingerprints_of(octets: bytes) -> list[int]:
    """Fingerprints alone."""
    return [fingerprint for fingerprint, _, _ in parse(octets)]


def look(octets: bytes, fingerprint: int) -> tuple[int, bytes] | None:
    """Position and digest of a fingerprint in what a group took; None where it did not take it."""
    for found, position, digest in parse(octets):
        if found == fingerprint:
            return position, digest
    return None


def _number(text: str) -> int:
    return int.from_bytes(_sha256(text.encode()).digest()[:8]) & _MASK
