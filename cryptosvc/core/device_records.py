"""What the registry holds of device keys: one record over all of them, the works that may change them, and who may send them.

The rows themselves are too many for records of their own. The device store's record commits to every one of them by the
root of a tree (`device_tree.py`), so that a row that was edited, put back, removed or added is found before it is used. It
changes only on behalf of a work that custodians approved; in the same transaction the work's record says how far it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.documents import mapping, number, octets, text
from cryptosvc.core.errors import Malformed
from cryptosvc.core.names import SystemName

DEVICE_STORE = "devices"
"""Id of the one record of its kind."""
ROOT_OCTETS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceStoreRecord:
    """Every device key there is, in one hash.

    Args:
        version: counts changes, from 1.
        system: that owns the deployment.
        root: of the tree over all rows, 32 octets.
        keys: number of rows.
        needed: storage-wrapping or storage-binding key → number of rows that need it, never 0; sorted.

    """

    version: int
    system: SystemName
    root: bytes
    keys: int
    needed: tuple[tuple[str, int], ...]


class SourceState(StrEnum):
    """Whether files of a source are taken."""

    REGISTERED = "registered"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSourceRecord:
    """Somebody who may send device keys.

    Args:
        source_id: unique; letters, digits, `.`, `_`, `-`; at most 64 characters.
        version: counts changes of this record, from 1.
        state: registered, or revoked for good.
        system: the system that takes its files.
        key: SubjectPublicKeyInfo DER (P-256) that verifies its manifests.

    """

    source_id: str
    version: int
    state: SourceState
    system: SystemName
    key: bytes


class WorkKind(StrEnum):
    """What a work does to device keys."""

    IMPORT = "import"
    ROTATE = "rotate"
    RE_WRAP = "re-wrap"
    DESTROY = "destroy"
    RECEIVE = "receive"
    """Take the rows of a transfer in."""
    RELEASE = "release"
    """Remove the rows that a transfer took to another system."""


class WorkState(StrEnum):
    """How far a work is."""

    APPROVED = "approved"
    UNDER_WAY = "under-way"
    DONE = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceWorkRecord:
    """One approved change of device keys, and how far it is.

    Args:
        work_id: unique; same alphabet as key ids.
        version: counts changes of this record, from 1.
        state: approved, under way, or done for good.
        system: that owns the keys.
        kind: what is done.
        subject: of an import, hex SHA-256 of the signed manifest; of a rotation or destruction, `DEVICE.KIND`; of a
            re-wrapping, the storage-wrapping key that is left; of what a transfer brings, hex SHA-256 of the last part of its
            device keys; of what it took away, its id.
        source: of an import, who signed the manifest; else empty.
        keys: of an import, how many lines the file has; of a transfer, how many rows; else 0.
        on_bad_line: of an import, `report` or `stop`; else empty.
        position: lines or rows dealt with so far.
        accepted: how many of them are in the store now.
        facts: what was found and done, for the record; sorted.

    """

    work_id: str
    version: int
    state: WorkState
    system: SystemName
    kind: WorkKind
    subject: str
    source: str = ""
    keys: int = 0
    on_bad_line: str = ""
    position: int = 0
    accepted: int = 0
    facts: tuple[tuple[str, str], ...] = ()


def store_document(record: DeviceStoreRecord) -> dict[str, JsonValue]:
    """Print the device store's record."""
    return {
        "version": record.version,
        "system": record.system,
        "root": record.root.hex(),
        "keys": record.keys,
        "needed": dict(record.needed),
    }


def store_from_document(document: Mapping[str, JsonValue]) -> DeviceStoreRecord:
    """Read it. Malformed: not what `store_document` prints."""
    try:
        needed = mapping(document, "needed")
        found = DeviceStoreRecord(
            version=number(document, "version"),
            system=SystemName(text(document, "system")),
            root=octets(document, "root"),
            keys=number(document, "keys"),
            needed=tuple(sorted((name, number(needed, name)) for name in needed)),
        )
        if store_document(found) == document and len(found.root) == ROOT_OCTETS:
            return found
    except (KeyError, ValueError, TypeError):
        pass
    raise _not_a_record("device store")


def source_document(record: DeviceSourceRecord) -> dict[str, JsonValue]:
    """Print a source's record."""
    return {
        "source_id": record.source_id,
        "version": record.version,
        "state": record.state.value,
        "system": record.system,
        "key": record.key.hex(),
    }


def source_from_document(document: Mapping[str, JsonValue]) -> DeviceSourceRecord:
    """Read it. Malformed: not what `source_document` prints."""
    try:
        found = DeviceSourceRecord(
            source_id=text(document, "source_id"),
            version=number(document, "version"),
            state=SourceState(text(document, "state")),
            system=SystemName(text(document, "system")),
            key=octets(document, "key"),
        )
        if source_document(found) == document:
            return found
    except (KeyError, ValueError, TypeError):
        pass
    raise _not_a_record("device source")


def work_document(record: DeviceWorkRecord) -> dict[str, JsonValue]:
    """Print a work's record."""
    return {
        "work_id": record.work_id,
        "version": record.version,
        "state": record.state.value,
        "system": record.system,
        "kind": record.kind.value,
        "subject": record.subject,
        "source": record.source,
        "keys": record.keys,
        "on_bad_line": record.on_bad_line,
        "position": record.position,
        "accepted": record.accepted,
        "facts": dict(record.facts),
    }


def work_from_document(document: Mapping[str, JsonValue]) -> DeviceWorkRecord:
    """Read it. Malformed: not what `work_document` prints."""
    try:
        facts = mapping(document, "facts")
        found = DeviceWorkRecord(
            work_id=text(document, "work_id"),
            version=number(document, "version"),
            state=WorkState(text(document, "state")),
            system=SystemName(text(document, "system")),
            kind=WorkKind(text(document, "kind")),
            subject=text(document, "subject"),
            source=text(document, "source"),
            keys=number(document, "keys"),
            on_bad_line=text(document, "on_bad_line"),
            position=number(document, "position"),
            accepted=number(document, "accepted"),
            facts=tuple(sorted((name, text(facts, name)) for name in facts)),
        )
        if work_document(found) == document:
            return found
    except (KeyError, ValueError, TypeError):
        pass
    raise _not_a_record("device work")


def _not_a_record(what: str) -> Malformed:
    return Malformed(f"this is not a {what} record as this version prints it", rule="registry/document")
