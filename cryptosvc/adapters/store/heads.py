"""The authenticated head: what one row vouches for, and what a worker remembers of it.

The head names size and frontier of the log, the registry's generation and the root of the registry tree
(`core/registry_tree.py`), under an HMAC by a module-held key. So nobody without that key can make a head that fits
edited records or leaves. What the HMAC cannot stop, an old head put back with everything that belonged to it, is
stopped by memory: a worker never accepts a head smaller than, or other than, the last one it saw, and `anchor.py`
carries that memory over a restart.

Once anything here fails, the worker trusts nothing more: every later call raises the same Corrupt until an operator
has looked and restarted it.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, Self

import orjson

from cryptosvc.adapters.store.session import HeadRow
from cryptosvc.core.canonical import canonical
from cryptosvc.core.errors import Corrupt, Malformed, Unavailable
from cryptosvc.core.merkle import Frontier

_VERSION = 1


class HeadAuthenticator(Protocol):
    """An HMAC key that no database administrator has."""

    def mac(self, data: bytes) -> bytes:
        """Tag of `data`. Unavailable: the module is out of reach."""

    def verify(self, data: bytes, tag: bytes) -> None:
        """Corrupt: the tag is not one of this key's. Unavailable: the module is out of reach."""


@dataclass(frozen=True, slots=True)
class Head:
    """What a head row vouches for.

    Args:
        origin: of the log.
        frontier: of the log.
        generation: of the registry.
        registry_root: root of the registry tree, 32 octets.

    """

    origin: str
    frontier: Frontier
    generation: int
    registry_root: bytes

    @property
    def size(self) -> int:
        """Number of leaves."""
        return self.frontier.size

    def emit(self) -> bytes:
        """Print what is authenticated: canonical JSON."""
        return canonical(
            {
                "v": _VERSION,
                "origin": self.origin,
                "frontier": self.frontier.emit().hex(),
                "generation": self.generation,
                "registry_root": self.registry_root.hex(),
            }
        )

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read what `emit` prints; anything else is Malformed."""
        try:
            found = orjson.loads(body)
            head = cls(
                found["origin"],
                Frontier.parse(bytes.fromhex(found["frontier"])),
                found["generation"],
                bytes.fromhex(found["registry_root"]),
            )
            if head.emit() == body:
                return head
        except (ValueError, TypeError, KeyError):
            pass
        raise Malformed("this is not a head as this version prints it", rule="log/head-form")


class HeadKeeper:
    """Verifies heads, remembers the newest, and holds the verdict once one was bad. Used by several threads."""

    def __init__(self, origin: str, authenticator: HeadAuthenticator) -> None:
        self._origin = origin
        self._authenticator = authenticator
        self._lock = threading.Lock()
        self._known: tuple[HeadRow, Head] | None = None
        self._verdict: Corrupt | None = None

    @property
    def known(self) -> Head | None:
        """The newest head seen. Read it before a snapshot is taken: the snapshot may not be older."""
        return None if self._known is None else self._known[1]

    @property
    def known_row(self) -> HeadRow | None:
        """The same as a row, to compare and swap."""
        return None if self._known is None else self._known[0]

    def require_trust(self) -> None:
        """Raise the Corrupt that ended all trust, where there was one."""
        if self._verdict is not None:
            raise Corrupt(self._verdict.message, rule=self._verdict.rule)

    @contextmanager
    def trust(self) -> Iterator[None]:
        """Do something that rests on trust; the first Corrupt found while it is done ends all of it."""
        self.require_trust()
        try:
            yield
        except Corrupt as verdict:
            self._verdict = self._verdict or verdict
            raise

    def verified(self, row: HeadRow | None, floor: Head | None) -> Head:
        """Believe a head row, or raise.

        Args:
            row: as read.
            floor: `known` as it was before the row was read.

        Raises:
            Corrupt: forged, rolled back, forked, or of another log.
            Unavailable: the store has no head because it was never initialised, or the module is out of reach.

        """
        known = self._known
        if known is not None and row == known[0]:
            return known[1]
        if row is None:
            if floor is None:
                raise Unavailable(
                    "the store is not initialised; run cryptosvc init", rule="store/not-initialised"
                )
            raise Corrupt("the head of the log was removed", rule="log/head-removed")
        try:
            self._authenticator.verify(row.body, row.tag)
            head = Head.parse(row.body)
        except (Corrupt, Malformed):
            raise Corrupt(
                "the head of the log is not one this service wrote: the database was edited",
                rule="log/head-forged",
            ) from None
        if head.origin != self._origin:
            raise Corrupt("the store holds another log than the configuration names", rule="log/other-origin")
        if floor is not None:
            require_not_before(head, floor)
        with self._lock:
            if self._known is None or self._known[1].size < head.size:
                self._known = (row, head)
        return head

    def authenticated(self, head: Head) -> HeadRow:
        """Make the row of a head this worker is about to write."""
        body = head.emit()
        return HeadRow(body, self._authenticator.mac(body))

    def wrote(self, row: HeadRow, head: Head) -> None:
        """Remember a head this worker committed."""
        with self._lock:
            if self._known is None or self._known[1].size < head.size:
                self._known = (row, head)


def require_not_before(head: Head, floor: Head) -> None:
    """Raise Corrupt where a head is smaller than one seen before, or as large and not the same."""
    if head.size < floor.size or head.generation < floor.generation:
        raise Corrupt(
            f"the log went back from {floor.size} entries to {head.size}: an old state was put back",
            rule="log/head-rolled-back",
        )
    if head.size == floor.size and head != floor:
        raise Corrupt(
            f"there are two different logs of {head.size} entries: it was put back and went on differently",
            rule="log/forked",
        )
