"""What the scheduler needs of a registry, and several of them at once: on the fake, SQLite and PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from cryptosvc.core.life import NANOSECONDS, Life, UnixSeconds
from cryptosvc.core.registry import KeyRecord, KeyState
from cryptosvc.flow.ports import Ledger, Records
from cryptosvc.flow.schedule import Scheduler
from tests.fakes.ledger import FakeKeys, FakeLedger
from tests.store_stand import CALLER, KEY, ORIGIN, SCOPE, SetClock, new_database, open_stand

NOW = 1_800_000_000
KEYS = 12
WORKERS = 3


def waiting(number: int) -> KeyRecord:
    """A key that becomes active by itself."""
    life = Life(activate_on=UnixSeconds(NOW + 10))
    return replace(KEY, key_id=f"key-{number:02}", state=KeyState.PRE_ACTIVATION, life=life)


@pytest.fixture(params=["fake", "sqlite", "postgres"])
async def workers(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[SetClock, list[tuple[Records, Ledger]]]]:
    clock = SetClock(NOW * NANOSECONDS)
    if request.param == "fake":
        ledger = FakeLedger(ORIGIN, SCOPE, clock)
        yield clock, [(FakeKeys(ledger), ledger)] * WORKERS
        return
    url = f"sqlite:///{tmp_path}/store.db"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_server").make_database()
    new_database(url)
    stands = []
    for number in range(WORKERS):
        folder = tmp_path / str(number)
        folder.mkdir()
        stands.append(await open_stand(url, folder, first=not number, clock=clock, worker=f"w{number}"))
    yield clock, [(stand.keys, stand.ledger) for stand in stands]
    for stand in stands:
        await stand.ledger.close()


Workers = tuple[SetClock, list[tuple[Records, Ledger]]]


async def test_what_changed_is_found_by_its_leaf_and_once(workers: Workers) -> None:
    (records, _), *_ = workers[1]
    await records.change([waiting(1), waiting(2)])
    await records.change([CALLER])
    found = await records.changed_after(-1, 10)
    assert [(one, leaf) for one, leaf in found] == [(waiting(1), 1), (waiting(2), 2), (CALLER, 3)]
    assert list(await records.changed_after(-1, 2)) == list(found[:2])
    assert list(await records.changed_after(2, 10)) == [(CALLER, 3)]
    assert list(await records.changed_after(3, 10)) == []
    changed = replace(waiting(1), version=2)
    await records.change([changed])
    assert list(await records.changed_after(3, 10)) == [(changed, 4)]
    assert [leaf for _, leaf in await records.changed_after(-1, 10)] == [2, 3, 4]


async def test_workers_that_write_down_the_same_write_it_once(workers: Workers) -> None:
    clock, places = workers
    records, ledger = places[0]
    await records.change([waiting(number) for number in range(KEYS)])
    schedulers = [Scheduler(*place, clock) for place in places]
    assert await asyncio.gather(*(one.turn() for one in schedulers)) == [0] * WORKERS
    size = (await ledger.head()).size
    clock.at += 20 * NANOSECONDS
    written = await asyncio.gather(*(one.turn() for one in schedulers))
    assert sum(written) == KEYS
    assert (await ledger.head()).size == size + KEYS
    assert await asyncio.gather(*(one.turn() for one in schedulers)) == [0] * WORKERS
    states = {one.state for one in await records.of_kind("key-record") if isinstance(one, KeyRecord)}
    assert states == {KeyState.ACTIVE}
