"""The decision: a `Case` and the policy's answer become `Authorised`, or a Refusal is raised.

Order, each step a rule of its own:

1. the ceiling of the key class (`core/keyclass.py`): purpose, whatever policy says;
2. the lifecycle state (`core/lifecycle.py`), as dates have made it by the moment of the case;
3. the content belongs to this very key (`content.bind`), and its numbers are above what a key was advanced past;
4. the policy answer;
5. the same of the second key of the request, where it has one.

`Authorised` is made here and nowhere else (tests/arch holds it).
"""

from dataclasses import dataclass

from cryptosvc.core import lifecycle, rewound
from cryptosvc.core.case import Case, Facts, PolicyAnswer
from cryptosvc.core.content import forms
from cryptosvc.core.errors import Forbidden, Internal
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


def judge(
    case: Case, answer: PolicyAnswer, profiles: forms.Profiles, second: PolicyAnswer | None = None
) -> Authorised:
    """Decide one case; `second` is the answer for its second key, where it has one.

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
    other = case.second
    if other is None:
        forms.bind(
            case.request.form, case.content, case.key, statement, profiles, case.at, case.registered_oca
        )
    else:
        forms.bind(case.request.form, case.content, case.key, statement, profiles, case.at, second=other.key)
    if case.key.life.above:
        rewound.require_above(case.key, case.content)
    # 4 policy
    if not answer.allowed:
        raise _refused(answer)
    # 5 the second key
    if other is None:
        return _authorised(case, clause, answer.policies, answer.digest)
    if second is None:
        raise Internal("nobody asked the policies about the second key", rule="judge/second")
    _judge_second(other.facts, case, second)
    return _authorised(case, clause, tuple(sorted({*answer.policies, *second.policies})), answer.digest)


def _judge_second(facts: Facts, case: Case, answer: PolicyAnswer) -> None:
    assert case.second is not None
    ceiling(facts.key_class).clause_for(facts.operation, facts.content_kind)
    lifecycle.require_at(case.second.key, facts.state, facts.operation, facts.content_kind, case.at)
    if not answer.allowed:
        raise _refused(answer)


def _refused(answer: PolicyAnswer) -> Forbidden:
    return Forbidden(
        answer.text or "no policy permits this",
        rule=answer.rule,
        clause=answer.clauses[0] if answer.clauses else "",
        policies=answer.policies,
    )
