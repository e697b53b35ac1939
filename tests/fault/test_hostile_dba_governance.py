"""A database administrator edits dual control: a proposal, an approval, the register, what a quorum hangs on.

Both engines. Each edit is made while a worker runs; the next act is refused by name, nothing is carried out, and a worker
that starts anew does not obey it either. Covers SEC G4.7, G4.8, G5.13.
"""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import orjson
import psycopg
import pytest

from cryptosvc.adapters.store.records import row_of
from cryptosvc.core import dsse
from cryptosvc.core import statement as statements
from cryptosvc.core.canonical import JsonValue, canonical
from cryptosvc.core.custodian import CustodianRole
from cryptosvc.core.errors import AwaitingApproval, Corrupt, Forbidden
from cryptosvc.core.life import NANOSECONDS
from cryptosvc.core.proposal import Endorsement, ProposalRecord, ProposalState
from cryptosvc.core.record import Because
from cryptosvc.core.registry import Record
from cryptosvc.core.statement import Statement
from cryptosvc.flow.govern import Governor
from cryptosvc.flow.setting import Setting
from tests.fakes.vault import FakeVault
from tests.govern_stand import GENESIS, HANDS_IN, ORDER
from tests.governance import GOVERNANCE, NOW, ORIGIN, POLICY_DIGEST, SYSTEM, Room, person
from tests.store_stand import SetClock, Stand, new_database, open_stand

EDITED = "registry/record-not-in-log"
PUT_BACK = "registry/record-rolled-back"
REGISTER = (EDITED, PUT_BACK)
"""The register is read as a whole, and its tree is looked at first: an edit shows as another tree."""


@dataclass
class Scene:
    """A worker under dual control, and an administrator with a shell."""

    stand: Stand
    governor: Governor
    vault: FakeVault
    room: Room
    url: str
    folder: Path

    def sql(self, statement: str, *values: object) -> list[tuple]:
        if self.url.startswith("sqlite"):
            with closing(sqlite3.connect(self.url.removeprefix("sqlite:///"))) as connection, connection:
                return connection.execute(statement, values).fetchall()
        with psycopg.connect(self.url.replace("+psycopg", ""), autocommit=True) as connection:
            cursor = connection.execute(statement.replace("?", "%s"), values)
            return cursor.fetchall() if cursor.description else []

    def edit(self, kind: str, name: str, **changes: JsonValue) -> None:
        """Write other fields into a record's document, canonically."""
        ((document,),) = self.sql(
            "SELECT document FROM record WHERE kind = ? AND record_id = ?", f"{kind}-record", name
        )
        self.write(f"{kind}-record", name, canonical(orjson.loads(document) | changes))

    def write(self, kind: str, name: str, document: bytes) -> None:
        self.sql("UPDATE record SET document = ? WHERE kind = ? AND record_id = ?", document, kind, name)

    async def proposed(self, act: str, subject: str, **parameters: JsonValue) -> Statement:
        """By Ada, on the subject as it is now."""
        found = await self.stand.keys.record("key-record", subject)
        version = 0 if found is None else found.version
        statement = self.room.statement(act, subject, version, "ada", **parameters)
        envelope = self.room.people["ada"].endorse(statement)
        await self.governor.propose(HANDS_IN, statements.emit(statement), envelope)
        return statement

    async def approve(self, statement: Statement, name: str) -> ProposalRecord:
        envelope = self.room.people[name].endorse(statement)
        return await self.governor.approve(HANDS_IN, statements.proposal_id(statement), envelope)

    async def record(self, statement: Statement) -> ProposalRecord:
        found = await self.stand.keys.record("proposal-record", statements.proposal_id(statement))
        assert isinstance(found, ProposalRecord)
        return found

    async def caught(self, statement: Statement, *rules: str) -> None:
        """It is not carried out, by this worker or by one that starts now; nothing is in the module."""
        again = await self.another()
        for governor in (self.governor, again.governor):
            with pytest.raises(Corrupt) as found:
                await governor.execute(HANDS_IN, statements.proposal_id(statement))
            assert found.value.rule in rules
        await again.stand.ledger.close()
        assert self.sql("SELECT record_id FROM record WHERE kind = 'key-record'") == []
        assert self.vault.done == []

    async def another(self) -> "Scene":
        """A worker that starts now."""
        stand = await open_stand(
            self.url, self.folder, clock=self.stand.clock, worker="worker-2", anchored=False
        )
        return replace(self, stand=stand, governor=governor_of(stand, self.vault))


def governor_of(stand: Stand, vault: FakeVault) -> Governor:
    setting = Setting(SYSTEM, "test", ORIGIN, POLICY_DIGEST, GOVERNANCE)
    return Governor(stand.keys, vault, stand.ledger, stand.clock, setting)


@pytest.fixture(params=["sqlite", "postgres"])
async def scene(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Scene]:
    url = f"sqlite:///{tmp_path}/store.db"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_server").make_database()
    stand = await open_stand(new_database(url), tmp_path, first=True, clock=SetClock(NOW * NANOSECONDS))
    room, vault = Room(), FakeVault()
    auditor = person("fay", CustodianRole.SECURITY_OFFICER)
    room.people = {**room.people, "fay": auditor}
    people: list[Record] = [one.record for one in room.people.values()]
    await stand.keys.change(people, Because("genesis", GENESIS))
    yield Scene(stand, governor_of(stand, vault), vault, room, url, tmp_path)
    await stand.ledger.close()


def endorsed(scene: Scene, before: ProposalRecord, name: str, signature: bytes) -> bytes:
    """The document of a proposal with one more approval in it."""
    record = scene.room.people[name].record
    mine = Endorsement(record.custodian_id, dsse.key_id(record.key), signature, before.endorsements[0].at)
    return row_of(replace(before, endorsements=(*before.endorsements, mine)), 0).document


async def test_without_an_edit_it_is_carried_out(scene: Scene) -> None:
    statement = await scene.proposed("key.order", "key-1", **ORDER)
    for name in ("ben", "cat"):
        await scene.approve(statement, name)
    await scene.governor.execute(HANDS_IN, statements.proposal_id(statement))
    assert (await scene.record(statement)).state is ProposalState.DONE


async def test_an_approval_that_nobody_gave(scene: Scene) -> None:
    statement = await scene.proposed("key.order", "key-1", **ORDER)
    before = await scene.approve(statement, "ben")
    forged = endorsed(scene, before, "cat", b"\x30")
    scene.write("proposal-record", before.proposal_id, forged)
    await scene.caught(statement, EDITED)


async def test_a_real_signature_put_into_the_database_instead_of_handed_in(scene: Scene) -> None:
    """Good over the very statement, and still not obeyed: how it came there is not in the log."""
    statement = await scene.proposed("key.order", "key-1", **ORDER)
    before = await scene.approve(statement, "ben")
    envelope = dsse.parse(scene.room.people["cat"].endorse(statement))
    real = endorsed(scene, before, "cat", envelope.signatures[0].signature)
    scene.write("proposal-record", before.proposal_id, real)
    await scene.caught(statement, EDITED)


async def test_another_statement_under_the_same_approvals(scene: Scene) -> None:
    statement = await scene.proposed("key.order", "key-1", **ORDER)
    for name in ("ben", "cat"):
        before = await scene.approve(statement, name)
    other = replace(statement, parameters={**ORDER, "class": "issuing-oca"})
    scene.write("proposal-record", before.proposal_id, row_of(replace(before, statement=other), 0).document)
    await scene.caught(statement, EDITED)


async def test_a_withdrawn_proposal_put_back_to_open(scene: Scene) -> None:
    statement = await scene.proposed("key.order", "key-1", **ORDER)
    for name in ("ben", "cat"):
        await scene.approve(statement, name)
    name = statements.proposal_id(statement)
    (kept,) = scene.sql("SELECT version, leaf_index, document FROM record WHERE record_id = ?", name)
    withdrawal = scene.room.people["ben"].withdraw(name, "the wrong module")
    await scene.governor.withdraw(HANDS_IN, name, withdrawal, "the wrong module")
    scene.sql("UPDATE record SET version = ?, leaf_index = ?, document = ? WHERE record_id = ?", *kept, name)
    await scene.caught(statement, PUT_BACK)


@pytest.mark.parametrize(
    ("edit", "approver"),
    [
        ({"roles": ["key-custodian"]}, "fay"),
        ({"person": "somebody-else"}, "ada"),
        ({"clearance_reviewed_on": NOW}, "ben"),
        ({"security_check_on": None}, "ben"),
    ],
    ids=lambda one: one if isinstance(one, str) else next(iter(one)),
)
async def test_an_entry_of_the_custodian_register(
    scene: Scene, edit: dict[str, JsonValue], approver: str
) -> None:
    """To let somebody approve who may not, or to keep somebody from it who may."""
    statement = await scene.proposed("key.order", "key-1", **ORDER)
    scene.edit("custodian", approver, **edit)
    with pytest.raises(Corrupt) as found:
        await scene.approve(statement, approver)
    assert found.value.rule in REGISTER
    await scene.caught(statement, *REGISTER)


async def test_a_key_of_the_administrators_own_in_the_register(scene: Scene) -> None:
    statement = await scene.proposed("key.order", "key-1", **ORDER)
    stranger = person("ben")
    scene.edit("custodian", "ben", key=stranger.record.key.hex())
    scene.room.people = {**scene.room.people, "ben": stranger}
    with pytest.raises(Corrupt) as found:
        await scene.approve(statement, "ben")
    assert found.value.rule in REGISTER


async def test_a_custodian_of_the_administrators_own(scene: Scene) -> None:
    """A row that nothing in the log speaks of, with the leaf of somebody else's record."""
    statement = await scene.proposed("key.order", "key-1", **ORDER)
    mallory = person("mallory")
    scene.sql(
        "INSERT INTO record (kind, record_id, version, leaf_index, document, bucket, system) "
        "SELECT kind, 'mallory', version, leaf_index, ?, bucket, system FROM record WHERE record_id = 'ben'",
        row_of(mallory.record, 0).document,
    )
    scene.room.people = {**scene.room.people, "mallory": mallory}
    with pytest.raises(Corrupt) as found:
        await scene.approve(statement, "mallory")
    assert found.value.rule in REGISTER
    await scene.caught(statement, *REGISTER)


async def test_a_custodian_taken_out(scene: Scene) -> None:
    statement = await scene.proposed("key.order", "key-1", **ORDER)
    scene.sql("DELETE FROM record WHERE record_id = 'eve'")
    with pytest.raises(Corrupt) as found:
        await scene.approve(statement, "ben")
    assert found.value.rule == PUT_BACK


async def test_what_a_quorum_hangs_on(scene: Scene) -> None:
    """The class of a key, from one that needs three people to one that needs two."""
    ordered = await scene.proposed("key.order", "root", **{**ORDER, "class": "root-oca"})
    for name in ("ben", "cat", "dan"):
        await scene.approve(ordered, name)
    await scene.governor.execute(HANDS_IN, statements.proposal_id(ordered))
    statement = await scene.proposed("key.generate", "root")
    for name in ("ben", "cat"):
        await scene.approve(statement, name)
    with pytest.raises(AwaitingApproval):
        await scene.governor.execute(HANDS_IN, statements.proposal_id(statement))
    scene.edit("key", "root", key_class="command-signing")
    with pytest.raises(Corrupt) as found:
        await scene.governor.execute(HANDS_IN, statements.proposal_id(statement))
    assert found.value.rule == EDITED
    assert scene.vault.done == []


async def test_a_quorum_file_that_asks_fewer_voids_what_was_signed(scene: Scene) -> None:
    """The file is no row of the database; whoever edits it makes another policy set, which nobody signed for."""
    statement = await scene.proposed("key.order", "key-1", **ORDER)
    await scene.approve(statement, "ben")
    lax = replace(GOVERNANCE, rows=tuple(replace(row, people=1) for row in GOVERNANCE.rows))
    setting = Setting(SYSTEM, "test", ORIGIN, "cd" * 32, lax)
    restarted = Governor(scene.stand.keys, scene.vault, scene.stand.ledger, scene.stand.clock, setting)
    with pytest.raises(Forbidden) as found:
        await restarted.execute(HANDS_IN, statements.proposal_id(statement))
    assert found.value.rule == "statement/policies"
