"""What the store thread does for claims and records; `ledger.py` stands before it, `care.py` beside it."""

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cryptosvc.adapters.store.appending import Appender, Extension
from cryptosvc.adapters.store.claims import GROUP, ClaimGroup, OpenClaim, Wanted, emit_openings
from cryptosvc.adapters.store.faults import Moved, Uncertain
from cryptosvc.adapters.store.heads import Head, HeadKeeper
from cryptosvc.adapters.store.recording import Closing, Ended, Prepared, Preparer
from cryptosvc.adapters.store.session import Session, Store
from cryptosvc.core.errors import Corrupt, Refusal, Unavailable
from cryptosvc.core.merkle import leaf_hash
from cryptosvc.core.record import SALT_OCTETS, Because, Claim, Leaf, Receipt, Scope, registered_leaf
from cryptosvc.core.registry import Record
from cryptosvc.core.segments import hash_of
from cryptosvc.flow.ports import Clock, Stale

TRIES = 12
CERTAIN_AFTER_A_LOSS = 16
"""After another node was first, so many records read the head under its lock: trying costs a wait for nothing then."""
_RESOLVE_TRIES = 5
_RESOLVE_WAIT_SECONDS = 0.4

LookOver = Callable[[Session, Head, Sequence[Wanted]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """What a worker is made of.

    Args:
        store: the database.
        origin: the log's origin line.
        scope: what every entry of this worker carries.
        clock: for deadlines and receipts.
        keeper: the head it knows.
        salts: gives n random octets.
        claim_ttl_nanoseconds: from a claim to its deadline.

    """

    store: Store
    origin: str
    scope: Scope
    clock: Clock
    keeper: HeadKeeper
    salts: Callable[[int], bytes]
    claim_ttl_nanoseconds: int


class LogWriter:
    """Claims, records and registry changes. Every method but `prepared` runs in the store thread.

    Args:
        worker: what it is made of.

    """

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.keeper = worker.keeper
        self.appender = Appender(worker.keeper)
        self.kept: dict[str, OpenClaim] = {}
        self.generation_seen = -1
        self.preparer = Preparer(worker.scope)
        self._caller_versions: dict[str, int] = {}
        self._certain = 0

    def claim(self, items: Sequence[Wanted], look_over: LookOver) -> Sequence[Claim | Refusal | Stale]:
        """Claim items in groups of at most 256; see `flow/ports.py`."""
        answers: list[Claim | Refusal | Stale] = []
        for at in range(0, len(items), GROUP):
            answers += self._claim_group(items[at : at + GROUP], look_over)
        return answers

    def together(
        self, collect: Callable[[], tuple[Sequence[Prepared], Sequence[Wanted]]], look_over: LookOver
    ) -> tuple[Sequence[Receipt], Sequence[Claim | Refusal | Stale]]:
        """Record and claim in one transaction, of what `collect` gives once its lock is held; as `record`, `claim`.

        For a store with one writer at a time: where another node may move the head, a record that has to be tried
        again would take claims with it. Raises Moved likewise: whoever calls tries again, each apart.
        """
        prepared: Sequence[Prepared] = ()
        answers: list[Claim | Refusal | Stale] = []
        kept: dict[str, OpenClaim] = {}
        extension: Extension | None = None
        floor = self.keeper.known
        try:
            with self.worker.store.writing() as session:
                prepared, wanted = collect()
                for at in range(0, len(wanted), GROUP):
                    answers += self._claim_group_in(session, wanted[at : at + GROUP], kept, floor, look_over)
                if prepared:
                    extension = self._record_in(session, prepared, certain=True)
        except Uncertain:
            written = extension
            look = (
                functools.partial(_group_is_there, kept)
                if written is None
                else functools.partial(_leaf_is_there, written.start, prepared[0].leaf)
            )
            if not self._resolved(look):
                raise Unavailable(
                    "the store was lost; nothing was written", rule="store/unreachable"
                ) from None
        self.kept.update(kept)
        if extension is None:
            return (), answers
        self.appender.committed(extension)
        return self._receipts(prepared, extension.start), answers

    def _claim_group(self, items: Sequence[Wanted], look_over: LookOver) -> list[Claim | Refusal | Stale]:
        for _ in range(TRIES):
            kept: dict[str, OpenClaim] = {}
            floor = self.keeper.known
            try:
                with self.worker.store.writing() as session:
                    answers = self._claim_group_in(session, items, kept, floor, look_over)
            except Moved:
                continue
            except Uncertain:
                if not self._resolved(functools.partial(_group_is_there, kept)):
                    raise Unavailable(
                        "the store was lost; nothing was claimed", rule="store/unreachable"
                    ) from None
            self.kept.update(kept)
            return answers
        raise Unavailable("the store is too busy; nothing was claimed", rule="store/busy")

    def _claim_group_in(
        self,
        session: Session,
        items: Sequence[Wanted],
        kept: dict[str, OpenClaim],
        floor: Head | None,
        look_over: LookOver,
    ) -> list[Claim | Refusal | Stale]:
        """Claim what may be claimed; what this worker will hold of it is added to `kept`."""
        generation = session.generation_shared()
        head = self.keeper.verified(session.head(), floor)
        require_generation(generation, head)
        look_over(session, head, items)
        answers, opened = self._claim_in(session, items, generation)
        kept.update(opened)
        return answers

    def _claim_in(
        self, session: Session, items: Sequence[Wanted], generation: int
    ) -> tuple[list[Claim | Refusal | Stale], dict[str, OpenClaim]]:
        if generation != self.generation_seen:
            self._caller_versions.clear()
            self.generation_seen = generation
        group = ClaimGroup(session, items)
        group.check_callers(self._caller_versions)
        verdicts = group.judge(generation)
        accepted = [item for item, verdict in zip(items, verdicts, strict=True) if verdict is None]
        if not accepted:
            return [verdict for verdict in verdicts if verdict is not None], {}
        claims, kept = group.open(accepted, self.worker.clock.now().at + self.worker.claim_ttl_nanoseconds)
        made = iter(claims)
        return [next(made) if verdict is None else verdict for verdict in verdicts], kept

    def prepared(self, items: Sequence[Ended]) -> list[Prepared]:
        """Make the leaves of ended work, before any lock is held; in the callers' thread."""
        return self.preparer.prepare(items, self.kept, self.worker.salts(SALT_OCTETS * len(items)))

    def record(self, items: Sequence[Prepared]) -> Sequence[Receipt]:
        """Record items in groups of at most 256; see `flow/ports.py`."""
        receipts: list[Receipt] = []
        for at in range(0, len(items), GROUP):
            receipts += self._record_group(items[at : at + GROUP])
        return receipts

    def _record_group(self, prepared: Sequence[Prepared]) -> list[Receipt]:
        extension = self.extend(
            lambda session, certain: self._record_in(session, prepared, certain=certain), prepared
        )
        return self._receipts(prepared, extension.start)

    def _receipts(self, prepared: Sequence[Prepared], start: int) -> list[Receipt]:
        """Forget what is closed, and say where it is."""
        for item in prepared:
            if item.group:
                self.kept.pop(f"{item.group}.{item.position}", None)
        origin, at = self.worker.origin, self.worker.clock.now().at
        return [
            Receipt(origin=origin, leaf_index=index, leaf_hash=item.leaf_hash, recorded_at=at)
            for index, item in enumerate(prepared, start)
        ]

    def _record_in(self, session: Session, prepared: Sequence[Prepared], *, certain: bool) -> Extension:
        closing = Closing(session, {item.group for item in prepared})
        for item in prepared:
            if item.group and (earlier := closing.earlier(item.group, item.position)) is not None:
                self.preparer.mark_late(item, earlier, self.worker.salts(SALT_OCTETS))
        extension = self.appender.append(
            session, [item.leaf for item in prepared], [item.leaf_hash for item in prepared], certain=certain
        )
        closing.close(extension.start, [(item.group, item.position) for item in prepared])
        closing.write()
        return extension

    def extend(self, write: Callable[[Session, bool], Extension], prepared: Sequence[Prepared]) -> Extension:
        """Run a transaction that appends these leaves until it is known to be on disk, or known not to be."""
        for _ in range(TRIES):
            certain = self._certain > 0
            extension: Extension | None = None
            try:
                with self.worker.store.writing() as session:
                    extension = write(session, certain)
            except Moved:
                self._certain = CERTAIN_AFTER_A_LOSS
                continue
            except Uncertain:
                written = extension
                if written is None or not self._resolved(
                    functools.partial(_leaf_is_there, written.start, prepared[0].leaf)
                ):
                    raise Unavailable(
                        "the store was lost; nothing was recorded", rule="store/unreachable"
                    ) from None
            assert extension is not None
            self._certain -= certain
            self.appender.committed(extension)
            return extension
        raise Unavailable("the store is too busy; nothing was recorded", rule="store/busy")

    def _resolved(self, look: Callable[[Session], bool]) -> bool:
        """Whether a transaction whose COMMIT was lost is there; Unavailable where the store cannot be asked."""
        for attempt in range(_RESOLVE_TRIES):
            if attempt:
                time.sleep(_RESOLVE_WAIT_SECONDS)
            try:
                with self.worker.store.reading() as session:
                    there = look(session)
                if there:
                    self.worker.store.flush()
            except Unavailable:
                continue
            return there
        raise Unavailable(
            "the store was lost while it committed and cannot be asked what became of it",
            rule="store/uncertain",
        )

    def change(self, write: Callable[[Session, Head], Extension]) -> Head:
        """Run one transaction that changes records and extends the log; the head it leaves."""
        floor = self.keeper.known
        with self.worker.store.writing() as session:
            generation = session.generation_exclusive()
            head = self.keeper.verified(session.head_to_move(None), floor)
            require_generation(generation, head)
            extension = write(session, head)
            session.set_generation(extension.head.generation)
        self.appender.committed(extension)
        return extension.head

    def registered(self, record: Record, because: Because) -> Leaf:
        """Make the leaf of a record, now, in this worker's scope."""
        instant = self.worker.clock.now()
        salt = self.worker.salts(SALT_OCTETS)
        return registered_leaf(record, self.worker.scope, instant.at, instant.quality, salt, because)

    def receipts(self, start: int, hashes: Sequence[bytes]) -> list[Receipt]:
        """Receipts of leaves that were appended from `start` on."""
        origin, at = self.worker.origin, self.worker.clock.now().at
        return [
            Receipt(origin=origin, leaf_index=index, leaf_hash=found, recorded_at=at)
            for index, found in enumerate(hashes, start)
        ]


def require_generation(generation: int, head: Head) -> None:
    """Raise Corrupt where the registry's generation is not the one the head vouches for."""
    if generation != head.generation:
        raise Corrupt(
            "the registry's generation is not the one the log's head vouches for: the database was edited",
            rule="registry/generation-forged",
        )


def _group_is_there(kept: dict[str, OpenClaim], session: Session) -> bool:
    first = next(iter(kept.values()), None)
    if first is None:
        return True
    body = session.opening(first.group)
    mine = [one.opening for one in kept.values() if one.group == first.group]
    return body == emit_openings(mine)


def _leaf_is_there(start: int, leaf: Leaf, session: Session) -> bool:
    found = session.leaf(start)
    # another process may have sealed it in between, however new it is
    return found is not None and (found[0] == leaf.entry or hash_of(found[0]) == leaf_hash(leaf.entry))
