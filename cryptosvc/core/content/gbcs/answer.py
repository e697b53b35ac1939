"""Any General-Signing APDU as it travels: Commands with their signature field, and what Devices send back.

    DF 09 CRA(1) counter(8) 08 originator(8) 08 target(8)
    00 | 0C date-time(12)            empty in Commands; a Device may say when
    length OtherInfo                 message code (2); a Response may add, eight octets each: the party it is for, that
                                     party's counter, and the originator's own counter for what is encrypted
    length payload
    00 | 40 r‖s(64)                  no signature, or the signature

The payload is delimited here; `precommand` reads that of a Command, `attributes` what is encrypted in a Response.

Example:
    >>> apdu = read(bytes.fromhex("df0902...00"), "gbcs_message")
    >>> apdu.cra, apdu.signature
    (<Purpose.RESPONSE: 2>, b'')

Source: GBCS 0.8.1 13.3.3.1, checked against every message of the Reference Test Data Set 4.5.0.
"""

from dataclasses import dataclass

from cryptosvc.core.content.gbcs import framing
from cryptosvc.core.content.gbcs.agreement import Agreement, Purpose
from cryptosvc.core.content.gbcs.codes import CODE_ONLY, WITH_SUPPLEMENTARY_PARTY
from cryptosvc.core.errors import Malformed

WITH_PARTY = 10
"""Octets of OtherInfo: message code and the party it is for."""
WITH_SUPPLEMENTARY_ORIGINATOR_COUNTER = 26
"""Octets of OtherInfo: message code, party, its counter, and the originator's own counter."""

_DATE_TIME_OCTETS = 12
_COUNTER_END = framing.COUNTER_END
_DATE_TIME_AT = 29


@dataclass(frozen=True, slots=True, kw_only=True)
class Apdu:
    """A General-Signing APDU, its payload delimited.

    Args:
        cra: Command, Response or Alert.
        counter: originator counter.
        originator, target: EUI-64s, 8 octets each.
        other_info: OtherInfo, at least 2 octets.
        payload: as it stands.
        unsigned: the APDU from its DF tag to the end of the payload; without that tag, what a signature is over.
        signature: r‖s, 64 octets; empty where there is none.

    """

    cra: Purpose
    counter: int
    originator: bytes
    target: bytes
    other_info: bytes
    payload: bytes
    unsigned: bytes
    signature: bytes

    @property
    def code(self) -> int:
        """Message code, 0 to 0xFFFF."""
        return int.from_bytes(self.other_info[:2])

    @property
    def agreement(self) -> Agreement:
        """What the key of its MAC is agreed over."""
        return Agreement(self.originator, self.cra, self.counter, self.target)


def read(message: bytes, field: str) -> Apdu:
    """Read one APDU that fills `message`.

    Raises:
        Malformed: anything else; `field` is named as the one at fault.

    """
    try:
        return _read(message)
    except Malformed as error:
        error.field = field
        raise


def _read(message: bytes) -> Apdu:
    size = len(message)
    if size <= _DATE_TIME_AT:
        raise framing.wrong("the message ends inside its header", "truncated")
    cra = message[2]
    if message[0] != framing.GENERAL_SIGNING or message[1] != 0x09:
        raise framing.wrong(
            "a message begins with a general-signing tag and a nine-octet transaction id", "tag"
        )
    if not Purpose.COMMAND <= cra <= Purpose.ALERT:
        raise framing.wrong("a message is a Command, a Response or an Alert (CRA 01 to 03)", "cra")
    if message[_COUNTER_END] != 8 or message[_COUNTER_END + 9] != 8:
        raise framing.wrong("originator and target are EUI-64s of eight octets", "header")
    at = _date_time(message, Purpose(cra))
    other_info, at = _field(message, at)
    _check_other_info(other_info, Purpose(cra))
    payload, end = _field(message, at)
    return Apdu(
        cra=Purpose(cra),
        counter=int.from_bytes(message[framing.COUNTER_AT : _COUNTER_END]),
        originator=message[_COUNTER_END + 1 : _COUNTER_END + 9],
        target=message[_COUNTER_END + 10 : _DATE_TIME_AT],
        other_info=other_info,
        payload=payload,
        unsigned=message[:end],
        signature=_signature(message, end),
    )


def _date_time(message: bytes, cra: Purpose) -> int:
    """Step over the date-time; return where OtherInfo begins."""
    octets = message[_DATE_TIME_AT]
    if octets and (octets != _DATE_TIME_OCTETS or cra is Purpose.COMMAND):
        raise framing.wrong("a date-time is empty, or in a Response or Alert twelve octets", "date-time")
    return _DATE_TIME_AT + 1 + octets


def _field(message: bytes, at: int) -> tuple[bytes, int]:
    octets, at = framing.length(message, at, len(message))
    if at + octets > len(message):
        raise framing.wrong("the message ends inside a field", "truncated")
    return message[at : at + octets], at + octets


def _check_other_info(other_info: bytes, cra: Purpose) -> None:
    """A Command's OtherInfo is `precommand`'s to read; what a Device sends has one of four lengths."""
    octets = len(other_info)
    allowed = (CODE_ONLY, WITH_PARTY, WITH_SUPPLEMENTARY_PARTY, WITH_SUPPLEMENTARY_ORIGINATOR_COUNTER)
    if octets < CODE_ONLY or (cra is not Purpose.COMMAND and octets not in allowed):
        raise framing.wrong(
            "OtherInfo is a message code, and in what a Device sends up to three fields of eight octets",
            "other-info",
        )


def _signature(message: bytes, end: int) -> bytes:
    """What follows the payload: one octet 00, or 40 and 64 octets."""
    rest = message[end:]
    if rest == b"\x00":
        return b""
    if len(rest) == 1 + framing.SIGNATURE_OCTETS and rest[0] == framing.SIGNATURE_OCTETS:
        return rest[1:]
    raise framing.wrong(
        "after the payload stands 00 for no signature, or 40 and the 64 octets of one, and nothing else",
        "signature-field",
    )
