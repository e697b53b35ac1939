"""Random lives of keys, through dual control, dates, uses and the scheduler, on fakes and on a real SQLite store.

What must hold after every step: the state of each key is the one a model worked out from the table of the page says,
what is refused is refused by name, and the whole log verifies off-line, every change of it derived again.

CRYPTOSVC_LIVES sets how many lives are lived; the default keeps it to seconds.
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from cryptosvc.core import derivation, history, lifecycle
from cryptosvc.core import statement as statements
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.derivation import Owner
from cryptosvc.core.entries import read_chunk
from cryptosvc.core.errors import CryptosvcError, Unavailable, WrongState
from cryptosvc.core.keyclass import KEY_CLASSES
from cryptosvc.core.life import DAY, IN_CEREMONIES, NANOSECONDS, OF_TRANSFERS, Event, UnixSeconds
from cryptosvc.core.lifecycle import TRANSITIONS
from cryptosvc.core.names import ContentKind, KeyId, Operation, SystemName, UnixNanoseconds
from cryptosvc.core.proposal import ProposalRecord, ProposalState
from cryptosvc.core.record import Claim, Failed, Scope
from cryptosvc.core.registry import KeyRecord, KeyState
from cryptosvc.flow.govern import Governor
from cryptosvc.flow.schedule import Scheduler
from cryptosvc.flow.setting import Setting
from tests import store_stand
from tests.fakes.ledger import FakeKeys, FakeLedger
from tests.fakes.vault import FakeVault
from tests.govern_stand import HANDS_IN, ORDER
from tests.governance import GOVERNANCE, NOW, POLICY_DIGEST, Room, person
from tests.store_stand import SCOPE, SetClock, authorised, checked, open_stand

Answer = TypeVar("Answer")
ORIGIN = store_stand.ORIGIN
SYSTEM = SystemName(SCOPE.system)
KEYS = ("key-0", "key-1", "key-2")
PERIOD = KEY_CLASSES["command-signing"].crypto_period_days * DAY
LIVES = int(os.environ.get("CRYPTOSVC_LIVES", "60"))
FOR_EVER = 2**60

PARAMETERS: Mapping[Event, Mapping[str, JsonValue]] = {
    Event.ORDER: ORDER,
    Event.LABEL: {"label": "another"},
    Event.DISTRIBUTE: {"to": "whoever asks"},
    Event.INSTALL: {"where": "there"},
}
EVENTS = sorted(
    set(Event)
    - {Event.REGISTER, Event.CERTIFY, Event.RENEW, Event.SUPERSEDE, Event.ACTIVATE}
    - {Event.ADVANCE}  # which names numbers of what its class promises: tests/unit/test_rewound.py
    - {Event.BACK_UP}  # whose copies are accounted for at the end: tests/unit/test_split_keys.py
    - OF_TRANSFERS
    - IN_CEREMONIES
)
ENDS = (Event.DESTROY, Event.COMPROMISE, Event.DEACTIVATE)
"""Taken less often, so that lives are long."""


@dataclass
class Model:
    """A key as somebody would keep it on paper."""

    state: KeyState | None = None
    begins: int = FOR_EVER
    ends: int = FOR_EVER
    limit: int | None = None
    used: int = 0

    def at(self, moment: int) -> KeyState | None:
        """Its state at a moment."""
        state = self.state
        if state is KeyState.PRE_ACTIVATION and moment >= self.begins:
            state = KeyState.ACTIVE
        over = moment >= min(self.ends, self.begins + PERIOD)
        return KeyState.DEACTIVATED if state in (KeyState.ACTIVE, KeyState.SUSPENDED) and over else state

    def used_up(self) -> bool:
        return self.limit is not None and self.used >= self.limit


@dataclass
class Place:
    """A deployment under dual control: fakes, or a store of its own."""

    stored: Path | None
    folder: Path
    room: Room = field(
        default_factory=lambda: Room(
            {name: person(name, system=SYSTEM) for name in ("ada", "ben", "cat")},
            system=SYSTEM,
            origin=ORIGIN,
        )
    )

    async def open(self) -> None:
        self.clock = SetClock(NOW * NANOSECONDS)
        if self.stored is None:
            scope = Scope(system=SYSTEM, environment="test", worker="w", software="s")
            self.ledger: Any = FakeLedger(ORIGIN, scope, self.clock)
            self.keys: Any = FakeKeys(self.ledger)
        else:
            shutil.copy(self.stored, self.folder / "store.db")
            url = f"sqlite:///{self.folder}/store.db"
            stand = await open_stand(url, self.folder, first=True, clock=self.clock)
            self.ledger, self.keys = stand.ledger, stand.keys
        setting = Setting(SYSTEM, "test", ORIGIN, POLICY_DIGEST, GOVERNANCE)
        self.governor = Governor(self.keys, FakeVault(), self.ledger, self.clock, setting)
        await self.keys.change([one.record for one in self.room.people.values()])

    async def key(self, name: str) -> KeyRecord | None:
        found = await self.keys.record("key-record", name)
        assert found is None or isinstance(found, KeyRecord)
        return found

    async def propose(self, event: Event, name: str, parameters: Mapping[str, JsonValue]) -> str:
        found = await self.key(name)
        version = 0 if found is None else found.version
        statement = replace(
            self.room.statement(f"key.{event.value}", name, version), parameters=dict(parameters)
        )
        envelope = self.room.people["ada"].endorse(statement)
        await self.governor.propose(HANDS_IN, statements.emit(statement), envelope)
        return statements.proposal_id(statement)

    async def carry(self, event: Event, name: str, parameters: Mapping[str, JsonValue]) -> None:
        proposal = await self.propose(event, name, parameters)
        statement = (await self.governor.proposal(HANDS_IN, proposal)).statement
        for approver in ("ben", "cat"):
            await self.governor.approve(HANDS_IN, proposal, self.room.people[approver].endorse(statement))
        await self.governor.execute(HANDS_IN, proposal)

    async def use(self, name: str, *, fails: bool) -> WrongState | None:
        """Claim the key as the corridor would, judged by the state it is in."""
        view = await self.keys.keys({KeyId(name)})
        key, at = view.keys[KeyId(name)], UnixNanoseconds(self.clock.at)
        state = lifecycle.standing(key, at).state
        try:
            lifecycle.require_at(key, state, Operation.SIGN, ContentKind.GBCS_PRE_COMMAND, at)
        except WrongState as refusal:
            return refusal
        asked = authorised(generation=view.generation, key=key)
        (answer,) = await self.ledger.claim([replace(asked, case=replace(asked.case, at=at))])
        if isinstance(answer, Claim):
            failed = Failed(answer, Unavailable("gone", rule="hsm/gone"))
            await self.ledger.record([failed if fails else checked(answer)])
            return None
        assert isinstance(answer, WrongState), answer
        return answer

    async def lines(self) -> list[bytes]:
        """The log as it would be exported."""
        if isinstance(self.ledger, FakeLedger):
            return [leaf.entry + b"\t" + leaf.withheld for leaf in self.ledger.leaves]
        size = (await self.ledger.head()).size
        return [entry + b"\t" + beside for entry, beside in self.ledger.entries(0, size)]

    async def close(self) -> None:
        if not isinstance(self.ledger, FakeLedger):
            await self.ledger.close()


class Lives(RuleBasedStateMachine):
    """Three keys, five custodians, and time."""

    stored: Path | None = None

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.place = Place(self.stored, Path(self.folder.name))
        self.do(self.place.open())
        self.models = {name: Model() for name in KEYS}
        self.proposed: dict[str, int] = {}
        self.scheduler = Scheduler(self.place.keys, self.place.ledger, self.place.clock)
        self.now = int(NOW)

    @initialize()
    def begin(self) -> None:
        """Two keys are there already, one of them in use."""
        for name in KEYS[:2]:
            for event in (Event.ORDER, Event.GENERATE):
                assert self._carried(name, event, PARAMETERS.get(event, {}))
                self.models[name].state = TRANSITIONS[self.models[name].state, event].to
        assert self._carried(KEYS[0], Event.ACTIVATE, {"usage_limit": 3})
        self.models[KEYS[0]] = Model(KeyState.ACTIVE, self.now, limit=3)

    def do(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        return self.loop.run_until_complete(work)

    @property
    def lapsed(self) -> bool:
        """Nobody's clearance was reviewed within the year: nobody approves anything any more."""
        return self.now > NOW + 300 * DAY

    @precondition(lambda self: not self.lapsed)
    @rule(
        name=st.sampled_from(KEYS),
        kind=st.sampled_from(("gentle", "gentle", "gentle", "legal", "any", "any")),
        pick=st.sampled_from(range(60)),
        ago=st.integers(0, 1000),
    )
    def happens(self, name: str, kind: str, pick: int, ago: int) -> None:
        """An event that the table has now, or, one time in three, any."""
        legal = [event for event in EVENTS if (self.models[name].at(self.now), event) in TRANSITIONS]
        gentle = [event for event in legal if event not in ENDS]
        choice = {"gentle": gentle, "legal": legal, "any": EVENTS}[kind] or EVENTS
        event = choice[pick % len(choice)]
        parameters = dict(PARAMETERS.get(event, {}))
        if event is Event.COMPROMISE:
            parameters["since"] = self.now - ago
        if self._carried(name, event, parameters):
            self.models[name].state = TRANSITIONS[self.models[name].at(self.now), event].to

    @precondition(lambda self: not self.lapsed)
    @rule(
        name=st.sampled_from(KEYS),
        on=st.none() | st.integers(-5, 100),
        until=st.none() | st.integers(101, 600),
        limit=st.sampled_from((None, None, 0, 1, 2)),
    )
    def activate(self, name: str, on: int | None, until: int | None, limit: int | None) -> None:
        wanted = {
            "on": None if on is None else self.now + on,
            "until": None if until is None else self.now + until,
            "usage_limit": limit,
        }
        model = self.models[name]
        given = {one: value for one, value in wanted.items() if value is not None}
        if self._carried(name, Event.ACTIVATE, given):
            model.begins = self.now + max(on or 0, 0)
            model.ends = self.now + until if until is not None else FOR_EVER
            model.limit = limit
            if model.begins == self.now:
                model.state = KeyState.ACTIVE

    @precondition(lambda self: not self.lapsed)
    @rule(old=st.sampled_from(KEYS), new=st.sampled_from(KEYS))
    def supersede(self, old: str, new: str) -> None:
        follows = self.do(self.place.key(new))
        ready = self.models[new].at(self.now) is KeyState.ACTIVE and old != new
        if not ready or follows is None or follows.life.supersedes:
            return
        if self._carried(old, Event.SUPERSEDE, {"by": new}):
            self.models[old].state = KeyState.DEACTIVATED

    def _carried(self, name: str, event: Event, parameters: Mapping[str, JsonValue]) -> bool:
        """Try it; whether it happened, which must be what the table says."""
        before = self.models[name].at(self.now)
        legal = (before, event) in TRANSITIONS
        refusal = self.do(self._refusal(event, name, parameters))
        assert (refusal is None) is legal, (before, event, refusal)
        if refusal is not None:
            assert refusal.rule == ("statement/subject" if before is None else "lifecycle/event")
            return False
        self._settle(name)
        return True

    async def _refusal(
        self, event: Event, name: str, parameters: Mapping[str, JsonValue]
    ) -> CryptosvcError | None:
        try:
            await self.place.carry(event, name, parameters)
        except CryptosvcError as refusal:
            return refusal
        return None

    def _settle(self, name: str) -> None:
        """The record now says what came by date: so does the model."""
        self.models[name].state = self.models[name].at(self.now)

    @rule(name=st.sampled_from(KEYS), fails=st.booleans())
    def use(self, name: str, fails: bool) -> None:
        model = self.models[name]
        if model.state is None:
            return
        refusal = self.do(self.place.use(name, fails=fails))
        state = model.at(self.now)
        if state is KeyState.ACTIVE and not model.used_up():
            assert refusal is None
            model.used += model.limit is not None
        else:
            assert refusal is not None
            by_limit = state is KeyState.ACTIVE
            assert (refusal.rule == "lifecycle/usage-limit") is by_limit
            assert refusal.rule.startswith(("schedule/", "lifecycle/"))

    @precondition(lambda self: not self.lapsed)
    @rule(name=st.sampled_from(KEYS))
    def leave_open(self, name: str) -> None:
        if self.models[name].at(self.now) in (KeyState.ORDERED, KeyState.ACTIVE):
            proposal = self.do(self.place.propose(Event.LABEL, name, {"label": "later"}))
            self.proposed[proposal] = self.now + DAY

    @rule(seconds=st.sampled_from((1, 1, 1, 30, 30, 30, 30, 100, 100, 100, DAY, DAY, 40 * DAY, PERIOD)))
    def time_passes(self, seconds: int) -> None:
        self._later(seconds)

    def _later(self, seconds: int) -> None:
        self.now += seconds
        self.place.clock.at = self.now * NANOSECONDS
        self.place.room.now = UnixSeconds(self.now)

    @rule(again=st.booleans())
    def write_down(self, again: bool) -> None:
        """What came about is written down, by whoever has the lead or by who takes it over."""
        if again:
            self.scheduler = Scheduler(self.place.keys, self.place.ledger, self.place.clock)
        for _ in range(3):
            self._later(2)
            self.do(self.scheduler.turn())
        for name, model in self.models.items():
            record = self.do(self.place.key(name))
            settled = model.at(self.now) is model.at(self.now - 7)  # nothing came while it was written down
            in_use = model.at(self.now) in (KeyState.ACTIVE, KeyState.SUSPENDED)
            written = record is not None and record.state is KeyState.DEACTIVATED
            if in_use and model.used_up() and (settled or written):
                model.state = KeyState.DEACTIVATED
            if record is not None and settled:
                assert record.state is model.at(self.now)
        for proposal, ends in self.proposed.items():
            found = self.do(self.place.keys.record("proposal-record", proposal))
            assert isinstance(found, ProposalRecord)
            if self.now - 2 >= ends:
                assert (found.state, found.ended_on) == (ProposalState.EXPIRED, ends)

    @invariant()
    def every_key_is_in_the_state_the_model_says(self) -> None:
        for name, model in self.models.items():
            record = self.do(self.place.key(name))
            found = None if record is None else lifecycle.effective(record, UnixSeconds(self.now))[0]
            assert found is model.at(self.now), name

    def teardown(self) -> None:
        try:
            self.require_derivable(self.do(self.place.lines()))
        finally:
            self.do(self.place.close())
            self.loop.close()
            self.folder.cleanup()

    def require_derivable(self, lines: Sequence[bytes]) -> None:
        """The log verifies: versions run, uses are in order and counted, every change is derived."""
        found = read_chunk(0, lines)
        versions = history.versions_of(found.changes)
        for one in found.uses:
            history.require_use(one, versions)
        history.require_within_limits(found.uses, versions)
        derived = derivation.derived(found.changes, Owner(ORIGIN, SYSTEM, "test"), {})
        assert (derived.changes, derived.underived) == (len(found.changes), 0)
        newest = {name[1]: of_key[-1] for name, of_key in versions.items() if name[0] == "key-record"}
        for name, model in self.models.items():
            assert (name in newest) is (model.state is not None)


class LivesInAStore(Lives):
    """The same on SQLite."""


def _settings(lives: int, steps: int) -> settings:
    return settings(
        max_examples=lives,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def test_lives_on_fakes_never_leave_the_table_and_derive() -> None:
    run_state_machine_as_test(Lives, settings=_settings(LIVES, 40))


def test_lives_in_a_store_never_leave_the_table_and_derive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = tmp_path / "template.db"
    store_stand.new_database(f"sqlite:///{template}")
    monkeypatch.setattr(LivesInAStore, "stored", template)
    run_state_machine_as_test(LivesInAStore, settings=_settings(max(LIVES // 6, 3), 20))
