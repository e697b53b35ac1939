"""One transaction, as the rest of the store sees it: every statement is here, and no engine.

Rows are tuples of int, str and bytes. SQL is written with `?`; an engine that spells it otherwise translates.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, cast

from cryptosvc.adapters.store.opener import Opener
from cryptosvc.core.record import Leaf
from cryptosvc.core.registry_tree import NodeName

Value = int | str | bytes | None
Row = tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class HeadRow:
    """The head as stored: body and the tag that authenticates it."""

    body: bytes
    tag: bytes


@dataclass(frozen=True, slots=True)
class Deployment:
    """Whose store it is. `database_id` is random, made at genesis."""

    origin: str
    system: str
    environment: str
    database_id: bytes


@dataclass(frozen=True, slots=True)
class RecordRow:
    """A key or caller record as stored; `document` is canonical JSON."""

    kind: str
    record_id: str
    version: int
    leaf_index: int
    document: bytes
    bucket: int
    system: str
    certificate_sha256: bytes | None


_RECORD = "kind, record_id, version, leaf_index, document, bucket, system, certificate_sha256"


class Session(ABC):
    """A transaction in progress. With an `opener` what is sealed is read in the clear."""

    opener: Opener | None = None
    in_place: bool = False
    """Whether a row of the length it had is written over the one before."""

    @abstractmethod
    def rows(self, sql: str, *values: Value) -> list[Row]:
        """Run a query."""

    @abstractmethod
    def run(self, sql: str, *values: Value) -> None:
        """Run a statement without a result."""

    @abstractmethod
    def run_many(self, sql: str, rows: Sequence[Sequence[Value]]) -> None:
        """Run a statement once for each row."""

    # What differs between the engines

    @abstractmethod
    def generation_shared(self) -> int:
        """Registry generation, held until the transaction ends: no registry change commits before."""

    @abstractmethod
    def generation_exclusive(self) -> int:
        """The same, for the one who changes it."""

    @abstractmethod
    def head_to_move(self, expected: HeadRow | None) -> HeadRow | None:
        """The head to extend; an engine may give back `expected` unread, and `move_head` then finds out."""

    @abstractmethod
    def open_group(self, deadline: int, leaves: bytes, taken: bytes) -> int:
        """Store a new claim group and return its number, from 1."""

    @abstractmethod
    def taken(self, fingerprints: Sequence[int]) -> Iterable[tuple[int, int]]:
        """(fingerprint, claim group) for those that may have been taken; `claims.py` looks into the group."""

    @abstractmethod
    def take(self, group: int, fingerprints: Sequence[int]) -> None:
        """Make what a group took findable. Moved: another node took one of them first."""

    @abstractmethod
    def leaves_for_update(self, groups: Sequence[int]) -> dict[int, bytes]:
        """Leaf indexes of the claims of these groups, held until the transaction ends."""

    @abstractmethod
    def append(self, start: int, leaves: Sequence[Leaf]) -> None:
        """Store leaves at `start`, `start + 1`, … ."""

    @abstractmethod
    def move_head(self, before: HeadRow, after: HeadRow) -> None:
        """Compare and swap. Moved: the head was not `before`."""

    # Head and registry

    def deployment(self) -> Deployment | None:
        """Whose store this is; None before genesis."""
        for row in self.rows("SELECT origin, system, environment, database_id FROM deployment WHERE id = 1"):
            return Deployment(*cast("tuple[str, str, str, bytes]", row))
        return None

    def found(self, deployment: Deployment, first: HeadRow) -> None:
        """Write the rows that exist once."""
        self.run(
            "INSERT INTO deployment (id, origin, system, environment, database_id) VALUES (1, ?, ?, ?, ?)",
            deployment.origin,
            deployment.system,
            deployment.environment,
            deployment.database_id,
        )
        self.run("INSERT INTO registry_state (id, generation) VALUES (1, 0)")
        self.run("INSERT INTO head (id, body, tag) VALUES (1, ?, ?)", first.body, first.tag)

    def generation(self) -> int:
        """Registry generation as it stands."""
        return self.number("SELECT generation FROM registry_state WHERE id = 1")

    def set_generation(self, generation: int) -> None:
        """Move the registry on."""
        self.run("UPDATE registry_state SET generation = ? WHERE id = 1", generation)

    def head(self) -> HeadRow | None:
        """The head as it stands."""
        for row in self.rows("SELECT body, tag FROM head WHERE id = 1"):
            return HeadRow(*cast("tuple[bytes, bytes]", row))
        return None

    def record(self, kind: str, record_id: str) -> RecordRow | None:
        """One record."""
        return _first(
            self.rows(f"SELECT {_RECORD} FROM record WHERE kind = ? AND record_id = ?", kind, record_id)  # noqa: S608  # a constant
        )

    def record_by_certificate(self, certificate_sha256: bytes) -> RecordRow | None:
        """The caller record with this client certificate."""
        return _first(
            self.rows(f"SELECT {_RECORD} FROM record WHERE certificate_sha256 = ?", certificate_sha256)  # noqa: S608  # a constant
        )

    def records_in(self, bucket: int) -> list[RecordRow]:
        """Every record of a bucket of the registry tree."""
        return _records(self.rows(f"SELECT {_RECORD} FROM record WHERE bucket = ?", bucket))  # noqa: S608  # a constant

    def records(self) -> list[RecordRow]:
        """Every record there is, by kind and id."""
        return _records(self.rows(f"SELECT {_RECORD} FROM record ORDER BY kind, record_id"))  # noqa: S608  # a constant

    def records_of_kind(self, kind: str) -> list[RecordRow]:
        """Every record of a kind, by id."""
        return _records(self.rows(f"SELECT {_RECORD} FROM record WHERE kind = ? ORDER BY record_id", kind))  # noqa: S608  # a constant

    def records_between(self, first: int, last: int) -> list[RecordRow]:
        """Every record of these buckets of the registry tree and those between."""
        return _records(
            self.rows(f"SELECT {_RECORD} FROM record WHERE bucket >= ? AND bucket <= ?", first, last)  # noqa: S608  # a constant
        )

    def records_after(self, leaf_index: int, limit: int) -> list[RecordRow]:
        """Records whose newest leaf comes after this one, in the order of their leaves."""
        return _records(
            self.rows(
                f"SELECT {_RECORD} FROM record WHERE leaf_index > ? ORDER BY leaf_index LIMIT ?",  # noqa: S608  # a constant
                leaf_index,
                limit,
            )
        )

    def put_record(self, row: RecordRow) -> None:
        """Insert or replace a record."""
        self.run("DELETE FROM record WHERE kind = ? AND record_id = ?", row.kind, row.record_id)
        self.run(
            f"INSERT INTO record ({_RECORD}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608  # a constant
            row.kind,
            row.record_id,
            row.version,
            row.leaf_index,
            row.document,
            row.bucket,
            row.system,
            row.certificate_sha256,
        )

    def registry_nodes(self, names: Sequence[NodeName]) -> dict[NodeName, bytes]:
        """Those of the named nodes of the registry tree that are there."""
        by_id = {level << 32 | index: (level, index) for level, index in names}
        marks = ", ".join("?" * len(by_id))
        found = self.rows(f"SELECT node_id, children FROM registry_node WHERE node_id IN ({marks})", *by_id)  # noqa: S608  # marks only
        return {by_id[cast("int", node_id)]: cast("bytes", children) for node_id, children in found}

    def put_registry_nodes(self, nodes: Mapping[NodeName, bytes]) -> None:
        """Insert or replace nodes of the registry tree."""
        for (level, index), children in nodes.items():
            self.run(
                "INSERT INTO registry_node (node_id, children) VALUES (?, ?) "
                "ON CONFLICT (node_id) DO UPDATE SET children = excluded.children",
                level << 32 | index,
                children,
            )

    # Claims

    def group(self, group: int) -> tuple[bytes, bytes] | None:
        """Leaf indexes and what was taken, of one claim group."""
        for row in self.rows("SELECT leaves, taken FROM claim WHERE claim_batch = ?", group):
            return cast("tuple[bytes, bytes]", row)
        return None

    def put_opening(self, group: int, body: bytes) -> None:
        """Keep what the sweeper needs."""
        self.run("INSERT INTO opening (claim_batch, body) VALUES (?, ?)", group, body)

    def expired(self, now: int, limit: int) -> list[int]:
        """Groups with open claims whose deadline is past, oldest first."""
        found = self.rows(
            "SELECT claim.claim_batch FROM opening JOIN claim ON claim.claim_batch = opening.claim_batch "
            "WHERE claim.deadline < ? ORDER BY claim.claim_batch LIMIT ?",
            now,
            limit,
        )
        return [cast("int", group) for (group,) in found]

    def opening(self, group: int) -> bytes | None:
        """Openings of a group; None once each of its claims is closed."""
        for (body,) in self.rows("SELECT body FROM opening WHERE claim_batch = ?", group):
            return cast("bytes", body)
        return None

    def close(self, group: int, leaves: bytes, *, finished: bool) -> None:
        """Store the leaf indexes of a group; drop its openings where every claim has one."""
        self.run("UPDATE claim SET leaves = ? WHERE claim_batch = ?", leaves, group)
        if finished:
            self.run("DELETE FROM opening WHERE claim_batch = ?", group)

    def rising(self, fingerprint: int) -> bytes | None:
        """The number last claimed under a rising promise."""
        for (number,) in self.rows("SELECT number FROM rising WHERE fingerprint = ?", fingerprint):
            return cast("bytes", number)
        return None

    def rise(self, fingerprint: int, before: bytes | None, number: bytes) -> None:
        """Move a rising promise on from `before`."""
        if before is None:
            self.run("INSERT INTO rising (fingerprint, number) VALUES (?, ?)", fingerprint, number)
        else:
            self.run("UPDATE rising SET number = ? WHERE fingerprint = ?", number, fingerprint)

    # Leaves, tiles, checkpoints

    def leaf(self, leaf_index: int) -> tuple[bytes, bytes] | None:
        """Entry and what is kept beside it."""
        for row in self.rows("SELECT entry, withheld FROM leaf WHERE leaf_index = ?", leaf_index):
            return self._clear([cast("tuple[bytes, bytes]", row)])[0]
        return None

    def leaves(self, start: int, stop: int) -> list[tuple[bytes, bytes]]:
        """(entry, withheld) from `start` up to `stop`, in order."""
        found = self.rows(
            "SELECT entry, withheld FROM leaf WHERE leaf_index >= ? AND leaf_index < ? ORDER BY leaf_index",
            start,
            stop,
        )
        return self._clear(cast("list[tuple[bytes, bytes]]", found))

    def _clear(self, found: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        return found if self.opener is None else self.opener.cleared(found, self.record)

    def leaves_of(self, wanted: Sequence[int]) -> dict[int, tuple[bytes, bytes]]:
        """(entry, withheld) of those of these leaves that are there, by index."""
        marks = ", ".join("?" * len(wanted))
        sql = f"SELECT leaf_index, entry, withheld FROM leaf WHERE leaf_index IN ({marks})"  # noqa: S608  # marks only
        found = cast("list[tuple[int, bytes, bytes]]", self.rows(sql, *wanted))
        clear = self._clear([(entry, withheld) for _, entry, withheld in found])
        return {row[0]: beside for row, beside in zip(found, clear, strict=True)}

    def entries(self, start: int, stop: int) -> list[bytes]:
        """Entries alone."""
        found = self.rows(
            "SELECT entry FROM leaf WHERE leaf_index >= ? AND leaf_index < ? ORDER BY leaf_index", start, stop
        )
        return [cast("bytes", entry) for (entry,) in found]

    def newest_leaf(self) -> int:
        """Index of the last leaf there is; -1 where there is none."""
        return self.number("SELECT COALESCE(MAX(leaf_index), -1) FROM leaf")

    def tile(self, level: int, index: int) -> bytes | None:
        """The 256 hashes of a tile."""
        for (hashes,) in self.rows("SELECT hashes FROM tile WHERE tile_id = ?", level << 48 | index):
            return cast("bytes", hashes)
        return None

    def tile_roots(self, level: int, start: int, stop: int) -> dict[int, bytes]:
        """Roots of those tiles of a level that are there."""
        found = self.rows(
            "SELECT tile_id, root FROM tile WHERE tile_id >= ? AND tile_id < ?",
            level << 48 | start,
            level << 48 | stop,
        )
        mask = (1 << 48) - 1
        return {cast("int", tile_id) & mask: cast("bytes", root) for tile_id, root in found}

    def put_tile(self, level: int, index: int, root: bytes, hashes: bytes) -> None:
        """Keep a complete tile; one that is there stays."""
        self.run(
            "INSERT INTO tile (tile_id, root, hashes) VALUES (?, ?, ?) ON CONFLICT (tile_id) DO NOTHING",
            level << 48 | index,
            root,
            hashes,
        )

    def checkpoint(self) -> bytes | None:
        """The newest note."""
        for (note,) in self.rows("SELECT note FROM checkpoint ORDER BY size DESC LIMIT 1"):
            return cast("bytes", note)
        return None

    def checkpoints(self) -> list[bytes]:
        """Every note, smallest first."""
        return [cast("bytes", note) for (note,) in self.rows("SELECT note FROM checkpoint ORDER BY size")]

    def largest_checkpoint(self) -> int:
        """Size of the newest checkpoint; -1 where there is none."""
        return self.number("SELECT COALESCE(MAX(size), -1) FROM checkpoint")

    def put_checkpoint(self, size: int, note: bytes) -> None:
        """Keep a note."""
        self.run("INSERT INTO checkpoint (size, note) VALUES (?, ?)", size, note)

    def checkpoint_of(self, size: int) -> bytes | None:
        """The note that signs so many entries."""
        for (note,) in self.rows("SELECT note FROM checkpoint WHERE size = ?", size):
            return cast("bytes", note)
        return None

    def set_checkpoint(self, size: int, note: bytes) -> None:
        """Keep a note in the place of the one of this size."""
        self.run("UPDATE checkpoint SET note = ? WHERE size = ?", note, size)

    def number(self, sql: str, *values: Value) -> int:
        """The one whole number a query gives."""
        for (found,) in self.rows(sql, *values):
            return cast("int", found)
        return -1


class Store(Protocol):
    """A database: transactions to read and to write, each on a connection of its own, remade when it is lost."""

    @property
    def one_writer(self) -> bool:
        """Whether a write transaction, while it lasts, is the only one in the whole deployment."""

    def writing(self) -> AbstractContextManager[Session]:
        """A write transaction: committed and on the disk at the end of the block, rolled back where it raises.

        Others may read it a moment before it is on the disk. What they do in the open rests on a transaction of their own,
        which cannot be there without this one, or on `flush`.

        Unavailable: nothing was done, or what was is not known to be on the disk. Moved: likewise, and trying again helps. Uncertain: COMMIT was lost.
        """

    def reading(self) -> AbstractContextManager[Session]:
        """A snapshot. Unavailable: the store is out of reach."""

    def flush(self) -> None:
        """Return when all that was read so far is on the disk. Unavailable: it is not known to be."""

    def close(self) -> None:
        """Close every connection."""


def _first(rows: list[Row]) -> RecordRow | None:
    for row in _records(rows):
        return row
    return None


def _records(rows: list[Row]) -> list[RecordRow]:
    return [
        RecordRow(*row)
        for row in cast("Iterator[tuple[str, str, int, int, bytes, int, str, bytes | None]]", rows)
    ]
