"""Places outside: a file that is only ever appended to, and syslog."""

import asyncio
import os
from pathlib import Path

from cryptosvc.adapters.receivers import Syslog
from cryptosvc.core.errors import Corrupt, Malformed, Unavailable
from cryptosvc.core.outside import CLAUSE, line, notes_of
from cryptosvc.flow.watch import Memory

_TAIL_OCTETS = 1 << 16


class AppendedFile:
    """Implements `flow.outside.Place`: one line for each checkpoint, appended (O_APPEND) and flushed to the device.

    It may be on a device that is written once, or have the append-only attribute (chattr +a): it is never truncated,
    renamed or written elsewhere than at its end.

    Args:
        path: of the file.
        memory: keeps how long the file was, across restarts; without it a file that shrank while nobody looked is told
            by `audit verify --outside` only.

    """

    def __init__(self, path: Path, memory: Memory) -> None:
        self._path = path
        self._memory = memory

    async def last(self) -> bytes | None:
        """See `flow/outside.py`."""
        return await asyncio.to_thread(self._last)

    async def put(self, note: bytes) -> None:
        """See `flow/outside.py`."""
        await asyncio.to_thread(self._append, line(note))

    def _last(self) -> bytes | None:
        try:
            with self._path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                self._require_not_shrunk(size)
                file.seek(max(size - _TAIL_OCTETS, 0))
                found = notes_of(file.read())
        except FileNotFoundError:
            self._require_not_shrunk(0)
            return None
        except OSError as error:
            raise self._away(error) from None
        return found[-1] if found else None

    def _append(self, octets: bytes) -> None:
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                size = os.fstat(descriptor).st_size
                self._require_not_shrunk(size)
                if size and os.pread(descriptor, 1, size - 1) != b"\n":  # the line before was cut off
                    octets = b"\n" + octets
                if os.write(descriptor, octets) != len(octets):
                    raise Unavailable(f"{self._path} took a part of a line only", rule="outside/file")
                os.fsync(descriptor)
                size = os.fstat(descriptor).st_size
            finally:
                os.close(descriptor)
        except OSError as error:
            raise self._away(error) from None
        self._memory.keep(b"%d" % size)

    def _require_not_shrunk(self, size: int) -> None:
        kept = self._memory.recall()
        if kept.isdigit() and size < int(kept):
            raise Corrupt(
                f"{self._path} had {int(kept)} octets and has {size}: checkpoints were taken out of it. Find out by whom; to "
                "begin another file, configure another name",
                rule="outside/shrunk",
                clause=CLAUSE,
            )

    def _away(self, error: OSError) -> Unavailable:
        return Unavailable(f"{self._path}: {error.strerror}", rule="outside/file")


class SyslogPlace:
    """Implements `flow.outside.Place`: one message for each checkpoint; what is kept there is not ours to read.

    Args:
        syslog: how it is reached.

    """

    def __init__(self, syslog: Syslog) -> None:
        self._syslog = syslog

    async def last(self) -> bytes | None:
        """None: syslog gives nothing back."""
        return None

    async def put(self, note: bytes) -> None:
        """See `flow/outside.py`."""
        await self._syslog.say("checkpoint", line(note).rstrip(b"\n"))


def read_place(path: Path) -> list[bytes]:
    """The notes a file has; Malformed where it cannot be read."""
    try:
        return notes_of(path.read_bytes())
    except OSError as error:
        raise Malformed(
            f"cannot read {path}: {error.strerror}", rule="outside/unreadable", field="--outside"
        ) from None
