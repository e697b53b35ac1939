"""Witness: what an auditor's own machine answers a log that asks for a cosignature.

Source: c2sp.org/tlog-witness.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cryptosvc.core import checkpoint as notes
from cryptosvc.core.checkpoint import Checkpoint, Note
from cryptosvc.core.errors import Corrupt, Malformed
from cryptosvc.core.life import NANOSECONDS, UnixSeconds
from cryptosvc.core.witness import AddCheckpoint, cosign, require_extends
from cryptosvc.flow.ports import Clock

OK, BAD_REQUEST, FORBIDDEN, NOT_FOUND, CONFLICT, UNPROCESSABLE = 200, 400, 403, 404, 409, 422
SIZE = "text/x.tlog.size"


class Memory(Protocol):
    """The newest checkpoint that was cosigned of each log; on disk before a cosignature leaves."""

    def newest(self, origin: str) -> bytes | None:
        """Its signed note."""

    def keep(self, origin: str, note: bytes) -> None:
        """Keep this one instead."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer: status, body, content type."""

    status: int
    body: bytes
    content_type: str = "text/plain"


class WitnessDesk:
    """Cosigns checkpoints of logs it knows. One request at a time (the caller sees to it).

    Args:
        name: of the witness's key.
        key: of the witness.
        logs: origin → SubjectPublicKeyInfo of the log's key.
        memory: what was cosigned before.
        clock: the witness's own.

    """

    def __init__(
        self, name: str, key: Ed25519PrivateKey, logs: Mapping[str, bytes], memory: Memory, clock: Clock
    ) -> None:
        self._name = name
        self._key = key
        self._logs = logs
        self._memory = memory
        self._clock = clock

    def add_checkpoint(self, body: bytes) -> Answer:
        """Answer `POST /add-checkpoint`.

        200 and a signature line; 400 what cannot be read; 403 not signed by the log; 404 another log; 409 and the size
        that was cosigned last where the log believes something else, or shows other entries of that size; 422 a proof that
        does not hold.
        """
        try:
            asked = AddCheckpoint.parse(body)
            origin = notes.parse(asked.note).checkpoint.origin
        except Malformed as error:
            return _says(BAD_REQUEST, error.message)
        if origin not in self._logs:
            return _says(NOT_FOUND, "this witness does not know that log")
        try:
            checkpoint = notes.verify(asked.note, origin, self._logs[origin])
        except (Corrupt, Malformed) as error:
            return _says(FORBIDDEN, error.message)
        kept = self._memory.newest(origin)
        before = None if kept is None else notes.parse(kept).checkpoint
        return self._judged(asked, checkpoint, before)

    def _judged(self, asked: AddCheckpoint, checkpoint: Checkpoint, before: Checkpoint | None) -> Answer:
        size = 0 if before is None else before.size
        if asked.old > checkpoint.size:
            return _says(BAD_REQUEST, "the old size is larger than the checkpoint's")
        if asked.old != size or (before is not None and checkpoint.size == size and checkpoint != before):
            return Answer(CONFLICT, f"{size}\n".encode(), SIZE)
        try:
            require_extends(before, checkpoint, asked.proof)
        except (Corrupt, Malformed) as error:
            return _says(UNPROCESSABLE, error.message)
        # kept before it is said: whoever dies in between says it again to whoever asks again
        self._memory.keep(checkpoint.origin, asked.note)
        line = cosign(checkpoint, self._name, self._key, UnixSeconds(self._clock.now().at // NANOSECONDS))
        _, _, lines = notes.emit(Note(checkpoint, (line,))).partition(b"\n\n")
        return Answer(OK, lines)


def _says(status: int, text: str) -> Answer:
    return Answer(status, text.encode() + b"\n")
