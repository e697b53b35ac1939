"""DER, walked by our own code over every byte; what this accepts has exactly one encoding.

Refused: indefinite and non-minimal lengths, high tag numbers, application and private classes, constructed strings,
non-minimal INTEGERs and object identifiers, BOOLEANs other than 00 and FF, non-zero unused bits, unsorted SETs,
characters outside a string's type, times in any form but RFC 5280's, trailing bytes, deep nesting. What depends on a
structure (DEFAULT values, contents of context tags) is refused where the structure is read.

Example:
    >>> integer(read(bytes.fromhex("0203010001"), limit=16))
    65537

Source: ITU-T X.690 sections 8 to 11; RFC 5280 4.1.2.5.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from types import MappingProxyType

from cryptosvc.core.errors import Malformed
from cryptosvc.core.names import UnixNanoseconds

BOOLEAN = 0x01
INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
NULL = 0x05
OBJECT_IDENTIFIER = 0x06
ENUMERATED = 0x0A
UTF8_STRING = 0x0C
PRINTABLE_STRING = 0x13
UTC_TIME = 0x17
GENERALIZED_TIME = 0x18
SEQUENCE = 0x30
SET = 0x31

DEEPEST = 16
"""A certificate needs 8."""

_LONGEST_OID_OCTETS = 64
_CONSTRUCTED = 0x20
_CLASS = 0xC0
_CONTEXT = 0x80
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PRINTABLE = re.compile(rb"[A-Za-z0-9 '()+,\-./:=?]*")
_UTC_TIME = re.compile(rb"[0-9]{12}Z")
_GENERALIZED_TIME = re.compile(rb"[0-9]{14}Z")


@dataclass(frozen=True, slots=True)
class Node:
    """One element.

    Args:
        tag: the identifier octet.
        content: contents octets.
        encoded: identifier, length and contents octets.
        children: the elements inside, where the element is constructed.

    """

    tag: int
    content: bytes
    encoded: bytes
    children: tuple["Node", ...]


def _wrong(message: str, rule: str) -> Malformed:
    return Malformed(f"the DER encoding {message}", rule=f"der/{rule}")


def read(encoded: bytes, *, limit: int) -> Node:
    """Read exactly one element, at most `limit` octets, and nothing after it.

    Raises:
        Malformed: it is not DER; the rule begins with `der/`.

    """
    if len(encoded) > limit:
        raise _wrong(f"is longer than {limit} octets", "too-long")
    node, end = _element(encoded, 0, len(encoded), 1)
    if end != len(encoded):
        raise _wrong("has trailing bytes", "trailing-bytes")
    if emit(node) != encoded:
        raise _wrong("is not the one that would be written", "re-encoding")
    return node


def emit(node: Node) -> bytes:
    """Write an element again from its tag and its innermost contents."""
    content = b"".join(map(emit, node.children)) if node.tag & _CONSTRUCTED else node.content
    return encode(node.tag, content)


def encode(tag: int, *parts: bytes) -> bytes:
    """Write one element with minimal length."""
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(length))) + length + content


def _element(buffer: bytes, start: int, end: int, depth: int) -> tuple[Node, int]:
    if depth > DEEPEST:
        raise _wrong(f"is nested deeper than {DEEPEST}", "too-deep")
    at, after = _contents(buffer, start, end)
    tag = buffer[start]
    content = buffer[at:after]
    children: tuple[Node, ...] = ()
    if tag & _CONSTRUCTED:
        if tag not in (SEQUENCE, SET) and tag & _CLASS != _CONTEXT:
            raise _wrong("has a constructed form of a type that has none", "type")
        found = []
        while at < after:
            child, at = _element(buffer, at, after, depth + 1)
            found.append(child)
        children = tuple(found)
        if tag == SET and any(a.encoded >= b.encoded for a, b in pairwise(found)):
            raise _wrong("has a SET that is not sorted or names a member twice", "set-order")
    elif tag & _CLASS != _CONTEXT:
        try:
            check = _PRIMITIVE[tag]
        except KeyError:
            raise _wrong("has an element of a type that is not used here", "type") from None
        check(content)
    return Node(tag, content, buffer[start:after], children), after


def _contents(buffer: bytes, start: int, end: int) -> tuple[int, int]:
    """Read identifier and length at `start`; return where the contents begin and end."""
    if end - start < 2:
        raise _wrong("ends inside an element", "truncated")
    if buffer[start] & 0x1F == 0x1F:
        raise _wrong("has a tag number above 30", "tag-number")
    length = buffer[start + 1]
    at = start + 2
    if length >= 0x80:
        octets = length & 0x7F
        if octets == 0:
            raise _wrong("has an indefinite length", "indefinite-length")
        if octets > 4 or end - at < octets:
            raise _wrong("has a length that runs past the end", "truncated")
        length = int.from_bytes(buffer[at : at + octets])
        if length < 0x80 or length.bit_length() <= 8 * (octets - 1):
            raise _wrong("has a length that is not minimal", "length-form")
        at += octets
    if end - at < length:
        raise _wrong("has a length that runs past the end", "truncated")
    return at, at + length


# --- types --------------------------------------------------------------------------------------------------------


def _check_boolean(content: bytes) -> None:
    if content not in (b"\x00", b"\xff"):
        raise _wrong("has a BOOLEAN that is neither 00 nor FF", "boolean")


def _check_integer(content: bytes) -> None:
    if not content or (len(content) > 1 and content[0] in (0x00, 0xFF) and (content[0] ^ content[1]) < 0x80):
        raise _wrong("has an INTEGER that is empty or not minimal", "integer")


def _check_bits(content: bytes) -> None:
    unused = content[0] if content else 8
    if (
        unused > 7
        or (len(content) == 1 and unused)
        or content[-1] & ((1 << unused) - 1 if len(content) > 1 else 0)
    ):
        raise _wrong("has a BIT STRING whose unused bits are not zero", "bit-string")


def _check_octets(content: bytes) -> None:
    """Any octets are an OCTET STRING."""


def _check_null(content: bytes) -> None:
    if content:
        raise _wrong("has a NULL with contents", "null")


def _check_oid(content: bytes) -> None:
    starts = True
    for octet in content:
        if starts and octet == 0x80:
            raise _wrong("has an object identifier that is not minimal", "object-identifier")
        starts = octet < 0x80
    if not content or not starts or len(content) > _LONGEST_OID_OCTETS:
        raise _wrong("has an object identifier that is empty, cut off or too long", "object-identifier")


def _check_utf8(content: bytes) -> None:
    try:
        content.decode()
    except UnicodeDecodeError:
        raise _wrong("has a UTF8String that is not UTF-8", "string") from None


def _check_printable(content: bytes) -> None:
    if not _PRINTABLE.fullmatch(content):
        raise _wrong("has a PrintableString with other characters", "string")


def _check_utc_time(content: bytes) -> None:
    if not _UTC_TIME.fullmatch(content):
        raise _wrong("has a UTCTime that is not YYMMDDHHMMSSZ", "time")
    _date(_century(content) + content)


def _check_generalized_time(content: bytes) -> None:
    if not _GENERALIZED_TIME.fullmatch(content):
        raise _wrong("has a GeneralizedTime that is not YYYYMMDDHHMMSSZ", "time")
    if content < b"2050":
        raise _wrong("has a GeneralizedTime before 2050, which is a UTCTime's place", "time")
    _date(content)


def _century(utc_time: bytes) -> bytes:
    return b"19" if utc_time >= b"50" else b"20"


def _date(digits: bytes) -> datetime:
    month, day, hour, minute, second = (int(digits[at : at + 2]) for at in range(4, 14, 2))
    try:
        return datetime(int(digits[:4]), month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        raise _wrong("has a time that is not on the calendar", "time") from None


_PRIMITIVE: Mapping[int, Callable[[bytes], None]] = MappingProxyType(
    {
        BOOLEAN: _check_boolean,
        INTEGER: _check_integer,
        BIT_STRING: _check_bits,
        OCTET_STRING: _check_octets,
        NULL: _check_null,
        OBJECT_IDENTIFIER: _check_oid,
        ENUMERATED: _check_integer,
        UTF8_STRING: _check_utf8,
        PRINTABLE_STRING: _check_printable,
        UTC_TIME: _check_utc_time,
        GENERALIZED_TIME: _check_generalized_time,
    }
)


# --- values of nodes that were walked ---------------------------------------------------------------------------------


def integer(node: Node) -> int:
    """Value of an INTEGER or ENUMERATED."""
    return int.from_bytes(node.content, signed=True)


def object_identifier(node: Node) -> str:
    """Dotted text of an OBJECT IDENTIFIER."""
    arcs = []
    value = 0
    for octet in node.content:
        value = value << 7 | octet & 0x7F
        if octet < 0x80:
            arcs.append(value)
            value = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:])))


def instant(node: Node) -> UnixNanoseconds:
    """Nanoseconds since 1970 of a UTCTime (1950 to 2049) or GeneralizedTime (from 2050)."""
    digits = node.content if node.tag == GENERALIZED_TIME else _century(node.content) + node.content
    return UnixNanoseconds((_date(digits) - _EPOCH) // timedelta(seconds=1) * 1_000_000_000)


class Fields:
    """The members of one constructed element, taken in order; whoever takes them says `end` at the end.

    Args:
        node: a constructed element.
        what: name of the structure; the rule of a refusal is `<what>/structure`.

    """

    __slots__ = ("_at", "_nodes", "_what")

    def __init__(self, node: Node, what: str) -> None:
        self._nodes = node.children
        self._at = 0
        self._what = what

    def take(self, *tags: int) -> Node:
        """Take the next member, which must have one of these tags."""
        node = self.optional(*tags)
        if node is None:
            raise self.wrong()
        return node

    def optional(self, *tags: int) -> Node | None:
        """Take the next member if it has one of these tags."""
        if self._at < len(self._nodes) and (node := self._nodes[self._at]).tag in tags:
            self._at += 1
            return node
        return None

    def end(self) -> None:
        """Nothing may be left."""
        if self._at != len(self._nodes):
            raise self.wrong()

    def wrong(self) -> Malformed:
        """Make the refusal of this structure."""
        return Malformed(
            f"a member of the {self._what} is missing, of another type, or more than the profile has",
            rule=f"{self._what}/structure",
        )
