"""A service and a witness, each a process of its own: checkpoints are cosigned, and a log put back is found out."""

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cryptosvc.core import checkpoint as notes
from cryptosvc.core.witness import Witness, cosignatures
from tests.deployment import REPOSITORY, Deployment, make_deployment, pre_command_request
from tests.load import until

NAME = "auditor.example/witness"
WITNESSES = """
[[witnesses]]
key = "{key}"
url = "http://127.0.0.1:{port}"
"""


@contextmanager
def witness(deployment: Deployment, folder: Path) -> Iterator[tuple[str, int]]:
    """Run a witness of this deployment's log; its verifier key and port."""
    key = folder / "witness.pem"
    made = deployment.json("witness", "key", str(key), "--name", NAME)
    assert key.stat().st_mode & 0o777 == 0o600
    command = [sys.executable, "-m", "cryptosvc", "witness", "serve", "--state", str(folder / "state")]
    command += ["--key", str(key), "--name", NAME, "--listen", "127.0.0.1:0"]
    command += ["--log", f"cryptosvc.example/fault={deployment.folder / 'log.pub.pem'}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline().split()[-1])
        yield made["verifier_key"], port
    finally:
        process.terminate()
        process.wait(20)
        assert process.stdout is not None
        process.stdout.close()


def newest(deployment: Deployment, key: str) -> int:
    """Size of the newest checkpoint if the witness has cosigned it, else 0."""
    with deployment.client("auditor") as client:
        note = client.get_checkpoint()
    found = cosignatures(note, [Witness.parse(key)])
    return notes.parse(note).checkpoint.size if found else 0


@pytest.mark.slow
def test_checkpoints_are_cosigned_and_a_log_that_was_put_back_is_found_out(tmp_path: Path) -> None:
    deployment = make_deployment(tmp_path / "deployment", checkpoint_seconds=1, workers=1)
    with witness(deployment, tmp_path) as (key, port):
        deployment.configure(more=WITNESSES.format(key=key, port=port))
        with deployment.serving(), deployment.client() as client:
            client.sign(pre_command_request(1))
            until(lambda: newest(deployment, key) > 1, 30, "a cosignature")
        yesterday = tmp_path / "yesterday"
        yesterday.mkdir()
        kept = [*deployment.folder.glob("cryptosvc.db*"), deployment.folder / "head.anchor"]
        for path in kept:
            shutil.copy(path, yesterday)
        with deployment.serving(), deployment.client() as client:
            client.sign(pre_command_request(2))
            before = newest(deployment, key)
            until(lambda: newest(deployment, key) > before, 30, "another cosignature")
            export = tmp_path / "export"
            deployment.json("audit", "export", str(export), "--config", str(deployment.config))
        # verified with the witness, and not without one that is asked for
        verify = ("audit", "verify", str(export), "--key", str(deployment.folder / "log.pub.pem"))
        shown = deployment.json("witness", "show", "--state", str(tmp_path / "state"))
        (seen,) = shown
        assert seen["origin"] == "cryptosvc.example/fault"
        (cosigned,) = deployment.json(*verify, "--witness", key)["cosigned"]
        assert cosigned["witness"] == NAME
        assert cosigned["entries"] > before
        other = Witness("other", bytes(32)).text()
        missing = deployment.run(*verify, "--witness", key, "--witness", other, "--json")
        assert missing.returncode == 4
        assert json.loads(missing.stdout)["error"]["rule"] == "witness/quorum"
        # yesterday's database, with yesterday's anchor, so that nothing on this host can tell
        for path in deployment.folder.glob("cryptosvc.db*"):
            path.unlink()
        for path in yesterday.iterdir():
            shutil.copy(path, deployment.folder)
        with deployment.serving():
            until(lambda: "witness/rolled-back" in rules(deployment), 30, "the witness's objection")


def rules(deployment: Deployment) -> set[str]:
    """What witnesses objected to, as the log has it."""
    with sqlite3.connect(deployment.database) as connection:
        entries = [json.loads(entry) for (entry,) in connection.execute("SELECT entry FROM leaf")]
    connection.close()
    return {entry["facts"]["rule"] for entry in entries if entry["kind"] == "witness"}
