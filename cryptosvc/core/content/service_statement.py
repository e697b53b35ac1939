"""Statements of the service's own, and the one thing a service-signing key signs (G2.27, G5.13(b)).

A destruction certificate says what was destroyed; later kinds are the seals of ceremonies and transfers. The payload
is canonical JSON that names its kind, this deployment and its log; the signature is DSSE's, so that anybody verifies
it with the public key and nothing else. Only the service itself asks for this form; the API has no field for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import orjson
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from cryptosvc.core import dsse
from cryptosvc.core.canonical import JsonValue, canonical
from cryptosvc.core.content.base import Content
from cryptosvc.core.content.checkpoint_note import public_key_der
from cryptosvc.core.errors import Forbidden, Internal, Malformed
from cryptosvc.core.names import ContentKind
from cryptosvc.core.registry import KeyRecord

PAYLOAD_TYPE = "application/vnd.cryptosvc.service-statement.v1+json"
LARGEST_OCTETS = 512 * 1024
TYPES = frozenset(
    {
        "destruction-certificate",
        "device-key-destruction-certificate",
        "ceremony-seal",
        "transfer-offer",
        "transfer-package",
        "transfer-receipt",
        "transfer-not-imported",
        "transfer-disposition",
        "backup-manifest",
    }
)
"""Kinds of statement there are."""
_NEEDED = ("type", "subject", "system", "environment", "origin", "v")
VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStatement(Content):
    """A statement, read.

    Args:
        payload: as given.
        origin: the log it says it belongs to.

    """

    payload: bytes
    origin: str


def parse(payload: bytes) -> ServiceStatement:
    """Read a statement; Malformed unless it is canonical JSON with a known type and every common field."""
    if len(payload) > LARGEST_OCTETS:
        raise _malformed()
    try:
        document: Mapping[str, JsonValue] = orjson.loads(payload)
        same = isinstance(document, dict) and canonical(document) == payload
    except (orjson.JSONDecodeError, Internal):
        same = False
    if not same or not set(_NEEDED) <= set(document) or document["v"] != VERSION:
        raise _malformed()
    texts = {name: document[name] for name in _NEEDED if name != "v"}
    if not all(isinstance(value, str) and value.isprintable() for value in texts.values()):
        raise _malformed()
    if document["type"] not in TYPES:
        raise _malformed()
    return ServiceStatement(
        kind=ContentKind.SERVICE_STATEMENT,
        signed_bytes=dsse.pae(PAYLOAD_TYPE, payload),
        facts=(("subject", str(document["subject"])), ("type", str(document["type"]))),
        payload=payload,
        origin=str(document["origin"]),
    )


def bind(content: Content, log_origin: str) -> None:
    """Raise Forbidden unless the statement is of this deployment's log."""
    assert isinstance(content, ServiceStatement)
    if content.origin != log_origin:
        raise Forbidden(
            "the statement is of another deployment's log", rule="service-statement/origin", clause="G2.27"
        )


def assemble(content: Content, signature: bytes, key: KeyRecord) -> bytes:
    """Write the DSSE envelope."""
    assert isinstance(content, ServiceStatement)
    r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
    key_id = dsse.key_id(public_key_der(key.public_point))
    signed = dsse.Signature(key_id, encode_dss_signature(r, s))
    return dsse.emit(dsse.Envelope(PAYLOAD_TYPE, content.payload, (signed,)))


def _malformed() -> Malformed:
    return Malformed(
        f"a service statement is canonical JSON with {', '.join(_NEEDED)}, of a type among {', '.join(sorted(TYPES))}",
        rule="service-statement/form",
    )
