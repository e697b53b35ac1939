"""A whole system is decommissioned (G11.5(j)) by the ready file, for real: rehearsed, held, and believed off-line.

`python -m tests.e2e.test_system_decommissioned CONFIG` gives the system's keys their certificates, in a process of its
own, since a PKCS#11 library is global to its process.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from cryptosvc.core import destruction
from cryptosvc.core.errors import Corrupt, Malformed
from cryptosvc.core.names import KeyId
from cryptosvc.wiring.exporting import public_key_der
from cryptosvc.wiring.reconciling import opened_floor
from tests import ceremony_stand
from tests.ceremony_stand import Stand, issuer
from tests.certificates import organisation_builder
from tests.deployment import REPOSITORY

pytestmark = [pytest.mark.slow]
SYSTEM = "dcc-tcos"
KEYS = {"tcos-commands-1": 5, "tcos-commands-2": 5, "tcos-documents-1": 135}
"""Key of the ready file → Remote Party Role of its certificate."""
PROVISIONED = """\
[[keys]]
id = "tcos-commands-1"
class = "command-signing"
role = 5
state = "deactivated"

[[keys]]
id = "tcos-commands-2"
class = "command-signing"
role = 5

[[keys]]
id = "tcos-documents-1"
class = "xml-signing"
role = 135
"""


async def certify(config: Path) -> None:
    """Give each key a certificate of the other system's Issuing OCA, as the SMKI would have."""
    other = issuer()
    start = x509.load_der_x509_certificate(other.certificate).not_valid_before_utc
    async with opened_floor(config, "stand") as floor:
        view = await floor.store.registry.keys({KeyId(name) for name in KEYS})
        changed = []
        for number, record in enumerate(view.keys.values(), 1):
            public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), record.public_point)
            builder = organisation_builder(
                other.certificate,
                public,
                role=KEYS[record.key_id],
                entity=f"90-B3-D5-1F-30-00-00-{number:02}",
                serial=number,
                start=start,
            )
            der = builder.sign(other.key, hashes.SHA256()).public_bytes(Encoding.DER)
            changed.append(replace(record, version=record.version + 1, certificate=der))
        await floor.store.registry.change(changed)


def off_line(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command on a machine that has neither the module nor the store, only what it is handed."""
    environment = {name: value for name, value in os.environ.items() if name != "SOFTHSM2_CONF"}
    return subprocess.run(
        [sys.executable, "-m", "cryptosvc", *arguments, "--json"],
        env=environment | {"PYTHONPATH": str(REPOSITORY)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Stand:
    people = {name: role for name, role in ceremony_stand.PEOPLE.items() if name not in ("cyd", "wanda")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ceremony_stand, "PEOPLE", people)
        made = Stand(tmp_path_factory.mktemp("decommissioned"), system=SYSTEM)
    made.deployment.init(PROVISIONED)
    done = made.deployment.run(str(made.deployment.config), module="tests.e2e.test_system_decommissioned")
    assert done.returncode == 0, done.stderr
    return made


def test_a_system_ends_as_its_file_says_and_anybody_can_verify_it(stand: Stand, tmp_path: Path) -> None:
    # 1 held; that it goes as it is rehearsed is shown for every ready file elsewhere
    file = stand.file("decommissioning")
    backup = tmp_path / "backup"
    shutil.copytree(stand.deployment.token.folder, backup)
    assert stand.held("run", file) == "completed"
    verdict = stand.verified(file)
    assert (verdict["outcome"], verdict["log_checked"]) == ("completed", True)
    # 2 nothing of it is left: not in the registry, not in the module, and no certificate that is not revoked
    lines = [json.loads(line) for line in stand.transcript(file).read_bytes().splitlines()]
    (last,) = [line["number"] for line in lines if line.get("act", {}).get("act") == "decommission-system"]
    (facts,) = [one["facts"] for one in lines if one.get("kind") == "done" and one["number"] == last]
    assert facts == {"keys_left": 0, "certificates_left": 0}
    compared = stand.deployment.run("reconcile", "--config", str(stand.deployment.config), "--json")
    assert json.loads(compared.stdout) == []
    revocations = sorted((stand.office / "papers").glob("*.revocation"))
    revoked = {bytes.fromhex(orjson.loads(one.read_bytes())["certificate"]) for one in revocations}
    assert len(revoked) == len(KEYS)
    # 3 the log says the same from genesis on, and each destruction was approved by two
    log = stand.deployment.verified_log()
    states: dict[str, dict] = {}
    for one in log.of_kind("key-record"):
        document = json.loads(one.withheld["document"][1])
        states[document["key_id"]] = document
    assert [states[name]["state"] for name in KEYS] == ["destroyed"] * len(KEYS)
    assert {bytes.fromhex(states[name]["certificate"]) for name in KEYS} == revoked
    assert states["log-audit"]["state"] == "active"  # which still signs what this is proven by
    # 4 whoever is handed the certificates and two public keys believes them, on any machine
    for name in ("service.pub.pem", "log.pub.pem"):
        (tmp_path / name).write_bytes((stand.deployment.folder / name).read_bytes())
    keys = ("--service-key", "service.pub.pem", "--log-key", "log.pub.pem")
    service, logs = (public_key_der(tmp_path / name) for name in ("service.pub.pem", "log.pub.pem"))
    for name in KEYS:
        certificate = tmp_path / f"{name}.destruction.json"
        certificate.write_bytes((stand.office / "files" / certificate.name).read_bytes())
        found = destruction.verify(certificate.read_bytes(), service, logs)
        assert (found.key.key_id, found.key.system) == (name, SYSTEM)
        evidence = dict(found.proposal.outcome)
        assert (evidence["objects_destroyed"], evidence["objects_left"]) == ("2", "0")
        proposer, *approvers = (one.custodian_id for one in found.proposal.endorsements)
        assert len(set(approvers) - {proposer}) >= 2
    answer = off_line(tmp_path, "destruction", "verify", certificate.name, *keys)
    assert (answer.returncode, json.loads(answer.stdout)["holds"]) == (0, True)
    # 5 and not where an octet of one is another, or the keys are changed about
    octets = bytearray(certificate.read_bytes())
    at = octets.index(b'"payload":"') + 200
    octets[at] = ord("A") if octets[at] != ord("A") else ord("B")
    for edited, *others in ((bytes(octets), service, logs), (certificate.read_bytes(), logs, service)):
        with pytest.raises((Corrupt, Malformed)):
            destruction.verify(edited, *others)
    # 6 an old backup of the token put back gives nobody a key: each is named, and the log is as it was
    shutil.rmtree(stand.deployment.token.folder)
    shutil.copytree(backup, stand.deployment.token.folder)
    found = stand.deployment.run("reconcile", "--config", str(stand.deployment.config), "--json")
    there = {(one["kind"], one["subject"]) for one in json.loads(found.stdout)}
    assert there == {("not-destroyed", name) for name in KEYS}
    # 7 and `init` does not take it for a new one, under its own name or another
    label, object_id = states["tcos-commands-1"]["label"], states["tcos-commands-1"]["object_id"]
    for name, refused in (("tcos-commands-1", ""), ("again", "key/registered-already")):
        provisioning = tmp_path / f"{name}.toml"
        provisioning.write_text(
            f'[[keys]]\nid = "{name}"\nclass = "command-signing"\nrole = 5\nadopt = true\n'
            f'label = "{label}"\nobject_id = "{object_id}"\n'
        )
        arguments = ("--config", str(stand.deployment.config), str(provisioning), "--json")
        said = json.loads(stand.deployment.run("init", *arguments).stdout)
        if refused:
            assert said["error"]["rule"] == refused
        else:
            assert said["keys_adopted"] == []  # its record stands, and says destroyed


if __name__ == "__main__":
    asyncio.run(certify(Path(sys.argv[1])))
