"""The watch itself: entries in order in, alarms out, and a state that can be put away and taken up again.

The state is a function of the table and the entries taken so far, so it can be lost: reading the log again from leaf 0
gives it back, and the causes are the same. Alarms the log has already are seen on the way, and are not raised again.
Two things bound it: a rule keeps at most `MAX_GROUPS` groups (the longest untouched goes first) and `MAX_KEPT` matches
of each.

A table is in force from the entry that says so on (kind `watch`, operation `begin`): what a table that came later
finds in what an earlier one has judged is not raised.

Example:
    >>> from cryptosvc.core.watch.defaults import DEFAULT_RULES
    >>> watcher = Watcher(DEFAULT_RULES)
    >>> entry = {"kind": "use", "outcome": "corrupt", "module": "m", "time": "5000000000"}
    >>> watcher.take(0, entry, {})
    >>> [one.rule for one in watcher.pending]
    ['result-did-not-verify']
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import orjson

from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.errors import Malformed
from cryptosvc.core.said import FIELDS, Entry, Pair, moment, said
from cryptosvc.core.watch.alarm import KIND, Alarm, alarm_from_document, alarm_of, cause_of
from cryptosvc.core.watch.rules import EXTRA_FIELDS, MAX_KEPT, Rule, Test, Words, table_digest

WATCH = "watch"
BEGIN = "begin"
MAX_GROUPS = 10_000
MAX_PENDING = 4096
"""Alarms that wait to be written; more is a log that could not be written for long, and the oldest stay."""
STATE_VERSION = 1
MAX_KINDS = 100
_NANOSECONDS = 10**9
_WEEKDAYS = ("thu", "fri", "sat", "sun", "mon", "tue", "wed")
"""Day 0 of Unix time was a Thursday."""

_PLAIN = frozenset(
    {"key", "kind", "outcome", "operation", "class", "decision", "module", "rule", "state", "worker"}
)
"""Fields that an entry has itself, as one text, and that then have no other source."""
Group = list[int]


@dataclass(frozen=True, slots=True)
class _Hit:
    """A rule that holds of an entry: the rule and its number, the group, and what the entry has of it."""

    number: int
    rule: Rule
    group: str
    second: int
    leaf: int
    weight: int
    value: str


class Watcher:
    """Judges entries.

    Args:
        rules: as `table` gives them.

    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = tuple(rules)
        self.digest = table_digest(rules)
        self._groups: list[dict[str, Group]] = [{} for _ in self._rules]
        self._values: list[dict[str, str]] = [{} for _ in self._rules]
        self._pending: dict[str, Alarm] = {}
        self._by_kind: dict[str, Sequence[tuple[int, Rule]]] = {}
        self.taken = 0
        """How many entries, from leaf 0 on."""
        self.begun: tuple[str, int] = ("", 0)
        """Digest of the table the log says is in force, and the leaf from which its alarms count."""
        self._tests: Mapping[Test, Callable[[_Hit], None]] = {
            Test.COUNT: self._count,
            Test.REST: self._rest,
            Test.HOURS: self._hours,
            Test.CHANGE: self._change,
            Test.LATE: self._late,
            Test.BACK: self._back,
        }

    @property
    def pending(self) -> tuple[Alarm, ...]:
        """Alarms that the log does not have, as far as it was read; in the order of their causes' last leaves."""
        start = self.begun[1]
        found = [one for one in self._pending.values() if one.newest >= start]
        return tuple(sorted(found, key=lambda one: (one.newest, one.rule)))

    @property
    def in_force(self) -> bool:
        """Whether the log says that this table is."""
        return self.begun[0] == self.digest

    def take(self, leaf_index: int, entry: Entry, beside: Mapping[str, str], flaw: str = "") -> None:
        """Judge the next entry.

        Args:
            leaf_index: must be `taken`.
            entry: as parsed.
            beside: withheld values by name, as far as they are kept.
            flaw: `withheld` where what is kept beside it is not what it commits to.

        Raises:
            Malformed: an entry was left out.

        """
        if leaf_index != self.taken:
            raise Malformed(f"the watch is at entry {self.taken}, not {leaf_index}", rule="watch/order")
        self.taken += 1
        kind = entry.get("kind")
        if kind in (KIND, WATCH):
            self._own(entry)
            return
        words = _Words(entry, beside, flaw)
        second = moment(entry) // _NANOSECONDS
        for number, rule in self._of_kind(kind if isinstance(kind, str) else ""):
            if rule.test is Test.LATE and words.hold(rule.ended_by):
                self._groups[number].pop(_group(rule, words), None)
            if words.hold(rule.where) and not words.any(rule.unless):
                value = min(words.of(rule.watched), default="") if rule.watched else ""
                group, weight = _group(rule, words), _weight(rule, entry)
                since = _since(rule, beside, second)
                self._tests[rule.test](_Hit(number, rule, group, since, leaf_index, weight, value))

    def pass_over(self, leaf_index: int) -> None:
        """The next entry is a hash alone: what it said was judged when it was written. Malformed as `take`."""
        if leaf_index != self.taken:
            raise Malformed(f"the watch is at entry {self.taken}, not {leaf_index}", rule="watch/order")
        self.taken += 1

    def turn(self, second: int) -> None:
        """Raise what is late at this Unix second."""
        for number, rule in enumerate(self._rules):
            if rule.test is Test.LATE:
                for group, kept in self._groups[number].items():
                    if not kept[2] and second - kept[0] > rule.window_seconds:
                        kept[2] = 1
                        self._raise(rule, group, (kept[1],), 1, second)

    def document(self) -> dict[str, JsonValue]:
        """The state as canonical JSON takes it."""
        return {
            "begun": self.begun,
            "groups": tuple(self._groups),
            "pending": tuple(one.document() for one in self._pending.values()),
            "rules": self.digest,
            "taken": self.taken,
            "v": STATE_VERSION,
            "values": tuple(self._values),
        }

    @classmethod
    def from_document(cls, rules: Sequence[Rule], document: Mapping[str, JsonValue]) -> Self:
        """Take up a state again; Malformed where it is none, or of another table."""
        watcher = cls(rules)
        try:
            match document:
                case {
                    "begun": [str() as begun, int() as start],
                    "groups": list() as groups,
                    "pending": list() as pending,
                    "rules": watcher.digest,
                    "taken": int() as taken,
                    "v": 1,
                    "values": list() as values,
                } if len(groups) == len(values) == len(watcher._rules):
                    watcher.begun, watcher.taken = (begun, start), taken
                    watcher._groups = [
                        {str(name): [int(part) for part in kept] for name, kept in one.items()}
                        for one in groups
                    ]
                    watcher._values = [{str(name): str(text) for name, text in one.items()} for one in values]
                    watcher._pending = {
                        one.cause: one for one in (alarm_from_document(each) for each in pending)
                    }
                    return watcher
        except (ValueError, TypeError, KeyError, AttributeError):
            pass
        raise Malformed("this is no state of a watch with this table", rule="watch/state")

    def _of_kind(self, kind: str) -> Sequence[tuple[int, Rule]]:
        """Rules that could hold of an entry of this kind, or end with one."""
        found = self._by_kind.get(kind)
        if found is None:
            words = _Words({"kind": kind}, {}, "")
            found = [
                (number, rule)
                for number, rule in enumerate(self._rules)
                if words.hold({name: values for name, values in rule.where.items() if name == "kind"})
                or rule.test is Test.LATE
            ]
            if len(self._by_kind) < MAX_KINDS:
                self._by_kind[kind] = found
        return found

    def _own(self, entry: Entry) -> None:
        """An entry the watch wrote itself."""
        facts = entry.get("facts")
        if not isinstance(facts, Mapping):
            return
        if entry.get("kind") == WATCH:
            rules, start = facts.get("rules"), facts.get("from")
            if entry.get("operation") == BEGIN and isinstance(rules, str) and isinstance(start, str):
                self.begun = rules, int(start) if start.isdecimal() else 0
            return
        cause = facts.get("cause")
        if not isinstance(cause, str):
            return
        self._pending.pop(cause, None)
        for number, rule in enumerate(self._rules):
            if rule.test is Test.LATE and rule.name == facts.get("rule"):
                for kept in self._groups[number].values():
                    if cause_of(rule.name, kept[1]) == cause:
                        kept[2] = 1

    # Each test. What a group keeps: the second until which it is quiet, then seconds, leaves and weights in turn;
    # of `late` second, leaf and whether it was raised; of `rest` and `back` a second, and until when it is quiet.

    def _count(self, hit: _Hit) -> None:
        rule, second = hit.rule, hit.second
        kept = self._kept(hit)
        if second < kept[0]:
            return
        matches = [one for one in _matches(kept) if one[0] > second - rule.window_seconds]
        matches.append((second, hit.leaf, hit.weight))
        total = sum(one[2] for one in matches)
        if total >= rule.threshold:
            self._raise(rule, hit.group, tuple(one[1] for one in matches), total, second)
            kept[:] = [second + rule.window_seconds]
            return
        if (
            len(matches) > MAX_KEPT
        ):  # of the two oldest one is made: never fewer than there were, for a moment longer
            (_, _, first), (later, its_leaf, its) = matches[:2]
            matches[:2] = [(later, its_leaf, first + its)]
        kept[1:] = [part for one in matches for part in one]

    def _rest(self, hit: _Hit) -> None:
        kept = self._kept(hit)
        if kept[0] and hit.second - kept[0] >= hit.rule.window_seconds:
            self._raise(hit.rule, hit.group, (hit.leaf,), 1, hit.second)
        kept[0] = max(kept[0], hit.second)

    def _hours(self, hit: _Hit) -> None:
        rule, second = hit.rule, hit.second
        hour, day = second // 3600 % 24, _WEEKDAYS[second // 86_400 % 7]
        if rule.first_hour <= hour < rule.last_hour and day in rule.days:
            return
        kept = self._kept(hit)
        if second >= kept[0]:
            self._raise(rule, hit.group, (hit.leaf,), 1, second)
            kept[0] = second + rule.window_seconds

    def _change(self, hit: _Hit) -> None:
        values = self._values[hit.number]
        before = values.pop(hit.group, None)
        values[hit.group] = hit.value
        _bounded(values)
        if before is not None and before != hit.value:
            self._raise(hit.rule, hit.group, (hit.leaf,), 1, hit.second)

    def _late(self, hit: _Hit) -> None:
        groups = self._groups[hit.number]
        if hit.group not in groups:
            groups[hit.group] = [hit.second, hit.leaf, 0]
            _bounded(groups)

    def _back(self, hit: _Hit) -> None:
        kept = self._kept(hit)
        newest = kept[1] if len(kept) > 1 else 0
        behind = newest - hit.second
        if behind > hit.rule.window_seconds and newest >= kept[0]:
            self._raise(hit.rule, hit.group, (hit.leaf,), behind, hit.second)
            kept[0] = newest + hit.rule.window_seconds
        kept[1:] = [max(newest, hit.second)]

    def _kept(self, hit: _Hit) -> Group:
        """What is kept of a group, touched."""
        groups = self._groups[hit.number]
        kept = groups.pop(hit.group, None) or [0]
        groups[hit.group] = kept
        _bounded(groups)
        return kept

    def _raise(self, rule: Rule, group: str, leaves: tuple[int, ...], count: int, second: int) -> None:
        raised = alarm_of(rule, group, leaves, count, second)
        if raised.newest >= self.begun[1] and len(self._pending) < MAX_PENDING:
            self._pending.setdefault(raised.cause, raised)


class _Words:
    """What an entry says, read as it is asked for: most rules are done with an entry after one look at its kind."""

    __slots__ = ("_beside", "_entry", "_facts", "_flaw", "_found", "_said")

    def __init__(self, entry: Entry, beside: Mapping[str, str], flaw: str) -> None:
        facts = entry.get("facts")
        self._entry = entry
        self._facts: Entry = facts if isinstance(facts, Mapping) else {}
        self._beside = beside
        self._flaw = flaw
        self._found: dict[str, Collection[str]] = {}
        self._said: set[Pair] | None = None

    def of(self, name: str) -> Collection[str]:
        """Every value of a field."""
        found = self._found.get(name)
        if found is None:
            found = self._found[name] = self._read(name)
        return found

    def hold(self, words: Words) -> bool:
        """Whether each field has one of its values."""
        return all(self._one_of(name, values) for name, values in words.items())

    def any(self, words: Words) -> bool:
        """Whether any field has one of its values."""
        return any(self._one_of(name, values) for name, values in words.items())

    def _one_of(self, name: str, values: Sequence[str]) -> bool:
        found = self.of(name)
        return any(
            any(one.startswith(value[:-1]) for one in found) if value.endswith("*") else value in found
            for value in values
        )

    def _read(self, name: str) -> Collection[str]:
        if name in EXTRA_FIELDS:
            one = self._extra(name)
            return (one,) if isinstance(one, str) and one else ()
        source = FIELDS[name].entry
        if len(source) == 1 and name in _PLAIN:
            plain = self._entry.get(source[0])
            if isinstance(plain, str):
                return (plain,) if plain else ()
        if self._said is None:
            self._said = said(self._entry, self._beside)
        return {value for field, value in self._said if field == name}

    def _extra(self, name: str) -> JsonValue:
        match name:
            case "quality":
                return self._entry.get("time_quality")
            case "peer":
                return self._beside.get("peer")
            case "flaw":
                return self._flaw
            case "what":
                return self._facts.get("what")
            case "differs":
                return self._entry.get("operation") if self._entry.get("kind") == "reconciled" else None
            case _:
                return self._entry.get(name) or self._facts.get(name)


def _group(rule: Rule, words: _Words) -> str:
    return min(words.of(rule.per), default="") if rule.per else ""


def _weight(rule: Rule, entry: Entry) -> int:
    if not rule.fact:
        return 1
    facts = entry.get("facts")
    text = facts.get(rule.fact) if isinstance(facts, Mapping) else None
    return int(text) if isinstance(text, str) and text.isdecimal() and len(text) <= 12 else 1


def _since(rule: Rule, beside: Mapping[str, str], second: int) -> int:
    """From when the window counts: the entry's time, or so that it ends with the date that the record has."""
    if not rule.by:
        return second
    try:
        document: object = orjson.loads(beside.get("document", ""))
    except orjson.JSONDecodeError:  # it was dropped, or is withheld from whoever reads
        return second
    date = document.get(rule.by) if isinstance(document, dict) else None
    return date - rule.window_seconds if isinstance(date, int) else second


def _matches(kept: Group) -> list[tuple[int, int, int]]:
    """Second, leaf and weight of each."""
    return [(kept[at], kept[at + 1], kept[at + 2]) for at in range(1, len(kept), 3)]


def _bounded(groups: dict[str, Group] | dict[str, str]) -> None:
    while len(groups) > MAX_GROUPS:
        del groups[next(iter(groups))]
