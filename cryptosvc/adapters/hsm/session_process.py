"""The process that holds many sessions of one module and signs in them; `sessions_apart.py` starts it and asks it.

    python -m cryptosvc.adapters.hsm.session_process DESCRIPTOR

DESCRIPTOR is a SOCK_SEQPACKET socket it was born with. The first message says which module; then come works, and each is
answered whole. It ends when the other end of the socket does. Messages are pickled: they come from the process that
started this one, and from nowhere else.
"""

import ctypes
import os
import pickle
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

from cryptosvc.adapters.hsm.assurance import ModuleConfig
from cryptosvc.adapters.hsm.pool import Pool
from cryptosvc.adapters.hsm.work import SignWork, Work
from cryptosvc.core.errors import CryptosvcError
from cryptosvc.core.registry import KeyRecord

MOST_OCTETS = 1 << 20
"""Length of a message, at most; a work of 256 items has 20 KiB."""
TRIED = 0
"""Number under which it is said that the first attempt to open the token is over; works count from 1."""
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4
_FIRST_ATTEMPT_SECONDS = 15.0
_WATCH_EVERY_SECONDS = 0.1
_LEAVE_AFTER_SECONDS = 0.5
"""What is left for the last answers once a call never returns."""

Item = tuple[int, float, bytes]
"""Number of the key, time.monotonic() after which it is not begun, digest."""
Outcome = bytes | CryptosvcError


class PassedWork(Work[Outcome]):
    """Digests to be signed for the process at the other end.

    Args:
        number: of the work.
        items: at least one; each a key, the time.monotonic() after which it is not begun, and a digest.
        reply: where the answer goes.

    """

    mechanism = SignWork.mechanism
    octets = SignWork.octets

    def __init__(self, number: int, items: Sequence[tuple[KeyRecord, float, bytes]], reply: "Reply") -> None:
        super().__init__(len(items))
        self.number = number
        self._items = items
        self._reply = reply
        self._cancelled = False

    def item(self, index: int) -> tuple[KeyRecord, bytes]:
        """The key and the digest."""
        key, _, digest = self._items[index]
        return key, digest

    def deadline(self, index: int) -> float:
        """As it was told; the host has one monotonic clock."""
        return float("-inf") if self._cancelled else self._items[index][1]

    def outcome(self, index: int, outcome: Outcome) -> Outcome:  # noqa: ARG002 - the signature is that of the base
        """As it came."""
        return outcome

    def cancel(self) -> None:
        """Begin no more items."""
        self._cancelled = True

    def finished(self) -> None:
        """Answer, in the order of the items."""
        self._reply.send(self.number, [self.answers[index] for index in range(self.size)])


class Reply:
    """Sends answers, from any thread; remembers the works that have none yet."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.works: dict[int, PassedWork] = {}

    def send(self, number: int, outcomes: Sequence[Outcome]) -> None:
        """Answer one work; where nobody listens any more this process is about to end."""
        self.works.pop(number, None)
        try:
            self._connection.send(pickle.dumps((number, outcomes), pickle.HIGHEST_PROTOCOL))
        except OSError:
            os._exit(0)


def _serve(connection: socket.socket, pool: Pool) -> None:
    """Take works until the other end is gone."""
    reply = Reply(connection)
    pool.wait_tried(_FIRST_ATTEMPT_SECONDS)
    reply.send(TRIED, ())
    keys: dict[int, KeyRecord] = {}
    while message := connection.recv(MOST_OCTETS):
        number, items, new_keys = pickle.loads(message)  # noqa: S301 - from the process that started this one
        if not items:
            if (work := reply.works.get(number)) is not None:
                work.cancel()
            continue
        keys.update(new_keys)
        meant = [(keys[key], deadline, digest) for key, deadline, digest in items]
        reply.works[number] = work = PassedWork(number, meant, reply)
        pool.submit(cast("Work[object]", work))


def _watch(pool: Pool) -> None:
    """Give up calls that do not return; leave once one never will: another process takes this one's place."""
    while True:
        time.sleep(_WATCH_EVERY_SECONDS)
        pool.watch(time.monotonic())
        if pool.stuck is not None:
            time.sleep(_LEAVE_AFTER_SECONDS)
            os._exit(1)


def main(descriptor: int) -> None:
    """Be that process."""
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    prctl(_PR_SET_DUMPABLE, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # a worker on a processor of its own is SCHED_BATCH; what comes back from the module there must not wait for it
    with suppress(OSError):  # where the system does not let us, it is only slower
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    for ignored in (signal.SIGINT, signal.SIGTERM):  # whoever started it ends it
        signal.signal(ignored, signal.SIG_IGN)
    with socket.socket(fileno=descriptor) as connection:
        config, lock_folder = cast(
            "tuple[ModuleConfig, Path]",
            pickle.loads(connection.recv(MOST_OCTETS)),  # noqa: S301 - from the process that started this one
        )
        pool = Pool(config, lock_folder)
        pool.start()
        threading.Thread(target=_watch, args=(pool,), name="hsm-watch", daemon=True).start()
        try:
            _serve(connection, pool)
        finally:
            pool.close()


if __name__ == "__main__":
    main(int(sys.argv[1]))
