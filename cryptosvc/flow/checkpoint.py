"""Checkpoint: the log's head is signed by the audit-signing key, through the same corridor as everything else."""

from cryptosvc.core import checkpoint
from cryptosvc.core.case import Principal, Request
from cryptosvc.core.names import ContentForm, KeyId, RequestId
from cryptosvc.flow.ports import Ledger
from cryptosvc.flow.sign import Signed, Signer


class Checkpointer:
    """Signs and keeps checkpoints, as the service's own principal."""

    def __init__(
        self, signer: Signer, ledger: Ledger, principal: Principal, key_id: KeyId, origin: str
    ) -> None:
        self._signer = signer
        self._ledger = ledger
        self._principal = principal
        self._key_id = key_id
        self._origin = origin

    async def sign_checkpoint(self) -> bytes:
        """Sign the head as it stands and keep the note; where nothing was added since the last one, that one serves.

        The signature is itself recorded, so the log is always one leaf longer than its newest checkpoint.

        Raises:
            CryptosvcError: why it could not be signed; Conflict where another worker signed this size already.

        """
        # 1 what the log says of itself
        head = await self._ledger.head()
        latest = await self._ledger.checkpoint()
        if latest is not None and head.size <= checkpoint.parse(latest).checkpoint.size + 1:
            return latest
        text = checkpoint.text(checkpoint.Checkpoint(self._origin, head.size, head.root))
        # 2 the corridor
        request = Request(
            request_id=RequestId(f"checkpoint-{head.size}"),
            key_id=self._key_id,
            form=ContentForm.LOG_CHECKPOINT,
            payload=text,
        )
        (answer,) = await self._signer.sign(self._principal, [request])
        if not isinstance(answer, Signed):
            raise answer.error
        # 3 keep it
        await self._ledger.keep_checkpoint(answer.checked.artefact)
        return answer.checked.artefact
