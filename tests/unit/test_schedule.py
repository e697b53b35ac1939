"""The scheduler writes down what has come about, once, and so that the log derives it again."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from cryptography import x509
from prometheus_client import CollectorRegistry

from cryptosvc.core import lifecycle
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.due import Coming, coming, within
from cryptosvc.core.errors import Conflict, Corrupt, Unavailable
from cryptosvc.core.keyclass import KEY_CLASSES
from cryptosvc.core.life import DAY, Event, Life, UnixSeconds
from cryptosvc.core.names import KeyId
from cryptosvc.core.proposal import ProposalState
from cryptosvc.core.record import Because, Claim, Leaf
from cryptosvc.core.registry import KeyState
from cryptosvc.core.replay import EXPIRY
from cryptosvc.flow import schedule
from cryptosvc.flow.schedule import Scheduler
from cryptosvc.service.metrics import Metrics
from cryptosvc.wiring import worker
from tests.corridor import key_record
from tests.govern_stand import HANDS_IN, Stand
from tests.governance import NOW
from tests.store_stand import authorised, checked

PERIOD = KEY_CLASSES["command-signing"].crypto_period_days * DAY


async def place(**parameters: JsonValue) -> tuple[Stand, Scheduler]:
    """A key whose activation was approved, and whoever watches it."""
    stand = await Stand().begin()
    await stand.ordered("key-1")
    await stand.carry("key.activate", "key-1", **parameters)
    return stand, Scheduler(stand.keys, stand.ledger, stand.clock)


def because(leaf: Leaf) -> bytes:
    return leaf.entry.partition(b'"because":')[2].partition(b"}")[0]


async def test_what_is_not_due_is_left_alone() -> None:
    stand, scheduler = await place(on=NOW + 50, until=NOW + 100)
    size = len(stand.ledger.leaves)
    stand.later(50)
    assert [await scheduler.turn() for _ in range(3)] == [0, 0, 0]
    assert len(stand.ledger.leaves) == size


async def test_dates_are_written_down_when_they_have_come_each_once() -> None:
    stand, scheduler = await place(on=NOW + 50, until=NOW + 100)
    stand.later(51)
    assert [await scheduler.turn() for _ in range(3)] == [1, 0, 0]
    key = stand.key("key-1")
    assert (key.state, key.version) == (KeyState.ACTIVE, 4)
    assert key.life.when(Event.ACTIVATE) == NOW + 50
    assert because(stand.ledger.leaves[-1]) == b'{"rule":"schedule/activation-date"'
    stand.later(50)
    assert [await scheduler.turn() for _ in range(3)] == [1, 0, 0]
    key = stand.key("key-1")
    assert (key.state, key.life.when(Event.DEACTIVATE)) == (KeyState.DEACTIVATED, NOW + 100)
    stand.replay()


async def test_a_whole_life_that_nobody_wrote_down_is_one_change() -> None:
    stand, scheduler = await place(on=NOW + 50)
    stand.later(PERIOD + 60)
    assert await scheduler.turn() == 1
    key = stand.key("key-1")
    assert key.life.when(Event.ACTIVATE) == NOW + 50
    assert key.life.when(Event.DEACTIVATE) == NOW + 50 + PERIOD
    assert because(stand.ledger.leaves[-1]) == b'{"rule":"schedule/crypto-period"'
    stand.replay()


async def test_a_date_that_comes_between_looking_and_writing_leaves_a_log_that_derives() -> None:
    stand, scheduler = await place(on=NOW + 50, until=NOW + 55)
    stand.later(53)
    change = stand.keys.change

    async def slow(*arguments: object) -> object:
        stand.later(10)
        return await change(*arguments)  # type: ignore[arg-type]  # as they came

    stand.keys.change = slow  # type: ignore[method-assign,assignment]  # time passes
    assert await scheduler.turn() == 1
    assert stand.key("key-1").state is KeyState.ACTIVE
    assert await scheduler.turn() == 1
    assert stand.key("key-1").state is KeyState.DEACTIVATED
    stand.replay()


async def test_an_open_proposal_ends_and_cannot_be_carried_out_any_more() -> None:
    stand, scheduler = await place()
    proposal = await stand.approved("key.suspend", "key-1")
    assert await scheduler.turn() == 0
    stand.later(DAY + 1)
    assert [await scheduler.turn() for _ in range(2)] == [1, 0]
    found = stand.proposal(proposal)
    assert (found.state, found.ended_on) == (ProposalState.EXPIRED, found.statement.expires_at)
    assert because(stand.ledger.leaves[-1]) == f'{{"rule":"{EXPIRY}"'.encode()
    with pytest.raises(Conflict):
        await stand.governor.execute(HANDS_IN, proposal)
    stand.replay()


async def uses(stand: Stand, count: int) -> list[Claim]:
    """Claims of the key."""
    asked = [authorised(generation=stand.ledger.generation, key=stand.key("key-1")) for _ in range(count)]
    return [one for one in await stand.ledger.claim(asked) if isinstance(one, Claim)]


async def test_a_key_that_is_used_up_is_deactivated_once_every_claim_is_closed() -> None:
    stand, scheduler = await place(usage_limit=2)
    first, second = await uses(stand, 3)
    await stand.ledger.record([checked(first)])
    assert await scheduler.turn() == 0
    await stand.ledger.record([checked(second)])
    assert [await scheduler.turn() for _ in range(2)] == [1, 0]
    key = stand.key("key-1")
    assert (key.state, key.life.when(Event.DEACTIVATE)) == (KeyState.DEACTIVATED, NOW - 1)
    assert because(stand.ledger.leaves[-1]) == b'{"rule":"schedule/usage-limit"'
    stand.replay()


async def test_what_cannot_be_written_now_is_written_later() -> None:
    stand, scheduler = await place(on=NOW + 50)
    stand.later(60)
    change = stand.keys.change

    async def gone(*_: object) -> object:
        raise Unavailable("the store is gone", rule="store/unreachable")

    stand.keys.change = gone  # type: ignore[method-assign,assignment]  # a fault
    for _ in range(2):
        with pytest.raises(Unavailable):
            await scheduler.turn()
    stand.keys.change = change  # type: ignore[method-assign]  # as it was
    assert await scheduler.turn() == 1


async def test_of_two_that_write_at_once_one_does_and_neither_spoils_the_other() -> None:
    stand, first = await place(on=NOW + 50)
    await stand.ordered("key-2")
    await stand.carry("key.activate", "key-2", on=NOW + 50)
    second = Scheduler(stand.keys, stand.ledger, stand.clock)
    stand.later(60)
    read = stand.keys.record

    async def meanwhile(kind: str, wanted: str) -> object:
        """After the second key was read, somebody else suspends the first."""
        found = await read(kind, wanted)
        if wanted == "key-2":
            stand.keys.record = read  # type: ignore[method-assign]  # once
            key = lifecycle.materialised(
                stand.key("key-1"), UnixSeconds(NOW + 59), "schedule/activation-date"
            )
            assert key is not None
            await stand.keys.change([key], Because("rule", "schedule/activation-date"))
        return found

    stand.keys.record = meanwhile  # type: ignore[method-assign,assignment]  # somebody is faster
    assert await first.turn() == 1
    assert await second.turn() == 0
    assert {stand.key(name).state for name in ("key-1", "key-2")} == {KeyState.ACTIVE}
    stand.replay()


async def test_a_turn_looks_at_so_many_records_and_goes_on_where_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(schedule, "LOOKED_AT", 3)
    stand, scheduler = await place(on=NOW + 50)
    stand.later(60)
    turns = [await scheduler.turn() for _ in range(9)]
    assert sum(turns) == 1
    assert turns[0] == 0


async def test_a_forged_rule_is_refused_in_replay() -> None:
    stand, _ = await place(on=NOW + 50)
    key = stand.key("key-1")
    early = replace(key, version=key.version + 1, state=KeyState.ACTIVE)
    forged: Mapping[str, object] = {
        "schedule/activation-date": early,
        "schedule/deactivation-date": early,
        "schedule/usage-limit": replace(early, state=KeyState.DEACTIVATED),
        "schedule/whatever": early,
    }
    for rule, record in forged.items():
        leaves, records = list(stand.ledger.leaves), dict(stand.ledger.records)
        await stand.keys.change([record], Because("rule", rule))  # type: ignore[list-item]  # a record
        with pytest.raises(Corrupt) as caught:
            stand.replay()
        assert caught.value.rule == "replay/rule"
        stand.ledger.leaves, stand.ledger.records = leaves, records


async def test_what_is_coming_is_listed_and_counted() -> None:
    stand, scheduler = await place(on=NOW + 50, until=NOW + 10 * DAY)
    await scheduler.turn()
    listed = await scheduler.due()
    assert [(one.event, one.at - NOW) for one in listed] == [("activate", 50), ("deactivate", 10 * DAY)]
    assert scheduler.figures.counts == {
        "activate": 1,
        "deactivate": 1,
        "replace": 0,
        "certificate": 0,
        "dispose": 0,
    }
    assert scheduler.figures.soonest == {"activate": NOW + 50, "deactivate": NOW + 10 * DAY}
    assert await scheduler.due(days=1) == listed[:1]
    stand.later(11 * DAY)
    await scheduler.turn()
    await scheduler.turn()
    assert set(scheduler.figures.counts.values()) == {0}


async def test_what_is_coming_is_a_metric() -> None:
    stand, scheduler = await place(on=NOW + 50)
    registry = CollectorRegistry()
    watch = worker.watching(scheduler, Metrics(registry))

    def shown(name: str, event: str) -> float | None:
        return registry.get_sample_value(f"cryptosvc_keys_due{name}", {"event": event})

    assert shown("", "activate") is None
    await watch()
    assert (shown("", "activate"), shown("", "replace")) == (1, 0)
    assert shown("_soonest_timestamp_seconds", "activate") == NOW + 50
    stand.later(60)
    await watch()
    await watch()
    assert stand.key("key-1").state is KeyState.ACTIVE
    assert (shown("", "activate"), shown("_soonest_timestamp_seconds", "activate")) == (0, 0)


def test_the_end_of_a_certificate_and_a_replacement_are_coming_too() -> None:
    key = replace(key_record(), life=Life(replace_by=UnixSeconds(NOW)))
    found = {one.event: one for one in coming(key)}
    assert found["replace"] == Coming(UnixSeconds(NOW), key.key_id, "replace", "certificate/ecos")
    ends = x509.load_der_x509_certificate(key.certificate).not_valid_after_utc
    assert found["certificate"].at == ends.timestamp()
    assert coming(replace(key, state=KeyState.DESTROYED)) == ()
    assert [one.event for one in coming(replace(key, certificate=b"none", life=Life()))] == []


@pytest.mark.parametrize(("days", "count"), [(0, 1), (1, 2), (2, 3), (90, 3)])
def test_within_includes_what_is_overdue_and_the_last_day(days: int, count: int) -> None:
    found = [Coming(UnixSeconds(NOW + n * DAY), KeyId("k"), "replace", "r") for n in (2, -5, 1)]
    assert len(within(found, UnixSeconds(NOW), days)) == count
