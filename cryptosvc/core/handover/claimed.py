"""What a key has promised before it moves: it is never used twice for one thing, whichever system it is in.

Uniqueness belongs to the key, not to the system that kept count of it: a Command's counter, a message under a MAC, a
serial number, a CRL number. So what a key's claims took at the source goes with it, and the destination takes the same
before the key is usable there.

Example:
    >>> found = Claimed(once=((1, bytes(20)),), rising=(("crl-number", 7),), used=3)
    >>> parse(emit(found)) == found
    True

Source: Smart Energy Code G2.22G; GB Companion Specification 4.3.1 (Originator Counters never repeat).
"""

import struct
from dataclasses import dataclass

import orjson

from cryptosvc.core.canonical import canonical
from cryptosvc.core.documents import number, text
from cryptosvc.core.errors import Malformed

VERSION = 1
DIGEST_OCTETS = 20
FINGERPRINT_BELOW = 1 << 63
NUMBER_BELOW = 1 << 159
_ITEM = struct.Struct(">Q20s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """All that claims of one key took.

    Args:
        once: fingerprint (63 bits) and first 20 octets of the digest of the bytes it was taken for; rising, each once.
        rising: scope and the greatest number claimed in it; rising by scope.
        used: claims counted against a usage limit; 0 for a key that never had one.

    """

    once: tuple[tuple[int, bytes], ...]
    rising: tuple[tuple[str, int], ...]
    used: int


def emit(claimed: Claimed) -> bytes:
    """Print it: a line of canonical JSON, then 28 octets for each of `once` (fingerprint, digest; most significant first)."""
    heading = canonical(
        {
            "v": VERSION,
            "once": len(claimed.once),
            "rising": [{"scope": scope, "number": str(found)} for scope, found in claimed.rising],
            "used": claimed.used,
        }
    )
    return b"%b\n%b" % (heading, b"".join([_ITEM.pack(*one) for one in claimed.once]))


def parse(octets: bytes) -> Claimed:
    """Read what `emit` prints; Malformed `transfer/claims` for anything else."""
    heading, _, packed = octets.partition(b"\n")
    try:
        document = orjson.loads(heading)
        found = Claimed(
            once=tuple(_ITEM.iter_unpack(packed)),
            rising=tuple((text(one, "scope"), int(text(one, "number"))) for one in document["rising"]),
            used=number(document, "used"),
        )
        same = emit(found) == octets and _is_in_order(found)
    except (KeyError, TypeError, ValueError, Malformed, struct.error):
        same = False
    if not same:
        raise Malformed(
            "these are no claims of a key as this version prints them; ask for the package again",
            rule="transfer/claims",
            clause="G2.22G",
        )
    return found


def _is_in_order(found: Claimed) -> bool:
    fingerprints = [fingerprint for fingerprint, _ in found.once]
    scopes = [scope for scope, _ in found.rising]
    return (
        fingerprints == sorted(set(fingerprints))
        and all(one < FINGERPRINT_BELOW for one in fingerprints)
        and scopes == sorted(set(scopes))
        and all(0 <= one < NUMBER_BELOW for _, one in found.rising)
        and found.used >= 0
    )
