"""Search over the fake ledger: every entry looked at, in order."""

from dataclasses import dataclass

import orjson

from cryptosvc.core.entries import values_beside
from cryptosvc.core.erased import is_alone
from cryptosvc.core.errors import Malformed
from cryptosvc.core.query import Cursor, Query
from cryptosvc.core.said import moment, said
from cryptosvc.flow.ports import Page, StoredEntry
from tests.fakes.ledger import FakeLedger


@dataclass
class FakeSearch:
    """Finds by reading everything."""

    ledger: FakeLedger

    async def page(self, query: Query, cursor: Cursor | None, at_most: int) -> Page:
        size = len(self.ledger.leaves)
        cursor = cursor or Cursor.first(query, size)
        if cursor.size > size:
            raise Malformed("this cursor is of a log longer than this one", rule="query/cursor")
        forwards = query.oldest_first
        every = range(cursor.at, cursor.size) if forwards else range(cursor.at - 1, -1, -1)
        found: list[StoredEntry] = []
        at = cursor.at
        for index in every:
            leaf = self.ledger.leaves[index]
            if _answers(query, StoredEntry(index, leaf.entry, leaf.withheld)):
                found.append(StoredEntry(index, leaf.entry, leaf.withheld))
            at = index + 1 if forwards else index
            if len(found) == at_most:
                break
        after = Cursor(cursor.digest, cursor.size, at)
        return Page(
            tuple(found), None if after.done(oldest_first=forwards) else after, cursor.digest, cursor.size
        )


def _answers(query: Query, stored: StoredEntry) -> bool:
    if is_alone(stored.entry):
        return query.everything
    entry = orjson.loads(stored.entry)
    return query.answered_by(
        said(entry, values_beside(stored.leaf_index, entry, stored.withheld)), moment(entry)
    )
