"""Destruction: a certificate for a key that was destroyed under dual control, issued as often as it is asked for."""

import orjson

from cryptosvc.core import checkpoint, destruction
from cryptosvc.core.case import Principal, Request
from cryptosvc.core.destruction import ProvenEntry
from cryptosvc.core.errors import Conflict, Corrupt, WrongState
from cryptosvc.core.names import ContentForm, KeyId, RequestId
from cryptosvc.core.proposal import ProposalRecord
from cryptosvc.core.registry import KeyRecord, KeyState
from cryptosvc.flow.checkpoint import Checkpointer
from cryptosvc.flow.ports import Ledger, Records
from cryptosvc.flow.sign import Signed, Signer


class Certifier:
    """Issues destruction certificates, as the service's own principal."""

    def __init__(
        self,
        records: Records,
        ledger: Ledger,
        signer: Signer,
        checkpointer: Checkpointer,
        service: Principal,
        service_key: KeyId,
        origin: str,
    ) -> None:
        self._records = records
        self._ledger = ledger
        self._signer = signer
        self._checkpointer = checkpointer
        self._service = service
        self._service_key = service_key
        self._origin = origin

    async def certificate(self, key_id: KeyId) -> bytes:
        """Certify that a key was destroyed: a DSSE envelope by the service-signing key.

        Raises:
            WrongState: the key is not destroyed.
            CryptosvcError: why it could not be signed.

        """
        # 1 what the registry and the log say
        found = await self._records.located("key-record", key_id)
        key, key_leaf = (None, 0) if found is None else found
        if not isinstance(key, KeyRecord) or key.state is not KeyState.DESTROYED:
            raise WrongState(
                "only a key that was destroyed has a destruction certificate; propose key.destroy",
                rule="destruction/not-destroyed",
                clause="G5.13(b)",
                field="key_id",
            )
        entry = await self._entry(key_leaf)
        proposal, act_leaf = await self._proposal(entry)
        # 2 a checkpoint that has both, and the proofs to it
        note = await self._covering(max(key_leaf, act_leaf) + 1)
        size = checkpoint.parse(note).checkpoint.size
        payload = destruction.payload(
            key,
            await self._proven(key_leaf, size),
            proposal,
            await self._proven(act_leaf, size),
            note,
            self._origin,
        )
        # 3 the corridor
        request = Request(
            request_id=RequestId(f"destroyed-{size}-{key_leaf}"),
            key_id=self._service_key,
            form=ContentForm.SERVICE_STATEMENT,
            payload=payload,
        )
        (answer,) = await self._signer.sign(self._service, [request])
        if not isinstance(answer, Signed):
            raise answer.error
        return answer.checked.artefact

    async def _entry(self, leaf_index: int) -> bytes:
        stored = await self._ledger.entry(leaf_index)
        if stored is None:
            raise Corrupt(f"entry {leaf_index} is missing from the store", rule="log/leaf-missing")
        return stored.entry

    async def _proposal(self, entry: bytes) -> tuple[ProposalRecord, int]:
        """The proposal that the key's last entry names."""
        because = orjson.loads(entry).get("because", {})
        found = await self._records.located("proposal-record", str(because.get("proposal", "")))
        if found is None or not isinstance(found[0], ProposalRecord):
            raise WrongState(
                "this key was not destroyed under dual control, so there is nothing to certify",
                rule="destruction/not-governed",
                clause="G5.13(b)",
                field="key_id",
            )
        return found[0], found[1]

    async def _covering(self, size: int) -> bytes:
        """The newest checkpoint, once it signs so many entries."""
        try:
            note = await self._checkpointer.sign_checkpoint()
        except Conflict:  # another worker signed one meanwhile
            note = await self._ledger.checkpoint() or b""
        if not note or checkpoint.parse(note).checkpoint.size < size:
            raise Conflict(
                "the log's checkpoint does not cover the destruction yet; ask again",
                rule="destruction/checkpoint",
            )
        return note

    async def _proven(self, leaf_index: int, size: int) -> ProvenEntry:
        proof = await self._ledger.inclusion_proof(leaf_index, size)
        return ProvenEntry(leaf_index, await self._entry(leaf_index), tuple(proof))
