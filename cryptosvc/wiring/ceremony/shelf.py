"""The folder of a ceremony office: papers (what ceremonies made, by name), files (what comes and goes), transcripts.

Nothing in it is secret and nothing in it is believed: whatever is read back is verified under keys of the registry.
Nothing is ever replaced.
"""

import os
from pathlib import Path

from cryptosvc.core.errors import Conflict, Malformed, Unavailable

PAPERS = "papers"
FILES = "files"


class Shelf:
    """One office.

    Args:
        folder: made where it is not there.

    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in (PAPERS, FILES):
            _make(folder / name)

    def has(self, place: str, name: str) -> bool:
        """Whether there is such a paper or file."""
        return self._path(place, name).exists()

    def put(self, place: str, name: str, octets: bytes) -> None:
        """Keep something new, on disk when this returns; Conflict where the name is taken."""
        path = self._path(place, name)
        part = path.with_name(f".{path.name}.part")
        try:
            with part.open("wb") as file:
                file.write(octets)
                file.flush()
                os.fsync(file.fileno())
            os.link(
                part, path
            )  # fails where the name is taken, and a name never stands for half of the octets
            _sync(path.parent)
        except FileExistsError:
            raise Conflict(
                f"{name} is there already; nothing is replaced", rule="ceremony/exists", field=name
            ) from None
        except OSError as error:
            raise _away(error) from None
        finally:
            part.unlink(missing_ok=True)

    def get(self, place: str, name: str) -> bytes:
        """Read something; Unavailable where it is not there yet."""
        try:
            return self._path(place, name).read_bytes()
        except FileNotFoundError:
            raise Unavailable(
                f"{self._path(place, name)} is not there; put it there and resume",
                rule="ceremony/no-file",
                field=name,
            ) from None
        except OSError as error:
            raise _away(error) from None

    def names(self, place: str) -> list[str]:
        """Every name in a place, sorted."""
        return sorted(path.name for path in (self.folder / place).iterdir() if not path.name.startswith("."))

    def _path(self, place: str, name: str) -> Path:
        if name.startswith("."):
            raise Malformed("a name does not begin with a dot", rule="ceremony/name", field=name)
        return self.folder / place / name


class TranscriptFile:
    """A transcript on disk, line by line.

    Args:
        path: of the machine-readable form.

    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, line: bytes) -> None:
        """See `flow/ceremony.py`. What a kill left of a last line is cut off first."""
        whole = len(self.read())
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.truncate(whole)
                file.seek(whole)
                file.write(line + b"\n")
                file.flush()
                os.fsync(file.fileno())
            _sync(self.path.parent)
        except OSError as error:
            raise _away(error) from None

    def read(self) -> bytes:
        """See `flow/ceremony.py`."""
        try:
            octets = self.path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise _away(error) from None
        return octets[: octets.rfind(b"\n") + 1]


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _away(error) from None


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _away(error: OSError) -> Unavailable:
    return Unavailable(f"the folder of the ceremony cannot be used: {error.strerror}", rule="ceremony/folder")
