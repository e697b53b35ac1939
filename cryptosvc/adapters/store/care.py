"""What keeps a store honest while it is used: opening it, sweeping, looking over, anchoring. Store thread only."""

import time
from collections.abc import Sequence

from cryptosvc.adapters.store import records, tree
from cryptosvc.adapters.store.anchor import Anchor
from cryptosvc.adapters.store.appending import Extension
from cryptosvc.adapters.store.claims import Wanted, records_of
from cryptosvc.adapters.store.heads import Head
from cryptosvc.adapters.store.recording import Closing, Prepared, expired_leaf, openings
from cryptosvc.adapters.store.session import Deployment, RecordRow, Session
from cryptosvc.adapters.store.writer import LogWriter, require_generation
from cryptosvc.core.errors import Corrupt
from cryptosvc.core.founding import Founding, genesis_leaf
from cryptosvc.core.merkle import EMPTY, leaf_hash
from cryptosvc.core.record import SALT_OCTETS, Scope
from cryptosvc.core.registry_tree import EMPTY as EMPTY_REGISTRY

_SWEEP_GROUPS = 16
_BELIEVED_AT_MOST = 20_000


class Caretaker:
    """Looks after the store of one worker.

    Args:
        writer: the worker's writer.
        anchor: this host's memory; None where there is none.
        look_over_seconds: how often a claim first looks over entries.
        anchor_seconds: how often the anchor is written.

    """

    def __init__(
        self, writer: LogWriter, anchor: Anchor | None, look_over_seconds: float, anchor_seconds: float
    ) -> None:
        self._writer = writer
        self._worker = writer.worker
        self._anchor = anchor
        self._look_over_seconds = look_over_seconds
        self._anchor_seconds = anchor_seconds
        self._looked_over_at = float("-inf")
        self._next_tile = 0
        self._believed: dict[tuple[str, str], tuple[RecordRow | None, bytes]] = {}
        self._anchored: Head | None = None
        self._anchored_at = float("-inf")

    def maintain(self) -> int:
        """Sweep, look over, anchor; how many claims were swept."""
        swept = self._sweep()
        floor = self._worker.keeper.known
        with self._worker.store.writing() as session:
            head = self._worker.keeper.verified(session.head(), floor)
            self._look_over(session, head)
            before, due = self._anchored, time.monotonic() - self._anchored_at >= self._anchor_seconds
            if due and before is not None and before.size < head.size:
                tree.verify_extension(session, before, head)
        if due:
            self.keep_anchor(head)
        return swept

    def _sweep(self) -> int:
        """Close claims past their deadline as outcome unknown, whichever worker made them."""
        now = self._worker.clock.now().at
        for claim_id in [one for one, kept in self._writer.kept.items() if kept.deadline < now]:
            self._writer.kept.pop(claim_id)
        with self._worker.store.reading() as session:
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
                leaf = expired_leaf(entries[position])
                swept.append(Prepared(None, leaf, leaf_hash(leaf.entry), group, position))
            if not swept:
                raise _NothingToSweep
            extension = self._writer.appender.append(
                session, [one.leaf for one in swept], [one.leaf_hash for one in swept], certain=certain
            )
            closing.close(extension.start, [(group, one.position) for one in swept])
            closing.write()
            return extension

        try:
            self._writer.extend(write, swept)
        except _NothingToSweep:
            return 0
        return len(swept)

    def look_over_where_due(self, session: Session, head: Head, items: Sequence[Wanted]) -> None:
        """Look over what a claim rests on: its records and the newest entry always, the entries before now and then.

        What was judged came from memory; that the store still says the same is seen here, before the key moves.
        """
        for kind, record_id in records_of(items):
            self._require_record(session, head, kind, record_id)
        now = time.monotonic()
        if now - self._looked_over_at >= self._look_over_seconds:
            self._looked_over_at = now
            self._look_over(session, head)
        elif head.size and session.newest_leaf() < head.size - 1:
            raise Corrupt("the newest entries of the log were removed", rule="log/leaf-missing")

    def _require_record(self, session: Session, head: Head, kind: str, record_id: str) -> None:
        """Verify a record, unless it is octet for octet the one verified under the registry root in force."""
        row = session.record(kind, record_id)
        seen = (row, head.registry_root)
        if self._believed.get((kind, record_id)) != seen:
            records.verified(session, head, kind, record_id, row)
            if len(self._believed) >= _BELIEVED_AT_MOST:
                self._believed.clear()
            self._believed[kind, record_id] = seen

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

    def look_at_all(self) -> None:
        """Open the store: `Ledger.start`."""
        kept = None if self._anchor is None else self._anchor.read()
        with self._worker.store.writing() as session:
            found = session.deployment()
            head = self._worker.keeper.verified(session.head(), kept)
            _require_deployment(found, self._worker.origin, self._worker.scope)
            require_generation(session.generation_shared(), head)
            if kept is not None:
                tree.verify_extension(session, kept, head)
            self._look_over(session, head)
            self._writer.generation_seen = head.generation
        self._anchored = kept
        self.keep_anchor(head)

    def found(self, founding: Founding) -> None:
        """Write the genesis where there is none."""
        with self._worker.store.writing() as session:
            if session.deployment() is not None:
                return
            empty = Head(self._worker.origin, EMPTY, 0, EMPTY_REGISTRY)
            database_id = self._worker.salts(16)
            session.found(
                Deployment(
                    self._worker.origin,
                    self._worker.scope.system,
                    self._worker.scope.environment,
                    database_id,
                ),
                self._worker.keeper.authenticated(empty),
            )
            instant = self._worker.clock.now()
            leaf = genesis_leaf(
                self._worker.origin,
                self._worker.scope,
                instant.at,
                instant.quality,
                founding,
                self._worker.salts(SALT_OCTETS),
            )
            extension = self._writer.appender.append(session, [leaf], [leaf_hash(leaf.entry)])
        self._writer.appender.committed(extension)

    def keep_anchor(self, head: Head) -> None:
        """Write the anchor."""
        if self._anchor is not None:
            self._anchor.keep(head)
        self._anchored, self._anchored_at = head, time.monotonic()


class _NothingToSweep(Exception):  # another worker was first
    """Leaves the transaction without writing."""


def _require_deployment(found: Deployment | None, origin: str, scope: Scope) -> None:
    if found is None:
        raise Corrupt("the store's genesis was removed", rule="log/no-genesis")
    if (found.origin, found.system, found.environment) != (origin, scope.system, scope.environment):
        raise Corrupt(
            f"the store belongs to {found.system} ({found.environment}), log {found.origin}, not to this deployment",
            rule="log/other-deployment",
        )
