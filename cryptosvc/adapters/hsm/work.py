"""Work for a module: a sequence of items that session threads take from one at a time.

Every session thread that gets a ticket of a work takes items until there are none left, so a work of one module
call per item is spread over all idle sessions without being cut up beforehand, and one session takes a whole batch
without a hand-over in between. Taking an item and answering it are single operations under the interpreter lock.
"""

import asyncio
import hashlib
import itertools
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from ctypes import c_void_p, cast, pointer
from typing import ClassVar, Generic, Protocol, TypeVar

from cryptosvc.adapters.hsm.constants import Ckm
from cryptosvc.adapters.hsm.cryptoki import Mechanism
from cryptosvc.core.errors import CryptosvcError, Unavailable
from cryptosvc.core.record import Claim, Failed, Produced
from cryptosvc.core.registry import KeyRecord
from cryptosvc.core.values import quickly

HMAC_SHA256_OCTETS = 32
P256_SIGNATURE_OCTETS = 64

Answer = TypeVar("Answer")

# Prepared once: C_SignInit only reads them, and they have no parameter.
_ECDSA = Mechanism(Ckm.ECDSA)
_SHA256_HMAC = Mechanism(Ckm.SHA256_HMAC)
_produced = quickly(Produced)


def _at(mechanism: Mechanism) -> c_void_p:
    return cast(pointer(mechanism), c_void_p)


class Work(ABC, Generic[Answer]):
    """Items to be done with keys of one module.

    Args:
        size: number of items, at least 1.

    """

    mechanism: c_void_p
    """Address of C_SignInit's mechanism."""
    octets: int
    """Length of every result."""
    in_session: ClassVar[bool] = False
    """It does with a session what it needs, and nothing by C_Sign; asked of every item, where `isinstance` is slow."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.cursor = iter(range(size))
        self.answers: dict[int, Answer] = {}
        self._finished = itertools.count(1)

    def answer(self, index: int, outcome: bytes | CryptosvcError) -> bool:
        """Answer one item; False where it was answered before (a call that was given up came back after all)."""
        answer = self.outcome(index, outcome)
        if self.answers.setdefault(index, answer) is not answer:
            return False
        if next(self._finished) == self.size:
            self.finished()
        return True

    @abstractmethod
    def item(self, index: int) -> tuple[KeyRecord, bytes]:
        """The key and what C_Sign gets."""

    @abstractmethod
    def deadline(self, index: int) -> float:
        """time.monotonic() after which the item is not begun."""

    @abstractmethod
    def outcome(self, index: int, outcome: bytes | CryptosvcError) -> Answer:
        """The answer's value."""

    @abstractmethod
    def finished(self) -> None:
        """Every item is answered; called once, in any thread."""


class SessionWork(Work[Answer]):
    """A work that does with a session what it needs, and nothing by C_Sign."""

    in_session = True


class SignWork(Work[Produced | Failed]):
    """ECDSA P-256 over SHA-256 of each claim's signed bytes; the digest is taken here (SoftHSM has no ECDSA_SHA256).

    Args:
        claims: at least one.
        monotonic_offset: time.monotonic() minus Unix time, in seconds.
        inbox: where the finished work goes.

    """

    mechanism = _at(_ECDSA)
    octets = P256_SIGNATURE_OCTETS

    def __init__(self, claims: Sequence[Claim], monotonic_offset: float, inbox: "Inbox") -> None:
        super().__init__(len(claims))
        self._claims = claims
        self._offset = monotonic_offset
        self._inbox = inbox
        self.done: asyncio.Future[None] = inbox.loop.create_future()

    def item(self, index: int) -> tuple[KeyRecord, bytes]:
        """The claimed key and the digest of the judged bytes."""
        case = self._claims[index].authorised.case
        return case.key, hashlib.sha256(case.content.signed_bytes).digest()

    def deadline(self, index: int) -> float:
        """The claim's deadline."""
        return self._claims[index].deadline * 1e-9 + self._offset

    def outcome(self, index: int, outcome: bytes | CryptosvcError) -> Produced | Failed:
        """Produced for octets, Failed for an error."""
        claim = self._claims[index]
        return _produced(claim, outcome) if isinstance(outcome, bytes) else Failed(claim, outcome)

    def finished(self) -> None:
        """Wake the coroutine that waits."""
        self._inbox.post(self)

    def cancel(self) -> None:
        """Nobody waits any more: items that were not begun are not begun."""
        self._offset = float("-inf")

    def in_order(self) -> list[Produced | Failed]:
        """One answer per claim, in the order of the claims."""
        return [self.answers[index] for index in range(self.size)]


class MacWork(Work["bytes | CryptosvcError"]):
    """One HMAC-SHA256, waited for by a thread."""

    mechanism = _at(_SHA256_HMAC)
    octets = HMAC_SHA256_OCTETS

    def __init__(self, key: KeyRecord, octets: bytes) -> None:
        super().__init__(1)
        self._key = key
        self._octets = octets
        self._waiting = threading.Lock()
        self._waiting.acquire()

    def item(self, index: int) -> tuple[KeyRecord, bytes]:  # noqa: ARG002 - there is only one
        """The key and all the octets."""
        return self._key, self._octets

    def deadline(self, index: int) -> float:  # noqa: ARG002 - there is only one
        """None: the store's transaction has one of its own."""
        return float("inf")

    def outcome(self, index: int, outcome: bytes | CryptosvcError) -> bytes | CryptosvcError:  # noqa: ARG002 - the signature is that of the base
        """As it came."""
        return outcome

    def finished(self) -> None:
        """Let the waiting thread go on."""
        self._waiting.release()

    def wait(self, seconds: float) -> bytes:
        """Wait for the MAC; raises what it failed with, or Unavailable where nobody answered in time."""
        if not self._waiting.acquire(timeout=seconds):
            raise Unavailable(
                "the module did not authenticate the log's head in time", rule="hsm/mac-timeout"
            )
        outcome = self.answers[0]
        if isinstance(outcome, bytes):
            return outcome
        raise outcome


class Awaited(Protocol):
    """A work that a coroutine waits for."""

    done: "asyncio.Future[None]"


class Inbox:
    """Finished works on their way to an event loop: one wake-up for all that finish before it runs."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._works: deque[Awaited] = deque()
        self._woken = False

    def post(self, work: "Awaited") -> None:
        """From any thread. Appending first means that a wake-up seen as pending has not yet looked."""
        self._works.append(work)
        if not self._woken:
            self._woken = True
            try:
                self.loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:  # the loop was closed: nobody waits any more
                self._works.clear()

    def _deliver(self) -> None:
        self._woken = False
        while self._works:
            done = self._works.popleft().done
            if not done.done():
                done.set_result(None)
