"""What a module says it signed, held against what the log says: a signature past the service is found (G2.6(a)).

A module's own audit log is brought into one of two forms, UTF-8, one signature a row:

    CSV, with this first line:      time,object_id,label
    JSON Lines:                     {"label": "…", "object_id": "…", "time": "…"}

`time` is RFC 3339 with a time zone; `object_id` is CKA_ID in hex and `label` CKA_LABEL, either of which may be empty.
Every signature (C_Sign, C_SignFinal) of a period belongs in it, and nothing else.

Each signature is matched with one use of that key in the log whose time lies within the tolerance, and each use with one
signature: both in the order of time, the earliest that will do. With intervals of one length no other way of matching
leaves fewer over. A use whose outcome is `unavailable` did not reach the module and counts for none.

Example:
    >>> rows = read(b"time,object_id,label\\n2026-01-01T00:00:00Z,01,k\\n")
    >>> rows[0].label, rows[0].at
    ('k', 1767225600)
"""

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson

from cryptosvc.core.errors import Malformed

COLUMNS = ("time", "object_id", "label")
MAX_OCTETS = 256 * 2**20
TOLERANCE_SECONDS = 60
UNKNOWN = ""


@dataclass(frozen=True, slots=True)
class Counted:
    """A signature as the module counted it.

    Args:
        row: from 1, without the heading.
        at: Unix seconds.
        object_id: CKA_ID; empty where the module does not say.
        label: CKA_LABEL; likewise.

    """

    row: int
    at: int
    object_id: bytes
    label: str


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """A signature that the log has not; `key` is empty where no record is of the object."""

    counted: Counted
    key: str


def read(octets: bytes) -> tuple[Counted, ...]:
    """Read either form; Malformed names the row that is not in it."""
    if len(octets) > MAX_OCTETS:
        raise Malformed(f"a module's log has at most {MAX_OCTETS} octets at a time", rule="module-log/size")
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        raise Malformed("a module's log is UTF-8", rule="module-log/encoding") from None
    if text.startswith("{"):
        return tuple(_json_row(number, line) for number, line in enumerate(text.splitlines(), 1) if line)
    table = csv.reader(text.splitlines(), strict=True)
    try:
        if tuple(next(table, ())) != COLUMNS:
            raise Malformed(f"the first line of the CSV is {','.join(COLUMNS)}", rule="module-log/form")
        return tuple(
            _counted(number, dict(zip(COLUMNS, row, strict=True))) for number, row in enumerate(table, 1)
        )
    except (csv.Error, ValueError):
        raise Malformed(
            f"line {table.line_num} of the CSV is not a row of it", rule="module-log/form"
        ) from None


def unrecorded(
    rows: Sequence[Counted],
    uses: Mapping[str, Sequence[int]],
    by_id: Mapping[bytes, str],
    by_label: Mapping[str, str],
    tolerance: int = TOLERANCE_SECONDS,
) -> list[Unrecorded]:
    """Find every signature without a use.

    Args:
        rows: what the module counted, in any order.
        uses: key id → Unix seconds of its uses that may have reached the module, in any order.
        by_id: which key an object is, by CKA_ID, which decides where a row has one.
        by_label: likewise by CKA_LABEL.
        tolerance: seconds by which the two clocks and a call's length may differ.

    """
    of_key: dict[str, list[Counted]] = defaultdict(list)
    for row in rows:
        key = by_id.get(row.object_id, UNKNOWN) if row.object_id else by_label.get(row.label, UNKNOWN)
        of_key[key].append(row)
    found: list[Unrecorded] = []
    for key, counted in of_key.items():
        left = sorted(uses.get(key, ())) if key else []
        at = 0
        for row in sorted(counted, key=lambda one: (one.at, one.row)):
            while at < len(left) and left[at] < row.at - tolerance:
                at += 1
            if at < len(left) and left[at] <= row.at + tolerance:
                at += 1
            else:
                found.append(Unrecorded(row, key))
    return sorted(found, key=lambda one: one.counted.row)


def _json_row(number: int, line: str) -> Counted:
    try:
        tree: object = orjson.loads(line)
    except orjson.JSONDecodeError:
        tree = None
    if not isinstance(tree, dict) or set(tree) != set(COLUMNS):
        raise _wrong(number, f"a row has {', '.join(COLUMNS)} and nothing else")
    return _counted(number, {name: str(value) for name, value in tree.items()})


def _counted(number: int, row: Mapping[str, str]) -> Counted:
    try:
        moment = datetime.fromisoformat(row["time"])
        object_id = bytes.fromhex(row["object_id"])
    except ValueError:
        raise _wrong(number, "time is RFC 3339 and object_id is hex") from None
    if moment.tzinfo is None:
        raise _wrong(number, "a time has its time zone, as 2026-01-01T00:00:00Z")
    if not object_id and not row["label"]:
        raise _wrong(number, "object_id or label says which key it was")
    return Counted(number, int(moment.timestamp()), object_id, row["label"])


def _wrong(number: int, why: str) -> Malformed:
    return Malformed(f"row {number} of the module's log: {why}", rule="module-log/row", field="FILE")
