"""The stored tree: tiles of 256 hashes, so that any proof reads a few rows however long the log is.

Level 1 tiles hold leaf hashes, level 2 tiles the roots of level 1 tiles, and so on. A tile is written once it is
complete; what has none yet is computed from the entries. Nothing read here is believed: whoever uses a proof checks it
against an authenticated head.
"""

from collections.abc import Mapping, Sequence
from typing import cast

import orjson

from cryptosvc.adapters.store.heads import Head
from cryptosvc.adapters.store.session import Session
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.errors import Corrupt, Malformed
from cryptosvc.core.merkle import (
    HASH_OCTETS,
    consistency_proof,
    inclusion_proof,
    node_hash,
    range_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from cryptosvc.core.segments import hash_of

TILE_BITS = 8
TILE = 1 << TILE_BITS
_INDEX_BITS = 48
"""Of a tile's id; its level stands above them."""


class StoredTree:
    """Hashes of complete subtrees, read within one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._tiles: dict[tuple[int, int], list[bytes]] = {}
        self._pyramids: dict[tuple[int, int], list[list[bytes]]] = {}

    def subtree(self, height: int, index: int) -> bytes:
        """Hash of a complete subtree (`core/merkle.py`)."""
        level, rest = divmod(height, TILE_BITS)
        first = index << rest
        name = (level + 1, first >> TILE_BITS)
        tile = self.tile(*name)
        start = first & (TILE - 1)
        if len(tile) == TILE:
            return self._pyramid(name, tile)[rest][start >> rest]
        hashes = tile[start : start + (1 << rest)]
        if len(hashes) != 1 << rest:
            raise missing(index << height)
        return root_of(hashes)

    def read_ahead(self, names: Sequence[tuple[int, int]]) -> None:
        """Read these tiles (level, index) in one statement; those that are not stored are computed when asked for."""
        wanted = [level << _INDEX_BITS | index for level, index in names if (level, index) not in self._tiles]
        if not wanted:
            return
        marks = ", ".join("?" * len(wanted))
        sql = f"SELECT tile_id, hashes FROM tile WHERE tile_id IN ({marks})"  # noqa: S608  # marks only
        for tile_id, hashes in cast("list[tuple[int, bytes]]", self._session.rows(sql, *wanted)):
            self._tiles[tile_id >> _INDEX_BITS, tile_id & ((1 << _INDEX_BITS) - 1)] = split(hashes)

    def put(self, level: int, index: int, hashes: list[bytes]) -> None:
        """Use these hashes instead of the stored ones, to check the entries they were computed from."""
        self._tiles[(level, index)] = hashes
        self._pyramids.pop((level, index), None)

    def _pyramid(self, name: tuple[int, int], tile: list[bytes]) -> list[list[bytes]]:
        """Every node of a whole tile, its hashes first: one path costs as much, and many share it."""
        levels = self._pyramids.get(name)
        if levels is None:
            levels = [tile]
            while len(levels[-1]) > 1:
                below = levels[-1]
                levels.append([node_hash(below[at], below[at + 1]) for at in range(0, len(below), 2)])
            self._pyramids[name] = levels
        return levels

    def tile(self, level: int, index: int) -> list[bytes]:
        """Hashes of a tile, as many as there are."""
        found = self._tiles.get((level, index))
        if found is None:
            stored = self._session.tile(level, index)
            found = self._compute(level, index) if stored is None else split(stored)
            self._tiles[(level, index)] = found
        return found

    def _compute(self, level: int, index: int) -> list[bytes]:
        start = index << TILE_BITS
        if level == 1:
            return [hash_of(entry) for entry in self._session.entries(start, start + TILE)]
        newest = self._session.newest_leaf() + 1
        complete = min(TILE, (newest >> (TILE_BITS * (level - 1))) - start)
        roots = self._session.tile_roots(level - 1, start, start + TILE)
        return [
            roots[number] if number in roots else root_of(self.tile(level - 1, number))
            for number in range(start, start + max(complete, 0))
        ]


def split(octets: bytes) -> list[bytes]:
    """Hashes of a stored tile."""
    return [octets[at : at + HASH_OCTETS] for at in range(0, len(octets), HASH_OCTETS)]


def prove_inclusion(session: Session, head: Head, leaf_index: int, tree_size: int) -> list[bytes]:
    """Audit path, checked against the head where it is for the head's size.

    Raises:
        Malformed: past the end.
        Corrupt: the stored leaves or tiles are not what the head vouches for.

    """
    if tree_size > head.size:
        raise _not_reached("tree_size")
    tree = StoredTree(session)
    path = inclusion_proof(leaf_index, tree_size, tree.subtree)
    _require_prefix(tree, head, tree_size)
    verified_leaf(session, head, leaf_index, tree)
    return path


def prove_consistency(session: Session, head: Head, first_size: int, second_size: int) -> list[bytes]:
    """Consistency proof between two sizes up to the head's; errors as `prove_inclusion`."""
    if second_size > head.size:
        raise _not_reached("second_size")
    tree = StoredTree(session)
    path = consistency_proof(first_size, second_size, tree.subtree)
    _require_prefix(tree, head, second_size)
    return path


def verified_leaf(
    session: Session, head: Head, leaf_index: int, tree: StoredTree | None = None
) -> tuple[bytes, bytes]:
    """Entry and what is kept beside it, proven to be in the log of this head.

    Raises:
        Corrupt: `log/leaf-missing`, `log/leaf-changed`.

    """
    found = session.leaf(leaf_index)
    if found is None:
        raise missing(leaf_index)
    tree = tree or StoredTree(session)
    _require(hash_of(found[0]), leaf_index, head, tree)
    return found


def verify_tile(session: Session, head: Head, index: int) -> list[bytes]:
    """Read the (up to 256) entries of level 1 tile `index` and prove every one of them; returns their hashes.

    One audit path is enough: the siblings below the tile's root are computed from the entries themselves.
    """
    start, stop = index << TILE_BITS, min((index + 1) << TILE_BITS, head.size)
    entries = session.entries(start, stop)
    if len(entries) != stop - start:
        raise missing(start + len(entries))
    hashes = [hash_of(entry) for entry in entries]
    tree = StoredTree(session)
    tree.put(1, index, hashes)
    _require(hashes[0], start, head, tree)
    return hashes


def verify_extension(session: Session, before: Head, after: Head) -> None:
    """Raise Corrupt unless the log of `after` extends that of `before`."""
    if not before.size:
        return
    try:
        path = consistency_proof(before.size, after.size, StoredTree(session).subtree)
        verify_consistency(before.size, after.size, path, before.frontier.root(), after.frontier.root())
    except (Corrupt, Malformed):
        raise Corrupt(
            f"the log of {after.size} entries does not extend the one of {before.size} seen before: "
            "an old state was put back and went on differently",
            rule="log/forked",
        ) from None


def record_entry(entry: bytes) -> Mapping[str, JsonValue]:
    """Read an entry that was proven to be in the log."""
    found: Mapping[str, JsonValue] = orjson.loads(entry)
    return found


def fill_tiles(session: Session, index: int, hashes: Sequence[bytes]) -> None:
    """Store a complete level 1 tile, and the tiles above it that it completes."""
    level, octets, root = 1, b"".join(hashes), root_of(hashes)
    while True:
        session.put_tile(level, index, root, octets)
        if (index + 1) & (TILE - 1):
            return
        start = index + 1 - TILE
        roots = session.tile_roots(level, start, start + TILE)
        if len(roots) != TILE:
            return  # a gap below is filled by maintenance, which comes by here again
        below = [roots[number] for number in range(start, start + TILE)]
        level, index, octets, root = level + 1, index >> TILE_BITS, b"".join(below), root_of(below)


def _require(found: bytes, leaf_index: int, head: Head, tree: StoredTree) -> None:
    try:
        path = inclusion_proof(leaf_index, head.size, tree.subtree)
        verify_inclusion(found, leaf_index, head.size, path, head.frontier.root())
    except Malformed:
        raise missing(leaf_index) from None
    except Corrupt as error:
        if error.rule == "log/leaf-missing":
            raise
        raise Corrupt(
            f"entry {leaf_index} or one near it is not what the log's head vouches for: the database was edited",
            rule="log/leaf-changed",
        ) from None


def _require_prefix(tree: StoredTree, head: Head, size: int) -> None:
    """The tree of `size` leaves, as stored, is a prefix of the head's."""
    if size == head.size or not size:
        return
    try:
        from_stored = consistency_proof(size, head.size, tree.subtree)
        verify_consistency(size, head.size, from_stored, _root(tree, size), head.frontier.root())
    except Corrupt:
        raise Corrupt(
            "the stored tree is not what the log's head vouches for: the database was edited",
            rule="log/leaf-changed",
        ) from None


def _root(tree: StoredTree, size: int) -> bytes:
    return range_hash(0, size, tree.subtree)


def missing(leaf_index: int) -> Corrupt:
    """Say that an entry is not there."""
    return Corrupt(
        f"entry {leaf_index} is missing from the store: the database was edited", rule="log/leaf-missing"
    )


def _not_reached(field: str) -> Malformed:
    return Malformed("the log is not that long yet", rule="audit/size", field=field)
