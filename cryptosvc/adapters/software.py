"""Which software this is: one digest over every file of the installed package."""

import hashlib
from pathlib import Path

from cryptosvc.core.canonical import canonical

_PACKAGE = Path(__file__).resolve().parents[1]


def software_digest(folder: Path = _PACKAGE) -> str:
    """SHA-256 of the canonical JSON of path → SHA-256 of the file, hex, over the files of a package.

    Paths are relative, with `/`. What Python and the build leave behind (`__pycache__`, hidden files) is not part of it,
    so an installed wheel has the digest of its sources.
    """
    files = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(_left_behind(part) for part in path.relative_to(folder).parts)
    }
    return hashlib.sha256(canonical(dict(files))).hexdigest()


def _left_behind(part: str) -> bool:
    return part == "__pycache__" or part.startswith(".")
