"""The General-Ciphering APDU around a message that carries a MAC, and what the MAC is over.

    DD 00 00 00 00 00 00    tag; transaction id, system titles, date-time, other-information empty; no key information
    length                  of what follows, in its shortest form
    11 00 00 00 00          security control: authenticated, not encrypted; invocation counter 0
    inner                   the whole General-Signing APDU, DF to its signature (40, r‖s) or to the 00 of none
    MAC(12)                 GMAC over: 11 00 00 00 00 00 inner

Example:
    >>> wrapped = wrap(b"\\xdf...", bytes(12))
    >>> unwrap(wrapped, 65_535, "gbcs_command") == (b"\\xdf...", bytes(12))
    True

Source: GBCS 0.8.1 6.4.5; the five octets of zeros are in no formula of it and in every MAC of the Reference Test Data
Set 4.5.0.
"""

import hmac

from cryptosvc.core.content.gbcs import framing
from cryptosvc.core.content.gbcs.agreement import TAG_OCTETS
from cryptosvc.core.errors import Forbidden, Internal, Malformed

_OPENING = bytes((framing.GENERAL_CIPHERING, 0, 0, 0, 0, 0, 0))
_SECURITY = bytes.fromhex("1100000000")
_ADDITIONAL = bytes.fromhex("110000000000")
_SHORTEST_INNER = 34
"""29 octets of header, three lengths, a message code."""


def additional(inner: bytes) -> bytes:
    """Build the additional authenticated data of GCM: all that the MAC is over."""
    return _ADDITIONAL + inner


def wrap(inner: bytes, mac: bytes) -> bytes:
    """Write the finished message.

    Raises:
        Internal: the MAC has not 12 octets.
        Malformed: the message is too long for its length field.

    """
    if len(mac) != TAG_OCTETS:
        raise Internal("a GBCS MAC has 12 octets", rule="gbcs/mac-length")
    ciphered = len(_SECURITY) + len(inner) + TAG_OCTETS
    return b"".join((_OPENING, framing.emit_length(ciphered), _SECURITY, inner, mac))


def unwrap(message: bytes, maximum_octets: int, field: str) -> tuple[bytes, bytes]:
    """Split a message that carries a MAC into the APDU inside and the MAC; the APDU is delimited, not read.

    Raises:
        Malformed: anything but the fixed header, one exact length, one APDU and twelve octets.

    """
    try:
        return _unwrap(message, maximum_octets)
    except Malformed as error:
        error.field = field
        raise


def require_equal(expected: bytes, claimed: bytes) -> None:
    """Compare two MACs in time that does not depend on where they differ.

    Raises:
        Forbidden: they differ; nothing is said but that.

    """
    if not hmac.compare_digest(expected, claimed):
        raise Forbidden("not verified", rule="gbcs/mac-not-verified", clause="G2.44(b)")


def _unwrap(message: bytes, maximum_octets: int) -> tuple[bytes, bytes]:
    size = len(message)
    if size > maximum_octets:
        raise framing.wrong(f"a message has at most {maximum_octets} octets", "too-long")
    if message[:1] == bytes((framing.GENERAL_SIGNING,)):
        raise framing.wrong("this message carries no MAC", "no-mac")
    if not message.startswith(_OPENING):
        raise framing.wrong(
            "a message with a MAC begins with a general-ciphering tag and six empty fields", "mac-header"
        )
    length, at = framing.length(message, len(_OPENING), size)
    if at + length != size:
        raise framing.wrong("the length of the ciphered service is not that of the message", "mac-length")
    if not message.startswith(_SECURITY, at):
        raise framing.wrong(
            "security control is authentication without encryption, invocation counter 0", "security-control"
        )
    start, end = at + len(_SECURITY), size - TAG_OCTETS
    if end - start < _SHORTEST_INNER or message[start] != framing.GENERAL_SIGNING:
        raise framing.wrong("what the MAC is over begins with a general-signing tag", "tag")
    return message[start:end], message[end:]
