"""Supply Sensitive Checks: which content needs one, and whether one over these very bytes is attached (G3.23, G3.25).

The check is a DSSE envelope (`core/dsse.py`) by the checking system registered for the caller, with one signature
whose key id is `dsse.key_id` of that system's key. Its payload is the canonical JSON statement
`{"payload_sha256": hex, "request_id": text, "result": "passed", "type": PAYLOAD_TYPE}`; it is bound to one request
id, so that a check cannot be used for a second request. There is no statement for a check that failed: a client that
has none to attach attaches none, and policy refuses.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from cryptosvc.core import dsse
from cryptosvc.core.canonical import canonical
from cryptosvc.core.content.base import Content
from cryptosvc.core.content.gbcs.codes import ELIGIBLE_ROLES, USERS
from cryptosvc.core.errors import Forbidden, Malformed
from cryptosvc.core.registry import KeyRecord

PAYLOAD_TYPE = "application/vnd.cryptosvc.supply-sensitive-check.v1+json"

ENVELOPE_OCTETS = 4096
"""Longest envelope that is read; one over a request id of 64 characters has under 700 octets."""

_CLAUSE = "G3.25(a)"
_FIELD = "supply_sensitive_check"


@dataclass(frozen=True, slots=True)
class SupplyProfile:
    """Configured list of Supply Sensitive Service Reference Variants."""

    sensitive_variants: frozenset[str]


def sensitive(content: Content, profile: SupplyProfile) -> bool:
    """Whether the content can belong to a Supply Sensitive Service Reference Variant, whatever the caller states."""
    return not profile.sensitive_variants.isdisjoint(content.service_reference_variants)


def of_eligible_user(key: KeyRecord, profile: SupplyProfile) -> bool:
    """Whether a key signs for an Eligible User of anything Supply Sensitive, so that its place is the United Kingdom.

    Its record may say so; and the Remote Party Role of a command-signing key says it of itself wherever one of its
    User Roles may send a configured variant, so that nobody can forget to. The role of an xml-signing key does not tell
    User Roles apart: of it only the record speaks.

    Source: Smart Energy Code G3.23(a)(i) and (ii).
    """
    if key.signs_for_eligible_user:
        return True
    users = USERS.get(key.role, frozenset()) if key.role is not None else frozenset()
    return any(users & ELIGIBLE_ROLES.get(variant, frozenset()) for variant in profile.sensitive_variants)


def check_attached(envelope: bytes, payload: bytes, request_id: str, checker_key_spki: bytes) -> bool:
    """Whether a Supply Sensitive Check is attached; one that is attached must hold.

    Args:
        envelope: DSSE envelope as the caller attached it; empty where none is.
        payload: the whole payload of the request.
        request_id: of the request, as the caller chose it.
        checker_key_spki: SubjectPublicKeyInfo DER of the checking system registered for the caller; empty where none.

    Returns:
        False where nothing is attached, True where the check holds for exactly this request.

    Raises:
        Malformed: the envelope is not one, or is over something else.
        Forbidden: no checking system is registered for the caller, or it did not sign this.

    """
    if not envelope:
        return False
    if len(envelope) > ENVELOPE_OCTETS:
        raise _malformed(f"has more than {ENVELOPE_OCTETS} octets", "supply/size")
    if not checker_key_spki:
        raise _forbidden("no checking system is registered for this caller", "supply/no-checker")
    try:
        parsed = dsse.parse(envelope)
    except Malformed as malformed:
        raise _malformed(f"is not a strict DSSE envelope ({malformed.message})", malformed.rule) from None
    if parsed.payload_type != PAYLOAD_TYPE:
        raise _malformed(f"has another payload type than {PAYLOAD_TYPE}", "supply/payload-type")
    if parsed.payload != statement(payload, request_id):
        raise _malformed("is not over this payload and this request id", "supply/statement")
    try:
        dsse.verify(parsed, {dsse.key_id(checker_key_spki): checker_key_spki})
    except (Malformed, Forbidden) as refusal:
        raise _forbidden(
            "the Supply Sensitive Check is not by the registered checking system", refusal.rule
        ) from None
    return True


def statement(payload: bytes, request_id: str) -> bytes:
    """Write what a checking system signs once its check of `payload` passed: canonical JSON."""
    return canonical(
        {
            "payload_sha256": hashlib.sha256(payload).hexdigest(),
            "request_id": request_id,
            "result": "passed",
            "type": PAYLOAD_TYPE,
        }
    )


def attest(payload: bytes, request_id: str, spki: bytes, signer: Callable[[bytes], bytes]) -> bytes:
    """Make the envelope as a checking system does; `signer` returns a DER ECDSA P-256 SHA-256 signature."""
    return dsse.emit(dsse.sign(PAYLOAD_TYPE, statement(payload, request_id), {dsse.key_id(spki): signer}))


def _malformed(what: str, rule: str) -> Malformed:
    return Malformed(f"the Supply Sensitive Check {what}", rule=rule, clause=_CLAUSE, field=_FIELD)


def _forbidden(message: str, rule: str) -> Forbidden:
    return Forbidden(message, rule=rule, clause=_CLAUSE, field=_FIELD)
