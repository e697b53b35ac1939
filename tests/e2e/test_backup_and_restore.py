"""A running service is backed up, goes on, is lost, and is put back: on SQLite, then into PostgreSQL (G2.16)."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psycopg
import pyrage
import pytest

from cryptosvc.client.errors import Conflict, WrongState
from cryptosvc.core import statement as statements
from cryptosvc.core.statement import Statement
from tests import governed
from tests.deployment import Deployment, pre_command_request
from tests.e2e.test_governed_deployment import ENTITY, KEY, caller
from tests.governance import Person
from tests.governed import Office

GONE = "supplier-gone"


def approvals(
    folder: Path, statement: Statement, people: Mapping[str, Person], names: Sequence[str]
) -> list[str]:
    """Envelopes as files, and the arguments that name them."""
    arguments: list[str] = []
    for name in names:
        path = folder / f"restore.{name}"
        path.write_bytes(people[name].endorse(statement))
        arguments += ["--approval", str(path)]
    return arguments


class Desk:
    """An operator at `cryptosvc restore`."""

    def __init__(self, deployment: Deployment, sealed: Path, key: Path) -> None:
        self.deployment = deployment
        self.always = ("restore", str(sealed), "--key", str(key), "--config", str(deployment.config))

    def refused(self, *arguments: str) -> str:
        done = self.deployment.run(*self.always, *arguments, "--json")
        assert done.returncode != 0, done.stdout
        return str(json.loads(done.stdout)["error"]["rule"])

    def done(self, *arguments: str) -> dict:
        return self.deployment.json(*self.always, *arguments)


def begun(office: Office, deployment: Deployment) -> None:
    """A supplier and two keys in use."""
    office.carry("caller.register", "supplier", record=caller(deployment, "supplier", "command-signing"))
    for name in (KEY, GONE):
        office.key(name, "command-signing", role=2, eui64=ENTITY)
        office.carry("key.activate", name)


def test_a_store_is_lost_and_put_back_and_nothing_is_signed_twice(tmp_path: Path, postgres_server) -> None:
    identity = pyrage.x25519.Identity.generate()
    key, sealed = tmp_path / "restore.key", tmp_path / "store.age"
    key.write_text(f"# who may restore\n{identity}\n")
    deployment, people = governed.founded(tmp_path)
    certificate = tmp_path / "gone.json"
    with deployment.serving(), deployment.client("office") as client:
        office = Office(client, people)
        begun(office, deployment)
        with deployment.client("supplier") as supplier:
            supplier.sign(pre_command_request(2, key_id=KEY))
            config = ("--config", str(deployment.config))
            made = deployment.json("backup", str(sealed), "--to", str(identity.to_public()), *config)
            supplier.sign(pre_command_request(3, key_id=KEY))  # after the backup
        office.carry("key.deactivate", GONE)
        office.carry("key.destroy", GONE)
        deployment.json("destruction", "certify", GONE, str(certificate), *config)
        template = office.statement("log.restore", made["backup"], size=int(made["size"]), known=0)
    assert sealed.stat().st_mode & 0o077 == 0
    assert b"supplier" not in sealed.read_bytes()
    desk = Desk(deployment, sealed, key)
    # into an empty store only
    assert desk.refused() == "restore/not-empty"
    old = deployment.database.rename(tmp_path / "old.db")
    replaced = ("--replaces", f"sqlite:///{old}", "--destroyed", str(certificate))
    # the log went on: without a quorum it is not put back
    seen = desk.done("--look", *replaced)
    assert (seen["backup"], seen["size"]) == (made["backup"], int(made["size"]))
    assert seen["known"] > seen["size"]
    assert (seen["needs_quorum"], seen["destroyed_since"]) == (True, [GONE])
    assert desk.refused(*replaced) == "restore/rolls-back"
    statement = replace(template, parameters={"size": seen["size"], "known": seen["known"]})
    office_desk = ("--caller", "office", *replaced)
    few = approvals(tmp_path, statement, people, ("ada", "ben"))
    assert desk.refused(*few, *office_desk).startswith("quorum/")
    less = replace(template, parameters={"size": seen["size"], "known": seen["known"] - 1})
    less_given = approvals(tmp_path, less, people, ("ada", "ben", "cat"))
    assert desk.refused(*less_given, *office_desk) == "restore/other-act"
    # with one it is, and the log says so for ever
    enough = approvals(tmp_path, statement, people, ("ben", "ada", "cat"))
    done = desk.done(*enough, *office_desk)
    assert done["proposal"] == statements.proposal_id(statement)
    assert done["destroyed"] == 1
    assert (tmp_path / f"head.anchor.before-{made['backup'][:16]}").exists()
    with deployment.serving(), deployment.client("office") as client:
        office = Office(client, people)
        record = office.record("key", GONE)
        assert record is not None
        assert record["state"] == "destroyed"
        with deployment.client("supplier") as supplier:
            with pytest.raises(WrongState):
                supplier.sign(pre_command_request(3, key_id=KEY))
            with pytest.raises(WrongState) as held:
                office.carry("key.resume", KEY)
            assert held.value.rule == "restore/held"
            office.carry("key.advance", KEY, above="gbcs-counter=3")
            office.carry("key.resume", KEY)
            with pytest.raises(
                Conflict
            ) as lost:  # other bytes under a counter that was used, and is forgotten
                supplier.sign(pre_command_request(3, key_id=KEY))
            assert lost.value.rule == "restore/not-above"
            supplier.sign(pre_command_request(4, key_id=KEY))
        again = deployment.json(
            "backup", str(tmp_path / "again.age"), "--to", str(identity.to_public()), *config
        )
    log = deployment.verified_log()
    (restored,) = log.of_kind("restored")
    assert restored.fields["facts"]["backup"] == made["backup"]
    assert restored.fields["facts"]["known"] == str(seen["known"])
    assert [one.fields["facts"]["backup"] for one in log.of_kind("backup")] == [again["backup"]]
    into_postgresql(
        deployment, tmp_path / "again.age", key, int(again["size"]), postgres_server.make_database()
    )


def into_postgresql(deployment: Deployment, sealed: Path, key: Path, size: int, url: str) -> None:
    """The same store, on another host with another engine: what its claims took is taken there too."""
    deployment.store = url
    deployment.configure()
    (deployment.folder / "head.anchor").unlink()
    desk = Desk(deployment, sealed, key)
    # what nobody knows anything of may have gone on; a checkpoint from elsewhere says how far it is known to have
    assert desk.refused() == "restore/rolls-back"
    note = deployment.folder / "auditor.note"
    note.write_bytes(newest_note(deployment.folder / "cryptosvc.db", size))
    assert desk.done("--known", str(note))["proposal"] == ""
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        (taken,) = connection.execute("SELECT count(*) FROM taken").fetchone() or (0,)
        (head,) = connection.execute("SELECT max(leaf_index) + 1 FROM leaf").fetchone() or (0,)
    assert taken > 0
    assert head > size
    log = deployment.verified_log()
    assert len(log.of_kind("restored")) == 2
    assert log.of_kind("key-record")[-1].fields["because"] == {"rule": "restore/rewound"}


def newest_note(database: Path, at_most: int) -> bytes:
    """A signed checkpoint out of a store that is not served."""
    with closing(sqlite3.connect(database)) as connection:
        row = connection.execute(
            "SELECT note FROM checkpoint WHERE size <= ? ORDER BY size DESC LIMIT 1", (at_most,)
        ).fetchone()
    return bytes(row[0])
