"""What the watch looks for, as one table: each rule is a way of looking, over entries told by the words of a query.

A rule matches an entry where each of its `where` fields has one of the values given, and none of its `unless` fields
has; a value that ends in `*` stands for everything that begins so, `*` alone for any. The fields are those of a query
(`core/said.py`) and `EXTRA_FIELDS`. Matches are told apart by the field `per`; those without it are one group.

| test | there is an alarm when |
|---|---|
| `count` | `threshold` matches, or so much of the number in `fact`, fall within the window |
| `rest` | a match comes the whole window after the last one of its group; the first of all is none |
| `hours` | a match falls outside `first_hour` to `last_hour` (UTC), or on a day that is not in `days` |
| `change` | the field `watched` has another value than in the match before |
| `late` | a match is not followed by one of `ended_by` of its group within the window, or by the date in `by` |
| `back` | the time of a match lies more than the window behind the newest before it |

After an alarm a group is quiet for the window (`count`, `hours`, `back`): what goes on is one cause.

Source: Smart Energy Code G2.1 to G2.7, G2.10, G2.29, G2.30; G3.3, G3.4 say the same of Users.

Example:
    >>> refusals = Rule(
    ...     name="refusal", clause="G2.6(b)", severity=Severity.LOW, meaning="-", test=Test.COUNT, where={"kind": ("refusal",)}
    ... )
    >>> table([refusals]) == (refusals,)
    True
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum

from cryptosvc.core.canonical import JsonValue, digest
from cryptosvc.core.errors import Malformed
from cryptosvc.core.said import FIELDS

HOUR = 3600
DAY = 24 * HOUR
MAX_RULES = 128
MAX_THRESHOLD = 1_000_000
MAX_KEPT = 1000
"""Matches of one group that are kept; a rule without `fact` counts no further."""
LONGEST_WINDOW = 3660 * DAY
EXTRA_FIELDS = frozenset({"quality", "peer", "reason", "flaw", "differs", "software", "what"})
"""Fields beside those of a query: `quality` of the time; `peer`, `reason`, `software` and `what` as the entry has them;
`differs`, what a comparison found; `flaw`, which is `withheld` where what is kept beside an entry is not what it
commits to."""


class Severity(StrEnum):
    """How bad, in the words of OCSF."""

    INFORMATIONAL = "informational"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class Test(StrEnum):
    """How a rule looks."""

    __test__ = False

    COUNT = "count"
    REST = "rest"
    HOURS = "hours"
    CHANGE = "change"
    LATE = "late"
    BACK = "back"


Words = Mapping[str, tuple[str, ...]]
EVERY_DAY = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One row.

    Args:
        name: lower case, as the alarm and configuration name it.
        clause: of the Code.
        severity: of its alarms.
        meaning: a sentence for whoever reads the alarm.
        test: how it looks.
        where, unless: fields and values; at least one in `where`.
        per: field by which matches are told apart; empty for none.
        window_seconds: 0 to `LONGEST_WINDOW`.
        threshold: of `count`.
        fact: of `count`: name of a fact that is a whole number, added up in place of matches.
        watched: of `change`.
        ended_by: of `late`.
        by: of `late`: a field of the record that the match changed, Unix seconds, by when; the window counts where it has none.
        first_hour, last_hour: of `hours`: from the start of the one up to the start of the other, UTC.
        days: of `hours`: days of the week on which use is expected.

    """

    name: str
    clause: str
    severity: Severity
    meaning: str
    test: Test
    where: Words
    unless: Words = field(default_factory=dict)
    per: str = ""
    window_seconds: int = 0
    threshold: int = 1
    fact: str = ""
    watched: str = ""
    ended_by: Words = field(default_factory=dict)
    by: str = ""
    first_hour: int = 0
    last_hour: int = 24
    days: tuple[str, ...] = EVERY_DAY

    def document(self) -> dict[str, JsonValue]:
        """The rule as canonical JSON takes it; what is not said is left out."""
        found: dict[str, JsonValue] = {}
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, Mapping):
                value = {name: tuple(values) for name, values in sorted(value.items())}
            elif isinstance(value, StrEnum):
                value = value.value
            found[one.name] = value
        return found


def table(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """Check rules and give them as a table.

    Raises:
        Malformed: `watch/…`: two of one name, too many, or a row that could never or always hold.

    """
    found = tuple(rules)
    names = [one.name for one in found]
    if len(set(names)) != len(names) or len(names) > MAX_RULES:
        raise Malformed(f"the watch has at most {MAX_RULES} rules, none of them twice", rule="watch/rules")
    for one in found:
        _require_sound(one)
    return found


def table_digest(rules: Sequence[Rule]) -> str:
    """SHA-256 of the canonical table, hex: what an alarm says it was raised under."""
    return digest({"rules": tuple(one.document() for one in rules)}).hex()


def _require_sound(rule: Rule) -> None:
    known = FIELDS.keys() | EXTRA_FIELDS
    asked = {*rule.where, *rule.unless, *rule.ended_by, *({rule.per, rule.watched} - {""})}
    if unknown := sorted(asked - known):
        raise _wrong(rule, "field", f"{unknown[0]} is no field; there are {', '.join(sorted(known))}")
    if not rule.where or not all((*rule.where.values(), *rule.unless.values(), *rule.ended_by.values())):
        raise _wrong(rule, "where", "where names at least one field, and every field has a value")
    if not 0 <= rule.window_seconds <= LONGEST_WINDOW:
        raise _wrong(rule, "window", f"a window is 0 to {LONGEST_WINDOW} seconds")
    if not 1 <= rule.threshold <= (MAX_THRESHOLD if rule.fact else MAX_KEPT):
        raise _wrong(
            rule, "threshold", f"a threshold is 1 to {MAX_KEPT}, or {MAX_THRESHOLD} of what a fact says"
        )
    if rule.threshold > 1 and not rule.window_seconds:
        raise _wrong(rule, "window", "more than one match is counted within a window")
    if rule.test in (Test.REST, Test.LATE) and not rule.window_seconds:
        raise _wrong(rule, "window", f"{rule.test} needs a window")
    if (rule.test is Test.CHANGE) != bool(rule.watched):
        raise _wrong(rule, "watched", "change needs the field it watches, and no other test has one")
    if (rule.test is Test.LATE) != bool(rule.ended_by):
        raise _wrong(rule, "ended-by", "late needs what it waits for, and no other test does")
    if rule.by and rule.test is not Test.LATE:
        raise _wrong(rule, "by", "only late has a date by when")
    if not 0 <= rule.first_hour < rule.last_hour <= 24 or not set(rule.days) <= set(EVERY_DAY):
        raise _wrong(rule, "hours", f"hours lie within 0 and 24, and days are of {', '.join(EVERY_DAY)}")


def _wrong(rule: Rule, what: str, why: str) -> Malformed:
    return Malformed(f"watch rule {rule.name}: {why}", rule=f"watch/{what}", field=f"watch.rules.{rule.name}")
