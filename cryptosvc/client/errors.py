"""What a call can end with, typed by who must act; each names the rule, the clause and the policies that decided.

`Unreachable` and `TimedOut` are the two the service did not say: whether the call was done is not known. A request id
is never signed twice, so asking again under the same one is safe, and `Repeated` then tells what became of it.
"""

from collections.abc import Iterable, Mapping
from typing import Final, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from cryptosvc.pb.v1 import types_pb2

_DETAILS_KEY: Final = "grpc-status-details-bin"
_NANOSECONDS = 1e9


class CallError(Exception):
    """Base of all.

    Args:
        message: the service's sentence.
        code: gRPC status.
        rule: stable name of the rule, empty where the service did not answer.
        clause: clause of the Smart Energy Code, empty where none applies.
        policies: ids of the policies that decided.
        field: the request field at fault, empty where no one field is.
        receipt: the record of the refusal, None where there is none.
        retry_after_seconds: what the service asks to wait; 0.0 where it says nothing.
        first_use: for a repeated request id, what became of the first request.

    """

    def __init__(
        self,
        message: str,
        code: grpc.StatusCode,
        *,
        rule: str = "",
        clause: str = "",
        policies: tuple[str, ...] = (),
        field: str = "",
        receipt: types_pb2.Receipt | None = None,
        retry_after_seconds: float = 0.0,
        first_use: types_pb2.FirstUse | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.rule = rule
        self.clause = clause
        self.policies = policies
        self.field = field
        self.receipt = receipt
        self.retry_after_seconds = retry_after_seconds
        self.first_use = first_use

    def __str__(self) -> str:
        where = ", ".join(part for part in (self.rule, self.clause, *self.policies) if part)
        return f"{self.message} [{where}]" if where else self.message


class InvalidRequest(CallError):
    """The bytes are not what they are said to be, or the request is out of bounds: fix them."""


class Unidentified(CallError):
    """The client certificate belongs to no caller, or to a revoked one."""


class NotPermitted(CallError):
    """Final: the key is not for this, not for this caller, or not there."""


class AwaitingApproval(CallError):
    """Approvers must act."""


class WrongState(CallError):
    """A key custodian must act: the key's state does not allow this."""


class Conflict(CallError):
    """Something else took the place first: a counter, a serial number, a rising number."""


class Repeated(Conflict):
    """The request id was used before; `first_use` has the first receipt. It was not signed again."""


class Busy(CallError):
    """The service is full; nothing was done."""


class Unavailable(CallError):
    """Module, store or log is out of reach; it is known that nothing was done."""


class OutcomeUnknown(CallError):
    """A key may have been used and the answer is lost. Do not repeat it by yourself."""


class Corrupt(CallError):
    """The service found its records not to be what the log proves, and has stopped."""


class Fault(CallError):
    """A fault of the service."""


class Unreachable(CallError):
    """The connection failed; whether the call was done is not known."""


class TimedOut(CallError):
    """The call's time ran out; whether it was done is not known."""


_BY_REASON: Mapping[str, type[CallError]] = {
    "MALFORMED": InvalidRequest,
    "UNIDENTIFIED": Unidentified,
    "FORBIDDEN": NotPermitted,
    "AWAITING_APPROVAL": AwaitingApproval,
    "WRONG_STATE": WrongState,
    "CONFLICT": Conflict,
    "BUSY": Busy,
    "UNAVAILABLE": Unavailable,
    "OUTCOME_UNKNOWN": OutcomeUnknown,
    "CORRUPT": Corrupt,
    "INTERNAL": Fault,
}

_BY_CODE: Mapping[grpc.StatusCode, type[CallError]] = {
    grpc.StatusCode.UNAVAILABLE: Unreachable,
    grpc.StatusCode.CANCELLED: Unreachable,
    grpc.StatusCode.DEADLINE_EXCEEDED: TimedOut,
    grpc.StatusCode.RESOURCE_EXHAUSTED: InvalidRequest,
}
"""Without details it was not the service that spoke but gRPC. CANCELLED is then a call that met a server about to stop,
or a channel being closed; RESOURCE_EXHAUSTED a message too long."""

_REASON_LOST = "Internal error from Core"
"""What asyncio's gRPC puts in the place of the service's status where a write fails after it came (grpc issue 36066)."""

_CODES: Mapping[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def from_call(error: grpc.RpcError) -> CallError:
    """Type what a gRPC call raised, blocking or asyncio."""
    if not isinstance(error, grpc.Call | grpc.aio.AioRpcError):
        return Fault(str(error), grpc.StatusCode.UNKNOWN)
    # The stub package's metadata types are not those of grpc 1.85, where both are pairs.
    pairs = cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ())
    for key, value in pairs:
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                return from_status(Status.FromString(value))
            except DecodeError:
                break
    if error.details() == _REASON_LOST:
        return Unreachable(
            "the stream was ended while a request was written, and gRPC lost the reason", error.code()
        )
    return _BY_CODE.get(error.code(), Fault)(error.details() or "", error.code())


def from_status(status: Status) -> CallError:
    """Type a google.rpc.Status: an item of a batch or stream, the details of a call."""
    info, bad, retry = ErrorInfo(), BadRequest(), RetryInfo()
    receipt, first_use = types_pb2.Receipt(), types_pb2.FirstUse()
    found = {
        message.DESCRIPTOR.full_name
        for detail in status.details
        for message in (info, bad, retry, receipt, first_use)
        if detail.Unpack(message)
    }
    repeated = "cryptosvc.v1.FirstUse" in found
    kind = Repeated if repeated else _BY_REASON.get(info.reason, Fault)
    policies: str = info.metadata.get("policies", "")
    delay = retry.retry_delay
    return kind(
        status.message,
        _CODES.get(status.code, grpc.StatusCode.UNKNOWN),
        rule=info.metadata.get("rule", ""),
        clause=info.metadata.get("clause", ""),
        policies=tuple(policies.split(",")) if policies else (),
        field=bad.field_violations[0].field if bad.field_violations else "",
        receipt=receipt if "cryptosvc.v1.Receipt" in found else None,
        retry_after_seconds=delay.seconds + delay.nanos / _NANOSECONDS,
        first_use=first_use if repeated else None,
    )
