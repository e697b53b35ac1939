"""Redact a log export or a range for a third party: chosen values beside entries are left out, and every proof holds.

What may have to be withheld is in an entry as a commitment only; the value stands beside it. Leaving the value out
changes no entry, no hash and no signature. A verifier counts what it cannot know any more; it is not misled.
"""

import os
from collections.abc import Callable, Collection
from pathlib import Path

import orjson

from cryptosvc.adapters.log_range import read_head
from cryptosvc.core.canonical import canonical
from cryptosvc.core.entries import SEPARATOR
from cryptosvc.core.errors import Corrupt, Internal, Malformed

NEEDED = frozenset({"caller", "custodian"})
"""Without these the records beside an export cannot be compared with the log (docs/log-format.md)."""


def redact(
    path: Path,
    out: Path,
    names: Collection[str],
    progress: Callable[[int], None] = lambda _done: None,
) -> tuple[int, int]:
    """Write a copy without these values.

    Args:
        path: an export or a range.
        out: the copy; appears when it is complete and on disk.
        names: of withheld values, as `principal` or `target`; `document` also carries ids of people.
        progress: called with how many entries were written.

    Returns:
        How many entries there are, and how many values were left out.

    Raises:
        Malformed: neither export nor range, no name, or a name that an export needs.
        Corrupt: a line is not an entry with what is kept beside it.

    """
    head = read_head(path)
    needed = sorted(NEEDED & set(names)) if head.exported else []
    if needed:
        raise Malformed(
            f"an export without {needed[0]!r} cannot be compared with its records; redact a range instead",
            rule="redaction/needed",
            field="names",
        )
    if not names:
        raise Malformed("name at least one value to leave out", rule="redaction/none", field="names")
    partial = out.with_name(out.name + ".partial")
    entries = left_out = 0
    try:
        with path.open("rb") as source, partial.open("wb") as file:
            file.write(source.read(head.entries_at))
            for line in source:
                kept, gone = _line(line, names)
                file.write(kept)
                entries, left_out = entries + 1, left_out + gone
                if entries % 4096 == 0:
                    progress(entries)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return entries, left_out


def _line(line: bytes, names: Collection[str]) -> tuple[bytes, int]:
    entry, mark, withheld = line.removesuffix(b"\n").partition(SEPARATOR)
    if not mark or not line.endswith(b"\n"):
        raise Corrupt("a line is not an entry with what is kept beside it", rule="redaction/line")
    octets, left_out = without(withheld, names)
    return entry + SEPARATOR + octets + b"\n", left_out


def without(withheld: bytes, names: Collection[str]) -> tuple[bytes, int]:
    """What stands beside an entry, without these values; and how many those were. Corrupt where it is not in form."""
    if not withheld:
        return b"", 0
    try:
        beside = orjson.loads(withheld)
        kept = {name: value for name, value in beside.items() if name not in names}
        octets = canonical(kept) if kept else b""
    except (ValueError, AttributeError, Internal):
        raise Corrupt("a line is not an entry with what is kept beside it", rule="redaction/line") from None
    return octets, len(beside) - len(kept)
