"""Ceremony files: TOML text → a `Script`. `scripts/ceremonies/` holds ready ones.

Only the text is read here. What the keys mean is read in `core/ceremony/script.py`, because the same document stands
in every transcript and is read back from there by whoever verifies one.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cryptosvc.config.reading import read_document
from cryptosvc.core.ceremony.script import Script, read


@dataclass(frozen=True, slots=True)
class CeremonyFile:
    """A ceremony file that can be held.

    Args:
        script: what it says.
        sha256: of its octets, lower-case hex, as transcripts name it.

    """

    script: Script
    sha256: str


def read_ceremony(path: Path) -> CeremonyFile:
    """Read a ceremony file; Malformed as `read_document` or `core.ceremony.script.read`."""
    octets, document = read_document(path)
    return CeremonyFile(read(document), hashlib.sha256(octets).hexdigest())
