"""What a key was used for goes with it: out of the store it leaves, into the one it comes to, once and for ever."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from cryptosvc.adapters.store.moved_claims import SCOPES, MovedClaims
from cryptosvc.core import erased
from cryptosvc.core.content.base import Rising
from cryptosvc.core.errors import Conflict, Malformed
from cryptosvc.core.handover.claimed import Claimed, emit, parse
from cryptosvc.core.merkle import leaf_hash
from cryptosvc.core.names import KeyId
from cryptosvc.core.record import Claim
from cryptosvc.core.registry import KeyRecord
from cryptosvc.flow.transfer import Promises
from tests.fakes.promises import NOTHING, FakePromises
from tests.store_stand import KEY, Stand, authorised, checked, new_database, once, open_stand

MINE, OTHER = KEY, replace(KEY, key_id=KeyId("key-2"))
FOUND = Claimed(
    once=tuple((number * 7 + 1, bytes([number % 256]) * 20) for number in range(700)),
    rising=(("checkpoint-size", 5), ("crl-number", 2**158)),
    used=12,
)


def urls(request: pytest.FixtureRequest, tmp_path: Path, name: str) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/{name}.db"
    return str(request.getfixturevalue("postgres_server").make_database())


async def of_key(promises: Promises, key: KeyRecord) -> Claimed:
    """What one key's claims took; asked for with another's, which change nothing of it."""
    alone = await promises.of_keys([key.key_id])
    together = await promises.of_keys([MINE.key_id, OTHER.key_id, KeyId("key-3")])
    assert together[key.key_id] == alone[key.key_id]
    assert together[KeyId("key-3")] == NOTHING
    return alone[key.key_id]


@pytest.fixture(params=["fake", "sqlite", "postgres"])
async def promises(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Promises]:
    if request.param == "fake":
        yield FakePromises()
        return
    stand = await open_stand(new_database(urls(request, tmp_path, "store")), tmp_path, first=True)
    yield MovedClaims(stand.ledger)
    await stand.ledger.close()


@pytest.fixture(params=["sqlite", "postgres"])
async def two(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Stand, Stand]]:
    stands = []
    for name in ("source", "destination"):
        folder = tmp_path / name
        folder.mkdir()
        stands.append(await open_stand(new_database(urls(request, tmp_path, name)), folder, first=True))
    yield stands[0], stands[1]
    for stand in stands:
        await stand.ledger.close()


async def test_a_key_that_was_never_used_has_promised_nothing(promises: Promises) -> None:
    assert await of_key(promises, MINE) == NOTHING


async def test_what_was_taken_is_there_and_goes_on_from_there(promises: Promises) -> None:
    await promises.take(MINE.key_id, FOUND)
    assert await of_key(promises, MINE) == FOUND
    assert await of_key(promises, OTHER) == NOTHING


async def test_taken_again_after_an_interruption_it_is_there_once(promises: Promises) -> None:
    await promises.take(MINE.key_id, replace(FOUND, once=FOUND.once[:300]))
    await promises.take(MINE.key_id, FOUND)
    await promises.take(MINE.key_id, FOUND)
    assert await of_key(promises, MINE) == FOUND


async def test_a_number_never_goes_down(promises: Promises) -> None:
    await promises.take(MINE.key_id, FOUND)
    await promises.take(MINE.key_id, Claimed(once=(), rising=(("checkpoint-size", 4),), used=1))
    assert await of_key(promises, MINE) == FOUND


async def test_what_has_other_bytes_here_is_a_conflict(promises: Promises) -> None:
    await promises.take(MINE.key_id, FOUND)
    for other in (FOUND.once[0][0], FOUND.once[-1][0]):
        with pytest.raises(Conflict) as conflict:
            await promises.take(MINE.key_id, replace(FOUND, once=((other, b"x" * 20),)))
        assert (conflict.value.rule, conflict.value.clause) == ("transfer/claims", "G2.22G")
    assert await of_key(promises, MINE) == FOUND


async def used(stand: Stand, value: str, octets: bytes = b"x", *, key=MINE, ends: bool = True) -> object:
    """Claim (key, c, value) for these octets; the answer."""
    promised = [once(f"c/{value}", octets), Rising("crl-number", int(value))]
    (answer,) = await stand.ledger.claim([authorised(key=key, payload=octets, promises=promised)])
    if ends and isinstance(answer, Claim):
        await stand.ledger.record([checked(answer)])
    return answer


async def test_what_a_deleted_entry_took_goes_along_with_every_key(two: tuple[Stand, Stand]) -> None:
    source, destination = two
    for number in range(1, 6):
        assert isinstance(await used(source, str(number)), Claim)
        assert isinstance(await used(source, str(number), key=OTHER), Claim)
    mine, other = [await of_key(MovedClaims(source.ledger), key) for key in (MINE, OTHER)]
    with source.ledger.writer.worker.store.writing() as session:
        for index, (entry, _) in enumerate(session.leaves(0, 100)):
            if orjson.loads(entry)["kind"] == "use":
                session.run(
                    "UPDATE leaf SET entry = ?, withheld = ? WHERE leaf_index = ?",
                    erased.alone(leaf_hash(entry)),
                    b"",
                    index,
                )
    found = (await MovedClaims(source.ledger).of_keys([MINE.key_id]))[MINE.key_id]
    assert set(found.once) == {*mine.once, *other.once}
    assert (found.rising, found.used) == (mine.rising, mine.used)
    await MovedClaims(destination.ledger).take(MINE.key_id, parse(emit(found)))
    assert isinstance(await used(destination, "3", b"other bytes"), Conflict)
    assert isinstance(await used(destination, "9"), Claim)


async def test_what_was_used_at_the_source_is_refused_at_the_destination(two: tuple[Stand, Stand]) -> None:
    source, destination = two
    for number in range(1, 40):
        assert isinstance(await used(source, str(number), ends=number != 20), Claim)  # one is still open
        assert isinstance(await used(source, str(number), key=OTHER), Claim)
    found = await of_key(MovedClaims(source.ledger), MINE)
    assert (len(found.once), found.rising) == (39, (("crl-number", 39),))
    await MovedClaims(destination.ledger).take(MINE.key_id, parse(emit(found)))
    for number in (1, 20, 39):
        answer = await used(destination, str(number), b"other bytes")
        assert isinstance(answer, Conflict)
        assert answer.rule.startswith("once/")
    # the other key did not move; the number of a list has to rise from where it was
    assert isinstance(await used(destination, "5", b"other bytes", key=OTHER), Claim)
    (lower,) = await destination.ledger.claim([authorised(promises=[Rising("crl-number", 39)])])
    assert isinstance(lower, Conflict)
    assert lower.rule == "rising/crl-number"
    assert isinstance(await used(destination, "40"), Claim)
    # and it moves on with both
    onward = await of_key(MovedClaims(destination.ledger), MINE)
    assert (len(onward.once), onward.rising) == (40, (("crl-number", 40),))
    assert set(found.once) < set(onward.once)
    # the sweeper has nothing to do with what came from elsewhere
    assert await destination.ledger.maintain() == 0


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"{}",
        emit(FOUND)[:-1],
        emit(FOUND) + b"x",
        emit(FOUND) + emit(FOUND)[-28:],
        emit(FOUND).replace(b'"used":12', b'"used":-1'),
        emit(FOUND).replace(b'"v":1', b'"v":2'),
        emit(FOUND).replace(b'"number":"5"', b'"number":"05"'),
        emit(replace(FOUND, once=FOUND.once[::-1])),
        emit(replace(FOUND, once=((1 << 63, bytes(20)),))),
        emit(replace(FOUND, rising=FOUND.rising[::-1])),
    ],
    ids=range(11),
)
def test_only_what_is_printed_is_read(octets: bytes) -> None:
    assert parse(emit(FOUND)) == FOUND
    with pytest.raises(Malformed) as refusal:
        parse(octets)
    assert refusal.value.rule == "transfer/claims"


def test_every_scope_in_which_numbers_rise_is_known() -> None:
    contents = Path(__file__).parents[2] / "cryptosvc/core/content"
    promised = {
        line.partition('Rising("')[2].partition('"')[0]
        for path in contents.rglob("*.py")
        for line in path.read_text().splitlines()
        if 'Rising("' in line
    }
    assert promised == set(SCOPES)
