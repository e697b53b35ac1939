"""A command on a pseudo-terminal, driven as somebody at a keyboard would: read the screen, type, press Ctrl-C, kill."""

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_SECONDS = 90.0


class Terminal:
    """A running `cryptosvc`, with what it wrote.

    Args:
        arguments: of the command line.
        environment: of the process.

    """

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        leader, follower = pty.openpty()
        self._leader = leader
        self.written = ""
        self._read = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cryptosvc", *arguments],
            stdin=follower,
            stdout=follower,
            stderr=follower,
            env={**os.environ, **environment, "TERM": "xterm", "COLUMNS": "120", "LINES": "60"},
            cwd=REPOSITORY,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # Ctrl-C, and PINs that are not shown
        )
        os.close(follower)

    def until(self, *patterns: str) -> re.Match[str]:
        """Read on until one of the patterns appears in what was not read yet."""
        end = time.monotonic() + _SECONDS
        wanted = [re.compile(pattern) for pattern in patterns]
        while True:
            found = [match for one in wanted if (match := one.search(self.written, self._read))]
            if found:
                first = min(found, key=lambda match: match.start())
                self._read = first.end()
                return first
            assert time.monotonic() < end, f"none of {patterns} within {_SECONDS} s:\n{self.written[-3000:]}"
            if not self._more(0.2) and self._process.poll() is not None and not self._more(0.2):
                raise AssertionError(f"none of {patterns} before the end:\n{self.written[-3000:]}")

    def type(self, line: str) -> None:
        """Type a line."""
        os.write(self._leader, line.encode() + b"\n")

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.write(self._leader, b"\x03")

    def kill(self) -> None:
        """Kill it: nothing of it runs any more."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def status(self) -> int:
        """Read to the end; the exit status."""
        end = time.monotonic() + _SECONDS
        while self._more(0.2) or self._process.poll() is None:
            assert time.monotonic() < end, f"it does not end:\n{self.written[-3000:]}"
        return self._process.wait()

    def close(self) -> None:
        """End whatever still runs."""
        if self._process.poll() is None:
            self.kill()
        os.close(self._leader)

    def _more(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._leader], [], [], seconds)
        if not ready:
            return False
        try:
            octets = os.read(self._leader, 65536)
        except OSError:  # the other end is closed
            return False
        self.written += _ESCAPE.sub("", octets.decode("utf-8", "replace")).replace("\r", "")
        return bool(octets)
