"""Ledger and Keys in memory: small, real, and held to the same suites as the adapters."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from cryptosvc.core import checkpoint
from cryptosvc.core.check import Checked
from cryptosvc.core.content.base import Once
from cryptosvc.core.device_keys import SealedKeyRecord
from cryptosvc.core.erased import alone, hash_of
from cryptosvc.core.errors import (
    Conflict,
    Forbidden,
    Malformed,
    OutcomeUnknown,
    Refusal,
    Repeated,
    WrongState,
)
from cryptosvc.core.founding import genesis_leaf
from cryptosvc.core.judge import Authorised
from cryptosvc.core.merkle import consistency_proof, inclusion_proof, leaf_hash, root_of
from cryptosvc.core.names import KeyId, SystemName, UnixNanoseconds
from cryptosvc.core.proposal import ProposalRecord, ProposalState
from cryptosvc.core.record import (
    INIT,
    Because,
    Claim,
    Failed,
    Leaf,
    Observed,
    Receipt,
    Refused,
    Scope,
    failed_leaf,
    observed_leaf,
    opening,
    refused_leaf,
    registered_leaf,
    signed_leaf,
)
from cryptosvc.core.registry import CallerRecord, KeyRecord, Record, record_digest, record_id, record_kind
from cryptosvc.flow.ports import Clock, KeyView, Stale, StoredEntry, TreeHead


@dataclass
class _Taken:
    digest: bytes
    leaf_index: int | None = None


@dataclass
class FakeLedger:
    """The log as a list. `generation` is the registry's, moved by `FakeKeys`."""

    origin: str
    scope: Scope
    clock: Clock
    ttl_nanoseconds: int = 60_000_000_000
    leaves: list[Leaf] = field(default_factory=list)
    generation: int = 0
    records: dict[tuple[str, str], Record] = field(default_factory=dict)
    notes: list[bytes] = field(default_factory=list)
    _requests: dict[tuple[str, str], _Taken] = field(default_factory=dict)
    _once: dict[tuple[str, str, str], bytes] = field(default_factory=dict)
    _rising: dict[tuple[str, str], int] = field(default_factory=dict)
    _uses: dict[str, int] = field(default_factory=dict)
    _open: dict[str, Claim] = field(default_factory=dict)
    _claims: int = 0

    def __post_init__(self) -> None:
        instant = self.clock.now()
        self.leaves.append(genesis_leaf(self.origin, self.scope, instant.at, instant.quality))

    def erase(self, leaf_index: int) -> None:
        """Leave the hash of an entry alone."""
        self.leaves[leaf_index] = Leaf(alone(hash_of(self.leaves[leaf_index].entry)), b"")

    async def claim(self, batch: Sequence[Authorised]) -> Sequence[Claim | Refusal | Stale]:
        return [self._claim_one(item) for item in batch]

    async def foresee(self, batch: Sequence[Authorised]) -> Sequence[Refusal | None]:
        kept = (dict(self._requests), dict(self._once), dict(self._rising), dict(self._uses))
        answers = [self._refusal(item) or self._take(item) for item in batch]
        self._requests, self._once, self._rising, self._uses = kept
        return answers

    async def spent(self, limits: Mapping[KeyId, int]) -> Collection[KeyId]:
        in_work = {claim.authorised.case.key.key_id for claim in self._open.values()}
        return {
            key_id
            for key_id, limit in limits.items()
            if self._uses.get(key_id, 0) >= limit and key_id not in in_work
        }

    async def record(self, batch: Sequence[Checked | Failed | Refused | Observed]) -> Sequence[Receipt]:
        return [self._append(self._leaf(item), item) for item in batch]

    async def sweep(self) -> int:
        """Close claims past their deadline; how many."""
        late = [claim for claim in self._open.values() if claim.deadline < self.clock.now().at]
        for claim in late:
            error = OutcomeUnknown("the claim was still open at its deadline", rule="claim/expired")
            failed = Failed(claim, error)
            self._append(self._leaf(failed), failed)
        return len(late)

    async def head(self) -> TreeHead:
        return TreeHead(len(self.leaves), root_of(self._hashes()))

    async def entry(self, leaf_index: int) -> StoredEntry | None:
        if not 0 <= leaf_index < len(self.leaves):
            return None
        leaf = self.leaves[leaf_index]
        return StoredEntry(leaf_index, leaf.entry, leaf.withheld)

    async def inclusion_proof(self, leaf_index: int, tree_size: int) -> Sequence[bytes]:
        self._require_reached(tree_size)
        return inclusion_proof(leaf_index, tree_size, self._subtree)

    async def consistency_proof(self, first_size: int, second_size: int) -> Sequence[bytes]:
        self._require_reached(second_size)
        return consistency_proof(first_size, second_size, self._subtree)

    async def checkpoint(self) -> bytes | None:
        return self.notes[-1] if self.notes else None

    async def keep_checkpoint(self, note: bytes) -> None:
        size = checkpoint.parse(note).checkpoint.size
        if self.notes and checkpoint.parse(self.notes[-1]).checkpoint.size >= size:
            raise Conflict("a checkpoint of this size or a larger one is there", rule="checkpoint/smaller")
        self.notes.append(note)

    async def cosigned(self, note: bytes) -> None:
        found = checkpoint.parse(note)
        for number, kept in enumerate(self.notes):
            before = checkpoint.parse(kept)
            if before.checkpoint == found.checkpoint and set(before.signatures[:1]) <= set(found.signatures):
                self.notes[number] = note
                return
        raise Conflict("this checkpoint is not the one that was kept", rule="checkpoint/other")

    def _claim_one(self, item: Authorised) -> Claim | Refusal | Stale:
        caller = self.records.get(("caller-record", item.case.principal.caller.caller_id))
        if caller is not None and caller.version != item.case.principal.caller.version:
            return Conflict("the caller's record changed; ask again", rule="caller/changed")
        if item.case.generation != self.generation:
            return Stale()
        if (refusal := self._refusal(item)) is not None:
            return refusal
        self._take(item)
        self._claims += 1
        deadline = UnixNanoseconds(self.clock.now().at + self.ttl_nanoseconds)
        claim = Claim(item, f"{self._claims}.0", deadline)
        self._open[claim.claim_id] = claim
        return claim

    def _refusal(self, item: Authorised) -> Refusal | None:
        case = item.case
        request = (case.principal.caller.caller_id, case.request.request_id)
        if (earlier := self._requests.get(request)) is not None:
            return Repeated(
                same_bytes=earlier.digest == case.request.payload,
                leaf_index=earlier.leaf_index,
                leaf_hash=b"" if earlier.leaf_index is None else self._hashes()[earlier.leaf_index],
            )
        for promise in case.content.promises:
            if isinstance(promise, Once):
                found = self._once.get((_lasting(case.key), promise.scope, promise.value), promise.digest)
                if found != promise.digest:
                    return Conflict(
                        "other bytes were signed under it", rule=f"once/{promise.scope}", clause=item.clause
                    )
            elif promise.number <= self._rising.get((_lasting(case.key), promise.scope), -1):
                return Conflict("the number must rise", rule=f"rising/{promise.scope}", clause=item.clause)
        limit = case.key.life.usage_limit
        if limit is not None and self._uses.get(case.key.key_id, 0) >= limit:
            return WrongState("used up", rule="lifecycle/usage-limit", clause="G5.13(b)", field="key_id")
        return None

    def _take(self, item: Authorised) -> None:
        case = item.case
        self._requests[(case.principal.caller.caller_id, case.request.request_id)] = _Taken(
            case.request.payload
        )
        for promise in case.content.promises:
            if isinstance(promise, Once):
                self._once[(_lasting(case.key), promise.scope, promise.value)] = promise.digest
            else:
                self._rising[(_lasting(case.key), promise.scope)] = promise.number

        if case.key.life.usage_limit is not None:
            self._uses[case.key.key_id] = self._uses.get(case.key.key_id, 0) + 1

    def _leaf(self, item: Checked | Failed | Refused | Observed) -> Leaf:
        salt = bytes(16)
        match item:
            case Checked() | Failed():
                entry = opening(item.claim.authorised, self.scope)
                withheld = entry.pop("_withheld")
                assert isinstance(withheld, dict)
                if item.claim.claim_id not in self._open:
                    entry |= {"after": "outcome_unknown"}
                if isinstance(item, Checked):
                    return signed_leaf(entry, withheld, item.digest, salt, item.derivation)
                return failed_leaf(entry, withheld, item.error, salt)
            case Refused():
                return refused_leaf(item, self.scope, salt)
            case Observed():
                return observed_leaf(item, self.scope, salt)

    def _append(self, leaf: Leaf, item: Checked | Failed | Refused | Observed | None = None) -> Receipt:
        self.leaves.append(leaf)
        index = len(self.leaves) - 1
        if isinstance(item, Checked | Failed) and self._open.pop(item.claim.claim_id, None) is not None:
            case = item.claim.authorised.case
            self._requests[(case.principal.caller.caller_id, case.request.request_id)].leaf_index = index
        return Receipt(
            origin=self.origin,
            leaf_index=index,
            leaf_hash=leaf_hash(leaf.entry),
            recorded_at=self.clock.now().at,
        )

    def _hashes(self) -> list[bytes]:
        return [hash_of(leaf.entry) for leaf in self.leaves]

    def _subtree(self, height: int, index: int) -> bytes:
        return root_of(self._hashes()[index << height : (index + 1) << height])

    def _require_reached(self, size: int) -> None:
        if size > len(self.leaves):
            raise Malformed("the log is not that long yet", rule="audit/size")


@dataclass
class FakeKeys:
    """Records in a dictionary, on a fake ledger."""

    ledger: FakeLedger

    async def keys(self, key_ids: Collection[KeyId]) -> KeyView:
        found: dict[KeyId, KeyRecord] = {}
        for key_id in key_ids:
            record = self.ledger.records.get(("key-record", key_id))
            if isinstance(record, KeyRecord):
                found[key_id] = record
        return KeyView(self.ledger.generation, found)

    async def keys_of(self, system: SystemName) -> Sequence[KeyRecord]:
        every = [one for one in self.ledger.records.values() if isinstance(one, KeyRecord)]
        return sorted((one for one in every if one.system == system), key=lambda one: one.key_id)

    async def keys_of_classes(self, key_classes: frozenset[str]) -> KeyView:
        every = [one for one in self.ledger.records.values() if isinstance(one, KeyRecord)]
        return KeyView(
            self.ledger.generation, {one.key_id: one for one in every if one.key_class in key_classes}
        )

    async def caller(self, certificate_sha256: bytes) -> CallerRecord | None:
        for one in self.ledger.records.values():
            if isinstance(one, CallerRecord) and one.certificate_sha256 == certificate_sha256:
                return one
        return None

    async def record(self, kind: str, wanted: str) -> Record | None:
        """One record."""
        return self.ledger.records.get((kind, wanted))

    async def located(self, kind: str, wanted: str) -> tuple[Record, int] | None:
        """One record and its leaf."""
        found = self.ledger.records.get((kind, wanted))
        if found is None:
            return None
        wanted_digest = record_digest(found).hex().encode()
        leaves = [index for index, leaf in enumerate(self.ledger.leaves) if wanted_digest in leaf.entry]
        return found, leaves[-1]

    async def of_kind(self, kind: str) -> Sequence[Record]:
        """Every record of a kind, sorted by id."""
        return [one for name, one in sorted(self.ledger.records.items()) if name[0] == kind]

    async def standing_proposals(self) -> Sequence[ProposalRecord]:
        """Proposals that are not over."""
        found = [one for _, one in sorted(self.ledger.records.items()) if isinstance(one, ProposalRecord)]
        return [one for one in found if one.state in (ProposalState.OPEN, ProposalState.EXECUTING)]

    async def changed_after(self, leaf_index: int, at_most: int) -> Sequence[tuple[Record, int]]:
        """Records by the leaf of their newest version."""
        digests = {record_digest(one).hex().encode(): one for one in self.ledger.records.values()}
        found = {
            name: (digests[name], index)
            for index, leaf in enumerate(self.ledger.leaves)
            for name in digests
            if b'"record_digest":"' + name in leaf.entry
        }
        later = sorted((one for one in found.values() if one[1] > leaf_index), key=lambda one: one[1])
        return later[:at_most]

    async def generation(self) -> int:
        """How often records have changed."""
        return self.ledger.generation

    async def change(
        self, changed: Sequence[Record], because: Because = INIT, at_generation: int | None = None
    ) -> Sequence[Receipt]:
        """Register or change records, all or none."""
        if at_generation is not None and at_generation != self.ledger.generation:
            raise Conflict("ask again", rule="registry/moved")
        if because == INIT and self.ledger.scope.environment != "test":
            raise Forbidden("propose the change", rule="init/live", clause="G5.13(b)")
        after = dict(self.ledger.records)
        for one in changed:
            name = (record_kind(one), record_id(one))
            before = after.get(name)
            if one.version != (1 if before is None else before.version + 1):
                raise Conflict("read it again", rule="registry/version")
            if isinstance(one, CallerRecord):
                for other in after.values():
                    if (
                        isinstance(other, CallerRecord)
                        and other.certificate_sha256 == one.certificate_sha256
                        and other.caller_id != one.caller_id
                    ):
                        raise Conflict("another caller has this certificate", rule="registry/certificate")
            after[name] = one
        instant = self.ledger.clock.now()
        for one in changed:
            self.ledger.leaves.append(
                registered_leaf(one, self.ledger.scope, instant.at, instant.quality, bytes(16), because)
            )
        self.ledger.records = after
        self.ledger.generation += 1
        start = len(self.ledger.leaves) - len(changed)
        return [
            Receipt(
                origin=self.ledger.origin,
                leaf_index=index,
                leaf_hash=leaf_hash(self.ledger.leaves[index].entry),
                recorded_at=instant.at,
            )
            for index in range(start, len(self.ledger.leaves))
        ]


def _lasting(key: KeyRecord) -> KeyId:
    """What a promise is of: of a device key its name with its version, by whichever name it was asked for."""
    return key.lasting_name if isinstance(key, SealedKeyRecord) else key.key_id
