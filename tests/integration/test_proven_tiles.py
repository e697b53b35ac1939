"""Tiles are believed only under the head: for logs of every shape, and with any hash of any tile or entry edited."""

from dataclasses import dataclass, field

import pytest

from cryptosvc.adapters.store.heads import Head
from cryptosvc.adapters.store.tree import TILE, StoredTree, fill_tiles, proven_hashes
from cryptosvc.core.errors import Corrupt
from cryptosvc.core.merkle import EMPTY, leaf_hash, root_of

LOG = [b"entry %d" % number for number in range(3 * TILE + 77)]


@dataclass
class Tiles:
    """What `StoredTree` reads of a session."""

    log: list[bytes]
    kept: dict[tuple[int, int], bytes] = field(default_factory=dict)
    roots: dict[tuple[int, int], bytes] = field(default_factory=dict)

    def entries(self, start: int, stop: int) -> list[bytes]:
        return self.log[start:stop]

    def newest_leaf(self) -> int:
        return len(self.log) - 1

    def tile(self, level: int, index: int) -> bytes | None:
        return self.kept.get((level, index))

    def tile_roots(self, level: int, start: int, stop: int) -> dict[int, bytes]:
        return {
            number: self.roots[level, number]
            for number in range(start, stop)
            if (level, number) in self.roots
        }

    def put_tile(self, level: int, index: int, root: bytes, hashes: bytes) -> None:
        self.kept[level, index], self.roots[level, index] = hashes, root


def tiles(size: int) -> tuple[Tiles, Head]:
    found = Tiles(LOG[:size])
    digests = [leaf_hash(entry) for entry in LOG[:size]]
    for index in range(size // TILE):
        fill_tiles(found, index, digests[index * TILE : (index + 1) * TILE])  # type: ignore[arg-type]  # stands for one
    return found, Head("test/log", EMPTY.extended(digests), 0, bytes(32))


@pytest.mark.parametrize("size", [1, 2, 77, 255, 256, 257, 511, 512, 513, 700, 768, 769, len(LOG)])
def test_every_tile_of_a_log_is_proven(size: int) -> None:
    session, head = tiles(size)
    for index in range((size - 1) // TILE + 1):
        found = proven_hashes(head, index, StoredTree(session))  # type: ignore[arg-type]  # stands for one
        assert found == [leaf_hash(entry) for entry in LOG[index * TILE : min((index + 1) * TILE, size)]]
    with pytest.raises(Corrupt) as caught:
        proven_hashes(head, (size - 1) // TILE + 1, StoredTree(session))  # type: ignore[arg-type]  # stands for one
    assert caught.value.rule == "log/leaf-missing"


@pytest.mark.parametrize("at", [0, 1, 255, 256, 400, 511, 600, 767, 768, 800, len(LOG) - 1])
def test_an_edited_entry_or_hash_is_found_in_its_tile(at: int) -> None:
    session, head = tiles(len(LOG))
    index = at // TILE
    if (1, index) in session.kept:
        octets = bytearray(session.kept[1, index])
        octets[32 * (at % TILE)] ^= 1
        session.kept[1, index] = bytes(octets)
    else:
        session.log[at] = b"edited"
    with pytest.raises(Corrupt) as caught:
        proven_hashes(head, index, StoredTree(session))  # type: ignore[arg-type]  # stands for one
    assert caught.value.rule == "log/leaf-changed"


def test_an_edited_root_beside_it_is_found_too() -> None:
    session, head = tiles(len(LOG))
    session.roots[1, 1] = bytes(32)
    session.kept[1, 1] = bytes(32) * TILE
    for index in (0, 1):
        with pytest.raises(Corrupt):
            proven_hashes(head, index, StoredTree(session))  # type: ignore[arg-type]  # stands for one
    assert proven_hashes(head, 2, StoredTree(session))  # type: ignore[arg-type]  # stands for one


def test_the_nodes_of_a_whole_tile_are_those_of_the_tree() -> None:
    session, _ = tiles(2 * TILE)
    stored = StoredTree(session)  # type: ignore[arg-type]  # stands for one
    digests = [leaf_hash(entry) for entry in LOG]
    for height in range(9):
        for index in range(2 * TILE >> height):
            assert stored.subtree(height, index) == root_of(digests[index << height : (index + 1) << height])
