"""The tree over device keys: many buckets at once come out as one after another, and nothing edited passes."""

import random
from dataclasses import replace

import pytest

from cryptosvc.core import device_tree
from cryptosvc.core.device_keys import device_slot
from cryptosvc.core.errors import Corrupt
from cryptosvc.core.names import Eui64
from cryptosvc.core.registry_tree import EMPTY, NodeName, with_bucket
from tests.unit.test_device_key_names import ROW


def octets(seed: int) -> bytes:
    return device_tree.emit({seed.to_bytes(20): bytes([seed % 251]) * 32})


def test_many_buckets_at_once_give_the_root_of_one_after_another() -> None:
    chosen = random.Random(1)
    nodes: dict[NodeName, bytes] = {}
    root, state = EMPTY, dict[int, bytes]()
    for _ in range(20):
        buckets = {
            chosen.randrange(65536) if chosen.random() < 0.7 else chosen.choice([*state, 0]): octets(
                chosen.randrange(1000)
            )
            for _ in range(chosen.randrange(1, 40))
        }
        if state and chosen.random() < 0.5:
            buckets[chosen.choice(list(state))] = b""
        one_by_one, expected = dict(nodes), root
        for number, after in buckets.items():
            expected = with_bucket(number, device_tree.bucket_hash(after), one_by_one)
        pairs = {number: (state.get(number, b""), after) for number, after in buckets.items()}
        above = {name: nodes[name] for name in device_tree.names_above(buckets) if name in nodes}
        root, changed = device_tree.root_after(root, above, pairs, {})
        nodes |= changed
        state |= buckets
        assert root == expected
        for number, after in buckets.items():
            device_tree.require_bucket(number, after, nodes, root)
            with pytest.raises(Corrupt):
                device_tree.require_bucket(number, after + bytes(52), nodes, root)


def test_nothing_is_built_on_what_was_edited() -> None:
    pairs = {3: (b"", octets(1)), 70: (b"", octets(2))}
    root, nodes = device_tree.root_after(EMPTY, {}, pairs, {})
    after = {3: (octets(1), octets(5))}
    assert device_tree.root_after(root, nodes, after, {})[0] != root
    with pytest.raises(Corrupt):
        device_tree.root_after(root, nodes, {3: (octets(9), octets(5))}, {})
    with pytest.raises(Corrupt):
        device_tree.root_after(bytes([1]) * 32, nodes, after, {})
    for name in nodes:
        broken = nodes | {name: bytes([nodes[name][-1] ^ 1]) + nodes[name][1:]}
        with pytest.raises(Corrupt):
            device_tree.root_after(root, broken, after | {70: (octets(2), b"")}, {})


def test_rows_are_exactly_those_of_their_slots() -> None:
    other = replace(ROW, kind="authentication")
    members = {device_tree.key_of(row.name): row.digest for row in (ROW, other)}
    bucket = device_tree.emit(members)
    assert device_tree.members_of(bucket) == members
    # what looks like a Device's slot, inside another member, is none
    digest = b"\x00" + device_slot(ROW.device) + bytes(21)
    crowded = device_tree.emit(members | {bytes(20): digest, b"\xff" * 20: digest})
    for octets_of_bucket in (bucket, crowded):
        assert device_tree.members_of_device(octets_of_bucket, ROW.device) == members
        device_tree.require_rows(ROW.device, [ROW, other], octets_of_bucket)
        device_tree.require_rows(Eui64(bytes(8)), [], octets_of_bucket)
        wrong = (replace(ROW, blob=b"\x01" * 24), replace(ROW, version=3))
        for rows in ([], [ROW], [other], [ROW, other, wrong[1]], [wrong[0], other], [wrong[1], other]):
            with pytest.raises(Corrupt):
                device_tree.require_rows(ROW.device, rows, octets_of_bucket)
    with pytest.raises(Corrupt):
        device_tree.members_of(bucket[:-1])
