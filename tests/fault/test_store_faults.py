"""The store fails at each step: known not done is said so, what may have been done is looked up, all recovers."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from cryptosvc.adapters.store.engine import migrate, missing_migrations, open_store
from cryptosvc.adapters.store.faults import Uncertain
from cryptosvc.adapters.store.session import Session
from cryptosvc.adapters.store.sqlite import SqliteStore
from cryptosvc.core.errors import Malformed, Unavailable
from cryptosvc.core.record import Claim
from tests.postgres import PostgresServer
from tests.store_stand import Stand, authorised, checked, new_database, observed, once, open_stand


async def claimed(stand: Stand, **how: object) -> Claim:
    (answer,) = await stand.ledger.claim([authorised(**how)])
    assert isinstance(answer, Claim), answer
    return answer


class Failing:
    """A SQLite store whose next write transaction fails before or after its commit."""

    one_writer = True

    def __init__(self, path: Path) -> None:
        self._store = SqliteStore(path)
        self.reading = self._store.reading
        self.flush = self._store.flush
        self.close = self._store.close
        self.next = ""

    @contextmanager
    def writing(self) -> Iterator[Session]:
        how, self.next = self.next, ""
        if how == "gone":
            raise Unavailable("gone", rule="store/unreachable")
        with self._store.writing() as session:
            yield session
            if how == "lost and not persisted":
                raise Uncertain
        if how == "failed but persisted":
            raise Uncertain


@pytest.fixture
async def failing(tmp_path: Path) -> tuple[Stand, Failing]:
    stand = await open_stand(new_database(f"sqlite:///{tmp_path}/store.db"), tmp_path, first=True)
    store = Failing(tmp_path / "store.db")
    stand.ledger._store = store
    stand.ledger.writer.worker = stand.ledger._care._worker = replace(stand.ledger.writer.worker, store=store)
    return stand, store


@pytest.mark.parametrize("how", ["gone", "lost and not persisted"])
async def test_a_claim_that_failed_took_nothing(failing: tuple[Stand, Failing], how: str) -> None:
    stand, store = failing
    store.next = how
    with pytest.raises(Unavailable):
        await stand.ledger.claim([authorised(request_id="r", promises=[once("c/1", b"x")])])
    await claimed(stand, request_id="r", promises=[once("c/1", b"y")])
    await stand.ledger.close()


async def test_a_claim_that_failed_but_persisted_is_found(failing: tuple[Stand, Failing]) -> None:
    stand, store = failing
    store.next = "failed but persisted"
    claim = await claimed(stand, request_id="r")
    (receipt,) = await stand.ledger.record([checked(claim)])
    assert receipt.leaf_index == 1
    await stand.ledger.close()


@pytest.mark.parametrize("how", ["gone", "lost and not persisted"])
async def test_a_record_that_failed_leaves_the_claim_open(failing: tuple[Stand, Failing], how: str) -> None:
    stand, store = failing
    claim = await claimed(stand)
    store.next = how
    with pytest.raises(Unavailable):
        await stand.ledger.record([checked(claim)])
    assert (await stand.ledger.head()).size == 1
    stand.clock.at = claim.deadline + 1
    assert await stand.ledger.maintain() == 1
    await stand.ledger.close()


async def test_a_record_that_failed_but_persisted_is_found(failing: tuple[Stand, Failing]) -> None:
    stand, store = failing
    claim = await claimed(stand)
    store.next = "failed but persisted"
    (receipt,) = await stand.ledger.record([checked(claim)])
    (following,) = await stand.ledger.record([observed()])
    assert (receipt.leaf_index, following.leaf_index) == (1, 2)
    stand.clock.at = claim.deadline + 1
    assert await stand.ledger.maintain() == 0
    await stand.ledger.close()


async def test_a_full_disk_refuses_and_recovers(tmp_path: Path) -> None:
    url = new_database(f"sqlite:///{tmp_path}/store.db")
    stand = await open_stand(url, tmp_path, first=True, max_pages=60)
    receipts = []

    async def fill() -> None:
        while True:
            receipts.extend(await stand.ledger.record([observed() for _ in range(20)]))

    with pytest.raises(Unavailable) as caught:
        await fill()
    assert caught.value.rule == "store/full"
    head = await stand.ledger.head()
    assert head.size == 1 + len(receipts)
    with pytest.raises(Unavailable) as caught:
        await fill()
    assert caught.value.rule == "store/full"
    session = stand.ledger._store._writer
    session.connection.execute("PRAGMA max_page_count = 10000")
    (receipt,) = await stand.ledger.record([observed()])
    assert receipt.leaf_index == head.size
    await stand.ledger.close()
    reopened = await open_stand(url, tmp_path)
    assert [orjson.loads(entry)["v"] for entry, _ in reopened.ledger.entries(0, head.size + 1)] == [1] * (
        head.size + 1
    )
    await reopened.ledger.close()


async def test_a_full_disk_at_claim_takes_nothing(tmp_path: Path) -> None:
    url = new_database(f"sqlite:///{tmp_path}/store.db")
    stand = await open_stand(url, tmp_path, first=True, max_pages=60)

    async def fill() -> None:
        while True:
            await stand.ledger.claim([authorised() for _ in range(20)])

    with pytest.raises(Unavailable):
        await fill()
    with pytest.raises(Unavailable) as caught:
        await stand.ledger.claim(
            [authorised(request_id=f"later-{at}", promises=[once(f"f/{at}", b"x")]) for at in range(60)]
        )
    assert caught.value.rule == "store/full"
    stand.ledger._store._writer.connection.execute("PRAGMA max_page_count = 10000")
    await claimed(stand, request_id="later-1", promises=[once("f/1", b"y")])
    await stand.ledger.close()


async def test_another_program_that_holds_the_database_delays_and_no_more(tmp_path: Path) -> None:
    stand = await open_stand(new_database(f"sqlite:///{tmp_path}/store.db"), tmp_path, first=True)
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waiting = asyncio.ensure_future(stand.ledger.record([observed()]))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    other.execute("ROLLBACK")
    other.close()
    assert (await waiting)[0].leaf_index == 1
    await stand.ledger.close()


async def test_the_index_is_rebuilt_where_it_is_lost(tmp_path: Path) -> None:
    url = new_database(f"sqlite:///{tmp_path}/store.db")
    stand = await open_stand(url, tmp_path, first=True)
    await claimed(stand, request_id="mine", promises=[once("i/1", b"x")])
    await stand.ledger.close()
    for damage in ("removed", "emptied", "of another boot"):
        index = tmp_path / "store.db.index"
        match damage:
            case "removed":
                index.unlink()
            case "emptied":
                index.write_bytes(b"")
            case _:
                octets = bytearray(index.read_bytes())
                octets[8:16] = bytes(8)
                octets[4096:] = bytes(len(octets) - 4096)
                index.write_bytes(octets)
        again = await open_stand(url, tmp_path)
        answers = await again.ledger.claim(
            [authorised(request_id="mine"), authorised(promises=[once("i/1", b"y")])]
        )
        assert [getattr(answer, "rule", "") for answer in answers] == [
            "request-id/repeated",
            "once/gbcs-counter",
        ]
        await again.ledger.close()


async def test_postgres_killed_and_back(mortal_postgres: PostgresServer, tmp_path: Path) -> None:
    stand = await open_stand(new_database(mortal_postgres.make_database()), tmp_path, first=True)
    claim = await claimed(stand, request_id="before")
    mortal_postgres.stop()
    for _ in range(2):
        with pytest.raises(Unavailable):
            await stand.ledger.claim([authorised(request_id="during")])
        with pytest.raises(Unavailable):
            await stand.ledger.record([checked(claim)])
        with pytest.raises(Unavailable):
            await stand.ledger.head()
    mortal_postgres.start()
    (receipt,) = await stand.ledger.record([checked(claim)])
    assert receipt.leaf_index == 1
    await claimed(stand, request_id="during")
    assert (await stand.ledger.head()).size == 2
    await stand.ledger.close()


async def test_a_store_without_tables_or_genesis_says_what_to_do(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    with pytest.raises(Unavailable, match="cryptosvc init") as caught:
        await open_stand(url, tmp_path)
    assert caught.value.rule == "store/absent"
    (tmp_path / "store.db").write_bytes(b"")
    with pytest.raises(Unavailable, match="cryptosvc init") as caught:
        await open_stand(url, tmp_path)
    assert caught.value.rule == "store/schema"
    assert missing_migrations(url) == ["0001", "0002", "0003", "0004"]
    migrate(url)
    migrate(url)
    assert missing_migrations(url) == []
    with pytest.raises(Unavailable, match="cryptosvc init") as caught:
        await open_stand(url, tmp_path)
    assert caught.value.rule == "store/not-initialised"


def test_only_two_kinds_of_store_are_known() -> None:
    with pytest.raises(Malformed):
        open_store("mysql://localhost/x")
