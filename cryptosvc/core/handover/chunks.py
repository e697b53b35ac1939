"""Device keys of a transfer as they travel: parts of some thousand rows, each naming the one before.

A row is what the source's store has of it: wrapped by a storage key that moves, and bound by a tag to what it says it is. With
it goes the greatest number its key has claimed (an invocation counter never repeats). The package that the source signs names the
last part, which names the one before, and so on to the first: nothing can be left out, put in, changed or exchanged, and a part that
was checked once is known by its digest.

    {"number":1,"previous":"","rows":2,"transfer_id":"move-1","v":1}
    {"counter":"17","row":{…}}
    {"counter":"","row":{…}}

Source: Smart Energy Code G2.22G, G2.44(c), (e); DLMS UA-ISO/IEC 62056-5-3 (invocation counters).
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import orjson

from cryptosvc.core.canonical import JsonValue, canonical
from cryptosvc.core.device_keys import DeviceKey, row_document, row_from_document
from cryptosvc.core.documents import mapping, number, text
from cryptosvc.core.errors import Malformed
from cryptosvc.core.names import SystemName
from cryptosvc.core.registry import KeyRecord

VERSION = 1
ROWS_AT_MOST = 4096
OCTETS_AT_MOST = ROWS_AT_MOST * 2048
_NUMBER_BELOW = 1 << 159


@dataclass(frozen=True, slots=True)
class Travelling:
    """A row, and the greatest number its key has claimed; 0 where it has claimed none."""

    row: DeviceKey
    counter: int


def name_of(chunk: int) -> str:
    """Name of a part's blob, from 1."""
    return f"devices-{chunk:06d}"


def digest_of(octets: bytes) -> str:
    """How the part that follows, or the package, names a part."""
    return hashlib.sha256(octets).hexdigest()


def emit(transfer_id: str, chunk: int, previous: str, rows: Sequence[Travelling]) -> bytes:
    """Print a part.

    Args:
        transfer_id: of which transfer.
        chunk: its number, from 1.
        previous: digest of the part before, hex; empty for the first.
        rows: at most `ROWS_AT_MOST`, sorted by name.

    """
    heading = canonical(
        {
            "v": VERSION,
            "transfer_id": transfer_id,
            "number": chunk,
            "previous": previous,
            "rows": len(rows),
        }
    )
    lines = [
        canonical({"row": row_document(one.row), "counter": str(one.counter) if one.counter else ""})
        for one in rows
    ]
    return b"\n".join((heading, *lines, b""))


def previous_of(octets: bytes, transfer_id: str, chunk: int) -> tuple[str, int]:
    """Digest of the part before, and how many rows this one says it has; Malformed where its heading is another's."""
    try:
        heading = cast("Mapping[str, JsonValue]", orjson.loads(octets.partition(b"\n")[0]))
        same = (number(heading, "v"), text(heading, "transfer_id"), number(heading, "number")) == (
            VERSION,
            transfer_id,
            chunk,
        )
        found = text(heading, "previous"), number(heading, "rows")
    except (KeyError, TypeError, ValueError):
        same = False
    if not same:
        raise _broken(chunk)
    return found


def parse(octets: bytes, transfer_id: str, chunk: int) -> tuple[str, list[Travelling]]:
    """Read what `emit` prints: digest of the part before, and the rows; Malformed `transfer/chunk` for anything else."""
    previous, rows = previous_of(octets, transfer_id, chunk)
    try:
        found = [_row(line) for line in octets.split(b"\n")[1:-1]]
        names = [one.row.name for one in found]
        same = (
            len(found) == rows <= ROWS_AT_MOST
            and names == sorted(set(names))
            and emit(transfer_id, chunk, previous, found) == octets
        )
    except (KeyError, TypeError, ValueError, Malformed):
        same = False
    if not same:
        raise _broken(chunk)
    return previous, found


def require_of(
    rows: Sequence[Travelling], system: SystemName, storage: Mapping[str, KeyRecord], kinds: Collection[str]
) -> None:
    """Require that rows are of a system and under storage keys that came with them.

    Args:
        rows: of a part.
        system: that they come from.
        storage: id → record of each storage key that came.
        kinds: kinds of device key there are.

    Raises:
        Malformed: `transfer/chunk`.

    """
    classes = {name: key.key_class for name, key in storage.items()}
    for one in rows:
        row = one.row
        under = (classes.get(row.wrapping), classes.get(row.binding))
        if row.system != system or under != ("storage-wrapping", "storage-binding") or row.kind not in kinds:
            raise Malformed(
                "a device key of the package is of another system or kind, or under storage keys that did not come with it",
                rule="transfer/chunk",
                clause="G2.22G",
            )


def _row(line: bytes) -> Travelling:
    document = cast("Mapping[str, JsonValue]", orjson.loads(line))
    counter = text(document, "counter")
    found = Travelling(row_from_document(mapping(document, "row")), int(counter) if counter else 0)
    if not 0 <= found.counter < _NUMBER_BELOW:
        raise ValueError
    return found


def _broken(chunk: int) -> Malformed:
    return Malformed(
        f"part {chunk} of the package's device keys is not what the package names; ask for the package again",
        rule="transfer/chunk",
        clause="G2.22I",
    )
