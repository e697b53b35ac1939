"""Acts that touch a module: what is known not to be done has failed; what may have been done is left for reconcile."""

import pytest

from cryptosvc.core.errors import Conflict, Corrupt, OutcomeUnknown, Unavailable
from cryptosvc.core.proposal import ProposalState
from cryptosvc.core.registry import KeyState
from tests.govern_stand import HANDS_IN, ORDER, Stand


async def generating() -> tuple[Stand, str]:
    """A key that was ordered, and its approved generation."""
    here = await Stand().begin()
    await here.carry("key.order", "key-1", **ORDER)
    return here, await here.approved("key.generate", "key-1")


async def test_where_the_module_did_nothing_the_proposal_has_failed_and_is_proposed_again():
    here, proposal_id = await generating()
    here.vault.failing.append(Unavailable("the module is out of reach", rule="hsm/gone"))
    with pytest.raises(Unavailable):
        await here.governor.execute(HANDS_IN, proposal_id)
    failed = here.proposal(proposal_id)
    assert (failed.state, dict(failed.outcome)) == (ProposalState.FAILED, {"rule": "hsm/gone"})
    assert here.key("key-1").state is KeyState.ORDERED
    with pytest.raises(Conflict) as refused:
        await here.governor.execute(HANDS_IN, proposal_id)
    assert refused.value.rule == "proposal/not-open"
    await here.carry("key.generate", "key-1")
    assert here.key("key-1").state is KeyState.PRE_ACTIVATION
    assert here.replay().records == here.ledger.records


@pytest.mark.parametrize(
    "error",
    [OutcomeUnknown("the answer was lost", rule="hsm/lost"), Corrupt("another came back", rule="hsm/other")],
)
async def test_where_it_may_have_been_done_the_proposal_is_left_executing(error):
    here, proposal_id = await generating()
    here.vault.failing_afterwards.append(error)
    with pytest.raises(type(error)):
        await here.governor.execute(HANDS_IN, proposal_id)
    assert here.proposal(proposal_id).state is ProposalState.EXECUTING
    assert here.key("key-1").state is KeyState.ORDERED
    assert len(here.vault.held) == 1
    with pytest.raises(Conflict):
        await here.governor.execute(HANDS_IN, proposal_id)
    assert len(here.vault.held) == 1
    assert here.replay().records == here.ledger.records


async def test_an_object_that_is_in_the_way_is_not_adopted_by_generating():
    here, proposal_id = await generating()
    await here.vault.generate(here.key("key-1"))
    with pytest.raises(Conflict) as refused:
        await here.governor.execute(HANDS_IN, proposal_id)
    assert refused.value.rule == "hsm/object-exists"
    assert here.proposal(proposal_id).state is ProposalState.FAILED


async def test_it_is_written_down_before_the_module_is_asked_and_afterwards_what_it_gave():
    here, proposal_id = await generating()
    await here.governor.execute(HANDS_IN, proposal_id)
    states = [change.document["state"] for change in here.changes() if change.reference == proposal_id]
    assert states == ["open", "open", "open", "executing", "done", "pre-activation"]
    outcome = dict(here.proposal(proposal_id).outcome)
    assert outcome["module"] == "soft"
    assert outcome["needed_people"] == "2"


async def test_a_key_whose_object_is_gone_already_is_destroyed_with_none_left():
    here = await Stand().begin()
    await here.active("key-1")
    await here.carry("key.deactivate", "key-1")
    here.vault.held.clear()
    ended = await here.carry("key.destroy", "key-1")
    assert dict(ended.proposal.outcome)["objects_destroyed"] == "0"
    assert here.key("key-1").state is KeyState.DESTROYED


async def test_an_active_key_is_not_destroyed_and_its_object_stays():
    here = await Stand().begin()
    await here.active("key-1")
    statement = here.statement("key.destroy", "key-1")
    with pytest.raises(Exception, match="is active has no event destroy"):
        await here.propose(statement)
    assert len(here.vault.held) == 1
