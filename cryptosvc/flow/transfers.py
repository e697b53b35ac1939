"""Transfers as callers and auditors see them over the wire: how far each is, what is signed of it, its part of the log.

Every read is recorded. Nothing here moves a transfer on: that is done by acts (`govern.py`).

Source: Smart Energy Code G2.22F to G2.22I, G2.27.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from cryptosvc.core.acts.transfer_devices import work_id
from cryptosvc.core.case import Principal
from cryptosvc.core.content.checkpoint_note import public_key_der
from cryptosvc.core.device_records import DeviceWorkRecord, WorkKind
from cryptosvc.core.errors import Corrupt, Malformed
from cryptosvc.core.names import KeyId
from cryptosvc.core.registry import KeyRecord
from cryptosvc.core.transfer.record import TransferRecord
from cryptosvc.core.transfer.states import Side
from cryptosvc.flow.ports import Clock, Ledger, Records
from cryptosvc.flow.setting import recorded
from cryptosvc.flow.spokesman import Spokesman
from cryptosvc.flow.transfer_log import TransferLog

_Answer = TypeVar("_Answer")
_WORK = {Side.SOURCE: WorkKind.RELEASE, Side.DESTINATION: WorkKind.RECEIVE}


@dataclass(frozen=True, slots=True)
class Standing:
    """A transfer, and the work on device keys that follows from its last act; None where there is none."""

    record: TransferRecord
    work: DeviceWorkRecord | None


@dataclass(frozen=True, slots=True)
class Said:
    """What the service says of a transfer: type of the statement, DSSE envelope, SubjectPublicKeyInfo DER of its key."""

    kind: str
    envelope: bytes
    service_key: bytes


class TransferDesk:
    """Answers for transfers."""

    def __init__(
        self,
        records: Records,
        ledger: Ledger,
        clock: Clock,
        log: TransferLog,
        spokesman: Spokesman,
        service_key: KeyId,
    ) -> None:
        """`service_key` is the key the spokesman signs with."""
        self._records = records
        self._ledger = ledger
        self._clock = clock
        self._log = log
        self._spokesman = spokesman
        self._service_key = service_key

    async def every(self, principal: Principal) -> Sequence[Standing]:
        """Every transfer, sorted by id."""

        async def read() -> list[Standing]:
            found = await self._records.of_kind("transfer-record")
            mine = [one for one in found if isinstance(one, TransferRecord)]
            return [await self._standing(one) for one in sorted(mine, key=lambda one: one.transfer_id)]

        return await self._recorded(principal, "read-transfers", read)

    async def one(self, principal: Principal, transfer_id: str) -> Standing:
        """One transfer; Malformed where there is none of the id."""

        async def read() -> Standing:
            found = await self._records.record("transfer-record", transfer_id)
            if not isinstance(found, TransferRecord):
                raise Malformed(
                    "there is no such transfer", rule="transfer/unknown", clause="G2.22I", field="transfer_id"
                )
            return await self._standing(found)

        return await self._recorded(principal, "read-transfer", read)

    async def statement(self, principal: Principal, transfer_id: str) -> Said:
        """What follows from where a transfer stands, signed; raises as `Spokesman.say`. Auditors do not ask for it."""

        async def sign() -> Said:
            kind, envelope = await self._spokesman.say(transfer_id)
            key = await self._records.record("key-record", self._service_key)
            if not isinstance(key, KeyRecord):
                raise Corrupt("the service-signing key has no record", rule="transfer/record")
            return Said(kind, envelope, public_key_der(key.public_point))

        return await self._recorded(principal, "say-transfer", sign, reading=False)

    async def evidence(self, principal: Principal, transfer_id: str) -> tuple[Side, bytes]:
        """The transfer out of this log; raises as `TransferLog.bundle`."""

        async def read() -> tuple[Side, bytes]:
            found, octets = await self._log.bundle(transfer_id)
            return found.side, octets

        return await self._recorded(principal, "read-transfer-evidence", read)

    async def _standing(self, found: TransferRecord) -> Standing:
        name = work_id(found.transfer_id, _WORK[found.side])
        work = await self._records.record("device-work-record", name)
        return Standing(found, work if isinstance(work, DeviceWorkRecord) else None)

    async def _recorded(
        self,
        principal: Principal,
        operation: str,
        work: Callable[[], Awaitable[_Answer]],
        *,
        reading: bool = True,
    ) -> _Answer:
        return await recorded(self._ledger, self._clock, principal, operation, work, reading=reading)
