"""What one worker takes on at most. Every bound has a default; configuration may set another."""

import asyncio
from dataclasses import dataclass

from cryptosvc.core.errors import Busy

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one worker.

    Args:
        message_octets: longest gRPC message, in either direction; a longer one is RESOURCE_EXHAUSTED before it is read.
        payload_octets: longest content of one request.
        batch_items: most requests in one SignBatch, and in one walk of the corridor.
        items_in_work: most requests accepted and not yet answered, over all calls; more are refused as Busy.
        stream_items: most requests of one stream that are read and not yet answered; the service then stops reading.
            Also the most in one frame.
        walks: how many batches of single requests walk the corridor at the same time; what arrives meanwhile forms
            the next one.
        turn_items: most requests one connection has in such a batch while others wait too.
        connections: most connections; further ones are closed at once.
        streams_per_connection: HTTP/2 SETTINGS_MAX_CONCURRENT_STREAMS.
        deadline_seconds: longest an accepted request waits to be started; a caller's own earlier deadline counts
            instead. What has not been started by then never is.
        connection_age_seconds: connections are asked to go after this time, so that load spreads over new workers.
        connection_idle_seconds: a connection without calls is closed after this; callers come back by themselves.
        handshake_seconds: longest a TLS handshake may take.
        page_items: most keys in one ListKeys answer.

    """

    message_octets: int = 4 * MEBIBYTE
    payload_octets: int = MEBIBYTE
    batch_items: int = 256
    items_in_work: int = 4096
    stream_items: int = 1024
    walks: int = 4
    turn_items: int = 64
    connections: int = 4096
    streams_per_connection: int = 1024
    deadline_seconds: float = 30.0
    connection_age_seconds: float = 1800.0
    connection_idle_seconds: float = 300.0
    handshake_seconds: float = 10.0
    page_items: int = 500

    @property
    def connection_grace_seconds(self) -> float:
        """How long calls of an aged connection may go on: longer than the longest deadline."""
        return self.deadline_seconds * 1.5


class Gate:
    """Counts what is in work and refuses more than it may be; never waits."""

    def __init__(self, items_in_work: int) -> None:
        self._most = items_in_work
        self._in_work = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._room = asyncio.Event()
        self._room.set()

    @property
    def in_work(self) -> int:
        """Requests accepted and not yet answered."""
        return self._in_work

    def enter(self, items: int) -> None:
        """Take room for `items` requests, or raise Busy."""
        if self._in_work + items > self._most:
            raise Busy(
                "the service has all the work it can hold; wait and try again", rule="overload/items-in-work"
            )
        self._in_work += items
        self._idle.clear()
        if self._in_work >= self._most:
            self._room.clear()

    def leave(self, items: int) -> None:
        """Give the room back."""
        self._in_work -= items
        self._room.set()
        if not self._in_work:
            self._idle.set()

    async def room(self) -> None:
        """Wait until there is room for one more."""
        while self._in_work >= self._most:
            await self._room.wait()

    async def idle(self) -> None:
        """Wait until nothing is in work."""
        await self._idle.wait()
