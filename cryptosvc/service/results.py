"""One item's answer, as the SignResult that batches and streams carry."""

from typing import TypeAlias

from google.rpc.status_pb2 import Status

from cryptosvc.flow.sign import NotSigned, Signed
from cryptosvc.pb.v1 import crypto_pb2
from cryptosvc.service import convert, status

Answer: TypeAlias = Signed | NotSigned | Status
"""What became of an item; a Status where it never became a request."""


def fill(result: crypto_pb2.SignResult, answer: Answer) -> None:
    """Put an answer into its result."""
    if isinstance(answer, Signed):
        convert.signed_into(result.signed, answer.checked, answer.receipt)
    elif isinstance(answer, NotSigned):
        result.error.CopyFrom(status.status(answer.error, answer.receipt))
    else:
        result.error.CopyFrom(answer)


def outcome(answer: Answer) -> str:
    """The word metrics count an answer under."""
    if isinstance(answer, Signed):
        return "signed"
    return answer.error.reason.value.lower() if isinstance(answer, NotSigned) else "malformed"
