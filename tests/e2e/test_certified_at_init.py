"""`init` refuses a certificate that its key could not sign under, and takes the right one afterwards."""

import json
import subprocess
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tests.certificates import (
    issuing_authority,
    key_pair,
    organisation_certificate,
    root_authority,
)
from tests.deployment import Deployment, prepared

KEY = key_pair("certified at init")
OBJECT_ID = "c1"


def _imported(deployment: Deployment, folder: Path) -> None:
    """Put the key into the token, as published test keys are."""
    pem = KEY.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "imported.key").write_bytes(pem)
    token = deployment.token
    subprocess.run(
        [
            *("softhsm2-util", "--import", folder / "imported.key", "--label", "imported", "--id", OBJECT_ID),
            *("--token", token.config.token_label, "--pin", token.pin),
        ],
        env=deployment.process_environment,
        capture_output=True,
        check=True,
    )


def test_a_key_agreement_certificate_is_refused_at_init_and_not_at_signing(tmp_path: Path):
    deployment = prepared(tmp_path)
    _imported(deployment, tmp_path)
    issuing = issuing_authority(root_authority())
    for usage in ("key_agreement", "digital_signature"):
        der = organisation_certificate(issuing, KEY.public_key(), usage=usage)
        pem = x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM)
        (tmp_path / f"{usage}.pem").write_bytes(pem)
    provisioning = tmp_path / "provisioning.toml"
    entry = (
        f'[[keys]]\nid = "it"\nclass = "command-signing"\nadopt = true\n'
        f'label = "imported"\nobject_id = "{OBJECT_ID}"'
    )

    def refused(certificate: str) -> str:
        provisioning.write_text(f'{entry}\ncertificate = "{certificate}.pem"\n')
        done = deployment.run("init", "--config", str(deployment.config), str(provisioning), "--json")
        error = json.loads(done.stdout)["error"]
        assert (done.returncode, error["rule"], error["field"]) == (2, "provisioning/certificate", "keys.it")
        return error["message"]

    assert "digital signatures alone" in refused("key_agreement")
    # nothing was generated or registered by that, so the next run is as good as the first
    first = deployment.init(f"{entry}\n")
    assert (first["keys_generated"], first["keys_adopted"]) == (["log-audit", "log-service"], ["it"])
    assert "digital signatures alone" in refused("key_agreement")
    last = deployment.init(f'{entry}\ncertificate = "digital_signature.pem"\n')
    assert last["keys_given_certificates"] == ["it"]
    # and a key that does not exist yet has no certificate
    entry = entry.replace('"it"', '"another"').replace("adopt = true\n", "").replace('"imported"', '"other"')
    provisioning.write_text(f'{entry}\ncertificate = "digital_signature.pem"\n')
    done = deployment.run("init", "--config", str(deployment.config), str(provisioning))
    assert "only generated now" in done.stdout + done.stderr
