"""The small part of the registry that every governed act reads whole: verified once, and followed from there.

Whether no custodian is hidden is a question about every record there is. It is answered once, over the whole registry;
after that only what differs is read: from the root that the authenticated head vouches for down to the buckets whose
hash is another than the one remembered. What that costs depends on what changed, not on how many keys there are.

Kept are the records of kinds that are few, of proposals those that are not over, and of keys those of the OCA. They are held against what the
store has each time they are asked for, so an edit is found when it is asked for, as if everything had been read.
"""

from collections.abc import Iterator, Mapping, Sequence

from cryptosvc.adapters.store import records
from cryptosvc.adapters.store.heads import Head
from cryptosvc.adapters.store.session import RecordRow, Session
from cryptosvc.core.keyclass import AUTHORITY_CLASSES
from cryptosvc.core.proposal import ProposalRecord, ProposalState
from cryptosvc.core.registry import KeyRecord, Record
from cryptosvc.core.registry_tree import (
    EMPTY,
    FANOUT_BITS,
    HASH_OCTETS,
    LEVELS,
    NODE_OCTETS,
    NodeName,
    bucket_hash,
    node_hash,
)

FEW = frozenset({"custodian-record", "module-record", "device-source-record", "device-store-record"})
"""Kinds of which there are tens; keys and proposals that are over are as many as there were acts."""
_PROPOSAL = "proposal-record"
_STANDING = frozenset({ProposalState.OPEN, ProposalState.EXECUTING})
_KEY = "key-record"
_SIGNS = {
    _PROPOSAL: tuple(b'"state":"%b"' % state.value.encode() for state in _STANDING),
    _KEY: tuple(b'"key_class":"%b"' % name.encode() for name in AUTHORITY_CLASSES),
}
_NODES_AT_ONCE = 1000
_BUCKETS_AT_ONCE = 1024
_NOTHING = bytes(NODE_OCTETS)

_Kept = dict[tuple[str, str], RecordRow]


class RegistryMemory:
    """What one process has verified of the registry. Store reader thread only."""

    def __init__(self) -> None:
        self._root = EMPTY
        self._nodes: dict[NodeName, bytes] = {}
        self._buckets: dict[int, _Kept] = {}
        self._read: dict[tuple[str, str], tuple[RecordRow, Record]] = {}

    def of_kind(self, session: Session, head: Head, kind: str) -> list[Record]:
        """Every record of one of the `FEW` kinds; Corrupt where the store has others than the head vouches for."""
        self._follow(session, head)
        rows = {(kind, row.record_id): row for row in session.records_of_kind(kind)}
        if rows != {name: row for name, row in self._kept() if name[0] == kind}:
            raise records.edited_registry()
        return [self._parsed(row) for row in rows.values()]

    def standing_proposals(self, session: Session, head: Head) -> list[ProposalRecord]:
        """Every proposal that is not over; Corrupt as `of_kind`."""
        found = self._still(session, head, _PROPOSAL)
        return [one for one in found if isinstance(one, ProposalRecord)]

    def authorities(self, session: Session, head: Head) -> list[KeyRecord]:
        """Every key of `AUTHORITY_CLASSES`; Corrupt as `of_kind`."""
        return [one for one in self._still(session, head, _KEY) if isinstance(one, KeyRecord)]

    def _still(self, session: Session, head: Head, kind: str) -> list[Record]:
        """What is kept of a kind, each compared with the store's."""
        self._follow(session, head)
        mine = [row for name, row in self._kept() if name[0] == kind]
        for row in mine:
            if session.record(kind, row.record_id) != row:
                raise records.rolled_back(row.record_id)
        return [self._parsed(row) for row in mine]

    def _kept(self) -> Iterator[tuple[tuple[str, str], RecordRow]]:
        for members in self._buckets.values():
            yield from members.items()

    def _follow(self, session: Session, head: Head) -> None:
        """Read what differs from what is remembered, all of it verified before any of it is."""
        if head.registry_root == self._root:
            return
        nodes, buckets = self._changed(session, head.registry_root)
        kept = dict(self._members(session, buckets))
        self._nodes.update(nodes)
        for bucket, members in kept.items():
            if members:
                self._buckets[bucket] = members
            else:
                self._buckets.pop(bucket, None)
        names = {name for name, _ in self._kept()}
        self._read = {name: one for name, one in self._read.items() if name in names}
        self._root = head.registry_root

    def _changed(self, session: Session, root: bytes) -> tuple[dict[NodeName, bytes], dict[int, bytes]]:
        """Nodes that are others than remembered, and the buckets below them with the hashes they must have."""
        nodes: dict[NodeName, bytes] = {}
        wanted = {0: root}
        for level in range(LEVELS):
            names = [(level, index) for index in wanted]
            found: dict[NodeName, bytes] = {}
            for at in range(0, len(names), _NODES_AT_ONCE):
                found.update(session.registry_nodes(names[at : at + _NODES_AT_ONCE]))
            below: dict[int, bytes] = {}
            for name in names:
                children, before = found.get(name, _NOTHING), self._nodes.get(name, _NOTHING)
                if len(children) != NODE_OCTETS or node_hash(children) != wanted[name[1]]:
                    raise records.edited_registry()
                nodes[name] = children
                for slot, at in enumerate(range(0, NODE_OCTETS, HASH_OCTETS)):
                    child = children[at : at + HASH_OCTETS]
                    if child != before[at : at + HASH_OCTETS]:
                        below[name[1] << FANOUT_BITS | slot] = child
            wanted = below
        return nodes, wanted

    def _members(self, session: Session, wanted: Mapping[int, bytes]) -> Iterator[tuple[int, _Kept]]:
        """Each changed bucket with what is kept of it, its hash held against the tree's."""
        for bucket, rows in _rows_of(session, sorted(wanted)):
            if bucket_hash([records.commitment(row) for row in rows]) != wanted[bucket]:
                raise records.edited_registry()
            yield bucket, {(row.kind, row.record_id): row for row in rows if self._is_kept(row)}

    def _is_kept(self, row: RecordRow) -> bool:
        if row.kind in FEW:
            return True
        # canonical JSON is printed one way: what does not say so anywhere is in no such state, and of no such class
        if not any(sign in row.document for sign in _SIGNS.get(row.kind, ())):
            return False
        record = self._parsed(row)
        if isinstance(record, KeyRecord):
            return record.key_class in AUTHORITY_CLASSES
        return isinstance(record, ProposalRecord) and record.state in _STANDING

    def _parsed(self, row: RecordRow) -> Record:
        name = row.kind, row.record_id
        known = self._read.get(name)
        if known is None or known[0] != row:
            known = self._read[name] = row, records.parsed(row)
        return known[1]


def _rows_of(session: Session, buckets: Sequence[int]) -> Iterator[tuple[int, list[RecordRow]]]:
    """Rows of each of these buckets, in order; where they are many, a range of buckets to a statement."""
    for at in range(0, len(buckets), _BUCKETS_AT_ONCE):
        some = buckets[at : at + _BUCKETS_AT_ONCE]
        if len(some) < _BUCKETS_AT_ONCE:
            yield from ((bucket, session.records_in(bucket)) for bucket in some)
            continue
        members: dict[int, list[RecordRow]] = {bucket: [] for bucket in some}
        for row in session.records_between(some[0], some[-1]):
            if row.bucket in members:
                members[row.bucket].append(row)
        yield from members.items()
