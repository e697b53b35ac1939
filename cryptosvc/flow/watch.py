"""Watch: the log is followed behind the service, and what it finds is written into it as alarms (G2.10, G2.29, G2.30).

Nothing of it is on the way of a request. A turn reads on from where the last one was, in order, and holds what it read
against the log's head; only at the end of the log are alarms written, since one that is there already is met before
it. So a watch that was killed at any moment raises nothing twice, and one that lost its state reads the log again.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import orjson

from cryptosvc.core.canonical import JsonValue, canonical
from cryptosvc.core.entries import values_beside
from cryptosvc.core.erased import hash_of, is_alone
from cryptosvc.core.errors import Corrupt, Malformed
from cryptosvc.core.life import NANOSECONDS
from cryptosvc.core.merkle import EMPTY, Frontier
from cryptosvc.core.record import Observed
from cryptosvc.core.watch.alarm import Alarm
from cryptosvc.core.watch.rules import Rule
from cryptosvc.core.watch.watcher import BEGIN, Watcher
from cryptosvc.flow.ports import Clock, Ledger, StoredEntry, TreeHead

ENTRIES_A_TURN = 2048
ALARMS_A_TURN = 256
KEEP_SECONDS = 10
_OF_ANOTHER = "the entries do not lead to the log's head"


class Following(Protocol):
    """The log as it is read on (ADR 0018)."""

    async def after(self, start: int, at_most: int) -> tuple[TreeHead, Sequence[StoredEntry]]:
        """Entries from `start` on, as stored, and the authenticated head they were read under.

        Raises:
            Unavailable, Corrupt: as `Ledger.head`.

        """


class Memory(Protocol):
    """Where the watch keeps its state; losing it costs a reading of the log, no alarm."""

    def recall(self) -> bytes:
        """What was kept last; empty where there is nothing."""

    def keep(self, state: bytes) -> None:
        """Put a state in the place of the one before, whole or not at all. Unavailable: it cannot be."""


Aside = Callable[[Callable[[], None]], Awaitable[None]]


async def _at_once(work: Callable[[], None]) -> None:
    work()


class Watchman:
    """Follows the log, a turn at a time. One process should do it at a time.

    Args:
        following, ledger, memory, clock: see there.
        rules: the table in force.
        raised: told of each alarm once it is in the log.
        aside: where a turn's entries are judged, so that whoever serves is not kept waiting.

    """

    def __init__(
        self,
        following: Following,
        ledger: Ledger,
        memory: Memory,
        clock: Clock,
        rules: Sequence[Rule],
        raised: Callable[[Alarm], None],
        aside: Aside = _at_once,
    ) -> None:
        self._following = following
        self._ledger = ledger
        self._memory = memory
        self._clock = clock
        self._rules = rules
        self._raised = raised
        self._aside = aside
        self._watcher: Watcher | None = None
        self._frontier = EMPTY
        self._judged = 0
        self._kept_at = 0
        self._from_start = False
        self.behind = 0
        """How many entries were there and not judged at the end of the last turn."""

    async def turn(self) -> int:
        """Read on, judge, and write what was found where the end of the log is reached; how many entries were read.

        Raises:
            Corrupt: `watch/log-changed`: the entries, read from the first on, do not lead to the log's head.
            Unavailable, Conflict: log or store.

        """
        # 1 take up where it was left
        watcher = self._watcher or self._taken_up()
        # 2 read on
        head, entries = await self._following.after(watcher.taken, ENTRIES_A_TURN)
        if head.size < watcher.taken:
            self._begin_again()
            return 0
        # 3 judge
        await self._aside(lambda: self._judge(watcher, entries))
        self.behind = head.size - watcher.taken
        instant = self._clock.now()
        second = instant.at // NANOSECONDS
        wrote = 0
        if not self.behind:
            if self._frontier.root() != head.root:
                self._begin_again()
                return 0
            self._from_start = False
            watcher.turn(second)
            # 4 write what the log does not have
            wrote = await self._write(watcher)
        # 5 keep
        if wrote or second - self._kept_at >= KEEP_SECONDS:
            self.keep()
            self._kept_at = second
        return len(entries)

    def keep(self) -> None:
        """Keep the state now; Unavailable where that cannot be."""
        if self._watcher is not None:
            state: dict[str, JsonValue] = {
                "frontier": self._frontier.emit().hex(),
                "judged": self._judged,
                "watch": self._watcher.document(),
            }
            self._memory.keep(canonical(state))

    def _judge(self, watcher: Watcher, entries: Sequence[StoredEntry]) -> None:
        for one in entries:
            if is_alone(one.entry):
                watcher.pass_over(one.leaf_index)
                continue
            entry = orjson.loads(one.entry)
            flaw = ""
            try:
                beside: Mapping[str, str] = values_beside(one.leaf_index, entry, one.withheld)
            except Corrupt:
                beside, flaw = {}, "withheld"
            watcher.take(one.leaf_index, entry, beside, flaw)
        self._frontier = self._frontier.extended([hash_of(one.entry) for one in entries])

    async def _write(self, watcher: Watcher) -> int:
        instant = self._clock.now()
        if not watcher.in_force:
            start = str(max(self._judged, watcher.begun[1]))
            begin = Observed(
                kind="watch",
                operation=BEGIN,
                at=instant.at,
                time_quality=instant.quality,
                facts={"rules": watcher.digest, "from": start},
            )
            await self._ledger.record([begin])
            return 1
        alarms = watcher.pending[:ALARMS_A_TURN]
        if alarms:
            await self._ledger.record([self._entry(one, watcher.digest) for one in alarms])
        for one in alarms:
            self._raised(one)
        return len(alarms)

    def _entry(self, alarm: Alarm, digest: str) -> Observed:
        instant = self._clock.now()
        return Observed(
            kind="alarm",
            operation=alarm.rule,
            at=instant.at,
            time_quality=instant.quality,
            facts=alarm.facts(digest),
            withheld=alarm.withheld(),
        )

    def _taken_up(self) -> Watcher:
        """The watch as it was kept; from the first entry on where that was of another table, or is no state."""
        self._frontier, found = EMPTY, None
        octets = b"" if self._from_start else self._memory.recall()
        try:
            kept = orjson.loads(octets) if octets else {}
            self._judged = max(
                self._judged, int(kept.get("judged", 0)), int(kept.get("watch", {}).get("taken", 0))
            )
            found = Watcher.from_document(self._rules, kept.get("watch", {}))
            self._frontier = Frontier.parse(bytes.fromhex(kept["frontier"]))
            if self._frontier.size != found.taken:
                found = None
        except (ValueError, TypeError, KeyError, AttributeError, Malformed):
            found = None
        if found is None:
            self._frontier, found = EMPTY, Watcher(self._rules)
        self._from_start = not found.taken
        self._watcher = found
        return found

    def _begin_again(self) -> None:
        """What was kept is not of this log: read it from the first entry on; Corrupt where it was."""
        self._watcher, self._judged = None, 0
        if self._from_start:
            self._from_start = False
            raise Corrupt(f"{_OF_ANOTHER}: the store was edited", rule="watch/log-changed", clause="G2.27")
        self._from_start = True
