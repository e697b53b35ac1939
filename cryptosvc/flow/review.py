"""Review of the log: auditors sign ranges off, and what nobody has signed off for too long is recorded (G2.26).

The log is the register: a sign-off is an entry of kind `review`, and what is unreviewed is what no such entry covers.
The watch makes an alarm of an entry of operation `overdue` (rule `review-late`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from cryptosvc.core import dsse, review
from cryptosvc.core.custodian import CustodianRecord, CustodianRole, CustodianState
from cryptosvc.core.erased import is_alone
from cryptosvc.core.errors import Conflict, Corrupt, Forbidden, Malformed
from cryptosvc.core.life import DAY, NANOSECONDS
from cryptosvc.core.merkle import verify_consistency
from cryptosvc.core.query import Cursor, Query
from cryptosvc.core.record import Observed, Receipt
from cryptosvc.core.review import CLAUSE, KIND, OVERDUE, SIGN_OFF, Range, Review
from cryptosvc.core.said import moment
from cryptosvc.flow.ports import Clock, Ledger, Records, Search, StoredEntry

_PAGE = 512
_SIGNED_OFF = Query.of({"kind": [KIND], "operation": [SIGN_OFF]}, oldest_first=True)
_SAID = Query.of({"kind": [KIND], "operation": [OVERDUE]})


@dataclass(frozen=True, slots=True)
class SignedOff:
    """A sign-off as recorded: its leaf, when it was recorded (Unix seconds) and the range."""

    leaf_index: int
    at: int
    reviewed: Range


@dataclass(frozen=True, slots=True)
class Unreviewed:
    """A range nobody signed off, when its first entry was made (Unix seconds), and how old that is in seconds."""

    left: Range
    since: int
    age_seconds: int


class Reviewer:
    """Records sign-offs, and tells what is left.

    Args:
        records, search, ledger, clock: see there.
        origin: of the log.

    """

    def __init__(self, records: Records, search: Search, ledger: Ledger, clock: Clock, origin: str) -> None:
        self._records = records
        self._search = search
        self._ledger = ledger
        self._clock = clock
        self._origin = origin

    async def sign_off(self, envelope: bytes) -> tuple[Review, CustodianRecord, Receipt]:
        """Enter a signed statement into the log.

        Args:
            envelope: DSSE, as `audit review sign` wrote it: one signature, by a registered auditor.

        Raises:
            Malformed: no such envelope.
            Forbidden: the signature does not verify, or is not of a registered auditor.
            Corrupt: `review/other-log`: what was reviewed is not a beginning of this log.
            Conflict: this statement was recorded before.
            Unavailable: log or store.

        """
        # 1 what was signed
        signed = dsse.parse(envelope)
        if signed.payload_type != review.REVIEW_TYPE:
            raise Malformed("this is signed as something else than a review", rule="review/type")
        found = review.parse(signed.payload)
        # 2 by whom
        auditor = await self._auditor(signed)
        # 3 of this log, and of what it holds now
        await self._require_of_this_log(found)
        facts = review.facts_of(found)
        for one in await self._each(_SIGNED_OFF):
            if orjson.loads(one.entry)["facts"].get("statement") == facts["statement"]:
                raise Conflict(f"this review is entry {one.leaf_index} already", rule="review/twice")
        # 4 record
        withheld = {"custodian": auditor.custodian_id, "review": envelope.decode()}
        (receipt,) = await self._ledger.record([self._entry(SIGN_OFF, facts, withheld)])
        return found, auditor, receipt

    async def signed_off(self) -> list[SignedOff]:
        """Every sign-off, oldest first. Unavailable, Corrupt: log or store."""
        found: list[SignedOff] = []
        for one in await self._each(_SIGNED_OFF):
            entry = orjson.loads(one.entry)
            reviewed = review.range_of(entry["facts"])
            if reviewed is not None:
                found.append(SignedOff(one.leaf_index, moment(entry) // NANOSECONDS, reviewed))
        return found

    async def left(self) -> list[Unreviewed]:
        """What nobody signed off, in the order of the log. Unavailable, Corrupt: log or store."""
        size = (await self._ledger.head()).size
        ranges = review.unreviewed(0, size, [one.reviewed for one in await self.signed_off()])
        now = self._clock.now().at // NANOSECONDS
        found: list[Unreviewed] = []
        for one in ranges:
            stored = await self._ledger.entry(one[0])
            if stored is not None:
                # what was deleted unreviewed is past every period
                since = 0 if is_alone(stored.entry) else moment(orjson.loads(stored.entry)) // NANOSECONDS
                found.append(Unreviewed(one, since, max(now - since, 0)))
        return found

    async def turn(self, within_days: int) -> bool:
        """Record what is unreviewed for too long, once for each first entry and period; whether it was recorded now.

        Raises:
            Unavailable, Corrupt: log or store.

        """
        late = [one for one in await self.left() if one.age_seconds > within_days * DAY]
        if not late:
            return False
        oldest = min(late, key=lambda one: one.since)
        page = await self._search.page(_SAID, None, 1)
        for stored in page.entries:
            entry = orjson.loads(stored.entry)
            said = self._clock.now().at - moment(entry)
            if entry["facts"].get("start") == str(oldest.left[0]) and said <= within_days * DAY * NANOSECONDS:
                return False
        facts = {
            "clause": CLAUSE,
            "days": str(oldest.age_seconds // DAY),
            "ranges": str(len(late)),
            "start": str(oldest.left[0]),
            "stop": str(oldest.left[1]),
            "within_days": str(within_days),
        }
        await self._ledger.record([self._entry(OVERDUE, facts, {})])
        return True

    async def _auditor(self, signed: dsse.Envelope) -> CustodianRecord:
        if len(signed.signatures) != 1:
            raise Malformed("a review is signed by the one who reviewed", rule="review/signatures")
        for one in await self._records.of_kind("custodian-record"):
            if isinstance(one, CustodianRecord) and dsse.key_id(one.key) == signed.signatures[0].key_id:
                if one.state is not CustodianState.REGISTERED or CustodianRole.AUDITOR not in one.roles:
                    break
                dsse.verify(signed, {dsse.key_id(one.key): one.key})
                return one
        raise Forbidden(
            "a review is signed with the key of a custodian who is registered as auditor",
            rule="review/auditor",
            clause=CLAUSE,
        )

    async def _require_of_this_log(self, found: Review) -> None:
        head = await self._ledger.head()
        if found.origin != self._origin or found.size > head.size:
            raise _of_another()
        proof = await self._ledger.consistency_proof(found.size, head.size)
        try:
            verify_consistency(found.size, head.size, proof, found.root, head.root)
        except Corrupt:
            raise _of_another() from None

    async def _each(self, query: Query) -> Sequence[StoredEntry]:
        found: list[StoredEntry] = []
        cursor: Cursor | None = None
        while True:
            page = await self._search.page(query, cursor, _PAGE)
            found += page.entries
            cursor = page.cursor
            if cursor is None:
                return found

    def _entry(self, operation: str, facts: dict[str, str], withheld: dict[str, str]) -> Observed:
        instant = self._clock.now()
        return Observed(
            kind="review",
            operation=operation,
            at=instant.at,
            time_quality=instant.quality,
            facts=facts,
            withheld=withheld,
        )


def _of_another() -> Corrupt:
    return Corrupt(
        "what was reviewed is not a beginning of this log: it is of another one, or this one was changed since",
        rule="review/other-log",
        clause=CLAUSE,
    )
