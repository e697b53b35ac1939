"""Extending the log inside a transaction: verify the head, append the leaves, move the head."""

from collections.abc import Sequence
from dataclasses import dataclass

from cryptosvc.adapters.store.heads import Head, HeadKeeper
from cryptosvc.adapters.store.session import HeadRow, Session
from cryptosvc.adapters.store.tree import TILE, TILE_BITS, fill_tiles
from cryptosvc.core.errors import Corrupt
from cryptosvc.core.record import Leaf
from cryptosvc.core.segments import hash_of


@dataclass(frozen=True, slots=True)
class Registry:
    """Where a registry change leaves the registry."""

    generation: int
    root: bytes


@dataclass(frozen=True, slots=True)
class Extension:
    """What a transaction added, to be remembered once it is committed."""

    start: int
    row: HeadRow
    head: Head
    tail: tuple[int, list[bytes]]


class Appender:
    """Appends for one worker. Remembers the hashes of the incomplete tile as far back as it wrote them itself."""

    def __init__(self, keeper: HeadKeeper) -> None:
        self._keeper = keeper
        self._tail: tuple[int, list[bytes]] = (0, [])

    def append(
        self,
        session: Session,
        leaves: Sequence[Leaf],
        hashes: Sequence[bytes],
        *,
        certain: bool = True,
        registry: Registry | None = None,
    ) -> Extension:
        """Append leaves with these leaf hashes; where not `certain` the newest head known is tried before it is read.

        Raises:
            Corrupt: the head is not one this worker can believe, or there are leaves beyond it.
            Moved: another node moved the head.

        """
        floor = self._keeper.known
        before = session.head_to_move(None if certain else self._keeper.known_row)
        head = self._keeper.verified(before, floor)
        assert before is not None
        start = head.size
        if certain and start and session.newest_leaf() != start - 1:
            raise Corrupt(
                "the newest entries of the log were removed, or entries were added beyond its head",
                rule="log/leaf-missing",
            )
        extended = Head(
            head.origin,
            head.frontier.extended(hashes),
            head.generation if registry is None else registry.generation,
            head.registry_root if registry is None else registry.root,
        )
        row = self._keeper.authenticated(extended)
        # The head first, whether it is tried or was read: who inserts a leaf before holds it against everybody who
        # has the head, and waits for the head himself.
        session.move_head(before, row)
        tail = self._extended_tail(session, start, hashes)
        session.append(start, leaves)
        return Extension(start, row, extended, tail)

    def committed(self, extension: Extension) -> None:
        """Remember what is now on disk."""
        self._keeper.wrote(extension.row, extension.head)
        self._tail = extension.tail

    def _extended_tail(
        self, session: Session, start: int, hashes: Sequence[bytes]
    ) -> tuple[int, list[bytes]]:
        """Write each tile these leaves complete; what other workers wrote of it is read back once a tile."""
        first, known = self._tail
        if first + len(known) != start:
            first, known = start, []
        pending = [*known, *hashes]
        while (boundary := ((first >> TILE_BITS) + 1) << TILE_BITS) <= first + len(pending):
            count = boundary - first
            others = session.entries(boundary - TILE, first) if count < TILE else []
            whole = [*map(hash_of, others), *pending[:count]]
            if len(whole) == TILE:
                fill_tiles(session, (boundary - 1) >> TILE_BITS, whole)
            first, pending = boundary, pending[count:]
        return first, pending
