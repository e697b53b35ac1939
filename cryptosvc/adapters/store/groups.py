"""The store thread: everything this worker writes, in one order, concurrent calls sharing transactions.

While one transaction is on its way to the disk the next calls gather, so groups grow with the load and an idle
service adds no delay. What is taken out of the lanes, and when, is the server's to say (`rounds.py`): it takes as late
as it can.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from cryptosvc.core.errors import Busy, Unavailable

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Call = tuple[Sequence[Item], "asyncio.Future[Sequence[Answer]]"]


class Lane(Generic[Item, Answer]):
    """Calls of one kind that wait."""

    def __init__(self) -> None:
        self.waiting: deque[Call[Item, Answer]] = deque()


class Taken(Generic[Item, Answer]):
    """Calls taken out of a lane, to be served together: one answer for each item, or one error for all."""

    def __init__(self, lane: Lane[Item, Answer]) -> None:
        self._lane = lane
        self._calls: list[Call[Item, Answer]] = []
        self._outcome: Sequence[Answer] | BaseException | None = None
        self.items: list[Item] = []

    def collect(self, at_most: int) -> None:
        """Take calls up to `at_most` items; at least one call, where there is one."""
        waiting = self._lane.waiting
        while waiting and (not self.items or len(self.items) + len(waiting[0][0]) <= at_most):
            call = waiting.popleft()
            self._calls.append(call)
            self.items += call[0]

    def serve(self, run: Callable[[Sequence[Item]], Sequence[Answer]]) -> None:
        """Have what was taken answered by `run`, whatever it raises."""
        if not self._calls:
            return
        try:
            self._outcome = run(self.items)
        except BaseException as error:  # noqa: BLE001  # whatever it is belongs to the callers
            self._outcome = error

    def answer(self, outcome: Sequence[Answer] | BaseException) -> None:
        """Settle what was taken."""
        self._outcome = outcome

    def deliver(self) -> None:
        """Give the callers their answers; in their loop."""
        at = 0
        for items, future in self._calls:
            if not future.done():
                if isinstance(self._outcome, BaseException):
                    future.set_exception(self._outcome)
                elif self._outcome is not None:
                    future.set_result(self._outcome[at : at + len(items)])
            at += len(items)

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The callers' loop; None where nothing was taken."""
        return self._calls[0][1].get_loop() if self._calls else None


Serve = Callable[[], Sequence[Taken[Any, Any]]]
"""Takes from the lanes, serves, and returns what is to be delivered; never raises."""


class StoreThread:
    """One thread and its lanes.

    Args:
        name: of the thread.
        queue_at_most: items that may wait; beyond, calls that are not urgent are turned away as Busy.

    """

    def __init__(self, name: str, queue_at_most: int) -> None:
        self._queue_at_most = queue_at_most
        self._lanes: Sequence[Lane[Any, Any]] = ()
        self._serve: Serve = tuple
        self._condition = threading.Condition()
        self._closed = False
        self._queued = 0
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._jobs: Lane[Callable[[], object], object] = Lane()

    def start(self, lanes: Sequence[Lane[Any, Any]], serve: Serve) -> None:
        """Begin: `serve` is called while something waits in a lane, and single jobs take turns with it."""
        self._lanes, self._serve = lanes, serve
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
        return answer  # type: ignore[return-value]  # each job's own answer

    def close(self) -> None:
        """Serve what waits, then end."""
        with self._condition:
            self._closed = True
            self._condition.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        while self._wait():
            if any(lane.waiting for lane in self._lanes):
                self._settle(self._serve())
            if self._jobs.waiting:
                job = Taken(self._jobs)
                job.collect(1)
                job.serve(lambda jobs: [work() for work in jobs])
                self._settle([job])

    def _wait(self) -> bool:
        """Wait until there is something to do; False where there is nothing and never will be."""
        with self._condition:
            while not (self._jobs.waiting or any(lane.waiting for lane in self._lanes)):
                if self._closed:
                    return False
                self._condition.wait()
            return True

    def _settle(self, served: Sequence[Taken[Any, Any]]) -> None:
        with self._condition:
            self._queued -= sum(len(taken.items) for taken in served)
        loop = next((taken.loop for taken in served if taken.loop is not None), None)
        # one thread, one loop; where that is closed already nobody waits any more
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(_deliver, served)


def _deliver(served: Sequence[Taken[Any, Any]]) -> None:
    for taken in served:
        taken.deliver()
