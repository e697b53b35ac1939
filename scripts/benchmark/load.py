"""One load-generating process: sends prepared requests for some seconds, prints what came back as one JSON line.

Its order is one JSON object on standard input (`Order`). Everything is prepared before the clock starts and judged
after it stops, so that the generator costs the machine as little as it can: load and service share the cores.
Talks to loopback only and stops by itself.
"""

import asyncio
import json
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc
import grpc.aio

from cryptosvc.client.asynchronous import AsyncClient
from cryptosvc.client.channels import Target
from cryptosvc.pb.v1 import crypto_pb2

FRAMES_UNDER_WAY = 4
SERVICE = "/cryptosvc.v1.CryptoService/"


@dataclass(frozen=True)
class Order:
    """What one generator does.

    Args:
        target: host:port on loopback.
        ca, certificate, private_key: PEM files of mutual TLS.
        mode: unary, batch, stream; client (batches through one AsyncClient); empty (unary, the empty server).
        payloads: file of prepared payloads: four-octet length and payload, one after another.
        first, count: which of the payloads are this generator's.
        key_id, variant, user_id, user_role: what to ask with.
        batch: items per call or frame.
        concurrency: calls (or streams) under way at once.
        channels: channels they are spread over.
        seconds: how long.

    """

    target: str
    ca: str
    certificate: str
    private_key: str
    mode: str
    payloads: str
    first: int
    count: int
    key_id: str
    variant: str
    user_id: str
    user_role: str
    batch: int
    concurrency: int
    channels: int
    seconds: float


def requests(order: Order) -> Iterator[crypto_pb2.SignRequest]:
    """Prepared requests, each with an id of its own."""
    octets = Path(order.payloads).read_bytes()
    position = 0
    for index in range(order.first + order.count):
        length = int.from_bytes(octets[position : position + 4])
        if index >= order.first:
            yield crypto_pb2.SignRequest(
                request_id=f"bench-{os.getpid()}-{order.first}-{index}",
                key_id=order.key_id,
                gbcs_pre_command=octets[position + 4 : position + 4 + length],
                service_reference_variant=order.variant,
                user_id=order.user_id,
                user_role=order.user_role,
            )
        position += 4 + length


def calls(order: Order) -> list[bytes]:
    """Serialised messages: one per call."""
    if order.mode in {"unary", "empty"}:
        return [request.SerializeToString() for request in requests(order)]
    message = crypto_pb2.SignStreamRequest if order.mode == "stream" else crypto_pb2.SignBatchRequest
    items = list(requests(order))
    return [
        message(requests=items[start : start + order.batch]).SerializeToString()
        for start in range(0, len(items) - order.batch + 1, order.batch)
    ]


async def run(order: Order) -> dict[str, object]:
    """Send until time or messages run out."""
    messages = iter(calls(order))
    answers: list[bytes] = []
    errors: Counter[str] = Counter()
    waits: list[float] = []
    credentials = grpc.ssl_channel_credentials(
        Path(order.ca).read_bytes(),
        Path(order.private_key).read_bytes(),
        Path(order.certificate).read_bytes(),
    )
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
    channels = [
        grpc.aio.secure_channel(order.target, credentials, options=options) for _ in range(order.channels)
    ]
    await asyncio.gather(*(channel.channel_ready() for channel in channels))
    one = AsyncClient(
        Target(
            address=order.target,
            authorities=Path(order.ca).read_bytes(),
            certificate_chain=Path(order.certificate).read_bytes(),
            private_key=Path(order.private_key).read_bytes(),
        )
    )
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    began = time.monotonic()
    until = began + order.seconds
    busy_before = os.times()

    async def unary(worker: int) -> None:
        method = {"unary": "Sign", "empty": "Sign", "batch": "SignBatch"}[order.mode]
        call = channels[worker % len(channels)].unary_unary(SERVICE + method)
        for message in messages:
            sent = time.monotonic()
            if sent >= until:
                break
            try:
                answers.append(await call(message))
            except grpc.aio.AioRpcError as error:
                errors[f"{error.code().name}: {error.details()}"] += 1
            waits.append(time.monotonic() - sent)

    async def stream(worker: int) -> None:
        # little is under way at any time, so that the end is sharp; a frame back may answer several frames, or a part
        room = asyncio.Semaphore(FRAMES_UNDER_WAY * order.batch)

        async def frames() -> AsyncIterator[bytes]:
            for message in messages:
                for _ in range(order.batch):
                    await room.acquire()
                if time.monotonic() >= until:
                    return
                yield message

        call = channels[worker % len(channels)].stream_stream(SERVICE + "SignStream")(frames())
        try:
            async for answer in call:
                answers.append(answer)
                for _ in crypto_pb2.SignStreamResponse.FromString(answer).results:
                    room.release()
        except grpc.aio.AioRpcError as error:
            errors[f"{error.code().name}: {error.details()}"] += 1

    async def client(_worker: int) -> None:
        for message in messages:
            if time.monotonic() >= until:
                return
            batch = crypto_pb2.SignBatchRequest.FromString(message)
            for outcome in await one.sign_batch(batch.requests):
                if isinstance(outcome, crypto_pb2.SignResponse):
                    answers.append(outcome)
                else:
                    errors[str(outcome)] += 1

    work = {"stream": stream, "client": client}.get(order.mode, unary)
    await asyncio.gather(*(work(worker) for worker in range(order.concurrency)))
    seconds = time.monotonic() - began
    busy = os.times()
    signed = 0
    for answer in answers:
        signed += judged(order.mode, answer, errors)
    for channel in channels:
        await channel.close()
    waits.sort()
    return {
        "signed": signed,
        "seconds": seconds,
        "errors": dict(errors.most_common(5)),
        "cpu_seconds": busy.user + busy.system - busy_before.user - busy_before.system,
        "p50_ms": 1e3 * waits[len(waits) // 2] if waits else None,
        "p99_ms": 1e3 * waits[len(waits) * 99 // 100] if waits else None,
        "ran_out": next(messages, None) is None,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def judged(mode: str, answer: bytes | crypto_pb2.SignResponse, errors: Counter[str]) -> int:
    """How many signatures an answer carries; refusals are counted by their message."""
    if mode == "empty":
        return 1
    if mode == "client":
        return 1 if len(answer.signature) == 64 else 0
    if mode == "unary":
        response = crypto_pb2.SignResponse.FromString(answer)
        return 1 if len(response.signature) == 64 else 0
    message = crypto_pb2.SignStreamResponse if mode == "stream" else crypto_pb2.SignBatchResponse
    signed = 0
    for result in message.FromString(answer).results:
        if result.HasField("signed"):
            signed += 1
        else:
            errors[result.error.message] += 1
    return signed


def main() -> None:
    """Read the order, run it, print the result."""
    order = Order(**json.loads(sys.stdin.readline()))
    print(json.dumps(asyncio.run(run(order)) | {"order": asdict(order)["mode"]}), flush=True)


if __name__ == "__main__":
    main()
