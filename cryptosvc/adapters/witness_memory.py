"""What a witness cosigned last of each log: one file a log, which is whole or not there; `flow.witness.Memory`."""

import hashlib
import os
from pathlib import Path

from cryptosvc.core.errors import Unavailable


class FolderMemory:
    """Keeps notes in a folder.

    Args:
        folder: made where it is not there yet; nobody else writes there.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def newest(self, origin: str) -> bytes | None:
        """See `flow/witness.py`. Unavailable: it is there and cannot be read."""
        try:
            return self._path(origin).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Unavailable(f"{self._path(origin)}: {error.strerror}", rule="witness/memory") from None

    def keep(self, origin: str, note: bytes) -> None:
        """See `flow/witness.py`. Unavailable: the disk does not take it."""
        path = self._path(origin)
        begun = path.with_suffix(".begun")
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with begun.open("wb") as file:
                file.write(note)
                file.flush()
                os.fsync(file.fileno())
            begun.rename(path)
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise Unavailable(f"{path} cannot be written: {error.strerror}", rule="witness/memory") from None

    def all(self) -> list[bytes]:
        """The newest note of every log."""
        return [path.read_bytes() for path in sorted(self._folder.glob("*.note"))]

    def _path(self, origin: str) -> Path:
        return self._folder / f"{hashlib.sha256(origin.encode()).hexdigest()[:32]}.note"
