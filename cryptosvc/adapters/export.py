"""The log export as a file: written once, verified anywhere with nothing but the log's public key.

Layout, one item a line, UTF-8, `\\n` line ends:

    {"format":"cryptosvc-log-export","origin":…,"size":N,"version":1}
    {"checkpoint":"…signed note…"}                       one or more, the one that signs N entries among them
    {"document":{…},"kind":"key-record","leaf_index":I,"record_id":"…"}    one per registry record
                                                         an empty line
    ENTRY TAB WITHHELD                                   N lines, entry 0 first

The docs page docs/log-format.md is exact enough to write another verifier from.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import BinaryIO

import orjson

from cryptosvc.adapters.export_chunks import read_lines
from cryptosvc.core import checkpoint
from cryptosvc.core.canonical import JsonValue, canonical
from cryptosvc.core.entries import CHUNK_ENTRIES, SEPARATOR, ChunkFindings
from cryptosvc.core.errors import Corrupt, Malformed
from cryptosvc.core.evidence import FORMAT, FORMAT_VERSION, RecordBeside, Verdict, conclude

SMALL_LOG_ENTRIES = 4 * CHUNK_ENTRIES
"""Below this a pool of processes costs more than it saves."""
MOST_WAITING = 64
"""Chunks whose findings are held until those before them are there."""


@dataclass(frozen=True, slots=True)
class ExportHead:
    """Everything before the entries.

    Args:
        origin: origin line the export claims.
        size: number of entries it claims.
        notes: signed checkpoints.
        records: registry records.
        entries_at: offset of the first entry line in the file.

    """

    origin: str
    size: int
    notes: tuple[bytes, ...]
    records: tuple[RecordBeside, ...]
    entries_at: int


def write_export(
    path: Path,
    origin: str,
    notes: Sequence[bytes],
    records: Sequence[RecordBeside],
    entries: Iterable[tuple[bytes, bytes]],
) -> int:
    """Write an export and return how many entries it holds.

    The file appears under its name only when it is complete and on disk; `entries` yields (entry, withheld) in log
    order, exactly as many as the largest checkpoint signs, else Corrupt is raised and no file is left.
    """
    size = max(checkpoint.parse(note).checkpoint.size for note in notes)
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            head: dict[str, JsonValue] = {
                "format": FORMAT,
                "origin": origin,
                "size": size,
                "version": FORMAT_VERSION,
            }
            file.write(canonical(head) + b"\n")
            for note in notes:
                file.write(canonical({"checkpoint": note.decode()}) + b"\n")
            for record in records:
                file.write(canonical(_record_line(record)) + b"\n")
            file.write(b"\n")
            written = 0
            for entry, withheld in entries:
                file.write(entry + SEPARATOR + withheld + b"\n")
                written += 1
            if written != size:
                raise Corrupt(
                    f"the log gave {written} entries where its checkpoint signs {size}",
                    rule="export/truncated",
                )
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return written


def verify_export(
    path: Path,
    public_key_der: bytes,
    *,
    origin: str | None = None,
    kept: bytes = b"",
    processes: int | None = None,
    progress: Callable[[int, int], None] = lambda _done, _size: None,
) -> Verdict:
    """Verify an export off-line.

    Args:
        path: the export.
        public_key_der: SubjectPublicKeyInfo of the log's audit-signing key.
        origin: the origin expected; None takes the one the export claims (the checkpoint's signature covers it).
        kept: signed note that the verifier kept, which the log must extend; empty for none.
        processes: how many processes to use; None takes one per processor.
        progress: called with (entries verified, entries claimed) after each chunk.

    Raises:
        Malformed: not an export.
        Corrupt: whatever does not hold, by name (`core/evidence.py`).

    """
    head = read_head(path)
    notes = (*head.notes, kept) if kept and head.notes else head.notes
    sizes = [checkpoint.parse(note).checkpoint.size for note in notes]
    findings: list[ChunkFindings] = []
    done = 0
    for found in _findings(path, head, sizes, processes or os.cpu_count() or 1):
        findings.append(found)
        done += found.count
        progress(done, head.size)
    if done != head.size:
        raise Corrupt(f"the export claims {head.size} entries and holds {done}", rule="export/truncated")
    return conclude(findings, notes, head.records, origin or head.origin, public_key_der)


def read_head(path: Path) -> ExportHead:
    """Read everything before the entries; Malformed where it is not an export."""
    notes: list[bytes] = []
    records: list[RecordBeside] = []
    with path.open("rb") as file:
        first = _json_line(file.readline())
        if first.get("format") != FORMAT or first.get("version") != FORMAT_VERSION:
            raise Malformed(
                "this file is not a log export of a version this program reads", rule="export/format"
            )
        origin, size = first.get("origin"), first.get("size")
        if not isinstance(origin, str) or not isinstance(size, int):
            raise Malformed("the export's first line lacks origin or size", rule="export/format")
        while (line := file.readline()) != b"\n":
            item = _json_line(line)
            note = item.get("checkpoint")
            if isinstance(note, str):
                notes.append(note.encode())
            else:
                records.append(_record(item))
        return ExportHead(origin, size, tuple(notes), tuple(records), file.tell())


def entries_of(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Every (entry, withheld) of an export, in order, unverified."""
    head = read_head(path)
    with path.open("rb") as file:
        file.seek(head.entries_at)
        for line in file:
            entry, _, withheld = line.rstrip(b"\n").partition(SEPARATOR)
            yield entry, withheld


def _findings(path: Path, head: ExportHead, sizes: Sequence[int], processes: int) -> Iterator[ChunkFindings]:
    """Findings of each chunk, in order.

    This process reads chunks as well, whenever enough of them wait in the pool: until the others have come up it does
    all of the work, and after that its share. Memory stays flat however long the log is.
    """
    chunks = (
        (path, offset, length, number * CHUNK_ENTRIES, tuple(sizes))
        for number, offset, length in _chunks(path, head.entries_at)
    )
    if processes == 1 or head.size < SMALL_LOG_ENTRIES:
        yield from (read_lines(*chunk) for chunk in chunks)
        return
    others = processes - 1
    with ProcessPoolExecutor(others, mp_context=get_context("spawn")) as pool:
        waiting: deque[Future[ChunkFindings]] = deque()
        for chunk in chunks:
            while waiting and waiting[0].done():
                yield waiting.popleft().result()
            if sum(not one.done() for one in waiting) < 2 * others:
                waiting.append(pool.submit(read_lines, *chunk))
            else:
                waiting.append(_done(read_lines(*chunk)))
            if len(waiting) > MOST_WAITING:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _done(found: ChunkFindings) -> "Future[ChunkFindings]":
    future: Future[ChunkFindings] = Future()
    future.set_result(found)
    return future


def _chunks(path: Path, entries_at: int) -> Iterator[tuple[int, int, int]]:
    """(chunk number, file offset, length in octets) of every chunk of entry lines."""
    with path.open("rb") as file:
        file.seek(entries_at)
        number, offset = 0, entries_at
        while length := _lines_length(file):
            yield number, offset, length
            number, offset = number + 1, offset + length


def _lines_length(file: BinaryIO) -> int:
    return sum(map(len, islice(file, CHUNK_ENTRIES)))


def _record_line(record: RecordBeside) -> dict[str, JsonValue]:
    return {
        "document": record.document,
        "kind": record.kind,
        "leaf_index": record.leaf_index,
        "record_id": record.record_id,
    }


def _record(item: Mapping[str, JsonValue]) -> RecordBeside:
    match item:
        case {
            "document": Mapping() as document,
            "kind": str() as kind,
            "leaf_index": int() as leaf_index,
            "record_id": str() as record_id,
        }:
            return RecordBeside(kind, record_id, leaf_index, document)
        case _:
            raise Malformed(
                "a line before the entries is neither checkpoint nor record", rule="export/format"
            )


def _json_line(line: bytes) -> dict[str, JsonValue]:
    try:
        item = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise Malformed(
            "a line before the entries is not JSON; is this a log export?", rule="export/format"
        ) from None
    if not isinstance(item, dict) or canonical(item) + b"\n" != line:
        raise Malformed("a line before the entries is not a canonical JSON object", rule="export/format")
    return item
