"""TransferService: how far each transfer is, what the service signs of it, and its part of the log."""

from typing import TypeVar

from google.protobuf.message import Message

from cryptosvc.core.canonical import canonical
from cryptosvc.core.case import Principal
from cryptosvc.core.errors import Malformed, Refusal
from cryptosvc.core.names import Operation
from cryptosvc.core.transfer.record import transfer_document
from cryptosvc.flow.transfers import Standing
from cryptosvc.pb.v1 import transfer_pb2
from cryptosvc.service import convert
from cryptosvc.service.handlers import Context, Desk, Handler

SERVICE = "cryptosvc.v1.TransferService"
_M = TypeVar("_M", bound=Message)


class TransferHandlers:
    """Answers TransferService.

    Args:
        desk: what every call goes through.

    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._transfers = desk.application.transfers

    def methods(self) -> dict[str, Handler]:
        """Handlers by method name."""
        steps = {
            "ListTransfers": self._list,
            "GetTransfer": self._get,
            "GetStatement": self._statement,
            "GetEvidence": self._evidence,
        }
        return {name: self._desk.unary(name, Operation.GOVERN, step) for name, step in steps.items()}

    async def _list(self, principal: Principal, payload: bytes, _context: Context) -> bytes:
        asked = await self._asked(principal, transfer_pb2.ListTransfersRequest, payload)
        every = await self._transfers.every(principal)
        names = [one.record.transfer_id for one in every]
        if asked.page_token and asked.page_token not in names:
            error = Malformed(
                "there is no such page; take the token from the answer before",
                rule="request/page",
                field="page_token",
            )
            raise await self._desk.refused(principal, Operation.GOVERN, error)
        first = names.index(asked.page_token) + 1 if asked.page_token else 0
        most = self._desk.limits.page_items
        end = first + min(asked.page_size or most, most)
        answer = transfer_pb2.ListTransfersResponse(
            transfers=[_transfer(one) for one in every[first:end]],
            next_page_token=names[end - 1] if 0 < end < len(names) else "",
        )
        return answer.SerializeToString()

    async def _get(self, principal: Principal, payload: bytes, _context: Context) -> bytes:
        asked = await self._asked(principal, transfer_pb2.GetTransferRequest, payload)
        return _transfer(await self._transfers.one(principal, asked.transfer_id)).SerializeToString()

    async def _statement(self, principal: Principal, payload: bytes, _context: Context) -> bytes:
        asked = await self._asked(principal, transfer_pb2.GetStatementRequest, payload)
        said = await self._transfers.statement(principal, asked.transfer_id)
        return transfer_pb2.GetStatementResponse(
            type=said.kind, envelope=said.envelope, service_key=said.service_key
        ).SerializeToString()

    async def _evidence(self, principal: Principal, payload: bytes, _context: Context) -> bytes:
        asked = await self._asked(principal, transfer_pb2.GetEvidenceRequest, payload)
        side, octets = await self._transfers.evidence(principal, asked.transfer_id)
        return transfer_pb2.GetEvidenceResponse(side=side.value, bundle=octets).SerializeToString()

    async def _asked(self, principal: Principal, kind: type[_M], payload: bytes) -> _M:
        try:
            return convert.parsed(kind, payload)
        except Refusal as error:
            raise await self._desk.refused(principal, Operation.GOVERN, error) from None


def _transfer(standing: Standing) -> transfer_pb2.Transfer:
    record, work = standing.record, standing.work
    made = transfer_pb2.Transfer(
        transfer_id=record.transfer_id,
        side=record.side.value,
        state=record.state.value,
        version=record.version,
        document=canonical(transfer_document(record)),
    )
    if record.dispose_by is not None:
        made.dispose_by.FromSeconds(record.dispose_by)
    if work is not None:
        moving = transfer_pb2.DeviceKeysMoving(
            work=work.kind.value, state=work.state.value, position=work.position, keys=work.keys
        )
        made.device_keys.CopyFrom(moving)
    return made
