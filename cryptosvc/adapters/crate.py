"""The Crate port: the blobs of a package as files in one folder, which travels whole.

Each file is written under another name, synchronised and renamed, so that one that is there is whole; what was being
written when the power went is written again by whoever resumes. Blobs are worth nothing without the destination's
transport key, and are still nobody's business: the folder is its owner's alone.
"""

import os
from pathlib import Path

from cryptosvc.core.errors import Malformed, Unavailable


class FolderCrate:
    """Implements `flow.transfer.Crate`.

    Args:
        folder: made where it is not there yet.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, name: str, octets: bytes) -> None:
        """See `flow/transfer.py`. Unavailable: the disk does not take it."""
        path = self._folder / f"{name}.blob"
        begun = path.with_suffix(".begun")
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            begun.unlink(missing_ok=True)
            descriptor = os.open(begun, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(octets)
                file.flush()
                os.fsync(file.fileno())
            begun.rename(path)
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise Unavailable(f"{path} cannot be written: {error.strerror}", rule="transfer/crate") from None

    def take(self, name: str, at_most: int) -> bytes:
        """See `flow/transfer.py`."""
        path = self._folder / f"{name}.blob"
        try:
            with path.open("rb") as file:
                octets = file.read(at_most + 1)
        except FileNotFoundError:
            raise Malformed(
                f"the package has no {path.name}; ask for it again", rule="transfer/blob", clause="G2.22I"
            ) from None
        except OSError as error:
            raise Unavailable(f"{path} cannot be read: {error.strerror}", rule="transfer/crate") from None
        if len(octets) > at_most:
            raise Malformed(
                f"{path.name} is longer than any of its kind", rule="transfer/blob", clause="G2.22I"
            )
        return octets
