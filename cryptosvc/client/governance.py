"""`Governance` and `AsyncGovernance`: GovernanceService, for threads and for asyncio; the same names on both.

A statement and its envelopes are made off-line (`cryptosvc propose`, `cryptosvc approve`); here they are handed in.

Example:
    with Client(target) as client:
        proposal = Governance(client).propose(statement, envelope)
        Governance(client).execute(proposal.proposal_id)
"""

from cryptosvc.client.asynchronous import AsyncClient
from cryptosvc.client.calls import Client
from cryptosvc.client.messages import Method
from cryptosvc.pb.v1 import governance_pb2 as pb

_SERVICE = "/cryptosvc.v1.GovernanceService"
PROPOSE = Method(f"{_SERVICE}/Propose", pb.ProposeRequest, pb.Proposal)
APPROVE = Method(f"{_SERVICE}/Approve", pb.ApproveRequest, pb.Proposal)
WITHDRAW = Method(f"{_SERVICE}/Withdraw", pb.WithdrawRequest, pb.Proposal)
EXECUTE = Method(f"{_SERVICE}/Execute", pb.ExecuteRequest, pb.ExecuteResponse)
GET = Method(f"{_SERVICE}/GetProposal", pb.GetProposalRequest, pb.Proposal)
LIST = Method(f"{_SERVICE}/ListProposals", pb.ListProposalsRequest, pb.ListProposalsResponse)
RECORDS = Method(f"{_SERVICE}/ListRecords", pb.ListRecordsRequest, pb.ListRecordsResponse)
DUE = Method(f"{_SERVICE}/ListDue", pb.ListDueRequest, pb.ListDueResponse)
SETTING = Method(f"{_SERVICE}/GetSetting", pb.GetSettingRequest, pb.Setting)


class Governance:
    """GovernanceService over a `Client`; every method raises CallError.

    Args:
        client: with its connections; closing it is its owner's.

    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def propose(self, statement: bytes, envelope: bytes) -> pb.Proposal:
        """Hand in a statement (canonical JSON) with its proposer's DSSE envelope."""
        return self._client.call(PROPOSE, pb.ProposeRequest(statement=statement, envelope=envelope))

    def approve(self, proposal_id: str, envelope: bytes) -> pb.Proposal:
        """Hand in one custodian's DSSE envelope over the statement."""
        return self._client.call(APPROVE, pb.ApproveRequest(proposal_id=proposal_id, envelope=envelope))

    def withdraw(self, proposal_id: str, envelope: bytes, reason: str) -> pb.Proposal:
        """Hand in the withdrawal of an open proposal."""
        question = pb.WithdrawRequest(proposal_id=proposal_id, envelope=envelope, reason=reason)
        return self._client.call(WITHDRAW, question)

    def execute(self, proposal_id: str) -> pb.ExecuteResponse:
        """Carry out an approved proposal, once; Refused with AWAITING_APPROVAL until the quorum is complete."""
        return self._client.call(EXECUTE, pb.ExecuteRequest(proposal_id=proposal_id))

    def proposal(self, proposal_id: str) -> pb.Proposal:
        """One proposal, with everyone who signed."""
        return self._client.call(GET, pb.GetProposalRequest(proposal_id=proposal_id))

    def proposals(self, state: str = "") -> list[pb.Proposal]:
        """Every proposal, or those in one state, the newest first."""
        found: list[pb.Proposal] = []
        token = ""
        while True:
            page = self._client.call(LIST, pb.ListProposalsRequest(state=state, page_token=token))
            found.extend(page.proposals)
            token = page.next_page_token
            if not token:
                return found

    def record(self, kind: str, record_id: str) -> pb.Record | None:
        """One record, as canonical JSON; None where there is none."""
        page = self._client.call(RECORDS, pb.ListRecordsRequest(kind=kind, record_id=record_id))
        return page.records[0] if page.records else None

    def records(self, kind: str) -> list[pb.Record]:
        """Every record of a kind, sorted by id, as canonical JSON."""
        found: list[pb.Record] = []
        token = ""
        while True:
            page = self._client.call(RECORDS, pb.ListRecordsRequest(kind=kind, page_token=token))
            found.extend(page.records)
            token = page.next_page_token
            if not token:
                return found

    def due(self, days: int = 0) -> list[pb.Due]:
        """What happens to keys within so many days without anybody, soonest first; 0 for 90."""
        return list(self._client.call(DUE, pb.ListDueRequest(days=days)).due)

    def setting(self) -> pb.Setting:
        """What a statement has to name to be accepted."""
        return self._client.call(SETTING, pb.GetSettingRequest())


class AsyncGovernance:
    """GovernanceService over an `AsyncClient`; every method raises CallError.

    Args:
        client: with its connections; closing it is its owner's.

    """

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def propose(self, statement: bytes, envelope: bytes) -> pb.Proposal:
        """Hand in a statement (canonical JSON) with its proposer's DSSE envelope."""
        return await self._client.call(PROPOSE, pb.ProposeRequest(statement=statement, envelope=envelope))

    async def approve(self, proposal_id: str, envelope: bytes) -> pb.Proposal:
        """Hand in one custodian's DSSE envelope over the statement."""
        question = pb.ApproveRequest(proposal_id=proposal_id, envelope=envelope)
        return await self._client.call(APPROVE, question)

    async def withdraw(self, proposal_id: str, envelope: bytes, reason: str) -> pb.Proposal:
        """Hand in the withdrawal of an open proposal."""
        question = pb.WithdrawRequest(proposal_id=proposal_id, envelope=envelope, reason=reason)
        return await self._client.call(WITHDRAW, question)

    async def execute(self, proposal_id: str) -> pb.ExecuteResponse:
        """Carry out an approved proposal, once; Refused with AWAITING_APPROVAL until the quorum is complete."""
        return await self._client.call(EXECUTE, pb.ExecuteRequest(proposal_id=proposal_id))

    async def proposal(self, proposal_id: str) -> pb.Proposal:
        """One proposal, with everyone who signed."""
        return await self._client.call(GET, pb.GetProposalRequest(proposal_id=proposal_id))

    async def proposals(self, state: str = "") -> list[pb.Proposal]:
        """Every proposal, or those in one state, the newest first."""
        found: list[pb.Proposal] = []
        token = ""
        while True:
            page = await self._client.call(LIST, pb.ListProposalsRequest(state=state, page_token=token))
            found.extend(page.proposals)
            token = page.next_page_token
            if not token:
                return found

    async def record(self, kind: str, record_id: str) -> pb.Record | None:
        """One record, as canonical JSON; None where there is none."""
        page = await self._client.call(RECORDS, pb.ListRecordsRequest(kind=kind, record_id=record_id))
        return page.records[0] if page.records else None

    async def records(self, kind: str) -> list[pb.Record]:
        """Every record of a kind, sorted by id, as canonical JSON."""
        found: list[pb.Record] = []
        token = ""
        while True:
            page = await self._client.call(RECORDS, pb.ListRecordsRequest(kind=kind, page_token=token))
            found.extend(page.records)
            token = page.next_page_token
            if not token:
                return found

    async def due(self, days: int = 0) -> list[pb.Due]:
        """What happens to keys within so many days without anybody, soonest first; 0 for 90."""
        return list((await self._client.call(DUE, pb.ListDueRequest(days=days))).due)

    async def setting(self) -> pb.Setting:
        """What a statement has to name to be accepted."""
        return await self._client.call(SETTING, pb.GetSettingRequest())
