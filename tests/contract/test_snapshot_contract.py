"""A store copied into a file and out of it again: the same log, records and claims, whichever engines stand at the ends."""

from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from cryptosvc.adapters.store import snapshot
from cryptosvc.adapters.store.engine import migrate, open_store
from cryptosvc.core.content.base import Rising
from cryptosvc.core.errors import Conflict, WrongState
from cryptosvc.core.record import Claim
from tests.store_stand import (
    CALLER,
    KEY,
    SetClock,
    Stand,
    authorised,
    checked,
    new_database,
    observed,
    once,
    open_stand,
)


def url_of(engine: str, request: pytest.FixtureRequest, folder: Path, name: str) -> str:
    if engine == "postgres":
        return str(request.getfixturevalue("postgres_server").make_database())
    return f"sqlite:///{folder / name}"


@pytest.fixture
async def begun(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Stand, str]]:
    """A store that has claimed and recorded, with a claim still open, and a tile."""
    url = new_database(url_of(getattr(request, "param", "sqlite"), request, tmp_path, "store.db"))
    stand = await open_stand(url, tmp_path, first=True, clock=SetClock(2**60))
    await stand.keys.change([KEY, CALLER])
    promises = [
        [once("device-1/7", b"a")],
        [Rising("crl-number", 5)],
        [],
    ]
    claims = await stand.ledger.claim(
        [authorised(generation=1, request_id=f"q-{n}", promises=one) for n, one in enumerate(promises)]
    )
    await stand.ledger.record([checked(one) for one in claims[:2] if isinstance(one, Claim)])
    await stand.ledger.record([observed() for _ in range(300)])
    yield stand, url
    await stand.ledger.close()


def copy(source: str, target: str) -> dict[str, int]:
    migrate(target)
    told: list[str] = []
    with closing(open_store(source)) as one, closing(open_store(target)) as other:
        snapshot.require_empty(other)
        with one.reading() as session, other.writing() as into:
            rows = snapshot.copied(
                session, into, shared=not other.one_writer, progress=lambda table, _: told.append(table)
            )
        with pytest.raises(WrongState) as refused:
            snapshot.require_empty(other)
    assert refused.value.rule == "restore/not-empty"
    assert "leaf" in told
    return rows


async def refuses(stand: Stand, generation: int, request_id: str, promise: object) -> str:
    (answer,) = await stand.ledger.claim(
        [authorised(generation=generation, request_id=request_id, promises=[promise])]  # type: ignore[list-item]  # a promise
    )
    assert isinstance(answer, Conflict), answer
    return answer.rule


@pytest.mark.parametrize("begun", ["sqlite", "postgres"], indirect=True)
@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
async def test_what_is_copied_twice_is_the_same_store(
    begun: tuple[Stand, str], engine: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    stand, url = begun
    before = await stand.ledger.head()
    rows = copy(url, f"sqlite:///{tmp_path}/snapshot.db")
    assert (rows["leaf"], rows["record"], rows["tile"], "taken" in rows) == (before.size, 2, 1, False)
    # the snapshot is of a moment: what comes after is not in it
    await stand.ledger.record([observed()])
    other = url_of(engine, request, tmp_path, "other.db")
    assert copy(f"sqlite:///{tmp_path}/snapshot.db", other) == rows
    again = await open_stand(other, tmp_path, anchored=False, clock=SetClock(2**60))
    try:
        assert await again.ledger.head() == before
        generation = await again.keys.generation()
        # what was taken is taken, request ids too
        assert await refuses(again, generation, "q-7", once("device-1/7", b"b")) == "once/gbcs-counter"
        assert await refuses(again, generation, "q-8", Rising("crl-number", 5)) == "rising/crl-number"
        assert await refuses(again, generation, "q-0", once("device-1/9", b"b")) == "request-id/repeated"
        # and the next claim gets a group of its own, and is swept with the open one once its time has come
        (claim,) = await again.ledger.claim([authorised(generation=generation)])
        assert isinstance(claim, Claim)
        await again.ledger.record([checked(claim)])
        again.clock.at += 120 * 10**9
        assert await again.ledger.maintain() == 1
        assert (await again.ledger.head()).size == before.size + 2
    finally:
        await again.ledger.close()
