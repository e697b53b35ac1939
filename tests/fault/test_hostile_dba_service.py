"""A hostile database administrator against the running service: the next call is DATA_LOSS by name, and no key moves.

tests/fault/test_hostile_dba.py has every edit at the store's level, on both engines; here the same reaches the caller
over gRPC, from real workers, with the SQLite file edited beside them.
"""

import hashlib
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import grpc
import orjson
import pytest

from cryptosvc.adapters.store.heads import Head
from cryptosvc.client.errors import Corrupt
from cryptosvc.core.canonical import canonical
from cryptosvc.core.merkle import EMPTY, leaf_hash
from cryptosvc.core.registry_tree import Commitment, root_of
from tests.deployment import KEY, ONCE, Deployment, make_deployment, pre_command_request

pytestmark = pytest.mark.xdist_group("hostile-dba")  # one deployment for all tests of the file


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Deployment:
    """A deployment with a few signatures in its log, stopped; each test works on it as it is now."""
    deployment = make_deployment(tmp_path_factory.mktemp("dba") / "deployment", workers=1)
    with deployment.serving(), deployment.client() as client:
        for counter in range(1, 5):
            client.sign(pre_command_request(counter))
    shutil.copytree(deployment.folder, deployment.folder.with_name("kept"))
    return deployment


@pytest.fixture
def deployment(made: Deployment) -> Iterator[Deployment]:
    """It, as it was, and running."""
    for path in (*made.folder.glob("cryptosvc.db*"), *made.folder.glob("head.anchor*")):
        path.unlink()
    kept = made.folder.with_name("kept")
    for path in (*kept.glob("cryptosvc.db*"), *kept.glob("head.anchor*")):
        shutil.copy(path, made.folder)
    with made.serving():
        yield made


class Administrator:
    """Somebody with a shell on the database, who reads our source and has no key."""

    def __init__(self, deployment: Deployment) -> None:
        self._path = deployment.database

    def sql(self, statement: str, *values: object) -> list[tuple]:
        with closing(sqlite3.connect(self._path, timeout=10)) as connection, connection:
            return connection.execute(statement, values).fetchall()

    def one(self, statement: str, *values: object) -> object:
        ((found,),) = self.sql(statement, *values)
        return found

    def state(self) -> None:
        """A key's record."""
        self._record("key-record", KEY, state="compromised")

    def grant(self) -> None:
        """A caller's record."""
        self._record("caller-record", "supplier", grants=[_SIGN_ANYTHING])

    def leaf(self) -> None:
        """The newest signature's entry."""
        index = self.one("SELECT MAX(leaf_index) FROM leaf WHERE CAST(entry AS TEXT) LIKE '%\"signed\"%'")
        entry = self.one("SELECT entry FROM leaf WHERE leaf_index = ?", index)
        assert isinstance(entry, bytes)
        self.sql("UPDATE leaf SET entry = ? WHERE leaf_index = ?", entry.replace(b"signed", b"denied"), index)

    def head(self) -> None:
        """The head: another generation of the registry."""
        body = self.one("SELECT body FROM head")
        assert isinstance(body, bytes)
        generation = Head.parse(body).generation
        old, new = (b'"generation":%d' % number for number in (generation, generation + 1))
        assert old in body
        self.sql("UPDATE head SET body = ?", body.replace(old, new))

    def everything(self) -> None:
        """A grant, its leaf, the tree and the registry tree above them, and the head: all but its tag."""
        rows = self.sql("SELECT kind, record_id, version, leaf_index, document FROM record")
        entries = [entry for (entry,) in self.sql("SELECT entry FROM leaf ORDER BY leaf_index")]
        commitments = []
        for kind, record_id, version, leaf_index, document in rows:
            if (kind, record_id) == ("caller-record", "supplier"):
                document = canonical(orjson.loads(document) | {"grants": [_SIGN_ANYTHING]})  # noqa: PLW2901
                digest = hashlib.sha256(document).hexdigest()
                entries[leaf_index] = canonical(orjson.loads(entries[leaf_index]) | {"record_digest": digest})
                changed = (leaf_index, document)
            commitments.append(
                Commitment(kind, record_id, version, hashlib.sha256(document).digest(), leaf_index)
            )
        body = self.one("SELECT body FROM head")
        assert isinstance(body, bytes)
        head = Head.parse(body)
        forged = Head(
            head.origin,
            EMPTY.extended([leaf_hash(entry) for entry in entries]),
            head.generation,
            root_of(commitments),
        )
        with closing(sqlite3.connect(self._path, timeout=10)) as connection, connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(
                "UPDATE leaf SET entry = ? WHERE leaf_index = ?", (entries[changed[0]], changed[0])
            )
            connection.execute("UPDATE record SET document = ? WHERE record_id = 'supplier'", (changed[1],))
            connection.execute("UPDATE head SET body = ?", (forged.emit(),))

    def _record(self, kind: str, record_id: str, **changes: object) -> None:
        where = "WHERE kind = ? AND record_id = ?"
        document = self.one(f"SELECT document FROM record {where}", kind, record_id)  # noqa: S608
        edited = canonical(orjson.loads(document) | changes)
        assert edited != document
        self.sql(f"UPDATE record SET document = ? {where}", edited, kind, record_id)  # noqa: S608


LOOK_OVER_SECONDS = 0.3
"""What a decision rests on is looked at by every claim; entries of the log, on which none rests, every 0.25 s."""

_SIGN_ANYTHING = {"operation": "sign", "key_class": "root-oca", "key_ids": []}


@pytest.mark.parametrize(
    ("edit", "rule", "opened"),
    [
        (Administrator.state, "registry/record-not-in-log", "registry/record-rolled-back"),
        (Administrator.grant, "registry/record-not-in-log", "registry/record-rolled-back"),
        (Administrator.leaf, "log/leaf-changed", "log/leaf-changed"),
        (Administrator.head, "log/head-forged", "log/head-forged"),
        (Administrator.everything, "log/head-forged", "log/head-forged"),
    ],
)
def test_an_edit_is_data_loss_at_the_next_call_and_no_key_moves(
    deployment: Deployment, edit: Callable[[Administrator], None], rule: str, opened: str
):
    administrator = Administrator(deployment)
    with deployment.client(retries=ONCE, connections=1) as client:
        assert client.sign(
            pre_command_request(100)
        ).signature  # the worker holds these records as good by now
        edit(administrator)
        time.sleep(LOOK_OVER_SECONDS if edit is Administrator.leaf else 0)
        _refused_from_now_on(client, administrator, rule)
    refused_at_start(deployment, opened)


def test_yesterdays_database_put_back(deployment: Deployment):
    administrator = Administrator(deployment)
    with deployment.client(retries=ONCE, connections=1) as client:
        yesterday = deployment.folder / "yesterday.db"
        with (
            closing(sqlite3.connect(deployment.database)) as source,
            closing(sqlite3.connect(yesterday)) as copy,
        ):
            source.backup(copy)
        assert client.sign(pre_command_request(200)).signature
        with (
            closing(sqlite3.connect(yesterday)) as copy,
            closing(sqlite3.connect(deployment.database)) as source,
        ):
            copy.backup(source)
        _refused_from_now_on(client, administrator, "log/head-rolled-back")
    refused_at_start(deployment, "log/head-rolled-back")


def _refused_from_now_on(client, administrator: Administrator, rule: str) -> None:
    before = administrator.sql("SELECT claim_batch, leaves FROM claim ORDER BY claim_batch")
    leaves = administrator.one("SELECT COUNT(*) FROM leaf")
    for counter in (101, 102, 103):
        with pytest.raises(Corrupt) as refused:
            client.sign(pre_command_request(counter))
        assert refused.value.code is grpc.StatusCode.DATA_LOSS
        assert refused.value.rule == rule
    # a key is only ever used under a claim
    assert administrator.sql("SELECT claim_batch, leaves FROM claim ORDER BY claim_batch") == before
    assert administrator.one("SELECT COUNT(*) FROM leaf") == leaves


def refused_at_start(deployment: Deployment, rule: str) -> None:
    """Starting again does not help: whoever opens the store says the same."""
    deployment.stop()
    done = deployment.run(
        "audit", "export", "--config", str(deployment.config), str(deployment.folder / "x.export"), "--json"
    )
    assert done.returncode != 0
    assert rule in done.stdout + done.stderr
