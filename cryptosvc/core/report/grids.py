"""Grids and charts of figures: the largest rows first, and what is left out said below."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

from cryptosvc.core.report.page import Bars, Cell, Grid, Sources
from cryptosvc.core.report.survey import Figure, Table

MOST_SHOWN = 50
OUTCOMES = ("signed", "refused")
"""What has a column of its own; every other outcome is `other`."""


Asking: TypeAlias = Callable[[str, str], tuple[Mapping[str, str] | None, tuple[int, int]]]
"""Row and outcome of a chart → what a query asks to find exactly that: conditions, None where none can, and time."""


def stacked(title: str, rows: Mapping[str, Mapping[str, Figure]], sources: Sources, asking: Asking) -> Bars:
    """A chart with a column for each row, divided by outcome."""
    series: dict[str, Sequence[tuple[int, str]]] = {}
    for outcome in (*OUTCOMES, "other"):
        figures = [(label, row.get(outcome, Figure())) for label, row in rows.items()]
        if any(figure.count for _, figure in figures):
            series[outcome] = [
                (
                    figure.count,
                    sources.count(f"{label}: {outcome}", figure, *asking(label, outcome)).figure
                    if figure.count
                    else "",
                )
                for label, figure in figures
            ]
    return Bars(title, tuple(rows), series)


def counted(
    caption: str,
    columns: tuple[str, ...],
    fields: tuple[str, ...],
    table: Table,
    sources: Sources,
    also: Mapping[str, str] | None = None,
) -> Grid:
    """A table of figures, the largest first.

    `fields` are what a query finds each cell's text by, `also` what it asks besides; no field where none finds it.
    """
    largest = largest_first(table)
    rows: list[tuple[Cell, ...]] = []
    for name, figure in largest[:MOST_SHOWN]:
        findable = any(fields) and all(
            bool(one) or not field for one, field in zip(name, fields, strict=True)
        )
        conditions = {field: one for field, one in zip(fields, name, strict=True) if field} | dict(also or {})
        count = sources.count(f"{caption}: {title_of(name)}", figure, conditions if findable else None)
        rows.append((*(one or "none" for one in name), count))
    return Grid(caption, (*columns, "Entries"), rows, _rest(largest, table))


def split_by_outcome(
    caption: str, columns: tuple[str, ...], fields: tuple[str, ...], table: Table, sources: Sources
) -> Grid:
    """A table with a column for each outcome; the last part of a figure's name is its outcome."""
    by_name = by_outcome(table, len(columns))
    largest = sorted(by_name.items(), key=lambda row: (-sum(one.count for one in row[1].values()), row[0]))
    rows: list[tuple[Cell, ...]] = []
    for name, outcomes in largest[:MOST_SHOWN]:
        cells: list[Cell] = [one or "none" for one in name]
        for outcome in (*OUTCOMES, "other"):
            figure = outcomes.get(outcome, Figure())
            conditions = dict(zip(fields, name, strict=True)) | {"outcome": outcome}
            findable = all(name) and outcome in OUTCOMES
            label = f"{caption}: {title_of(name)}, {outcome}"
            count: Cell = (
                sources.count(label, figure, conditions if findable else None) if figure.count else "0"
            )
            cells.append(count)
        rows.append(tuple(cells))
    figures = [(name, total(outcomes.values())) for name, outcomes in largest]
    return Grid(caption, (*columns, *OUTCOMES, "other"), rows, _rest(figures, table))


def by_outcome(table: Table, length: int) -> dict[tuple[str, ...], dict[str, Figure]]:
    """Figures by the first `length` parts of their name, and by outcome, which is the next."""
    found: dict[tuple[str, ...], dict[str, Figure]] = {}
    for name, figure in table.rows.items():
        outcome = name[length] if name[length] in OUTCOMES else "other"
        row = found.setdefault(name[:length], {})
        row[outcome] = row.get(outcome, Figure()).plus(figure)
    return found


def largest_first(table: Table) -> list[tuple[tuple[str, ...], Figure]]:
    """Rows of a table, those with the highest counts first."""
    return sorted(table.rows.items(), key=lambda row: (-row[1].count, row[0]))


def _rest(rows: list[tuple[tuple[str, ...], Figure]], table: Table) -> str:
    rest = rows[MOST_SHOWN:]
    count = sum(figure.count for _, figure in rest) + table.others.count
    if not count:
        return ""
    more = " and more" if table.others.count else ""
    return f"The largest {MOST_SHOWN} are shown; {len(rest)}{more} others have {count} entries together."


def total(figures: Iterable[Figure]) -> Figure:
    """All of them together."""
    return functools.reduce(Figure.plus, figures, Figure())


def left_out(shown: int, count: int) -> str:
    """What to say below a list that is cut."""
    return "" if shown == count else f"The first {shown} of {count} are listed."


def title_of(name: tuple[str, ...]) -> str:
    """A figure's name as people read it."""
    return ", ".join(one or "none" for one in name)
