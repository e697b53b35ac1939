"""What stands open in the leaf of a record: the fields that follow from the record alone.

The service writes them, and whoever verifies the log makes them again from the document beside the leaf.
"""

from cryptosvc.core import lifecycle
from cryptosvc.core.asset import ModuleRecord
from cryptosvc.core.canonical import JsonValue, digest
from cryptosvc.core.device_records import DeviceStoreRecord
from cryptosvc.core.registry import KeyRecord, Record, record_document, record_id, record_kind

OPEN_IDS = {
    "key-record": "key",
    "proposal-record": "proposal",
    "module-record": "module",
    "device-store-record": "device-store",
    "device-source-record": "device-source",
    "device-work-record": "device-work",
    "transfer-record": "transfer",
}
"""Kinds of record whose id stands open in the leaf, and under which name; ids of people are withheld."""
PERSONAL_KINDS = frozenset({"caller-record", "custodian-record"})
"""Kinds of record whose id is withheld."""


def described(record: Record) -> dict[str, JsonValue]:
    """What stands open in the leaf of a record and follows from the record alone."""
    found: dict[str, JsonValue] = {
        "record_version": record.version,
        "record_digest": digest(record_document(record)).hex(),
    }
    if isinstance(record, KeyRecord):
        found["key"] = record.key_id
        found["key_class"] = record.key_class
        found["key_system"] = record.system
        found["origin"] = record.origin.value
        found["due"] = [
            {"at": one.at, "event": one.event.value, "rule": one.rule} for one in lifecycle.schedule(record)
        ]
        if record.life.usage_limit is not None:
            found["usage_limit"] = record.life.usage_limit
    elif record_kind(record) in OPEN_IDS:
        found[OPEN_IDS[record_kind(record)]] = record_id(record)
    if not isinstance(record, ModuleRecord | DeviceStoreRecord):
        found["state"] = record.state.value
    return found
