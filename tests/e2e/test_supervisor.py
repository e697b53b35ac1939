"""The supervisor with real processes: replaces the dead, drains the living, gives up on the hopeless."""

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from cryptosvc.service.supervisor import (
    LEFT_TO_BE_REPLACED,
    WORKER_VARIABLE,
    GaveUp,
    Plan,
    Supervisor,
    reserve_port,
)
from tests.service_stand import until

WORKER = f"""
import asyncio, os, pathlib, signal, sys
from cryptosvc.service.supervisor import supervisor_gone

async def main():
    folder, number = pathlib.Path(sys.argv[1]), os.environ["{WORKER_VARIABLE}"]
    assert sys.argv[2] == number and os.environ["GRPC_TRACE"] == "handshaker"
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    gone = asyncio.ensure_future(supervisor_gone())
    (folder / f"started-{{number}}-{{os.getpid()}}").touch()
    done, _ = await asyncio.wait((gone, asyncio.ensure_future(stop.wait())), return_when=asyncio.FIRST_COMPLETED)
    await asyncio.sleep(0.1)
    (folder / f"{{'orphaned' if gone in done else 'drained'}}-{{number}}-{{os.getpid()}}").touch()

asyncio.run(main())
"""


def _plan(folder: Path, code: str = WORKER, **changes: object) -> Plan:
    fields: dict[str, object] = {
        "command": (sys.executable, "-c", code, str(folder), "{worker}"),
        "workers": 2,
        "environment": {},
        "first_wait_seconds": 0.05,
        "drain_seconds": 5.0,
    }
    return Plan(**(fields | changes))


def _names(folder: Path, kind: str) -> list[str]:
    return sorted(path.name for path in folder.glob(f"{kind}-*"))


async def test_a_dead_worker_is_replaced_and_all_are_drained_at_the_end(tmp_path: Path):
    supervisor = Supervisor(_plan(tmp_path))
    running = asyncio.ensure_future(supervisor.run())
    await until(lambda: len(_names(tmp_path, "started")) == 2)
    before = dict(supervisor.process_ids)
    os.kill(before[1], signal.SIGKILL)
    await until(lambda: len(_names(tmp_path, "started")) == 3)
    after = dict(supervisor.process_ids)
    assert after[0] == before[0]
    assert after[1] != before[1]
    supervisor.stop()
    await asyncio.wait_for(running, 10)
    assert _names(tmp_path, "drained") == [f"drained-{number}-{pid}" for number, pid in sorted(after.items())]


async def test_sigterm_drains(tmp_path: Path):
    supervisor = Supervisor(_plan(tmp_path))
    running = asyncio.ensure_future(supervisor.run())
    await until(lambda: len(_names(tmp_path, "started")) == 2)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(running, 10)
    assert len(_names(tmp_path, "drained")) == 2


async def test_a_worker_that_does_not_drain_is_killed(tmp_path: Path):
    code = (
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "(pathlib.Path(sys.argv[1]) / 'started-x').touch()\n"
        "time.sleep(60)\n"
    )
    supervisor = Supervisor(_plan(tmp_path, code, workers=1, drain_seconds=0.3))
    running = asyncio.ensure_future(supervisor.run())
    await until(lambda: bool(_names(tmp_path, "started")))
    supervisor.stop()
    await asyncio.wait_for(running, 10)
    assert not supervisor.process_ids


async def test_workers_that_never_live_end_the_supervisor_with_their_status(tmp_path: Path):
    plan = _plan(
        tmp_path, "raise SystemExit(7)", first_wait_seconds=0.01, most_wait_seconds=0.02, give_up_after=4
    )
    with pytest.raises(GaveUp, match="7"):
        await asyncio.wait_for(Supervisor(plan).run(), 20)


async def test_workers_that_leave_to_be_replaced_are_however_often(tmp_path: Path):
    code = (
        "import os, pathlib, sys\n"
        "(pathlib.Path(sys.argv[1]) / f'started-{os.getpid()}').touch()\n"
        f"raise SystemExit({LEFT_TO_BE_REPLACED})\n"
    )
    plan = _plan(tmp_path, code, first_wait_seconds=0.01, most_wait_seconds=0.02, give_up_after=2)
    supervisor = Supervisor(plan)
    running = asyncio.ensure_future(supervisor.run())
    await until(lambda: len(_names(tmp_path, "started")) > 6)
    supervisor.stop()
    await asyncio.wait_for(running, 10)


async def test_workers_notice_that_the_supervisor_was_killed(tmp_path: Path):
    code = (
        "import asyncio, sys\n"
        "from cryptosvc.service.supervisor import Plan, Supervisor\n"
        f"command = (sys.executable, '-c', {WORKER!r}, {str(tmp_path)!r}, '{{worker}}')\n"
        "asyncio.run(Supervisor(Plan(command=command, workers=1, environment={})).run())\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    await until(lambda: bool(_names(tmp_path, "started")))
    process.kill()
    await process.wait()
    await until(lambda: bool(_names(tmp_path, "orphaned")))


def test_a_reserved_port_is_shared_by_workers_and_refused_where_another_has_it():
    with reserve_port("127.0.0.1", 0) as reserved:
        port = reserved.getsockname()[1]
        with socket.socket() as worker:
            worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            worker.bind(("127.0.0.1", port))
            worker.listen()
            with socket.create_connection(("127.0.0.1", port), timeout=2):
                pass
        with pytest.raises(OSError, match="in use"):
            reserve_port("127.0.0.1", port)
