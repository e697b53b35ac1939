"""The one map from errors to statuses, and what the client reads back out of it."""

import grpc
import pytest

from cryptosvc.client import errors as client_errors
from cryptosvc.core import errors
from cryptosvc.core.errors import CryptosvcError, Reason
from cryptosvc.service import status
from tests.service_stand import ORIGIN, receipt

EXPECTED = {
    Reason.MALFORMED: (grpc.StatusCode.INVALID_ARGUMENT, client_errors.InvalidRequest),
    Reason.UNIDENTIFIED: (grpc.StatusCode.UNAUTHENTICATED, client_errors.Unidentified),
    Reason.FORBIDDEN: (grpc.StatusCode.PERMISSION_DENIED, client_errors.NotPermitted),
    Reason.AWAITING_APPROVAL: (grpc.StatusCode.FAILED_PRECONDITION, client_errors.AwaitingApproval),
    Reason.WRONG_STATE: (grpc.StatusCode.FAILED_PRECONDITION, client_errors.WrongState),
    Reason.CONFLICT: (grpc.StatusCode.ABORTED, client_errors.Conflict),
    Reason.BUSY: (grpc.StatusCode.RESOURCE_EXHAUSTED, client_errors.Busy),
    Reason.UNAVAILABLE: (grpc.StatusCode.UNAVAILABLE, client_errors.Unavailable),
    Reason.OUTCOME_UNKNOWN: (grpc.StatusCode.INTERNAL, client_errors.OutcomeUnknown),
    Reason.CORRUPT: (grpc.StatusCode.DATA_LOSS, client_errors.Corrupt),
    Reason.INTERNAL: (grpc.StatusCode.INTERNAL, client_errors.Fault),
}
"""The table of the house style, retyped."""


def _classes() -> list[type[CryptosvcError]]:
    found = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, CryptosvcError)
    ]
    return [kind for kind in found if kind is not errors.Repeated]


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_the_status_of_the_table(reason: Reason):
    assert status.code(reason) is EXPECTED[reason][0]


@pytest.mark.parametrize("kind", _classes())
def test_every_error_comes_back_typed_with_all_it_said(kind: type[CryptosvcError]):
    error = kind("say what to do", rule="area/rule", clause="G2.60(a)", field="key_id", policies=("a", "b"))
    read = client_errors.from_status(status.status(error, receipt(7)))
    code, expected = EXPECTED[error.reason]
    assert type(read) is expected
    assert (read.code, read.rule, read.clause, read.field) == (code, "area/rule", "G2.60(a)", "key_id")
    assert read.policies == ("a", "b")
    assert read.receipt is not None
    assert (read.receipt.origin, read.receipt.leaf_index, read.receipt.leaf_hash) == (
        ORIGIN,
        7,
        receipt(7).leaf_hash,
    )
    if error.reason is not Reason.INTERNAL:
        assert read.message == "say what to do"


@pytest.mark.parametrize("reason", [errors.Busy, errors.Unavailable])
def test_waiting_helps_only_where_the_service_says_how_long(reason: type[CryptosvcError]):
    assert client_errors.from_status(status.status(reason("wait", rule="a/b"))).retry_after_seconds > 0
    assert (
        client_errors.from_status(status.status(errors.Forbidden("no", rule="a/b"))).retry_after_seconds == 0
    )


def test_a_repeated_request_id_carries_the_first_receipt_beside_its_own():
    error = errors.Repeated(same_bytes=True, leaf_index=3, leaf_hash=receipt(3).leaf_hash)
    read = client_errors.from_status(status.status(error, receipt(9)))
    assert isinstance(read, client_errors.Repeated)
    assert read.first_use is not None
    assert read.first_use.same_content
    assert (read.first_use.receipt.leaf_index, read.first_use.receipt.leaf_hash) == (3, receipt(3).leaf_hash)
    assert read.receipt is not None
    assert read.receipt.leaf_index == 9


def test_a_first_request_still_under_way_has_no_receipt_yet():
    error = errors.Repeated(same_bytes=False, leaf_index=None, leaf_hash=b"")
    read = client_errors.from_status(status.status(error, receipt(9)))
    assert read.first_use is not None
    assert not read.first_use.same_content
    assert not read.first_use.HasField("receipt")


@pytest.mark.parametrize("error", [ZeroDivisionError("inside"), errors.Internal("inside", rule="x/y")])
def test_faults_of_ours_say_nothing_of_the_inside(error: Exception):
    described = status.status(error)
    assert described.message == status.INTERNAL_TEXT
    assert b"inside" not in described.SerializeToString()
