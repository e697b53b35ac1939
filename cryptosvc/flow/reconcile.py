"""Reconcile: modules against registry against log; what differs is reported and recorded, what was begun is ended.

An act that touches a module is written down before it is done (`executing`). Where the process died in between, the
module says what became of it: an object that is there is the act's, since its label and id are the record's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import orjson

from cryptosvc.core import reconcile
from cryptosvc.core.acts.base import Act, Made, Turn
from cryptosvc.core.acts.table import act as act_named
from cryptosvc.core.asset import ModuleRecord
from cryptosvc.core.errors import Conflict, Refusal
from cryptosvc.core.life import IN_CEREMONIES, NANOSECONDS, Event, UnixSeconds
from cryptosvc.core.names import KeyId, ModuleName
from cryptosvc.core.proposal import ProposalRecord, ProposalState
from cryptosvc.core.reconcile import Difference, Held, Scene
from cryptosvc.core.record import Because, Observed
from cryptosvc.core.registry import KeyRecord, KeyState, Origin, Record, record_id, record_kind
from cryptosvc.flow.ports import Clock, Ledger, Records, Vault

SETTLED_SECONDS = 120
"""An act younger than this may still be under way in another process; it is left alone."""
_TRIES = 8
"""How often an ending is decided anew where the registry moved meanwhile."""


@dataclass(frozen=True, slots=True)
class Ending:
    """What became of an act that was left unfinished.

    Args:
        proposal_id: which.
        state: `done` or `failed`; `executing` where it was left alone.
        why: in a sentence.

    """

    proposal_id: str
    state: ProposalState
    why: str


class Reconciler:
    """Compares, records, and ends what was left unfinished."""

    def __init__(
        self,
        records: Records,
        vault: Vault,
        ledger: Ledger,
        clock: Clock,
        modules: Sequence[ModuleName],
        own: frozenset[tuple[str, str]],
    ) -> None:
        self._records = records
        self._vault = vault
        self._ledger = ledger
        self._clock = clock
        self._modules = modules
        self._own = own

    async def compare(self) -> list[Difference]:
        """Everything that differs; each is an entry of the log, and so is that somebody looked.

        Raises:
            Unavailable: a module or the store is out of reach: half a comparison is none.

        """
        # 1 read
        scene = await self._scene()
        # 2 compare
        found = reconcile.differences(scene)
        # 3 record
        facts = {
            "differences": str(len(found)),
            "keys": str(len(scene.keys)),
            "objects": str(len(scene.held)),
        }
        await self._record("compare", facts)
        for one in found:
            await self._record(
                one.kind.value, {"subject": _printable(one.subject), "seen": _printable(one.seen)}
            )
        return found

    async def finish(self) -> list[Ending]:
        """End every act that was begun and left: done where the module has done it, failed where it has not."""
        found = await self._records.standing_proposals()
        return [await self._end(one) for one in found if one.state is ProposalState.EXECUTING]

    async def _end(self, found: ProposalRecord) -> Ending:
        """What is decided rests on every record that was read: it stands if none of the registry moved."""
        for _ in range(_TRIES):
            generation = await self._records.generation()
            now = await self._records.record("proposal-record", found.proposal_id)
            if not isinstance(now, ProposalRecord) or now.state is not ProposalState.EXECUTING:
                state = now.state if isinstance(now, ProposalRecord) else found.state
                return Ending(found.proposal_id, state, "it was ended meanwhile, by whoever began it")
            try:
                return await self._ended(now, generation)
            except Conflict as conflict:
                if conflict.rule != "registry/moved":
                    raise
        return Ending(found.proposal_id, found.state, "the registry changes too fast; run it again")

    async def _ended(self, found: ProposalRecord, generation: int) -> Ending:
        if not await self._settled(found):
            return Ending(found.proposal_id, found.state, "it began a moment ago and may still be under way")
        statement = found.statement
        act = act_named(statement.act)
        if act.kind == "transfer-record":
            return Ending(
                found.proposal_id,
                found.state,
                "an act on a transfer is ended by `cryptosvc transfer carry-out`",
            )
        if act.event in IN_CEREMONIES:
            return Ending(found.proposal_id, found.state, "it is ended by `cryptosvc ceremony resume`")
        subject = await self._records.record(act.kind, statement.subject)
        records = {} if subject is None else {(act.kind, statement.subject): subject}
        for one in await self._records.of_kind(act.looks_at_every) if act.looks_at_every else ():
            records[record_kind(one), record_id(one)] = one

        def turn(made: Made) -> Turn:
            return Turn(statement=statement, at=self._now(), records=records, made=made)

        try:
            (foreseen,) = act.after(turn(Made()))
        except Refusal as refusal:
            await self._require_stands(generation)
            await self._undo(act, subject)
            why = f"it cannot be ended any more: {refusal.message}"
            return await self._fail(found, refusal.rule, why, generation)
        assert isinstance(foreseen, KeyRecord)
        await self._require_stands(generation)
        if act.event is Event.DESTROY:
            assert isinstance(subject, KeyRecord)
            made: Made | None = await self._vault.destroy(subject)
        else:
            made = await self._made(foreseen)
        if made is None:
            why = "the module has no such object, so nothing was done"
            return await self._fail(found, "reconcile/not-done", why, generation)
        done = replace(
            found,
            version=found.version + 1,
            state=ProposalState.DONE,
            ended_on=self._now(),
            outcome=tuple(sorted({**dict(found.outcome), **dict(made.facts)}.items())),
        )
        assert done.ended_on is not None
        try:
            after = act.after(replace(turn(made), at=done.ended_on))
        except Refusal as refusal:  # only what the module said of an object that was there can do that
            return await self._fail(found, refusal.rule, refusal.message, generation)
        approvals = tuple(sorted(one.key_id for one in found.endorsements[1:]))
        because = Because("proposal", found.proposal_id, approvals)
        await self._records.change([done, *after], because, at_generation=generation)
        return Ending(found.proposal_id, done.state, "the module has done it; the record follows")

    async def _require_stands(self, generation: int) -> None:
        """Nothing is destroyed on a module by what the registry said before it moved."""
        if await self._records.generation() != generation:
            raise Conflict("the registry changed while this was decided; ask again", rule="registry/moved")

    async def _fail(self, found: ProposalRecord, rule: str, why: str, generation: int) -> Ending:
        failed = replace(
            found,
            version=found.version + 1,
            state=ProposalState.FAILED,
            ended_on=self._now(),
            outcome=(("rule", rule),),
        )
        because = Because("proposal", found.proposal_id)
        await self._records.change([failed], because, at_generation=generation)
        return Ending(found.proposal_id, failed.state, why)

    async def _undo(self, act: Act, subject: Record | None) -> None:
        """Destroy what a generation made for a record that has moved since; a key that another act made is its own."""
        waits = isinstance(subject, KeyRecord) and subject.state is KeyState.ORDERED
        if act.event is Event.GENERATE and waits:
            assert isinstance(subject, KeyRecord)
            await self._vault.destroy(subject)

    async def _made(self, key: KeyRecord) -> Made | None:
        """What the module has of a key that was to be made or adopted; a half-made one is destroyed."""
        held = await self._vault.objects(key.module)
        if not any((one.label, one.object_id) == (key.label, key.object_id) for one in held):
            return None
        wrong = await self._vault.differences(key.module, [key])
        if wrong[key.key_id] and key.life.when(Event.REGISTER) is None:
            await self._vault.destroy(key)
            return None
        return await self._vault.adopt(key)

    async def _settled(self, found: ProposalRecord) -> bool:
        located = await self._records.located("proposal-record", found.proposal_id)
        stored = None if located is None else await self._ledger.entry(located[1])
        if stored is None:
            return False
        began = int(orjson.loads(stored.entry)["time"])
        return self._clock.now().at - began >= SETTLED_SECONDS * NANOSECONDS

    async def _scene(self) -> Scene:
        keys = [one for one in await self._records.of_kind("key-record") if isinstance(one, KeyRecord)]
        modules = {
            str(one.module): one
            for one in await self._records.of_kind("module-record")
            if isinstance(one, ModuleRecord)
        }
        held = [
            Held(module, one.kind, one.label, one.object_id, one.public_point)
            for module in self._modules
            for one in await self._vault.objects(module)
        ]
        there = {(one.module, one.label, one.object_id) for one in held}
        # an adopted object is as it was found, and its record says so for ever; one that came in a transfer was read back
        made_here = [
            key
            for key in keys
            if key.state not in (KeyState.ORDERED, KeyState.DESTROYED)
            and key.origin is not Origin.ADOPTED
            and (key.module, key.label, key.object_id) in there
        ]
        attributes: dict[KeyId, Sequence[str]] = {}
        for module in self._modules:
            mine = [key for key in made_here if key.module == module]
            attributes.update(await self._vault.differences(module, mine))
        return Scene(
            keys=keys,
            held=held,
            attributes=attributes,
            modules=modules,
            identities={str(module): await self._vault.identity(module) for module in self._modules},
            proposals=await self._records.standing_proposals(),
            own=self._own,
        )

    async def _record(self, operation: str, facts: dict[str, str]) -> None:
        instant = self._clock.now()
        seen = Observed(
            kind="reconciled", operation=operation, at=instant.at, time_quality=instant.quality, facts=facts
        )
        await self._ledger.record([seen])

    def _now(self) -> UnixSeconds:
        return UnixSeconds(self._clock.now().at // NANOSECONDS)


def _printable(text: str) -> str:
    """Labels on a token are anybody's; what enters the log is printable ASCII."""
    return "".join(one if one.isascii() and one.isprintable() else "?" for one in text)[:500]
