"""Sealed segments in the store: opened for whoever reads, made behind the log, emptied once their key is destroyed.

Signing never waits for any of it: leaves are written as ever, and sealed later, a few hundred at a time.
"""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

import orjson
import psycopg

from cryptosvc.adapters.store.opener import Recorded
from cryptosvc.adapters.store.session import Store
from cryptosvc.core import segments
from cryptosvc.core.errors import Unavailable
from cryptosvc.core.merkle import leaf_hash
from cryptosvc.core.registry import KeyState

_AT_ONCE = 256
_SQLITE = "sqlite:///"
_UPDATE = "UPDATE leaf SET withheld = ? WHERE leaf_index = ? AND withheld = ?"
Beside = tuple[bytes, bytes]
"""An entry and what stands beside it."""


class SegmentKeys:
    """Opens what is sealed, with data keys that are asked of the module once and kept in memory.

    Args:
        data_key: gives the data key of a module key, by its id; Unavailable where the module cannot be asked.

    """

    def __init__(self, data_key: Callable[[str], bytes]) -> None:
        self._data_key = data_key
        self._known: dict[str, bytes] = {}

    def cleared(self, found: Sequence[Beside], record: Callable[[str, str], Recorded | None]) -> list[Beside]:
        """The same with what is sealed opened; empty beside an entry whose segment's key is destroyed.

        Raises:
            Unavailable: the module cannot be asked; the store does not know the key.
            Corrupt: `segment/changed`.

        """
        if not any(beside[:1] == segments.MARK for _, beside in found):
            return list(found)
        keys = {
            name: self._standing(name, record("key-record", name))
            for _, beside in found
            if (name := segments.key_of(beside))
        }
        return [(entry, self._opened(entry, beside, keys)) for entry, beside in found]

    def _opened(self, entry: bytes, beside: bytes, keys: dict[str, bytes | None]) -> bytes:
        name = segments.key_of(beside)
        if not name:
            return beside
        data_key = keys[name]
        return b"" if data_key is None else segments.opened(beside, leaf_hash(entry), data_key)

    def _standing(self, name: str, row: Recorded | None) -> bytes | None:
        """The data key; None once its key is destroyed."""
        if row is None:
            raise Unavailable(
                f"the store does not know the key {name} of a segment", rule="segment/unknown-key"
            )
        if orjson.loads(row.document)["state"] == KeyState.DESTROYED:
            self._known.pop(name, None)
            return None
        if name not in self._known:
            self._known[name] = self._data_key(name)
        return self._known[name]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Entries from `start` up to `stop`, and how many of them something was done with."""

    start: int
    stop: int
    entries: int


def seal(
    store: Store,
    start: int,
    size: int,
    before: int,
    key_id: str,
    data_key: bytes,
    progress: Callable[[int], None],
) -> Stretch:
    """Seal what stands beside the entries from `start` on that are older than a moment.

    Args:
        store: whatever is sealed in it already is passed over.
        start: first entry.
        size: entries of the log.
        before: nanoseconds; the stretch ends with the first entry that is not older.
        key_id: of the module's key.
        data_key: what it gives, 32 octets.
        progress: told which entry was reached.

    """
    stop, done = start, 0
    while stop < size:
        with store.writing() as session:
            changes: list[tuple[bytes, int, bytes]] = []
            rows = session.leaves(stop, min(stop + _AT_ONCE, size))
            for at, (entry, beside) in enumerate(rows, stop):
                said = orjson.loads(entry)
                if int(said["time"]) >= before:
                    rows = rows[: at - stop]
                    break
                if beside and not segments.key_of(beside) and said["kind"] not in segments.KEPT_KINDS:
                    changes.append((segments.sealed(beside, leaf_hash(entry), key_id, data_key), at, beside))
            if changes:
                session.run_many(_UPDATE, changes)
        if not rows:
            break
        stop, done = stop + len(rows), done + len(changes)
        progress(stop)
    return Stretch(start, stop, done)


def empty(store: Store, start: int, stop: int, key_id: str) -> int:
    """Take away what is sealed under a key, which nobody can open any more; how many entries had some."""
    done = 0
    for at in range(start, stop, _AT_ONCE):
        with store.writing() as session:
            rows = session.leaves(at, min(at + _AT_ONCE, stop))
            changes = [
                (b"", number, beside)
                for number, (_, beside) in enumerate(rows, at)
                if segments.key_of(beside) == key_id
            ]
            if changes:
                session.run_many(_UPDATE, changes)
        done += len(changes)
    return done


def scrub(url: str, *, rewrite: bool = False) -> None:
    """Have the engine let go of what was overwritten: SQLite's write-ahead log, PostgreSQL's dead rows.

    PostgreSQL gives their room back and leaves their octets there until others come; `rewrite` writes the table anew, and
    whoever signs waits for it. SQLite overwrites in place, and needs no such thing.

    Raises:
        Unavailable: it cannot be done now; asking again does no harm.

    """
    try:
        if not url.startswith(_SQLITE):
            with psycopg.connect(url.replace("+psycopg", "", 1), autocommit=True) as server:
                server.execute("VACUUM (FULL) leaf" if rewrite else "VACUUM leaf")
            return
        with closing(
            sqlite3.connect(url.removeprefix(_SQLITE), timeout=30, isolation_level=None)
        ) as connection:
            (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except (sqlite3.Error, psycopg.Error) as error:
        raise Unavailable(
            f"what was overwritten is not scrubbed yet ({type(error).__name__}); ask again",
            rule="segment/scrub",
        ) from None
    if busy:
        raise Unavailable("somebody reads the store at this moment; ask again", rule="segment/scrub")
