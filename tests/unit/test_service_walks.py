"""Walks: turns between connections, and one caller's fault is not another's."""

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

from cryptosvc.core.case import Principal, Request
from cryptosvc.core.errors import Busy, Unavailable
from cryptosvc.core.names import ContentForm, KeyId, RequestId
from cryptosvc.flow.sign import NotSigned, Signed, Signer
from cryptosvc.service.limits import Gate, Limits
from cryptosvc.service.walks import GATHER_SECONDS, PATIENCE_SECONDS, Walks
from tests.pki import Authority
from tests.service_stand import caller_record

IDENTITY = Authority().client()


class Recorder:
    """A signer that answers with the request's id, or fails over the id `bug`."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gone: list[Exception] = []

    async def sign_each(self, items: Sequence[tuple[Principal, Request]]) -> list[Signed | NotSigned]:
        self.batches.append([request.request_id for _, request in items])
        await asyncio.sleep(0)
        if self.gone:
            raise self.gone.pop()
        if any(request.request_id == "bug" for _, request in items):
            raise ZeroDivisionError
        return cast("list[Signed | NotSigned]", [request.request_id for _, request in items])


class Holding:
    """A signer that holds every batch until it is let go."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.free = asyncio.Event()

    async def sign_each(self, items: Sequence[tuple[Principal, Request]]) -> list[Signed | NotSigned]:
        self.batches.append([request.request_id for _, request in items])
        await self.free.wait()
        return cast("list[Signed | NotSigned]", [request.request_id for _, request in items])


def _principal(peer: str) -> Principal:
    return Principal(caller=caller_record("caller", IDENTITY), peer=peer)


def _request(request_id: str) -> Request:
    return Request(
        request_id=RequestId(request_id), key_id=KeyId("k"), form=ContentForm.TBS_CERTIFICATE, payload=b"x"
    )


async def test_connections_take_turns():
    signer = Recorder()
    walks = Walks(cast("Signer", signer), Gate(100), Limits(batch_items=8, turn_items=3, walks=1))
    greedy = [walks.one(_principal("greedy"), _request(f"g{n}"), 10.0) for n in range(12)]
    modest = [walks.one(_principal("modest"), _request(f"m{n}"), 10.0) for n in range(2)]
    await asyncio.gather(*greedy, *modest)
    assert signer.batches[0] == ["g0", "g1", "g2", "m0", "m1", "g3", "g4", "g5"]
    assert signer.batches[1] == ["g6", "g7", "g8", "g9", "g10", "g11"]


async def test_a_fault_over_one_request_is_its_own_caller_s_only():
    signer = Recorder()
    gate = Gate(100)
    walks = Walks(cast("Signer", signer), gate, Limits())
    good = walks.one(_principal("a"), _request("good"), 10.0)
    bad = walks.one(_principal("b"), _request("bug"), 10.0)
    assert cast("str", await good) == "good"
    with pytest.raises(ZeroDivisionError):
        await bad
    assert signer.batches == [["good", "bug"], ["good"], ["bug"]]
    await asyncio.wait_for(gate.idle(), 1)


async def test_what_ends_a_walk_as_a_whole_ends_it_for_all_and_is_not_walked_again():
    signer = Recorder()
    signer.gone = [Unavailable("gone", rule="store/gone")]
    walks = Walks(cast("Signer", signer), Gate(100), Limits())
    both = [walks.one(_principal(peer), _request(peer), 10.0) for peer in "ab"]
    answers = await asyncio.gather(*both, return_exceptions=True)
    assert [type(answer) for answer in answers] == [Unavailable, Unavailable]
    assert signer.batches == [["a", "b"]]


async def test_the_gate_counts_both_sides_of_its_bound_and_gives_room_back():
    gate = Gate(3)
    gate.enter(3)
    with pytest.raises(Busy):
        gate.enter(1)
    waiting = asyncio.ensure_future(gate.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    gate.leave(1)
    await asyncio.wait_for(waiting, 1)
    gate.enter(1)
    gate.leave(3)
    await asyncio.wait_for(gate.idle(), 1)
    assert gate.in_work == 0


async def test_a_request_whose_caller_has_gone_before_it_started_is_not_walked():
    signer = Recorder()
    gate = Gate(10)
    walks = Walks(cast("Signer", signer), gate, Limits())
    gone = walks.one(_principal("a"), _request("gone"), 10.0)
    gone.cancel()
    kept = walks.one(_principal("a"), _request("kept"), 10.0)
    await kept
    assert signer.batches == [["kept"]]
    await asyncio.wait_for(gate.idle(), 1)


async def test_what_comes_during_a_walk_is_walked_together_after_it():
    signer = Holding()
    walks = Walks(cast("Signer", signer), Gate(100), Limits(walks=4))
    first = walks.one(_principal("a"), _request("first"), 10.0)
    await asyncio.sleep(0)
    later = []
    for number in range(3):
        later.append(walks.one(_principal("a"), _request(f"l{number}"), 10.0))
        await asyncio.sleep(0)
    assert signer.batches == [["first"]]
    signer.free.set()
    await asyncio.gather(first, *later)
    assert signer.batches == [["first"], ["l0", "l1", "l2"]]


async def test_a_walk_that_takes_long_does_not_hold_up_the_next():
    signer = Holding()
    walks = Walks(cast("Signer", signer), Gate(100), Limits(walks=3))
    held = [walks.one(_principal("a"), _request("held"), 10.0)]
    for number in range(2):
        await asyncio.sleep(0)
        held.append(walks.one(_principal("a"), _request(f"next{number}"), 10.0))
        async with asyncio.timeout(10.0):
            while len(signer.batches) < len(held):
                await asyncio.sleep(0.005)
    held.append(walks.one(_principal("a"), _request("last"), 10.0))
    await asyncio.sleep(2 * PATIENCE_SECONDS)
    assert signer.batches == [["held"], ["next0"], ["next1"]], "no more walks than there may be"
    signer.free.set()
    await asyncio.gather(*held)
    assert signer.batches[-1] == ["last"]


async def test_a_full_turn_starts_beside_a_walk_under_way_at_once():
    signer = Holding()
    walks = Walks(cast("Signer", signer), Gate(100), Limits(turn_items=2, walks=2))
    held = [walks.one(_principal("a"), _request("held"), 10.0)]
    await asyncio.sleep(0)
    held += [walks.one(_principal("a"), _request(f"t{number}"), 10.0) for number in range(2)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert signer.batches == [["held"], ["t0", "t1"]]
    signer.free.set()
    await asyncio.gather(*held)


class Slow(Recorder):
    """A signer that takes a twentieth of a second over a batch."""

    async def sign_each(self, items: Sequence[tuple[Principal, Request]]) -> list[Signed | NotSigned]:
        await asyncio.sleep(0.05)
        return await super().sign_each(items)


async def test_callers_that_were_answered_come_again_together_and_whoever_waited_goes_with_them():
    signer = Slow()
    walks = Walks(cast("Signer", signer), Gate(100), Limits(walks=1))

    async def caller(name: str) -> None:
        for number in range(3):
            await walks.one(_principal(name), _request(f"{name}{number}"), 10.0)

    async def late() -> None:
        for _ in range(5):  # the first walk has started by then
            await asyncio.sleep(0)
        await walks.one(_principal("late"), _request("late"), 10.0)

    await asyncio.gather(caller("a"), caller("b"), late())
    assert [sorted(batch) for batch in signer.batches] == [["a0", "b0"], ["a1", "b1", "late"], ["a2", "b2"]]


async def test_nobody_waits_long_for_callers_that_do_not_come_again():
    signer = Slow()
    walks = Walks(cast("Signer", signer), Gate(100), Limits(walks=1))
    loop = asyncio.get_running_loop()
    first = walks.one(_principal("a"), _request("first"), 10.0)
    await asyncio.sleep(0.01)
    second = walks.one(_principal("b"), _request("second"), 10.0)
    await first
    ended = loop.time()
    await asyncio.wait_for(second, 1)
    assert loop.time() - ended >= 0.05 + 0.9 * GATHER_SECONDS, "it waited for the first caller"
    assert signer.batches == [["first"], ["second"]]
