"""What the governor asks of a proposal and its signatures, and how it says how one ended."""

import re
from collections.abc import Container, Mapping, Sequence

from cryptosvc.core import quorum
from cryptosvc.core.acts.base import Act, Made
from cryptosvc.core.custodian import CustodianRecord
from cryptosvc.core.custody import one_person
from cryptosvc.core.errors import Conflict, Forbidden, Refusal, WrongState
from cryptosvc.core.life import IN_CEREMONIES
from cryptosvc.core.proposal import Endorsement, ProposalRecord
from cryptosvc.core.quorum import Scene

SIGNATURES_AT_MOST = 32
HEX_64 = re.compile(r"[0-9a-f]{64}")


def naming(proposal_id: str) -> Mapping[str, str]:
    """The proposal as a fact of the record; what is no proposal id is nobody's text to put there."""
    return {"proposal": proposal_id} if HEX_64.fullmatch(proposal_id) else {}


def rehearsed(act: Act) -> Made | None:
    """Nothing the module gave yet: enough to learn whether the act would be refused."""
    return Made() if act.touches_module else None


def require_here(act: Act, movers: Container[str]) -> None:
    """Require that an act which a module has a part in is carried out where that part can be done.

    Raises:
        WrongState: one on a transfer (`cryptosvc transfer`) or in a ceremony, of which the service has no mover.

    """
    if not act.touches_module or act.name in movers:
        return
    if act.kind != "key-record":
        raise WrongState(
            f"{act.name} is carried out on the machine of the service: `cryptosvc transfer carry-out`",
            rule="transfer/on-the-machine",
            clause=act.clause,
        )
    if act.event in IN_CEREMONIES:
        raise WrongState(
            f"{act.name} is carried out in a ceremony, where those who hold the parts are: `cryptosvc ceremony run`",
            rule="split/in-ceremony",
            clause=act.clause,
        )


def require_new(found: ProposalRecord, mine: Endorsement, scene: Scene) -> None:
    """Each person once, and never whoever proposed it."""
    signer = scene.custodians[mine.custodian_id]
    first = scene.custodians.get(found.statement.proposed_by)
    if first is not None and one_person(signer.person) == one_person(first.person):
        raise Forbidden(
            "nobody approves what they proposed themselves, under whatever id or certificate",
            rule="quorum/self-approval",
            clause=scene.governance.custody.clause("G4.8"),
        )
    before = {
        one_person(scene.custodians[one.custodian_id].person)
        for one in found.endorsements[1:]
        if one.custodian_id in scene.custodians
    }
    if one_person(signer.person) in before:
        raise Conflict("this person has approved it already; each counts once", rule="quorum/approved-before")
    if len(found.endorsements) >= SIGNATURES_AT_MOST:
        raise Conflict(
            f"a proposal has at most {SIGNATURES_AT_MOST} signatures", rule="quorum/too-many-signatures"
        )


def counted_endorsements(found: ProposalRecord, counted: Sequence[CustodianRecord]) -> list[Endorsement]:
    """Approvals by those who count."""
    ids = {one.custodian_id for one in counted}
    return [one for one in found.endorsements[1:] if one.custodian_id in ids]


def outcome(made: Made | None, needs: quorum.Needed) -> tuple[tuple[str, str], ...]:
    """What the proposal's record says of how it ended: what the module gave, and who had to approve."""
    facts = {} if made is None else dict(made.facts)
    facts["needed_people"] = str(needs.people)
    facts["needed_roles"] = ",".join(sorted(needs.roles))
    return tuple(sorted(facts.items()))


def has_moved(refusal: Refusal) -> bool:
    """Whether it says only that the registry moved: then the act is judged anew."""
    return isinstance(refusal, Conflict) and refusal.rule == "registry/moved"


def require_moved(conflict: Conflict) -> None:
    """Raise a conflict again, unless it says that the registry moved."""
    if not has_moved(conflict):
        raise conflict


def too_busy() -> Conflict:
    """The registry moved at every try."""
    return Conflict("the registry changes too fast for this act; ask again", rule="registry/moved")
