"""A proof over all facts at once: nothing outside the ceiling and nothing on a floor is ever permitted.

Cedar evaluates with some facts given and the others *unknown*. Where it answers `Deny`, the policies refuse whatever
the unknown facts are, and one look has covered them all. Where it cannot say, one unknown fact of a permit that is
still open is given each of its values in turn, until every branch is refused or one set of facts is found that is
permitted. That set is what the message names.

Partial evaluation is an experimental part of Cedar, so nothing in service decides by it: it can only keep a policy
set from loading.
"""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import cedarpy
from cedarpy import pst

from cryptosvc.adapters.policy import query
from cryptosvc.adapters.policy.source import Source, named_in
from cryptosvc.adapters.policy.words import FACT_WORDS, WORDS
from cryptosvc.core import lifecycle
from cryptosvc.core.errors import Malformed
from cryptosvc.core.keyclass import DEVICE_CLASSES, KEY_CLASSES
from cryptosvc.core.names import ContentKind, Operation
from cryptosvc.core.registry import KeyState

Given = Mapping[str, bool | int | str]
"""Facts by the names of the schema's record, and `role` for the caller's User Role; what is not there is unknown."""

LEVELS = range(5)

_YES_OR_NO = (
    "granted",
    "same_system",
    "module_accepted",
    "module_established",
    "cos_party",
    "from_relevant_system",
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
VALUES: Mapping[str, tuple[bool | int | str, ...]] = {
    "role": tuple(sorted(WORDS["UserRole"])),
    **{fact: tuple(sorted(WORDS[kind])) for fact, kind in FACT_WORDS.items()},
    **dict.fromkeys(_YES_OR_NO, (True, False)),
    "module_level": tuple(LEVELS),
}


@dataclass(frozen=True, slots=True)
class Floor:
    """Facts under which nothing is ever permitted, whoever asks for whatever.

    Args:
        what: in words.
        clause: where it comes from.
        given: the facts; all others are unknown.
        classes: of the keys it is about.

    """

    what: str
    clause: str
    given: Given = field(default_factory=dict)
    classes: frozenset[str] = frozenset(KEY_CLASSES)


_LEVEL_REQUIRED = min(row.assurance_level for row in KEY_CLASSES.values())


def _shown(value: bool | int | str) -> str:  # noqa: FBT001 - a value of a fact, whatever it is
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


_NOT_BOTH = ((False, False), (False, True), (True, False))

_WHERE_LEVEL_3: tuple[tuple[frozenset[str], str, Given], ...] = (
    (frozenset(KEY_CLASSES) - DEVICE_CLASSES, "", {}),
    (DEVICE_CLASSES, " as DCO", {"role": "DCO"}),
    *(
        (
            DEVICE_CLASSES,
            (
                f" without add credit, Instruction {_shown(instruction)}, Category 1 {_shown(category_1)}, "
                f"one association {_shown(one_association)}, Category 2 {_shown(category_2)}"
            ),
            {
                "add_credit": False,
                "instruction": instruction,
                "category_1": category_1,
                "one_association": one_association,
                "category_2": category_2,
            },
        )
        # all of them given: what stays unknown would be tried in every combination with everything else
        for instruction, category_1 in _NOT_BOTH
        for one_association, category_2 in _NOT_BOTH
    ),
)
"""Whose keys, in which words, and under which facts level 3 is asked for: G2.44A exempts some uses of Devices' keys."""

FLOORS = (
    Floor("without a grant", "G2.20", {"granted": False}),
    Floor("with a key of another system", "G2.20", {"same_system": False}),
    Floor("with an adopted key in live", "G5.13(a)", {"environment": "live", "origin": "adopted"}),
    *(
        Floor(
            f"in live in a module under a standard that is not accepted{where}",
            "G2.44",
            {"environment": "live", "module_accepted": False, **given},
            classes,
        )
        for classes, where, given in _WHERE_LEVEL_3
    ),
    Floor(
        "in live in a module that is not established for what G2.44A exempts",
        "G2.45",
        {"environment": "live", "module_accepted": False, "module_established": False, "add_credit": True},
        DEVICE_CLASSES,
    ),
    Floor(
        "from the other relevant system without a verified origin",
        "G2.22B(a)",
        {"from_relevant_system": True, "origin_verified": False},
    ),
    *(
        Floor(
            f"in live in a module of level {level}{where}",
            "G2.44",
            {"environment": "live", "module_accepted": True, "module_level": level, **given},
            classes,
        )
        for level in LEVELS
        for classes, where, given in _WHERE_LEVEL_3
        if level < _LEVEL_REQUIRED
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


def prove_under_ceiling(source: Source) -> None:
    """Raise Malformed unless no facts whatever are permitted outside the ceiling or on a floor; names the cell."""
    every = _Prover(source, source.rules.keys())
    for key_class, row in KEY_CLASSES.items():
        for operation in Operation:
            if every.refuses_everybody(operation, key_class):
                continue
            prover = every.about(operation, key_class)
            # most contents are refused in every state, which one look shows
            refused = {
                kind
                for kind in ContentKind
                if prover.offers_nothing(operation, key_class, {"content": kind.value})
            }
            for kind, state in _outside(key_class, operation):
                if kind in refused:
                    continue
                given: Given = {"content": kind.value, "state": state.value}
                prover.require(operation, key_class, given, f"{kind} in state {state}", row.clause)
            # a class is for few User Roles, and what is refused to one whatever the facts needs no further look
            asked = [kind.value for kind in ContentKind if kind not in refused]
            roles = [
                role
                for role in VALUES["role"]
                if not all(
                    prover.offers_nothing(operation, key_class, {"content": kind, "role": role})
                    for kind in asked
                )
            ]
            for floor in FLOORS:
                if key_class in floor.classes and not prover.refuses(operation, key_class, floor.given):
                    # which clause binds whom differs by User Role, so that is the fact to settle first
                    for role in roles:
                        if floor.given.get("role", role) != role:
                            continue
                        given = {**floor.given, "role": role}
                        prover.require(
                            operation, key_class, given, f"{floor.what}, User Role {role}", floor.clause
                        )


def _outside(key_class: str, operation: Operation) -> Iterator[tuple[ContentKind, KeyState]]:
    for kind in ContentKind:
        for state in (KeyState.ACTIVE, *KeyState):
            if not (
                KEY_CLASSES[key_class].permits(operation, kind) and lifecycle.permits(state, operation, kind)
            ):
                yield kind, state


class _Prover:
    """Asks Cedar with some facts given and the others unknown.

    Args:
        source: what the policies are called.
        asked: Cedar's names of the policies that are asked: all of them, or those that can say something.

    """

    def __init__(self, source: Source, asked: AbstractSet[str]) -> None:
        self._source = source
        self._policies = _subset(source, asked)
        self._permits = _subset(source, {name for name in asked if source.rules[name].effect == "permit"})
        self._entities: dict[tuple[str, str], cedarpy.Entities] = {}

    def about(self, operation: Operation, key_class: str) -> "_Prover":
        """Ask only policies that can apply here: what is false whatever else is so stays false however much is given."""
        found = self._ask(operation, key_class, {}).diagnostics
        return _Prover(self._source, {*found.nontrivial_residuals, *found.reasons})

    def refuses_everybody(self, operation: Operation, key_class: str) -> bool:
        """As `refuses` with nothing given; a permit for some User Role of another class or operation stays open until then."""
        return self.offers_nothing(operation, key_class, {}) or all(
            self.refuses(operation, key_class, {"role": role}) for role in VALUES["role"]
        )

    def require(self, operation: Operation, key_class: str, given: Given, where: str, clause: str) -> None:
        """Raise Malformed where some facts that agree with `given` are permitted."""
        found = self.witness(operation, key_class, given)
        if found is None:
            return
        facts, permits = found
        example = ", ".join(f"{fact} {_shown(value)}" for fact, value in facts.items() if fact not in given)
        raise Malformed(
            f"the policies {', '.join(permits)} permit more than the ceiling ({clause}): "
            f"{key_class} {operation} {where}" + (f", with {example}" if example else ""),
            rule="policy/over-wide",
        )

    def offers_nothing(self, operation: Operation, key_class: str, given: Given) -> bool:
        """As `refuses`, where no permit may come to hold: that is seen without what the other policies forbid, and quicker."""
        asked = self._ask(operation, key_class, given, self._permits)
        return asked.decision is cedarpy.Decision.Deny or self.refuses(operation, key_class, given)

    def refuses(self, operation: Operation, key_class: str, given: Given) -> bool:
        """Whether one look shows that this is refused whatever the facts not given are."""
        return self._ask(operation, key_class, given).decision is cedarpy.Decision.Deny

    def witness(self, operation: Operation, key_class: str, given: Given) -> tuple[Given, list[str]] | None:
        """Find facts that agree with `given` and are permitted, and the permits; None where there are none."""
        result = self._ask(operation, key_class, given)
        if result.decision is cedarpy.Decision.Deny:
            return None
        unknown = self._open(result)
        if unknown is None:
            rules = (self._source.rules[policy] for policy in result.diagnostics.reasons)
            return given, sorted(rule.rule_id for rule in rules if rule.effect == "permit")
        for value in VALUES[unknown]:
            found = self.witness(operation, key_class, {**given, unknown: value})
            if found is not None:
                return found
        return None

    def _open(self, result: cedarpy.PartialAuthzResult) -> str | None:
        """Pick the next fact to give a value: of the first permit still open, else of the first forbid."""
        residuals = [
            (self._source.rules[policy], result.residuals[policy])
            for policy in result.diagnostics.nontrivial_residuals
        ]
        residuals.sort(key=lambda found: (found[0].effect != "permit", found[0].order))
        return next((name for _, residual in residuals for name in _unknowns(residual)), None)

    def _ask(
        self, operation: Operation, key_class: str, given: Given, policies: cedarpy.PolicySet | None = None
    ) -> cedarpy.PartialAuthzResult:
        role = str(given.get("role", ""))
        entities = self._entities.get((key_class, role))
        if entities is None:
            entities = self._entities[key_class, role] = query.entities_of(key_class, role)
        request: dict[str, object] = {
            "action": f'Action::"{operation}"',
            "resource": f'Key::"{key_class}"',
            "context": {fact: _value(fact, given) for fact in VALUES if fact != "role"},
        }
        if "role" in given:
            request["principal"] = f'Caller::"{given["role"]}"'
        result = cedarpy.is_authorized_partial(request, policies or self._policies, entities)
        if result.diagnostics.errors:
            failing = named_in(result.diagnostics.errors, self._source)
            raise Malformed(
                f"the policy {', '.join(rule.rule_id for rule in failing)} fails to evaluate for "
                f"{key_class} {operation}",
                rule="policy/evaluation-error",
                field=failing[0].file if failing else "",
            )
        return result


def _subset(source: Source, names: AbstractSet[str]) -> cedarpy.PolicySet:
    trees = {name: tree for name, tree in source.trees.items() if name in names}
    return cedarpy.PolicySet.from_pst(pst.PolicySet({}, trees, ()))


def _value(fact: str, given: Given) -> object:
    if fact not in given:
        return {"__extn": {"fn": "unknown", "arg": fact}}
    if fact in FACT_WORDS:
        return {"__entity": {"type": FACT_WORDS[fact], "id": given[fact]}}
    return given[fact]


def _unknowns(residual: object) -> Iterator[str]:
    """Names of the unknown facts in a residual policy, as Cedar's JSON form writes them, left to right."""
    match residual:
        case {"unknown": [{"Value": str(name)}]}:
            yield "role" if name == "principal" else name
        case dict():
            for part in residual.values():
                yield from _unknowns(part)
        case list():
            for part in residual:
                yield from _unknowns(part)
        case _:
            return
