"""The module dies under the whole service (a p11-kit server killed) and comes back: nothing is lost, it recovers by itself."""

import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import grpc
import orjson
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from cryptosvc.client.errors import OutcomeUnknown, Unavailable
from cryptosvc.service.crypto import SERVICE
from tests.deployment import ONCE, Deployment, make_deployment, pre_command_request
from tests.hsm_fixtures import DyingHsm
from tests.load import Load, until

BACK_WITHIN_SECONDS = 20.0
"""Back-off while it is away may have reached 5 s; the rest is for a busy machine."""
SETTLED_SECONDS = 0.3
CALL_SECONDS = 2.0
"""A call into the module that does not return is answered then, long before the callers' deadlines: so that no caller
has to say of a call that its time ran out."""


async def test_the_module_dies_under_load_and_comes_back(tmp_path_factory, tmp_path: Path):
    deployment = make_deployment(tmp_path, claim_ttl=3, call_seconds=CALL_SECONDS)
    # a socket's path must be short
    own = deployment.token
    module = DyingHsm(replace(own, folder=tmp_path_factory.mktemp("p")))
    deployment.environment["P11_KIT_SERVER_ADDRESS"] = module.address
    deployment.token = replace(own, config=module.token.config)
    deployment.configure()
    load = Load(deployment)
    moments: list[float] = []

    def known_to_be_gone() -> bool:
        """Every answer of late says so: each worker has met the loss."""
        newest = load.since(time.monotonic() - SETTLED_SECONDS)
        return len(newest) > 5 and all(isinstance(one.answer, Unavailable) for one in newest)

    def script() -> None:
        until(lambda: len(load.signed) > 100, 60, "the first hundred signatures")
        module.kill()
        moments.append(time.monotonic())
        until(known_to_be_gone, 20, "nothing but Unavailable")
        moments.append(time.monotonic())
        time.sleep(1)
        moments.append(time.monotonic())
        module.start()
        until(
            lambda: any(one.sent_at > moments[2] for one in load.signed),
            BACK_WITHIN_SECONDS,
            "a signature with the module back",
        )
        time.sleep(0.5)

    module.start()
    try:
        with deployment.serving():
            public_point = deployment.public_point()
            workers = deployment.workers()
            await load.run(script, retries=ONCE)
            deployment.wait_swept()
            require_left_only_stuck(deployment, workers)
            log = deployment.verified_log()
    finally:
        module.kill()

    killed, noticed, back = moments
    assert not [one for one in load.signed if killed < one.sent_at and one.answered_at < back]
    meanwhile = [one for one in load.asked if noticed < one.sent_at and one.answered_at < back]
    assert meanwhile
    assert {type(one.answer) for one in meanwhile} == {Unavailable}
    said = Counter(type(error) for _, error in load.errors)
    assert set(said) <= {Unavailable, OutcomeUnknown}, said
    load.require_logged(log, public_point)
    # what was in the module when it died is unknown, in the answer and in the log; the rest was known not to be done
    ended = {entry.fields["request_id"]: entry.fields["outcome"] for entry in log.uses()}
    for one, error in load.errors:
        outcome = ended.get(one.question.request_id, "unavailable")
        assert outcome in {"unavailable", "outcome_unknown"}
        if isinstance(error, OutcomeUnknown):
            assert outcome == "outcome_unknown"
    assert set(ended.values()) <= {"signed", "unavailable", "outcome_unknown"}


def require_left_only_stuck(deployment: Deployment, workers: list[int]) -> None:
    """Every worker recovered in its place, save one whose call p11-kit's client left waiting for ever."""
    lines = [
        orjson.loads(line) for line in deployment.service_log.read_bytes().splitlines() if line[:1] == b"{"
    ]
    left = [line["rule"] for line in lines if line["event"] == "worker leaves"]
    assert set(left) <= {"hsm/call-stuck"}
    assert len(set(workers) - set(deployment.workers())) <= len(left)


def test_a_service_that_starts_while_the_module_is_away_says_so_and_recovers(
    tmp_path_factory, tmp_path: Path
):
    deployment = make_deployment(tmp_path, call_seconds=CALL_SECONDS)
    own = deployment.token
    module = DyingHsm(replace(own, folder=tmp_path_factory.mktemp("p")))
    deployment.environment["P11_KIT_SERVER_ADDRESS"] = module.address
    deployment.token = replace(own, config=module.token.config)
    deployment.configure()
    try:
        deployment.launch()
        said = deployment.event("worker cannot start yet")
        assert str(said["rule"]).startswith("hsm/")
        deployment.port = int(str(deployment.event("serving")["address"]).rpartition(":")[2])
        until(lambda: health(deployment) == {HealthCheckResponse.NOT_SERVING}, 20, "an answer")
        with deployment.client(retries=ONCE) as client:
            with pytest.raises(Unavailable) as caught:
                client.sign(pre_command_request(1))
            assert caught.value.rule.startswith("hsm/")
            with pytest.raises(Unavailable):
                list(client.sign_stream([pre_command_request(2)]))
        module.start()
        deployment.ready()
        until(lambda: health(deployment) == {HealthCheckResponse.SERVING}, 20, "health")
        with deployment.client() as client:
            answer = client.sign(pre_command_request(1))
        assert b"worker-died" not in deployment.service_log.read_bytes()
        log = deployment.verified_log()
        log.require_holds(
            pre_command_request(1, request_id=answer.request_id), answer, deployment.public_point()
        )
        # what was answered meanwhile used no key
        assert [entry.fields["request_id"] for entry in log.uses()] == [answer.request_id]
    finally:
        deployment.stop()
        module.kill()


def health(deployment: Deployment) -> set[int]:
    """What health says of signing, on connections enough to meet every worker; empty where nobody answers."""
    found = set()
    target = deployment.target("auditor")
    for number in range(8):
        options = [*target.options(), ("test.channel", number)]
        with grpc.secure_channel(target.address, target.credentials(), options) as channel:
            ask = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                HealthCheckRequest.SerializeToString,
                HealthCheckResponse.FromString,
            )
            try:
                found.add(ask(HealthCheckRequest(service=SERVICE), timeout=5).status)
            except grpc.RpcError:
                return set()
    return found
