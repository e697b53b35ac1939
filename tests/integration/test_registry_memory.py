"""What governed acts read whole is verified once and followed: it is what a full look says, and no edit is obeyed."""

import random
import sqlite3
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from cryptosvc.adapters.store import remembered
from cryptosvc.core.custodian import CustodianRecord, CustodianState
from cryptosvc.core.errors import Corrupt
from cryptosvc.core.keyclass import AUTHORITY_CLASSES
from cryptosvc.core.names import KeyId
from cryptosvc.core.proposal import ProposalState
from cryptosvc.core.registry import Record, record_id
from tests.governance import CUSTODIAN, MODULE, PROPOSAL
from tests.store_stand import KEY, Stand, new_database, open_stand


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    found = await open_stand(new_database(f"sqlite:///{tmp_path}/log.db"), tmp_path, first=True)
    yield found
    await found.ledger.close()


def custodian(number: int, version: int = 1) -> CustodianRecord:
    return replace(CUSTODIAN, custodian_id=f"c-{number}", person=f"p-{number}", version=version)


async def everything(stand: Stand, kind: str) -> list[Record]:
    """As a reader says that remembers nothing."""
    every = await stand.ledger.read(
        lambda session, head: remembered.records.verified_of_kind(session, head, kind)
    )
    return sorted(every, key=record_id)


def edit(tmp_path: Path, sql: str, *values: object) -> None:
    with sqlite3.connect(tmp_path / "log.db") as database:
        assert database.execute(sql, values).rowcount > 0


async def test_what_is_followed_is_what_a_full_look_says(stand: Stand, tmp_path: Path) -> None:
    choose = random.Random(7)
    other = await open_stand(f"sqlite:///{tmp_path}/log.db", tmp_path, worker="worker-2")
    versions: dict[str, int] = {}
    try:
        await stand.keys.change([replace(KEY, key_id=KeyId(f"k-{number}")) for number in range(3000)])
        for turn in range(30):
            changed: list[Record] = [
                replace(KEY, key_id=KeyId(f"more-{turn}")),
                replace(KEY, key_id=KeyId(f"root-{turn}"), key_class="root-oca"),
            ]
            for number in choose.sample(range(20), 3):
                version = versions[f"c-{number}"] = versions.get(f"c-{number}", 0) + 1
                state = choose.choice(list(CustodianState))
                changed.append(replace(custodian(number, version), state=state))
            state = choose.choice([ProposalState.OPEN, ProposalState.EXECUTING, ProposalState.EXPIRED])
            version = versions["proposal"] = versions.get("proposal", 0) + 1
            changed.append(replace(PROPOSAL, version=version, state=state))
            await choose.choice([stand, other]).keys.change(changed)
            for one in (stand, other):
                view = await one.keys.keys_of_classes(AUTHORITY_CLASSES)
                assert sorted(view.keys) == sorted(f"root-{number}" for number in range(turn + 1))
                assert list(await one.keys.of_kind("custodian-record")) == await everything(
                    one, "custodian-record"
                )
                standing = [one.state for one in await one.keys.standing_proposals()]
                assert standing == ([] if state is ProposalState.EXPIRED else [state])
        assert [record_id(one) for one in await stand.keys.of_kind("module-record")] == []
        await stand.keys.change([MODULE])
        assert list(await other.keys.of_kind("module-record")) == [MODULE]
    finally:
        await other.ledger.close()


@pytest.mark.parametrize("known", [True, False], ids=["known", "fresh"])
@pytest.mark.parametrize(
    ("sql", "values"),
    [
        ("DELETE FROM record WHERE record_id = ?", ("c-2",)),
        (
            "UPDATE record SET document = replace(document, 'removed', 'registered') WHERE record_id = ?",
            ("c-1",),
        ),
        (
            "UPDATE record SET document = CAST(replace(document, 'removed', 'registered') AS BLOB) WHERE record_id = ?",
            ("c-1",),
        ),
        ("UPDATE record SET record_id = 'c-9' WHERE record_id = ?", ("c-2",)),
        ("UPDATE record SET version = 1 WHERE record_id = ?", ("c-1",)),
        (
            "INSERT INTO record SELECT kind, 'c-9', version, leaf_index, document, bucket, system, NULL FROM record WHERE record_id = ?",
            ("c-2",),
        ),
    ],
    ids=["hidden", "retyped", "restored", "renamed", "older", "added"],
)
async def test_an_edit_of_the_register_is_found_when_it_is_asked_for(
    stand: Stand, tmp_path: Path, known: bool, sql: str, values: tuple[str, ...]
) -> None:
    removed = replace(custodian(1, 2), state=CustodianState.REMOVED)
    await stand.keys.change([custodian(1), custodian(2)])
    await stand.keys.change([removed])
    if known:
        assert len(await stand.keys.of_kind("custodian-record")) == 2
    edit(tmp_path, sql, *values)
    with pytest.raises(Corrupt, match=r"database was edited|an old one was put back") as found:
        await stand.keys.of_kind("custodian-record")
    assert found.value.rule in {"registry/record-rolled-back", "registry/record-not-in-log"}


async def test_an_older_custodian_is_not_obeyed_when_the_newer_one_is_hidden(
    stand: Stand, tmp_path: Path
) -> None:
    """Remembered as registered, removed by another worker, and the old row put back before it is read."""
    await stand.keys.change([custodian(1)])
    assert len(await stand.keys.of_kind("custodian-record")) == 1
    with sqlite3.connect(tmp_path / "log.db") as database:
        before = database.execute("SELECT * FROM record WHERE record_id = 'c-1'").fetchone()
    await stand.keys.change([replace(custodian(1, 2), state=CustodianState.REMOVED)])
    edit(tmp_path, "DELETE FROM record WHERE record_id = 'c-1'")
    edit(tmp_path, f"INSERT INTO record VALUES ({','.join('?' * len(before))})", *before)  # noqa: S608  # marks
    with pytest.raises(Corrupt) as found:
        await stand.keys.of_kind("custodian-record")
    assert found.value.rule == "registry/record-rolled-back"


async def test_an_edited_key_of_the_oca_is_found(stand: Stand, tmp_path: Path) -> None:
    await stand.keys.change([replace(KEY, key_id=KeyId("root-1"), key_class="root-oca")])
    edit(tmp_path, "UPDATE record SET version = 9 WHERE record_id = 'root-1'")
    with pytest.raises(Corrupt) as found:
        await stand.keys.keys_of_classes(AUTHORITY_CLASSES)
    assert found.value.rule == "registry/record-rolled-back"


async def test_an_edited_proposal_that_stands_and_an_edited_node_are_found(
    stand: Stand, tmp_path: Path
) -> None:
    await stand.keys.change([PROPOSAL])
    assert list(await stand.keys.standing_proposals()) == [PROPOSAL]
    edit(tmp_path, "UPDATE record SET leaf_index = 0 WHERE kind = 'proposal-record'")
    with pytest.raises(Corrupt) as found:
        await stand.keys.standing_proposals()
    assert found.value.rule == "registry/record-rolled-back"


async def test_a_node_that_was_edited_is_found_when_it_is_followed(stand: Stand, tmp_path: Path) -> None:
    await stand.keys.change([custodian(1)])
    edit(tmp_path, "UPDATE registry_node SET children = zeroblob(512) WHERE node_id >= ?", 3 << 32)
    with pytest.raises(Corrupt) as found:
        await stand.keys.of_kind("custodian-record")
    assert found.value.rule == "registry/record-rolled-back"


async def test_acts_do_not_get_dearer_with_the_number_of_keys(stand: Stand) -> None:
    """With 20,000 keys, what follows a change costs less than a tenth of a look at everything."""
    keys = [replace(KEY, key_id=KeyId(f"k-{number}")) for number in range(20_000)]
    await stand.keys.change([custodian(1), *keys])
    await stand.keys.of_kind("custodian-record")
    followed: list[float] = []
    whole: list[float] = []
    for version in range(2, 5):
        await stand.keys.change([custodian(1, version)])
        start = time.perf_counter()
        await stand.keys.of_kind("custodian-record")
        followed.append(time.perf_counter() - start)
        start = time.perf_counter()
        await everything(stand, "custodian-record")
        whole.append(time.perf_counter() - start)
    assert min(followed) < min(whole) / 10, (followed, whole)
