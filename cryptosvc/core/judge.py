"""The decision: a `Case` and the policy's answer become `Authorised`, or a Refusal is raised.

Order, each step a rule of its own:

1. the ceiling of the key class (`core/keyclass.py`): purpose, whatever policy says;
2. the lifecycle state (`core/lifecycle.py`), as dates have made it by the moment of the case;
3. the content belongs to this very key (`content.bind`);
4. the policy answer.

`Authorised` is made here and nowhere else (tests/arch holds it).
"""

from dataclasses import dataclass

from cryptosvc.core import lifecycle
from cryptosvc.core.case import Case, PolicyAnswer
from cryptosvc.core.content import forms
from cryptosvc.core.errors import Forbidden
from cryptosvc.core.keyclass import ceiling
from cryptosvc.core.values import quickly


@dataclass(frozen=True, slots=True)
class Authorised:
    """A case that may go on, with the clause and the policies that let it.

    Args:
        case: what was judged.
        clause: the clause of the ceiling's cell.
        policies: ids of the policies that permitted.
        policy_digest: digest of the policy set, lower-case hex.

    """

    case: Case
    clause: str
    policies: tuple[str, ...]
    policy_digest: str


_authorised = quickly(Authorised)


def judge(case: Case, answer: PolicyAnswer, profiles: forms.Profiles) -> Authorised:
    """Decide one case.

    Raises:
        Forbidden: purpose, key binding or policy says no.
        WrongState: the key's state does not allow it.

    """
    facts = case.facts
    # 1 purpose
    clause = ceiling(facts.key_class).clause_for(facts.operation, facts.content_kind)
    # 2 state
    lifecycle.require_at(case.key, facts.state, facts.operation, facts.content_kind, case.at)
    # 3 this very key
    statement = case.request.statement
    forms.bind(case.request.form, case.content, case.key, statement, profiles, case.at, case.registered_oca)
    # 4 policy
    if not answer.allowed:
        raise Forbidden(
            answer.text or "no policy permits this",
            rule=answer.rule,
            clause=answer.clauses[0] if answer.clauses else "",
            policies=answer.policies,
        )
    return _authorised(case, clause, answer.policies, answer.digest)
