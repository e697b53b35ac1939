"""`Client`: the service's calls for threads. `cryptosvc.client.asynchronous` has the same for asyncio.

Errors are the classes of `cryptosvc.client.errors`. Items of a batch or stream fail one by one, as values.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Self, TypeVar

import grpc
from google.protobuf.message import Message

from cryptosvc.client import channels, messages
from cryptosvc.client.errors import CallError, from_call
from cryptosvc.client.messages import Batch, Method, Outcome, request
from cryptosvc.client.retries import Retries
from cryptosvc.pb.v1 import audit_pb2, crypto_pb2, keys_pb2

__all__ = ["Client", "Outcome", "request"]

_Q = TypeVar("_Q", bound=Message)
_A = TypeVar("_A", bound=Message)

DEFAULT_SECONDS = 30.0


class Client:
    """A caller with a pool of connections; may be shared by threads, and is a context manager.

    Args:
        target: which service, and as whom.
        retries: how often a call that was not done is made again.
        seconds: time for a call, all attempts together.

    """

    def __init__(
        self, target: channels.Target, *, retries: Retries | None = None, seconds: float = DEFAULT_SECONDS
    ) -> None:
        self._pool = channels.blocking(target)
        self._retries = retries or Retries()
        self._seconds = seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection; calls under way end as Unreachable."""
        for channel in self._pool.channels:
            channel.close()

    def sign(self, question: crypto_pb2.SignRequest) -> crypto_pb2.SignResponse:
        """Sign one thing; raises CallError. Make the request with `request`."""
        return self.call(messages.SIGN, question)

    def apply_mac(self, question: crypto_pb2.SignRequest) -> crypto_pb2.SignResponse:
        """Give one Command its MAC; raises CallError. The answer's artefact is the finished Command."""
        return self.call(messages.APPLY_MAC, question)

    def apply_mac_batch(self, requests: Sequence[crypto_pb2.SignRequest]) -> list[Outcome]:
        """Give many Commands their MACs, as `sign_batch`."""
        return self._batch(messages.APPLY_MAC_BATCH, requests)

    def sign_batch(self, requests: Sequence[crypto_pb2.SignRequest]) -> list[Outcome]:
        """Sign many; one outcome per request, in order. Raises CallError where the batch as a whole failed."""
        return self._batch(messages.SIGN_BATCH, requests)

    def _batch(
        self,
        method: messages.Method[crypto_pb2.SignBatchRequest, crypto_pb2.SignBatchResponse],
        requests: Sequence[crypto_pb2.SignRequest],
    ) -> list[Outcome]:
        deadline = time.monotonic() + self._seconds
        batch = Batch(requests)
        attempt = 1
        while (again := batch.take(self.call(method, batch.question()))) is not None:
            wait = self._retries.wait(again, attempt, deadline - time.monotonic())
            if wait is None:
                break
            time.sleep(wait)
            attempt += 1
        return batch.outcomes()

    def sign_stream(
        self,
        requests: Iterable[crypto_pb2.SignRequest],
        *,
        frame_items: int = 64,
        seconds: float | None = None,
    ) -> Iterator[Outcome]:
        """Sign as many as come; outcomes in order, while later requests are still being sent.

        Args:
            requests: taken as the service takes them, from another thread.
            frame_items: how many travel together; 1 where `requests` waits for the world between them.
            seconds: time for the whole stream; None for no end.

        """
        return self._stream(messages.SIGN_STREAM.path, requests, frame_items, seconds)

    def _stream(
        self,
        path: str,
        requests: Iterable[crypto_pb2.SignRequest],
        frame_items: int,
        seconds: float | None,
    ) -> Iterator[Outcome]:
        with self._pool.pick() as channel:
            call = channel.stream_stream(path, None, crypto_pb2.SignStreamResponse.FromString)(
                messages.frames(requests, frame_items), timeout=seconds
            )
            try:
                for frame in call:
                    for result in frame.results:
                        yield messages.outcome(result)
            except grpc.RpcError as error:
                raise from_call(error) from None
            finally:
                call.cancel()  # type: ignore[no-untyped-call]  # untyped in the library

    def apply_mac_stream(
        self,
        requests: Iterable[crypto_pb2.SignRequest],
        *,
        frame_items: int = 64,
        seconds: float | None = None,
    ) -> Iterator[Outcome]:
        """Give as many Commands as come their MACs, as `sign_stream`."""
        return self._stream(messages.APPLY_MAC_STREAM.path, requests, frame_items, seconds)

    def verify_mac(self, question: crypto_pb2.SignRequest) -> crypto_pb2.SignResponse:
        """Verify the MAC of a Response or Alert; raises CallError, NotPermitted where it does not. The artefact is inside."""
        return self.call(messages.VERIFY_MAC, question)

    def verify_mac_batch(self, requests: Sequence[crypto_pb2.SignRequest]) -> list[Outcome]:
        """Verify many, as `sign_batch`."""
        return self._batch(messages.VERIFY_MAC_BATCH, requests)

    def verify_mac_stream(
        self,
        requests: Iterable[crypto_pb2.SignRequest],
        *,
        frame_items: int = 64,
        seconds: float | None = None,
    ) -> Iterator[Outcome]:
        """Verify many, as `sign_stream`."""
        return self._stream(messages.VERIFY_MAC_STREAM.path, requests, frame_items, seconds)

    def decrypt(self, question: crypto_pb2.SignRequest) -> crypto_pb2.SignResponse:
        """Decrypt the encrypted attributes of a Response; raises CallError. The answer has `plaintexts`."""
        return self.call(messages.DECRYPT, question)

    def decrypt_batch(self, requests: Sequence[crypto_pb2.SignRequest]) -> list[Outcome]:
        """Decrypt many, as `sign_batch`."""
        return self._batch(messages.DECRYPT_BATCH, requests)

    def decrypt_stream(
        self,
        requests: Iterable[crypto_pb2.SignRequest],
        *,
        frame_items: int = 64,
        seconds: float | None = None,
    ) -> Iterator[Outcome]:
        """Decrypt many, as `sign_stream`."""
        return self._stream(messages.DECRYPT_STREAM.path, requests, frame_items, seconds)

    def encrypt(self, question: crypto_pb2.SignRequest) -> crypto_pb2.SignResponse:
        """Encrypt a request to a SMETS1 Device; raises CallError. The answer's artefact is the APDU for the Device."""
        return self.call(messages.ENCRYPT, question)

    def encrypt_batch(self, requests: Sequence[crypto_pb2.SignRequest]) -> list[Outcome]:
        """The same for many, as `sign_batch`."""
        return self._batch(messages.ENCRYPT_BATCH, requests)

    def encrypt_stream(
        self,
        requests: Iterable[crypto_pb2.SignRequest],
        *,
        frame_items: int = 64,
        seconds: float | None = None,
    ) -> Iterator[Outcome]:
        """The same for as many as come, as `sign_stream`."""
        return self._stream(messages.ENCRYPT_STREAM.path, requests, frame_items, seconds)

    def wrap_key(self, question: crypto_pb2.SignRequest) -> crypto_pb2.SignResponse:
        """Wrap a SMETS1 Device's new key under its master key; raises CallError. The answer's artefact is the wrapped key."""
        return self.call(messages.WRAP_KEY, question)

    def wrap_key_batch(self, requests: Sequence[crypto_pb2.SignRequest]) -> list[Outcome]:
        """The same for many, as `sign_batch`."""
        return self._batch(messages.WRAP_KEY_BATCH, requests)

    def wrap_key_stream(
        self,
        requests: Iterable[crypto_pb2.SignRequest],
        *,
        frame_items: int = 64,
        seconds: float | None = None,
    ) -> Iterator[Outcome]:
        """The same for as many as come, as `sign_stream`."""
        return self._stream(messages.WRAP_KEY_STREAM.path, requests, frame_items, seconds)

    def explain(self, question: crypto_pb2.SignRequest) -> crypto_pb2.ExplainResponse:
        """Ask whether `sign` would go through, and why not."""
        return self.call(messages.EXPLAIN, question)

    def list_keys(self) -> list[keys_pb2.Key]:
        """Every key this caller may ask something of, sorted by key id."""
        found: list[keys_pb2.Key] = []
        token = ""
        while True:
            page = self.call(messages.LIST_KEYS, keys_pb2.ListKeysRequest(page_token=token))
            found.extend(page.keys)
            token = page.next_page_token
            if not token:
                return found

    def get_key(self, key_id: str) -> keys_pb2.Key:
        """One of them; NotPermitted where it is none of them."""
        return self.call(messages.GET_KEY, keys_pb2.GetKeyRequest(key_id=key_id))

    def get_checkpoint(self) -> bytes:
        """The newest signed checkpoint, a C2SP note."""
        return self.call(messages.GET_CHECKPOINT, audit_pb2.GetCheckpointRequest()).note

    def get_entry(self, leaf_index: int) -> audit_pb2.Entry:
        """One log entry."""
        return self.call(messages.GET_ENTRY, audit_pb2.GetEntryRequest(leaf_index=leaf_index))

    def prove_inclusion(self, leaf_index: int, tree_size: int) -> audit_pb2.InclusionProof:
        """Prove that an entry is in the tree of a checkpoint's size."""
        question = audit_pb2.ProveInclusionRequest(leaf_index=leaf_index, tree_size=tree_size)
        return self.call(messages.PROVE_INCLUSION, question)

    def prove_consistency(self, first_size: int, second_size: int) -> audit_pb2.ConsistencyProof:
        """Prove that the tree of one checkpoint is the start of another's."""
        question = audit_pb2.ProveConsistencyRequest(first_size=first_size, second_size=second_size)
        return self.call(messages.PROVE_CONSISTENCY, question)

    def query(
        self, question: audit_pb2.QueryRequest, *, seconds: float | None = None
    ) -> Iterator[audit_pb2.QueryPage]:
        """Query the log; pages as they come. Make the question with `messages.query`.

        Where a stream breaks off, ask again with the cursor of the last page.

        Args:
            question: what to find.
            seconds: time for the whole stream; None for no end.

        """
        with self._pool.pick() as channel:
            call = channel.unary_stream(messages.QUERY.path, None, audit_pb2.QueryPage.FromString)(
                question.SerializeToString(), timeout=seconds
            )
            try:
                yield from call
            except grpc.RpcError as error:
                raise from_call(error) from None
            finally:
                call.cancel()  # type: ignore[no-untyped-call]  # untyped in the library

    def call(self, method: Method[_Q, _A], question: _Q) -> _A:
        """Make one unary call; raises CallError. What was not done is asked again, as `retries` says."""
        octets = question.SerializeToString()
        deadline = time.monotonic() + self._seconds
        attempt = 1
        while True:
            try:
                with self._pool.pick() as channel:
                    left = deadline - time.monotonic()
                    answer: bytes = channel.unary_unary(method.path, None, None)(octets, timeout=left)
                return method.answer.FromString(answer)
            except grpc.RpcError as error:
                typed: CallError = from_call(error)
            wait = self._retries.wait(typed, attempt, deadline - time.monotonic())
            if wait is None:
                raise typed
            time.sleep(wait)
            attempt += 1
