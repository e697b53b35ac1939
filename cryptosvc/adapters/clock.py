"""The machine's clock, with its synchronisation state as the kernel reports it."""

import ctypes
import time
from pathlib import Path

from cryptosvc.core.names import UnixNanoseconds
from cryptosvc.flow.ports import Instant

_QUALITY_READ_EVERY_SECONDS = 1.0
DIFFERING = "differing"
"""Quality of a time that differs materially from Network Time or an Independent Time Source (G2.47)."""
_TIME_ERROR = 5
"""adjtimex(2) return value: the clock is not synchronised."""
_TIMEX_OCTETS = 256
"""Larger than struct timex on every Linux architecture; zero modes makes the call a read."""


class SystemClock:
    """CLOCK_REALTIME; quality is `synchronised` where the kernel's clock discipline says so (adjtimex).

    It is read once a second; in between it is a value in memory.

    Args:
        found: file in which the worker that compares this clock with time sources (ADR 0017) says what it found: while
            that is `differing`, so is the quality.

    """

    def __init__(self, found: Path | None = None) -> None:
        self._found = found
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._quality = "unsynchronised"
        self._read_at = float("-inf")

    def now(self) -> Instant:
        """Read the clock."""
        monotonic = time.monotonic()
        if monotonic - self._read_at > _QUALITY_READ_EVERY_SECONDS:
            self._read_at = monotonic
            self._quality = DIFFERING if self._differs() else self._kernel_quality()
        return Instant(UnixNanoseconds(time.time_ns()), self._quality)

    def _differs(self) -> bool:
        if self._found is None:
            return False
        try:
            return self._found.read_bytes() == DIFFERING.encode()
        except OSError:
            return False

    def _kernel_quality(self) -> str:
        state = self._libc.adjtimex(ctypes.create_string_buffer(_TIMEX_OCTETS))
        return "synchronised" if 0 <= state < _TIME_ERROR else "unsynchronised"
