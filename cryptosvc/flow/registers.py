"""Registers: what is proposed, what the records say, what is due; for custodians, and for auditors. Every read is recorded."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from cryptosvc.core import lifecycle, quorum
from cryptosvc.core.acts.table import act as act_named
from cryptosvc.core.case import Principal
from cryptosvc.core.errors import Forbidden, Malformed
from cryptosvc.core.life import DAY, NANOSECONDS, UnixSeconds
from cryptosvc.core.proposal import ProposalRecord
from cryptosvc.core.registry import RECORD_KINDS, KeyRecord, KeyState, Record
from cryptosvc.flow.govern import Setting, recorded, scene
from cryptosvc.flow.ports import Clock, Ledger, Records

_Answer = TypeVar("_Answer")
_OVER = frozenset({KeyState.DEACTIVATED, KeyState.COMPROMISED, KeyState.DESTROYED})


@dataclass(frozen=True, slots=True)
class Count:
    """How far a proposal is.

    Args:
        needed: who must approve, and how many; nobody where no row of the policy says.
        counted: how many approvals count now, or counted when it ended.

    """

    needed: quorum.Needed
    counted: int


@dataclass(frozen=True, slots=True)
class DueKey:
    """Something that is going to happen to a key without anybody, or that somebody has to do by a date.

    Args:
        key_id: which.
        event: an `Event`, by its text, or `replace` (G2.57).
        at: when.
        rule: the approved rule behind it.

    """

    key_id: str
    event: str
    at: UnixSeconds
    rule: str


class Registers:
    """Reads the registers."""

    def __init__(self, records: Records, ledger: Ledger, clock: Clock, setting: Setting) -> None:
        self._records = records
        self._ledger = ledger
        self._clock = clock
        self._setting = setting

    async def records(self, principal: Principal, kind: str) -> Sequence[Record]:
        """Every record of a kind, sorted by id; Malformed where there is no such kind."""

        async def read() -> Sequence[Record]:
            if kind not in RECORD_KINDS:
                raise Malformed(
                    f"kinds of record are {', '.join(sorted(RECORD_KINDS))}",
                    rule="registry/kind",
                    field="kind",
                )
            return await self._records.of_kind(kind)

        return await self._answered(principal, "read-records", read)

    async def due(self, principal: Principal, days: int) -> list[DueKey]:
        """What is due within so many days, and what is overdue, soonest first."""

        async def read() -> list[DueKey]:
            ends = _now(self._clock) + days * DAY
            found = [
                due
                for one in await self._records.of_kind("key-record")
                if isinstance(one, KeyRecord)
                for due in due_of(one)
                if due.at <= ends
            ]
            return sorted(found, key=lambda due: (due.at, due.key_id, due.event))

        return await self._answered(principal, "read-due", read)

    async def setting(self, principal: Principal) -> Setting:
        """What a statement has to name to be accepted here."""

        async def read() -> Setting:
            return self._setting

        return await self._answered(principal, "read-setting", read)

    async def count(self, proposal: ProposalRecord) -> Count:
        """How far a proposal that somebody has read is; part of that answer, and recorded with it."""
        statement = proposal.statement
        act = act_named(statement.act)
        subject = await self._records.record(act.kind, statement.subject)
        now = await scene(self._records, self._setting)
        try:
            needs = quorum.needed(act, statement, subject, now.governance)
        except Forbidden:
            needs = quorum.Needed(0, frozenset())
        at = _now(self._clock) if proposal.ended_on is None else proposal.ended_on
        return Count(needs, len(quorum.approvers(proposal, needs, now, at)))

    async def _answered(
        self, principal: Principal, operation: str, work: Callable[[], Awaitable[_Answer]]
    ) -> _Answer:
        return await recorded(self._ledger, self._clock, principal, operation, work, reading=True)


def due_of(key: KeyRecord) -> list[DueKey]:
    """What the schedule says of one key, and the date by which a key under G2.57 is replaced."""
    found = [DueKey(str(key.key_id), one.event.value, one.at, one.rule) for one in lifecycle.schedule(key)]
    if key.life.replace_by is not None and key.state not in _OVER:
        found.append(DueKey(str(key.key_id), "replace", key.life.replace_by, "certificate/ecos"))
    return found


def _now(clock: Clock) -> UnixSeconds:
    return UnixSeconds(clock.now().at // NANOSECONDS)
