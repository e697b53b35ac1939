"""Certify that a device key is destroyed: its rows removed, and every epoch that a copy may be under destroyed too."""

from cryptosvc.core import checkpoint, device_destruction
from cryptosvc.core.case import Request
from cryptosvc.core.device_destruction import Proven
from cryptosvc.core.device_records import DeviceWorkRecord, WorkKind, WorkState
from cryptosvc.core.device_work import CLAUSE
from cryptosvc.core.errors import WrongState
from cryptosvc.core.names import ContentForm, RequestId
from cryptosvc.core.registry import KeyRecord, KeyState
from cryptosvc.flow.destruction import Certifier
from cryptosvc.flow.sign import Signed


class DeviceCertifier(Certifier):
    """Issues certificates for device keys, as the service's own principal."""

    async def of_device_key(self, work_id: str) -> bytes:
        """Certify that the key a work removed is destroyed: a DSSE envelope by the service-signing key.

        Raises:
            WrongState: the work removed no key, or an epoch it names is not destroyed yet.
            CryptosvcError: why it could not be signed.

        """
        # 1 what the registry says
        located = await self._records.located("device-work-record", work_id)
        work, work_leaf = (None, 0) if located is None else located
        done = (WorkKind.DESTROY, WorkState.DONE)
        if not isinstance(work, DeviceWorkRecord) or (work.kind, work.state) != done:
            raise WrongState(
                f"work {work_id} removed no device key", rule="device-destruction/not-done", clause=CLAUSE
            )
        epochs = [await self._epoch(one) for one in device_destruction.epochs_of(work)]
        # 2 a checkpoint that has all of it, and the proofs to it
        note = await self._covering(max(work_leaf, *(leaf for _, leaf in epochs)) + 1)
        size = checkpoint.parse(note).checkpoint.size
        payload = device_destruction.payload(
            work,
            await self._proven(work_leaf, size),
            [Proven(key, await self._proven(leaf, size)) for key, leaf in epochs],
            note,
            self._origin,
        )
        # 3 the corridor
        request = Request(
            request_id=RequestId(f"device-destroyed-{size}-{work_leaf}"),
            key_id=self._service_key,
            form=ContentForm.SERVICE_STATEMENT,
            payload=payload,
        )
        (answer,) = await self._signer.sign(self._service, [request])
        if not isinstance(answer, Signed):
            raise answer.error
        return answer.checked.artefact

    async def _epoch(self, key_id: str) -> tuple[KeyRecord, int]:
        """An epoch's record and its leaf, once it is destroyed."""
        located = await self._records.located("key-record", key_id)
        if (
            located is None
            or not isinstance(located[0], KeyRecord)
            or located[0].state is not KeyState.DESTROYED
        ):
            raise WrongState(
                f"epoch {key_id} is not destroyed, and a backup may hold the key under it: re-wrap what is under it, then "
                "propose key.destroy",
                rule="device-destruction/epoch",
                clause=CLAUSE,
            )
        return located[0], located[1]
