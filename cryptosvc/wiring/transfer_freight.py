"""The device keys of a transfer, on the machine of a service: what packs, takes in and removes them, put together."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson

from cryptosvc.adapters.crate import FolderCrate
from cryptosvc.adapters.hsm.sealing_processes import Pkcs11Sealing
from cryptosvc.adapters.store.devices import StoredDeviceKeys
from cryptosvc.adapters.store.moved_counters import MovedCounters
from cryptosvc.cli.actions import Progress
from cryptosvc.config.settings import Settings
from cryptosvc.core import dsse
from cryptosvc.core.acts.base import text_of
from cryptosvc.core.device_keys import kinds
from cryptosvc.core.handover import notices
from cryptosvc.core.statement import Statement
from cryptosvc.flow.freight import Freighter
from cryptosvc.wiring import modules, stores


@contextmanager
def freighter(
    settings: Settings, store: stores.Opened, folder: Path, progress: Progress, processes: int = 1
) -> Iterator[Freighter]:
    """A freighter between the store and a folder of papers; its processes end with the block."""
    sealing = Pkcs11Sealing(modules.module_configs(settings), stores.lock_folder(settings), processes)
    try:
        yield Freighter(
            store.registry,
            StoredDeviceKeys(store.ledger, store.registry),
            MovedCounters(store.ledger),
            sealing,
            FolderCrate(folder),
            kinds(),
            progress,
        )
    finally:
        sealing.close()


async def settle(freight: Freighter, statement: Statement) -> None:
    """Do with the device keys what follows from an act that is in the log; called again it goes on."""
    if statement.act == "transfer.import":
        document = orjson.loads(dsse.parse(bytes.fromhex(text_of(statement, "package"))).payload)
        await freight.receive(notices.package_from_document(document))
    elif statement.act == "transfer.dispose":
        await freight.release(statement.subject)
