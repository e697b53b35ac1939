"""What a worker does now and then, and which worker of a host does what only one should do."""

import asyncio
import fcntl
import os
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import structlog

from cryptosvc.core.errors import Conflict, Corrupt, CryptosvcError

_JITTER = 0.2
"""Part of an interval by which it varies, so that hosts that share a store do not do the same at the same moment."""

_log = structlog.get_logger("cryptosvc.chores")


class Lead:
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


async def every(
    seconds: float, what: str, chore: Callable[[], Awaitable[object]], lead: Lead | None = None
) -> None:
    """Do a chore at an interval until cancelled; what hinders it is said once, until something else does.

    Args:
        seconds: the interval.
        what: name of the chore, for the process log.
        chore: raises CryptosvcError where it could not be done.
        lead: do it only while this process has the lead; None for every process.

    """
    said = ""
    while True:
        if lead is None or lead.take():
            try:
                with suppress(Conflict):  # another host was first
                    await chore()
                said = ""
            except CryptosvcError as error:
                if error.rule != said:
                    said = error.rule
                    tell = _log.critical if isinstance(error, Corrupt) else _log.warning
                    tell("chore failed", chore=what, rule=error.rule, message=error.message)
        await asyncio.sleep(seconds * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311 - nothing secret
