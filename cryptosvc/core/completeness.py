"""Proof that an answer is complete: the whole range of the log is read again, and nothing can be left out of that.

A range holds every entry between two checkpoints, A and B. The frontier of A (the roots of its complete subtrees)
gives A's root; extended by the hash of every entry of the range it gives B's. So an entry that was dropped, added,
moved or edited changes the root, and "these are all entries of key K between A and B" is what a replay of the query
over the range finds. Why a replay and no verifiable index: ADR 0014.

Of an entry whose withheld value was redacted nobody can say any more whether it answers a query by that value, and of
one that was deleted, of which the hash alone is left, whether it answers any; a replay counts those. That an entry was
deleted, the range itself must say (`core/erased.py`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import orjson

from cryptosvc.core.canonical import JsonValue, canonical
from cryptosvc.core.checkpoint import Checkpoint
from cryptosvc.core.commitments import ENTRY_VERSION
from cryptosvc.core.entries import values_beside
from cryptosvc.core.erased import TELLING, Gone, Missing, hash_of, is_alone
from cryptosvc.core.errors import Corrupt, Internal, Malformed
from cryptosvc.core.merkle import Frontier, node_hash
from cryptosvc.core.query import Query
from cryptosvc.core.said import Entry, Pair, moment, said, silent_about


class Listener(Protocol):
    """Told of entries one by one, so that nobody keeps a list of them."""

    def take(self, index: int, entry: Entry, beside: Mapping[str, str], pairs: set[Pair]) -> None:
        """An entry that answers: its index, itself, what is beside it, and what it says (`core/said.py`)."""

    def leave_open(self, index: int) -> None:
        """An entry that would answer but for a value that was redacted, or of which the hash alone is left."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What a replay found.

    Args:
        start, stop: the range, as sizes of the log.
        leaves: indexes of all entries that answer the query, in the order of the log.
        undecided: indexes of entries that would answer but for a value that was redacted, or are hashes alone.
        gone: how many are hashes alone.

    """

    start: int
    stop: int
    leaves: tuple[int, ...]
    undecided: tuple[int, ...]
    gone: Gone = field(default=Gone())


@dataclass(slots=True)
class Replayer:
    """Takes the entries of a range in order; memory holds the frontier and the answer only.

    Args:
        query: what is asked.
        frontier: of the log at the start of the range.
        listener: told of each entry; then none is listed, and memory does not grow with the answer either.

    """

    query: Query
    frontier: Frontier
    listener: Listener | None = None
    _leaves: list[int] = field(default_factory=list)
    _undecided: list[int] = field(default_factory=list)
    _missing: Missing = field(default_factory=Missing)

    def take(self, lines: Sequence[tuple[bytes, bytes]]) -> None:
        """Take the next (entry, withheld).

        Raises:
            Corrupt: `export/entry`, `export/entry-version`, `export/withheld`, `export/commitment`.

        """
        for index, (octets, withheld) in enumerate(lines, self.frontier.size):
            self._judge(index, octets, withheld)
        self.frontier = self.frontier.extended([hash_of(octets) for octets, _ in lines])

    def conclude(self, start: Checkpoint | None, stop: Checkpoint) -> Answered:
        """Compare with the checkpoint the range ends with.

        Raises:
            Corrupt: `completeness/truncated`, `completeness/root`, `export/erased`.

        """
        if self.frontier.size != stop.size:
            raise Corrupt(
                f"the range ends at entry {self.frontier.size} and its checkpoint signs {stop.size}: entries were "
                "dropped or added",
                rule="completeness/truncated",
            )
        if self.frontier.root() != stop.root:
            raise Corrupt(
                "the entries of the range do not lead from one checkpoint to the other: one was dropped, added, moved "
                "or edited",
                rule="completeness/root",
            )
        begun = 0 if start is None else start.size
        gone = self._missing.require_gone()
        return Answered(begun, stop.size, tuple(self._leaves), tuple(self._undecided), gone)

    def _judge(self, index: int, octets: bytes, withheld: bytes) -> None:
        if is_alone(octets) and not withheld:
            self._missing.miss(index)
            self._leave_open(index)
            return
        try:
            entry: dict[str, JsonValue] = orjson.loads(octets)
            same = canonical(entry) == octets and octets.startswith(b"{")
        except (orjson.JSONDecodeError, Internal):
            same = False
        if not same:
            raise Corrupt(f"entry {index} is not a canonical JSON object", rule="export/entry")
        if entry.get("v") != ENTRY_VERSION:
            raise Corrupt(f"entry {index} is of an unknown version", rule="export/entry-version")
        beside = values_beside(index, entry, withheld)
        if entry.get("kind") in TELLING:
            self._missing.hear(index, entry)
        at, pairs = moment(entry), said(entry, beside)
        if self.query.answered_by(pairs, at):
            if self.listener is None:
                self._leaves.append(index)
            else:
                self.listener.take(index, entry, beside, pairs)
        elif self.query.start <= at < self.query.stop:
            unmet = [one.field for one in self.query.conditions if one.pairs.isdisjoint(pairs)]
            if all(silent_about(name, entry, beside) for name in unmet):
                self._leave_open(index)

    def _leave_open(self, index: int) -> None:
        if self.listener is None:
            self._undecided.append(index)
        else:
            self.listener.leave_open(index)


def begin(
    frontier: Frontier, start: Checkpoint | None, query: Query, listener: Listener | None = None
) -> Replayer:
    """Begin a replay at a checkpoint, or at the beginning of the log.

    Raises:
        Corrupt: `completeness/frontier`: the frontier is not that of the checkpoint.

    """
    if start is None:
        if frontier.size:
            raise Corrupt(
                "a range without a first checkpoint begins with entry 0", rule="completeness/frontier"
            )
    elif frontier.size != start.size or frontier.root() != start.root:
        raise Corrupt(
            "the range does not begin where its first checkpoint ends", rule="completeness/frontier"
        )
    return Replayer(query, frontier, listener)


def frontier_of(last_leaf: bytes, path: Sequence[bytes], size: int) -> Frontier:
    """Make the frontier of a log from the inclusion proof of its last entry.

    All siblings of the last entry stand to its left: first those inside the smallest complete subtree, then the roots
    of the larger ones. Nothing is believed of it: `begin` compares the root.

    Args:
        last_leaf: leaf hash of entry `size - 1`.
        path: its audit path in the tree of `size` entries, lowest first.
        size: at least 1.

    Raises:
        Malformed: the path is not as long as it must be.

    """
    inside = (size & -size).bit_length() - 1
    if size < 1 or len(path) != inside + size.bit_count() - 1:
        raise Malformed("the proof is longer or shorter than the tree is high", rule="merkle/proof-length")
    smallest = last_leaf
    for sibling in path[:inside]:
        smallest = node_hash(sibling, smallest)
    return Frontier(size, (*reversed(path[inside:]), smallest))


def require_complete(found: Answered, given: Iterable[tuple[int, bytes]], hashes: Sequence[bytes]) -> None:
    """Compare an answer that was given with what a replay found.

    Args:
        found: by the replay.
        given: leaf index and leaf hash of each entry of the answer; those outside the range are not looked at.
        hashes: leaf hashes of the entries found, in their order.

    Raises:
        Corrupt: `completeness/missing`, `completeness/foreign`, `completeness/changed`.

    """
    answer = {index: digest for index, digest in given if found.start <= index < found.stop}
    missing = [index for index in found.leaves if index not in answer]
    if missing:
        raise Corrupt(
            f"the answer leaves out {len(missing)} of {len(found.leaves)} entries, entry {missing[0]} the first of them",
            rule="completeness/missing",
        )
    foreign = sorted(set(answer) - set(found.leaves) - set(found.undecided))
    if foreign:
        raise Corrupt(
            f"entry {foreign[0]} of the answer does not answer the query", rule="completeness/foreign"
        )
    for index, digest in zip(found.leaves, hashes, strict=True):
        if answer[index] != digest:
            raise Corrupt(
                f"entry {index} of the answer is not the one in the log", rule="completeness/changed"
            )
