"""What every DeviceKeys must hold to: the fake, SQLite and PostgreSQL."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from cryptosvc.adapters.store.devices import StoredDeviceKeys
from cryptosvc.adapters.store.every_key import EveryKey
from cryptosvc.adapters.store.registry import StoredRegistry
from cryptosvc.core.content.base import Rising
from cryptosvc.core.device_keys import USED_KEY, DeviceKey, DeviceKeyName, RowState
from cryptosvc.core.device_work import stepped
from cryptosvc.core.errors import Conflict, Corrupt
from cryptosvc.core.names import KeyId
from cryptosvc.core.record import Claim
from cryptosvc.flow.ports import DeviceKeyChange, DeviceKeys, Ledger, Stale
from tests.device_rows import BINDING, EPOCH, WORK, row
from tests.fakes.device_keys import FakeDeviceKeys
from tests.fakes.ledger import FakeKeys, FakeLedger
from tests.store_stand import (
    CALLER,
    KEY,
    ORIGIN,
    SCOPE,
    SetClock,
    authorised,
    checked,
    new_database,
    open_stand,
)

Subject = tuple[Ledger, FakeKeys | StoredRegistry, DeviceKeys]


@pytest.fixture(params=["fake", "sqlite", "postgres"])
async def subject(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    records = [KEY, CALLER, EPOCH, BINDING, WORK]
    if request.param == "fake":
        ledger = FakeLedger(ORIGIN, SCOPE, SetClock())
        keys = FakeKeys(ledger)
        await keys.change(records)
        yield ledger, keys, FakeDeviceKeys(keys)
        return
    url = f"sqlite:///{tmp_path}/store.db"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_server").make_database()
    stand = await open_stand(new_database(url), tmp_path, first=True)
    await stand.keys.change(records)
    yield stand.ledger, stand.keys, StoredDeviceKeys(stand.ledger, stand.keys)
    await stand.ledger.close()


async def put(subject: Subject, rows: list[DeviceKey], *, removed: tuple[DeviceKeyName, ...] = ()) -> int:
    """One step of the work, at the generation of now; how many leaves it made."""
    _, keys, devices = subject
    work = await keys.record("device-work-record", "import-1")
    after = stepped(work, position=work.position + len(rows), accepted=work.accepted + len(rows))  # type: ignore[union-attr,arg-type]  # it is there
    change = DeviceKeyChange(rows, removed, after, await keys.generation())
    return len(await devices.change(change))


async def test_what_is_put_is_found_by_device_and_kind(subject: Subject) -> None:
    _, _, devices = subject
    rows = [row(number, kind=kind) for number in range(40) for kind in ("encryption", "authentication")]
    assert await put(subject, rows) == 2
    names = [DeviceKeyName(one.device, one.kind) for one in rows]
    absent = DeviceKeyName(row(99).device, "encryption")
    view = await devices.device_keys([*names, absent, replace(names[0], kind="master")])
    assert {name: key.row for name, key in view.keys.items()} == dict(zip(names, rows, strict=True))
    found = view.keys[names[0]]
    assert (found.key_id, found.key_class) == (str(names[0]), "smets1-encryption")
    assert (found.wrapping, found.binding, found.module) == (EPOCH, BINDING, EPOCH.module)
    assert await devices.device_keys(names) == await devices.device_keys(names)


async def test_a_version_is_found_by_its_number_and_the_current_one_without(subject: Subject) -> None:
    _, _, devices = subject
    first = row(1)
    await put(subject, [first])
    retired, second = replace(first, state=RowState.RETIRED), row(1, version=2)
    assert await put(subject, [retired, second]) == 2
    name = DeviceKeyName(first.device, "encryption")
    wanted = [name, replace(name, version=1), replace(name, version=2), replace(name, version=3)]
    view = await devices.device_keys(wanted)
    assert [view.keys[one].row for one in wanted[:3]] == [second, retired, second]
    assert wanted[3] not in view.keys
    _, rows = await devices.of_devices([first.device, row(7).device])
    assert rows == {first.device: [retired, second], row(7).device: []}


async def test_what_is_removed_is_gone_and_the_record_counts(subject: Subject) -> None:
    _, _, devices = subject
    assert await devices.store_record() is None
    rows = [row(number) for number in range(5)]
    await put(subject, rows)
    before = await devices.store_record()
    await put(subject, [], removed=(rows[2].name,))
    after = await devices.store_record()
    assert before is not None
    assert after is not None
    assert (before.keys, after.keys, after.version) == (5, 4, 2)
    assert before.needed == (("binding-1", 5), ("epoch-1", 5))
    assert after.needed == (("binding-1", 4), ("epoch-1", 4))
    assert before.root != after.root
    name = replace(rows[2].name, version=None)
    assert name not in (await devices.device_keys([name])).keys


async def test_a_step_is_two_leaves_that_name_its_work(subject: Subject) -> None:
    ledger, _, _ = subject
    await put(subject, [row(1)])
    size = (await ledger.head()).size
    found = [await ledger.entry(index) for index in range(size - 2, size)]
    entries = [orjson.loads(one.entry) for one in found if one is not None]
    assert [entry["kind"] for entry in entries] == ["device-work-record", "device-store-record"]
    assert all(entry["because"] == {"device-work": "import-1"} for entry in entries)
    assert await put(subject, []) == 1  # nothing but the position


async def test_a_step_decided_on_an_older_registry_is_not_made(subject: Subject) -> None:
    _, keys, devices = subject
    generation = await keys.generation()
    change = DeviceKeyChange([row(1)], (), stepped(WORK, position=1, accepted=1), generation)
    await devices.change(change)
    for moved in (change, replace(change, at_generation=generation + 1)):
        with pytest.raises(Conflict):
            await devices.change(moved)
    found = await devices.store_record()
    assert found is not None
    assert found.keys == 1


async def test_a_claim_that_was_judged_before_a_step_is_stale(subject: Subject) -> None:
    ledger, keys, _ = subject
    generation = await keys.generation()
    (taken,) = await ledger.claim([authorised(generation=generation)])
    assert isinstance(taken, Claim)
    await put(subject, [row(1)])
    (stale,) = await ledger.claim([authorised(generation=generation)])
    assert isinstance(stale, Stale)


async def test_a_counter_rises_for_the_key_by_whichever_name_it_is_asked(subject: Subject) -> None:
    ledger, keys, devices = subject
    await put(subject, [row(1), replace(row(1, version=2), state=RowState.NEXT), row(2)])
    by_kind = DeviceKeyName(row(1).device, "encryption")
    names = [by_kind, replace(by_kind, version=1), replace(by_kind, version=2), row(2).name]
    view = await devices.device_keys(names)

    async def claimed(name: DeviceKeyName, number: int) -> bool:
        wanted = authorised(
            generation=await keys.generation(), key=view.keys[name], promises=(Rising("a-counter", number),)
        )
        (answer,) = await ledger.claim([wanted])
        assert isinstance(answer, Claim | Conflict)
        return isinstance(answer, Claim)

    assert await claimed(names[0], 7)
    assert [await claimed(names[1], number) for number in (6, 7, 8)] == [False, False, True]
    assert [await claimed(names[0], number) for number in (8, 9)] == [False, True]
    # another version and another Device count for themselves
    assert await claimed(names[2], 1)
    assert await claimed(names[3], 1)


async def test_pages_go_through_every_device_once_and_whole(subject: Subject) -> None:
    _, _, devices = subject
    rows = [
        row(number, kind=kind) for number in range(9) for kind in ("authentication", "encryption", "master")
    ]
    await put(subject, rows)
    seen: list[DeviceKey] = []
    after = None
    while True:
        _, some = await devices.page(after, 7)
        if not some:
            break
        assert len(some) in (6, 3)
        seen += [key.row for key in some]
        after = seen[-1].device
    assert seen == rows
    _, one = await devices.page(None, 2)
    assert [key.row for key in one] == rows[:3]
    assert one[0].key_id == KeyId(str(rows[0].name))


async def test_device_keys_are_found_among_all_keys_and_claimed_like_them(
    tmp_path: Path,
) -> None:
    stand = await open_stand(new_database(f"sqlite:///{tmp_path}/store.db"), tmp_path, first=True)
    await stand.keys.change([KEY, CALLER, EPOCH, BINDING, WORK])
    devices = StoredDeviceKeys(stand.ledger, stand.keys)
    one = row(1)
    work = stepped(WORK, position=1, accepted=1)
    await devices.change(DeviceKeyChange([one], (), work, await stand.keys.generation()))
    key_id = KeyId(str(replace(one.name, version=None)))
    broken = KeyId(f"{one.device}.No Kind")
    view = await EveryKey(stand.keys, devices).keys([KEY.key_id, key_id, broken, KeyId("nobody")])
    assert set(view.keys) == {KEY.key_id, key_id}
    key = view.keys[key_id]
    (claimed,) = await stand.ledger.claim([authorised(generation=view.generation, key=key)])
    assert isinstance(claimed, Claim)
    (receipt,) = await stand.ledger.record([checked(claimed)])
    stored = await stand.ledger.entry(receipt.leaf_index)
    assert stored is not None
    entry = orjson.loads(stored.entry)
    assert (entry["key"], entry["key_version"], entry["key_class"]) == (USED_KEY, 1, "smets1-encryption")
    assert orjson.loads(stored.withheld)["device_key"][1] == str(one.name)
    # an epoch that is edited by hand is found when the key is next claimed
    with closing(sqlite3.connect(tmp_path / "store.db")) as connection, connection:
        connection.execute("UPDATE record SET version = 2 WHERE record_id = 'epoch-1'")
    with pytest.raises(Corrupt):
        await stand.ledger.claim([authorised(generation=view.generation, key=key)])
    await stand.ledger.close()
