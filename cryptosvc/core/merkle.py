"""The log's Merkle tree: hashes, frontier, proofs and their verification.

Rules in force: leaf hash `SHA-256(0x00 || entry)`, node hash `SHA-256(0x01 || left || right)`, the tree shape and the
proofs of RFC 6962 section 2.1; verification is the algorithm of RFC 9162 sections 2.1.3.2 and 2.1.4.2.

A complete subtree is named by (height, index): it covers the leaves `index << height` up to `(index + 1) << height`.
Whoever keeps the tree answers for complete subtrees only; incomplete ones on the right edge are folded here.

Example:
    >>> frontier = EMPTY.extended([leaf_hash(b"a"), leaf_hash(b"b")])
    >>> frontier.root() == node_hash(leaf_hash(b"a"), leaf_hash(b"b"))
    True
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from cryptosvc.core.errors import Corrupt, Malformed

HASH_OCTETS = 32
SIZE_OCTETS = 8
MAX_SIZE = 2**63 - 1
"""Largest tree: sizes are kept as signed 64-bit integers."""

EMPTY_ROOT = hashlib.sha256(b"").digest()
"""Root of the tree without leaves (RFC 6962 2.1)."""

SubtreeHash = Callable[[int, int], bytes]
"""(height, index) of a complete subtree → its hash, 32 octets."""

_sha256 = hashlib.sha256


def leaf_hash(entry: bytes) -> bytes:
    """Hash of a leaf: SHA-256(0x00 || entry), 32 octets."""
    return _sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node: SHA-256(0x01 || left || right), 32 octets."""
    return _sha256(b"\x01" + left + right).digest()


def root_of(leaf_hashes: Sequence[bytes]) -> bytes:
    """Root over leaf hashes (or over the roots of equal, complete subtrees but for the last), 32 octets."""
    if not leaf_hashes:
        return EMPTY_ROOT
    level = list(leaf_hashes)
    while len(level) > 1:
        pairs = iter(level)
        above = [_sha256(b"\x01" + left + right).digest() for left, right in zip(pairs, pairs, strict=False)]
        if len(level) % 2:
            above.append(level[-1])
        level = above
    return level[0]


@dataclass(frozen=True, slots=True)
class Frontier:
    """What must be kept of a tree to go on extending it: the roots of its complete subtrees.

    Args:
        size: number of leaves.
        peaks: one hash for each bit set in `size`, largest subtree first.

    """

    size: int
    peaks: tuple[bytes, ...]

    def root(self) -> bytes:
        """Root of the tree, 32 octets."""
        if not self.peaks:
            return EMPTY_ROOT
        found = self.peaks[-1]
        for peak in self.peaks[-2::-1]:
            found = node_hash(peak, found)
        return found

    def extended(self, leaf_hashes: Sequence[bytes]) -> "Frontier":
        """Frontier of the tree with these leaves appended."""
        peaks = list(self.peaks)
        size = self.size
        for appended in leaf_hashes:
            carry, bits = appended, size
            while bits & 1:
                carry = _sha256(b"\x01" + peaks.pop() + carry).digest()
                bits >>= 1
            peaks.append(carry)
            size += 1
        return Frontier(size, tuple(peaks))

    def emit(self) -> bytes:
        """Size as 8 octets, big-endian, then the peaks."""
        return self.size.to_bytes(SIZE_OCTETS) + b"".join(self.peaks)

    @classmethod
    def parse(cls, octets: bytes) -> Self:
        """Read what `emit` prints; anything else is Malformed."""
        size, rest = int.from_bytes(octets[:SIZE_OCTETS]), octets[SIZE_OCTETS:]
        if size > MAX_SIZE or len(octets) != SIZE_OCTETS + HASH_OCTETS * size.bit_count():
            raise Malformed(
                "a frontier is a size and one hash for each bit set in it", rule="merkle/frontier"
            )
        return cls(size, tuple(rest[at : at + HASH_OCTETS] for at in range(0, len(rest), HASH_OCTETS)))


EMPTY = Frontier(0, ())


def range_hash(start: int, stop: int, subtree: SubtreeHash) -> bytes:
    """Hash of the node over leaves `start` to `stop`, where `start` is a multiple of the power of two it needs.

    Args:
        start: first leaf.
        stop: one past the last leaf, greater than `start`.
        subtree: hashes of complete subtrees.

    """
    peaks: list[bytes] = []
    while start < stop:
        height = (stop - start).bit_length() - 1
        peaks.append(subtree(height, start >> height))
        start += 1 << height
    found = peaks.pop()
    while peaks:
        found = node_hash(peaks.pop(), found)
    return found


def inclusion_proof(index: int, size: int, subtree: SubtreeHash) -> list[bytes]:
    """Audit path of leaf `index` in the tree of `size` leaves, lowest sibling first (RFC 6962 2.1.1).

    Raises:
        Malformed: the index is not below the size.

    """
    if not 0 <= index < size:
        raise _index()
    path: list[bytes] = []
    start, stop = 0, size
    while stop - start > 1:
        middle = start + _split(stop - start)
        if index < middle:
            path.append(range_hash(middle, stop, subtree))
            stop = middle
        else:
            path.append(range_hash(start, middle, subtree))
            start = middle
    path.reverse()
    return path


def consistency_proof(first: int, second: int, subtree: SubtreeHash) -> list[bytes]:
    """Proof that the tree of `second` leaves extends that of `first` leaves (RFC 6962 2.1.2); empty where equal.

    Raises:
        Malformed: not `0 < first <= second`.

    """
    if not 0 < first <= second:
        raise _sizes()
    path: list[bytes] = []
    start, stop, whole = 0, second, True
    while first < stop:
        middle = start + _split(stop - start)
        if first <= middle:
            path.append(range_hash(middle, stop, subtree))
            stop = middle
        else:
            path.append(range_hash(start, middle, subtree))
            start, whole = middle, False
    if not whole:
        path.append(range_hash(start, stop, subtree))
    path.reverse()
    return path


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Raise unless `proof` shows that the leaf with hash `leaf` is number `index` in the tree of that size and root.

    Raises:
        Malformed: index not below size, a hash of another length, or a proof longer or shorter than the tree is high.
        Corrupt: the proof leads to another root.

    """
    if not 0 <= index < size:
        raise _index()
    _require_hashes((leaf, root, *proof))
    number, last, found = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise _length()
        if number & 1 or number == last:
            found = node_hash(sibling, found)
            while not number & 1 and number:
                number, last = number >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        number, last = number >> 1, last >> 1
    if last != 0:
        raise _length()
    if found != root:
        raise Corrupt(
            "the inclusion proof leads to another root: the entry is not the one in the log",
            rule="merkle/inclusion",
        )


def verify_consistency(
    first: int, second: int, proof: Sequence[bytes], first_root: bytes, second_root: bytes
) -> None:
    """Raise unless `proof` shows that the tree (`second`, `second_root`) extends the tree (`first`, `first_root`).

    Raises:
        Malformed: not `0 < first <= second`, a hash of another length, or a proof longer or shorter than it must be.
        Corrupt: the proof leads to other roots, so one of the trees is not an extension of the other.

    """
    if not 0 < first <= second:
        raise _sizes()
    _require_hashes((first_root, second_root, *proof))
    if first == second:
        if proof:
            raise _length()
        if first_root != second_root:
            raise _inconsistent()
        return
    path = list(proof)
    if first & (first - 1) == 0:  # the first tree is itself a complete subtree, so its root opens the path
        path.insert(0, first_root)
    if not path:
        raise _length()
    number, last = first - 1, second - 1
    while number & 1:
        number, last = number >> 1, last >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise _length()
        if number & 1 or number == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not number & 1 and number:
                number, last = number >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        number, last = number >> 1, last >> 1
    if last != 0:
        raise _length()
    if old != first_root or new != second_root:
        raise _inconsistent()


def _split(count: int) -> int:
    """Largest power of two smaller than `count`, which is at least two."""
    return 1 << ((count - 1).bit_length() - 1)


def _require_hashes(hashes: Sequence[bytes]) -> None:
    for octets in hashes:
        if len(octets) != HASH_OCTETS:
            raise Malformed("every hash of a proof has 32 octets", rule="merkle/hash-length")


def _index() -> Malformed:
    return Malformed("the index is not below the size of the tree", rule="merkle/index", field="leaf_index")


def _sizes() -> Malformed:
    return Malformed(
        "consistency is between a tree of at least one leaf and one not smaller",
        rule="merkle/sizes",
        field="first_size",
    )


def _length() -> Malformed:
    return Malformed("the proof is longer or shorter than the tree is high", rule="merkle/proof-length")


def _inconsistent() -> Corrupt:
    return Corrupt(
        "the consistency proof leads to other roots: the log was forked or rewritten",
        rule="merkle/consistency",
    )
