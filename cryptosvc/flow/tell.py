"""Tell: alarms go from the log to whoever is to hear of them, each at least once, in order.

The log is the queue: for each receiver only the leaf is kept up to which it has been told, after it took what it was
told. What cannot be delivered waits in the log, however long, and holds up no other receiver.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import orjson

from cryptosvc.core.canonical import canonical
from cryptosvc.core.errors import Unavailable
from cryptosvc.core.life import NANOSECONDS
from cryptosvc.core.query import Cursor, Query
from cryptosvc.core.watch.alarm import KIND, Alarm, alarm_from_entry
from cryptosvc.flow.ports import Clock, Ledger, Search
from cryptosvc.flow.watch import Memory

ALARMS_A_TURN = 64
"""For each receiver; the next turn goes on."""
LONGEST_WAIT_SECONDS = 300
_QUESTION = Query.of({"kind": [KIND]}, oldest_first=True)


class Receiver(Protocol):
    """Whoever is told (ADR 0018)."""

    async def tell(self, alarm: Alarm, leaf_index: int) -> None:
        """Return once it is taken; Unavailable: it may not be."""


@dataclass(slots=True)
class _Place:
    """Where a receiver is: the next leaf, failures since the last success, and when to try again (Unix seconds)."""

    leaf: int = 0
    failures: int = 0
    again_at: int = 0


class Teller:
    """Delivers, a turn at a time. One process should do it at a time; if two do, a receiver hears twice.

    Args:
        search, ledger, clock: see there.
        memory: where the places are kept; where they are lost, everything is told again.
        receivers: by name.
        meanings: a sentence for each rule.
        result: told of each attempt: the receiver, and `taken` or `failed`.

    """

    def __init__(
        self,
        search: Search,
        ledger: Ledger,
        clock: Clock,
        memory: Memory,
        receivers: Mapping[str, Receiver],
        meanings: Mapping[str, str],
        result: Callable[[str, str], None],
    ) -> None:
        self._search = search
        self._ledger = ledger
        self._clock = clock
        self._memory = memory
        self._receivers = receivers
        self._meanings = meanings
        self._result = result
        self._places: dict[str, _Place] | None = None

    async def turn(self) -> int:
        """Tell each receiver what comes next; how many alarms were taken.

        Raises:
            Unavailable: log or memory is out of reach, or the receiver named did not take an alarm: it is tried again.
            Corrupt: the log.

        """
        # 1 where each is
        places = self._places = self._places or self._recalled()
        head = await self._ledger.head()
        second = self._clock.now().at // NANOSECONDS
        taken, failed = 0, ""
        for name, receiver in self._receivers.items():
            place = places[name]
            if place.leaf > head.size:  # it was told of another log
                place.leaf = 0
            if second < place.again_at:
                continue
            # 2 tell, in order, until one is not taken
            try:
                taken += await self._tell(name, receiver, place, head.size)
                place.failures = 0
            except _NotTakenError as error:
                taken += error.taken
                place.failures += 1
                place.again_at = second + min(2**place.failures, LONGEST_WAIT_SECONDS)
                failed = failed or f"{name}: {error.why}"
        # 3 keep
        if taken:
            self._memory.keep(canonical({name: place.leaf for name, place in places.items()}))
        if failed:
            raise Unavailable(f"an alarm was not taken by {failed}; it is told again", rule="watch/not-told")
        return taken

    async def _tell(self, name: str, receiver: Receiver, place: _Place, size: int) -> int:
        page = await self._search.page(_QUESTION, Cursor(_QUESTION.digest, size, place.leaf), ALARMS_A_TURN)
        taken = 0
        for one in page.entries:
            entry = orjson.loads(one.entry)
            # what is withheld in the log does not go out of it
            alarm = alarm_from_entry(entry, {}, self._meanings)
            if alarm is not None:
                try:
                    await receiver.tell(alarm, one.leaf_index)
                except Unavailable as error:
                    self._result(name, "failed")
                    raise _NotTakenError(taken, error.message) from None
                self._result(name, "taken")
                taken += 1
            place.leaf = one.leaf_index + 1
        place.leaf = size if page.cursor is None else page.cursor.at
        return taken

    def _recalled(self) -> dict[str, _Place]:
        """The places as they were kept; a receiver that is new hears of everything."""
        try:
            kept = orjson.loads(self._memory.recall() or b"{}")
        except orjson.JSONDecodeError:
            kept = {}
        known = kept if isinstance(kept, dict) else {}
        return {
            name: _Place(leaf if isinstance(leaf := known.get(name), int) else 0) for name in self._receivers
        }


class _NotTakenError(Exception):
    """A receiver did not take an alarm; `taken` it took before."""

    def __init__(self, taken: int, why: str) -> None:
        super().__init__(why)
        self.taken = taken
        self.why = why
