"""Certificates for device keys that were destroyed: proof for anybody that no copy of one, in whatever backup, opens any more.

A device key is gone once its rows are removed and every epoch that a copy of it may be under is destroyed. So a certificate
carries the entry of the work that removed the rows, which names those epochs, and for each of them the entry that says its key
is destroyed (each has a destruction certificate of its own, with what the modules answered). Verified off-line with two keys.

Source: Smart Energy Code G5.13(b), G5.24.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from cryptosvc.core import checkpoint, dsse
from cryptosvc.core.canonical import JsonValue, canonical
from cryptosvc.core.content import service_statement
from cryptosvc.core.destruction import ProvenEntry, entry_document, entry_of, require_proven
from cryptosvc.core.device_keys import STORAGE_WRAPPING
from cryptosvc.core.device_records import (
    DeviceWorkRecord,
    WorkKind,
    WorkState,
    work_document,
    work_from_document,
)
from cryptosvc.core.device_work import CLAUSE
from cryptosvc.core.documents import mapping, mappings, text
from cryptosvc.core.errors import Corrupt, CryptosvcError
from cryptosvc.core.registry import KeyRecord, KeyState, key_document, key_from_document

TYPE = "device-key-destruction-certificate"


@dataclass(frozen=True, slots=True)
class Proven:
    """A key record with the entry that commits to it."""

    key: KeyRecord
    entry: ProvenEntry


@dataclass(frozen=True, slots=True)
class DeviceKeyDestroyed:
    """What a certificate that verified says.

    Args:
        work: the work that removed the key, and names it.
        epochs: the storage-wrapping keys that were destroyed.
        size: number of entries of the log the checkpoint signs.

    """

    work: DeviceWorkRecord
    epochs: tuple[KeyRecord, ...]
    size: int


def epochs_of(work: DeviceWorkRecord) -> tuple[str, ...]:
    """Ids of the epochs a copy may be under, as the work found them."""
    return tuple(one for one in dict(work.facts).get("epochs", "").split(",") if one)


def payload(
    work: DeviceWorkRecord, work_entry: ProvenEntry, epochs: Sequence[Proven], note: bytes, origin: str
) -> bytes:
    """What the service-signing key signs: canonical JSON. Its subject is the work: the Device's name stays out of the log."""
    return canonical(
        {
            "v": service_statement.VERSION,
            "type": TYPE,
            "subject": work.work_id,
            "system": work.system,
            "environment": epochs[0].key.environment.value if epochs else "",
            "origin": origin,
            "clause": CLAUSE,
            "key": work.subject,
            "work": work_document(work),
            "checkpoint": note.decode(),
            "work_entry": entry_document(work_entry),
            "epochs": [{"key": key_document(one.key), "entry": entry_document(one.entry)} for one in epochs],
        }
    )


def verify(envelope: bytes, service_key: bytes, log_key: bytes) -> DeviceKeyDestroyed:
    """Verify a certificate.

    Args:
        envelope: DSSE envelope as it was given out.
        service_key: SubjectPublicKeyInfo DER of the service-signing key.
        log_key: SubjectPublicKeyInfo DER of the log's audit-signing key.

    Raises:
        Corrupt: rule `device-destruction/…`, naming what does not hold.

    """
    try:
        found = dsse.parse(envelope)
        dsse.verify(found, {dsse.key_id(service_key): service_key})
        document: Mapping[str, JsonValue] = orjson.loads(found.payload)
        if found.payload_type != service_statement.PAYLOAD_TYPE or text(document, "type") != TYPE:
            raise _broken("it is another kind of statement", "type")
        origin, note = text(document, "origin"), text(document, "checkpoint").encode()
        signed = checkpoint.verify(note, origin, log_key)
        work = work_from_document(mapping(document, "work"))
        work_entry = entry_of(document, "work_entry")
        require_proven(work_entry, "device-work-record", work.work_id, work_document(work), signed)
        epochs = [
            Proven(key_from_document(mapping(one, "key")), entry_of(one, "entry"))
            for one in mappings(document, "epochs")
        ]
        for one in epochs:
            require_proven(one.entry, "key-record", one.key.key_id, key_document(one.key), signed)
        if payload(work, work_entry, epochs, note, origin) != found.payload:
            raise _broken("it says something that its entries do not", "facts")
    except Corrupt:
        raise
    except (CryptosvcError, orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        what = error.message if isinstance(error, CryptosvcError) else "a field is missing or of another type"
        raise _broken(what, "form") from None
    _require_destroyed(work, [one.key for one in epochs])
    return DeviceKeyDestroyed(work, tuple(one.key for one in epochs), signed.size)


def _require_destroyed(work: DeviceWorkRecord, epochs: Sequence[KeyRecord]) -> None:
    for what, holds in (
        ("its work removed nothing", (work.kind, work.state) == (WorkKind.DESTROY, WorkState.DONE)),
        (
            "it does not have every epoch that its work names",
            epochs_of(work) == tuple(one.key_id for one in epochs) != (),
        ),
        (
            "an epoch is not destroyed",
            all((one.key_class, one.state) == (STORAGE_WRAPPING, KeyState.DESTROYED) for one in epochs),
        ),
    ):
        if not holds:
            raise _broken(what, "facts")


def _broken(what: str, rule: str) -> Corrupt:
    return Corrupt(
        f"the destruction certificate does not hold: {what}", rule=f"device-destruction/{rule}", clause=CLAUSE
    )
