"""Dedicated keys: a key that a module makes for one Application Association with a SMETS1 Device, and that ends with it.

The service keeps none of them. Whoever opened the association holds its key, sealed as rows of the device store are: wrapped
under the epoch's storage key, with a tag of the storage-binding key over everything the seal says (which Device, whose
association, until when). Each use brings the seal along. After its time it opens nothing, whoever holds it; nobody can
lengthen it, and no other system, Device or epoch takes it.

Example:
    >>> association_id("s1sp-1", "r-1")
    'd0471b209a7f58760be5ca04'

Source: Smart Energy Code G2.44A(c); DLMS UA 1000-2 (Green Book) Ed. 8, 9.2.3.3.7 (dedicated key); docs/adr/0026-associations.md.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import orjson

from cryptosvc.core.canonical import JsonValue, canonical
from cryptosvc.core.device_keys import (
    DeviceKey,
    RowState,
    SealedKeyRecord,
    row_document,
    row_from_document,
    sealed_record,
)
from cryptosvc.core.documents import number, text
from cryptosvc.core.errors import Malformed, WrongState
from cryptosvc.core.life import NANOSECONDS, Event, Life
from cryptosvc.core.names import KeyId, UnixNanoseconds
from cryptosvc.core.registry import KeyRecord

KIND = "dedicated"
CLAUSE = "G2.44A(c)"
SEAL_OCTETS_AT_MOST = 2048
FIELD = "association"
_ID_OCTETS = 12
_BOUND = b"cryptosvc dedicated key, bound to its association, version 1\x00"


@dataclass(frozen=True, slots=True, kw_only=True)
class DedicatedKey(DeviceKey):
    """A sealed dedicated key.

    Args:
        association: id of the association, 24 hex digits.
        opened_at: Unix time in seconds at which it was asked for.
        expires_at: from this moment on it is used for nothing.

    """

    association: str
    opened_at: int
    expires_at: int

    @property
    def bound(self) -> bytes:
        """What the tag is over: all of it."""
        document = _document(self)
        del document["tag"]
        return _BOUND + canonical(document)

    @property
    def lasting_name(self) -> KeyId:
        """The name its counters are kept under, which no other key ever has.

        It is of this very seal: a forged one, which only the module finds out, takes no counter from the true one.
        """
        digest = hashlib.sha256(emit(self)).digest()[:_ID_OCTETS]
        return KeyId(f"{self.device}.{KIND}.{digest.hex()}")


def association_id(caller_id: str, request_id: str) -> str:
    """Id of the association that a request opens: a caller's request ids are never used twice."""
    return hashlib.sha256(f"association\0{caller_id}\0{request_id}".encode()).digest()[:_ID_OCTETS].hex()


def to_be_made(
    base: SealedKeyRecord, caller_id: str, request_id: str, at: UnixNanoseconds, seconds: int
) -> DedicatedKey:
    """The row of a dedicated key that a module is to make and seal.

    Args:
        base: the Device's encryption key, under which the new one goes to the Device.
        caller_id: who opens the association.
        request_id: by which request.
        at: now.
        seconds: how long it may last.

    """
    row = base.row
    opened_at = at // NANOSECONDS
    return DedicatedKey(
        device=row.device,
        kind=KIND,
        version=1,
        state=RowState.CURRENT,
        system=row.system,
        manufacturer=row.manufacturer,
        model=row.model,
        firmware=row.firmware,
        wrapping=row.wrapping,
        binding=row.binding,
        check_value=b"",
        blob=b"",
        work="",
        tag=b"",
        association=association_id(caller_id, request_id),
        opened_at=opened_at,
        expires_at=opened_at + seconds,
    )


def emit(row: DedicatedKey) -> bytes:
    """Print the seal that the caller keeps. It holds no secret: the key is wrapped."""
    return canonical(_document(row))


def read(seal: bytes) -> DedicatedKey:
    """Read a seal; whether it is one of ours the module says, by its tag. Malformed where it is not what `emit` prints."""
    try:
        document = orjson.loads(seal) if len(seal) <= SEAL_OCTETS_AT_MOST else None
        if isinstance(document, dict):
            found = _row(document)
            if found.kind == KIND and emit(found) == seal:
                return found
    except (orjson.JSONDecodeError, KeyError, ValueError, TypeError, Malformed):
        pass
    raise Malformed(
        "this is not an association as this service gives one out; send back what opening it answered, unchanged",
        rule="association/seal",
        field=FIELD,
    )


def dedicated_record(
    row: DedicatedKey, key_id: KeyId, wrapping: KeyRecord, binding: KeyRecord, at: UnixNanoseconds
) -> SealedKeyRecord:
    """The key record of a dedicated key.

    Raises:
        WrongState: the association is over, or the store was put back from a backup since it was opened.

    """
    if at // NANOSECONDS >= row.expires_at:
        raise WrongState(
            "the association is over, and its key with it; open another",
            rule="association/over",
            clause=CLAUSE,
            field=FIELD,
        )
    advanced = wrapping.life.when(Event.ADVANCE)
    if wrapping.life.above and (advanced is None or row.opened_at <= advanced):
        raise WrongState(
            "the store was put back from a backup since this association was opened, so its counters are not known; open another",
            rule="association/rewound",
            clause="G2.16",
            field=FIELD,
        )
    record = sealed_record(row, key_id, wrapping.version, wrapping, binding)
    return replace(record, life=Life())


def _document(row: DedicatedKey) -> dict[str, JsonValue]:
    return row_document(row) | {
        "association": row.association,
        "opened_at": row.opened_at,
        "expires_at": row.expires_at,
    }


def _row(document: Mapping[str, JsonValue]) -> DedicatedKey:
    own = {"association", "opened_at", "expires_at"}
    row = row_from_document({name: value for name, value in document.items() if name not in own})
    return DedicatedKey(
        **{name: getattr(row, name) for name in DeviceKey.__dataclass_fields__},
        association=text(document, "association"),
        opened_at=number(document, "opened_at"),
        expires_at=number(document, "expires_at"),
    )
