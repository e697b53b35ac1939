"""The Keys port, and the one way a key or caller record changes.

A record is verified when it is first asked for under a registry generation, and remembered for that generation. The
generation is read again at most every `poll_seconds`, and at once when a claim found it moved; what is decided on a
record that is old by then is stopped by the claim, which checks the generation in its own transaction.
"""

import hashlib
import time
from collections.abc import Collection, Sequence

from cryptosvc.adapters.store import records
from cryptosvc.adapters.store.appending import Extension, Registry
from cryptosvc.adapters.store.heads import Head
from cryptosvc.adapters.store.ledger import Ledger
from cryptosvc.adapters.store.remembered import FEW, RegistryMemory
from cryptosvc.adapters.store.session import Session
from cryptosvc.core.errors import Conflict, Corrupt, Forbidden
from cryptosvc.core.evidence import RecordBeside
from cryptosvc.core.keyclass import AUTHORITY_CLASSES
from cryptosvc.core.merkle import leaf_hash
from cryptosvc.core.names import Environment, KeyId, SystemName
from cryptosvc.core.proposal import ProposalRecord
from cryptosvc.core.record import INIT, Because, Receipt
from cryptosvc.core.registry import CallerRecord, KeyRecord, Record, record_document, record_id, record_kind
from cryptosvc.core.registry_tree import bucket_hash, path, root_above, with_bucket
from cryptosvc.flow.ports import KeyView

_REMEMBERED = 20_000
"""Records kept in memory at most; beyond, all are forgotten and verified again when asked for."""


class StoredRegistry:
    """Key and caller records.

    Args:
        ledger: the ledger of the same store; registry changes go through its thread and move its head.
        poll_seconds: how old the known generation may get before it is read again.

    """

    def __init__(self, ledger: Ledger, *, poll_seconds: float = 0.02) -> None:
        self._ledger = ledger
        self._poll_seconds = poll_seconds
        self._read_at = float("-inf")
        self._generation = -1
        self._keys: dict[KeyId, KeyRecord | None] = {}
        self._callers: dict[bytes, CallerRecord | None] = {}
        self._of_classes: dict[frozenset[str], KeyView] = {}
        self._memory = RegistryMemory()

    async def keys(self, key_ids: Collection[KeyId]) -> KeyView:
        """See `flow/ports.py`."""
        if self._is_old() or any(key_id not in self._keys for key_id in key_ids):
            await self._load(key_ids, None)
        known = self._keys
        found = {key_id: record for key_id in key_ids if (record := known.get(key_id)) is not None}
        return KeyView(self._generation, found)

    async def keys_of(self, system: SystemName) -> Sequence[KeyRecord]:
        """See `flow/ports.py`."""

        def look(session: Session, head: Head) -> list[KeyRecord]:
            every = records.verified_all(session, head)
            return [one for _, one in every if isinstance(one, KeyRecord) and one.system == system]

        return sorted(await self._ledger.read(look), key=lambda one: one.key_id)

    async def keys_of_classes(self, key_classes: frozenset[str]) -> KeyView:
        """See `flow/ports.py`. Every record is verified once per generation, so who asks again costs nothing."""
        if self._is_old():
            await self._load((), None)
        view = self._of_classes.get(key_classes)
        if view is None or view.generation < self._generation:

            def look(session: Session, head: Head) -> KeyView:
                if key_classes <= AUTHORITY_CLASSES:
                    every = self._memory.authorities(session, head)
                else:
                    found = records.verified_of_kind(session, head, "key-record")
                    every = [one for one in found if isinstance(one, KeyRecord)]
                return KeyView(
                    head.generation, {one.key_id: one for one in every if one.key_class in key_classes}
                )

            view = self._of_classes[key_classes] = await self._ledger.read(look)
        return view

    async def caller(self, certificate_sha256: bytes) -> CallerRecord | None:
        """See `flow/ports.py`."""
        if self._is_old() or certificate_sha256 not in self._callers:
            await self._load((), certificate_sha256)
        return self._callers.get(certificate_sha256)

    async def callers(self) -> Sequence[CallerRecord]:
        """Every caller, sorted by id."""

        def look(session: Session, head: Head) -> list[CallerRecord]:
            return [one for _, one in records.verified_all(session, head) if isinstance(one, CallerRecord)]

        return sorted(await self._ledger.read(look), key=lambda one: one.caller_id)

    async def every_record(self) -> Sequence[RecordBeside]:
        """Every record with the leaf that commits to it, for an export."""

        def look(session: Session, head: Head) -> list[RecordBeside]:
            return [
                RecordBeside(row.kind, row.record_id, row.leaf_index, record_document(one))
                for row, one in records.verified_all(session, head)
            ]

        return await self._ledger.read(look)

    async def record(self, kind: str, wanted: str) -> Record | None:
        """See `flow/ports.py`."""

        def look(session: Session, head: Head) -> Record | None:
            return records.verified(session, head, kind, wanted, session.record(kind, wanted))

        return await self._ledger.read(look)

    async def located(self, kind: str, wanted: str) -> tuple[Record, int] | None:
        """See `flow/ports.py`."""

        def look(session: Session, head: Head) -> tuple[Record, int] | None:
            row = session.record(kind, wanted)
            found = records.verified(session, head, kind, wanted, row)
            return None if row is None or found is None else (found, row.leaf_index)

        return await self._ledger.read(look)

    async def of_kind(self, kind: str) -> Sequence[Record]:
        """See `flow/ports.py`."""

        def look(session: Session, head: Head) -> list[Record]:
            if kind in FEW:
                return self._memory.of_kind(session, head, kind)
            return records.verified_of_kind(session, head, kind)

        return sorted(await self._ledger.read(look), key=record_id)

    async def standing_proposals(self) -> Sequence[ProposalRecord]:
        """See `flow/ports.py`."""
        return sorted(await self._ledger.read(self._memory.standing_proposals), key=record_id)

    async def changed_after(self, leaf_index: int, at_most: int) -> Sequence[tuple[Record, int]]:
        """See `flow/ports.py`."""

        def look(session: Session, _: Head) -> list[tuple[Record, int]]:
            rows = session.records_after(leaf_index, at_most)
            return [(records.parsed(row), row.leaf_index) for row in rows]

        return await self._ledger.read(look)

    async def generation(self) -> int:
        """See `flow/ports.py`."""
        return await self._ledger.read(lambda _, head: head.generation)

    async def change(
        self, changed: Sequence[Record], because: Because = INIT, at_generation: int | None = None
    ) -> Sequence[Receipt]:
        """See `flow/ports.py`; one generation on."""
        writer = self._ledger.writer
        if because == INIT and writer.worker.scope.environment != Environment.TEST:
            raise Forbidden(
                "records change without approval in environment test only; propose the change",
                rule="init/live",
                clause="G5.13(b)",
            )
        leaves = [writer.registered(one, because) for one in changed]
        hashes = [leaf_hash(leaf.entry) for leaf in leaves]
        starts: list[int] = []

        def write(session: Session, head: Head) -> Extension:
            if at_generation is not None and head.generation != at_generation:
                raise Conflict(
                    "the registry changed while this was decided; ask again", rule="registry/moved"
                )
            starts.append(head.size)
            root = head.registry_root
            for leaf_index, one in enumerate(changed, head.size):
                root = put(session, root, one, leaf_index)
            registry = Registry(head.generation + 1, root)
            return writer.appender.append(session, leaves, hashes, registry=registry)

        await self._ledger.job(lambda: self._ledger.change(write))
        self._read_at = float("-inf")
        return writer.receipts(starts[-1], hashes)

    def look_again(self) -> None:
        """The registry changed by other means than `change`: read its generation when next asked."""
        self._read_at = float("-inf")

    def _is_old(self) -> bool:
        return (
            self._generation < self._ledger.generation_seen
            or time.monotonic() - self._read_at > self._poll_seconds
            or len(self._keys) + len(self._callers) > _REMEMBERED
        )

    async def _load(self, key_ids: Collection[KeyId], certificate_sha256: bytes | None) -> None:
        """Read the generation, and what is asked for and not known under it."""
        generation = self._generation
        known_keys, known_callers = self._keys, self._callers
        started = time.monotonic()

        def look(
            session: Session, head: Head
        ) -> tuple[int, dict[KeyId, KeyRecord | None], dict[bytes, CallerRecord | None]]:
            if session.generation() != head.generation:
                raise Corrupt(
                    "the registry's generation is not the one the log's head vouches for: the database was edited",
                    rule="registry/generation-forged",
                )
            stands = head.generation == generation
            keys = {
                key_id: _key(session, head, key_id)
                for key_id in key_ids
                if not (stands and key_id in known_keys)
            }
            callers = (
                {}
                if certificate_sha256 is None or (stands and certificate_sha256 in known_callers)
                else {certificate_sha256: _caller(session, head, certificate_sha256)}
            )
            return head.generation, keys, callers

        generation, keys, callers = await self._ledger.read(look)
        if generation < self._generation:
            return  # a later read answered first
        if generation > self._generation or len(self._keys) + len(self._callers) > _REMEMBERED:
            self._keys, self._callers = {}, {}
            self._generation = generation
        self._keys.update(keys)
        self._callers.update(callers)
        self._read_at = started


def _key(session: Session, head: Head, key_id: KeyId) -> KeyRecord | None:
    found = records.verified(session, head, "key-record", key_id, session.record("key-record", key_id))
    assert found is None or isinstance(found, KeyRecord)
    return found


def _caller(session: Session, head: Head, certificate_sha256: bytes) -> CallerRecord | None:
    row = session.record_by_certificate(certificate_sha256)
    if row is None:
        return None
    found = records.verified(session, head, "caller-record", row.record_id, row)
    assert isinstance(found, CallerRecord)
    return found


def put(session: Session, root: bytes, changed: Record, leaf_index: int) -> bytes:
    """Store one record and return the registry's new root."""
    kind, wanted = record_kind(changed), record_id(changed)
    row = records.row_of(changed, leaf_index)
    before = session.record(kind, wanted)
    if changed.version != (1 if before is None else before.version + 1):
        raise Conflict(
            f"the record of {wanted!r} is at version {0 if before is None else before.version}; read it again",
            rule="registry/version",
        )
    if row.certificate_sha256 is not None:
        other = session.record_by_certificate(row.certificate_sha256)
        if other is not None and other.record_id != wanted:
            raise Conflict("another caller has this client certificate", rule="registry/certificate")
    nodes = session.registry_nodes(path(row.bucket))
    members = [records.commitment(member) for member in session.records_in(row.bucket)]
    # what is about to be built on must be what the head vouches for
    if root_above(row.bucket, bucket_hash(members), nodes) != root:
        raise records.rolled_back(wanted)
    if before is not None and hashlib.sha256(before.document).digest() not in {one.digest for one in members}:
        raise records.rolled_back(wanted)
    session.put_record(row)
    mine = records.commitment(row)
    others = [one for one in members if (one.kind, one.record_id) != (kind, wanted)]
    root = with_bucket(row.bucket, bucket_hash([*others, mine]), nodes)
    session.put_registry_nodes(nodes)
    return root
