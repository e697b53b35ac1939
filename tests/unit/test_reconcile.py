"""Modules against registry: every difference has a name and a remedy, and what was begun is ended by what is there."""

import orjson
import pytest

from cryptosvc.core.asset import IDENTITY, ModuleRecord
from cryptosvc.core.errors import OutcomeUnknown
from cryptosvc.core.life import Asset
from cryptosvc.core.names import ModuleName
from cryptosvc.core.proposal import ProposalState
from cryptosvc.core.reconcile import Kind
from cryptosvc.core.registry import KeyState
from cryptosvc.flow.reconcile import SETTLED_SECONDS, Reconciler
from tests.govern_stand import HANDS_IN, ORDER, Stand
from tests.governance import SYSTEM

SOFT = ModuleName("soft")
MODULE = ModuleRecord(
    module=SOFT,
    version=1,
    system=SYSTEM,
    asset=Asset(label="token", classification="secret", responsible="Ada"),
    identity=tuple((name, "as reported") for name in sorted(IDENTITY)),
    assurance="none",
)


@pytest.fixture
async def stand() -> Stand:
    return await Stand(records=(MODULE,)).begin()


def reconciler(stand: Stand) -> Reconciler:
    own = frozenset({("soft", "cryptosvc-owner:dcc-test/test")})
    return Reconciler(stand.keys, stand.vault, stand.ledger, stand.clock, [SOFT], own)


async def kinds(stand: Stand) -> dict[str, Kind]:
    return {one.subject: one.kind for one in await reconciler(stand).compare()}


async def test_what_is_as_recorded_differs_in_nothing_and_that_is_recorded(stand: Stand) -> None:
    await stand.active("k")
    before = len(stand.ledger.leaves)
    assert await kinds(stand) == {}
    entry = orjson.loads(stand.ledger.leaves[before].entry)
    assert (entry["kind"], entry["facts"]) == (
        "reconciled",
        {"differences": "0", "keys": "1", "objects": "2"},
    )


async def test_every_kind_of_difference(stand: Stand) -> None:
    for name in ("gone", "swapped", "loosened", "back"):
        await stand.active(name)
    vault = stand.vault
    names = {
        name: (key.module, key.label, key.object_id)
        for name in ("gone", "swapped", "back")
        if (key := stand.key(name))
    }
    kept = vault.held[names["back"]]
    await stand.carry("key.deactivate", "back")
    await stand.carry("key.destroy", "back")
    vault.held[names["back"]] = kept
    del vault.held[names["gone"]]
    vault.held[names["swapped"]] = kept
    vault.held["soft", "cryptosvc-owner:dcc-test/test", b"\x01"] = kept
    vault.held["soft", "stranger", b"\x02"] = kept
    vault.changed["loosened"] = ["CKA_EXTRACTABLE is true, the class asks for false"]
    vault.identities[SOFT] = dict.fromkeys(IDENTITY, "as reported") | {"firmware": "9.9"}
    assert await kinds(stand) == {
        "soft": Kind.DRIFTED_MODULE,
        "gone": Kind.MISSING_OBJECT,
        "swapped": Kind.CHANGED_KEY,
        "loosened": Kind.CHANGED_ATTRIBUTES,
        "back": Kind.NOT_DESTROYED,
        "soft/stranger": Kind.UNKNOWN_OBJECT,
    }
    recorded = [orjson.loads(leaf.entry) for leaf in stand.ledger.leaves]
    seen = {
        one["facts"]["subject"]
        for one in recorded
        if one["kind"] == "reconciled" and "subject" in one["facts"]
    }
    assert seen == {"soft", "gone", "swapped", "loosened", "back", "soft/stranger"}


async def test_a_module_nobody_entered_is_named() -> None:
    assert await kinds(await Stand().begin()) == {"soft": Kind.UNREGISTERED_MODULE}


async def left(stand: Stand, act: str, *, done: bool) -> str:
    """An act whose process died: before the module did it, or before it was written down."""
    proposal = await stand.approved(act, "k")
    lost = OutcomeUnknown("the process died", rule="test/died")
    (stand.vault.failing_afterwards if done else stand.vault.failing).append(lost)
    with pytest.raises(OutcomeUnknown):
        await stand.governor.execute(HANDS_IN, proposal)
    assert stand.proposal(proposal).state is ProposalState.EXECUTING
    return proposal


@pytest.mark.parametrize("done", [True, False])
async def test_a_generation_that_was_left_is_finished_or_failed(stand: Stand, done: bool) -> None:
    await stand.carry("key.order", "k", **ORDER)
    proposal = await left(stand, "key.generate", done=done)
    assert (await kinds(stand))[proposal] is Kind.UNFINISHED_ACT
    # a moment later it may still be under way elsewhere
    (young,) = await reconciler(stand).finish()
    assert young.state is ProposalState.EXECUTING
    stand.later(SETTLED_SECONDS)
    (ending,) = await reconciler(stand).finish()
    assert ending.state is (ProposalState.DONE if done else ProposalState.FAILED)
    assert stand.key("k").state is (KeyState.PRE_ACTIVATION if done else KeyState.ORDERED)
    assert bool(stand.key("k").public_point) is done
    assert stand.proposal(proposal).state is ending.state
    assert await reconciler(stand).finish() == []
    assert await kinds(stand) == {}
    stand.replay()
    if not done:  # and it can be proposed again
        await stand.carry("key.generate", "k")
        assert stand.key("k").state is KeyState.PRE_ACTIVATION


async def test_a_half_made_key_is_undone(stand: Stand) -> None:
    await stand.carry("key.order", "k", **ORDER)
    await left(stand, "key.generate", done=True)
    stand.vault.changed["k"] = ["CKA_DERIVE is true, the class asks for false"]
    stand.later(SETTLED_SECONDS)
    (ending,) = await reconciler(stand).finish()
    assert ending.state is ProposalState.FAILED
    assert stand.vault.held == {}
    assert stand.key("k").state is KeyState.ORDERED


@pytest.mark.parametrize("done", [True, False])
async def test_a_destruction_that_was_left_is_finished(stand: Stand, done: bool) -> None:
    await stand.active("k")
    await stand.carry("key.deactivate", "k")
    await left(stand, "key.destroy", done=done)
    stand.later(SETTLED_SECONDS)
    (ending,) = await reconciler(stand).finish()
    assert ending.state is ProposalState.DONE
    assert stand.key("k").state is KeyState.DESTROYED
    assert stand.vault.held == {}
    stand.replay()


async def test_what_is_on_a_label_reaches_the_log_as_printable_text(stand: Stand) -> None:
    await stand.active("k")
    held = stand.vault.held
    name = (SOFT, stand.key("k").label, stand.key("k").object_id)
    held["soft", "\x1b[2Jé", b"\x02"] = held[name]
    (found,) = await reconciler(stand).compare()
    assert found.kind is Kind.UNKNOWN_OBJECT
    recorded = stand.ledger.leaves[-1].entry
    assert b"soft/?[2J?" in recorded
    assert recorded.isascii()
    stand.replay()
