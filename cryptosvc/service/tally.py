"""Tally: events a stranger can cause at will are recorded one by one up to a rate, and counted beyond it.

A flood can therefore neither fill the log nor hide in it: the first events of every window are entries of their own,
the others one entry per reason with their number (G2.1, G2.6).
"""

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass

from cryptosvc.core.errors import CryptosvcError
from cryptosvc.flow.observe import Observer


@dataclass(frozen=True, slots=True)
class Event:
    """One event.

    Args:
        reason: stable word, lower case, for counting.
        peer: transport address; empty where it is not known.

    """

    reason: str
    peer: str


class Tally:
    """Collects events and records them.

    Args:
        observer: the use case that records.
        kind: entry kind, as `handshake-failed`.
        operation: what was attempted, as `connect`.
        singly: how many events of a window become entries of their own.
        window_seconds: how often what is beyond that is written as counts.

    """

    def __init__(
        self, observer: Observer, kind: str, operation: str, *, singly: int = 20, window_seconds: float = 10.0
    ) -> None:
        self._observer = observer
        self._kind = kind
        self._operation = operation
        self._most_singly = singly
        self._window = window_seconds
        self._singly: list[Event] = []
        self._left = singly
        self._counts: Counter[str] = Counter()
        self._total: Counter[str] = Counter()
        self._wake = asyncio.Event()

    @property
    def total(self) -> Counter[str]:
        """Events by reason since the start, recorded or still to be."""
        return self._total

    def add(self, event: Event) -> None:
        """Count an event; it is recorded soon. Call it on the event loop."""
        self._total[event.reason] += 1
        if self._left:
            self._left -= 1
            self._singly.append(event)
            self._wake.set()
        else:
            self._counts[event.reason] += 1

    async def run(self) -> None:
        """Record until cancelled, and then once more."""
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._window):
                        while True:
                            await self._wake.wait()
                            self._wake.clear()
                            await self._record_singly()
                await self._record_counts()
        finally:
            await self._record_singly()
            await self._record_counts()

    async def _record_singly(self) -> None:
        while self._singly:
            event = self._singly.pop(0)
            withheld = {"peer": event.peer} if event.peer else {}
            if not await self._record({"reason": event.reason, "count": "1"}, withheld):
                self._counts[event.reason] += 1

    async def _record_counts(self) -> None:
        self._left = self._most_singly
        counts, self._counts = self._counts, Counter()
        for reason, count in counts.items():
            if not await self._record({"reason": reason, "count": str(count)}, {}):
                self._counts[reason] += count

    async def _record(self, facts: dict[str, str], withheld: dict[str, str]) -> bool:
        """Record one entry; False where the log cannot be written now, and the count is kept for the next window."""
        try:
            await asyncio.shield(self._observer.happened(self._kind, self._operation, facts, withheld))
        except CryptosvcError:
            return False
        return True
