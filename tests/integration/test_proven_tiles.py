"""Tiles are believed only under the head: for logs of every shape, and with any hash of any tile or entry edited."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from cryptosvc.adapters.store.heads import Head, HeadKeeper
from cryptosvc.adapters.store.proven import KEPT, ProvenTiles, newest_above
from cryptosvc.adapters.store.search import Searcher
from cryptosvc.adapters.store.session import HeadRow
from cryptosvc.adapters.store.tree import TILE, StoredTree, fill_tiles
from cryptosvc.core.errors import Corrupt
from cryptosvc.core.merkle import EMPTY, Frontier, leaf_hash, root_of

LOG = [b"entry %d" % number for number in range(3 * TILE + 77)]


@dataclass
class Tiles:
    """What `StoredTree` reads of a session."""

    log: list[bytes]
    kept: dict[tuple[int, int], bytes] = field(default_factory=dict)
    roots: dict[tuple[int, int], bytes] = field(default_factory=dict)
    reads: int = 0

    def entries(self, start: int, stop: int) -> list[bytes]:
        return self.log[start:stop]

    def newest_leaf(self) -> int:
        return len(self.log) - 1

    def rows(self, sql: str, *tile_ids: int) -> list[tuple[int, bytes]]:
        assert sql.startswith("SELECT tile_id, hashes FROM tile")
        self.reads += 1
        names = [(tile_id >> 48, tile_id & (1 << 48) - 1) for tile_id in tile_ids]
        return [(level << 48 | index, self.kept[level, index]) for level, index in names]

    def tile(self, level: int, index: int) -> bytes | None:
        self.reads += 1
        return self.kept.get((level, index))

    def tile_roots(self, level: int, start: int, stop: int) -> dict[int, bytes]:
        self.reads += 1
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
        found = ProvenTiles().hashes(head, index, StoredTree(session))  # type: ignore[arg-type]  # stands for one
        assert found == [leaf_hash(entry) for entry in LOG[index * TILE : min((index + 1) * TILE, size)]]
    with pytest.raises(Corrupt) as caught:
        ProvenTiles().hashes(head, (size - 1) // TILE + 1, StoredTree(session))  # type: ignore[arg-type]  # stands for one
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
        ProvenTiles().hashes(head, index, StoredTree(session))  # type: ignore[arg-type]  # stands for one
    assert caught.value.rule == "log/leaf-changed"


def test_an_edited_root_beside_it_is_found_too() -> None:
    session, head = tiles(len(LOG))
    session.roots[1, 1] = bytes(32)
    session.kept[1, 1] = bytes(32) * TILE
    for index in (0, 1, 2):  # all of them are held to one tile of roots
        with pytest.raises(Corrupt) as caught:
            ProvenTiles().hashes(head, index, StoredTree(session))  # type: ignore[arg-type]  # stands for one
        assert caught.value.rule == "log/leaf-changed"


def test_the_nodes_of_a_whole_tile_are_those_of_the_tree() -> None:
    session, _ = tiles(2 * TILE)
    stored = StoredTree(session)  # type: ignore[arg-type]  # stands for one
    digests = [leaf_hash(entry) for entry in LOG]
    for height in range(9):
        for index in range(2 * TILE >> height):
            assert stored.subtree(height, index) == root_of(digests[index << height : (index + 1) << height])


FAR = (3, 100, 255, 256, 400, 511, 512)
"""Tiles of three level 2 tiles, the last of which is not whole."""


@pytest.fixture(scope="module")
def three_levels() -> tuple[Tiles, Head]:
    log = [b"%d" % number for number in range(2 * TILE * TILE + TILE + 5)]
    found = Tiles(log)
    digests = [leaf_hash(entry) for entry in log]
    for index in range(len(log) // TILE):
        fill_tiles(found, index, digests[index * TILE : (index + 1) * TILE])  # type: ignore[arg-type]  # stands for one
    return found, Head("test/log", EMPTY.extended(digests), 0, bytes(32))


def test_tiles_far_apart_are_read_in_one_statement_and_what_is_above_them_once(
    three_levels: tuple[Tiles, Head],
) -> None:
    session, head = three_levels
    proven = ProvenTiles()
    for tiles_of_a_page, most in ((FAR, 6), ((7, 8, 9, 300, 301, 302), 1), ((0, 512), 1), ((0,), 0)):
        session.reads = 0
        stored = StoredTree(session)  # type: ignore[arg-type]  # stands for one
        proven.read_ahead(head, tiles_of_a_page, stored)
        for index in tiles_of_a_page:
            start = index * TILE
            expected = [leaf_hash(entry) for entry in session.log[start : start + TILE]]
            assert proven.hashes(head, index, stored) == expected
        assert session.reads <= most


@pytest.mark.parametrize("name", [(1, 300), (2, 1)])
def test_an_edit_below_what_is_kept_is_found_and_above_it_where_it_is_read(
    three_levels: tuple[Tiles, Head], name: tuple[int, int]
) -> None:
    session, head = three_levels
    octets = bytearray(session.kept[name])
    octets[40] ^= 1
    edited = Tiles(session.log, session.kept | {name: bytes(octets)}, session.roots)
    proven = ProvenTiles()
    assert proven.hashes(head, 3, StoredTree(edited))  # type: ignore[arg-type]  # stands for one
    with pytest.raises(Corrupt) as caught:
        proven.hashes(head, 300, StoredTree(edited))  # type: ignore[arg-type]  # stands for one
    assert caught.value.rule == "log/leaf-changed"
    assert proven.hashes(head, 300, StoredTree(session))  # type: ignore[arg-type]  # stands for one


def test_what_is_above_is_proven_ahead_of_any_page(three_levels: tuple[Tiles, Head]) -> None:
    session, head = three_levels
    proven = ProvenTiles()
    assert newest_above(head) == range(2)
    proven.prove_above(head, newest_above(head), StoredTree(session))  # type: ignore[arg-type]  # stands for one
    session.reads = 0
    stored = StoredTree(session)  # type: ignore[arg-type]  # stands for one
    proven.read_ahead(head, (3, 300), stored)
    assert proven.hashes(head, 3, stored)
    assert proven.hashes(head, 300, stored)
    assert session.reads == 1
    edited = Tiles(session.log, session.kept | {(2, 1): bytes(TILE * 32)}, session.roots)
    with pytest.raises(Corrupt):
        ProvenTiles().prove_above(head, range(2), StoredTree(edited))  # type: ignore[arg-type]  # stands for one


def test_a_long_log_is_proven_ahead_as_far_as_is_kept() -> None:
    size = (KEPT + 3) << 16
    heads = [
        Head("test/log", Frontier(one, (bytes(32),) * one.bit_count()), 0, bytes(32))
        for one in (65_535, size)
    ]
    assert [newest_above(head) for head in heads] == [range(0), range(3, KEPT + 3)]


class Kept:
    """A store of tiles."""

    def __init__(self, session: Tiles) -> None:
        self.session = session

    @contextmanager
    def reading(self) -> Iterator[Tiles]:
        yield self.session

    def close(self) -> None:
        pass


@pytest.mark.parametrize("edited", [False, True])
def test_a_searcher_proves_ahead_and_trusts_nothing_where_that_fails(
    three_levels: tuple[Tiles, Head], *, edited: bool
) -> None:
    session, head = three_levels
    kept = session.kept | ({(2, 1): bytes(TILE * 32)} if edited else {})
    store = Kept(Tiles(session.log, kept, session.roots))
    keeper = HeadKeeper("test/log", NoKey())
    for known in (None, head):
        if known is not None:
            keeper.wrote(HeadRow(b"", b""), known)
        searcher = Searcher(store, store, keeper)  # type: ignore[arg-type]  # stands for two
        searcher.prepare()
        searcher.close()  # waits for it
        assert (store.session.reads > 0) == (known is not None)
    if not edited:
        keeper.require_trust()
        return
    with pytest.raises(Corrupt) as caught:
        keeper.require_trust()
    assert caught.value.rule == "log/leaf-changed"


class NoKey:
    """Authenticates nothing: the head is known already."""

    def mac(self, data: bytes) -> bytes:
        raise AssertionError(data)

    def verify(self, data: bytes, tag: bytes) -> None:
        raise AssertionError(data, tag)
