"""Believing a record: it is what its leaf says, its leaf is in the log, and no newer one was hidden.

Three questions, three rules: `registry/record-not-in-log` (the record was edited), `log/leaf-…` (its leaf was),
`registry/record-rolled-back` (an older version, or none, was put in its place). The last is answered by the registry
tree (`core/registry_tree.py`), whose root is in the authenticated head.
"""

import hashlib
from collections.abc import Sequence

import orjson

from cryptosvc.adapters.store import tree
from cryptosvc.adapters.store.heads import Head
from cryptosvc.adapters.store.session import RecordRow, Session
from cryptosvc.core.canonical import canonical
from cryptosvc.core.errors import Corrupt, Malformed
from cryptosvc.core.registry import (
    CallerRecord,
    Record,
    record_document,
    record_from_document,
    record_id,
    record_kind,
)
from cryptosvc.core.registry_tree import Commitment, bucket_hash, bucket_of, path, root_above, root_of


def verified(session: Session, head: Head, kind: str, wanted: str, row: RecordRow | None) -> Record | None:
    """Believe a row, or its absence, as of this head; raises Corrupt by the rules above."""
    record = None if row is None else _as_logged(session, head, kind, wanted, row)
    bucket = bucket_of(kind, wanted)
    members = session.records_in(bucket)
    if row is not None and row not in members:
        raise rolled_back(wanted)
    found = bucket_hash([commitment(member) for member in members])
    if root_above(bucket, found, session.registry_nodes(path(bucket))) != head.registry_root:
        raise rolled_back(wanted)
    return record


def verified_all(session: Session, head: Head) -> list[tuple[RecordRow, Record]]:
    """Every record there is, believed at once: the whole tree is computed, no leaf is read."""
    return [(row, parsed(row)) for row in _all_rows(session, head)]


def verified_of_kind(session: Session, head: Head, kind: str) -> list[Record]:
    """Every record of a kind, none hidden: believed as by `verified_all`, but only those of the kind are read."""
    return [parsed(row) for row in _all_rows(session, head) if row.kind == kind]


def row_of(record: Record, leaf_index: int) -> RecordRow:
    """A record as it is stored."""
    kind, found = record_kind(record), record_id(record)
    return RecordRow(
        kind,
        found,
        record.version,
        leaf_index,
        canonical(record_document(record)),
        bucket_of(kind, found),
        record.system,
        record.certificate_sha256 if isinstance(record, CallerRecord) else None,
    )


def commitment(row: RecordRow) -> Commitment:
    """What the registry tree holds of a row; Corrupt where a column has another type, which SQLite lets anybody store."""
    if {type(row.document), type(row.version), type(row.leaf_index)} != {bytes, int}:
        raise _edited(row.record_id)
    return Commitment(
        row.kind, row.record_id, row.version, hashlib.sha256(row.document).digest(), row.leaf_index
    )


def parsed(row: RecordRow) -> Record:
    """Read a row's document; Corrupt where it is not one, or does not match the row's columns."""
    try:
        document = orjson.loads(row.document)
        record = record_from_document(row.kind, document)
    except (ValueError, TypeError, Malformed):
        raise _edited(row.record_id) from None
    if row_of(record, row.leaf_index) != row:
        raise _edited(row.record_id)
    return record


def rolled_back(wanted: str) -> Corrupt:
    """An older version, or another set of records, was put in place."""
    return Corrupt(
        f"the record of {wanted!r} is not the newest the log's head vouches for: an old one was put back, or removed",
        rule="registry/record-rolled-back",
    )


def edited_registry() -> Corrupt:
    """Some record of the registry, or a node above it, is not what the head vouches for."""
    return Corrupt(
        "the registry's records are not those the log's head vouches for: the database was edited",
        rule="registry/record-rolled-back",
    )


def _as_logged(session: Session, head: Head, kind: str, wanted: str, row: RecordRow) -> Record:
    if (row.kind, row.record_id) != (kind, wanted):
        raise _edited(wanted)
    record = parsed(row)
    if not 0 <= row.leaf_index < head.size:
        raise _edited(wanted)
    entry = tree.record_entry(tree.verified_leaf(session, head, row.leaf_index)[0])
    if (
        entry.get("kind") != kind
        or entry.get("record_version") != record.version
        or entry.get("record_digest") != hashlib.sha256(row.document).hexdigest()
    ):
        raise _edited(wanted)
    return record


def _all_rows(session: Session, head: Head) -> Sequence[RecordRow]:
    rows = session.records()
    if root_of([commitment(row) for row in rows]) != head.registry_root:
        raise edited_registry()
    return rows


def _edited(wanted: str) -> Corrupt:
    return Corrupt(
        f"the record of {wanted!r} is not what its entry in the log commits to: the database was edited",
        rule="registry/record-not-in-log",
    )
