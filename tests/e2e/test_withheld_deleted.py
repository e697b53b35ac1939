"""What the log holds is sealed under a key of the module, and deleted with it under dual control (G2.17, G2.18)."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyrage
import pytest

from cryptosvc.client.errors import NotPermitted, WrongState
from cryptosvc.core import erased
from tests import governed
from tests.deployment import Deployment, Log
from tests.governed import Office
from tests.hsm_fixtures import REPOSITORY

PERIOD = "log-2026"


def second_verifier(deployment: Deployment, log: Log, folder: Path) -> str:
    """What `scripts/verify_log.py` says of a log."""
    export = folder / "second.export"
    export.write_bytes(log.octets)
    command = (REPOSITORY / "scripts" / "verify_log.py", export, deployment.folder / "log.pub.pem")
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=60, check=False)
    return (done.stdout + done.stderr).strip()


def asking(deployment: Deployment) -> Callable[..., dict]:
    """Commands of the auditor, against the running service."""
    tls = deployment.folder / "tls"
    connection = (
        *("--target", f"127.0.0.1:{deployment.port}", "--ca", str(tls / "ca.pem")),
        *("--cert", str(tls / "auditor.pem"), "--key", str(tls / "auditor.key")),
    )
    return lambda *arguments: deployment.json("audit", *arguments, *connection)


def show_refused(deployment: Deployment, leaf_index: int) -> str:
    """The rule by which an entry is not shown."""
    with deployment.client("auditor") as client, pytest.raises(WrongState) as refused:
        client.get_entry(leaf_index)
    return refused.value.rule


def test_a_retention_period_ends_and_hashes_are_left(tmp_path: Path) -> None:
    deployment, people = governed.founded(tmp_path)
    config = ("--config", str(deployment.config))
    log_key = ("--key", str(deployment.folder / "log.pub.pem"))

    def refused(*arguments: str) -> str:
        done = deployment.run("audit", *arguments, *config, "--json")
        assert done.returncode != 0, done.stdout
        return str(json.loads(done.stdout)["error"]["rule"])

    with deployment.serving(), deployment.client("office") as client, deployment.client("auditor") as auditor:
        office, ask = Office(client, people), asking(deployment)
        for number in range(5):  # reads of the auditor, and refusals of somebody who is none
            auditor.get_entry(number)
            with pytest.raises(NotPermitted):
                client.get_entry(number)
        office.key(PERIOD, "log-authentication")
        assert refused("seal", "log-head", "--before", "2020-01-01") == "segment/key"
        assert refused("seal", PERIOD, "--before", "2020-01-01") == "segment/key-state"
        office.carry("key.activate", PERIOD)
        time.sleep(1.0 - time.time() % 1)  # a date has whole seconds
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")
        done = deployment.json("audit", "seal", PERIOD, "--before", now, *config)
        assert int(done["entries"]) > int(done["whole"]) > 5
        identity = pyrage.x25519.Identity.generate()
        key, backup = tmp_path / "restore.key", tmp_path / "store.age"
        key.write_text(f"{identity}\n")
        deployment.json("backup", str(backup), "--to", str(identity.to_public()), *config)
        whole = deployment.verified_log()  # read as before
        told = [one for one in whole.of_kind("governed") if "principal" in one.withheld]
        assert told[0].withheld["principal"][1] == "office"
        read = next(one for one in whole.of_kind("read") if one.withheld)
        assert ask("show", str(read.leaf_index))["withheld"]["principal"] == "auditor"
        # to a file and back: the file the log knows, and no other
        file = tmp_path / "segment"
        assert deployment.json("audit", "archive", PERIOD, str(file), *config)["entries"] == done["entries"]
        away = deployment.verified_log()
        assert len(away.of_kind("erased")) == away.verdict["archived"] == int(done["whole"])
        assert second_verifier(deployment, away, tmp_path).startswith("verified: ")
        (tmp_path / "other").write_bytes(file.read_bytes() + b"\n")
        assert refused("bring-back", str(tmp_path / "other")) == "segment/archive"
        back = deployment.json("audit", "bring-back", str(file), *config)
        assert (back["key"], back["entries"]) == (PERIOD, done["entries"])
        assert refused("retire", PERIOD) == "segment/not-destroyed"
        # destroyed by its quorum: from this moment on it is gone, whoever still has the octets
        office.carry("key.deactivate", PERIOD)
        office.carry("key.destroy", PERIOD)
        deployment.json("destruction", "certify", PERIOD, str(tmp_path / "gone.json"), *config)
        assert deployment.verified_log().verdict["erased"] == int(done["whole"])
        assert refused("bring-back", str(file)) == "segment/destroyed"
        gone = deployment.json("audit", "retire", PERIOD, *config)
        assert gone["entries"] == done["entries"]
        # the service goes on: what is asked of it says what is missing
        office.carry(
            "key.order",
            "after",
            **{"class": "tls", "module": "softhsm", "classification": "secret", "responsible": "Ada"},
        )
        assert show_refused(deployment, read.leaf_index) == "audit/erased"
        assert ask("prove", str(read.leaf_index))["leaf_hash"] == read.leaf_hash.hex()
        assert ask("usage", PERIOD)["erased_in_log"] == int(done["whole"])
        kept = ask("range", str(tmp_path / "range"))
        found = deployment.json("audit", "complete", str(tmp_path / "range"), *log_key, "-w", "kind=read")
        assert (found["to"], found["erased"]) == (kept["to"], int(done["whole"]))
        assert found["undecided"] >= found["erased"]
    log = deployment.verified_log()  # every proof and every change of a record as before
    assert f", {len(log.entries)} entries, " in second_verifier(deployment, log, tmp_path)
    stop = int(done["stop"])
    for now_is, was in zip(log.entries[:stop], whole.entries[:stop], strict=True):
        assert now_is.leaf_hash == was.leaf_hash
        assert now_is.octets == was.octets or now_is.fields["kind"] == "erased"
    kinds = {
        was.fields["kind"]
        for one, was in zip(log.entries, whole.entries, strict=False)
        if one.fields["kind"] == "erased"
    }
    assert {"read", "refusal"} <= kinds <= erased.KINDS
    assert not any(one.withheld for one in log.entries[:stop] if one.fields["kind"] == "governed")
    assert any(one.withheld for one in log.entries[stop:] if one.fields["kind"] == "governed")
    ((retired,), (sealed,)) = log.of_kind("retired"), log.of_kind("sealed")
    assert retired.fields["facts"] == {"key": PERIOD, "entries": done["entries"]}
    assert (sealed.fields["facts"]["start"], sealed.fields["facts"]["stop"]) == ("0", str(stop))
    # a backup from before holds noise as well, and verifies where the key's certificate is shown
    deployment.database.rename(tmp_path / "old.db")
    look = ("restore", str(backup), "--key", str(key), *config, "--look")
    unread = deployment.run(*look, "--json")
    assert (unread.returncode, json.loads(unread.stdout)["error"]["rule"]) == (
        5,
        "hsm/object-missing",
    )
    seen = deployment.json(*look, "--destroyed", str(tmp_path / "gone.json"))
    assert seen["destroyed_since"] == [PERIOD]
    # a hash in the place of an entry that nobody deleted is found by both
    lines = log.octets.split(b"\n\n", 1)
    later = lines[1].splitlines(keepends=True)
    later[-2] = log.entries[-2].leaf_hash.hex().encode() + b"\t\n"
    forged = Log(b"\n\n".join([lines[0], b"".join(later)]), log.entries)
    assert second_verifier(deployment, forged, tmp_path) == "does not hold: export/erased"
    (tmp_path / "forged").write_bytes(forged.octets)
    answer = deployment.run("audit", "verify", str(tmp_path / "forged"), *log_key, "--json")
    assert (answer.returncode, json.loads(answer.stdout)["error"]["rule"]) == (4, "export/erased")
