"""Where the PIN comes from. It is never in the configuration, in an argument list, in a message or in a log.

A source hands out a fresh bytearray, which is overwritten as soon as the module has it. It also has a stamp, which
changes when the PIN behind it may have changed and tells nothing about it: a PIN that a module refused under one
stamp is not tried again by any worker until the stamp is another (hazard 9).
"""

import getpass
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from cryptosvc.core.errors import Unavailable

_MOST_OCTETS = 255
_READABLE_BY_OTHERS = stat.S_IRWXG | stat.S_IRWXO
CREDENTIALS_DIRECTORY = "CREDENTIALS_DIRECTORY"
"""Environment variable in which systemd names the folder of a unit's credentials (systemd.exec(5))."""


class PinSource(Protocol):
    """Something that knows a PIN."""

    def read(self) -> bytearray:
        """The PIN; the caller overwrites it. Unavailable: it cannot be had."""

    def stamp(self) -> str:
        """Changes whenever the PIN may have changed; empty where that cannot be told across processes."""


class PinFile:
    """A file whose one line is the PIN. It must be a regular file that only its owner can read.

    Args:
        path: the file.
        private: refuse a file that group or others may read; False for systemd credentials, whose folder is private.

    """

    def __init__(self, path: Path, *, private: bool = True) -> None:
        self._path = path
        self._private = private

    def __repr__(self) -> str:
        return f"PinFile({str(self._path)!r})"

    def read(self) -> bytearray:
        """Read the file; one trailing newline is not part of the PIN."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise Unavailable(
                f"the PIN file {self._path} cannot be read: {error.strerror}", rule="hsm/pin-source"
            ) from None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise Unavailable(f"the PIN file {self._path} is not a regular file", rule="hsm/pin-source")
            if self._private and status.st_mode & _READABLE_BY_OTHERS:
                raise Unavailable(
                    f"the PIN file {self._path} can be read by others; run `chmod 600` on it",
                    rule="hsm/pin-source",
                )
            pin = bytearray(os.read(descriptor, _MOST_OCTETS + 2))
        finally:
            os.close(descriptor)
        if pin.endswith(b"\n"):
            del pin[-1:]
        if not pin or len(pin) > _MOST_OCTETS or b"\n" in pin:
            wipe(pin)
            raise Unavailable(
                f"the PIN file {self._path} must hold one line of 1 to {_MOST_OCTETS} octets",
                rule="hsm/pin-source",
            )
        return pin

    def stamp(self) -> str:
        """Inode and modification time of the file."""
        try:
            status = self._path.stat()
        except OSError:
            return ""
        return f"{status.st_ino}:{status.st_mtime_ns}"


class PinCredential:
    """A systemd credential (LoadCredential=, LoadCredentialEncrypted=) by its name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return f"PinCredential({self._name!r})"

    def read(self) -> bytearray:
        """Read $CREDENTIALS_DIRECTORY/name."""
        return self._file().read()

    def stamp(self) -> str:
        """Inode and modification time of the credential."""
        return self._file().stamp()

    def _file(self) -> PinFile:
        folder = os.environ.get(CREDENTIALS_DIRECTORY)
        if not folder:
            raise Unavailable(
                f"{CREDENTIALS_DIRECTORY} is not set, so credential {self._name} cannot be found; "
                "start the service through its systemd unit or configure pin_file",
                rule="hsm/pin-source",
            )
        return PinFile(Path(folder) / self._name, private=False)


class PinCallable:
    """A PIN from a function, for example a vault client. Called at every login."""

    def __init__(self, ask: Callable[[], bytearray]) -> None:
        self._ask = ask

    def __repr__(self) -> str:
        return "PinCallable()"

    def read(self) -> bytearray:
        """Call the function."""
        return self._ask()

    def stamp(self) -> str:
        """Unknown to other processes."""
        return ""


def prompted(module: str) -> PinCallable:
    """A PIN that a person types at the terminal when it is needed."""
    return PinCallable(lambda: bytearray(getpass.getpass(f"PIN of module {module}: "), "utf-8"))


def wipe(pin: bytearray) -> None:
    """Overwrite a PIN in place."""
    for place in range(len(pin)):
        pin[place] = 0
