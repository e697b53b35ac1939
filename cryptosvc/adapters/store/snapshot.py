"""A store copied table by table: from a snapshot of a running one into a file, and from the file into an empty one.

The same rows, whichever engine they come from or go to. What is made from other rows is left out and made anew:
fingerprints (`taken` in PostgreSQL, `.index` beside SQLite) from the claims, the query index from the log.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import cast

from sqlalchemy import Table

from cryptosvc.adapters.store.schema import metadata
from cryptosvc.adapters.store.session import Row, Session, Store
from cryptosvc.adapters.store.taking import fingerprints_of
from cryptosvc.core.errors import WrongState

_TABLES: Mapping[str, Table] = {
    str(table.name): table for table in metadata.sorted_tables if table.name != "taken"
}
_AT_ONCE = 2048
_FINGERPRINTS = ("claim_batch", "taken")


def require_empty(store: Store) -> None:
    """Raise WrongState where a store holds anything: what is restored never meets what is there."""
    with store.reading() as session:
        filled = [name for name in _TABLES if session.rows(f"SELECT 1 FROM {name} LIMIT 1")]  # noqa: S608  # names of the schema
    if filled:
        raise WrongState(
            f"the store is not empty ({', '.join(filled)}); a restore writes into an empty one only. Move the old one "
            "aside, and name it with --replaces",
            rule="restore/not-empty",
            clause="G2.16",
            field="store.url",
        )


def copied(
    source: Session, target: Session, *, shared: bool, progress: Callable[[str, int], None]
) -> dict[str, int]:
    """Copy every row.

    Args:
        source: a snapshot.
        target: a write transaction on an empty store.
        shared: whether the target has a table of fingerprints, being PostgreSQL.
        progress: told the table and how many of its rows are copied.

    Returns:
        Table → rows.

    """
    rows: dict[str, int] = {}
    for name, table in _TABLES.items():
        columns = [column.name for column in table.columns]
        marks = ", ".join("?" * len(columns))
        insert = f"INSERT INTO {name} ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608  # names of the schema
        rows[name] = 0
        for some in _pages(source, table, columns):
            target.run_many(insert, some)
            if shared and name == "claim":
                _take(target, columns, some)
            rows[name] += len(some)
            progress(name, rows[name])
    if shared:
        target.rows(
            "SELECT setval(pg_get_serial_sequence('claim', 'claim_batch'), COALESCE(MAX(claim_batch), 0) + 1, false) FROM claim"
        )
    return rows


def _pages(source: Session, table: Table, columns: list[str]) -> Iterator[list[Row]]:
    """Rows in the order of their key, some at a time: whatever is held in memory stays small."""
    keys = [column.name for column in table.primary_key.columns]
    places = [columns.index(key) for key in keys]
    order, marks = ", ".join(keys), ", ".join("?" * len(keys))
    first = f"SELECT {', '.join(columns)} FROM {table.name} ORDER BY {order} LIMIT {_AT_ONCE}"  # noqa: S608  # names of the schema
    later = first.replace(" ORDER BY", f" WHERE ({order}) > ({marks}) ORDER BY")
    some = source.rows(first)
    while some:
        yield some
        last = some[-1]
        some = source.rows(later, *(last[place] for place in places))


def _take(target: Session, columns: list[str], some: list[Row]) -> None:
    number, taken = (columns.index(name) for name in _FINGERPRINTS)
    for row in some:
        target.take(cast("int", row[number]), fingerprints_of(cast("bytes", row[taken])))
