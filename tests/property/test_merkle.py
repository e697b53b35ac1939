"""The tree: every size, every leaf, a flip in every proof hash."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryptosvc.core.errors import Corrupt, Malformed
from cryptosvc.core.merkle import (
    EMPTY,
    EMPTY_ROOT,
    Frontier,
    SubtreeHash,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)

LEAVES = [leaf_hash(number.to_bytes(2)) for number in range(260)]
EVERY_SIZE = 40


def defined_root(leaves: list[bytes]) -> bytes:
    """MTH as RFC 6962 2.1 writes it, recursively."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + defined_root(leaves[:split]) + defined_root(leaves[split:])).digest()


def defined_path(index: int, leaves: list[bytes]) -> list[bytes]:
    """PATH as RFC 6962 2.1.1 writes it."""
    if len(leaves) == 1:
        return []
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    if index < split:
        return [*defined_path(index, leaves[:split]), defined_root(leaves[split:])]
    return [*defined_path(index - split, leaves[split:]), defined_root(leaves[:split])]


def defined_consistency(first: int, leaves: list[bytes], whole: bool = True) -> list[bytes]:
    """SUBPROOF as RFC 6962 2.1.2 writes it."""
    if first == len(leaves):
        return [] if whole else [defined_root(leaves)]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    if first <= split:
        return [*defined_consistency(first, leaves[:split], whole), defined_root(leaves[split:])]
    return [*defined_consistency(first - split, leaves[split:], False), defined_root(leaves[:split])]


def reader(leaves: list[bytes]) -> SubtreeHash:
    def subtree(height: int, index: int) -> bytes:
        covered = leaves[index << height : (index + 1) << height]
        assert len(covered) == 1 << height, "only complete subtrees may be asked for"
        return root_of(covered)

    return subtree


def flipped(octets: bytes) -> bytes:
    return bytes([octets[0] ^ 1]) + octets[1:]


def test_hashes_known_from_certificate_transparency() -> None:
    # Source: RFC 6962 test data of the certificate-transparency project (roots of its eight leaves).
    inputs = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ]
    hashes = [leaf_hash(bytes.fromhex(text)) for text in inputs]
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert hashes[0].hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert root_of(hashes[:2]).hex() == "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
    assert root_of(hashes).hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


@pytest.mark.parametrize("size", range(len(LEAVES)))
def test_root_is_the_one_defined(size: int) -> None:
    assert root_of(LEAVES[:size]) == defined_root(LEAVES[:size])
    assert EMPTY.extended(LEAVES[:size]).root() == defined_root(LEAVES[:size])


@given(st.lists(st.integers(0, 70), max_size=6))
@settings(deadline=None, max_examples=60)
def test_frontier_extends_in_any_steps_and_survives_printing(steps: list[int]) -> None:
    frontier, leaves = EMPTY, []
    for step in steps:
        more = [leaf_hash(len(leaves).to_bytes(2) + bytes([number])) for number in range(step)]
        frontier = Frontier.parse(frontier.extended(more).emit())
        leaves += more
    assert frontier.size == len(leaves)
    assert frontier.root() == root_of(leaves)


@given(st.binary(max_size=140))
@settings(deadline=None, max_examples=200)
def test_frontier_parses_only_what_it_prints(octets: bytes) -> None:
    try:
        found = Frontier.parse(octets)
    except Malformed:
        return
    assert found.emit() == octets
    assert len(found.peaks) == found.size.bit_count()


def test_frontier_over_long_or_too_large_is_refused() -> None:
    printed = EMPTY.extended(LEAVES[:5]).emit()
    for octets in (printed + b"\x00", printed[:-1], b"", b"\xff" * 8 + bytes(32 * 64)):
        with pytest.raises(Malformed):
            Frontier.parse(octets)


@pytest.mark.parametrize("size", range(1, EVERY_SIZE + 1))
def test_every_leaf_proves_and_no_flip_does(size: int) -> None:
    leaves = LEAVES[:size]
    root = defined_root(leaves)
    for index in range(size):
        proof = inclusion_proof(index, size, reader(leaves))
        assert proof == defined_path(index, leaves)
        verify_inclusion(leaves[index], index, size, proof, root)
        for at in range(len(proof)):
            with pytest.raises(Corrupt):
                verify_inclusion(
                    leaves[index], index, size, [*proof[:at], flipped(proof[at]), *proof[at + 1 :]], root
                )
            with pytest.raises(Malformed):
                verify_inclusion(leaves[index], index, size, proof[:at] + proof[at + 1 :], root)
        with pytest.raises(Corrupt):
            verify_inclusion(flipped(leaves[index]), index, size, proof, root)
        with pytest.raises(Corrupt):
            verify_inclusion(leaves[index], index, size, proof, flipped(root))
        with pytest.raises(Malformed):
            verify_inclusion(leaves[index], index, size, [*proof, root], root)
        for other in range(size):
            if other != index:
                with pytest.raises((Corrupt, Malformed)):
                    verify_inclusion(leaves[index], other, size, proof, root)


@pytest.mark.parametrize("second", range(1, EVERY_SIZE + 1))
def test_every_prefix_is_consistent_and_no_flip_is(second: int) -> None:
    leaves = LEAVES[:second]
    for first in range(1, second + 1):
        proof = consistency_proof(first, second, reader(leaves))
        assert proof == defined_consistency(first, leaves)
        old, new = defined_root(leaves[:first]), defined_root(leaves)
        verify_consistency(first, second, proof, old, new)
        for at in range(len(proof)):
            with pytest.raises(Corrupt):
                verify_consistency(
                    first, second, [*proof[:at], flipped(proof[at]), *proof[at + 1 :]], old, new
                )
            with pytest.raises((Malformed, Corrupt)):
                verify_consistency(first, second, proof[:at] + proof[at + 1 :], old, new)
        with pytest.raises(Corrupt):
            verify_consistency(first, second, proof, flipped(old), new)
        with pytest.raises(Corrupt):
            verify_consistency(first, second, proof, old, flipped(new))
        with pytest.raises(Malformed):
            verify_consistency(first, second, [*proof, old], old, new)


@given(st.integers(1, 260), st.data())
@settings(deadline=None, max_examples=80)
def test_larger_trees_prove_too(size: int, data: st.DataObject) -> None:
    leaves = LEAVES[:size]
    index = data.draw(st.integers(0, size - 1))
    first = data.draw(st.integers(1, size))
    verify_inclusion(
        leaves[index], index, size, inclusion_proof(index, size, reader(leaves)), root_of(leaves)
    )
    proof = consistency_proof(first, size, reader(leaves))
    verify_consistency(first, size, proof, root_of(leaves[:first]), root_of(leaves))


@pytest.mark.parametrize(("index", "size"), [(0, 0), (1, 1), (-1, 3), (5, 4)])
def test_an_index_outside_the_tree_is_refused(index: int, size: int) -> None:
    with pytest.raises(Malformed, match="index"):
        inclusion_proof(index, size, reader(LEAVES))
    with pytest.raises(Malformed, match="index"):
        verify_inclusion(LEAVES[0], index, size, [], LEAVES[0])


@pytest.mark.parametrize(("first", "second"), [(0, 0), (0, 3), (4, 3), (-1, 2)])
def test_sizes_out_of_order_are_refused(first: int, second: int) -> None:
    with pytest.raises(Malformed):
        consistency_proof(first, second, reader(LEAVES))
    with pytest.raises(Malformed):
        verify_consistency(first, second, [], LEAVES[0], LEAVES[0])


def test_hashes_of_another_length_are_refused() -> None:
    with pytest.raises(Malformed) as caught:
        verify_inclusion(LEAVES[0], 0, 2, [LEAVES[1][:-1]], node_hash(LEAVES[0], LEAVES[1]))
    assert caught.value.rule == "merkle/hash-length"
