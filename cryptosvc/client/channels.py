"""A pool of mutually authenticated connections behind one object.

A connection stays with the worker process that accepted it, so one connection keeps one worker busy and leaves the
others idle. The pool opens several (at least four per worker) and gives each call to the one with the fewest calls
under way: a worker that got more than its share of connections answers more slowly and therefore gets fewer calls on each.
"""

import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, TypeVar

import grpc

_C = TypeVar("_C")
"""grpc.Channel or grpc.aio.Channel."""

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Target:
    """Which service, and as whom.

    Args:
        address: `host:port`.
        authorities: certificates of the authorities that issue the service's certificate, PEM.
        certificate_chain: the caller's certificate and its issuers, PEM.
        private_key: its key, PEM.
        server_name: the name the service's certificate must have, where it is not the host of `address`.
        connections: at least four times the service's workers.
        answer_octets: longest answer accepted.

    """

    address: str
    authorities: bytes
    certificate_chain: bytes
    private_key: bytes
    server_name: str = ""
    connections: int = 16
    answer_octets: int = 16 * MEBIBYTE

    def credentials(self) -> grpc.ChannelCredentials:
        """Mutual TLS."""
        return grpc.ssl_channel_credentials(self.authorities, self.private_key, self.certificate_chain)

    def options(self) -> list[tuple[str, str | int]]:
        """GRPC channel arguments: each channel its own connection, dead peers noticed, quick to come back."""
        options: list[tuple[str, str | int]] = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_receive_message_length", self.answer_octets),
            ("grpc.max_send_message_length", self.answer_octets),
            ("grpc.initial_reconnect_backoff_ms", 100),
            # Despite its name the time a connection attempt, TLS included, is given: 100 ms made a busy machine
            # unreachable.
            ("grpc.min_reconnect_backoff_ms", 5000),
            ("grpc.max_reconnect_backoff_ms", 2000),
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 20_000),
        ]
        if self.server_name:
            options.append(("grpc.ssl_target_name_override", self.server_name))
        return options


class Connection(Generic[_C]):
    """One channel and how many calls are under way on it; a context manager around each call.

    Args:
        channel: the channel.
        lock: the pool's.

    """

    __slots__ = ("_lock", "channel", "under_way")

    def __init__(self, channel: _C, lock: threading.Lock) -> None:
        self._lock = lock
        self.channel = channel
        self.under_way = 0

    def __enter__(self) -> _C:
        return self.channel

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self.under_way -= 1


class Pool(Generic[_C]):
    """The connections.

    Args:
        channels: at least one.

    """

    def __init__(self, channels: list[_C]) -> None:
        self._lock = threading.Lock()
        self._connections = [Connection(channel, self._lock) for channel in channels]
        self._next = 0

    def pick(self) -> Connection[_C]:
        """Take the connection with the fewest calls under way; among equals, each in turn. Use it in a `with`."""
        connections = self._connections
        with self._lock:
            start = self._next
            self._next = (start + 1) % len(connections)
            best = connections[start]
            if best.under_way:
                for candidate in (*connections[start + 1 :], *connections[:start]):
                    if candidate.under_way < best.under_way:
                        best = candidate
                        if not best.under_way:
                            break
            best.under_way += 1
        return best

    @property
    def channels(self) -> list[_C]:
        """Every channel, to be closed."""
        return [connection.channel for connection in self._connections]


def blocking(target: Target) -> Pool[grpc.Channel]:
    """Open a pool for threads; connections are made when first used."""
    credentials = target.credentials()
    return Pool(
        [
            grpc.secure_channel(target.address, credentials, target.options())
            for _ in range(target.connections)
        ]
    )


def asynchronous(target: Target) -> Pool[grpc.aio.Channel]:
    """Open a pool for the running event loop."""
    credentials = target.credentials()
    return Pool(
        [
            grpc.aio.secure_channel(target.address, credentials, target.options())
            for _ in range(target.connections)
        ]
    )
