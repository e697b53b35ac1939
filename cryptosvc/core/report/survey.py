"""What a stretch of log holds, counted for a report; fed in the order of the log.

A figure is a count with the first entries behind it and the last, so that every number of a report leads to what it
counts. Memory does not grow with the log: of each figure a few indexes are kept, and a table that would have more
rows than `MOST_ROWS` counts what comes after them together.

Example:
    >>> survey = Survey()
    >>> survey.take(7, {"kind": "use", "time": "1", "outcome": "signed", "key": "k"}, {}, set())
    >>> survey.tables["outcome"].rows[("signed",)].count
    1
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptosvc.core import review
from cryptosvc.core.life import NANOSECONDS
from cryptosvc.core.said import Entry, Pair, moment

FIRST_OF_A_FIGURE = 5
MOST_ROWS = 10_000
MOST_LISTED = 200
HOUR = 3600 * NANOSECONDS
_GOVERNED = frozenset({"ceremony", "transfer"})


@dataclass(slots=True)
class Figure:
    """A number, and the entries behind it.

    Args:
        count: how many.
        first: indexes of the first of them, at most `FIRST_OF_A_FIGURE`.
        last: index of the last; -1 where there is none.

    """

    count: int = 0
    first: list[int] = field(default_factory=list)
    last: int = -1

    def take(self, index: int) -> None:
        """Count one entry."""
        self.count += 1
        self.last = index
        if len(self.first) < FIRST_OF_A_FIGURE:
            self.first.append(index)

    def plus(self, other: "Figure") -> "Figure":
        """Both together."""
        first = sorted({*self.first, *other.first})[:FIRST_OF_A_FIGURE]
        return Figure(self.count + other.count, first, max(self.last, other.last))


@dataclass(slots=True)
class Table:
    """Figures by what they count.

    Args:
        rows: each named by one or more texts.
        others: what came when there were `MOST_ROWS` rows already.

    """

    rows: dict[tuple[str, ...], Figure] = field(default_factory=dict)
    others: Figure = field(default_factory=Figure)

    def figure(self, name: tuple[str, ...]) -> Figure:
        """The figure of this name."""
        found = self.rows.get(name)
        if found is None:
            if len(self.rows) >= MOST_ROWS:
                return self.others
            found = self.rows[name] = Figure()
        return found


@dataclass(slots=True)
class Listed:
    """Entries that a report shows one by one: the first of them by index, and how many there are."""

    indexes: list[int] = field(default_factory=list)
    count: int = 0

    def take(self, index: int) -> None:
        """List one entry, or count it only."""
        self.count += 1
        if len(self.indexes) < MOST_LISTED:
            self.indexes.append(index)


TABLES = (
    "kind",
    "outcome",
    "hour",
    "day",
    "class",
    "clause",
    "refusal",
    "key",
    "caller",
    "system",
    "module",
    "software",
    "policies",
    "register",
    "ceremony",
    "transfer",
    "severity",
    "time_quality",
)
LISTS = ("refusals", "lives", "governed", "alarms", "reviews")


@dataclass(slots=True)
class Survey:
    """Everything a report counts.

    Args:
        entries: all of them.
        tables: by name in `TABLES`.
        lists: by name in `LISTS`.
        reviewed: ranges of the log that auditors signed off, at most `MOST_ROWS`.
        modules: module name → index of the newest entry of its record.
        undecided: entries of which nobody can say whether they belong here, since a value was redacted, or the hash alone is left.
        began, ended: earliest and latest time of an entry, nanoseconds; 0 where there is none.

    """

    entries: Figure = field(default_factory=Figure)
    tables: dict[str, Table] = field(default_factory=lambda: {name: Table() for name in TABLES})
    lists: dict[str, Listed] = field(default_factory=lambda: {name: Listed() for name in LISTS})
    modules: dict[str, int] = field(default_factory=dict)
    reviewed: list[review.Range] = field(default_factory=list)
    undecided: Figure = field(default_factory=Figure)
    began: int = 0
    ended: int = 0

    def take(self, index: int, entry: Entry, beside: Mapping[str, str], pairs: set[Pair]) -> None:
        """Count one entry.

        Args:
            index: from 0; each more than the one before.
            entry: parsed.
            beside: withheld values by name, as far as they are kept.
            pairs: what it says, as `core/said.py` reads it.

        """
        at = moment(entry)
        self.began = min(self.began or at, at)
        self.ended = max(self.ended, at)
        self.entries.take(index)
        kind = _text(entry, "kind")
        self._count(index, "kind", kind)
        self._count(index, "system", _text(entry, "system"), _text(entry, "environment"))
        self._count(index, "software", _text(entry, "software"))
        self._count(index, "time_quality", _text(entry, "time_quality"))
        if kind in {"use", "refusal"}:
            self._asked(index, entry, beside, at)
        elif kind.endswith("-record"):
            self._changed(index, kind, entry)
        governed = [pair for pair in pairs if pair[0] in _GOVERNED]
        if governed:
            self._governed(index, governed)
        severity = severity_of(entry)
        if severity:
            self._count(index, "severity", severity, kind)
            self.lists["alarms"].take(index)
        if kind == review.KIND and _text(entry, "operation") == review.SIGN_OFF:
            self._reviewed(index, entry)

    def leave_open(self, index: int) -> None:
        """Count one entry that would be counted but for a value that was redacted."""
        self.undecided.take(index)

    def _count(self, index: int, table: str, *name: str) -> None:
        self.tables[table].figure(name).take(index)

    def _asked(self, index: int, entry: Entry, beside: Mapping[str, str], at: int) -> None:
        """Count a use or a refusal."""
        outcome = _text(entry, "outcome")
        self._count(index, "outcome", outcome)
        hour = at // HOUR
        self._count(index, "hour", str(hour), outcome)
        self._count(index, "day", str(hour // 24), outcome)
        self._count(
            index,
            "class",
            _text(entry, "key_class"),
            _text(entry, "operation"),
            _text(entry, "content_kind"),
            outcome,
        )
        self._count(index, "clause", _text(entry, "clause"), _text(entry, "decision"))
        self._count(index, "key", _text(entry, "key"), outcome)
        self._count(index, "caller", beside.get("principal", ""), outcome)
        if outcome == "refused":
            self._count(
                index, "refusal", _text(entry, "reason"), _text(entry, "rule"), _text(entry, "clause")
            )
            self.lists["refusals"].take(index)
        else:
            self._count(index, "module", _text(entry, "module"))
            self._count(index, "policies", _text(entry, "policy_digest"))

    def _changed(self, index: int, kind: str, entry: Entry) -> None:
        """Count a new version of a record."""
        self._count(index, "register", kind, _text(entry, "operation"))
        if kind == "key-record":
            self.lists["lives"].take(index)
        elif kind == "module-record":
            self.modules[_text(entry, "module")] = index

    def _reviewed(self, index: int, entry: Entry) -> None:
        """Take a range that was signed off; one that is not kept for want of room stays unreviewed."""
        self.lists["reviews"].take(index)
        facts = entry.get("facts")
        found = review.range_of(facts) if isinstance(facts, Mapping) else None
        if found is not None and len(self.reviewed) < MOST_ROWS:
            self.reviewed.append(found)

    def _governed(self, index: int, governed: list[Pair]) -> None:
        """Count what belongs to a ceremony or a transfer."""
        for name, value in governed:
            self._count(index, name, value)
        self.lists["governed"].take(index)


def severity_of(entry: Entry) -> str:
    """How grave what an entry reports is; empty where it does not say. Any kind may carry it."""
    facts = entry.get("facts")
    said_open = _text(entry, "severity")
    return said_open or (_text(facts, "severity") if isinstance(facts, Mapping) else "")


def _text(entry: Entry, name: str) -> str:
    value = entry.get(name)
    return value if isinstance(value, str) else ""
