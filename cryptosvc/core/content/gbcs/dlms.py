"""DLMS Access-Request payloads, read to the last octet.

    D9                        access-request
    20 counter(3)             long-invoke-id: 20, then the low three octets of the originator counter
    00                        date-time, empty
    count, count × spec       choice(1) class(2) OBIS(6) attribute or method(1); 01 get, 02 set, 03 action,
                              04 get with selection: then selector(1) and one datum
    count, count × datum      A-XDR; one per spec, null-data for a get

Set with selection (05) and compact arrays occur in no GBCS Command and are refused. Depth is at most 12; an element
takes at least one octet, so size is bounded by the message.

Example:
    >>> counter = (1000).to_bytes(8)
    >>> payload = emit(counter, [(spec(SET, 1, "0-0:94.44.0.1", 2), LONG_UNSIGNED + b"\\x00\\x34")])
    >>> read(payload, 0, len(payload), counter, None)

Sources: DLMS UA 1000-2 (Green Book) 9.5, A-XDR IEC 61334-6; GBCS 7.3; every Command of the Reference Test Data Set.
"""

from collections.abc import Iterable, Mapping

from cryptosvc.core.content.gbcs.framing import emit_length, length, wrong
from cryptosvc.core.errors import Malformed

GET = 0x01
SET = 0x02
ACTION = 0x03
GET_WITH_SELECTION = 0x04

NULL = b"\x00"
ARRAY = 0x01
STRUCTURE = 0x02
LONG_UNSIGNED = b"\x12"
"""Tag of a 16-bit unsigned datum; two octets follow."""

DEEPEST = 12
SPEC_OCTETS = 10

_ACCESS_REQUEST = b"\xd9\x20"
_LOAD_SWITCH = bytes.fromhex("000900000A006AFF")  # class 9, 0-0:10.0.106.255: its scripts open, close and arm
_BIT_STRING = 0x04
_COUNTED = frozenset((0x09, 0x0A, 0x0C))  # octet-string, visible-string, utf8-string
# Tag → octets after it: null, boolean, double-long(-unsigned), bcd, integer, long, unsigned, long-unsigned, long64,
# long64-unsigned, enum, float32, float64, date-time, date, time.
_FIXED: Mapping[int, int] = {
    0x00: 0,
    0x03: 1,
    0x05: 4,
    0x06: 4,
    0x0D: 1,
    0x0F: 1,
    0x10: 2,
    0x11: 1,
    0x12: 2,
    0x14: 8,
    0x15: 8,
    0x16: 1,
    0x17: 4,
    0x18: 8,
    0x19: 12,
    0x1A: 5,
    0x1B: 4,
}


def read(buffer: bytes, start: int, end: int, counter: bytes, items: Mapping[bytes, bytes] | None) -> None:
    """Read one Access-Request that fills `buffer[start:end]`.

    Args:
        buffer: the message.
        start: where the payload begins.
        end: where it ends.
        counter: originator counter, 8 octets.
        items: what the use case may touch: spec (10 octets) → the octets its datum must begin with. None where no
            table of items is known for the message code, and then any item is read but the load switch.

    Raises:
        Malformed: anything else.

    """
    if buffer[start : start + 2] != _ACCESS_REQUEST or buffer[start + 5 : start + 6] != b"\x00":
        raise wrong(
            "the payload of this message code is a DLMS access-request without date-time", "payload-kind"
        )
    if buffer[start + 2 : start + 5] != counter[5:]:
        raise wrong("the invoke-id must end in the low three octets of the originator counter", "invoke-id")
    count, at = length(buffer, start + 6, end)
    if not 0 < count <= (end - at) // SPEC_OCTETS:
        raise wrong("an access-request has at least one specification, and all of them", "dlms-count")
    starts: list[bytes] = []
    for _ in range(count):
        spec_at = at
        at += SPEC_OCTETS
        if at > end:  # a selection before it took its place
            raise wrong("the access-request ends inside a specification", "truncated")
        what = buffer[spec_at:at]
        choice = buffer[spec_at]
        if items is None:
            begins = NULL if choice in (GET, GET_WITH_SELECTION) else b""
            if not GET <= choice <= GET_WITH_SELECTION:
                raise wrong(
                    "an access-request gets, sets or acts; other choices are not in GBCS", "dlms-choice"
                )
            if what[1:9] == _LOAD_SWITCH:
                raise wrong("only ECS42, ECS43 and ECS44 touch the load switch", "dlms-item")
            if choice == GET_WITH_SELECTION:
                at = _datum(buffer, at + 1, end, 0)
        else:
            found = items.get(what)
            if found is None:
                raise wrong(
                    "this message code does not touch that attribute or method in that way", "dlms-item"
                )
            begins = found
        starts.append(begins)
    again, at = length(buffer, at, end)
    if again != count:
        raise wrong("an access-request has as many data as specifications", "dlms-count")
    for begins in starts:
        if begins and not buffer.startswith(begins, at, end):
            raise wrong(
                "a datum is not of the type or value its specification has in this use case", "dlms-value"
            )
        at = _datum(buffer, at, end, 0)
    if at != end:
        raise wrong("the access-request has trailing octets", "dlms-trailing")


def step_over(buffer: bytes, at: int, end: int) -> int:
    """Walk one A-XDR datum that begins at `at`; return where it ends. All of it before `end`, or Malformed."""
    return _datum(buffer, at, end, 0)


def _datum(buffer: bytes, at: int, end: int, depth: int) -> int:
    """Walk one A-XDR datum that begins at `at`; return where it ends."""
    if at >= end:
        raise _cut_off()
    tag = buffer[at]
    at += 1
    if tag in _FIXED:
        at += _FIXED[tag]
    elif tag in _COUNTED:
        size, at = length(buffer, at, end)
        at += size
    elif tag in (STRUCTURE, ARRAY):
        if depth >= DEEPEST:
            raise wrong(f"a datum is nested deeper than {DEEPEST}", "dlms-depth")
        size, at = length(buffer, at, end)
        first = buffer[at] if size and at < end else -1
        for _ in range(size):
            if tag == ARRAY and at < end and buffer[at] != first:
                raise wrong("the elements of an array are of one type", "dlms-array")
            at = _datum(buffer, at, end, depth + 1)
    elif tag == _BIT_STRING:
        bits, at = length(buffer, at, end)
        at += (bits + 7) // 8
        if at <= end and bits % 8 and buffer[at - 1] & (0xFF >> bits % 8):
            raise wrong("the unused bits of a bit-string are zero", "dlms-bits")
    else:
        raise wrong("a datum has a type that does not occur in GBCS", "dlms-type")
    if at > end:
        raise _cut_off()
    return at


def _cut_off() -> Malformed:
    return wrong("the access-request ends inside a datum", "truncated")


def spec(choice: int, class_id: int, obis: str, number: int) -> bytes:
    """Write one specification; `obis` as `0-0:10.0.106.255`, `number` that of the attribute or method."""
    return bytes((choice,)) + class_id.to_bytes(2) + logical_name(obis) + bytes((number,))


def logical_name(obis: str) -> bytes:
    """Write an OBIS code, `A-B:C.D.E.F` in decimal, as 6 octets; an error of ours if it is not one."""
    return bytes(map(int, obis.replace("-", ".").replace(":", ".").split(".")))


def emit(counter: bytes, items: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Write an Access-Request: the inverse of `read`.

    Args:
        counter: originator counter, 8 octets.
        items: (specification, datum) pairs; `spec` writes a specification, a get's datum is `NULL`.

    """
    pairs = list(items)
    count = emit_length(len(pairs))
    specs = b"".join(what for what, _ in pairs)
    return b"".join(
        (_ACCESS_REQUEST, counter[5:], b"\x00", count, specs, count, *(datum for _, datum in pairs))
    )
