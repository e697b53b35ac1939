"""Protected APDUs of suite 0: the octets around a security control, an invocation counter and what follows.

    CB length SC IC(4) …                  service-specific: glo-action-request and so on
    DB 08 title(8) length SC IC(4) …      general-glo-ciphering, for what has no service-specific form
    D3 …, DC …                            the same under the dedicated key of an association: ded-action-request and so on
    21 length SC IC(4) …                  glo-initiate-request, in which a dedicated key goes to the Device

SC 10 is authenticated, 20 encrypted, 30 both; the low four bits are the suite, 0. A tag has 12 octets and stands last.

Example:
    >>> wrap(0xC0, b"TITLE..8", b"\\x30....").hex()
    'c805302e2e2e2e'

Source: DLMS UA 1000-2 (Green Book) Ed. 8, 9.2.3.6, 9.5, Table 44; IEC 62056-5-3.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from cryptosvc.core.content.dlms import apdu
from cryptosvc.core.content.dlms.apdu import wrong
from cryptosvc.core.content.gbcs import framing as lengths
from cryptosvc.core.errors import Malformed

AUTHENTICATED, ENCRYPTED, BOTH = 0x10, 0x20, 0x30
TITLE_OCTETS = 8
COUNTER_OCTETS = 4
TAG_OCTETS = 12
HEADER_OCTETS = 1 + COUNTER_OCTETS
FIELD = "dlms_protected"

_GENERAL_GLO, _GENERAL_DED = 0xDB, 0xDC
_GLO_INITIATE_REQUEST = 0x21
_GLO: Mapping[int, int] = {apdu.GET: 0xC8, apdu.SET: 0xC9, apdu.ACTION: 0xCB}
"""Request → the same under a global key. An access-request has none of its own."""
_DED: Mapping[int, int] = {apdu.GET: 0xD0, apdu.SET: 0xD1, apdu.ACTION: 0xD3}
"""Request → the same under a dedicated key."""
_FROM_DEVICES: Mapping[int, str] = {
    0x28: "glo-initiate-response",
    0xCA: "glo-event-notification-request",
    0xCC: "glo-get-response",
    0xCD: "glo-set-response",
    0xCF: "glo-action-response",
    _GENERAL_GLO: "general-glo-ciphering",
    0xD2: "ded-event-notification-request",
    0xD4: "ded-get-response",
    0xD5: "ded-set-response",
    0xD7: "ded-action-response",
    _GENERAL_DED: "general-ded-ciphering",
}
_DEDICATED = frozenset({0xD2, 0xD4, 0xD5, 0xD7, _GENERAL_DED})


@dataclass(frozen=True, slots=True)
class Protected:
    """What a Device sent, taken apart.

    Args:
        name: of its APDU.
        dedicated: under the dedicated key of an association; else under the global one.
        security: security control, one of `AUTHENTICATED`, `ENCRYPTED`, `BOTH`.
        counter: invocation counter, 4 octets.
        text: what is protected: ciphertext, or plaintext where it is only authenticated.
        tag: 12 octets; empty where it is only encrypted.

    """

    name: str
    dedicated: bool
    security: int
    counter: bytes
    text: bytes
    tag: bytes


def wrap(plain_tag: int, system_title: bytes, protected: bytes, *, dedicated: bool = False) -> bytes:
    """Put what is protected (security control first) into the APDU that the Device expects for such a request."""
    if (tag := (_DED if dedicated else _GLO).get(plain_tag)) is not None:
        return bytes((tag,)) + lengths.emit_length(len(protected)) + protected
    title = bytes((_GENERAL_DED if dedicated else _GENERAL_GLO, TITLE_OCTETS)) + system_title
    return title + lengths.emit_length(len(protected)) + protected


def wrap_initiate(protected: bytes) -> bytes:
    """Put a protected InitiateRequest into its APDU."""
    return bytes((_GLO_INITIATE_REQUEST,)) + lengths.emit_length(len(protected)) + protected


def read(octets: bytes, system_title: bytes) -> Protected:
    """Take apart what a Device sent, to the last octet.

    Args:
        octets: the whole APDU.
        system_title: of the Device, 8 octets; a general ciphering must name the same.

    Raises:
        Malformed: it is not such an APDU completely, is of another suite, or names another system title.

    """
    name = _FROM_DEVICES.get(octets[0] if octets else 0)
    if name is None:
        raise wrong(
            "what a Device sends is a glo-… or ded-…-response, a notification, general-glo-ciphering or general-ded-ciphering",
            "not-an-answer",
            FIELD,
        )
    at = 1
    if octets[0] in (_GENERAL_GLO, _GENERAL_DED):
        if octets[1:2] != bytes((TITLE_OCTETS,)) or octets[2 : 2 + TITLE_OCTETS] != system_title:
            raise wrong("the message names another system title than the one stated", "system-title", FIELD)
        at = 2 + TITLE_OCTETS
    try:
        size, at = lengths.length(octets, at, len(octets))
    except Malformed:
        raise wrong("the length of what is protected cannot be read", "length", FIELD) from None
    if size != len(octets) - at:
        raise wrong("the message is shorter or longer than it says", "length", FIELD)
    security = octets[at] if at < len(octets) else -1
    if security not in (AUTHENTICATED, ENCRYPTED, BOTH):
        raise wrong("the security control is not one of suite 0 under a unicast key", "security", FIELD)
    body = octets[at + HEADER_OCTETS :]
    tag_octets = 0 if security == ENCRYPTED else TAG_OCTETS
    if size < HEADER_OCTETS + tag_octets + 1:
        raise wrong("there is nothing between the counter and the tag", "truncated", FIELD)
    end = len(body) - tag_octets
    counter = octets[at + 1 : at + HEADER_OCTETS]
    return Protected(name, octets[0] in _DEDICATED, security, counter, body[:end], body[end:])
