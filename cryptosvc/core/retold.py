"""A decision retold: what was known, which policies applied and what they say, and whether approvals verify again.

Everything is taken from the log; the caller brings the entries, each proven.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import orjson

from cryptosvc.core import dsse, policy_set, statement
from cryptosvc.core.account import instant
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.custodian import CustodianRecord, CustodianState
from cryptosvc.core.errors import CryptosvcError, Malformed
from cryptosvc.core.proposal import ProposalRecord
from cryptosvc.core.registry import Record, record_from_document
from cryptosvc.core.said import Entry, moment
from cryptosvc.core.statement import STATEMENT_TYPE


@dataclass(frozen=True, slots=True)
class Told:
    """An entry with what is beside it.

    Args:
        leaf_index: from 0.
        entry: parsed.
        beside: withheld values by name, each the one committed to.

    """

    leaf_index: int
    entry: Entry
    beside: Mapping[str, str]


_DECISION = ("decision", "outcome", "reason", "rule", "clause", "after", "after_leaf")


def retold(
    told: Told, files: Mapping[str, str] | None, approvals: Iterable[JsonValue]
) -> dict[str, JsonValue]:
    """Tell the decision behind an entry.

    Args:
        told: the entry.
        files: the policy set of its digest; None where the entry names none, or the log does not keep it.
        approvals: as `verified` gives them.

    """
    entry = told.entry
    facts: dict[str, JsonValue] = {
        name: value
        for name, value in entry.items()
        if name not in {"commitments", "facts", "policies", "v", *_DECISION}
    }
    content = entry.get("facts")
    policies = entry.get("policies")
    ids = [str(one) for one in policies] if isinstance(policies, list | tuple) else []
    return {
        "leaf_index": told.leaf_index,
        "at": instant(moment(entry)),
        "decision": {name: entry[name] for name in _DECISION if name in entry},
        "known": facts,
        "content": dict(content) if isinstance(content, Mapping) else {},
        "withheld": {name: value for name, value in sorted(told.beside.items()) if name not in _LONG},
        "policies": [
            {"id": one, "text": "" if files is None else policy_set.policy_text(files, one)} for one in ids
        ],
        "policy_set": _kept(entry, files),
        "approvals": list(approvals),
    }


_LONG = frozenset({"document", "genesis", policy_set.WITHHELD})


def _kept(entry: Entry, files: Mapping[str, str] | None) -> str:
    if "policy_digest" not in entry:
        return "this entry names no policy set"
    if files is None:
        return "the policy set of this digest is not kept in the log"
    return f"kept in the log; its {len(files)} files have this digest"


def proposal_of(told: Told) -> str:
    """Id of the proposal behind an entry; empty where there is none."""
    because = told.entry.get("because")
    found = because.get("proposal") if isinstance(because, Mapping) else told.entry.get("proposal")
    return found if isinstance(found, str) else ""


def verified(proposal: Told, custodians: Iterable[Told]) -> list[dict[str, JsonValue]]:
    """Verify every signature on a proposal again.

    Args:
        proposal: the newest entry of the proposal's record.
        custodians: entries of the records of those who signed, in the order of the log.

    Returns:
        For each signature who made it, with which key, when, and what came of it: `verifies`, or why it does not.

    """
    record = _record(proposal)
    if not isinstance(record, ProposalRecord):
        return [{"proposal": proposal_of(proposal), "verdict": "its document was redacted"}]
    versions: dict[str, list[tuple[int, CustodianRecord]]] = {}
    for told in custodians:
        found = _record(told)
        if isinstance(found, CustodianRecord):
            versions.setdefault(found.custodian_id, []).append((moment(told.entry), found))
    payload = statement.emit(record.statement)
    rows: list[dict[str, JsonValue]] = []
    for one in record.endorsements:
        then = [kept for at, kept in versions.get(one.custodian_id, []) if at <= (one.at + 1) * 10**9]
        rows.append(
            {
                "proposal": record.proposal_id,
                "act": record.statement.act,
                "reason": record.statement.reason,
                "custodian": one.custodian_id,
                "key_id": one.key_id,
                "at": instant(one.at * 10**9),
                "verdict": _verdict(
                    then[-1] if then else None,
                    dsse.Envelope(STATEMENT_TYPE, payload, (dsse.Signature(one.key_id, one.signature),)),
                ),
            }
        )
    return rows


def _verdict(signer: CustodianRecord | None, envelope: dsse.Envelope) -> str:
    if signer is None:
        return "no record of this custodian from then is kept"
    if signer.state is not CustodianState.REGISTERED:
        return "was no custodian then"
    try:
        dsse.verify(envelope, {dsse.key_id(signer.key): signer.key})
    except CryptosvcError:
        return "does not verify"
    return "verifies"


def _record(told: Told) -> Record | None:
    document = told.beside.get("document")
    if document is None:
        return None
    try:
        return record_from_document(str(told.entry.get("kind", "")), orjson.loads(document))
    except (Malformed, orjson.JSONDecodeError):
        return None
