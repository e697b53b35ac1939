"""Entries of which the hash alone is left, and what the log must say before one may be (G2.17, G2.18).

An entry is sealed whole once it is old enough, and deleted with the key it is sealed under. What is left of it is its leaf
hash: so many hex digits, wherever its octets would stand, in an answer, a range or an export. The tree is what it was, and
with it every proof of every other entry. Nobody can put a hash where an entry was not deleted: it holds only where

- a later entry of kind `sealed` names that leaf under a key, and the key is destroyed, as its own record says, or
- a later entry of kind `archived` names it as being in a file, which is not `returned` when the log ends.

Which kinds are sealed whole is a list of what callers did. Everything that a record is derived from, or by which the
service itself answers for what it did (records, genesis, policies, reviews, alarms, backups, seals), stays for good.

Source: Smart Energy Code G2.17, G2.18; RFC 6962 2.1 (a leaf's hash is all that a tree knows of it).
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.errors import Corrupt
from cryptosvc.core.merkle import HASH_OCTETS, leaf_hash

KINDS = frozenset({"use", "refusal", "explain", "read", "handshake-failed", "overloaded"})
"""Kinds of entry that are sealed whole."""
TELLING = frozenset({"sealed", "archived", "returned", "key-record"})
"""Kinds of entry that say which entries are gone."""
CLAUSE = "G2.18"
MOST_RUNS = 1000
"""Runs of leaves that one entry names; what has more is told in several."""
_DIGITS = 2 * HASH_OCTETS
_ALONE = re.compile(rb"[0-9a-f]{%d}" % _DIGITS)
_RUN = re.compile(r"(0|[1-9][0-9]{0,15})-([1-9][0-9]{0,15})")

Run = tuple[int, int]
"""Leaves from the first up to the second, which is no part of it."""


def alone(digest: bytes) -> bytes:
    """What stands in the place of an entry of which the hash is left."""
    return digest.hex().encode()


def is_alone(octets: bytes) -> bool:
    """Whether this stands in the place of an entry."""
    return len(octets) == _DIGITS and _ALONE.fullmatch(octets) is not None


def hash_of(octets: bytes) -> bytes:
    """Leaf hash of an entry, or of one of which it is left; 32 octets."""
    return bytes.fromhex(octets.decode()) if is_alone(octets) else leaf_hash(octets)


def runs_of(leaves: Iterable[int]) -> list[Run]:
    """Leaves in ascending order as runs."""
    found: list[Run] = []
    for leaf in leaves:
        if found and found[-1][1] == leaf:
            found[-1] = found[-1][0], leaf + 1
        else:
            found.append((leaf, leaf + 1))
    return found


def emit(runs: Sequence[Run]) -> Iterator[str]:
    """Runs as facts of entries, `MOST_RUNS` a text: `0-6,7-9`."""
    for at in range(0, len(runs), MOST_RUNS):
        yield ",".join(f"{start}-{stop}" for start, stop in runs[at : at + MOST_RUNS])


def parse(text: str) -> list[Run] | None:
    """Read what `emit` made; None for anything else."""
    found: list[Run] = []
    for one in text.split(",") if text else ():
        run = _RUN.fullmatch(one)
        start, stop = (int(run[1]), int(run[2])) if run else (0, 0)
        if start >= stop or (found and found[-1][1] >= start):
            return None
        found.append((start, stop))
    return found


@dataclass(frozen=True, slots=True)
class Said:
    """What one entry says of entries that are gone.

    Args:
        leaf_index: which says it.
        of: id of the key of a segment; of an archive the SHA-256 of its file, hex.
        what: `sealed`, `archived`, `returned` or `destroyed`.
        runs: the leaves that were sealed whole, or are in the file.

    """

    leaf_index: int
    of: str
    what: str
    runs: tuple[Run, ...] = ()


def said_by(leaf_index: int, entry: Mapping[str, JsonValue]) -> Said | None:
    """What an entry of a `TELLING` kind says; None where that is nothing of this.

    Raises:
        Corrupt: `export/entry`: it names neither key nor file, or leaves that are not before itself.

    """
    kind, facts = entry.get("kind"), entry.get("facts")
    if kind == "key-record":
        destroyed = entry.get("state") == "destroyed"
        return Said(leaf_index, str(entry.get("key")), "destroyed") if destroyed else None
    if kind not in TELLING:
        return None
    said = facts if isinstance(facts, Mapping) else {}
    of, leaves = said.get("key" if kind == "sealed" else "sha256"), said.get("leaves", "")
    runs = parse(leaves) if isinstance(leaves, str) else None
    if not isinstance(of, str) or runs is None or (runs and runs[-1][1] > leaf_index):
        raise Corrupt(
            f"entry {leaf_index} does not say which entries before it were sealed or archived",
            rule="export/entry",
        )
    return Said(leaf_index, of, str(kind), tuple(runs))


@dataclass(frozen=True, slots=True)
class Gone:
    """How many entries are hashes alone.

    Args:
        erased: deleted for good, with the key of their segment.
        archived: out of the store, in a file whose digest the log has.

    """

    erased: int = 0
    archived: int = 0


@dataclass(slots=True)
class Missing:
    """Which entries of a stretch of the log are hashes alone, and what the same stretch says of that.

    Args:
        runs: leaves of which the hash alone is there, in order.
        said: what entries say, in order.

    """

    runs: list[Run] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)

    def miss(self, leaf_index: int) -> None:
        """The entry there is a hash alone; called in the order of the log."""
        if self.runs and self.runs[-1][1] == leaf_index:
            self.runs[-1] = self.runs[-1][0], leaf_index + 1
        else:
            self.runs.append((leaf_index, leaf_index + 1))

    def hear(self, leaf_index: int, entry: Mapping[str, JsonValue]) -> None:
        """An entry of a `TELLING` kind; Corrupt as `said_by`."""
        found = said_by(leaf_index, entry)
        if found is not None:
            self.said.append(found)

    def add(self, other: "Missing") -> None:
        """Go on with the stretch that follows."""
        self.runs += other.runs
        self.said += other.said

    def require_gone(self) -> Gone:
        """Require that the log says of each of these entries that it is gone; how many there are.

        Raises:
            Corrupt: `export/erased`.

        """
        destroyed, archived = self._places()
        left = _without(self.runs, self._named(destroyed))
        hidden = _without(left, self._named(archived))
        if hidden:
            raise Corrupt(
                f"of entry {hidden[0][0]} there is a hash alone, and no entry says that it was deleted: it was left out, or "
                "the key of its segment was destroyed after this ends",
                rule="export/erased",
                clause=CLAUSE,
            )
        return Gone(_count(self.runs) - _count(left), _count(left))

    def count(self) -> Gone:
        """How many entries are gone, as far as was said."""
        destroyed, archived = self._places()
        deleted = self._named(destroyed)
        return Gone(_count(deleted), _count(_without(self._named(archived), deleted)))

    def _named(self, places: set[str]) -> list[Run]:
        return sorted(run for one in self.said if one.of in places for run in one.runs)

    def _places(self) -> tuple[set[str], set[str]]:
        """Keys that are destroyed, and files that are out."""
        destroyed: set[str] = set()
        archived: set[str] = set()
        for one in self.said:
            if one.what == "destroyed":
                destroyed.add(one.of)
            elif one.what == "archived":
                archived.add(one.of)
            elif one.what == "returned":
                archived.discard(one.of)
        return destroyed, archived


def _count(runs: Iterable[Run]) -> int:
    return sum(stop - start for start, stop in runs)


def _without(runs: Sequence[Run], others: Sequence[Run]) -> list[Run]:
    """Runs less what others cover; both ascend."""
    found: list[Run] = []
    at = 0
    for start, stop in runs:
        left = start
        while left < stop:
            while at < len(others) and others[at][1] <= left:
                at += 1
            if at == len(others) or others[at][0] >= stop:
                found.append((left, stop))
                break
            if others[at][0] > left:
                found.append((left, others[at][0]))
            left = others[at][1]
    return found
