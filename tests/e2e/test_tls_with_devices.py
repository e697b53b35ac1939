"""TLS with SMETS1 Devices over a running service: OpenSSL completes every handshake on its signatures, by a key of its module."""

from pathlib import Path

import pytest

from cryptosvc.client.errors import CallError, Conflict, InvalidRequest, NotPermitted
from cryptosvc.client.messages import request
from tests.deployment import make_deployment
from tests.tls_parties import OURS, SCENARIOS, key_record, of_point, performed

KEYS = f"""\
[[keys]]
id = "{OURS}"
class = "tls"

[[callers]]
id = "head-end"
certificate = "tls/head-end.pem"
grants = [{{ operation = "sign", key_class = "tls" }}]
"""


def test_openssl_completes_on_what_the_service_signs(tmp_path: Path) -> None:
    deployment = make_deployment(tmp_path, workers=1)
    deployment.configure()
    deployment.identity("head-end")
    deployment.init(KEYS)
    asked: list[tuple[str, bytes]] = []
    with deployment.serving(), deployment.client("head-end") as client:
        point = client.get_key(OURS).public_point
        certificate = of_point(point)

        def sign(form: str, payload: bytes) -> bytes:
            asked.append((form, payload))
            answer = client.sign(request(OURS, **{form: payload}))  # type: ignore[arg-type]  # one content by its name
            assert answer.clause == "G2.44(d)"
            return answer.artefact

        for name in SCENARIOS:
            stack = performed(name, sign, certificate)
            assert stack.them.getpeercert(binary_form=True) == certificate
        assert len(asked) == len(SCENARIOS)
        # 2 another certificate in the transcript, a transcript cut short, a digest, another form, a random once more
        form, transcript = asked[-1]
        exchange = asked[0][1]
        another = key_record("another").public_point
        for content, expected in (
            ({form: transcript.replace(point, another)}, NotPermitted),
            ({form: transcript[:-1]}, InvalidRequest),
            ({form: bytes(32)}, InvalidRequest),
            ({"gbcs_pre_command": transcript}, InvalidRequest),
            ({"tls_server_key_exchange": exchange[:-65] + point}, Conflict),
        ):
            with pytest.raises(CallError) as caught:
                client.sign(request(OURS, **content))
            assert isinstance(caught.value, expected), caught.value
    log = deployment.verified_log()
    uses = log.uses(OURS)
    assert [one.fields["outcome"] for one in uses] == ["signed"] * len(SCENARIOS)
    assert {one.fields["content_kind"] for one in uses} == {"tls-handshake"}
