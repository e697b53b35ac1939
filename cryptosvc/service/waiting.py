"""What a worker says while it cannot work yet: module or store are away, and it waits for them.

Health is NOT_SERVING for every service, and every call is answered UNAVAILABLE with the rule that says why: nothing was
done, ask again. Mutual TLS holds here as ever. Nothing is recorded, since there is no log to record it in; nothing is
read of what is asked either.
"""

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckResponse

from cryptosvc.core.errors import Unavailable
from cryptosvc.service import status
from cryptosvc.service.handlers import Context, Handler
from cryptosvc.service.health import REQUIRED
from cryptosvc.service.limits import Limits
from cryptosvc.service.server import Endpoint, transport_options

_CLOSE_SECONDS = 0.2


class WaitingRoom(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in the stubs only
    """Answers for a worker that waits. Make it on the event loop it runs on.

    Args:
        endpoint: where and as whom; the port is shared with the workers that serve.
        limits: bounds.

    """

    def __init__(self, endpoint: Endpoint, limits: Limits) -> None:
        self._endpoint = endpoint
        self._limits = limits
        self._server: grpc.aio.Server | None = None
        self._why = Unavailable("the worker is not ready yet", rule="serve/not-ready")

    async def tell(self, why: Unavailable) -> None:
        """Say from now on that this is what is waited for; begins to listen where it does not yet."""
        self._why = Unavailable(why.message, rule=why.rule, clause=why.clause)
        if self._server is None:
            self._server = grpc.aio.server(options=transport_options(self._limits))
            said = health.aio.HealthServicer()  # type: ignore[attr-defined]  # exported conditionally
            for name in REQUIRED:
                await said.set(name, HealthCheckResponse.NOT_SERVING)
            health_pb2_grpc.add_HealthServicer_to_server(said, self._server)
            self._server.add_generic_rpc_handlers((self,))
            self._server.add_secure_port(self._endpoint.address, self._endpoint.credentials())
            await self._server.start()

    async def close(self) -> None:
        """Stop listening: the worker serves now, or ends."""
        if self._server is not None:
            server, self._server = self._server, None
            await server.stop(_CLOSE_SECONDS)

    def service(self, _details: grpc.HandlerCallDetails) -> Handler:
        """Whatever is called, in whatever shape, has the one answer."""
        return grpc.stream_stream_rpc_method_handler(self._not_yet)

    async def _not_yet(self, _frames: object, context: Context) -> None:
        described = status.status(self._why)
        await context.abort(
            grpc.StatusCode.UNAVAILABLE, described.message, status.trailing_metadata(described)
        )
