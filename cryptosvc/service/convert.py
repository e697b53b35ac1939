"""Convert: proto → core values, bounds checked; core values → proto. No decision, no I/O.

Anything wrong with the shape of a request is Malformed with the field at fault; what the content is, the corridor
reads.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeVar

from google.protobuf.message import DecodeError
from google.protobuf.message import Message as ProtoMessage

from cryptosvc.core.case import Request
from cryptosvc.core.check import Checked
from cryptosvc.core.content.base import Statement
from cryptosvc.core.errors import Malformed
from cryptosvc.core.keyclass import ceiling
from cryptosvc.core.names import NO_KEY, OWN_FORMS, ContentForm, KeyId, Operation, RequestId, operation_on
from cryptosvc.core.record import Receipt
from cryptosvc.core.registry import KeyRecord
from cryptosvc.core.values import quickly
from cryptosvc.flow.audit import InclusionProof
from cryptosvc.flow.explain import Explained
from cryptosvc.flow.ports import StoredEntry
from cryptosvc.pb.v1 import audit_pb2, crypto_pb2, keys_pb2, types_pb2
from cryptosvc.service import smets1

M = TypeVar("M", bound=ProtoMessage)

_REQUEST_ID = re.compile(r"[ -~]{1,64}")
_KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_VARIANT = re.compile(r"[0-9A-Za-z.]{1,16}")
_USER_ID = re.compile(r"(?:[0-9A-F]{2}-){7}[0-9A-F]{2}")
_USER_ROLE = re.compile(r"[A-Z][A-Z0-9]{0,7}")

CHECK_OCTETS_AT_MOST = 16 * 1024
"""Longest Supply Sensitive Check: an envelope with one statement and one signature is well below it."""

CERTIFICATE_OCTETS_AT_MOST = 8 * 1024
"""Longest Device Certificate; real ones have some 500 octets."""

_DIGEST_OCTETS = frozenset({20, 28, 32, 48, 64})
"""Lengths of SHA-1 and SHA-2 digests; no content of any form is that short."""

_FORMS: dict[str, ContentForm] = {form.value: form for form in ContentForm if form not in OWN_FORMS}

_PURPOSE_CLAUSES: dict[ContentForm, str] = {
    ContentForm.TBS_CERTIFICATE: "G2.60",
    ContentForm.TBS_CERT_LIST: "G2.60",
    ContentForm.CERTIFICATION_REQUEST_INFO: "G2.60",
    ContentForm.GBCS_PRE_COMMAND: "G2.56",
    ContentForm.GBCS_COMMAND: "G2.44(b)",
    ContentForm.TOP_UP: "G3.22",
    ContentForm.DUIS_DOCUMENT: "G3.29",
    ContentForm.TLS_SERVER_KEY_EXCHANGE: "G2.44(d)",
    ContentForm.TLS_TRANSCRIPT: "G2.44(d)",
}
"""The clause whose purpose limit a bare digest would evade, per form it was said to be; what came from a Device has none."""

_WHICH_METHOD = (
    "a gbcs_command, prepayment_token, dlms_authentication or dlms_challenge goes to ApplyMac, a gbcs_message to VerifyMac, "
    "an encrypted_response or dlms_protected to Decrypt, a dlms_authenticated_encryption, dlms_encryption or dlms_association to "
    "Encrypt, a dlms_key_change to WrapKey, everything else to Sign; the same for their batches and streams"
)

_REQUESTS_TAG = 0x0A
"""Field 1, length-delimited."""

_VARINT_BITS = 35
"""A length is at most five octets of seven bits."""

_NO_STATEMENT = Statement()
_request = quickly(Request)
_NANOSECONDS = 1_000_000_000


def parsed(kind: type[M], octets: bytes) -> M:
    """Decode a message, or raise Malformed."""
    try:
        return kind.FromString(octets)
    except DecodeError:
        raise Malformed(
            "the message does not decode as what the method takes; compare the proto files",
            rule="request/proto",
        ) from None


def count_items(octets: bytes, most: int) -> int:
    """Count the requests in a SignBatchRequest or SignStreamRequest without decoding them.

    An empty request is two octets on the wire and 140 in memory, so a message within its bound could decode to many
    times it; it is not decoded where it has too many.

    Args:
        octets: the message; its one field is `requests`, number 1, length-delimited.
        most: counting stops above this.

    Raises:
        Malformed: anything but that field, or a length that does not fit.

    """
    at = count = 0
    end = len(octets)
    while at < end and count <= most:
        if octets[at] != _REQUESTS_TAG:
            break
        at += 1
        length = shift = 0
        while at < end and shift < _VARINT_BITS:
            octet = octets[at]
            at += 1
            length |= (octet & 0x7F) << shift
            shift += 7
            if octet < 0x80:
                break
        at += length
        count += 1
    if at != end and count <= most:
        raise Malformed("the message is not a sequence of requests", rule="request/proto", field="requests")
    return count


def request(
    message: crypto_pb2.SignRequest, payload_octets: int, operation: Operation = Operation.SIGN
) -> Request:
    """Take a SignRequest as a core `Request`, or raise Malformed with the field at fault.

    Args:
        message: as decoded.
        payload_octets: longest content allowed.
        operation: that of the method: what is to be signed goes to Sign, a Command to ApplyMac, and so on; EXPLAIN takes any.

    """
    request_id = message.request_id
    if _REQUEST_ID.fullmatch(request_id) is None:
        raise Malformed(
            "a request id is 1 to 64 printable ASCII characters",
            rule="request/request-id",
            field="request_id",
        )
    name = message.WhichOneof("content")
    if name is None:
        raise Malformed(
            "the request has no content; set one of the content fields, there is no raw or digest kind",
            rule="request/no-content",
            field="content",
        )
    form = _FORMS[name]
    if operation not in (Operation.EXPLAIN, operation_on(form)):
        raise Malformed(_WHICH_METHOD, rule="request/method", field=name)
    payload, second, association = getattr(message, name), NO_KEY, b""
    if type(payload) is not bytes:
        payload, second, association = smets1.taken(payload, message.key_id)
    if not 0 < len(payload) <= payload_octets:
        raise Malformed(
            f"the content is empty or longer than {payload_octets} octets",
            rule="request/content-size",
            field=name,
        )
    if len(payload) in _DIGEST_OCTETS and form in _PURPOSE_CLAUSES:
        raise Malformed(
            "the content is as short as a bare digest; keys sign only what the service has read, so send the whole of it",
            rule="request/bare-digest",
            clause=_PURPOSE_CLAUSES[form],
            field=name,
        )
    check = message.supply_sensitive_check
    if len(check) > CHECK_OCTETS_AT_MOST:
        raise Malformed(
            f"a Supply Sensitive Check is at most {CHECK_OCTETS_AT_MOST} octets",
            rule="request/check-size",
            field="supply_sensitive_check",
        )
    origin = message.origin_statement
    if len(origin) > CHECK_OCTETS_AT_MOST:
        raise Malformed(
            f"an origin statement is at most {CHECK_OCTETS_AT_MOST} octets",
            rule="request/origin-size",
            field="origin_statement",
        )
    device_certificate = message.device_certificate
    if device_certificate and (
        operation_on(form) is Operation.SIGN or len(device_certificate) > CERTIFICATE_OCTETS_AT_MOST
    ):
        raise Malformed(
            f"a Device's certificate of at most {CERTIFICATE_OCTETS_AT_MOST} octets stands beside what is done with its key alone",
            rule="request/device-certificate",
            field="device_certificate",
        )
    return _request(
        request_id=RequestId(request_id),
        key_id=key_id(message.key_id),
        form=form,
        payload=payload,
        statement=_statement(message.service_reference_variant, message.user_id, message.user_role),
        supply_sensitive_check=check,
        origin_statement=origin,
        device_certificate=device_certificate,
        second_key=second,
        association=association,
    )


@lru_cache(maxsize=1024)
def key_id(text: str) -> KeyId:
    """Take a key id, or raise Malformed; what raises is not kept, so what is kept is short."""
    if _KEY_ID.fullmatch(text) is None:
        raise Malformed(
            "a key id is 1 to 64 letters, digits, dots, underscores and hyphens",
            rule="request/key-id",
            field="key_id",
        )
    return KeyId(text)


@lru_cache(maxsize=1024)
def _statement(variant: str, user_id: str, user_role: str) -> Statement:
    """Take what a caller states of itself; most of its requests state the same."""
    if not (variant or user_id or user_role):
        return _NO_STATEMENT
    for text, shape, field in (
        (variant, _VARIANT, "service_reference_variant"),
        (user_id, _USER_ID, "user_id"),
        (user_role, _USER_ROLE, "user_role"),
    ):
        if text and shape.fullmatch(text) is None:
            raise Malformed(
                f"{field} is not in its form; see crypto.proto", rule="request/statement", field=field
            )
    return Statement(service_reference_variant=variant, user_id=user_id, user_role=user_role)


def receipt(made: Receipt) -> types_pb2.Receipt:
    """Put a receipt on the wire."""
    message = types_pb2.Receipt()
    receipt_into(message, made)
    return message


def receipt_into(message: types_pb2.Receipt, made: Receipt) -> None:
    """The same, into a message that is already part of another."""
    message.CopyFrom(_recorded(made.origin, made.recorded_at))
    message.leaf_index = made.leaf_index
    message.leaf_hash = made.leaf_hash


@lru_cache(maxsize=16)
def _recorded(origin: str, recorded_at: int) -> types_pb2.Receipt:
    """What the receipts of one transaction share; only ever copied from."""
    shared = types_pb2.Receipt(origin=origin)
    shared.recorded_at.seconds, shared.recorded_at.nanos = divmod(recorded_at, _NANOSECONDS)
    return shared


def signed(checked: Checked, made: Receipt) -> crypto_pb2.SignResponse:
    """Put a signature, its artefact and its receipt on the wire."""
    message = crypto_pb2.SignResponse()
    signed_into(message, checked, made)
    return message


def signed_into(message: crypto_pb2.SignResponse, checked: Checked, made: Receipt) -> None:
    """The same, into a message that is already part of another: nothing is copied twice."""
    authorised = checked.claim.authorised
    case = authorised.case
    message.request_id = case.request.request_id
    message.signature = checked.signature
    message.artefact = checked.artefact
    message.clause = authorised.clause
    message.key_version = case.key.version
    message.derivation = checked.derivation
    if checked.plaintexts:
        message.plaintexts.extend(checked.plaintexts)
    if checked.association:
        message.association = checked.association
    receipt_into(message.receipt, made)


def explained(found: Explained) -> crypto_pb2.ExplainResponse:
    """Put an explanation on the wire; `refusal` is for the caller to fill in."""
    answer = crypto_pb2.ExplainResponse(
        permitted=found.authorised is not None, receipt=receipt(found.receipt)
    )
    if found.content is not None:
        answer.content_kind = found.content.kind.value
        answer.facts.update(found.content.facts)
    if found.authorised is not None:
        answer.clause = found.authorised.clause
        answer.policies.extend(found.authorised.policies)
        answer.policy_digest = found.authorised.policy_digest
    elif found.refusal is not None:
        answer.clause = found.refusal.clause
        answer.policies.extend(found.refusal.policies)
    return answer


def key(record: KeyRecord) -> keys_pb2.Key:
    """Put a key record on the wire: what a caller may see of it, not how the module finds it."""
    row = ceiling(record.key_class)
    return keys_pb2.Key(
        key_id=record.key_id,
        version=record.version,
        key_class=record.key_class,
        state=record.state.value,
        system=record.system,
        environment=record.environment.value,
        public_point=record.public_point,
        certificate=record.certificate,
        eui64="" if record.eui64 is None else str(record.eui64),
        remote_party_role=None if record.role is None else int(record.role),
        origin=record.origin.value,
        transferable=record.transferable,
        may_sign=sorted(kind.value for operation, kind in row.ceiling if operation is Operation.SIGN),
        module=record.module,
    )


def entry(stored: StoredEntry, hashes: Sequence[bytes] = ()) -> audit_pb2.Entry:
    """Put a log entry on the wire, with its audit path where it has one."""
    return audit_pb2.Entry(
        leaf_index=stored.leaf_index, entry=stored.entry, withheld=stored.withheld, hashes=hashes
    )


def inclusion(proof: InclusionProof) -> audit_pb2.InclusionProof:
    """Put an inclusion proof on the wire."""
    return audit_pb2.InclusionProof(
        leaf_index=proof.leaf_index, tree_size=proof.tree_size, leaf_hash=proof.leaf_hash, hashes=proof.hashes
    )
