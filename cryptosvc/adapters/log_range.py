"""A range of the log as a file: every entry between two checkpoints, for proving answers complete off-line.

Layout, one item a line, UTF-8, `\\n` line ends; canonical JSON but for the entries:

    {"format":"cryptosvc-log-range","origin":…,"start":A,"stop":B,"version":1}
    {"checkpoint":"…signed note…"}           of size A; absent where A is 0
    {"checkpoint":"…signed note…"}           of size B
    {"frontier":"…hex…"}                     size A as 8 octets, then its peaks, largest first
                                             an empty line
    ENTRY TAB WITHHELD                       B - A lines, entry A first

A log export is the range from 0 to its newest checkpoint, and is read as one.
"""

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import orjson

from cryptosvc.adapters import export
from cryptosvc.core import checkpoint, completeness
from cryptosvc.core.canonical import JsonValue, canonical
from cryptosvc.core.checkpoint import Checkpoint
from cryptosvc.core.completeness import Answered, Listener
from cryptosvc.core.entries import SEPARATOR, values_beside
from cryptosvc.core.errors import Corrupt, Internal, Malformed
from cryptosvc.core.evidence import FORMAT as EXPORT_FORMAT
from cryptosvc.core.merkle import EMPTY, Frontier, leaf_hash
from cryptosvc.core.query import Query
from cryptosvc.core.retold import Told

FORMAT = "cryptosvc-log-range"
FORMAT_VERSION = 1
_LINES = 1024
_HEAD_LINES = 8


@dataclass(frozen=True, slots=True)
class RangeHead:
    """Everything before the entries.

    Args:
        origin: origin line it claims.
        first: the signed note it begins with; empty where it begins with entry 0.
        last: the one it ends with.
        frontier: of the log at the beginning.
        entries_at: offset of the first entry line.
        exported: whether it is a log export, read as a range.

    """

    origin: str
    first: bytes
    last: bytes
    frontier: Frontier
    entries_at: int
    exported: bool = False


def write_range(
    path: Path,
    origin: str,
    first: bytes,
    last: bytes,
    frontier: Frontier,
    entries: Iterable[tuple[bytes, bytes]],
) -> int:
    """Write a range and return how many entries it holds; the file appears when it is complete and on disk.

    Raises:
        Corrupt: there were more or fewer entries than lie between the checkpoints; no file is left.

    """
    stop = checkpoint.parse(last).checkpoint.size
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            head: dict[str, JsonValue] = {
                "format": FORMAT,
                "origin": origin,
                "start": frontier.size,
                "stop": stop,
                "version": FORMAT_VERSION,
            }
            file.write(canonical(head) + b"\n")
            for note in (first, last):
                if note:
                    file.write(canonical({"checkpoint": note.decode()}) + b"\n")
            file.write(canonical({"frontier": frontier.emit().hex()}) + b"\n\n")
            written = 0
            for entry, withheld in entries:
                file.write(entry + SEPARATOR + withheld + b"\n")
                written += 1
            if written != stop - frontier.size:
                raise Corrupt(
                    f"the service gave {written} entries where {stop - frontier.size} lie between the checkpoints",
                    rule="completeness/truncated",
                )
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return written


def replay(
    path: Path,
    public_key_der: bytes,
    query: Query,
    *,
    origin: str = "",
    answer: Path | None = None,
    given: Iterable[tuple[int, bytes]] | None = None,
    listener: Listener | None = None,
    progress: Callable[[int, int], None] = lambda _done, _size: None,
) -> Answered:
    """Find everything in a range that answers a query, and prove that nothing else does.

    Args:
        path: a range, or a log export.
        public_key_der: SubjectPublicKeyInfo of the log's audit-signing key.
        query: the question; the order asked for does not matter.
        origin: the origin expected; empty takes the one the file claims (the checkpoint's signature covers it).
        answer: JSON Lines with `leaf_index` and `leaf_hash` each, to be held against what is found; None for none.
        given: likewise, as (leaf index, leaf hash).
        listener: told of each entry found; then none is listed, and there is no answer to compare.
        progress: called with (entries read, entries there are).

    Raises:
        Malformed: neither a range nor an export, or the answer is not JSON Lines.
        Corrupt: whatever does not hold, by name (`core/completeness.py`, `core/checkpoint.py`).

    """
    head = read_head(path)
    expected = origin or head.origin
    if head.origin != expected:
        raise Corrupt(f"the file is of the log {head.origin!r}", rule="checkpoint/origin")
    first = checkpoint.verify(head.first, expected, public_key_der) if head.first else None
    last = checkpoint.verify(head.last, expected, public_key_der)
    replayer = completeness.begin(head.frontier, first, query, listener)
    with path.open("rb") as file:
        file.seek(head.entries_at)
        while some := list(islice(file, _LINES)):
            replayer.take([_split(line) for line in some])
            progress(replayer.frontier.size - head.frontier.size, last.size - head.frontier.size)
    found = replayer.conclude(first, last)
    if answer is not None:
        given = _given(answer)
    if given is not None:
        completeness.require_complete(found, given, _hashes(path, head, found))
    return found


def told(path: Path, wanted: Collection[int]) -> Iterator[Told]:
    """Some entries of a range, by index; what is beside each is what it commits to, or Corrupt."""
    head = read_head(path)
    last = max(wanted, default=-1)
    with path.open("rb") as file:
        file.seek(head.entries_at)
        for index, line in enumerate(file, head.frontier.size):
            if index > last:
                return
            if index in wanted:
                octets, withheld = _split(line)
                entry = orjson.loads(octets)
                yield Told(index, entry, values_beside(index, entry, withheld))


def read_head(path: Path) -> RangeHead:
    """Read everything before the entries; Malformed where it is neither range nor export."""
    with path.open("rb") as file:
        opening = _json_line(file.readline())
        if opening.get("format") == EXPORT_FORMAT:
            return _head_of_export(path)
        origin, start, stop = opening.get("origin"), opening.get("start"), opening.get("stop")
        if (
            (opening.get("format"), opening.get("version")) != (FORMAT, FORMAT_VERSION)
            or not isinstance(origin, str)
            or len(opening) != len(("format", "origin", "start", "stop", "version"))
        ):
            raise _malformed()
        items: list[dict[str, JsonValue]] = []
        while (line := file.readline()) != b"\n":
            items.append(_json_line(line))
            if len(items) > _HEAD_LINES:
                raise _malformed()
        *notes, frontier = items or [{}]
        texts = [note.get("checkpoint") for note in notes]
        octets = frontier.get("frontier")
        signed = [text.encode() for text in texts if isinstance(text, str)]
        if not isinstance(octets, str) or len(signed) != len(items) - 1 or len(signed) not in (1, 2):
            raise _malformed()
        try:
            parsed = Frontier.parse(bytes.fromhex(octets))
        except ValueError:
            raise _malformed() from None
        if (
            parsed.emit().hex() != octets
            or start != parsed.size
            or stop != _size(signed[-1])
            or bool(parsed.size) != (len(signed) == 2)
        ):
            raise _malformed()
        return RangeHead(origin, signed[0] if parsed.size else b"", signed[-1], parsed, file.tell())


def _head_of_export(path: Path) -> RangeHead:
    head = export.read_head(path)
    if not head.notes:
        raise Corrupt(
            "the export carries no checkpoint, so nothing vouches for it", rule="export/no-checkpoint"
        )
    return RangeHead(head.origin, b"", max(head.notes, key=_size), EMPTY, head.entries_at, exported=True)


def _size(note: bytes) -> int:
    found: Checkpoint = checkpoint.parse(note).checkpoint
    return found.size


def _split(line: bytes) -> tuple[bytes, bytes]:
    if not line.endswith(b"\n"):
        raise Corrupt("the range ends in the middle of a line", rule="completeness/truncated")
    entry, _, withheld = line[:-1].partition(SEPARATOR)
    return entry, withheld


def _hashes(path: Path, head: RangeHead, found: Answered) -> list[bytes]:
    """Leaf hashes of the entries found."""
    wanted = set(found.leaves)
    with path.open("rb") as file:
        file.seek(head.entries_at)
        return [
            leaf_hash(_split(line)[0])
            for index, line in enumerate(file, head.frontier.size)
            if index in wanted
        ]


def _given(answer: Path) -> Iterator[tuple[int, bytes]]:
    with answer.open("rb") as file:
        for line in file:
            try:
                item = orjson.loads(line)
                yield int(item["leaf_index"]), bytes.fromhex(item["leaf_hash"])
            except (ValueError, TypeError, KeyError):
                raise Malformed(
                    "an answer is JSON Lines with leaf_index and leaf_hash, as `audit query --format jsonl` prints it",
                    rule="completeness/answer",
                ) from None


def _json_line(line: bytes) -> dict[str, JsonValue]:
    try:
        item = orjson.loads(line)
        same = isinstance(item, dict) and canonical(item) + b"\n" == line
    except (orjson.JSONDecodeError, Internal):
        same = False
    if not same:
        raise _malformed()
    found: dict[str, JsonValue] = item
    return found


def _malformed() -> Malformed:
    return Malformed(
        "this file is neither a range of the log nor an export of a version this program reads",
        rule="completeness/format",
    )
