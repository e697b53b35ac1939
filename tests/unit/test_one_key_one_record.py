"""A private key is registered once; an act that can no longer be ended is undone and stands in nobody's way.

Covers SEC G2.56, G2.60, G2.61, G3.29 (a key serves the purposes of one class) and G5.13 (never an unrecorded key).
"""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cryptosvc.core.acts.base import Made
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.errors import Forbidden, OutcomeUnknown
from cryptosvc.core.names import ModuleName
from cryptosvc.core.proposal import ProposalState
from cryptosvc.core.registry import KeyRecord, KeyState
from cryptosvc.flow.reconcile import SETTLED_SECONDS, Ending, Reconciler
from tests.govern_stand import HANDS_IN, ORDER, Stand

AS_XML: dict[str, JsonValue] = {**ORDER, "class": "xml-signing"}


@pytest.fixture
async def stand() -> Stand:
    return await Stand().begin()


def object_of(stand: Stand, key_id: str) -> dict[str, JsonValue]:
    key = stand.key(key_id)
    return {"object_label": key.label, "object_id": key.object_id.hex()}


async def left(stand: Stand, act: str, key_id: str, *, done: bool = True, **parameters: JsonValue) -> None:
    """Carried out by a process that dies after the module has done it, or before."""
    proposal = await stand.approved(act, key_id, **parameters)
    dying = stand.vault.failing_afterwards if done else stand.vault.failing
    dying.append(OutcomeUnknown("died", rule="test/died"))
    with pytest.raises(OutcomeUnknown):
        await stand.governor.execute(HANDS_IN, proposal)


async def finished(stand: Stand) -> list[Ending]:
    """What `reconcile --finish` does two minutes later."""
    stand.later(SETTLED_SECONDS)
    module = ModuleName("soft")
    walk = Reconciler(stand.keys, stand.vault, stand.ledger, stand.clock, [module], frozenset())
    return await walk.finish()


async def test_the_object_of_a_key_is_not_registered_as_another_key(stand: Stand):
    await stand.ordered("key-1")
    statement = stand.statement("key.register", "key-2", **AS_XML, **object_of(stand, "key-1"))
    with pytest.raises(Forbidden) as refused:
        await stand.propose(statement)
    assert refused.value.rule == "key/registered-already"
    assert "key-1" in refused.value.message


async def test_nor_is_a_copy_of_it_under_another_label(stand: Stand):
    """What the module says of the object tells, when it is carried out; the proposal fails."""
    await stand.ordered("key-1")
    key = stand.key("key-1")
    stand.vault.held["soft", "copy", b"\x09"] = stand.vault.held["soft", key.label, key.object_id]
    asked = {**AS_XML, "object_label": "copy", "object_id": "09"}
    proposal = await stand.approved("key.register", "key-2", **asked)
    with pytest.raises(Forbidden) as refused:
        await stand.governor.execute(HANDS_IN, proposal)
    assert refused.value.rule == "key/registered-already"
    (ending,) = await finished(stand)
    assert ending.state is ProposalState.FAILED
    assert dict(stand.proposal(proposal).outcome) == {"rule": "key/registered-already"}
    assert ("key-record", "key-2") not in stand.ledger.records
    assert stand.replay().records == stand.ledger.records


async def test_nor_does_a_destroyed_key_come_back_under_another_name(stand: Stand):
    await stand.ordered("key-1")
    key = stand.key("key-1")
    kept = stand.vault.held["soft", key.label, key.object_id]
    await stand.carry("key.destroy", "key-1")
    stand.vault.held["soft", "back", b"\x09"] = kept
    proposal = await stand.approved("key.register", "key-2", **ORDER, object_label="back", object_id="09")
    with pytest.raises(Forbidden) as refused:
        await stand.governor.execute(HANDS_IN, proposal)
    assert refused.value.rule == "key/registered-already"


async def test_the_place_of_a_destroyed_key_is_free_for_another(stand: Stand):
    await stand.ordered("key-1")
    place = object_of(stand, "key-1")
    await stand.carry("key.destroy", "key-1")
    await stand.vault.generate(replace(stand.key("key-1"), label=str(place["object_label"])))
    await stand.carry("key.register", "key-2", **ORDER, **place)
    assert stand.key("key-2").state is KeyState.PRE_ACTIVATION
    assert stand.replay().records == stand.ledger.records


async def test_the_place_of_a_destroyed_secret_key_is_not(stand: Stand, monkeypatch: pytest.MonkeyPatch):
    """It has no public half, so nobody could tell the object from the one that was destroyed, put back from a backup."""
    secret: dict[str, JsonValue] = {**ORDER, "class": "storage-wrapping"}
    monkeypatch.setattr("tests.fakes.vault._point", lambda _: b"")
    await stand.ordered("wrap-1", "storage-wrapping")
    place = object_of(stand, "wrap-1")
    await stand.carry("key.destroy", "wrap-1", ("ben", "cat", "dan"))
    with pytest.raises(Forbidden) as refused:
        await stand.propose(stand.statement("key.register", "wrap-2", **secret, **place))
    assert refused.value.rule == "key/registered-already"


async def test_what_was_made_for_a_record_that_moved_since_is_destroyed_and_blocks_nothing(stand: Stand):
    for name in ("key-1", "key-2"):
        await stand.carry("key.order", name, **ORDER)
        await left(stand, "key.generate", name)
    await stand.carry("key.label", "key-1", label="moved")
    endings = {stand.proposal(one.proposal_id).statement.subject: one for one in await finished(stand)}
    assert endings["key-1"].state is ProposalState.FAILED
    assert endings["key-2"].state is ProposalState.DONE
    assert [label for _, label, _ in stand.vault.held] == ["key-2"]
    await stand.carry("key.generate", "key-1")
    assert stand.key("key-1").state is KeyState.PRE_ACTIVATION
    assert stand.replay().records == stand.ledger.records


async def test_the_object_of_a_generation_that_was_done_by_a_second_proposal_stays(stand: Stand):
    await stand.carry("key.order", "key-1", **ORDER)
    await left(stand, "key.generate", "key-1", done=False)
    await stand.carry("key.generate", "key-1")
    (ending,) = await finished(stand)
    assert ending.state is ProposalState.FAILED
    assert [label for _, label, _ in stand.vault.held] == ["key-1"]
    assert stand.key("key-1").state is KeyState.PRE_ACTIVATION
    assert stand.replay().records == stand.ledger.records


async def test_a_destruction_left_of_a_key_found_compromised_since_is_proposed_again(stand: Stand):
    await stand.active("key-1")
    await stand.carry("key.deactivate", "key-1")
    await left(stand, "key.destroy", "key-1")
    await stand.carry("key.compromise", "key-1", ("ben",), since=stand.room.now - 100)
    (ending,) = await finished(stand)
    assert ending.state is ProposalState.FAILED
    await stand.carry("key.destroy", "key-1")
    assert stand.key("key-1").state is KeyState.DESTROYED
    assert stand.replay().records == stand.ledger.records


async def test_an_ending_is_decided_anew_where_the_registry_moved_while_the_module_was_asked(stand: Stand):
    """Reconcile ends the registration of an object of which another worker registers a copy at that very moment."""
    vault = stand.vault
    vault.held["soft", "one", b"\x01"] = vault.held["soft", "two", b"\x02"] = ec.generate_private_key(
        ec.SECP256R1()
    )
    await left(stand, "key.register", "key-1", done=False, **ORDER, object_label="one", object_id="01")
    other = await stand.approved("key.register", "key-2", **ORDER, object_label="two", object_id="02")
    adopt = vault.adopt
    asked: list[str] = []

    async def while_another_worker(found: KeyRecord) -> Made:
        asked.append(found.key_id)
        made = await adopt(found)
        if asked == ["key-1"]:
            await stand.governor.execute(HANDS_IN, other)
        return made

    vault.adopt = while_another_worker  # type: ignore[method-assign]  # the module, at a bad moment
    (ending,) = await finished(stand)
    assert (ending.state, dict(stand.proposal(ending.proposal_id).outcome)) == (
        ProposalState.FAILED,
        {"rule": "key/registered-already"},
    )
    assert asked == ["key-1", "key-2", "key-1"]
    assert ("key-record", "key-1") not in stand.ledger.records
    assert stand.key("key-2").state is KeyState.PRE_ACTIVATION
    assert stand.replay().records == stand.ledger.records


async def test_what_somebody_else_ended_meanwhile_is_left_as_it_is(stand: Stand):
    """Two reconcile the same act at once: one ends it, the other finds it ended."""
    await stand.carry("key.order", "key-1", **ORDER)
    await left(stand, "key.generate", "key-1")
    stand.later(SETTLED_SECONDS)
    module = ModuleName("soft")
    first, second = (
        Reconciler(stand.keys, stand.vault, stand.ledger, stand.clock, [module], frozenset()) for _ in "12"
    )
    adopt = stand.vault.adopt
    ended: list[Ending] = []

    async def while_the_other_does(found: KeyRecord) -> Made:
        stand.vault.adopt = adopt  # type: ignore[method-assign]  # once
        ended.extend(await second.finish())
        return await adopt(found)

    stand.vault.adopt = while_the_other_does  # type: ignore[method-assign]  # the module, at a bad moment
    (ending,) = await first.finish()
    assert [one.state for one in ended] == [ProposalState.DONE]
    assert (ending.state, "meanwhile" in ending.why) == (ProposalState.DONE, True)
    assert stand.replay().records == stand.ledger.records
