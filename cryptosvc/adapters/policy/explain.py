"""Why a set of facts is refused, and which smallest change would make it permitted.

The three layers are asked in the order of `core/judge.py`; each says what it says whether or not another refuses.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Protocol

from cryptosvc.adapters.policy.matrix import ROLES, allowed_at_most
from cryptosvc.adapters.policy.proof import LEVELS
from cryptosvc.adapters.policy.source import Rule
from cryptosvc.core import lifecycle
from cryptosvc.core.assurance import LEAST_LEVEL
from cryptosvc.core.case import Facts, PolicyAnswer
from cryptosvc.core.errors import Refusal
from cryptosvc.core.keyclass import KEY_CLASSES, ceiling
from cryptosvc.core.names import ContentKind
from cryptosvc.core.registry import KeyState, Origin

_BOOLEANS = (
    "same_system",
    "granted",
    "module_established",
    "origin_verified",
    "in_united_kingdom",
    "supply_sensitive_check",
    "supply_sensitive",
    "eligible_user_key",
    "add_credit",
    "instruction",
    "category_1",
    "category_2",
    "one_association",
)
CHANGES_AT_MOST = 2
"""A remedy is one change or two together; more is another request."""


class Decider(Protocol):
    """What explaining needs of the policy set (`CedarPolicy` has it)."""

    @property
    def rules(self) -> Mapping[str, Rule]:
        """Policies by `@id`."""

    def decide_all(self, many: Sequence[Facts]) -> list[PolicyAnswer]:
        """Answer for each set of facts."""


@dataclass(frozen=True, slots=True)
class Change:
    """One fact that would have to be different: its name, what it is, what it would have to be."""

    fact: str
    now: str
    needed: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """The whole answer.

    Args:
        permitted: what the corridor would say of these facts (the payload is bound to its key besides).
        ceiling_clause: clause of the ceiling's cell; empty where the ceiling refuses.
        ceiling_says: why the ceiling refuses; empty where it does not.
        state_says: why the lifecycle refuses; empty where it does not.
        answer: the policy answer.
        rules: the policies that decided, in the order of the files, with clause and text.
        remedies: each a set of changes that together would make it permitted, the fewest first.

    """

    permitted: bool
    ceiling_clause: str
    ceiling_says: str
    state_says: str
    answer: PolicyAnswer
    rules: tuple[Rule, ...]
    remedies: tuple[tuple[Change, ...], ...]


def explain(policy: Decider, facts: Facts, *, remedies: bool = True) -> Explanation:
    """Explain the decision on one set of facts; at most some tens of milliseconds, mostly for the remedies."""
    (answer,) = policy.decide_all((facts,))
    clause = ceiling_says = state_says = ""
    try:
        clause = ceiling(facts.key_class).clause_for(facts.operation, facts.content_kind)
    except Refusal as refusal:
        ceiling_says = f"{refusal.message} ({refusal.clause})"
    try:
        lifecycle.require(facts.state, facts.operation, facts.content_kind)
    except Refusal as refusal:
        state_says = f"{refusal.message} ({refusal.clause})"
    permitted = answer.allowed and not ceiling_says and not state_says
    rules = sorted((policy.rules[name] for name in answer.policies), key=lambda rule: rule.order)
    return Explanation(
        permitted=permitted,
        ceiling_clause=clause,
        ceiling_says=ceiling_says,
        state_says=state_says,
        answer=answer,
        rules=tuple(rules),
        remedies=() if permitted or not remedies else _remedies(policy, facts),
    )


@dataclass(frozen=True, slots=True)
class _Alternative:
    change: Change
    facts: Mapping[str, Any]


def _remedies(policy: Decider, facts: Facts) -> tuple[tuple[Change, ...], ...]:
    """Every smallest set of changes that makes it permitted, of one change or else of two."""
    singles = list(_alternatives(facts))
    for count in range(1, CHANGES_AT_MOST + 1):
        tried = []
        for chosen in combinations(singles, count):
            changed = replace(facts, **{name: value for one in chosen for name, value in one.facts.items()})
            if len({one.change.fact for one in chosen}) == count and allowed_at_most(changed):
                tried.append((chosen, changed))
        answers = policy.decide_all([changed for _, changed in tried])
        helped = tuple(
            tuple(one.change for one in chosen)
            for (chosen, _), answer in zip(tried, answers, strict=True)
            if answer.allowed
        )
        if helped:
            return helped
    return ()


def _alternatives(facts: Facts) -> Iterator[_Alternative]:
    """Each other value of each fact that another request, key or module could bring; the environment stays."""
    choices: dict[str, Sequence[Any]] = {
        **dict.fromkeys(_BOOLEANS, (True, False)),
        "user_role": ROLES,
        "state": tuple(KeyState),
        "origin": tuple(Origin),
        "key_class": tuple(KEY_CLASSES),
        "content_kind": tuple(ContentKind),
    }
    for fact, values in choices.items():
        now = getattr(facts, fact)
        for value in values:
            if value != now:
                yield _Alternative(Change(fact, _shown(now), _shown(value)), {fact: value})
    now = _module(facts.module_level, accepted=facts.module_accepted)
    for level in LEVELS:
        if (level, True) != (facts.module_level, facts.module_accepted):
            change = Change("module", now, _module(level, accepted=True))
            better = {
                "module_level": level,
                "module_accepted": True,
                "module_established": level >= LEAST_LEVEL,
            }
            yield _Alternative(change, better)


def _module(level: int, *, accepted: bool) -> str:
    return f"level {level} under {'an accepted standard' if accepted else 'no accepted standard'}"


def _shown(value: object) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case _:
            return str(value)
