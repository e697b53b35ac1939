"""Sealed segments in the store: opened for whoever reads, made behind the log, emptied once their key is destroyed.

Signing never waits for any of it: leaves are written as ever, and sealed later, a few hundred at a time.
"""

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import orjson
import psycopg

from cryptosvc.adapters.store.opener import Recorded
from cryptosvc.adapters.store.session import Session, Store
from cryptosvc.core import erased, segments
from cryptosvc.core.errors import Unavailable
from cryptosvc.core.merkle import leaf_hash
from cryptosvc.core.registry import KeyState

_AT_ONCE = 256
_SQLITE = "sqlite:///"
_UPDATE = "UPDATE leaf SET entry = ?, withheld = ? WHERE leaf_index = ? AND entry = ? AND withheld = ?"
Beside = tuple[bytes, bytes]
"""An entry and what stands beside it."""
Change = tuple[bytes, bytes, int, bytes, bytes]
"""A leaf after, which it is, and before."""


class SegmentKeys:
    """Opens what is sealed, with data keys that are asked of the module once and kept in memory.

    Args:
        data_key: gives the data key of a module key, by its id; Unavailable where the module cannot be asked.

    """

    def __init__(self, data_key: Callable[[str], bytes]) -> None:
        self._data_key = data_key
        self._known: dict[str, bytes] = {}
        self._destroyed: set[str] = set()

    def give_up(self, key_ids: Iterable[str]) -> None:
        """Take these keys for destroyed, whatever the store says: it is older than what is known of them."""
        self._destroyed.update(key_ids)

    def cleared(self, found: Sequence[Beside], record: Callable[[str, str], Recorded | None]) -> list[Beside]:
        """The same with what is sealed opened; where the key is destroyed, the leaf hash for an entry and nothing beside it.

        Raises:
            Unavailable: the module cannot be asked; the store does not know the key.
            Corrupt: `segment/changed`.

        """
        names = {name for row in found for octets in row if (name := segments.key_of(octets))}
        if not names:
            return list(found)
        keys = {name: self._standing(name, record("key-record", name)) for name in names}
        return [_opened(entry, beside, keys) for entry, beside in found]

    def _standing(self, name: str, row: Recorded | None) -> bytes | None:
        """The data key; None once its key is destroyed."""
        if row is None:
            raise Unavailable(
                f"the store does not know the key {name} of a segment", rule="segment/unknown-key"
            )
        if name in self._destroyed or orjson.loads(row.document)["state"] == KeyState.DESTROYED:
            self._known.pop(name, None)
            return None
        if name not in self._known:
            self._known[name] = self._data_key(name)
        return self._known[name]


def _opened(entry: bytes, beside: bytes, keys: Mapping[str, bytes | None]) -> Beside:
    if name := segments.key_of(entry):
        data_key = keys[name]
        if data_key is None:
            return erased.alone(segments.hash_of(entry)), b""
        entry = segments.opened_entry(entry, data_key)
    if name := segments.key_of(beside):
        data_key = keys[name]
        beside = b"" if data_key is None else segments.opened(beside, erased.hash_of(entry), data_key)
    return entry, beside


@dataclass(slots=True)
class Sealed:
    """What of a stretch is sealed under one key.

    Args:
        entries: leaves of which something is.
        whole: those that are sealed whole, in runs.

    """

    entries: int = 0
    whole: list[erased.Run] = field(default_factory=list)

    def take(self, leaf_index: int, *, whole: bool) -> None:
        """Count the next one."""
        self.entries += 1
        if whole and self.whole and self.whole[-1][1] == leaf_index:
            self.whole[-1] = self.whole[-1][0], leaf_index + 1
        elif whole:
            self.whole.append((leaf_index, leaf_index + 1))


@dataclass(frozen=True, slots=True)
class Stretch:
    """Entries from `start` up to `stop`, and what of them is sealed, by key: under others by a seal that was interrupted."""

    start: int
    stop: int
    sealed: Mapping[str, Sealed]


def seal(
    store: Store,
    start: int,
    size: int,
    before: int,
    key_id: str,
    data_key: bytes,
    progress: Callable[[int], None],
) -> Stretch:
    """Seal the entries from `start` on that are older than a moment, and what stands beside them.

    Args:
        store: whatever is sealed in it already stays as it is.
        start: first entry.
        size: entries of the log.
        before: nanoseconds; the stretch ends with the first entry that is not older.
        key_id: of the module's key.
        data_key: what it gives, 32 octets.
        progress: told which entry was reached.

    """
    stop = start
    found: dict[str, Sealed] = {}
    while stop < size:
        with store.writing() as session:
            changes: list[Change] = []
            rows = session.leaves(stop, min(stop + _AT_ONCE, size))
            for at, row in enumerate(rows, stop):
                after = _sealed(row, before, key_id, data_key)
                if after is None:
                    rows = rows[: at - stop]
                    break
                if name := segments.key_of(after[0]) or segments.key_of(after[1]):
                    found.setdefault(name, Sealed()).take(at, whole=bool(segments.key_of(after[0])))
                if after != row:
                    changes.append((*after, at, *row))
            if changes:
                replace_leaves(session, changes)
        if not rows:
            break
        stop += len(rows)
        progress(stop)
    return Stretch(start, stop, found)


def _sealed(row: Beside, before: int, key_id: str, data_key: bytes) -> Beside | None:
    """A leaf as it is kept from now on; None where it is too young."""
    entry, beside = row
    if segments.key_of(entry) or erased.is_alone(entry):
        return row
    said = orjson.loads(entry)
    if int(said["time"]) >= before:
        return None
    digest = leaf_hash(entry)
    if beside and not segments.key_of(beside) and said["kind"] not in segments.KEPT_KINDS:
        beside = segments.sealed(beside, digest, key_id, data_key)
    if said["kind"] in erased.KINDS:
        entry = segments.sealed_entry(entry, digest, key_id, data_key)
    return entry, beside


def replace_leaves(session: Session, changes: Sequence[Change]) -> None:
    """Put leaves in the place of others: (entry, beside) after, the leaf, (entry, beside) before; what differs is left alone.

    A longer row goes elsewhere on its page and may leave octets of the one before in the gap. So where an engine writes in
    place, each is overwritten first, with as many zeros.
    """
    if session.in_place:
        blank = [
            (bytes(len(entry)), bytes(len(beside)), at, entry, beside) for _, _, at, entry, beside in changes
        ]
        session.run_many(_UPDATE, blank)
        changes = [(*after[:3], *before[:2]) for after, before in zip(changes, blank, strict=True)]
    session.run_many(_UPDATE, changes)


def empty(store: Store, start: int, stop: int, key_id: str) -> int:
    """Take away what is sealed under a key, which nobody can open any more; how many entries had some."""
    done = 0
    for at in range(start, stop, _AT_ONCE):
        with store.writing() as session:
            rows = session.leaves(at, min(at + _AT_ONCE, stop))
            changes = [
                (*emptied(row, key_id), number, *row)
                for number, row in enumerate(rows, at)
                if emptied(row, key_id) != row
            ]
            if changes:
                replace_leaves(session, changes)
        done += len(changes)
    return done


def emptied(row: Beside, key_id: str) -> Beside:
    """A leaf without what is sealed under a key: of an entry its hash is left, of what stands beside it nothing."""
    entry, beside = row
    if segments.key_of(entry) == key_id:
        entry = erased.alone(segments.hash_of(entry))
    return entry, b"" if segments.key_of(beside) == key_id else beside


def scrub(url: str, *, rewrite: bool = False) -> None:
    """Have the engine let go of what was overwritten: SQLite's write-ahead log, PostgreSQL's dead rows.

    PostgreSQL gives their room back and leaves their octets there until others come. SQLite overwrites in place; a page that
    was split meanwhile may keep some octets in a gap. `rewrite` writes everything anew, and whoever signs waits for it.

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
            if rewrite:
                connection.execute("VACUUM")
            (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except (sqlite3.Error, psycopg.Error) as error:
        raise Unavailable(
            f"what was overwritten is not scrubbed yet ({type(error).__name__}); ask again",
            rule="segment/scrub",
        ) from None
    if busy:
        raise Unavailable("somebody reads the store at this moment; ask again", rule="segment/scrub")
