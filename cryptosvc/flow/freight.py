"""Device keys of a transfer: packed at the source, taken in at the destination, removed at the source; a part at a time.

Each of the three may be killed at any moment and goes on when it is called again: packing writes the parts that are not there
as they are to be; the other two are works whose records say how far they are. One part is in memory at a time.

Source: Smart Energy Code G2.22G, G2.22I.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from cryptosvc.core.acts import transfer_devices
from cryptosvc.core.content.dlms.protection import COUNTER_SCOPE
from cryptosvc.core.device_keys import DeviceKey, SealedKeyRecord
from cryptosvc.core.device_records import DeviceWorkRecord, WorkKind, WorkState
from cryptosvc.core.device_work import stepped
from cryptosvc.core.errors import Conflict, Corrupt, Malformed, Refusal, WrongState
from cryptosvc.core.handover import chunks
from cryptosvc.core.handover.chunks import Travelling
from cryptosvc.core.handover.notices import Freight, Package
from cryptosvc.core.names import KeyId
from cryptosvc.core.registry import KeyRecord
from cryptosvc.core.transfer.record import TransferRecord
from cryptosvc.flow.devices import again
from cryptosvc.flow.ports import DeviceKeyChange, DeviceKeys, Records
from cryptosvc.flow.transfer import Crate

Progress = Callable[[str, int, int], None]
"""Told what is being done, how many of it are done, and how many there are."""
_CLAUSE = "G2.22G"


class Counters(Protocol):
    """The greatest number that was claimed of each key in one scope. Unavailable: the store is out of reach now."""

    async def numbers(self, key_ids: Sequence[KeyId], scope: str) -> Mapping[KeyId, int]:
        """Of each key that has claimed any."""

    async def raise_to(self, numbers: Mapping[KeyId, int], scope: str) -> None:
        """Claim nothing up to these numbers any more; one that is higher here stays."""


class Binder(Protocol):
    """The module, as far as rows change their system."""

    async def bind_anew(
        self, rows: Sequence[tuple[DeviceKey, DeviceKey]], binding: KeyRecord
    ) -> Sequence[DeviceKey | Refusal]:
        """Verify the tag of each row as it came, and give it another as it is to be; one key binds both."""


def quiet(_: str, __: int, ___: int) -> None:
    """Tell nobody."""


class Freighter:
    """Moves device keys between a store and the folder of a package."""

    def __init__(
        self,
        records: Records,
        devices: DeviceKeys,
        counters: Counters,
        binder: Binder,
        crate: Crate,
        kinds: Collection[str],
        progress: Progress = quiet,
    ) -> None:
        self._records = records
        self._devices = devices
        self._counters = counters
        self._binder = binder
        self._crate = crate
        self._kinds = kinds
        self._progress = progress

    # The source

    async def pack(self, found: TransferRecord) -> Freight | None:
        """Write the device keys of an exported transfer beside its package; what they are, or None where none move.

        Raises:
            Corrupt: the store is not the one that was exported.

        """
        rows, root = transfer_devices.rows_of(found), transfer_devices.root_of(found)
        if not rows:
            return None
        store = await self._devices.store_record()
        if store is None or (store.keys, store.root) != (rows, root):
            raise Corrupt(
                "the device keys in the store are not those that were exported", rule="transfer/devices"
            )
        packed, chunk, last, reached = 0, 0, "", None
        while True:
            _, page = await self._devices.page(reached, chunks.ROWS_AT_MOST)
            if not page:
                break
            reached, chunk = page[-1].row.device, chunk + 1
            octets = chunks.emit(found.transfer_id, chunk, last, await self._travelling(page))
            last = chunks.digest_of(octets)
            self._put(chunks.name_of(chunk), octets, last)
            packed += len(page)
            self._progress("packing device keys", packed, rows)
        if packed != rows:
            raise Corrupt(
                f"the store has {packed} device keys, its record says {rows}", rule="transfer/devices"
            )
        return Freight(rows=rows, chunks=chunk, last=last)

    async def _travelling(self, page: Sequence[SealedKeyRecord]) -> list[Travelling]:
        ordered = sorted(page, key=lambda one: one.row.name)
        names = [one.lasting_name for one in ordered]
        numbers = await self._counters.numbers(names, COUNTER_SCOPE)
        return [Travelling(one.row, numbers.get(name, 0)) for one, name in zip(ordered, names, strict=True)]

    def _put(self, name: str, octets: bytes, wanted: str) -> None:
        """Write a part, save where it is there already: whoever goes on need not write all of it again."""
        try:
            there = self._crate.take(name, chunks.OCTETS_AT_MOST)
        except Malformed:
            there = b""
        if chunks.digest_of(there) != wanted:
            self._crate.put(name, octets)

    async def release(self, transfer_id: str) -> DeviceWorkRecord | None:
        """Remove the rows that a transfer took away, once its storage keys are destroyed; None where it took none."""
        work = await self._work(transfer_id, WorkKind.RELEASE)
        if work is None:
            return None
        while work.state is not WorkState.DONE:
            work = await self._released(work)
            self._progress("removing device keys", work.position, work.keys)
        return work

    async def _released(self, work: DeviceWorkRecord) -> DeviceWorkRecord:
        async def step() -> DeviceWorkRecord:
            generation, page = await self._devices.page(None, chunks.ROWS_AT_MOST)
            position = work.position + len(page)
            after = stepped(work, position=position, accepted=position, done=position == work.keys)
            names = tuple(one.row.name for one in page)
            await self._devices.change(DeviceKeyChange((), names, after, generation))
            return after

        return await again(step)

    # The destination

    async def require_whole(self, package: Package) -> None:
        """Look through every part before anything touches the module; Malformed where one is not what is named."""
        self._digests(package)

    async def receive(self, package: Package) -> DeviceWorkRecord | None:
        """Take in the device keys of an imported package; None where it has none.

        Raises:
            Malformed: a part is not what the package names, or a row not what it may be.
            Corrupt: a row's octets are not bound to it.
            Conflict: there is such a device key here already.

        """
        transfer_id = package.plan.transfer_id
        work = await self._work(transfer_id, WorkKind.RECEIVE)
        if work is None or work.state is WorkState.DONE:
            return work
        digests = self._digests(package)
        at = 0
        for number, digest in enumerate(digests, 1):
            octets = self._crate.take(chunks.name_of(number), chunks.OCTETS_AT_MOST)
            if chunks.digest_of(octets) != digest:
                raise _exchanged(number)
            if at + chunks.previous_of(octets, transfer_id, number)[1] <= work.position:
                at += chunks.previous_of(octets, transfer_id, number)[1]
                continue
            _, rows = chunks.parse(octets, transfer_id, number)
            at += len(rows)
            work = await self._taken(work, package, rows)
            self._progress("taking in device keys", work.position, work.keys)
        if work.state is not WorkState.DONE:
            raise Malformed(
                "the package has fewer device keys than it says", rule="transfer/chunk", clause=_CLAUSE
            )
        return work

    async def _taken(
        self, work: DeviceWorkRecord, package: Package, rows: Sequence[Travelling]
    ) -> DeviceWorkRecord:
        storage = {str(one.record.key_id): one.record for one in package.keys}
        chunks.require_of(rows, package.plan.source.system, storage, self._kinds)
        # the numbers first: a row that is there without its number could repeat one
        numbers = {KeyId(str(one.row.name)): one.counter for one in rows if one.counter}
        await self._counters.raise_to(numbers, COUNTER_SCOPE)
        bound = [one for part in _by_binding(rows, work) for one in await self._bound(*part)]

        async def step() -> DeviceWorkRecord:
            generation, there = await self._devices.of_devices({row.device for row in bound})
            taken = {(row.device, row.kind) for mine in there.values() for row in mine}
            for row in bound:
                if (row.device, row.kind) in taken:
                    raise Conflict(
                        f"{row.name} is in the store already; one of the two has to go first",
                        rule="device-key/exists",
                        clause=_CLAUSE,
                    )
            position = work.position + len(bound)
            after = stepped(work, position=position, accepted=position, done=position == work.keys)
            await self._devices.change(DeviceKeyChange(bound, (), after, generation))
            return after

        return await again(step)

    async def _bound(
        self, binding: KeyId, rows: Sequence[tuple[DeviceKey, DeviceKey]]
    ) -> Sequence[DeviceKey]:
        record = await self._records.record("key-record", binding)
        if not isinstance(record, KeyRecord):
            raise Malformed(f"there is no key {binding}", rule="transfer/chunk", clause=_CLAUSE)
        found: list[DeviceKey] = []
        for one in await self._binder.bind_anew(rows, record):
            if isinstance(one, Refusal):
                raise one
            found.append(one)
        return found

    async def _work(self, transfer_id: str, kind: WorkKind) -> DeviceWorkRecord | None:
        name = transfer_devices.work_id(transfer_id, kind)
        found = await self._records.record("device-work-record", name)
        return found if isinstance(found, DeviceWorkRecord) else None

    def _digests(self, package: Package) -> list[str]:
        """Digest of every part, the first first, found from the last backwards; Malformed where the chain is broken."""
        freight = package.freight
        if freight is None:
            return []
        found: list[str] = []
        wanted, rows = freight.last, 0
        for number in range(freight.chunks, 0, -1):
            octets = self._crate.take(chunks.name_of(number), chunks.OCTETS_AT_MOST)
            if chunks.digest_of(octets) != wanted:
                raise _exchanged(number)
            found.append(wanted)
            wanted, some = chunks.previous_of(octets, package.plan.transfer_id, number)
            rows += some
            self._progress("looking through the package", len(found), freight.chunks)
        if wanted or rows != freight.rows:
            raise _exchanged(1)
        return found[::-1]


async def settled(records: Records, transfer_id: str) -> None:
    """Require that no work on the device keys of a transfer is under way.

    Raises:
        WrongState: `transfer/devices-under-way`.

    """
    for kind in (WorkKind.RECEIVE, WorkKind.RELEASE):
        found = await records.record("device-work-record", transfer_devices.work_id(transfer_id, kind))
        if isinstance(found, DeviceWorkRecord) and found.state is not WorkState.DONE:
            raise WrongState(
                f"{found.position} of {found.keys} device keys are through; carry the act out again to go on",
                rule="transfer/devices-under-way",
                clause=_CLAUSE,
            )


def _by_binding(
    rows: Sequence[Travelling], work: DeviceWorkRecord
) -> list[tuple[KeyId, list[tuple[DeviceKey, DeviceKey]]]]:
    """Binding key → rows as they came, and as they are to be here but for their tag."""
    found: dict[KeyId, list[tuple[DeviceKey, DeviceKey]]] = {}
    for one in rows:
        here = replace(one.row, system=work.system, work=work.work_id, tag=b"")
        found.setdefault(one.row.binding, []).append((one.row, here))
    return list(found.items())


def _exchanged(chunk: int) -> Malformed:
    return Malformed(
        f"part {chunk} of the package's device keys is not the one it names; ask for the package again",
        rule="transfer/chunk",
        clause="G2.22I",
    )
