"""Governed acts of a ceremony: found again by their step, undone and done again after a kill, derivable from the log."""

import pytest

from cryptosvc.core.case import Principal
from cryptosvc.core.errors import AwaitingApproval, OutcomeUnknown
from cryptosvc.core.proposal import ProposalState
from cryptosvc.core.registry import KeyState
from cryptosvc.flow.govern import Ended, Governor
from cryptosvc.wiring.ceremony.governed import Governing, Step, carried
from cryptosvc.wiring.ceremony.people import Controllers, HeldKey, Room
from tests.govern_stand import HANDS_IN, ORDER, Stand

STEP = Step("ab" * 32, 3, "A key")
LOST = OutcomeUnknown("the answer was lost", rule="hsm/lost")


class Killed(Governor):
    """A governor that is gone before it carries anything out."""

    async def execute(self, principal: Principal, proposal_id: str) -> Ended:
        raise LOST


def governing(stand: Stand, *approvers: str, governor: Governor | None = None) -> Governing:
    keys = {name: HeldKey(person.key) for name, person in stand.room.people.items()}
    return Governing(
        governor or stand.governor,
        stand.keys,
        stand.vault,
        stand.clock,
        stand.setting,
        HANDS_IN,
        Room((), keys),
        Controllers("ada", approvers or ("ben", "cat")),
    )


def states(stand: Stand, act: str) -> list[ProposalState]:
    found = [one for (kind, _), one in stand.ledger.records.items() if kind == "proposal-record"]
    return sorted(one.state for one in found if one.statement.act == act)


async def test_an_act_is_carried_out_once_however_often_its_step_is_begun() -> None:
    stand = await Stand().begin()
    acts = governing(stand)
    for _ in range(3):
        await acts.carry_out(STEP, "key.order", "k", ORDER)
        await acts.carry_out(STEP, "key.generate", "k", {})
    assert states(stand, "key.order") == states(stand, "key.generate") == [ProposalState.DONE]
    found = await carried(stand.keys, STEP, "key.generate")
    assert found is not None
    assert found.facts()["approved_by"] == ["ben", "cat"]
    assert found.facts()["proposal"] == found.proposal.proposal_id
    assert await carried(stand.keys, Step(STEP.ceremony, 4, "A key"), "key.generate") is None
    assert await carried(stand.keys, Step("cd" * 32, 3, "A key"), "key.generate") is None
    stand.replay()


async def test_a_key_that_was_generated_and_not_recorded_is_destroyed_and_made_again() -> None:
    stand = await Stand().begin()
    acts = governing(stand)
    await acts.carry_out(STEP, "key.order", "k", ORDER)
    stand.vault.failing_afterwards.append(LOST)
    with pytest.raises(OutcomeUnknown):
        await acts.carry_out(STEP, "key.generate", "k", {})
    assert states(stand, "key.generate") == [ProposalState.EXECUTING]
    (lost,) = stand.vault.held.values()

    await acts.carry_out(STEP, "key.generate", "k", {})

    assert states(stand, "key.generate") == [ProposalState.DONE, ProposalState.FAILED]
    (made,) = stand.vault.held.values()
    assert made is not lost
    assert stand.key("k").state is KeyState.PRE_ACTIVATION
    stand.replay()


async def test_what_somebody_else_finished_meanwhile_is_not_undone() -> None:
    stand = await Stand().begin()
    acts = governing(stand)
    await acts.carry_out(STEP, "key.order", "k", ORDER)
    await acts.carry_out(STEP, "key.generate", "k", {})
    (made,) = stand.vault.held.values()
    await governing(stand).carry_out(STEP, "key.generate", "k", {})
    assert list(stand.vault.held.values()) == [made]
    assert stand.vault.done == [("generate", "k")]


async def test_what_was_approved_and_not_carried_out_is_withdrawn_first() -> None:
    stand = await Stand().begin()
    acts = governing(stand)
    killed = Killed(stand.keys, stand.vault, stand.ledger, stand.clock, stand.setting)
    with pytest.raises(OutcomeUnknown):
        await governing(stand, governor=killed).carry_out(STEP, "key.order", "k", ORDER)
    assert states(stand, "key.order") == [ProposalState.OPEN]

    await acts.carry_out(STEP, "key.order", "k", ORDER)

    assert states(stand, "key.order") == [ProposalState.DONE, ProposalState.WITHDRAWN]
    stand.replay()


async def test_a_kill_between_closing_and_clearing_is_cleared_by_the_next_attempt() -> None:
    stand = await Stand().begin()
    acts = governing(stand)
    await acts.carry_out(STEP, "key.order", "k", ORDER)
    stand.vault.failing_afterwards.append(LOST)
    with pytest.raises(OutcomeUnknown):
        await acts.carry_out(STEP, "key.generate", "k", {})
    stand.vault.failing.append(LOST)  # the proposal is closed, and then the module goes away
    with pytest.raises(OutcomeUnknown):
        await acts.carry_out(STEP, "key.generate", "k", {})
    assert states(stand, "key.generate") == [ProposalState.FAILED]
    assert len(stand.vault.held) == 1

    await acts.carry_out(STEP, "key.generate", "k", {})

    assert stand.key("k").state is KeyState.PRE_ACTIVATION
    assert len(stand.vault.held) == 1
    stand.replay()


async def test_a_destruction_whose_answer_was_lost_is_finished() -> None:
    stand = await Stand().begin()
    acts = governing(stand)
    await stand.active("k")
    await stand.carry("key.deactivate", "k")
    stand.vault.failing_afterwards.append(LOST)
    with pytest.raises(OutcomeUnknown):
        await acts.carry_out(STEP, "key.destroy", "k", {})

    await acts.carry_out(STEP, "key.destroy", "k", {})

    assert states(stand, "key.destroy") == [ProposalState.DONE, ProposalState.FAILED]
    assert stand.key("k").state is KeyState.DESTROYED
    assert not stand.vault.held
    stand.replay()


async def test_too_few_custodians_do_nothing() -> None:
    stand = await Stand().begin()
    with pytest.raises(AwaitingApproval):
        await governing(stand, "ben").carry_out(STEP, "key.order", "k", ORDER)
    assert await carried(stand.keys, STEP, "key.order") is None
    assert ("key-record", "k") not in stand.ledger.records
