"""The papers of a transfer, verified together, off-line, and readable as one page.

Needed are the papers, the public keys of the two services that lie beside them, and the SMKI PMA's public keys, which an
auditor has from the SMKI PMA. What the PMA approved names both services' keys, so nothing else has to be believed. What
each log has of it is verified with the log's public key, where that is given; that custodians were entitled to approve
each step, the whole export says (`cryptosvc audit verify`).

Source: Smart Energy Code G2.22F to G2.22I.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

import orjson

from cryptosvc.core import dsse
from cryptosvc.core.canonical import JsonValue, canonical, digest
from cryptosvc.core.errors import Corrupt, CryptosvcError, Internal
from cryptosvc.core.handover import beside, checks, logged, notices
from cryptosvc.core.handover.beside import Blob
from cryptosvc.core.handover.logged import Logged
from cryptosvc.core.life import UnixSeconds
from cryptosvc.core.names import KeyId
from cryptosvc.core.transfer import papers
from cryptosvc.core.transfer.bodies import PMA
from cryptosvc.core.transfer.papers import Approval, Offer, Plan
from cryptosvc.core.transfer.proof import require_proven
from cryptosvc.core.transfer.states import Side

_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True, kw_only=True)
class Papers:
    """Octets of every paper; empty where there is none (yet).

    Args:
        offer, package, receipt, disposition, not_imported: DSSE envelopes of the two services.
        plan: canonical JSON.
        approval: DSSE envelope of the SMKI PMA.
        source_key, destination_key: SubjectPublicKeyInfo DER of the services' keys.
        source_log, destination_log: what `logged.bundle` wrote.
        source_log_key, destination_log_key: SubjectPublicKeyInfo DER of the logs' keys, from who runs the systems.
        blobs: what lies beside the package, by name; held to it as far as it is at hand.

    """

    offer: bytes
    plan: bytes
    approval: bytes
    package: bytes
    receipt: bytes
    disposition: bytes
    not_imported: bytes
    source_key: bytes
    destination_key: bytes
    source_log: bytes = b""
    destination_log: bytes = b""
    source_log_key: bytes = b""
    destination_log_key: bytes = b""
    blobs: Mapping[str, Blob] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Dossier:
    """What the papers say once they were verified: which transfer, and one page of Markdown."""

    transfer_id: str
    page: str


def verify(given: Papers, pma: Mapping[str, bytes]) -> Dossier:
    """Verify the papers of a transfer, as far as it has gone.

    Args:
        given: at least offer, plan and approval.
        pma: name → SubjectPublicKeyInfo DER of each member of the body that the plan names, as an auditor has them from it.

    Raises:
        Corrupt: `dossier/…`, naming the paper that does not hold.

    """
    with_plan = _read("plan", lambda: papers.plan_from_document(_object(given.plan)))
    offer = _read("offer", lambda: _offer(given, with_plan))
    approval, signers = _read("approval", lambda: _approval(given, with_plan, offer, pma))
    lines = [*_beginning(offer, with_plan, approval, signers)]
    package: notices.Package | None = None
    if given.package:
        package = _read("package", lambda: _package(given, with_plan, approval))
        lines += _exported(package)
        if given.blobs:
            lines += _read("package", lambda: list(beside.require(package, given.blobs)))
        name = digest(notices.package_document(package)).hex()
        if given.receipt:
            lines += _received(_read("receipt", lambda: _receipt(given, package, name)), approval)
        if given.disposition:
            lines += _ended(
                _read("disposition", lambda: _disposed(given, with_plan, name)), package, with_plan
            )
    for side, octets, key in (
        (Side.SOURCE, given.source_log, given.source_log_key),
        (Side.DESTINATION, given.destination_log, given.destination_log_key),
    ):
        if octets and key:
            found = _read(f"{side.value}-log", lambda octets=octets, key=key: logged.verify(octets, key))  # type: ignore[misc]  # bound at once
            _require_agrees(found, side, with_plan, offer, approval)
            if package is not None and side is Side.DESTINATION and found.transfer.package:
                taken = dict(found.transfer.facts)
                _read("destination-log", lambda taken=taken: beside.require_taken(package, taken))  # type: ignore[misc]  # bound at once
            lines += _acts(found, side)
    if given.not_imported:
        notice = _read("not-imported", lambda: _not_imported(given, offer))
        if given.receipt:
            raise _broken("not-imported", "there is a receipt for it, too")
        lines.append(
            f"- {_when(notice.declined_at)}: the destination destroyed the transport key and imported nothing."
        )
    return Dossier(offer.transfer_id, "\n".join(lines) + "\n")


def _offer(given: Papers, plan: Plan) -> Offer:
    document = checks.read_statement(given.offer, given.destination_key, papers.OFFER)
    offer = papers.offer_from_document(document)
    checks.require_plan(plan, offer, plan.source, offer.transfer_id)
    checks.require_offer(offer, given.destination_key, plan.transfer_id, UnixSeconds(0))
    return offer


def _approval(
    given: Papers, plan: Plan, offer: Offer, pma: Mapping[str, bytes]
) -> tuple[Approval, list[str]]:
    envelope = dsse.parse(given.approval)
    names = {dsse.key_id(spki): name for name, spki in pma.items()}
    signed = dsse.verify(envelope, {key_id: pma[name] for key_id, name in names.items()})
    if envelope.payload_type != papers.APPROVAL_TYPE or len(signed) < checks.PMA_PEOPLE:
        raise _broken("approval", f"fewer than {checks.PMA_PEOPLE} of the SMKI PMA signed it")
    approval = papers.approval_from_document(_object(envelope.payload))
    checks.require_approval(approval, plan, offer)
    return approval, sorted(names[key_id] for key_id in signed)


def _package(given: Papers, plan: Plan, approval: Approval) -> notices.Package:
    document = checks.read_statement(given.package, given.source_key, papers.PACKAGE)
    package = notices.package_from_document(document)
    wanted, packed = list(plan.keys), [checks.planned_of(one.record) for one in package.keys]
    checks.require_window(approval.conditions, package.exported_at)
    for what, holds in (
        ("it is of another plan", package.plan == plan),
        ("it is signed by another key than the plan names", _is(given.source_key, plan.source.service_key)),
        ("it has other keys than were planned", packed == wanted),
        ("it carries another approval", package.approval.encode() == given.approval),
    ):
        if not holds:
            raise _broken("package", what)
    return package


def _receipt(given: Papers, package: notices.Package, name: str) -> notices.Receipt:
    plan, checks_of = package.plan, {one.record.key_id: one.check for one in package.keys}
    document = checks.read_statement(given.receipt, given.destination_key, papers.RECEIPT)
    receipt = notices.receipt_from_document(document)
    if (receipt.transfer_id, receipt.party, receipt.package) != (plan.transfer_id, plan.destination, name):
        raise _broken("receipt", "it is of another transfer, party or package")
    proofs = {one.key_id: one for one in receipt.proofs}
    if sorted(proofs) != [one.key_id for one in plan.keys]:
        raise _broken("receipt", "it has not one proof for each key")
    for planned in plan.keys:
        require_proven(
            proofs[planned.key_id],
            plan.transfer_id,
            planned.key_class,
            planned.public_point,
            checks_of[KeyId(planned.key_id)],
        )
    if receipt.rows != (0 if package.freight is None else package.freight.rows):
        raise _broken("receipt", "it is for another number of device keys than the package has")
    return receipt


def _disposed(given: Papers, plan: Plan, package: str) -> notices.Disposed:
    document = checks.read_statement(given.disposition, given.source_key, papers.DISPOSITION)
    notice = notices.disposed_from_document(document)
    wanted = (
        plan.transfer_id,
        plan.source,
        package,
        plan.disposition,
        tuple(one.key_id for one in plan.keys),
    )
    if (notice.transfer_id, notice.party, notice.package, notice.disposition, notice.keys) != wanted:
        raise _broken("disposition", "it is of another transfer, party, package or kind")
    return notice


def _not_imported(given: Papers, offer: Offer) -> notices.NotImported:
    document = checks.read_statement(given.not_imported, given.destination_key, papers.NOT_IMPORTED)
    notice = notices.not_imported_from_document(document)
    wanted = (offer.transfer_id, offer.party, checks.offer_digest(offer))
    if (notice.transfer_id, notice.party, notice.offer) != wanted:
        raise _broken("not-imported", "it is of another transfer, party or offer")
    return notice


def _require_agrees(found: Logged, side: Side, plan: Plan, offer: Offer, approval: Approval) -> None:
    """A log's record of the transfer says what the papers say."""
    record, here = found.transfer, plan.source if side is Side.SOURCE else plan.destination
    for what, holds in (
        ("is of another side", record.side is side),
        ("is of another transfer", record.transfer_id == plan.transfer_id),
        ("is of another system or log", (record.system, found.origin) == (here.system, here.origin)),
        ("has another offer", record.offer == offer),
        ("has another plan", record.plan in (None, plan)),
        ("has another approval", record.approval in (None, approval)),
    ):
        if not holds:
            raise _broken(f"{side.value}-log", f"its record {what}")


def _acts(found: Logged, side: Side) -> Iterator[str]:
    yield f"- In the {side.value}'s log {found.origin}, {found.size} entries: {found.transfer.state}."
    for one in found.acts:
        by = ", ".join(each.custodian_id for each in one.endorsements[1:])
        ended = "" if one.ended_on is None else _when(one.ended_on)
        yield f"  - {ended}: {one.statement.act}, proposed by {one.statement.proposed_by}, approved by {by}"


def _beginning(offer: Offer, plan: Plan, approval: Approval, signers: list[str]) -> Iterator[str]:
    conditions = approval.conditions
    yield f"# Transfer {offer.transfer_id}"
    yield ""
    yield f"From {plan.source.system} to {plan.destination.system}, environment {plan.source.environment}. {plan.reason}"
    yield ""
    yield "| key | class | role | SHA-256 of the public key |"
    yield "|---|---|---|---|"
    for one in plan.keys:
        role = "" if one.role is None else str(one.role)
        public = hashlib.sha256(one.public_point).hexdigest() if one.public_point else "none: a symmetric key"
        yield f"| {one.key_id} | {one.key_class} | {role} | {public} |"
    yield ""
    yield f"- The destination complies with Section G (G2.22I(b)(ii)): {offer.complies}"
    yield f"- Affiliation (G2.22B(e)): {offer.affiliation}"
    yield f"- Its module: {offer.module}, {dict(offer.identity)['model']}; assurance: {offer.assurance}"
    yield f"- Mechanism: AES key wrap with padding under RSA-OAEP with {plan.mechanism.oaep_hash}; trust {plan.mechanism.trust}"
    yield f"- The Security Sub-Committee's view: SHA-256 {plan.committee_view}"
    yield f"- Approved by {'the SMKI PMA (G2.22I(a))' if plan.body == PMA else plan.body}: {', '.join(signers)}"
    yield (
        f"- Conditions (G2.22I(b)(i)): from {_when(conditions.not_before)} to {_when(conditions.not_after)}; transport key "
        f"{conditions.transport_key}; {conditions.source_people} and {conditions.destination_people} custodians; "
        f"{conditions.witnesses} witnesses; assurance level {conditions.assurance_level}; {conditions.attempts} attempts"
    )
    yield from (f"- To be attested by a named person: {one}" for one in conditions.attested)
    yield f"- The source's copies: {plan.disposition}, within {plan.disposition_seconds} seconds of the export"
    yield ""


def _exported(package: notices.Package) -> list[str]:
    said = (
        f"- {_when(package.exported_at)}: exported; the module was measured to hold the keys to trusted ones: "
        f"{package.trust}. From then on they did nothing at the source."
    )
    return [said]


def _received(receipt: notices.Receipt, approval: Approval) -> list[str]:
    checks.require_window(approval.conditions, receipt.imported_at)
    rows = f" {receipt.rows} device keys came with them." if receipt.rows else ""
    said = (
        f"- {_when(receipt.imported_at)}: imported; each key proved itself, and the transport key is destroyed.{rows} "
        "Certificates of these keys are treated as issued in respect of the destination (G2.22H)."
    )
    return [said]


def _ended(notice: notices.Disposed, package: notices.Package, plan: Plan) -> list[str]:
    late = notice.disposed_at - package.exported_at > plan.disposition_seconds
    said = f"- {_when(notice.disposed_at)}: the source's copies were disposed of: {notice.disposition}"
    return [said + (", LATER THAN APPROVED." if late else ".")]


def _read(name: str, read: Callable[[], _Found]) -> _Found:
    try:
        return read()
    except Corrupt as error:
        if error.rule.startswith("dossier/"):
            raise
        raise _broken(name, error.message) from None
    except CryptosvcError as error:
        raise _broken(name, error.message) from None


def _object(octets: bytes) -> Mapping[str, JsonValue]:
    try:
        document: object = orjson.loads(octets)
        same = isinstance(document, dict) and canonical(document) == octets
    except (ValueError, Internal):
        same = False
    if not same or not isinstance(document, dict):
        raise Corrupt("it is missing, or not canonical JSON", rule="transfer/paper", clause="G2.22I")
    return document


def _is(spki: bytes, fingerprint: str) -> bool:
    return checks.fingerprint(spki) == fingerprint


def _when(at: UnixSeconds) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _broken(name: str, what: str) -> Corrupt:
    return Corrupt(f"the {name} does not hold: {what}", rule=f"dossier/{name}", clause="G2.22I")
