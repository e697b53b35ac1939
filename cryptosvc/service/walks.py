"""Walks: requests of one connection that are there at the same time walk the corridor as one batch.

Nothing waits for company: a walk starts in the event-loop turn in which its first request came, and what comes while
a connection has as many walks under way as it may forms the next one. Once a walk has started it is nobody's to
cancel: a caller that goes away does not undo a claim. Work that has not started when its deadline passes, or when its
caller has gone, never does.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from cryptosvc.core.case import Principal, Request
from cryptosvc.core.errors import Busy
from cryptosvc.flow.sign import NotSigned, Signed, Signer
from cryptosvc.service.limits import Gate, Limits

_T = TypeVar("_T")
_Key = tuple[str, int, str]
_Answer = Signed | NotSigned


@dataclass(slots=True)
class _Waiting:
    """One request that has not started."""

    request: Request
    answer: "asyncio.Future[_Answer]"
    deadline: float


@dataclass(slots=True)
class _Line:
    """The requests of one connection."""

    principal: Principal
    waiting: deque[_Waiting] = field(default_factory=deque)
    under_way: int = 0
    scheduled: bool = False


class Walks:
    """Gives requests to the signer.

    Args:
        signer: the corridor.
        gate: bounds what is in work over all calls.
        limits: batch size and walks per connection.

    """

    def __init__(self, signer: Signer, gate: Gate, limits: Limits) -> None:
        self._signer = signer
        self._gate = gate
        self._batch_items = limits.batch_items
        self._walks = limits.walks_per_caller
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
        line.waiting.append(_Waiting(request, answer, self._loop.time() + seconds))
        if not line.scheduled and line.under_way < self._walks:
            line.scheduled = True
            self._loop.call_soon(self._start, key, line)
        return answer

    async def room(self) -> None:
        """Wait until `one` would find room."""
        await self._gate.room()

    async def many(self, principal: Principal, requests: Sequence[Request]) -> list[_Answer]:
        """Sign a batch that is one already; raises as `Signer.sign`, and Busy where there is no room."""
        self._gate.enter(len(requests))
        return await asyncio.shield(self._keep(self._whole(principal, requests)))

    def _start(self, key: _Key, line: _Line) -> None:
        line.scheduled = False
        now = self._loop.time()
        batch: list[_Waiting] = []
        while line.waiting and len(batch) < self._batch_items:
            waiting = line.waiting.popleft()
            if waiting.answer.cancelled():
                self._gate.leave(1)
            elif waiting.deadline <= now:
                self._gate.leave(1)
                waiting.answer.set_exception(
                    Busy("the request waited past its deadline and was not started", rule="overload/deadline")
                )
            else:
                batch.append(waiting)
        if batch:
            line.under_way += 1
            self._keep(self._walk(key, line, batch))
        if line.waiting and line.under_way < self._walks:
            line.scheduled = True
            self._loop.call_soon(self._start, key, line)
        self._forget(key, line)

    async def _walk(self, key: _Key, line: _Line, batch: list[_Waiting]) -> None:
        try:
            answers = await self._signer.sign(line.principal, [waiting.request for waiting in batch])
            for waiting, answer in zip(batch, answers, strict=True):
                if not waiting.answer.done():
                    waiting.answer.set_result(answer)
        except Exception as error:  # noqa: BLE001 - whoever waits gets it, and maps it to a status
            for waiting in batch:
                if not waiting.answer.done():
                    waiting.answer.set_exception(error)
        finally:
            self._gate.leave(len(batch))
            line.under_way -= 1
            if line.waiting and not line.scheduled:
                line.scheduled = True
                self._loop.call_soon(self._start, key, line)
            self._forget(key, line)

    async def _whole(self, principal: Principal, requests: Sequence[Request]) -> list[_Answer]:
        try:
            return await self._signer.sign(principal, requests)
        finally:
            self._gate.leave(len(requests))

    def _forget(self, key: _Key, line: _Line) -> None:
        if not (line.waiting or line.under_way or line.scheduled):
            self._lines.pop(key, None)

    def _keep(self, work: Coroutine[None, None, _T]) -> "asyncio.Task[_T]":
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
