"""What a reading session asks to open what is sealed beside entries; `segments.py` is it."""

from collections.abc import Callable, Sequence
from typing import Protocol


class Recorded(Protocol):
    """A record as stored."""

    @property
    def document(self) -> bytes:
        """Canonical JSON."""


class Opener(Protocol):
    """Opens."""

    def cleared(
        self, found: Sequence[tuple[bytes, bytes]], record: Callable[[str, str], Recorded | None]
    ) -> list[tuple[bytes, bytes]]:
        """(entry, withheld) as read, with what is sealed opened; `record` gives a record by kind and id."""
