"""Registers: what is proposed, what the records say, what is due; for custodians, and for auditors. Every read is recorded."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from cryptosvc.core import quorum
from cryptosvc.core.acts.table import act as act_named
from cryptosvc.core.case import Principal
from cryptosvc.core.due import Coming, within
from cryptosvc.core.errors import Forbidden, Malformed
from cryptosvc.core.life import NANOSECONDS, UnixSeconds
from cryptosvc.core.proposal import ProposalRecord
from cryptosvc.core.registry import RECORD_KINDS, Record
from cryptosvc.flow.ports import Clock, Ledger, Records
from cryptosvc.flow.schedule import every_coming
from cryptosvc.flow.setting import Setting, recorded, scene

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Count:
    """How far a proposal is.

    Args:
        needed: who must approve, and how many; nobody where no row of the policy says.
        counted: how many approvals count now, or counted when it ended.

    """

    needed: quorum.Needed
    counted: int


class Registers:
    """Reads the registers."""

    def __init__(self, records: Records, ledger: Ledger, clock: Clock, setting: Setting) -> None:
        self._records = records
        self._ledger = ledger
        self._clock = clock
        self._setting = setting

    async def records(self, principal: Principal, kind: str, wanted: str = "") -> Sequence[Record]:
        """Every record of a kind, sorted by id, or the one of an id; Malformed where there is no such kind."""

        async def read() -> Sequence[Record]:
            if kind not in RECORD_KINDS:
                raise Malformed(
                    f"kinds of record are {', '.join(sorted(RECORD_KINDS))}",
                    rule="registry/kind",
                    field="kind",
                )
            if not wanted:
                return await self._records.of_kind(kind)
            found = await self._records.record(kind, wanted)
            return () if found is None else (found,)

        return await self._answered(principal, "read-records", read)

    async def due(self, principal: Principal, days: int) -> list[Coming]:
        """What is due within so many days, and what is overdue, soonest first."""

        async def read() -> list[Coming]:
            return within(await every_coming(self._records), _now(self._clock), days)

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


def _now(clock: Clock) -> UnixSeconds:
    return UnixSeconds(clock.now().at // NANOSECONDS)
