"""By which mechanism key material moves, and how far a module holds a key to it.

One scheme: each key is wrapped by AES key wrap with padding (RFC 5649) under a carrier, an AES-256 key that is made for
one export; the carrier is wrapped by RSA-OAEP under the transport key that the destination offered. What OAEP hashes
with, and whether the source's module lets a transferable key out under a trusted key alone, is measured at each export
and stands in every statement. `docs/adr/0012-transfer-wrapping.md` has what modules were seen to do.

Source: Smart Energy Code G2.22G ("securely transfer"), G2.22I(a)(ii) (the SMKI PMA approves the mechanism); PKCS #11 3.0,
CKA_WRAP_WITH_TRUSTED and CKA_TRUSTED; RFC 5649; RFC 8017, 7.1.

Example:
    >>> best([OaepHash.SHA_1], [OaepHash.SHA_256, OaepHash.SHA_1])
    <OaepHash.SHA_1: 'sha-1'>
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.documents import text
from cryptosvc.core.errors import Forbidden
from cryptosvc.core.names import Environment

SCHEME = "aes-kwp-under-rsa-oaep"
CLAUSE = "G2.22G"


class OaepHash(StrEnum):
    """What OAEP and its mask generation hash with."""

    SHA_256 = "sha-256"
    SHA_1 = "sha-1"


class Trust(StrEnum):
    """What holds a transferable key to trusted wrapping keys on the source's module, as measured there.

    ENFORCED: it wraps under a key that the Security Officer marked, and under no other. KEPT: it wraps under a marked
    key alone, but users may mark one. NONE: the module wraps it under any key.
    """

    ENFORCED = "enforced"
    KEPT = "kept"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Mechanism:
    """The mechanism of one transfer.

    Args:
        oaep_hash: of the wrapping of the carrier.
        trust: least that the source's module must be measured to hold.

    """

    oaep_hash: OaepHash
    trust: Trust


def mechanism_document(mechanism: Mechanism) -> dict[str, JsonValue]:
    """Print a mechanism."""
    return {
        "scheme": SCHEME,
        "oaep_hash": mechanism.oaep_hash.value,
        "trust": mechanism.trust.value,
    }


def mechanism_from_document(document: Mapping[str, JsonValue]) -> Mechanism:
    """Read a mechanism; KeyError, TypeError or ValueError where it is none this version knows."""
    if text(document, "scheme") != SCHEME:
        raise ValueError("another scheme")
    return Mechanism(OaepHash(text(document, "oaep_hash")), Trust(text(document, "trust")))


def best(source: Collection[OaepHash], destination: Collection[OaepHash]) -> OaepHash:
    """Choose SHA-256 wherever both modules have it. Forbidden: they have none in common."""
    for one in OaepHash:
        if one in source and one in destination:
            return one
    raise Forbidden(
        "the two modules have no OAEP hash in common, so nothing can be wrapped by one for the other",
        rule="transfer/no-common-hash",
        clause=CLAUSE,
    )


def require_fit(mechanism: Mechanism, environment: Environment) -> None:
    """Require that a mechanism may be used here: in `live` SHA-256, and a module that enforces trust.

    Raises:
        Forbidden: `transfer/weak-hash` or `transfer/trust-not-enforced`.

    """
    if environment is Environment.TEST:
        return
    if mechanism.oaep_hash is not OaepHash.SHA_256:
        raise Forbidden(
            "in environment live the carrier is wrapped by OAEP with SHA-256; use modules that both have it",
            rule="transfer/weak-hash",
            clause=CLAUSE,
        )
    if mechanism.trust is not Trust.ENFORCED:
        raise Forbidden(
            "in environment live a key leaves only a module that wraps it under keys alone that the Security Officer "
            f"marked; this one is measured as {mechanism.trust}",
            rule="transfer/trust-not-enforced",
            clause=CLAUSE,
        )
