"""The steps of a transfer at its destination: offer, import, decline.

The keys come to be usable in the record of the import, after each has proved itself and the transport key is destroyed.

Source: Smart Energy Code G2.22F to G2.22I.
"""

from collections.abc import Mapping
from dataclasses import replace

from cryptosvc.core import lifecycle
from cryptosvc.core.acts import transfer_devices as devices
from cryptosvc.core.acts import transfer_steps as steps
from cryptosvc.core.acts.base import Turn, require_classified, text_of
from cryptosvc.core.acts.keys import object_id
from cryptosvc.core.canonical import digest
from cryptosvc.core.content.x509.identity import read_certificate
from cryptosvc.core.errors import Conflict, Forbidden, Malformed
from cryptosvc.core.handover import checks, notices
from cryptosvc.core.handover.notices import Package
from cryptosvc.core.keyclass import ceiling
from cryptosvc.core.life import Event, UnixSeconds
from cryptosvc.core.names import ModuleName
from cryptosvc.core.registry import KeyRecord, KeyState, Origin, Record
from cryptosvc.core.transfer import papers
from cryptosvc.core.transfer.bodies import require_body
from cryptosvc.core.transfer.mechanism import OaepHash
from cryptosvc.core.transfer.papers import Offer, Plan
from cryptosvc.core.transfer.proof import Proof, require_proven
from cryptosvc.core.transfer.record import TransferRecord
from cryptosvc.core.transfer.states import Side, Step


def offer(turn: Turn) -> tuple[Record, ...]:
    """The destination's module made a transport key, and says what it is."""
    statement, made = turn.statement, dict(turn.given().facts)
    before = steps.record(turn, Step.OFFER)
    assert before is None
    valid_until = statement.parameters["valid_until"]
    assert isinstance(valid_until, int)
    offered = Offer(
        transfer_id=statement.subject,
        party=steps.here(statement, text_of(statement, "service_key")),
        transport=bytes.fromhex(made.get("transport", "")),
        module=text_of(statement, "module"),
        identity=tuple(
            (name, made.get(name, "")) for name in ("firmware", "manufacturer", "model", "serial")
        ),
        assurance=made.get("assurance", ""),
        assurance_level=int(made.get("assurance_level", "0")),
        oaep_hashes=tuple(OaepHash(one) for one in made.get("oaep_hashes", "").split(",") if one),
        complies=text_of(statement, "complies"),
        affiliation=text_of(statement, "affiliation"),
        valid_until=UnixSeconds(valid_until),
    )
    if valid_until <= turn.at or not offered.complies.strip() or not offered.affiliation.strip():
        raise Malformed(
            "an offer ends later than now, and says how the system complies with Section G and of affiliation",
            rule="transfer/no-compliance",
            clause="G2.22I(b)(ii)",
        )
    return (steps.begun(statement, Side.DESTINATION, Step.OFFER, offered, turn.at),)


def receive(turn: Turn) -> tuple[Record, ...]:
    """The keys arrived, each proved itself, and the transport key is destroyed: they are usable here."""
    found, made = steps.stepped(turn, Step.IMPORT), dict(turn.given().facts)
    statement = turn.statement
    source_key = steps.octets_of(statement, "source_key")
    document = checks.read_statement(steps.octets_of(statement, "package"), source_key, papers.PACKAGE)
    package = notices.package_from_document(document)
    plan = package.plan
    devices.require_destroyed_at_source(plan)
    require_body(plan.body, [one.key_class for one in plan.keys], turn.transfer_bodies)
    approval, signers = checks.approved(
        package.approval.encode(), steps.custodians_of(turn), plan.body, turn.transfer_bodies
    )
    checks.require_approval(approval, plan, found.offer)
    _require_package(package, found, source_key)
    steps.require_scope(turn, [one.key_id for one in plan.keys], signers)
    checks.require_window(approval.conditions, turn.at)
    checks.require_stands(found.offer, turn.at)
    steps.require_attended(turn, approval.conditions, approval.conditions.destination_people)
    there = steps.keys_of(turn)
    if there:
        raise Conflict(
            f"there is a key {min(there)} already; a key that moves keeps its id",
            rule="transfer/key-exists",
            clause="G2.22H",
        )
    arrived = tuple(_arrived(turn, one.record, found.offer, plan) for one in package.keys)
    if made:
        checks_of = {one.record.key_id: one.check for one in package.keys}
        for key in arrived:
            require_proven(
                proof_of(made, key.key_id),
                found.transfer_id,
                key.key_class,
                key.public_point,
                checks_of[key.key_id],
            )
        _require_claims(package, made)
        steps.require_destroyed(made)
    changed = replace(
        found,
        plan=plan,
        approval=approval,
        approved_by=signers,
        package=digest(document).hex(),
        facts=steps.kept(made),
    )
    return (changed, *arrived, *devices.received(turn, package))


def decline(turn: Turn) -> tuple[Record, ...]:
    """The destination destroyed the transport key and imported nothing."""
    found, made = steps.stepped(turn, Step.DECLINE), dict(turn.given().facts)
    if made:
        steps.require_destroyed(made)
    return (replace(found, facts=steps.kept(made)),)


def _require_claims(package: Package, made: Mapping[str, str]) -> None:
    """What each key was used for at its source, it is taken to have been used for here."""
    for one in package.keys:
        if made.get(f"claims:{one.record.key_id}") != one.claims:
            raise steps.refused(
                f"what key {one.record.key_id} was used for at its source was not taken here", "claims"
            )


def _require_package(package: Package, found: TransferRecord, source_key: bytes) -> None:
    plan = package.plan
    wanted = list(plan.keys)
    packed = [checks.planned_of(one.record) for one in package.keys]
    for holds, what, rule in (
        (
            plan.source.service_key == checks.fingerprint(source_key),
            "is signed by another key than its source's",
            "other-signer",
        ),
        (plan.transfer_id == found.transfer_id, "is of another transfer", "mixed"),
        (plan.offer == checks.offer_digest(found.offer), "is for another offer", "mixed"),
        (plan.destination == found.offer.party, "is for another destination", "mixed"),
        (
            plan.source.environment is found.offer.party.environment,
            "comes from another environment",
            "other-environment",
        ),
        (packed == wanted, "has other keys than were planned, or one under another role", "substituted"),
        (
            all(one.record.state is KeyState.IN_TRANSFER for one in package.keys),
            "has a key that is still usable at its source",
            "still-usable",
        ),
        (
            all(one.record.system == plan.source.system for one in package.keys),
            "has a key of another system",
            "substituted",
        ),
        (
            steps.TRUSTS.index(package.trust) >= steps.TRUSTS.index(plan.mechanism.trust),
            "was wrapped with less trust than was approved",
            "trust-not-enforced",
        ),
    ):
        if not holds:
            raise steps.refused(f"the package {what}", rule)


def _arrived(turn: Turn, sent: KeyRecord, offered: Offer, plan: Plan) -> KeyRecord:
    """The key's record here: the same key, class, certificate and life; another module, label, system and origin."""
    row = ceiling(sent.key_class)
    if sent.certificate:
        facts = read_certificate(sent.certificate)
        if facts.public_point != sent.public_point or (facts.role, facts.eui64) != (sent.role, sent.eui64):
            raise steps.refused(
                f"the certificate of {sent.key_id} is for another key, role or entity", "substituted"
            )
    if sent.role is not None and sent.role not in row.roles:
        raise steps.refused(f"a {row.name} key has no role {int(sent.role)}", "substituted")
    if not row.template.transferable:
        raise steps.refused(f"keys of class {row.name} do not move", "not-transferable", "G2.22G")
    require_classified(sent.asset)
    return replace(
        placed(sent, offered, plan),
        version=1,
        state=lifecycle.after(None, Event.IMPORT),
        system=turn.statement.system,
        environment=turn.statement.environment,
        origin=Origin.TRANSFERRED,
        life=sent.life.passed(Event.IMPORT, turn.at),
    )


def placed(sent: KeyRecord, offered: Offer, plan: Plan) -> KeyRecord:
    """A key that was sent, where its object is here: module, label and id, and whether it may leave again."""
    return replace(
        sent,
        module=ModuleName(offered.module),
        label=str(sent.key_id),
        object_id=object_id(sent.key_id),
        transferable=plan.may_move_on,
    )


def label_of(transfer_id: str) -> str:
    """CKA_LABEL of the transport key of a transfer; its CKA_ID is `keys.object_id` of that."""
    return f"transport-{transfer_id}"


def proof_of(made: Mapping[str, str], key_id: str) -> Proof:
    """The proof that a module's facts have of a key; Forbidden where there is none."""
    challenge, _, answer = made.get(f"proof:{key_id}", "").partition(":")
    try:
        return Proof(key_id, bytes.fromhex(challenge), bytes.fromhex(answer))
    except ValueError:
        raise Forbidden(
            f"there is no proof of key {key_id}", rule="transfer/not-proven", clause="G2.22H"
        ) from None
