"""What each process of a verification runs: one chunk of an export, read from the file. It imports little, to begin at once."""

from collections.abc import Sequence
from pathlib import Path

from cryptosvc.core.entries import ChunkFindings, prefixes_in, read_chunk
from cryptosvc.core.errors import Corrupt


def read_lines(path: Path, offset: int, length: int, start: int, sizes: Sequence[int]) -> ChunkFindings:
    """Judge the entries of a stretch of a file.

    Args:
        path: an export.
        offset: of its first line, octets.
        length: of all of its lines, octets.
        start: index of the first entry.
        sizes: of the checkpoints; a root is given for each that ends inside.

    Raises:
        Corrupt: `export/truncated`, or as `core.entries.read_chunk`.

    """
    with path.open("rb") as file:
        file.seek(offset)
        octets = file.read(length)
    if not octets.endswith(b"\n"):
        raise Corrupt("the export ends in the middle of a line", rule="export/truncated")
    lines = octets[:-1].split(b"\n")
    return read_chunk(start, lines, [count for count in prefixes_in(start, sizes) if count <= len(lines)])
