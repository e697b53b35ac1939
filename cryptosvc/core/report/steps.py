"""Usage in steps of time: hours, days, months or years, so that a chart has about as many as a page is wide."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from cryptosvc.core.account import instant
from cryptosvc.core.life import NANOSECONDS
from cryptosvc.core.report.grids import OUTCOMES
from cryptosvc.core.report.survey import HOUR, MOST_ROWS, Figure, Survey, Table

_NO_TIME = "no time"
_HOURS_SHOWN = 72
_DAYS_SHOWN = 93
_MONTHS_SHOWN = 120


def steps_of(survey: Survey) -> dict[str, dict[str, Figure]]:
    """Figures by step of time and outcome; every step between the first and the last is there."""
    hours, days = survey.tables["hour"], survey.tables["day"]
    by_hour = not hours.others.count and _span(hours) <= _HOURS_SHOWN
    table, unit = (hours, HOUR) if by_hour else (days, 24 * HOUR)
    if not table.rows:
        return {}
    span = _span(table)
    written = 13 if by_hour else 10 if span <= _DAYS_SHOWN else 7 if span <= _MONTHS_SHOWN * 30 else 4
    numbers = sorted(int(name[0]) for name in table.rows)
    all_numbers: Iterable[int] = range(numbers[0], numbers[-1] + 1) if span <= MOST_ROWS else numbers
    found: dict[str, dict[str, Figure]] = {
        instant(number * unit)[:written] or _NO_TIME: {} for number in all_numbers
    }
    for (number, outcome), figure in sorted(table.rows.items(), key=lambda row: int(row[0][0])):
        step = found.setdefault(instant(int(number) * unit)[:written] or _NO_TIME, {})
        name = outcome if outcome in OUTCOMES else "other"
        step[name] = step.get(name, Figure()).plus(figure)
    return found


def asking_of_step(label: str, outcome: str) -> tuple[Mapping[str, str] | None, tuple[int, int]]:
    """What finds the uses and refusals of a step; nothing finds exactly those of an outcome that is no word."""
    if outcome not in OUTCOMES or label == _NO_TIME:
        return None, (0, 0)
    text = label + {4: "-01-01T00", 7: "-01T00", 10: "T00", 13: ""}[len(label)]
    start = datetime.fromisoformat(f"{text}:00:00+00:00")
    if len(label) == 13:
        stop = start + timedelta(hours=1)
    elif len(label) == 10:
        stop = start + timedelta(days=1)
    elif len(label) == 7:
        stop = (start + timedelta(days=31)).replace(day=1)
    else:
        stop = start.replace(year=start.year + 1)
    return {"outcome": outcome}, (_nanoseconds(start), _nanoseconds(stop))


def _nanoseconds(at: datetime) -> int:
    return int(at.timestamp()) * NANOSECONDS


def _span(table: Table) -> int:
    numbers = [int(name[0]) for name in table.rows]
    return max(numbers) - min(numbers) + 1 if numbers else 0
