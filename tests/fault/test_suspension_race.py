"""Four workers sign with a key while another process suspends it: nothing is signed after the suspension's commit."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from cryptosvc.client.errors import NotPermitted, WrongState
from tests.deployment import KEY, ONCE, REPOSITORY, Deployment, make_deployment
from tests.load import Load, until


@pytest.fixture(params=["sqlite", "postgres"])
def deployment(request: pytest.FixtureRequest, tmp_path: Path) -> Deployment:
    store = "sqlite:///cryptosvc.db"
    if request.param == "postgres":
        store = request.getfixturevalue("postgres_server").make_database()
    return make_deployment(tmp_path, store=store, workers=4)


async def test_nothing_is_signed_after_the_suspension(deployment: Deployment):
    load = Load(deployment)
    said: dict = {}

    def script() -> None:
        with subprocess.Popen(
            [sys.executable, "-m", "tests.store_administrator", str(deployment.config), KEY, "suspended"],
            env=deployment.process_environment,
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as administrator:
            assert administrator.stdout is not None
            assert json.loads(administrator.stdout.readline()) == {"ready": "active"}
            until(lambda: len(load.signed) > 200, 60, "two hundred signatures")
            out, _ = administrator.communicate(b"\n", timeout=60)
        said.update(json.loads(out))
        until(lambda: len(load.since(said["committed"])) > 50, 60, "fifty answers after it")

    with deployment.serving():
        public_point = deployment.public_point()
        await load.run(script, unary=8, batches=4, pause=0.002, retries=ONCE)
        log = deployment.verified_log()

    committed = said["committed"]
    # what was sent after the commit was refused, every time, by name
    after = load.since(committed)
    assert len(after) > 50
    assert {type(one.answer) for one in after} <= {WrongState, NotPermitted}
    assert load.signed
    assert max(one.sent_at for one in load.signed) < committed
    # what was signed was claimed under the version before; the suspension's leaf may come before its record
    load.require_logged(log, public_point)
    suspension = next(
        entry
        for entry in log.of_kind("key-record")
        if entry.fields["key"] == KEY and entry.fields["state"] == "suspended"
    )
    assert suspension.fields["record_version"] == 3  # ordered, generated, suspended
    assert {entry.fields["key_version"] for entry in log.uses()} == {2}
    # the order of claims is the database's: no group after the newest that the suspension found holds a use of the key
    later = claimed_after(deployment, said["newest_claim_group"])
    assert all(log.entries[leaf].fields["key"] != KEY for leaf in later if leaf < len(log.entries))
    refused = [
        entry
        for entry in log.of_kind("refusal")
        if entry.fields["key"] == KEY and entry.fields["reason"] == "WRONG_STATE"
    ]
    assert len(refused) >= len(after)


def claimed_after(deployment: Deployment, group: int) -> list[int]:
    """Leaves of claims opened after a group."""
    if deployment.store.startswith("sqlite"):
        with closing(sqlite3.connect(deployment.database)) as connection:
            rows = connection.execute("SELECT leaves FROM claim WHERE claim_batch > ?", (group,)).fetchall()
    else:
        with psycopg.connect(deployment.store.replace("+psycopg", "")) as connection:
            rows = connection.execute("SELECT leaves FROM claim WHERE claim_batch > %s", (group,)).fetchall()
    slots = [leaves[at : at + 8] for (leaves,) in rows for at in range(0, len(leaves), 8)]
    assert b"\xff" * 8 not in slots
    return [int.from_bytes(slot) for slot in slots]
