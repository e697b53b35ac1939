"""GovernanceService: statements and envelopes handed in, carried out once, and the registers read.

Who calls decides nothing here but whether they may hand in or read; the signatures decide.
"""

import asyncio
from collections.abc import Sequence
from typing import TypeVar

from google.protobuf.message import Message

from cryptosvc.core import statement as statements
from cryptosvc.core.acts.table import act as act_named
from cryptosvc.core.canonical import canonical
from cryptosvc.core.case import Principal
from cryptosvc.core.due import Coming
from cryptosvc.core.errors import Malformed, Refusal
from cryptosvc.core.life import UnixSeconds
from cryptosvc.core.names import Operation
from cryptosvc.core.proposal import ProposalRecord, ProposalState
from cryptosvc.core.registry import Record, record_document, record_id, record_kind
from cryptosvc.flow.govern import Ended
from cryptosvc.flow.registers import Count
from cryptosvc.pb.v1 import governance_pb2
from cryptosvc.service import convert
from cryptosvc.service.handlers import Context, Desk, Handler
from cryptosvc.service.limits import Gate

SERVICE = "cryptosvc.v1.GovernanceService"

DUE_DAYS = 90
"""How far ahead `ListDue` looks where it is not told."""
_DUE_DAYS_AT_MOST = 36_500
_M = TypeVar("_M", bound=Message)


class GovernanceHandlers:
    """Answers GovernanceService.

    Args:
        desk: what every call goes through.
        gate: an act being carried out is work the server waits for before it stops.

    """

    def __init__(self, desk: Desk, gate: Gate) -> None:
        self._desk = desk
        self._gate = gate
        self._governor = desk.application.governor
        self._registers = desk.application.registers
        self._under_way: set[asyncio.Task[Ended]] = set()

    def methods(self) -> dict[str, Handler]:
        """Handlers by method name."""
        steps = {
            "Propose": self._propose,
            "Approve": self._approve,
            "Withdraw": self._withdraw,
            "Execute": self._execute,
            "GetProposal": self._get_proposal,
            "ListProposals": self._list_proposals,
            "ListRecords": self._list_records,
            "ListDue": self._list_due,
            "GetSetting": self._get_setting,
        }
        return {name: self._desk.unary(name, Operation.GOVERN, step) for name, step in steps.items()}

    async def _propose(self, principal: Principal, payload: bytes, _context: Context) -> bytes:
        asked = await self._asked(principal, governance_pb2.ProposeRequest, payload)
        return await self._answer(await self._governor.propose(principal, asked.statement, asked.envelope))

    async def _approve(self, principal: Principal, payload: bytes, _context: Context) -> bytes:
        asked = await self._asked(principal, governance_pb2.ApproveRequest, payload)
        return await self._answer(await self._governor.approve(principal, asked.proposal_id, asked.envelope))

    async def _withdraw(self, principal: Principal, payload: bytes, _context: Context) -> bytes:
        asked = await self._asked(principal, governance_pb2.WithdrawRequest, payload)
        found = await self._governor.withdraw(principal, asked.proposal_id, asked.envelope, asked.reason)
        return await self._answer(found)

    async def _execute(self, principal: Principal, payload: bytes, _context: Context) -> bytes:
        asked = await self._asked(principal, governance_pb2.ExecuteRequest, payload)
        # what a module has begun is nobody's to cancel: a caller that goes away does not undo it
        task = asyncio.get_running_loop().create_task(self._whole(principal, asked.proposal_id))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        ended = await asyncio.shield(task)
        answer = governance_pb2.ExecuteResponse(
            proposal=_proposal(ended.proposal, await self._registers.count(ended.proposal)),
            records=[_record(one) for one in ended.records],
            receipts=[convert.receipt(one) for one in ended.receipts],
        )
        return answer.SerializeToString()

    async def _whole(self, principal: Principal, proposal_id: str) -> Ended:
        self._gate.enter(1)
        try:
            return await self._governor.execute(principal, proposal_id)
        finally:
            self._gate.leave(1)

    async def _get_proposal(self, principal: Principal, payload: bytes, _context: Context) -> bytes:
        asked = await self._asked(principal, governance_pb2.GetProposalRequest, payload)
        return await self._answer(await self._governor.proposal(principal, asked.proposal_id))

    async def _list_proposals(self, principal: Principal, payload: bytes, _context: Context) -> bytes:
        asked = await self._asked(principal, governance_pb2.ListProposalsRequest, payload)
        if asked.state and asked.state not in {one.value for one in ProposalState}:
            states = ", ".join(one.value for one in ProposalState)
            raise await self._desk.refused(
                principal,
                Operation.GOVERN,
                Malformed(f"states are {states}", rule="request/state", field="state"),
            )
        every = await self._governor.proposals(principal)
        wanted = [one for one in every if not asked.state or one.state.value == asked.state]
        names = [one.proposal_id for one in wanted]
        first = await self._first(principal, names, asked.page_token)
        page = wanted[first : first + self._size(asked.page_size)]
        answer = governance_pb2.ListProposalsResponse(
            proposals=[_proposal(one, await self._registers.count(one)) for one in page],
            next_page_token=_token(names, first + len(page)),
        )
        return answer.SerializeToString()

    async def _list_records(self, principal: Principal, payload: bytes, _context: Context) -> bytes:
        asked = await self._asked(principal, governance_pb2.ListRecordsRequest, payload)
        found = await self._registers.records(principal, asked.kind, asked.record_id)
        names = [record_id(one) for one in found]
        first = await self._first(principal, names, asked.page_token)
        page = found[first : first + self._size(asked.page_size)]
        answer = governance_pb2.ListRecordsResponse(
            records=[_record(one) for one in page], next_page_token=_token(names, first + len(page))
        )
        return answer.SerializeToString()

    async def _list_due(self, principal: Principal, payload: bytes, _context: Context) -> bytes:
        asked = await self._asked(principal, governance_pb2.ListDueRequest, payload)
        days = min(asked.days or DUE_DAYS, _DUE_DAYS_AT_MOST)
        found = await self._registers.due(principal, days)
        return governance_pb2.ListDueResponse(due=[_due(one) for one in found]).SerializeToString()

    async def _get_setting(self, principal: Principal, payload: bytes, _context: Context) -> bytes:
        await self._asked(principal, governance_pb2.GetSettingRequest, payload)
        setting = await self._registers.setting(principal)
        return governance_pb2.Setting(
            system=setting.system,
            environment=setting.environment,
            origin=setting.origin,
            policy_digest=setting.policy_digest,
            longest_open_seconds=setting.governance.longest_seconds,
        ).SerializeToString()

    async def _answer(self, proposal: ProposalRecord) -> bytes:
        return _proposal(proposal, await self._registers.count(proposal)).SerializeToString()

    async def _asked(self, principal: Principal, kind: type[_M], payload: bytes) -> _M:
        try:
            return convert.parsed(kind, payload)
        except Refusal as error:
            raise await self._desk.refused(principal, Operation.GOVERN, error) from None

    async def _first(self, principal: Principal, names: Sequence[str], page_token: str) -> int:
        """Place of the first item of a page; a token is the name of the last item of the one before."""
        if not page_token:
            return 0
        if page_token in names:
            return names.index(page_token) + 1
        error = Malformed(
            "there is no such page; take the token from the answer before",
            rule="request/page",
            field="page_token",
        )
        raise await self._desk.refused(principal, Operation.GOVERN, error)

    def _size(self, asked: int) -> int:
        most = self._desk.limits.page_items
        return min(asked or most, most)


def _token(names: Sequence[str], end: int) -> str:
    return names[end - 1] if 0 < end < len(names) else ""


def _proposal(record: ProposalRecord, count: Count) -> governance_pb2.Proposal:
    statement = record.statement
    made = governance_pb2.Proposal(
        proposal_id=record.proposal_id,
        state=record.state.value,
        statement=statements.emit(statement),
        sentence=act_named(statement.act).sentence(statement),
        needed=count.needed.people,
        counted=count.counted,
        roles=sorted(count.needed.roles),
        outcome=dict(record.outcome),
    )
    made.expires_at.FromSeconds(statement.expires_at)
    for one in record.endorsements:
        added = made.endorsements.add(custodian_id=one.custodian_id, key_id=one.key_id)
        added.at.FromSeconds(one.at)
    return made


def _record(record: Record) -> governance_pb2.Record:
    return governance_pb2.Record(kind=record_kind(record), document=canonical(record_document(record)))


def _due(due: Coming) -> governance_pb2.Due:
    made = governance_pb2.Due(key_id=due.key_id, event=due.event, rule=due.rule)
    made.at.FromSeconds(UnixSeconds(due.at))
    return made
