"""Whoever has no protos: reflection alone is enough to sign, and what README.md shows of grpcurl does what it says."""

import base64
import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from google.protobuf import json_format

from tests.grpcurl import STATUS_EXIT, Reflected, main, reflected

pytestmark = pytest.mark.xdist_group("quickstart")

REPOSITORY = Path(__file__).resolve().parents[2]
SIGN = "cryptosvc.v1.CryptoService/Sign"
EXPLAIN = "cryptosvc.v1.CryptoService/Explain"
HEALTH = "grpc.health.v1.Health/Check"
USER = "90-B3-D5-1F-30-01-00-00"


@pytest.fixture
def service(quickstart) -> Iterator[Reflected]:
    tls = quickstart.folder / "tls"
    target = quickstart.environment["CRYPTOSVC_TARGET"]
    with reflected(target, tls / "ca.pem", tls / "supplier.pem", tls / "supplier.key") as found:
        yield found


@pytest.fixture
def pre_command(quickstart) -> bytes:
    return (quickstart.folder / "signed" / "pre-command.bin").read_bytes()


def question(payload: bytes, **changes: str) -> str:
    """A SignRequest as JSON."""
    asked = {
        "request_id": str(uuid.uuid4()),
        "key_id": "supplier-signing",
        "service_reference_variant": "7.2",
        "user_id": USER,
        "user_role": "IS",
        "gbcs_pre_command": base64.b64encode(payload).decode(),
    }
    return json.dumps(asked | changes)


def require_signed(quickstart, answer: dict, payload: bytes) -> None:
    signature = base64.b64decode(answer["signature"])
    pem = (quickstart.folder / "pki" / "supplier-signing.pem").read_bytes()
    key = x509.load_pem_x509_certificate(pem).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    der = encode_dss_signature(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
    key.verify(der, payload[1:-1], ec.ECDSA(hashes.SHA256()))  # raises where it is not
    assert base64.b64decode(answer["artefact"]) == payload[:-1] + b"\x40" + signature
    assert answer["clause"] == "G2.56"


def test_a_caller_without_protos_asks_for_health_explains_and_signs(quickstart, service, pre_command):
    assert set(service.services()) >= {
        "cryptosvc.v1.AuditService",
        "cryptosvc.v1.CryptoService",
        "cryptosvc.v1.KeyService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    for name in ("", "cryptosvc.v1.CryptoService", "cryptosvc.v1.KeyService", "cryptosvc.v1.AuditService"):
        assert service.call(HEALTH, json.dumps({"service": name})) == {"status": "SERVING"}
    explained = service.call(EXPLAIN, question(pre_command))
    assert (explained["permitted"], explained["content_kind"]) == (True, "gbcs-pre-command")
    refused = service.call(EXPLAIN, question(pre_command, service_reference_variant="7.1"))
    assert "permitted" not in refused
    assert refused["refusal"]["details"][0]["metadata"]["rule"] == "gbcs/service-reference-variant"
    require_signed(quickstart, service.call(SIGN, question(pre_command)), pre_command)
    (frame,) = service.stream(
        "cryptosvc.v1.CryptoService/SignStream", [f'{{"requests": [{question(pre_command)}]}}']
    )
    require_signed(quickstart, frame["results"][0]["signed"], pre_command)


def test_a_refusal_is_readable_by_reflection_as_well(service, pre_command):
    with pytest.raises(grpc.RpcError) as refused:
        service.call(SIGN, question(pre_command, user_role="GS"))
    status = service.status(refused.value)
    assert status["code"] == "PERMISSION_DENIED"
    by_type = {detail["@type"].rpartition("/")[2]: detail for detail in status["details"]}
    assert by_type["google.rpc.ErrorInfo"]["metadata"]["rule"] == "caller/user-role"
    assert by_type["google.rpc.BadRequest"]["field_violations"][0]["field"] == "user_role"


def test_every_method_of_every_service_can_be_described(service):
    described = {name: service.described(name) for name in service.services()}
    methods = {f"{name}/{method['name']}" for name, one in described.items() for method in one["method"]}
    assert {SIGN, EXPLAIN, HEALTH, "cryptosvc.v1.AuditService/ProveInclusion"} <= methods
    for method in methods:
        assert service.request(method, "{}").ByteSize() == 0
    fields = {field["name"] for field in service.described("cryptosvc.v1.SignRequest")["field"]}
    assert {"request_id", "key_id", "gbcs_pre_command", "duis_document"} <= fields
    assert not {field for field in fields if "digest" in field or "raw" in field}
    with pytest.raises(json_format.ParseError):
        service.request(SIGN, '{"digest": "AAAA"}')


def _readme_commands() -> str:
    """The shell lines of README.md that use grpcurl."""
    text = (REPOSITORY / "README.md").read_text()
    (block,) = [block for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) if "grpcurl" in block]
    # nowhere else is it shown where nothing would hold it
    elsewhere = [path for path in (REPOSITORY / "docs").rglob("*.md") if "grpcurl -" in path.read_text()]
    assert elsewhere == []
    assert len(re.findall(r"grpcurl [-$]", text)) == len(re.findall(r"^grpcurl ", block, re.MULTILINE))
    return block


def test_what_the_readme_shows_works_as_it_stands(quickstart, pre_command, tmp_path):
    commands = _readme_commands()
    (tmp_path / ".quickstart").symlink_to(quickstart.folder)
    (tmp_path / "bin").mkdir()
    stand_in = tmp_path / "bin" / "grpcurl"
    stand_in.write_text(f'#!/bin/sh\nPYTHONPATH={REPOSITORY} exec {sys.executable} -m tests.grpcurl "$@"\n')
    stand_in.chmod(0o755)

    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    *listed, described, healthy, explained, signed = done.stdout.splitlines()
    assert "cryptosvc.v1.CryptoService" in listed
    assert {method["name"] for method in json.loads(described)["method"]} >= {"Sign", "Explain"}
    assert json.loads(healthy) == {"status": "SERVING"}
    assert json.loads(explained)["permitted"] is True
    require_signed(quickstart, json.loads(signed), pre_command)


def test_the_version_of_reflection_that_grpcurl_tries_first_is_said_not_to_be_there(quickstart):
    tls, target = quickstart.folder / "tls", quickstart.environment["CRYPTOSVC_TARGET"]
    credentials = grpc.ssl_channel_credentials(
        *((tls / name).read_bytes() for name in ("ca.pem", "supplier.key", "supplier.pem"))
    )
    with grpc.secure_channel(target, credentials) as channel:
        newer = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
        with pytest.raises(grpc.RpcError) as refused:
            list(newer(iter([b"\x3a\x00"]), timeout=10))
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED  # then it asks for v1alpha


@pytest.mark.parametrize(
    ("body", "words", "code", "said"),
    [
        ("{}", (SIGN,), STATUS_EXIT + 3, "INVALID_ARGUMENT"),
        ('{"digest": "AAAA"}', (SIGN,), 1, "digest"),
        ("{}", ("cryptosvc.v1.CryptoService/SignDigest",), 1, "SignDigest"),
        ("{}", ("describe", "cryptosvc.v1.Raw"), 1, "cryptosvc.v1.Raw"),
    ],
)
def test_a_command_that_is_wrong_would_be_noticed(quickstart, capsys, body, words, code, said):
    tls, target = quickstart.folder / "tls", quickstart.environment["CRYPTOSVC_TARGET"]
    flags = ("-cacert", tls / "ca.pem", "-cert", tls / "supplier.pem", "-key", tls / "supplier.key")
    assert main([*map(str, flags), "-d", body, target, *words]) == code
    assert said in capsys.readouterr().err
