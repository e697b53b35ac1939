"""Where several rows of the query index meet: blocks of which every condition has something, in order.

Each condition is a union of streams, one for each of its values; a stream is read a few rows at a time, from wherever
the others have got to, so that a rare value makes a common one cheap.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from cryptosvc.adapters.store import postings
from cryptosvc.adapters.store.faults import Moved, translated
from cryptosvc.adapters.store.session import Session
from cryptosvc.core.errors import Corrupt, Unavailable

_FIRST_ROWS = 4
_ROWS = 64

Read = Callable[[int, int], list[tuple[int, int]]]
"""(block, at most) → that many (block, bitmap) from the block on, in the order of the answer."""


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
        )

    def of_time(self, within: tuple[int, int], start: int, stop: int) -> "Rows":
        """Every block from one to another that may have entries of this time."""
        return Rows(
            self,
            lambda block, at_most: postings.blocks_from(
                self._session, block, within, start, stop, descending=self.descending, at_most=at_most
            ),
        )

    def fetch(self, read: Read, block: int, at_most: int) -> list[tuple[int, int]]:
        """Make one read; Spent where there may be no more."""
        if self._left <= 0:
            raise Spent(block)
        self._left -= 1
        with reading_index():
            return read(block, at_most)

    def before(self, one: int, other: int) -> bool:
        """Whether block `one` comes before the other in the order of the answer."""
        return one > other if self.descending else one < other

    def next(self, block: int) -> int:
        """The block after this one."""
        return block - 1 if self.descending else block + 1


class Rows:
    """A stream of (block, bitmap); sought in one direction only."""

    def __init__(self, reading: Reading, read: Read) -> None:
        self._reading = reading
        self._read = read
        self._rows: list[tuple[int, int]] = []
        self._at = 0
        self._ended = False
        self._count = _FIRST_ROWS

    def seek(self, block: int) -> tuple[int, int] | None:
        """The first row at this block or after it; None where there is none."""
        while True:
            while self._at < len(self._rows):
                row = self._rows[self._at]
                if not self._reading.before(row[0], block):
                    return row
                self._at += 1
            if self._ended:
                return None
            self._rows = self._reading.fetch(self._read, block, self._count)
            self._at, self._ended, self._count = 0, len(self._rows) < self._count, _ROWS


class Join:
    """Blocks in which every group has a row.

    Args:
        groups: of streams; a group has what any of its streams has.
        reading: what they read with.

    """

    def __init__(self, groups: Sequence[Sequence[Rows]], reading: Reading) -> None:
        self._groups = groups
        self._reading = reading

    def at(self, block: int) -> tuple[int, int] | None:
        """The first such block at this one or after it, and the entries that may answer; None where there is none.

        Raises:
            Spent: one page may not read further.

        """
        while True:
            furthest = block
            bitmap = postings.EVERY
            for group in self._groups:
                found = self._sought(group, furthest)
                if found is None:
                    return None
                if found[0] != furthest:
                    furthest, bitmap = found[0], 0
                bitmap &= found[1]
            if furthest == block and bitmap:
                return block, bitmap
            block = furthest if furthest != block else self._reading.next(block)

    def _sought(self, group: Sequence[Rows], block: int) -> tuple[int, int] | None:
        """The first block at which the group has something, and the union of what it has there."""
        rows = [row for stream in group if (row := stream.seek(block)) is not None]
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
