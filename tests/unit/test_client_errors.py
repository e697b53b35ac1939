"""What gRPC says where the service did not get to speak."""

import grpc
import pytest

from cryptosvc.client.errors import Fault, TimedOut, Unreachable, from_call


@pytest.mark.parametrize(
    ("code", "details", "expected"),
    [
        (grpc.StatusCode.INTERNAL, "Internal error from Core", Unreachable),
        (grpc.StatusCode.INTERNAL, "Exception serializing request!", Fault),
        (grpc.StatusCode.UNAVAILABLE, "failed to connect", Unreachable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", TimedOut),
    ],
)
def test_a_status_without_details_is_not_the_service_s(
    code: grpc.StatusCode, details: str, expected: type[Exception]
) -> None:
    error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=details)
    found = from_call(error)
    assert type(found) is expected
    assert found.code is code
    assert found.message
