"""PostgreSQL: the engine for many nodes.

Statements are pipelined, so that a transaction's writes and its COMMIT are one round trip. A claim holds the registry
generation FOR SHARE: a plain read lets a suspension slip in between. A record first tries to move the head it saw
last (compare and swap); where another node was first it takes the row FOR UPDATE and does it again.
"""

import functools
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import cast

import psycopg

from cryptosvc.adapters.store.faults import Uncertain, translated
from cryptosvc.adapters.store.opener import Opener
from cryptosvc.adapters.store.session import HeadRow, Row, Session, Value
from cryptosvc.core.record import Leaf

_CONNECT_SECONDS = 5
_OPTIONS = "-c lock_timeout=10s -c statement_timeout=30s -c idle_in_transaction_session_timeout=60s"


class PostgresStore:
    """A store in a PostgreSQL database.

    Args:
        url: as SQLAlchemy writes it, `postgresql+psycopg://…`, or a libpq URL.
        opener: opens what is sealed, for whoever reads; without one it is read as it stands, as writers do.

    """

    def __init__(self, url: str, *, opener: Opener | None = None) -> None:
        self._opener = opener
        self._url = url.replace("postgresql+psycopg://", "postgresql://", 1)
        self._writer: _PostgresSession | None = None
        self._reader: _PostgresSession | None = None
        self._reading = threading.Lock()

    @property
    def one_writer(self) -> bool:
        """See `Store`."""
        return False

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A write transaction, READ COMMITTED, in one pipeline."""
        with translated():
            if self._writer is None or self._writer.connection.closed:
                self._writer = _PostgresSession(self._connect())
            session = self._writer
            committing = False
            try:
                with session.connection.pipeline():
                    session.run("BEGIN ISOLATION LEVEL READ COMMITTED")
                    yield session
                    committing = True
                    session.run("COMMIT")
            except BaseException as error:
                lost = not _end(session.connection)
                if lost:
                    self._writer = None
                    # a server that closes the connection says so with an error of its own before or after the commit
                    if committing and isinstance(error, psycopg.OperationalError):
                        raise Uncertain from error
                raise

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A snapshot (REPEATABLE READ); readers of one process take turns."""
        with self._reading, translated():
            if self._reader is None or self._reader.connection.closed:
                self._reader = _PostgresSession(self._connect())
                self._reader.opener = self._opener
            session = self._reader
            session.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            try:
                yield session
            finally:
                if not _end(session.connection):
                    self._reader = None

    def flush(self) -> None:
        """See `Store`. Nothing to do: a commit is seen by others only once the server has it on the disk."""

    def close(self) -> None:
        """Close every connection."""
        with self._reading:
            for session in (self._reader, self._writer):
                if session is not None:
                    session.connection.close()
            self._reader = self._writer = None

    def _connect(self) -> psycopg.Connection[Row]:
        connection = psycopg.connect(
            self._url,
            autocommit=True,
            connect_timeout=_CONNECT_SECONDS,
            options=_OPTIONS,
            application_name="cryptosvc",
        )
        # a statement first prepared in a pipeline that is aborted would be taken for prepared ever after
        connection.prepare_threshold = None
        # a commit that is not on disk is no commit; anything stricter than `on` stays as the server has it
        connection.execute(
            "SELECT set_config('synchronous_commit', 'on', false) "
            "WHERE current_setting('synchronous_commit') IN ('off', 'local')"
        )
        return connection


class _PostgresSession(Session):
    def __init__(self, connection: psycopg.Connection[Row]) -> None:
        self.connection = connection

    def rows(self, sql: str, *values: Value) -> list[Row]:
        with self.connection.cursor(binary=True) as cursor:
            return cursor.execute(_spelt(sql), values).fetchall()

    def run(self, sql: str, *values: Value) -> None:
        self.connection.execute(_spelt(sql), values)

    def run_many(self, sql: str, rows: Sequence[Sequence[Value]]) -> None:
        with self.connection.cursor() as cursor:
            cursor.executemany(_spelt(sql), rows)

    def generation_shared(self) -> int:
        return self.number("SELECT generation FROM registry_state WHERE id = 1 FOR SHARE")

    def generation_exclusive(self) -> int:
        return self.number("SELECT generation FROM registry_state WHERE id = 1 FOR UPDATE")

    def head_to_move(self, expected: HeadRow | None) -> HeadRow | None:
        if expected is not None:
            return expected
        for row in self.rows("SELECT body, tag FROM head WHERE id = 1 FOR UPDATE"):
            return HeadRow(*cast("tuple[bytes, bytes]", row))
        return None

    def open_group(self, deadline: int, leaves: bytes, taken: bytes) -> int:
        return self.number(
            "INSERT INTO claim (deadline, leaves, taken) VALUES (?, ?, ?) RETURNING claim_batch",
            deadline,
            leaves,
            taken,
        )

    def taken(self, fingerprints: Sequence[int]) -> Iterable[tuple[int, int]]:
        with self.connection.cursor(binary=True) as cursor:
            found = cursor.execute(
                "SELECT fingerprint, claim_batch FROM taken WHERE fingerprint = ANY(%s::bigint[])",
                (list(fingerprints),),
            ).fetchall()
        return cast("list[tuple[int, int]]", found)

    def take(self, group: int, fingerprints: Sequence[int]) -> None:
        # in order, so that two nodes that take the same ones wait for each other instead of deadlocking
        self.connection.execute(
            "INSERT INTO taken (fingerprint, claim_batch) SELECT fingerprint, %s FROM unnest(%s::bigint[]) fingerprint",
            (group, sorted(fingerprints)),
        )

    def leaves_for_update(self, groups: Sequence[int]) -> dict[int, bytes]:
        with self.connection.cursor(binary=True) as cursor:
            found = cursor.execute(
                "SELECT claim_batch, leaves FROM claim WHERE claim_batch = ANY(%s::bigint[]) ORDER BY claim_batch FOR UPDATE",
                (list(groups),),
            ).fetchall()
        return dict(cast("list[tuple[int, bytes]]", found))

    def rise(self, fingerprint: int, before: bytes | None, number: bytes) -> None:
        if before is None:
            super().rise(fingerprint, before, number)
            return
        self._swap(
            "UPDATE rising SET number = %s WHERE fingerprint = %s AND number = %s",
            number,
            fingerprint,
            before,
        )

    def append(self, start: int, leaves: Sequence[Leaf]) -> None:
        self.connection.execute(
            "INSERT INTO leaf (leaf_index, entry, withheld) "
            "SELECT * FROM unnest(%b::bigint[], %b::bytea[], %b::bytea[])",
            (
                list(range(start, start + len(leaves))),
                [leaf.entry for leaf in leaves],
                [leaf.withheld for leaf in leaves],
            ),
        )

    def move_head(self, before: HeadRow, after: HeadRow) -> None:
        self._swap(
            "UPDATE head SET body = %s, tag = %s WHERE id = 1 AND tag = %s", after.body, after.tag, before.tag
        )

    def _swap(self, update: str, *values: Value) -> None:
        """Run an update that must change one row; inside a pipeline only an error can stop the COMMIT behind it."""
        self.connection.execute(
            f"WITH moved AS ({update} RETURNING 1) SELECT 1 / count(*) FROM moved",  # noqa: S608  # constants
            values,
        )


@functools.lru_cache(maxsize=256)
def _spelt(sql: str) -> str:
    return sql.replace("?", "%s")


def _end(connection: psycopg.Connection[Row]) -> bool:
    """Roll back what is open; False where the connection is lost (and closed)."""
    with suppress(psycopg.Error):
        if not connection.closed:
            connection.execute("ROLLBACK")
            return True
    connection.close()
    return False
