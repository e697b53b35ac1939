"""The Keys port over key records and device keys alike: to who asks, a key is a key."""

from collections.abc import Collection, Sequence

from cryptosvc.adapters.store.devices import StoredDeviceKeys
from cryptosvc.adapters.store.registry import StoredRegistry
from cryptosvc.core.device_keys import DeviceKeyName, is_device_key
from cryptosvc.core.errors import Malformed
from cryptosvc.core.names import KeyId, SystemName
from cryptosvc.core.registry import CallerRecord, KeyRecord
from cryptosvc.flow.ports import KeyView


class EveryKey:
    """Key records, and a `SealedKeyRecord` for each device key that is asked for by its name.

    Args:
        registry: key and caller records.
        devices: device keys of the same store.

    """

    def __init__(self, registry: StoredRegistry, devices: StoredDeviceKeys) -> None:
        self._registry = registry
        self._devices = devices

    async def keys(self, key_ids: Collection[KeyId]) -> KeyView:
        """See `flow/ports.py`; the generation is the older of the two readings."""
        names: dict[KeyId, DeviceKeyName] = {}
        for key_id in key_ids:
            if is_device_key(key_id):
                try:
                    names[key_id] = DeviceKeyName.parse(key_id)
                except Malformed:  # no key is called so
                    continue
        if not names:
            return await self._registry.keys(key_ids)
        others = await self._registry.keys([one for one in key_ids if one not in names])
        found = await self._devices.device_keys(names.values())
        mine = {key_id: found.keys[name] for key_id, name in names.items() if name in found.keys}
        return KeyView(min(others.generation, found.generation), {**others.keys, **mine})

    async def keys_of(self, system: SystemName) -> Sequence[KeyRecord]:
        """Key records of a system; device keys are too many to list."""
        return await self._registry.keys_of(system)

    async def keys_of_classes(self, key_classes: frozenset[str]) -> KeyView:
        """Key records of these classes; device keys have none of them."""
        return await self._registry.keys_of_classes(key_classes)

    async def caller(self, certificate_sha256: bytes) -> CallerRecord | None:
        """See `flow/ports.py`."""
        return await self._registry.caller(certificate_sha256)
