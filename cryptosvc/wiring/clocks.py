"""The comparison of clocks, put together from the configuration (ADR 0017)."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from cryptosvc.adapters.clock import DIFFERING
from cryptosvc.adapters.ntp import NtpSource
from cryptosvc.adapters.watch_state import StateFile
from cryptosvc.config.settings import Settings
from cryptosvc.flow.clocks import MILLISECOND, ClockWatch
from cryptosvc.flow.observe import Observer
from cryptosvc.wiring import stores

_FILE = "clock.quality"


def file_of(settings: Settings) -> Path:
    """Where the workers of a host find what was found of its clock."""
    return stores.lock_folder(settings) / _FILE


def comparing(settings: Settings, observer: Observer) -> Callable[[], Awaitable[object]]:
    """What one worker of a host does now and then; without time sources it takes back what was said of the clock."""
    file = StateFile(file_of(settings))

    def tell(differs: bool) -> None:  # noqa: FBT001 - told by the flow
        found = DIFFERING.encode() if differs else b""
        if file.recall() != found:
            file.keep(found)

    time = settings.time
    return ClockWatch(
        [NtpSource(one.name, one.kind, *one.where(), time.answer_seconds) for one in time.sources],
        observer,
        time.tolerance_ms * MILLISECOND,
        tell,
    ).turn
