"""Witnesses: others who keep the size and root of this log, and cosign only what extends them.

A witness that has cosigned a checkpoint never cosigns one that does not follow from it. So a log that was put back to an
earlier state, or that shows different entries to different people, is found out by whoever asks any witness both sides
know; nobody has to trust the service, its host or its module for that.

A cosignature is a signature line of the checkpoint note: Ed25519 over `cosignature/v1`, the witness's time, and the note's
text. Witness and log speak `add-checkpoint`: the size that the witness is known to have, the consistency proof from
there, the signed note.

Source: c2sp.org/tlog-cosignature (cosignature/v1), c2sp.org/tlog-witness, c2sp.org/signed-note.

Example:
    >>> witness = Witness("example.com/witness", bytes(32))
    >>> Witness.parse(witness.text()) == witness
    True
"""

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from cryptosvc.core import checkpoint as notes
from cryptosvc.core.checkpoint import Checkpoint, Note, NoteSignature
from cryptosvc.core.errors import Corrupt, Malformed
from cryptosvc.core.life import UnixSeconds
from cryptosvc.core.merkle import verify_consistency

CLAUSE = "G2.27"
MAX_REQUEST_OCTETS = 16 * 1024
MAX_PROOF_HASHES = 63
"""No consistency proof of a tree that can be is longer (c2sp.org/tlog-witness)."""

_COSIGNATURE_V1 = b"\x04"
_KEY_OCTETS = 32
_TIME_OCTETS = 8
_HASH_OCTETS = 32


@dataclass(frozen=True, slots=True)
class Witness:
    """Somebody who cosigns: the name of their key, and the Ed25519 public key, 32 octets."""

    name: str
    public_key: bytes

    @property
    def key_id(self) -> bytes:
        """First four octets of SHA-256 over name, newline, 0x04 and the public key."""
        named = self.name.encode() + b"\n" + _COSIGNATURE_V1 + self.public_key
        return hashlib.sha256(named).digest()[: notes.KEY_ID_OCTETS]

    def text(self) -> str:
        """Print it as a verifier key of signed notes: `name+keyid+base64`."""
        encoded = base64.b64encode(_COSIGNATURE_V1 + self.public_key).decode()
        return f"{self.name}+{self.key_id.hex()}+{encoded}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `text` prints; Malformed for anything else."""
        name, _, rest = text.partition("+")
        _, _, encoded = rest.partition("+")
        try:
            octets = base64.b64decode(encoded, validate=True)
        except (ValueError, binascii.Error):
            octets = b""
        found = cls(name, octets[1:])
        usable = name and name.isprintable() and " " not in name and len(found.public_key) == _KEY_OCTETS
        if not usable or found.text() != text:
            raise Malformed(
                "this is no verifier key of a witness (name+keyid+base64, type 04)", rule="witness/key"
            )
        return found


@dataclass(frozen=True, slots=True)
class Cosignature:
    """That a witness cosigned a checkpoint, and when by its own clock."""

    witness: str
    at: UnixSeconds


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """What a log asks of a witness.

    Args:
        old: size of the checkpoint of this log that the witness cosigned last, as the log believes; 0 for none.
        proof: RFC 6962 consistency proof from there; empty from 0, and between equal sizes.
        note: the signed checkpoint.

    """

    old: int
    proof: tuple[bytes, ...]
    note: bytes

    def text(self) -> bytes:
        """Print the request's body."""
        lines = "".join(f"{base64.b64encode(one).decode()}\n" for one in self.proof)
        return f"old {self.old}\n{lines}\n".encode() + self.note

    @classmethod
    def parse(cls, octets: bytes) -> Self:
        """Read a body; Malformed for anything `text` would not print."""
        try:
            head, _, note = octets.partition(b"\n\n")
            first, *lines = head.decode("ascii").split("\n")
            found = cls(
                int(first.removeprefix("old ")),
                tuple(base64.b64decode(line, validate=True) for line in lines),
                note,
            )
            same = found.text() == octets and found.old >= 0 and len(found.proof) <= MAX_PROOF_HASHES
        except (ValueError, binascii.Error):
            same = False
        if not same or any(len(one) != _HASH_OCTETS for one in found.proof):
            raise Malformed("this is no add-checkpoint request", rule="witness/request")
        return found


def cosigned_text(checkpoint: Checkpoint, at: UnixSeconds) -> bytes:
    """What a witness signs."""
    return f"cosignature/v1\ntime {at}\n".encode() + notes.text(checkpoint)


def cosign(checkpoint: Checkpoint, name: str, key: Ed25519PrivateKey, at: UnixSeconds) -> NoteSignature:
    """Cosign a checkpoint. What it has to extend the caller has looked at (`require_extends`)."""
    witness = Witness(name, key.public_key().public_bytes_raw())
    signature = key.sign(cosigned_text(checkpoint, at))
    return NoteSignature(name, witness.key_id, at.to_bytes(_TIME_OCTETS) + signature)


def require_extends(before: Checkpoint | None, checkpoint: Checkpoint, proof: Sequence[bytes]) -> None:
    """What a witness asks of a checkpoint: that it follows from the one it cosigned before.

    Raises:
        Corrupt: `witness/rolled-back` (it is smaller), `witness/forked` (of the same size and other entries, or the
            proof leads elsewhere).
        Malformed: the proof is no proof between these sizes.

    """
    if before is None or not before.size:
        if proof:
            raise Malformed("from an empty log on there is nothing to prove", rule="witness/proof")
        return
    if checkpoint.size < before.size:
        raise Corrupt(
            f"this log had {before.size} entries before and now shows {checkpoint.size}: it was put back",
            rule="witness/rolled-back",
            clause=CLAUSE,
        )
    if checkpoint.size == before.size and checkpoint.root != before.root:
        raise _forked(before)
    try:
        verify_consistency(before.size, checkpoint.size, proof, before.root, checkpoint.root)
    except Corrupt:
        raise _forked(before) from None


def cosignature(line: NoteSignature, witness: Witness, checkpoint: Checkpoint) -> Cosignature:
    """Verify a witness's line; Corrupt `witness/cosignature` where it does not hold."""
    if (line.key_name, line.key_id) != (witness.name, witness.key_id):
        raise Corrupt(f"that is no line of {witness.name}", rule="witness/cosignature", clause=CLAUSE)
    at = UnixSeconds(int.from_bytes(line.signature[:_TIME_OCTETS]))
    try:
        Ed25519PublicKey.from_public_bytes(witness.public_key).verify(
            line.signature[_TIME_OCTETS:], cosigned_text(checkpoint, at)
        )
    except InvalidSignature:
        raise Corrupt(
            f"the cosignature of {witness.name} does not verify", rule="witness/cosignature", clause=CLAUSE
        ) from None
    return Cosignature(witness.name, at)


def cosignatures(octets: bytes, witnesses: Sequence[Witness]) -> tuple[Cosignature, ...]:
    """Which of these witnesses cosigned a note, in their order, each key once; lines of others are passed over.

    Raises:
        Malformed: not a checkpoint.
        Corrupt: a line under the name and key id of one of them does not verify.

    """
    note = notes.parse(octets)
    found: list[Cosignature] = []
    for witness in {one.public_key: one for one in witnesses}.values():
        mine = [
            one for one in note.signatures if (one.key_name, one.key_id) == (witness.name, witness.key_id)
        ]
        found += [cosignature(line, witness, note.checkpoint) for line in mine[:1]]
    return tuple(found)


def require_cosigned(octets: bytes, witnesses: Sequence[Witness], quorum: int) -> tuple[Cosignature, ...]:
    """The cosignatures of a note; Corrupt `witness/quorum` where fewer of these witnesses than that cosigned it."""
    found = cosignatures(octets, witnesses)
    if len(found) < quorum:
        raise Corrupt(
            f"{len(found)} of the witnesses cosigned this checkpoint, {quorum} are asked for",
            rule="witness/quorum",
            clause=CLAUSE,
        )
    return found


def with_line(octets: bytes, line: NoteSignature) -> bytes:
    """A note with one more signature line; one of the same key takes the place of what it had."""
    note = notes.parse(octets)
    kept = tuple(one for one in note.signatures if (one.key_name, one.key_id) != (line.key_name, line.key_id))
    return notes.emit(Note(note.checkpoint, (*kept, line)))


def _forked(before: Checkpoint) -> Corrupt:
    return Corrupt(
        f"this log does not extend the one that had {before.size} entries: it was rewritten or shows two faces",
        rule="witness/forked",
        clause=CLAUSE,
    )
