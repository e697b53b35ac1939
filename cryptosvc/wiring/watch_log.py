"""The watch over the log, put together for the worker that has its lead."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from cryptosvc.adapters.clock import SystemClock
from cryptosvc.adapters.watch_state import FollowedLog, StateFile
from cryptosvc.config.settings import Settings
from cryptosvc.config.watching import rules_of
from cryptosvc.core.errors import Unavailable
from cryptosvc.core.watch.alarm import Alarm
from cryptosvc.flow.watch import Watchman
from cryptosvc.service.metrics import Metrics
from cryptosvc.wiring import stores

EVERY_SECONDS = 0.5
"""2,048 entries each time: up to 4,000 a second; a burst of more is caught up with after."""
_STATE_FILE = "watch.state"
_log = structlog.get_logger("cryptosvc.watch")


def watchman(
    settings: Settings, store: stores.Opened, clock: SystemClock, metrics: Metrics
) -> Watchman | None:
    """Put the use case together; None where the configuration asks for no watch. Malformed: its rules."""
    if settings.watch is None:
        return None

    async def aside(work: Callable[[], None]) -> None:
        await asyncio.to_thread(work)

    def raised(alarm: Alarm) -> None:
        metrics.alarm(alarm.rule, alarm.severity.value)
        # whom it is about is withheld, here as in the log
        _log.warning("alarm", **alarm.facts(""))

    return Watchman(
        FollowedLog(store.ledger),
        store.ledger,
        StateFile(stores.lock_folder(settings) / _STATE_FILE),
        clock,
        rules_of(settings.watch),
        raised,
        aside,
    )


def chore(watch: Watchman, metrics: Metrics) -> Callable[[], Awaitable[None]]:
    """What the worker does at an interval."""

    async def turn() -> None:
        await watch.turn()
        metrics.watch_behind(watch.behind)

    return turn


def leave(watch: Watchman | None) -> None:
    """Keep the state of a watch that had the lead, so that the next one need not read so far again."""
    if watch is not None:
        with suppress(Unavailable):  # it reads again what was not kept
            watch.keep()
