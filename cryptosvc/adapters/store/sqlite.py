"""SQLite: a write-ahead log that is flushed outside the write lock, and a queue of writers across processes.

Without the queue four workers starve each other: one transaction waited four seconds. A writer takes the turnstile,
then the lock, then gives the turnstile back; whoever just wrote stands behind the one who waits.

A transaction is over when it is on the disk, as with synchronous=FULL; but the lock is given on before that, so that
the next one writes while this one is flushed. The write-ahead log is one file, written in order and read back after a
crash up to the first frame that does not fit: whoever has flushed it has flushed everything committed before, so
nothing rests on a commit that is lost. ADR 0020 tells what follows.
"""

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

from cryptosvc.adapters.store.faults import Moved, Uncertain, translated
from cryptosvc.adapters.store.index import FingerprintIndex
from cryptosvc.adapters.store.opener import Opener
from cryptosvc.adapters.store.session import HeadRow, Row, Session, Value
from cryptosvc.adapters.store.taking import fingerprints_of
from cryptosvc.core.errors import Corrupt, Unavailable
from cryptosvc.core.record import Leaf

_BUSY_SECONDS = 5.0
"""How long another program (a backup, a person with a shell) may hold the database."""
_PAGES_PER_CHECKPOINT = 4000
_CACHE_KIB = 8192
PAGE_OCTETS = 8192
"""Of a database made by this version: an entry and what stands beside it take 1.5 KiB, which fills pages of 4096 badly."""
_ROWS = 16
"""Leaves one statement inserts: each statement, and each row of a repeated one, gives the interpreter away and waits for
it again, with the write lock held."""
_INSERT_ROW = "INSERT INTO leaf (leaf_index, entry, withheld) VALUES (?, ?, ?)"
_INSERT_ROWS = _INSERT_ROW + ", (?, ?, ?)" * (_ROWS - 1)


class SqliteStore:
    """A store in one file on a local disk, shared by the workers of one host.

    Args:
        path: the database; `.lock`, `.queue` and `.index` stand beside it.
        max_pages: upper bound of its size in pages (of PAGE_OCTETS); None leaves it to the disk.
        opener: opens what is sealed, for whoever reads; without one it is read as it stands, as writers do.

    """

    def __init__(self, path: Path, *, max_pages: int | None = None, opener: Opener | None = None) -> None:
        self._path = path
        self._opener = opener
        self._max_pages = max_pages
        self._locks: tuple[int, int] | None = None
        self._writer: _SqliteSession | None = None
        self._reader: _SqliteSession | None = None
        self._reading = threading.Lock()
        self._index: FingerprintIndex | None = None
        self._log: int | None = None
        self._unsound = ""

    @property
    def one_writer(self) -> bool:
        """See `Store`."""
        return True

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A write transaction, after every process that queued before; on the disk when it ends."""
        self._require_sound()
        queue, lock = self._queue()
        fcntl.flock(queue, fcntl.LOCK_EX)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        finally:
            fcntl.flock(queue, fcntl.LOCK_UN)
        try:
            with self._transaction() as session:
                yield session
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)
        self.flush()

    def flush(self) -> None:
        """See `Store`. Once a flush has failed nothing is written or flushed here any more.

        The kernel tells of a failure once, and takes the pages for clean after: the next flush would succeed over what
        is not on the disk.
        """
        self._require_sound()
        try:
            if self._log is None:
                self._log = os.open(self._path.with_name(self._path.name + "-wal"), os.O_RDWR | os.O_CLOEXEC)
            os.fdatasync(self._log)
        except OSError as error:
            self._unsound = error.strerror or "I/O error"
            self._require_sound()

    def _require_sound(self) -> None:
        if self._unsound:
            raise Unavailable(
                f"the disk did not take what was written to the store ({self._unsound}); look at the disk, then restart"
                " the service: it does not write there before",
                rule="store/flush",
            )

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A snapshot; readers of one process take turns, and never wait for a writer."""
        with self._reading, translated():
            if self._reader is None:
                self._reader = _SqliteSession(self._connect(), self._index)
                self._reader.opener = self._opener
            session = self._reader
            session.index = self._index
            session.connection.execute("BEGIN")
            try:
                yield session
            finally:
                _end(session.connection, "ROLLBACK")

    def close(self) -> None:
        """Close every connection and file."""
        with self._reading:
            for session in (self._reader, self._writer):
                if session is not None:
                    session.connection.close()
            self._reader = self._writer = None
            if self._index is not None:
                self._index.close()
                self._index = None
            for file in self._locks or ():
                os.close(file)
            self._locks = None
            self._close_log()

    def _close_log(self) -> None:
        if self._log is not None:
            os.close(self._log)
            self._log = None

    @contextmanager
    def _transaction(self) -> Iterator[Session]:
        with translated():
            if self._writer is None:
                self._writer = _SqliteSession(self._connect(), None)
            session = self._writer
            connection = session.connection
            connection.execute("BEGIN IMMEDIATE")
            try:
                if session.index is None:
                    session.index = self._index = self._bring_up(session)
                yield session
            except BaseException:
                _end(connection, "ROLLBACK")
                raise
            self._commit(connection)

    def _commit(self, connection: sqlite3.Connection) -> None:
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            _end(connection, "ROLLBACK")
            # a full disk is found before the commit frame is written; any other error leaves it open
            if getattr(error, "sqlite_errorname", "") in ("SQLITE_FULL", "SQLITE_BUSY"):
                raise
            connection.close()
            self._writer = None
            self._close_log()  # it may have been the last connection, which takes that file with it
            raise Uncertain from error

    def _bring_up(self, session: "_SqliteSession") -> FingerprintIndex | None:
        """Open the index under the write lock; None before genesis, when nothing can have been taken."""
        if self._index is not None:
            return self._index
        if not session.rows("SELECT 1 FROM sqlite_master WHERE name = 'deployment'"):
            return None
        deployment = session.deployment()
        if deployment is None:
            return None

        def taken_by(group: int) -> bytes | None:
            found = session.group(group)
            return None if found is None else found[1]

        def groups(start: int) -> Iterator[tuple[int, bytes]]:
            # a cursor, not a list: after a restart of the machine this reads every group there is
            yield from cast(
                "Iterator[tuple[int, bytes]]",
                session.connection.execute(
                    "SELECT claim_batch, taken FROM claim WHERE claim_batch >= ? ORDER BY claim_batch",
                    (start,),
                ),
            )

        index = FingerprintIndex(self._path.with_name(self._path.name + ".index"), fingerprints_of)
        index.bring_up(deployment.database_id, taken_by, groups)
        return index

    def _connect(self) -> sqlite3.Connection:
        if not self._path.exists():
            raise Unavailable(
                "there is no store at the configured path; run cryptosvc init", rule="store/absent"
            )
        connection = sqlite3.connect(
            self._path,
            isolation_level=None,
            check_same_thread=False,
            timeout=_BUSY_SECONDS,
            cached_statements=64,
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")  # `flush` is what makes a commit durable
        connection.execute(f"PRAGMA wal_autocheckpoint = {_PAGES_PER_CHECKPOINT}")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        # Debian's build zeroes what is deleted, and that is the openings of every group: no secret, written twice
        connection.execute("PRAGMA secure_delete = FAST")
        if self._max_pages is not None:
            connection.execute(f"PRAGMA max_page_count = {self._max_pages}")
        return connection

    def _queue(self) -> tuple[int, int]:
        if self._locks is None:
            try:
                self._locks = (self._lock_file(".queue"), self._lock_file(".lock"))
            except OSError as error:
                raise Unavailable(
                    f"cannot open the store's lock files: {error.strerror}", rule="store/lock"
                ) from None
        return self._locks

    def _lock_file(self, suffix: str) -> int:
        return os.open(
            self._path.with_name(self._path.name + suffix), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )


class _SqliteSession(Session):
    in_place = True

    def __init__(self, connection: sqlite3.Connection, index: FingerprintIndex | None) -> None:
        self.connection = connection
        self.index = index

    def rows(self, sql: str, *values: Value) -> list[Row]:
        return self.connection.execute(sql, values).fetchall()

    def run(self, sql: str, *values: Value) -> None:
        self.connection.execute(sql, values)

    def run_many(self, sql: str, rows: Sequence[Sequence[Value]]) -> None:
        self.connection.executemany(sql, rows)

    def generation_shared(self) -> int:
        return self.generation()  # the write lock is held

    def generation_exclusive(self) -> int:
        return self.generation()

    def head_to_move(self, expected: HeadRow | None) -> HeadRow | None:  # noqa: ARG002  # the write lock makes reading it certain
        return self.head()

    def open_group(self, deadline: int, leaves: bytes, taken: bytes) -> int:
        cursor = self.connection.execute(
            "INSERT INTO claim (deadline, leaves, taken) VALUES (?, ?, ?)", (deadline, leaves, taken)
        )
        self._opened = taken
        return cast("int", cursor.lastrowid)

    def taken(self, fingerprints: Sequence[int]) -> Iterable[tuple[int, int]]:
        index = self.index
        if index is None:
            return []
        return [(fingerprint, group) for fingerprint in fingerprints for group in index.find(fingerprint)]

    def take(self, group: int, fingerprints: Sequence[int]) -> None:
        if self.index is None:
            raise Corrupt("the store has claims but no genesis", rule="log/no-genesis")
        self.index.put(group, list(fingerprints), self._opened)

    def leaves_for_update(self, groups: Sequence[int]) -> dict[int, bytes]:
        marks = ", ".join("?" * len(groups))
        found = self.rows(f"SELECT claim_batch, leaves FROM claim WHERE claim_batch IN ({marks})", *groups)  # noqa: S608  # marks only
        return cast("dict[int, bytes]", dict(cast("list[tuple[int, bytes]]", found)))

    def append(self, start: int, leaves: Sequence[Leaf]) -> None:
        whole = len(leaves) - len(leaves) % _ROWS
        for at in range(0, whole, _ROWS):
            values: list[Value] = []
            for number, leaf in enumerate(leaves[at : at + _ROWS], start + at):
                values += (number, leaf.entry, leaf.withheld)
            self.connection.execute(_INSERT_ROWS, values)
        if whole < len(leaves):
            self.connection.executemany(
                _INSERT_ROW,
                [
                    (number, leaf.entry, leaf.withheld)
                    for number, leaf in enumerate(leaves[whole:], start + whole)
                ],
            )

    def move_head(self, before: HeadRow, after: HeadRow) -> None:
        cursor = self.connection.execute(
            "UPDATE head SET body = ?, tag = ? WHERE id = 1 AND tag = ?", (after.body, after.tag, before.tag)
        )
        if cursor.rowcount != 1:
            raise Moved


def _end(connection: sqlite3.Connection, how: str) -> None:
    """End a transaction whose end cannot matter any more."""
    with suppress(sqlite3.Error):
        if connection.in_transaction:
            connection.execute(how)
