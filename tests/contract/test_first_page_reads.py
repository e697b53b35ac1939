"""A first page costs as many statements from a long log as from a short one, on both engines, whatever is asked."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest

from cryptosvc.adapters.store.engine import open_store
from cryptosvc.adapters.store.indexer import Indexer, index_store
from cryptosvc.adapters.store.postings import BLOCK
from cryptosvc.adapters.store.search import Searcher
from cryptosvc.adapters.store.session import Row, Session, Store, Value
from cryptosvc.core.case import Principal
from cryptosvc.core.names import UnixNanoseconds
from cryptosvc.core.query import Query
from cryptosvc.core.record import Observed
from tests.claims import caller_record
from tests.query_stand import SECOND, fill
from tests.store_stand import Stand, new_database, open_stand

SHORT, LONG, TAIL = 12 * BLOCK, 24 * BLOCK, 60
APART = 2200
"""Entries between two that name the same device: each is in a block and a tile of its own, further apart than those of a key."""
PAGE = 5
LATER = 2_000_000_000 * SECOND
"""After the genesis entry, whose time is the clock's."""
MOST = 30
"""Statements of any of these pages: those for head, index and time, one or two for each value, two for a handful; the tail
beside the index, and what of a block is before a stretch of time, are several handfuls."""


def logged(start: int, stop: int) -> list[Observed]:
    principal = Principal(caller=caller_record(), peer="ipv4:127.0.0.1:1")
    return [
        Observed(
            kind="explain",
            operation="explain",
            at=UnixNanoseconds(LATER + number * SECOND),
            time_quality="synchronised",
            principal=principal,
            facts={"key": f"k-{number % 2}", "rule": "rare" if number % 501 == 0 else "common"},
            withheld={"target": f"{stop}-{number % APART}"},
        )
        for number in range(start, stop)
    ]


class Counted:
    """A store whose statements are counted."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.statements = 0

    @contextmanager
    def reading(self) -> Iterator[Session]:
        with self._store.reading() as session:
            whole = type(session).rows

            def rows(sql: str, *values: Value) -> list[Row]:
                self.statements += 1
                return whole(session, sql, *values)

            session.rows = rows  # type: ignore[method-assign]  # that is how they are counted
            yield session

    def close(self) -> None:
        self._store.close()


@pytest.fixture(params=["sqlite", "postgres"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Stand, str]]:
    url = f"sqlite:///{tmp_path}/store.db"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_server").make_database()
    stand = await open_stand(new_database(url), tmp_path, first=True)
    yield stand, url
    await stand.ledger.close()


def questions(size: int) -> Iterator[tuple[str, Query]]:
    device = {"target": [f"{size}-77"]}
    middle = LATER + (size - 3 * BLOCK // 2) * SECOND
    for oldest_first in (False, True):
        end = "oldest" if oldest_first else "newest"
        for name, conditions in {
            "key": {"key": ["k-1"]},
            "caller": {"caller": [caller_record().caller_id]},
            "device": device,
            "key and device": {"key": ["k-0", "k-1"], **device},
            "rule": {"rule": ["rare"]},
            "never": {"key": ["absent"]},
        }.items():
            yield f"{name}, {end} first", Query.of(conditions, oldest_first=oldest_first)
        yield (
            f"time, {end} first",
            Query.of({}, start=middle, stop=middle + 20 * SECOND, oldest_first=oldest_first),
        )


async def statements(stand: Stand, url: str, size: int) -> dict[str, tuple[int, int]]:
    """By question: statements of its first page by a searcher just opened, and entries found."""
    found = {}
    for name, query in questions(size):
        log, index = Counted(open_store(url)), Counted(index_store(url))
        searcher = Searcher(cast("Store", log), cast("Store", index), stand.ledger.keeper)
        page = await searcher.page(query, None, PAGE)
        found[name] = log.statements + index.statements, len(page.entries)
        searcher.close()
    return found


async def test_a_longer_log_takes_no_more_statements(place: tuple[Stand, str]) -> None:
    stand, url = place
    indexer = Indexer(open_store(url), index_store(url))
    counts = []
    for start, size in ((1, SHORT), (SHORT + TAIL, LONG)):
        await fill(stand.ledger, logged(start, size + TAIL))
        while indexer.step(16):
            pass
        counts.append(await statements(stand, url, size + TAIL))
    indexer.close()
    short, long = counts
    assert {name: count for name, (_, count) in short.items()} == {
        name: 0 if name.startswith("never") else PAGE for name in short
    }
    assert {name: found for name, (_, found) in long.items()} == {
        name: found for name, (_, found) in short.items()
    }
    assert {name: count for name, (count, _) in long.items() if count > short[name][0]} == {}
    assert max(count for count, _ in long.values()) <= MOST
