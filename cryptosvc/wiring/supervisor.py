"""`cryptosvc serve`: holds the port, starts one process per worker, replaces those that die, drains them at the end.

Workers are spawned (a forked PKCS#11 session is a shared one) and listen on one port with SO_REUSEPORT. The
supervisor binds the port without listening on it, so that the port stays this service's while workers come and go.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from cryptosvc.config.settings import Settings
from cryptosvc.core.errors import Unavailable
from cryptosvc.service import handshakes, metrics

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
    _log.info("serving", address=listen, workers=count, config=str(config))
    with tempfile.TemporaryDirectory(prefix="cryptosvc-metrics-") as folder:
        crew = _Crew(config, listen, count, Path(folder))
        _expose_metrics(settings, Path(folder))
        try:
            _watch(crew)
        finally:
            _notify("STOPPING=1")
            crew.drain(settings.server.longest_deadline_seconds + _DRAIN_MARGIN_SECONDS)
            held.close()
    _log.info("stopped")


def _watch(crew: "_Crew") -> None:
    told = False
    while True:
        crew.look_after()
        caught = signal.sigtimedwait(_SIGNALS, _LOOK_EVERY_SECONDS)
        if caught is not None and caught.si_signo in {signal.SIGTERM, signal.SIGINT}:
            return
        if not told and crew.ready():
            told = True
            _log.info("ready", address=crew.listen)
            _notify("READY=1")


def _expose_metrics(settings: Settings, folder: Path) -> None:
    if settings.server.metrics is None:
        return
    host, _, port = settings.server.metrics.rpartition(":")
    try:
        metrics.expose(folder, host.strip("[]"), int(port))
    except OSError as error:
        raise Unavailable(
            f"cannot listen on {settings.server.metrics} for metrics: {error.strerror}", rule="serve/metrics"
        ) from None
    _log.info("metrics", address=settings.server.metrics)


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


class _Crew:
    """The worker processes.

    Args:
        config: configuration file, for the workers to read.
        listen: HOST:PORT as it is held.
        count: how many.
        metrics_folder: where they leave their metrics.

    """

    def __init__(self, config: Path, listen: str, count: int, metrics_folder: Path) -> None:
        self.listen = listen
        self._config = config
        self._metrics_folder = metrics_folder
        self._slots = [_Slot(index) for index in range(count)]
        self._ready_read, self._ready_write = os.pipe()
        os.set_blocking(self._ready_read, False)
        self._ready = 0

    def ready(self) -> bool:
        """Whether as many workers as there are places have said that they serve."""
        with suppress(BlockingIOError):
            self._ready += len(os.read(self._ready_read, 4096))
        return self._ready >= len(self._slots)

    def look_after(self) -> None:
        """Replace those that died, and start those whose time has come."""
        now = time.monotonic()
        for slot in self._slots:
            if slot.process is not None and (code := slot.process.poll()) is not None:
                self._bury(slot, slot.process.pid, code, now)
            if slot.process is None and now >= slot.start_at:
                slot.process = self._start(slot.index)
                slot.started_at = now

    def drain(self, within_seconds: float) -> None:
        """Ask all to stop, wait, and kill those that do not."""
        running = [slot.process for slot in self._slots if slot.process is not None]
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

    def _start(self, index: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "cryptosvc", "worker", "--config", str(self._config)]
        command += ["--index", str(index), "--listen", self.listen, "--ready", str(self._ready_write)]
        return subprocess.Popen(command, pass_fds=(self._ready_write,), env=self._environment())  # noqa: S603 - our own interpreter and module

    def _environment(self) -> Mapping[str, str]:
        return {**os.environ, **handshakes.ENVIRONMENT, metrics.DIRECTORY_VARIABLE: str(self._metrics_folder)}

    def _bury(self, slot: _Slot, process_id: int, code: int, now: float) -> None:
        lived = now - slot.started_at
        _log.error("worker died", worker=slot.index, code=code, lived_seconds=round(lived, 1))
        metrics.forget_process(self._metrics_folder, process_id)
        slot.process = None
        if lived >= _STEADY_SECONDS:
            slot.wait_seconds = _FIRST_WAIT_SECONDS
            slot.start_at = now
        else:
            slot.start_at = now + slot.wait_seconds
            slot.wait_seconds = min(2 * slot.wait_seconds, _LONGEST_WAIT_SECONDS)


def _notify(state: str) -> None:
    """Tell systemd, where it asked to be told (sd_notify protocol)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect("\0" + address[1:] if address.startswith("@") else address)
        sender.sendall(state.encode())
