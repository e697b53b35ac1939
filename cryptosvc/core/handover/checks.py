"""Every rule of a transfer as a check of its own; pure, so that a replay of the log asks the same again.

A check raises, naming the rule: `transfer/…`. What it looks at are papers and records; the time is an argument.

Source: Smart Energy Code G2.22B(e), G2.22F to G2.22I, G2.20.
"""

import hashlib
from collections.abc import Collection, Mapping

import orjson

from cryptosvc.core import dsse, lifecycle
from cryptosvc.core.canonical import JsonValue, canonical, digest
from cryptosvc.core.content import service_statement
from cryptosvc.core.custodian import CustodianRecord, CustodianRole, CustodianState
from cryptosvc.core.custody import one_person
from cryptosvc.core.errors import AwaitingApproval, Forbidden, Internal, Malformed, WrongState
from cryptosvc.core.life import UnixSeconds
from cryptosvc.core.registry import KeyRecord, KeyState
from cryptosvc.core.transfer.bodies import PMA, Body, require_body
from cryptosvc.core.transfer.mechanism import require_fit
from cryptosvc.core.transfer.papers import (
    APPROVAL_TYPE,
    Approval,
    Conditions,
    Offer,
    Party,
    Plan,
    PlannedKey,
    approval_from_document,
    offer_document,
    plan_document,
)

PMA_PEOPLE = 2
"""Members of the approving body who sign an approval or a decision, at least. The Code does not say how many; one key that is
lost or stolen must not be enough."""
DISPOSITION_SECONDS_AT_MOST = 90 * 86_400


def fingerprint(spki: bytes) -> str:
    """Hex SHA-256 of a SubjectPublicKeyInfo DER: how papers name a key."""
    return hashlib.sha256(spki).hexdigest()


def offer_digest(offer: Offer) -> str:
    """How other papers name an offer."""
    return digest(offer_document(offer)).hex()


def plan_digest(plan: Plan) -> str:
    """How other papers name a plan."""
    return digest(plan_document(plan)).hex()


def read_statement(envelope: bytes, service_key: bytes, kind: str) -> Mapping[str, JsonValue]:
    """Read a statement of another deployment's service, verified under its key.

    Args:
        envelope: DSSE.
        service_key: SubjectPublicKeyInfo DER.
        kind: the type the statement must be of, as `transfer-offer`.

    Raises:
        Malformed: it is no strict statement of the kind.
        Forbidden: `transfer/other-signer`: signed by another key, or of another party than its key's.

    """
    found = dsse.parse(envelope)
    if found.payload_type != service_statement.PAYLOAD_TYPE:
        raise Malformed("this is no statement of a service", rule="transfer/paper", clause="G2.22I")
    service_statement.parse(found.payload)
    document: Mapping[str, JsonValue] = orjson.loads(found.payload)
    if document["type"] != kind:
        raise Malformed(f"this statement is no {kind}", rule="transfer/paper", clause="G2.22I")
    try:
        dsse.verify(found, {dsse.key_id(service_key): service_key})
    except Forbidden:
        raise _refused(
            f"the {kind} is not signed by the service-signing key that was named", "other-signer"
        ) from None
    return document


def read_body(
    envelope: bytes,
    payload_type: str,
    custodians: Collection[CustodianRecord],
    body: str,
    bodies: Collection[Body] | None,
) -> tuple[Mapping[str, JsonValue], tuple[str, ...]]:
    """Read what the approving body signed, and who signed; custodian ids, sorted.

    Args:
        envelope: DSSE, with as many signatures as there are signers.
        payload_type: approval or decision.
        custodians: the register as it is; only approvers of the body count, only those registered now, and nobody who
            has another role in this system besides.
        body: that approves, as the plan names it.
        bodies: as configured here, whose members alone count; None where the policies are not at hand.

    Raises:
        Malformed: it is not canonical JSON of that type.
        Forbidden: `transfer/pma-key`: signed by somebody else, or by a key that is not registered any more.
        AwaitingApproval: `transfer/pma-quorum`: too few people signed.

    """
    found = dsse.parse(envelope)
    if found.payload_type != payload_type:
        raise Malformed(
            "this is no paper of an approving body of that kind", rule="transfer/paper", clause="G2.22I(a)"
        )
    approvers = {
        dsse.key_id(one.key): one
        for one in custodians
        if one.state is CustodianState.REGISTERED and _speaks_for(one, body, bodies)
    }
    try:
        signed = dsse.verify(found, {key_id: one.key for key_id, one in approvers.items()})
    except Forbidden:
        raise _refused(
            "it is signed by a key that is not, or not any more, registered as one of the body that approves",
            "pma-key",
        ) from None
    people = {one_person(approvers[key_id].person) for key_id in signed}
    if len(people) < PMA_PEOPLE:
        raise AwaitingApproval(
            f"{len(people)} of {PMA_PEOPLE} people of the body that approves have signed it",
            rule="transfer/pma-quorum",
            clause="G2.22I(a)",
        )
    try:
        document: object = orjson.loads(found.payload)
        same = isinstance(document, dict) and canonical(document) == found.payload
    except (orjson.JSONDecodeError, Internal):
        same = False
    if not same or not isinstance(document, dict):
        raise Malformed(
            "what an approving body signs is canonical JSON", rule="transfer/paper", clause="G2.22I(a)"
        )
    return document, tuple(sorted(approvers[key_id].custodian_id for key_id in signed))


def require_offer(offer: Offer, destination_key: bytes, transfer_id: str, at: UnixSeconds) -> None:
    """Require that an offer is of the party whose key signed it, for this transfer, and stands."""
    for holds, what, rule in (
        (
            offer.party.service_key == fingerprint(destination_key),
            "names another key than signed it",
            "other-signer",
        ),
        (offer.transfer_id == transfer_id, "is for another transfer", "mixed"),
        (at < offer.valid_until, "has ended; ask the destination for a new one", "offer-ended"),
        (
            offer.complies.strip() != "",
            "does not say how the system complies with Section G",
            "no-compliance",
        ),
        (offer.affiliation.strip() != "", "says nothing of affiliation (G2.22B(e))", "no-compliance"),
    ):
        if not holds:
            raise _refused(f"the offer {what}", rule)


def require_plan(
    plan: Plan, offer: Offer, here: Party, transfer_id: str, bodies: Collection[Body] | None = None
) -> None:
    """Require that a plan is ours, for this very offer, by a mechanism that may be used here, to the body that approves it."""
    for holds, what, rule in (
        (plan.transfer_id == transfer_id, "is for another transfer", "mixed"),
        (plan.offer == offer_digest(offer), "is for another offer", "mixed"),
        (_same_deployment(plan.source, here), "is of another source", "other-source"),
        (plan.destination == offer.party, "names another destination than the offer", "mixed"),
        (plan.destination.system != plan.source.system, "leads back into the same system", "same-system"),
        (
            plan.destination.environment is plan.source.environment,
            "leads into another environment",
            "other-environment",
        ),
        (
            plan.mechanism.oaep_hash in offer.oaep_hashes,
            "is by a hash that the destination's module does not have",
            "no-common-hash",
        ),
        (
            plan.disposition_seconds <= DISPOSITION_SECONDS_AT_MOST,
            "leaves the source's copies for longer than 90 days",
            "disposition-late",
        ),
    ):
        if not holds:
            raise _refused(f"the plan {what}", rule)
    require_body(plan.body, [one.key_class for one in plan.keys], bodies)
    require_fit(plan.mechanism, plan.source.environment)


def planned_of(key: KeyRecord) -> PlannedKey:
    """What a plan says of a key. Whatever names a key of a plan is compared with all of it, its role too."""
    return PlannedKey(
        key_id=str(key.key_id),
        key_class=key.key_class,
        role=None if key.role is None else int(key.role),
        public_point=key.public_point,
        certificate=key.certificate,
    )


def require_movable(plan: Plan, keys: Mapping[str, KeyRecord], at: UnixSeconds) -> None:
    """Require that every planned key is there as planned, was made transferable, and is in use.

    Raises:
        Forbidden: `transfer/key` (another than planned), `transfer/not-transferable`, `transfer/usage-limit`,
            `transfer/modules`.
        WrongState: `transfer/key-state`.

    """
    for planned in plan.keys:
        key = keys.get(planned.key_id)
        same = key is not None and (planned_of(key), key.system) == (planned, plan.source.system)
        if key is None or not same:
            raise _refused(
                f"key {planned.key_id} is not what the plan says: class, role, public key or certificate",
                "key",
            )
        if not key.transferable:
            raise _refused(
                f"key {key.key_id} was not made transferable, which is fixed when a key is made; generate a new key at "
                "the destination instead",
                "not-transferable",
                "G2.22G",
            )
        if key.life.usage_limit is not None:
            raise _refused(
                f"key {key.key_id} has a usage limit, and uses are counted by one system only", "usage-limit"
            )
        if lifecycle.effective(key, at)[0] is not KeyState.ACTIVE:
            raise WrongState(
                f"key {key.key_id} is {lifecycle.effective(key, at)[0]}; only an active key moves, since it is active "
                "where it arrives",
                rule="transfer/key-state",
                clause="G2.22G",
            )
    if len({keys[one.key_id].module for one in plan.keys}) != 1:
        raise _refused("the keys of one transfer are on one module; make a transfer for each", "modules")


def require_approval(approval: Approval, plan: Plan, offer: Offer) -> None:
    """Require that an approval is over this very plan, offer and mechanism, and that its conditions can be met."""
    conditions = approval.conditions
    for holds, what, rule in (
        (approval.transfer_id == plan.transfer_id, "is for another transfer", "mixed"),
        (approval.plan == plan_digest(plan), "is over another plan", "mixed"),
        (approval.offer == offer_digest(offer), "is over another offer", "mixed"),
        (approval.mechanism == plan.mechanism, "is for another mechanism", "mixed"),
        (
            approval.committee_view == plan.committee_view,
            "took account of another view of the Security Sub-Committee",
            "mixed",
        ),
        (
            (approval.disposition, approval.disposition_seconds)
            == (plan.disposition, plan.disposition_seconds),
            "asks for another disposition",
            "mixed",
        ),
        (
            conditions.transport_key == fingerprint(offer.transport),
            "is for another transport key",
            "transport-key",
        ),
        (
            conditions.assurance_level <= offer.assurance_level,
            "asks for a higher assurance level than the destination's module has",
            "assurance",
        ),
        (conditions.not_before < conditions.not_after, "has no time in which to act", "window"),
    ):
        if not holds:
            raise _refused(f"the approval {what}", rule, "G2.22I(a)")


def require_stands(offer: Offer, at: UnixSeconds) -> None:
    """Require that an offer has not ended."""
    if at >= offer.valid_until:
        raise _refused("the offer has ended; ask the destination for a new one", "offer-ended")


def require_window(conditions: Conditions, at: UnixSeconds) -> None:
    """Require that the moment is within the window of the approval."""
    if not conditions.not_before <= at < conditions.not_after:
        raise _refused(
            "the approval is for another time; nothing is done outside its window",
            "window",
            "G2.22I(b)(i)",
        )


def require_attended(
    conditions: Conditions,
    people: int,
    people_at_least: int,
    witnesses: Collection[str],
    attested: Mapping[str, str],
) -> None:
    """Require who must be there: custodians that approved, witnesses, and a named person for each condition to attest.

    Args:
        conditions: of the approval.
        people: custodians who approved the act.
        people_at_least: how many the conditions ask for on this side.
        witnesses: names of people present.
        attested: condition in words → name of the person who attests it.

    """
    present = {one_person(one) for one in witnesses if one.strip()}
    open_ones = [one for one in conditions.attested if not attested.get(one, "").strip()]
    for holds, what, rule in (
        (people >= people_at_least, f"asks for {people_at_least} custodians, {people} approved", "people"),
        (
            len(present) >= conditions.witnesses,
            f"asks for {conditions.witnesses} witnesses, {len(present)} are named",
            "witnesses",
        ),
        (not open_ones, f"has conditions that nobody attests: {'; '.join(open_ones)}", "attested"),
        (
            set(attested) <= set(conditions.attested),
            "does not have every condition that was attested",
            "attested",
        ),
    ):
        if not holds:
            raise _refused(f"the approval {what}", rule, "G2.22I(b)(i)")


def approved(
    envelope: bytes,
    custodians: Collection[CustodianRecord],
    body: str,
    bodies: Collection[Body] | None = None,
) -> tuple[Approval, tuple[str, ...]]:
    """Read the body's approval and who signed it; refusals as `read_body`."""
    document, signers = read_body(envelope, APPROVAL_TYPE, custodians, body, bodies)
    return approval_from_document(document), signers


def _speaks_for(one: CustodianRecord, body: str, bodies: Collection[Body] | None) -> bool:
    if body == PMA:
        return one.roles == {CustodianRole.PMA_APPROVER}
    members = {name for found in bodies or () if found.name == body for name in found.members}
    return one.roles == {CustodianRole.TRANSFER_APPROVER} and (bodies is None or one.custodian_id in members)


def _same_deployment(party: Party, here: Party) -> bool:
    return (party.system, party.environment, party.origin) == (here.system, here.environment, here.origin)


def _refused(what: str, rule: str, clause: str = "G2.22I") -> Forbidden:
    return Forbidden(what, rule=f"transfer/{rule}", clause=clause)
