"""gRPC health per service: serving only while module, store and log work, found out by asking them.

The empty service name, which load balancers ask for, serves while signing does.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog
from grpc_health.v1.health_pb2 import HealthCheckResponse

from cryptosvc.core.errors import CryptosvcError
from cryptosvc.service.crypto import SERVICE as CRYPTO_SERVICE
from cryptosvc.service.governance import SERVICE as GOVERNANCE_SERVICE
from cryptosvc.service.reading import AUDIT_SERVICE, KEY_SERVICE
from cryptosvc.service.transfers import SERVICE as TRANSFER_SERVICE

Check = Callable[[], Awaitable[None]]
"""Returns where the part works, raises CryptosvcError where it does not."""

REQUIRED: Mapping[str, frozenset[str]] = {
    "": frozenset({"module", "store", "log"}),
    CRYPTO_SERVICE: frozenset({"module", "store", "log"}),
    KEY_SERVICE: frozenset({"store", "log"}),
    AUDIT_SERVICE: frozenset({"store", "log"}),
    GOVERNANCE_SERVICE: frozenset({"store", "log"}),
    TRANSFER_SERVICE: frozenset({"module", "store", "log"}),
}
"""Which parts each service needs; every read is recorded, so every service needs the log."""

_log = structlog.get_logger("cryptosvc.health")


class Probe:
    """Asks the parts again and again and publishes what it finds.

    Args:
        publish: sets the status of one service, as `grpc_health.v1.health.aio.HealthServicer.set`.
        checks: one per part: `module`, `store`, `log`. A part without a check does not work.
        interval_seconds: how often.
        patience_seconds: a check that takes longer counts as failed.

    """

    def __init__(
        self,
        publish: Callable[[str, HealthCheckResponse.ServingStatus], Awaitable[None]],
        checks: Mapping[str, Check],
        *,
        interval_seconds: float = 2.0,
        patience_seconds: float = 5.0,
    ) -> None:
        self._publish = publish
        self._checks = checks
        self._interval = interval_seconds
        self._patience = patience_seconds
        self._failing: dict[str, str] = {}

    @property
    def failing(self) -> Mapping[str, str]:
        """Parts that do not work, with the rule they failed by."""
        return self._failing

    async def run(self) -> None:
        """Probe until cancelled."""
        while True:
            await self.once()
            await asyncio.sleep(self._interval)

    async def once(self) -> None:
        """Ask every part, then publish every service's status."""
        names = sorted(set().union(*REQUIRED.values()))
        found = await asyncio.gather(*(self._ask(name) for name in names))
        failing = {name: rule for name, (rule, _) in zip(names, found, strict=True) if rule}
        if failing != self._failing:
            reasons = {name: reason for name, (_, reason) in zip(names, found, strict=True) if reason}
            _log.warning("health-changed", failing=failing, reasons=reasons)
        self._failing = failing
        for service, parts in REQUIRED.items():
            serving = parts.isdisjoint(failing)
            await self._publish(
                service, HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING
            )

    async def _ask(self, name: str) -> tuple[str, str]:
        """Ask one part: the rule it failed by and why in words, both empty where it works."""
        check = self._checks.get(name)
        if check is None:
            return f"{name}/no-check", ""
        try:
            async with asyncio.timeout(self._patience):
                await check()
        except CryptosvcError as error:
            return error.rule, error.message
        except TimeoutError:
            return f"{name}/timed-out", ""
        except Exception as error:  # noqa: BLE001 - a probe that dies would leave the last answer standing
            return f"{name}/{type(error).__name__}", ""
        return "", ""
