"""One worker's gRPC server: mutual TLS always, bounded in every direction, and drained before it stops.

Several workers share one port (SO_REUSEPORT): the kernel gives each new connection to one of them, where it stays.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from cryptosvc.pb.v1 import audit_pb2, crypto_pb2, governance_pb2, keys_pb2, transfer_pb2
from cryptosvc.service import crypto, governance, querying, reading, transfers
from cryptosvc.service.application import Application
from cryptosvc.service.handlers import Desk
from cryptosvc.service.handshakes import ErrorTap
from cryptosvc.service.health import Check, Probe
from cryptosvc.service.limits import Gate, Limits
from cryptosvc.service.metrics import Metrics
from cryptosvc.service.tally import Event, Tally
from cryptosvc.service.tracing import Tracing
from cryptosvc.service.walks import Walks

_SERVED = (crypto_pb2, keys_pb2, audit_pb2, governance_pb2, transfer_pb2)
"""The proto files whose services reflection names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where and as whom the server speaks.

    Args:
        address: `host:port`; port 0 for any free one.
        certificate_chain: the server's certificate and its issuers, PEM.
        private_key: its key, PEM.
        client_authorities: certificates of the authorities that issue client certificates, PEM.

    """

    address: str
    certificate_chain: bytes
    private_key: bytes
    client_authorities: bytes

    def credentials(self) -> grpc.ServerCredentials:
        """Mutual TLS: a client without a certificate of those authorities does not get through the handshake."""
        return grpc.ssl_server_credentials(
            [(self.private_key, self.certificate_chain)], self.client_authorities, require_client_auth=True
        )


class Server:
    """A worker's server. Make it on the event loop it runs on.

    Args:
        application: the use cases.
        endpoint: where and as whom.
        limits: bounds.
        metrics: counts.
        checks: how health finds out whether `module`, `store` and `log` work.
        tracing: None where it is not configured.
        read_handshakes: take failed handshakes from the process's error stream. The process must have been started
            with `handshakes.ENVIRONMENT` set, and only one server of a process may do it.

    """

    def __init__(
        self,
        application: Application,
        endpoint: Endpoint,
        limits: Limits,
        metrics: Metrics,
        checks: Mapping[str, Check],
        *,
        tracing: Tracing | None = None,
        read_handshakes: bool = False,
    ) -> None:
        self._limits = limits
        self._metrics = metrics
        self._gate = Gate(limits.items_in_work)
        self._overload = Tally(application.observer, "overloaded", "sign")
        self.handshakes = Tally(application.observer, "handshake-failed", "connect")
        self._read_handshakes = read_handshakes
        self._tap: ErrorTap | None = None
        self._background: list[asyncio.Task[None]] = []
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]  # exported conditionally
        self.probe = Probe(self._health.set, checks)
        self._server = grpc.aio.server(options=transport_options(limits))
        desk = Desk(application, limits, metrics, self._overload, tracing)
        walks = Walks(application.signer, self._gate, limits)
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(
                    crypto.SERVICE, crypto.CryptoHandlers(desk, walks).methods()
                ),
                grpc.method_handlers_generic_handler(
                    reading.KEY_SERVICE, reading.KeyHandlers(desk).methods()
                ),
                grpc.method_handlers_generic_handler(
                    reading.AUDIT_SERVICE,
                    reading.AuditHandlers(desk).methods() | querying.QueryHandlers(desk).methods(),
                ),
                grpc.method_handlers_generic_handler(
                    governance.SERVICE, governance.GovernanceHandlers(desk, self._gate).methods()
                ),
                grpc.method_handlers_generic_handler(
                    transfers.SERVICE, transfers.TransferHandlers(desk).methods()
                ),
            )
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = [
            service.full_name for file in _SERVED for service in file.DESCRIPTOR.services_by_name.values()
        ]
        reflection.enable_server_reflection(
            (*names, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server
        )
        self.port = self._server.add_secure_port(endpoint.address, endpoint.credentials())

    async def start(self) -> None:
        """Probe once, so that health is true from the first answer, then accept connections."""
        await self.probe.once()
        loop = asyncio.get_running_loop()
        if self._read_handshakes:

            def failed(event: Event) -> None:
                loop.call_soon_threadsafe(self._handshake_failed, event)

            self._tap = ErrorTap(failed)
        await self._server.start()
        self._background = [
            loop.create_task(work)
            for work in (self.probe.run(), self._overload.run(), self.handshakes.run(), self._watch_gate())
        ]

    async def stop(self, grace_seconds: float) -> None:
        """Take no new call, let those under way end, wait for every walk that has claimed, then stop.

        Args:
            grace_seconds: calls still open after this are cancelled; their walks are not.

        """
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_seconds)
        await self._gate.idle()
        if self._tap is not None:
            await asyncio.to_thread(self._tap.close)
            await asyncio.sleep(0)
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

    async def wait(self) -> None:
        """Wait until the server has stopped."""
        await self._server.wait_for_termination()

    def _handshake_failed(self, event: Event) -> None:
        self.handshakes.add(event)
        self._metrics.handshake_failed(event.reason)

    async def _watch_gate(self) -> None:
        while True:
            self._metrics.in_work(self._gate.in_work)
            await asyncio.sleep(1.0)


def transport_options(limits: Limits) -> tuple[tuple[str, int], ...]:
    """GRPC channel arguments that keep a server within its limits."""
    return (
        ("grpc.so_reuseport", 1),
        ("grpc.max_receive_message_length", limits.message_octets),
        # An answer holds what was asked and a little more per item; the caller's own bound decides.
        ("grpc.max_send_message_length", 4 * limits.message_octets),
        ("grpc.max_concurrent_streams", limits.streams_per_connection),
        ("grpc.max_allowed_incoming_connections", limits.connections),
        ("grpc.server_handshake_timeout_ms", int(limits.handshake_seconds * 1000)),
        ("grpc.max_connection_idle_ms", int(limits.connection_idle_seconds * 1000)),
        ("grpc.max_connection_age_ms", int(limits.connection_age_seconds * 1000)),
        ("grpc.max_connection_age_grace_ms", int(limits.connection_grace_seconds * 1000)),
        # A peer that is gone without a word is noticed within these.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.max_metadata_size", 16 * 1024),
    )
