"""Who must approve a governed act, and whether they have.

A quorum counts people who approve what somebody else proposed: the proposer's own signature never counts. People
are counted by person, not by custodian id, certificate or key id.

Source: Smart Energy Code G4.7, G4.8, G2.22B(d) (who may be a Privileged Person), G5.13(b), G2.44B; design, section 8.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from cryptosvc.core import custody, dsse
from cryptosvc.core import statement as statements
from cryptosvc.core.acts.base import Act, key_class_of, require_parameters
from cryptosvc.core.canonical import canonical
from cryptosvc.core.custodian import CustodianRecord
from cryptosvc.core.errors import AwaitingApproval, Conflict, Forbidden, Malformed
from cryptosvc.core.keyclass import KEY_CLASSES
from cryptosvc.core.life import Event, UnixSeconds
from cryptosvc.core.proposal import Endorsement, ProposalRecord, ProposalState
from cryptosvc.core.registry import Record
from cryptosvc.core.statement import STATEMENT_TYPE, WITHDRAWAL_TYPE, Statement
from cryptosvc.core.transfer.bodies import Body

EMERGENCY = frozenset({Event.SUSPEND, Event.COMPROMISE})
"""Acts that only take power away: policy may ask fewer people for them than the class table does, never nobody."""


@dataclass(frozen=True, slots=True)
class QuorumRow:
    """One row of `policies/governance.toml`; the first row that matches decides.

    Args:
        act: name of an act, `*` for any run of characters.
        key_class: class of the key; `*` for any, and for acts on people.
        people: how many must approve, besides the proposer.
        roles: custodian roles that count.

    """

    act: str
    key_class: str
    people: int
    roles: frozenset[str]


@dataclass(frozen=True, slots=True)
class Needed:
    """What one statement needs.

    Args:
        people: how many must approve, besides the proposer.
        roles: custodian roles that count.

    """

    people: int
    roles: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Governance:
    """The configured rules of dual control, from `policies/governance.toml`.

    Args:
        rows: who must approve what.
        custody: rules custodians are held to.
        ecos_service_live: the ECoS Service Live Date (G2.58).
        foreign_issuers: hex SHA-256 of OCA Certificates of other systems that certificates may come from.
        longest_seconds: how long a statement may be open at most.
        clock_tolerance_seconds: how far ahead of this clock a statement may begin: whoever proposes writes the time of
            another machine. Nothing is longer for it: its end is this clock's.
        transfer_bodies: who approves transfers of classes that the SMKI PMA is not asked for.

    """

    rows: tuple[QuorumRow, ...]
    custody: custody.Rules
    ecos_service_live: UnixSeconds | None
    longest_seconds: int
    foreign_issuers: frozenset[str] = frozenset()
    clock_tolerance_seconds: int = 0
    transfer_bodies: tuple[Body, ...] = ()


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a statement must belong: deployment, policies and the custodians as of now.

    Args:
        system, environment, origin: of the deployment and its log.
        policy_digest: of the policies in force.
        custodians: custodian id → record, of everyone registered.
        governance: the rules.

    """

    system: str
    environment: str
    origin: str
    policy_digest: str
    custodians: Mapping[str, CustodianRecord]
    governance: Governance


def needed(act: Act, statement: Statement, subject: Record | None, governance: Governance) -> Needed:
    """Find who must approve; Forbidden where no row says. The class table's number is the least, save in an emergency."""
    key_class = key_class_of(act, statement, subject)
    for row in governance.rows:
        if fnmatchcase(act.name, row.act) and fnmatchcase(key_class, row.key_class):
            return Needed(max(row.people, least_people(act, key_class)), row.roles)
    raise Forbidden(
        f"no row of the governance policy says who approves {act.name} for {key_class or 'people'}, so nobody can",
        rule="quorum/no-rule",
        clause=governance.custody.clause(act.clause),
    )


def least_people(act: Act, key_class: str) -> int:
    """How many must approve whatever policy says; `key_class` is empty for an act that is not on a key."""
    if act.event in EMERGENCY or not key_class:
        return act.least_people
    return KEY_CLASSES[key_class].quorum


def require_current(act: Act, statement: Statement, scene: Scene, at: UnixSeconds) -> None:
    """Require that a statement belongs here and now.

    Raises:
        Malformed: parameters or clause are not the act's; it is open for longer than allowed.
        Forbidden: `statement/other-deployment`, `statement/policies`, `statement/expired`, `statement/not-yet`.

    """
    require_parameters(act, statement)
    clause = scene.governance.custody.clause("G5.13(b)")
    here = (scene.system, scene.environment, scene.origin)
    if (statement.system, statement.environment.value, statement.origin) != here:
        raise _refused("is for another system, environment or log", "other-deployment", clause)
    if statement.policy_digest != scene.policy_digest:
        raise _refused(
            "was signed under other policies than are in force; propose it again", "policies", clause
        )
    if at >= statement.expires_at:
        raise _refused("has expired; propose it again", "expired", clause)
    tolerance = scene.governance.clock_tolerance_seconds
    if at + tolerance < statement.proposed_at:
        ahead = statement.proposed_at - at
        raise _refused(
            f"begins {ahead} seconds from now, and {tolerance} are tolerated; compare the clocks",
            "not-yet",
            clause,
        )
    if statement.expires_at - statement.proposed_at > scene.governance.longest_seconds:
        raise Malformed(
            f"a statement is open for at most {scene.governance.longest_seconds} seconds",
            rule="statement/too-long",
        )


def endorse(
    statement: Statement, envelope: bytes, payload_type: str, payload: bytes, scene: Scene, at: UnixSeconds
) -> Endorsement:
    """Read one custodian's envelope over a statement, or over its withdrawal.

    Raises:
        Malformed: it is no strict DSSE envelope with one signature.
        Forbidden: it is over other octets, by nobody who is registered, or by a custodian who may not (`custody/…`).

    """
    found = dsse.parse(envelope)
    if found.payload_type != payload_type or found.payload != payload or len(found.signatures) != 1:
        raise Forbidden(
            "the envelope is not one custodian's signature over this very statement",
            rule="quorum/other-statement",
        )
    signature = found.signatures[0]
    signer = next(
        (one for one in scene.custodians.values() if dsse.key_id(one.key) == signature.key_id), None
    )
    if signer is None:
        raise Forbidden("the envelope is signed by nobody in the custodian register", rule="dsse/unknown-key")
    dsse.verify(found, {signature.key_id: signer.key})
    custody.require_may_approve(signer, statement.system, scene.governance.custody, at)
    return Endorsement(signer.custodian_id, signature.key_id, signature.signature, at)


def proposed(
    statement: Statement, envelope: bytes, act: Act, scene: Scene, at: UnixSeconds
) -> ProposalRecord:
    """Open a proposal: the first version of its record. Refusals as `require_current` and `endorse`."""
    require_current(act, statement, scene, at)
    mine = endorse(statement, envelope, STATEMENT_TYPE, statements.emit(statement), scene, at)
    if mine.custodian_id != statement.proposed_by:
        raise Forbidden("the statement names another proposer than signed it", rule="quorum/proposer")
    return ProposalRecord(
        proposal_id=statements.proposal_id(statement),
        version=1,
        state=ProposalState.OPEN,
        statement=statement,
        endorsements=(mine,),
    )


def require_open(proposal: ProposalRecord) -> None:
    """Conflict unless the proposal is open."""
    if proposal.state is not ProposalState.OPEN:
        why = dict(proposal.outcome).get("rule", "")
        raise Conflict(
            f"the proposal is {proposal.state}{f' ({why})' if why else ''}; only an open one can be approved, withdrawn or carried out",
            rule="proposal/not-open",
        )


def approvers(
    proposal: ProposalRecord, needs: Needed, scene: Scene, at: UnixSeconds
) -> tuple[CustodianRecord, ...]:
    """Those whose approval counts now, one a person, the proposer's person excepted.

    Every signature is verified again, and every signer held to the rules of custody again: who lost a clearance, a
    role or the register since does not count any more.
    """
    statement = proposal.statement
    first = scene.custodians.get(statement.proposed_by)
    people = set() if first is None else {custody.one_person(first.person)}
    counted: list[CustodianRecord] = []
    for one in proposal.endorsements[1:]:
        signer = scene.custodians.get(one.custodian_id)
        if (
            signer is None
            or custody.one_person(signer.person) in people
            or not counts(signer, one, statement, needs, scene, at)
        ):
            continue
        people.add(custody.one_person(signer.person))
        counted.append(signer)
    return tuple(counted)


def counts(
    signer: CustodianRecord,
    one: Endorsement,
    statement: Statement,
    needs: Needed,
    scene: Scene,
    at: UnixSeconds,
) -> bool:
    """Whether one signature counts at a moment."""
    if needs.roles.isdisjoint(role.value for role in signer.roles):
        return False
    envelope = dsse.Envelope(
        STATEMENT_TYPE, statements.emit(statement), (dsse.Signature(one.key_id, one.signature),)
    )
    try:
        dsse.verify(envelope, {dsse.key_id(signer.key): signer.key})
        custody.require_may_approve(signer, statement.system, scene.governance.custody, at)
    except (Forbidden, Malformed):
        return False
    return True


def require_quorum(
    proposal: ProposalRecord, act: Act, subject: Record | None, scene: Scene, at: UnixSeconds
) -> tuple[CustodianRecord, ...]:
    """Require that a proposal may be carried out now, and name whose approval counted.

    Raises:
        Forbidden: as `require_current`; `quorum/proposer` where the proposer may not propose any more.
        Conflict: the proposal is not open.
        AwaitingApproval: `quorum/incomplete`, saying how many more of which roles.

    """
    require_open(proposal)
    require_current(act, proposal.statement, scene, at)
    first = scene.custodians.get(proposal.statement.proposed_by)
    everyone = Needed(0, frozenset() if first is None else frozenset(role.value for role in first.roles))
    if first is None or not counts(first, proposal.endorsements[0], proposal.statement, everyone, scene, at):
        raise Forbidden("whoever proposed this may not any more; propose it again", rule="quorum/proposer")
    needs = needed(act, proposal.statement, subject, scene.governance)
    counted = approvers(proposal, needs, scene, at)
    if len(counted) < needs.people:
        raise AwaitingApproval(
            f"{len(counted)} of {needs.people} approvals by {', '.join(sorted(needs.roles))}; the proposer's own does "
            "not count, and each person counts once",
            rule="quorum/incomplete",
            clause=scene.governance.custody.clause(act.clause),
        )
    return counted


def withdrawal_payload(proposal_id: str, reason: str) -> bytes:
    """What a custodian signs to withdraw a proposal."""
    return canonical({"proposal": proposal_id, "reason": reason, "v": statements.VERSION})


def withdrawn(
    proposal: ProposalRecord, envelope: bytes, reason: str, scene: Scene, at: UnixSeconds
) -> Endorsement:
    """Read a withdrawal: by the proposer, or by anyone who approved. Refusals as `endorse`."""
    require_open(proposal)
    payload = withdrawal_payload(proposal.proposal_id, reason)
    mine = endorse(proposal.statement, envelope, WITHDRAWAL_TYPE, payload, scene, at)
    if mine.custodian_id not in {one.custodian_id for one in proposal.endorsements}:
        raise Forbidden(
            "a proposal is withdrawn by who proposed or approved it; others simply do not approve",
            rule="quorum/withdrawal",
        )
    return mine


def _refused(what: str, rule: str, clause: str) -> Forbidden:
    return Forbidden(f"the statement {what}", rule=f"statement/{rule}", clause=clause)
