"""A hash in the place of an entry is given out only where the log says that the entry is gone (G2.18).

The store proves of it that it is the leaf's hash, which an edited store has as well. So what the log says of deletions is asked
each time that one is about to be given out: by the search, whose every answer is proven, at the log as it is now.
"""

from collections.abc import AsyncIterator, Sequence

import orjson

from cryptosvc.core.erased import Missing, is_alone, runs_of
from cryptosvc.core.query import Query
from cryptosvc.flow.ports import Search, StoredEntry

_PAGE = 1000
_OF_SEGMENTS = Query.of({"kind": ["sealed", "archived", "returned"]}, oldest_first=True)


class Deletions:
    """What the log says of entries that are gone."""

    def __init__(self, search: Search) -> None:
        self._search = search

    async def require_gone(self, entries: Sequence[StoredEntry]) -> None:
        """Require that those of these entries that are hashes alone are deleted, or in an archive.

        Raises:
            Corrupt: `export/erased`: somebody edited the store.
            Unavailable: log or store.

        """
        alone = [one.leaf_index for one in entries if is_alone(one.entry)]
        if not alone:
            return
        missing = Missing(runs=runs_of(sorted(alone)))
        await self._hear(missing, _OF_SEGMENTS)
        for key in sorted({one.of for one in missing.said if one.what == "sealed"}):
            await self._hear(missing, Query.of({"kind": ["key-record"], "key": [key]}))
        missing.require_gone()

    async def _hear(self, missing: Missing, query: Query) -> None:
        async for one in self._each(query):
            missing.hear(one.leaf_index, orjson.loads(one.entry))

    async def _each(self, query: Query) -> AsyncIterator[StoredEntry]:
        page = await self._search.page(query, None, _PAGE)
        while True:
            for one in page.entries:
                yield one
            if page.cursor is None:
                return
            page = await self._search.page(query, page.cursor, _PAGE)
