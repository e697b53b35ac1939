"""`cryptosvc reconcile` on a real token: agrees after init, and names what somebody did to the module behind our back."""

import json

import pytest

from cryptosvc.adapters.hsm.provision import Provisioner
from cryptosvc.core.keyclass import ceiling
from cryptosvc.wiring.logkeys import object_id
from tests.deployment import KEY, Deployment, make_deployment

TEMPLATE = ceiling("command-signing").template


@pytest.fixture
def deployment(tmp_path, monkeypatch) -> Deployment:
    made = make_deployment(tmp_path)
    monkeypatch.setenv("SOFTHSM2_CONF", made.token.conf)
    return made


def differences(deployment: Deployment) -> list[dict]:
    done = deployment.run("reconcile", "--config", str(deployment.config), "--json")
    found = json.loads(done.stdout)
    assert done.returncode == (1 if found else 0), done.stderr
    return found


def test_the_module_is_changed_behind_the_services_back(deployment: Deployment):
    assert differences(deployment) == []
    with Provisioner(deployment.token.config, deployment.token.locks) as token:
        assert token.destroy(KEY, object_id(KEY)) == 2
        token.generate("planted", b"\x77", TEMPLATE)
    found = {one["kind"]: one for one in differences(deployment)}
    assert set(found) == {"missing-object", "unknown-object"}
    assert found["missing-object"]["subject"] == KEY
    assert found["unknown-object"]["subject"].endswith("/planted")
    with Provisioner(deployment.token.config, deployment.token.locks) as token:
        token.generate(KEY, object_id(KEY), TEMPLATE)
        token.destroy("planted", b"\x77")
    (swapped,) = differences(deployment)
    assert (swapped["kind"], swapped["subject"]) == ("changed-key", KEY)
    said = deployment.run("reconcile", "--config", str(deployment.config)).stdout
    assert "propose key.suspend" in said
    recorded = [one.fields for one in deployment.verified_log().of_kind("reconciled")]
    assert [one["operation"] for one in recorded].count("compare") == 4
    assert {"missing-object", "unknown-object", "changed-key"} <= {one["operation"] for one in recorded}
