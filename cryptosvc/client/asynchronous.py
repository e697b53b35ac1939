"""`AsyncClient`: the service's calls for asyncio; the same names and errors as `cryptosvc.client.calls.Client`."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from types import TracebackType
from typing import Self, TypeVar

import grpc
from google.protobuf.message import Message

from cryptosvc.client import channels, messages
from cryptosvc.client.calls import DEFAULT_SECONDS
from cryptosvc.client.errors import CallError, from_call
from cryptosvc.client.messages import Batch, Method, Outcome, request
from cryptosvc.client.retries import Retries
from cryptosvc.pb.v1 import audit_pb2, crypto_pb2, keys_pb2

__all__ = ["AsyncClient", "Outcome", "request"]

_Q = TypeVar("_Q", bound=Message)
_A = TypeVar("_A", bound=Message)


class AsyncClient:
    """A caller with a pool of connections on one event loop; an async context manager.

    Args:
        target: which service, and as whom.
        retries: how often a call that was not done is made again.
        seconds: time for a call, all attempts together.

    """

    def __init__(
        self, target: channels.Target, *, retries: Retries | None = None, seconds: float = DEFAULT_SECONDS
    ) -> None:
        self._pool = channels.asynchronous(target)
        self._retries = retries or Retries()
        self._seconds = seconds

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection; calls under way end as Unreachable."""
        await asyncio.gather(*(channel.close(None) for channel in self._pool.channels))

    async def sign(self, question: crypto_pb2.SignRequest) -> crypto_pb2.SignResponse:
        """Sign one thing; raises CallError. Make the request with `request`."""
        return await self.call(messages.SIGN, question)

    async def apply_mac(self, question: crypto_pb2.SignRequest) -> crypto_pb2.SignResponse:
        """Give one Command its MAC; raises CallError. The answer's artefact is the finished Command."""
        return await self.call(messages.APPLY_MAC, question)

    async def apply_mac_batch(self, requests: Sequence[crypto_pb2.SignRequest]) -> list[Outcome]:
        """Give many Commands their MACs, as `sign_batch`."""
        return await self._batch(messages.APPLY_MAC_BATCH, requests)

    async def sign_batch(self, requests: Sequence[crypto_pb2.SignRequest]) -> list[Outcome]:
        """Sign many; one outcome per request, in order. Raises CallError where the batch as a whole failed."""
        return await self._batch(messages.SIGN_BATCH, requests)

    async def _batch(
        self,
        method: messages.Method[crypto_pb2.SignBatchRequest, crypto_pb2.SignBatchResponse],
        requests: Sequence[crypto_pb2.SignRequest],
    ) -> list[Outcome]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._seconds
        batch = Batch(requests)
        attempt = 1
        while (again := batch.take(await self.call(method, batch.question()))) is not None:
            wait = self._retries.wait(again, attempt, deadline - loop.time())
            if wait is None:
                break
            await asyncio.sleep(wait)
            attempt += 1
        return batch.outcomes()

    def sign_stream(
        self,
        requests: Iterable[crypto_pb2.SignRequest] | AsyncIterable[crypto_pb2.SignRequest],
        *,
        frame_items: int = 64,
        seconds: float | None = None,
    ) -> AsyncIterator[Outcome]:
        """Sign as many as come; outcomes in order, while later requests are still being sent.

        Args:
            requests: taken as the service takes them. Those of an async iterable that are there together travel
                together; none waits for company.
            frame_items: most that travel together.
            seconds: time for the whole stream; None for no end.

        """
        return self._stream(messages.SIGN_STREAM.path, requests, frame_items, seconds)

    def apply_mac_stream(
        self,
        requests: Iterable[crypto_pb2.SignRequest] | AsyncIterable[crypto_pb2.SignRequest],
        *,
        frame_items: int = 64,
        seconds: float | None = None,
    ) -> AsyncIterator[Outcome]:
        """Give as many Commands as come their MACs, as `sign_stream`."""
        return self._stream(messages.APPLY_MAC_STREAM.path, requests, frame_items, seconds)

    async def _stream(
        self,
        path: str,
        requests: Iterable[crypto_pb2.SignRequest] | AsyncIterable[crypto_pb2.SignRequest],
        frame_items: int,
        seconds: float | None,
    ) -> AsyncIterator[Outcome]:
        if isinstance(requests, AsyncIterable):
            frames: AsyncIterator[bytes] = _gathered(requests, frame_items)
        else:
            frames = _asynchronous(messages.frames(requests, frame_items))
        with self._pool.pick() as channel:
            call = channel.stream_stream(path, None, crypto_pb2.SignStreamResponse.FromString)(
                frames, timeout=seconds
            )
            try:
                async for frame in call:
                    for result in frame.results:
                        yield messages.outcome(result)
            except grpc.aio.AioRpcError as error:
                raise from_call(error) from None
            finally:
                call.cancel()

    async def verify_mac(self, question: crypto_pb2.SignRequest) -> crypto_pb2.SignResponse:
        """Verify the MAC of a Response or Alert; raises CallError, NotPermitted where it does not. The artefact is inside."""
        return await self.call(messages.VERIFY_MAC, question)

    async def verify_mac_batch(self, requests: Sequence[crypto_pb2.SignRequest]) -> list[Outcome]:
        """Verify many, as `sign_batch`."""
        return await self._batch(messages.VERIFY_MAC_BATCH, requests)

    def verify_mac_stream(
        self,
        requests: Iterable[crypto_pb2.SignRequest] | AsyncIterable[crypto_pb2.SignRequest],
        *,
        frame_items: int = 64,
        seconds: float | None = None,
    ) -> AsyncIterator[Outcome]:
        """Verify many, as `sign_stream`."""
        return self._stream(messages.VERIFY_MAC_STREAM.path, requests, frame_items, seconds)

    async def decrypt(self, question: crypto_pb2.SignRequest) -> crypto_pb2.SignResponse:
        """Decrypt the encrypted attributes of a Response; raises CallError. The answer has `plaintexts`."""
        return await self.call(messages.DECRYPT, question)

    async def decrypt_batch(self, requests: Sequence[crypto_pb2.SignRequest]) -> list[Outcome]:
        """Decrypt many, as `sign_batch`."""
        return await self._batch(messages.DECRYPT_BATCH, requests)

    def decrypt_stream(
        self,
        requests: Iterable[crypto_pb2.SignRequest] | AsyncIterable[crypto_pb2.SignRequest],
        *,
        frame_items: int = 64,
        seconds: float | None = None,
    ) -> AsyncIterator[Outcome]:
        """Decrypt many, as `sign_stream`."""
        return self._stream(messages.DECRYPT_STREAM.path, requests, frame_items, seconds)

    async def encrypt(self, question: crypto_pb2.SignRequest) -> crypto_pb2.SignResponse:
        """Encrypt a request to a SMETS1 Device; raises CallError. The answer's artefact is the APDU for the Device."""
        return await self.call(messages.ENCRYPT, question)

    async def encrypt_batch(self, requests: Sequence[crypto_pb2.SignRequest]) -> list[Outcome]:
        """The same for many, as `sign_batch`."""
        return await self._batch(messages.ENCRYPT_BATCH, requests)

    def encrypt_stream(
        self,
        requests: Iterable[crypto_pb2.SignRequest] | AsyncIterable[crypto_pb2.SignRequest],
        *,
        frame_items: int = 64,
        seconds: float | None = None,
    ) -> AsyncIterator[Outcome]:
        """The same for as many as come, as `sign_stream`."""
        return self._stream(messages.ENCRYPT_STREAM.path, requests, frame_items, seconds)

    async def wrap_key(self, question: crypto_pb2.SignRequest) -> crypto_pb2.SignResponse:
        """Wrap a SMETS1 Device's new key under its master key; raises CallError. The answer's artefact is the wrapped key."""
        return await self.call(messages.WRAP_KEY, question)

    async def wrap_key_batch(self, requests: Sequence[crypto_pb2.SignRequest]) -> list[Outcome]:
        """The same for many, as `sign_batch`."""
        return await self._batch(messages.WRAP_KEY_BATCH, requests)

    def wrap_key_stream(
        self,
        requests: Iterable[crypto_pb2.SignRequest] | AsyncIterable[crypto_pb2.SignRequest],
        *,
        frame_items: int = 64,
        seconds: float | None = None,
    ) -> AsyncIterator[Outcome]:
        """The same for as many as come, as `sign_stream`."""
        return self._stream(messages.WRAP_KEY_STREAM.path, requests, frame_items, seconds)

    async def explain(self, question: crypto_pb2.SignRequest) -> crypto_pb2.ExplainResponse:
        """Ask whether `sign` would go through, and why not."""
        return await self.call(messages.EXPLAIN, question)

    async def list_keys(self) -> list[keys_pb2.Key]:
        """Every key this caller may ask something of, sorted by key id."""
        found: list[keys_pb2.Key] = []
        token = ""
        while True:
            page = await self.call(messages.LIST_KEYS, keys_pb2.ListKeysRequest(page_token=token))
            found.extend(page.keys)
            token = page.next_page_token
            if not token:
                return found

    async def get_key(self, key_id: str) -> keys_pb2.Key:
        """One of them; NotPermitted where it is none of them."""
        return await self.call(messages.GET_KEY, keys_pb2.GetKeyRequest(key_id=key_id))

    async def get_checkpoint(self) -> bytes:
        """The newest signed checkpoint, a C2SP note."""
        return (await self.call(messages.GET_CHECKPOINT, audit_pb2.GetCheckpointRequest())).note

    async def get_entry(self, leaf_index: int) -> audit_pb2.Entry:
        """One log entry."""
        return await self.call(messages.GET_ENTRY, audit_pb2.GetEntryRequest(leaf_index=leaf_index))

    async def prove_inclusion(self, leaf_index: int, tree_size: int) -> audit_pb2.InclusionProof:
        """Prove that an entry is in the tree of a checkpoint's size."""
        question = audit_pb2.ProveInclusionRequest(leaf_index=leaf_index, tree_size=tree_size)
        return await self.call(messages.PROVE_INCLUSION, question)

    async def prove_consistency(self, first_size: int, second_size: int) -> audit_pb2.ConsistencyProof:
        """Prove that the tree of one checkpoint is the start of another's."""
        question = audit_pb2.ProveConsistencyRequest(first_size=first_size, second_size=second_size)
        return await self.call(messages.PROVE_CONSISTENCY, question)

    async def query(
        self, question: audit_pb2.QueryRequest, *, seconds: float | None = None
    ) -> AsyncIterator[audit_pb2.QueryPage]:
        """Query the log; as in `Client`."""
        with self._pool.pick() as channel:
            call = channel.unary_stream(messages.QUERY.path, None, audit_pb2.QueryPage.FromString)(
                question.SerializeToString(), timeout=seconds
            )
            try:
                async for page in call:
                    yield page
            except grpc.aio.AioRpcError as error:
                raise from_call(error) from None
            finally:
                call.cancel()

    async def call(self, method: Method[_Q, _A], question: _Q) -> _A:
        """Make one unary call; raises CallError. What was not done is asked again, as `retries` says."""
        loop = asyncio.get_running_loop()
        octets = question.SerializeToString()
        deadline = loop.time() + self._seconds
        attempt = 1
        while True:
            try:
                with self._pool.pick() as channel:
                    left = deadline - loop.time()
                    answer: bytes = await channel.unary_unary(method.path, None, None)(octets, timeout=left)
                return method.answer.FromString(answer)
            except grpc.aio.AioRpcError as error:
                typed: CallError = from_call(error)
            wait = self._retries.wait(typed, attempt, deadline - loop.time())
            if wait is None:
                raise typed
            await asyncio.sleep(wait)
            attempt += 1


async def _asynchronous(frames: Iterable[bytes]) -> AsyncIterator[bytes]:
    for frame in frames:
        yield frame


async def _gathered(requests: AsyncIterable[crypto_pb2.SignRequest], items: int) -> AsyncIterator[bytes]:
    """Cut requests into frames of whatever is there, at most `items`."""
    queue: asyncio.Queue[crypto_pb2.SignRequest | None] = asyncio.Queue()
    room = asyncio.Semaphore(2 * items)

    async def feed() -> None:
        async for one in requests:
            await room.acquire()
            queue.put_nowait(one)

    def take(one: crypto_pb2.SignRequest | None) -> crypto_pb2.SignRequest | None:
        room.release()
        return one

    feeding = asyncio.ensure_future(feed())
    # said by what always runs, and never waits: a feed that is cancelled while nobody reads ends all the same
    feeding.add_done_callback(lambda _: queue.put_nowait(None))
    try:
        more = True
        while more:
            found = [take(await queue.get())]
            while len(found) < items and not queue.empty():
                found.append(take(queue.get_nowait()))
            more = found[-1] is not None
            frame = crypto_pb2.SignStreamRequest(requests=[one for one in found if one is not None])
            if frame.requests:
                yield frame.SerializeToString()
        await feeding
    finally:
        feeding.cancel()
