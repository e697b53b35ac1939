"""The General-Signing APDU around a payload: 29 octets of fixed layout, then three counted fields.

    DF                        general-signing tag; everything after it, through the payload, is what is signed
    09 CRA(1) counter(8)      transaction id: 01 is a Command
    08 originator(8)          Business Originator ID, EUI-64
    08 target(8)              Business Target ID, EUI-64
    00                        date-time, always empty in a Command
    length OtherInfo          message code (2), and for a party acting for another its ID (8), counter (8), certificate
    length payload
    (nothing) or 00           a Pre-Command has no signature; DUIS writes its absence as an empty field

Integers are big-endian; lengths are minimal: one octet below 80, else 81 LL or 82 LLLL.

Example:
    >>> head = read(build(code=0x0050, originator=bytes(8), target=bytes(8), counter=1000, payload=b"\\x05\\x00"), 99)
    >>> head.counter, head.start, head.end
    (1000, 34, 36)

Source: GBCS 0.8.1 13.3.3.1 and 6.4.5, checked against every message of the DCC Reference Test Data Set 4.5.0.
"""

from struct import Struct
from typing import NamedTuple

from cryptosvc.core.errors import Malformed

FIELD = "gbcs_pre_command"

GENERAL_SIGNING = 0xDF
GENERAL_CIPHERING = 0xDD
COMMAND = 0x01
SIGNATURE_OCTETS = 64
COUNTER_AT = 3
COUNTER_END = 11
HIGHEST_COUNTER = 2**64 - 1
_LONGEST = 0xFFFF

_OPENING = Struct(
    ">3sQB8sB8sBB"
)  # DF 09 CRA, counter, 08, originator, 08, target, date-time length, OtherInfo length
_OPENING_OCTETS = _OPENING.size
_COMMAND_OPENING = bytes((GENERAL_SIGNING, 0x09, COMMAND))


class Frame(NamedTuple):
    """Where things stand in a Pre-Command.

    Args:
        counter: originator counter.
        originator, target: EUI-64s, 8 octets each.
        other_info: OtherInfo, at least 2 octets.
        start, end: bounds of the payload.

    """

    counter: int
    originator: bytes
    target: bytes
    other_info: bytes
    start: int
    end: int


def wrong(message: str, rule: str) -> Malformed:
    """Make the refusal of a message that is not a Pre-Command."""
    return Malformed(message, rule=f"gbcs/{rule}", field=FIELD)


def read(message: bytes, maximum_octets: int) -> Frame:
    """Read the frame, exactly; the payload is delimited, not read.

    Raises:
        Malformed: not one whole unsigned Pre-Command.

    """
    size = len(message)
    if size > maximum_octets:
        raise wrong(f"a Pre-Command has at most {maximum_octets} octets", "too-long")
    if size < _OPENING_OCTETS:
        raise _not_a_pre_command(message)
    opening, counter, first, originator, second, target, date_time, other = _OPENING.unpack_from(message)
    if opening != _COMMAND_OPENING or first != 8 or second != 8 or date_time:
        raise _not_a_pre_command(message)
    at = _OPENING_OCTETS
    if other >= 0x80:
        other, at = length(message, at - 1, size)
    middle = at + other
    if other < 2 or middle >= size:
        raise wrong("OtherInfo must hold a message code and lie inside the message", "other-info")
    count = message[middle]
    if count < 0x80:
        start = middle + 1
    else:
        count, start = length(message, middle, size)
    end = start + count
    if end != size and not (end + 1 == size and message[end] == 0):
        raise _wrong_end(message, end, size)
    return Frame(counter, originator, target, message[at:middle], start, end)


def length(buffer: bytes, at: int, end: int) -> tuple[int, int]:
    """Read a minimal length at `at`; return it and where it ends. Everything before `end`, or Malformed."""
    if at >= end:
        raise wrong("the message ends where a length should stand", "truncated")
    first = buffer[at]
    if first < 0x80:
        return first, at + 1
    after = at + 1 + (first & 0x7F)
    if first not in (0x81, 0x82) or after > end:
        raise wrong("a length is one octet below 80, 81 LL, or 82 LLLL", "length-form")
    value = int.from_bytes(buffer[at + 1 : after])
    if value < (0x80 if first == 0x81 else 0x100):
        raise wrong("a length must be in its shortest form", "length-form")
    return value, after


def emit_length(value: int) -> bytes:
    """Write a length of 0 to 65,535 in its shortest form."""
    if value < 0x80:
        return bytes((value,))
    if value < 0x100:
        return bytes((0x81, value))
    if value <= _LONGEST:
        return b"\x82" + value.to_bytes(2)
    raise wrong(f"a field has at most {_LONGEST} octets", "too-long")


def build(
    *, code: int, originator: bytes, target: bytes, counter: int, payload: bytes, supplementary: bytes = b""
) -> bytes:
    """Write a Pre-Command with a null signature: the inverse of `read`.

    Args:
        code: message code, 0 to 0xFFFF.
        originator: EUI-64 of the sender, 8 octets.
        target: EUI-64 of the Device, 8 octets.
        counter: 0 to 2**64 - 1.
        payload: at most 65,535 octets.
        supplementary: what follows the code in OtherInfo: nothing, or party ID (8) and its counter (8).

    Raises:
        Malformed: a field is too long or too large.

    """
    if (
        len(originator) != 8
        or len(target) != 8
        or not 0 <= counter <= HIGHEST_COUNTER
        or not 0 <= code <= _LONGEST
    ):
        raise wrong(
            "originator and target have eight octets, the counter 64 bits, the message code 16", "field-size"
        )
    other_info = code.to_bytes(2) + supplementary
    return b"".join(
        (
            _OPENING.pack(_COMMAND_OPENING, counter, 8, originator, 8, target, 0, 0)[:-1],
            emit_length(len(other_info)),
            other_info,
            emit_length(len(payload)),
            payload,
            b"\x00",
        )
    )


def _not_a_pre_command(message: bytes) -> Malformed:
    """Say which of the fixed octets is wrong."""
    if message[:1] == bytes((GENERAL_CIPHERING,)):
        return wrong("this message carries a MAC already; send the Pre-Command alone", "mac-wrapped")
    if message[:2] != _COMMAND_OPENING[:2]:
        return wrong("a Pre-Command begins with a general-signing tag and a nine-octet transaction id", "tag")
    if len(message) < _OPENING_OCTETS:
        return wrong("the message ends inside its header", "truncated")
    if message[2] != COMMAND:
        return wrong(
            "only a Command (CRA 01) may be signed; responses and alerts are signed by Devices", "cra"
        )
    if message[29]:
        return wrong("a Pre-Command has no date-time", "date-time")
    return wrong("originator and target are EUI-64s of eight octets", "header")


def _wrong_end(message: bytes, end: int, size: int) -> Malformed:
    if end > size:
        return wrong("the message ends inside its payload", "truncated")
    if message[end] == SIGNATURE_OCTETS and size == end + 1 + SIGNATURE_OCTETS:
        return wrong("this Pre-Command is signed already", "already-signed")
    return wrong("nothing but an empty signature may follow the payload", "trailing-bytes")
