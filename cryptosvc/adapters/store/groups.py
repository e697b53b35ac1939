"""The store thread: everything this worker writes, in one order, concurrent calls sharing transactions.

While one transaction is on its way to the disk the next calls gather, so groups grow with the load and an idle
service adds no delay. Records go before claims: work that is done is answered first.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from cryptosvc.core.errors import Busy, Unavailable

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Lane(Generic[Item, Answer]):
    """Calls of one kind. `run` gets the items of several calls, and gives one answer for each, in order."""

    def __init__(self, run: Callable[[Sequence[Item]], Sequence[Answer]]) -> None:
        self.run = run
        self.waiting: deque[tuple[Sequence[Item], asyncio.Future[Sequence[Answer]]]] = deque()

    def serve(self, at_most: int) -> tuple[int, Callable[[], None]]:
        """Take calls up to `at_most` items (at least one call) and run them; how many, and how to deliver answers."""
        calls = [self.waiting.popleft()]
        count = len(calls[0][0])
        while self.waiting and count + len(self.waiting[0][0]) <= at_most:
            calls.append(self.waiting.popleft())
            count += len(calls[-1][0])
        items = calls[0][0] if len(calls) == 1 else [item for call, _ in calls for item in call]
        try:
            answers = self.run(items)
        except BaseException as error:  # noqa: BLE001  # whatever it is belongs to the callers
            failure = error
            return count, lambda: _fail(calls, failure)
        return count, lambda: _deliver(calls, answers)


class StoreThread:
    """One thread and its lanes, the first lane served first.

    Args:
        name: of the thread.
        at_most: items in one transaction.
        queue_at_most: items that may wait; beyond, calls that are not urgent are turned away as Busy.

    """

    def __init__(self, name: str, at_most: int, queue_at_most: int) -> None:
        self._at_most = at_most
        self._queue_at_most = queue_at_most
        self._lanes: list[Lane[Any, Any]] = []
        self._condition = threading.Condition()
        self._closed = False
        self._queued = 0
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._jobs: Lane[Callable[[], object], object] = Lane(lambda jobs: [job() for job in jobs])

    def start(self, *lanes: Lane[Any, Any]) -> None:
        """Begin to serve these lanes, and single jobs after them."""
        self._lanes = [*lanes, self._jobs]
        self._thread.start()

    async def put(
        self, lane: Lane[Item, Answer], items: Sequence[Item], *, urgent: bool = False
    ) -> Sequence[Answer]:
        """Have items served; raises what their transaction raised. What is urgent is never turned away."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Sequence[Answer]] = loop.create_future()
        with self._condition:
            if self._closed:
                raise Unavailable("the service is shutting down", rule="store/closed")
            if self._queued + len(items) > self._queue_at_most and self._queued and not urgent:
                raise Busy("too much is waiting for the store; try again shortly", rule="store/queue")
            self._queued += len(items)
            lane.waiting.append((items, future))
            self._condition.notify()
        return await future

    async def job(self, work: Callable[[], Answer]) -> Answer:
        """Run one piece of work in the thread, alone."""
        (answer,) = await self.put(self._jobs, [work], urgent=True)
        return answer  # type: ignore[return-value]  # the job lane gives each job's own answer

    def close(self) -> None:
        """Serve what waits, then end."""
        with self._condition:
            self._closed = True
            self._condition.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        while True:
            with self._condition:
                while not (lane := next((lane for lane in self._lanes if lane.waiting), None)):
                    if self._closed:
                        return
                    self._condition.wait()
            future = lane.waiting[0][1]
            count, deliver = lane.serve(1 if lane is self._jobs else self._at_most)
            with self._condition:
                self._queued -= count
            _hand_over(future, deliver)


def _hand_over(future: asyncio.Future[Sequence[Answer]], deliver: Callable[[], None]) -> None:
    """Deliver in the callers' loop; where that is closed already nobody waits any more."""
    loop = future.get_loop()
    if not loop.is_closed():
        loop.call_soon_threadsafe(deliver)


def _deliver(
    calls: Sequence[tuple[Sequence[Item], asyncio.Future[Sequence[Answer]]]], answers: Sequence[Answer]
) -> None:
    at = 0
    for items, future in calls:
        if not future.done():
            future.set_result(answers[at : at + len(items)])
        at += len(items)


def _fail(
    calls: Sequence[tuple[Sequence[Item], asyncio.Future[Sequence[Answer]]]], error: BaseException
) -> None:
    for _, future in calls:
        if not future.done():
            future.set_exception(error)
