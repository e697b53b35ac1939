"""Works on device keys with a real module and a real store: import, rotate, re-wrap, destroy; whole, killed and broken."""

import pickle
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from cryptosvc.adapters.device_files import DeviceFile
from cryptosvc.core.device_file import Line
from cryptosvc.core.device_keys import DeviceKeyName, RowState
from cryptosvc.core.device_records import SourceState, WorkKind, WorkState
from cryptosvc.core.errors import Conflict, Forbidden, Malformed, WrongState
from cryptosvc.core.names import KeyId
from cryptosvc.core.registry import KeyState
from tests.device_files import Source
from tests.device_rows import SYSTEM, row
from tests.device_sealing import Storage, arrived, make_storage
from tests.device_stand import DeviceStand, device_stand, import_work, source_record, storage_records, work_on
from tests.hsm_fixtures import REPOSITORY, TestToken, make_softhsm

pytestmark = pytest.mark.xdist_group("device-key-works")


@dataclass
class Scene:
    token: TestToken
    storage: Storage
    source: Source
    folder: Path
    here: DeviceStand

    async def imported(self, numbers: range, **choices: object) -> None:
        """Import keys of devices of these numbers."""
        path = self.folder / "keys"
        digest = self.source.write(path, self.storage, numbers, **choices)  # type: ignore[arg-type]  # a test's keywords
        await self.here.approve(import_work(digest, len(numbers)))
        assert await self.here.import_file("import-1", DeviceFile(path, 16)) == []

    async def next_epoch(self) -> None:
        """Another storage-wrapping key takes the place of the first."""
        keys = self.here.stand.keys
        old = (await keys.keys([KeyId("epoch-1")])).keys[KeyId("epoch-1")]
        await keys.change(
            [
                replace(old, version=old.version + 1, state=KeyState.DEACTIVATED),
                replace(self.storage.next_epoch, system=SYSTEM),
            ]
        )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestToken, Storage]]:
    token = make_softhsm(tmp_path_factory.mktemp("softhsm"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", token.conf)
        yield token, make_storage(token)


@pytest.fixture
async def scene(made: tuple[TestToken, Storage], tmp_path: Path) -> AsyncIterator[Scene]:
    token, storage = made
    source = Source()
    (tmp_path / "token").write_bytes(pickle.dumps(token))
    async with device_stand(token, tmp_path, first=True) as here:
        await here.stand.keys.change([*storage_records(storage), source_record(source.key)])
        yield Scene(token, storage, source, tmp_path, here)


def name(number: int, kind: str = "encryption") -> DeviceKeyName:
    return DeviceKeyName(row(number).device, kind)


async def found(here: DeviceStand, *names: DeviceKeyName) -> dict[DeviceKeyName, str]:
    view = await here.devices.device_keys(names)
    return {one: f"{key.row.version} {key.row.wrapping}" for one, key in view.keys.items()}


async def test_a_file_is_imported_part_by_part_and_its_work_is_done(scene: Scene) -> None:
    await scene.imported(range(50))
    work = await scene.here.work("import-1")
    assert (work.state, work.position, work.accepted) == (WorkState.DONE, 50, 50)
    assert dict(work.facts) == {"refused": "0", "transport": "transport-1"}
    store = await scene.here.devices.store_record()
    assert store is not None
    assert (store.keys, store.needed) == (50, (("binding-1", 50), ("epoch-1", 50)))
    assert len(await found(scene.here, *(name(number) for number in range(50)))) == 50
    with pytest.raises(WrongState) as refusal:
        await scene.here.importer.begin("import-1", b"")
    assert refusal.value.rule == "device-work/done"


async def test_bad_lines_are_reported_with_their_numbers_and_the_rest_goes_on(scene: Scene) -> None:
    file_key = bytes(range(32))
    lines = [arrived(file_key, number) for number in range(40)]
    lines[7] = replace(lines[7], wrapped=bytes(24))
    lines[9] = replace(lines[9], row=replace(lines[9].row, check_value=bytes(3)))
    lines[20] = lines[18]
    lines[21] = arrived(file_key, 21, kind="no-such-kind")
    lines[30] = lines[3]  # in another part of the file
    path = scene.folder / "keys"
    digest = scene.source.write(
        path, scene.storage, (), lines=lines, file_key=file_key, bad={5: b"not a key", 6: b""}
    )
    await scene.here.approve(import_work(digest, 40))
    bad = await scene.here.import_file("import-1", DeviceFile(path, 16))
    assert [(one.number, one.rule) for one in bad] == [
        (7, "device-file/form"),
        (8, "device-file/form"),
        (9, "device-key/unwrap"),
        (11, "device-file/check-value"),
        (22, "device-key/exists"),
        (23, "device-file/kind"),
        (32, "device-key/exists"),
    ]
    work = await scene.here.work("import-1")
    assert (work.state, work.position, work.accepted) == (WorkState.DONE, 40, 33)
    assert dict(work.facts)["refused"] == "7"


async def test_where_a_bad_line_is_to_stop_it_nothing_is_done(scene: Scene) -> None:
    path = scene.folder / "keys"
    digest = scene.source.write(path, scene.storage, range(20), bad={17: b"{}"})
    await scene.here.approve(import_work(digest, 20, on_bad_line="stop"))
    file = DeviceFile(path, 32)
    begun = await scene.here.importer.begin("import-1", file.first_line)
    lines, first = file.lines_from(0)
    prepared = await scene.here.importer.prepare(begun, lines, first)
    assert [one.number for one in await scene.here.importer.look_over(prepared)] == [19]
    with pytest.raises(Conflict) as refusal:
        await scene.here.importer.take(begun, prepared)
    assert refusal.value.rule == "device-file/form"
    assert await scene.here.devices.store_record() is None
    assert (await scene.here.work("import-1")).state is WorkState.APPROVED


@pytest.mark.parametrize("cut", [1, 60, 700, 5_000])
async def test_a_truncated_file_is_refused_whole(scene: Scene, cut: int) -> None:
    path = scene.folder / "keys"
    digest = scene.source.write(path, scene.storage, range(30))
    await scene.here.approve(import_work(digest, 30))
    octets = path.read_bytes()
    path.write_bytes(octets[:-cut])
    with pytest.raises(Malformed) as refusal:
        await scene.here.import_file("import-1", DeviceFile(path, 16))
    assert refusal.value.rule == "device-file/truncated"
    path.write_bytes(octets[: octets.rindex(b"\n", 0, -1) + 1])  # a whole line is missing
    with pytest.raises(Malformed) as refusal:
        await scene.here.import_file("import-1", DeviceFile(path, 16))
    assert refusal.value.rule == "device-file/truncated"
    assert await scene.here.devices.store_record() is None


async def test_a_line_changed_after_signing_or_while_it_is_imported_is_refused(scene: Scene) -> None:
    path = scene.folder / "keys"
    digest = scene.source.write(path, scene.storage, range(40))
    await scene.here.approve(import_work(digest, 40))
    octets = path.read_bytes()
    path.write_bytes(octets.replace(b'"firmware":"1.0"', b'"firmware":"1.1"', 1))
    with pytest.raises(Malformed) as refusal:
        await scene.here.import_file("import-1", DeviceFile(path, 16))
    assert refusal.value.rule == "device-file/other-body"
    path.write_bytes(octets)
    file = DeviceFile(path, 16)
    changed = octets[:-500] + octets[-500:].replace(b'"firmware":"1.0"', b'"firmware":"1.1"', 1)
    path.write_bytes(changed)
    with pytest.raises(Conflict) as conflict:
        await scene.here.import_file("import-1", file)
    assert conflict.value.rule == "device-file/changed"
    assert (await scene.here.work("import-1")).position == 32


@pytest.mark.parametrize(
    ("choices", "rule"),
    [
        ({"system": "another"}, "device-file/other-system"),
        ({"environment": "live"}, "device-file/other-system"),
        ({"source": "another"}, "device-file/other-file"),
        ({"transport": KeyId("transport-9")}, "device-file/transport"),
        ({"file_key": None}, "dsse/unknown-key"),
    ],
)
async def test_a_file_that_is_not_what_was_approved_is_refused(
    scene: Scene, choices: dict[str, object], rule: str
) -> None:
    path = scene.folder / "keys"
    source = Source() if "file_key" in choices else scene.source
    choices = {name: value for name, value in choices.items() if value is not None}
    digest = source.write(path, scene.storage, range(3), **choices)  # type: ignore[arg-type]  # a test's table
    await scene.here.approve(import_work(digest, 3))
    with pytest.raises((Forbidden, WrongState)) as refusal:
        await scene.here.importer.begin("import-1", DeviceFile(path).first_line)
    assert refusal.value.rule == rule


async def test_a_file_of_a_revoked_source_or_another_file_is_refused(scene: Scene) -> None:
    path = scene.folder / "keys"
    digest = scene.source.write(path, scene.storage, range(3))
    await scene.here.approve(import_work(digest, 3))
    scene.source.write(path, scene.storage, range(3))
    with pytest.raises(Forbidden) as refusal:
        await scene.here.importer.begin("import-1", DeviceFile(path).first_line)
    assert refusal.value.rule == "device-file/other-file"
    revoked = replace(source_record(scene.source.key), version=2, state=SourceState.REVOKED)
    await scene.here.stand.keys.change([revoked])
    digest = scene.source.write(path, scene.storage, range(3))
    await scene.here.approve(import_work(digest, 3, name="import-2"))
    with pytest.raises(Forbidden) as refusal:
        await scene.here.importer.begin("import-2", DeviceFile(path).first_line)
    assert refusal.value.rule == "device-file/source-revoked"


async def test_what_was_prepared_for_an_epoch_that_was_left_meanwhile_is_wrapped_anew(scene: Scene) -> None:
    path = scene.folder / "keys"
    digest = scene.source.write(path, scene.storage, range(3))
    await scene.here.approve(import_work(digest, 3))
    file = DeviceFile(path)
    begun = await scene.here.importer.begin("import-1", file.first_line)
    prepared = await scene.here.importer.prepare(begun, *file.lines_from(0))
    await scene.next_epoch()
    await scene.here.importer.take(begun, prepared)
    assert await found(scene.here, name(1)) == {name(1): "1 epoch-2"}


async def test_processes_seal_what_one_seals(scene: Scene) -> None:
    path = scene.folder / "keys"
    file_key = bytes(range(32))
    lines: list[Line] = [arrived(file_key, number) for number in range(300)]
    lines[200] = replace(lines[200], wrapped=bytes(24))
    digest = scene.source.write(path, scene.storage, (), lines=lines, file_key=file_key)
    await scene.here.approve(import_work(digest, 300))
    async with device_stand(scene.token, scene.folder, processes=2) as many:
        bad = await many.import_file("import-1", DeviceFile(path))
    assert [(one.number, one.rule) for one in bad] == [(202, "device-key/unwrap")]
    assert len(await found(scene.here, *(name(number) for number in range(300)))) == 299


async def test_a_key_is_rotated_and_the_old_one_retires(scene: Scene) -> None:
    await scene.imported(range(3))
    here = scene.here
    await here.approve(work_on(WorkKind.ROTATE, str(name(1)), "rotate-1"))
    made = await here.keeper.rotate("rotate-1")
    assert (made.version, made.state) == (2, RowState.NEXT)
    assert await found(here, name(1)) == {name(1): "1 epoch-1"}
    with pytest.raises(WrongState):
        await here.keeper.rotate("rotate-1")
    following = await here.keeper.confirm("rotate-1")
    assert following.check_value == made.check_value
    assert await found(here, name(1)) == {name(1): "2 epoch-1"}
    _, rows = await here.devices.of_devices([name(1).device])
    assert [(one.version, one.state) for one in rows[name(1).device]] == [
        (1, RowState.RETIRED),
        (2, RowState.CURRENT),
    ]
    for step in (here.keeper.rotate, here.keeper.confirm):
        with pytest.raises(WrongState):
            await step("rotate-1")


async def test_an_epoch_is_left_key_by_key_and_then_needed_by_none(scene: Scene) -> None:
    await scene.imported(range(40))
    here = scene.here
    await here.approve(work_on(WorkKind.RE_WRAP, "epoch-1", "re-wrap-1"))
    with pytest.raises(WrongState):  # it is in force
        await here.keeper.re_wrap("re-wrap-1")
    await scene.next_epoch()
    before = (await here.devices.device_keys([name(1)])).keys[name(1)].row
    while (work := await here.keeper.re_wrap("re-wrap-1")).state is not WorkState.DONE:
        pass
    assert (work.accepted, dict(work.facts)["epoch"]) == (40, "epoch-2")
    store = await here.devices.store_record()
    assert store is not None
    assert (store.keys, store.needed) == (40, (("binding-1", 40), ("epoch-2", 40)))
    after = (await here.devices.device_keys([name(1)])).keys[name(1)].row
    assert (after.check_value, after.wrapping) == (before.check_value, "epoch-2")
    assert after.blob != before.blob


async def test_a_destroyed_key_is_gone_and_its_work_names_every_epoch(scene: Scene) -> None:
    await scene.imported(range(5))
    await scene.next_epoch()
    here = scene.here
    await here.approve(work_on(WorkKind.DESTROY, str(name(2)), "destroy-1"))
    work = await here.keeper.destroy("destroy-1")
    assert (work.state, dict(work.facts)["epochs"], dict(work.facts)["versions"]) == (
        WorkState.DONE,
        "epoch-1,epoch-2",
        "1",
    )
    assert not await found(here, name(2))
    assert len(await found(here, *(name(number) for number in range(5)))) == 4
    await here.approve(work_on(WorkKind.DESTROY, str(name(2)), "destroy-2"))
    with pytest.raises(WrongState):
        await here.keeper.destroy("destroy-2")


def _killed(scene: Scene, *arguments: str) -> int:
    """Run a work in a process of its own, and kill it at moments nobody chose, until it is done; how often it died."""
    chosen = random.Random(7)
    for deaths in range(40):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.device_stand", str(scene.folder), *arguments],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        if deaths < 3:
            time.sleep(chosen.uniform(0.0, 0.04))
            process.kill()
        done = process.stdout.read() == "done\n"
        process.wait()
        process.stdout.close()
        if done:
            return deaths
        assert process.returncode == -9
    raise AssertionError("the work never ended")


async def test_an_import_that_is_killed_again_and_again_brings_each_key_once(scene: Scene) -> None:
    path = scene.folder / "keys"
    digest = scene.source.write(path, scene.storage, range(400))
    await scene.here.approve(import_work(digest, 400))
    assert _killed(scene, "import", "import-1", str(path)) >= 2
    async with device_stand(scene.token, scene.folder) as after:
        work = await after.work("import-1")
        assert (work.state, work.position, work.accepted) == (WorkState.DONE, 400, 400)
        assert len(await found(after, *(name(number) for number in range(400)))) == 400
        store = await after.devices.store_record()
        assert store is not None
        assert store.needed == (("binding-1", 400), ("epoch-1", 400))


async def test_a_re_wrapping_that_is_killed_again_and_again_leaves_the_epoch(scene: Scene) -> None:
    await scene.imported(range(300))
    await scene.next_epoch()
    await scene.here.approve(work_on(WorkKind.RE_WRAP, "epoch-1", "re-wrap-1"))
    assert _killed(scene, "re-wrap", "re-wrap-1", "") >= 2
    async with device_stand(scene.token, scene.folder) as after:
        store = await after.devices.store_record()
        assert store is not None
        assert (store.keys, store.needed) == (300, (("binding-1", 300), ("epoch-2", 300)))
