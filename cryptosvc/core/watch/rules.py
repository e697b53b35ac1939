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
| `late` | a match is not followed by one of `ended_by` of its group within the window |
| `back` | the time of a match lies more than the window behind the newest before it |

After an alarm a group is quiet for the window (`count`, `hours`, `back`): what goes on is one cause.

Source: Smart Energy Code G2.1 to G2.7, G2.10, G2.29, G2.30; G3.3, G3.4 say the same of Users.

Example:
    >>> table(DEFAULT_RULES)[0].name
    'failed-identification'
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
    if not 0 <= rule.first_hour < rule.last_hour <= 24 or not set(rule.days) <= set(EVERY_DAY):
        raise _wrong(rule, "hours", f"hours lie within 0 and 24, and days are of {', '.join(EVERY_DAY)}")


def _wrong(rule: Rule, what: str, why: str) -> Malformed:
    return Malformed(f"watch rule {rule.name}: {why}", rule=f"watch/{what}", field=f"watch.rules.{rule.name}")


def _rule(
    name: str,
    clause: str,
    severity: Severity,
    test: Test,
    meaning: str,
    where: Words,
    *,
    window: int = 0,
    threshold: int = 1,
    per: str = "",
    unless: Words | None = None,
    fact: str = "",
    watched: str = "",
    ended_by: Words | None = None,
) -> Rule:
    return Rule(
        name=name,
        clause=clause,
        severity=severity,
        meaning=meaning,
        test=test,
        where=where,
        unless=unless or {},
        per=per,
        window_seconds=window,
        threshold=threshold,
        fact=fact,
        watched=watched,
        ended_by=ended_by or {},
    )


_USE = {"kind": ("use",), "outcome": ("signed",)}
_REFUSAL = {"kind": ("refusal",)}
_COMPARED = {"kind": ("reconciled",)}
_NOT_IN_ORDER = ("use", "alarm", "watch", "incident", "genesis")
_LOW, _MEDIUM, _HIGH, _CRITICAL = Severity.LOW, Severity.MEDIUM, Severity.HIGH, Severity.CRITICAL

DEFAULT_RULES: tuple[Rule, ...] = (
    _rule(
        "failed-identification",
        "G2.1(a)",
        _MEDIUM,
        Test.COUNT,
        "TLS handshakes failed again and again: somebody tries to connect that may not.",
        {"kind": ("handshake-failed",)},
        window=300,
        threshold=5,
        fact="count",
    ),
    _rule(
        "unregistered-certificate",
        "G2.1(a)",
        _HIGH,
        Test.COUNT,
        "A certificate that the authority issued and no caller is registered with, or whose caller is revoked, was used.",
        {**_REFUSAL, "rule": ("caller/unknown", "caller/revoked", "caller/certificate", "caller/changed")},
        per="peer",
        window=600,
    ),
    _rule(
        "refused-purpose",
        "G2.6(b)",
        _HIGH,
        Test.COUNT,
        "A key was asked for what its class may not do, or no policy or grant lets this caller do.",
        {**_REFUSAL, "rule": ("ceiling/*", "caller/not-granted", "policy/*")},
        per="key",
        window=HOUR,
    ),
    _rule(
        "repeated-refusals-of-caller",
        "G2.6(b)",
        _MEDIUM,
        Test.COUNT,
        "One caller was refused again and again.",
        {**_REFUSAL, "caller": ("*",)},
        per="caller",
        window=600,
        threshold=10,
    ),
    _rule(
        "repeated-refusals-of-key",
        "G2.6(b)",
        _MEDIUM,
        Test.COUNT,
        "Requests for one key were refused again and again.",
        {**_REFUSAL, "key": ("*",)},
        per="key",
        window=600,
        threshold=10,
    ),
    _rule(
        "log-read-refused",
        "G2.7",
        _MEDIUM,
        Test.COUNT,
        "Somebody who is not its auditor asked for the log.",
        {**_REFUSAL, "rule": ("audit/*",)},
        per="caller",
        window=HOUR,
    ),
    _rule(
        "use-after-rest",
        "G2.29(a)",
        _LOW,
        Test.REST,
        "A key was used for the first time after ninety days.",
        _USE,
        per="key",
        window=90 * DAY,
    ),
    _rule(
        "unknown-object",
        "G2.3(a)",
        _CRITICAL,
        Test.COUNT,
        "A module holds an object that no record is of, or not the one a record is of.",
        {**_COMPARED, "differs": ("unknown-object", "changed-key", "not-destroyed", "changed-attributes")},
        window=HOUR,
        per="differs",
    ),
    _rule(
        "module-drift",
        "G2.3(a)",
        _HIGH,
        Test.COUNT,
        "A module is not the one its record describes, or an object of it is gone.",
        {**_COMPARED, "differs": ("drifted-module", "unregistered-module", "missing-object", "not-in-parts")},
        window=HOUR,
        per="differs",
    ),
    _rule(
        "signature-outside-the-log",
        "G2.6(a)",
        _CRITICAL,
        Test.COUNT,
        "A module made a signature that the log has not: its key was used past the service.",
        {**_COMPARED, "differs": ("unrecorded-signature",)},
        per="key",
        window=HOUR,
    ),
    _rule(
        "policy-change",
        "G2.3(a)",
        _HIGH,
        Test.CHANGE,
        "A worker began to serve under another set of policies than the one before.",
        {"kind": ("service-start",)},
        watched="policies",
    ),
    _rule(
        "software-change",
        "G2.2(a)",
        _MEDIUM,
        Test.CHANGE,
        "A worker began to serve with other software than the one before.",
        {"kind": ("service-start",)},
        watched="software",
    ),
    _rule(
        "clock-not-synchronised",
        "G2.47",
        _MEDIUM,
        Test.COUNT,
        "A process records with a clock that nothing keeps in time.",
        {"quality": ("unsynchronised",)},
        per="worker",
        window=DAY,
    ),
    _rule(
        "clock-went-back",
        "G2.47",
        _HIGH,
        Test.BACK,
        "Entries carry times well before those recorded before them: a clock differs from another, or was set back.",
        {"kind": ("*",)},
        unless={"kind": _NOT_IN_ORDER},
        window=120,
    ),
    _rule(
        "claim-left-open",
        "G2.10(b)",
        _HIGH,
        Test.COUNT,
        "A key was claimed and nobody knows whether the module used it.",
        {"kind": ("use",), "outcome": ("outcome_unknown",)},
        per="module",
        window=HOUR,
    ),
    _rule(
        "result-did-not-verify",
        "G2.9(c)",
        _CRITICAL,
        Test.COUNT,
        "A module gave back something that did not pass the check.",
        {"kind": ("use",), "outcome": ("corrupt",)},
        per="module",
        window=HOUR,
    ),
    _rule(
        "receipt-late",
        "G2.22I",
        _HIGH,
        Test.LATE,
        "Keys were exported a week ago and no receipt has come.",
        {"kind": ("transfer-record",), "state": ("exported",)},
        per="transfer",
        window=7 * DAY,
        ended_by={"kind": ("transfer-record",), "state": ("receipted", "disposed", "rolled-back")},
    ),
    _rule(
        "disposition-late",
        "G2.22I",
        _HIGH,
        Test.LATE,
        "Keys arrived at the other side a week ago and what is left of them here has not been disposed of.",
        {"kind": ("transfer-record",), "state": ("receipted",)},
        per="transfer",
        window=7 * DAY,
        ended_by={"kind": ("transfer-record",), "state": ("disposed",)},
    ),
    _rule(
        "log-export",
        "G2.7",
        _MEDIUM,
        Test.COUNT,
        "The whole log was written to a file.",
        {"kind": ("use",), "worker": ("export",)},
        window=HOUR,
    ),
    _rule(
        "audit-reads-out-of-the-ordinary",
        "G2.7",
        _MEDIUM,
        Test.COUNT,
        "One auditor read a hundred thousand entries within an hour.",
        {"kind": ("read",), "what": ("query",)},
        per="caller",
        window=HOUR,
        threshold=100_000,
        fact="entries",
    ),
    _rule(
        "reads-out-of-the-ordinary",
        "G2.7",
        _LOW,
        Test.COUNT,
        "One caller read keys or entries a thousand times within ten minutes.",
        {"kind": ("read",), "caller": ("*",)},
        per="caller",
        window=600,
        threshold=1000,
    ),
    _rule(
        "overload",
        "G2.8(a)",
        _MEDIUM,
        Test.COUNT,
        "Calls were turned away because there was too much to do.",
        {"kind": ("overloaded",)},
        window=600,
        threshold=100,
        fact="count",
    ),
    _rule(
        "withheld-value-changed",
        "G2.27(a)",
        _CRITICAL,
        Test.COUNT,
        "What is kept beside an entry is not what the entry commits to.",
        {"flaw": ("withheld",)},
        window=DAY,
    ),
)
"""What is watched for where the configuration says nothing else. Hours of use differ from key to key: `hours` rules
are the operator's to write."""
