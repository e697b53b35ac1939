"""Encrypted attributes of a Response: where they are, and what decrypts them.

An attribute is encrypted for the party that is to read it (the Supplementary Remote Party where there is one, else the
target), under a key of its own: agreed as a MAC key is, with purpose 04 in place of the CRA, and the Supplementary
Originator Counter where the Response has one.

    DLMS   a datum of the Response: structure of protection parameters, which repeat counter, originator and target of
           the message's header (also where a supplementary party reads it) and are held to them octet for octet, and
           octet-string: 31 00000000 ciphertext tag(12)
    GBZ    a component with 02 in its control: two octets of additional header, ZCL header(3), length(2),
           31 00000000 ciphertext tag(12)

AES-128-GCM: vector as of the agreement, additional data the one octet 31 (authenticated and encrypted), tag of twelve.

Example:
    >>> agreement = agreement_of(apdu)
    >>> [(part.ciphertext, part.tag) for part in read(apdu, Payload.DLMS)]

Source: GBCS 0.8.1 8; SmartDCCInnovation/gbcs-parser (src/crypto.ts, dlms.ts, zigbee.ts); every encrypted attribute of the
Reference Test Data Set 4.5.0.
"""

from dataclasses import dataclass

from cryptosvc.core.content.gbcs import dlms, framing
from cryptosvc.core.content.gbcs.agreement import TAG_OCTETS, Agreement, Purpose
from cryptosvc.core.content.gbcs.answer import WITH_SUPPLEMENTARY_ORIGINATOR_COUNTER, Apdu
from cryptosvc.core.content.gbcs.codes import CODE_ONLY, Payload
from cryptosvc.core.errors import Malformed

ADDITIONAL = b"\x31"
"""Additional authenticated data of every encrypted attribute."""

_FIELD = "gbcs_message"
_SECURITY = bytes.fromhex("3100000000")
_ACCESS_RESPONSE = b"\xda\x20"
_PROTECTED = bytes.fromhex("020201010202160202050909")
"""Structure of two: an array of one set of protection parameters, which begin with a transaction id; then the data."""
_COMPACT_ARRAY = 0x13
_KEY_INFORMATION = bytes.fromhex("0900020216020202090102090009")
"""No other information, an agreed key of scheme 02 without parameters, and the tag of the octet-string that follows."""
_GBZ_PROFILES = (b"\x01\x09",)
_GBZ_HEADER_OCTETS = 5
_GBZ_BEFORE_LENGTH = 5  # additional header control and frame counter, ZCL header
_GBZ_ENCRYPTED = 0x02
_GBZ_CONTROLS = frozenset((0x00, 0x01, 0x02, 0x03, 0x10, 0x11))


@dataclass(frozen=True, slots=True)
class Encrypted:
    """One encrypted attribute.

    Args:
        ciphertext: at least one octet; the plaintext has as many.
        tag: 12 octets.

    """

    ciphertext: bytes
    tag: bytes


def agreement_of(apdu: Apdu) -> Agreement:
    """Say what key and vector of a Response's encrypted attributes are made from."""
    own_counter = len(apdu.other_info) == WITH_SUPPLEMENTARY_ORIGINATOR_COUNTER
    return Agreement(
        initiator=apdu.originator,
        purpose=Purpose.ENCRYPTED_ATTRIBUTE,
        number=int.from_bytes(apdu.other_info[18:26]) if own_counter else apdu.counter,
        recipient=apdu.other_info[2:10] if len(apdu.other_info) > CODE_ONLY else apdu.target,
    )


def read(apdu: Apdu, payload: Payload) -> tuple[Encrypted, ...]:
    """Read a Response's payload to its last octet; return what is encrypted in it, in order.

    Args:
        apdu: the Response.
        payload: the encoding that its message code has; what is ASN.1 has nothing encrypted.

    Raises:
        Malformed: it is no Response, or its payload is not completely of that encoding, or an attribute is encrypted
            under another agreement than the message's.

    """
    try:
        if apdu.cra is not Purpose.RESPONSE:
            raise framing.wrong("encrypted attributes are in Responses only", "cra")
        match payload:
            case Payload.DLMS:
                return _of_dlms(apdu)
            case Payload.GBZ:
                return _of_gbz(apdu.payload)
            case Payload.ASN1:
                return ()
    except Malformed as error:
        error.field = _FIELD
        raise


def _of_dlms(apdu: Apdu) -> tuple[Encrypted, ...]:
    buffer, end = apdu.payload, len(apdu.payload)
    if buffer[:2] != _ACCESS_RESPONSE or buffer[2:5] != apdu.counter.to_bytes(8)[5:]:
        raise framing.wrong(
            "a DLMS Response is an access-response whose invoke-id ends in the counter's low octets",
            "invoke-id",
        )
    if buffer[5:7] != b"\x00\x00":
        raise framing.wrong("an access-response has neither date-time nor specifications", "payload-kind")
    count, at = framing.length(buffer, 7, end)
    header = _parameters(apdu)
    found: list[Encrypted] = []
    for _ in range(count):
        after = _datum(buffer, at, end)
        if buffer.startswith(_PROTECTED, at):
            found.append(_protected(buffer, at, after, header))
        at = after
    again, at = framing.length(buffer, at, end)
    if again != count or at + 2 * again != end:
        raise framing.wrong("an access-response has a result of two octets for each datum", "dlms-count")
    return tuple(found)


def _parameters(apdu: Apdu) -> bytes:
    """Write the protection parameters of a message, to the length of what is protected."""
    return b"".join(
        (
            _PROTECTED,
            bytes((Purpose.ENCRYPTED_ATTRIBUTE,)),
            apdu.counter.to_bytes(8),
            b"\x09\x08",
            apdu.originator,
            b"\x09\x08",
            apdu.target,
            _KEY_INFORMATION,
        )
    )


def _datum(buffer: bytes, at: int, end: int) -> int:
    """Walk one datum; return where it ends. Unlike a Command's, it may be a compact array."""
    if at >= end or buffer[at] != _COMPACT_ARRAY:
        return dlms.step_over(buffer, at, end)
    octets, start = framing.length(buffer, _type_description(buffer, at + 1, end, 0), end)
    if start + octets > end:
        raise framing.wrong("the access-response ends inside a datum", "truncated")
    return start + octets


def _type_description(buffer: bytes, at: int, end: int, depth: int) -> int:
    """Walk what a compact array says its elements are; return where it ends."""
    if at >= end or depth > dlms.DEEPEST:
        raise framing.wrong("the access-response ends inside a compact array", "truncated")
    tag, at = buffer[at], at + 1
    if tag == dlms.ARRAY:
        return _type_description(buffer, at + 2, end, depth + 1)
    if tag == dlms.STRUCTURE:
        count, at = framing.length(buffer, at, end)
        for _ in range(count):
            at = _type_description(buffer, at, end, depth + 1)
    return at


def _protected(buffer: bytes, at: int, end: int, header: bytes) -> Encrypted:
    if not buffer.startswith(header, at):
        raise framing.wrong(
            "the protection parameters of an encrypted attribute are not those of its message",
            "protection-parameters",
        )
    octets, start = framing.length(buffer, at + len(header), end)
    return _encrypted(buffer[start : start + octets])


def _of_gbz(buffer: bytes) -> tuple[Encrypted, ...]:
    end, at = len(buffer), 3
    if end < at or buffer[:2] not in _GBZ_PROFILES:
        raise framing.wrong("a GBZ Response begins with the Smart Energy profile and a count", "payload-kind")
    found: list[Encrypted] = []
    for index in range(buffer[2]):
        body = at + _GBZ_HEADER_OCTETS
        if body > end:
            raise framing.wrong("the payload ends inside a GBZ component", "truncated")
        control, after = buffer[at], body + int.from_bytes(buffer[at + 3 : body])
        if control not in _GBZ_CONTROLS or control & 0x01 != (index == buffer[2] - 1) or after > end:
            raise framing.wrong("exactly the last GBZ component says so, and each lies inside", "gbz-control")
        if control & _GBZ_ENCRYPTED:
            found.append(_component(buffer[body:after]))
        at = after
    if not buffer[2] or at != end:
        raise framing.wrong(
            "a GBZ payload has at least one component and nothing after the last", "gbz-trailing"
        )
    return tuple(found)


def _component(body: bytes) -> Encrypted:
    start = _GBZ_BEFORE_LENGTH + 2
    octets = int.from_bytes(body[_GBZ_BEFORE_LENGTH:start])
    if start + octets != len(body):
        raise framing.wrong("an encrypted GBZ component has another length than it says", "gbz-encrypted")
    return _encrypted(body[start:])


def _encrypted(octets: bytes) -> Encrypted:
    if not octets.startswith(_SECURITY) or len(octets) <= len(_SECURITY) + TAG_OCTETS:
        raise framing.wrong(
            "what is encrypted begins with security control 31 and invocation counter 0, and ends in its tag",
            "security-control",
        )
    return Encrypted(octets[len(_SECURITY) : -TAG_OCTETS], octets[-TAG_OCTETS:])
