"""The DeviceKeys port: rows, the tree over them, and the registry records that vouch for both and say why they changed.

A row is believed where the device store's record is (as any record of the registry) and the row, with every other of its
Device, is what the record's root commits to. What is found is remembered for one generation of the registry.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from cryptosvc.adapters.store import device_rows, records
from cryptosvc.adapters.store.appending import Extension, Registry
from cryptosvc.adapters.store.heads import Head
from cryptosvc.adapters.store.ledger import Ledger
from cryptosvc.adapters.store.registry import StoredRegistry, put
from cryptosvc.adapters.store.session import RecordRow, Session
from cryptosvc.core import device_tree
from cryptosvc.core.device_keys import DeviceKey, DeviceKeyName, RowState, SealedKeyRecord, sealed_record
from cryptosvc.core.device_records import DEVICE_STORE, DeviceStoreRecord
from cryptosvc.core.errors import Conflict, Corrupt, WrongState
from cryptosvc.core.merkle import leaf_hash
from cryptosvc.core.names import Eui64, KeyId
from cryptosvc.core.record import Because, Receipt
from cryptosvc.core.registry import KeyRecord, KeyState, Record
from cryptosvc.core.registry_tree import EMPTY
from cryptosvc.flow.ports import DeviceKeyChange, DeviceKeyView

_REMEMBERED = 20_000
_FIRST = bytes(0)


class StoredDeviceKeys:
    """Device keys.

    Args:
        ledger: the ledger of the same store.
        registry: the registry of the same store; it knows the generation.

    """

    def __init__(self, ledger: Ledger, registry: StoredRegistry) -> None:
        self._ledger = ledger
        self._registry = registry
        self._generation = -1
        self._known: dict[DeviceKeyName, SealedKeyRecord | None] = {}
        self._believed: dict[tuple[str, str], tuple[RecordRow | None, bytes, Record | None]] = {}

    async def device_keys(self, names: Collection[DeviceKeyName]) -> DeviceKeyView:
        """See `flow/ports.py`."""
        generation = (await self._registry.keys(())).generation
        if generation != self._generation or any(name not in self._known for name in names):
            await self._load(names)
        found = {name: key for name in names if (key := self._known.get(name)) is not None}
        return DeviceKeyView(self._generation, found)

    async def of_devices(self, devices: Collection[Eui64]) -> tuple[int, Mapping[Eui64, Sequence[DeviceKey]]]:
        """See `flow/ports.py`."""

        def look(session: Session, head: Head) -> tuple[int, Mapping[Eui64, Sequence[DeviceKey]]]:
            return head.generation, self._rows(session, head, devices)

        return await self._ledger.read(look)

    async def page(self, after: Eui64 | None, at_most: int) -> tuple[int, Sequence[SealedKeyRecord]]:
        """See `flow/ports.py`."""

        def look(session: Session, head: Head) -> tuple[int, Sequence[SealedKeyRecord]]:
            there = device_rows.page(session, _FIRST if after is None else after.octets, at_most)
            rows = self._rows(session, head, dict.fromkeys(row.device for row in there))
            return head.generation, [
                self._sealed(session, head, row, row.name) for mine in rows.values() for row in mine
            ]

        return await self._ledger.read(look)

    async def store_record(self) -> DeviceStoreRecord | None:
        """See `flow/ports.py`."""
        return await self._ledger.read(self._store)

    async def change(self, change: DeviceKeyChange) -> Sequence[Receipt]:
        """See `flow/ports.py`."""
        starts: list[tuple[int, list[bytes]]] = []

        def write(session: Session, head: Head) -> Extension:
            if head.generation != change.at_generation:
                raise Conflict(
                    "the registry changed while this was decided; ask again", rule="registry/moved"
                )
            changed: list[Record] = [change.work]
            if change.put or change.removed:
                changed.append(self._write_rows(session, head, change))
            writer, because = self._ledger.writer, Because("device-work", change.work.work_id)
            leaves = [writer.registered(one, because) for one in changed]
            hashes = [leaf_hash(leaf.entry) for leaf in leaves]
            root = head.registry_root
            for leaf_index, one in enumerate(changed, head.size):
                root = put(session, root, one, leaf_index)
            starts.append((head.size, hashes))
            registry = Registry(head.generation + 1, root)
            return writer.appender.append(session, leaves, hashes, registry=registry)

        await self._ledger.job(lambda: self._ledger.change(write))
        self._registry.look_again()
        return self._ledger.writer.receipts(*starts[-1])

    def _write_rows(self, session: Session, head: Head, change: DeviceKeyChange) -> DeviceStoreRecord:
        """Write rows, buckets and nodes; the store's record afterwards."""
        store = self._store(session, head) or DeviceStoreRecord(
            version=0, system=change.work.system, root=EMPTY, keys=0, needed=()
        )
        self._require_still(session, head, store)
        names = {row.name for row in change.put} | set(change.removed)
        devices = {name.device for name in names}
        numbers = {device: device_tree.bucket_of(device) for device in devices}
        before = device_rows.buckets(session, set(numbers.values()))
        members = {number: device_tree.members_of(octets) for number, octets in before.items()}
        old = [row for row in device_rows.of_devices(session, devices) if row.name in names]
        for row in old:  # what takes the place of a row must be as believed as the row was
            if members[numbers[row.device]].get(device_tree.key_of(row.name)) != row.digest:
                raise device_tree.edited()
        for name in names:
            members[numbers[name.device]].pop(device_tree.key_of(name), None)
        for row in change.put:
            members[numbers[row.device]][device_tree.key_of(row.name)] = row.digest
        pairs = {number: (octets, device_tree.emit(members[number])) for number, octets in before.items()}
        above = device_rows.nodes(session, device_tree.names_above(pairs))
        root, changed = device_tree.root_after(store.root, above, pairs, {})
        device_rows.remove(session, [row.name for row in old])
        device_rows.put(session, change.put)
        device_rows.put_buckets(session, {number: after for number, (_, after) in pairs.items()})
        device_rows.put_nodes(session, changed)
        needed = Counter(dict(store.needed))
        needed.subtract(key for row in old for key in (row.wrapping, row.binding))
        needed.update(key for row in change.put for key in (row.wrapping, row.binding))
        return replace(
            store,
            version=store.version + 1,
            root=root,
            keys=store.keys - len(old) + len(change.put),
            needed=tuple(sorted((key, count) for key, count in needed.items() if count)),
        )

    def _require_still(self, session: Session, head: Head, store: DeviceStoreRecord) -> None:
        """Require that no storage key that rows need is in transfer: what was exported stays as it was exported."""
        for name, _ in store.needed:
            found = self._record(session, head, "key-record", name)
            if isinstance(found, KeyRecord) and found.state is KeyState.IN_TRANSFER:
                raise WrongState(
                    f"the device keys are in transfer to another system with {name}, and do not change meanwhile",
                    rule="device-key/in-transfer",
                    clause="G2.22G",
                )

    async def _load(self, names: Collection[DeviceKeyName]) -> None:
        known, generation = self._known, self._generation

        def look(session: Session, head: Head) -> tuple[int, dict[DeviceKeyName, SealedKeyRecord | None]]:
            stands = head.generation == generation
            unknown = [name for name in names if not (stands and name in known)]
            rows = self._rows(session, head, dict.fromkeys(name.device for name in unknown))
            return head.generation, {
                name: None if row is None else self._sealed(session, head, row, name)
                for name in unknown
                for row in (_named(rows[name.device], name),)
            }

        generation, found = await self._ledger.read(look)
        if generation > self._generation or len(self._known) > _REMEMBERED:
            self._known, self._generation = {}, generation
        if generation == self._generation:
            self._known.update(found)

    def _rows(
        self, session: Session, head: Head, devices: Collection[Eui64]
    ) -> Mapping[Eui64, list[DeviceKey]]:
        store = self._store(session, head)
        return device_rows.verified(session, EMPTY if store is None else store.root, devices)

    def _store(self, session: Session, head: Head) -> DeviceStoreRecord | None:
        found = self._record(session, head, "device-store-record", DEVICE_STORE)
        assert found is None or isinstance(found, DeviceStoreRecord)
        return found

    def _sealed(self, session: Session, head: Head, row: DeviceKey, name: DeviceKeyName) -> SealedKeyRecord:
        wrapping, binding = (
            self._record(session, head, "key-record", one) for one in (row.wrapping, row.binding)
        )
        if not isinstance(wrapping, KeyRecord) or not isinstance(binding, KeyRecord):
            raise Corrupt(
                f"the storage keys of {row.name} are not in the registry", rule="device-key/no-storage-key"
            )
        store = self._store(session, head)
        return sealed_record(row, KeyId(str(name)), 0 if store is None else store.version, wrapping, binding)

    def _record(self, session: Session, head: Head, kind: str, record_id: str) -> Record | None:
        """A record, verified anew where it or the registry changed."""
        row = session.record(kind, record_id)
        known = self._believed.get((kind, record_id))
        if known is not None and known[:2] == (row, head.registry_root):
            return known[2]
        found = records.verified(session, head, kind, record_id, row)
        self._believed[kind, record_id] = (row, head.registry_root, found)
        return found


def _named(rows: Sequence[DeviceKey], name: DeviceKeyName) -> DeviceKey | None:
    for row in rows:
        wanted = row.state is RowState.CURRENT if name.version is None else row.version == name.version
        if row.kind == name.kind and wanted:
            return row
    return None
