"""Govern: acts under dual control, from proposal to record.

A custodian proposes by signing a statement; others approve by signing the same octets; then anybody who may call the
service can have it carried out, once. Who calls is recorded and decides nothing: the signatures do.

Each step is a change of the proposal's record, made only if the record is still at the version that was looked at, so
two workers that approve, withdraw and carry out at once come out in one order.
"""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeVar

from cryptosvc.core import quorum
from cryptosvc.core import statement as statements
from cryptosvc.core.acts.base import Act, Made, Turn
from cryptosvc.core.acts.table import act as act_named
from cryptosvc.core.case import Principal
from cryptosvc.core.errors import Conflict, Malformed, OutcomeUnknown, Refusal, Unavailable
from cryptosvc.core.life import NANOSECONDS, Event, UnixSeconds
from cryptosvc.core.proposal import ProposalRecord, ProposalState
from cryptosvc.core.quorum import Scene
from cryptosvc.core.record import Because, Receipt
from cryptosvc.core.registry import KeyRecord, Record, record_id, record_kind
from cryptosvc.core.statement import STATEMENT_TYPE, Statement
from cryptosvc.flow import proposals
from cryptosvc.flow.ports import Clock, Ledger, Records, Vault
from cryptosvc.flow.setting import Setting, recorded, require_after_beginning, require_room, scene

_Answer = TypeVar("_Answer")
Mover = Callable[[Statement, Mapping[tuple[str, str], Record]], Awaitable[Made]]
"""Has a module do an act: given the statement and the records it looks at, what the module gave."""
_TRIES = 8
"""How often an act is judged anew where the registry moved meanwhile."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A proposal that was carried out.

    Args:
        proposal: as it is now.
        records: what it changed, as they are now.
        receipts: of the proposal's leaf and of theirs, in that order.

    """

    proposal: ProposalRecord
    records: tuple[Record, ...]
    receipts: tuple[Receipt, ...]


@dataclass(frozen=True, slots=True)
class _Judged:
    """A proposal that may be carried out, and everything that was decided on."""

    proposal: ProposalRecord
    act: Act
    records: Mapping[tuple[str, str], Record]
    subject: Record | None
    needs: quorum.Needed
    because: Because
    at: UnixSeconds


class Governor:
    """Carries governed acts from proposal to record.

    Args:
        records, vault, ledger, clock, setting: what it stands on.
        movers: act → what the module has to do for it, for acts on transfers and in ceremonies alone; the service has
            none, since they are carried out on its machine. What a mover does may be asked for again after it was interrupted.

    """

    def __init__(
        self,
        records: Records,
        vault: Vault,
        ledger: Ledger,
        clock: Clock,
        setting: Setting,
        movers: Mapping[str, Mover] = MappingProxyType({}),
    ) -> None:
        self._records = records
        self._vault = vault
        self._ledger = ledger
        self._clock = clock
        self._setting = setting
        self._movers = movers

    async def propose(self, principal: Principal, octets: bytes, envelope: bytes) -> ProposalRecord:
        """Open a proposal.

        Args:
            principal: who hands it in.
            octets: the statement, canonical JSON.
            envelope: DSSE envelope of the custodian the statement names as proposer.

        Raises:
            Malformed, Forbidden: as `quorum.proposed`; the act would be refused as things stand.
            Conflict: it was proposed before, or its subject has moved.

        """
        about = {"proposal": hashlib.sha256(octets).hexdigest()}
        return await self._recorded(principal, "propose", lambda: self._propose(octets, envelope), about)

    async def approve(self, principal: Principal, proposal_id: str, envelope: bytes) -> ProposalRecord:
        """Add one custodian's approval; Malformed, Forbidden, Conflict as `quorum.endorse` and `require_open`."""
        return await self._recorded(
            principal, "approve", lambda: self._approve(proposal_id, envelope), proposals.naming(proposal_id)
        )

    async def withdraw(
        self, principal: Principal, proposal_id: str, envelope: bytes, reason: str
    ) -> ProposalRecord:
        """Withdraw an open proposal; Malformed, Forbidden, Conflict as `quorum.withdrawn`."""
        return await self._recorded(
            principal,
            "withdraw",
            lambda: self._withdraw(proposal_id, envelope, reason),
            proposals.naming(proposal_id),
        )

    async def execute(self, principal: Principal, proposal_id: str) -> Ended:
        """Carry out an approved proposal, once.

        Raises:
            AwaitingApproval, Forbidden, Conflict: as `quorum.require_quorum` and the act.
            OutcomeUnknown: the module may have done it; `reconcile` finds out.

        """
        return await self._recorded(
            principal, "execute", lambda: self._execute(proposal_id), proposals.naming(proposal_id)
        )

    async def resume(self, principal: Principal, proposal_id: str) -> Ended:
        """Finish an act on a transfer that was begun, and that nobody is carrying out any more.

        Raises:
            Conflict: it is not under way.
            OutcomeUnknown: as `execute`.

        """
        about = proposals.naming(proposal_id)
        return await self._recorded(principal, "resume", lambda: self._resume(proposal_id), about)

    async def proposal(self, principal: Principal, proposal_id: str) -> ProposalRecord:
        """One proposal; Malformed where there is none. Auditors read too."""

        async def read() -> ProposalRecord:
            return await self._proposal(proposal_id)

        about = proposals.naming(proposal_id)
        return await recorded(
            self._ledger, self._clock, principal, "read-proposal", read, about, reading=True
        )

    async def proposals(self, principal: Principal) -> list[ProposalRecord]:
        """Every proposal, the newest first. Auditors read too."""

        async def read() -> list[ProposalRecord]:
            found = await self._records.of_kind("proposal-record")
            mine = [one for one in found if isinstance(one, ProposalRecord)]
            return sorted(mine, key=lambda one: one.statement.proposed_at, reverse=True)

        return await recorded(self._ledger, self._clock, principal, "read-proposals", read, reading=True)

    # The steps

    async def _propose(self, octets: bytes, envelope: bytes) -> ProposalRecord:
        statement = statements.parse(octets)
        act = act_named(statement.act)
        scene, at = await self._scene(), self._now()
        opened = quorum.proposed(statement, envelope, act, scene, at)
        await require_after_beginning(self._ledger, statement, scene.governance)
        records = await self._about(act, statement)
        quorum.needed(act, statement, records.get((act.kind, statement.subject)), scene.governance)
        act.after(self._turn(statement, at, records, proposals.rehearsed(act)))
        if await self._records.record("proposal-record", opened.proposal_id) is not None:
            raise Conflict("this very statement was proposed before", rule="proposal/repeated")
        await require_room(self._records, statement)
        await self._records.change([opened], Because("proposal", opened.proposal_id))
        return opened

    async def _approve(self, proposal_id: str, envelope: bytes) -> ProposalRecord:
        found = await self._proposal(proposal_id)
        quorum.require_open(found)
        statement = found.statement
        scene, at = await self._scene(), self._now()
        quorum.require_current(act_named(statement.act), statement, scene, at)
        mine = quorum.endorse(statement, envelope, STATEMENT_TYPE, statements.emit(statement), scene, at)
        proposals.require_new(found, mine, scene)
        return await self._moved(found, endorsements=(*found.endorsements, mine))

    async def _withdraw(self, proposal_id: str, envelope: bytes, reason: str) -> ProposalRecord:
        found = await self._proposal(proposal_id)
        scene, at = await self._scene(), self._now()
        mine = quorum.withdrawn(found, envelope, reason, scene, at)
        return await self._moved(
            found,
            state=ProposalState.WITHDRAWN,
            withdrawal=mine,
            ended_on=at,
            outcome=(("reason", reason),),
        )

    async def _execute(self, proposal_id: str) -> Ended:
        """What is decided rests on the custodians, the subject and others: it stands if none of the registry moved."""
        for _ in range(_TRIES):
            generation = await self._records.generation()
            judged = await self._judged(proposal_id)
            proposals.require_here(judged.act, self._movers)
            try:
                if not judged.act.touches_module:
                    return await self._end(judged, None, generation)
                judged = await self._begun(judged, generation)
                break
            except Conflict as conflict:
                proposals.require_moved(conflict)
        else:
            raise proposals.too_busy()
        return await self._finish(judged)

    async def _resume(self, proposal_id: str) -> Ended:
        found = await self._proposal(proposal_id)
        act = act_named(found.statement.act)
        if found.state is not ProposalState.EXECUTING or act.name not in self._movers:
            raise Conflict(
                "this act is not under way, or not one on a transfer", rule="proposal/not-executing"
            )
        records = await self._about(act, found.statement)
        subject = records.get((act.kind, found.statement.subject))
        scene, at = await self._scene(), self._now()
        needs = quorum.needed(act, found.statement, subject, scene.governance)
        approvals = tuple(sorted(one.key_id for one in found.endorsements[1:]))
        because = Because("proposal", proposal_id, approvals)
        return await self._finish(_Judged(found, act, records, subject, needs, because, at))

    async def _finish(self, judged: "_Judged") -> Ended:
        """Have the module do it, and record it."""
        made = await self._made(judged)
        for _ in range(_TRIES):
            generation = await self._records.generation()
            now = replace(judged, records=await self._about(judged.act, judged.proposal.statement))
            try:
                return await self._end(now, made, generation)
            except Refusal as refusal:
                if not proposals.has_moved(refusal):
                    await self._failed(judged, refusal)
                    raise
        raise OutcomeUnknown(
            "the module has done it, and the registry was too busy to say so; `cryptosvc reconcile --finish` does",
            rule="proposal/not-recorded",
        )

    async def _judged(self, proposal_id: str) -> "_Judged":
        """Read what the act looks at, and decide whether it may be done."""
        # 1 read
        found = await self._proposal(proposal_id)
        statement = found.statement
        act = act_named(statement.act)
        records = await self._about(act, statement)
        subject = records.get((act.kind, statement.subject))
        scene, at = await self._scene(), self._now()
        # 2 judge
        counted = quorum.require_quorum(found, act, subject, scene, at)
        needs = quorum.needed(act, statement, subject, scene.governance)
        approvals = tuple(sorted(one.key_id for one in proposals.counted_endorsements(found, counted)))
        foreseen = act.after(self._turn(statement, at, records, proposals.rehearsed(act)))
        return _Judged(
            found,
            act,
            records,
            foreseen[0] if subject is None and foreseen else subject,
            needs,
            Because("proposal", proposal_id, approvals),
            at,
        )

    async def _begun(self, judged: "_Judged", generation: int) -> "_Judged":
        """Write down that the module is about to be asked."""
        begun = replace(
            judged.proposal,
            version=judged.proposal.version + 1,
            state=ProposalState.EXECUTING,
            outcome=proposals.outcome(None, judged.needs),
        )
        because = Because("proposal", begun.proposal_id)
        await self._records.change([begun], because, at_generation=generation)
        return replace(judged, proposal=begun)

    async def _end(self, judged: "_Judged", made: Made | None, generation: int) -> Ended:
        """Record it, with the proposal consumed in the same transaction."""
        found = judged.proposal
        done = replace(
            found,
            version=found.version + 1,
            state=ProposalState.DONE,
            ended_on=judged.at,
            outcome=proposals.outcome(made, judged.needs),
        )
        after = judged.act.after(self._turn(found.statement, judged.at, judged.records, made))
        receipts = await self._records.change([done, *after], judged.because, at_generation=generation)
        return Ended(done, after, tuple(receipts))

    async def _made(self, judged: "_Judged") -> Made:
        """Have the module do it. Where it is known that nothing was done, the proposal has failed."""
        found, act, subject = judged.proposal, judged.act, judged.subject
        doing = {
            Event.GENERATE: self._vault.generate,
            Event.REGISTER: self._vault.adopt,
            Event.DESTROY: self._vault.destroy,
        }
        try:
            if act.name in self._movers:
                return await self._movers[act.name](found.statement, judged.records)
            assert isinstance(subject, KeyRecord)
            return await doing[act.event](subject) if act.event in doing else Made()
        except Refusal as refusal:
            if act.name not in self._movers:
                await self._moved(found, **self._failure(refusal))
            await self._failed(judged, refusal)
            raise

    async def _failed(self, judged: "_Judged", refusal: Refusal) -> None:
        """An act on a transfer has failed, save where it is only interrupted: what is out of reach now is resumed later."""
        if judged.act.name in self._movers and not isinstance(refusal, Unavailable):
            await self._moved(judged.proposal, **self._failure(refusal))

    def _failure(self, refusal: Refusal) -> Mapping[str, object]:
        rule = (("rule", refusal.rule),)
        return {"state": ProposalState.FAILED, "ended_on": self._now(), "outcome": rule}

    async def _moved(self, found: ProposalRecord, **changes: object) -> ProposalRecord:
        changed = replace(found, version=found.version + 1, **changes)  # type: ignore[arg-type]  # fields of the record, by name
        await self._records.change([changed], Because("proposal", found.proposal_id))
        return changed

    # What the steps look at

    async def _proposal(self, proposal_id: str) -> ProposalRecord:
        found = await self._records.record("proposal-record", proposal_id)
        if not isinstance(found, ProposalRecord):
            raise Malformed("there is no such proposal", rule="proposal/unknown", field="proposal_id")
        return found

    async def _scene(self) -> Scene:
        return await scene(self._records, self._setting)

    async def _about(self, act: Act, statement: Statement) -> Mapping[tuple[str, str], Record]:
        """Every record the act may look at."""
        wanted = [(act.kind, statement.subject), *act.looks_at(statement)]
        found = [(name, await self._records.record(*name)) for name in wanted]
        records = {name: record for name, record in found if record is not None}
        for one in await self._records.of_kind(act.looks_at_every) if act.looks_at_every else ():
            records[record_kind(one), record_id(one)] = one
        return records

    def _turn(
        self,
        statement: Statement,
        at: UnixSeconds,
        records: Mapping[tuple[str, str], Record],
        made: Made | None,
    ) -> Turn:
        governance = self._setting.governance
        return Turn(
            statement=statement,
            at=at,
            records=records,
            made=made,
            custody=governance.custody,
            ecos_service_live=governance.ecos_service_live,
            foreign_issuers=governance.foreign_issuers,
            transfer_bodies=governance.transfer_bodies,
        )

    def _now(self) -> UnixSeconds:
        return UnixSeconds(self._clock.now().at // NANOSECONDS)

    async def _recorded(
        self,
        principal: Principal,
        operation: str,
        work: Callable[[], Awaitable[_Answer]],
        about: Mapping[str, str],
    ) -> _Answer:
        return await recorded(self._ledger, self._clock, principal, operation, work, about)
