"""Query: an auditor asks the log, and the question is recorded as well.

An auditor reads everything and changes nothing. One that is registered with User IDs is the auditor of those Users
and sees their entries alone, where a deployment is a Shared Resource of several (G5.28, G10.4). What may be seen is
decided at every page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from cryptosvc.core.canonical import canonical
from cryptosvc.core.case import Principal
from cryptosvc.core.errors import Forbidden, Refusal
from cryptosvc.core.names import Operation
from cryptosvc.core.query import Condition, Cursor, Query
from cryptosvc.core.record import Observed, Refused
from cryptosvc.core.registry import CallerRecord
from cryptosvc.core.said import Pair
from cryptosvc.flow.gone import Deletions
from cryptosvc.flow.ports import Clock, Ledger, Page, Search


class Inquirer:
    """Answers queries, a page at a time."""

    def __init__(self, search: Search, ledger: Ledger, clock: Clock) -> None:
        self._search = search
        self._ledger = ledger
        self._clock = clock
        self._deletions = Deletions(search)

    async def page(
        self, principal: Principal, query: Query, cursor: str, at_most: int, prove_in: int = 0
    ) -> Page:
        """Find the next entries.

        Args:
            principal: who asks.
            query: what for.
            cursor: as the page before gave it; empty for the first.
            at_most: entries, at least 1.
            prove_in: size of the tree in which each entry is proven to be, where it is; 0 for no proofs.

        Raises:
            Forbidden: `audit/not-auditor`; `audit/other-user` for Users that are not this auditor's.
            Malformed: the cursor is not one of this query, or of a longer log; no log is as long as `prove_in` yet.
            Unavailable, Corrupt: log or store.

        """
        try:
            # 1 authorise and narrow
            narrowed = _narrowed(query, principal.caller)
            place = Cursor.parse(cursor, narrowed) if cursor else None
            # 2 find
            page = await self._search.page(narrowed, place, at_most)
            await self._deletions.require_gone(page.entries)
            # 3 prove
            if prove_in:
                page = replace(page, proofs=await self._proofs(page, prove_in))
        except Refusal as refusal:
            await self._refuse(principal, refusal)
            raise
        # 4 record before it leaves
        await self._record(principal, query, page)
        return page

    async def _proofs(self, page: Page, size: int) -> Mapping[int, Sequence[bytes]]:
        return {
            one.leaf_index: await self._ledger.inclusion_proof(one.leaf_index, size)
            for one in page.entries
            if one.leaf_index < size
        }

    async def _record(self, principal: Principal, query: Query, page: Page) -> None:
        instant = self._clock.now()
        observed = Observed(
            kind="read",
            operation=Operation.READ_LOG.value,
            at=instant.at,
            time_quality=instant.quality,
            principal=principal,
            facts={"what": "query", "entries": str(len(page.entries)), "size": str(page.size)},
            # it may name people and devices
            withheld={"query": canonical(query.document()).decode()},
        )
        await self._ledger.record([observed])

    async def _refuse(self, principal: Principal, error: Refusal) -> None:
        instant = self._clock.now()
        refused = Refused(
            error=error,
            operation=Operation.READ_LOG.value,
            at=instant.at,
            time_quality=instant.quality,
            principal=principal,
        )
        await self._ledger.record([refused])


def visible(caller: CallerRecord, said: set[Pair]) -> bool:
    """Whether an auditor may see an entry that says these pairs: any, but those of its Users where it has some."""
    return caller.auditor and (
        not caller.user_ids or any(("user", str(one)) in said for one in caller.user_ids)
    )


def _narrowed(query: Query, caller: CallerRecord) -> Query:
    """The part of a query that this caller may have answered."""
    if not caller.auditor:
        raise Forbidden("only an auditor may query the log", rule="audit/not-auditor", clause="G2.26")
    if not caller.user_ids:
        return query
    own = {str(one) for one in caller.user_ids}
    asked = next((set(one.values) for one in query.conditions if one.field == "user"), own)
    if not asked <= own:
        raise Forbidden(
            "this auditor is registered for other Users; ask for its own, or for none in particular",
            rule="audit/other-user",
            clause="G5.28",
            field="conditions.values",
        )
    others = tuple(one for one in query.conditions if one.field != "user")
    conditions = (*others, Condition("user", tuple(sorted(asked))))
    return replace(query, conditions=tuple(sorted(conditions, key=lambda one: one.field)))
