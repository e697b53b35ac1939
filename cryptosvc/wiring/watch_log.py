"""The watch over the log, put together for the worker that has its lead."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import structlog

import cryptosvc
from cryptosvc.adapters.clock import SystemClock
from cryptosvc.adapters.receivers import Syslog, Webhook
from cryptosvc.adapters.watch_state import FollowedLog, StateFile
from cryptosvc.config.settings import Settings
from cryptosvc.config.watching import ReceiverForm, WatchReceiverSettings, WatchSettings, rules_of
from cryptosvc.core.errors import Unavailable
from cryptosvc.core.watch import finding
from cryptosvc.core.watch.alarm import Alarm
from cryptosvc.core.watch.finding import Sender
from cryptosvc.flow.observe import Observer
from cryptosvc.flow.review import Reviewer
from cryptosvc.flow.tell import Receiver, Teller
from cryptosvc.flow.watch import Watchman
from cryptosvc.service.metrics import Metrics
from cryptosvc.wiring import clocks, outside, stores
from cryptosvc.wiring.chores import HostLead, every

EVERY_SECONDS = 0.5
"""2,048 entries each time: up to 4,000 a second; a burst of more is caught up with after."""
TELL_EVERY_SECONDS = 1.0
REVIEW_EVERY_SECONDS = 600.0
_STATE_FILE = "watch.state"
_TOLD_FILE = "watch.told"
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


def teller(settings: Settings, store: stores.Opened, clock: SystemClock, metrics: Metrics) -> Teller | None:
    """Put together what tells receivers; None where there are none."""
    watch = settings.watch
    if watch is None or not watch.receivers:
        return None
    return Teller(
        store.search,
        store.ledger,
        clock,
        StateFile(stores.lock_folder(settings) / _TOLD_FILE),
        {one.name: _receiver(settings, one) for one in watch.receivers},
        {rule.name: rule.meaning for rule in rules_of(watch)},
        metrics.told,
    )


def _receiver(settings: Settings, one: WatchReceiverSettings) -> Receiver:
    deployment = settings.deployment
    sender = Sender(
        settings.log.origin, deployment.system, deployment.environment.value, cryptosvc.__version__
    )
    written = finding.cef if one.form is ReceiverForm.CEF else finding.ocsf

    def form(alarm: Alarm, leaf_index: int) -> bytes:
        return written(alarm, leaf_index, sender)

    if one.url is not None:
        content_type = "text/plain; charset=utf-8" if one.form is ReceiverForm.CEF else "application/json"
        return Webhook(one.url, form, content_type, one.seconds, one.authority)
    host, _, port = (one.syslog or "").rpartition(":")
    return Syslog(host.strip("[]"), int(port), one.transport.value, form, one.seconds, one.authority)


def begun(
    settings: Settings, store: stores.Opened, clock: SystemClock, metrics: Metrics
) -> tuple[list["asyncio.Task[None]"], Callable[[], None]]:
    """Begin to watch and to tell, where this is configured.

    Returns:
        Chores, to be cancelled; and what to do once they are over.

    """
    watch, telling = watchman(settings, store, clock, metrics), teller(settings, store, clock, metrics)
    watch_lead, tell_lead = stores.watch_leads(settings)
    chores = []
    if watch is not None:
        turn = chore(watch, metrics)
        chores.append(asyncio.create_task(every(EVERY_SECONDS, "watch", turn, watch_lead)))
        overdue = partial(reviewer(settings, store, clock).turn, review_days(settings))
        chores.append(asyncio.create_task(every(REVIEW_EVERY_SECONDS, "review", overdue, watch_lead)))
    places = outside.publisher(settings, store, Observer(store.ledger, clock))
    if places is not None:
        chores.append(asyncio.create_task(every(outside.EVERY_SECONDS, "outside", places.turn, watch_lead)))
    clock_lead = HostLead(stores.lock_folder(settings) / "clock.lock")
    comparing = clocks.comparing(settings, Observer(store.ledger, clock))
    chores.append(asyncio.create_task(every(settings.time.every_seconds, "clocks", comparing, clock_lead)))
    if telling is not None:
        chores.append(asyncio.create_task(every(TELL_EVERY_SECONDS, "tell", telling.turn, tell_lead)))

    def leave() -> None:
        if watch is not None:
            with suppress(Unavailable):  # the next one reads again what was not kept
                watch.keep()
        watch_lead.give_back()
        tell_lead.give_back()
        clock_lead.give_back()

    return chores, leave


def system_clock(settings: Settings) -> SystemClock:
    """The clock of a worker, which tells what was found of it."""
    return SystemClock(clocks.file_of(settings))


def reviewer(settings: Settings, store: stores.Opened, clock: SystemClock) -> Reviewer:
    """Put the use case together."""
    return Reviewer(store.registry, store.search, store.ledger, clock, settings.log.origin)


def review_days(settings: Settings) -> int:
    """After how many days an entry is to have been signed off."""
    return (settings.watch or WatchSettings()).review_within_days


def chore(watch: Watchman, metrics: Metrics) -> Callable[[], Awaitable[None]]:
    """What the worker does at an interval."""

    async def turn() -> None:
        await watch.turn()
        metrics.watch_behind(watch.behind)

    return turn
