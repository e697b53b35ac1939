"""Log checkpoints as content: the one thing an audit-signing key signs (G2.27).

Only the service itself asks for this form; the API has no field for it. The text is parsed, its origin must be
the deployment's own log, and the artefact is the complete signed note.
"""

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cryptosvc.core import checkpoint
from cryptosvc.core.content.base import Content, Rising
from cryptosvc.core.errors import Forbidden
from cryptosvc.core.names import ContentKind
from cryptosvc.core.registry import KeyRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointText(Content):
    """The text of a checkpoint, read."""

    checkpoint: checkpoint.Checkpoint


def parse(payload: bytes) -> CheckpointText:
    """Read a checkpoint text; Malformed where it is not one."""
    found = checkpoint.parse_text(payload)
    return CheckpointText(
        kind=ContentKind.LOG_CHECKPOINT,
        signed_bytes=payload,
        facts=(("origin", found.origin), ("root", found.root.hex()), ("size", str(found.size))),
        promises=(Rising("checkpoint-size", found.size),),
        checkpoint=found,
    )


def bind(content: Content, log_origin: str) -> None:
    """Raise Forbidden unless the checkpoint is of this deployment's log."""
    assert isinstance(content, CheckpointText)
    if content.checkpoint.origin != log_origin:
        raise Forbidden("the checkpoint is of another log", rule="checkpoint/origin", clause="G2.27")


def assemble(content: Content, signature: bytes, key: KeyRecord) -> bytes:
    """Print the signed note."""
    assert isinstance(content, CheckpointText)
    r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
    line = checkpoint.NoteSignature(
        content.checkpoint.origin,
        checkpoint.key_id(public_key_der(key.public_point)),
        encode_dss_signature(r, s),
    )
    return checkpoint.emit(checkpoint.Note(content.checkpoint, (line,)))


def public_key_der(public_point: bytes) -> bytes:
    """SubjectPublicKeyInfo of an uncompressed P-256 point: what an auditor verifies the log with."""
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public_point)
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
