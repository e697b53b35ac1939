"""Proposals: a statement with those who signed it, from being proposed to its end.

    open ── execute ──▶ done                 acts on records alone: one transaction
    open ── claim ──▶ executing ──▶ done     acts that touch a module; `reconcile` ends what was left executing
                          └──────▶ failed
    open ── withdraw ──▶ withdrawn
    open ── its date ──▶ expired

Each step is a new version of the record and a leaf of the log, so a proposal is carried out once, whoever asks how
often, and the log shows who signed what.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from cryptosvc.core import statement as statements
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.documents import mapping, mappings, number, number_or_none, octets, text
from cryptosvc.core.errors import Malformed
from cryptosvc.core.life import UnixSeconds
from cryptosvc.core.names import SystemName
from cryptosvc.core.statement import Statement


class ProposalState(StrEnum):
    """Where a proposal stands."""

    OPEN = "open"
    EXECUTING = "executing"
    DONE = "done"
    FAILED = "failed"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Endorsement:
    """One custodian's signature on the statement.

    Args:
        custodian_id: whose.
        key_id: `dsse.key_id` of the key that made it.
        signature: DER ECDSA-Sig-Value over the pre-authentication encoding of the statement.
        at: when it was handed in.

    """

    custodian_id: str
    key_id: str
    signature: bytes
    at: UnixSeconds


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalRecord:
    """One proposal.

    Args:
        proposal_id: lower-case hex SHA-256 of the statement.
        version: counts changes of this record, from 1.
        state: where it stands.
        statement: what is to be done.
        endorsements: the proposer's first, then approvals in the order they came.
        withdrawal: the signature that withdrew it; None where nobody did.
        ended_on: when it was done, failed, withdrawn or expired.
        outcome: what the module gave, or why it failed; sorted by name, printable text.

    """

    proposal_id: str
    version: int
    state: ProposalState
    statement: Statement
    endorsements: tuple[Endorsement, ...]
    withdrawal: Endorsement | None = None
    ended_on: UnixSeconds | None = None
    outcome: tuple[tuple[str, str], ...] = ()

    @property
    def system(self) -> SystemName:
        """The system whose records it changes."""
        return self.statement.system


def proposal_document(record: ProposalRecord) -> dict[str, JsonValue]:
    """Print a proposal."""
    return {
        "proposal_id": record.proposal_id,
        "version": record.version,
        "state": record.state.value,
        "statement": statements.statement_document(record.statement),
        "endorsements": [_endorsement_document(one) for one in record.endorsements],
        "withdrawal": None if record.withdrawal is None else _endorsement_document(record.withdrawal),
        "ended_on": record.ended_on,
        "outcome": dict(record.outcome),
    }


def proposal_from_document(document: Mapping[str, JsonValue]) -> ProposalRecord:
    """Read a proposal. Malformed: not what `proposal_document` prints, or its id is not its statement's."""
    try:
        outcome = mapping(document, "outcome")
        ended_on = number_or_none(document, "ended_on")
        found = ProposalRecord(
            proposal_id=text(document, "proposal_id"),
            version=number(document, "version"),
            state=ProposalState(text(document, "state")),
            statement=statements.from_document(mapping(document, "statement")),
            endorsements=tuple(_endorsement(one) for one in mappings(document, "endorsements")),
            withdrawal=None
            if document["withdrawal"] is None
            else _endorsement(mapping(document, "withdrawal")),
            ended_on=None if ended_on is None else UnixSeconds(ended_on),
            outcome=tuple(sorted((name, text(outcome, name)) for name in outcome)),
        )
        same = proposal_document(found) == document
    except (KeyError, ValueError, TypeError, Malformed):
        raise _not_a_proposal() from None
    if not same or statements.proposal_id(found.statement) != found.proposal_id:
        raise _not_a_proposal()
    return found


def _endorsement_document(one: Endorsement) -> dict[str, JsonValue]:
    return {
        "custodian_id": one.custodian_id,
        "key_id": one.key_id,
        "signature": one.signature.hex(),
        "at": one.at,
    }


def _endorsement(document: Mapping[str, JsonValue]) -> Endorsement:
    return Endorsement(
        text(document, "custodian_id"),
        text(document, "key_id"),
        octets(document, "signature"),
        UnixSeconds(number(document, "at")),
    )


def _not_a_proposal() -> Malformed:
    return Malformed("this is not a proposal record as this version prints it", rule="registry/document")


def may_follow(before: ProposalState, after: ProposalState) -> bool:
    """Whether a proposal in one state may be in the other next."""
    return (before, after) in {
        (ProposalState.OPEN, ProposalState.OPEN),
        (ProposalState.OPEN, ProposalState.EXECUTING),
        (ProposalState.OPEN, ProposalState.DONE),
        (ProposalState.OPEN, ProposalState.WITHDRAWN),
        (ProposalState.EXECUTING, ProposalState.DONE),
        (ProposalState.EXECUTING, ProposalState.FAILED),
    }
