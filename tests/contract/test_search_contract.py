"""What every Search must hold to: the fake, SQLite and PostgreSQL, the index full, half full, absent or damaged."""

import random
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

from cryptosvc.adapters.store import postings
from cryptosvc.adapters.store.engine import open_store
from cryptosvc.adapters.store.indexer import SUFFIX, Indexer, index_store
from cryptosvc.adapters.store.ledger import Ledger as StoredLedger
from cryptosvc.adapters.store.postings import BLOCK
from cryptosvc.adapters.store.search import LOOKED_AT, Searcher
from cryptosvc.core import erased
from cryptosvc.core.entries import values_beside
from cryptosvc.core.errors import Corrupt, Malformed
from cryptosvc.core.merkle import leaf_hash
from cryptosvc.core.query import Cursor, Query
from cryptosvc.core.said import moment, said
from cryptosvc.flow.ports import Ledger, Search, StoredEntry
from tests.fakes.ledger import FakeLedger
from tests.fakes.search import FakeSearch
from tests.query_stand import BEGAN, KEYS, SECOND, TARGETS, answer, entries, fill, some_query
from tests.store_stand import ORIGIN, SCOPE, SetClock, new_database, open_stand

COUNT = 2 * BLOCK + 700
EDITS = {
    "entry": "UPDATE leaf SET entry = ? WHERE leaf_index = ?",
    "withheld": "UPDATE leaf SET withheld = ? WHERE leaf_index = ?",
}


@dataclass
class Subject:
    ledger: Ledger
    search: Search
    index: Callable[[int], object]
    url: str = ""


@pytest.fixture(params=["fake", "sqlite", "postgres"])
async def subject(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    if request.param == "fake":
        ledger = FakeLedger(ORIGIN, SCOPE, SetClock())
        yield Subject(ledger, FakeSearch(ledger), lambda _: None)
        return
    url = f"sqlite:///{tmp_path}/store.db"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_server").make_database()
    async for found in stored(new_database(url), tmp_path):
        yield found


@pytest.fixture
async def on_sqlite(tmp_path: Path) -> AsyncIterator[Subject]:
    async for found in stored(new_database(f"sqlite:///{tmp_path}/store.db"), tmp_path):
        yield found


async def stored(url: str, folder: Path) -> AsyncIterator[Subject]:
    stand = await open_stand(url, folder, first=True)
    searcher = Searcher(open_store(url), index_store(url), stand.ledger.keeper)
    indexer = Indexer(open_store(url), index_store(url))
    yield Subject(stand.ledger, searcher, indexer.step, url)
    searcher.close()
    indexer.close()
    await stand.ledger.close()


async def every_entry(ledger: Ledger) -> list[tuple[int, set[tuple[str, str]], int]]:
    """Index, what it says and when, of all entries."""
    size = (await ledger.head()).size
    if isinstance(ledger, FakeLedger):
        leaves = [(leaf.entry, leaf.withheld) for leaf in ledger.leaves]
    else:
        assert isinstance(ledger, StoredLedger)
        leaves = list(ledger.entries(0, size))
    found = []
    for index, (octets, withheld) in enumerate(leaves):
        entry = orjson.loads(octets)
        found.append((index, said(entry, values_beside(index, entry, withheld)), moment(entry)))
    return found


def by_hand(every: list[tuple[int, set[tuple[str, str]], int]], query: Query) -> list[int]:
    """The answer from looking at everything."""
    found = [index for index, pairs, at in every if query.answered_by(pairs, at)]
    return found if query.oldest_first else found[::-1]


def indexes(found: list[StoredEntry]) -> list[int]:
    return [one.leaf_index for one in found]


async def test_an_answer_is_what_looking_at_every_entry_finds(subject: Subject) -> None:
    await fill(subject.ledger, entries(COUNT))
    every = await every_entry(subject.ledger)
    chance = random.Random(7)
    empty = 0
    for blocks in (0, 1, 8):  # no index, a part, all whole blocks
        if blocks:
            subject.index(blocks)
        for _ in range(25):
            query = some_query(chance, COUNT)
            expected = by_hand(every, query)
            empty += not expected
            assert indexes(await answer(subject.search, query, chance.choice((30, 300, 3000)))) == expected, (
                query
            )
    assert empty < 60


async def test_the_first_page_is_the_newest_or_the_oldest(subject: Subject) -> None:
    await fill(subject.ledger, entries(COUNT))
    subject.index(8)
    newest = await subject.search.page(Query.of({"key": [KEYS[0]]}), None, 3)
    oldest = await subject.search.page(Query.of({"key": [KEYS[0]]}, oldest_first=True), None, 3)
    assert [one.leaf_index for one in newest.entries] == sorted(
        (one.leaf_index for one in newest.entries), reverse=True
    )
    assert newest.entries[0].leaf_index > COUNT - 20
    assert oldest.entries[0].leaf_index < 20
    assert newest.size == oldest.size == COUNT + 1


async def test_an_answer_does_not_grow_while_the_log_does(subject: Subject) -> None:
    await fill(subject.ledger, entries(600))
    for oldest_first in (False, True):
        query = Query.of({"key": [KEYS[0]]}, oldest_first=oldest_first)
        expected = indexes(await answer(subject.search, query))
        page = await subject.search.page(query, None, 10)
        await fill(subject.ledger, entries(900, seed=2))
        subject.index(8)
        found = list(page.entries)
        while page.cursor is not None:
            page = await subject.search.page(query, page.cursor, 100)
            found += page.entries
        assert indexes(found) == expected
        assert page.size < (await subject.ledger.head()).size


async def test_pages_of_one_entry_are_the_same_answer(subject: Subject) -> None:
    await fill(subject.ledger, entries(BLOCK + 90))
    subject.index(8)
    for query in (Query.of({"key": [KEYS[1]]}), Query.of({"key": [KEYS[1]]}, oldest_first=True)):
        assert await answer(subject.search, query, 1) == await answer(subject.search, query, 1000)


async def test_a_cursor_of_a_longer_log_is_refused(subject: Subject) -> None:
    query = Query.of({})
    for at in (0, 5, 10**6):
        with pytest.raises(Malformed) as caught:
            await subject.search.page(query, Cursor(query.digest, 10**6, at), 5)
        assert caught.value.rule == "query/cursor"


async def test_any_place_in_the_log_may_be_asked_from(subject: Subject) -> None:
    """A cursor somebody made up shows no more and no less than lies before it."""
    await fill(subject.ledger, entries(BLOCK + 300))
    subject.index(8)
    every = await every_entry(subject.ledger)
    for oldest_first in (False, True):
        query = Query.of({"key": [KEYS[1]]}, oldest_first=oldest_first)
        for size, at in ((len(every), 0), (len(every), 100), (BLOCK, BLOCK), (1000, 999), (5, 2), (0, 0)):
            page = await subject.search.page(query, Cursor(query.digest, size, at), 10**4)
            within = range(at, size) if oldest_first else range(at)
            assert indexes(list(page.entries)) == [i for i in by_hand(every, query) if i in within]


async def test_times_out_of_order_are_found(subject: Subject) -> None:
    items = entries(3 * BLOCK)
    await fill(subject.ledger, items)
    subject.index(8)
    every = await every_entry(subject.ledger)
    for start, stop in (
        (-40_000, -1),
        (-3600 * 10, 100),
        (BLOCK, BLOCK + 1),
        (3 * BLOCK - 5, 10**6),
        (10**6, 10**7),
    ):
        for oldest_first in (False, True):
            query = Query.of(
                {},
                start=BEGAN + start * SECOND // 10,
                stop=BEGAN + stop * SECOND // 10,
                oldest_first=oldest_first,
            )
            assert indexes(await answer(subject.search, query)) == by_hand(every, query)


@pytest.fixture(params=["sqlite", "postgres"])
async def indexed(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    url = f"sqlite:///{tmp_path}/store.db"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_server").make_database()
    async for found in stored(new_database(url), tmp_path):
        yield found


async def test_an_indexer_goes_on_where_another_stopped(indexed: Subject) -> None:
    await fill(indexed.ledger, entries(COUNT))
    first, second = (Indexer(open_store(indexed.url), index_store(indexed.url)) for _ in range(2))
    assert first.step(1) == 1
    assert second.step(8) == 1  # the last block is not whole yet
    assert first.step(8) == 0
    store = index_store(indexed.url)
    with store.reading() as session:
        state = postings.state(session)
    assert state is not None
    assert state.through == 2 * BLOCK
    store.close()
    first.close()
    second.close()


async def test_what_was_deleted_is_not_found_any_more(indexed: Subject) -> None:
    await fill(indexed.ledger, entries(BLOCK))
    indexed.index(8)
    query = Query.of({"target": [TARGETS[3]]})
    found = indexes(await answer(indexed.search, query))
    gone, left = found[0], found[1:]
    store = index_store(indexed.url)
    with store.writing() as session:
        postings.forget(session, gone, {("target", TARGETS[3]), ("target", "never there")})
    assert indexes(await answer(indexed.search, query)) == left
    with store.writing() as session:
        for one in left:
            postings.forget(session, one, {("target", TARGETS[3])})
        state = postings.state(session)
        assert state is not None
        term = postings.Terms(state.term_key).term(("target", TARGETS[3]))
        assert not session.rows("SELECT 1 FROM query_posting WHERE term = ?", term)
    store.close()
    assert await answer(indexed.search, query) == []
    assert gone in indexes(await answer(indexed.search, Query.of({"key": list(KEYS)})))


async def test_of_entries_that_were_deleted_only_who_asks_for_everything_gets_the_hashes(
    indexed: Subject,
) -> None:
    await fill(indexed.ledger, entries(2 * BLOCK + 50))
    assert isinstance(indexed.ledger, StoredLedger)
    whole = dict(enumerate(indexed.ledger.entries(0, 2 * BLOCK + 50)))
    gone = {*range(3, BLOCK + 7), 2 * BLOCK + 20}  # most of a block, some of the next, one past the index
    with closing(open_store(indexed.url)) as store, store.writing() as session:
        session.run_many(
            "UPDATE leaf SET entry = ?, withheld = ? WHERE leaf_index = ?",
            [(erased.alone(leaf_hash(whole[leaf][0])), b"", leaf) for leaf in sorted(gone)],
        )
    indexed.index(8)
    every = await answer(indexed.search, Query.of({}, oldest_first=True))
    assert [one.leaf_index for one in every] == list(range(len(every)))
    assert {one.leaf_index for one in every if erased.is_alone(one.entry)} == gone
    assert all(
        erased.hash_of(one.entry) == leaf_hash(whole[one.leaf_index][0])
        for one in every
        if one.leaf_index in whole
    )
    assert [one.leaf_index for one in await answer(indexed.search, Query.of({}))] == list(range(len(every)))[
        ::-1
    ]
    for query in (
        Query.of({"key": list(KEYS)}),
        Query.of({}, start=1),
        Query.of({}, stop=2**62, oldest_first=True),
        Query.of({"kind": ["explain", "refusal"]}, start=BEGAN),
    ):
        found = set(indexes(await answer(indexed.search, query)))
        assert len(found) > BLOCK // 2
        assert not found & gone
    # what an index still names that was begun before
    assert await answer(indexed.search, Query.of({"key": [KEYS[2]]})) == []


async def test_an_index_of_another_log_is_not_believed_and_begun_anew(indexed: Subject) -> None:
    await fill(indexed.ledger, entries(BLOCK + 5))
    indexed.index(8)
    store = index_store(indexed.url)
    query = Query.of({"key": [KEYS[2]]})
    assert len(await answer(indexed.search, query)) == 1
    with store.writing() as session:
        session.run("UPDATE query_state SET last = ?", bytes(32))
        session.run("DELETE FROM query_posting")
    assert len(await answer(indexed.search, query)) == 1
    indexed.index(8)
    with store.reading() as session:
        assert session.rows("SELECT 1 FROM query_posting")
    store.close()
    assert len(await answer(indexed.search, query)) == 1


async def test_a_damaged_index_slows_the_answer_and_does_not_change_it(
    on_sqlite: Subject, tmp_path: Path
) -> None:
    await fill(on_sqlite.ledger, entries(COUNT))
    on_sqlite.index(8)
    every = await every_entry(on_sqlite.ledger)
    query = Query.of({"key": [KEYS[1]]})
    on_sqlite.search.close()  # type: ignore[attr-defined]  # this one has it
    path = tmp_path / f"store.db{SUFFIX}"
    for extra in ("-wal", "-shm"):
        path.with_name(path.name + extra).unlink(missing_ok=True)
    path.write_bytes(b"not a database at all" * 1000)
    stand = on_sqlite.ledger
    searcher = Searcher(
        open_store(on_sqlite.url),
        open_store(f"sqlite:///{path}"),
        stand.keeper,  # type: ignore[attr-defined]  # the real one has it
    )
    on_sqlite.search = searcher
    assert indexes(await answer(searcher, query)) == by_hand(every, query)
    assert (await stand.head()).size == COUNT + 1  # and nobody distrusts the log for it


async def test_without_an_index_a_page_ends_when_it_looked_at_enough(on_sqlite: Subject) -> None:
    await fill(on_sqlite.ledger, entries(LOOKED_AT + 600))
    query = Query.of({"key": [KEYS[2]]})
    page = await on_sqlite.search.page(query, None, 5)
    assert page.entries == ()
    assert page.cursor is not None
    assert page.cursor.at == page.size - LOOKED_AT
    assert indexes(await answer(on_sqlite.search, query)) == [8]


@pytest.mark.parametrize("what", sorted(EDITS))
async def test_an_edited_entry_is_not_given_out(on_sqlite: Subject, tmp_path: Path, what: str) -> None:
    await fill(on_sqlite.ledger, entries(BLOCK + 5))
    on_sqlite.index(8)
    query = Query.of({"key": [KEYS[2]]})
    (found,) = await answer(on_sqlite.search, query)
    with sqlite3.connect(tmp_path / "store.db") as connection:
        octets = getattr(found, what).replace(b"90-B3", b"90-B4").replace(KEYS[2].encode(), b"k-0ther")
        connection.execute(EDITS[what], (octets, found.leaf_index))
    connection.close()
    with pytest.raises(Corrupt) as caught:
        await answer(on_sqlite.search, query)
    assert caught.value.rule == ("log/leaf-changed" if what == "entry" else "export/commitment")


def test_a_row_of_the_index_reads_back() -> None:
    chance = random.Random(3)
    for count in (0, 1, 2, 62, 63, 64, 65, 512, BLOCK):
        bitmap = sum(1 << number for number in chance.sample(range(BLOCK), count))
        assert postings.unpacked(postings.packed(bitmap)) == bitmap
        assert list(postings.numbers(bitmap)) == list(postings.numbers(bitmap, descending=True))[::-1]
