"""What arrives from the other relevant system is used once its origin and integrity verified (G2.22B(a)).

The CoS Party's part of the DCC Total System and the Access Control Broker's are 'relevant systems' to each other. A
deployment says in its configuration which of them it belongs to and what the other signs with. What comes from the other:

| this deployment | comes from the other | its origin verifies by |
|---|---|---|
| the CoS Party | every Pre-Command, Command and DUIS document: it follows from what the broker's side sent | an origin statement |
| the broker | a Command or Pre-Command whose originator is one of the CoS Party's entities | the originator's signature in a Command, verified under its registered certificate; else an origin statement |

An origin statement is a DSSE envelope (`core/dsse.py`) by the key of the other system that is configured here, over
`{"payload_sha256": hex, "system": text, "type": PAYLOAD_TYPE}` in canonical JSON: (i) it originated from and was created
by that system, and (ii) these octets are the ones it created. It is read from the bytes, not from the caller, whether a
statement is needed.

Example:
    >>> received(content, SeparationProfile())
    False

"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from cryptosvc.core import dsse
from cryptosvc.core.canonical import canonical
from cryptosvc.core.content.base import Content
from cryptosvc.core.content.gbcs.command import CommandContent
from cryptosvc.core.errors import Forbidden, Malformed
from cryptosvc.core.names import ContentKind, SystemName

PAYLOAD_TYPE = "application/vnd.cryptosvc.origin-statement.v1+json"
ENVELOPE_OCTETS = 4096
"""Longest envelope that is read; one with a system name of 64 characters has under 700 octets."""

_NOBODY = SystemName("")
_CLAUSE = "G2.22B(a)"
_FIELD = "origin_statement"
_ORIGINATED = frozenset({ContentKind.GBCS_PRE_COMMAND, ContentKind.GBCS_COMMAND, ContentKind.DUIS_DOCUMENT})


class RelevantSystem(StrEnum):
    """The two relevant systems of G2.22A, by what they are here."""

    COS_PARTY = "cos-party"
    ACCESS_CONTROL_BROKER = "access-control-broker"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeparationProfile:
    """Which relevant system this deployment belongs to, and the other one.

    Args:
        this: None where it belongs to neither, and then nothing comes from the other.
        other: name of the other system, as it names itself in its statements.
        other_key: SubjectPublicKeyInfo DER of the P-256 key of its statements; empty where none is configured.
        other_entities: EUI-64s, as text, of the other system's entities that originate Commands.

    """

    this: RelevantSystem | None = None
    other: SystemName = _NOBODY
    other_key: bytes = b""
    other_entities: frozenset[str] = frozenset()


def received(content: Content, profile: SeparationProfile) -> bool:
    """Whether the content comes, or purports to come, from the other relevant system."""
    if profile.this is None or content.kind not in _ORIGINATED:
        return False
    if profile.this is RelevantSystem.COS_PARTY:
        return True
    return dict(content.facts).get("originator") in profile.other_entities


def verified(content: Content, payload: bytes, envelope: bytes, profile: SeparationProfile) -> bool:
    """Whether origin and integrity of what was received are verified.

    Args:
        content: what `payload` turned out to be.
        payload: the whole payload of the request.
        envelope: origin statement as the caller attached it; empty where none is. One that is attached must hold.
        profile: who the other system is.

    Raises:
        Malformed: the envelope is not one, or is over something else.
        Forbidden: this deployment knows no other relevant system, or that one did not sign this.

    """
    if envelope:
        _require_statement(payload, envelope, profile)
        return True
    # the signature inside a Command was verified under its originator's registered certificate when it was read
    return (
        profile.this is RelevantSystem.ACCESS_CONTROL_BROKER
        and isinstance(content, CommandContent)
        and content.originator is not None
    )


def _require_statement(payload: bytes, envelope: bytes, profile: SeparationProfile) -> None:
    if len(envelope) > ENVELOPE_OCTETS:
        raise _malformed(f"has more than {ENVELOPE_OCTETS} octets", "separation/size")
    if not profile.other_key:
        raise _forbidden("no other relevant system is configured here", "separation/no-other")
    try:
        parsed = dsse.parse(envelope)
    except Malformed as malformed:
        raise _malformed(f"is not a strict DSSE envelope ({malformed.message})", malformed.rule) from None
    if parsed.payload_type != PAYLOAD_TYPE:
        raise _malformed(f"has another payload type than {PAYLOAD_TYPE}", "separation/payload-type")
    if parsed.payload != statement(payload, profile.other):
        raise _malformed("is not over this payload by the other relevant system", "separation/statement")
    try:
        dsse.verify(parsed, {dsse.key_id(profile.other_key): profile.other_key})
    except (Malformed, Forbidden) as refusal:
        raise _forbidden(
            "the origin statement is not by the other relevant system that is configured", refusal.rule
        ) from None


def statement(payload: bytes, system: SystemName) -> bytes:
    """Write what the system that created `payload` signs: canonical JSON."""
    return canonical(
        {"payload_sha256": hashlib.sha256(payload).hexdigest(), "system": system, "type": PAYLOAD_TYPE}
    )


def attest(payload: bytes, system: SystemName, spki: bytes, signer: Callable[[bytes], bytes]) -> bytes:
    """Make the envelope as the other system does; `signer` returns a DER ECDSA P-256 SHA-256 signature."""
    return dsse.emit(dsse.sign(PAYLOAD_TYPE, statement(payload, system), {dsse.key_id(spki): signer}))


def _malformed(what: str, rule: str) -> Malformed:
    return Malformed(f"the origin statement {what}", rule=rule, clause=_CLAUSE, field=_FIELD)


def _forbidden(message: str, rule: str) -> Forbidden:
    return Forbidden(message, rule=rule, clause=_CLAUSE, field=_FIELD)
