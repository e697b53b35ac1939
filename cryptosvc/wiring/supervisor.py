"""`cryptosvc serve`: holds the port, starts one process per worker, replaces those that die, drains them at the end.

Workers are spawned (a forked PKCS#11 session is a shared one) and listen on one port with SO_REUSEPORT. The
supervisor binds the port without listening on it, so that the port stays this service's while workers come and go.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from cryptosvc.config.settings import Settings
from cryptosvc.core.errors import Unavailable

_STEADY_SECONDS = 10.0
"""A worker that lived this long is replaced at once; one that did not waits, twice as long each time."""
_FIRST_WAIT_SECONDS = 0.2
_LONGEST_WAIT_SECONDS = 10.0
_LOOK_EVERY_SECONDS = 0.2
_DRAIN_MARGIN_SECONDS = 5.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)

_log = structlog.get_logger("cryptosvc.supervisor")


@dataclass(slots=True)
class _Slot:
    """One worker's place."""

    index: int
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    wait_seconds: float = _FIRST_WAIT_SECONDS
    start_at: float = field(default=0.0)


def supervise(config: Path, settings: Settings) -> None:
    """Run until SIGTERM or SIGINT, then drain. Unavailable: the port is taken."""
    held = _hold_port(settings.server.listen)
    host = settings.server.listen.rpartition(":")[0]
    listen = f"{host}:{held.getsockname()[1]}"
    count = settings.server.workers or os.cpu_count() or 1
    # children inherit the blocked mask; a worker unblocks once its own handlers stand, so no signal is lost
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    slots = [_Slot(index) for index in range(count)]
    ready_read, ready_write = os.pipe()
    os.set_blocking(ready_read, False)
    _log.info("serving", address=listen, workers=count, config=str(config))
    ready = 0
    try:
        while True:
            for slot in slots:
                _look_after(slot, config, listen, ready_write)
            caught = signal.sigtimedwait(_SIGNALS, _LOOK_EVERY_SECONDS)
            if caught is not None and caught.si_signo in {signal.SIGTERM, signal.SIGINT}:
                break
            if ready < count:
                ready += _count_ready(ready_read)
                if ready >= count:
                    _log.info("ready", address=listen, workers=count)
                    _notify("READY=1")
    finally:
        _notify("STOPPING=1")
        _drain(slots, settings.server.longest_deadline_seconds + _DRAIN_MARGIN_SECONDS)
        held.close()
        _log.info("stopped")


def _hold_port(listen: str) -> socket.socket:
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    held = socket.socket(family, socket.SOCK_STREAM)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        held.bind((host, int(port)))
    except OSError as error:
        held.close()
        raise Unavailable(
            f"cannot listen on {listen}: {error.strerror}; is another service there?", rule="serve/address"
        ) from None
    return held


def _look_after(slot: _Slot, config: Path, listen: str, ready: int) -> None:
    now = time.monotonic()
    if slot.process is not None:
        code = slot.process.poll()
        if code is None:
            return
        lived = now - slot.started_at
        _log.error("worker died", worker=slot.index, code=code, lived_seconds=round(lived, 1))
        slot.process = None
        slot.wait_seconds = 0.0 if lived >= _STEADY_SECONDS else max(slot.wait_seconds, _FIRST_WAIT_SECONDS)
        slot.start_at = now + slot.wait_seconds
        slot.wait_seconds = min(2 * slot.wait_seconds, _LONGEST_WAIT_SECONDS)
    if now >= slot.start_at:
        command = [sys.executable, "-m", "cryptosvc", "worker", "--config", str(config)]
        command += ["--index", str(slot.index), "--listen", listen, "--ready", str(ready)]
        slot.process = subprocess.Popen(command, pass_fds=(ready,))  # noqa: S603 - our own interpreter and module
        slot.started_at = now


def _count_ready(ready_read: int) -> int:
    try:
        return len(os.read(ready_read, 4096))
    except BlockingIOError:
        return 0


def _drain(slots: list[_Slot], within_seconds: float) -> None:
    running = [slot.process for slot in slots if slot.process is not None and slot.process.poll() is None]
    for process in running:
        process.terminate()
    until = time.monotonic() + within_seconds
    for process in running:
        try:
            process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            _log.error("worker did not drain in time and is killed", pid=process.pid)
            process.kill()
            process.wait()


def _notify(state: str) -> None:
    """Tell systemd, where it asked to be told (sd_notify protocol)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect("\0" + address[1:] if address.startswith("@") else address)
        sender.sendall(state.encode())
