"""Clocks: the time sources are asked, and what differs is recorded, once until it changes (G2.47).

What is found of the machine's own clock becomes the quality of the time in every entry of every worker of the host.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from cryptosvc.core.clocks import CLAUSE, OWN, Finding, Kind, Reading, compare
from cryptosvc.core.errors import Unavailable
from cryptosvc.flow.observe import Observer

AGREED = "clock/agreed"
MILLISECOND = 1_000_000


class TimeSource(Protocol):
    """Where the time can be asked (ADR 0017)."""

    @property
    def name(self) -> str:
        """How entries name it."""

    @property
    def kind(self) -> Kind:
        """What it is."""

    async def read(self) -> Reading:
        """Ask it. Unavailable: it does not answer, or not with a time."""


class ClockWatch:
    """Compares clocks, a turn at a time. One process of a host should do it.

    Args:
        sources: in any number.
        observer: records.
        tolerance: nanoseconds from which a difference is material.
        tell: told after each turn whether the machine's own clock differs.

    """

    def __init__(
        self,
        sources: Sequence[TimeSource],
        observer: Observer,
        tolerance: int,
        tell: Callable[[bool], None],
    ) -> None:
        self._sources = sources
        self._observer = observer
        self._tolerance = tolerance
        self._tell = tell
        self._said: frozenset[str] = frozenset()

    async def turn(self) -> list[Finding]:
        """Ask every source, and record what is new; what was found.

        Raises:
            Unavailable, Corrupt: the log.

        """
        # 1 ask
        readings: list[Reading] = []
        for one in self._sources:
            try:
                readings.append(await one.read())
            except Unavailable:
                continue  # a kind none of which answers is found below
        # 2 compare
        found = compare(
            readings, tolerance=self._tolerance, asked=frozenset(one.kind for one in self._sources)
        )
        # 3 what entries say from now on
        rules = frozenset(one.rule for one in found)
        self._tell(not rules.isdisjoint(OWN))
        # 4 record what is new
        heard = ", ".join(f"{one.name} {one.offset // MILLISECOND}" for one in readings)
        for finding in found:
            if finding.rule not in self._said:
                await self._record(finding.rule, finding.difference, heard)
        if self._said and not rules:
            await self._record(AGREED, 0, heard)
        self._said = rules
        return found

    async def _record(self, rule: str, difference: int, heard: str) -> None:
        facts = {
            "clause": CLAUSE,
            "difference_ms": str(difference // MILLISECOND),
            "heard": heard,
            "rule": rule,
            "tolerance_ms": str(self._tolerance // MILLISECOND),
        }
        await self._observer.happened("clock", "compare", facts, {})
