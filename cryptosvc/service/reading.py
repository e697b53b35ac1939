"""KeyService and AuditService: what a caller may see of its keys, and the log with its proofs."""

from typing import TypeVar

from google.protobuf.message import Message

from cryptosvc.core.case import Principal
from cryptosvc.core.errors import Malformed, Refusal
from cryptosvc.core.names import KeyId, Operation
from cryptosvc.pb.v1 import audit_pb2, keys_pb2
from cryptosvc.service import convert
from cryptosvc.service.handlers import Context, Desk, Handler

KEY_SERVICE = "cryptosvc.v1.KeyService"
AUDIT_SERVICE = "cryptosvc.v1.AuditService"

_M = TypeVar("_M", bound=Message)


class KeyHandlers:
    """Answers KeyService.

    Args:
        desk: what every call goes through.

    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._reader = desk.application.key_reader

    def methods(self) -> dict[str, Handler]:
        """Handlers by method name."""
        return {
            "ListKeys": self._desk.unary("ListKeys", Operation.READ_KEYS, self._list_keys),
            "GetKey": self._desk.unary("GetKey", Operation.READ_KEYS, self._get_key),
        }

    async def _list_keys(self, principal: Principal, payload: bytes, _context: Context) -> bytes:
        try:
            asked = convert.parsed(keys_pb2.ListKeysRequest, payload)
            after = convert.key_id(asked.page_token) if asked.page_token else ""
        except Refusal as error:
            raise await self._desk.refused(principal, Operation.READ_KEYS, error) from None
        most = self._desk.limits.page_items
        size = min(asked.page_size or most, most)
        found = [record for record in await self._reader.list_keys(principal) if record.key_id > after]
        answer = keys_pb2.ListKeysResponse(keys=[convert.key(record) for record in found[:size]])
        if len(found) > size:
            answer.next_page_token = found[size - 1].key_id
        return answer.SerializeToString()

    async def _get_key(self, principal: Principal, payload: bytes, _context: Context) -> bytes:
        try:
            key_id: KeyId = convert.key_id(convert.parsed(keys_pb2.GetKeyRequest, payload).key_id)
        except Refusal as error:
            raise await self._desk.refused(principal, Operation.READ_KEYS, error) from None
        return convert.key(await self._reader.key(principal, key_id)).SerializeToString()


class AuditHandlers:
    """Answers AuditService.

    Args:
        desk: what every call goes through.

    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._auditor = desk.application.auditor

    def methods(self) -> dict[str, Handler]:
        """Handlers by method name."""
        return {
            "GetCheckpoint": self._desk.unary("GetCheckpoint", Operation.READ_LOG, self._get_checkpoint),
            "GetEntry": self._desk.unary("GetEntry", Operation.READ_LOG, self._get_entry),
            "ProveInclusion": self._desk.unary("ProveInclusion", Operation.READ_LOG, self._prove_inclusion),
            "ProveConsistency": self._desk.unary(
                "ProveConsistency", Operation.READ_LOG, self._prove_consistency
            ),
        }

    async def _get_checkpoint(self, principal: Principal, payload: bytes, _context: Context) -> bytes:
        await self._asked(principal, audit_pb2.GetCheckpointRequest, payload)
        return audit_pb2.Checkpoint(note=await self._auditor.checkpoint(principal)).SerializeToString()

    async def _get_entry(self, principal: Principal, payload: bytes, _context: Context) -> bytes:
        asked = await self._asked(principal, audit_pb2.GetEntryRequest, payload)
        return convert.entry(await self._auditor.entry(principal, asked.leaf_index)).SerializeToString()

    async def _prove_inclusion(self, principal: Principal, payload: bytes, _context: Context) -> bytes:
        asked = await self._asked(principal, audit_pb2.ProveInclusionRequest, payload)
        proof = await self._auditor.prove_inclusion(principal, asked.leaf_index, asked.tree_size)
        return convert.inclusion(proof).SerializeToString()

    async def _prove_consistency(self, principal: Principal, payload: bytes, _context: Context) -> bytes:
        asked = await self._asked(principal, audit_pb2.ProveConsistencyRequest, payload)
        hashes = await self._auditor.prove_consistency(principal, asked.first_size, asked.second_size)
        return audit_pb2.ConsistencyProof(
            first_size=asked.first_size, second_size=asked.second_size, hashes=hashes
        ).SerializeToString()

    async def _asked(self, principal: Principal, kind: type[_M], payload: bytes) -> _M:
        """Decode the question; its numbers are bounded as the log's are."""
        try:
            asked = convert.parsed(kind, payload)
            for descriptor, value in asked.ListFields():
                if value > LARGEST_INDEX:
                    raise Malformed("no log is that long", rule="audit/index", field=descriptor.name)
        except Refusal as error:
            raise await self._desk.refused(principal, Operation.READ_LOG, error) from None
        return asked


LARGEST_INDEX = 2**53 - 1
"""Largest integer an entry can name (RFC 8785)."""
