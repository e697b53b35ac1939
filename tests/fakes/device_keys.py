"""DeviceKeys in memory, beside the fake registry: the same answers, without a tree to verify."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from cryptosvc.core.device_keys import DeviceKey, DeviceKeyName, RowState, SealedKeyRecord, sealed_record
from cryptosvc.core.device_records import DEVICE_STORE, DeviceStoreRecord
from cryptosvc.core.errors import Conflict
from cryptosvc.core.names import Eui64, KeyId
from cryptosvc.core.record import Because, Receipt
from cryptosvc.core.registry import KeyRecord, Record
from cryptosvc.flow.ports import DeviceKeyChange, DeviceKeyView
from tests.fakes.ledger import FakeKeys


class FakeDeviceKeys:
    """Rows in a dictionary; the root is a count, since nobody verifies it here."""

    def __init__(self, keys: FakeKeys) -> None:
        self.keys = keys
        self.rows: dict[DeviceKeyName, DeviceKey] = {}

    async def device_keys(self, names: Collection[DeviceKeyName]) -> DeviceKeyView:
        """Find keys."""
        found: dict[DeviceKeyName, SealedKeyRecord] = {}
        for name in names:
            for row in self.rows.values():
                same = (row.device, row.kind) == (name.device, name.kind)
                if same and (
                    row.state is RowState.CURRENT if name.version is None else row.version == name.version
                ):
                    found[name] = self._sealed(row, name)
        return DeviceKeyView(await self.keys.generation(), found)

    async def of_devices(self, devices: Collection[Eui64]) -> tuple[int, Mapping[Eui64, Sequence[DeviceKey]]]:
        """Every version."""
        rows = [row for _, row in sorted(self.rows.items())]
        return await self.keys.generation(), {
            device: [row for row in rows if row.device == device] for device in devices
        }

    async def page(self, after: Eui64 | None, at_most: int) -> tuple[int, Sequence[SealedKeyRecord]]:
        """Whole Devices, in order."""
        devices = sorted({name.device for name in self.rows if after is None or name.device > after})
        found: list[SealedKeyRecord] = []
        for device in devices:
            mine = [
                self._sealed(row, row.name) for _, row in sorted(self.rows.items()) if row.device == device
            ]
            if found and len(found) + len(mine) > at_most:
                break
            found += mine
        return await self.keys.generation(), found

    async def store_record(self) -> DeviceStoreRecord | None:
        """The record."""
        found = await self.keys.record("device-store-record", DEVICE_STORE)
        assert found is None or isinstance(found, DeviceStoreRecord)
        return found

    async def change(self, change: DeviceKeyChange) -> Sequence[Receipt]:
        """One step."""
        if change.at_generation != await self.keys.generation():
            raise Conflict("ask again", rule="registry/moved")
        after = {name: row for name, row in self.rows.items() if name not in set(change.removed)}
        after |= {row.name: row for row in change.put}
        changed: list[Record] = [change.work]
        if change.put or change.removed:
            before = await self.store_record()
            needed = Counter(key for row in after.values() for key in (row.wrapping, row.binding))
            empty = DeviceStoreRecord(version=0, system=change.work.system, root=bytes(32), keys=0, needed=())
            store = before or empty
            changed.append(
                replace(
                    store,
                    version=store.version + 1,
                    root=(store.version + 1).to_bytes(32),
                    keys=len(after),
                    needed=tuple(sorted(needed.items())),
                )
            )
        receipts = await self.keys.change(changed, Because("device-work", change.work.work_id))
        self.rows = after
        return receipts

    def _sealed(self, row: DeviceKey, name: DeviceKeyName) -> SealedKeyRecord:
        records = self.keys.ledger.records
        wrapping, binding = (records["key-record", one] for one in (row.wrapping, row.binding))
        assert isinstance(wrapping, KeyRecord)
        assert isinstance(binding, KeyRecord)
        store = records["device-store-record", DEVICE_STORE]
        return sealed_record(row, KeyId(str(name)), store.version, wrapping, binding)
