"""The papers of a transfer: what either side, and the SMKI PMA, put their signatures to.

Each is canonical JSON; what is read must be exactly what would be printed. The offer, the package, the receipt, the
notice that nothing was imported and the notice of disposition are statements of the service that makes them
(`core/content/service_statement.py`), signed by its service-signing key. The plan is signed by the source's custodians,
inside their statement. The approval and the decision are signed by the SMKI PMA's keys.

A paper names others by the SHA-256 of their canonical JSON, in lower-case hex; signatures are not part of it.

Source: Smart Energy Code G2.22F to G2.22I, G2.22B(e).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.documents import mapping, mappings, number, text, texts, truth
from cryptosvc.core.errors import Malformed
from cryptosvc.core.life import UnixSeconds
from cryptosvc.core.names import Environment, SystemName
from cryptosvc.core.transfer.mechanism import (
    Mechanism,
    OaepHash,
    mechanism_document,
    mechanism_from_document,
)

VERSION = 1
APPROVAL_TYPE = "application/vnd.cryptosvc.transfer-approval.v1+json"
DECISION_TYPE = "application/vnd.cryptosvc.transfer-decision.v1+json"
OFFER, PACKAGE, RECEIPT = "transfer-offer", "transfer-package", "transfer-receipt"
NOT_IMPORTED, DISPOSITION = "transfer-not-imported", "transfer-disposition"
DESTROY, DEACTIVATE = "destroy", "deactivate"


@dataclass(frozen=True, slots=True)
class Party:
    """One end of a transfer.

    Args:
        system, environment, origin: of the deployment and its log.
        service_key: hex SHA-256 of the SubjectPublicKeyInfo DER of its service-signing key.

    """

    system: SystemName
    environment: Environment
    origin: str
    service_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What the destination offers: a transport key that opens in one module only, and what that module is.

    Args:
        transfer_id: names the transfer on both sides.
        party: the destination.
        transport: SubjectPublicKeyInfo DER of the transport public key.
        module: name of the module that made it.
        identity: what the module reports of itself, as `core/asset.IDENTITY`.
        assurance: standard, level and certificate in a line, from the asset register.
        assurance_level: the level; 0 where it has none.
        oaep_hashes: what the module unwraps with, as tried.
        complies: how the system complies with Section G as far as it applies (G2.22I(b)(ii)).
        affiliation: that its provider is not affiliated with the source's (G2.22B(e)), or why that does not apply.
        valid_until: the offer ends then.

    """

    transfer_id: str
    party: Party
    transport: bytes
    module: str
    identity: tuple[tuple[str, str], ...]
    assurance: str
    assurance_level: int
    oaep_hashes: tuple[OaepHash, ...]
    complies: str
    affiliation: str
    valid_until: UnixSeconds


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedKey:
    """A key that is to move: its id, class and role, public point (65 octets) and certificate (DER)."""

    key_id: str
    key_class: str
    role: int | None
    public_point: bytes
    certificate: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the source proposes.

    Args:
        transfer_id: of the offer.
        offer: digest of the offer.
        source, destination: the two ends.
        keys: what is to move; sorted by id.
        reason: why, under G2.22F and G2.22G.
        mechanism: by which.
        disposition: what becomes of the source's copies, `destroy` or `deactivate`.
        disposition_seconds: by when, counted from the export.
        committee_view: digest of the Security Sub-Committee's view, hex SHA-256.
        may_move_on: the keys stay transferable at the destination.
        body: who approves it.

    """

    transfer_id: str
    offer: str
    source: Party
    destination: Party
    keys: tuple[PlannedKey, ...]
    reason: str
    mechanism: Mechanism
    disposition: str
    disposition_seconds: int
    committee_view: str
    may_move_on: bool
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What the SMKI PMA makes its approval depend on (G2.22I(b)(i)).

    Args:
        not_before, not_after: the transfer happens between them.
        transport_key: hex SHA-256 of the transport key's SubjectPublicKeyInfo DER.
        source_people, destination_people: custodians who approve the export, and the import, at least.
        assurance_level: lowest level of the destination's module.
        attempts: how often the export may be begun.
        witnesses: people present at the export, and at the import, at least.
        attested: what software cannot check; a named person attests each, on both sides.

    """

    not_before: UnixSeconds
    not_after: UnixSeconds
    transport_key: str
    source_people: int
    destination_people: int
    assurance_level: int
    attempts: int
    witnesses: int
    attested: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """The SMKI PMA's approval of a transfer and of its mechanism (G2.22I(a)), over the exact plan and offer."""

    transfer_id: str
    plan: str
    offer: str
    mechanism: Mechanism
    committee_view: str
    disposition: str
    disposition_seconds: int
    conditions: Conditions


def offer_document(offer: Offer) -> dict[str, JsonValue]:
    """Print an offer: the payload of a service statement."""
    return {
        "v": VERSION,
        "type": OFFER,
        "subject": offer.transfer_id,
        "system": offer.party.system,
        "environment": offer.party.environment.value,
        "origin": offer.party.origin,
        "service_key": offer.party.service_key,
        "transport": offer.transport.hex(),
        "module": offer.module,
        "identity": dict(offer.identity),
        "assurance": offer.assurance,
        "assurance_level": offer.assurance_level,
        "oaep_hashes": [one.value for one in offer.oaep_hashes],
        "complies": offer.complies,
        "affiliation": offer.affiliation,
        "valid_until": offer.valid_until,
    }


def offer_from_document(document: Mapping[str, JsonValue]) -> Offer:
    """Read an offer; Malformed where it is not what `offer_document` prints."""
    try:
        identity = mapping(document, "identity")
        found = Offer(
            transfer_id=text(document, "subject"),
            party=party_from_document(document),
            transport=bytes.fromhex(text(document, "transport")),
            module=text(document, "module"),
            identity=tuple(sorted((name, text(identity, name)) for name in identity)),
            assurance=text(document, "assurance"),
            assurance_level=number(document, "assurance_level"),
            oaep_hashes=tuple(OaepHash(one) for one in texts(document, "oaep_hashes")),
            complies=text(document, "complies"),
            affiliation=text(document, "affiliation"),
            valid_until=UnixSeconds(number(document, "valid_until")),
        )
        same = offer_document(found) == document
    except (KeyError, TypeError, ValueError):
        same = False
    if not same:
        raise _malformed("offer")
    return found


def plan_document(plan: Plan) -> dict[str, JsonValue]:
    """Print a plan."""
    return {
        "v": VERSION,
        "transfer_id": plan.transfer_id,
        "offer": plan.offer,
        "source": party_document(plan.source),
        "destination": party_document(plan.destination),
        "keys": [
            {
                "key_id": one.key_id,
                "key_class": one.key_class,
                "role": one.role,
                "public_point": one.public_point.hex(),
                "certificate": one.certificate.hex(),
            }
            for one in plan.keys
        ],
        "reason": plan.reason,
        "mechanism": mechanism_document(plan.mechanism),
        "disposition": plan.disposition,
        "disposition_seconds": plan.disposition_seconds,
        "committee_view": plan.committee_view,
        "may_move_on": plan.may_move_on,
        "body": plan.body,
    }


def plan_from_document(document: Mapping[str, JsonValue]) -> Plan:
    """Read a plan; Malformed where it is not what `plan_document` prints, or names no key or one twice."""
    try:
        found = Plan(
            transfer_id=text(document, "transfer_id"),
            offer=text(document, "offer"),
            source=party_from_document(mapping(document, "source")),
            destination=party_from_document(mapping(document, "destination")),
            keys=tuple(_planned(one) for one in mappings(document, "keys")),
            reason=text(document, "reason"),
            mechanism=mechanism_from_document(mapping(document, "mechanism")),
            disposition=text(document, "disposition"),
            disposition_seconds=number(document, "disposition_seconds"),
            committee_view=text(document, "committee_view"),
            may_move_on=truth(document, "may_move_on"),
            body=text(document, "body"),
        )
        names = [one.key_id for one in found.keys]
        same = plan_document(found) == document and names == sorted(set(names)) != []
    except (KeyError, TypeError, ValueError):
        same = False
    if not same or found.disposition not in (DESTROY, DEACTIVATE) or found.disposition_seconds <= 0:
        raise _malformed("plan")
    return found


def approval_document(approval: Approval) -> dict[str, JsonValue]:
    """Print an approval."""
    conditions = approval.conditions
    return {
        "v": VERSION,
        "transfer_id": approval.transfer_id,
        "plan": approval.plan,
        "offer": approval.offer,
        "mechanism": mechanism_document(approval.mechanism),
        "committee_view": approval.committee_view,
        "disposition": approval.disposition,
        "disposition_seconds": approval.disposition_seconds,
        "conditions": {
            "not_before": conditions.not_before,
            "not_after": conditions.not_after,
            "transport_key": conditions.transport_key,
            "source_people": conditions.source_people,
            "destination_people": conditions.destination_people,
            "assurance_level": conditions.assurance_level,
            "attempts": conditions.attempts,
            "witnesses": conditions.witnesses,
            "attested": list(conditions.attested),
        },
    }


def approval_from_document(document: Mapping[str, JsonValue]) -> Approval:
    """Read an approval; Malformed where it is not what `approval_document` prints."""
    try:
        asked = mapping(document, "conditions")
        found = Approval(
            transfer_id=text(document, "transfer_id"),
            plan=text(document, "plan"),
            offer=text(document, "offer"),
            mechanism=mechanism_from_document(mapping(document, "mechanism")),
            committee_view=text(document, "committee_view"),
            disposition=text(document, "disposition"),
            disposition_seconds=number(document, "disposition_seconds"),
            conditions=Conditions(
                not_before=UnixSeconds(number(asked, "not_before")),
                not_after=UnixSeconds(number(asked, "not_after")),
                transport_key=text(asked, "transport_key"),
                source_people=number(asked, "source_people"),
                destination_people=number(asked, "destination_people"),
                assurance_level=number(asked, "assurance_level"),
                attempts=number(asked, "attempts"),
                witnesses=number(asked, "witnesses"),
                attested=tuple(texts(asked, "attested")),
            ),
        )
        same = approval_document(found) == document
    except (KeyError, TypeError, ValueError):
        same = False
    if not same:
        raise _malformed("approval")
    return found


def decision_document(transfer_id: str, plan: str) -> dict[str, JsonValue]:
    """What the SMKI PMA signs to have the source's copies come back without the destination's notice."""
    return {"v": VERSION, "transfer_id": transfer_id, "plan": plan, "decision": "return-to-source"}


def party_document(party: Party) -> dict[str, JsonValue]:
    """Print one end of a transfer."""
    return {
        "system": party.system,
        "environment": party.environment.value,
        "origin": party.origin,
        "service_key": party.service_key,
    }


def party_from_document(document: Mapping[str, JsonValue]) -> Party:
    """Read one end of a transfer; KeyError, TypeError or ValueError where it is none."""
    return Party(
        SystemName(text(document, "system")),
        Environment(text(document, "environment")),
        text(document, "origin"),
        text(document, "service_key"),
    )


def _planned(document: Mapping[str, JsonValue]) -> PlannedKey:
    role = document["role"]
    return PlannedKey(
        key_id=text(document, "key_id"),
        key_class=text(document, "key_class"),
        role=None if role is None else number(document, "role"),
        public_point=bytes.fromhex(text(document, "public_point")),
        certificate=bytes.fromhex(text(document, "certificate")),
    )


def _malformed(what: str) -> Malformed:
    return Malformed(
        f"this is no {what} of a transfer as this version prints it", rule="transfer/paper", clause="G2.22I"
    )
