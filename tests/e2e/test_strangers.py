"""Callers without a certificate, of another CA, expired, revoked, unknown: refused, each recorded, service unharmed."""

import grpc
import pytest

from cryptosvc.client.errors import CallError, Unidentified, Unreachable
from tests.deployment import (
    CALLERS,
    KEYS,
    ONCE,
    Deployment,
    knock,
    pre_command_request,
    prepared,
)
from tests.load import until
from tests.pki import Authority

REVOKED = """
[[callers]]
id = "revoked"
certificate = "tls/revoked.pem"
user_roles = ["IS"]
revoked = true
grants = [{ key_class = "command-signing" }]
"""


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    deployment = prepared(tmp_path_factory.mktemp("strangers") / "deployment")
    for name in ("revoked", "unknown"):
        deployment.identity(name)
    deployment.identity("expired", expired=True)
    deployment.identity("foreign", authority=Authority("somebody else's CA"))
    deployment.init(KEYS + CALLERS + REVOKED)
    with deployment.serving():
        yield deployment


def _refused(deployment: Deployment, name: str) -> CallError:
    with (
        deployment.client(name, connections=1, retries=ONCE, seconds=5.0) as client,
        pytest.raises(CallError) as refused,
    ):
        client.sign(pre_command_request(1, request_id=f"of-{name}"))
    return refused.value


def test_each_stranger_is_refused_and_recorded(deployment: Deployment):
    assert type(_refused(deployment, "expired")) is Unreachable
    assert type(_refused(deployment, "foreign")) is Unreachable
    assert _without_certificate(deployment) is grpc.StatusCode.UNAVAILABLE
    knock(deployment.port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    for name in ("revoked", "unknown"):
        error = _refused(deployment, name)
        assert type(error) is Unidentified
        assert error.code is grpc.StatusCode.UNAUTHENTICATED
        assert error.rule

    # the service is unharmed
    with deployment.client() as client:
        answer = client.sign(pre_command_request(2))

    wanted = {"expired", "untrusted", "no-certificate", "not-tls"}
    found: dict[str, int] = {}

    def every_handshake() -> bool:
        log = deployment.verified_log()
        found.clear()
        for entry in log.of_kind("handshake-failed"):
            facts = entry.fields["facts"]
            found[facts["reason"]] = found.get(facts["reason"], 0) + int(facts.get("count", "1"))
            assert "peer" in entry.withheld
        return wanted <= set(found)

    until(every_handshake, 20, "an entry for every failed handshake")
    assert found == {"expired": 1, "untrusted": 1, "no-certificate": 1, "not-tls": 1}

    log = deployment.verified_log()
    refusals = [entry.fields for entry in log.of_kind("refusal")]
    assert [fields["reason"] for fields in refusals] == ["UNIDENTIFIED", "UNIDENTIFIED"]
    rules = [fields["rule"] for fields in refusals]
    assert len(set(rules)) == 2, "a revoked caller and an unknown one are told apart in the log"
    assert {entry.fields["request_id"] for entry in log.uses()} == {answer.request_id}


def _without_certificate(deployment: Deployment) -> grpc.StatusCode:
    credentials = grpc.ssl_channel_credentials(deployment.authority.certificate)
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_retries", 0),
        ("grpc.initial_reconnect_backoff_ms", 60_000),
    ]
    address = f"127.0.0.1:{deployment.port}"
    with (
        grpc.secure_channel(address, credentials, options) as channel,
        pytest.raises(grpc.RpcError) as refused,
    ):
        channel.unary_unary("/cryptosvc.v1.CryptoService/Sign")(b"", timeout=5)
    return refused.value.code()
