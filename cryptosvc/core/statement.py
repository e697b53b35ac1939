"""Statements: what custodians sign when they propose or approve a governed act, octet for octet.

A statement is canonical JSON (`core/canonical.py`). It names one act on one subject at one version of its record, so
that it can be carried out once, on what its signers saw, and on nothing else; it names the policies in force and ends
at a date. Its digest is the id of the proposal.

Source: Smart Energy Code G5.13(b) and G5.24 (key material throughout its life), G4.7, G4.8, G2.22B(d) (who may).
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from cryptosvc.core.canonical import JsonValue, canonical
from cryptosvc.core.documents import mapping, number, text
from cryptosvc.core.errors import Internal, Malformed
from cryptosvc.core.life import UnixSeconds
from cryptosvc.core.names import Environment, SystemName

STATEMENT_TYPE = "application/vnd.cryptosvc.statement.v1+json"
WITHDRAWAL_TYPE = "application/vnd.cryptosvc.withdrawal.v1+json"
VERSION = 1
LARGEST_OCTETS = 256 * 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HEX_32 = re.compile(r"[0-9a-f]{32}")
_HEX_64 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One governed act, as it is signed.

    Args:
        act: a row of `core/acts/table.py`, as `key.activate`.
        subject: id of the key, caller, custodian or module it is about.
        subject_version: version of the subject's record the signers saw; 0 where there is none yet.
        parameters: of the act.
        clause: clause of the Smart Energy Code it is done under.
        reason: why, in a sentence.
        system, environment, origin: of the deployment and its log; a statement for another one is refused.
        policy_digest: of the policies in force, lower-case hex.
        proposed_by: custodian id.
        proposed_at, expires_at: from when to when it may be approved and carried out.
        nonce: 16 octets in hex, so that the same act can be proposed twice.

    """

    act: str
    subject: str
    subject_version: int
    parameters: Mapping[str, JsonValue]
    clause: str
    reason: str
    system: SystemName
    environment: Environment
    origin: str
    policy_digest: str
    proposed_by: str
    proposed_at: UnixSeconds
    expires_at: UnixSeconds
    nonce: str


def statement_document(statement: Statement) -> dict[str, JsonValue]:
    """Print a statement."""
    return {
        "v": VERSION,
        "act": statement.act,
        "subject": statement.subject,
        "subject_version": statement.subject_version,
        "parameters": statement.parameters,
        "clause": statement.clause,
        "reason": statement.reason,
        "system": statement.system,
        "environment": statement.environment.value,
        "origin": statement.origin,
        "policy_digest": statement.policy_digest,
        "proposed_by": statement.proposed_by,
        "proposed_at": statement.proposed_at,
        "expires_at": statement.expires_at,
        "nonce": statement.nonce,
    }


def emit(statement: Statement) -> bytes:
    """The octets that are signed."""
    return canonical(statement_document(statement))


def proposal_id(statement: Statement) -> str:
    """Lower-case hex SHA-256 of the octets that are signed."""
    return hashlib.sha256(emit(statement)).hexdigest()


def parse(octets: bytes) -> Statement:
    """Read a statement; Malformed unless `octets` is exactly what `emit` writes for it."""
    if len(octets) > LARGEST_OCTETS:
        raise Malformed(f"a statement has at most {LARGEST_OCTETS} octets", rule="statement/size")
    try:
        document: object = orjson.loads(octets)
    except orjson.JSONDecodeError:
        raise _malformed() from None
    if not isinstance(document, dict):
        raise _malformed()
    statement = from_document(document)
    if emit(statement) != octets:
        raise _malformed()
    return statement


def from_document(document: Mapping[str, JsonValue]) -> Statement:
    """Read a statement's document; Malformed where it is not one."""
    try:
        found = Statement(
            act=text(document, "act"),
            subject=text(document, "subject"),
            subject_version=number(document, "subject_version"),
            parameters=mapping(document, "parameters"),
            clause=text(document, "clause"),
            reason=text(document, "reason"),
            system=SystemName(text(document, "system")),
            environment=Environment(text(document, "environment")),
            origin=text(document, "origin"),
            policy_digest=text(document, "policy_digest"),
            proposed_by=text(document, "proposed_by"),
            proposed_at=UnixSeconds(number(document, "proposed_at")),
            expires_at=UnixSeconds(number(document, "expires_at")),
            nonce=text(document, "nonce"),
        )
        same = statement_document(found) == document
    except (KeyError, TypeError, ValueError, Internal):
        raise _malformed() from None
    if not same:
        raise _malformed()
    _require_bounds(found)
    return found


def _require_bounds(statement: Statement) -> None:
    for what, holds in (
        ("subject is an id: letters, digits, `.`, `_`, `-`", _NAME.fullmatch(statement.subject)),
        ("proposed_by is a custodian's id", _NAME.fullmatch(statement.proposed_by)),
        ("nonce is 16 octets in lower-case hex", _HEX_32.fullmatch(statement.nonce)),
        ("policy_digest is 32 octets in lower-case hex", _HEX_64.fullmatch(statement.policy_digest)),
        ("subject_version is not negative", statement.subject_version >= 0),
        ("it ends after it begins", 0 < statement.proposed_at < statement.expires_at),
        ("reason is 1 to 500 printable characters", _is_sentence(statement.reason)),
    ):
        if not holds:
            raise Malformed(f"a statement's {what}", rule="statement/field", clause="G5.13(b)")


def _is_sentence(reason: str) -> bool:
    return 1 <= len(reason) <= 500 and reason.isprintable()


def _malformed() -> Malformed:
    return Malformed(
        "this is not a statement as this version prints it: canonical JSON with every field and no other",
        rule="statement/form",
    )
