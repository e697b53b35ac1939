"""Who signed off what of a report's range, and what nobody did, with how old that is (G2.26)."""

from collections.abc import Mapping

from cryptosvc.core.life import DAY, NANOSECONDS
from cryptosvc.core.report.grids import MOST_SHOWN, left_out
from cryptosvc.core.report.page import Cell, EntryLink, Grid, Section, Sources
from cryptosvc.core.report.reading import facts_of, words
from cryptosvc.core.report.survey import Survey
from cryptosvc.core.retold import Told
from cryptosvc.core.review import unreviewed
from cryptosvc.core.said import moment


def reviews(survey: Survey, sources: Sources, cited: Mapping[int, Told]) -> Section:
    """Lay the section out; see `laid_out`."""
    if sources.scope.key or sources.scope.system:
        return Section(
            "reviews", "Review", ("A report on one key or system does not say what was reviewed.",)
        )
    if not survey.entries.count:
        return Section("reviews", "Review", ("There is nothing to review.",))
    stop = survey.entries.last + 1
    left = unreviewed(survey.entries.first[0], stop, survey.reviewed)
    listed = survey.lists["reviews"]
    grids = tuple(
        one for one in (_left(survey, left, cited), _signed(listed.indexes, listed.count, cited)) if one.rows
    )
    if not listed.count:
        says = (
            "No entry of this report signs off a range of the log (G2.26): all of it is unreviewed, as far as the "
            "report tells."
        )
    elif left:
        entries = sum(end - begin for begin, end in left)
        says = (
            f"{entries} entries are signed off by nobody, as far as the entries of this report tell (G2.26)."
        )
    else:
        says = "All entries of this report are signed off (G2.26)."
    return Section("reviews", "Review", (says,), (), grids)


def _left(survey: Survey, left: list[tuple[int, int]], cited: Mapping[int, Told]) -> Grid:
    rows: list[tuple[Cell, ...]] = []
    for begin, end in left[:MOST_SHOWN]:
        told = cited.get(begin)
        age = "" if told is None else str(max(survey.ended - moment(told.entry), 0) // (DAY * NANOSECONDS))
        rows.append((EntryLink(begin), EntryLink(end - 1), str(end - begin), *words(told, "time"), age))
    return Grid(
        "Unreviewed",
        ("From entry", "To entry", "Entries", "Since", "Days old at the end of the report"),
        rows,
        left_out(len(rows), len(left)),
    )


def _signed(indexes: list[int], count: int, cited: Mapping[int, Told]) -> Grid:
    rows: list[tuple[Cell, ...]] = [
        (EntryLink(index), *words(cited.get(index), "time", "custodian"), facts_of(cited.get(index)))
        for index in indexes
    ]
    return Grid("Signed off", ("Entry", "Time", "By", "What"), rows, left_out(len(indexes), count))
