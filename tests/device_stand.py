"""A device store on SQLite with a real module, and works on it: as `cryptosvc device-key` puts it together, without a service.

As a program it imports: `python -m tests.device_stand FOLDER WORK FILE`; whoever started it may kill it at any moment.
"""

import asyncio
import os
import pickle
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from cryptosvc.adapters.device_files import DeviceFile
from cryptosvc.adapters.hsm import sealing_processes
from cryptosvc.adapters.hsm.sealing_processes import Pkcs11Sealing
from cryptosvc.adapters.store.devices import StoredDeviceKeys
from cryptosvc.core.device_records import (
    DeviceSourceRecord,
    DeviceWorkRecord,
    SourceState,
    WorkKind,
    WorkState,
)
from cryptosvc.core.names import Environment
from cryptosvc.flow.device_import import BadLine, DeviceImporter
from cryptosvc.flow.devices import DeviceKeeper
from tests.device_rows import SYSTEM
from tests.device_sealing import Storage
from tests.hsm_fixtures import TestToken
from tests.store_stand import Stand, new_database, open_stand

KINDS = ("encryption", "authentication")


@dataclass
class DeviceStand:
    """One process with a device store."""

    stand: Stand
    devices: StoredDeviceKeys
    keeper: DeviceKeeper
    importer: DeviceImporter

    async def approve(self, work: DeviceWorkRecord) -> None:
        """Enter a work as a quorum's approval would."""
        await self.stand.keys.change([work])

    async def import_file(self, work_id: str, file: DeviceFile) -> list[BadLine]:
        """Import what is left of a file."""
        found = await self.importer.begin(work_id, file.first_line)
        file.require(found.manifest.keys, found.manifest.body_sha256)
        bad: list[BadLine] = []
        while True:
            lines, first = file.lines_from(found.work.position)
            if not lines:
                return bad
            prepared = await self.importer.prepare(found, lines, first)
            found, some = await self.importer.take(found, prepared)
            bad += some

    async def work(self, work_id: str) -> DeviceWorkRecord:
        """A work's record."""
        found = await self.stand.keys.record("device-work-record", work_id)
        assert isinstance(found, DeviceWorkRecord)
        return found


def import_work(
    digest: str, keys: int, *, name: str = "import-1", on_bad_line: str = "report"
) -> DeviceWorkRecord:
    return DeviceWorkRecord(
        work_id=name,
        version=1,
        state=WorkState.APPROVED,
        system=SYSTEM,
        kind=WorkKind.IMPORT,
        subject=digest,
        source="maker",
        keys=keys,
        on_bad_line=on_bad_line,
    )


def work_on(kind: WorkKind, subject: str, name: str) -> DeviceWorkRecord:
    return replace(import_work(subject, 0, name=name, on_bad_line=""), kind=kind, source="")


def source_record(key: bytes) -> DeviceSourceRecord:
    return DeviceSourceRecord(
        source_id="maker", version=1, state=SourceState.REGISTERED, system=SYSTEM, key=key
    )


def storage_records(storage: Storage) -> list[object]:
    """The storage keys' records, of the store's system; the next epoch is not there yet."""
    return [replace(one, system=SYSTEM) for one in (storage.epoch, storage.binding, storage.transport)]


@asynccontextmanager
async def device_stand(
    token: TestToken, folder: Path, *, first: bool = False, processes: int = 1
) -> AsyncIterator[DeviceStand]:
    url = f"sqlite:///{folder}/store.db"
    stand = await open_stand(new_database(url) if first else url, folder, first=first)
    sealing = Pkcs11Sealing([token.config], token.locks, processes)
    devices = StoredDeviceKeys(stand.ledger, stand.keys)
    try:
        keeper = DeviceKeeper(stand.keys, stand.keys, devices, sealing, stand.clock)
        importer = DeviceImporter(stand.keys, keeper, devices, sealing, Environment.TEST, frozenset(KINDS))
        yield DeviceStand(stand, devices, keeper, importer)
    finally:
        sealing.close()
        await stand.ledger.close()


async def _go_on(folder: Path, what: str, work_id: str, file: str) -> None:
    token: TestToken = pickle.loads((folder / "token").read_bytes())  # noqa: S301 - the test's own
    os.environ["SOFTHSM2_CONF"] = token.conf
    async with device_stand(token, folder) as here:
        # logged in before it may be killed: SoftHSM writes the token's file at each login, and half a file is no token
        sealing = here.importer._sealing
        assert isinstance(sealing, Pkcs11Sealing)
        login = sealing._executor.submit(
            sealing_processes._with, token.config.name, lambda _room, _sealer: []
        )
        await asyncio.wrap_future(login)
        print("ready", flush=True)
        if what == "import":
            await here.import_file(work_id, DeviceFile(Path(file), 16))
        else:
            while (await here.keeper.re_wrap(work_id)).state is not WorkState.DONE:
                pass
    print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(_go_on(Path(sys.argv[1]), *sys.argv[2:5]))
