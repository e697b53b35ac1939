"""The table of cells: class × content × state × environment × User Role, evaluated as in service.

It is what reviewers read. At load the cells of what each class may be asked are evaluated too, as in service, and held
against the lifecycle, beside the proof (`proof.py`), which alone looks at everything else: conditions that fail to
evaluate show here. A policy about one named caller or key never fires here, since the table
asks about groups; `lint.py` refuses those. The ceiling is applied by `core/judge.py` on every decision all the same.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from cryptosvc.core import lifecycle
from cryptosvc.core.case import Facts, PolicyAnswer
from cryptosvc.core.errors import Malformed
from cryptosvc.core.keyclass import KEY_CLASSES
from cryptosvc.core.names import ContentKind, Environment, UserRole, operation_on
from cryptosvc.core.registry import KeyState, Origin

ROLES: tuple[UserRole | None, ...] = (None, *UserRole)


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
            yield from cells_of(key_class, kind)


def cells_of(key_class: str, kind: ContentKind) -> Iterator[Facts]:
    """Those of one class and one content."""
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
        operation=operation_on(kind),
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
        module_established=True,
    )


def table(decide_all: Callable[[Sequence[Facts]], Sequence[PolicyAnswer]]) -> list[Row]:
    """Evaluate every cell of the table; some seconds."""
    asked = list(cells())
    return [
        Row(facts, allowed_at_most(facts), answer)
        for facts, answer in zip(asked, decide_all(asked), strict=True)
    ]


def require_under_ceiling(decide_all: Callable[[Sequence[Facts]], Sequence[PolicyAnswer]]) -> None:
    """Raise Malformed where a cell of what a class may be asked is permitted in a state it may not be, or fails to evaluate."""
    asked = [
        facts
        for key_class, row in KEY_CLASSES.items()
        for kind in ContentKind
        if row.permits(operation_on(kind), kind)
        for facts in cells_of(key_class, kind)
    ]
    for facts, answer in zip(asked, decide_all(asked), strict=True):
        _require_cell(Row(facts, allowed_at_most(facts), answer))


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
