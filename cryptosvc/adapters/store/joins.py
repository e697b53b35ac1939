"""Where several rows of the query index meet: blocks of which every condition has something, in order.

Each condition is a union of streams, one for each of its values; a stream is read a few rows at a time, from wherever
the others have got to, so that a rare value makes a common one cheap. Where another condition has rows at hand
already, only their blocks are asked for: in one read, however far apart they lie.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from cryptosvc.adapters.store import postings
from cryptosvc.adapters.store.faults import Moved, translated
from cryptosvc.adapters.store.session import Session
from cryptosvc.core.errors import Corrupt, Unavailable

_FIRST_ROWS = 8
_ROWS = 64

Row = tuple[int, int]
"""Block and bitmap."""
Read = Callable[[int, int], list[Row]]
"""(block, at most) → that many rows from the block on, in the order of the answer."""
ReadOf = Callable[[Sequence[int]], list[Row]]
"""Blocks in the order of the answer → the rows of those that have one, in that order."""
Met = Callable[[], Sequence[int]]


class IndexGone(Exception):  # not an error: the answer is found without it then, more slowly
    """The index cannot be read."""


class Spent(Exception):  # likewise: the page ends here, and its cursor goes on
    """As much of the index was read as one page may.

    Args:
        block: every block before it, in the order of the answer, is decided.

    """

    def __init__(self, block: int) -> None:
        super().__init__()
        self.block = block


@contextmanager
def reading_index() -> Iterator[None]:
    """Raise IndexGone for whatever is wrong with the index: that says nothing about the log."""
    try:
        with translated():
            yield
    except (Unavailable, Corrupt, Moved) as error:
        raise IndexGone from error


class Reading:
    """Reads of one page.

    Args:
        session: of the index.
        fetches: how many reads there may be.
        descending: from the newest block to the oldest.

    """

    def __init__(self, session: Session, fetches: int, *, descending: bool) -> None:
        self._session = session
        self._left = fetches
        self.descending = descending

    def of_term(self, term: int) -> "Rows":
        """Blocks with a term."""
        return Rows(
            self,
            lambda block, at_most: postings.rows_from(
                self._session, term, block, descending=self.descending, at_most=at_most
            ),
            lambda blocks: postings.rows_of(self._session, term, blocks, descending=self.descending),
        )

    def of_time(self, within: tuple[int, int], start: int, stop: int) -> "Rows":
        """Every block from one to another that may have entries of this time."""
        return Rows(
            self,
            lambda block, at_most: postings.blocks_from(
                self._session, block, within, start, stop, descending=self.descending, at_most=at_most
            ),
        )

    def fetch(self, block: int, read: Callable[[], list[Row]]) -> list[Row]:
        """Make one read; Spent, every block before this one decided, where there may be no more."""
        if self._left <= 0:
            raise Spent(block)
        self._left -= 1
        with reading_index():
            return read()

    def before(self, one: int, other: int) -> bool:
        """Whether block `one` comes before the other in the order of the answer."""
        return one > other if self.descending else one < other

    def next(self, block: int) -> int:
        """The block after this one."""
        return block - 1 if self.descending else block + 1

    def previous(self, block: int) -> int:
        """The block before this one."""
        return block + 1 if self.descending else block - 1


class Rows:
    """A stream of rows; sought in one direction only.

    Args:
        reading: what it reads with.
        read: rows from a block on.
        read_of: rows of some blocks; None where a stream is never met by another.

    """

    def __init__(self, reading: Reading, read: Read, read_of: ReadOf | None = None) -> None:
        self._reading = reading
        self._read = read
        self._read_of = read_of
        self._rows: list[Row] = []
        self._at = 0
        self._through: int | None = None
        self._ended = False
        self._count = _FIRST_ROWS
        self._apart = math.inf

    def seek(self, block: int, met: Met) -> Row | None:
        """The first row at this block or after it; None where there is none.

        Args:
            block: to begin at.
            met: gives blocks from this one on, in order: what is between them is not wanted, as far as the last of them.
                Where none of them has a row, the answer is that last one with no entries.

        """
        while True:
            while self._at < len(self._rows):
                row = self._rows[self._at]
                if not self._reading.before(row[0], block):
                    return row
                self._at += 1
            if self._ended:
                return None
            if self._through is not None and not self._reading.before(self._through, block):
                return self._through, 0
            self._fetch(block, met())

    def at_hand(self, block: int) -> tuple[list[int], int | None]:
        """Blocks from this one on that were read already, and the last up to which there are no others.

        That last one is before `block` where nothing of use was read, and None where there is nothing else to read.
        """
        blocks = [number for number, _ in self._rows[self._at :] if not self._reading.before(number, block)]
        if self._ended:
            return blocks, None
        if self._through is not None:
            return blocks, self._through
        return blocks, blocks[-1] if blocks else self._reading.previous(block)

    def _fetch(self, block: int, met: Sequence[int]) -> None:
        """Read only what others have rows of where these lie further apart than its own; else simply what follows."""
        read, read_of, count = self._read, self._read_of, self._count
        self._at = 0
        if met and read_of is not None and (abs(met[-1] - block) + 1) / len(met) > self._apart:
            self._rows = self._reading.fetch(block, lambda: read_of(met))
            self._through = met[-1]
            return
        self._rows = self._reading.fetch(block, lambda: read(block, count))
        self._through = None
        self._ended, self._count = len(self._rows) < count, _ROWS
        if self._rows:
            self._apart = (abs(self._rows[-1][0] - block) + 1) / len(self._rows)


class Join:
    """Blocks in which every group has a row.

    Args:
        groups: of streams; a group has what any of its streams has.
        reading: what they read with.

    """

    def __init__(self, groups: Sequence[Sequence[Rows]], reading: Reading) -> None:
        self._groups = groups
        self._reading = reading

    def at(self, block: int) -> Row | None:
        """The first such block at this one or after it, and the entries that may answer; None where there is none.

        Raises:
            Spent: one page may not read further.

        """
        while True:
            furthest = block
            bitmap = postings.EVERY
            for number, group in enumerate(self._groups):
                found = self._sought(group, furthest, functools.partial(self._met, number, furthest))
                if found is None:
                    return None
                if found[0] != furthest:
                    furthest, bitmap = found[0], 0
                bitmap &= found[1]
            if furthest == block and bitmap:
                return block, bitmap
            block = furthest if furthest != block else self._reading.next(block)

    def _met(self, asking: int, block: int) -> Sequence[int]:
        """Blocks from this one on at which alone another group can meet the asking one: those that lie furthest apart."""
        best: list[int] = []
        for number, group in enumerate(self._groups):
            if number == asking:
                continue
            blocks = self._at_hand(group, block)[:_ROWS]
            if blocks and (
                not best or abs(blocks[-1] - block) * len(best) > abs(best[-1] - block) * len(blocks)
            ):
                best = blocks
        return best

    def _at_hand(self, group: Sequence[Rows], block: int) -> list[int]:
        """Every block of a group from this one on, in order, as far as all of its streams were read."""
        found: set[int] = set()
        last: int | None = None
        for stream in group:
            blocks, through = stream.at_hand(block)
            found.update(blocks)
            if through is not None and (last is None or self._reading.before(through, last)):
                last = through
        within = [number for number in found if last is None or not self._reading.before(last, number)]
        return sorted(within, reverse=self._reading.descending)

    def _sought(self, group: Sequence[Rows], block: int, met: Met) -> Row | None:
        """The first block at which the group has something, and the union of what it has there."""
        rows = [row for stream in group if (row := stream.seek(block, met)) is not None]
        if not rows:
            return None
        nearest = rows[0][0]
        for number, _ in rows:
            if self._reading.before(number, nearest):
                nearest = number
        bitmap = 0
        for number, found in rows:
            if number == nearest:
                bitmap |= found
        return nearest, bitmap
