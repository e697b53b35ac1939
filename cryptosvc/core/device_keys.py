"""Device keys: symmetric keys of SMETS1 Devices, of which there are millions, kept in the store wrapped by a module.

A row holds the key as the module wrapped it (RFC 5649 under the epoch's storage-wrapping key) and a tag: HMAC-SHA256,
by a storage-binding key of the module, over what the row says it is and the wrapped octets. RFC 5649 has no additional
data, and few modules wrap with AES-GCM (docs/adr/0013-device-keys.md has what was measured), so the tag is what ties the
octets to their row: moved to another row, or with its row edited, a key is refused before it is unwrapped.

To everything else a device key is a `KeyRecord` with an id of the form `DEVICE.KIND`, whose class is `smets1-KIND`.

Example:
    >>> name = DeviceKeyName.parse(KeyId("90-B3-D5-1F-30-01-00-00.encryption"))
    >>> str(name.device), name.kind, name.version
    ('90-B3-D5-1F-30-01-00-00', 'encryption', None)

Source: Smart Energy Code G2.44(c), (e), G5.13; RFC 5649; NIST SP 800-57 Part 1 Rev 5, section 8.2.

"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from cryptosvc.core.canonical import JsonValue, canonical
from cryptosvc.core.documents import number, octets, text
from cryptosvc.core.errors import Malformed, WrongState
from cryptosvc.core.keyclass import KEY_CLASSES
from cryptosvc.core.life import Asset, Life
from cryptosvc.core.names import Environment, Eui64, KeyId, SystemName
from cryptosvc.core.registry import KeyRecord, KeyState, Origin

CLASS_PREFIX = "smets1-"
USED_KEY = "device-store/devices"
"""What an entry of the log says in the place of a key id where a device key was used; its name is withheld."""
STORAGE_WRAPPING = "storage-wrapping"
STORAGE_BINDING = "storage-binding"
TRANSPORT = "device-transport"
_SUITE_0 = frozenset({"encryption", "authentication", "master", "hls-secret"})
"""Global unicast encryption, authentication, key encryption, high-level security. A dedicated key (`associations.py`) lives
one association, and is in no row."""
_ONE_ASSOCIATION = "dedicated"
CHECK_VALUE_OCTETS = 3
KEY_OCTETS = 16
"""DLMS security suite 0 knows AES-128 alone."""
WRAPPED_OCTETS = 24
"""A key of 16 octets under RFC 5649."""
TAG_OCTETS = 32
_ID_OCTETS = 16
DEVICE_SLOT_OCTETS = 10
_KIND_SLOT_OCTETS = 6
_EUI64_TEXT = 23
_KIND = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_BOUND = b"cryptosvc device key, bound to its row, version 1\x00"


class RowState(StrEnum):
    """Where a version of a device key stands."""

    NEXT = "next"
    """Made, and not yet what the Device uses."""
    CURRENT = "current"
    RETIRED = "retired"


_KEY_STATES: Mapping[RowState, KeyState] = {
    RowState.NEXT: KeyState.PRE_ACTIVATION,
    RowState.CURRENT: KeyState.ACTIVE,
    RowState.RETIRED: KeyState.DEACTIVATED,
}


@dataclass(frozen=True, slots=True, order=True)
class DeviceKeyName:
    """Which key of which Device.

    Args:
        device: the Device's EUI-64.
        kind: what the key is for; `smets1-KIND` is its class.
        version: one version; None means the current one.

    """

    device: Eui64
    kind: str
    version: int | None = None

    @classmethod
    def parse(cls, key_id: KeyId) -> Self:
        """Read `DEVICE.KIND` or `DEVICE.KIND.VERSION`; Malformed where it is neither."""
        device, kind, version = (*key_id.split(".", 2), "", "")[:3]
        if _KIND.fullmatch(kind) and (not version or _NUMBER.fullmatch(version)):
            found = cls(Eui64.parse(device), kind, int(version) if version else None)
            if str(found) == key_id:
                return found
        raise Malformed(
            "a device key is named DEVICE.KIND or DEVICE.KIND.VERSION, as 90-B3-D5-1F-30-01-00-00.encryption",
            rule="device-key/name",
            field="key_id",
        )

    def __str__(self) -> str:
        return ".".join(
            (str(self.device), self.kind, *(() if self.version is None else (str(self.version),)))
        )

    @property
    def slot(self) -> bytes:
        """Sixteen octets that stand for device and kind, whatever the version; the first ten for the device alone."""
        return device_slot(self.device) + hashlib.sha256(self.kind.encode()).digest()[:_KIND_SLOT_OCTETS]


def device_slot(device: Eui64) -> bytes:
    """Ten octets that stand for a Device."""
    return hashlib.sha256(b"slot\x00" + device.octets).digest()[:DEVICE_SLOT_OCTETS]


def is_device_key(key_id: str) -> bool:
    """Whether an id has the form of a device key's; no other key may be called so."""
    return len(key_id) > _EUI64_TEXT and key_id[_EUI64_TEXT] == "." and key_id[2:_EUI64_TEXT:3] == "-" * 7


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceKey:
    """One row: one version of one key of one Device.

    Args:
        device: the Device's EUI-64.
        kind: what the key is for.
        version: counts keys of this kind of this Device, from 1.
        state: whether it is the one in use.
        system: the system that owns it (G2.20).
        manufacturer, model, firmware: of the Device, by which its category is found (G2.44A).
        wrapping: storage-wrapping key (the epoch) under which it is wrapped.
        binding: storage-binding key of the tag.
        check_value: the first three octets of AES-ECB of sixteen zero octets under the key.
        blob: the key, wrapped; 24 octets.
        work: id of the approved work that brought it here.
        tag: HMAC-SHA256 over `bound`, 32 octets.

    """

    device: Eui64
    kind: str
    version: int
    state: RowState
    system: SystemName
    manufacturer: str
    model: str
    firmware: str
    wrapping: KeyId
    binding: KeyId
    check_value: bytes
    blob: bytes
    work: str
    tag: bytes

    @property
    def name(self) -> DeviceKeyName:
        """Its name, version included."""
        return DeviceKeyName(self.device, self.kind, self.version)

    @property
    def lasting_name(self) -> KeyId:
        """The name its counters are kept under: with its version, by whichever name it was asked for."""
        return KeyId(str(self.name))

    @property
    def bound(self) -> bytes:
        """What the tag is over: who the key is and its octets; not what may change with it in place."""
        return _BOUND + canonical(
            {
                "system": self.system,
                "device": str(self.device),
                "kind": self.kind,
                "version": self.version,
                "wrapping": self.wrapping,
                "binding": self.binding,
                "check_value": self.check_value.hex(),
                "blob": self.blob.hex(),
            }
        )

    @property
    def digest(self) -> bytes:
        """SHA-256 of the row's document, which the log commits to; 32 octets."""
        return hashlib.sha256(canonical(row_document(self))).digest()


def row_document(row: DeviceKey) -> dict[str, JsonValue]:
    """Print a row. It holds no secret: the key is wrapped."""
    return {
        "device": str(row.device),
        "kind": row.kind,
        "version": row.version,
        "state": row.state.value,
        "system": row.system,
        "manufacturer": row.manufacturer,
        "model": row.model,
        "firmware": row.firmware,
        "wrapping": row.wrapping,
        "binding": row.binding,
        "check_value": row.check_value.hex(),
        "blob": row.blob.hex(),
        "work": row.work,
        "tag": row.tag.hex(),
    }


def row_from_document(document: Mapping[str, JsonValue]) -> DeviceKey:
    """Read a row; Malformed where it is not what `row_document` prints."""
    try:
        found = DeviceKey(
            device=Eui64.parse(text(document, "device")),
            kind=text(document, "kind"),
            version=number(document, "version"),
            state=RowState(text(document, "state")),
            system=SystemName(text(document, "system")),
            manufacturer=text(document, "manufacturer"),
            model=text(document, "model"),
            firmware=text(document, "firmware"),
            wrapping=KeyId(text(document, "wrapping")),
            binding=KeyId(text(document, "binding")),
            check_value=octets(document, "check_value"),
            blob=octets(document, "blob"),
            work=text(document, "work"),
            tag=octets(document, "tag"),
        )
        if row_document(found) == document:
            return found
    except (KeyError, ValueError, TypeError, Malformed):
        pass
    raise Malformed("this is not a device key as this version prints it", rule="device-key/document")


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedKeyRecord(KeyRecord):
    """A device key as the corridor sees it: a key record whose object is made of the row when it is used.

    It never enters the registry: the device store commits to its row.

    Args:
        row: the wrapped key.
        store_version: of the device store's record that vouches for the row.
        wrapping, binding: the module's keys that open it.

    """

    row: DeviceKey
    store_version: int
    wrapping: KeyRecord
    binding: KeyRecord

    @property
    def lasting_name(self) -> KeyId:
        """The name its counters are kept under."""
        return self.row.lasting_name


def sealed_record(
    row: DeviceKey, key_id: KeyId, store_version: int, wrapping: KeyRecord, binding: KeyRecord
) -> SealedKeyRecord:
    """The key record of a row, under the id it was asked by."""
    return SealedKeyRecord(
        key_id=key_id,
        version=row.version,
        key_class=CLASS_PREFIX + row.kind,
        state=wrapping.state if wrapping.state is KeyState.IN_TRANSFER else _KEY_STATES[row.state],
        system=row.system,
        environment=Environment(wrapping.environment),
        module=wrapping.module,
        label=str(row.name),
        object_id=row.digest[:_ID_OCTETS],
        public_point=b"",
        certificate=b"",
        eui64=row.device,
        role=None,
        # it came wrapped, under a quorum's approval, or was made in the module: nobody ever held it
        origin=Origin.TRANSFERRED,
        transferable=False,
        signs_for_eligible_user=False,
        asset=Asset(classification=wrapping.asset.classification),
        life=Life(above=wrapping.life.above),
        row=row,
        store_version=store_version,
        wrapping=wrapping,
        binding=binding,
    )


_OPENS = frozenset({KeyState.ACTIVE, KeyState.DEACTIVATED})
"""SP 800-57 Part 1, 7.4: a key that is no longer to protect anything may still undo what it protected."""


def require_opens(key: SealedKeyRecord) -> None:
    """Require that the storage keys of a device key may be used to open it; WrongState where one may not."""
    for one in (key.wrapping, key.binding):
        if one.life.held:
            raise WrongState(
                f"the store was put back from a backup, and what device keys under {one.key_id} have counted may have "
                "gone back with it; propose key.advance for it",
                rule="restore/held",
                clause="G2.16",
                field="key_id",
            )
        if one.state not in _OPENS:
            raise WrongState(
                f"the storage key {one.key_id} is {one.state}, so the device keys under it cannot be used",
                rule="device-key/epoch-state",
                clause="G5.13(b)",
                field="key_id",
            )


def kinds() -> frozenset[str]:
    """Kinds of device key there are: those of DLMS security suite 0 that a Device keeps, and whatever else has a class."""
    classed = (name.removeprefix(CLASS_PREFIX) for name in KEY_CLASSES if name.startswith(CLASS_PREFIX))
    return _SUITE_0.union(classed) - {_ONE_ASSOCIATION}
