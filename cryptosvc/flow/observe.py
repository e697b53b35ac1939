"""Observe: what happened outside the corridor enters the log too: refusals before it, and counted events (G2.6)."""

from collections.abc import Mapping, Sequence

from cryptosvc.core.case import Principal
from cryptosvc.core.errors import Refusal
from cryptosvc.core.record import Observed, Receipt, Refused
from cryptosvc.flow.ports import Clock, Ledger


class Observer:
    """Records what no other use case records."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock

    async def refused(
        self, principal: Principal, operation: str, errors: Sequence[Refusal]
    ) -> Sequence[Receipt]:
        """Record refusals of calls that could not even be read as a request; one receipt each, in order.

        Raises:
            Unavailable, Corrupt: the log cannot be written.

        """
        instant = self._clock.now()
        return await self._ledger.record(
            [
                Refused(
                    error=error,
                    operation=operation,
                    at=instant.at,
                    time_quality=instant.quality,
                    principal=principal,
                    peer=principal.peer,
                )
                for error in errors
            ]
        )

    async def happened(
        self, kind: str, operation: str, facts: Mapping[str, str], withheld: Mapping[str, str]
    ) -> Receipt:
        """Record an event no principal stands behind, as a failed handshake; Unavailable, Corrupt as above."""
        instant = self._clock.now()
        (receipt,) = await self._ledger.record(
            [
                Observed(
                    kind=kind,
                    operation=operation,
                    at=instant.at,
                    time_quality=instant.quality,
                    facts=facts,
                    withheld=withheld,
                )
            ]
        )
        return receipt
