"""A segment as a file: what is sealed leaves the store for somewhere else, and is verified entry by entry when it returns.

The file holds what the store held, sealed under the segment's key: where the key is destroyed, the file is noise too. One
item a line, UTF-8:

    {"entries":N,"format":"cryptosvc-segment-archive","key":KEY,"origin":ORIGIN,"version":2}
    INDEX TAB LEAF-HASH TAB ENTRY TAB VALUES             N lines, in order; hex, and base64 of what is sealed: of the entry,
                                                         where it is whole, and of the values withheld beside it
"""

import base64
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import orjson

from cryptosvc.adapters.store.segments import Change, Sealed, replace_leaves
from cryptosvc.adapters.store.session import Session, Store
from cryptosvc.core import erased, segments
from cryptosvc.core.canonical import JsonValue, canonical
from cryptosvc.core.entries import values_beside
from cryptosvc.core.errors import Corrupt, Unavailable

FORMAT = "cryptosvc-segment-archive"
FORMAT_VERSION = 2
_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Item:
    """One line: the entry, its leaf hash, and what is sealed of it and beside it; empty where that is nothing."""

    leaf_index: int
    leaf_hash: bytes
    entry: bytes
    withheld: bytes


@dataclass(frozen=True, slots=True)
class Written:
    """A file as written: how many entries it has something of, its SHA-256 in hex, and which of them are whole."""

    entries: int
    sha256: str
    whole: tuple[erased.Run, ...]


def write(
    store: Store, path: Path, origin: str, key_id: str, stretches: Sequence[tuple[int, int]]
) -> Written:
    """Write a segment to a file that is not there yet, and is on disk when this returns.

    Raises:
        Unavailable: `segment/unwritable`: the file cannot be written, or one is there.

    """
    if path.exists():
        raise Unavailable(
            f"{path} is there already, and may be the only copy of what was archived before; name another file",
            rule="segment/unwritable",
        )
    partial = path.with_name(path.name + ".partial")
    found = Sealed()
    for one in _items(store, key_id, stretches):
        found.take(one.leaf_index, whole=bool(one.entry))
    head: dict[str, JsonValue] = {
        "entries": found.entries,
        "format": FORMAT,
        "key": key_id,
        "origin": origin,
        "version": FORMAT_VERSION,
    }
    digest = hashlib.sha256()
    try:
        with partial.open("wb") as file:
            partial.chmod(0o600)
            for line in _lines(canonical(head), _items(store, key_id, stretches)):
                digest.update(line)
                file.write(line)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise Unavailable(f"cannot write {path}: {error.strerror}", rule="segment/unwritable") from None
    finally:
        partial.unlink(missing_ok=True)
    return Written(found.entries, digest.hexdigest(), tuple(found.whole))


def take_out(store: Store, path: Path) -> int:
    """Take out of the store what a file holds, octet for octet; how many entries it was."""
    return _swap(store, path, returning=False)


def put_back(store: Store, path: Path) -> int:
    """Put back what a file holds, where nothing stands; how many entries it was. `verify` comes first."""
    return _swap(store, path, returning=True)


def verify(store: Store, path: Path, origin: str, key_id: str, data_key: bytes) -> int:
    """Verify a file that returns, all of it, before any of it is believed; how many entries it holds.

    Each line is of an entry the log has, opens under the segment's key, and what comes out is what the entry commits to.

    Raises:
        Corrupt: `segment/archive` where the file is none, or of another log or key; `segment/changed`, `export/…` of what it
            holds.

    """
    with _opened(path) as file:
        head = _head(file)
        if (head["key"], head["origin"]) != (key_id, origin):
            raise _no_archive("it is of another key or log")
        count = 0
        while some := _read(file):
            with store.reading() as session:
                for one, stands in zip(some, _entries(session, some), strict=True):
                    _require_returning(one, stands, data_key)
            count += len(some)
        if count != head["entries"]:
            raise _no_archive("it was cut")
    return count


def key_of(path: Path) -> str:
    """Id of the key a file says it is under; Corrupt `segment/archive`."""
    with _opened(path) as file:
        return str(_head(file)["key"])


def _require_returning(one: Item, stands: bytes, data_key: bytes) -> None:
    """What returns is of the entry that stands in the store, or whose hash does; Corrupt where it is not."""
    entry = segments.opened_entry(one.entry, data_key) if one.entry else stands
    if segments.hash_of(stands) != one.leaf_hash or erased.hash_of(entry) != one.leaf_hash:
        raise _no_archive(f"entry {one.leaf_index} is another")
    if one.withheld:
        beside = segments.opened(one.withheld, one.leaf_hash, data_key)
        values_beside(one.leaf_index, orjson.loads(entry), beside)


def _swap(store: Store, path: Path, *, returning: bool) -> int:
    count = 0
    with _opened(path) as file:
        _head(file)
        while some := _read(file):
            with store.writing() as session:
                replace_leaves(
                    session,
                    [
                        change
                        for one, stands in zip(some, _entries(session, some), strict=True)
                        for change in _change(one, stands, returning=returning)
                    ],
                )
            count += len(some)
    return count


def _change(one: Item, stands: bytes, *, returning: bool) -> Iterator[Change]:
    """How a leaf is kept after, and how before; nothing where it is kept otherwise."""
    entry = one.entry or stands
    within, without = (entry, one.withheld), (erased.alone(one.leaf_hash) if one.entry else stands, b"")
    before, after = (without, within) if returning else (within, without)
    if stands == before[0]:
        yield *after, one.leaf_index, *before


def _items(store: Store, key_id: str, stretches: Sequence[tuple[int, int]]) -> Iterator[Item]:
    for start, stop in stretches:
        for at in range(start, stop, _AT_ONCE):
            with store.reading() as session:
                rows = session.leaves(at, min(at + _AT_ONCE, stop))
            for leaf_index, (entry, beside) in enumerate(rows, at):
                whole = entry if segments.key_of(entry) == key_id else b""
                values = beside if segments.key_of(beside) == key_id else b""
                if whole or values:
                    yield Item(leaf_index, segments.hash_of(entry), whole, values)


def _lines(head: bytes, items: Iterator[Item]) -> Iterator[bytes]:
    yield head + b"\n"
    for one in items:
        secrets = base64.b64encode(one.entry), base64.b64encode(one.withheld)
        yield b"%d\t%s\t%s\t%s\n" % (one.leaf_index, one.leaf_hash.hex().encode(), *secrets)


def _head(file: BinaryIO) -> dict[str, object]:
    try:
        head = orjson.loads(file.readline())
        if (head["format"], head["version"]) == (FORMAT, FORMAT_VERSION) and {
            "key",
            "origin",
            "entries",
        } <= set(head):
            return dict(head)
    except (orjson.JSONDecodeError, TypeError, KeyError):
        pass
    raise _no_archive("its first line is none")


def _read(file: BinaryIO) -> list[Item]:
    found: list[Item] = []
    for line in islice(file, _AT_ONCE):
        try:
            index, digest, *secrets = line.removesuffix(b"\n").split(b"\t")
            entry, withheld = (base64.b64decode(one, validate=True) for one in secrets)
            found.append(Item(int(index), bytes.fromhex(digest.decode()), entry, withheld))
        except ValueError:
            raise _no_archive("a line is none") from None
    return found


def _entries(session: Session, some: Sequence[Item]) -> list[bytes]:
    rows = session.leaves_of([one.leaf_index for one in some])
    return [rows.get(one.leaf_index, (b"", b""))[0] for one in some]


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise Unavailable(f"cannot read {path}: {error.strerror}", rule="segment/unreadable") from None


def _no_archive(why: str) -> Corrupt:
    return Corrupt(
        f"this is no archive of a segment of this log: {why}", rule="segment/archive", clause=segments.CLAUSE
    )
