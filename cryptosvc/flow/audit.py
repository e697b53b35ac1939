"""Audit: the log's checkpoint, its entries and the proofs, for callers who are auditors. Every read is recorded.

A caller that is not an auditor may still ask for checkpoints and proofs (they disclose hashes only), and for the
entries of its own requests.
"""

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import orjson

from cryptosvc.core.case import Principal
from cryptosvc.core.entries import values_beside
from cryptosvc.core.erased import CLAUSE, hash_of, is_alone
from cryptosvc.core.errors import Forbidden, Malformed, Refusal, Unavailable, WrongState
from cryptosvc.core.names import Operation
from cryptosvc.core.record import Observed, Refused
from cryptosvc.core.said import said
from cryptosvc.flow.gone import Deletions
from cryptosvc.flow.ports import Clock, Ledger, Search, StoredEntry
from cryptosvc.flow.query import visible

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class InclusionProof:
    """RFC 6962 audit path of one leaf in the tree of one size."""

    leaf_index: int
    leaf_hash: bytes
    tree_size: int
    hashes: Sequence[bytes]


class Auditor:
    """Answers with proof."""

    def __init__(self, ledger: Ledger, search: Search, clock: Clock) -> None:
        self._ledger = ledger
        self._deletions = Deletions(search)
        self._clock = clock

    async def checkpoint(self, principal: Principal) -> bytes:
        """The newest signed checkpoint note; Unavailable before the first is made."""
        return await self._answer(principal, {"what": "checkpoint"}, self._checkpoint())

    async def entry(self, principal: Principal, leaf_index: int) -> StoredEntry:
        """One entry.

        Raises:
            Forbidden: for a caller that is no auditor and did not make the request.
            Malformed: past the end.
            WrongState: `audit/erased`: the hash alone is left of it.
            Corrupt: `export/erased`: a hash stands in its place, and it was not deleted.

        """
        facts = {"what": "entry", "leaf_index": str(leaf_index)}
        return await self._answer(principal, facts, self._entry_for(principal, leaf_index))

    async def prove_inclusion(self, principal: Principal, leaf_index: int, tree_size: int) -> InclusionProof:
        """Prove that a leaf is in the tree of `tree_size` leaves. Malformed where either is past the end."""
        facts = {"what": "inclusion", "leaf_index": str(leaf_index), "size": str(tree_size)}
        return await self._answer(principal, facts, self._inclusion(leaf_index, tree_size))

    async def prove_consistency(
        self, principal: Principal, first_size: int, second_size: int
    ) -> Sequence[bytes]:
        """Prove that the tree of `second_size` extends that of `first_size`; Malformed where sizes are out of order."""
        facts = {"what": "consistency", "first": str(first_size), "second": str(second_size)}
        return await self._answer(principal, facts, self._ledger.consistency_proof(first_size, second_size))

    async def _checkpoint(self) -> bytes:
        note = await self._ledger.checkpoint()
        if note is None:
            raise Unavailable(
                "no checkpoint has been signed yet; try again shortly", rule="checkpoint/none-yet"
            )
        return note

    async def _stored(self, leaf_index: int) -> StoredEntry:
        stored = await self._ledger.entry(leaf_index)
        if stored is None:
            raise Malformed("the log has no entry at this index yet", rule="audit/index", field="leaf_index")
        return stored

    async def _told(self, leaf_index: int) -> tuple[StoredEntry, Mapping[str, str]]:
        """An entry and the values kept beside it, each the one the entry commits to; Corrupt where one is not."""
        stored = await self._stored(leaf_index)
        if is_alone(stored.entry):
            return stored, {}
        return stored, values_beside(leaf_index, orjson.loads(stored.entry), stored.withheld)

    async def _entry_for(self, principal: Principal, leaf_index: int) -> StoredEntry:
        stored, values = await self._told(leaf_index)
        own = values.get("principal") == principal.caller.caller_id
        if not (own or principal.caller.auditor):
            raise Forbidden(
                "only an auditor may read entries of other callers", rule="audit/not-auditor", clause="G2.26"
            )
        if is_alone(stored.entry):
            await self._deletions.require_gone([stored])
            raise WrongState(
                f"entry {leaf_index} is past its retention, or in an archive: its leaf hash is left, {stored.entry.decode()}; "
                "entries of kind sealed say under which key it was, and `audit bring-back` puts back what was archived",
                rule="audit/erased",
                clause=CLAUSE,
                field="leaf_index",
            )
        if not (own or visible(principal.caller, said(orjson.loads(stored.entry), values))):
            raise Forbidden(
                "this entry is of no User this auditor is registered for",
                rule="audit/other-user",
                clause="G5.28",
            )
        return stored

    async def _inclusion(self, leaf_index: int, tree_size: int) -> InclusionProof:
        stored = await self._stored(leaf_index)
        hashes = await self._ledger.inclusion_proof(leaf_index, tree_size)
        return InclusionProof(leaf_index, hash_of(stored.entry), tree_size, hashes)

    async def _answer(
        self, principal: Principal, facts: dict[str, str], reading: Awaitable[_Answer]
    ) -> _Answer:
        """Record the read, or why it was refused, before either leaves."""
        try:
            answer = await reading
        except Refusal as refusal:
            await self._refuse(principal, refusal)
            raise
        await self._record(principal, facts)
        return answer

    async def _record(self, principal: Principal, facts: dict[str, str]) -> None:
        instant = self._clock.now()
        observed = Observed(
            kind="read",
            operation=Operation.READ_LOG.value,
            at=instant.at,
            time_quality=instant.quality,
            principal=principal,
            facts=facts,
        )
        await self._ledger.record([observed])

    async def _refuse(self, principal: Principal, error: Refusal) -> None:
        instant = self._clock.now()
        refused = Refused(
            error=error,
            operation=Operation.READ_LOG.value,
            at=instant.at,
            time_quality=instant.quality,
            principal=principal,
        )
        await self._ledger.record([refused])
