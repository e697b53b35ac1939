"""Device keys for tests of the store: rows that no module made, and the records beside them."""

import hashlib
from dataclasses import replace

from cryptosvc.core.device_keys import DeviceKey, RowState
from cryptosvc.core.device_records import DeviceWorkRecord, WorkKind, WorkState
from cryptosvc.core.names import Eui64, KeyId, SystemName
from cryptosvc.core.registry import KeyRecord
from tests.claims import key_record
from tests.store_stand import SCOPE

SYSTEM = SystemName(SCOPE.system)
EPOCH = replace(key_record(label="epoch-1", key_class="storage-wrapping"), system=SYSTEM)
BINDING = replace(key_record(label="binding-1", key_class="storage-binding"), system=SYSTEM)
WORK = DeviceWorkRecord(
    work_id="import-1",
    version=1,
    state=WorkState.APPROVED,
    system=SYSTEM,
    kind=WorkKind.IMPORT,
    subject="ab" * 32,
    source="maker",
    keys=100_000,
    on_bad_line="report",
)


def row(number: int, *, kind: str = "encryption", version: int = 1, wrapping: KeyRecord = EPOCH) -> DeviceKey:
    """The key of the Device with this number."""
    made = hashlib.sha512(f"{number} {kind} {version} {wrapping.key_id}".encode()).digest()
    return DeviceKey(
        device=Eui64(b"\x90\xb3\xd5\x1f" + number.to_bytes(4)),
        kind=kind,
        version=version,
        state=RowState.CURRENT,
        system=SYSTEM,
        manufacturer="maker",
        model="m1",
        firmware="1.0",
        wrapping=KeyId(wrapping.key_id),
        binding=KeyId(BINDING.key_id),
        check_value=made[:3],
        blob=made[3:27],
        work="import-1",
        tag=made[27:59],
    )
