"""CryptoService: Sign, SignBatch, SignStream, the same for what is done under agreed keys, Explain.

ApplyMac, VerifyMac, Decrypt, Encrypt and WrapKey differ from Sign in what they take and in the operation a caller needs a grant for; the way
is one and the same.
"""

from collections import Counter
from collections.abc import Sequence
from functools import partial

from cryptosvc.core.case import Principal, Request
from cryptosvc.core.errors import Malformed, Refusal
from cryptosvc.core.names import Operation
from cryptosvc.flow.sign import NotSigned
from cryptosvc.pb.v1 import crypto_pb2
from cryptosvc.service import convert, status
from cryptosvc.service.handlers import Answered, Context, Desk, Handler
from cryptosvc.service.results import Answer, fill, outcome
from cryptosvc.service.stream import SigningStream
from cryptosvc.service.walks import Walks

SERVICE = "cryptosvc.v1.CryptoService"


class CryptoHandlers:
    """Answers CryptoService.

    Args:
        desk: what every call goes through.
        walks: the way to the signer.

    """

    def __init__(self, desk: Desk, walks: Walks) -> None:
        self._desk = desk
        self._walks = walks
        self._payload_octets = desk.limits.payload_octets

    def methods(self) -> dict[str, Handler]:
        """Handlers by method name."""
        return {
            **self._methods("Sign", Operation.SIGN),
            **self._methods("ApplyMac", Operation.MAC),
            **self._methods("VerifyMac", Operation.VERIFY),
            **self._methods("Decrypt", Operation.DECRYPT),
            **self._methods("Encrypt", Operation.ENCRYPT),
            **self._methods("WrapKey", Operation.WRAP),
            "Explain": self._desk.unary("Explain", Operation.EXPLAIN, self._explain),
        }

    def _methods(self, name: str, operation: Operation) -> dict[str, Handler]:
        """One, a batch and a stream of one operation."""
        return {
            name: self._desk.unary(name, operation, partial(self._one, operation)),
            f"{name}Batch": self._desk.unary(f"{name}Batch", operation, partial(self._batch, operation)),
            f"{name}Stream": self._desk.stream(f"{name}Stream", operation, partial(self._stream, operation)),
        }

    async def _one(
        self, operation: Operation, principal: Principal, payload: bytes, context: Context
    ) -> bytes:
        request = await self._request(principal, operation, payload)
        answer = await self._walks.one(principal, request, self._desk.seconds_left(context))
        if isinstance(answer, NotSigned):
            self._desk.metrics.items(outcome(answer))
            raise Answered(status.status(answer.error, answer.receipt))
        self._desk.metrics.items("signed")
        return convert.signed(answer.checked, answer.receipt).SerializeToString()

    async def _batch(
        self, operation: Operation, principal: Principal, payload: bytes, _context: Context
    ) -> bytes:
        try:
            messages = self._messages(payload)
        except Malformed as error:
            raise await self._desk.refused(principal, operation, error) from None
        requests, errors = self._requests(messages, operation)
        # Refusals first: once keys were used, nothing may stand between the answers and the caller.
        described = iter(
            await self._desk.refuse(principal, operation, list(errors.values())) if errors else ()
        )
        answers = iter(await self._walks.many(principal, requests) if requests else ())
        response = crypto_pb2.SignBatchResponse()
        outcomes: Counter[str] = Counter()
        for index, message in enumerate(messages):
            answer: Answer = next(described) if index in errors else next(answers)
            fill(response.results.add(request_id=message.request_id), answer)
            outcomes[outcome(answer)] += 1
        for word, number in outcomes.items():
            self._desk.metrics.items(word, number)
        return response.SerializeToString()

    async def _stream(self, operation: Operation, principal: Principal, context: Context) -> None:
        await SigningStream(self._desk, self._walks, principal, context, operation).run()

    async def _explain(self, principal: Principal, payload: bytes, _context: Context) -> bytes:
        request = await self._request(principal, Operation.EXPLAIN, payload)
        found = await self._desk.application.explainer.explain(principal, request)
        answer = convert.explained(found)
        if found.refusal is not None:
            answer.refusal.CopyFrom(status.status(found.refusal))
        return answer.SerializeToString()

    async def _request(self, principal: Principal, operation: Operation, payload: bytes) -> Request:
        try:
            message = convert.parsed(crypto_pb2.SignRequest, payload)
            return convert.request(message, self._payload_octets, operation)
        except Refusal as error:
            raise await self._desk.refused(principal, operation, error) from None

    def _messages(self, payload: bytes) -> Sequence[crypto_pb2.SignRequest]:
        most = self._desk.limits.batch_items
        if not 0 < convert.count_items(payload, most) <= most:
            raise Malformed(f"a batch has 1 to {most} requests", rule="request/batch-size", field="requests")
        return convert.parsed(crypto_pb2.SignBatchRequest, payload).requests

    def _requests(
        self, messages: Sequence[crypto_pb2.SignRequest], operation: Operation
    ) -> tuple[list[Request], dict[int, Refusal]]:
        requests: list[Request] = []
        errors: dict[int, Refusal] = {}
        for index, message in enumerate(messages):
            try:
                requests.append(convert.request(message, self._payload_octets, operation))
            except Refusal as error:
                errors[index] = error
        return requests, errors
