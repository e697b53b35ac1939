"""Checkpoints: what the log says of itself, in C2SP tlog-checkpoint form.

A checkpoint is a C2SP signed note whose text is three lines: origin, tree size in decimal, root hash in base64.
The signature is ECDSA P-256 over SHA-256 of the text (signed-note type 0x02, DER encoded); its key id is the first
four octets of SHA-256 of the public key's SubjectPublicKeyInfo.

Source: c2sp.org/signed-note, c2sp.org/tlog-checkpoint. Parsing accepts only what emitting would print.

Example:
    >>> text(Checkpoint("example.com/log", 1, bytes(32))).decode()
    'example.com/log\\n1\\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\\n'
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from cryptosvc.core.errors import Corrupt, Malformed

ROOT_OCTETS = 32
KEY_ID_OCTETS = 4
MAX_NOTE_OCTETS = 8192
_SIZE_END = 1 << 63  # C2SP tlog-checkpoint: a signed 64-bit number, as most readers hold it
_MARK = "\u2014 "  # em dash and space open a signature line


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Origin line, number of leaves, RFC 6962 root hash (32 octets)."""

    origin: str
    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line: key name, four octets of key id, signature octets."""

    key_name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """A checkpoint with its signatures, the log's own first, then any witnesses'."""

    checkpoint: Checkpoint
    signatures: tuple[NoteSignature, ...]


def text(checkpoint: Checkpoint) -> bytes:
    """Emit the note text: exactly the bytes a signature is over."""
    root = base64.b64encode(checkpoint.root).decode()
    return f"{checkpoint.origin}\n{checkpoint.size}\n{root}\n".encode()


def parse_text(octets: bytes) -> Checkpoint:
    """Read a note text; anything `text` would not print is Malformed."""
    try:
        origin, size, root, rest = octets.decode("ascii").split("\n")
        checkpoint = Checkpoint(origin, int(size), base64.b64decode(root, validate=True))
    except (ValueError, binascii.Error):
        raise _malformed() from None
    if rest or not origin or " " in origin or "+" in origin or len(checkpoint.root) != ROOT_OCTETS:
        raise _malformed()
    if not origin.isprintable() or not 0 <= checkpoint.size < _SIZE_END or text(checkpoint) != octets:
        raise _malformed()
    return checkpoint


def key_id(public_key_der: bytes) -> bytes:
    """Key id of an ECDSA key: SHA-256 of its SubjectPublicKeyInfo, first four octets."""
    return hashlib.sha256(public_key_der).digest()[:KEY_ID_OCTETS]


def emit(note: Note) -> bytes:
    """Print a note: text, blank line, signature lines."""
    lines = "".join(
        f"{_MARK}{line.key_name} {base64.b64encode(line.key_id + line.signature).decode()}\n"
        for line in note.signatures
    )
    return text(note.checkpoint) + b"\n" + lines.encode()


def parse(octets: bytes) -> Note:
    """Read a signed note; anything `emit` would not print is Malformed."""
    if len(octets) > MAX_NOTE_OCTETS:
        raise _malformed()
    body, separator, tail = octets.partition(b"\n\n")
    if not separator:
        raise _malformed()
    checkpoint = parse_text(body + b"\n")
    try:
        lines = tail.decode().split("\n")
    except UnicodeDecodeError:
        raise _malformed() from None
    if lines.pop() or not lines:
        raise _malformed()
    note = Note(checkpoint, tuple(_signature_line(line) for line in lines))
    if emit(note) != octets:
        raise _malformed()
    return note


def verify(octets: bytes, origin: str, public_key_der: bytes) -> Checkpoint:
    """Read a note and verify the log's own signature.

    Args:
        octets: the signed note.
        origin: the origin the verifier expects; also the key name of the log's signature line.
        public_key_der: SubjectPublicKeyInfo of the log's audit-signing key.

    Raises:
        Malformed: not a checkpoint.
        Corrupt: another origin, no signature by this key, or one that does not verify.

    """
    note = parse(octets)
    if note.checkpoint.origin != origin:
        raise Corrupt(f"the checkpoint is of the log {note.checkpoint.origin!r}", rule="checkpoint/origin")
    wanted = key_id(public_key_der)
    by_log = [line for line in note.signatures if line.key_name == origin and line.key_id == wanted]
    if not by_log:
        raise Corrupt("the checkpoint carries no signature by this log's key", rule="checkpoint/unsigned")
    public_key = _public_key(public_key_der)
    for line in by_log:
        try:
            public_key.verify(line.signature, text(note.checkpoint), ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            raise Corrupt("the checkpoint's signature does not verify", rule="checkpoint/signature") from None
    return note.checkpoint


def _public_key(public_key_der: bytes) -> ec.EllipticCurvePublicKey:
    try:
        public_key = load_der_public_key(public_key_der)
    except (ValueError, UnsupportedAlgorithm):
        raise Malformed("the log's public key is not a SubjectPublicKeyInfo", rule="checkpoint/key") from None
    if not isinstance(public_key, ec.EllipticCurvePublicKey):
        raise Malformed("the log's public key is not an EC key", rule="checkpoint/key")
    return public_key


def _signature_line(line: str) -> NoteSignature:
    key_name, _, encoded = line.removeprefix(_MARK).partition(" ")
    try:
        octets = base64.b64decode(encoded, validate=True)
    except (ValueError, binascii.Error):
        raise _malformed() from None
    if len(octets) <= KEY_ID_OCTETS or not key_name:
        raise _malformed()
    return NoteSignature(key_name, octets[:KEY_ID_OCTETS], octets[KEY_ID_OCTETS:])


def _malformed() -> Malformed:
    return Malformed(
        "these bytes are not a C2SP checkpoint in the form this service prints", rule="checkpoint/form"
    )
