"""`init` and `genesis` killed at each step: no key without a record or a mark, and run again they come to their end.

Covers SEC G5.13(b): a key is registered and ordered before it is generated; its crypto-period runs from its activation.
"""

import json
import subprocess
from pathlib import Path

from cryptosvc.core import lifecycle
from cryptosvc.core.keyclass import ceiling
from cryptosvc.core.life import DAY, Event, UnixSeconds
from cryptosvc.core.registry import KeyRecord, KeyState, record_from_document
from cryptosvc.wiring import logkeys
from tests import governed
from tests.deployment import CALLERS, KEY, KEYS, Deployment, pre_command_request, prepared

ANOTHER = '\n[[keys]]\nid = "another"\nclass = "command-signing"\nrole = 2\n'
MARK = "softhsm/cryptosvc-beginning:"


def killed(deployment: Deployment, file: Path, verb: str) -> dict[str, list[list[str]] | None]:
    """Kill it at each step in turn; step → what reconcile found after it. It came to its end at last."""
    done = deployment.run(str(deployment.config), str(file), verb, module="tests.killed_beginning")
    assert done.returncode == 0, done.stdout + done.stderr
    deaths = [json.loads(line) for line in done.stdout.splitlines()]
    return {one["step"]: one["differences"] for one in deaths}


def differences(deployment: Deployment) -> list[tuple[str, str]]:
    done = deployment.run("reconcile", "--config", str(deployment.config), "--json")
    assert done.stdout, done.stderr
    return [(one["kind"], one["subject"]) for one in json.loads(done.stdout)]


def require_marked(found: dict[str, list[list[str]] | None], mine: set[str]) -> None:
    """Nobody's object was there only while the mark was; what was in the place of an ordered key bears its name."""
    assert any(found.values())
    for step, seen in found.items():
        strangers = {subject for kind, subject in seen or () if kind == "unknown-object"}
        marked = any(kind == "unfinished-act" and subject.startswith(MARK) for kind, subject in seen or ())
        assert strangers <= mine or marked, step
        assert {subject.removeprefix("softhsm/") for subject in strangers} <= mine, step


def test_an_init_that_is_killed_at_each_step_comes_to_its_end(tmp_path: Path) -> None:
    deployment = prepared(tmp_path / "deployment")
    path = deployment.folder / "provisioning.toml"
    path.write_text(KEYS + ANOTHER + CALLERS, encoding="utf-8")
    mine = {KEY, "another", "log-checkpoints", "service-statements"}
    found = killed(deployment, path, "init")
    # each key was made, and lost, and destroyed, and made again
    names = {step.rpartition(" ")[2] for step in found if step.startswith("after destroying")}
    assert len(found) >= 20
    assert {KEY, "another"} <= names
    require_marked(found, {one for one in names | mine if not one.startswith("cryptosvc")})
    # nothing is left, nothing more is done the next time, and the keys work
    answer = deployment.init(KEYS + ANOTHER + CALLERS)
    assert answer["keys_generated"] == []
    assert differences(deployment) == []
    with deployment.serving(), deployment.client() as client:
        client.sign(pre_command_request(1))
    log = deployment.verified_log()
    stages = [
        json.loads(one.withheld["document"][1])
        for one in log.of_kind("key-record")
        if json.loads(one.withheld["document"][1])["key_id"] == KEY
    ]
    assert [one["state"] for one in stages] == ["ordered", "active"]
    # it has the crypto-period of its class, from its activation
    key = record_from_document("key-record", stages[-1])
    assert isinstance(key, KeyRecord)
    activated = key.life.when(Event.ACTIVATE)
    assert activated is not None
    days = ceiling("command-signing").crypto_period_days
    assert days
    ends = activated + days * DAY
    assert lifecycle.effective(key, UnixSeconds(ends - 1))[0] is KeyState.ACTIVE
    assert lifecycle.effective(key, UnixSeconds(ends))[0] is KeyState.DEACTIVATED


def test_a_genesis_that_is_killed_at_each_step_comes_to_its_end(tmp_path: Path) -> None:
    deployment, _ = governed.drawn_up(tmp_path)
    file = tmp_path / f"genesis.{len(governed.NAMES)}"
    found = killed(deployment, file, "genesis")
    assert len(found) >= 14
    names = {step.rpartition(" ")[2] for step in found if step.startswith("after destroying")}
    require_marked(found, {one for one in names if not one.startswith("cryptosvc")})
    again = deployment.run("genesis", str(file), "--config", str(deployment.config), "--json")
    assert json.loads(again.stdout)["error"]["rule"] == "genesis/begun"
    # its modules are registered by an act of its custodians
    assert differences(deployment) == [("unregistered-module", "softhsm")]


def test_an_object_that_init_did_not_begin_is_in_the_way_and_stays(tmp_path: Path) -> None:
    deployment = prepared(tmp_path / "deployment")
    deployment.init("")
    label, object_id = "another", logkeys.object_id("another")
    command = ["pkcs11-tool", "--module", str(deployment.token.config.library), "--login", "--pin"]
    command += [(deployment.token.folder / "pin").read_text().strip()]
    command += ["--token-label", deployment.token.config.token_label]
    make = ["--keypairgen", "--key-type", "EC:prime256v1", "--label", label, "--id", object_id.hex()]

    def tool(arguments: list[str]) -> str:
        done = subprocess.run(
            [*command, *arguments],
            env=deployment.process_environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout

    tool(make)
    path = deployment.folder / "provisioning.toml"
    path.write_text(ANOTHER, encoding="utf-8")
    for _ in range(2):
        done = deployment.run("init", "--config", str(deployment.config), str(path), "--json")
        assert done.returncode != 0
        assert json.loads(done.stdout)["error"]["rule"] == "hsm/object-exists"
    assert tool(["--list-objects"]).count(label) == 2
