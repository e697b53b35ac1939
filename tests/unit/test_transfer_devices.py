"""Acts of a transfer that moves storage keys, and with them every device key: what is asked of either side."""

from dataclasses import replace
from typing import Any, cast

import pytest

from cryptosvc.core.acts.transfer_devices import rows_of
from cryptosvc.core.canonical import canonical
from cryptosvc.core.device_records import (
    DeviceWorkRecord,
    WorkKind,
    WorkState,
)
from cryptosvc.core.errors import Corrupt, Forbidden, Malformed, Unavailable
from cryptosvc.core.handover import beside, chunks, notices
from cryptosvc.core.handover.beside import Blob
from cryptosvc.core.handover.chunks import Travelling
from cryptosvc.core.handover.notices import Freight
from cryptosvc.core.names import Environment, UnixNanoseconds
from cryptosvc.core.registry import KeyState, Record
from cryptosvc.core.transfer import papers
from cryptosvc.core.transfer.proof import Proof, answer_of_work, challenge_of, check_value, require_proven
from cryptosvc.flow.ports import Instant
from cryptosvc.flow.transfer import Movers
from tests.device_rows import row
from tests.transfers import FREIGHT, KEYS, ROWS, STORAGE, TRANSFER, Pair, filled, two_ends


async def two_stores() -> Pair:
    pair = await two_ends(STORAGE)
    await filled(pair, *STORAGE)
    return pair


def work(records: dict[tuple[str, str], Record], kind: WorkKind) -> DeviceWorkRecord | None:
    found = records.get(("device-work-record", f"{kind.value}-{TRANSFER}"))
    assert found is None or isinstance(found, DeviceWorkRecord)
    return found


async def test_works_follow_from_the_import_and_from_the_disposition() -> None:
    pair = await (await two_stores()).exported()
    assert rows_of(pair.source.record) == ROWS
    package = pair.package(freight=FREIGHT)
    await pair.destination.carry("import", **pair.importing(package))
    received = work(pair.destination.stand.ledger.records, WorkKind.RECEIVE)
    assert received is not None
    assert (received.state, received.subject, received.keys) == (WorkState.APPROVED, FREIGHT.last, ROWS)
    assert received.system == pair.destination.stand.setting.system
    for rows in (0, ROWS - 1):
        with pytest.raises(Forbidden) as refused:
            await pair.source.carry("receipt", **pair.receiving(pair.receipt(rows=rows)))
        assert refused.value.rule == "transfer/devices"
    await pair.source.carry("receipt", **pair.receiving(pair.receipt(rows=ROWS)))
    assert work(pair.source.stand.ledger.records, WorkKind.RELEASE) is None
    await pair.source.carry("dispose", scope=pair.scope())
    released = work(pair.source.stand.ledger.records, WorkKind.RELEASE)
    assert released is not None
    assert (released.state, released.subject, released.keys) == (WorkState.APPROVED, TRANSFER, ROWS)
    assert {pair.source.stand.key(name).state for name in STORAGE} == {KeyState.DESTROYED}
    for end in (pair.source, pair.destination):
        end.stand.replay()


async def test_storage_keys_without_device_keys_move_like_others() -> None:
    pair = await (await two_ends(STORAGE)).receipted()
    await pair.source.carry("dispose", scope=pair.scope())
    for end in (pair.source, pair.destination):
        assert not [name for name in end.stand.ledger.records if name[0] == "device-work-record"]
        end.stand.replay()


async def test_device_keys_move_all_together() -> None:
    pair = await two_ends(STORAGE)
    await filled(pair, "epoch-0", *STORAGE)
    with pytest.raises(Forbidden) as refused:
        await pair.exported()
    assert refused.value.rule == "transfer/devices"
    assert "epoch-0" in refused.value.message
    assert {pair.source.stand.key(name).state for name in STORAGE} == {KeyState.ACTIVE}


async def test_other_keys_move_beside_a_store_of_device_keys() -> None:
    pair = await two_ends(KEYS)
    await filled(pair, "epoch-0", "binding-0")
    await pair.exported()
    assert rows_of(pair.source.record) == 0


async def test_a_storage_key_that_moved_is_destroyed_not_deactivated() -> None:
    pair = await (await two_stores()).offered()
    with pytest.raises(Forbidden) as refused:
        await pair.source.carry("propose", **pair.proposal(pair.plan(disposition=papers.DEACTIVATE)))
    assert refused.value.rule == "transfer/devices"


async def test_a_package_with_device_keys_has_their_storage_keys() -> None:
    pair = await (await two_ends(KEYS)).exported()
    with pytest.raises(Forbidden) as refused:
        await pair.destination.carry("import", **pair.importing(pair.package(freight=FREIGHT)))
    assert refused.value.rule == "transfer/devices"


async def test_a_symmetric_key_that_is_another_is_refused() -> None:
    pair = await (await two_stores()).exported()
    (one, two) = notices.package_from_document(document_of(pair.package())).keys
    swapped = (replace(one, check=two.check), replace(two, check=one.check))
    with pytest.raises(Forbidden) as refused:
        await pair.destination.carry("import", **pair.importing(pair.package(keys=swapped)))
    assert refused.value.rule == "transfer/not-proven"


def document_of(envelope: bytes) -> dict:
    import orjson

    from cryptosvc.core import dsse

    return orjson.loads(dsse.parse(envelope).payload)


def test_a_check_value_commits_to_the_answer() -> None:
    challenge = bytes(range(32))
    answer = answer_of_work(TRANSFER, "epoch-1", b"what came out")
    check = check_value(challenge, answer)
    assert challenge_of(check) == challenge
    proof = Proof("epoch-1", challenge, answer)
    require_proven(proof, TRANSFER, "storage-wrapping", b"", check)
    for other, point, said in (
        (replace(proof, answer=answer[::-1]), b"", check),
        (replace(proof, challenge=bytes(32)), b"", check),
        (proof, b"", ""),
        (proof, b"\x04" * 65, check),
        (proof, b"", check_value(challenge, b"")),
    ):
        with pytest.raises(Forbidden) as refused:
            require_proven(other, TRANSFER, "storage-wrapping", point, said)
        assert refused.value.rule == "transfer/not-proven"
    for none in ("", "zz", "00:11"):
        with pytest.raises(Forbidden):
            challenge_of(none)


def travelling() -> list[Travelling]:
    return [Travelling(row(1), 0), Travelling(row(2), 17)]


def test_a_part_is_read_exactly_as_it_is_printed() -> None:
    octets = chunks.emit(TRANSFER, 2, "cd" * 32, travelling())
    assert chunks.parse(octets, TRANSFER, 2) == ("cd" * 32, travelling())
    twice = chunks.emit(TRANSFER, 2, "", [travelling()[0], travelling()[0]])
    for wrong in (
        b"",
        octets[:-1],
        octets + b"\n",
        octets.replace(b'"17"', b'"017"'),
        octets.replace(b'"17"', b'"-17"'),
        octets.replace(b'"rows":2', b'"rows":3'),
        octets.replace(b'"v":1', b'"v":2', 1),
        b"\n".join([octets.split(b"\n")[i] for i in (0, 2, 1, 3)]),
        twice,
    ):
        with pytest.raises(Malformed) as refused:
            chunks.parse(wrong, TRANSFER, 2)
        assert refused.value.rule == "transfer/chunk"
    for transfer, number in (("move-2", 2), (TRANSFER, 1)):
        with pytest.raises(Malformed):
            chunks.parse(octets, transfer, number)


async def test_what_lies_beside_a_package_is_held_to_it() -> None:
    pair = await (await two_stores()).exported()
    parts = [chunks.emit(TRANSFER, 1, "", travelling())]
    parts.append(chunks.emit(TRANSFER, 2, chunks.digest_of(parts[0]), [Travelling(row(3), 0)]))
    freight = Freight(rows=ROWS, chunks=2, last=chunks.digest_of(parts[1]))
    package = notices.package_from_document(document_of(pair.package(freight=freight)))
    blobs = {
        chunks.name_of(number): Blob(chunks.digest_of(octets), octets.split(b"\n")[0])
        for number, octets in enumerate(parts, 1)
    }
    first, second = beside.require(package, blobs)
    assert "0 of 5 blobs" in first
    assert "3 device keys in 2 parts" in second
    (_, missing) = beside.require(package, {name: blobs[name] for name in list(blobs)[1:]})
    assert "part 1 of 2 is not at hand" in missing
    exchanged = {**blobs, chunks.name_of(1): blobs[chunks.name_of(2)]}
    other = Blob("00" * 32, b"")
    for wrong in (
        exchanged,
        {**blobs, beside.CARRIER: other},
        {**blobs, beside.claims_name("epoch-1"): other},
    ):
        with pytest.raises(Corrupt) as refused:
            list(beside.require(package, wrong))
        assert refused.value.rule == "transfer/blob"
    taken = {f"claims:{one.record.key_id}": one.claims for one in package.keys}
    beside.require_taken(package, taken)
    with pytest.raises(Corrupt):
        beside.require_taken(package, {**taken, "claims:epoch-1": "00"})
    assert canonical(notices.package_document(package)) == canonical(
        document_of(pair.package(freight=freight))
    )


@pytest.mark.parametrize("step", ["export", "receive"])
@pytest.mark.parametrize("quality", ["unsynchronised", "synchronised", None])
async def test_in_live_nothing_moves_by_a_clock_that_nobody_vouches_for(
    step: str, quality: str | None
) -> None:
    class Reached(Exception):
        pass

    class Hand(dict):  # the records: whoever looks at them has passed the clock
        def get(self, *_: object) -> None:
            raise Reached

    class Told:
        def now(self) -> Instant:
            return Instant(UnixNanoseconds(0), str(quality))

    nothing = cast("Any", None)
    clock = None if quality is None else Told()
    pair = await (await two_ends(KEYS)).exported()
    statement = pair.destination.stand.statement("transfer.import", TRANSFER, **pair.importing())
    for environment in (Environment.LIVE, Environment.TEST):
        movers = Movers(nothing, nothing, nothing, nothing, environment, None, clock)
        passes = environment is Environment.TEST or quality == "synchronised"
        with pytest.raises(Reached if passes else Unavailable) as refused:
            await getattr(movers, step)(statement, Hand())
        if not passes:
            assert refused.value.rule == "transfer/clock"
