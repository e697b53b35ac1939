"""A worker that stops lets what it does now and then come to its end."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from cryptosvc.wiring import chores


async def cancelled_within(chore: Callable[[], Awaitable[object]], begun: asyncio.Event) -> None:
    doing = asyncio.create_task(chores.every(60, "chore", chore))
    await begun.wait()
    doing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await doing


async def test_a_turn_under_way_ends_before_its_chore_does():
    begun, ended = asyncio.Event(), asyncio.Event()

    async def chore() -> None:
        begun.set()
        await asyncio.sleep(0.05)
        ended.set()

    await cancelled_within(chore, begun)
    assert ended.is_set()


async def test_a_turn_that_does_not_end_is_cut(monkeypatch):
    monkeypatch.setattr(chores, "_END_WITHIN_SECONDS", 0.02)
    begun, cut = asyncio.Event(), asyncio.Event()

    async def chore() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cut.set()

    await cancelled_within(chore, begun)
    assert cut.is_set()


async def test_what_a_last_turn_raises_is_not_lost_in_a_warning():
    begun = asyncio.Event()

    async def chore() -> None:
        begun.set()
        await asyncio.sleep(0.02)
        raise ValueError

    await cancelled_within(chore, begun)
