"""Every cell against the ceiling: a policy set that permits more than the Code does not load.

Two looks, since each sees what the other cannot:

1. a proof: each cell of (class, operation, content, state) outside the ceiling is evaluated with all other facts
   *unknown*, and must come out as refused whatever they are. The same is asked of the floors: facts under which
   nothing is ever signed, so that a `forbid` cannot be dropped or weakened unseen.
2. the table: cells with all facts given, evaluated as they would be in service. It is what reviewers read, and it
   finds conditions that fail to evaluate.

What it cannot see is a policy about one named caller or key (`lint.py` refuses those), and the ceiling is applied
by `core/judge.py` on every decision all the same.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import cedarpy

from cryptosvc.adapters.policy import query
from cryptosvc.adapters.policy.source import Source, named_in
from cryptosvc.adapters.policy.words import WORDS
from cryptosvc.core import lifecycle
from cryptosvc.core.case import Facts, PolicyAnswer
from cryptosvc.core.errors import Malformed
from cryptosvc.core.keyclass import KEY_CLASSES
from cryptosvc.core.names import ContentKind, Environment, Operation, UserRole
from cryptosvc.core.registry import KeyState, Origin

ROLES: tuple[UserRole | None, ...] = (None, *UserRole)
LEVELS = range(5)


@dataclass(frozen=True, slots=True)
class Row:
    """One cell of the table.

    Args:
        facts: what was asked.
        under_ceiling: whether class and lifecycle tables allow it at all.
        answer: what the policies said.

    """

    facts: Facts
    under_ceiling: bool
    answer: PolicyAnswer


@dataclass(frozen=True, slots=True)
class Floor:
    """Facts under which nothing is ever permitted, whoever asks for whatever.

    Args:
        what: in words.
        clause: where it comes from.
        fixed: the facts, by name; all others are unknown.

    """

    what: str
    clause: str
    fixed: Mapping[str, bool | int | str] = field(default_factory=dict)


FLOORS = (
    Floor("without a grant", "G2.20", {"granted": False}),
    Floor("with a key of another system", "G2.20", {"same_system": False}),
    Floor("with an adopted key in live", "G5.13(a)", {"environment": "live", "origin": "adopted"}),
    *(
        Floor(
            f"in live in a module of level {level} under {'an accepted' if accepted else 'another'} standard",
            "G2.44",
            {"environment": "live", "module_level": level, "module_accepted": accepted},
        )
        for level in LEVELS
        for accepted in (False, True)
        if not accepted or level < min(row.assurance_level for row in KEY_CLASSES.values())
    ),
    Floor(
        "Supply Sensitive without a check",
        "G3.25(a)",
        {"supply_sensitive": True, "supply_sensitive_check": False},
    ),
    Floor(
        "Supply Sensitive outside the United Kingdom",
        "G3.25(b)",
        {"supply_sensitive": True, "in_united_kingdom": False},
    ),
    Floor(
        "with an Eligible User's key outside the United Kingdom",
        "G3.23(a)",
        {"eligible_user_key": True, "in_united_kingdom": False},
    ),
)

_ENUMERATED = {"content": "Content", "state": "KeyState", "origin": "Origin", "environment": "Environment"}
_CONTEXT = (
    *_ENUMERATED,
    "eligible_user_key",
    "same_system",
    "granted",
    "module_accepted",
    "module_level",
    "in_united_kingdom",
    "supply_sensitive",
    "supply_sensitive_check",
)


def allowed_at_most(facts: Facts) -> bool:
    """Whether class and lifecycle tables allow this at all, whatever a policy says."""
    row = KEY_CLASSES.get(facts.key_class)
    return (
        row is not None
        and row.permits(facts.operation, facts.content_kind)
        and lifecycle.permits(facts.state, facts.operation, facts.content_kind)
    )


def cells() -> Iterator[Facts]:
    """The facts of the table: class × content × state × environment × User Role, all else favourable to a permit."""
    for key_class in KEY_CLASSES:
        for kind in ContentKind:
            for state in KeyState:
                for environment in Environment:
                    for role in ROLES:
                        yield favourable(key_class, kind, state, environment, role)


def favourable(
    key_class: str,
    kind: ContentKind,
    state: KeyState = KeyState.ACTIVE,
    environment: Environment = Environment.LIVE,
    role: UserRole | None = None,
) -> Facts:
    """Facts of a granted caller with a generated key of its own system in a level 3 module in the United Kingdom."""
    return Facts(
        operation=Operation.SIGN,
        key_class=key_class,
        content_kind=kind,
        state=state,
        origin=Origin.GENERATED,
        environment=environment,
        user_role=role,
        same_system=True,
        granted=True,
        module_standard="FIPS 140-2",
        module_level=3,
        in_united_kingdom=True,
        supply_sensitive=False,
        supply_sensitive_check=False,
        eligible_user_key=False,
        module_accepted=True,
    )


def table(decide_all: Callable[[Sequence[Facts]], Sequence[PolicyAnswer]]) -> list[Row]:
    """Evaluate every cell of the table; about half a second."""
    asked = list(cells())
    return [
        Row(facts, allowed_at_most(facts), answer)
        for facts, answer in zip(asked, decide_all(asked), strict=True)
    ]


def require_under_ceiling(
    source: Source, decide_all: Callable[[Sequence[Facts]], Sequence[PolicyAnswer]]
) -> None:
    """Raise Malformed where a policy set permits more than the ceiling, or fails to evaluate; names the cell."""
    proof = _Proof(source)
    for key_class, row in KEY_CLASSES.items():
        for operation in Operation:
            if proof.refuses(operation, key_class):
                continue
            for kind in ContentKind:
                if proof.refuses(operation, key_class, content=kind.value):
                    continue
                for state in KeyState:
                    if not (row.permits(operation, kind) and lifecycle.permits(state, operation, kind)):
                        proof.require(
                            operation,
                            key_class,
                            f"in state {state}",
                            row.clause,
                            content=kind.value,
                            state=state.value,
                        )
            for floor in FLOORS:
                for role in sorted(WORDS["UserRole"]):
                    proof.require(
                        operation,
                        key_class,
                        f"{floor.what}, User Role {role}",
                        floor.clause,
                        role=role,
                        **floor.fixed,
                    )
    for cell in table(decide_all):
        _require_cell(cell)


def _require_cell(cell: Row) -> None:
    facts, answer = cell.facts, cell.answer
    name = (
        f"{facts.key_class} {facts.operation} {facts.content_kind} in state {facts.state}, "
        f"environment {facts.environment}, User Role {facts.user_role or 'none'}"
    )
    if answer.rule == "policy/evaluation-error":
        raise Malformed(
            f"the policy {', '.join(answer.policies)} fails to evaluate in the cell {name}",
            rule="policy/evaluation-error",
        )
    if answer.allowed and not cell.under_ceiling:
        raise Malformed(
            f"the policies {', '.join(answer.policies)} permit more than the ceiling: {name}",
            rule="policy/over-wide",
        )


class _Proof:
    """Asks Cedar with some facts given and the others unknown."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._entities = query.entities()

    def require(
        self, operation: Operation, key_class: str, where: str, clause: str, **fixed: bool | int | str
    ) -> None:
        """Raise Malformed unless this is refused whatever the facts not given are."""
        result = self._ask(operation, key_class, fixed)
        if result.decision is cedarpy.Decision.Deny:
            return
        kind = fixed.get("content", "something")
        raise Malformed(
            f"the policies {', '.join(self._permits(result))} permit more than the ceiling ({clause}): "
            f"{key_class} {operation} {kind} {where}",
            rule="policy/over-wide",
        )

    def refuses(self, operation: Operation, key_class: str, **fixed: bool | int | str) -> bool:
        """Whether this is refused whatever the facts not given are."""
        return self._ask(operation, key_class, fixed).decision is cedarpy.Decision.Deny

    def _ask(
        self, operation: Operation, key_class: str, fixed: Mapping[str, bool | int | str]
    ) -> cedarpy.PartialAuthzResult:
        request: dict[str, object] = {
            "action": f'Action::"{operation}"',
            "resource": f'Key::"{key_class}"',
            "context": {name: _given(name, fixed) for name in _CONTEXT},
        }
        if "role" in fixed:
            request["principal"] = f'Caller::"{fixed["role"]}"'
        result = cedarpy.is_authorized_partial(request, self._source.policies, self._entities)
        if result.diagnostics.errors:
            failing = named_in(result.diagnostics.errors, self._source)
            raise Malformed(
                f"the policy {', '.join(rule.rule_id for rule in failing)} fails to evaluate for {key_class} {operation}",
                rule="policy/evaluation-error",
                field=failing[0].file if failing else "",
            )
        return result

    def _permits(self, result: cedarpy.PartialAuthzResult) -> list[str]:
        """The permits that hold, or may hold."""
        held = {*result.diagnostics.reasons, *result.diagnostics.may_be_determining}
        rules = (self._source.rules[policy] for policy in held)
        return sorted(rule.rule_id for rule in rules if rule.effect == "permit")


def _given(name: str, fixed: Mapping[str, bool | int | str]) -> object:
    if name not in fixed:
        return {"__extn": {"fn": "unknown", "arg": name}}
    if name in _ENUMERATED:
        return {"__entity": {"type": _ENUMERATED[name], "id": fixed[name]}}
    return fixed[name]
