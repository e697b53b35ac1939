"""What crosses between a module and the steps of a transfer: wrapped keys going out, keys coming in."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptosvc.core.registry import KeyRecord
from cryptosvc.core.transfer.mechanism import OaepHash, Trust
from cryptosvc.core.transfer.proof import Proof


@dataclass(frozen=True, slots=True)
class Transport:
    """A transport key that a module made, and what the module is.

    Args:
        public: SubjectPublicKeyInfo DER.
        oaep_hashes: what the module unwraps with, as tried.
        facts: identity and assurance, by the names of an offer.

    """

    public: bytes
    oaep_hashes: tuple[OaepHash, ...]
    facts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Wrapped:
    """What an export made.

    Args:
        carrier: the carrier under the transport key.
        blobs: key id → the key under the carrier.
        trust: what the module was measured to hold the keys to.
        checks: id of a symmetric key → its check value, as `proof.check_value` prints it.

    """

    carrier: bytes
    blobs: Mapping[str, bytes]
    trust: Trust
    checks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A key that arrives: its record as it is to be, its blob, and the check value of a symmetric one."""

    key: KeyRecord
    blob: bytes
    check: str = ""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A key that arrived: what it answered, and how its object differs from what was asked, a sentence each."""

    proof: Proof
    differences: tuple[str, ...]
