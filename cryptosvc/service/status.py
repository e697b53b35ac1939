"""The one map from errors to gRPC statuses, and the google.rpc details that go with them.

A `Reason` without a status does not type-check. What is not an error of ours becomes INTERNAL with a fixed text, so
that nothing about the inside leaks.
"""

from typing import assert_never

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from cryptosvc.core.errors import CryptosvcError, Reason, Repeated
from cryptosvc.core.record import Receipt
from cryptosvc.pb.v1 import types_pb2
from cryptosvc.service import convert

DOMAIN = "cryptosvc"
DETAILS_KEY = "grpc-status-details-bin"
"""Trailing metadata key under which gRPC carries a serialised google.rpc.Status."""

INTERNAL_TEXT = "an internal fault; the operator's log has it under this time"

_RETRY_AFTER_MILLISECONDS = {Reason.BUSY: 100, Reason.UNAVAILABLE: 1000}


def code(reason: Reason) -> grpc.StatusCode:
    """Name the gRPC status of a reason."""
    match reason:
        case Reason.MALFORMED:
            return grpc.StatusCode.INVALID_ARGUMENT
        case Reason.UNIDENTIFIED:
            return grpc.StatusCode.UNAUTHENTICATED
        case Reason.FORBIDDEN:
            return grpc.StatusCode.PERMISSION_DENIED
        case Reason.AWAITING_APPROVAL | Reason.WRONG_STATE:
            return grpc.StatusCode.FAILED_PRECONDITION
        case Reason.CONFLICT:
            return grpc.StatusCode.ABORTED
        case Reason.BUSY:
            return grpc.StatusCode.RESOURCE_EXHAUSTED
        case Reason.UNAVAILABLE:
            return grpc.StatusCode.UNAVAILABLE
        case Reason.OUTCOME_UNKNOWN | Reason.INTERNAL:
            return grpc.StatusCode.INTERNAL
        case Reason.CORRUPT:
            return grpc.StatusCode.DATA_LOSS
        case _:
            assert_never(reason)


def status(error: BaseException, receipt: Receipt | None = None) -> Status:
    """Describe an error as google.rpc.Status: code, message, and the details types.proto lists."""
    if not isinstance(error, CryptosvcError):
        return _status(Reason.INTERNAL, INTERNAL_TEXT, [_info(Reason.INTERNAL, "internal/unexpected")])
    reason = error.reason
    message = INTERNAL_TEXT if reason is Reason.INTERNAL else error.message
    details: list[Message] = [_info(reason, error.rule, error.clause, error.policies)]
    if error.field:
        violation = BadRequest.FieldViolation(field=error.field, description=message, reason=error.rule)
        details.append(BadRequest(field_violations=[violation]))
    if reason in _RETRY_AFTER_MILLISECONDS:
        delay = Duration()
        delay.FromMilliseconds(_RETRY_AFTER_MILLISECONDS[reason])
        details.append(RetryInfo(retry_delay=delay))
    if isinstance(error, Repeated):
        details.append(_first_use(error, receipt))
    if receipt is not None:
        details.append(convert.receipt(receipt))
    return _status(reason, message, details)


def trailing_metadata(described: Status) -> tuple[tuple[str, bytes], ...]:
    """The metadata that carries a status with its details."""
    return ((DETAILS_KEY, described.SerializeToString()),)


def _status(reason: Reason, message: str, details: list[Message]) -> Status:
    found: int = code(reason).value[0]
    described = Status(code=found, message=message)
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        described.details.append(packed)
    return described


def _info(reason: Reason, rule: str, clause: str = "", policies: tuple[str, ...] = ()) -> ErrorInfo:
    metadata = {"rule": rule}
    if clause:
        metadata["clause"] = clause
    if policies:
        metadata["policies"] = ",".join(policies)
    return ErrorInfo(reason=reason.value, domain=DOMAIN, metadata=metadata)


def _first_use(error: Repeated, receipt: Receipt | None) -> types_pb2.FirstUse:
    described = types_pb2.FirstUse(same_content=error.same_bytes)
    if error.leaf_index is not None:
        described.receipt.origin = receipt.origin if receipt is not None else ""
        described.receipt.leaf_index = error.leaf_index
        described.receipt.leaf_hash = error.leaf_hash
    return described
