"""A deployment under dual control, on fakes: five custodians, a governor, and the log replayed from its leaves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import orjson

from cryptosvc.core import statement as statements
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.case import Principal
from cryptosvc.core.life import NANOSECONDS, UnixSeconds
from cryptosvc.core.proposal import ProposalRecord
from cryptosvc.core.quorum import Governance
from cryptosvc.core.record import Because, Leaf, Scope
from cryptosvc.core.registry import Grant, KeyRecord, Record, record_document, record_id, record_kind
from cryptosvc.core.replay import Change, Replay, replayed
from cryptosvc.core.statement import Statement
from cryptosvc.flow.govern import Ended, Governor, Mover
from cryptosvc.flow.registers import Registers
from cryptosvc.flow.setting import Setting
from tests.claims import caller_record
from tests.fakes.ledger import FakeKeys, FakeLedger
from tests.fakes.vault import FakeVault
from tests.governance import GOVERNANCE, ORIGIN, POLICY_DIGEST, SYSTEM, Person, Room
from tests.store_stand import SetClock

GENESIS = "fe" * 32
HANDS_IN = Principal(
    caller=replace(caller_record(), grants=(Grant(operation="govern", key_class="*"),)),
    peer="ipv4:127.0.0.1:1",
)
STRANGER = Principal(caller=caller_record(), peer="ipv4:127.0.0.1:2")
ORDER: Mapping[str, JsonValue] = {
    "class": "command-signing",
    "module": "soft",
    "classification": "secret",
    "responsible": "Ada",
}


@dataclass
class Stand:
    """Custodians are in the register by a genesis; `records` too."""

    room: Room = field(default_factory=Room)
    governance: Governance = GOVERNANCE
    records: Sequence[Record] = ()
    vault: FakeVault = field(default_factory=FakeVault)

    def __post_init__(self) -> None:
        self.clock = SetClock(self.room.now * NANOSECONDS)
        scope = Scope(system=SYSTEM, environment="test", worker="w", software="s")
        self.ledger = FakeLedger(ORIGIN, scope, self.clock)
        self.keys = FakeKeys(self.ledger)
        self.genesis = [*(one.record for one in self.room.people.values()), *self.records]
        self.setting = Setting(SYSTEM, "test", ORIGIN, POLICY_DIGEST, self.governance)
        self.governor = self.another()
        self.registers = Registers(self.keys, self.ledger, self.clock, self.setting)

    def another(self, movers: Mapping[str, Mover] | None = None, **changes: str) -> Governor:
        """One more worker on the same store, its setting changed."""
        setting = replace(self.setting, **changes)  # type: ignore[arg-type]  # a test's keywords
        return Governor(self.keys, self.vault, self.ledger, self.clock, setting, movers or {})

    async def begin(self) -> "Stand":
        """Write the genesis records."""
        await self.keys.change(self.genesis, Because("genesis", GENESIS))
        return self

    def later(self, seconds: int) -> None:
        """Let time pass."""
        self.clock.at += seconds * NANOSECONDS
        self.room.now = UnixSeconds(self.room.now + seconds)

    def person(self, name: str) -> Person:
        """One of the custodians."""
        return self.room.people[name]

    def statement(
        self, act: str, subject: str, *, proposer: str = "ada", **parameters: JsonValue
    ) -> Statement:
        """A statement on the subject as it is now."""
        found = self.ledger.records.get((f"{act.partition('.')[0]}-record", subject))
        version = 0 if found is None else found.version
        # `by` is a parameter of an act as well as an argument there
        return replace(self.room.statement(act, subject, version, proposer), parameters=parameters)

    async def propose(self, statement: Statement, signer: str = "") -> ProposalRecord:
        """Hand a statement in, signed by its proposer or by somebody else."""
        envelope = self.person(signer or statement.proposed_by).endorse(statement)
        return await self.governor.propose(HANDS_IN, statements.emit(statement), envelope)

    async def approve(self, statement: Statement, name: str) -> ProposalRecord:
        """Hand in somebody's approval."""
        envelope = self.person(name).endorse(statement)
        return await self.governor.approve(HANDS_IN, statements.proposal_id(statement), envelope)

    async def approved(
        self, act: str, subject: str, approvers: Sequence[str] = ("ben", "cat"), **parameters: JsonValue
    ) -> str:
        """Propose and approve; the proposal's id."""
        statement = self.statement(act, subject, **parameters)
        await self.propose(statement)
        for name in approvers:
            await self.approve(statement, name)
        return statements.proposal_id(statement)

    async def carry(
        self, act: str, subject: str, approvers: Sequence[str] = ("ben", "cat"), **parameters: JsonValue
    ) -> Ended:
        """Propose, approve and carry out."""
        proposal = await self.approved(act, subject, approvers, **parameters)
        return await self.governor.execute(HANDS_IN, proposal)

    async def ordered(self, key_id: str, key_class: str = "command-signing", **more: JsonValue) -> None:
        """Order and generate a key."""
        await self.carry("key.order", key_id, ("ben", "cat", "dan"), **{**ORDER, "class": key_class, **more})
        await self.carry("key.generate", key_id, ("ben", "cat", "dan"))

    async def active(self, key_id: str) -> None:
        """A command-signing key in use."""
        await self.ordered(key_id)
        await self.carry("key.activate", key_id)

    def key(self, key_id: str) -> KeyRecord:
        """A key's record."""
        found = self.ledger.records["key-record", key_id]
        assert isinstance(found, KeyRecord)
        return found

    def proposal(self, proposal_id: str) -> ProposalRecord:
        """A proposal's record."""
        found = self.ledger.records["proposal-record", proposal_id]
        assert isinstance(found, ProposalRecord)
        return found

    def changes(self) -> list[Change]:
        """Every change of a record, as the leaves say it."""
        return [
            found
            for index, leaf in enumerate(self.ledger.leaves)
            if (found := change_of(index, leaf)) is not None
        ]

    def replay(self, changes: Sequence[Change] | None = None) -> Replay:
        """Derive everything again."""
        named = {(record_kind(one), record_id(one)): record_document(one) for one in self.genesis}
        return replayed(self.changes() if changes is None else changes, "test", named)


def change_of(index: int, leaf: Leaf) -> Change | None:
    """What a leaf says of a record; None where it says of none."""
    entry = orjson.loads(leaf.entry)
    if "because" not in entry:
        return None
    ((reason, reference),) = entry["because"].items()
    _, document = orjson.loads(leaf.withheld)["document"]
    return Change(
        leaf_index=index,
        at=UnixSeconds(int(entry["time"]) // NANOSECONDS),
        kind=entry["kind"],
        document=orjson.loads(document),
        reason=reason,
        reference=reference,
        approvals=tuple(entry["approvals"]),
    )
