"""Device keys move from one store to another with the storage keys they are under: packed, taken in, removed; killed and attacked.

Both stores have the storage keys in one token here; that these move between modules `test_transfer_between_modules.py` tests.
"""

import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from cryptosvc.adapters.crate import FolderCrate
from cryptosvc.adapters.device_files import DeviceFile
from cryptosvc.adapters.hsm.sealing_processes import Pkcs11Sealing
from cryptosvc.adapters.store.moved_counters import MovedCounters
from cryptosvc.core.acts.transfer_devices import rows_of, work_id
from cryptosvc.core.content.base import Rising
from cryptosvc.core.content.dlms.protection import COUNTER_SCOPE
from cryptosvc.core.device_keys import DeviceKeyName, RowState
from cryptosvc.core.device_records import DeviceWorkRecord, WorkKind, WorkState
from cryptosvc.core.device_work import stepped
from cryptosvc.core.errors import Conflict, Corrupt, CryptosvcError, Malformed, WrongState
from cryptosvc.core.handover import chunks, notices
from cryptosvc.core.handover.notices import Freight, Package
from cryptosvc.core.names import KeyId, SystemName
from cryptosvc.core.record import Claim
from cryptosvc.core.registry import KeyRecord, KeyState, Record
from cryptosvc.core.transfer.mechanism import Trust
from cryptosvc.core.transfer.record import TransferRecord
from cryptosvc.flow import freight as freights
from cryptosvc.flow.freight import Freighter, settled
from cryptosvc.flow.ports import DeviceKeyChange
from tests.device_files import Source
from tests.device_rows import SYSTEM, row
from tests.device_sealing import Storage, make_storage
from tests.device_stand import DeviceStand, device_stand, import_work, source_record, storage_records, work_on
from tests.hsm_fixtures import TestToken, make_softhsm
from tests.store_stand import authorised
from tests.transfers import specimen

pytestmark = pytest.mark.xdist_group("device-key-works")
THERE = SystemName("another")
ROWS, AT_ONCE = 50, 16
CHUNKS = -(-ROWS // AT_ONCE)


@dataclass
class Scene:
    storage: Storage
    here: DeviceStand
    there: DeviceStand
    token: TestToken
    folder: Path
    record: TransferRecord
    """Of the transfer at its source, exported."""

    def freighter(self, stand: DeviceStand, progress: freights.Progress = freights.quiet) -> Freighter:
        crate = FolderCrate(self.folder / "package")
        counters = MovedCounters(stand.stand.ledger)
        sealing = stand.keeper._sealing
        assert isinstance(sealing, Pkcs11Sealing)
        kinds = frozenset({"encryption"})
        return Freighter(stand.stand.keys, stand.devices, counters, sealing, crate, kinds, progress)

    async def packed(self) -> Freight:
        found = await self.freighter(self.here).pack(self.record)
        assert found is not None
        return found

    def package(self, freight: Freight) -> Package:
        plan = self.record.plan
        assert plan is not None
        plan = replace(plan, source=replace(plan.source, system=SYSTEM))
        keys = tuple(
            notices.PackedKey(record=replace(one, system=SYSTEM), blob="", claims="")
            for one in (self.storage.binding, self.storage.epoch)
        )
        return Package(
            plan=plan,
            approval="",
            keys=keys,
            carrier="",
            trust=Trust.NONE,
            exported_at=plan_at(self.record),
            freight=freight,
        )

    async def approve(self, stand: DeviceStand, kind: WorkKind, subject: str) -> None:
        """Enter what `transfer.import` and `transfer.dispose` do."""
        system = THERE if stand is self.there else SYSTEM
        await stand.approve(
            DeviceWorkRecord(
                work_id=work_id(self.record.transfer_id, kind),
                version=1,
                state=WorkState.APPROVED,
                system=system,
                kind=kind,
                subject=subject,
                keys=ROWS,
            )
        )

    async def change(self, state: KeyState, *names: str) -> None:
        """A test's own hand on the storage keys of the source."""
        changed: list[Record] = []
        for name in names or ("binding-1", "epoch-1"):
            found = await self.here.stand.keys.record("key-record", name)
            assert isinstance(found, KeyRecord)
            changed.append(replace(found, version=found.version + 1, state=state))
        await self.here.stand.keys.change(changed)


def plan_at(record: TransferRecord):  # type: ignore[no-untyped-def]  # the moment of the last step
    return record.steps[-1][1]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestToken, Storage]]:
    token = make_softhsm(tmp_path_factory.mktemp("softhsm"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", token.conf)
        yield token, make_storage(token)


@pytest.fixture
async def scene(
    made: tuple[TestToken, Storage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    token, storage = made
    monkeypatch.setattr(chunks, "ROWS_AT_MOST", AT_ONCE)
    source = Source()
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    async with (
        device_stand(token, tmp_path / "here", first=True) as here,
        device_stand(token, tmp_path / "there", first=True) as there,
    ):
        await here.stand.keys.change([*storage_records(storage), source_record(source.key)])
        mine = [replace(one, system=THERE) for one in (storage.binding, storage.epoch)]
        await there.stand.keys.change(mine)
        digest = source.write(tmp_path / "keys", storage, range(ROWS))
        await here.approve(import_work(digest, ROWS))
        assert await here.import_file("import-1", DeviceFile(tmp_path / "keys", AT_ONCE)) == []
        store = await here.devices.store_record()
        assert store is not None
        facts = (("devices", f"{store.version}:{store.keys}:{store.root.hex()}"),)
        found = Scene(storage, here, there, token, tmp_path, replace(await specimen(), facts=facts))
        assert rows_of(found.record) == ROWS
        yield found


def names(version: int | None = None) -> list[DeviceKeyName]:
    return [DeviceKeyName(row(number).device, "encryption", version) for number in range(ROWS)]


async def use(stand: DeviceStand, number: int, counter: int) -> object:
    """Claim a counter of a device key."""
    (name,) = [names()[number]]
    key = (await stand.devices.device_keys([name])).keys[name]
    (answer,) = await stand.stand.ledger.claim(
        [
            authorised(
                generation=await stand.stand.keys.generation(),
                key=key,
                promises=[Rising(COUNTER_SCOPE, counter)],
            )
        ]
    )
    return answer


async def test_they_are_there_with_their_counters_and_gone_at_their_source(scene: Scene) -> None:
    assert isinstance(await use(scene.here, 7, 1234), Claim)
    await scene.change(KeyState.IN_TRANSFER)
    # nothing of them opens, and nothing of them changes, from the export on
    seen = (await scene.here.devices.device_keys(names())).keys.values()
    assert {one.state for one in seen} == {KeyState.IN_TRANSFER}
    said: list[tuple[str, int, int]] = []
    freight = await scene.freighter(scene.here, lambda *one: said.append(one)).pack(scene.record)
    assert freight is not None
    assert (freight.rows, freight.chunks) == (ROWS, CHUNKS)
    assert said[-1] == ("packing device keys", ROWS, ROWS)
    package = scene.package(freight)
    target = scene.freighter(scene.there)
    await target.require_whole(package)
    assert await target.receive(package) is None  # nobody approved it yet
    await scene.approve(scene.there, WorkKind.RECEIVE, freight.last)
    with pytest.raises(WrongState):
        await settled(scene.there.stand.keys, scene.record.transfer_id)
    work = await target.receive(package)
    assert work is not None
    assert (work.state, work.accepted) == (WorkState.DONE, ROWS)
    await settled(scene.there.stand.keys, scene.record.transfer_id)
    found = (await scene.there.devices.device_keys(names())).keys
    assert len(found) == ROWS
    for one in found.values():
        assert (one.state, one.row.system, one.row.work) == (KeyState.ACTIVE, THERE, work.work_id)
    # the module opens them: each is wrapped anew and is the key its check value says
    sealed = await scene.there.keeper._sealing.re_wrap(
        list(found.values()), found[names()[0]].wrapping, found[names()[0]].binding
    )
    assert {one.check_value for one in sealed if not isinstance(one, CryptosvcError)} == {
        one.row.check_value for one in found.values()
    }
    assert isinstance(await use(scene.there, 7, 1234), Conflict)
    assert isinstance(await use(scene.there, 7, 1235), Claim)
    assert isinstance(await use(scene.there, 8, 1), Claim)
    # at the source the storage keys are destroyed, then the rows go
    await scene.change(KeyState.DESTROYED)
    await scene.approve(scene.here, WorkKind.RELEASE, scene.record.transfer_id)
    gone = await scene.freighter(scene.here).release(scene.record.transfer_id)
    assert gone is not None
    assert gone.state is WorkState.DONE
    store = await scene.here.devices.store_record()
    assert store is not None
    assert (store.keys, store.needed) == (0, ())
    assert (await scene.here.devices.device_keys(names())).keys == {}


class Killed(Exception):
    """The process died here."""


def dies_after(times: int) -> freights.Progress:
    left = [times]

    def report(what: str, _: int, __: int) -> None:
        if what != "looking through the package":
            left[0] -= 1
            if left[0] == 0:
                raise Killed

    return report


async def test_killed_after_any_part_each_goes_on(scene: Scene) -> None:
    await scene.change(KeyState.IN_TRANSFER)
    for times in range(1, CHUNKS):
        with pytest.raises(Killed):
            await scene.freighter(scene.here, dies_after(times)).pack(scene.record)
    freight = await scene.packed()
    written = {one: one.stat().st_mtime_ns for one in (scene.folder / "package").iterdir()}
    assert await scene.packed() == freight
    assert {one: one.stat().st_mtime_ns for one in (scene.folder / "package").iterdir()} == written
    package = scene.package(freight)
    await scene.approve(scene.there, WorkKind.RECEIVE, freight.last)
    for done in range(1, CHUNKS):
        with pytest.raises(Killed):
            await scene.freighter(scene.there, dies_after(1)).receive(package)
        work = await scene.there.work(work_id(scene.record.transfer_id, WorkKind.RECEIVE))
        assert (work.state, work.position) == (WorkState.UNDER_WAY, done * AT_ONCE)
    work = await scene.freighter(scene.there).receive(package)  # type: ignore[assignment]  # there is one
    assert (work.state, work.accepted) == (WorkState.DONE, ROWS)
    assert await scene.freighter(scene.there).receive(package) == work  # again it is done
    await scene.change(KeyState.DESTROYED)
    await scene.approve(scene.here, WorkKind.RELEASE, scene.record.transfer_id)
    with pytest.raises(Killed):
        await scene.freighter(scene.here, dies_after(2)).release(scene.record.transfer_id)
    gone = await scene.freighter(scene.here).release(scene.record.transfer_id)
    assert gone is not None
    assert (gone.state, gone.position) == (WorkState.DONE, ROWS)


async def test_the_store_takes_no_change_while_they_are_in_transfer(scene: Scene) -> None:
    await scene.here.approve(work_on(WorkKind.DESTROY, str(names()[3]), "destroy-1"))
    await scene.change(KeyState.IN_TRANSFER)
    with pytest.raises(WrongState) as refused:
        await scene.here.keeper.destroy("destroy-1")
    assert refused.value.rule == "device-key/in-transfer"
    await scene.change(KeyState.SUSPENDED)  # rolled back
    assert (await scene.here.keeper.destroy("destroy-1")).state is WorkState.DONE
    with pytest.raises(Corrupt) as changed:
        await scene.packed()
    assert changed.value.rule == "transfer/devices"


def rewritten(scene: Scene, change: Callable[[list[bytes]], list[bytes]]) -> Freight:
    """Parts as somebody else would have them, their chain made whole again: the last one's digest is another then."""
    folder = scene.folder / "package"
    previous = ""
    for number in range(1, CHUNKS + 1):
        path = folder / f"{chunks.name_of(number)}.blob"
        heading, *lines = path.read_bytes().split(b"\n")[:-1]
        if number == 2:
            lines = change(lines)
        _, rows = chunks.parse(b"\n".join((heading, *lines, b"")), scene.record.transfer_id, number)
        octets = chunks.emit(scene.record.transfer_id, number, previous, rows)
        path.write_bytes(octets)
        previous = chunks.digest_of(octets)
    return Freight(rows=ROWS, chunks=CHUNKS, last=previous)


async def test_a_package_that_was_changed_is_refused_before_anything_is_done(scene: Scene) -> None:
    await scene.change(KeyState.IN_TRANSFER)
    freight = await scene.packed()
    package, target = scene.package(freight), scene.freighter(scene.there)
    folder = scene.folder / "package"
    second, third = (folder / f"{chunks.name_of(number)}.blob" for number in (2, 3))
    kept = second.read_bytes()

    async def refused(what: Package, rule: str = "transfer/chunk") -> None:
        with pytest.raises(Malformed) as refusal:
            await target.require_whole(what)
        assert refusal.value.rule == rule

    for octets in (kept.replace(b'"retired"', b'"current"') + b"\n", kept[:-1], third.read_bytes(), b""):
        second.write_bytes(octets)
        await refused(package)
    second.unlink()
    await refused(package, "transfer/blob")
    second.write_bytes(kept)
    await target.require_whole(package)
    for changed in (
        replace(freight, rows=ROWS - 1),
        replace(freight, chunks=CHUNKS - 1),
        replace(freight, last=hashlib.sha256(b"").hexdigest()),
    ):
        await refused(scene.package(changed))
    plan = package.plan
    await refused(replace(package, plan=replace(plan, transfer_id="move-2")))


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        # who signs packages changes rows: their tags are the module's
        (lambda row, other: replace(row, blob=other.blob), "device-key/not-bound"),
        (lambda row, _: replace(row, check_value=bytes(3)), "device-key/not-bound"),
        (lambda row, _: replace(row, version=2), "device-key/not-bound"),
        (lambda row, _: replace(row, binding=KeyId("epoch-1")), "transfer/chunk"),
        (lambda row, _: replace(row, wrapping=KeyId("epoch-9")), "transfer/chunk"),
        (lambda row, _: replace(row, system=THERE), "transfer/chunk"),
        (lambda row, _: replace(row, kind="master"), "transfer/chunk"),
    ],
    ids=("blob", "check value", "version", "binding", "wrapping", "system", "kind"),
)
async def test_a_row_that_was_changed_is_not_taken(scene: Scene, change: Callable, rule: str) -> None:
    await scene.change(KeyState.IN_TRANSFER)
    await scene.packed()
    transfer = scene.record.transfer_id

    def changed(lines: list[bytes]) -> list[bytes]:
        _, rows = chunks.parse(
            b"\n".join(
                (b'{"number":1,"previous":"","rows":2,"transfer_id":"move-1","v":1}', *lines[:2], b"")
            ),
            "move-1",
            1,
        )
        one = replace(rows[0], row=change(rows[0].row, rows[1].row))
        (line,) = chunks.emit(transfer, 1, "", [one]).split(b"\n")[1:-1]
        return [line, *lines[1:]]

    package = scene.package(rewritten(scene, changed))
    assert package.freight is not None
    await scene.approve(scene.there, WorkKind.RECEIVE, package.freight.last)
    with pytest.raises(CryptosvcError) as refused:
        await scene.freighter(scene.there).receive(package)
    assert refused.value.rule == rule
    store = await scene.there.devices.store_record()
    assert store is not None
    assert store.keys == AT_ONCE  # the part before
    assert (await scene.there.work(work_id(transfer, WorkKind.RECEIVE))).position == AT_ONCE


async def test_a_device_key_that_is_there_already_stops_it(scene: Scene) -> None:
    await scene.change(KeyState.IN_TRANSFER)
    freight = await scene.packed()
    package = scene.package(freight)
    found = (await scene.here.devices.device_keys(names())).keys[names()[20]].row
    mine = replace(found, system=THERE, version=3, state=RowState.RETIRED)
    await scene.approve(scene.there, WorkKind.RECEIVE, freight.last)
    (bound,) = await scene.freighter(scene.there)._bound(found.binding, [(found, replace(mine, tag=b""))])
    other = replace(
        await scene.there.work(work_id(scene.record.transfer_id, WorkKind.RECEIVE)), work_id="other"
    )
    await scene.there.approve(other)
    generation = await scene.there.stand.keys.generation()
    await scene.there.devices.change(
        DeviceKeyChange([bound], (), stepped(other, position=1, accepted=1), generation)
    )
    with pytest.raises(Conflict) as refused:
        await scene.freighter(scene.there).receive(package)
    assert refused.value.rule == "device-key/exists"
