"""A witness's desk: what it cosigned last, kept on disk before it answers, and its answers in tlog-witness's own terms.

The state is one file, owned by the witness alone: one checkpoint for each log, as JSON from origin to note text. It is made
once, by `found_state`; a desk whose file is gone or damaged refuses to sign, since a witness that forgot would cosign a
fork.

Source: c2sp.org/tlog-witness, `add-checkpoint`.
"""

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cryptosvc.core import checkpoint, witness
from cryptosvc.core.checkpoint import Checkpoint, Note
from cryptosvc.core.errors import Corrupt, Malformed, Refusal, Unavailable
from cryptosvc.core.witness import Witness

SIZE_TYPE = "text/x.tlog.size"
TEXT_TYPE = "text/plain; charset=utf-8"

_STATUS = {
    "witness/origin": 404,
    "witness/signature": 403,
    "witness/stale": 409,
    "witness/forked": 409,
    "witness/consistency": 422,
}
"""tlog-witness's status for each refusal that has one of its own; whatever else is malformed is 400."""


@dataclass(frozen=True, slots=True)
class Answer:
    """HTTP status, content type, body."""

    status: int
    content_type: str
    body: bytes


def found_state(path: Path) -> None:
    """Make the state of a witness that never cosigned anything; one that is there is left alone, as Unavailable."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(b"{}")
            file.flush()
            os.fsync(file.fileno())
        _flush_folder(path.parent)
    except OSError as error:
        raise _unreachable(path, error) from None


class WitnessDesk:
    """Answers `add-checkpoint`.

    Args:
        name: the witness's name, as in its verifier key.
        key: its Ed25519 key, used for this witness alone.
        logs: origin → SubjectPublicKeyInfo of each log it follows.
        path: its state, made by `found_state`.
        now: POSIX seconds.

    """

    def __init__(
        self,
        name: str,
        key: Ed25519PrivateKey,
        logs: Mapping[str, bytes],
        path: Path,
        now: Callable[[], int],
    ) -> None:
        self.witness = Witness(name, key.public_key().public_bytes_raw())
        self._key = key
        self._logs = logs
        self._path = path
        self._now = now

    def add_checkpoint(self, body: bytes) -> Answer:
        """Judge a submission; where it may be cosigned, keep it durably, and only then sign.

        Raises:
            Unavailable: the state cannot be read or written; nothing was signed.
            Corrupt: `witness/state`, the state is not one this desk wrote; nothing was signed.

        """
        try:
            submission = witness.parse_submission(body)
        except Refusal as refusal:
            return _refused(refusal)
        with self._alone():
            latest = self.latest()
            try:
                seen = witness.judge_submission(submission, self._logs, latest)
            except (Refusal, Corrupt) as refusal:
                if refusal.rule == "witness/stale":
                    origin = checkpoint.parse(submission.note).checkpoint.origin
                    size = latest[origin].size if origin in latest else 0
                    return Answer(_STATUS[refusal.rule], SIZE_TYPE, f"{size}\n".encode())
                return _refused(refusal)
            at = self._now()
            message = witness.cosigned_message(seen, at)
            if latest.get(seen.origin) != seen:
                self._keep({**latest, seen.origin: seen})
        line = witness.cosignature_line(self.witness, at, self._key.sign(message))
        printed = checkpoint.emit(Note(seen, (line,))).removeprefix(checkpoint.text(seen) + b"\n")
        return Answer(200, TEXT_TYPE, printed)

    def latest(self) -> dict[str, Checkpoint]:
        """The checkpoint cosigned last of each log."""
        try:
            octets = self._path.read_bytes()
        except OSError as error:
            raise _unreachable(self._path, error) from None
        try:
            kept = orjson.loads(octets)
            found = {origin: checkpoint.parse_text(text.encode()) for origin, text in kept.items()}
        except (ValueError, AttributeError, Malformed):
            raise _damaged(self._path) from None
        if any(origin != each.origin for origin, each in found.items()):
            raise _damaged(self._path)
        return found

    def _keep(self, latest: Mapping[str, Checkpoint]) -> None:
        kept = {origin: checkpoint.text(each).decode() for origin, each in latest.items()}
        partial = self._path.with_name(self._path.name + ".partial")
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(orjson.dumps(kept))
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self._path)
            _flush_folder(self._path.parent)
        except OSError as error:
            raise _unreachable(self._path, error) from None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Old size checked and new checkpoint kept as one step, for every thread and process at this state."""
        try:
            descriptor = os.open(
                self._path.with_name(self._path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise _unreachable(self._path, error) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            with suppress(OSError):
                os.close(descriptor)


def _refused(refusal: Refusal | Corrupt) -> Answer:
    status = _STATUS.get(refusal.rule, 400)
    return Answer(status, TEXT_TYPE, f"{refusal.rule}: {refusal.message}\n".encode())


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unreachable(path: Path, error: OSError) -> Unavailable:
    return Unavailable(f"{path} cannot be used ({error.strerror})", rule="witness/state-file")


def _damaged(path: Path) -> Corrupt:
    return Corrupt(f"{path} is not a witness's state: nothing is cosigned from it", rule="witness/state")
