"""One hash over all device keys, so that no row can be edited, put back, added or removed unseen.

As the registry's tree (`registry_tree.py`, whose shape and nodes it has) but for its buckets: a bucket's members are kept as
one string of octets, so that thousands of rows can be changed in one transaction without their neighbours being read. All
keys of a Device are in one bucket. A member is slot (16 octets), version (4) and row digest (32); members are sorted.
"""

import hashlib
from collections.abc import Iterable, Mapping

from cryptosvc.core.device_keys import DeviceKey, DeviceKeyName, device_slot
from cryptosvc.core.errors import Corrupt
from cryptosvc.core.names import Eui64
from cryptosvc.core.registry_tree import (
    EMPTY,
    FANOUT_BITS,
    HASH_OCTETS,
    LEVELS,
    NODE_OCTETS,
    NodeName,
    node_hash,
    path,
    root_above,
)

_SLOT = 16
_VERSION = 4
MEMBER_OCTETS = _SLOT + _VERSION + HASH_OCTETS
_MASK = (1 << FANOUT_BITS) - 1

Members = dict[bytes, bytes]
"""Slot and version, 20 octets → digest of the row."""


def bucket_of(device: Eui64) -> int:
    """Number of the bucket of a Device's keys, 0 to 65,535."""
    return int.from_bytes(hashlib.sha256(b"device\x00" + device.octets).digest()[:2])


def key_of(name: DeviceKeyName) -> bytes:
    """Slot and version of a member; the name has its version."""
    return name.slot + (name.version or 0).to_bytes(_VERSION)


def members_of(octets: bytes) -> Members:
    """Read a bucket whose hash was, or will be, held against the root; Corrupt where it is none."""
    if len(octets) % MEMBER_OCTETS:
        raise edited()
    split = _SLOT + _VERSION
    return {
        octets[at : at + split]: octets[at + split : at + MEMBER_OCTETS]
        for at in range(0, len(octets), MEMBER_OCTETS)
    }


def members_of_device(octets: bytes, device: Eui64) -> Members:
    """Those members of such a bucket that are a Device's."""
    wanted, found = device_slot(device), Members()
    at = octets.find(wanted)
    while at >= 0:
        if at % MEMBER_OCTETS == 0:
            split = at + _SLOT + _VERSION
            found[octets[at:split]] = octets[split : at + MEMBER_OCTETS]
        at = octets.find(wanted, at + 1)
    return found


def emit(members: Members) -> bytes:
    """Print a bucket."""
    return b"".join(key + members[key] for key in sorted(members))


def bucket_hash(octets: bytes) -> bytes:
    """Hash of a bucket; an empty one is 32 zero octets."""
    return hashlib.sha256(b"\x02" + octets).digest() if octets else EMPTY


def require_bucket(bucket: int, octets: bytes, nodes: Mapping[NodeName, bytes], root: bytes) -> None:
    """Require that a bucket is the one the root vouches for; Corrupt otherwise."""
    if root_above(bucket, bucket_hash(octets), nodes) != root:
        raise edited()


def require_rows(device: Eui64, device_keys: Iterable[DeviceKey], octets: bytes) -> None:
    """Require that the rows of a Device are exactly those of its bucket, octet for octet; Corrupt otherwise."""
    if {key_of(row.name): row.digest for row in device_keys} != members_of_device(octets, device):
        raise edited()


def names_above(buckets: Iterable[int]) -> set[NodeName]:
    """Every node on the way from the root to any of these buckets."""
    return {name for bucket in buckets for name in path(bucket)}


def root_after(
    root: bytes,
    nodes: Mapping[NodeName, bytes],
    buckets: Mapping[int, tuple[bytes, bytes]],
    changed: dict[NodeName, bytes],
) -> tuple[bytes, dict[NodeName, bytes]]:
    """Change many buckets at once.

    Args:
        root: before.
        nodes: children of every node above the buckets; a node that is not there is empty.
        buckets: number → octets before and after.
        changed: filled with the children of every node that changes.

    Returns:
        The root after, and `changed`.

    Raises:
        Corrupt: what was before is not what the root vouches for.

    """
    before = {number: bucket_hash(one) for number, (one, _) in buckets.items()}
    after = {number: bucket_hash(one) for number, (_, one) in buckets.items() if one != buckets[number][0]}
    for level in range(LEVELS - 1, -1, -1):
        before, after = _level_up(level, nodes, before, after, changed)
    if before and before[0] != root:
        raise edited()
    return after.get(0, root), changed


def _level_up(
    level: int,
    nodes: Mapping[NodeName, bytes],
    before: Mapping[int, bytes],
    after: Mapping[int, bytes],
    changed: dict[NodeName, bytes],
) -> tuple[dict[int, bytes], dict[int, bytes]]:
    """Hashes of the nodes of a level, before and after, from those of what is below it."""
    children: dict[int, bytes] = {}
    for number, found in before.items():
        parent = number >> FANOUT_BITS
        octets = children.setdefault(parent, nodes.get((level, parent), bytes(NODE_OCTETS)))
        at = (number & _MASK) * HASH_OCTETS
        if len(octets) != NODE_OCTETS or octets[at : at + HASH_OCTETS] != found:
            raise edited()
    rewritten: dict[int, bytearray] = {}
    for number, found in after.items():
        parent = number >> FANOUT_BITS
        room = rewritten.setdefault(parent, bytearray(children[parent]))
        at = (number & _MASK) * HASH_OCTETS
        room[at : at + HASH_OCTETS] = found
    for parent, room in rewritten.items():
        changed[level, parent] = bytes(room)
    return (
        {parent: node_hash(octets) for parent, octets in children.items()},
        {parent: node_hash(bytes(room)) for parent, room in rewritten.items()},
    )


def edited() -> Corrupt:
    """The rows are not those the log vouches for."""
    return Corrupt(
        "the device keys in the store are not those the log's head vouches for: the database was edited, or an old state "
        "was put back",
        rule="device-key/not-in-log",
    )
