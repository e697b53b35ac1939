"""`cryptosvc serve`: holds the port, runs the workers (`service/supervisor.py`), tells systemd when all of them serve."""

import asyncio
import os
import socket
import tempfile
from pathlib import Path

import structlog

from cryptosvc.config.settings import Settings
from cryptosvc.core.errors import Unavailable
from cryptosvc.service import metrics
from cryptosvc.service.supervisor import GaveUp, Plan, Supervisor, reserve_port, worker_command
from cryptosvc.wiring import profiles, review, worker
from cryptosvc.wiring.process import allocator_settings

_DRAIN_MARGIN_SECONDS = 5.0
_LOOK_EVERY_SECONDS = 0.05
_log = structlog.get_logger("cryptosvc.supervisor")


def supervise(config: Path, settings: Settings) -> None:
    """Run until SIGTERM or SIGINT, then drain.

    Raises:
        Malformed: a file that the configuration names is not what it should be; no worker is started then.
        Unavailable: an address is taken, or no worker lives long enough to serve.

    """
    proven = _look_before(settings)
    address = settings.server.listen
    host, _, port = address.rpartition(":")
    try:
        reserved = reserve_port(host.strip("[]"), int(port))
    except OSError as error:
        raise Unavailable(
            f"cannot listen on {address}: {error.strerror}; is another service there?", rule="serve/address"
        ) from None
    with reserved, tempfile.TemporaryDirectory(prefix="cryptosvc-") as runtime:
        _expose_metrics(settings, Path(runtime))
        listen = f"{host}:{reserved.getsockname()[1]}"
        asyncio.run(_run(config, settings, listen, Path(runtime), proven))
    _log.info("stopped")


def _look_before(settings: Settings) -> str:
    """What every worker would fail by is said once, here, and not by each of them again and again.

    Returns:
        Digest of the policies that were held under the ceiling: the proof takes seconds, and is not repeated in every
        worker, but only where it finds other policies than these.

    """
    worker.endpoint(settings, settings.server.listen)
    profiles.profiles(settings)
    return review.load(settings.policy.folder).digest


async def _run(config: Path, settings: Settings, listen: str, runtime: Path, proven: str) -> None:
    workers = settings.server.workers or os.cpu_count() or 1
    arguments = (
        "--config",
        str(config),
        "--listen",
        listen,
        "--index",
        "{worker}",
        "--ready",
        str(runtime / "ready-{worker}"),
        "--proven",
        proven,
    )
    plan = Plan(
        command=worker_command(*arguments),
        workers=workers,
        environment=allocator_settings(os.environ.get("GLIBC_TUNABLES", "")),
        drain_seconds=settings.server.longest_deadline_seconds + _DRAIN_MARGIN_SECONDS,
    )
    _log.info("serving", address=listen, workers=workers, config=str(config))
    telling = asyncio.create_task(_tell_ready(runtime, workers, listen))
    try:
        await Supervisor(plan, runtime).run()
    except GaveUp as error:
        raise Unavailable(
            f"{error}; the lines above say why, and so does: cryptosvc doctor --config {config}",
            rule="serve/gave-up",
        ) from None
    finally:
        telling.cancel()


async def _tell_ready(runtime: Path, workers: int, listen: str) -> None:
    while _ready(runtime) < workers:  # noqa: ASYNC110 - it is other processes that are waited for
        await asyncio.sleep(_LOOK_EVERY_SECONDS)
    _log.info("ready", address=listen, workers=workers)
    _notify("READY=1")


def _ready(runtime: Path) -> int:
    return sum(1 for _ in runtime.glob("ready-*"))


def _expose_metrics(settings: Settings, runtime: Path) -> None:
    if settings.server.metrics is None:
        return
    host, _, port = settings.server.metrics.rpartition(":")
    try:
        metrics.expose(runtime, host.strip("[]"), int(port))
    except OSError as error:
        raise Unavailable(
            f"cannot listen on {settings.server.metrics} for metrics: {error.strerror}", rule="serve/metrics"
        ) from None
    _log.info("metrics", address=settings.server.metrics)


def _notify(state: str) -> None:
    """Tell systemd, where it asked to be told (sd_notify protocol)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect("\0" + address[1:] if address.startswith("@") else address)
        sender.sendall(state.encode())
