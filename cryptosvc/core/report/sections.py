"""The sections of a report, from what was counted.

Lists show entries one by one, for which their content is needed: lay the report out once without, read the entries
`Page.cited` names, and lay it out again.

Source: SEC G2.3(b) (list of hardware, software and firmware), G2.6, G2.26 (review), G2.29 (anomalous events), G5.13(b).
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from cryptosvc.core.account import instant
from cryptosvc.core.asset import IDENTITY
from cryptosvc.core.life import NANOSECONDS
from cryptosvc.core.report.grids import (
    MOST_SHOWN,
    OUTCOMES,
    by_outcome,
    counted,
    largest_first,
    left_out,
    split_by_outcome,
    stacked,
)
from cryptosvc.core.report.page import (
    Cell,
    Count,
    EntryLink,
    EntryLinks,
    Grid,
    Moments,
    NotVerified,
    Page,
    Scope,
    Section,
    Sources,
    Verified,
)
from cryptosvc.core.report.reading import (
    approvals_of,
    because,
    document_of,
    facts_of,
    leaves_of,
    plain,
    words,
)
from cryptosvc.core.report.reviews import reviews
from cryptosvc.core.report.steps import asking_of_step, steps_of
from cryptosvc.core.report.survey import Figure, Survey, severity_of
from cryptosvc.core.retold import Told
from cryptosvc.core.said import moment, said

MOST_LINES = 24
"""Keys in the chart of lives; a page is no higher."""
_NO_CLASS = "no class"


def laid_out(
    verdict: Verified | NotVerified, survey: Survey, scope: Scope, cited: Mapping[int, Told]
) -> Page:
    """Lay a report out.

    Args:
        verdict: of the range; where it did not verify the report says so and counts nothing.
        survey: what was counted.
        scope: what it is about.
        cited: entries by index, as far as they are at hand.

    """
    if isinstance(verdict, NotVerified):
        return Page((), ())
    sources = Sources(scope)
    steps: tuple[Callable[[Survey, Sources, Mapping[int, Told]], Section], ...] = (
        _glance,
        _over_time,
        _usage,
        _refusals,
        _lives,
        _governed,
        _registers,
        _alarms,
        reviews,
        _inventory,
    )
    sections = tuple(step(survey, sources, cited) for step in steps)
    return Page(sections, tuple(sources.listed))


def _glance(survey: Survey, sources: Sources, _: Mapping[int, Told]) -> Section:
    kinds = survey.tables["kind"].rows
    rows: list[tuple[Cell, ...]] = [("Entries", sources.count("Entries", survey.entries, {}))]
    rows += [
        (
            f"Key uses and requests: {name[0] or 'no outcome'}",
            sources.count(f"Outcome {name[0]}", figure, {"outcome": name[0]}),
        )
        for name, figure in largest_first(survey.tables["outcome"])
    ]
    rows += [
        (f"Entries of kind {name[0]}", sources.count(f"Kind {name[0]}", figure, {"kind": name[0]}))
        for name, figure in sorted(kinds.items())
        if name[0] not in {"use", "refusal"}
    ]
    rows += [
        (f"Time quality: {name[0]}", sources.count(f"Time quality {name[0]}", figure))
        for name, figure in sorted(survey.tables["time_quality"].rows.items())
    ]
    says = (
        f"From {instant(survey.began)} to {instant(survey.ended)}, by the times in the entries."
        if survey.entries.count
        else "No entry of the range belongs to this report.",
    )
    return Section("glance", "At a glance", says, (), (Grid("What there is", ("What", "Entries"), rows),))


def _over_time(survey: Survey, sources: Sources, _: Mapping[int, Told]) -> Section:
    steps = steps_of(survey)
    if not steps:
        return Section("time", "Usage over time", ("No key was used or asked for.",))
    columns = (*OUTCOMES, "other")
    title = "Key uses and refusals over time"
    bars = stacked(title, steps, sources, asking_of_step)
    rows: list[tuple[Cell, ...]] = []
    for number, (label, figures) in enumerate(steps.items()):
        if figures:
            numbers = [bars.series[name][number] if name in bars.series else (0, "") for name in columns]
            rows.append((label, *(Count(count, anchor) if count else "0" for count, anchor in numbers)))
    note = (
        "Times are UTC; “other” is a use that released nothing. Steps in which nothing happened are left out."
    )
    if survey.tables["day"].others.count:
        note += f" {survey.tables['day'].others.count} entries are of more days than are told apart, and are not here."
    return Section(
        "time",
        "Usage over time",
        (),
        (bars,),
        (Grid(title, ("When", *columns), rows, note),),
    )


def _asking_of_class(label: str, outcome: str) -> tuple[Mapping[str, str] | None, tuple[int, int]]:
    known = outcome in OUTCOMES and label != _NO_CLASS
    return ({"class": label, "outcome": outcome} if known else None), (0, 0)


def _usage(survey: Survey, sources: Sources, _: Mapping[int, Told]) -> Section:
    tables = survey.tables
    title = "Key uses and refusals by key class"
    classes: dict[str, dict[str, Figure]] = {}
    for name, outcomes in by_outcome(tables["class"], 3).items():
        row = classes.setdefault(name[0] or _NO_CLASS, {})
        for outcome, figure in outcomes.items():
            row[outcome] = row.get(outcome, Figure()).plus(figure)
    bars = stacked(title, dict(sorted(classes.items())), sources, _asking_of_class)
    grids = (
        split_by_outcome(
            "By key class and content",
            ("Class", "Operation", "Content"),
            ("class", "operation", "content"),
            tables["class"],
            sources,
        ),
        counted("By clause", ("Clause", "Decision"), ("clause", "decision"), tables["clause"], sources),
        split_by_outcome("By key", ("Key",), ("key",), tables["key"], sources),
        split_by_outcome("By caller", ("Caller",), ("caller",), tables["caller"], sources),
        counted("By system", ("System", "Environment"), ("system", ""), tables["system"], sources),
    )
    return Section("usage", "Usage by class, clause, key and caller", (), (bars,) if classes else (), grids)


def _refusals(survey: Survey, sources: Sources, cited: Mapping[int, Told]) -> Section:
    listed = survey.lists["refusals"]
    if not listed.count:
        return Section("refusals", "Refusals", ("Nothing was refused.",))
    by_rule = counted(
        "Refusals by rule",
        ("Reason", "Rule", "Clause"),
        ("", "rule", "clause"),
        survey.tables["refusal"],
        sources,
        {"outcome": "refused"},
    )
    each = Grid(
        "Refusals one by one",
        ("Entry", "Time", "Caller", "Key", "Operation", "Rule", "Clause"),
        [
            (
                EntryLink(index),
                *words(cited.get(index), "time", "principal", "key", "operation", "rule", "clause"),
            )
            for index in listed.indexes
        ],
        left_out(len(listed.indexes), listed.count),
    )
    return Section("refusals", "Refusals", (), (), (by_rule, each))


def _lives(survey: Survey, sources: Sources, cited: Mapping[int, Told]) -> Section:
    del sources
    listed = survey.lists["lives"]
    if not listed.count:
        return Section("lives", "Lives of keys", ("No key's record changed.",))
    lines: dict[str, list[tuple[int, str, int]]] = {}
    rows: list[tuple[Cell, ...]] = []
    for index in listed.indexes:
        told = cited.get(index)
        key, state, time, version = words(told, "key", "state", "time", "record_version")
        rows.append((EntryLink(index), time, key, version, state, because(told), approvals_of(told)))
        if told is not None:
            lines.setdefault(key, []).append((moment(told.entry) // NANOSECONDS, state, index))
    drawn = dict(list(lines.items())[:MOST_LINES])
    title = "Changes of keys over time"
    notes = [left_out(len(listed.indexes), listed.count)]
    if len(lines) > len(drawn):
        notes.append(f"The chart shows the first {len(drawn)} of {len(lines)} keys.")
    grid = Grid(
        title,
        ("Entry", "Time", "Key", "Version", "State", "Because", "Approvals that counted"),
        rows,
        " ".join(one for one in notes if one),
    )
    return Section("lives", "Lives of keys", (), (Moments(title, drawn),) if drawn else (), (grid,))


def _governed(survey: Survey, sources: Sources, cited: Mapping[int, Told]) -> Section:
    listed = survey.lists["governed"]
    if not listed.count:
        return Section(
            "ceremonies", "Ceremonies and transfers", ("No entry names a ceremony or a transfer.",)
        )
    rows: list[tuple[Cell, ...]] = []
    for index in listed.indexes:
        told = cited.get(index)
        pairs = set() if told is None else said(told.entry, told.beside)
        named = " ".join(sorted(value for name, value in pairs if name in {"ceremony", "transfer"}))
        rows.append(
            (EntryLink(index), *words(told, "time", "kind", "operation"), named, *words(told, "state"))
        )
    grids = (
        counted("Ceremonies", ("Ceremony",), ("ceremony",), survey.tables["ceremony"], sources),
        counted("Transfers", ("Transfer",), ("transfer",), survey.tables["transfer"], sources),
        Grid(
            "Step by step",
            ("Entry", "Time", "Kind", "Operation", "Ceremony or transfer", "State"),
            rows,
            left_out(len(listed.indexes), listed.count),
        ),
    )
    return Section(
        "ceremonies", "Ceremonies and transfers", (), (), tuple(grid for grid in grids if grid.rows)
    )


def _registers(survey: Survey, sources: Sources, _: Mapping[int, Told]) -> Section:
    grid = counted(
        "Changes of registers",
        ("Record", "Change"),
        ("kind", "operation"),
        survey.tables["register"],
        sources,
    )
    says = () if grid.rows else ("No register changed.",)
    return Section("registers", "Registers", says, (), (grid,) if grid.rows else ())


def _alarms(survey: Survey, sources: Sources, cited: Mapping[int, Told]) -> Section:
    listed = survey.lists["alarms"]
    if not listed.count:
        return Section("alarms", "Alarms", ("No entry carries a severity: nothing was alarmed.",))
    rows: list[tuple[Cell, ...]] = []
    for index in listed.indexes:
        told = cited.get(index)
        severity = "" if told is None else severity_of(told.entry)
        rows.append(
            (
                EntryLink(index),
                *words(told, "time"),
                severity,
                *words(told, "kind", "operation", "rule", "clause"),
                facts_of(told),
                EntryLinks(leaves_of(told)),
            )
        )
    by_severity = counted(
        "Alarms by severity", ("Severity", "Kind"), ("", ""), survey.tables["severity"], sources
    )
    by_severity = replace(by_severity, rows=sorted(by_severity.rows, key=_gravest_first))
    each = Grid(
        "Alarms one by one",
        ("Entry", "Time", "Severity", "Kind", "Operation", "Rule", "Clause", "What", "Rests on"),
        rows,
        left_out(len(listed.indexes), listed.count),
    )
    return Section("alarms", "Alarms", (), (), (by_severity, each))


def _gravest_first(row: tuple[Cell, ...]) -> int:
    return _SEVERITIES.index(row[0]) if row[0] in _SEVERITIES else -1


_SEVERITIES: tuple[Cell, ...] = ("critical", "high", "medium", "low", "informational")
"""Gravest first; a word that is not among them is put before all."""


def _inventory(survey: Survey, sources: Sources, cited: Mapping[int, Told]) -> Section:
    tables = survey.tables
    modules: list[tuple[Cell, ...]] = []
    for name, index in sorted(survey.modules.items())[:MOST_SHOWN]:
        document = document_of(cited.get(index))
        identity = document.get("identity")
        reported = identity if isinstance(identity, Mapping) else {}
        told = (plain(reported.get(one)) for one in IDENTITY)
        modules.append((name, *told, plain(document.get("assurance")), EntryLink(index)))
    grids = (
        Grid(
            "Modules, as registered last",
            ("Module", *(one.replace("_", " ").capitalize() for one in IDENTITY), "Assurance", "Entry"),
            modules,
        ),
        counted(
            "Uses of keys by module", ("Module",), ("module",), tables["module"], sources, {"kind": "use"}
        ),
        counted("Software that wrote entries", ("Software",), ("",), tables["software"], sources),
        counted(
            "Policy sets that decided", ("Digest of the set",), ("policies",), tables["policies"], sources
        ),
    )
    says = (
        "Hardware, firmware and software that entries of this report name (G2.3(b)). What no entry names is not here.",
    )
    return Section("inventory", "Modules and software", says, (), tuple(grid for grid in grids if grid.rows))
