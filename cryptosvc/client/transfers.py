"""`Transfers` and `AsyncTransfers`: TransferService, for threads and for asyncio; the same names on both.

Acts on transfers are handed in with `Governance`; here is asked how far they are, and what is to go to the other side.

Example:
    with Client(target) as client:
        receipt = Transfers(client).statement("move-1").envelope
"""

from cryptosvc.client.asynchronous import AsyncClient
from cryptosvc.client.calls import Client
from cryptosvc.client.messages import Method
from cryptosvc.pb.v1 import transfer_pb2 as pb

_SERVICE = "/cryptosvc.v1.TransferService"
LIST = Method(f"{_SERVICE}/ListTransfers", pb.ListTransfersRequest, pb.ListTransfersResponse)
GET = Method(f"{_SERVICE}/GetTransfer", pb.GetTransferRequest, pb.Transfer)
STATEMENT = Method(f"{_SERVICE}/GetStatement", pb.GetStatementRequest, pb.GetStatementResponse)
EVIDENCE = Method(f"{_SERVICE}/GetEvidence", pb.GetEvidenceRequest, pb.GetEvidenceResponse)


class Transfers:
    """TransferService over a `Client`; every method raises CallError.

    Args:
        client: with its connections; closing it is its owner's.

    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def transfers(self) -> list[pb.Transfer]:
        """Every transfer, sorted by id."""
        found: list[pb.Transfer] = []
        token = ""
        while True:
            page = self._client.call(LIST, pb.ListTransfersRequest(page_token=token))
            found.extend(page.transfers)
            token = page.next_page_token
            if not token:
                return found

    def transfer(self, transfer_id: str) -> pb.Transfer:
        """One transfer."""
        return self._client.call(GET, pb.GetTransferRequest(transfer_id=transfer_id))

    def statement(self, transfer_id: str) -> pb.GetStatementResponse:
        """What the service has to say of a transfer as it stands, signed."""
        return self._client.call(STATEMENT, pb.GetStatementRequest(transfer_id=transfer_id))

    def evidence(self, transfer_id: str) -> pb.GetEvidenceResponse:
        """The transfer out of the service's log, with its proofs."""
        return self._client.call(EVIDENCE, pb.GetEvidenceRequest(transfer_id=transfer_id))


class AsyncTransfers:
    """TransferService over an `AsyncClient`; every method raises CallError.

    Args:
        client: with its connections; closing it is its owner's.

    """

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def transfers(self) -> list[pb.Transfer]:
        """Every transfer, sorted by id."""
        found: list[pb.Transfer] = []
        token = ""
        while True:
            page = await self._client.call(LIST, pb.ListTransfersRequest(page_token=token))
            found.extend(page.transfers)
            token = page.next_page_token
            if not token:
                return found

    async def transfer(self, transfer_id: str) -> pb.Transfer:
        """One transfer."""
        return await self._client.call(GET, pb.GetTransferRequest(transfer_id=transfer_id))

    async def statement(self, transfer_id: str) -> pb.GetStatementResponse:
        """What the service has to say of a transfer as it stands, signed."""
        return await self._client.call(STATEMENT, pb.GetStatementRequest(transfer_id=transfer_id))

    async def evidence(self, transfer_id: str) -> pb.GetEvidenceResponse:
        """The transfer out of the service's log, with its proofs."""
        return await self._client.call(EVIDENCE, pb.GetEvidenceRequest(transfer_id=transfer_id))
