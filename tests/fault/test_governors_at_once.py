"""Two workers on one store approve, withdraw and carry out at once: one of them is first, and the log has one story."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from cryptosvc.core import statement as statements
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.errors import Conflict, Refusal
from cryptosvc.core.life import NANOSECONDS
from cryptosvc.core.proposal import ProposalRecord, ProposalState
from cryptosvc.core.record import Because, Leaf
from cryptosvc.core.registry import KeyRecord, KeyState, record_document, record_id, record_kind
from cryptosvc.core.replay import replayed
from cryptosvc.core.statement import Statement
from cryptosvc.flow.govern import Ended, Governor
from cryptosvc.flow.setting import Setting
from tests.fakes.vault import FakeVault
from tests.govern_stand import HANDS_IN, ORDER, change_of
from tests.governance import GOVERNANCE, NOW, ORIGIN, POLICY_DIGEST, SYSTEM, Room
from tests.store_stand import SetClock, Stand, new_database, open_stand

ROUNDS = 6


@dataclass
class Workers:
    """Two governors, each on a ledger of its own."""

    room: Room
    stands: tuple[Stand, Stand]
    governors: tuple[Governor, Governor]

    async def proposed(self, act: str, subject: str, **parameters: JsonValue) -> Statement:
        """A proposal by Ada on the subject as it is now."""
        found = await self.stands[0].keys.record("key-record", subject)
        statement = self.room.statement(act, subject, 0 if found is None else found.version, **parameters)
        envelope = self.room.people["ada"].endorse(statement)
        await self.governors[0].propose(HANDS_IN, statements.emit(statement), envelope)
        return statement

    async def approve(self, worker: int, statement: Statement, name: str) -> ProposalRecord:
        """Somebody's approval, by way of one worker."""
        envelope = self.room.people[name].endorse(statement)
        return await self.governors[worker].approve(HANDS_IN, statements.proposal_id(statement), envelope)

    async def proposal(self, statement: Statement) -> ProposalRecord:
        """As the store has it."""
        name = statements.proposal_id(statement)
        found = await self.stands[1].keys.record("proposal-record", name)
        assert isinstance(found, ProposalRecord)
        return found

    async def key(self, key_id: str) -> KeyRecord | None:
        """As the store has it."""
        found = await self.stands[1].keys.record("key-record", key_id)
        assert found is None or isinstance(found, KeyRecord)
        return found

    async def require_one_story(self) -> None:
        """The log, replayed, gives the records."""
        ledger = self.stands[0].ledger
        changes = []
        for index in range((await ledger.head()).size):
            stored = await ledger.entry(index)
            assert stored is not None
            found = change_of(index, Leaf(stored.entry, stored.withheld))
            changes += [] if found is None else [found]
        people = [one.record for one in self.room.people.values()]
        genesis = {(record_kind(one), record_id(one)): record_document(one) for one in people}
        replay = replayed(changes, "test", genesis)
        for name, record in replay.records.items():
            assert await self.stands[0].keys.record(*name) == record


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of this test's own, on each engine."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    url: str = request.getfixturevalue("postgres_server").make_database()
    return url


@asynccontextmanager
async def workers(folder: Path, url: str) -> AsyncIterator[Workers]:
    new_database(url)
    clock = SetClock(NOW * NANOSECONDS)
    first = await open_stand(url, folder, first=True, clock=clock)
    second = await open_stand(url, folder, clock=clock, worker="worker-2", anchored=False)
    room, vault = Room(), FakeVault()
    setting = Setting(SYSTEM, "test", ORIGIN, POLICY_DIGEST, GOVERNANCE)
    try:
        await first.keys.change([one.record for one in room.people.values()], Because("genesis", "fe" * 32))
        governors = tuple(Governor(one.keys, vault, one.ledger, clock, setting) for one in (first, second))
        yield Workers(room, (first, second), governors)  # type: ignore[arg-type]  # two of them
    finally:
        await first.ledger.close()
        await second.ledger.close()


def conflicts(answers: list[object]) -> list[Conflict]:
    """Those that came second; any other failure fails the test."""
    for one in answers:
        if isinstance(one, BaseException) and not isinstance(one, Refusal):
            raise one
    return [one for one in answers if isinstance(one, Conflict)]


async def test_an_approved_act_is_carried_out_by_one_of_two(tmp_path: Path, store: str):
    async with workers(tmp_path, store) as here:
        for number in range(ROUNDS):
            statement = await here.proposed("key.order", f"key-{number}", **ORDER)
            for name in ("ben", "cat"):
                await here.approve(number % 2, statement, name)
            name = statements.proposal_id(statement)
            answers = await asyncio.gather(
                *(one.execute(HANDS_IN, name) for one in here.governors for _ in range(2)),
                return_exceptions=True,
            )
            assert len(conflicts(list(answers))) == 3
            assert len([one for one in answers if isinstance(one, Ended)]) == 1
            made = await here.key(f"key-{number}")
            assert made is not None
            assert (made.version, made.state) == (1, KeyState.ORDERED)
        await here.require_one_story()


async def test_a_proposal_is_withdrawn_or_approved_first_and_never_both_at_one_version(
    tmp_path: Path, store: str
):
    async with workers(tmp_path, store) as here:
        for number in range(ROUNDS):
            statement = await here.proposed("key.order", f"key-{number}", **ORDER)
            name = statements.proposal_id(statement)
            withdrawal = here.room.people["ada"].withdraw(name, "no")
            answers = await asyncio.gather(
                here.approve(0, statement, "ben"),
                here.governors[1].withdraw(HANDS_IN, name, withdrawal, "no"),
                return_exceptions=True,
            )
            late = conflicts(list(answers))
            found = await here.proposal(statement)
            assert found.version == 1 + 2 - len(late)
            if isinstance(answers[1], ProposalRecord):
                assert found.state is ProposalState.WITHDRAWN
            else:
                assert (found.state, len(found.endorsements)) == (ProposalState.OPEN, 2)
        await here.require_one_story()


async def test_a_withdrawal_and_an_execution_at_once_end_in_one_of_them(tmp_path: Path, store: str):
    async with workers(tmp_path, store) as here:
        for number in range(ROUNDS):
            statement = await here.proposed("key.order", f"key-{number}", **ORDER)
            for approver in ("ben", "cat"):
                await here.approve(0, statement, approver)
            name = statements.proposal_id(statement)
            withdrawal = here.room.people["cat"].withdraw(name, "no")
            answers = await asyncio.gather(
                here.governors[number % 2].execute(HANDS_IN, name),
                here.governors[1 - number % 2].withdraw(HANDS_IN, name, withdrawal, "no"),
                return_exceptions=True,
            )
            assert len(conflicts(list(answers))) == 1
            done = (await here.proposal(statement)).state is ProposalState.DONE
            assert (await here.key(f"key-{number}") is not None) is done
        await here.require_one_story()


async def test_approvals_at_once_are_all_there_once_those_that_came_second_come_again(
    tmp_path: Path, store: str
):
    async with workers(tmp_path, store) as here:
        statement = await here.proposed("key.order", "key-1", **ORDER)
        waiting = ["ben", "cat", "dan", "eve"]
        for _ in range(len(waiting)):
            answers = await asyncio.gather(
                *(here.approve(place % 2, statement, name) for place, name in enumerate(waiting)),
                return_exceptions=True,
            )
            conflicts(list(answers))
            waiting = [name for name, one in zip(waiting, answers, strict=True) if isinstance(one, Conflict)]
        assert waiting == []
        signed = {one.custodian_id for one in (await here.proposal(statement)).endorsements}
        assert signed == {"ada", "ben", "cat", "dan", "eve"}
        with pytest.raises(Conflict) as again:
            await here.approve(0, statement, "ben")
        assert again.value.rule == "quorum/approved-before"
        await here.require_one_story()
