"""SQLite: nothing is answered before it is on the disk, and the write lock is free while it goes there."""

import asyncio
import fcntl
import os
import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from cryptosvc.adapters.store import sqlite
from cryptosvc.core.errors import Unavailable
from cryptosvc.core.record import Claim
from tests.store_stand import Stand, authorised, checked, new_database, once, open_stand


class Disk:
    """What has been flushed of the write-ahead log; each flush can be looked at, or fail."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.flushed = 0
        self.flushes = 0
        self.lock_was_free: list[bool] = []
        self.failing = False

    def fdatasync(self, file: int) -> None:
        if self.failing:
            self.failing = False
            raise OSError(5, "Input/output error")
        log = self._folder / "store.db-wal"
        assert os.path.samestat(os.fstat(file), log.stat())
        size = log.stat().st_size
        os.fsync(file)
        with (self._folder / "store.db.lock").open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.lock_was_free.append(False)
            else:
                self.lock_was_free.append(True)
        self.flushed = max(self.flushed, size)
        self.flushes += 1


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk(tmp_path)
    monkeypatch.setattr(sqlite.os, "fdatasync", disk.fdatasync)
    return disk


async def opened(tmp_path: Path, *, first: bool = True, worker: str = "worker-1") -> Stand:
    url = f"sqlite:///{tmp_path}/store.db"
    return await open_stand(new_database(url) if first else url, tmp_path, first=first, worker=worker)


async def claimed(stand: Stand, request_id: str, value: bytes = b"x") -> Claim:
    (answer,) = await stand.ledger.claim(
        [authorised(request_id=request_id, promises=[once(f"c/{request_id}", value)])]
    )
    assert isinstance(answer, Claim), answer
    return answer


async def test_claims_and_records_are_flushed_before_they_are_answered_and_with_the_lock_free(
    tmp_path: Path, disk: Disk
) -> None:
    stand = await opened(tmp_path)
    for number in range(5):
        before = disk.flushes
        claim = await claimed(stand, f"r{number}")
        assert disk.flushes == before + 1
        await stand.ledger.record([checked(claim)])
        assert disk.flushes == before + 2
        assert disk.flushed == (tmp_path / "store.db-wal").stat().st_size
    assert all(disk.lock_was_free)
    await stand.ledger.close()


async def test_after_a_failed_flush_nothing_is_answered_until_a_restart(tmp_path: Path, disk: Disk) -> None:
    stand = await opened(tmp_path)
    disk.failing = True
    for request_id in ("r", "s", "t"):  # the disk takes everything again, but what it lost it does not have
        with pytest.raises(Unavailable) as refusal:
            await stand.ledger.claim([authorised(request_id=request_id)])
        assert refusal.value.rule == "store/flush"
        assert "restart" in str(refusal.value)
    await stand.ledger.close()
    again = await opened(tmp_path, first=False)
    await claimed(again, "u")
    await again.ledger.close()


async def test_a_record_whose_flush_failed_is_not_answered(tmp_path: Path, disk: Disk) -> None:
    stand = await opened(tmp_path)
    claim = await claimed(stand, "r")
    disk.failing = True
    with pytest.raises(Unavailable):
        await stand.ledger.record([checked(claim)])
    await stand.ledger.close()


async def test_an_anchor_names_nothing_that_is_not_on_the_disk(tmp_path: Path, disk: Disk) -> None:
    first, second = await opened(tmp_path), await opened(tmp_path, first=False, worker="worker-2")
    await first.ledger.record([checked(await claimed(first, "r"))])
    flushes = disk.flushes
    await second.ledger.head()  # seen, perhaps before it was flushed
    await second.ledger.close()
    assert disk.flushes == flushes + 1
    await first.ledger.close()


async def test_what_was_answered_survives_a_loss_of_power_at_any_moment(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(3)
    workers = [await opened(tmp_path), await opened(tmp_path, first=False, worker="worker-2")]
    log, moments = tmp_path / "store.db-wal", []
    with sqlite3.connect(
        tmp_path / "store.db"
    ) as connection:  # so that the tables are in the database itself
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    disk.flushed = 0
    shutil.copy(tmp_path / "store.db", tmp_path / "before.db")

    async def work(stand: Stand, name: str) -> None:
        for number in range(12):
            claim = await claimed(stand, f"{name}{number}")
            (receipt,) = await stand.ledger.record([checked(claim)])
            moments.append((disk.flushed, receipt.leaf_index, f"{name}{number}"))

    await asyncio.gather(*(work(stand, f"w{number}-") for number, stand in enumerate(workers)))
    octets = log.read_bytes()
    monkeypatch.undo()
    for number in range(40):
        flushed, leaf_index, request_id = chance.choice(moments)
        crashed = tmp_path / f"crashed-{number}"
        crashed.mkdir()
        shutil.copy(tmp_path / "before.db", crashed / "store.db")
        # of what was not flushed anything may be there: some of it, with zeros where a block did not make it
        there = octets[: chance.randint(flushed, len(octets))]
        hole = chance.randint(flushed, len(there))
        (crashed / "store.db-wal").write_bytes(there[:hole] + bytes(len(there) - hole))
        stand = await open_stand(f"sqlite:///{crashed}/store.db", crashed)
        assert (await stand.ledger.head()).size > leaf_index
        (again,) = await stand.ledger.claim([authorised(request_id=request_id)])
        assert not isinstance(again, Claim)
        await stand.ledger.close()
    for stand in workers:
        await stand.ledger.close()
