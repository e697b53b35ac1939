"""Leaf hashes of whole tiles, each proven under the authenticated head, with what was proven above them kept.

The head names the root of every complete subtree of the log (its peaks). At each level of tiles the last, unfinished
tile is held to the peaks that lie in it; a whole tile is held to its own root in the tile above it. So a leaf anywhere
costs the hashing of its own tile, and that of the tiles above it the first time only: those are few (one for 65,536
entries) and stay what they are.

Example: log of 10 million entries, tile 20,000 of leaf hashes, asked for by a process that proved others before
    one row read, 255 hashes, one comparison with the kept 20,000th root of level 2
"""

from collections.abc import Collection

from cryptosvc.adapters.store.heads import Head
from cryptosvc.adapters.store.tree import TILE, TILE_BITS, StoredTree, missing
from cryptosvc.core.errors import Corrupt
from cryptosvc.core.merkle import root_of

KEPT = 512
"""Whole tiles kept above the leaf hashes, enough for a log of 33 million entries: 9 MB."""
_ENDS = 2
"""Tiles of leaf hashes kept at each end of the log, where first pages begin, beside the last one used. Those between are
as many as the log is long, and would only push each other out."""

_Name = tuple[int, int]
"""Level and index of a tile; level 1 are the leaf hashes."""


def newest_above(head: Head) -> range:
    """Whole tiles of level 2, as many of the newest as are kept."""
    whole = head.size >> (2 * TILE_BITS)
    return range(max(0, whole - KEPT), whole)


class ProvenTiles:
    """What was proven once, and is so for ever: a tile under a root, an unfinished one under its peaks."""

    def __init__(self) -> None:
        self._ends: dict[int, list[bytes]] = {}
        self._last: tuple[int, list[bytes]] = (-1, [])
        self._upper: dict[int, dict[int, list[bytes]]] = {}
        self._unfinished: dict[int, tuple[tuple[bytes, ...], list[bytes]]] = {}

    def read_ahead(self, head: Head, tiles: Collection[int], tree: StoredTree) -> None:
        """Read what proving these tiles of leaf hashes will need, in one statement.

        Args:
            head: of the log.
            tiles: indexes at level 1.
            tree: where it is read to.

        """
        names: set[_Name] = set()
        for tile in tiles:
            level, index = 1, tile
            while _complete(head, level, index) == TILE and self._known(level, index) is None:
                names.add((level, index))
                level, index = level + 1, index >> TILE_BITS
        tree.read_ahead(sorted(names))

    def prove_above(self, head: Head, tiles: range, tree: StoredTree) -> None:
        """Prove these whole tiles of level 2, so that no page has to. Corrupt as `hashes`."""
        tree.read_ahead([(2, index) for index in tiles])
        for index in tiles:
            self._proven(head, 2, index, tree)

    def hashes(self, head: Head, index: int, tree: StoredTree) -> list[bytes]:
        """Leaf hashes of level 1 tile `index` as stored, as many as the log of the head has of them.

        Raises:
            Corrupt: `log/leaf-missing`, `log/leaf-changed`.

        """
        return self._proven(head, 1, index, tree)

    def _known(self, level: int, index: int) -> list[bytes] | None:
        if level > 1:
            return self._upper.get(level, {}).get(index)
        return self._last[1] if self._last[0] == index else self._ends.get(index)

    def _proven(self, head: Head, level: int, index: int, tree: StoredTree) -> list[bytes]:
        count = _complete(head, level, index)
        if count < TILE:
            return self._unfinished_tile(head, level, index, count, tree)
        found = self._known(level, index)
        if found is None:
            found = tree.tile(level, index)
            above = self._proven(head, level + 1, index >> TILE_BITS, tree)
            if len(found) != TILE or root_of(found) != above[index & (TILE - 1)]:
                raise _changed(level, index)
            self._keep(head, level, index, found)
        return found

    def _keep(self, head: Head, level: int, index: int, hashes: list[bytes]) -> None:
        if level == 1:
            self._last = index, hashes
            newest = (head.size >> TILE_BITS) - _ENDS
            if index < _ENDS or index >= newest:
                self._ends = {at: kept for at, kept in self._ends.items() if at < _ENDS or at >= newest}
                self._ends[index] = hashes
            return
        kept = self._upper.setdefault(level, {})
        if len(kept) >= KEPT:
            kept.pop(next(iter(kept)))
        kept[index] = hashes

    def _unfinished_tile(
        self, head: Head, level: int, index: int, count: int, tree: StoredTree
    ) -> list[bytes]:
        """The last tile of a level: its complete subtrees are peaks of the head."""
        peaks = _peaks(head, level)
        if count <= 0:
            raise missing(index << (TILE_BITS * level))
        kept = self._unfinished.get(level)
        if kept is not None and kept[0] == peaks:
            return kept[1]
        hashes = tree.tile(level, index)[:count]
        at = 0
        for height, peak in zip(_heights(count), peaks, strict=True):
            if root_of(hashes[at : at + (1 << height)]) != peak:
                raise _changed(level, index)
            at += 1 << height
        self._unfinished[level] = peaks, hashes
        return hashes


def _complete(head: Head, level: int, index: int) -> int:
    """How many hashes of a tile the log of this head has; 0 or less past its end."""
    return min(TILE, (head.size >> (TILE_BITS * (level - 1))) - (index << TILE_BITS))


def _heights(count: int) -> list[int]:
    """Heights of the complete subtrees of so many hashes, largest first."""
    return [height for height in range(count.bit_length() - 1, -1, -1) if count >> height & 1]


def _peaks(head: Head, level: int) -> tuple[bytes, ...]:
    """Peaks of the head that lie in the last tile of a level, largest first."""
    lowest = TILE_BITS * (level - 1)
    return tuple(
        peak
        for height, peak in zip(_heights(head.size), head.frontier.peaks, strict=True)
        if lowest <= height < lowest + TILE_BITS
    )


def _changed(level: int, index: int) -> Corrupt:
    return Corrupt(
        f"entry {index << (TILE_BITS * level)} or one near it is not what the log's head vouches for: "
        "the database was edited",
        rule="log/leaf-changed",
    )
