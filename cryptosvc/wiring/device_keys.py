"""`device-key …`: works on device keys, on the machine of the service, beside its workers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cryptosvc.adapters.device_files import DeviceFile
from cryptosvc.adapters.hsm.sealing_processes import Pkcs11Sealing
from cryptosvc.adapters.hsm.transport_key import public_key_pem
from cryptosvc.adapters.store.devices import StoredDeviceKeys
from cryptosvc.cli.actions import Document, Progress
from cryptosvc.core import device_destruction
from cryptosvc.core.device_keys import TRANSPORT, DeviceKey, DeviceKeyName, kinds
from cryptosvc.core.device_records import DeviceWorkRecord, WorkState
from cryptosvc.core.errors import Conflict, Forbidden, Malformed, Refusal
from cryptosvc.core.names import Environment, KeyId
from cryptosvc.core.registry import KeyRecord
from cryptosvc.flow.device_import import BadLine, DeviceImporter, Import, Prepared
from cryptosvc.flow.devices import DeviceKeeper
from cryptosvc.flow.observe import Observer
from cryptosvc.wiring import modules, stores, worker
from cryptosvc.wiring.exporting import public_key_der
from cryptosvc.wiring.profiles import read_octets
from cryptosvc.wiring.reconciling import Floor, certifier, opened_floor

_SHOWN_AT_MOST = 1000
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class _Room:
    floor: Floor
    devices: StoredDeviceKeys
    keeper: DeviceKeeper
    importer: DeviceImporter


@asynccontextmanager
async def _room(config: Path, processes: int = 1) -> AsyncIterator[_Room]:
    async with opened_floor(config, "device-keys") as floor:
        settings, store = floor.settings, floor.store
        sealing = Pkcs11Sealing(modules.module_configs(settings), stores.lock_folder(settings), processes)
        try:
            devices = StoredDeviceKeys(store.ledger, store.registry)
            keeper = DeviceKeeper(store.registry, store.registry, devices, sealing, floor.clock)
            importer = DeviceImporter(
                store.registry,
                keeper,
                devices,
                sealing,
                Environment(settings.deployment.environment),
                kinds(),
            )
            yield _Room(floor, devices, keeper, importer)
        finally:
            sealing.close()


def _run(
    config: Path, operation: str, work: Callable[[_Room], Awaitable[_Answer]], processes: int = 1
) -> _Answer:
    """Do a work; what is refused of it is an entry of the log, under the service's own name, and raised."""

    async def run() -> _Answer:
        async with _room(config, processes) as room:
            try:
                return await work(room)
            except Refusal as refusal:
                store = room.floor.store
                service = await worker.service_principal(store)
                await Observer(store.ledger, room.floor.clock).refused(service, operation, [refusal])
                raise

    return asyncio.run(run())


def import_keys(
    config: Path, work_id: str, path: Path, on_bad_line: str, processes: int, progress: Progress
) -> Document:
    """Import a file for an approved work, from where an earlier run left it.

    Args:
        config: the service's configuration.
        work_id: an approved import.
        path: the file.
        on_bad_line: `report` or `stop`, as was approved.
        processes: how many seal at a time.
        progress: told of every part.

    Raises:
        Malformed: the file is truncated, or not what its manifest says.
        Forbidden: it is not the file that was approved, or the choice is another.
        Conflict: a line is bad, and the work was approved to stop there; nothing was done.

    """

    async def run(room: _Room) -> Document:
        progress("looking through the file", 0, 0)
        file = await asyncio.to_thread(DeviceFile, path)
        found = await room.importer.begin(work_id, file.first_line)
        file.require(found.manifest.keys, found.manifest.body_sha256)
        if found.work.on_bad_line != on_bad_line:
            raise Forbidden(
                f"the work was approved with {found.work.on_bad_line} for a bad line",
                rule="device-work/on-bad-line",
                clause="G5.13(b)",
                field="on_bad_line",
            )
        if on_bad_line == "stop":
            await _require_clean(room, found, file, progress)
        bad: list[BadLine] = []
        ahead = await _prepared(room, found, file, found.work.position)
        while ahead is not None:
            # the module works on the part that follows while the store takes this one
            following = asyncio.create_task(
                _prepared(room, found, file, found.work.position + len(ahead.lines))
            )
            try:
                found, some = await room.importer.take(found, ahead)
            except BaseException:
                following.cancel()
                raise
            bad += some[: _SHOWN_AT_MOST - len(bad)]
            progress("importing keys", found.work.position, found.work.keys)
            ahead = await following
        return {**_work(found.work), "bad_lines": tuple(map(_bad, bad))}

    return _run(config, "device-key.import", run, processes)


async def _prepared(
    room: _Room, found: Import, file: DeviceFile, position: int, seen: set[bytes] | None = None
) -> Prepared | None:
    """The lines from a position on, or None at the end."""
    lines, first = file.lines_from(position)
    return await room.importer.prepare(found, lines, first, seen) if lines else None


async def _require_clean(room: _Room, found: Import, file: DeviceFile, progress: Progress) -> None:
    """Try every line before the first is imported."""
    position, seen = found.work.position, set[bytes]()
    while (tried := await _prepared(room, found, file, position, seen)) is not None:
        if bad := await room.importer.look_over(tried):
            raise Conflict(
                f"line {bad[0].number} is bad, and with it {len(bad) - 1} more of this part: {bad[0].why}; nothing is done",
                rule=bad[0].rule,
                clause="G5.13(b)",
            )
        position += len(tried.lines)
        progress("trying keys", position, found.work.keys)


def show(config: Path, name: str) -> Document:
    """Every version of one device key, without a secret; Malformed where there is none."""
    wanted = DeviceKeyName.parse(KeyId(name))

    async def run(room: _Room) -> Document:
        _, rows = await room.devices.of_devices({wanted.device})
        mine = [row for row in rows[wanted.device] if row.kind == wanted.kind]
        if not mine:
            raise Malformed(f"there is no device key {wanted}", rule="device-key/unknown", field="key")
        return {"key": str(wanted), "versions": tuple(map(_row, mine))}

    return _run(config, "device-key.show", run)


def rotate(config: Path, work_id: str, *, confirm: bool) -> Document:
    """Make the next version of a key, or put the one that was made in the place of the old one."""

    async def run(room: _Room) -> Document:
        made = await (room.keeper.confirm(work_id) if confirm else room.keeper.rotate(work_id))
        return {"key": str(made.name), **_row(made)}

    return _run(config, "device-key.rotate", run)


def re_wrap(config: Path, work_id: str, processes: int, progress: Progress) -> Document:
    """Leave an epoch: wrap every key that is under it anew, from where an earlier run left it."""

    async def run(room: _Room) -> Document:
        while True:
            work = await room.keeper.re_wrap(work_id)
            store = await room.devices.store_record()
            progress("wrapping keys anew", work.position, 0 if store is None else store.keys)
            if work.state is WorkState.DONE:
                return _work(work)

    return _run(config, "device-key.re-wrap", run, processes)


def destroy(config: Path, work_id: str) -> Document:
    """Remove a device key; the epochs that have to go as well are in the answer."""

    async def run(room: _Room) -> Document:
        return _work(await room.keeper.destroy(work_id))

    return _run(config, "device-key.destroy", run)


def certify(config: Path, work_id: str, out: Path) -> Document:
    """Write the destruction certificate of the key a work removed; raises as `DeviceCertifier.of_device_key`."""

    async def run() -> bytes:
        async with opened_floor(config, "destruction") as floor:
            return await (await certifier(floor)).of_device_key(work_id)

    envelope = asyncio.run(run())
    out.write_bytes(envelope)
    return {"work": work_id, "written_to": str(out), "octets": len(envelope)}


def verify_certificate(certificate: Path, service_key: Path, log_key: Path) -> Document:
    """Verify such a certificate with two public keys and nothing else; Corrupt where it does not hold."""
    found = device_destruction.verify(
        read_octets(certificate, "CERTIFICATE"), public_key_der(service_key), public_key_der(log_key)
    )
    return {
        "holds": True,
        "key": found.work.subject,
        "system": found.work.system,
        "versions": dict(found.work.facts)["versions"],
        "epochs_destroyed": tuple(str(one.key_id) for one in found.epochs),
        "log_entries": found.size,
    }


def transport(config: Path, key_id: str, out: Path) -> Document:
    """Write the public half of a device-transport key, for those who send keys; Malformed where it is none."""

    async def run(room: _Room) -> bytes:
        view = await room.floor.store.registry.keys({KeyId(key_id)})
        key: KeyRecord | None = view.keys.get(KeyId(key_id))
        if key is None or key.key_class != TRANSPORT:
            raise Malformed(f"{key_id} is no {TRANSPORT} key", rule="device-file/transport", field="key")
        settings = room.floor.settings
        (config_of,) = (one for one in modules.module_configs(settings) if one.name == key.module)
        return await asyncio.to_thread(public_key_pem, config_of, stores.lock_folder(settings), key)

    out.write_bytes(_run(config, "device-key.transport", run))
    return {"key": key_id, "written_to": str(out)}


def _work(work: DeviceWorkRecord) -> Document:
    return {
        "work": work.work_id,
        "kind": work.kind.value,
        "state": work.state.value,
        "position": work.position,
        "accepted": work.accepted,
        **dict(work.facts),
    }


def _row(row: DeviceKey) -> Document:
    return {
        "version": row.version,
        "state": row.state.value,
        "manufacturer": row.manufacturer,
        "model": row.model,
        "firmware": row.firmware,
        "epoch": row.wrapping,
        "check_value": row.check_value.hex(),
        "work": row.work,
    }


def _bad(line: BadLine) -> Document:
    return {"line": line.number, "rule": line.rule, "why": line.why}
