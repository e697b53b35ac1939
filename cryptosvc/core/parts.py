"""Parts of a key: what each holder is given, sealed to the key of their own certificate.

A part is one SLIP-39 share of the private scalar. It is sealed by ECDH of a fresh pair with the holder's P-256 key, HKDF
and AES-256-GCM; everything else that is said of it is authenticated with it, so that a part of another key, another
set or another holder does not open.

    {"ephemeral":…,"format":"cryptosvc-key-part","holder":…,"holder_key":…,"key":…,"mark":…,"number":1,"parts":5,
     "public_key":…,"sealed":…,"set":…,"threshold":3,"version":1}

Points and octets are lower-case hex; `holder_key` is the SHA-256 of the holder's SubjectPublicKeyInfo. Sealing key:
HKDF-SHA256 of the x-coordinate, salt `ephemeral || holder's point`, info `cryptosvc key part v1`, 32 octets; it is used
once, so the nonce is twelve zero octets. Additional data: the canonical document without `sealed`.

Source: Smart Energy Code G2.44B; SLIP-0039; RFC 5869; NIST SP 800-56A Rev 3 (ephemeral, static), SP 800-38D.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from cryptosvc.core.canonical import JsonValue, canonical
from cryptosvc.core.errors import Forbidden, Malformed

FORMAT = "cryptosvc-key-part"
MOST_PARTS = 16
"""SLIP-39 numbers the members of a group with four bits."""
_VERSION = 1
_INFO = b"cryptosvc key part v1"
_KEY_OCTETS = 32
_NONCE = bytes(12)
_CLAUSE = "G2.44B"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One sealed part.

    Args:
        key_id: of the key it is a part of.
        public_point: of that key, 65 octets.
        set_id: parts of one splitting have the same, 8 octets in hex; those of two do not go together.
        mark: of the step of a ceremony that made it.
        threshold, parts, number: any `threshold` of `parts` restore the key; this is number 1, 2, …
        holder: who has it, as the custodian register names them.
        holder_key: SHA-256 of the SubjectPublicKeyInfo it is sealed to, hex.
        ephemeral: public point of the pair made for it, 65 octets.
        sealed: the share, encrypted; empty before it is.

    """

    key_id: str
    public_point: bytes
    set_id: str
    mark: str
    threshold: int
    parts: int
    number: int
    holder: str
    holder_key: str
    ephemeral: bytes
    sealed: bytes = b""

    @property
    def additional(self) -> bytes:
        """What is authenticated beside the share."""
        document = _document(self)
        del document["sealed"]
        return canonical(document)


def require_shares(threshold: int, parts: int) -> None:
    """Require numbers that make sense; Malformed otherwise."""
    if not 2 <= threshold <= parts <= MOST_PARTS:
        raise Malformed(
            f"a key is split into 2 to {MOST_PARTS} parts, of which at least two restore it",
            rule="split/shares",
            clause=_CLAUSE,
            field="threshold",
        )


def sealing_key(secret: bytes, ephemeral: bytes, holder_point: bytes) -> bytes:
    """Key a part is sealed with, 32 octets.

    Args:
        secret: x-coordinate that ECDH of the ephemeral and the holder's key gives, 32 octets.
        ephemeral: public point of the pair made for the part, 65 octets.
        holder_point: that of the holder's key, 65 octets.

    """
    return HKDF(hashes.SHA256(), _KEY_OCTETS, ephemeral + holder_point, _INFO).derive(secret)


def seal(part: Part, key: bytes, share: bytes) -> bytes:
    """Encrypt the share of a part: what its `sealed` is to be."""
    return AESGCM(key).encrypt(_NONCE, share, part.additional)


def open_part(part: Part, key: bytes) -> bytes:
    """Decrypt the share of a part; Forbidden where it is not this holder's, or not as it was made."""
    try:
        return AESGCM(key).decrypt(_NONCE, part.sealed, part.additional)
    except InvalidTag:
        raise Forbidden(
            f"part {part.number} of {part.key_id} does not open with the key of {part.holder}: it is somebody else's, "
            "or not as it was made",
            rule="split/sealed",
            clause=_CLAUSE,
        ) from None


def emit(part: Part) -> bytes:
    """Print a part: canonical JSON."""
    return canonical(_document(part))


def parse(octets: bytes) -> Part:
    """Read a part; Malformed where `emit` would print it otherwise."""
    try:
        found = orjson.loads(octets)
        part = Part(
            key_id=found["key"],
            public_point=bytes.fromhex(found["public_key"]),
            set_id=found["set"],
            mark=found["mark"],
            threshold=found["threshold"],
            parts=found["parts"],
            number=found["number"],
            holder=found["holder"],
            holder_key=found["holder_key"],
            ephemeral=bytes.fromhex(found["ephemeral"]),
            sealed=bytes.fromhex(found["sealed"]),
        )
        if emit(part) == octets:
            return part
    except (ValueError, KeyError, TypeError):
        pass
    raise Malformed("this file is no part of a key", rule="split/form", clause=_CLAUSE)


def whole_sets(parts: Sequence[Part]) -> Mapping[str, Sequence[Part]]:
    """Sets of which every part is there, each in the order of its numbers: set id → parts."""
    found: dict[str, dict[int, Part]] = {}
    for part in parts:
        found.setdefault(part.set_id, {})[part.number] = part
    return {
        set_id: [numbered[number] for number in sorted(numbered)]
        for set_id, numbered in found.items()
        if all(sorted(numbered) == list(range(1, part.parts + 1)) for part in numbered.values())
    }


def _document(part: Part) -> dict[str, JsonValue]:
    return {
        "format": FORMAT,
        "version": _VERSION,
        "key": part.key_id,
        "public_key": part.public_point.hex(),
        "set": part.set_id,
        "mark": part.mark,
        "threshold": part.threshold,
        "parts": part.parts,
        "number": part.number,
        "holder": part.holder,
        "holder_key": part.holder_key,
        "ephemeral": part.ephemeral.hex(),
        "sealed": part.sealed.hex(),
    }
