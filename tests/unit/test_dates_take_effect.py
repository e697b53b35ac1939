"""What was approved for a date comes about on that date in the corridor, whether or not anybody wrote it down."""

import timeit
from dataclasses import replace

import pytest

from cryptosvc.core import lifecycle
from cryptosvc.core.case import Case
from cryptosvc.core.content import forms
from cryptosvc.core.errors import WrongState
from cryptosvc.core.keyclass import KEY_CLASSES
from cryptosvc.core.life import DAY, NANOSECONDS, Event, Life, UnixSeconds
from cryptosvc.core.names import Operation, UnixNanoseconds
from cryptosvc.core.registry import KeyState
from cryptosvc.flow.keys import KeyReader
from cryptosvc.flow.sign import NotSigned
from tests.corridor import SUPPLIER_KEY, Corridor, key_record, pre_command_request

NOW = 1_800_000_000
PERIOD = KEY_CLASSES["command-signing"].crypto_period_days * DAY


def corridor_with(life: Life, state: KeyState = KeyState.ACTIVE) -> Corridor:
    corridor = Corridor()
    corridor.keys.records[SUPPLIER_KEY] = replace(key_record(), state=state, life=life)
    return corridor


def date(seconds: int) -> UnixSeconds:
    return UnixSeconds(seconds)


def active_since(seconds: int, **more: UnixSeconds) -> Life:
    return Life(milestones=((Event.ACTIVATE, date(seconds)),), **more)  # type: ignore[arg-type]  # dates by name


async def state_at(corridor: Corridor, seconds: int, nanoseconds: int = 0) -> KeyState:
    """The fact that the policies see, at a moment: the clock goes on by a second at each reading."""
    corridor.clock.at = (seconds - 1) * NANOSECONDS + nanoseconds
    request = pre_command_request()
    content = forms.parse(request.form, request.payload, corridor.profiles)
    (case,) = await corridor.gatherer.gather(corridor.principal, Operation.SIGN, [(request, content)])
    assert isinstance(case, Case)
    assert case.at == seconds * NANOSECONDS + nanoseconds
    return case.facts.state


async def test_the_state_changes_with_the_very_second_and_back_with_the_clock() -> None:
    corridor = corridor_with(
        Life(activate_on=date(NOW + 10), deactivate_on=date(NOW + 20)), KeyState.PRE_ACTIVATION
    )
    expected = [
        (NOW + 9, 999_999_999, KeyState.PRE_ACTIVATION),
        (NOW + 10, 0, KeyState.ACTIVE),
        (NOW + 19, 999_999_999, KeyState.ACTIVE),
        (NOW + 20, 0, KeyState.DEACTIVATED),
        (NOW + 9000, 0, KeyState.DEACTIVATED),
        (NOW + 19, 0, KeyState.ACTIVE),
        (NOW, 0, KeyState.PRE_ACTIVATION),
    ]
    assert [await state_at(corridor, at, rest) for at, rest, _ in expected] == [one[2] for one in expected]


async def test_a_new_version_of_the_record_counts_at_once() -> None:
    corridor = corridor_with(active_since(NOW - 10, deactivate_on=date(NOW)))
    assert await state_at(corridor, NOW) is KeyState.DEACTIVATED
    corridor.keys.records[SUPPLIER_KEY] = replace(
        corridor.keys.records[SUPPLIER_KEY], version=2, life=active_since(NOW - 10)
    )
    assert await state_at(corridor, NOW) is KeyState.ACTIVE


@pytest.mark.parametrize(
    ("life", "rule"),
    [
        (active_since(NOW - 10, deactivate_on=date(NOW)), "schedule/deactivation-date"),
        (active_since(NOW - PERIOD), "schedule/crypto-period"),
        (active_since(NOW - PERIOD, deactivate_on=date(NOW + 5)), "schedule/crypto-period"),
        (active_since(NOW - PERIOD + 5, deactivate_on=date(NOW - 5)), "schedule/deactivation-date"),
    ],
)
async def test_a_refusal_names_the_rule_that_led_there_and_uses_no_key(life: Life, rule: str) -> None:
    corridor = corridor_with(life)
    corridor.clock.at = NOW * NANOSECONDS
    (answer,) = await corridor.signer.sign(corridor.principal, [pre_command_request()])
    assert isinstance(answer, NotSigned)
    assert isinstance(answer.error, WrongState)
    assert (answer.error.rule, answer.error.clause) == (rule, "G5.13(b)")
    assert (corridor.ledger.claimed, corridor.hsm.signed) == ([], [])


async def test_a_key_that_is_suspended_by_hand_is_refused_as_such() -> None:
    corridor = corridor_with(active_since(NOW - 10), KeyState.SUSPENDED)
    (answer,) = await corridor.signer.sign(corridor.principal, [pre_command_request()])
    assert isinstance(answer, NotSigned)
    assert answer.error.rule == "lifecycle/state"


async def test_a_key_becomes_active_by_its_date_without_anybody() -> None:
    corridor = corridor_with(Life(activate_on=date(NOW)), KeyState.PRE_ACTIVATION)
    corridor.clock.at = (NOW - 2) * NANOSECONDS
    early, late = [
        (await corridor.signer.sign(corridor.principal, [pre_command_request(name)]))[0]
        for name in ("r1", "r2")
    ]
    assert isinstance(early, NotSigned)
    assert not isinstance(late, NotSigned)


async def test_who_lists_keys_sees_the_state_they_are_in() -> None:
    corridor = corridor_with(active_since(NOW - 10, deactivate_on=date(NOW)))
    reader = KeyReader(corridor.keys, corridor.ledger, corridor.clock)
    for at, state in ((NOW - 2, KeyState.ACTIVE), (NOW, KeyState.DEACTIVATED)):
        corridor.clock.at = (at - 1) * NANOSECONDS
        listed = {one.key_id: one.state for one in await reader.list_keys(corridor.principal)}
        corridor.clock.at = (at - 1) * NANOSECONDS
        shown = await reader.key(corridor.principal, SUPPLIER_KEY)
        assert (listed[SUPPLIER_KEY], shown.state) == (state, state)


@pytest.mark.parametrize("at", [0, NOW - 1, NOW, NOW + 4, NOW + 5, NOW + 6, NOW + PERIOD, NOW + 2 * PERIOD])
def test_a_standing_is_the_effective_state_over_the_whole_of_its_stretch(at: int) -> None:
    life = Life(activate_on=date(NOW), deactivate_on=date(NOW + 5))
    key = replace(key_record(), state=KeyState.PRE_ACTIVATION, life=life)
    found = lifecycle.standing(key, UnixNanoseconds(at * NANOSECONDS))
    assert found.since <= at * NANOSECONDS < found.until
    for inside in (found.since, at * NANOSECONDS, found.until - 1):
        assert lifecycle.effective(key, date(inside // NANOSECONDS))[0] is found.state


def test_what_a_signature_pays_for_it_is_nothing_to_speak_of() -> None:
    """Once for each key of a batch, so at most once a signature. Measured: 0.08 µs; the bound leaves room for noise."""
    corridor = corridor_with(active_since(NOW - 10, deactivate_on=date(NOW + DAY)))
    gatherer, key, at = corridor.gatherer, corridor.keys.records[SUPPLIER_KEY], NOW * NANOSECONDS
    seconds = min(timeit.repeat(lambda: gatherer._state(key, UnixNanoseconds(at)), number=5_000, repeat=9))
    assert seconds / 5_000 < 2e-6
