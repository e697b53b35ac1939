"""What a worker does now and then, and which worker does what only one should do."""

import asyncio
import fcntl
import os
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import structlog

from cryptosvc.core.errors import Conflict, Corrupt, CryptosvcError

_JITTER = 0.2
"""Part of an interval by which it varies, so that hosts that share a store do not do the same at the same moment."""

_END_WITHIN_SECONDS = 3.0
"""What a chore under way gets to end when the worker stops: a checkpoint cut in two leaves an open claim behind."""

_log = structlog.get_logger("cryptosvc.chores")


class Lead(Protocol):
    """What one process has at a time, of a host or of all of them."""

    def take(self) -> bool:
        """Whether this process has it now; may block for a moment. Unavailable: that cannot be told."""

    def give_back(self) -> None:
        """Let another process have it."""


class HostLead:
    """Held by one process of a host at a time; the kernel gives it to another when its holder is gone.

    Two workers that sign a checkpoint of one size would record a refusal each time, and so make the next one due.

    Args:
        path: the file that is locked.

    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: int | None = None

    def take(self) -> bool:
        """Whether this process has it now."""
        if self._held is None:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return False
            self._held = descriptor
        return True

    def give_back(self) -> None:
        """Let another process have it."""
        if self._held is not None:
            os.close(self._held)
            self._held = None


class BothLeads:
    """One process of a host, and one host: the second is asked for by whoever has the first.

    Args:
        host: among the workers of this host.
        hosts: among the hosts; None where there is one.

    """

    def __init__(self, host: Lead, hosts: Lead | None) -> None:
        self._host = host
        self._hosts = hosts

    def take(self) -> bool:
        """See `Lead`."""
        return self._host.take() and (self._hosts is None or self._hosts.take())

    def give_back(self) -> None:
        """See `Lead`."""
        if self._hosts is not None:
            self._hosts.give_back()
        self._host.give_back()


async def every(
    seconds: float, what: str, chore: Callable[[], Awaitable[object]], lead: Lead | None = None
) -> None:
    """Do a chore at an interval until cancelled; what hinders it is said once, until something else does.

    A turn under way when it is cancelled is let come to its end first, for some seconds.

    Args:
        seconds: the interval.
        what: name of the chore, for the process log.
        chore: raises CryptosvcError where it could not be done.
        lead: do it only while this process has the lead; None for every process.

    """
    said = ""
    while True:
        try:
            if lead is None or await asyncio.to_thread(lead.take):
                with suppress(Conflict):  # another host was first
                    await _let_end(chore)
                said = ""
        except CryptosvcError as error:
            if error.rule != said:
                said = error.rule
                tell = _log.critical if isinstance(error, Corrupt) else _log.warning
                tell("chore failed", chore=what, rule=error.rule, message=error.message)
        await asyncio.sleep(seconds * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311 - nothing secret


async def _let_end(chore: Callable[[], Awaitable[object]]) -> None:
    """Do it once; where this is cancelled meanwhile, cancel it only if it does not end by itself."""
    turn = asyncio.ensure_future(chore())
    try:
        await asyncio.shield(turn)
    except asyncio.CancelledError:
        await asyncio.wait((turn,), timeout=_END_WITHIN_SECONDS)
        turn.cancel()
        await asyncio.gather(turn, return_exceptions=True)
        raise
