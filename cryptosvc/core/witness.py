"""Witnesses: what they sign of a checkpoint, what they are sent, and when they sign.

Rules in force: a cosignature is a line of the checkpoint's signed note, of type 0x04: eight octets of POSIX time,
then an Ed25519 signature over `cosignature/v1`, the time and the note text. It says: at that time this was the largest
tree of this log I had seen, and it extends each one I saw before. A log that was rolled back or forked can therefore
not get one from any witness that saw what was taken away.

Source: c2sp.org/tlog-cosignature, c2sp.org/tlog-witness, c2sp.org/signed-note (verifier keys). Parsing accepts only
what emitting would print.

Example:
    >>> from cryptosvc.core.checkpoint import Checkpoint
    >>> cosigned_message(Checkpoint("example.com/log", 1, bytes(32)), 1679315147).split(b"\\n")[:3]
    [b'cosignature/v1', b'time 1679315147', b'example.com/log']
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from cryptosvc.core import checkpoint, merkle
from cryptosvc.core.checkpoint import KEY_ID_OCTETS, Checkpoint, NoteSignature
from cryptosvc.core.errors import Conflict, Corrupt, Malformed

COSIGNATURE_TYPE = 0x04
PUBLIC_KEY_OCTETS = 32
SIGNATURE_OCTETS = 64
TIME_OCTETS = 8
MAX_PROOF_HASHES = 63
MAX_SUBMISSION_OCTETS = checkpoint.MAX_NOTE_OCTETS + 4096
_TIME_END = 1 << 63


@dataclass(frozen=True, slots=True)
class Witness:
    """Name (a URL without scheme; no spaces, no plus sign) and Ed25519 public key (32 octets)."""

    name: str
    public_key: bytes

    def key_id(self) -> bytes:
        """First four octets of SHA-256(name, newline, 0x04, public key)."""
        material = self.name.encode() + b"\n" + bytes([COSIGNATURE_TYPE]) + self.public_key
        return hashlib.sha256(material).digest()[:KEY_ID_OCTETS]


@dataclass(frozen=True, slots=True)
class Submission:
    """Body of `add-checkpoint`: the size the witness is thought to know, the proof from there, the signed note."""

    old_size: int
    proof: tuple[bytes, ...]
    note: bytes


@dataclass(frozen=True, slots=True)
class Cosignature:
    """Which witness saw the checkpoint, and when (POSIX seconds, by the witness's clock)."""

    witness: Witness
    at: int


def emit_key(witness: Witness) -> str:
    """Print a verifier key: name, key id in hexadecimal, type and public key in base64, joined by plus signs."""
    material = base64.b64encode(bytes([COSIGNATURE_TYPE]) + witness.public_key).decode()
    return f"{witness.name}+{witness.key_id().hex()}+{material}"


def parse_key(printed: str) -> Witness:
    """Read a verifier key; anything `emit_key` would not print is Malformed."""
    name, _, rest = printed.partition("+")
    try:
        material = base64.b64decode(rest.partition("+")[2], validate=True)
    except (ValueError, binascii.Error):
        raise _key() from None
    witness = Witness(name, material[1:])
    if not name or not name.isascii() or not name.isprintable() or " " in name:
        raise _key()
    if len(witness.public_key) != PUBLIC_KEY_OCTETS or emit_key(witness) != printed:
        raise _key()
    return witness


def cosigned_message(seen: Checkpoint, at: int) -> bytes:
    """Bytes a witness signs: header line, time line, the note text with its last newline.

    Raises:
        Malformed: `at` (POSIX seconds) is not from 0 up to 2^63 - 1.

    """
    if not 0 <= at < _TIME_END:
        raise Malformed("the time of a cosignature is POSIX seconds from 0 to 2^63 - 1", rule="witness/time")
    return f"cosignature/v1\ntime {at}\n".encode() + checkpoint.text(seen)


def cosignature_line(witness: Witness, at: int, signature: bytes) -> NoteSignature:
    """The note's signature line for an Ed25519 signature (64 octets) over `cosigned_message`."""
    return NoteSignature(witness.name, witness.key_id(), at.to_bytes(TIME_OCTETS) + signature)


def verify_cosignature(line: NoteSignature, seen: Checkpoint, witness: Witness) -> Cosignature:
    """Raise unless the line is this witness's cosignature of the checkpoint.

    Raises:
        Corrupt: another name or key id, another length, or a signature that does not verify.

    """
    if (line.key_name, line.key_id) != (witness.name, witness.key_id()):
        raise Corrupt(f"the line is not by the witness {witness.name!r}", rule="witness/other-key")
    if len(line.signature) != TIME_OCTETS + SIGNATURE_OCTETS:
        raise _unverified(witness)
    at = int.from_bytes(line.signature[:TIME_OCTETS])
    if at >= _TIME_END:
        raise _unverified(witness)
    try:
        Ed25519PublicKey.from_public_bytes(witness.public_key).verify(
            line.signature[TIME_OCTETS:], cosigned_message(seen, at)
        )
    except (InvalidSignature, ValueError):
        raise _unverified(witness) from None
    return Cosignature(witness, at)


def require_quorum(octets: bytes, witnesses: Sequence[Witness], quorum: int) -> tuple[Cosignature, ...]:
    """Cosignatures of the note by these witnesses, each public key counted once; at least `quorum` of them.

    Lines by unknown keys are ignored. The log's own signature is not looked at: `checkpoint.verify` does that.

    Raises:
        Malformed: not a checkpoint; or a quorum below one or above the number of different keys.
        Corrupt: a line in a witness's name and key id that does not verify, or fewer witnesses than the quorum.

    """
    keys = {witness.public_key for witness in witnesses}
    if not 1 <= quorum <= len(keys):
        raise Malformed(
            "a witness quorum is from one up to the number of different witness keys",
            rule="witness/quorum-size",
        )
    note = checkpoint.parse(octets)
    named = {(witness.name, witness.key_id()): witness for witness in witnesses}
    found: dict[bytes, Cosignature] = {}
    for line in note.signatures:
        if witness := named.get((line.key_name, line.key_id)):
            found.setdefault(witness.public_key, verify_cosignature(line, note.checkpoint, witness))
    if len(found) < quorum:
        raise Corrupt(
            f"{len(found)} of the {quorum} witnesses asked for cosigned this checkpoint: ask each for the tree it saw",
            rule="witness/quorum",
        )
    return tuple(found.values())


def emit_submission(submission: Submission) -> bytes:
    """Print the body of `add-checkpoint`: old size line, proof lines, empty line, note."""
    proof = "".join(f"{base64.b64encode(octets).decode()}\n" for octets in submission.proof)
    return f"old {submission.old_size}\n{proof}\n".encode() + submission.note


def parse_submission(octets: bytes) -> Submission:
    """Read the body of `add-checkpoint`; anything `emit_submission` would not print is Malformed."""
    head, separator, note = octets.partition(b"\n\n")
    if len(octets) > MAX_SUBMISSION_OCTETS or not separator:
        raise _submission()
    try:
        first, *proof = head.decode("ascii").split("\n")
        hashes = tuple(base64.b64decode(line, validate=True) for line in proof)
        found = Submission(int(first.removeprefix("old ")), hashes, note)
    except (ValueError, binascii.Error):
        raise _submission() from None
    if not 0 <= found.old_size <= merkle.MAX_SIZE or len(hashes) > MAX_PROOF_HASHES:
        raise _submission()
    if any(len(each) != merkle.HASH_OCTETS for each in hashes) or emit_submission(found) != octets:
        raise _submission()
    return found


def judge_submission(
    submission: Submission, logs: Mapping[str, bytes], latest: Mapping[str, Checkpoint]
) -> Checkpoint:
    """The checkpoint a witness may cosign once it has kept it durably; raises where it may not.

    Args:
        submission: what the log sent.
        logs: origin → SubjectPublicKeyInfo of that log's audit-signing key.
        latest: origin → the checkpoint cosigned last; no row before the first.

    Raises:
        Malformed: `witness/origin` an unknown log (404), `witness/old-size` an old size above the new (400).
        Corrupt: `witness/signature` not signed by that log (403), `witness/forked` another root at the same size
            (409), `witness/consistency` a tree that does not extend the one cosigned last (422).
        Conflict: `witness/stale` the old size is not the one cosigned last (409; its size is the answer).

    """
    # 1. a log this witness was told of, and its signature
    origin = checkpoint.parse(submission.note).checkpoint.origin
    if origin not in logs:
        raise Malformed(f"this witness does not follow the log {origin!r}", rule="witness/origin")
    try:
        sent = checkpoint.verify(submission.note, origin, logs[origin])
    except Corrupt as fault:
        raise Corrupt(str(fault), rule="witness/signature") from None
    # 2. from where this witness stands
    if submission.old_size > sent.size:
        raise Malformed(
            "the old size is above the checkpoint's: a log never shrinks", rule="witness/old-size"
        )
    before = latest.get(origin, Checkpoint(origin, 0, merkle.EMPTY_ROOT))
    if submission.old_size != before.size:
        raise Conflict(f"this witness last cosigned size {before.size}", rule="witness/stale")
    # 3. and only forward
    if before.size == sent.size and before.root != sent.root:
        raise Corrupt(
            f"the log shows two trees of size {sent.size}: keep both checkpoints, they prove the fork",
            rule="witness/forked",
        )
    _require_extension(before, sent, submission.proof)
    return sent


def _require_extension(before: Checkpoint, sent: Checkpoint, proof: tuple[bytes, ...]) -> None:
    if before.size == 0:
        if proof:
            raise _inconsistent()
        return
    try:
        merkle.verify_consistency(before.size, sent.size, proof, before.root, sent.root)
    except (Malformed, Corrupt):
        raise _inconsistent() from None


def _inconsistent() -> Corrupt:
    return Corrupt(
        "the tree does not extend the one cosigned last: the log was rolled back, forked or rewritten",
        rule="witness/consistency",
    )


def _unverified(witness: Witness) -> Corrupt:
    return Corrupt(
        f"the cosignature in the name of {witness.name!r} does not verify", rule="witness/cosignature"
    )


def _key() -> Malformed:
    return Malformed("a witness key is written name+id+base64, of type 0x04", rule="witness/key")


def _submission() -> Malformed:
    return Malformed("these bytes are not an add-checkpoint body of tlog-witness", rule="witness/form")
