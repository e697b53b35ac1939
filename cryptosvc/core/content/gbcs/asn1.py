"""Strict DER, typed: a structure is a value made of the types below, and reading it consumes every octet or refuses.

Refused: lengths that are indefinite or not minimal, tags that are not the ones expected, INTEGERs that are not minimal
or out of range, named bit lists with trailing zeros, times that are not on the calendar, trailing octets, depth over 16.

Example:
    >>> pair = sequence(required(integer(0, 255)), optional(null()))
    >>> read(bytes.fromhex("3003020107"), 0, 5, pair, Expected(counter=0, mode=None))

Source: ITU-T X.690 sections 8, 10 and 11; RFC 5280 4.1.2.5.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from cryptosvc.core.content.gbcs.framing import wrong
from cryptosvc.core.errors import Malformed

BOOLEAN = 0x01
INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
NULL = 0x05
OBJECT_IDENTIFIER = 0x06
UTF8_STRING = 0x0C
UTC_TIME = 0x17
GENERALIZED_TIME = 0x18
SEQUENCE = 0x30
SET = 0x31
CONTEXT = 0x80
CONSTRUCTED = 0x20
_UNIVERSAL = 0x1F

DEEPEST = 16
LONGEST_INTEGER = 32
"""Octets; a certificate serial number has at most 20, GBCS samples 16."""

_GENERALIZED_TIME = re.compile(rb"[0-9]{14}Z")
_UTC_TIME = re.compile(rb"[0-9]{12}Z")


@dataclass(frozen=True, slots=True)
class Expected:
    """What the rest of the message says a payload must repeat.

    Args:
        counter: the originator counter.
        mode: the credentials replacement mode of the message code; None where it has none.

    """

    counter: int
    mode: int | None


Contents = Callable[[bytes, int, int, Expected], None]


@dataclass(frozen=True, slots=True)
class Type:
    """One ASN.1 type: its identifier octet, and what reads its contents `buffer[start:end]` or raises Malformed."""

    tag: int
    contents: Contents


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a SEQUENCE."""

    type: Type
    optional: bool


def read(buffer: bytes, start: int, end: int, structure: Type, expected: Expected) -> None:
    """Read exactly one value of `structure` that fills `buffer[start:end]`, or raise Malformed."""
    if _value(buffer, start, end, structure, expected) != end:
        raise wrong("octets follow the ASN.1 structure of this message code", "asn1-trailing")


def header(buffer: bytes, at: int, end: int) -> tuple[int, int, int]:
    """Read identifier and length at `at`; return tag, start and end of the contents."""
    if end - at < 2:
        raise _truncated()
    tag = buffer[at]
    if tag & _UNIVERSAL == _UNIVERSAL:
        raise wrong("a tag number above 30 does not occur here", "der")
    size = buffer[at + 1]
    start = at + 2
    if size >= 0x80:
        octets = size & 0x7F
        size = int.from_bytes(buffer[start : start + octets])
        start += octets
        if not 0 < octets <= 3 or size < 0x80 or size.bit_length() <= 8 * (octets - 1):
            raise wrong("a DER length is definite and in its shortest form", "der")
    if start + size > end:
        raise _truncated()
    return tag, start, start + size


def _value(buffer: bytes, at: int, end: int, kind: Type, expected: Expected) -> int:
    tag, start, after = header(buffer, at, end)
    if tag != kind.tag:
        raise wrong("a member of the ASN.1 structure is missing or of another type", "asn1-structure")
    kind.contents(buffer, start, after, expected)
    return after


def _truncated() -> Malformed:
    return wrong("the payload ends inside an ASN.1 element", "truncated")


# --- types ------------------------------------------------------------------------------------------------------------


def required(kind: Type) -> Member:
    """Make a member that must be there."""
    return Member(kind, optional=False)


def optional(kind: Type) -> Member:
    """Make a member that may be absent; the next one must have another tag."""
    return Member(kind, optional=True)


def sequence(*members: Member) -> Type:
    """Make a SEQUENCE of exactly these members."""

    def contents(buffer: bytes, at: int, end: int, expected: Expected) -> None:
        for member in members:
            if member.optional and (at >= end or buffer[at] != member.type.tag):
                continue
            at = _value(buffer, at, end, member.type, expected)
        if at != end:
            raise wrong("an ASN.1 structure has more members than its definition", "asn1-structure")

    return Type(SEQUENCE, contents)


def sequence_of(kind: Type, *, fewest: int = 0) -> Type:
    """Make a SEQUENCE OF at least `fewest`."""

    def contents(buffer: bytes, at: int, end: int, expected: Expected) -> None:
        count = 0
        while at < end:
            at = _value(buffer, at, end, kind, expected)
            count += 1
        if count < fewest:
            raise wrong(f"an ASN.1 list has fewer than {fewest} elements", "asn1-structure")

    return Type(SEQUENCE, contents)


def context(number: int, kind: Type) -> Type:
    """Make `[number] IMPLICIT kind`."""
    return replace(kind, tag=CONTEXT | (kind.tag & CONSTRUCTED) | number)


def integer(lowest: int, highest: int) -> Type:
    """Make an INTEGER in a range."""

    def contents(buffer: bytes, start: int, end: int, _: Expected) -> None:
        if not lowest <= _integer(buffer, start, end) <= highest:
            raise wrong("an ASN.1 INTEGER is out of its range", "asn1-range")

    return Type(INTEGER, contents)


def counter() -> Type:
    """Make an INTEGER that repeats the originator counter."""

    def contents(buffer: bytes, start: int, end: int, expected: Expected) -> None:
        if _integer(buffer, start, end) != expected.counter:
            raise wrong(
                "the sequence number in the payload must be the originator counter", "counter-mismatch"
            )

    return Type(INTEGER, contents)


def mode() -> Type:
    """Make an INTEGER that is the credentials replacement mode of the message code."""

    def contents(buffer: bytes, start: int, end: int, expected: Expected) -> None:
        if _integer(buffer, start, end) != expected.mode:
            raise wrong(
                "the credentials replacement mode is not the one of the message code", "mode-mismatch"
            )

    return Type(INTEGER, contents)


def octets(fewest: int, most: int) -> Type:
    """Make an OCTET STRING of a size."""

    def contents(_buffer: bytes, start: int, end: int, _: Expected) -> None:
        if not fewest <= end - start <= most:
            raise wrong("an ASN.1 OCTET STRING has another length", "asn1-range")

    return Type(OCTET_STRING, contents)


def named_bits(allowed: int) -> Type:
    """Make a BIT STRING of one to eight named bits, at least one set, all within `allowed` (bit 0 is 0x80)."""

    def contents(buffer: bytes, start: int, end: int, _: Expected) -> None:
        if end - start != 2:
            raise wrong("a named bit list here has one octet of bits", "asn1-bits")
        bits = buffer[start + 1]
        lowest = bits & -bits
        if not bits or bits & ~allowed or buffer[start] != lowest.bit_length() - 1:
            raise wrong("a named bit list has known bits only and no trailing zeros", "asn1-bits")

    return Type(BIT_STRING, contents)


def bits() -> Type:
    """Make a BIT STRING of any bits."""
    return Type(BIT_STRING, _any_bits)


def null() -> Type:
    """Make a NULL."""
    return Type(NULL, _null)


def generalized_time() -> Type:
    """Make a GeneralizedTime, `YYYYMMDDHHMMSSZ`, on the calendar."""
    return Type(GENERALIZED_TIME, _generalized_time)


def any_sequence() -> Type:
    """Make a SEQUENCE with any DER inside, walked to its last octet."""
    return Type(SEQUENCE, _any_contents)


def _integer(buffer: bytes, start: int, end: int) -> int:
    size = end - start
    if not 0 < size <= LONGEST_INTEGER:
        raise wrong("an ASN.1 INTEGER is empty or too long", "der")
    if size > 1 and buffer[start] in (0x00, 0xFF) and buffer[start] ^ buffer[start + 1] < 0x80:
        raise wrong("an ASN.1 INTEGER is not in its shortest form", "der")
    return int.from_bytes(buffer[start:end], signed=True)


def _null(_buffer: bytes, start: int, end: int, _: Expected) -> None:
    if start != end:
        raise wrong("an ASN.1 NULL has contents", "der")


def _generalized_time(buffer: bytes, start: int, end: int, _: Expected) -> None:
    text = buffer[start:end]
    if not _GENERALIZED_TIME.fullmatch(text):
        raise wrong("a GeneralizedTime is YYYYMMDDHHMMSSZ", "asn1-time")
    _on_the_calendar(text)


def _on_the_calendar(digits: bytes) -> None:
    year, *rest = (
        int(digits[at : at + size]) for at, size in ((0, 4), (4, 2), (6, 2), (8, 2), (10, 2), (12, 2))
    )
    month, day, hour, minute, second = rest
    try:
        datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        raise wrong("a time in the payload is not on the calendar", "asn1-time") from None


# --- any DER ----------------------------------------------------------------------------------------------------------


def _any_contents(buffer: bytes, start: int, end: int, expected: Expected) -> None:
    """Walk the elements of a constructed one; each is DER as far as its own type can tell."""
    _walk(buffer, start, end, expected, 1)


def _walk(buffer: bytes, at: int, end: int, expected: Expected, depth: int) -> None:
    if depth > DEEPEST:
        raise wrong(f"the ASN.1 structure is nested deeper than {DEEPEST}", "asn1-depth")
    while at < end:
        tag, start, after = header(buffer, at, end)
        if tag & CONSTRUCTED:
            if tag not in (SEQUENCE, SET) and tag & 0xC0 != CONTEXT:
                raise wrong("only SEQUENCE, SET and context tags are constructed in DER", "der")
            _walk(buffer, start, after, expected, depth + 1)
        elif tag & 0xC0 == 0:
            if tag not in _CHECKS:
                raise wrong("an ASN.1 type that does not occur in GBCS", "der")
            _CHECKS[tag](buffer, start, after, expected)
        elif tag & 0xC0 != CONTEXT:
            raise wrong("application and private tags do not occur in GBCS", "der")
        at = after


def _any_integer(buffer: bytes, start: int, end: int, _: Expected) -> None:
    _integer(buffer, start, end)


def _any_boolean(buffer: bytes, start: int, end: int, _: Expected) -> None:
    if buffer[start:end] not in (b"\x00", b"\xff"):
        raise wrong("a DER BOOLEAN is 00 or FF", "der")


def _any_bits(buffer: bytes, start: int, end: int, _: Expected) -> None:
    unused = buffer[start] if start < end else 8
    if unused > 7 or (unused and (end - start < 2 or buffer[end - 1] & ((1 << unused) - 1))):
        raise wrong("a DER BIT STRING has zeros for unused bits", "der")


def _any_oid(buffer: bytes, start: int, end: int, _: Expected) -> None:
    begins = True
    for at in range(start, end):
        if begins and buffer[at] == 0x80:
            raise wrong("an object identifier is in its shortest form", "der")
        begins = buffer[at] < 0x80
    if start == end or not begins:
        raise wrong("an object identifier is empty or cut off", "der")


def _any_octets(_buffer: bytes, _start: int, _end: int, _: Expected) -> None:
    """Any octets are an OCTET STRING; what they mean is for the one who takes the certificate."""


def _any_utf8(buffer: bytes, start: int, end: int, _: Expected) -> None:
    try:
        buffer[start:end].decode()
    except UnicodeDecodeError:
        raise wrong("a UTF8String is not UTF-8", "der") from None


def _any_ascii(buffer: bytes, start: int, end: int, _: Expected) -> None:
    if not buffer[start:end].isascii():
        raise wrong("a PrintableString or IA5String has other characters", "der")


def _any_utc_time(buffer: bytes, start: int, end: int, _: Expected) -> None:
    text = buffer[start:end]
    if not _UTC_TIME.fullmatch(text):
        raise wrong("a UTCTime is YYMMDDHHMMSSZ", "asn1-time")
    _on_the_calendar((b"19" if text >= b"50" else b"20") + text)


_CHECKS: dict[int, Contents] = {
    BOOLEAN: _any_boolean,
    INTEGER: _any_integer,
    BIT_STRING: _any_bits,
    OCTET_STRING: _any_octets,
    NULL: _null,
    OBJECT_IDENTIFIER: _any_oid,
    0x0A: _any_integer,  # ENUMERATED
    UTF8_STRING: _any_utf8,
    0x13: _any_ascii,  # PrintableString
    0x16: _any_ascii,  # IA5String
    UTC_TIME: _any_utc_time,
    GENERALIZED_TIME: _generalized_time,
}
