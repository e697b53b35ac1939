"""Walks: requests that are there at the same time walk the corridor as one batch, whichever connections brought them.

Where no walk is under way, one starts in the event-loop turn in which its first request came. What comes while one is
forms the next, since a walk of few costs nearly what a walk of many does: it starts soon after a walk ends, when it is a
full turn, or after `PATIENCE_SECONDS`, so that a slow module does not hold up what is for another. Soon after: callers
that were just answered are likely to ask again at once, and whoever comes first would otherwise set out alone and all
others wait for it. So the next walk starts when as many are there as were answered or waited, at the latest after the
time the walk took. Connections take turns, so one that sends much does not stand in the way of one that sends little.
Once a walk has started it is nobody's to cancel: a caller that goes away does not undo a claim. Work that has not
started when its deadline passes, or when its caller has gone, never does.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from cryptosvc.core.case import Principal, Request
from cryptosvc.core.errors import Busy, CryptosvcError
from cryptosvc.flow.sign import NotSigned, Signed, Signer
from cryptosvc.service.limits import Gate, Limits

_T = TypeVar("_T")
_Key = tuple[str, int, str]
_Answer = Signed | NotSigned

PATIENCE_SECONDS = 0.02
"""How long requests wait for a walk under way before one of their own starts beside it, where there may be more."""

GATHER_SECONDS = 0.01
"""Longest a walk waits for the callers of the one before it, which is never longer than that one took."""


@dataclass(slots=True)
class _Waiting:
    """One request that has not started."""

    principal: Principal
    request: Request
    answer: "asyncio.Future[_Answer]"
    deadline: float


@dataclass(slots=True)
class _Line:
    """The requests of one connection; its principal stands for all of them, so that a walk reads it once."""

    principal: Principal
    waiting: deque[_Waiting] = field(default_factory=deque)


class Walks:
    """Gives requests to the signer.

    Args:
        signer: the corridor.
        gate: bounds what is in work over all calls.
        limits: batch size, and how many walks go on at the same time.

    """

    def __init__(self, signer: Signer, gate: Gate, limits: Limits) -> None:
        self._signer = signer
        self._gate = gate
        self._batch_items = limits.batch_items
        self._turn_items = limits.turn_items
        self._most_walks = limits.walks
        self._under_way = 0
        self._scheduled = False
        self._waiting = 0
        self._patience: asyncio.TimerHandle | None = None
        self._gathering: asyncio.TimerHandle | None = None
        self._expected = 0
        self._lines: dict[_Key, _Line] = {}
        self._tasks: set[asyncio.Task[object]] = set()
        self._loop = asyncio.get_running_loop()

    def one(self, principal: Principal, request: Request, seconds: float) -> "asyncio.Future[_Answer]":
        """Sign one request, together with others of the same connection.

        Args:
            principal: who asks.
            request: what is asked.
            seconds: how long it may wait to be started.

        Returns:
            A future of the answer; it raises as `Signer.sign`, and Busy where the wait was too long. Cancelling it
            withdraws a request that has not started.

        Raises:
            Busy: there is no room.

        """
        self._gate.enter(1)
        caller = principal.caller
        key = (caller.caller_id, caller.version, principal.peer)
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line(principal)
        answer: asyncio.Future[_Answer] = self._loop.create_future()
        line.waiting.append(_Waiting(line.principal, request, answer, self._loop.time() + seconds))
        self._waiting += 1
        self._consider()
        return answer

    async def room(self) -> None:
        """Wait until `one` would find room."""
        await self._gate.room()

    async def many(self, principal: Principal, requests: Sequence[Request]) -> list[_Answer]:
        """Sign a batch that is one already; raises as `Signer.sign`, and Busy where there is no room."""
        self._gate.enter(len(requests))
        return await asyncio.shield(self._keep(self._whole(principal, requests)))

    def _consider(self) -> None:
        """Start what waits if nothing else is under way or it is a full turn; else in a while."""
        if self._waiting >= self._turn_items:
            self._schedule()
        elif self._gathering is not None:
            if self._waiting >= self._expected:
                self._schedule()
        elif not self._under_way:
            self._schedule()
        elif self._patience is None and self._lines:
            self._patience = self._loop.call_later(PATIENCE_SECONDS, self._schedule)

    def _gather(self, answered: int, seconds: float) -> None:
        """Give the callers of a walk that has ended a moment to come again."""
        if self._gathering is None and not self._under_way:
            self._expected = self._waiting + answered
            wait = min(seconds, GATHER_SECONDS)
            self._gathering = self._loop.call_later(wait, self._schedule)
        else:
            self._schedule()

    def _schedule(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        if self._lines and not self._scheduled and self._under_way < self._most_walks:
            self._scheduled = True
            self._loop.call_soon(self._start)

    def _start(self) -> None:
        self._scheduled = False
        batch = self._next_batch()
        if batch:
            self._under_way += 1
            self._keep(self._walk(batch))
        self._consider()

    def _next_batch(self) -> list[_Waiting]:
        """Take what is waiting, a turn of each connection after the other."""
        now = self._loop.time()
        batch: list[_Waiting] = []
        while self._lines and len(batch) < self._batch_items:
            key = next(iter(self._lines))
            line = self._lines.pop(key)
            most = min(self._turn_items, self._batch_items - len(batch))
            while line.waiting and most:
                waiting = line.waiting.popleft()
                self._waiting -= 1
                if waiting.answer.cancelled():
                    self._gate.leave(1)
                elif waiting.deadline <= now:
                    self._gate.leave(1)
                    waiting.answer.set_exception(
                        Busy(
                            "the request waited past its deadline and was not started",
                            rule="overload/deadline",
                        )
                    )
                else:
                    batch.append(waiting)
                    most -= 1
            if line.waiting:
                self._lines[key] = line
        return batch

    async def _walk(self, batch: list[_Waiting]) -> None:
        began = self._loop.time()
        try:
            await self._answer(batch)
        finally:
            self._gate.leave(len(batch))
            self._under_way -= 1
            self._gather(len(batch), self._loop.time() - began)

    async def _answer(self, batch: list[_Waiting]) -> None:
        try:
            answers = await self._signer.sign_each(
                [(waiting.principal, waiting.request) for waiting in batch]
            )
        except CryptosvcError as error:
            self._fail(batch, error)
        except Exception as error:  # noqa: BLE001 - whoever waits gets it, and maps it to a status
            if len(batch) == 1:
                self._fail(batch, error)
                return
            # A fault of ours over one request is not to be another caller's, so each walks again alone. What had
            # been claimed already comes back as a repeated request id; nothing is ever signed twice.
            for waiting in batch:
                await self._answer([waiting])
        else:
            for waiting, answer in zip(batch, answers, strict=True):
                if not waiting.answer.done():
                    waiting.answer.set_result(answer)

    def _fail(self, batch: list[_Waiting], error: Exception) -> None:
        for waiting in batch:
            if not waiting.answer.done():
                waiting.answer.set_exception(error)

    async def _whole(self, principal: Principal, requests: Sequence[Request]) -> list[_Answer]:
        try:
            return await self._signer.sign(principal, requests)
        finally:
            self._gate.leave(len(requests))

    def _keep(self, work: Coroutine[None, None, _T]) -> "asyncio.Task[_T]":
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
