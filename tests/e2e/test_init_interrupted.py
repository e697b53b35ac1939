"""`init`, killed while it makes keys: no key without a record, reconcile names what is there, and it is run again.

Covers SEC G5.13(b): a key is registered and ordered before it is generated; its crypto-period runs from its activation.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cryptosvc.__main__ import main
from cryptosvc.adapters.hsm.provision import Provisioner
from cryptosvc.config import provisioning
from cryptosvc.core.keyclass import KEY_CLASSES
from cryptosvc.core.life import DAY, Event
from cryptosvc.core.lifecycle import CRYPTO_PERIOD, schedule
from cryptosvc.core.registry import KeyRecord, KeyState, record_from_document
from cryptosvc.wiring import logkeys
from tests.deployment import CALLERS, KEY, KEYS, Deployment, pre_command_request, prepared

MORE = "".join(
    f'\n[[keys]]\nid = "more-{number}"\nclass = "command-signing"\nrole = 2\n' for number in range(3)
)


def kill_before(call: int, arguments: list[str]) -> None:
    """Be `cryptosvc init`, killed right after the n-th key was generated on the module and before anything else."""
    generate = Provisioner.generate
    calls = 0

    def dying(self: Provisioner, *given: object) -> bytes:
        nonlocal calls
        made = generate(self, *given)  # type: ignore[arg-type]
        calls += 1
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return made

    Provisioner.generate = dying  # type: ignore[method-assign,assignment]
    sys.argv = ["cryptosvc", *arguments]
    main()


def killed(deployment: Deployment, call: int, path: Path) -> None:
    done = deployment.run(
        str(call),
        "init",
        "--config",
        str(deployment.config),
        str(path),
        module="tests.e2e.test_init_interrupted",
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def reconciled(deployment: Deployment) -> set[tuple[str, str]]:
    """Kind and subject of each difference `reconcile` finds."""
    done = deployment.run("reconcile", "--config", str(deployment.config), "--json")
    assert done.returncode in {0, 1}, done.stdout
    found = json.loads(done.stdout)
    assert bool(found) == bool(done.returncode)
    return {(one["kind"], one["subject"]) for one in found}


def documents(deployment: Deployment) -> list[KeyRecord]:
    """Every version of the record of the caller's key, from the log alone."""
    found = [
        record_from_document("key-record", json.loads(one.withheld["document"][1]))
        for one in deployment.verified_log().of_kind("key-record")
    ]
    return [one for one in found if isinstance(one, KeyRecord) and one.key_id == KEY]


MARK_AND_HEAD = 2
"""What `init` generates before there is a log that could have a record of it: the token's owner, the key of the head."""


@pytest.mark.parametrize("call", [1, 2, 3, 5])
def test_what_a_killed_init_left_is_named_and_made_anew(tmp_path: Path, call: int) -> None:
    deployment = prepared(tmp_path / "deployment")
    path = deployment.folder / "provisioning.toml"
    path.write_text(KEYS + MORE + CALLERS, encoding="utf-8")
    killed(deployment, call, path)
    if call > MARK_AND_HEAD:
        named = {subject for kind, subject in reconciled(deployment) if kind == "unknown-object"}
        ordered = {entry.id for entry in provisioning.read_provisioning(path).keys} | {
            "log-audit",
            "log-service",
        }
        # each of them by the id of the key that was ordered: none is a stranger
        assert len(named) == call - MARK_AND_HEAD
        assert named <= ordered
    # run again, all of it is there
    answer = deployment.init(KEYS + MORE + CALLERS)
    assert {KEY, "more-0", "more-1", "more-2"} <= set(answer["keys_generated"])
    again = [remark for remark in answer["remarks"] if "interrupted run" in remark]
    assert len(again) == max(0, call - MARK_AND_HEAD)
    assert reconciled(deployment) == set()
    assert [one.state for one in documents(deployment)] == [KeyState.ORDERED, KeyState.ACTIVE]
    with deployment.serving(), deployment.client() as client:
        client.sign(pre_command_request(1))
    # and nothing more is done the third time
    assert deployment.init(KEYS + MORE + CALLERS)["keys_generated"] == []


def test_a_key_of_init_has_its_crypto_period(tmp_path: Path) -> None:
    deployment = prepared(tmp_path / "deployment")
    deployment.init()
    *_, key = documents(deployment)
    begun = key.life.when(Event.ACTIVATE)
    assert begun is not None
    (ends,) = schedule(key)
    assert (ends.event, ends.rule) == (Event.DEACTIVATE, CRYPTO_PERIOD)
    assert ends.at == begun + KEY_CLASSES["command-signing"].crypto_period_days * DAY


def test_an_object_that_init_did_not_begin_is_in_the_way_and_stays(tmp_path: Path) -> None:
    deployment = prepared(tmp_path / "deployment")
    deployment.init("")
    label, object_id = "more-0", logkeys.object_id("more-0")
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
    path.write_text(MORE, encoding="utf-8")
    for _ in range(2):
        done = deployment.run("init", "--config", str(deployment.config), str(path), "--json")
        assert done.returncode != 0
        assert json.loads(done.stdout)["error"]["rule"] == "hsm/object-exists"
    assert tool(["--list-objects"]).count(label) == 2


if __name__ == "__main__":
    kill_before(int(sys.argv[1]), sys.argv[2:])
