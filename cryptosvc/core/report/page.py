"""A report as values: sections of paragraphs, charts and grids; every number in them leads to entries.

Nothing here is markup. Whoever prints it escapes every text: most of them came from callers.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from cryptosvc.core.account import instant
from cryptosvc.core.query import LATEST, MAX_VALUE_CHARACTERS
from cryptosvc.core.report.survey import Figure


@dataclass(frozen=True, slots=True)
class Count:
    """A number that leads to its figure."""

    number: int
    figure: str


@dataclass(frozen=True, slots=True)
class EntryLink:
    """Leads to one entry."""

    index: int


@dataclass(frozen=True, slots=True)
class EntryLinks:
    """Leads to some entries, as far as they are in the range."""

    indexes: tuple[int, ...]


Cell: TypeAlias = str | Count | EntryLink | EntryLinks


@dataclass(frozen=True, slots=True)
class Grid:
    """A table.

    Args:
        caption: what it counts.
        columns: their headings; the first cell of a row heads the row.
        rows: as many cells each as there are columns.
        note: what it leaves out; empty where nothing.

    """

    caption: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Bars:
    """A chart of stacked columns; the same numbers stand in a grid beside it.

    Args:
        title: what it shows.
        labels: one for each column.
        series: name → (number, id of its figure) for each column.

    """

    title: str
    labels: tuple[str, ...]
    series: Mapping[str, Sequence[tuple[int, str]]]


@dataclass(frozen=True, slots=True)
class Moments:
    """A chart with a line of moments for each subject; the same stand in a grid beside it.

    Args:
        title: what it shows.
        lines: subject → (seconds since 1970, what happened, index of the entry).

    """

    title: str
    lines: Mapping[str, Sequence[tuple[int, str, int]]]


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the report.

    Args:
        anchor: its id in the page.
        title: heading.
        says: paragraphs.
        charts, grids: in this order.

    """

    anchor: str
    title: str
    says: tuple[str, ...] = ()
    charts: tuple[Bars | Moments, ...] = ()
    grids: tuple[Grid, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """What stands behind a number: where the entries are listed, and how to find all of them.

    Args:
        anchor: its id in the page.
        label: what is counted.
        figure: how many, and which.
        command: finds them in the service; empty where no query can ask for exactly these.

    """

    anchor: str
    label: str
    figure: Figure
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a report is about.

    Args:
        key, system: the one it is on; empty for all.
        start, stop: nanoseconds; 0 for no bound.

    """

    key: str = ""
    system: str = ""
    start: int = 0
    stop: int = 0

    @property
    def conditions(self) -> dict[str, str]:
        """Fields of a query that finds what the report is about."""
        return {name: value for name, value in (("key", self.key), ("system", self.system)) if value}

    def command(self, conditions: Mapping[str, str], between: tuple[int, int] = (0, 0)) -> str:
        """The command that finds entries of these conditions, of a time within the report's own; 0 for no bound."""
        words = ["cryptosvc", "audit", "query"]
        for name, value in {**self.conditions, **conditions}.items():
            words += ["-w", f"{name}={value}"]
        start = max(self.start, between[0])
        stop = min(one or LATEST for one in (self.stop, between[1]))
        for option, bound in (("--from", start), ("--to", stop)):
            if 0 < bound < LATEST:
                words += [option, instant(bound)]
        return shlex.join([*words, "--limit", "0"])


def _askable(value: str) -> bool:
    """Whether a command line can ask for a value; commas part several."""
    return (
        0 < len(value) <= MAX_VALUE_CHARACTERS
        and value.isascii()
        and value.isprintable()
        and "," not in value
    )


@dataclass(slots=True)
class Sources:
    """Gives every number of a report its source."""

    scope: Scope
    listed: list[Source] = field(default_factory=list)

    def count(
        self,
        label: str,
        figure: Figure,
        conditions: Mapping[str, str] | None = None,
        between: tuple[int, int] = (0, 0),
    ) -> Count:
        """A number with its source.

        Args:
            label: what is counted.
            figure: how many, and which.
            conditions: fields of a query that finds them and no others; None where none can.
            between: time of such a query, nanoseconds; 0 for no bound.

        """
        asked = None if conditions is None else {**self.scope.conditions, **conditions}
        exact = asked is not None and all(map(_askable, asked.values()))
        command = self.scope.command(asked or {}, between) if exact else ""
        source = Source(f"f{len(self.listed) + 1}", label, figure, command)
        self.listed.append(source)
        return Count(figure.count, source.anchor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """The range a report rests on held.

    Args:
        origin: the log.
        start, stop: sizes of the log it lies between.
        first, last: the signed checkpoints; `first` is empty where the range begins with entry 0.
        root: hex, of `stop` entries.
        key: SHA-256 of the SubjectPublicKeyInfo the checkpoints verify under, hex.
        undecided: entries of which nobody can say whether they belong here, since a value was redacted, or the hash alone is left.

    """

    origin: str
    start: int
    stop: int
    first: str
    last: str
    root: str
    key: str
    undecided: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NotVerified:
    """It did not; there is nothing to count then.

    Args:
        rule: what did not hold.
        message: in words.

    """

    rule: str
    message: str


@dataclass(frozen=True, slots=True)
class Page:
    """A whole report.

    Args:
        sections: in order.
        sources: of every number.

    """

    sections: tuple[Section, ...]
    sources: tuple[Source, ...]

    @property
    def cited(self) -> frozenset[int]:
        """Indexes of every entry the report leads to."""
        found = {index for source in self.sources for index in source.figure.first}
        for section in self.sections:
            for grid in section.grids:
                for cell in (cell for row in grid.rows for cell in row):
                    if isinstance(cell, EntryLink):
                        found.add(cell.index)
                    elif isinstance(cell, EntryLinks):
                        found.update(cell.indexes)
        return frozenset(found)
