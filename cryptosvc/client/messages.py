"""Requests made and answers read, the same for blocking and asyncio callers."""

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from google.protobuf.message import Message

from cryptosvc.client.errors import Busy, CallError, Unavailable, from_status
from cryptosvc.pb.v1 import audit_pb2, crypto_pb2, keys_pb2

_Q = TypeVar("_Q", bound=Message)
_A = TypeVar("_A", bound=Message)

Outcome: TypeAlias = crypto_pb2.SignResponse | CallError
"""What became of one item of a batch or stream."""


@dataclass(frozen=True, slots=True)
class Method(Generic[_Q, _A]):
    """One gRPC method: its path and what it takes and gives."""

    path: str
    question: type[_Q]
    answer: type[_A]


SIGN = Method("/cryptosvc.v1.CryptoService/Sign", crypto_pb2.SignRequest, crypto_pb2.SignResponse)
SIGN_BATCH = Method(
    "/cryptosvc.v1.CryptoService/SignBatch", crypto_pb2.SignBatchRequest, crypto_pb2.SignBatchResponse
)
SIGN_STREAM = Method(
    "/cryptosvc.v1.CryptoService/SignStream", crypto_pb2.SignStreamRequest, crypto_pb2.SignStreamResponse
)
APPLY_MAC = Method("/cryptosvc.v1.CryptoService/ApplyMac", crypto_pb2.SignRequest, crypto_pb2.SignResponse)
APPLY_MAC_BATCH = Method(
    "/cryptosvc.v1.CryptoService/ApplyMacBatch", crypto_pb2.SignBatchRequest, crypto_pb2.SignBatchResponse
)
APPLY_MAC_STREAM = Method(
    "/cryptosvc.v1.CryptoService/ApplyMacStream", crypto_pb2.SignStreamRequest, crypto_pb2.SignStreamResponse
)
VERIFY_MAC = Method("/cryptosvc.v1.CryptoService/VerifyMac", crypto_pb2.SignRequest, crypto_pb2.SignResponse)
VERIFY_MAC_BATCH = Method(
    "/cryptosvc.v1.CryptoService/VerifyMacBatch", crypto_pb2.SignBatchRequest, crypto_pb2.SignBatchResponse
)
VERIFY_MAC_STREAM = Method(
    "/cryptosvc.v1.CryptoService/VerifyMacStream", crypto_pb2.SignStreamRequest, crypto_pb2.SignStreamResponse
)
DECRYPT = Method("/cryptosvc.v1.CryptoService/Decrypt", crypto_pb2.SignRequest, crypto_pb2.SignResponse)
DECRYPT_BATCH = Method(
    "/cryptosvc.v1.CryptoService/DecryptBatch", crypto_pb2.SignBatchRequest, crypto_pb2.SignBatchResponse
)
DECRYPT_STREAM = Method(
    "/cryptosvc.v1.CryptoService/DecryptStream", crypto_pb2.SignStreamRequest, crypto_pb2.SignStreamResponse
)
ENCRYPT = Method("/cryptosvc.v1.CryptoService/Encrypt", crypto_pb2.SignRequest, crypto_pb2.SignResponse)
ENCRYPT_BATCH = Method(
    "/cryptosvc.v1.CryptoService/EncryptBatch", crypto_pb2.SignBatchRequest, crypto_pb2.SignBatchResponse
)
ENCRYPT_STREAM = Method(
    "/cryptosvc.v1.CryptoService/EncryptStream", crypto_pb2.SignStreamRequest, crypto_pb2.SignStreamResponse
)
WRAP_KEY = Method("/cryptosvc.v1.CryptoService/WrapKey", crypto_pb2.SignRequest, crypto_pb2.SignResponse)
WRAP_KEY_BATCH = Method(
    "/cryptosvc.v1.CryptoService/WrapKeyBatch", crypto_pb2.SignBatchRequest, crypto_pb2.SignBatchResponse
)
WRAP_KEY_STREAM = Method(
    "/cryptosvc.v1.CryptoService/WrapKeyStream", crypto_pb2.SignStreamRequest, crypto_pb2.SignStreamResponse
)
EXPLAIN = Method("/cryptosvc.v1.CryptoService/Explain", crypto_pb2.SignRequest, crypto_pb2.ExplainResponse)
LIST_KEYS = Method("/cryptosvc.v1.KeyService/ListKeys", keys_pb2.ListKeysRequest, keys_pb2.ListKeysResponse)
GET_KEY = Method("/cryptosvc.v1.KeyService/GetKey", keys_pb2.GetKeyRequest, keys_pb2.Key)
GET_CHECKPOINT = Method(
    "/cryptosvc.v1.AuditService/GetCheckpoint", audit_pb2.GetCheckpointRequest, audit_pb2.Checkpoint
)
GET_ENTRY = Method("/cryptosvc.v1.AuditService/GetEntry", audit_pb2.GetEntryRequest, audit_pb2.Entry)
PROVE_INCLUSION = Method(
    "/cryptosvc.v1.AuditService/ProveInclusion", audit_pb2.ProveInclusionRequest, audit_pb2.InclusionProof
)
PROVE_CONSISTENCY = Method(
    "/cryptosvc.v1.AuditService/ProveConsistency",
    audit_pb2.ProveConsistencyRequest,
    audit_pb2.ConsistencyProof,
)
QUERY = Method("/cryptosvc.v1.AuditService/Query", audit_pb2.QueryRequest, audit_pb2.QueryPage)


def query(
    conditions: Mapping[str, Sequence[str]],
    *,
    start: int = 0,
    stop: int = 0,
    oldest_first: bool = False,
    page_size: int = 0,
    most_entries: int = 0,
    cursor: str = "",
    prove_in: int = 0,
) -> audit_pb2.QueryRequest:
    """Make a query: fields with the values any of which will do, times in nanoseconds, 0 for no bound.

    With `prove_in`, the size of a checkpoint, each entry that is in that tree comes with its audit path.
    """
    return audit_pb2.QueryRequest(
        conditions=[
            audit_pb2.QueryCondition(field=name, values=values) for name, values in conditions.items()
        ],
        start=start,
        stop=stop,
        oldest_first=oldest_first,
        page_size=page_size,
        most_entries=most_entries,
        cursor=cursor,
        prove_in=prove_in,
    )


def request(
    key_id: str,
    *,
    tbs_certificate: bytes | None = None,
    certification_request_info: bytes | None = None,
    tbs_cert_list: bytes | None = None,
    gbcs_pre_command: bytes | None = None,
    duis_document: bytes | None = None,
    gbcs_command: bytes | None = None,
    gbcs_message: bytes | None = None,
    encrypted_response: bytes | None = None,
    prepayment_token: bytes | None = None,
    tls_server_key_exchange: bytes | None = None,
    tls_transcript: bytes | None = None,
    dlms_authenticated_encryption: crypto_pb2.DlmsPlaintext | None = None,
    dlms_encryption: crypto_pb2.DlmsPlaintext | None = None,
    dlms_authentication: crypto_pb2.DlmsPlaintext | None = None,
    dlms_challenge: crypto_pb2.DlmsPlaintext | None = None,
    dlms_protected: crypto_pb2.DlmsProtected | None = None,
    dlms_key_change: crypto_pb2.DlmsKeyChange | None = None,
    dlms_association: crypto_pb2.DlmsInitiate | None = None,
    device_certificate: bytes = b"",
    request_id: str = "",
    service_reference_variant: str = "",
    user_id: str = "",
    user_role: str = "",
    supply_sensitive_check: bytes = b"",
    origin_statement: bytes = b"",
) -> crypto_pb2.SignRequest:
    """Make a request of exactly one content; without a request id it gets a random one.

    Keep the request to ask again: what makes a second attempt safe is that its id is the same.
    """
    return crypto_pb2.SignRequest(
        request_id=request_id or str(uuid.uuid4()),
        key_id=key_id,
        tbs_certificate=tbs_certificate,
        certification_request_info=certification_request_info,
        tbs_cert_list=tbs_cert_list,
        gbcs_pre_command=gbcs_pre_command,
        duis_document=duis_document,
        gbcs_command=gbcs_command,
        gbcs_message=gbcs_message,
        encrypted_response=encrypted_response,
        prepayment_token=prepayment_token,
        tls_server_key_exchange=tls_server_key_exchange,
        tls_transcript=tls_transcript,
        dlms_authenticated_encryption=dlms_authenticated_encryption,
        dlms_encryption=dlms_encryption,
        dlms_authentication=dlms_authentication,
        dlms_challenge=dlms_challenge,
        dlms_protected=dlms_protected,
        dlms_key_change=dlms_key_change,
        dlms_association=dlms_association,
        device_certificate=device_certificate,
        service_reference_variant=service_reference_variant,
        user_id=user_id,
        user_role=user_role,
        supply_sensitive_check=supply_sensitive_check,
        origin_statement=origin_statement,
    )


def plaintext(
    system_title: bytes,
    invocation_counter: int,
    text: bytes,
    *,
    authentication_key_version: int = 0,
    association: bytes = b"",
) -> crypto_pb2.DlmsPlaintext:
    """Make what is to be protected for a SMETS1 Device: our system title, a counter never used before, and the request.

    Args:
        system_title: 8 octets.
        invocation_counter: below 2**32 - 1.
        text: the whole request, or a challenge.
        authentication_key_version: 0 is the Device's current one.
        association: for the key DEVICE.dedicated, what opening the association answered.

    """
    return crypto_pb2.DlmsPlaintext(
        system_title=system_title,
        invocation_counter=invocation_counter,
        text=text,
        authentication_key_version=authentication_key_version,
        association=association,
    )


def initiate(
    system_title: bytes,
    invocation_counter: int,
    initiate_request: bytes,
    *,
    authentication_key_version: int = 0,
) -> crypto_pb2.DlmsInitiate:
    """Make what opens an Application Association: our system title, a counter never used before, the InitiateRequest without a key."""
    return crypto_pb2.DlmsInitiate(
        system_title=system_title,
        invocation_counter=invocation_counter,
        initiate_request=initiate_request,
        authentication_key_version=authentication_key_version,
    )


def protected(
    system_title: bytes, apdu: bytes, *, authentication_key_version: int = 0, association: bytes = b""
) -> crypto_pb2.DlmsProtected:
    """Make what a SMETS1 Device sent, to be read: its system title and the whole APDU; `association` as in `plaintext`."""
    return crypto_pb2.DlmsProtected(
        system_title=system_title,
        apdu=apdu,
        authentication_key_version=authentication_key_version,
        association=association,
    )


def key_change(kind: str, version: int) -> crypto_pb2.DlmsKeyChange:
    """Make the name of a Device's new key, to be wrapped under its master key."""
    return crypto_pb2.DlmsKeyChange(kind=kind, version=version)


def outcome(result: crypto_pb2.SignResult) -> Outcome:
    """Read one item's result."""
    return result.signed if result.HasField("signed") else from_status(result.error)


def frames(requests: Iterable[crypto_pb2.SignRequest], items: int) -> Iterator[bytes]:
    """Cut requests into stream frames of `items` each."""
    frame = crypto_pb2.SignStreamRequest()
    for one in requests:
        frame.requests.append(one)
        if len(frame.requests) >= items:
            yield frame.SerializeToString()
            frame = crypto_pb2.SignStreamRequest()
    if frame.requests:
        yield frame.SerializeToString()


class Batch:
    """A batch whose items may need more than one attempt: those that were not done are asked for again.

    Args:
        requests: in order.

    """

    def __init__(self, requests: Sequence[crypto_pb2.SignRequest]) -> None:
        self._requests = requests
        self._outcomes: list[Outcome | None] = [None] * len(requests)
        self._left = list(range(len(requests)))

    def question(self) -> crypto_pb2.SignBatchRequest:
        """What is still to be asked."""
        return crypto_pb2.SignBatchRequest(requests=[self._requests[index] for index in self._left])

    def take(self, answer: crypto_pb2.SignBatchResponse) -> CallError | None:
        """Take an answer; the error to wait after where some items are known not to be done, None where all are."""
        again: CallError | None = None
        left: list[int] = []
        for index, result in zip(self._left, answer.results, strict=True):
            found = self._outcomes[index] = outcome(result)
            if isinstance(found, Busy | Unavailable):
                again = found
                left.append(index)
        self._left = left
        return again

    def outcomes(self) -> list[Outcome]:
        """One outcome per request, in order."""
        return [found for found in self._outcomes if found is not None]
