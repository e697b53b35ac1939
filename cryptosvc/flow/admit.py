"""Admit: a TLS peer certificate becomes a Principal, or the attempt is recorded and refused (G2.1, G2.6)."""

from cryptosvc.core.case import Principal
from cryptosvc.core.errors import Unidentified
from cryptosvc.core.record import Refused
from cryptosvc.core.registry import CallerState
from cryptosvc.flow.ports import Clock, Keys, Ledger


class Admission:
    """Decides who is calling."""

    def __init__(self, keys: Keys, ledger: Ledger, clock: Clock) -> None:
        self._keys = keys
        self._ledger = ledger
        self._clock = clock

    async def admit(self, certificate_sha256: bytes, peer: str, operation: str) -> Principal:
        """Find the caller registered with this client certificate.

        Args:
            certificate_sha256: SHA-256 of the DER certificate the TLS handshake verified, 32 octets; empty where
                the connection carries none.
            peer: transport address, for the record.
            operation: what the call asks, for the record of a refusal.

        Raises:
            Unidentified: no certificate, none registered with it, or a revoked caller. Recorded before it is raised.
            Unavailable, Corrupt: the registry or the log cannot be read or written.

        """
        # 1 find
        caller = await self._keys.caller(certificate_sha256) if certificate_sha256 else None
        if caller is not None and caller.state is CallerState.REGISTERED:
            return Principal(caller=caller, peer=peer)
        # 2 record, then refuse
        instant = self._clock.now()
        error = _refusal(known=caller is not None, certificate=bool(certificate_sha256))
        principal = None if caller is None else Principal(caller=caller, peer=peer)
        await self._ledger.record(
            [
                Refused(
                    error=error,
                    operation=operation,
                    at=instant.at,
                    time_quality=instant.quality,
                    principal=principal,
                    peer=peer,
                )
            ]
        )
        raise error


def _refusal(*, known: bool, certificate: bool) -> Unidentified:
    if known:
        return Unidentified(
            "the caller with this certificate is revoked; ask the operator of the service",
            rule="caller/revoked",
            clause="G2.1",
        )
    if certificate:
        return Unidentified(
            "no caller is registered with this client certificate; ask the operator to register it",
            rule="caller/unknown",
            clause="G2.1",
        )
    return Unidentified(
        "the connection carries no client certificate", rule="caller/no-certificate", clause="G2.1"
    )
