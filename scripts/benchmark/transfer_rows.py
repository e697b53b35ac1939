"""Device keys by the million to another system: packed out of one store, taken into another, and what memory that wants.

Two stores on SQLite, one SoftHSM2 token that has the storage keys: that these move too takes a second or two, and is not in it.
"""

import asyncio
import time
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from device_keys import KIND, STORAGE, SYSTEM, import_file, import_work, module_of, storage_record, write_file
from long_log import ORIGIN, HeadKey

from cryptosvc.adapters.clock import SystemClock
from cryptosvc.adapters.crate import FolderCrate
from cryptosvc.adapters.hsm.assurance import ModuleConfig
from cryptosvc.adapters.hsm.provision import Provisioner
from cryptosvc.adapters.hsm.sealing_processes import Pkcs11Sealing
from cryptosvc.adapters.hsm.transport_key import public_key_pem
from cryptosvc.adapters.store.devices import StoredDeviceKeys
from cryptosvc.adapters.store.engine import migrate, open_store
from cryptosvc.adapters.store.ledger import Ledger
from cryptosvc.adapters.store.moved_counters import MovedCounters
from cryptosvc.adapters.store.registry import StoredRegistry
from cryptosvc.core.acts.transfer_devices import work_id
from cryptosvc.core.device_records import (
    DeviceSourceRecord,
    DeviceWorkRecord,
    SourceState,
    WorkKind,
    WorkState,
)
from cryptosvc.core.handover.notices import Freight, Package, PackedKey
from cryptosvc.core.keyclass import ceiling
from cryptosvc.core.life import UnixSeconds
from cryptosvc.core.names import Environment, ModuleName, SystemName
from cryptosvc.core.record import Scope
from cryptosvc.core.registry import KeyRecord
from cryptosvc.core.transfer.mechanism import Mechanism, OaepHash, Trust
from cryptosvc.core.transfer.papers import DESTROY, Offer, Party, Plan
from cryptosvc.core.transfer.record import TransferRecord
from cryptosvc.core.transfer.states import Side, TransferState
from cryptosvc.flow.device_import import DeviceImporter
from cryptosvc.flow.devices import DeviceKeeper
from cryptosvc.flow.freight import Freighter

TRANSFER = "bench"
THERE = SystemName("bench-next")


@dataclass(frozen=True)
class Moved:
    """What was found: seconds of both halves, MiB of this process after a tenth of each half and at its end, octets on disk."""

    keys: int
    packing_seconds: float
    taking_seconds: float
    tenth_mib: float
    end_mib: float
    octets: int


@dataclass
class Memory:
    """Highest resident memory of this process, of the first tenth of a half and of all of it."""

    tenth: float = 0.0
    end: float = 0.0

    def report(self, what: str, done: int, total: int) -> None:
        """Told of every part; what is looked through is not what is kept."""
        if what == "looking through the package":
            return
        now = resident_mib()
        if done * 10 <= total or not self.tenth:
            self.tenth = max(self.tenth, now)
        self.end = max(self.end, now)


def resident_mib() -> float:
    """VmRSS of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("the kernel says nothing of memory")


@dataclass(frozen=True)
class End:
    """One store, and what works on it."""

    ledger: Ledger
    registry: StoredRegistry
    devices: StoredDeviceKeys
    sealing: Pkcs11Sealing

    def freighter(self, folder: Path, memory: Memory) -> Freighter:
        """Between this store and the folder."""
        counters, crate = MovedCounters(self.ledger), FolderCrate(folder)
        return Freighter(self.registry, self.devices, counters, self.sealing, crate, {KIND}, memory.report)


def measure(folder: Path, keys: int, processes: int) -> Moved:
    """Fill a store with so many keys, and move them."""
    folder.mkdir(parents=True)
    config = module_of(folder)
    return asyncio.run(_measure(folder, config, keys, processes))


async def _measure(folder: Path, config: ModuleConfig, keys: int, processes: int) -> Moved:
    sealing = Pkcs11Sealing([config], folder / "locks", processes)
    source, target = [await _end(folder / name, sealing) for name in ("source", "target")]
    try:
        storage = await _filled(source, folder, config, keys)
        store = await source.devices.store_record()
        assert store is not None
        facts = (("devices", f"{store.version}:{store.keys}:{store.root.hex()}"),)
        found = _exported(facts)
        memory = Memory()
        started = time.monotonic()
        freight = await source.freighter(folder / "package", memory).pack(found)
        packing = time.monotonic() - started
        assert freight is not None
        await target.registry.change([*(replace(one, system=THERE) for one in storage), _received(freight)])
        package = _package(found, freight, storage)
        started = time.monotonic()
        freighter = target.freighter(folder / "package", memory)
        await freighter.require_whole(package)
        work = await freighter.receive(package)
        taking = time.monotonic() - started
        assert work is not None
        assert work.accepted == keys
        octets = sum(one.stat().st_size for one in (folder / "package").iterdir())
        return Moved(keys, packing, taking, memory.tenth, memory.end, octets)
    finally:
        sealing.close()
        for end in (source, target):
            await end.ledger.close()


async def _end(folder: Path, sealing: Pkcs11Sealing) -> End:
    folder.mkdir()
    url = f"sqlite:///{folder}/store.db"
    migrate(url)
    scope = Scope(system=SYSTEM, environment="test", worker="bench", software="bench")
    ledger = Ledger(
        open_store(url), origin=ORIGIN, scope=scope, clock=SystemClock(), authenticator=HeadKey(), anchor=None
    )
    await ledger.initialise()
    registry = StoredRegistry(ledger)
    return End(ledger, registry, StoredDeviceKeys(ledger, registry), sealing)


async def _filled(end: End, folder: Path, config: ModuleConfig, keys: int) -> list[KeyRecord]:
    records = [storage_record(name, key_class, config) for name, key_class in STORAGE.items()]
    with Provisioner(config, folder / "locks") as token:
        for record in records:
            token.generate(record.label, record.object_id, ceiling(record.key_class).template)
    private = ec.generate_private_key(ec.SECP256R1())
    spki = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    sender = DeviceSourceRecord(
        source_id="maker", version=1, state=SourceState.REGISTERED, system=SYSTEM, key=spki
    )
    transport = public_key_pem(config, folder / "locks", records[2])
    path = folder / "keys"
    digest = write_file(path, range(keys), private, spki, transport)
    await end.registry.change([*records, sender, import_work("all", digest, keys)])
    keeper = DeviceKeeper(end.registry, end.registry, end.devices, end.sealing, SystemClock())
    importer = DeviceImporter(end.registry, keeper, end.devices, end.sealing, Environment.TEST, {KIND})
    await import_file(importer, "all", path)
    path.unlink()
    return records[:2]


def _exported(facts: tuple[tuple[str, str], ...]) -> TransferRecord:
    here, there = (Party(name, Environment.TEST, str(name), "") for name in (SYSTEM, THERE))
    offer = Offer(
        transfer_id=TRANSFER,
        party=there,
        transport=b"",
        module=ModuleName("softhsm"),
        identity=(),
        assurance="none",
        assurance_level=0,
        oaep_hashes=(OaepHash.SHA_1,),
        complies="",
        affiliation="",
        valid_until=UnixSeconds(0),
    )
    plan = Plan(
        transfer_id=TRANSFER,
        offer="",
        source=here,
        destination=there,
        keys=(),
        reason="",
        mechanism=Mechanism(OaepHash.SHA_1, Trust.ENFORCED),
        disposition=DESTROY,
        disposition_seconds=1,
        committee_view="",
        may_move_on=False,
        body="",
    )
    return TransferRecord(
        transfer_id=TRANSFER,
        version=1,
        side=Side.SOURCE,
        state=TransferState.EXPORTED,
        system=SYSTEM,
        offer=offer,
        plan=plan,
        facts=facts,
    )


def _package(found: TransferRecord, freight: Freight, storage: list[KeyRecord]) -> Package:
    assert found.plan is not None
    return Package(
        plan=found.plan,
        approval="",
        keys=tuple(PackedKey(record=one, blob="", claims="") for one in storage),
        carrier="",
        trust=Trust.ENFORCED,
        exported_at=UnixSeconds(0),
        freight=freight,
    )


def _received(freight: Freight) -> DeviceWorkRecord:
    return DeviceWorkRecord(
        work_id=work_id(TRANSFER, WorkKind.RECEIVE),
        version=1,
        state=WorkState.APPROVED,
        system=THERE,
        kind=WorkKind.RECEIVE,
        subject=freight.last,
        keys=freight.rows,
    )
