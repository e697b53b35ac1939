"""A module hangs under the whole service: workers leave by themselves, others take their place, nothing is lost."""

import time
from collections import Counter
from pathlib import Path

import orjson

from cryptosvc.client.errors import OutcomeUnknown, Unavailable, Unreachable
from cryptosvc.service.supervisor import LEFT_TO_BE_REPLACED
from tests.deployment import ONCE, make_deployment
from tests.hsm_fixtures import build_slow_module
from tests.load import Load, until

CALL_SECONDS = 0.5


async def test_workers_leave_a_module_that_hangs_and_are_replaced(tmp_path: Path):
    stuck = tmp_path / "stuck"
    environment = {"SLOW_MODULE_STUCK": str(stuck), "SLOW_MODULE_SIGN_US": "1000"}
    deployment = make_deployment(
        tmp_path / "deployment", environment=environment, claim_ttl=3, call_seconds=CALL_SECONDS
    )
    deployment.token = deployment.token.with_config(library=str(build_slow_module(tmp_path)))
    deployment.configure()
    load = Load(deployment)
    moments: list[float] = []

    def script() -> None:
        until(lambda: len(load.signed) > 50, 60, "the first signatures")
        before = set(deployment.workers())
        moments.append(time.monotonic())
        stuck.touch()
        until(lambda: not before & set(deployment.workers()), 20, "other workers in their places")
        time.sleep(1)
        moments.append(time.monotonic())
        stuck.unlink()
        until(lambda: load.since(moments[1]) and load.signed[-1].sent_at > moments[1], 40, "a signature")
        time.sleep(0.5)

    try:
        with deployment.serving():
            public_point = deployment.public_point()
            await load.run(script, retries=ONCE)
            deployment.wait_swept()
            log = deployment.verified_log()
    finally:
        stuck.unlink(missing_ok=True)

    hung, back = moments
    # from then on no key moved, and every caller was told, long before it would have given up
    meanwhile = [one for one in load.asked if hung + 0.1 < one.sent_at and one.answered_at < back]
    assert {type(one.answer) for one in meanwhile} <= {Unavailable, OutcomeUnknown, Unreachable}
    said = Counter(type(error) for _, error in load.errors)
    assert said[OutcomeUnknown]
    assert set(said) <= {Unavailable, OutcomeUnknown, Unreachable}, said
    load.require_logged(log, public_point)
    ended = {entry.fields["request_id"]: entry.fields["outcome"] for entry in log.uses()}
    assert set(ended.values()) <= {"signed", "unavailable", "outcome_unknown"}
    for one, error in load.errors:
        outcome = ended.get(one.question.request_id)
        match error:
            case OutcomeUnknown():
                assert outcome == "outcome_unknown"
            case Unavailable():
                assert outcome in {None, "unavailable", "outcome_unknown"}
    assert "outcome_unknown" in ended.values()
    # they left by themselves, saying why
    lines = [
        orjson.loads(line) for line in deployment.service_log.read_bytes().splitlines() if line[:1] == b"{"
    ]
    left = [line for line in lines if line["event"] == "worker leaves"]
    assert len(left) >= 2
    assert {line["rule"] for line in left} == {"hsm/call-stuck"}
    died = [line["status"] for line in lines if line["event"] == "worker-died"]
    assert len(died) >= 2
    assert set(died) == {LEFT_TO_BE_REPLACED}
