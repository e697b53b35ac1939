"""The steps of a transfer at its source: propose, approve, export, receipt, dispose; abort and roll-back.

The keys stop being usable in the record of the export, before its package is signed.

Source: Smart Energy Code G2.22F to G2.22I.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace

from cryptosvc.core import lifecycle
from cryptosvc.core.acts import transfer_devices as devices
from cryptosvc.core.acts import transfer_steps as steps
from cryptosvc.core.acts.base import Turn, text_of
from cryptosvc.core.errors import Corrupt
from cryptosvc.core.handover import checks, notices
from cryptosvc.core.life import Event, UnixSeconds
from cryptosvc.core.proposal import ProposalRecord, ProposalState
from cryptosvc.core.registry import KeyRecord, KeyState, Record
from cryptosvc.core.transfer import papers
from cryptosvc.core.transfer.mechanism import Trust
from cryptosvc.core.transfer.papers import Conditions, Plan
from cryptosvc.core.transfer.proof import is_symmetric, require_proven
from cryptosvc.core.transfer.states import Side, Step


def propose(turn: Turn) -> tuple[Record, ...]:
    """The source's custodians propose a plan for an offer."""
    statement = turn.statement
    steps.record(turn, Step.PROPOSE)
    destination_key = steps.octets_of(statement, "destination_key")
    document = checks.read_statement(steps.octets_of(statement, "offer"), destination_key, papers.OFFER)
    offered, plan = papers.offer_from_document(document), steps.plan_of(statement)
    checks.require_offer(offered, destination_key, statement.subject, turn.at)
    checks.require_plan(
        plan,
        offered,
        steps.here(statement, plan.source.service_key),
        statement.subject,
        turn.transfer_bodies,
    )
    devices.require_destroyed_at_source(plan)
    checks.require_movable(plan, steps.keys_of(turn), turn.at)
    made = steps.begun(statement, Side.SOURCE, Step.PROPOSE, offered, turn.at)
    return (replace(made, plan=plan),)


def approve(turn: Turn) -> tuple[Record, ...]:
    """The SMKI PMA's approval is taken in: over this plan, this offer and this mechanism."""
    found = steps.stepped(turn, Step.APPROVE)
    plan = found.plan
    assert plan is not None
    approval, signers = checks.approved(
        steps.octets_of(turn.statement, "approval"),
        steps.custodians_of(turn),
        plan.body,
        turn.transfer_bodies,
    )
    checks.require_approval(approval, plan, found.offer)
    steps.require_scope(turn, [one.key_id for one in plan.keys], signers)
    return (replace(found, approval=approval, approved_by=signers),)


def export(turn: Turn) -> tuple[Record, ...]:
    """The keys are wrapped, and stop being usable here."""
    found, made = steps.stepped(turn, Step.EXPORT), dict(turn.given().facts)
    plan, approval = found.plan, found.approval
    assert plan is not None
    assert approval is not None
    keys = steps.keys_of(turn)
    steps.require_scope(turn, [one.key_id for one in plan.keys], found.approved_by)
    _require_body_stands(turn, plan, found.approved_by)
    checks.require_window(approval.conditions, turn.at)
    checks.require_stands(found.offer, turn.at)
    _require_attempts(turn, approval.conditions)
    stored = devices.require_whole(plan, turn.records.get(devices.STORE))
    steps.require_attended(turn, approval.conditions, approval.conditions.source_people)
    checks.require_movable(plan, keys, turn.at)
    if made:
        _require_wrapped(plan, made)
    moved = tuple(steps.key_after(keys[one.key_id], Event.EXPORT, turn.at) for one in plan.keys)
    seconds = plan.disposition_seconds
    facts = tuple(sorted((*steps.kept(made), *stored)))
    changed = replace(found, facts=facts, dispose_by=UnixSeconds(turn.at + seconds))
    return (changed, *moved)


def receipt(turn: Turn) -> tuple[Record, ...]:
    """The source takes in the destination's receipt, and verifies every proof itself."""
    found = steps.stepped(turn, Step.RECEIPT)
    given = notices.receipt_from_document(steps.from_destination(turn, found, "receipt", papers.RECEIPT))
    plan = found.plan
    assert plan is not None
    if (given.transfer_id, given.party) != (found.transfer_id, found.offer.party):
        raise steps.refused("the receipt is of another transfer or party", "mixed")
    if given.package != text_of(turn.statement, "package"):
        raise steps.refused("the receipt is for another package than was signed here", "mixed")
    proofs = {one.key_id: one for one in given.proofs}
    if sorted(proofs) != [one.key_id for one in plan.keys]:
        raise steps.refused("the receipt has not one proof for each key", "mixed")
    facts = dict(found.facts)
    for planned in plan.keys:
        require_proven(
            proofs[planned.key_id],
            found.transfer_id,
            planned.key_class,
            planned.public_point,
            facts.get(f"check:{planned.key_id}", ""),
        )
    if given.rows != devices.rows_of(found):
        raise steps.refused(
            f"the receipt is for {given.rows} device keys, {devices.rows_of(found)} were exported", "devices"
        )
    return (replace(found, package=given.package),)


def dispose(turn: Turn) -> tuple[Record, ...]:
    """The source's copies are destroyed, or deactivated, as was approved."""
    found, made = steps.stepped(turn, Step.DISPOSE), dict(turn.given().facts)
    plan = found.plan
    assert plan is not None
    steps.require_scope(turn, [one.key_id for one in plan.keys], found.approved_by)
    keys = steps.keys_of(turn)
    gone = plan.disposition == papers.DESTROY
    if made and gone and made.get("objects_left") != "0":
        raise Corrupt(
            "the module was not asked again, or still has an object of a key", rule="transfer/not-destroyed"
        )
    after = tuple(_relinquished(keys[one.key_id], turn.at, gone=gone) for one in plan.keys)
    return (found, *after, *devices.released(turn, found))


def abort(turn: Turn) -> tuple[Record, ...]:
    """Nothing was exported, and nothing will be."""
    return (steps.stepped(turn, Step.ABORT),)


def roll_back(turn: Turn) -> tuple[Record, ...]:
    """The source's copies come back, suspended: the destination never imported them, or the SMKI PMA decided so."""
    found = steps.stepped(turn, Step.ROLL_BACK)
    plan, statement = found.plan, turn.statement
    assert plan is not None
    steps.require_scope(turn, [one.key_id for one in plan.keys], None)
    if text_of(statement, "not_imported"):
        document = steps.from_destination(turn, found, "not_imported", papers.NOT_IMPORTED)
        notice = notices.not_imported_from_document(document)
        wanted = (found.transfer_id, found.offer.party, checks.offer_digest(found.offer))
        if (notice.transfer_id, notice.party, notice.offer) != wanted:
            raise steps.refused("the notice is of another transfer, party or offer", "mixed")
    else:
        document, _ = checks.read_body(
            steps.octets_of(statement, "decision"),
            papers.DECISION_TYPE,
            steps.custodians_of(turn),
            plan.body,
            turn.transfer_bodies,
        )
        if document != papers.decision_document(found.transfer_id, checks.plan_digest(plan)):
            raise steps.refused("the SMKI PMA's decision is of another transfer or plan", "mixed")
    keys = steps.keys_of(turn)
    back = [
        steps.key_after(keys[one.key_id], Event.RETURN, turn.at)
        for one in plan.keys
        if keys[one.key_id].state is KeyState.IN_TRANSFER  # one found to be compromised meanwhile stays so
    ]
    return (found, *back)


def _require_body_stands(turn: Turn, plan: Plan, approved_by: Collection[str]) -> None:
    """Nobody of the body who signed was removed, or got another key, since the approval was taken in."""
    approval = turn.statement.parameters.get("approval")
    assert isinstance(approval, str)
    _, signers = checks.approved(
        bytes.fromhex(approval), steps.custodians_of(turn), plan.body, turn.transfer_bodies
    )
    if list(signers) != sorted(approved_by):
        raise steps.refused("the approval is signed by others than when it was taken in", "pma-key")


def _require_attempts(turn: Turn, conditions: Conditions) -> None:
    """So many exports of this transfer were begun; this one is not counted."""
    begun = [
        one
        for one in turn.records.values()
        if isinstance(one, ProposalRecord)
        and one.statement != turn.statement
        and (one.statement.act, one.statement.subject) == (turn.statement.act, turn.statement.subject)
        and one.state in (ProposalState.FAILED, ProposalState.EXECUTING, ProposalState.DONE)
    ]
    if len(begun) >= conditions.attempts:
        raise steps.refused(
            f"the approval allows {conditions.attempts} attempts, and so many were begun",
            "attempts",
            "G2.22I(b)(i)",
        )


def _require_wrapped(plan: Plan, made: Mapping[str, str]) -> None:
    """What the module did is what was planned, no less trusted, and every key was wrapped."""
    trust = Trust(made.get("trust", "none"))
    if steps.TRUSTS.index(trust) < steps.TRUSTS.index(plan.mechanism.trust):
        raise steps.refused(
            f"the module was measured as {trust}; the plan that was approved says {plan.mechanism.trust}",
            "trust-not-enforced",
            "G2.22G",
        )
    if made.get("oaep_hash") != plan.mechanism.oaep_hash or not made.get("carrier"):
        raise steps.refused("the module wrapped otherwise than was planned", "mechanism", "G2.22G")
    if any(not made.get(f"blob:{one.key_id}") for one in plan.keys):
        raise steps.refused("the module did not wrap every key", "mechanism", "G2.22G")
    if any(is_symmetric(one.key_class) and not made.get(f"check:{one.key_id}") for one in plan.keys):
        raise steps.refused("a symmetric key has no check value", "mechanism", "G2.22G")


def _relinquished(key: KeyRecord, at: UnixSeconds, *, gone: bool) -> KeyRecord:
    """Deactivated, and then destroyed where that was approved; one found to be compromised meanwhile is destroyed."""
    state, life = key.state, key.life
    if state is KeyState.IN_TRANSFER:
        state, life = lifecycle.after(state, Event.RELINQUISH), life.passed(Event.RELINQUISH, at)
    if gone:
        state, life = lifecycle.after(state, Event.DESTROY), life.passed(Event.DESTROY, at)
    return replace(key, version=key.version + 1, state=state, life=life)
