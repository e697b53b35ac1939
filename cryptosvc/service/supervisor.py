"""Supervisor: starts worker processes on one port, replaces the dead, and takes them down with their work done.

Workers write to the supervisor's own standard output and error, so their logs go where its own go and nothing is lost
with a process that dies. One that dies again and again is replaced ever more slowly, and not one that dies of its
configuration for ever: where every worker fails before it has lived, the supervisor gives up and says so.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from cryptosvc.service import handshakes, metrics

_log = structlog.get_logger("cryptosvc.supervisor")

WORKER_VARIABLE = "CRYPTOSVC_WORKER"
"""Environment variable with the worker's number, from 0."""

LEFT_TO_BE_REPLACED = os.EX_TEMPFAIL
"""Exit status of a worker that cannot go on through no fault of its own, as when a call into a module hangs. It is
replaced, ever more slowly too, but however often that happens it is no reason to give up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run.

    Args:
        command: the worker's command line; `{worker}` in an argument becomes the worker's number.
        workers: how many.
        environment: added to the worker's environment.
        drain_seconds: from SIGTERM to SIGKILL, longer than the longest call.
        first_wait_seconds: before a dead worker is replaced; doubled with each death that follows soon.
        most_wait_seconds: longest such wait.
        lived_seconds: a worker that lived this long is not counted as failing.
        give_up_after: deaths in a row, over all workers, of workers that had not lived.

    """

    command: Sequence[str]
    workers: int
    environment: Mapping[str, str]
    drain_seconds: float = 60.0
    first_wait_seconds: float = 0.2
    most_wait_seconds: float = 10.0
    lived_seconds: float = 10.0
    give_up_after: int = 20


class GaveUp(Exception):
    """No worker lives long enough to serve; the last exit status is in the message."""


class Supervisor:
    """Runs the workers.

    Args:
        plan: what to run.
        metrics_directory: where workers write their metrics; None where none are kept.

    """

    def __init__(self, plan: Plan, metrics_directory: Path | None = None) -> None:
        self._plan = plan
        self._metrics_directory = metrics_directory
        self._stopping = asyncio.Event()
        self._failures = 0
        self._gave_up = ""
        self._processes: dict[int, asyncio.subprocess.Process] = {}

    @property
    def process_ids(self) -> Mapping[int, int]:
        """Process id by worker number, of workers that run now."""
        return {number: process.pid for number, process in self._processes.items()}

    def stop(self) -> None:
        """Begin to drain, as SIGTERM does."""
        self._stopping.set()

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT, then drain.

        Raises:
            GaveUp: the workers do not live.

        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        try:
            async with asyncio.TaskGroup() as group:
                for worker in range(self._plan.workers):
                    group.create_task(self._keep(worker))
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
        if self._gave_up:
            raise GaveUp(self._gave_up)

    async def _keep(self, worker: int) -> None:
        """Keep one worker running."""
        wait = self._plan.first_wait_seconds
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            started = loop.time()
            process = await self._spawn(worker)
            status = await self._until_dead_or_stopped(process)
            self._processes.pop(worker, None)
            if self._metrics_directory is not None:
                metrics.forget_process(self._metrics_directory, process.pid)
            if self._stopping.is_set():
                return
            lived = loop.time() - started >= self._plan.lived_seconds
            _log.error("worker-died", worker=worker, process=process.pid, status=status, lived=lived)
            wait = self._plan.first_wait_seconds if lived else min(2 * wait, self._plan.most_wait_seconds)
            self._count_failure(status, lived=lived)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait)

    async def _spawn(self, worker: int) -> asyncio.subprocess.Process:
        environment = {
            **os.environ,
            **handshakes.ENVIRONMENT,
            **self._plan.environment,
            WORKER_VARIABLE: str(worker),
        }
        if self._metrics_directory is not None:
            environment[metrics.DIRECTORY_VARIABLE] = os.fspath(self._metrics_directory)
        command = [argument.replace("{worker}", str(worker)) for argument in self._plan.command]
        # Its standard input is a pipe nobody writes to: its end tells the worker that the supervisor is gone.
        # A session of its own, so that a terminal's Ctrl-C reaches the supervisor only, which then drains.
        process = await asyncio.create_subprocess_exec(
            *command, env=environment, stdin=asyncio.subprocess.PIPE, start_new_session=True
        )
        self._processes[worker] = process
        _log.info("worker-started", worker=worker, process=process.pid)
        return process

    async def _until_dead_or_stopped(self, process: asyncio.subprocess.Process) -> int:
        dead = asyncio.ensure_future(process.wait())
        stop = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((dead, stop), return_when=asyncio.FIRST_COMPLETED)
            if not dead.done():
                process.terminate()
                await asyncio.wait((dead,), timeout=self._plan.drain_seconds)
            if not dead.done():
                _log.error("worker-killed", process=process.pid, after_seconds=self._plan.drain_seconds)
                process.kill()
            return await dead
        finally:
            stop.cancel()
            dead.cancel()

    def _count_failure(self, status: int, *, lived: bool) -> None:
        if status == LEFT_TO_BE_REPLACED:
            return
        self._failures = 0 if lived else self._failures + 1
        if self._failures >= self._plan.give_up_after:
            self._gave_up = f"workers die as soon as they start; the last one ended with status {status}"
            self._stopping.set()


def reserve_port(host: str, port: int) -> socket.socket:
    """Bind, but do not listen on, the port that the workers will share, so that they all get the same one.

    Args:
        host: an address of this machine.
        port: 0 for any free one; read the choice from the socket's name.

    Returns:
        A socket to be kept open while workers run. As it does not listen, no connection is ever given to it.

    Raises:
        OSError: another program has the port.

    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    reserved = socket.socket(family, socket.SOCK_STREAM)
    try:
        if port:
            # Without SO_REUSEPORT first: it would let us share the port with a stranger who set it too.
            with socket.socket(family, socket.SOCK_STREAM) as alone:
                alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                alone.bind((host, port))
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind((host, port))
    except OSError:
        reserved.close()
        raise
    return reserved


async def supervisor_gone() -> None:
    """For a worker: wait until the supervisor is no more, however it died; then the worker should drain and end."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


def worker_command(*arguments: str) -> tuple[str, ...]:
    """The usual command line of a worker: this interpreter, this package, `worker`, and more arguments."""
    return (sys.executable, "-m", "cryptosvc", "worker", *arguments)
