"""Key and caller records: what the service believes about a key or a caller, because the log proves it.

A record's document, as canonical JSON, is what its leaf commits to (SHA-256 of it is the leaf's `record_digest`); a
worker refuses a record whose digest is not the one in the leaf it names (G2.27). Parsing accepts only what printing
would give: `key_from_document(key_document(record)) == record`, and any other document is Malformed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from cryptosvc.core.asset import ModuleRecord, module_document, module_from_document
from cryptosvc.core.canonical import JsonValue, digest
from cryptosvc.core.custodian import CustodianRecord, custodian_document, custodian_from_document
from cryptosvc.core.device_records import (
    DEVICE_STORE,
    DeviceSourceRecord,
    DeviceStoreRecord,
    DeviceWorkRecord,
    source_document,
    source_from_document,
    store_document,
    store_from_document,
    work_document,
    work_from_document,
)
from cryptosvc.core.documents import mapping, mappings, number, octets, text, texts, truth
from cryptosvc.core.errors import Malformed
from cryptosvc.core.life import (
    Asset,
    Life,
    asset_document,
    asset_from_document,
    life_document,
    life_from_document,
)
from cryptosvc.core.names import (
    CallerId,
    Environment,
    Eui64,
    KeyId,
    ModuleName,
    RemotePartyRole,
    SystemName,
    UserRole,
)
from cryptosvc.core.proposal import ProposalRecord, proposal_document, proposal_from_document
from cryptosvc.core.transfer.record import TransferRecord, transfer_document, transfer_from_document


class KeyState(StrEnum):
    """Key states. Source: NIST SP 800-57 Part 1 Rev 5, section 7.

    ORDERED stands before them: the record exists and no object does yet (G5.13(b), "ordered"). IN_TRANSFER and
    SPLIT stand beside them: the key was exported to another system and does nothing here (G2.22G); the key exists in
    parts only, which their holders have (G2.44B).
    """

    ORDERED = "ordered"
    PRE_ACTIVATION = "pre-activation"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    IN_TRANSFER = "in-transfer"
    SPLIT = "split"
    DEACTIVATED = "deactivated"
    COMPROMISED = "compromised"
    DESTROYED = "destroyed"


class Origin(StrEnum):
    """Where the key material was made. An adopted key says so for ever; policy keeps it out of `live`.

    TRANSFERRED: another system exported it to this one (G2.22G).
    """

    GENERATED = "generated"
    ADOPTED = "adopted"
    TRANSFERRED = "transferred"


class CallerState(StrEnum):
    """Whether a caller may call."""

    REGISTERED = "registered"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """One key.

    Args:
        key_id: unique in the deployment; letters, digits, `.`, `_`, `-`; at most 64 characters.
        version: counts changes of this record, from 1.
        key_class: a name in `core/keyclass.py`.
        state: lifecycle state.
        system: the system that owns the key (G2.20, G3.14).
        environment: test or live.
        module: the configured module that holds the object.
        label: CKA_LABEL of the object; with `object_id` the exact template it is found by.
        object_id: CKA_ID of the object.
        public_point: uncompressed P-256 point, 65 octets; empty for a symmetric key.
        certificate: DER of the key's own certificate; empty where it has none yet.
        eui64: the entity the key belongs to, from its certificate; None where it has none (OCA keys, log keys).
        role: Remote Party Role from the certificate's OU; None where it has none.
        origin: generated on the module, or adopted.
        transferable: extractable under trusted wrapping, as fixed at generation.
        signs_for_eligible_user: signs Pre-Commands of an Eligible User: UK modules only (G3.25).
        asset: its line in the asset register (G5.6, G5.21).
        life: dates and limits that were approved, and what happened when.

    """

    key_id: KeyId
    version: int
    key_class: str
    state: KeyState
    system: SystemName
    environment: Environment
    module: ModuleName
    label: str
    object_id: bytes
    public_point: bytes
    certificate: bytes
    eui64: Eui64 | None
    role: RemotePartyRole | None
    origin: Origin
    transferable: bool
    signs_for_eligible_user: bool
    asset: Asset = field(default=Asset())
    life: Life = field(default=Life())


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A caller may ask `operation` of keys of one class in its own system.

    Args:
        operation: an `Operation`, by its text.
        key_class: a class name.
        key_ids: the keys meant; empty means every key of that class in the caller's system.

    """

    operation: str
    key_class: str
    key_ids: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerRecord:
    """One registered caller: a TLS client certificate and what it may do.

    Args:
        caller_id: unique; same alphabet as key ids.
        version: counts changes of this record, from 1.
        state: registered, or revoked for good.
        certificate_sha256: SHA-256 of the DER client certificate, 32 octets.
        system: the system the caller belongs to.
        user_roles: SEC User Roles it acts in (G1.5, G1.7).
        user_ids: EUI-64s it acts for; empty for a caller that acts for none.
        grants: what it may ask.
        auditor: may read the log.
        supply_sensitive_checker_key: SubjectPublicKeyInfo DER whose DSSE statements count as this caller's Supply
            Sensitive Check (G3.23); empty where it has none.

    """

    caller_id: CallerId
    version: int
    state: CallerState
    certificate_sha256: bytes
    system: SystemName
    user_roles: frozenset[UserRole]
    user_ids: frozenset[Eui64]
    grants: tuple[Grant, ...]
    auditor: bool = False
    supply_sensitive_checker_key: bytes = b""


Record = (
    KeyRecord
    | CallerRecord
    | CustodianRecord
    | ProposalRecord
    | ModuleRecord
    | DeviceStoreRecord
    | DeviceSourceRecord
    | DeviceWorkRecord
    | TransferRecord
)
"""Everything the registry holds, proven in one way."""


_KINDS: Mapping[type, str] = MappingProxyType(
    {
        KeyRecord: "key-record",
        CallerRecord: "caller-record",
        CustodianRecord: "custodian-record",
        ProposalRecord: "proposal-record",
        ModuleRecord: "module-record",
        DeviceStoreRecord: "device-store-record",
        DeviceSourceRecord: "device-source-record",
        DeviceWorkRecord: "device-work-record",
        TransferRecord: "transfer-record",
    }
)
RECORD_KINDS = frozenset(_KINDS.values())
"""Kinds of leaf that commit to a record."""


def record_kind(record: Record) -> str:
    """Kind of the leaf that commits to the record, as `key-record`."""
    return _KINDS[type(record)]


def record_id(record: Record) -> str:
    """Its id, unique among records of its kind."""
    match record:
        case KeyRecord():
            return record.key_id
        case CallerRecord():
            return record.caller_id
        case CustodianRecord():
            return record.custodian_id
        case ProposalRecord():
            return record.proposal_id
        case ModuleRecord():
            return record.module
        case DeviceStoreRecord():
            return DEVICE_STORE
        case DeviceSourceRecord():
            return record.source_id
        case DeviceWorkRecord():
            return record.work_id
        case TransferRecord():
            return record.transfer_id


def record_document(record: Record) -> dict[str, JsonValue]:
    """What is stored and committed to: octets in lower-case hex, sets sorted."""
    match record:
        case KeyRecord():
            return key_document(record)
        case CallerRecord():
            return caller_document(record)
        case CustodianRecord():
            return custodian_document(record)
        case ProposalRecord():
            return proposal_document(record)
        case ModuleRecord():
            return module_document(record)
        case DeviceStoreRecord():
            return store_document(record)
        case DeviceSourceRecord():
            return source_document(record)
        case DeviceWorkRecord():
            return work_document(record)
        case TransferRecord():
            return transfer_document(record)


def record_from_document(kind: str, document: Mapping[str, JsonValue]) -> Record:
    """Read a record of a kind; Malformed where there is no such kind, or it is not what its kind prints."""
    readers: Mapping[str, Callable[[Mapping[str, JsonValue]], Record]] = {
        "key-record": key_from_document,
        "caller-record": caller_from_document,
        "custodian-record": custodian_from_document,
        "proposal-record": proposal_from_document,
        "module-record": module_from_document,
        "device-store-record": store_from_document,
        "device-source-record": source_from_document,
        "device-work-record": work_from_document,
        "transfer-record": transfer_from_document,
    }
    if kind not in readers:
        raise Malformed("there is no such kind of record", rule="registry/kind")
    return readers[kind](document)


def record_digest(record: Record) -> bytes:
    """SHA-256 of the canonical document, 32 octets."""
    return digest(record_document(record))


def key_document(record: KeyRecord) -> dict[str, JsonValue]:
    """Print a key record."""
    return {
        "key_id": record.key_id,
        "version": record.version,
        "key_class": record.key_class,
        "state": record.state.value,
        "system": record.system,
        "environment": record.environment.value,
        "module": record.module,
        "label": record.label,
        "object_id": record.object_id.hex(),
        "public_point": record.public_point.hex(),
        "certificate": record.certificate.hex(),
        "eui64": None if record.eui64 is None else str(record.eui64),
        "role": None if record.role is None else record.role.value,
        "origin": record.origin.value,
        "transferable": record.transferable,
        "signs_for_eligible_user": record.signs_for_eligible_user,
        "asset": asset_document(record.asset),
        "life": life_document(record.life),
    }


def key_from_document(document: Mapping[str, JsonValue]) -> KeyRecord:
    """Read a key record. Malformed: not what `key_document` prints."""
    try:
        eui64, role = document["eui64"], document["role"]
        found = KeyRecord(
            key_id=KeyId(text(document, "key_id")),
            version=number(document, "version"),
            key_class=text(document, "key_class"),
            state=KeyState(text(document, "state")),
            system=SystemName(text(document, "system")),
            environment=Environment(text(document, "environment")),
            module=ModuleName(text(document, "module")),
            label=text(document, "label"),
            object_id=octets(document, "object_id"),
            public_point=octets(document, "public_point"),
            certificate=octets(document, "certificate"),
            eui64=None if eui64 is None else Eui64.parse(text(document, "eui64")),
            role=None if role is None else RemotePartyRole(number(document, "role")),
            origin=Origin(text(document, "origin")),
            transferable=truth(document, "transferable"),
            signs_for_eligible_user=truth(document, "signs_for_eligible_user"),
            asset=asset_from_document(mapping(document, "asset")),
            life=life_from_document(mapping(document, "life")),
        )
    except (KeyError, ValueError, TypeError, Malformed):
        raise _not_a_record("key") from None
    if key_document(found) != document:
        raise _not_a_record("key")
    return found


def caller_document(record: CallerRecord) -> dict[str, JsonValue]:
    """Print a caller record; grants keep their order."""
    return {
        "caller_id": record.caller_id,
        "version": record.version,
        "state": record.state.value,
        "certificate_sha256": record.certificate_sha256.hex(),
        "system": record.system,
        "user_roles": sorted(role.value for role in record.user_roles),
        "user_ids": sorted(str(user_id) for user_id in record.user_ids),
        "grants": [
            {"operation": grant.operation, "key_class": grant.key_class, "key_ids": sorted(grant.key_ids)}
            for grant in record.grants
        ],
        "auditor": record.auditor,
        "supply_sensitive_checker_key": record.supply_sensitive_checker_key.hex(),
    }


def caller_from_document(document: Mapping[str, JsonValue]) -> CallerRecord:
    """Read a caller record. Malformed: not what `caller_document` prints."""
    try:
        found = CallerRecord(
            caller_id=CallerId(text(document, "caller_id")),
            version=number(document, "version"),
            state=CallerState(text(document, "state")),
            certificate_sha256=octets(document, "certificate_sha256"),
            system=SystemName(text(document, "system")),
            user_roles=frozenset(UserRole(role) for role in texts(document, "user_roles")),
            user_ids=frozenset(Eui64.parse(user_id) for user_id in texts(document, "user_ids")),
            grants=tuple(
                Grant(
                    operation=text(grant, "operation"),
                    key_class=text(grant, "key_class"),
                    key_ids=frozenset(texts(grant, "key_ids")),
                )
                for grant in mappings(document, "grants")
            ),
            auditor=truth(document, "auditor"),
            supply_sensitive_checker_key=octets(document, "supply_sensitive_checker_key"),
        )
    except (KeyError, ValueError, TypeError, Malformed):
        raise _not_a_record("caller") from None
    if caller_document(found) != document:
        raise _not_a_record("caller")
    return found


def _not_a_record(what: str) -> Malformed:
    return Malformed(f"this is not a {what} record as this version prints it", rule="registry/document")
