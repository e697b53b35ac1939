"""What the watch stands on: the log read on in its own snapshots, and a file for its state."""

import os
from collections.abc import Sequence
from pathlib import Path

from cryptosvc.adapters.store.heads import Head
from cryptosvc.adapters.store.ledger import Ledger
from cryptosvc.adapters.store.session import Session
from cryptosvc.core.errors import Unavailable
from cryptosvc.flow.ports import StoredEntry, TreeHead


class FollowedLog:
    """Implements `flow.watch.Following` on a ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def after(self, start: int, at_most: int) -> tuple[TreeHead, Sequence[StoredEntry]]:
        """See `flow/watch.py`."""

        def look(session: Session, head: Head) -> tuple[TreeHead, Sequence[StoredEntry]]:
            found = session.leaves(start, min(start + at_most, head.size))
            entries = [StoredEntry(start + number, *leaf) for number, leaf in enumerate(found)]
            return TreeHead(head.size, head.frontier.root()), entries

        return await self._ledger.read(look)


class StateFile:
    """Implements `flow.watch.Memory`; the file is its owner's alone.

    Args:
        path: replaced whole at each keeping.

    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def recall(self) -> bytes:
        """See `flow/watch.py`; a file that cannot be read is none."""
        try:
            return self._path.read_bytes()
        except OSError:
            return b""

    def keep(self, state: bytes) -> None:
        """See `flow/watch.py`."""
        partial = self._path.with_name(self._path.name + ".partial")
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(state)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self._path)
        except OSError as error:
            raise Unavailable(
                f"{self._path} cannot be written ({error.strerror})", rule="watch/state-file"
            ) from None
