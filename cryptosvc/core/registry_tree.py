"""One hash over all key and caller records, so that an old version of one record cannot be put back unseen.

A leaf proves that a record *was* so; it does not prove that it still is: a record of yesterday, with its leaf of
yesterday, is in the log. The authenticated log head therefore also carries the root of this tree, which holds for
every record its current version, digest and leaf. Changing a record, and checking one, touches `LEVELS` nodes,
however many records there are.

Records fall into `16 ** LEVELS` buckets by the first octets of SHA-256 of kind and id. The hash of a bucket is over
its records, sorted; each inner node has 16 children of 32 octets, lowest bucket first. What is empty, a bucket or a
node, is 32 zero octets. A record that is missing changes its bucket, so absence is proven too.

Nodes are named by (level, index): level 0 is the root's single node, index counts nodes of the level from the left.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LEVELS = 4
FANOUT_BITS = 4
HASH_OCTETS = 32
NODE_OCTETS = HASH_OCTETS << FANOUT_BITS

EMPTY = bytes(HASH_OCTETS)
"""Hash of an empty bucket, an empty node and an empty registry."""

NodeName = tuple[int, int]

_BUCKET_BITS = LEVELS * FANOUT_BITS


@dataclass(frozen=True, slots=True, order=True)
class Commitment:
    """What the tree holds of one record.

    Args:
        kind: `key-record` or `caller-record`.
        record_id: key id or caller id.
        version: of the record.
        digest: SHA-256 of its document, 32 octets.
        leaf_index: the leaf of its last change.

    """

    kind: str
    record_id: str
    version: int
    digest: bytes
    leaf_index: int


def bucket_of(kind: str, record_id: str) -> int:
    """Number of the bucket a record falls into, 0 to `16 ** LEVELS - 1`."""
    octets = hashlib.sha256(f"{kind}\0{record_id}".encode()).digest()
    return int.from_bytes(octets[:4]) >> (32 - _BUCKET_BITS)


def bucket_hash(records: Sequence[Commitment]) -> bytes:
    """Hash of a bucket, whatever the order its records are given in; 32 octets."""
    if not records:
        return EMPTY
    lines = [
        b"\0".join(
            (
                record.kind.encode(),
                record.record_id.encode(),
                record.version.to_bytes(8),
                record.digest,
                record.leaf_index.to_bytes(8),
            )
        )
        for record in sorted(records)
    ]
    framed = b"".join(len(line).to_bytes(4) + line for line in lines)
    return hashlib.sha256(b"\x00" + framed).digest()


def node_hash(children: bytes) -> bytes:
    """Hash of a node from its children, `NODE_OCTETS` octets."""
    return hashlib.sha256(b"\x01" + children).digest() if any(children) else EMPTY


def path(bucket: int) -> list[NodeName]:
    """Nodes from the root's to the one that holds the bucket's hash."""
    return [(level, bucket >> (FANOUT_BITS * (LEVELS - level))) for level in range(LEVELS)]


def root_above(bucket: int, found: bytes, nodes: Mapping[NodeName, bytes]) -> bytes | None:
    """Root that a bucket's hash leads to.

    Args:
        bucket: its number.
        found: its hash as computed from the records read.
        nodes: children of every node on its path; a node that is not there is empty.

    Returns:
        The root, or None where a node on the path holds another hash than the one below it gives.

    """
    for name in reversed(path(bucket)):
        children = nodes.get(name, bytes(NODE_OCTETS))
        at = _slot(bucket, name[0])
        if children[at : at + HASH_OCTETS] != found or len(children) != NODE_OCTETS:
            return None
        found = node_hash(children)
    return found


def with_bucket(bucket: int, changed: bytes, nodes: dict[NodeName, bytes]) -> bytes:
    """Put a bucket's new hash into the nodes of its path, in place, and return the new root."""
    for name in reversed(path(bucket)):
        children = nodes.get(name, bytes(NODE_OCTETS))
        at = _slot(bucket, name[0])
        nodes[name] = children[:at] + changed + children[at + HASH_OCTETS :]
        changed = node_hash(nodes[name])
    return changed


def root_of(records: Sequence[Commitment]) -> bytes:
    """Root over every record there is; for bulk reads, where each path would be walked anyway."""
    buckets: dict[int, list[Commitment]] = {}
    for record in records:
        buckets.setdefault(bucket_of(record.kind, record.record_id), []).append(record)
    level = {number: bucket_hash(members) for number, members in buckets.items()}
    for _ in range(LEVELS):
        above: dict[int, list[bytes]] = {}
        for number, octets in level.items():
            children = above.setdefault(number >> FANOUT_BITS, [EMPTY] * 16)
            children[number & 15] = octets
        level = {number: node_hash(b"".join(children)) for number, children in above.items()}
    return level.get(0, EMPTY)


def _slot(bucket: int, level: int) -> int:
    """Offset of the bucket's branch inside its node of a level."""
    return ((bucket >> (FANOUT_BITS * (LEVELS - 1 - level))) & 15) * HASH_OCTETS
