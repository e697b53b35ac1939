"""Failed TLS handshakes against a worker process are recorded, each by its reason (G2.1, G2.6)."""

import asyncio
import contextlib
import os
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from cryptosvc.service.handshakes import ENVIRONMENT
from tests.pki import Authority

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass
class Worker:
    process: asyncio.subprocess.Process
    folder: Path
    port: int
    errors: bytes = b""

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    async def end(self) -> list[list[str]]:
        """End it; give the lines it wrote, split."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        out, self.errors = await asyncio.wait_for(self.process.communicate(), 20)
        assert self.process.returncode == 0, self.errors
        return [line.split() for line in out.decode().splitlines()]


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[Worker]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.service_worker",
        str(tmp_path),
        cwd=REPOSITORY,
        env={**os.environ, **ENVIRONMENT},
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
    )
    try:
        assert process.stdout is not None
        word, port = (await asyncio.wait_for(process.stdout.readline(), 30)).split()
        assert word == b"port"
        yield Worker(process, tmp_path, int(port))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _grpc(worker: Worker, certificate: bytes | None, key: bytes | None) -> grpc.StatusCode:
    credentials = grpc.ssl_channel_credentials(worker.read("authority"), key, certificate)
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_retries", 0),
        ("grpc.initial_reconnect_backoff_ms", 60_000),
    ]
    async with grpc.aio.secure_channel(f"127.0.0.1:{worker.port}", credentials, options) as channel:
        try:
            await channel.unary_unary("/cryptosvc.v1.KeyService/ListKeys")(b"", timeout=5)
        except grpc.aio.AioRpcError as error:
            return error.code()
    return grpc.StatusCode.OK


async def _bytes(worker: Worker, octets: bytes) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
    host, port = writer.get_extra_info("sockname")
    writer.write(octets)
    with contextlib.suppress(ConnectionError):
        if octets:
            await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return f"ipv4:{host}:{port}"


async def test_each_failed_handshake_is_an_entry_with_reason_and_peer(worker: Worker):
    good = (worker.read("certificate"), worker.read("key"))
    stranger = Authority("somebody else").client()
    assert await _grpc(worker, *good) is grpc.StatusCode.OK
    assert await _grpc(worker, None, None) is grpc.StatusCode.UNAVAILABLE
    assert await _grpc(worker, stranger.certificate, stranger.key) is grpc.StatusCode.UNAVAILABLE
    assert (
        await _grpc(worker, worker.read("expired-certificate"), worker.read("expired-key"))
        is grpc.StatusCode.UNAVAILABLE
    )
    plain = await _bytes(worker, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    garbage = await _bytes(worker, b"\x00\xff" * 200)
    closed = await _bytes(worker, b"")
    assert await _grpc(worker, *good) is grpc.StatusCode.OK
    await asyncio.sleep(0.3)
    lines = await worker.end()
    recorded = [line[1:] for line in lines if line[0] == "recorded"]
    assert [reason for reason, _, _ in recorded] == [
        "no-certificate",
        "untrusted",
        "expired",
        "not-tls",
        "not-tls",
        "closed",
    ]
    assert all(count == "1" for _, count, _ in recorded)
    peers = [peer for _, _, peer in recorded]
    assert peers[3:] == [plain, garbage, closed]
    assert all(peer.startswith("ipv4:127.0.0.1:") for peer in peers)
    # What is not about handshakes still reaches whoever reads the error stream; what is, does not.
    assert b"passed" in worker.errors
    assert b"Handshake" not in worker.errors
    assert b"Source Location" not in worker.errors


async def test_a_flood_is_counted_to_the_last_and_cannot_fill_the_log(worker: Worker):
    def knock() -> None:
        with socket.create_connection(("127.0.0.1", worker.port)) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                connection.recv(1)

    def flood() -> None:
        for _ in range(500):
            knock()

    await asyncio.to_thread(flood)
    assert await _grpc(worker, worker.read("certificate"), worker.read("key")) is grpc.StatusCode.OK
    await asyncio.sleep(0.3)
    recorded = [line[1:] for line in await worker.end() if line[0] == "recorded"]
    counted: Counter[str] = Counter()
    for reason, count, _ in recorded:
        counted[reason] += int(count)
    assert counted == {"not-tls": 500}
    assert len(recorded) < 60


async def test_an_old_protocol_version_is_refused(worker: Worker):
    # A TLS 1.1 ClientHello by hand, since today's OpenSSL no longer makes one.
    hello = b"\x03\x02" + bytes(32) + b"\x00" + b"\x00\x02\x00\x2f" + b"\x01\x00"
    message = b"\x01" + len(hello).to_bytes(3) + hello
    await _bytes(worker, b"\x16\x03\x01" + len(message).to_bytes(2) + message)
    await asyncio.sleep(0.2)
    recorded = [line[1:] for line in await worker.end() if line[0] == "recorded"]
    assert [reason for reason, *_ in recorded] == ["protocol-version"]


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("raise RuntimeError('last words')", b"last words"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", b"Segmentation"),
    ],
)
async def test_what_a_dying_process_says_is_not_lost_in_the_pipe(end: str, said: bytes):
    code = f"import os, signal\nfrom cryptosvc.service.handshakes import ErrorTap\nErrorTap(print)\n{end}\n"
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, cwd=REPOSITORY, stderr=pipe)
    _, errors = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode != 0
    assert said in errors
