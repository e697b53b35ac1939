"""A governed act in a ceremony: proposed by one of those present, approved by the custodians, carried out at once.

The nonce of its statement begins with a mark of ceremony and step, so that whoever resumes finds in the registry
what this very step has done. What a kill left half done is undone and done again: a key that was generated and not
recorded was never used by anybody, so it is destroyed.
"""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace

from cryptosvc.core import statement as statements
from cryptosvc.core.acts.table import act as act_named
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.case import Principal
from cryptosvc.core.ceremony.rows import Role
from cryptosvc.core.errors import Forbidden
from cryptosvc.core.life import NANOSECONDS, Event, UnixSeconds
from cryptosvc.core.names import Environment, SystemName
from cryptosvc.core.proposal import ProposalRecord, ProposalState
from cryptosvc.core.quorum import withdrawal_payload
from cryptosvc.core.record import Because
from cryptosvc.core.registry import KeyRecord, KeyState
from cryptosvc.core.statement import STATEMENT_TYPE, WITHDRAWAL_TYPE, Statement
from cryptosvc.flow.govern import Governor
from cryptosvc.flow.ports import Clock, Records, Vault
from cryptosvc.flow.setting import Setting
from cryptosvc.wiring.ceremony.people import Controllers, Room

MARK_CHARACTERS = 16
"""Of the nonce of a statement: they tie it to the step it is made in."""
OPEN_SECONDS = 3600
"""How long a statement of a ceremony is open: it is carried out at once, by people who are in one room."""


_INTERRUPTED = "The ceremony was interrupted before this was carried out."


@dataclass(frozen=True, slots=True)
class Step:
    """Which step of which ceremony.

    Args:
        ceremony: SHA-256 of the transcript's first line, hex.
        number: of the act.
        title: of the ceremony.

    """

    ceremony: str
    number: int
    title: str

    def mark(self, act: str) -> str:
        """What ties a statement to the step: the first 8 octets of its nonce, hex; the others differ each time."""
        return hashlib.sha256(f"{self.ceremony}/{self.number}/{act}".encode()).hexdigest()[:MARK_CHARACTERS]


@dataclass(frozen=True, slots=True)
class Carried:
    """An act that was carried out: its proposal, and the leaf that says so."""

    proposal: ProposalRecord
    leaf: int

    def facts(self) -> dict[str, JsonValue]:
        """What the transcript says of it."""
        return {
            "proposal": self.proposal.proposal_id,
            "approved_by": sorted(one.custodian_id for one in self.proposal.endorsements[1:]),
            "leaf": self.leaf,
        }


class Governing:
    """Carries out governed acts for those present."""

    def __init__(
        self,
        governor: Governor,
        records: Records,
        vault: Vault,
        clock: Clock,
        setting: Setting,
        principal: Principal,
        room: Room,
        controllers: Controllers,
    ) -> None:
        self._governor = governor
        self._records = records
        self._vault = vault
        self._clock = clock
        self._setting = setting
        self._principal = principal
        self._room = room
        self._controllers = controllers

    def part_holders(self, count: int) -> tuple[str, ...]:
        """So many of those present who hold parts, in the order in which they are present.

        Raises:
            Forbidden: there are fewer.

        """
        found = [one.person for one in self._room.present if Role.PART_HOLDER in one.roles]
        if len(found) < count:
            raise Forbidden(
                f"{count} part holders are needed, and {len(found)} are here",
                rule="split/holders",
                clause="G2.44B",
                field="present",
            )
        return tuple(found[:count])

    async def carry_out(
        self, step: Step, name: str, subject: str, parameters: Mapping[str, JsonValue]
    ) -> None:
        """Do it, unless this step has done it before. Errors as `flow.govern.Governor`."""
        if await carried(self._records, step, name) is not None:
            return
        await self._undo(step, name)
        # 1 one of them proposes
        statement = await self._statement(step, name, subject, parameters)
        octets = statements.emit(statement)
        opened = await self._governor.propose(
            self._principal, octets, self._signed(self._controllers.proposer, octets)
        )
        # 2 the others approve
        for person in self._controllers.approvers:
            await self._governor.approve(self._principal, opened.proposal_id, self._signed(person, octets))
        # 3 and it is done
        await self._governor.execute(self._principal, opened.proposal_id)

    async def _statement(
        self, step: Step, name: str, subject: str, parameters: Mapping[str, JsonValue]
    ) -> Statement:
        act = act_named(name)
        found = await self._records.record(act.kind, subject)
        now = UnixSeconds(self._clock.now().at // NANOSECONDS)
        return Statement(
            act=name,
            subject=subject,
            subject_version=0 if found is None else found.version,
            parameters=parameters,
            clause=act.clause,
            reason=f"Step {step.number} of the ceremony: {step.title}"[:500],
            system=SystemName(self._setting.system),
            environment=Environment(self._setting.environment),
            origin=self._setting.origin,
            policy_digest=self._setting.policy_digest,
            proposed_by=self._controllers.proposer,
            proposed_at=now,
            expires_at=UnixSeconds(now + OPEN_SECONDS),
            nonce=step.mark(name) + secrets.token_hex(8),
        )

    def _signed(self, person: str, octets: bytes) -> bytes:
        return self._room.sign(person, STATEMENT_TYPE, octets)

    async def _undo(self, step: Step, name: str) -> None:
        """Close what an earlier attempt of this step left being carried out, then clear what it left in the module.

        In this order: where somebody else finishes the proposal meanwhile, the change is a Conflict and nothing is lost.
        """
        attempts = await _of(self._records, step, name)
        for one in attempts:
            if one.state is ProposalState.OPEN:
                signed = self._room.sign(
                    self._controllers.proposer,
                    WITHDRAWAL_TYPE,
                    withdrawal_payload(one.proposal_id, _INTERRUPTED),
                )
                await self._governor.withdraw(self._principal, one.proposal_id, signed, _INTERRUPTED)
            if one.state is ProposalState.EXECUTING:
                failed = replace(
                    one,
                    version=one.version + 1,
                    state=ProposalState.FAILED,
                    ended_on=UnixSeconds(self._clock.now().at // NANOSECONDS),
                    outcome=(("rule", "ceremony/interrupted"),),
                )
                await self._records.change([failed], Because("proposal", one.proposal_id))
        if attempts and act_named(name).event is Event.GENERATE:
            key = await self._records.record("key-record", attempts[0].statement.subject)
            if isinstance(key, KeyRecord) and key.state is KeyState.ORDERED:
                await self._vault.destroy(key)  # made and not recorded: nobody has used it


async def carried(records: Records, step: Step, name: str) -> Carried | None:
    """What a step has carried out; None where it has not."""
    for one in await _of(records, step, name):
        if one.state is ProposalState.DONE:
            located = await records.located("proposal-record", one.proposal_id)
            return None if located is None else Carried(one, located[1])
    return None


async def _of(records: Records, step: Step, name: str) -> list[ProposalRecord]:
    mark = step.mark(name)
    return [
        one
        for one in await records.of_kind("proposal-record")
        if isinstance(one, ProposalRecord) and one.statement.nonce.startswith(mark)
    ]
