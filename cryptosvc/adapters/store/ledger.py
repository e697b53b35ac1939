"""The Ledger port: claims before a key is used, records after, proofs ever after.

Example of the order a worker calls it in:

    store = open_store(url)
    ledger = Ledger(store, origin=…, scope=…, clock=…, authenticator=…, anchor=Anchor(path, authenticator))
    await ledger.start()        # refuses a store of another system, one that went back, one that was edited
    … claim / record …
    await ledger.maintain()     # every second or so: sweep, look over entries, anchor
    await ledger.close()
"""

import asyncio
import functools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import orjson

from cryptosvc.adapters.store import records, tree
from cryptosvc.adapters.store.anchor import Anchor
from cryptosvc.adapters.store.appending import Appender, Extension
from cryptosvc.adapters.store.claims import GROUP, ClaimGroup, OpenClaim, Wanted, records_of, wanted
from cryptosvc.adapters.store.faults import Moved, Uncertain
from cryptosvc.adapters.store.groups import Lane, StoreThread
from cryptosvc.adapters.store.heads import Head, HeadAuthenticator, HeadKeeper
from cryptosvc.adapters.store.recording import Closing, Ended, Prepared, Preparer, expired_leaf, openings
from cryptosvc.adapters.store.session import Deployment, Session, Store
from cryptosvc.core import checkpoint
from cryptosvc.core.errors import Conflict, Corrupt, Refusal, Unavailable
from cryptosvc.core.judge import Authorised
from cryptosvc.core.merkle import EMPTY, leaf_hash
from cryptosvc.core.record import SALT_OCTETS, Claim, Leaf, Receipt, Scope, genesis_leaf, registered_leaf
from cryptosvc.core.registry import Record
from cryptosvc.core.registry_tree import EMPTY as EMPTY_REGISTRY
from cryptosvc.flow.ports import Clock, Stale, StoredEntry, TreeHead

Answer = TypeVar("Answer")

_TRIES = 12
_RESOLVE_TRIES = 5
_RESOLVE_WAIT_SECONDS = 0.4
_SWEEP_GROUPS = 16
_RECORDS_LOOKED_OVER = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of the ledger.

    Args:
        group: items in one transaction, at most 256.
        queue: items that may wait before claims are turned away as Busy.
        look_over_seconds: how often a claim first looks over the newest entries, one older tile, and records it rests
            on (which are otherwise verified once in a generation).
        anchor_seconds: how often the anchor file is written.

    """

    group: int = GROUP
    queue: int = 8192
    look_over_seconds: float = 0.25
    anchor_seconds: float = 1.0


class Ledger:
    """Claims and the log.

    Args:
        store: the database.
        origin: the log's origin line.
        scope: what every entry of this worker carries.
        clock: for deadlines and receipts.
        authenticator: the module-held HMAC key of the head.
        anchor: this host's memory of the head; None only where there is nothing to remember across restarts.
        claim_ttl_seconds: an open claim older than this is swept as outcome unknown.
        limits: bounds.
        salts: gives n random octets.

    """

    def __init__(
        self,
        store: Store,
        *,
        origin: str,
        scope: Scope,
        clock: Clock,
        authenticator: HeadAuthenticator,
        anchor: Anchor | None,
        claim_ttl_seconds: float = 60.0,
        limits: Limits | None = None,
        salts: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.keeper = HeadKeeper(origin, authenticator)
        self.appender = Appender(self.keeper)
        self.generation_seen = -1
        self._store = store
        self._origin = origin
        self._scope = scope
        self._clock = clock
        self._anchor = anchor
        self._ttl = int(claim_ttl_seconds * 1e9)
        self._limits = limits or Limits()
        self._salts = salts
        self._preparer = Preparer(scope)
        self._kept: dict[str, OpenClaim] = {}
        self._caller_versions: dict[str, int] = {}
        self._looked_over_at = float("-inf")
        self._next_tile = 0
        self._anchored: Head | None = None
        self._anchored_at = float("-inf")
        self._thread = StoreThread("store", self._limits.group, self._limits.queue)
        self._records: Lane[Ended, Receipt] = Lane(self._guarded(self._record))
        self._claims: Lane[Wanted, Claim | Refusal | Stale] = Lane(self._guarded(self._claim))
        self._readers = ThreadPoolExecutor(1, "store-reader")
        self._started = False

    # Life

    async def initialise(self) -> None:
        """Write the genesis entry, where there is none; otherwise as `start`."""
        self._run_thread()
        await self.job(self._found)
        await self.start()

    async def start(self) -> None:
        """Open the store and refuse it where it is not this deployment's, went back, or was edited.

        Raises:
            Unavailable: out of reach, or not initialised.
            Corrupt: `log/other-…`, `log/head-…`, `log/leaf-…`, `log/forked`, `anchor/…`.

        """
        self._run_thread()
        await self.job(self._look_at_all)

    async def close(self) -> None:
        """Finish what waits, write the anchor, close the store."""
        if self._started:
            await asyncio.to_thread(self._thread.close)
        self._readers.shutdown()
        if self._anchor is not None and self.keeper.known is not None:
            with suppress(Unavailable, Corrupt):  # the anchor lags by an interval then, as after a crash
                self._anchor.keep(self.keeper.known)
        self._store.close()

    async def maintain(self) -> int:
        """Sweep expired claims, look over a part of the log, write missing tiles and the anchor; how many were swept.

        Every worker does it at an interval; they do not disturb each other.
        """
        return await self.job(self._maintain)

    # The port

    async def claim(self, batch: Sequence[Authorised]) -> Sequence[Claim | Refusal | Stale]:
        """See `flow/ports.py`."""
        self.keeper.require_trust()
        scope = self._scope
        return await self._thread.put(self._claims, [wanted(item, scope) for item in batch])

    async def foresee(self, batch: Sequence[Authorised]) -> Sequence[Refusal | None]:
        """See `flow/ports.py`."""
        items = [wanted(item, self._scope) for item in batch]

        def look(session: Session, _: Head) -> list[Refusal | None]:
            answers = ClaimGroup(session, items).judge(None)
            return [None if isinstance(answer, Stale) else answer for answer in answers]

        return await self.read(look)

    async def record(self, batch: Sequence[Ended]) -> Sequence[Receipt]:
        """See `flow/ports.py`."""
        self.keeper.require_trust()
        return await self._thread.put(self._records, batch, urgent=True)

    async def head(self) -> TreeHead:
        """See `flow/ports.py`."""
        return await self.read(lambda _, head: TreeHead(head.size, head.frontier.root()))

    async def entry(self, leaf_index: int) -> StoredEntry | None:
        """See `flow/ports.py`; an entry is given out only with its proof checked."""

        def look(session: Session, head: Head) -> StoredEntry | None:
            if not 0 <= leaf_index < head.size:
                return None
            return StoredEntry(leaf_index, *tree.verified_leaf(session, head, leaf_index))

        return await self.read(look)

    async def inclusion_proof(self, leaf_index: int, tree_size: int) -> Sequence[bytes]:
        """See `flow/ports.py`."""
        return await self.read(
            lambda session, head: tree.prove_inclusion(session, head, leaf_index, tree_size)
        )

    async def consistency_proof(self, first_size: int, second_size: int) -> Sequence[bytes]:
        """See `flow/ports.py`."""
        return await self.read(
            lambda session, head: tree.prove_consistency(session, head, first_size, second_size)
        )

    async def checkpoint(self) -> bytes | None:
        """See `flow/ports.py`."""
        return await self.read(lambda session, _: session.checkpoint())

    async def checkpoints(self) -> list[bytes]:
        """Every signed checkpoint note, smallest first."""
        return await self.read(lambda session, _: session.checkpoints())

    async def keep_checkpoint(self, note: bytes) -> None:
        """See `flow/ports.py`."""
        size = checkpoint.parse(note).checkpoint.size

        def keep() -> None:
            with self._store.writing() as session:
                if session.largest_checkpoint() >= size:
                    raise Conflict(
                        "a checkpoint of this size or a larger one is there", rule="checkpoint/smaller"
                    )
                session.put_checkpoint(size, note)

        await self.job(keep)

    def entries(self, start: int, stop: int, *, chunk: int = 1024) -> Iterator[tuple[bytes, bytes]]:
        """(entry, withheld) of `start` up to `stop`, a chunk at a time; the reader verifies. For export; blocks."""
        while start < stop:
            with self._store.reading() as session:
                found = session.leaves(start, min(start + chunk, stop))
            if not found:
                raise Corrupt(f"entry {start} is missing from the store", rule="log/leaf-missing")
            yield from found
            start += len(found)

    # For the registry, which shares this thread and this head

    async def read(self, look: Callable[[Session, Head], Answer]) -> Answer:
        """Run a read in the reader thread, with the head of its snapshot verified."""
        self.keeper.require_trust()
        guarded = self._guarded(lambda: self._read(look))
        return await asyncio.get_running_loop().run_in_executor(self._readers, guarded)

    async def job(self, work: Callable[[], Answer]) -> Answer:
        """Run a write in the store thread, alone; tried again where another node was first."""

        def repeated() -> Answer:
            for _ in range(_TRIES):
                try:
                    return work()
                except Moved:
                    continue
                except Uncertain:
                    raise Unavailable(
                        "the store was lost while it committed; look before trying again",
                        rule="store/uncertain",
                    ) from None
            raise Unavailable("the store is too busy", rule="store/busy")

        return await self._thread.job(self._guarded(repeated))

    def change(self, write: Callable[[Session, Head], Extension]) -> None:
        """For `registry.py`: one transaction that changes records and extends the log. In a job only."""
        floor = self.keeper.known
        with self._store.writing() as session:
            generation = session.generation_exclusive()
            head = self.keeper.verified(session.head_to_move(None), floor)
            _require_generation(generation, head)
            extension = write(session, head)
            session.set_generation(extension.head.generation)
        self.appender.committed(extension)
        self._keep_anchor(extension.head)

    def registered(self, record: Record) -> Leaf:
        """For `registry.py`: the leaf of a record, now, in this worker's scope."""
        instant = self._clock.now()
        return registered_leaf(record, self._scope, instant.at, instant.quality, self._salts(SALT_OCTETS))

    # Store thread: claims

    def _claim(self, items: Sequence[Wanted]) -> Sequence[Claim | Refusal | Stale]:
        answers: list[Claim | Refusal | Stale] = []
        for at in range(0, len(items), GROUP):
            answers += self._claim_group(items[at : at + GROUP])
        return answers

    def _claim_group(self, items: Sequence[Wanted]) -> list[Claim | Refusal | Stale]:
        for _ in range(_TRIES):
            kept: dict[str, OpenClaim] = {}
            floor = self.keeper.known
            try:
                with self._store.writing() as session:
                    generation = session.generation_shared()
                    head = self.keeper.verified(session.head(), floor)
                    _require_generation(generation, head)
                    self._look_over_where_due(session, head, items)
                    answers, kept = self._claim_in(session, items, generation)
            except Moved:
                continue
            except Uncertain:
                if not self._resolved(functools.partial(_group_is_there, kept)):
                    raise Unavailable(
                        "the store was lost; nothing was claimed", rule="store/unreachable"
                    ) from None
            self._kept.update(kept)
            return answers
        raise Unavailable("the store is too busy; nothing was claimed", rule="store/busy")

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
        claims, kept = group.open(accepted, self._clock.now().at + self._ttl)
        made = iter(claims)
        return [next(made) if verdict is None else verdict for verdict in verdicts], kept

    # Store thread: records

    def _record(self, items: Sequence[Ended]) -> Sequence[Receipt]:
        receipts: list[Receipt] = []
        for at in range(0, len(items), GROUP):
            receipts += self._record_group(items[at : at + GROUP])
        return receipts

    def _record_group(self, items: Sequence[Ended]) -> list[Receipt]:
        prepared = self._preparer.prepare(items, self._kept, self._salts(SALT_OCTETS * len(items)))
        extension = self._extend(
            lambda session, certain: self._record_in(session, prepared, certain=certain), prepared
        )
        for item in prepared:
            if item.group:
                self._kept.pop(f"{item.group}.{item.position}", None)
        origin, at = self._origin, self._clock.now().at
        return [
            Receipt(origin=origin, leaf_index=index, leaf_hash=item.leaf_hash, recorded_at=at)
            for index, item in enumerate(prepared, extension.start)
        ]

    def _record_in(self, session: Session, prepared: Sequence[Prepared], *, certain: bool) -> Extension:
        closing = Closing(session, {item.group for item in prepared})
        for item in prepared:
            if item.group and (earlier := closing.earlier(item.group, item.position)) is not None:
                self._preparer.mark_late(item, earlier, self._salts(SALT_OCTETS))
        extension = self.appender.append(
            session, [item.leaf for item in prepared], [item.leaf_hash for item in prepared], certain=certain
        )
        closing.close(extension.start, [(item.group, item.position) for item in prepared])
        closing.write()
        return extension

    def _extend(self, write: Callable[[Session, bool], Extension], prepared: Sequence[Prepared]) -> Extension:
        """Run a transaction that appends these leaves until it is known to be on disk, or known not to be."""
        for attempt in range(_TRIES):
            extension: Extension | None = None
            try:
                with self._store.writing() as session:
                    extension = write(session, attempt > 0)
            except Moved:
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
            self.appender.committed(extension)
            return extension
        raise Unavailable("the store is too busy; nothing was recorded", rule="store/busy")

    def _resolved(self, look: Callable[[Session], bool]) -> bool:
        """Whether a transaction whose COMMIT was lost is there; Unavailable where the store cannot be asked."""
        for attempt in range(_RESOLVE_TRIES):
            if attempt:
                time.sleep(_RESOLVE_WAIT_SECONDS)
            try:
                with self._store.reading() as session:
                    return look(session)
            except Unavailable:
                continue
        raise Unavailable(
            "the store was lost while it committed and cannot be asked what became of it",
            rule="store/uncertain",
        )

    # Store thread: care

    def _maintain(self) -> int:
        swept = self._sweep()
        floor = self.keeper.known
        with self._store.writing() as session:
            head = self.keeper.verified(session.head(), floor)
            self._look_over(session, head)
            before, due = self._anchored, time.monotonic() - self._anchored_at >= self._limits.anchor_seconds
            if due and before is not None and before.size < head.size:
                tree.verify_extension(session, before, head)
        if due:
            self._keep_anchor(head)
        return swept

    def _sweep(self) -> int:
        """Close claims past their deadline as outcome unknown, whichever worker made them."""
        now = self._clock.now().at
        for claim_id in [one for one, kept in self._kept.items() if kept.deadline < now]:
            self._kept.pop(claim_id)
        with self._store.reading() as session:
            groups = session.expired(now, _SWEEP_GROUPS)
        return sum(self._sweep_group(group) for group in groups)

    def _sweep_group(self, group: int) -> int:
        swept: list[Prepared] = []

        def write(session: Session, certain: bool) -> Extension:  # noqa: FBT001  # called by _extend alone
            swept.clear()
            closing = Closing(session, [group])
            body = session.opening(group)
            entries = [] if body is None else openings(body)
            for position in closing.positions(group):
                leaf = expired_leaf(entries[position], self._salts(SALT_OCTETS))
                swept.append(Prepared(None, leaf, leaf_hash(leaf.entry), group, position))
            if not swept:
                raise _NothingToSweep
            extension = self.appender.append(
                session, [one.leaf for one in swept], [one.leaf_hash for one in swept], certain=certain
            )
            closing.close(extension.start, [(group, one.position) for one in swept])
            closing.write()
            return extension

        try:
            self._extend(write, swept)
        except _NothingToSweep:
            return 0
        return len(swept)

    def _look_over_where_due(self, session: Session, head: Head, items: Sequence[Wanted]) -> None:
        now = time.monotonic()
        if now - self._looked_over_at >= self._limits.look_over_seconds:
            self._looked_over_at = now
            self._look_over(session, head)
            for kind, record_id in islice(records_of(items), _RECORDS_LOOKED_OVER):
                records.verified(session, head, kind, record_id, session.record(kind, record_id))
        elif head.size and session.newest_leaf() < head.size - 1:
            raise Corrupt("the newest entries of the log were removed", rule="log/leaf-missing")

    def _look_over(self, session: Session, head: Head) -> None:
        """Prove the newest entries, and one older tile in turn; write the tile where it has not been."""
        if not head.size:
            return
        last = (head.size - 1) >> tree.TILE_BITS
        tree.verify_tile(session, head, last)
        if last:
            self._next_tile %= last
            hashes = tree.verify_tile(session, head, self._next_tile)
            if session.tile(1, self._next_tile) is None:
                tree.fill_tiles(session, self._next_tile, hashes)
            self._next_tile += 1

    def _look_at_all(self) -> None:
        kept = None if self._anchor is None else self._anchor.read()
        with self._store.writing() as session:
            found = session.deployment()
            head = self.keeper.verified(session.head(), kept)
            _require_deployment(found, self._origin, self._scope)
            _require_generation(session.generation_shared(), head)
            if kept is not None:
                tree.verify_extension(session, kept, head)
            self._look_over(session, head)
            self.generation_seen = head.generation
        self._anchored = kept
        self._keep_anchor(head)

    def _found(self) -> None:
        with self._store.writing() as session:
            if session.deployment() is not None:
                return
            empty = Head(self._origin, EMPTY, 0, EMPTY_REGISTRY)
            database_id = self._salts(16)
            session.found(
                Deployment(self._origin, self._scope.system, self._scope.environment, database_id),
                self.keeper.authenticated(empty),
            )
            instant = self._clock.now()
            leaf = genesis_leaf(self._origin, self._scope, instant.at, instant.quality)
            extension = self.appender.append(session, [leaf], [leaf_hash(leaf.entry)])
        self.appender.committed(extension)

    def _keep_anchor(self, head: Head) -> None:
        if self._anchor is not None:
            self._anchor.keep(head)
        self._anchored, self._anchored_at = head, time.monotonic()

    # Plumbing

    def _run_thread(self) -> None:
        if not self._started:
            self._started = True
            self._thread.start(self._records, self._claims)

    def _read(self, look: Callable[[Session, Head], Answer]) -> Answer:
        floor = self.keeper.known
        with self._store.reading() as session:
            return look(session, self.keeper.verified(session.head(), floor))

    def _guarded(self, work: Callable[..., Answer]) -> Callable[..., Answer]:
        """End all trust where the work finds the store corrupt."""

        def guarded(*arguments: object) -> Answer:
            self.keeper.require_trust()
            try:
                return work(*arguments)
            except Corrupt as verdict:
                self.keeper.distrust(verdict)
                raise

        return guarded


class _NothingToSweep(Exception):  # another worker was first
    """Leaves the transaction without writing."""


def _require_generation(generation: int, head: Head) -> None:
    if generation != head.generation:
        raise Corrupt(
            "the registry's generation is not the one the log's head vouches for: the database was edited",
            rule="registry/generation-forged",
        )


def _require_deployment(found: Deployment | None, origin: str, scope: Scope) -> None:
    if found is None:
        raise Corrupt("the store's genesis was removed", rule="log/no-genesis")
    if (found.origin, found.system, found.environment) != (origin, scope.system, scope.environment):
        raise Corrupt(
            f"the store belongs to {found.system} ({found.environment}), log {found.origin}, not to this deployment",
            rule="log/other-deployment",
        )


def _group_is_there(kept: dict[str, OpenClaim], session: Session) -> bool:
    first = next(iter(kept.values()), None)
    if first is None:
        return True
    body = session.opening(first.group)
    return body == orjson.dumps([one.entry for one in kept.values()])


def _leaf_is_there(start: int, leaf: Leaf, session: Session) -> bool:
    found = session.leaf(start)
    return found is not None and found[0] == leaf.entry
