"""The command line against a running service: answers, `--json`, exit codes, and errors one can act on."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
COMMAND = REPOSITORY / ".venv" / "bin" / "cryptosvc"

pytestmark = pytest.mark.xdist_group("quickstart")

PRE_COMMAND = "signed/pre-command.bin"
STATED = ("--variant", "7.2", "--user-id", "90-B3-D5-1F-30-01-00-00", "--user-role", "IS")


@pytest.mark.parametrize(
    ("arguments", "caller", "code", "said"),
    [
        (
            ("key", "list"),
            "supplier",
            0,
            r"supplier-signing +command-signing +active +02 +90-B3-D5-1F-30-01-00-00",
        ),
        (("key", "list"), "auditor", 0, r"KEY ID"),
        (
            ("key", "show", "supplier-signing"),
            "supplier",
            0,
            r"may sign +certification-request\n +gbcs-pre-command",
        ),
        (
            ("key", "show", "root-oca"),
            "supplier",
            3,
            r"forbidden \(G2\.20\): there is no such key for this caller",
        ),
        (
            ("key", "show", "absent"),
            "supplier",
            3,
            r"forbidden \(G2\.20\): there is no such key for this caller",
        ),
        (("sign", "supplier-signing", "gbcs-pre-command", PRE_COMMAND), "supplier", 3, r"state it"),
        (
            ("sign", "root-oca", "gbcs-pre-command", PRE_COMMAND),
            "supplier",
            3,
            r"no such key for this caller",
        ),
        (("sign", "root-oca", "gbcs-pre-command", PRE_COMMAND), "oca-operator", 3, r"forbidden \(G2\.60\)"),
        (("sign", "supplier-signing", "duis-document", PRE_COMMAND), "supplier", 3, r"malformed"),
        (("sign", "supplier-signing", "digest", PRE_COMMAND), "supplier", 2, r"'digest' is not one of"),
        (
            ("sign", "supplier-signing", "gbcs-pre-command", "absent.bin"),
            "supplier",
            2,
            r"cannot read absent\.bin",
        ),
        (
            ("explain", "supplier-signing", "gbcs-pre-command", PRE_COMMAND, "--variant", "7.2"),
            "supplier",
            3,
            r"permitted +no[\s\S]*gbcs/user-unstated",
        ),
        (
            ("explain", "supplier-signing", "gbcs-pre-command", PRE_COMMAND, *STATED),
            "supplier",
            0,
            r"permitted +yes[\s\S]*clause +G2\.56",
        ),
        (
            ("explain", "supplier-signing", "gbcs-pre-command", PRE_COMMAND, "--variant", "7.1", *STATED[2:]),
            "supplier",
            3,
            r"permitted +no[\s\S]*gbcs/service-reference-variant",
        ),
        (("audit", "checkpoint"), "auditor", 0, r"origin +cryptosvc\.example/quickstart\nsize +\d+"),
        (("audit", "show", "0"), "auditor", 0, r"genesis"),
        (("audit", "show", "0"), "supplier", 3, r"only an auditor"),
        (("audit", "show", "99999999"), "auditor", 3, r"no entry at this index"),
        (("audit", "prove", "3"), "auditor", 0, r"verified +yes"),
        (("audit", "verify", "log.export", "--key", "log.pub.pem"), "supplier", 0, r"verified +yes"),
        (("audit", "verify", "log.export", "--key", "tls/ca.pem"), "supplier", 2, r"not a public key"),
        (
            ("audit", "verify", "log.export", "--key", "log.pub.pem", "--origin", "other/log"),
            "supplier",
            4,
            r"corrupt",
        ),
        (
            ("audit", "verify", "cryptosvc.toml", "--key", "log.pub.pem"),
            "supplier",
            3,
            r"is this a log export",
        ),
        (("doctor",), "supplier", 0, r"ok +store and log: sqlite, \d+ entries, the head verifies"),
        (
            ("doctor", "--config", "absent.toml"),
            "supplier",
            1,
            r"WRONG +configuration: cannot read absent\.toml",
        ),
        (("serve", "--config", "absent.toml"), "supplier", 2, r"cannot read absent\.toml"),
        (("frobnicate",), "supplier", 2, r"No such command"),
        (("--version",), "supplier", 0, r"cryptosvc \d+\.\d+"),
    ],
)
def test_answers_and_exit_codes(quickstart, arguments, caller, code, said):
    done = quickstart.run(*arguments, caller=caller)

    assert done.returncode == code, done.stdout + done.stderr
    assert re.search(said, done.stdout + done.stderr), done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_signature_with_its_receipt_and_its_proof(quickstart):
    signed = quickstart.json(
        "sign", "supplier-signing", "gbcs-pre-command", PRE_COMMAND, *STATED, "-o", "again.bin"
    )
    index = signed["receipt"]["leaf_index"]
    proof: dict[str, object] = {}
    for _ in range(50):  # until a checkpoint covers it
        done = quickstart.run("audit", "prove", str(index), "--json", caller="auditor")
        proof = json.loads(done.stdout)
        if done.returncode != 5:
            break
        assert proof["error"]["rule"] == "audit/not-covered"
        time.sleep(0.2)

    assert signed["clause"] == "G2.56"
    assert proof["leaf_hash"] == signed["receipt"]["leaf_hash"]
    assert (quickstart.folder / "again.bin").read_bytes()[-64:].hex() == signed["signature"]
    entry = quickstart.json("audit", "show", str(index))["entry"]
    assert (entry["outcome"], entry["key"], entry["environment"]) == ("signed", "supplier-signing", "test")
    assert entry["service_reference_variant"] == "7.2"


def test_a_request_id_is_good_for_one_signature(quickstart):
    command = ("sign", "supplier-signing", "gbcs-pre-command", PRE_COMMAND, *STATED)
    first = quickstart.json(*command, "--request-id", "only-once")
    again = quickstart.run(*command, "--request-id", "only-once")

    assert again.returncode == 3
    assert f"first use: log entry {first['receipt']['leaf_index']}" in again.stderr


def test_an_error_as_json(quickstart):
    done = quickstart.run(
        "sign", "root-oca", "gbcs-pre-command", PRE_COMMAND, "--json", caller="oca-operator"
    )

    error = json.loads(done.stdout)["error"]
    assert done.returncode == 3
    assert (error["reason"], error["rule"], error["clause"]) == ("FORBIDDEN", "ceiling/purpose", "G2.60")


def test_a_service_that_is_not_there(quickstart):
    done = quickstart.run("key", "list", CRYPTOSVC_TARGET="127.0.0.1:1")

    assert done.returncode == 5
    assert "cannot be reached" in done.stderr


def test_a_changed_export_is_found(quickstart):
    export = (quickstart.folder / "log.export").read_bytes()
    changed = quickstart.folder / "changed.export"
    changed.write_bytes(export.replace(b'"outcome":"signed"', b'"outcome":"zigned"', 1))

    done = quickstart.run("audit", "verify", "changed.export", "--key", "log.pub.pem", "--json")

    assert done.returncode == 4
    assert json.loads(done.stdout)["error"]["reason"] == "CORRUPT"


def test_init_again_adds_nothing(quickstart):
    before = quickstart.json("init", "provisioning.toml")

    assert before["keys_generated"] == before["callers_registered"] == before["keys_given_certificates"] == []


@pytest.mark.parametrize(
    ("file", "old", "new", "code", "rule"),
    [
        ("provisioning.toml", 'class = "xml-signing"', 'class = "command-signing"', 3, "init/differs"),
        ("provisioning.toml", 'user_roles = ["IS"]', 'user_roles = ["GS"]', 3, "init/differs"),
        ("provisioning.toml", "tls/auditor.pem", "tls/absent.pem", 2, "config/unreadable"),
        ("provisioning.toml", "auditor = true", "auditer = true", 2, "config/unknown-key"),
        ("cryptosvc.toml", 'environment = "test"', 'environment = "live"', 3, "init/live"),
        ("cryptosvc.toml", 'system = "quickstart"', 'system = "another"', 3, "deployment/other-token"),
        ("cryptosvc.toml", 'token_serial = "', 'token_serial = "f', 5, "hsm/unexpected-serial"),
        (
            "cryptosvc.toml",
            'manufacturer = "SoftHSM project"',
            'manufacturer = "Other"',
            5,
            "hsm/unexpected-manufacturer",
        ),
        ("cryptosvc.toml", '"head.anchor"', '"elsewhere.anchor"', 3, "init/log-began"),
    ],
)
def test_init_refuses_what_is_another(quickstart, file, old, new, code, rule):
    changed = quickstart.folder / f"changed-{file}"
    text = (quickstart.folder / file).read_text()
    assert old in text
    changed.write_text(text.replace(old, new, 1))
    config = str(changed if file == "cryptosvc.toml" else quickstart.folder / "cryptosvc.toml")
    provisioning = str(changed if file == "provisioning.toml" else quickstart.folder / "provisioning.toml")

    done = quickstart.run("init", provisioning, "--config", config, "--json")

    assert json.loads(done.stdout)["error"]["rule"] == rule
    assert done.returncode == code


def test_live_does_not_start_under_the_certificate_policies_of_the_test_hierarchy(quickstart):
    live = quickstart.folder / "live.toml"
    text = (quickstart.folder / "cryptosvc.toml").read_text()
    live.write_text(text.replace('environment = "test"', 'environment = "live"', 1))

    done = quickstart.run("serve", "--config", str(live))

    assert done.returncode == 2, done.stdout + done.stderr
    assert "config/live-policies" in done.stderr
    assert "x509.root_policies" in done.stderr


def test_a_dead_worker_is_replaced_and_nothing_is_lost(quickstart):
    victim = quickstart.workers()[0]
    os.kill(victim, signal.SIGKILL)
    for _ in range(100):
        workers = quickstart.workers()
        if victim not in workers and len(workers) == 2:
            break
        time.sleep(0.1)
    else:
        pytest.fail(f"workers are {quickstart.workers()}")

    assert quickstart.json("key", "list")
    assert quickstart.json("sign", "supplier-signing", "gbcs-pre-command", PRE_COMMAND, *STATED)


def test_an_idle_log_does_not_grow(quickstart):
    time.sleep(3)
    first = quickstart.json("audit", "export", "idle.export")
    time.sleep(4)

    assert quickstart.json("audit", "export", "idle.export")["entries"] == first["entries"]


def test_python_without_asserts_is_refused():
    done = subprocess.run(
        [sys.executable, "-O", "-m", "cryptosvc", "--version"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert "python -O" in done.stderr
