"""The watch's rules over entries: each way of looking on both sides of its bound, and a state that comes back."""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from cryptosvc.core.canonical import JsonValue, canonical
from cryptosvc.core.errors import Malformed
from cryptosvc.core.watch.alarm import (
    KIND,
    Alarm,
    alarm_from_document,
    alarm_from_entry,
    alarm_of,
    cause_of,
)
from cryptosvc.core.watch.defaults import DEFAULT_RULES
from cryptosvc.core.watch.rules import DAY, HOUR, Rule, Severity, Test, table, table_digest
from cryptosvc.core.watch.watcher import Watcher

BEGAN = 1_700_000_000
"""A Tuesday, 22:13:20 UTC."""
DEFAULTS = {one.name: one for one in DEFAULT_RULES}

Told = tuple[dict[str, JsonValue], dict[str, str]]


def told(second: int, kind: str, beside: Mapping[str, str] | None = None, **more: JsonValue) -> Told:
    entry = {"kind": kind, "time": str(second * 10**9), "time_quality": "synchronised", **more}
    return entry, dict(beside or {})


def watched(rules: Sequence[Rule], entries: Sequence[Told], until: int = 0) -> list[Alarm]:
    watcher = Watcher(table(rules))
    for leaf, (entry, beside) in enumerate(entries):
        watcher.take(leaf, entry, beside)
    watcher.turn(until)
    return list(watcher.pending)


def raised(name: str, *entries: Told, until: int = 0) -> list[tuple[tuple[int, ...], str, int]]:
    found = watched([DEFAULTS[name]], entries, until)
    assert all((one.rule, one.clause) == (name, DEFAULTS[name].clause) for one in found)
    return [(one.leaves, one.value, one.count) for one in found]


def refusal(second: int, rule: str, key: str = "k", caller: str = "c") -> Told:
    return told(second, "refusal", {"principal": caller, "peer": "p"}, rule=rule, key=key)


def use(second: int, key: str = "k", **more: JsonValue) -> Told:
    return told(second, "use", key=key, **{"outcome": "signed", "module": "m", **more})


def test_matches_are_counted_within_the_window_and_no_further():
    four = [refusal(BEGAN + 60 * n, "a/b", key=str(n)) for n in range(9)]
    assert raised("repeated-refusals-of-caller", *four) == []
    tenth = refusal(BEGAN + 599, "a/b", key="x")
    assert raised("repeated-refusals-of-caller", *four, tenth) == [(tuple(range(10)), "c", 10)]
    late = refusal(BEGAN + 600, "a/b", key="x")
    assert raised("repeated-refusals-of-caller", *four, late) == []
    other = refusal(BEGAN + 599, "a/b", key="x", caller="other")
    assert raised("repeated-refusals-of-caller", *four, other) == []


def test_what_goes_on_is_one_cause_and_what_begins_again_another():
    ongoing = [refusal(BEGAN + n, "a/b") for n in range(50)]
    assert raised("repeated-refusals-of-key", *ongoing) == [(tuple(range(10)), "k", 10)]
    again = [refusal(BEGAN + 700 + n, "a/b") for n in range(10)]
    assert [leaves for leaves, _, _ in raised("repeated-refusals-of-key", *ongoing, *again)] == [
        tuple(range(10)),
        tuple(range(50, 60)),
    ]


def test_counts_of_strangers_are_added_up():
    singly = [told(BEGAN + n, "handshake-failed", facts={"count": "1"}) for n in range(3)]
    assert raised("failed-identification", *singly) == []
    many = told(BEGAN + 3, "handshake-failed", facts={"count": "200"})
    assert raised("failed-identification", *singly, many) == [((0, 1, 2, 3), "", 203)]


@pytest.mark.parametrize(
    ("name", "entry", "about"),
    [
        ("unregistered-certificate", refusal(BEGAN, "caller/unknown"), "p"),
        ("refused-purpose", refusal(BEGAN, "ceiling/purpose"), "k"),
        ("refused-purpose", refusal(BEGAN, "policy/refused"), "k"),
        ("log-read-refused", refusal(BEGAN, "audit/not-auditor"), "c"),
        ("unknown-object", told(BEGAN, "reconciled", operation="unknown-object"), "unknown-object"),
        ("module-drift", told(BEGAN, "reconciled", operation="drifted-module"), "drifted-module"),
        (
            "signature-outside-the-log",
            told(BEGAN, "reconciled", operation="unrecorded-signature", facts={"key": "k"}),
            "k",
        ),
        ("claim-left-open", use(BEGAN, outcome="outcome_unknown"), "m"),
        ("result-did-not-verify", use(BEGAN, outcome="corrupt"), "m"),
        ("log-export", use(BEGAN, worker="export"), ""),
        (
            "audit-reads-out-of-the-ordinary",
            told(BEGAN, "read", {"principal": "a"}, facts={"what": "query", "entries": "100000"}),
            "a",
        ),
        ("overload", told(BEGAN, "overloaded", facts={"count": "100"}), ""),
        ("log-put-back", told(BEGAN, "restored", operation="restore"), ""),
        ("clock-not-synchronised", told(BEGAN, "read", time_quality="unsynchronised", worker="w"), "w"),
    ],
)
def test_one_entry_is_enough(name: str, entry: Told, about: str):
    ((leaves, value, _),) = raised(name, entry)
    assert (leaves, value) == ((0,), about)


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("refused-purpose", refusal(BEGAN, "lifecycle/state")),
        ("unregistered-certificate", refusal(BEGAN, "query/field")),
        ("unknown-object", told(BEGAN, "reconciled", operation="compare")),
        ("claim-left-open", use(BEGAN, outcome="unavailable")),
        ("log-export", use(BEGAN, worker="host/0")),
        (
            "audit-reads-out-of-the-ordinary",
            told(BEGAN, "read", {"principal": "a"}, facts={"what": "query", "entries": "99999"}),
        ),
        ("clock-not-synchronised", told(BEGAN, "read", worker="w")),
    ],
)
def test_what_is_ordinary_raises_nothing(name: str, entry: Told):
    assert raised(name, entry) == []


def test_the_first_use_after_a_rest():
    rest = 90 * DAY
    assert raised("use-after-rest", use(BEGAN), use(BEGAN + rest - 1), use(BEGAN + 2 * rest - 2)) == []
    assert raised("use-after-rest", use(BEGAN), use(BEGAN + rest, "other"), use(BEGAN + rest)) == [
        ((2,), "k", 1)
    ]


def test_use_outside_its_hours():
    office = Rule(
        name="office",
        clause="G2.29(a)",
        severity=Severity.LOW,
        meaning="-",
        test=Test.HOURS,
        where={"key": ("k",)},
        per="key",
        window_seconds=HOUR,
        first_hour=8,
        last_hour=18,
        days=("mon", "tue", "wed", "thu", "fri"),
    )
    tuesday = BEGAN - BEGAN % DAY
    inside = [use(tuesday + 8 * HOUR), use(tuesday + 18 * HOUR - 1), use(tuesday + 3 * HOUR, "other")]
    assert watched([office], inside) == []
    outside = [use(tuesday + 8 * HOUR - 1), use(tuesday + 18 * HOUR), use(tuesday + 18 * HOUR + 5)]
    assert [one.leaves for one in watched([office], outside)] == [(0,), (1,)]
    saturday = tuesday + 4 * DAY
    assert [one.leaves for one in watched([office], [use(saturday + 9 * HOUR)])] == [(0,)]


def test_another_policy_set_or_software():
    def start(second: int, digest: str, software: str = "1") -> Told:
        return told(second, "service-start", facts={"policy_digest": digest}, software=software)

    assert raised("policy-change", start(1, "a"), start(2, "a"), start(3, "b"), start(4, "a")) == [
        ((2,), "", 1),
        ((3,), "", 1),
    ]
    assert raised("software-change", start(1, "a"), start(2, "b"), start(3, "b", "2")) == [((2,), "", 1)]


def test_what_does_not_follow_in_time():
    def transfer(second: int, state: str, name: str = "t") -> Told:
        return told(second, "transfer-record", state=state, transfer=name)

    week = 7 * DAY
    exported = transfer(BEGAN, "exported")
    assert raised("receipt-late", exported, until=BEGAN + week) == []
    assert raised("receipt-late", exported, until=BEGAN + week + 1) == [((0,), "t", 1)]
    receipted = transfer(BEGAN + 5, "receipted")
    assert raised("receipt-late", exported, receipted, until=BEGAN + 2 * week) == []
    assert raised("disposition-late", exported, receipted, until=BEGAN + 2 * week) == [((0,), "t", 1)]
    other = transfer(BEGAN + 5, "receipted", "other")
    assert raised("receipt-late", exported, other, until=BEGAN + 2 * week) == [((0,), "t", 1)]


def test_a_disposition_is_late_from_the_day_that_was_approved():
    def transfer(second: int, state: str, document: str) -> Told:
        entry, _ = told(second, "transfer-record", state=state, transfer="t")
        return entry, {"document": document}

    for by in (BEGAN + DAY, BEGAN + 60 * DAY):
        text = json.dumps({"dispose_by": by})
        told_of = [transfer(BEGAN, "exported", text), transfer(BEGAN + 9, "receipted", text)]
        assert raised("disposition-late", *told_of, until=by) == []
        assert raised("disposition-late", *told_of, until=by + 1) == [((0,), "t", 1)]
        for state in ("disposed", "rolled-back"):
            ended = transfer(BEGAN + 20, state, text)
            assert raised("disposition-late", *told_of, ended, until=by + DAY) == []
    # no date to be read: a week from the entry
    for text in ("", "{", "[]", "{}", '{"dispose_by":null}', '{"dispose_by":"soon"}'):
        exported = transfer(BEGAN, "exported", text)
        assert raised("disposition-late", exported, until=BEGAN + 7 * DAY) == []
        assert raised("disposition-late", exported, until=BEGAN + 7 * DAY + 1) == [((0,), "t", 1)]


def test_a_clock_that_went_back():
    before = told(BEGAN, "read")
    assert raised("clock-went-back", before, told(BEGAN - 120, "read")) == []
    assert raised("clock-went-back", before, told(BEGAN - 121, "refusal")) == [((1,), "", 121)]
    assert raised("clock-went-back", before, use(BEGAN - 500)) == []


def test_a_value_that_was_changed_beside_the_log():
    watcher = Watcher(DEFAULT_RULES)
    watcher.take(0, *told(BEGAN, "read"), "withheld")
    assert [one.rule for one in watcher.pending] == ["withheld-value-changed"]


def random_entries(seed: int, count: int) -> list[Told]:
    chance = random.Random(seed)
    found: list[Told] = []
    for number in range(count):
        second = BEGAN + number * 7 - chance.choice([0] * 50 + [300])
        found.append(
            chance.choice(
                [
                    refusal(second, chance.choice(["ceiling/purpose", "a/b"]), caller=chance.choice("ab")),
                    use(second + chance.choice([0, 100 * DAY]), chance.choice("xyz")),
                    told(second, "handshake-failed", facts={"count": str(chance.randrange(9))}),
                    told(second, "service-start", facts={"policy_digest": chance.choice("ab")}),
                    told(second, "transfer-record", state="exported", transfer=str(number % 5)),
                    told(second, "transfer-record", state="receipted", transfer=str(number % 3)),
                ]
            )
        )
    return found


@pytest.mark.parametrize("seed", range(5))
def test_a_state_that_was_put_away_goes_on_as_if_it_had_not_been(seed: int):
    entries = random_entries(seed, 400)
    whole = Watcher(DEFAULT_RULES)
    parted = Watcher(DEFAULT_RULES)
    for leaf, (entry, beside) in enumerate(entries):
        if leaf % 23 == 0:
            parted = Watcher.from_document(DEFAULT_RULES, json.loads(canonical(parted.document())))
        whole.take(leaf, entry, beside)
        parted.take(leaf, entry, beside)
    assert len(whole.pending) > 5
    assert parted.pending == whole.pending
    assert canonical(parted.document()) == canonical(whole.document())


def alarm_entry(alarm: Alarm) -> Told:
    return told(alarm.at, KIND, alarm.withheld(), facts=alarm.facts("d"))


@pytest.mark.parametrize("seed", range(3))
def test_read_again_from_the_start_nothing_is_raised_twice(seed: int):
    """Whatever is written is seen on the way, also what only the time brought about."""
    entries = random_entries(seed, 300)
    watcher = Watcher(DEFAULT_RULES)
    log: list[Told] = []
    causes: list[str] = []
    for at in range(0, 300, 25):
        log += entries[at : at + 25]
        for leaf in range(watcher.taken, len(log)):
            watcher.take(leaf, *log[leaf])
        watcher.turn(BEGAN + 7 * at + (8 * DAY if at > 200 else 0))
        causes += [one.cause for one in watcher.pending]
        log += [alarm_entry(one) for one in watcher.pending]
    again = Watcher(DEFAULT_RULES)
    for leaf, (entry, beside) in enumerate(log):
        again.take(leaf, entry, beside)
    again.turn(BEGAN + 9 * DAY)
    assert len(causes) == len(set(causes)) > 5
    assert [one for one in again.pending if one.cause in causes] == []


def test_a_new_table_judges_from_where_the_log_says():
    begin = told(BEGAN, "watch", operation="begin", facts={"rules": table_digest(DEFAULT_RULES), "from": "1"})
    watcher = Watcher(DEFAULT_RULES)
    watcher.take(0, *refusal(BEGAN, "ceiling/purpose"))
    assert (len(watcher.pending), watcher.in_force) == (1, False)
    watcher.take(1, *begin)
    assert (watcher.pending, watcher.in_force) == ((), True)
    watcher.take(2, *refusal(BEGAN, "ceiling/purpose", key="other"))
    assert [one.value for one in watcher.pending] == ["other"]


def test_an_alarm_is_read_back_as_it_was_written():
    refusals = [refusal(BEGAN, "a/b", caller="head-end-7") for _ in range(10)]
    (alarm,) = watched([DEFAULTS["repeated-refusals-of-caller"]], refusals)
    assert alarm_from_document(json.loads(canonical(alarm.document()))) == alarm
    entry, beside = alarm_entry(alarm)
    assert alarm.value == "head-end-7"
    assert alarm.value not in str(entry)
    assert alarm_from_entry(entry, beside, {alarm.rule: alarm.meaning}) == alarm
    assert alarm_from_entry(entry, {}, {}) is not None
    assert alarm_from_entry({**entry, "kind": "read"}, beside, {}) is None
    assert alarm.cause == cause_of(alarm.rule, 0)


@pytest.mark.parametrize(
    "name", ["rule", "clause", "severity", "count", "leaves", "cause", "rules", "module"]
)
def test_an_alarm_about_a_fact_of_its_own_name_keeps_its_rule(name: str):
    rule = DEFAULTS["clocks-differ"]
    alarm = alarm_of(replace(rule, per=name), "clock/network-time", (3, 4), 2, BEGAN)
    entry, beside = alarm_entry(alarm)
    assert entry["facts"]["rule"] == "clocks-differ"
    assert alarm_from_entry(entry, beside, {rule.name: rule.meaning}) == alarm


def test_many_groups_and_many_matches_stay_within_their_bounds():
    watcher = Watcher(DEFAULT_RULES)
    for leaf in range(12_000):
        watcher.take(leaf, *refusal(BEGAN, "a/b", key=f"k{leaf}", caller=f"c{leaf}"))
    assert len(canonical(watcher.document())) < 2_000_000
    one_caller = Watcher(DEFAULT_RULES)
    for leaf in range(5000):
        facts: dict[str, JsonValue] = {"what": "query", "entries": "10"}
        one_caller.take(leaf, *told(BEGAN, "read", {"principal": "a"}, facts=facts))
    assert len(canonical(one_caller.document())) < 60_000
    assert {one.rule for one in one_caller.pending} == {"reads-out-of-the-ordinary"}


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"where": {"nothing": ("x",)}}, "watch/field"),
        ({"where": {}}, "watch/where"),
        ({"threshold": 0}, "watch/threshold"),
        ({"threshold": 1001, "window_seconds": 1}, "watch/threshold"),
        ({"threshold": 2, "window_seconds": 0}, "watch/window"),
        ({"test": Test.REST, "window_seconds": 0}, "watch/window"),
        ({"test": Test.CHANGE}, "watch/watched"),
        ({"test": Test.LATE, "window_seconds": 1}, "watch/ended-by"),
        ({"by": "dispose_by"}, "watch/by"),
        ({"first_hour": 9, "last_hour": 9}, "watch/hours"),
        ({"days": ("someday",)}, "watch/hours"),
    ],
)
def test_a_row_that_cannot_be_meant_is_refused(change: dict[str, object], rule: str):
    row: dict[str, object] = {
        "name": "r",
        "clause": "G2.6",
        "severity": Severity.LOW,
        "meaning": "-",
        "test": Test.COUNT,
        "where": {"kind": ("read",)},
    }
    assert table([Rule(**row)])  # type: ignore[arg-type]  # a test's table of keywords
    with pytest.raises(Malformed) as refused:
        table([Rule(**(row | change))])  # type: ignore[arg-type]  # a test's table of keywords
    assert refused.value.rule == rule


def test_two_rules_of_one_name_and_entries_out_of_order_are_refused():
    with pytest.raises(Malformed, match="none of them twice"):
        table([DEFAULT_RULES[0], DEFAULT_RULES[0]])
    with pytest.raises(Malformed, match="the watch is at entry 0"):
        Watcher(DEFAULT_RULES).take(1, *use(BEGAN))
    state = Watcher(DEFAULT_RULES).document()
    with pytest.raises(Malformed, match="with this table"):
        Watcher.from_document(DEFAULT_RULES[:3], json.loads(canonical(state)))
