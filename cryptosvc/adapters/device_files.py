"""Import files of device keys on disk: read twice, the second time held to what the first time saw.

The first reading finds out whether the file is whole: that its first line is there, that every line has an end and a length
that a line may have, and what all of them hash to. Nothing is imported before. A part that reads otherwise later is refused.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cryptosvc.core.device_file import LINE_OCTETS, MANIFEST_OCTETS
from cryptosvc.core.errors import Conflict, Malformed, Unavailable

LINES_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class _Part:
    start: int
    octets: int
    lines: int
    digest: bytes


class DeviceFile:
    """A file, looked through once.

    Args:
        path: the file.
        lines_at_once: lines of a part.

    Raises:
        Unavailable: it cannot be read.
        Malformed: it is truncated, or a line is longer than a line may be.

    """

    def __init__(self, path: Path, lines_at_once: int = LINES_AT_ONCE) -> None:
        self._path = path
        self._parts: list[_Part] = []
        body = hashlib.sha256()
        try:
            with path.open("rb") as file:
                first = file.readline(MANIFEST_OCTETS + 1)
                _require_line(first, MANIFEST_OCTETS, 1)
                self.first_line = first[:-1]
                number, start = 2, len(first)
                while True:
                    lines = 0
                    part, octets = hashlib.sha256(), 0
                    while lines < lines_at_once and (line := file.readline(LINE_OCTETS + 2)):
                        _require_line(line, LINE_OCTETS, number)
                        part.update(line)
                        body.update(line)
                        lines, octets, number = lines + 1, octets + len(line), number + 1
                    if not lines:
                        break
                    self._parts.append(_Part(start, octets, lines, part.digest()))
                    start += octets
        except OSError as error:
            raise _unreadable(path, error) from None
        self.body_sha256 = body.hexdigest()
        self.lines = sum(part.lines for part in self._parts)

    def require(self, keys: int, body_sha256: str) -> None:
        """Require that the lines are those of the manifest: as many, and octet for octet.

        Raises:
            Malformed: `device-file/truncated`, or `device-file/other-body`.

        """
        if self.lines != keys:
            raise Malformed(
                f"the file has {self.lines} keys and its manifest says {keys}: it was truncated, or added to; nothing is "
                "imported",
                rule="device-file/truncated",
            )
        if self.body_sha256 != body_sha256:
            raise Malformed(
                "the file's lines are not those its manifest was signed over; nothing is imported",
                rule="device-file/other-body",
            )

    def lines_from(self, position: int) -> tuple[list[bytes], int]:
        """The lines that come next, without their ends, and the number of the first in the file.

        Args:
            position: how many keys come before, from 0.

        Returns:
            Lines up to the end of a part; none where the position is the end.

        Raises:
            Conflict: the file is not what it was when it was looked through.
            Unavailable: it cannot be read.

        """
        before = 0
        for part in self._parts:
            if before <= position < before + part.lines:
                return self._lines(part)[position - before :], position + 2
            before += part.lines
        return [], position + 2

    def _lines(self, part: _Part) -> list[bytes]:
        try:
            with self._path.open("rb") as file:
                file.seek(part.start)
                octets = file.read(part.octets)
        except OSError as error:
            raise _unreadable(self._path, error) from None
        if hashlib.sha256(octets).digest() != part.digest:
            raise Conflict(
                "the file changed while it was imported; the work stays where it is",
                rule="device-file/changed",
            )
        return octets[:-1].split(b"\n")


def _require_line(line: bytes, at_most: int, number: int) -> None:
    if not line.endswith(b"\n"):
        what = "is longer than a line may be" if len(line) > at_most else "has no end: the file was truncated"
        raise Malformed(f"line {number} {what}; nothing is imported", rule="device-file/truncated")


def _unreadable(path: Path, error: OSError) -> Unavailable:
    return Unavailable(f"{path} cannot be read: {error.strerror}", rule="device-file/unreadable")
