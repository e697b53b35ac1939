"""Outside: the newest checkpoint is put to every place outside that has not got it, and no place may have lost any.

A place that is away delays nothing and nobody. One that lost what it had, or has what this log has not, is recorded, and
said as loudly as a corrupt store.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from cryptosvc.core import checkpoint as notes
from cryptosvc.core.errors import Corrupt, CryptosvcError, Unavailable
from cryptosvc.core.merkle import verify_consistency
from cryptosvc.core.outside import CLAUSE
from cryptosvc.flow.observe import Observer
from cryptosvc.flow.ports import Ledger


class Place(Protocol):
    """Where checkpoints are put (ADR 0016)."""

    async def last(self) -> bytes | None:
        """The note it has last; None where it has none, or cannot say. Corrupt: it lost what it had."""

    async def put(self, note: bytes) -> None:
        """Return once it has it. Unavailable: it may not. Corrupt: it lost what it had."""


@dataclass(slots=True)
class _Standing:
    """What is known of a place: the size it was given, whether it was looked at, and what was recorded of it last."""

    size: int = -1
    looked: bool = False
    said: str = ""


class Publisher:
    """Puts checkpoints outside.

    Args:
        ledger: the log.
        observer: records what hinders a place.
        places: by name.

    """

    def __init__(self, ledger: Ledger, observer: Observer, places: Mapping[str, Place]) -> None:
        self._ledger = ledger
        self._observer = observer
        self._places = places
        self._standings = {name: _Standing() for name in places}

    async def turn(self) -> int:
        """Put the newest checkpoint to the places that have not got it; how many took it now.

        Raises:
            Corrupt: a place lost what it had, or has a checkpoint that this log does not extend; the others were asked.
            Unavailable: a place, or the log.

        """
        note = await self._ledger.checkpoint()
        if note is None:
            return 0
        found: CryptosvcError | None = None
        done = 0
        for name, place in self._places.items():
            try:
                done += await self._put(name, place, note)
            except (Corrupt, Unavailable) as error:
                await self._record(name, error)
                found = error if isinstance(error, Corrupt) or found is None else found
            else:
                self._standings[name].said = ""
        if found is not None:
            raise found
        return done

    async def _put(self, name: str, place: Place, note: bytes) -> bool:
        standing, checkpoint = self._standings[name], notes.parse(note).checkpoint
        if standing.size == checkpoint.size:
            return False
        if not standing.looked:
            await self._look(name, place, checkpoint)
            standing.looked = True
        await place.put(note)
        standing.size = checkpoint.size
        return True

    async def _look(self, name: str, place: Place, checkpoint: notes.Checkpoint) -> None:
        """What a place has from before must be a beginning of this log."""
        last = await place.last()
        if last is None:
            return
        kept = notes.parse(last).checkpoint
        if kept.origin != checkpoint.origin:
            return
        if kept.size > checkpoint.size:
            raise Corrupt(
                f"{name} has a checkpoint of {kept.size} entries, and the log's newest has {checkpoint.size}: it was put "
                "back",
                rule="outside/rolled-back",
                clause=CLAUSE,
            )
        if not kept.size:
            return
        proof = await self._ledger.consistency_proof(kept.size, checkpoint.size)
        try:
            verify_consistency(kept.size, checkpoint.size, proof, kept.root, checkpoint.root)
        except Corrupt:
            raise Corrupt(
                f"{name} has a checkpoint of other entries of this log: it was rewritten, or shows two faces",
                rule="outside/forked",
                clause=CLAUSE,
            ) from None

    async def _record(self, name: str, error: CryptosvcError) -> None:
        """Record what hinders a place, once until something else does."""
        standing = self._standings[name]
        if standing.said != error.rule:
            standing.said = error.rule
            facts = {"place": name, "rule": error.rule, "size": str(max(standing.size, 0))}
            await self._observer.happened("outside", "put", facts, {})
