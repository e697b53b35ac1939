"""A database administrator edits, moves, removes and puts back device keys: each is found before a key is used."""

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from cryptosvc.adapters.store.devices import StoredDeviceKeys
from cryptosvc.core.device_keys import DeviceKeyName, RowState
from cryptosvc.core.device_work import stepped
from cryptosvc.core.errors import Corrupt
from cryptosvc.flow.ports import DeviceKeyChange
from tests.device_rows import BINDING, EPOCH, WORK, row
from tests.store_stand import Stand, new_database, open_stand

ROWS = [row(number, kind=kind) for number in range(30) for kind in ("encryption", "authentication")]
NAME = DeviceKeyName(ROWS[0].device, "encryption")
Edit = Callable[[sqlite3.Connection], object]


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    opened = await open_stand(new_database(f"sqlite:///{tmp_path}/store.db"), tmp_path, first=True)
    await opened.keys.change([EPOCH, BINDING, WORK])
    devices = StoredDeviceKeys(opened.ledger, opened.keys)
    work = stepped(WORK, position=len(ROWS), accepted=len(ROWS))
    await devices.change(DeviceKeyChange(ROWS, (), work, await opened.keys.generation()))
    yield opened
    await opened.ledger.close()


def edited(folder: Path, *edits: str) -> None:
    with closing(sqlite3.connect(folder / "store.db")) as connection, connection:
        for edit in edits:
            assert connection.execute(spelt(edit)).rowcount > 0, edit


def spelt(edit: str) -> str:
    for word, stands_for in (("MINE", MINE), ("THEIRS", THEIRS), ("DEVICE", DEVICE)):
        edit = edit.replace(word, stands_for)
    return edit


DEVICE = f"device = x'{ROWS[0].device.octets.hex()}'"
MINE = f"{DEVICE} AND kind = 'encryption'"
THEIRS = f"device = x'{ROWS[2].device.octets.hex()}' AND kind = 'encryption'"


SWAPPED = """UPDATE device_key SET (blob, tag, check_value) =
    (SELECT blob, tag, check_value FROM device_key WHERE THEIRS) WHERE MINE"""
ADDED = """INSERT INTO device_key SELECT device, 'master', 1, state, system, manufacturer, model, firmware, wrapping,
    binding, check_value, blob, work, tag FROM device_key WHERE MINE"""


@pytest.mark.parametrize(
    "edits",
    [
        ["UPDATE device_key SET blob = (SELECT blob FROM device_key WHERE THEIRS) WHERE MINE"],
        [SWAPPED],
        ["UPDATE device_key SET state = 'retired' WHERE MINE"],
        ["UPDATE device_key SET state = 'no-such-state' WHERE MINE"],
        ["UPDATE device_key SET firmware = 'another category' WHERE MINE"],
        ["UPDATE device_key SET wrapping = 'epoch-0' WHERE MINE"],
        ["UPDATE device_key SET version = 2 WHERE MINE"],
        ["DELETE FROM device_key WHERE MINE"],
        ["DELETE FROM device_key WHERE DEVICE"],
        ["DELETE FROM device_key WHERE DEVICE", "DELETE FROM device_bucket"],
        ["DELETE FROM device_bucket"],
        ["DELETE FROM device_node"],
        ["DELETE FROM device_key", "DELETE FROM device_bucket", "DELETE FROM device_node"],
        ["UPDATE device_bucket SET members = CAST(members || x'00' AS BLOB)"],
        [ADDED],
    ],
)
async def test_an_edited_store_gives_no_key_and_takes_none(
    stand: Stand, tmp_path: Path, edits: list[str]
) -> None:
    edited(tmp_path, *edits)
    devices = StoredDeviceKeys(stand.ledger, stand.keys)
    with pytest.raises(Corrupt):
        await devices.device_keys([NAME])
    # and the ledger, which met it, trusts nothing more
    work = stepped(WORK, position=len(ROWS) + 1, accepted=len(ROWS) + 1)
    work = replace(work, version=3)
    with pytest.raises(Corrupt):
        await devices.change(DeviceKeyChange([row(99)], (), work, 0))


async def test_an_old_state_put_back_whole_is_found(stand: Stand, tmp_path: Path) -> None:
    tables = ("device_key", "device_bucket", "device_node")
    with closing(sqlite3.connect(tmp_path / "store.db")) as connection, connection:
        for table in tables:
            connection.execute("CREATE TABLE old_WHICH AS SELECT * FROM WHICH".replace("WHICH", table))
    devices = StoredDeviceKeys(stand.ledger, stand.keys)
    work = stepped(stepped(WORK, position=60, accepted=60), position=61, accepted=61)
    gone = DeviceKeyChange([], (ROWS[0].name,), work, await stand.keys.generation())
    await devices.change(gone)
    assert not (await devices.device_keys([NAME])).keys
    with closing(sqlite3.connect(tmp_path / "store.db")) as connection, connection:
        for table in tables:
            connection.execute("DELETE FROM WHICH".replace("WHICH", table))
            connection.execute("INSERT INTO WHICH SELECT * FROM old_WHICH".replace("WHICH", table))
    with pytest.raises(Corrupt):
        await StoredDeviceKeys(stand.ledger, stand.keys).device_keys([NAME])


async def test_what_is_built_on_an_edited_row_is_refused(stand: Stand, tmp_path: Path) -> None:
    edited(tmp_path, "UPDATE device_key SET blob = zeroblob(24) WHERE MINE")
    devices = StoredDeviceKeys(stand.ledger, stand.keys)
    retired = replace(ROWS[0], state=RowState.RETIRED)
    work = stepped(stepped(WORK, position=60, accepted=60), position=61, accepted=61)
    with pytest.raises(Corrupt) as refusal:
        await devices.change(DeviceKeyChange([retired], (), work, await stand.keys.generation()))
    assert refusal.value.rule == "device-key/not-in-log"


async def test_an_edited_count_of_what_needs_an_epoch_is_found(stand: Stand, tmp_path: Path) -> None:
    edited(
        tmp_path,
        "UPDATE record SET document = replace(document, '\"keys\":60', '\"keys\":61')"
        " WHERE kind = 'device-store-record'",
    )
    with pytest.raises(Corrupt):
        await StoredDeviceKeys(stand.ledger, stand.keys).store_record()
