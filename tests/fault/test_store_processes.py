"""Several worker processes on one store: fair shares, a race with a suspension, a worker that is killed."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from cryptosvc.adapters.store.ledger import Ledger
from cryptosvc.core.errors import Repeated
from cryptosvc.core.registry import KeyState
from tests.conftest import REPOSITORY
from tests.store_stand import CALLER, KEY, SetClock, authorised, new_database, open_stand


@contextmanager
def worker(url: str, folder: Path, what: str, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a worker and end it, however the test ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.store_worker", url, str(folder), what, name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=REPOSITORY,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            stream.close()


def heard(process: subprocess.Popen[bytes]) -> dict:
    assert process.stdout is not None
    return orjson.loads(process.stdout.readline())


def go(*processes: subprocess.Popen[bytes]) -> None:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return new_database(request.getfixturevalue("postgres_server").make_database())
    return new_database(f"sqlite:///{tmp_path}/store.db")


async def every_entry(ledger: Ledger) -> list[dict]:
    size = (await ledger.head()).size
    return [orjson.loads(entry) for entry, _ in ledger.entries(0, size)]


async def test_nothing_is_claimed_after_the_suspension_committed(url: str, tmp_path: Path) -> None:
    stand = await open_stand(url, tmp_path, first=True)
    await stand.keys.change([KEY, CALLER])
    with worker(url, tmp_path, "race:20", "a") as one, worker(url, tmp_path, "race:20", "b") as two:
        assert heard(one) == heard(two) == {"ready": True}
        go(one, two)
        while (await stand.ledger.head()).size < 60:
            assert one.poll() is None
            assert two.poll() is None
        await stand.keys.change([replace(KEY, version=2, state=KeyState.SUSPENDED)])
        found = [*heard(one)["claimed"], *heard(two)["claimed"]]
    entries = await every_entry(stand.ledger)
    signed = [entry["request_id"] for entry in entries if entry["kind"] == "use"]
    assert sorted(signed) == sorted(found)
    # leaves of uses may follow the suspension's; the claims they close may not have been made after it
    suspension = next(at for at, entry in enumerate(entries) if entry.get("state") == "suspended")
    late = [entry for entry in entries[suspension:] if entry["kind"] == "use"]
    assert len(late) <= 8
    await stand.ledger.close()


async def test_a_killed_workers_claims_are_swept_by_another(url: str, tmp_path: Path) -> None:
    clock = SetClock()
    stand = await open_stand(url, tmp_path, first=True, clock=clock)
    with worker(url, tmp_path, "die", "mortal") as mortal:
        heard(mortal)
        go(mortal)
        assert heard(mortal) == {"claimed": 3}
        mortal.kill()
        mortal.wait()
    assert await stand.ledger.maintain() == 0
    clock.at += 600_000_000_000  # the other process took its own time to start
    assert await stand.ledger.maintain() == 2
    uses = [entry for entry in await every_entry(stand.ledger) if entry["kind"] == "use"]
    assert sorted((entry["request_id"], entry["outcome"]) for entry in uses) == [
        ("left-0", "signed"),
        ("left-1", "outcome_unknown"),
        ("left-2", "outcome_unknown"),
    ]
    assert {entry["worker"] for entry in uses} == {"mortal"}
    (answer,) = await stand.ledger.claim([authorised(request_id="left-1")])
    assert isinstance(answer, Repeated)
    await stand.ledger.close()


@pytest.mark.slow
async def test_four_workers_share_sqlite_fairly(tmp_path: Path) -> None:
    url = new_database(f"sqlite:///{tmp_path}/store.db")
    stand = await open_stand(url, tmp_path, first=True)
    await stand.ledger.close()
    names = ("a", "b", "c", "d")
    with (
        worker(url, tmp_path, "load:4", "a") as a,
        worker(url, tmp_path, "load:4", "b") as b,
        worker(url, tmp_path, "load:4", "c") as c,
        worker(url, tmp_path, "load:4", "d") as d,
    ):
        processes = (a, b, c, d)
        for process in processes:
            assert heard(process) == {"ready": True}
        go(*processes)
        found = [heard(process) for process in processes]
    print(dict(zip(names, found, strict=True)))
    fair = sum(one["commits"] for one in found) / len(found)
    assert min(one["commits"] for one in found) >= fair / 2
    assert max(one["slowest"] for one in found) < 0.25
    stand = await open_stand(url, tmp_path)
    assert (await stand.ledger.head()).size == 1 + 32 * sum(one["commits"] for one in found)
    await stand.ledger.close()
