"""The main job with a published test key: imported into the token, adopted by `init`, asked over gRPC.

The published certificates went out of date in 2025, and a key whose certificate is out of date signs nothing. So the key
is adopted twice: with its certificate, to be refused by name, and without one, as environment `test` allows, to sign.
`tests/vectors/test_gbcs_rtds_corridor.py` has them sign under their certificates, at a time when those were valid.
"""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from cryptosvc.client.errors import NotPermitted, WrongState
from cryptosvc.client.messages import request
from tests.deployment import REPOSITORY, make_deployment, prepared

SUPPLIER = "90-B3-D5-1F-30-01-00-00"
OBJECT_ID, OTHER_OBJECT_ID = "a1", "a2"
LABEL = "published-supplier"


def _provisioning(certificate: Path) -> str:
    return f"""\
[[keys]]
id = "published"
class = "command-signing"
adopt = true
label = "{LABEL}"
object_id = "{OBJECT_ID}"
role = 2
eui64 = "{SUPPLIER}"

[[keys]]
id = "published-certified"
class = "command-signing"
adopt = true
label = "{LABEL}-certified"
object_id = "{OTHER_OBJECT_ID}"
certificate = "{certificate}"

[[callers]]
id = "supplier"
certificate = "tls/supplier.pem"
user_roles = ["IS"]
user_ids = ["{SUPPLIER}"]
grants = [{{ key_class = "command-signing" }}]
"""


def _pre_command(folder: Path) -> bytes:
    """A published ECS42 Pre-Command of that supplier (Service Reference Variant 7.1), as somebody else wrote it."""
    for path in sorted((folder / "rtds").glob("7.1_ECS42/*PRECOMMAND*.HEX")):
        octets = bytes.fromhex(path.read_text())
        if octets[12:20] == bytes.fromhex(SUPPLIER.replace("-", "")):
            return octets
    pytest.fail("the test data has no such Pre-Command")


def test_a_published_key_is_adopted_and_signs_a_published_message(gbcs_data: Path, tmp_path: Path):
    stem = SUPPLIER.replace("-", "").lower()
    pem = gbcs_data / "keystore" / f"{stem}-ds.pem"
    deployment = prepared(tmp_path)
    for label, object_id in ((LABEL, OBJECT_ID), (f"{LABEL}-certified", OTHER_OBJECT_ID)):
        imported = subprocess.run(
            [
                *("softhsm2-util", "--import", gbcs_data / "keystore" / f"{stem}-ds.key", "--force"),
                *("--token", deployment.token.config.token_label, "--label", label, "--id", object_id),
                *("--pin", deployment.token.pin),
            ],
            env=deployment.process_environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert imported.returncode == 0, imported.stderr
    shutil.copy(pem, tmp_path / "published.pem")
    answer = deployment.init(_provisioning(tmp_path / "published.pem"))
    assert answer["keys_adopted"] == ["published", "published-certified"]

    message = _pre_command(gbcs_data)
    question = request(
        "published",
        gbcs_pre_command=message,
        service_reference_variant="7.1",
        user_id=SUPPLIER,
        user_role="IS",
    )
    with deployment.serving(), deployment.client() as client:
        signed = client.sign(question)
        other = request(
            "published",
            gbcs_pre_command=message[:12] + bytes(8) + message[20:],
            service_reference_variant="7.1",
            user_id=SUPPLIER,
            user_role="IS",
        )
        with pytest.raises(NotPermitted) as refused:
            client.sign(other)
        assert refused.value.rule == "gbcs/originator"
        certified = request(
            "published-certified",
            gbcs_pre_command=message,
            service_reference_variant="7.1",
            user_id=SUPPLIER,
            user_role="IS",
        )
        with pytest.raises(WrongState) as out_of_date:
            client.sign(certified)
        assert (out_of_date.value.rule, out_of_date.value.clause) == ("key-certificate/expired", "G2.56")
        log = deployment.verified_log()

    certificate = x509.load_pem_x509_certificate(pem.read_bytes())
    public = certificate.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    der = encode_dss_signature(int.from_bytes(signed.signature[:32]), int.from_bytes(signed.signature[32:]))
    public.verify(der, signed.artefact[1:-65], ec.ECDSA(hashes.SHA256()))
    assert signed.artefact[-65:] == b"\x40" + signed.signature
    assert signed.artefact.startswith(message.removesuffix(b"\x00")[:40])
    # marked for ever, where everyone can see it
    (registered,) = [entry for entry in log.of_kind("key-record") if entry.fields["key"] == "published"]
    assert registered.fields["origin"] == "adopted"


def test_live_refuses_what_was_adopted(tmp_path: Path):
    deployment = make_deployment(tmp_path)
    facts = ("--fact", "environment=live", "--fact", "module_level=3")
    asked = (
        "policy",
        "explain",
        "command-signing",
        "gbcs-pre-command",
        "--folder",
        str(REPOSITORY / "policies"),
    )
    permitted = deployment.run(*asked, *facts, "--json")
    assert permitted.returncode == 0, permitted.stdout + permitted.stderr
    refused = deployment.run(*asked, *facts, "--fact", "origin=adopted", "--json")
    assert refused.returncode != 0
    answer = json.loads(refused.stdout)
    assert answer["permitted"] is False
    assert any(policy.startswith("adopted-keys-stay-in-test") for policy in answer["decided_by"])
    # nor does `init` adopt anything there
    deployment.configure(environment="live")
    done = deployment.run(
        "init", "--config", str(deployment.config), str(tmp_path / "provisioning.toml"), "--json"
    )
    assert done.returncode != 0
    assert json.loads(done.stdout)["error"]["rule"] == "init/live"
