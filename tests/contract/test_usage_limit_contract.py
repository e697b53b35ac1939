"""A key with a usage limit: counted in the claim's own transaction, by the fake, SQLite and PostgreSQL alike."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from cryptosvc.core.errors import Unavailable, WrongState
from cryptosvc.core.life import Life
from cryptosvc.core.names import KeyId
from cryptosvc.core.record import Claim, Failed
from cryptosvc.core.registry import KeyRecord
from cryptosvc.flow.ports import Ledger
from tests.fakes.ledger import FakeLedger
from tests.store_stand import KEY, ORIGIN, SCOPE, SetClock, authorised, checked, new_database, open_stand

RULE = "lifecycle/usage-limit"


def limited(limit: int, version: int = 1) -> KeyRecord:
    return replace(KEY, version=version, life=Life(usage_limit=limit))


class Place:
    """Where a ledger's data are; `open` gives one more worker on them."""

    def __init__(self, kind: str, url: str, folder: Path) -> None:
        self.kind = kind
        self.url = url
        self.folder = folder
        self.clock = SetClock()
        self._fake = FakeLedger(ORIGIN, SCOPE, self.clock) if kind == "fake" else None
        self._opened: list[Ledger] = []

    async def open(self) -> Ledger:
        if self._fake is not None:
            return self._fake
        name = f"worker-{len(self._opened)}"
        folder = self.folder / name
        folder.mkdir()
        first = not self._opened
        stand = await open_stand(self.url, folder, first=first, clock=self.clock, worker=name)
        self._opened.append(stand.ledger)
        return stand.ledger

    async def close(self) -> None:
        for ledger in self._opened:
            await ledger.close()  # type: ignore[attr-defined]  # the adapter's


@pytest.fixture(params=["fake", "sqlite", "postgres"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    url = ""
    if request.param == "sqlite":
        url = new_database(f"sqlite:///{tmp_path}/store.db")
    elif request.param == "postgres":
        url = new_database(request.getfixturevalue("postgres_server").make_database())
    found = Place(request.param, url, tmp_path)
    yield found
    await found.close()


async def claim(ledger: Ledger, key: KeyRecord, count: int) -> tuple[list[Claim], list[WrongState]]:
    """Claims in one batch; what was claimed, and what was refused by the limit."""
    answers = await ledger.claim([authorised(key=key) for _ in range(count)])
    refused = [one for one in answers if isinstance(one, WrongState)]
    assert {one.rule for one in refused} <= {RULE}
    claimed = [one for one in answers if isinstance(one, Claim)]
    assert len(claimed) + len(refused) == count
    return claimed, refused


async def test_the_limit_is_reached_and_not_passed_in_one_batch_and_over_many(place: Place) -> None:
    ledger, key = await place.open(), limited(3)
    assert len((await claim(ledger, key, 2))[0]) == 2
    claimed, refused = await claim(ledger, key, 3)
    assert (len(claimed), len(refused)) == (1, 2)
    assert (refused[0].clause, refused[0].field) == ("G5.13(b)", "key_id")
    assert (await claim(ledger, key, 1))[0] == []
    assert len((await claim(ledger, replace(key, key_id=KeyId("another")), 3))[0]) == 3


async def test_a_key_without_a_limit_is_not_counted(place: Place) -> None:
    ledger = await place.open()
    assert len((await claim(ledger, KEY, 5))[0]) == 5
    assert len((await claim(ledger, limited(2), 5))[0]) == 2
    assert len((await claim(ledger, KEY, 5))[0]) == 5
    assert len((await claim(ledger, limited(4), 5))[0]) == 2


async def test_a_limit_of_nothing_allows_nothing(place: Place) -> None:
    claimed, refused = await claim(await place.open(), limited(0), 2)
    assert (len(claimed), len(refused)) == (0, 2)


async def test_what_is_foreseen_takes_nothing(place: Place) -> None:
    ledger, key = await place.open(), limited(1)
    for _ in range(2):
        assert list(await ledger.foresee([authorised(key=key)])) == [None]
    await claim(ledger, key, 1)
    (foreseen,) = await ledger.foresee([authorised(key=key)])
    assert isinstance(foreseen, WrongState)
    assert foreseen.rule == RULE


async def test_a_claim_counts_whatever_becomes_of_it(place: Place) -> None:
    ledger, key = await place.open(), limited(2)
    claimed, _ = await claim(ledger, key, 2)
    await ledger.record([Failed(claimed[0], Unavailable("gone", rule="hsm/gone")), checked(claimed[1])])
    assert (await claim(ledger, key, 1))[0] == []


async def test_used_up_is_a_key_whose_claims_are_all_closed(place: Place) -> None:
    ledger, key = await place.open(), limited(2)
    limits = {key.key_id: 2, KeyId("another"): 0, KeyId("third"): 1}
    first, _ = await claim(ledger, key, 1)
    assert await ledger.spent(limits) == {"another"}
    second, _ = await claim(ledger, key, 1)
    assert await ledger.spent(limits) == {"another"}
    await ledger.record([checked(first[0])])
    assert await ledger.spent(limits) == {"another"}
    await ledger.record([checked(second[0])])
    assert await ledger.spent(limits) == {"another", key.key_id}


async def test_the_count_outlives_whoever_counted(place: Place) -> None:
    key = limited(3)
    await claim(await place.open(), key, 2)
    assert len((await claim(await place.open(), key, 2))[0]) == 1
    assert (await claim(await place.open(), key, 2))[0] == []


async def test_workers_that_race_for_the_last_uses_get_exactly_those_there_are(place: Place) -> None:
    key, limit, workers, each = limited(25), 25, 4, 12
    ledgers = [await place.open() for _ in range(workers)]

    asked = [ledger.claim([authorised(key=key)]) for _ in range(each) for ledger in ledgers]
    flat = [answer for (answer,) in await asyncio.gather(*asked)]
    assert sum(isinstance(one, Claim) for one in flat) == limit
    assert {one.rule for one in flat if isinstance(one, WrongState)} == {RULE}
    assert sum(isinstance(one, WrongState) for one in flat) == workers * each - limit
