"""After a full run nothing the service wrote or said holds a PIN, a key, or what callers had signed.

Looked through: what its processes write, the database and every file beside it, the export, what the command line
prints, the details of every error a caller got, and what /proc shows of its processes.
"""

import base64
import ctypes
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cryptosvc.client.calls import Client
from cryptosvc.client.errors import CallError
from cryptosvc.client.keys import RemotePrivateKey
from cryptosvc.client.messages import request
from cryptosvc.pb.v1 import crypto_pb2
from tests import certificates, duis_documents, precommands
from tests.deployment import Deployment
from tests.smki import der, make_smki, now, provisioning, sign_hierarchy, sign_organisation

pytestmark = pytest.mark.xdist_group("secrets")  # one deployment for all tests of the file

MARKER = "Zq7MARKERw4"
DOCUMENT_DEVICE = "00-00-5E-EF-7A-31-5C-2A"
ADOPTED = """
[[keys]]
id = "adopted"
class = "command-signing"
adopt = true
label = "adopted"
object_id = "ad"
role = 2
eui64 = "90-B3-D5-1F-30-0A-00-00"
"""


@dataclass
class Secrets:
    """What must be found nowhere, by name."""

    octets: dict[str, bytes] = field(default_factory=dict)

    def found_in(self, haystack: bytes) -> list[str]:
        """Names of what is in it, as it is or in one of the usual spellings."""
        return [
            name for name, octets in self.octets.items() if any(one in haystack for one in _spelt(octets))
        ]


def _spelt(octets: bytes) -> Iterator[bytes]:
    yield octets
    yield octets.hex().encode()
    yield octets.hex().upper().encode()
    for shift in range(
        3
    ):  # base64 as part of something longer: the middle that does not depend on what is around
        text = base64.b64encode(bytes(shift) + octets)
        yield text[4 if shift else 0 : len(text) - 4]
    if len(octets) == 32:
        yield str(int.from_bytes(octets)).encode()


@dataclass
class Run:
    """A deployment after a full run, and everything it said to callers."""

    deployment: Deployment
    secrets: Secrets
    errors: list[bytes]
    shown: dict[str, bytes]
    limits: list[str]
    export: bytes
    signed: int


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    deployment = make_smki(tmp_path_factory.mktemp("secrets") / "deployment")
    _have_checkpoints(deployment, 2)
    adopted = _import_key(deployment)
    (deployment.folder / "with-adopted.toml").write_text(provisioning(deployment) + ADOPTED)
    deployment.json("init", "--config", str(deployment.config), str(deployment.folder / "with-adopted.toml"))
    made = Run(deployment, _secrets(deployment, adopted), [], {}, [], b"", 0)
    with (
        deployment.serving(),
        deployment.client("operator") as operator,
        deployment.client("supplier") as supplier,
    ):
        _everything_signed(made, operator, supplier)
        _everything_refused(made, operator, supplier)
        _what_proc_shows(made)
        deployment.kill_worker()
        deployment.event("worker-died")
        time.sleep(3)
        made.signed += bool(supplier.sign(_question("supplier-signing", 77)).signature)
        _command_line(deployment)
        made.export = deployment.verified_log().octets
    _wrong_pin(made)
    return made


def _have_checkpoints(deployment: Deployment, seconds: int) -> None:
    """So often that the run has one whichever worker is killed."""
    text = deployment.config.read_text()
    assert "checkpoint_seconds = 60" in text
    deployment.config.write_text(text.replace("checkpoint_seconds = 60", f"checkpoint_seconds = {seconds}"))


def _import_key(deployment: Deployment) -> ec.EllipticCurvePrivateKey:
    key = ec.generate_private_key(ec.SECP256R1())
    path = deployment.folder.parent / "adopted.key"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    subprocess.run(
        [
            *("softhsm2-util", "--import", path, "--token", deployment.token.config.token_label),
            *("--label", "adopted", "--id", "ad", "--pin", deployment.token.pin),
        ],
        env=deployment.process_environment,
        check=True,
        capture_output=True,
    )
    return key


def _secrets(deployment: Deployment, adopted: ec.EllipticCurvePrivateKey) -> Secrets:
    secrets = Secrets()
    folder = deployment.token.folder
    secrets.octets["PIN"] = (folder / "pin").read_bytes().strip()
    secrets.octets["SO PIN"] = (folder / "so-pin").read_bytes().strip()
    secrets.octets["adopted key"] = adopted.private_numbers().private_value.to_bytes(32)
    for path in (deployment.folder / "tls").glob("*.key"):
        key = serialization.load_pem_private_key(path.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        secrets.octets[f"TLS key {path.stem}"] = key.private_numbers().private_value.to_bytes(32)
    secrets.octets["marker"] = MARKER.encode()
    secrets.octets["document"] = f"<sr:DeviceID>{DOCUMENT_DEVICE}</sr:DeviceID>".encode()
    secrets.octets["device in document"] = DOCUMENT_DEVICE.encode()
    message = _question("supplier-signing", 4_000_001).gbcs_pre_command
    payload = message[message.index(b"\xd9\x20") :]
    secrets.octets["pre-command payload"] = payload[:-2]
    return secrets


def _question(key_id: str, counter: int) -> crypto_pb2.SignRequest:
    return request(
        key_id,
        gbcs_pre_command=precommands.ecs43(counter=counter),
        service_reference_variant="7.2",
        user_id=str(precommands.SUPPLIER),
        user_role="IS",
    )


def _document(body: str, counter: int, **changes: object) -> crypto_pb2.SignRequest:
    document = duis_documents.request(
        originator=str(precommands.SUPPLIER), counter=counter, body=body, **changes
    )
    return request(
        "supplier-xml",
        duis_document=document,
        service_reference_variant="8.2",
        user_id=str(precommands.SUPPLIER),
        user_role="IS",
    )


def _everything_signed(made: Run, operator: Client, supplier: Client) -> None:
    """Every content kind."""
    deployment = made.deployment
    root, issuing = sign_hierarchy(deployment, operator)
    for key_id in ("supplier-signing", "supplier-xml"):
        sign_organisation(deployment, operator, supplier, issuing, key_id)
    for key_id, certificate, only_ca in (("root-oca", root, True), ("issuing-oca", issuing, False)):
        lasting = timedelta(days=30) if only_ca else timedelta(hours=24)
        certificates.crl_builder(
            der(certificate), number=1, this_update=now(), lasting=lasting, only_ca=only_ca
        ).sign(RemotePrivateKey.of(operator, key_id), hashes.SHA256())
    subject = certificates.organisation_name(2, str(precommands.SUPPLIER))
    certificates.csr_builder(subject).sign(RemotePrivateKey.of(supplier, "supplier-signing"), hashes.SHA256())
    body = f"<sr:ReadInventory><sr:DeviceID>{DOCUMENT_DEVICE}</sr:DeviceID></sr:ReadInventory>"
    questions = [
        _question("supplier-signing", 4_000_001),
        _question("adopted", 4_000_001),
        _document(body, 1),
    ]
    for question in questions:
        made.signed += bool(supplier.sign(question).signature)
        assert supplier.explain(question)


def _everything_refused(made: Run, operator: Client, supplier: Client) -> None:
    """Refusals that have something to give away: the marker stands where an error could quote it."""
    wrong = f"<sr:ReadInventory><sr:DeviceID>{MARKER}</sr:DeviceID></sr:ReadInventory>"
    stray = f"<sr:{MARKER}>{MARKER}</sr:{MARKER}>"
    good = _question("supplier-signing", 9)
    digest = bytearray(good.gbcs_pre_command)
    digest[-8:] = MARKER.encode()[:8]
    refused = [
        _document(wrong, 2),
        _document(stray, 3),
        _document(duis_documents.READ_INVENTORY, 4, command_variant=MARKER),
        _document(duis_documents.READ_INVENTORY, 5, extra_header=f"<sr:{MARKER}/>"),
        _document(duis_documents.READ_INVENTORY, 6, request_id=MARKER),
        request("supplier-xml", duis_document=f"<!DOCTYPE {MARKER}><{MARKER}/>".encode()),
        request("supplier-xml", duis_document=f"<{MARKER}".encode()),
        request("supplier-xml", duis_document=b"\xff" + MARKER.encode()),
        request("supplier-signing", gbcs_pre_command=MARKER.encode() * 10),
        request("supplier-signing", gbcs_pre_command=bytes(digest)),
        request("supplier-signing", certification_request_info=b"0\x0b" + MARKER.encode()),
        request("supplier-signing", tbs_certificate=b"0\x0b" + MARKER.encode()),
        request("supplier-signing", tbs_cert_list=b"0\x0b" + MARKER.encode()),
        _question("root-oca", 1),
    ]
    csr = certificates.csr_info(
        ec.generate_private_key(ec.SECP256R1()),
        certificates.organisation_name(2, certificates.SUPPLIER, MARKER),
    )
    refused.append(request("supplier-signing", certification_request_info=csr))
    checked = _question("supplier-signing", 10)
    checked.supply_sensitive_check = b'{"payload":"' + base64.b64encode(MARKER.encode()) + b'"}'
    refused.append(checked)
    for question in refused:
        for ask in (supplier.sign, operator.sign):
            with pytest.raises(CallError) as error:
                ask(question)
            made.errors.append(_told(error.value))
        try:
            made.errors.append(supplier.explain(question).SerializeToString())
        except CallError as refusal:
            made.errors.append(_told(refusal))


def _told(error: CallError) -> bytes:
    return "\n".join((str(error), error.rule, error.field, error.clause, *error.policies)).encode()


def _what_proc_shows(made: Run) -> None:
    process = made.deployment.process
    assert process is not None
    for number in (process.pid, *made.deployment.workers()):
        for name in ("cmdline", "environ"):
            made.shown[f"{number}/{name}"] = Path(f"/proc/{number}/{name}").read_bytes()
        limits = Path(f"/proc/{number}/limits").read_text()
        made.limits += [line for line in limits.splitlines() if line.startswith("Max core file size")]


def _command_line(deployment: Deployment) -> None:
    """What an operator and a caller may ask, with its output kept."""
    tls = deployment.folder / "tls"
    connection = (
        *("--target", f"127.0.0.1:{deployment.port}", "--ca", str(tls / "ca.pem")),
        *("--cert", str(tls / "supplier.pem"), "--key", str(tls / "supplier.key")),
    )
    wrong = deployment.folder.parent / "wrong.xml"
    wrong.write_text(f"<{MARKER}>")
    deployment.run("doctor", "--config", str(deployment.config))
    deployment.run("key", "list", *connection)
    done = deployment.run("sign", "supplier-xml", "duis-document", str(wrong), *connection)
    assert done.returncode != 0
    deployment.run("explain", "supplier-xml", "duis-document", str(wrong), *connection)


def _wrong_pin(made: Run) -> None:
    """A module that refuses the PIN: whoever complains of it does not quote it."""
    deployment = made.deployment
    own = deployment.token.folder / "pin"
    kept = own.read_bytes()
    wrong = b"wr0ng" + MARKER.encode()
    own.write_bytes(wrong + b"\n")
    try:
        done = deployment.run("doctor", "--config", str(deployment.config))
        assert done.returncode != 0
        done = deployment.run("audit", "export", "--config", str(deployment.config), "/dev/null")
        assert done.returncode != 0
    finally:
        own.write_bytes(kept)


def test_the_run_was_a_full_one(run: Run):
    log = run.export
    kinds = (
        *("oca-certificate", "organisation-certificate", "certification-request", "organisation-arl"),
        *("organisation-crl", "gbcs-pre-command", "duis-document", "log-checkpoint"),
    )
    for kind in kinds:
        assert b'"content_kind":"%s"' % kind.encode() in log
    assert log.count(b'"kind":"refusal"') > 20
    assert b'"kind":"read"' in log
    assert run.signed == 4
    assert len(run.errors) == 3 * 16
    assert all(run.errors)


def test_the_scan_finds_what_is_there(run: Run):
    for name, octets in run.secrets.octets.items():
        for text in (octets, octets.hex().encode(), base64.b64encode(b"before" + octets + b"after")):
            assert run.secrets.found_in(b"x" + text + b"y") == [name] or name in run.secrets.found_in(text)


def test_nothing_written_holds_a_secret(run: Run):
    deployment = run.deployment
    written = [
        *deployment.folder.glob("service-*.log"),
        *deployment.folder.glob("cryptosvc.db*"),
        *deployment.folder.glob("head.anchor*"),
        *deployment.folder.glob("*.lock"),
        *deployment.folder.glob("*.export"),
    ]
    assert len(written) >= 7
    for path in written:
        assert run.secrets.found_in(path.read_bytes()) == [], path.name


def test_nothing_said_holds_a_secret(run: Run):
    for text in run.deployment.said:
        assert run.secrets.found_in(text.encode()) == [], text
    for octets in run.errors:
        assert run.secrets.found_in(octets) == [], octets


def test_proc_shows_no_pin_and_core_files_are_off(run: Run):
    assert len(run.shown) == 2 * (1 + 2)
    for name, octets in run.shown.items():
        assert octets, name
        assert run.secrets.found_in(octets) == [], name
    assert len(run.limits) == 3
    for line in run.limits:
        assert line.split()[4:6] == ["0", "0"]


def test_a_process_of_the_service_is_not_dumpable():
    code = (
        "import ctypes\n"
        "from cryptosvc.wiring import process\n"
        "before = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)\n"
        "process.protect_memory()\n"
        "print(before, ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))\n"
    )
    assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 1  # PR_GET_DUMPABLE
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "0"]


def test_a_traceback_in_the_logs_shows_no_values():
    code = (
        "import asyncio, logging, structlog\n"
        "from cryptosvc.wiring import journal\n"
        "journal.set_up(part='x')\n"
        "def walk(payload):\n"
        "    parts = [payload]\n"
        "    raise ValueError('unforeseen')\n"
        "def ask():\n"
        f"    walk(b'{MARKER}'.lower().swapcase())\n"
        "async def task():\n"
        f"    walk(b'{MARKER[:5]}' + b'{MARKER[5:]}')\n"
        "for log in (structlog.get_logger('a'), logging.getLogger('b')):\n"
        "    try:\n"
        "        ask()\n"
        "    except ValueError:\n"
        "        log.exception('failed')\n"
        "async def main():\n"
        "    left = asyncio.ensure_future(task())\n"
        "    await asyncio.sleep(0)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["exception"][0]["exc_value"] for line in lines] == ["unforeseen"] * 3
    assert "walk" in {frame["name"] for frame in lines[0]["exception"][0]["frames"]}
    assert MARKER.lower() not in done.stderr.lower()
