"""`audit export` looks over the whole store before the log's key signs a checkpoint over it."""

import sqlite3
from collections.abc import Callable
from contextlib import closing

import orjson
import pytest

from cryptosvc.client.errors import CallError
from cryptosvc.core import erased
from cryptosvc.core.canonical import canonical
from cryptosvc.core.merkle import leaf_hash
from tests.deployment import KEY, Deployment, make_deployment, pre_command_request

IN_THE_MIDDLE = 600
"""Opening the store looks over the newest entries and the first 256, a claim after that the next 256; this is beyond."""


def an_old_entry(connection: sqlite3.Connection) -> None:
    """Another payload in an old entry: no opening of the store, no claim and no checkpoint would meet it."""
    (entry,) = connection.execute("SELECT entry FROM leaf WHERE leaf_index = ?", (IN_THE_MIDDLE,)).fetchone()
    edited = canonical(orjson.loads(entry) | {"payload_digest": "00" * 32})
    assert edited != entry
    connection.execute("UPDATE leaf SET entry = ? WHERE leaf_index = ?", (edited, IN_THE_MIDDLE))


def a_hash_alone(connection: sqlite3.Connection) -> None:
    """The hash of an old entry in its place, as if it had been deleted: the tree is what it was."""
    (entry,) = connection.execute("SELECT entry FROM leaf WHERE leaf_index = ?", (IN_THE_MIDDLE,)).fetchone()
    connection.execute(
        "UPDATE leaf SET entry = ?, withheld = ? WHERE leaf_index = ?",
        (erased.alone(leaf_hash(entry)), b"", IN_THE_MIDDLE),
    )


def an_unused_record(connection: sqlite3.Connection) -> None:
    """The state of a key that has no part in signing a checkpoint."""
    (document,) = connection.execute("SELECT document FROM record WHERE record_id = ?", (KEY,)).fetchone()
    edited = canonical(orjson.loads(document) | {"state": "suspended"})
    assert edited != document
    connection.execute("UPDATE record SET document = ? WHERE record_id = ?", (edited, KEY))


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    made = make_deployment(tmp_path_factory.mktemp("export"))
    with made.serving(), made.client() as client:
        for first in range(1, 769, 256):
            answers = client.sign_batch([pre_command_request(first + number) for number in range(256)])
            assert not [answer for answer in answers if isinstance(answer, CallError)]
    return made


@pytest.mark.xdist_group("export-looks-first")
@pytest.mark.parametrize(
    ("edit", "rule"),
    [
        (an_old_entry, "log/leaf-changed"),
        (a_hash_alone, "export/erased"),
        (an_unused_record, "registry/record-rolled-back"),
    ],
)
def test_nothing_is_signed_over_an_edited_store(
    deployment: Deployment, edit: Callable[[sqlite3.Connection], None], rule: str
):
    kept = {path: path.read_bytes() for path in deployment.folder.glob("cryptosvc.db*")}
    try:
        with closing(sqlite3.connect(deployment.database)) as connection, connection:
            edit(connection)
            before = counts(connection)
        out = deployment.folder / "edited.export"
        done = deployment.run("audit", "export", "--config", str(deployment.config), str(out), "--json")
        assert done.returncode != 0
        assert orjson.loads(done.stdout)["error"]["rule"] == rule
        assert not out.exists()
        with closing(sqlite3.connect(deployment.database)) as connection:
            assert counts(connection) == before
    finally:
        for path in deployment.folder.glob("cryptosvc.db*"):
            path.unlink()
        for path, octets in kept.items():
            path.write_bytes(octets)


@pytest.mark.xdist_group("export-looks-first")
def test_the_store_as_it_was_is_exported(deployment: Deployment):
    assert len(deployment.verified_log().uses()) == 768


def counts(connection: sqlite3.Connection) -> tuple[int, int]:
    """How many entries and how many checkpoints there are."""
    ((entries,),) = connection.execute("SELECT COUNT(*) FROM leaf").fetchall()
    ((notes,),) = connection.execute("SELECT COUNT(*) FROM checkpoint").fetchall()
    return entries, notes
