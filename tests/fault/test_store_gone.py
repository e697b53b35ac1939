"""The store dies, or its disk is full, under the whole service: no key is used meanwhile, and it recovers by itself."""

import resource
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cryptosvc.client.errors import OutcomeUnknown, Unavailable
from tests.deployment import ONCE, Deployment, make_deployment, pre_command_request
from tests.load import Load, until

CLAIM_TTL_SECONDS = 3


async def test_postgresql_killed_under_load_and_started_again(mortal_postgres, tmp_path: Path):
    deployment = make_deployment(tmp_path, store=mortal_postgres.make_database(), claim_ttl=CLAIM_TTL_SECONDS)
    load = Load(deployment)
    moments: list[float] = []

    def script() -> None:
        until(lambda: len(load.signed) > 100, 40, "the first hundred signatures")
        mortal_postgres.stop("immediate")
        moments.append(time.monotonic())
        time.sleep(1.5)
        moments.append(time.monotonic())
        mortal_postgres.start()
        moments.append(time.monotonic())
        until(lambda: any(map(is_signed, load.since(moments[2]))), 20, "the first signature after")
        until(lambda: sum(map(is_signed, load.since(moments[2]))) > 20, 30, "twenty more")

    with deployment.serving():
        public_point = deployment.public_point()
        workers = deployment.workers()
        await load.run(script, retries=ONCE)
        stopped, starting, _ = moments
        # meanwhile nothing was signed, and every answer said so
        meanwhile = [one for one in load.asked if stopped < one.sent_at and one.answered_at < starting]
        assert meanwhile
        assert not [one for one in meanwhile if is_signed(one)]
        assert {type(one.answer) for one in load.asked} <= {
            *{type(one.answer) for one in load.signed},
            Unavailable,
            OutcomeUnknown,
        }
        assert {type(one.answer) for one in meanwhile} <= {Unavailable, OutcomeUnknown}
        assert any(isinstance(one.answer, Unavailable) for one in meanwhile)
        assert deployment.workers() == workers  # it recovered; it was not replaced
        deployment.wait_swept()
        log = deployment.verified_log()
    load.require_logged(log, public_point)
    said = Counter(entry.fields["outcome"] for entry in log.uses())
    assert said["signed"] + said["outcome_unknown"] + said["unavailable"] == sum(said.values())
    # what a client was told is unknown, is not said to be undone by the log
    unknown = {one.question.request_id for one, error in load.errors if isinstance(error, OutcomeUnknown)}
    ended = {entry.fields["request_id"]: entry.fields["outcome"] for entry in log.uses()}
    assert unknown <= set(ended)
    assert {ended[request_id] for request_id in unknown} <= {"signed", "outcome_unknown"}


@pytest.fixture
def small_disk(
    tmp_path: Path,
) -> Iterator[tuple[Path, Callable[[Deployment], None], Callable[[Deployment], None]]]:
    """A small disk with the store on it; a function that fills it, one that gives space back."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("a small disk needs the right to mount; the file-size limit below needs none")
    filler = disk / "filler"

    def fill(_: Deployment) -> None:
        with filler.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(65536)):
                    pass
            except OSError:
                return

    try:
        yield disk, fill, lambda _: filler.unlink()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


async def test_a_full_disk(small_disk, tmp_path: Path):
    disk, fill, give_back = small_disk
    deployment = make_deployment(tmp_path / "deployment", store=f"sqlite:///{disk}/cryptosvc.db")
    await _no_space(deployment, fill, give_back)


def test_a_service_that_starts_on_a_full_disk_waits_for_space(small_disk, tmp_path: Path):
    disk, fill, give_back = small_disk
    deployment = make_deployment(tmp_path / "deployment", store=f"sqlite:///{disk}/cryptosvc.db")
    fill(deployment)
    try:
        deployment.launch()
        said = deployment.event("worker cannot start yet")
        assert str(said["rule"]).startswith("store/")
        time.sleep(2.5)  # it tries again every second
        give_back(deployment)
        deployment.ready()
        with deployment.client() as client:
            assert client.sign(pre_command_request(1)).signature
        assert b"worker-died" not in deployment.service_log.read_bytes()
    finally:
        deployment.stop()


async def test_a_quota(tmp_path: Path):
    """No process of the service may make a file longer than the database's files are: what a quota does."""
    deployment = make_deployment(tmp_path)

    def limit(deployment: Deployment) -> None:
        longest = max(path.stat().st_size for path in deployment.folder.glob("cryptosvc.db*"))
        for process in deployment.workers():
            resource.prlimit(process, resource.RLIMIT_FSIZE, (longest, resource.RLIM_INFINITY))

    def lift(deployment: Deployment) -> None:
        for process in deployment.workers():
            resource.prlimit(process, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    await _no_space(deployment, limit, lift)


async def _no_space(
    deployment: Deployment, fill: Callable[[Deployment], None], give_back: Callable[[Deployment], None]
) -> None:
    load = Load(deployment)
    moments: list[float] = []

    def script() -> None:
        until(lambda: len(load.signed) > 50, 40, "the first signatures")
        fill(deployment)
        until(lambda: _refused_since(load, 0.5), 30, "half a second of refusals")
        moments.append(time.monotonic())
        time.sleep(1)
        moments.append(time.monotonic())
        give_back(deployment)
        until(
            lambda: any(is_signed(one) for one in load.since(moments[1])), 30, "a signature with space again"
        )
        time.sleep(0.5)

    with deployment.serving():
        public_point = deployment.public_point()
        workers = deployment.workers()
        await load.run(script, retries=ONCE)
        full, space = moments
        meanwhile = [one for one in load.asked if full < one.sent_at and one.answered_at < space]
        assert meanwhile
        # a claim comes before every key use: where none can be written, no key moves and the answer says so
        assert {type(one.answer) for one in meanwhile} == {Unavailable}
        assert deployment.workers() == workers
        log = deployment.verified_log()
    load.require_logged(log, public_point)
    used = {entry.fields["request_id"] for entry in log.uses()}
    assert not used & {one.question.request_id for one in meanwhile}


def is_signed(one: object) -> bool:
    return not isinstance(one.answer, Exception)  # type: ignore[attr-defined]


def _refused_since(load: Load, seconds: float) -> bool:
    now = time.monotonic()
    newest = [one for one in load.asked if one.sent_at > now - seconds]
    return bool(newest) and not any(is_signed(one) for one in newest)
