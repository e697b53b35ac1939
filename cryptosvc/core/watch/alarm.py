"""An alarm: which rule, about what, and the leaves it rests on; as an entry of the log, and read back from one.

Whoever an alarm is about is withheld in its entry as in any other: the caller under `principal`, a User under
`user_id`, a device under `target`, an address under `peer`.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.said import moment
from cryptosvc.core.watch.rules import Rule, Severity

KIND = "alarm"
LEAVES_NAMED = 16
"""An alarm names this many of its leaves, the last among them; `count` says of how many."""
_WITHHELD: Mapping[str, str] = MappingProxyType(
    {"caller": "principal", "user": "user_id", "target": "target", "peer": "peer", "custodian": "custodian"}
)
_ABOUT = "about"
_VALUE = "value"
_OWN = frozenset({"cause", "clause", "count", "leaves", "rule", "rules", "severity"})
"""Facts of every alarm; a group that is told apart by one of these names stands under `value`."""
_CHARACTERS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One cause for concern.

    Args:
        cause: SHA-256 of rule and first leaf, hex; one cause has one alarm.
        rule, clause, severity, meaning: of the rule.
        field, value: what tells the group apart; empty where the rule has one group.
        leaves: it rests on these, in order; at most `LEAVES_NAMED`.
        count: how many there were, or how much of the fact.
        at: Unix seconds of the newest.

    """

    cause: str
    rule: str
    clause: str
    severity: Severity
    meaning: str
    field: str
    value: str
    leaves: tuple[int, ...]
    count: int
    at: int

    @property
    def newest(self) -> int:
        """The last leaf it rests on."""
        return self.leaves[-1]

    def document(self) -> dict[str, JsonValue]:
        """The alarm as canonical JSON takes it."""
        return {
            "at": self.at,
            "cause": self.cause,
            "clause": self.clause,
            "count": self.count,
            "field": self.field,
            "leaves": self.leaves,
            "meaning": self.meaning,
            "rule": self.rule,
            "severity": self.severity.value,
            "value": self.value,
        }

    def facts(self, digest: str) -> dict[str, str]:
        """What stands open in its entry; `digest` is of the rule table."""
        found = {
            "cause": self.cause,
            "clause": self.clause,
            "count": str(self.count),
            "leaves": " ".join(str(one) for one in self.leaves),
            "rule": self.rule,
            "rules": digest,
            "severity": self.severity.value,
        }
        if self.field:
            found[_ABOUT] = self.field
            if self.field not in _WITHHELD:
                found[_place_of(self.field)] = printable(self.value)
        return found

    def withheld(self) -> dict[str, str]:
        """What enters as commitments."""
        return {_WITHHELD[self.field]: self.value} if self.field in _WITHHELD and self.value else {}


def alarm_of(rule: Rule, group: str, leaves: tuple[int, ...], count: int, at: int) -> Alarm:
    """The alarm of a rule about a group; `leaves` may be any number, at least one."""
    named = leaves if len(leaves) <= LEAVES_NAMED else (*leaves[: LEAVES_NAMED - 1], leaves[-1])
    return Alarm(
        cause=cause_of(rule.name, leaves[0]),
        rule=rule.name,
        clause=rule.clause,
        severity=rule.severity,
        meaning=rule.meaning,
        field=rule.per,
        value=group,
        leaves=named,
        count=count,
        at=at,
    )


def cause_of(rule: str, first: int) -> str:
    """Name a cause, the same whenever the log is read; the first leaf says of whom, and the name does not."""
    return hashlib.sha256(f"{rule}\0{first}".encode()).hexdigest()


def alarm_from_document(document: Mapping[str, JsonValue]) -> Alarm:
    """Read what `document` gives; ValueError, KeyError or TypeError for anything else."""
    leaves = document["leaves"]
    if not isinstance(leaves, list) or not leaves:
        raise TypeError
    return Alarm(
        cause=str(document["cause"]),
        rule=str(document["rule"]),
        clause=str(document["clause"]),
        severity=Severity(str(document["severity"])),
        meaning=str(document["meaning"]),
        field=str(document["field"]),
        value=str(document["value"]),
        leaves=tuple(int(one) for one in leaves),
        count=int(str(document["count"])),
        at=int(str(document["at"])),
    )


def alarm_from_entry(
    entry: Mapping[str, JsonValue], beside: Mapping[str, str], meanings: Mapping[str, str]
) -> Alarm | None:
    """Read an alarm's entry; None where it is none. `meanings` has a sentence for each rule, where it is known."""
    facts = entry.get("facts")
    if entry.get("kind") != KIND or not isinstance(facts, Mapping):
        return None
    said = {name: value for name, value in facts.items() if isinstance(value, str)}
    about = said.get(_ABOUT, "")
    try:
        return Alarm(
            cause=said["cause"],
            rule=said["rule"],
            clause=said["clause"],
            severity=Severity(said["severity"]),
            meaning=meanings.get(said["rule"], said["rule"]),
            field=about,
            value=beside.get(_WITHHELD.get(about, ""), said.get(_place_of(about), "")) if about else "",
            leaves=tuple(int(one) for one in said["leaves"].split(" ")),
            count=int(said["count"]),
            at=moment(entry) // 10**9,
        )
    except (KeyError, ValueError):
        return None


def _place_of(field: str) -> str:
    return _VALUE if field in _OWN else field


def printable(text: str) -> str:
    """What enters the log as a fact is printable ASCII; what a caller asked for is anybody's."""
    return "".join(one if one.isascii() and one.isprintable() else "?" for one in text)[:_CHARACTERS]
