"""Load on a deployment: callers that go on asking, and everything they were told."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptosvc.client.asynchronous import AsyncClient
from cryptosvc.client.errors import CallError, Repeated
from cryptosvc.client.messages import Outcome
from cryptosvc.client.retries import Retries
from cryptosvc.pb.v1 import crypto_pb2
from tests.deployment import Deployment, Log, pre_command_request


@dataclass(frozen=True)
class Asked:
    """One request, when it was sent (monotonic), and what became of it."""

    question: crypto_pb2.SignRequest
    sent_at: float
    answered_at: float
    answer: Outcome


@dataclass
class Load:
    """Callers at work.

    Args:
        deployment: whom they ask.
        items: 0 asks unary calls, another number batches of so many.
        request_of: makes the n-th request.

    """

    deployment: Deployment
    request_of: Callable[[int], crypto_pb2.SignRequest] = pre_command_request
    asked: list[Asked] = field(default_factory=list)
    _next: int = 1_000
    _stopping: bool = False

    @property
    def signed(self) -> list[Asked]:
        return [one for one in self.asked if isinstance(one.answer, crypto_pb2.SignResponse)]

    @property
    def errors(self) -> list[tuple[Asked, CallError]]:
        return [(one, one.answer) for one in self.asked if isinstance(one.answer, CallError)]

    def since(self, moment: float) -> list[Asked]:
        """What was sent after."""
        return [one for one in self.asked if one.sent_at > moment]

    async def run(
        self,
        script: Callable[[], object],
        *,
        unary: int = 4,
        batches: int = 2,
        batch_items: int = 8,
        pause: float = 0.01,
        retries: Retries | None = None,
        seconds: float = 30.0,
    ) -> None:
        """Ask with so many unary callers and so many that send batches, while `script` runs in a thread."""
        async with self.deployment.async_client(retries=retries, seconds=seconds) as client:
            callers = [asyncio.create_task(self._caller(client, 0, pause)) for _ in range(unary)]
            callers += [asyncio.create_task(self._caller(client, batch_items, pause)) for _ in range(batches)]
            try:
                await asyncio.to_thread(script)
            finally:
                self._stopping = True
                await asyncio.gather(*callers)

    async def _caller(self, client: AsyncClient, items: int, pause: float) -> None:
        while not self._stopping:
            first, self._next = self._next, self._next + (items or 1)
            questions = [self.request_of(number) for number in range(first, self._next)]
            sent = time.monotonic()
            answers: list[Outcome]
            try:
                answers = await client.sign_batch(questions) if items else [await client.sign(questions[0])]
            except CallError as error:
                answers = [error] * len(questions)
            now = time.monotonic()
            self.asked += [
                Asked(question, sent, now, answer)
                for question, answer in zip(questions, answers, strict=True)
            ]
            await asyncio.sleep(pause)

    def require_logged(self, log: Log, public_point: bytes) -> None:
        """Nothing anybody was told is missing, and no request id was signed twice."""
        assert self.signed
        for one in self.signed:
            log.require_holds(one.question, one.answer, public_point)
        for one, error in self.errors:
            if isinstance(error, Repeated) and error.first_use and error.first_use.HasField("receipt"):
                first = error.first_use
                entry = log.entries[first.receipt.leaf_index]
                assert first.same_content
                assert entry.leaf_hash == first.receipt.leaf_hash
                assert entry.fields["request_id"] == one.question.request_id
        used: dict[str, int] = {}
        for entry in log.uses():
            if "after" not in entry.fields:
                used[entry.fields["request_id"]] = used.get(entry.fields["request_id"], 0) + 1
        assert max(used.values()) == 1


def until(condition: Callable[[], object], seconds: float, what: str = "it") -> float:
    """Wait for something, in a thread; how long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"{what} did not happen within {seconds} s"
        time.sleep(0.02)
    return time.monotonic() - began
