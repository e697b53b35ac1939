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
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from cryptosvc.adapters.store import claims, tree
from cryptosvc.adapters.store.anchor import Anchor
from cryptosvc.adapters.store.appending import Extension
from cryptosvc.adapters.store.care import Caretaker
from cryptosvc.adapters.store.claims import GROUP, ClaimGroup, Wanted, wanted
from cryptosvc.adapters.store.faults import Moved, Uncertain
from cryptosvc.adapters.store.groups import StoreThread
from cryptosvc.adapters.store.heads import Head, HeadAuthenticator, HeadKeeper
from cryptosvc.adapters.store.recording import Ended
from cryptosvc.adapters.store.rounds import Rounds
from cryptosvc.adapters.store.session import Session, Store
from cryptosvc.adapters.store.writer import TRIES, LogWriter, Worker
from cryptosvc.core import checkpoint
from cryptosvc.core.errors import Conflict, Corrupt, Refusal, Unavailable
from cryptosvc.core.founding import SHORTCUT, Founding
from cryptosvc.core.judge import Authorised
from cryptosvc.core.names import KeyId
from cryptosvc.core.record import SALT_OCTETS, Claim, Receipt, Scope
from cryptosvc.flow.ports import Clock, Stale, StoredEntry, TreeHead

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of the ledger.

    Args:
        group: items in one transaction, at most 256.
        queue: items that may wait before claims are turned away as Busy.
        look_over_seconds: how often a claim first looks over the newest entries and one older tile. The records it
            rests on are looked at by every claim.
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
        limits = limits or Limits()
        self.keeper = HeadKeeper(origin, authenticator)
        self.writer = LogWriter(
            Worker(
                store=store,
                origin=origin,
                scope=scope,
                clock=clock,
                keeper=self.keeper,
                salts=salts,
                claim_ttl_nanoseconds=int(claim_ttl_seconds * 1e9),
            )
        )
        self._care = Caretaker(self.writer, anchor, limits.look_over_seconds, limits.anchor_seconds)
        self._store = store
        self._scope = scope
        self._anchor = anchor
        self._thread = StoreThread("store", limits.queue)
        self._rounds = Rounds(self.writer, self._care.look_over_where_due, limits.group)
        self._readers = ThreadPoolExecutor(1, "store-reader")
        self._started = False

    # Life

    async def initialise(self, founding: Founding = SHORTCUT) -> None:
        """Write the genesis entry, where there is none; otherwise as `start`."""
        self._run_thread()
        await self.job(lambda: self._care.found(founding))
        await self.start()

    async def start(self) -> None:
        """Open the store and refuse it where it is not this deployment's, went back, or was edited.

        Raises:
            Unavailable: out of reach, or not initialised.
            Corrupt: `log/other-…`, `log/head-…`, `log/leaf-…`, `log/forked`, `anchor/…`.

        """
        self._run_thread()
        await self.job(self._care.look_at_all)

    async def close(self) -> None:
        """Finish what waits, write the anchor, close the store."""
        if self._started:
            await asyncio.to_thread(self._thread.close)
        self._readers.shutdown()
        if self._anchor is not None and self.keeper.known is not None:
            with suppress(Unavailable, Corrupt):  # the anchor lags by an interval then, as after a crash
                self._store.flush()  # what another worker committed may have been seen here before it was on the disk
                self._anchor.keep(self.keeper.known)
        self._store.close()

    async def maintain(self) -> int:
        """Sweep expired claims, look over a part of the log, write missing tiles and the anchor; how many were swept.

        Every worker does it at an interval; they do not disturb each other.
        """
        return await self.job(self._care.maintain)

    # The port

    async def claim(self, batch: Sequence[Authorised]) -> Sequence[Claim | Refusal | Stale]:
        """See `flow/ports.py`."""
        self.keeper.require_trust()
        return await self._thread.put(self._rounds.claims, self._wanted(batch))

    async def foresee(self, batch: Sequence[Authorised]) -> Sequence[Refusal | None]:
        """See `flow/ports.py`."""
        items = self._wanted(batch)

        def look(session: Session, _: Head) -> list[Refusal | None]:
            answers = ClaimGroup(session, items).judge(None)
            return [None if isinstance(answer, Stale) else answer for answer in answers]

        return await self.read(look)

    async def spent(self, limits: Mapping[KeyId, int]) -> Collection[KeyId]:
        """See `flow/ports.py`."""
        return await self.read(lambda session, _: claims.spent(session, limits))

    async def record(self, batch: Sequence[Ended]) -> Sequence[Receipt]:
        """See `flow/ports.py`."""
        self.keeper.require_trust()
        return await self._thread.put(self._rounds.records, self.writer.prepared(batch), urgent=True)

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

    async def cosigned(self, note: bytes) -> None:
        """See `flow/ports.py`."""
        found = checkpoint.parse(note)

        def keep() -> None:
            with self._store.writing() as session:
                kept = session.checkpoint_of(found.checkpoint.size)
                before = None if kept is None else checkpoint.parse(kept)
                if (
                    before is None
                    or before.checkpoint != found.checkpoint
                    or not set(before.signatures[:1]) <= set(found.signatures)
                ):
                    raise Conflict("this checkpoint is not the one that was kept", rule="checkpoint/other")
                session.set_checkpoint(found.checkpoint.size, note)

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
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, look)

    async def job(self, work: Callable[[], Answer]) -> Answer:
        """Run a write in the store thread, alone; tried again where another node was first."""

        def repeated() -> Answer:
            for _ in range(TRIES):
                try:
                    with self.keeper.trust():
                        return work()
                except Moved:
                    continue
                except Uncertain:
                    raise Unavailable(
                        "the store was lost while it committed; look before trying again",
                        rule="store/uncertain",
                    ) from None
            raise Unavailable("the store is too busy", rule="store/busy")

        return await self._thread.job(repeated)

    def change(self, write: Callable[[Session, Head], Extension]) -> None:
        """For `registry.py`: one transaction that changes records and extends the log. In a job only."""
        self._care.keep_anchor(self.writer.change(write))

    @property
    def generation_seen(self) -> int:
        """The newest registry generation a claim met."""
        return self.writer.generation_seen

    # Plumbing

    def _wanted(self, batch: Sequence[Authorised]) -> list[Wanted]:
        octets = SALT_OCTETS
        salts = self.writer.worker.salts(octets * len(batch))
        return [
            wanted(item, self._scope, salts[at : at + octets])
            for item, at in zip(batch, range(0, len(salts), octets), strict=True)
        ]

    def _run_thread(self) -> None:
        if not self._started:
            self._started = True
            self._thread.start((self._rounds.records, self._rounds.claims), self._rounds.serve)

    def _read(self, look: Callable[[Session, Head], Answer]) -> Answer:
        floor = self.keeper.known
        with self.keeper.trust(), self._store.reading() as session:
            return look(session, self.keeper.verified(session.head(), floor))
