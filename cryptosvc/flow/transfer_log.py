"""Take a transfer out of this log with its proofs, for those who verify it off-line: see `core/handover/logged.py`."""

from cryptosvc.core import checkpoint
from cryptosvc.core.errors import Conflict, Corrupt, Malformed
from cryptosvc.core.handover import logged
from cryptosvc.core.handover.logged import Proven
from cryptosvc.core.proposal import ProposalRecord, ProposalState
from cryptosvc.core.registry import Record, record_id, record_kind
from cryptosvc.core.transfer.record import TransferRecord
from cryptosvc.flow.checkpoint import Checkpointer
from cryptosvc.flow.ports import Ledger, Records


class TransferLog:
    """Bundles of one log."""

    def __init__(self, records: Records, ledger: Ledger, checkpointer: Checkpointer, origin: str) -> None:
        self._records = records
        self._ledger = ledger
        self._checkpointer = checkpointer
        self._origin = origin

    async def bundle(self, transfer_id: str) -> tuple[TransferRecord, bytes]:
        """The record of a transfer and the acts that led there, with their proofs.

        Raises:
            Malformed: there is no such transfer.
            Conflict: another worker is signing a checkpoint; ask again.

        """
        # 1 what the registry and the log say
        found = await self._records.record("transfer-record", transfer_id)
        if not isinstance(found, TransferRecord):
            raise Malformed(f"there is no transfer {transfer_id}", rule="transfer/unknown", clause="G2.22I")
        acts: list[Record] = [
            one
            for one in await self._records.of_kind("proposal-record")
            if isinstance(one, ProposalRecord)
            and one.state is ProposalState.DONE
            and _is_on(one, transfer_id)
        ]
        placed = [await self._placed(one) for one in [found, *acts]]
        placed.sort(key=lambda one: one[1])
        # 2 a checkpoint that has all of it, and the proofs to it
        note = await self._covering(placed[-1][1] + 1)
        size = checkpoint.parse(note).checkpoint.size
        proven = [await self._proven(record, leaf_index, size) for record, leaf_index in placed]
        return found, logged.bundle(self._origin, note, proven)

    async def _placed(self, record: Record) -> tuple[Record, int]:
        located = await self._records.located(record_kind(record), record_id(record))
        if located is None or located[0] != record:
            raise Conflict("the transfer moved meanwhile; ask again", rule="transfer/moved")
        return located

    async def _covering(self, size: int) -> bytes:
        try:
            note = await self._checkpointer.sign_checkpoint()
        except Conflict:  # another worker signed one meanwhile
            note = await self._ledger.checkpoint() or b""
        if not note or checkpoint.parse(note).checkpoint.size < size:
            raise Conflict(
                "the log's checkpoint does not cover it yet; ask again", rule="transfer/checkpoint"
            )
        return note

    async def _proven(self, record: Record, leaf_index: int, size: int) -> Proven:
        stored = await self._ledger.entry(leaf_index)
        if stored is None:
            raise Corrupt(f"entry {leaf_index} is missing from the store", rule="log/leaf-missing")
        return Proven(
            record, leaf_index, stored.entry, tuple(await self._ledger.inclusion_proof(leaf_index, size))
        )


def _is_on(proposal: ProposalRecord, transfer_id: str) -> bool:
    statement = proposal.statement
    return statement.act.startswith("transfer.") and statement.subject == transfer_id
