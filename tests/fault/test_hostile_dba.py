"""A database administrator without the head's key edits what is stored: caught before the next signature, by name.

Both engines. What stands for "the next signature" is a claim: no key moves without one. Each edit is made on a
connection of the administrator's own, while the worker runs.
"""

import hashlib
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import orjson
import psycopg
import pytest

from cryptosvc.adapters.store.heads import Head
from cryptosvc.adapters.store.ledger import Limits
from cryptosvc.adapters.store.records import row_of
from cryptosvc.core.canonical import canonical
from cryptosvc.core.errors import Corrupt
from cryptosvc.core.merkle import EMPTY, leaf_hash
from cryptosvc.core.record import Claim
from cryptosvc.core.registry import CallerState, Grant, KeyState
from cryptosvc.core.registry_tree import Commitment, root_of
from tests.store_stand import (
    CALLER,
    KEY,
    SetClock,
    Stand,
    authorised,
    checked,
    new_database,
    observed,
    open_stand,
)

Sql = Callable[..., list[tuple]]


@dataclass
class Scene:
    """A worker that runs, and an administrator with a shell."""

    stand: Stand
    url: str
    folder: Path

    def sql(self, statement: str, *values: object) -> list[tuple]:
        if self.url.startswith("sqlite"):
            with closing(sqlite3.connect(self.url.removeprefix("sqlite:///"))) as connection, connection:
                return connection.execute(statement, values).fetchall()
        with psycopg.connect(self.url.replace("+psycopg", ""), autocommit=True) as connection:
            cursor = connection.execute(statement.replace("?", "%s"), values)
            return cursor.fetchall() if cursor.description else []

    async def sign(self) -> None:
        """Walk the store's part of the corridor for one request, as flow/sign.py does."""
        view = await self.stand.keys.keys([KEY.key_id])
        caller = await self.stand.keys.caller(CALLER.certificate_sha256)
        assert caller is not None
        item = authorised(generation=view.generation, key=view.keys[KEY.key_id], caller=caller)
        (claim,) = await self.stand.ledger.claim([item])
        assert isinstance(claim, Claim), claim
        await self.stand.ledger.record([checked(claim)])

    async def caught(self, *rules: str) -> None:
        """The next signature is refused by one of these names, and nothing is accepted after."""
        before = self.sql("SELECT COUNT(*) FROM claim")
        with pytest.raises(Corrupt) as found:
            await self.sign()
        assert found.value.rule in rules
        assert self.sql("SELECT COUNT(*) FROM claim") == before
        for again in (self.stand.ledger.claim([authorised()]), self.stand.ledger.record([observed()])):
            with pytest.raises(Corrupt) as found:
                await again
            assert found.value.rule in rules

    async def reopened(self, rule: str) -> None:
        """A worker started on this store refuses it."""
        with pytest.raises(Corrupt) as found:
            await open_stand(self.url, self.folder)
        assert found.value.rule == rule


@pytest.fixture(params=["sqlite", "postgres"])
async def scene(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Scene]:
    url = f"sqlite:///{tmp_path}/store.db"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_server").make_database()
    stand = await open_stand(new_database(url), tmp_path, first=True)
    scene = Scene(stand, url, tmp_path)
    await stand.keys.change([KEY, CALLER])
    await stand.keys.change([replace(KEY, version=2, state=KeyState.SUSPENDED)])
    await stand.keys.change([replace(KEY, version=3, state=KeyState.ACTIVE)])
    for _ in range(4):
        await scene.sign()
    yield scene
    await stand.ledger.close()


def edited(scene: Scene, kind: str, **changes: object) -> bytes:
    ((document,),) = scene.sql("SELECT document FROM record WHERE kind = ?", kind)
    return canonical(orjson.loads(document) | changes)


async def test_without_an_edit_signing_goes_on(scene: Scene) -> None:
    await scene.sign()
    await scene.stand.ledger.close()
    again = await open_stand(scene.url, scene.folder)
    await Scene(again, scene.url, scene.folder).sign()
    await again.ledger.close()


async def test_a_keys_state(scene: Scene) -> None:
    scene.sql(
        "UPDATE record SET document = ? WHERE kind = 'key-record'",
        edited(scene, "key-record", state="compromised"),
    )
    await scene.caught("registry/record-not-in-log")


async def test_a_callers_grant(scene: Scene) -> None:
    grants = [{"operation": "sign", "key_class": "root-oca", "key_ids": []}]
    scene.sql(
        "UPDATE record SET document = ? WHERE kind = 'caller-record'",
        edited(scene, "caller-record", grants=grants),
    )
    await scene.caught("registry/record-not-in-log")


async def test_an_edit_and_a_new_generation_to_have_it_read(scene: Scene) -> None:
    scene.sql(
        "UPDATE record SET document = ? WHERE kind = 'key-record'",
        edited(scene, "key-record", state="active", label="other"),
    )
    scene.sql("UPDATE registry_state SET generation = generation + 1")
    await scene.caught("registry/generation-forged")


async def test_an_edit_is_refused_by_a_worker_that_starts(scene: Scene) -> None:
    scene.sql(
        "UPDATE record SET document = ? WHERE kind = 'key-record'",
        edited(scene, "key-record", state="suspended"),
    )
    await scene.stand.ledger.close()
    stand = await open_stand(scene.url, scene.folder)
    await Scene(stand, scene.url, scene.folder).caught("registry/record-not-in-log")
    await stand.ledger.close()


async def test_one_record_put_back_to_an_older_version_whose_leaf_is_still_in_the_log(scene: Scene) -> None:
    older = row_of(replace(KEY, version=1), 1)
    scene.sql(
        "UPDATE record SET version = ?, leaf_index = ?, document = ? WHERE kind = 'key-record'",
        1,
        1,
        older.document,
    )
    await scene.caught("registry/record-rolled-back")


async def test_a_revocation_undone_by_removing_the_record(scene: Scene) -> None:
    revoked = replace(CALLER, version=2, state=CallerState.REVOKED)
    await scene.stand.keys.change([revoked])
    scene.sql("DELETE FROM record WHERE kind = 'key-record'")
    await scene.stand.ledger.close()
    stand = await open_stand(scene.url, scene.folder)
    with pytest.raises(Corrupt) as found:
        await stand.keys.keys([KEY.key_id])
    assert found.value.rule == "registry/record-rolled-back"
    await stand.ledger.close()


async def test_the_newest_leaf(scene: Scene) -> None:
    ((entry,),) = scene.sql("SELECT entry FROM leaf ORDER BY leaf_index DESC LIMIT 1")
    scene.sql(
        "UPDATE leaf SET entry = ? WHERE leaf_index = (SELECT MAX(leaf_index) FROM leaf)",
        entry.replace(b"signed", b"denied"),
    )
    await scene.caught("log/leaf-changed")


async def test_an_older_leaf(scene: Scene) -> None:
    ((entry,),) = scene.sql("SELECT entry FROM leaf WHERE leaf_index = 2")
    scene.sql("UPDATE leaf SET entry = ? WHERE leaf_index = 2", entry + b" ")
    await scene.caught("log/leaf-changed")


async def test_the_leaf_of_a_record_together_with_the_record(scene: Scene) -> None:
    grants = (Grant(operation="sign", key_class="root-oca"),)
    wider = row_of(replace(CALLER, grants=grants), 2)
    ((entry,),) = scene.sql("SELECT entry FROM leaf WHERE leaf_index = 2")
    digest = hashlib.sha256(wider.document).hexdigest()
    forged = canonical(orjson.loads(entry) | {"record_digest": digest})
    scene.sql("UPDATE leaf SET entry = ? WHERE leaf_index = 2", forged)
    scene.sql("UPDATE record SET document = ? WHERE kind = 'caller-record'", wider.document)
    await scene.caught("log/leaf-changed")


async def test_the_newest_leaves_removed(scene: Scene) -> None:
    scene.sql("DELETE FROM leaf WHERE leaf_index >= (SELECT MAX(leaf_index) - 1 FROM leaf)")
    await scene.caught("log/leaf-missing")


async def test_a_leaf_in_the_middle_removed(scene: Scene) -> None:
    scene.sql("DELETE FROM leaf WHERE leaf_index = 3")
    await scene.caught("log/leaf-missing", "log/leaf-changed")


async def test_a_leaf_added_beyond_the_head(scene: Scene) -> None:
    scene.sql(
        "INSERT INTO leaf (leaf_index, entry, withheld) SELECT MAX(leaf_index) + 1, entry, withheld FROM leaf GROUP BY entry, withheld, leaf_index ORDER BY leaf_index DESC LIMIT 1"
    )
    view = await scene.stand.keys.keys([KEY.key_id])
    answers = await scene.stand.ledger.claim([authorised(generation=view.generation)])
    with pytest.raises(Corrupt) as found:
        await scene.stand.ledger.record([checked(one) for one in answers if isinstance(one, Claim)])
    assert found.value.rule in ("log/leaf-missing", "store/foreign-rows")


async def test_the_head(scene: Scene) -> None:
    ((body,),) = scene.sql("SELECT body FROM head")
    scene.sql("UPDATE head SET body = ?", body.replace(b'"generation":3', b'"generation":4'))
    await scene.caught("log/head-forged")


async def test_the_heads_tag(scene: Scene) -> None:
    scene.sql("UPDATE head SET tag = ?", bytes(32))
    await scene.caught("log/head-forged")


async def test_the_head_removed(scene: Scene) -> None:
    scene.sql("DELETE FROM head")
    await scene.caught("log/head-removed")


async def test_all_of_them_consistently(scene: Scene) -> None:
    """Every hash recomputed as the service would: record, leaf, tree, registry tree and head; only the key is missing."""
    wider = replace(CALLER, grants=(Grant(operation="sign", key_class="root-oca"),), auditor=True)
    row = row_of(wider, 2)
    entries = [entry for (entry,) in scene.sql("SELECT entry FROM leaf ORDER BY leaf_index")]
    entries[2] = canonical(
        orjson.loads(entries[2]) | {"record_digest": hashlib.sha256(row.document).hexdigest()}
    )
    ((body, tag),) = scene.sql("SELECT body, tag FROM head")
    head = Head.parse(body)
    key = row_of(replace(KEY, version=3), 4)
    registry = root_of(
        [
            Commitment(
                one.kind, one.record_id, one.version, hashlib.sha256(one.document).digest(), one.leaf_index
            )
            for one in (row, key)
        ]
    )
    forged = Head(
        head.origin, EMPTY.extended([leaf_hash(entry) for entry in entries]), head.generation, registry
    )
    scene.sql("UPDATE leaf SET entry = ? WHERE leaf_index = 2", entries[2])
    scene.sql("UPDATE record SET document = ? WHERE kind = 'caller-record'", row.document)
    scene.sql("UPDATE head SET body = ?, tag = ?", forged.emit(), tag)
    await scene.caught("log/head-forged")
    await scene.stand.ledger.close()
    await scene.reopened("log/head-forged")


async def test_yesterdays_head_alone(scene: Scene) -> None:
    ((body, tag),) = scene.sql("SELECT body, tag FROM head")
    await scene.sign()
    scene.sql("UPDATE head SET body = ?, tag = ?", body, tag)
    await scene.caught("log/head-rolled-back")


def put_aside(scene: Scene) -> dict[str, list[tuple]]:
    tables = ("registry_state", "head", "leaf", "claim", "opening", "record", "registry_node")
    return {table: scene.sql(f"SELECT * FROM {table}") for table in tables}  # noqa: S608  # table names of ours


def put_back(scene: Scene, kept: dict[str, list[tuple]]) -> None:
    for table, rows in kept.items():
        scene.sql(f"DELETE FROM {table}")  # noqa: S608  # a table name of ours
        for row in rows:
            scene.sql(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", *row)  # noqa: S608  # likewise


async def test_yesterdays_whole_database_while_a_worker_runs(scene: Scene) -> None:
    kept = put_aside(scene)
    await scene.sign()
    put_back(scene, kept)
    await scene.caught("log/head-rolled-back")


async def test_yesterdays_whole_database_and_a_restart(scene: Scene) -> None:
    kept = put_aside(scene)
    await scene.stand.keys.change([replace(KEY, version=4, state=KeyState.SUSPENDED)])
    await scene.stand.ledger.close()
    put_back(scene, kept)
    await scene.reopened("log/head-rolled-back")


async def test_yesterdays_database_that_another_host_went_on_with(scene: Scene) -> None:
    kept = put_aside(scene)
    await scene.sign()
    await scene.stand.ledger.maintain()
    put_back(scene, kept)
    elsewhere = scene.folder / "elsewhere"
    elsewhere.mkdir()
    other = Scene(await open_stand(scene.url, elsewhere, worker="worker-2"), scene.url, elsewhere)
    for _ in range(3):
        await other.sign()
    await other.stand.ledger.close()
    with pytest.raises(Corrupt) as found:
        await scene.stand.ledger.maintain()
    assert found.value.rule == "log/forked"
    await scene.caught("log/forked")


async def test_the_anchor_edited(scene: Scene) -> None:
    await scene.stand.ledger.close()
    path = scene.folder / "anchor"
    kept = orjson.loads(path.read_bytes())
    path.write_bytes(canonical(kept | {"head": kept["head"].replace('"generation":3', '"generation":1')}))
    await scene.reopened("anchor/forged")


async def test_another_deployments_store(scene: Scene) -> None:
    scene.sql("UPDATE deployment SET system = 'somebody-else'")
    await scene.stand.ledger.close()
    await scene.reopened("log/other-deployment")


@pytest.mark.parametrize("kind", ["key-record", "caller-record"])
async def test_an_edited_record_is_caught_by_the_next_claim_with_the_settings_of_production(
    tmp_path: Path, kind: str
) -> None:
    """What was judged came from memory, so nothing but the claim's own look can see the edit in time."""
    stand = await open_stand(
        new_database(f"sqlite:///{tmp_path}/store.db"),
        tmp_path,
        first=True,
        limits=Limits(look_over_seconds=3600),
    )
    scene = Scene(stand, f"sqlite:///{tmp_path}/store.db", tmp_path)
    await stand.keys.change([KEY, CALLER])
    for _ in range(3):
        await scene.sign()
    scene.sql(
        "UPDATE record SET document = ? WHERE kind = ?", edited(scene, kind, system="another-system"), kind
    )
    await scene.caught("registry/record-not-in-log")
    await stand.ledger.close()


async def test_entries_and_proofs_are_never_given_out_over_edited_leaves(scene: Scene) -> None:
    size = (await scene.stand.ledger.head()).size
    scene.sql("UPDATE leaf SET entry = ? WHERE leaf_index = 1", b"{}")
    with pytest.raises(Corrupt) as found:
        await scene.stand.ledger.inclusion_proof(5, size)
    assert found.value.rule == "log/leaf-changed"


async def test_an_edit_of_an_old_tile_is_found_by_looking_over(tmp_path: Path) -> None:
    url = new_database(f"sqlite:///{tmp_path}/store.db")
    stand = await open_stand(url, tmp_path, first=True, limits=Limits(look_over_seconds=3600))
    for _ in range(4):
        await stand.ledger.record([observed() for _ in range(200)])
    scene = Scene(stand, url, tmp_path)
    assert scene.sql("SELECT COUNT(*) FROM tile") == [(3,)]
    scene.sql("UPDATE leaf SET entry = ? WHERE leaf_index = 300", b"{}")

    async def look_over_every_tile() -> None:
        for _ in range(3):
            await stand.ledger.maintain()

    with pytest.raises(Corrupt) as found:
        await look_over_every_tile()
    assert found.value.rule == "log/leaf-changed"
    await stand.ledger.close()


async def test_files_of_sqlite_copied_back(tmp_path: Path) -> None:
    url = new_database(f"sqlite:///{tmp_path}/store.db")
    clock = SetClock()
    stand = await open_stand(url, tmp_path, first=True, clock=clock)
    await stand.keys.change([KEY, CALLER])
    await stand.ledger.close()
    shutil.copy(tmp_path / "store.db", tmp_path / "yesterday.db")
    stand = await open_stand(url, tmp_path, clock=clock)
    await Scene(stand, url, tmp_path).sign()
    await stand.ledger.close()
    shutil.copy(tmp_path / "yesterday.db", tmp_path / "store.db")
    await Scene(stand, url, tmp_path).reopened("log/head-rolled-back")
