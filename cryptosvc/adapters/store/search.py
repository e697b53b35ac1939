"""Answers queries: the index says where to look, the log says what is there, and the head proves it.

Every entry that is looked at, whether it is part of the answer or not, is proven to be in the log of the head, and
what is kept beside it to be what it commits to. A page ends when it is full, or when as much was looked at as one page
may; then it may be empty, and its cursor goes on. Reads run in a thread and on connections of their own: signing
shares neither.
"""

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import orjson

from cryptosvc.adapters.store import postings, tree
from cryptosvc.adapters.store.heads import Head, HeadKeeper
from cryptosvc.adapters.store.indexer import belongs, log_identity
from cryptosvc.adapters.store.joins import IndexGone, Join, Reading, Spent, reading_index
from cryptosvc.adapters.store.postings import BLOCK, BLOCK_BITS, IndexState, Terms
from cryptosvc.adapters.store.proven import ProvenTiles, newest_above
from cryptosvc.adapters.store.session import Session, Store
from cryptosvc.core.entries import values_beside
from cryptosvc.core.erased import hash_of, is_alone
from cryptosvc.core.errors import Corrupt, Malformed
from cryptosvc.core.query import LATEST, Cursor, Query
from cryptosvc.core.said import INDEXED, moment, said
from cryptosvc.flow.ports import Page, StoredEntry

LOOKED_AT = 4096
"""Entries one page looks at."""
FETCHES = 400
"""Reads of the index one page makes."""
_TAIL = 256
_READ_TOGETHER = 64
_PREPARED_TOGETHER = 4


@dataclass(frozen=True, slots=True)
class _Found:
    """Entries to look at, in the order of the answer.

    Args:
        leaves: their indexes.
        at: where the answer stands once all of these were looked at.

    """

    leaves: Sequence[int]
    at: int


class Searcher:
    """Implements the port `Search`.

    Args:
        log: the log's store, on connections of this searcher's own.
        index: the index's.
        keeper: verifies heads.

    """

    def __init__(self, log: Store, index: Store, keeper: HeadKeeper) -> None:
        self._log = log
        self._index = index
        self._keeper = keeper
        self._proven = ProvenTiles()
        self._thread = ThreadPoolExecutor(1, "query")
        self._closing = False

    async def page(self, query: Query, cursor: Cursor | None, at_most: int) -> Page:
        """See `flow/ports.py`."""
        self._keeper.require_trust()
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._page, query, cursor, at_most
        )

    def prepare(self) -> None:
        """Prove what lies above the leaf hashes behind the caller's back, so that no first page after a start has to.

        A few tiles at a time (a millisecond), with pages between. The head is the one that opening the log verified. What is
        wrong with the store ends it: a page will meet that again, and say it.
        """
        head = self._keeper.known
        if head is not None and (above := newest_above(head)):
            self._thread.submit(self._prepare, head, above)

    def _prepare(self, head: Head, above: range) -> None:
        with self._keeper.trust(), self._log.reading() as log:
            self._proven.prove_above(head, above[:_PREPARED_TOGETHER], tree.StoredTree(log))
        if above[_PREPARED_TOGETHER:] and not self._closing:
            self._thread.submit(self._prepare, head, above[_PREPARED_TOGETHER:])

    def close(self) -> None:
        """Wait for the page under way; close both stores."""
        self._closing = True
        self._thread.shutdown()
        self._index.close()
        self._log.close()

    def _page(self, query: Query, cursor: Cursor | None, at_most: int) -> Page:
        floor = self._keeper.known
        try:
            with self._reading_index() as index:
                return self._walk(floor, query, cursor, at_most, index)
        except IndexGone:
            return self._walk(floor, query, cursor, at_most, None)

    @contextmanager
    def _reading_index(self) -> Iterator[Session]:
        """A snapshot of the index; only what goes wrong in the index itself is IndexGone."""
        with ExitStack() as stack:
            with reading_index():
                session = stack.enter_context(self._index.reading())
            yield session

    def _walk(
        self, floor: Head | None, query: Query, cursor: Cursor | None, at_most: int, index: Session | None
    ) -> Page:
        state: IndexState | None = None
        if index is not None:
            with reading_index():
                state = postings.state(index)
        with self._keeper.trust(), self._log.reading() as log:
            head = self._keeper.verified(log.head(), floor)
            if not belongs(state, log, log_identity(log)):
                state = None
            return _Walk(query, head, log, index, state, self._proven).page(cursor, at_most)


class _Walk:
    """One page."""

    def __init__(
        self,
        query: Query,
        head: Head,
        log: Session,
        index: Session | None,
        state: IndexState | None,
        proven: ProvenTiles,
    ) -> None:
        self._query = query
        self._head = head
        self._log = log
        self._index = index
        self._state = state
        self._tree = tree.StoredTree(log)
        self._proven = proven
        self._looked_at = 0
        self._spent = False

    def page(self, cursor: Cursor | None, at_most: int) -> Page:
        head = self._head
        cursor = cursor or Cursor.first(self._query, head.size)
        if cursor.size > head.size:
            raise Malformed(
                "this cursor is of a log longer than this one", rule="query/cursor", field="cursor"
            )
        found: list[StoredEntry] = []
        at = cursor.at
        for some in self._together(self._candidates(cursor), at_most):
            for stored in self._stored(some.leaves):
                if self._matches(stored):
                    found.append(stored)
                if len(found) == at_most:
                    return self._answer(found, cursor, self._after(stored.leaf_index))
            at = some.at
            if self._looked_at >= LOOKED_AT:
                break
        return self._answer(found, cursor, at)

    def _after(self, leaf_index: int) -> int:
        """Where the answer stands once this entry was looked at."""
        return leaf_index + 1 if self._query.oldest_first else leaf_index

    def _together(self, candidates: Iterator[_Found], at_most: int) -> Iterator[_Found]:
        """Candidates of however many blocks in handfuls: as many as could fill the page, then more each time.

        What far apart entries need is then read in two statements, not in two for each; and no more of them is read
        than the page has room for, where each of them answers.
        """
        handful = min(at_most, _READ_TOGETHER)
        left: list[int] = []
        at: int | None = None
        for some in candidates:
            left += some.leaves
            at = some.at
            while len(left) >= (count := min(handful, LOOKED_AT - self._looked_at)) > 0:
                yield _Found(left[:count], self._after(left[count - 1]))
                left = left[count:]
                handful = min(2 * handful, _READ_TOGETHER)
        if at is not None:
            yield _Found(left, at)

    def _answer(self, found: list[StoredEntry], cursor: Cursor, at: int) -> Page:
        after = Cursor(cursor.digest, cursor.size, at)
        done = after.done(oldest_first=self._query.oldest_first)
        return Page(tuple(found), None if done else after, cursor.digest, cursor.size)

    def _candidates(self, cursor: Cursor) -> Iterator[_Found]:
        """What to look at from the cursor on: the indexed part by the index, the rest entry by entry."""
        edge = min(0 if self._state is None else self._state.through, cursor.size)
        if self._query.oldest_first:
            if cursor.at < edge:
                yield from self._by_index(cursor.at, edge)
            if self._spent:
                return
            yield from self._one_by_one(max(cursor.at, edge), cursor.size)
        else:
            if cursor.at > edge:
                yield from self._one_by_one(edge, cursor.at)
            yield from self._by_index(0, min(cursor.at, edge))

    def _one_by_one(self, start: int, stop: int) -> Iterator[_Found]:
        if self._query.oldest_first:
            for at in range(start, stop, _TAIL):
                end = min(at + _TAIL, stop)
                yield _Found(range(at, end), end)
        else:
            for at in range(stop, start, -_TAIL):
                end = max(at - _TAIL, start)
                yield _Found(range(at - 1, end - 1, -1), end)

    def _by_index(self, start: int, stop: int) -> Iterator[_Found]:
        """Entries between these that the index names, a block at a time."""
        if start >= stop or self._index is None or self._state is None:
            return
        forwards = self._query.oldest_first
        end = stop if forwards else start
        reading = Reading(self._index, FETCHES, descending=not forwards)
        first, last = start >> BLOCK_BITS, (stop - 1) >> BLOCK_BITS
        if self._query.start > 0 or self._query.stop < LATEST:
            with reading_index():
                within = postings.stretch(self._index, self._query.start, self._query.stop)
            if within is None:
                yield _Found((), end)
                return
            first, last = max(within[0], first), min(within[1], last)
        join = self._join(reading, self._state, (first, last))
        block = first if forwards else last
        try:
            while (found := join.at(block)) is not None and first <= found[0] <= last:
                block, bitmap = found
                base = block << BLOCK_BITS
                every = (base + number for number in postings.numbers(bitmap, descending=not forwards))
                leaves = [leaf_index for leaf_index in every if start <= leaf_index < stop]
                yield _Found(leaves, min(base + BLOCK, stop) if forwards else max(base, start))
                block = reading.next(block)
        except Spent as spent:
            self._spent = True
            yield self._none_until(spent.block, start, stop)
        else:
            yield _Found((), end)

    def _none_until(self, block: int, start: int, stop: int) -> _Found:
        if self._query.oldest_first:
            return _Found((), max(start, min(block << BLOCK_BITS, stop)))
        return _Found((), min(stop, max((block + 1) << BLOCK_BITS, start)))

    def _join(self, reading: Reading, state: IndexState, within: tuple[int, int]) -> Join:
        terms = Terms(state.term_key)
        groups = [
            [reading.of_term(terms.term(pair)) for pair in condition.pairs]
            for condition in self._query.conditions
            if condition.field in INDEXED
        ]
        if not groups:
            return Join([[reading.of_time(within, self._query.start, self._query.stop)]], reading)
        return Join(groups, reading)

    def _stored(self, leaves: Sequence[int]) -> Iterator[StoredEntry]:
        """Entries in this order, each proven."""
        if not leaves:
            return
        rows = self._log.leaves_of(leaves)
        tiles = {leaf_index >> tree.TILE_BITS for leaf_index in leaves}
        self._proven.read_ahead(self._head, tiles, self._tree)
        for leaf_index in leaves:
            self._looked_at += 1
            found = rows.get(leaf_index)
            hashes = self._proven.hashes(self._head, leaf_index >> tree.TILE_BITS, self._tree)
            if found is None or hash_of(found[0]) != hashes[leaf_index & (tree.TILE - 1)]:
                raise _changed(leaf_index)
            yield StoredEntry(leaf_index, *found)

    def _matches(self, stored: StoredEntry) -> bool:
        if is_alone(stored.entry):
            return self._query.everything
        try:
            entry = orjson.loads(stored.entry)
        except orjson.JSONDecodeError:
            raise _changed(stored.leaf_index) from None
        at = moment(entry)
        if not self._query.start <= at < self._query.stop:
            return False
        return self._query.answered_by(
            said(entry, values_beside(stored.leaf_index, entry, stored.withheld)), at
        )


def _changed(leaf_index: int) -> Corrupt:
    return Corrupt(
        f"entry {leaf_index} is not what the log's head vouches for: the database was edited",
        rule="log/leaf-changed",
    )
