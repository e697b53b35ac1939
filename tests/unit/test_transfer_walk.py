"""A transfer walked from offer to disposition on two deployments, and each log replayed afterwards."""

from dataclasses import replace

import pytest

from cryptosvc.core.errors import Conflict, WrongState
from cryptosvc.core.life import DAY, OF_TRANSFERS, Event
from cryptosvc.core.lifecycle import ALLOWED, TRANSITIONS
from cryptosvc.core.names import ModuleName
from cryptosvc.core.proposal import ProposalState
from cryptosvc.core.registry import KeyState, Origin
from cryptosvc.core.transfer import papers
from cryptosvc.core.transfer.record import transfer_document, transfer_from_document
from cryptosvc.core.transfer.states import STEPS, Step, TransferState, after
from cryptosvc.flow.reconcile import Reconciler
from cryptosvc.flow.schedule import Scheduler
from tests.govern_stand import HANDS_IN
from tests.governance import NOW
from tests.transfers import KEYS, QUORUM, TRANSFER, Pair, executed, private_of, two_ends


def states(pair: Pair) -> tuple[set[KeyState], set[KeyState]]:
    """Of the keys at the source, and at the destination."""
    there = pair.destination.stand.ledger.records
    return (
        {pair.source.stand.key(name).state for name in KEYS},
        {pair.destination.stand.key(name).state for name in KEYS if ("key-record", name) in there},
    )


def test_the_table_of_steps_is_the_one_written_here() -> None:
    assert {
        (None if one is None else one.value, step.value): to.value for (one, step), to in STEPS.items()
    } == {
        (None, "propose"): "proposed",
        ("proposed", "approve"): "approved",
        ("approved", "export"): "exported",
        ("exported", "receipt"): "receipted",
        ("receipted", "dispose"): "disposed",
        ("proposed", "abort"): "aborted",
        ("approved", "abort"): "aborted",
        ("exported", "roll-back"): "rolled-back",
        (None, "offer"): "offered",
        ("offered", "import"): "imported",
        ("offered", "decline"): "declined",
    }
    for state in (None, *TransferState):
        for step in Step:
            if (state, step) not in STEPS:
                with pytest.raises(WrongState) as refused:
                    after(state, step)
                assert refused.value.rule == "transfer/step"


async def test_keys_are_usable_at_one_end_only_from_offer_to_disposition() -> None:
    pair = await two_ends()
    before = {name: pair.source.stand.key(name) for name in KEYS}
    await pair.approved()
    assert states(pair) == ({KeyState.ACTIVE}, set())
    await pair.source.carry("export", **pair.export())
    assert states(pair) == ({KeyState.IN_TRANSFER}, set())
    assert ALLOWED[KeyState.IN_TRANSFER] == frozenset()
    await pair.destination.carry("import", **pair.importing())
    assert states(pair) == ({KeyState.IN_TRANSFER}, {KeyState.ACTIVE})
    await pair.source.carry("receipt", **pair.receiving())
    assert states(pair) == ({KeyState.IN_TRANSFER}, {KeyState.ACTIVE})
    await pair.source.carry("dispose", scope=pair.scope())
    assert states(pair) == ({KeyState.DESTROYED}, {KeyState.ACTIVE})
    for name, was in before.items():
        moved = pair.destination.stand.key(name)
        assert (moved.key_class, moved.public_point, moved.certificate, moved.role) == (
            was.key_class,
            was.public_point,
            was.certificate,
            was.role,
        )
        assert (moved.origin, moved.transferable, moved.system) == (Origin.TRANSFERRED, False, "dcc-next")
        # its crypto-period runs on from its activation at the source
        assert moved.life.when(Event.ACTIVATE) == was.life.when(Event.ACTIVATE)
        assert moved.life.when(Event.IMPORT) == NOW
    for end in (pair.source, pair.destination):
        end.stand.replay()
        assert transfer_from_document(transfer_document(end.record)) == end.record


async def test_copies_are_deactivated_where_that_was_approved() -> None:
    pair = await (await two_ends()).offered()
    plan = pair.plan(disposition=papers.DEACTIVATE, may_move_on=True)
    await pair.source.carry("propose", **pair.proposal(plan))
    pair.sent = pair.signed(pair.approval(plan))
    await pair.source.carry("approve", approval=pair.sent.hex(), scope=pair.scope())
    await pair.source.carry("export", **pair.export())
    assert pair.source.record.dispose_by == NOW + 7 * DAY
    await pair.destination.carry("import", **pair.importing())
    assert pair.destination.stand.key("command-1").transferable
    await pair.source.carry("receipt", **pair.receiving())
    await pair.source.carry("dispose", scope=pair.scope())
    assert states(pair) == ({KeyState.DEACTIVATED}, {KeyState.ACTIVE})
    pair.source.stand.replay()


async def test_a_transfer_that_was_not_exported_is_aborted() -> None:
    for step in ("proposed", "approved"):
        pair: Pair = await getattr(await two_ends(), step)()
        await pair.source.carry("abort")
        assert pair.source.record.state is TransferState.ABORTED
        assert states(pair) == ({KeyState.ACTIVE}, set())
        pair.source.stand.replay()


async def test_keys_come_back_suspended_once_the_destination_can_never_import_them() -> None:
    pair = await (await two_ends()).exported()
    with pytest.raises(WrongState):
        await pair.source.carry("abort")
    await pair.destination.carry("decline")
    assert pair.destination.transport is None
    await pair.source.carry(
        "roll-back",
        not_imported=pair.not_imported().hex(),
        destination_key=pair.destination.spki.hex(),
        scope=pair.scope(),
    )
    assert states(pair) == ({KeyState.SUSPENDED}, set())
    with pytest.raises(WrongState):
        await pair.destination.carry("import", **pair.importing())
    for end in (pair.source, pair.destination):
        end.stand.replay()


async def test_keys_come_back_on_the_pmas_decision() -> None:
    pair = await (await two_ends()).exported()
    await pair.source.carry("roll-back", decision=pair.decision().hex(), scope=pair.scope())
    assert states(pair) == ({KeyState.SUSPENDED}, set())
    pair.source.stand.replay()


async def test_a_key_found_compromised_on_its_way_stays_so() -> None:
    pair = await (await two_ends()).exported()
    await pair.source.stand.carry("key.compromise", "command-1", since=NOW - 1)
    await pair.source.carry("roll-back", decision=pair.decision().hex(), scope=pair.scope())
    assert pair.source.stand.key("command-1").state is KeyState.COMPROMISED
    assert pair.source.stand.key("broker-1").state is KeyState.SUSPENDED
    pair.source.stand.replay()


async def test_a_key_in_transfer_is_no_business_of_an_act_on_keys() -> None:
    pair = await (await two_ends()).exported()
    for act in ("key.destroy", "key.deactivate", "key.resume", "key.suspend", "key.activate"):
        with pytest.raises(WrongState) as refused:
            await pair.source.stand.carry(act, "command-1", QUORUM)
        assert refused.value.rule == "lifecycle/event"
    assert {event for _, event in TRANSITIONS} >= OF_TRANSFERS


async def test_an_act_that_was_interrupted_is_resumed_and_one_that_is_not_under_way_is_not() -> None:
    pair = await (await two_ends()).approved()
    end, stand = pair.source, pair.source.stand
    proposal = await stand.approved("transfer.export", TRANSFER, QUORUM, **pair.export())

    async def dies(*_: object) -> None:
        raise KeyboardInterrupt

    stand.governor = stand.another(movers={**end.movers(), "transfer.export": dies})  # type: ignore[dict-item]  # it never returns
    with pytest.raises(KeyboardInterrupt):
        await executed(end, proposal)
    assert stand.proposal(proposal).state is ProposalState.EXECUTING
    assert states(pair)[0] == {KeyState.ACTIVE}
    with pytest.raises(Conflict):  # the service has no part in it
        await stand.another().resume(HANDS_IN, proposal)
    stand.governor = stand.another(movers=end.movers())
    await stand.governor.resume(HANDS_IN, proposal)
    assert states(pair)[0] == {KeyState.IN_TRANSFER}
    with pytest.raises(Conflict):
        await stand.governor.resume(HANDS_IN, proposal)
    stand.replay()


async def test_the_service_itself_carries_out_nothing_that_wants_the_machine() -> None:
    pair = await (await two_ends()).approved()
    stand = pair.source.stand
    proposal = await stand.approved("transfer.export", TRANSFER, QUORUM, **pair.export())
    with pytest.raises(WrongState) as refused:
        await stand.another().execute(HANDS_IN, proposal)
    assert refused.value.rule == "transfer/on-the-machine"
    assert stand.proposal(proposal).state is ProposalState.OPEN


async def test_a_log_whose_proof_or_fact_was_changed_does_not_replay() -> None:
    pair = await (await two_ends()).imported()
    changes = pair.destination.stand.changes()
    broken = 0
    for place, change in enumerate(changes):
        outcome = change.document.get("outcome")
        if not isinstance(outcome, dict) or "proof:command-1" not in outcome:
            continue
        for name in ("proof:command-1", "transport_left"):
            less = {
                **change.document,
                "outcome": {key: value for key, value in outcome.items() if key != name},
            }
            told = [*changes[:place], replace(change, document=less), *changes[place + 1 :]]
            with pytest.raises(Exception, match=r"entry \d+ changes a"):
                pair.destination.stand.replay(told)
            broken += 1
    assert broken == 2


async def test_what_has_to_be_disposed_of_is_due_until_it_is() -> None:
    pair = await two_ends()
    stand = pair.source.stand
    scheduler = Scheduler(stand.keys, stand.ledger, stand.clock)

    async def figures() -> tuple[int, int | None]:
        await scheduler.turn()
        return scheduler.figures.counts["dispose"], scheduler.figures.soonest.get("dispose")

    assert await figures() == (0, None)
    await pair.exported()
    assert await figures() == (2, NOW + 7 * DAY)
    stand.later(8 * DAY)
    assert await figures() == (2, NOW + 7 * DAY)  # overdue, and still said
    listed = [(one.event, one.key_id, one.at) for one in await stand.registers.due(HANDS_IN, 1)]
    assert {("dispose", name, NOW + 7 * DAY) for name in KEYS} <= set(listed)
    pair.destination.stand.later(8 * DAY)
    await pair.destination.carry("import", **pair.importing())
    await pair.source.carry("receipt", **pair.receiving())
    assert await figures() == (2, NOW + 7 * DAY)
    await pair.source.carry("dispose", scope=pair.scope())
    assert await figures() == (0, None)


async def test_reconcile_looks_at_a_key_that_came_as_at_one_that_was_made_here() -> None:
    pair = await (await two_ends()).imported()
    stand = pair.destination.stand
    for name in KEYS:
        key = stand.key(name)
        stand.vault.held[key.module, key.label, key.object_id] = private_of(key)
    modules = [ModuleName("soft")]
    reconciler = Reconciler(stand.keys, stand.vault, stand.ledger, stand.clock, modules, frozenset())
    alike = {one.kind for one in await reconciler.compare()}
    stand.vault.changed["command-1"] = ["CKA_EXTRACTABLE is true, the class asks for false"]
    found = [one for one in await reconciler.compare() if one.kind not in alike]
    assert [(one.subject, "CKA_EXTRACTABLE" in one.seen) for one in found] == [("command-1", True)]
