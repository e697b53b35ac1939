"""Every event in every state, through dual control: what the table has happens, and nothing else does."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.errors import WrongState
from cryptosvc.core.life import IN_CEREMONIES, OF_TRANSFERS, Event
from cryptosvc.core.lifecycle import TRANSITIONS
from cryptosvc.core.registry import KeyRecord, KeyState
from tests.govern_stand import ORDER, Stand
from tests.governance import NOW

# From SP 800-57 Part 1 Rev 5 section 7 and G5.13(b), written again, so that a widened table fails here.
ORDERED, BEFORE, ACTIVE = KeyState.ORDERED, KeyState.PRE_ACTIVATION, KeyState.ACTIVE
SUSPENDED, OVER = KeyState.SUSPENDED, KeyState.DEACTIVATED
COMPROMISED, DESTROYED, MOVING = KeyState.COMPROMISED, KeyState.DESTROYED, KeyState.IN_TRANSFER
SPLIT = KeyState.SPLIT
TABLE: Mapping[KeyState | None, Mapping[str, KeyState]] = {
    None: {"order": ORDERED, "register": BEFORE, "import": ACTIVE},
    ORDERED: {"generate": BEFORE, "label": ORDERED, "destroy": DESTROYED},
    BEFORE: {
        "advance": BEFORE,
        "label": BEFORE,
        "certify": BEFORE,
        "distribute": BEFORE,
        "install": BEFORE,
        "back-up": BEFORE,
        "activate": ACTIVE,
        "compromise": COMPROMISED,
        "destroy": DESTROYED,
    },
    ACTIVE: {
        "label": ACTIVE,
        "certify": ACTIVE,
        "distribute": ACTIVE,
        "install": ACTIVE,
        "back-up": ACTIVE,
        "renew": ACTIVE,
        "suspend": SUSPENDED,
        "supersede": OVER,
        "deactivate": OVER,
        "compromise": COMPROMISED,
        "export": MOVING,
        "split": SPLIT,
    },
    SPLIT: {"advance": SPLIT, "recombine": ACTIVE, "deactivate": OVER, "compromise": COMPROMISED},
    MOVING: {"advance": MOVING, "return": SUSPENDED, "relinquish": OVER, "compromise": COMPROMISED},
    SUSPENDED: {
        "advance": SUSPENDED,
        "label": SUSPENDED,
        "distribute": SUSPENDED,
        "back-up": SUSPENDED,
        "resume": ACTIVE,
        "supersede": OVER,
        "deactivate": OVER,
        "compromise": COMPROMISED,
    },
    OVER: {
        "advance": OVER,
        "back-up": OVER,
        "label": OVER,
        "distribute": OVER,
        "compromise": COMPROMISED,
        "destroy": DESTROYED,
    },
    COMPROMISED: {"label": COMPROMISED, "compromise": COMPROMISED, "destroy": DESTROYED},
    DESTROYED: {"compromise": DESTROYED},
}
PARAMETERS: Mapping[Event, Mapping[str, JsonValue]] = {
    Event.ORDER: ORDER,
    Event.REGISTER: {**ORDER, "object_label": "there", "object_id": "0a"},
    Event.LABEL: {"label": "another"},
    Event.DISTRIBUTE: {"to": "whoever asks"},
    Event.INSTALL: {"where": "there"},
    Event.BACK_UP: {"copy": "tape-7", "place": "a safe", "evidence": "0a" * 32},
    Event.CERTIFY: {"certificate": "30", "issuer": "key-2"},
    Event.RENEW: {"certificate": "30", "issuer": "key-2"},
    Event.SUPERSEDE: {"by": "key-2"},
    Event.COMPROMISE: {"since": NOW - 1},
    Event.ADVANCE: {"above": "gbcs-counter=7"},
}
CERTIFIED = {Event.CERTIFY, Event.RENEW}
"""Events that go on to look at a certificate, which has tests of its own."""


def test_the_table_is_the_one_written_here() -> None:
    found: dict[KeyState | None, dict[str, KeyState]] = {}
    for (state, event), transition in TRANSITIONS.items():
        found.setdefault(state, {})[event.value] = transition.to
    assert found == TABLE


async def in_state(state: KeyState, held: str = "") -> Stand:
    """A key in that state, and an active one that can take its place."""
    stand = await Stand().begin()
    await stand.ordered("key-1")
    await stand.active("key-2")
    if state is KeyState.ORDERED:
        stand.vault.held.clear()  # no object yet
    key = stand.key("key-1")
    await stand.keys.change(
        [replace(key, version=key.version + 1, state=state, life=replace(key.life, held=held))]
    )
    return stand


@pytest.mark.parametrize("state", list(KeyState))
async def test_every_event_leads_where_the_table_says_or_is_refused(state: KeyState) -> None:
    # those of transfers: tests/unit/test_transfer_walk.py; those in ceremonies: tests/unit/test_split_keys.py
    for event in sorted(set(Event) - OF_TRANSFERS - IN_CEREMONIES):
        if event in CERTIFIED and event.value in TABLE[state]:
            continue
        stand = await in_state(state, "b" if event is Event.ADVANCE else "")
        before: KeyRecord = stand.key("key-1")
        parameters = PARAMETERS.get(event, {})
        if event.value in TABLE[state]:
            await stand.carry(f"key.{event.value}", "key-1", ("ben", "cat", "dan"), **parameters)
            after = stand.key("key-1")
            assert (after.state, after.version) == (TABLE[state][event.value], before.version + 1), event
            assert after.life.when(event) == NOW
            continue
        with pytest.raises(WrongState) as refused:
            await stand.carry(f"key.{event.value}", "key-1", ("ben", "cat", "dan"), **parameters)
        assert (refused.value.rule, refused.value.clause) == ("lifecycle/event", "G5.13(b)"), event
        assert stand.key("key-1") == before
