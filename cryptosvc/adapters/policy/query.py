"""Facts → a Cedar request.

Who asks is `Caller::"<role>"`, a representative of everybody in that User Role, and the key is `Key::"<class>"`; both
groups are parents of theirs. Everything else is context.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TypedDict

import cedarpy

from cryptosvc.adapters.policy.words import NO_ROLE, WORDS
from cryptosvc.core.case import Facts

_MEMBERS = (("Caller", "UserRole"), ("Key", "KeyClass"))


class EntityRef(TypedDict):
    """One entity in Cedar's JSON form."""

    type: str
    id: str


class Query(TypedDict):
    """A Cedar request; the context is JSON text."""

    principal: EntityRef
    action: EntityRef
    resource: EntityRef
    context: str


def entities() -> cedarpy.Entities:
    """Make the representatives of every User Role and key class, each in its group."""
    return _members([(member, group, word) for member, group in _MEMBERS for word in sorted(WORDS[group])])


def entities_of(key_class: str, role: str | None) -> cedarpy.Entities:
    """Make those of one class, and of one User Role where it is given: all that a request about them can rest on."""
    words = {"KeyClass": key_class, "UserRole": role}
    return _members([(member, group, word) for member, group in _MEMBERS if (word := words[group])])


def _members(found: Sequence[tuple[str, str, str]]) -> cedarpy.Entities:
    return cedarpy.Entities.from_json_str(
        json.dumps(
            [
                {"uid": _ref(member, word), "attrs": {}, "parents": [_ref(group, word)]}
                for member, group, word in found
            ]
        )
    )


def query(facts: Facts) -> Query:
    """Write the request for one set of facts."""
    return {
        "principal": _ref("Caller", NO_ROLE if facts.user_role is None else facts.user_role.value),
        "action": _ref("Action", facts.operation.value),
        "resource": _ref("Key", facts.key_class),
        "context": json.dumps(context(facts)),
    }


def context(facts: Facts) -> dict[str, bool | int | Mapping[str, EntityRef]]:
    """Write the `Facts` record of the schema. The module's standard is seen only as accepted or not (G1.3)."""
    return {
        "content": _enumerated("Content", facts.content_kind.value),
        "state": _enumerated("KeyState", facts.state.value),
        "origin": _enumerated("Origin", facts.origin.value),
        "environment": _enumerated("Environment", facts.environment.value),
        "eligible_user_key": facts.eligible_user_key,
        "same_system": facts.same_system,
        "granted": facts.granted,
        "module_accepted": facts.module_accepted,
        "module_established": facts.module_established,
        "module_level": facts.module_level,
        "in_united_kingdom": facts.in_united_kingdom,
        "cos_party": facts.cos_party,
        "from_relevant_system": facts.from_relevant_system,
        "origin_verified": facts.origin_verified,
        "add_credit": facts.add_credit,
        "instruction": facts.instruction,
        "category_1": facts.category_1,
        "category_2": facts.category_2,
        "one_association": facts.one_association,
        "supply_sensitive": facts.supply_sensitive,
        "supply_sensitive_check": facts.supply_sensitive_check,
    }


def _ref(kind: str, word: str) -> EntityRef:
    return {"type": kind, "id": word}


def _enumerated(kind: str, word: str) -> Mapping[str, EntityRef]:
    return {"__entity": _ref(kind, word)}
