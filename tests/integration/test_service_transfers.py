"""TransferService over gRPC and mutual TLS: what it says of transfers, its errors, and who may ask.

What is signed and proven over it `tests/e2e/test_transfer_between_deployments.py` tests, between two deployments.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import grpc
import orjson
import pytest

from cryptosvc.client.asynchronous import AsyncClient
from cryptosvc.client.calls import Client
from cryptosvc.client.errors import InvalidRequest, NotPermitted, WrongState
from cryptosvc.client.transfers import LIST, AsyncTransfers, Transfers
from cryptosvc.core.names import CallerId
from cryptosvc.core.record import Because
from cryptosvc.core.registry import Grant
from cryptosvc.core.transfer.record import transfer_from_document
from cryptosvc.pb.v1 import transfer_pb2 as pb
from tests import service_stand
from tests.governance import NOW
from tests.pki import Identity
from tests.service_stand import Stand, stand
from tests.transfers import FREIGHT, STORAGE, TRANSFER, Pair, filled, two_ends

GOVERN = Grant(operation="govern", key_class="*")


@dataclass
class Here:
    """A service at the source of a transfer, and callers of it."""

    service: Stand
    pair: Pair

    def register(self, name: str, *grants: Grant, auditor: bool = False) -> Identity:
        """One more caller."""
        identity = self.service.authority.client(name)
        record = service_stand.caller_record(name, identity)
        registered = replace(record, caller_id=CallerId(name), grants=grants, auditor=auditor)
        self.service.keys.callers[identity.sha256] = registered
        return identity


@asynccontextmanager
async def here(*, storage: bool = False) -> AsyncIterator[Here]:
    pair = await two_ends(STORAGE) if storage else await two_ends()
    if storage:
        await filled(pair, *STORAGE)
    await pair.exported()
    async with stand(governed=pair.source.stand) as service:
        yield Here(service, pair)


async def test_how_far_a_transfer_is() -> None:
    async with here() as at, AsyncClient(at.service.target(at.register("office", GOVERN))) as client:
        calls = AsyncTransfers(client)
        (found,) = await calls.transfers()
        assert found == await calls.transfer(TRANSFER)
        assert (found.transfer_id, found.side, found.state) == (TRANSFER, "source", "exported")
        assert transfer_from_document(orjson.loads(found.document)) == at.pair.source.record
        assert found.version == at.pair.source.record.version
        assert found.dispose_by.seconds > NOW
        assert not found.HasField("device_keys")
        page = await client.call(LIST, pb.ListTransfersRequest(page_size=1))
        assert (len(page.transfers), page.next_page_token) == (1, "")
        after = await client.call(LIST, pb.ListTransfersRequest(page_token=TRANSFER))
        assert list(after.transfers) == []
    operations = {orjson.loads(one.entry).get("operation") for one in at.pair.source.stand.ledger.leaves}
    assert {"read-transfers", "read-transfer"} <= operations


async def test_how_many_device_keys_are_gone() -> None:
    async with here(storage=True) as at:
        pair = at.pair
        await pair.destination.carry("import", **pair.importing(pair.package(freight=FREIGHT)))
        await pair.source.carry("receipt", **pair.receiving(pair.receipt(rows=FREIGHT.rows)))
        await pair.source.carry("dispose", scope=pair.scope())
        async with AsyncClient(at.service.target(at.register("office", GOVERN))) as client:
            found = await AsyncTransfers(client).transfer(TRANSFER)
            moving = found.device_keys
            assert (moving.work, moving.state, moving.position, moving.keys) == (
                "release",
                "approved",
                0,
                FREIGHT.rows,
            )
            # they are not gone yet, so nothing is said
            with pytest.raises(WrongState) as refused:
                await AsyncTransfers(client).statement(TRANSFER)
            assert refused.value.rule == "transfer/devices-under-way"


async def test_what_it_has_not_or_does_not_say() -> None:
    async with here() as at, AsyncClient(at.service.target(at.register("office", GOVERN))) as client:
        calls = AsyncTransfers(client)
        with pytest.raises(WrongState) as package:
            await calls.statement(TRANSFER)
        assert (package.value.rule, package.value.clause) == ("transfer/on-the-machine", "G2.22I")
        changed = replace(at.pair.source.record, version=99)
        aborted = replace(changed, state=type(changed.state).ABORTED)
        await at.pair.source.stand.keys.change(
            [replace(aborted, version=at.pair.source.record.version + 1)], Because("init", "")
        )
        with pytest.raises(WrongState) as nothing:
            await calls.statement(TRANSFER)
        assert nothing.value.rule == "transfer/step"
        for ask in (calls.transfer, calls.statement, calls.evidence):
            with pytest.raises(InvalidRequest) as unknown:
                await ask("move-9")
            assert unknown.value.rule == "transfer/unknown"
        with pytest.raises(InvalidRequest) as page:
            await client.call(LIST, pb.ListTransfersRequest(page_token="move-9"))
        assert (page.value.rule, page.value.field) == ("request/page", "page_token")
        stub = client.call
        with pytest.raises(InvalidRequest):
            await stub(LIST, pb.ListTransfersRequest(page_token="\x00"))


async def test_who_may_ask() -> None:
    async with here() as at:
        auditor, other = at.register("auditor", auditor=True), at.register("other")
        async with AsyncClient(at.service.target(auditor)) as client:
            assert len(await AsyncTransfers(client).transfers()) == 1
            with pytest.raises(NotPermitted) as refused:
                await AsyncTransfers(client).statement(TRANSFER)
            assert refused.value.code is grpc.StatusCode.PERMISSION_DENIED
        async with AsyncClient(at.service.target(other)) as client:
            for ask in (AsyncTransfers(client).transfer, AsyncTransfers(client).evidence):
                with pytest.raises(NotPermitted):
                    await ask(TRANSFER)
        office = at.register("office", GOVERN)

        def blocking() -> tuple[str, ...]:
            with Client(at.service.target(office)) as client:
                calls = Transfers(client)
                (found,) = calls.transfers()
                with pytest.raises(WrongState):
                    calls.statement(TRANSFER)
                with pytest.raises(InvalidRequest):
                    calls.evidence("move-9")
                return found.state, calls.transfer(TRANSFER).state

        assert await asyncio.to_thread(blocking) == ("exported", "exported")
