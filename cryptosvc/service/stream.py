"""One SignStream call: requests are read, walked and answered at the same time; answers keep their order.

What is read and not yet answered is bounded, so a caller that sends faster than the service signs, or reads slower,
is held back by HTTP/2 flow control. Answers that are ready together leave in one frame.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Sequence

import grpc

from cryptosvc.core.case import Principal, Request
from cryptosvc.core.errors import CryptosvcError, Malformed, Refusal, Unidentified
from cryptosvc.core.names import Operation
from cryptosvc.flow.sign import NotSigned, Signed
from cryptosvc.pb.v1 import crypto_pb2
from cryptosvc.service import convert, status
from cryptosvc.service.handlers import Context, Desk
from cryptosvc.service.limits import MEBIBYTE
from cryptosvc.service.results import Answer, fill, outcome
from cryptosvc.service.walks import Walks

_END: object = vars(grpc.aio)["EOF"]
"""What reading gives at the end of the caller's frames; the stub package does not know it."""

_FRAME_OCTETS = MEBIBYTE
"""A frame back is closed once it holds this much."""


class SigningStream:
    """One call.

    Args:
        desk: limits, metrics, and where refusals are recorded.
        walks: the way to the signer.
        principal: who asks, as of the beginning.
        context: the call.
        operation: that of the method.

    """

    def __init__(
        self, desk: Desk, walks: Walks, principal: Principal, context: Context, operation: Operation
    ) -> None:
        self._operation = operation
        self._desk = desk
        self._walks = walks
        self._principal = principal
        self._context = context
        self._lane: deque[tuple[str, Answer | asyncio.Future[Signed | NotSigned]]] = deque()
        self._changed = asyncio.Event()
        self._taken = asyncio.Event()
        self._read_all = False

    async def run(self) -> None:
        """Read and answer until the caller has no more; raises what ends the call."""
        reading = asyncio.ensure_future(self._read())
        try:
            while await self._something():
                await self._write()
            await reading
        finally:
            reading.cancel()
            for _, answer in self._lane:
                if isinstance(answer, asyncio.Future):
                    answer.cancel()

    async def _read(self) -> None:
        try:
            while (frame := await self._context.read()) is not _END:
                await self._identify()
                await self._take(frame)
                await self._space()
        finally:
            self._read_all = True
            self._changed.set()

    async def _identify(self) -> None:
        """Ask the registry again who calls: a stream may outlast its caller's record, and ends where it is revoked.

        Where the registry does not answer, each item is told so; no claim is made under a record that moved.
        """
        try:
            self._principal = await self._desk.identify(self._context, self._operation)
        except Unidentified:
            raise
        except CryptosvcError:
            return

    async def _take(self, frame: bytes) -> None:
        try:
            messages = self._messages(frame)
        except Malformed as error:
            raise await self._desk.refused(self._principal, self._operation, error) from None
        octets = self._desk.limits.payload_octets
        for message in messages:
            await self._space()
            try:
                request = convert.request(message, octets, self._operation)
            except Refusal as error:
                (described,) = await self._desk.refuse(self._principal, self._operation, [error])
                self._lane.append((message.request_id, described))
            else:
                self._lane.append((request.request_id, await self._started(request)))
        self._changed.set()

    def _messages(self, frame: bytes) -> Sequence[crypto_pb2.SignRequest]:
        most = self._desk.limits.stream_items
        if convert.count_items(frame, most) > most:
            raise Malformed(
                f"a frame has at most {most} requests", rule="request/batch-size", field="requests"
            )
        return convert.parsed(crypto_pb2.SignStreamRequest, frame).requests

    async def _space(self) -> None:
        """Wait while as much is read and not answered as may be."""
        while len(self._lane) >= self._desk.limits.stream_items:
            self._changed.set()
            await self._taken.wait()
            self._taken.clear()

    async def _started(self, request: Request) -> "asyncio.Future[Signed | NotSigned]":
        """Give a request to the corridor; a stream waits for room where a unary call is refused."""
        await self._walks.room()
        return self._walks.one(self._principal, request, self._desk.seconds_left(self._context))

    async def _something(self) -> bool:
        """Wait until the oldest request has its answer; False where there is nothing left to wait for."""
        while not self._lane:
            if self._read_all:
                return False
            self._changed.clear()
            await self._changed.wait()
        _, oldest = self._lane[0]
        if isinstance(oldest, asyncio.Future) and not oldest.done():
            await asyncio.wait((oldest,))
        return True

    async def _write(self) -> None:
        """Send every answer that is ready, oldest first, up to one frame."""
        response = crypto_pb2.SignStreamResponse()
        octets = 0
        outcomes: Counter[str] = Counter()
        while self._lane and octets < _FRAME_OCTETS:
            request_id, answer = self._lane[0]
            if isinstance(answer, asyncio.Future):
                if not answer.done():
                    break
                answer = _answer(answer)
            self._lane.popleft()
            fill(response.results.add(request_id=request_id), answer)
            outcomes[outcome(answer)] += 1
            octets += len(answer.checked.artefact) if isinstance(answer, Signed) else MEBIBYTE // 1024
        self._taken.set()
        for word, number in outcomes.items():
            self._desk.metrics.items(word, number)
        await self._context.write(response.SerializeToString())


def _answer(answer: "asyncio.Future[Signed | NotSigned]") -> Answer:
    try:
        return answer.result()
    except CryptosvcError as error:
        return status.status(error)
