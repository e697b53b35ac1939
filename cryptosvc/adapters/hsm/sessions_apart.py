"""Sessions in a process of their own, for a module that takes many calls at a time.

A session thread that comes back from the module waits for the interpreter lock of the process it is in, twice for each
signature. In the worker it waits behind the event loop, and eight such threads keep a network HSM of 2 ms a call at
three quarters of what it can do (ADR 0024). Here the threads have a process with nothing else to do; the event loop
sends it digests and gets signatures, a whole work at a time, and has no session threads beside it.

The process is one more child of the worker. Where it ends, what it had is answered as unknown, and another is started.
"""

import asyncio
import hashlib
import pickle
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cryptosvc.adapters.hsm.assurance import ModuleConfig
from cryptosvc.adapters.hsm.lane import busy
from cryptosvc.adapters.hsm.session_process import MOST_OCTETS, TRIED, Item, Outcome
from cryptosvc.core.errors import OutcomeUnknown, Unavailable
from cryptosvc.core.names import KeyId
from cryptosvc.core.record import Claim, Failed, Produced
from cryptosvc.core.registry import KeyRecord
from cryptosvc.core.values import quickly

MANY_SESSIONS = 4
"""So many sessions are not worth having in the worker: a library with global locks is served best by one or two."""
_ROOM_OCTETS = 4 << 20
_START_AGAIN_SECONDS = 1.0
_END_SECONDS = 3.0
_MODULE = "cryptosvc.adapters.hsm.session_process"
_produced = quickly(Produced)


class _Child:
    """One such process, and what it was asked. All but `start` and `end` in the thread of the event loop."""

    def __init__(self, config: ModuleConfig, lock_folder: Path) -> None:
        self.name = config.name
        self.began = time.monotonic()
        self.gone = False
        self._waiting: dict[int, asyncio.Future[Sequence[Outcome]]] = {}
        self._keys: dict[KeyId, tuple[KeyRecord, int]] = {}
        self._works = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self.connection, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            for end in (self.connection, other):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _ROOM_OCTETS)
            self.process = subprocess.Popen(  # noqa: S603 - this program itself
                (sys.executable, "-m", _MODULE, str(other.fileno())),
                pass_fds=(other.fileno(),),
                stdin=subprocess.DEVNULL,
            )
        self.connection.send(pickle.dumps((config, lock_folder)))

    def wait_tried(self, seconds: float) -> None:
        """Wait until it has tried to open the token, before it is asked for anything."""
        self.connection.settimeout(max(0.01, seconds))
        with suppress(OSError):
            self.connection.recv(MOST_OCTETS)
        self.connection.settimeout(None)

    def ask(self, claims: Sequence[Claim], offset: float) -> "tuple[int, asyncio.Future[Sequence[Outcome]]]":
        """Send one work; its number and its answer to be. BlockingIOError: it takes no more; OSError: it is gone."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._attach(loop)
        new: dict[int, KeyRecord] = {}
        items: list[Item] = []
        for claim in claims:
            case = claim.authorised.case
            known = self._keys.get(case.key.key_id)
            if known is None or known[0] is not case.key:
                number = len(self._keys) if known is None else known[1]
                known = self._keys[case.key.key_id] = (case.key, number)
                new[number] = case.key
            digest = hashlib.sha256(case.content.signed_bytes).digest()
            items.append((known[1], claim.deadline * 1e-9 + offset, digest))
        self._works += 1
        try:
            self._send(self._works, items, new)
        except OSError:
            self._keys.clear()  # it does not know those of this message
            raise
        answer = self._waiting[self._works] = loop.create_future()
        return self._works, answer

    def cancel(self, number: int) -> None:
        """Nobody waits for this work any more: what is not begun is not begun."""
        self._waiting.pop(number, None)
        with suppress(OSError):
            self._send(number, (), {})

    def _send(self, number: int, items: Sequence[Item], new: dict[int, KeyRecord]) -> None:
        self.connection.send(pickle.dumps((number, items, new), pickle.HIGHEST_PROTOCOL), socket.MSG_DONTWAIT)

    def _attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Be read by the loop that asks; a loop that is closed reads nothing any more."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self.connection)
        self._loop = loop
        loop.add_reader(self.connection, self._read)

    def _read(self) -> None:
        try:
            while message := self.connection.recv(MOST_OCTETS, socket.MSG_DONTWAIT):
                number, outcomes = pickle.loads(message)  # noqa: S301 - from a process this one started
                answer = self._waiting.pop(number, None) if number != TRIED else None
                if answer is not None and not answer.done():
                    answer.set_result(outcomes)
        except BlockingIOError:
            return
        except OSError:
            pass
        self._lost()

    def _lost(self) -> None:
        """It is gone: nobody knows what became of what it had."""
        if self.gone:
            return
        self.gone = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self.connection)
        self.connection.close()
        waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            if not answer.done():
                answer.set_exception(
                    OutcomeUnknown(
                        f"module {self.name}: the process that held its sessions ended while the key was in use, so it "
                        "may have signed; look at the module's own log before the request is made again",
                        rule="hsm/sessions-lost",
                    )
                )

    def end(self) -> None:
        """Have it end: its socket does, and it closes its sessions; killed where that takes too long."""
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        if self._loop is None or not self._loop.is_running() or _runs_here(self._loop):
            self._lost()
        else:
            self._loop.call_soon_threadsafe(self._lost)
        try:
            self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _runs_here(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether the calling thread is the one that runs the loop."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


class SessionsApart:
    """The process with the sessions of one module, whichever it is at the moment.

    Args:
        config: the module.
        lock_folder: shared by all processes of the host that use the library.

    """

    def __init__(self, config: ModuleConfig, lock_folder: Path) -> None:
        self._config = config
        self._lock_folder = lock_folder
        self._child: _Child | None = None

    def start(self) -> None:
        """Start it; `wait_tried` waits until it has tried to open the token."""
        self._child = _Child(self._config, self._lock_folder)

    def wait_tried(self, seconds: float) -> None:
        """Wait, before it is asked for anything."""
        if self._child is not None:
            self._child.wait_tried(seconds)

    def watch(self, now: float) -> None:
        """Start another where it ended; called by one thread that lives as long as this does."""
        child = self._child
        if child is None or child.process.poll() is None or now - child.began < _START_AGAIN_SECONDS:
            return
        child.end()
        self.start()

    def close(self) -> None:
        """End it; what it had is answered as unknown."""
        child, self._child = self._child, None
        if child is not None:
            child.end()

    async def sign(self, claims: Sequence[Claim], offset: float) -> Sequence[Produced | Failed]:
        """ECDSA P-256 over SHA-256 of each claim's signed bytes, in order; see `Pkcs11Hsm.sign`.

        Args:
            claims: of keys of this module, at least one.
            offset: time.monotonic() minus Unix time, in seconds.

        """
        child = self._child
        if child is None or child.gone:
            return self._failed(claims)
        try:
            number, answer = child.ask(claims, offset)
        except BlockingIOError:
            error = busy(self._config.name)
            return [Failed(claim, error) for claim in claims]
        except OSError:
            return self._failed(claims)
        try:
            outcomes = await answer
        except OutcomeUnknown as unknown:
            return [Failed(claim, unknown) for claim in claims]
        except asyncio.CancelledError:
            child.cancel(number)
            raise
        return [
            _produced(claim, outcome) if isinstance(outcome, bytes) else Failed(claim, outcome)
            for claim, outcome in zip(claims, outcomes, strict=True)
        ]

    def _failed(self, claims: Sequence[Claim]) -> Sequence[Failed]:
        error = Unavailable(
            f"module {self._config.name}: the process with its sessions is being started again; no key was used, try again",
            rule="hsm/sessions-lost",
        )
        return [Failed(claim, error) for claim in claims]
