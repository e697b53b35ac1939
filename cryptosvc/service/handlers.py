"""What every call goes through: identify, then convert → flow → convert, then the one map to statuses.

Handlers take and give bytes, so that decoding stands under the same rules as everything else: first who asks, then
what.
"""

import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from typing import NoReturn, TypeAlias

import grpc
import structlog
from google.rpc.status_pb2 import Status

from cryptosvc.core.case import Principal
from cryptosvc.core.errors import Busy, CryptosvcError, Refusal
from cryptosvc.core.names import Operation
from cryptosvc.service import identity, status
from cryptosvc.service.application import Application
from cryptosvc.service.limits import Limits
from cryptosvc.service.metrics import Metrics
from cryptosvc.service.tally import Event, Tally
from cryptosvc.service.tracing import Tracing

Handler: TypeAlias = "grpc.RpcMethodHandler[bytes, bytes]"
Context = grpc.aio.ServicerContext[bytes, bytes]
Unary = Callable[[Principal, bytes, Context], Awaitable[bytes]]
Stream = Callable[[Principal, Context], Awaitable[None]]
Answering = Callable[[Principal, bytes, Context], Awaitable[None]]

_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}

_log = structlog.get_logger("cryptosvc.service")


class Answered(Exception):
    """A status to end the call with."""

    def __init__(self, described: Status) -> None:
        super().__init__(described.message)
        self.described = described


class Desk:
    """Receives calls.

    Args:
        application: the use cases.
        limits: bounds.
        metrics: counts.
        overload: records that calls were refused as Busy.
        tracing: None where it is not configured.

    """

    def __init__(
        self,
        application: Application,
        limits: Limits,
        metrics: Metrics,
        overload: Tally,
        tracing: Tracing | None,
    ) -> None:
        self.application = application
        self.limits = limits
        self.metrics = metrics
        self._overload = overload
        self._tracing = tracing

    def unary(self, method: str, operation: Operation, step: Unary) -> Handler:
        """Make a handler of a step that takes and gives one message."""

        async def handle(payload: bytes, context: Context) -> bytes:
            started = time.perf_counter()
            try:
                answer = await step(await self.identify(context, operation), payload, context)
            except Exception as error:  # noqa: BLE001 - the one map to statuses
                await self._abort(method, error, context, started)
            self.metrics.call(method, "OK", time.perf_counter() - started)
            return answer

        return grpc.unary_unary_rpc_method_handler(
            handle if self._tracing is None else self._traced_unary(method, handle)
        )

    def stream(self, method: str, operation: Operation, step: Stream) -> Handler:
        """Make a handler of a step that reads and writes frames itself."""

        async def handle(_frames: object, context: Context) -> None:
            started = time.perf_counter()
            try:
                await step(await self.identify(context, operation), context)
            except Exception as error:  # noqa: BLE001 - the one map to statuses
                await self._abort(method, error, context, started)
            self.metrics.call(method, "OK", time.perf_counter() - started)

        return grpc.stream_stream_rpc_method_handler(handle)

    def answering(self, method: str, operation: Operation, step: Answering) -> Handler:
        """Make a handler of a step that takes one message and writes frames itself."""

        async def handle(payload: bytes, context: Context) -> None:
            started = time.perf_counter()
            try:
                await step(await self.identify(context, operation), payload, context)
            except Exception as error:  # noqa: BLE001 - the one map to statuses
                await self._abort(method, error, context, started)
            self.metrics.call(method, "OK", time.perf_counter() - started)

        return grpc.unary_stream_rpc_method_handler(handle)

    def identify(self, context: Context, operation: Operation) -> Awaitable[Principal]:
        """Find out who calls, as the registry has it now; raises as `Admission.admit`."""
        digest = identity.certificate_sha256(context.auth_context())
        return self.application.admission.admit(digest, context.peer(), operation.value)

    async def refuse(
        self, principal: Principal, operation: Operation, errors: Sequence[Refusal]
    ) -> list[Status]:
        """Record refusals of what could not be read as a request, and describe them; in order."""
        receipts = await self.application.observer.refused(principal, operation.value, errors)
        return [status.status(error, receipt) for error, receipt in zip(errors, receipts, strict=True)]

    async def refused(self, principal: Principal, operation: Operation, error: Refusal) -> Answered:
        """Record one such refusal as the answer to the call."""
        (described,) = await self.refuse(principal, operation, [error])
        return Answered(described)

    def seconds_left(self, context: Context) -> float:
        """How long work for this call may wait to be started."""
        remaining: float | None = context.time_remaining()
        longest = self.limits.deadline_seconds
        return longest if remaining is None or remaining > longest else remaining

    async def _abort(self, method: str, error: Exception, context: Context, started: float) -> NoReturn:
        if isinstance(error, grpc.aio.AbortError):
            raise error
        if isinstance(error, Answered):
            described = error.described
        else:
            described = status.status(error)
            if isinstance(error, Busy):
                self._overload.add(Event(error.rule, context.peer()))
            elif not isinstance(error, Refusal):
                _report(method, error)
        code = _CODES[described.code]
        self.metrics.call(method, code.name, time.perf_counter() - started)
        await context.abort(code, described.message, status.trailing_metadata(described))
        raise AssertionError("abort returns to nobody")

    def _traced_unary(
        self, method: str, handle: Callable[[bytes, Context], Awaitable[bytes]]
    ) -> Callable[[bytes, Context], Awaitable[bytes]]:
        tracing = self._tracing
        assert tracing is not None

        async def traced(payload: bytes, context: Context) -> bytes:
            metadata = {
                key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)
            }
            with tracing.call(method, metadata):
                return await handle(payload, context)

        return traced


def _report(method: str, error: Exception) -> None:
    """Tell the operator; of a foreign exception only its type and place, since its text may hold what it was given."""
    if isinstance(error, CryptosvcError):
        _log.error(
            "call-failed", method=method, reason=error.reason.value, rule=error.rule, message=error.message
        )
    else:
        place = traceback.format_tb(error.__traceback__)
        _log.error("call-failed", method=method, exception=type(error).__name__, place=place[-8:])
