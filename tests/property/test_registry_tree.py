"""The registry tree: changes step by step give the root of the whole; every other record is noticed."""

import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st

from cryptosvc.core.registry_tree import (
    EMPTY,
    Commitment,
    NodeName,
    bucket_hash,
    bucket_of,
    path,
    root_above,
    root_of,
    with_bucket,
)

commitments = st.builds(
    Commitment,
    kind=st.sampled_from(["key-record", "caller-record"]),
    record_id=st.text("abc01", min_size=1, max_size=3),
    version=st.integers(1, 5),
    digest=st.binary(min_size=32, max_size=32),
    leaf_index=st.integers(0, 2**40),
)


@given(st.lists(commitments, max_size=12))
@settings(deadline=None, max_examples=60)
def test_step_by_step_equals_the_whole(changes: list[Commitment]) -> None:
    current: dict[tuple[str, str], Commitment] = {}
    nodes: dict[NodeName, bytes] = {}
    root = EMPTY
    for change in changes:
        current[(change.kind, change.record_id)] = change
        bucket = bucket_of(change.kind, change.record_id)
        members = [
            record for record in current.values() if bucket_of(record.kind, record.record_id) == bucket
        ]
        root = with_bucket(bucket, bucket_hash(members), nodes)
        assert root == root_of(list(current.values()))
        assert root_above(bucket, bucket_hash(members), nodes) == root


@given(
    st.lists(commitments, min_size=1, max_size=6, unique_by=lambda one: (one.kind, one.record_id)), st.data()
)
@settings(deadline=None, max_examples=60)
def test_any_other_record_leads_elsewhere(records: list[Commitment], data: st.DataObject) -> None:
    nodes: dict[NodeName, bytes] = {}
    root = EMPTY
    for record in records:
        bucket = bucket_of(record.kind, record.record_id)
        members = [other for other in records if bucket_of(other.kind, other.record_id) == bucket]
        root = with_bucket(bucket, bucket_hash(members), nodes)
    victim = data.draw(st.sampled_from(records))
    bucket = bucket_of(victim.kind, victim.record_id)
    forgeries = [
        dataclasses.replace(victim, version=victim.version + 1),
        dataclasses.replace(victim, leaf_index=victim.leaf_index + 1),
        dataclasses.replace(victim, digest=bytes([victim.digest[0] ^ 1]) + victim.digest[1:]),
    ]
    for forged in forgeries:
        assert root_above(bucket, bucket_hash([forged]), nodes) != root
        assert root_of([forged if one == victim else one for one in records]) != root
    assert root_above(bucket, bucket_hash([]), nodes) != root
    for name in path(bucket):
        damaged = dict(nodes)
        damaged[name] = bytes([damaged[name][0] ^ 1]) + damaged[name][1:]
        members = [other for other in records if bucket_of(other.kind, other.record_id) == bucket]
        assert root_above(bucket, bucket_hash(members), damaged) != root


def test_an_empty_registry_has_the_empty_root_and_proves_absence() -> None:
    assert root_of([]) == EMPTY
    assert root_above(bucket_of("key-record", "nobody"), bucket_hash([]), {}) == EMPTY
