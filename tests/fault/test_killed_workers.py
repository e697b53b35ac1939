"""Kill -9 at every step of the corridor, under load, on both engines: nothing a client was told is lost."""

import time
from collections import Counter
from pathlib import Path

import pytest

from cryptosvc.client.errors import Repeated, Unreachable
from cryptosvc.client.retries import Retries
from tests.deployment import Deployment, Log, make_deployment
from tests.load import Load, until
from tests.mortal_service import STEPS

CLAIM_TTL_SECONDS = 3
CLAIMED = ("claim-after-commit", "perform", "performed", "check", "record-before-commit")
"""A worker that dies there leaves open claims."""


@pytest.fixture(params=["sqlite", "postgres"])
def deployment(request: pytest.FixtureRequest, tmp_path: Path) -> Deployment:
    store = "sqlite:///cryptosvc.db"
    if request.param == "postgres":
        store = request.getfixturevalue("postgres_server").make_database()
    return make_deployment(tmp_path, store=store, workers=4, claim_ttl=CLAIM_TTL_SECONDS)


@pytest.mark.slow
async def test_a_worker_killed_at_each_step_loses_nothing(deployment: Deployment):
    load = Load(deployment)
    deaths = deployment.folder / "deaths"
    deaths.mkdir()

    def script() -> None:
        # eleven starts of a worker, one after another where cores are few and other tests have them too
        until(lambda: len(list(deaths.glob("died-*"))) == len(STEPS), 300, "every death")
        time.sleep(1)

    command = ("-m", "tests.mortal_service", str(deployment.config), str(deaths), *STEPS)
    with deployment.serving(*command):
        public_point = deployment.public_point()
        await load.run(script, pause=0.02, retries=Retries(attempts=8))
        assert len(deployment.workers()) == 4
        deployment.wait_swept()
        log = deployment.verified_log()

    assert {path.name for path in deaths.glob("died-*")} == {f"died-{step}" for step in STEPS}
    load.require_logged(log, public_point)
    every_claim_ended_once(deployment, log)
    # what clients saw of it: answers lost with a connection, and request ids met again
    kinds = Counter(type(error) for _, error in load.errors)
    assert set(kinds) <= {Repeated, Unreachable}, kinds
    outcomes = Counter(entry.fields["outcome"] for entry in log.uses())
    assert set(outcomes) == {"signed", "outcome_unknown"}
    assert outcomes["outcome_unknown"] >= len(CLAIMED)
    # a Repeated without a receipt was still open then; by now each request that was ever claimed has an end
    ended = {entry.fields["request_id"] for entry in log.uses()}
    for one, error in load.errors:
        if isinstance(error, Repeated):
            assert one.question.request_id in ended


def every_claim_ended_once(deployment: Deployment, log: Log) -> None:
    """Each claim in the database has the leaf of a use of its own."""
    closed, still_open = deployment.claims()
    assert still_open == 0, deployment.open_claims()
    assert len(set(closed)) == len(closed)
    uses = {entry.leaf_index: entry.fields for entry in log.of_kind("use")}
    swept_before = {fields["after_leaf"] for fields in uses.values() if "after" in fields}
    # a checkpoint may be signed after the export's own
    assert {leaf for leaf in closed if leaf < len(log.entries)} | swept_before == set(uses)
