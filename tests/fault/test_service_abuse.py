"""Callers that are too big, too slow, too many, too late or gone: refused or bounded, and the service unharmed."""

import asyncio
import ssl
from pathlib import Path

import grpc
import pytest

from cryptosvc.client import errors
from cryptosvc.client.asynchronous import AsyncClient
from cryptosvc.client.messages import request
from cryptosvc.client.retries import Retries
from cryptosvc.pb.v1 import crypto_pb2
from cryptosvc.service.limits import MEBIBYTE, Limits
from tests.pki import Identity
from tests.service_stand import Stand, stand, until

TBS = b"\x30\x82" + b"t" * 300
ONCE = Retries(attempts=1)


async def _still_signs(service: Stand) -> None:
    async with AsyncClient(service.target(), retries=ONCE) as client:
        await client.sign(request("key-1", tbs_certificate=TBS))


async def test_a_message_of_100_mb_is_refused_unread():
    async with stand() as service:
        target = service.target(connections=1)
        options = [*target.options(), ("grpc.max_send_message_length", -1)]
        async with grpc.aio.secure_channel(target.address, target.credentials(), options) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary("/cryptosvc.v1.CryptoService/Sign")(b"\x00" * (100 * MEBIBYTE))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert service.signer.batches == []
        await _still_signs(service)


@pytest.mark.parametrize("method", ["SignBatch", "SignStream"])
async def test_a_message_of_two_million_empty_requests_is_refused_undecoded(method: str):
    async with stand() as service:
        target = service.target(connections=1)
        path = f"/cryptosvc.v1.CryptoService/{method}"
        octets = b"\x0a\x00" * (2 * MEBIBYTE - 8)
        async with grpc.aio.secure_channel(target.address, target.credentials(), target.options()) as channel:
            unary = method == "SignBatch"
            call = (
                channel.unary_unary(path)(octets)
                if unary
                else channel.stream_stream(path)(iter([octets])).read()
            )
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert [refusal.error.rule for refusal in service.ledger.refusals()] == ["request/batch-size"]
        await _still_signs(service)


async def test_more_work_than_fits_is_refused_at_once_and_counted_in_the_log():
    async with stand(Limits(items_in_work=4)) as service:
        service.signer.release.clear()
        async with AsyncClient(service.target(connections=1), retries=ONCE) as client:
            held = [
                asyncio.ensure_future(client.sign(request("key-1", tbs_certificate=TBS))) for _ in range(4)
            ]
            await until(lambda: sum(service.signer.batches) >= 4)
            with pytest.raises(errors.Busy) as caught:
                await client.sign(request("key-1", tbs_certificate=TBS))
            assert caught.value.rule == "overload/items-in-work"
            with pytest.raises(errors.Busy):
                await client.sign_batch([request("key-1", tbs_certificate=TBS) for _ in range(2)])
            service.signer.release.set()
            await asyncio.gather(*held)
            await until(lambda: len(service.ledger.observed("overloaded")) >= 2)
            assert service.ledger.observed("overloaded")[0].facts == {
                "reason": "overload/items-in-work",
                "count": "1",
            }
        await _still_signs(service)


async def test_a_caller_that_goes_away_before_its_work_starts_costs_nothing():
    async with stand(Limits(walks=1)) as service:
        service.signer.release.clear()
        async with AsyncClient(service.target(connections=1), retries=ONCE) as client:
            first = asyncio.ensure_future(client.sign(request("key-1", tbs_certificate=TBS)))
            await until(lambda: bool(service.signer.batches))
            second = asyncio.ensure_future(client.sign(request("key-1", tbs_certificate=TBS)))
            await asyncio.sleep(0.1)
            second.cancel()
            await asyncio.sleep(0.1)
            service.signer.release.set()
            await first
        assert service.signer.batches == [1]


async def test_work_that_waited_past_its_deadline_is_never_started():
    async with stand(Limits(walks=1, deadline_seconds=0.2)) as service:
        service.signer.release.clear()
        async with AsyncClient(service.target(connections=1), retries=ONCE) as client:
            first = asyncio.ensure_future(client.sign(request("key-1", tbs_certificate=TBS)))
            await until(lambda: bool(service.signer.batches))
            second = asyncio.ensure_future(client.sign(request("key-1", tbs_certificate=TBS)))
            await asyncio.sleep(0.4)
            service.signer.release.set()
            await first
            with pytest.raises(errors.Busy) as caught:
                await second
        assert caught.value.rule == "overload/deadline"
        assert service.signer.batches == [1]


async def test_unary_calls_that_come_together_walk_together():
    async with stand(Limits(walks=1)) as service:
        service.signer.release.clear()
        async with AsyncClient(service.target(connections=1), retries=ONCE) as client:
            calls = [
                asyncio.ensure_future(client.sign(request("key-1", tbs_certificate=TBS))) for _ in range(21)
            ]
            await asyncio.sleep(0.5)
            service.signer.release.set()
            answers = await asyncio.gather(*calls)
        assert len({answer.request_id for answer in answers}) == 21
        assert sum(service.signer.batches) == 21
        assert len(service.signer.batches) <= 3


async def test_a_slow_reader_holds_back_itself_and_nobody_else():
    limits = Limits(stream_items=64)
    async with stand(limits) as service:
        target = service.target(connections=1)
        sent = 0

        async def frames():
            nonlocal sent
            for number in range(2000):
                one = request("key-1", tbs_certificate=b"\x30" * 20_000, request_id=f"slow-{number}")
                yield crypto_pb2.SignStreamRequest(requests=[one]).SerializeToString()
                sent += 1

        options = [*target.options(), ("grpc.http2.lookahead_bytes", 65_536), ("grpc.http2.bdp_probe", 0)]
        async with grpc.aio.secure_channel(target.address, target.credentials(), options) as channel:
            call = channel.stream_stream("/cryptosvc.v1.CryptoService/SignStream")(frames())
            await call.read()
            seen = -1
            async with asyncio.timeout(20):
                while seen != service.signer.finished:
                    seen = service.signer.finished
                    await asyncio.sleep(0.5)
            assert sent < 1000
            assert service.signer.finished < 1000
            await _still_signs(service)
            call.cancel()
        await _still_signs(service)


async def test_a_stream_that_breaks_off_leaves_nothing_in_work():
    async with stand(Limits(walks=1)) as service:
        service.signer.release.clear()
        async with AsyncClient(service.target(connections=1), retries=ONCE) as client:
            outcomes = client.sign_stream(
                [request("key-1", tbs_certificate=TBS) for _ in range(100)], frame_items=10, seconds=0.5
            )
            with pytest.raises(errors.TimedOut):
                await anext(outcomes)
        service.signer.release.set()
        await asyncio.sleep(0.3)
        assert sum(service.signer.batches) < 100
        assert service.signer.finished == sum(service.signer.batches)


def _tls(service: Stand, identity: Identity, folder: Path) -> ssl.SSLContext:
    folder.mkdir(exist_ok=True)
    (folder / "certificate").write_bytes(identity.certificate)
    (folder / "key").write_bytes(identity.key)
    context = ssl.create_default_context(cadata=service.authority.certificate.decode())
    context.load_cert_chain(folder / "certificate", folder / "key")
    context.set_alpn_protocols(["h2"])
    return context


async def _hold(service: Stand, folder: Path, count: int) -> None:
    """Open connections that say nothing while a caller is calling: it does not notice."""
    context = _tls(service, service.client, folder / "identity")
    gate = asyncio.Semaphore(64)

    async def connect() -> asyncio.StreamWriter | None:
        async with gate:
            try:
                _, writer = await asyncio.open_connection(
                    "127.0.0.1", service.server.port, ssl=context, server_hostname="localhost"
                )
            except (OSError, ssl.SSLError):
                return None
            return writer

    async with AsyncClient(service.target(connections=1), retries=ONCE) as client:
        await client.sign(request("key-1", tbs_certificate=TBS))
        attempts = await asyncio.gather(*(connect() for _ in range(count)))
        writers = [writer for writer in attempts if writer is not None]
        try:
            assert len(writers) >= min(count, 4000)
            await client.sign(request("key-1", tbs_certificate=TBS))
        finally:
            for writer in writers:
                writer.transport.abort()


async def test_idle_connections_are_borne_and_closed_after_a_while(tmp_path: Path):
    async with stand(Limits(connections=4096, connection_idle_seconds=1.0)) as service:
        await _hold(service, tmp_path, 400)
        context = _tls(service, service.client, tmp_path / "identity")
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", service.server.port, ssl=context, server_hostname="localhost"
        )
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        async with asyncio.timeout(10):
            answer = await reader.read()
        assert b"connection idle" in answer
        writer.transport.abort()
        await _still_signs(service)


async def test_connections_beyond_the_bound_are_closed_and_those_within_it_served(tmp_path: Path):
    async with (
        stand(Limits(connections=20)) as service,
        AsyncClient(service.target(connections=1), retries=ONCE) as client,
    ):
        await client.sign(request("key-1", tbs_certificate=TBS))
        context = _tls(service, service.client, tmp_path / "identity")
        writers = []
        refused = 0
        for _ in range(40):
            try:
                _, writer = await asyncio.open_connection(
                    "127.0.0.1", service.server.port, ssl=context, server_hostname="localhost"
                )
            except (OSError, ssl.SSLError):
                refused += 1
            else:
                writers.append(writer)
        assert refused >= 20
        assert len(writers) < 20
        await client.sign(request("key-1", tbs_certificate=TBS))
        for writer in writers:
            writer.transport.abort()


@pytest.mark.slow
async def test_ten_thousand_idle_connections(tmp_path: Path):
    async with stand(Limits(connections=4096)) as service:
        await _hold(service, tmp_path, 10_000)
        async with AsyncClient(service.target(), retries=Retries(attempts=6)) as client:
            await client.sign(request("key-1", tbs_certificate=TBS))
