"""Schedule: what has come about without anybody is written down; what is coming is counted.

Nothing waits for it: dates take effect in the moment of a request, and a limit in the claim. What is written down is
that they have, with the rule behind it, so that the registers say what is so and the log says why.

Each turn is short, however many records there are: it looks at records that changed since the last one, a few hundred
at most, and remembers when each is to be looked at again. What it looks at so is not verified; what it acts on is.
"""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cryptosvc.core import lifecycle, replay
from cryptosvc.core.due import EVENTS, Coming, coming_of, within
from cryptosvc.core.errors import Conflict
from cryptosvc.core.life import NANOSECONDS, UnixSeconds
from cryptosvc.core.names import KeyId
from cryptosvc.core.proposal import ProposalRecord, ProposalState
from cryptosvc.core.record import Because
from cryptosvc.core.registry import KeyRecord, Record, record_id, record_kind
from cryptosvc.flow.ports import Clock, Ledger, Records

DAYS = 90
"""How far ahead what is coming is counted."""
LOOKED_AT = 500
"""Changed records looked at in one turn, at most."""
WRITTEN = 100
"""Records written in one turn, at most."""
COUNT_SECONDS = 60
"""How old the figures may get while no record changes."""
SLACK_SECONDS = 1
"""What is written down came about so long ago at least: a clock may be set back a little before the leaf has its time."""

_Name = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Figures:
    """What is coming within `DAYS`, or overdue.

    Args:
        counts: event → how many keys.
        soonest: event → when the first of them comes; an event with none is missing.

    """

    counts: Mapping[str, int] = field(default_factory=dict)
    soonest: Mapping[str, UnixSeconds] = field(default_factory=dict)


class Scheduler:
    """Writes down what has come about.

    Args:
        records: the registry.
        ledger: knows which keys are used up.
        clock: tells when.

    """

    def __init__(self, records: Records, ledger: Ledger, clock: Clock) -> None:
        self._records = records
        self._ledger = ledger
        self._clock = clock
        self._seen = -1
        self._queue: list[tuple[UnixSeconds, _Name]] = []
        self._limits: dict[KeyId, int] = {}
        self._coming: dict[_Name, tuple[Coming, ...]] = {}
        self._counted_at: UnixSeconds | None = None
        self.figures = Figures()

    async def turn(self) -> int:
        """Look once; how many records were written.

        Raises:
            Unavailable, Corrupt: as `Records`. What is due then is looked at again in the next turn.

        """
        # 1 what changed
        changed = await self._records.changed_after(self._seen, LOOKED_AT)
        for record, leaf_index in changed:
            self._seen = leaf_index
            self._remember(record)
        # 2 what is due
        at = UnixSeconds(self._now() - SLACK_SECONDS)
        due = self._due(at)
        try:
            written = await self._write(await self._come_about(due, at))
        except BaseException:
            for name in due:
                heapq.heappush(self._queue, (at, name))
            raise
        # 3 what is coming
        if changed or self._counted_at is None or at - self._counted_at >= COUNT_SECONDS:
            self._counted_at = at
            self.figures = _figures(within(self._every(), at, DAYS))
        return written

    async def due(self, days: int = DAYS) -> Sequence[Coming]:
        """What is coming for every key within so many days, and what is overdue, soonest first; every record is verified."""
        return within(await every_coming(self._records), self._now(), days)

    def _remember(self, record: Record) -> None:
        """When to look at a record again, and what is ahead of it."""
        name = (record_kind(record), record_id(record))
        self._coming.pop(name, None)
        if found := coming_of(record):
            self._coming[name] = found
        if isinstance(record, ProposalRecord):
            if record.state is ProposalState.OPEN:
                self._later(record, record.statement.expires_at)
        elif isinstance(record, KeyRecord):
            for one in lifecycle.schedule(record):
                self._later(record, one.at)
            self._limits.pop(record.key_id, None)
            if lifecycle.spent(record, self._now()) is not None and record.life.usage_limit is not None:
                self._limits[record.key_id] = record.life.usage_limit

    def _later(self, record: Record, at: UnixSeconds) -> None:
        heapq.heappush(self._queue, (at, (record_kind(record), record_id(record))))

    def _due(self, at: UnixSeconds) -> list[_Name]:
        """Records to look at now, each once; a record that changed meanwhile may be among them for nothing."""
        found: dict[_Name, None] = {}
        while self._queue and self._queue[0][0] <= at and len(found) < WRITTEN:
            found[heapq.heappop(self._queue)[1]] = None
        return list(found)

    async def _come_about(self, due: Iterable[_Name], at: UnixSeconds) -> dict[str, list[Record]]:
        """New versions by the rule behind them, of records as the log proves them."""
        found: dict[str, list[Record]] = {}
        for kind, name in due:
            record = await self._records.record(kind, name)
            if isinstance(record, KeyRecord):
                _, rule = lifecycle.effective(record, at)
                after = lifecycle.materialised(record, at, rule)
                if after is not None:
                    found.setdefault(rule, []).append(after)
            elif isinstance(record, ProposalRecord) and _has_expired(record, at):
                found.setdefault(replay.EXPIRY, []).append(replay.expired(record))
        for key_id in await self._ledger.spent(self._limits) if self._limits else ():
            key = await self._records.record("key-record", key_id)
            used_up = lifecycle.spent(key, at) if isinstance(key, KeyRecord) else None
            if used_up is not None:
                found.setdefault(lifecycle.USAGE_LIMIT, []).append(used_up)
        return found

    async def _write(self, found: Mapping[str, Sequence[Record]]) -> int:
        """Write, all of a rule together; one by one where somebody changed one of them meanwhile."""
        written = 0
        for rule, records in found.items():
            try:
                await self._records.change(records, Because("rule", rule))
                written += len(records)
            except Conflict:
                for record in records if len(records) > 1 else ():
                    written += await self._write({rule: [record]})
        return written

    def _every(self) -> Iterable[Coming]:
        return (one for found in self._coming.values() for one in found)

    def _now(self) -> UnixSeconds:
        return UnixSeconds(self._clock.now().at // NANOSECONDS)


async def every_coming(records: Records) -> list[Coming]:
    """What is ahead of every key, by its own record or by a transfer it is part of; every record is verified."""
    found = [*await records.of_kind("key-record"), *await records.of_kind("transfer-record")]
    return [one for record in found for one in coming_of(record)]


def _has_expired(proposal: ProposalRecord, at: UnixSeconds) -> bool:
    return proposal.state is ProposalState.OPEN and proposal.statement.expires_at <= at


def _figures(found: Sequence[Coming]) -> Figures:
    counts = dict.fromkeys(EVENTS, 0)
    soonest: dict[str, UnixSeconds] = {}
    for one in found:
        counts[one.event] += 1
        soonest.setdefault(one.event, one.at)
    return Figures(counts, soonest)
