"""Prepayment top-up tokens: what a Unique Transaction Reference Number is made of, and its authentication.

    PTUT, 64 bits   7 zeros | counter >> 32, its low 10 bits | value class(2) | value(13) | authentication(32)
    UTRN            7394156990786306048 + PTUT, nineteen digits, and a Verhoeff check digit

The authentication is the last four octets of GMAC's sixteen, under the key agreed between the supplier's prepayment key
and the Device, over: 11 0000000000 originator target 01 counter and the upper 32 bits of the PTUT. The low 32 bits of a
top-up counter are zero.

Example:
    >>> token = Token(bytes(8), bytes(8), 1 << 32, ValueClass.POUNDS, 20)
    >>> utrn(token, bytes(4))
    '73943329985460961288'

Source: GBCS 14 (prepayment top-up; check digit: tables 14.8a to 14.8c), checked against the top-ups of the Reference
Test Data Set 4.5.0.
"""

from dataclasses import dataclass
from enum import IntEnum

from cryptosvc.core.content.gbcs.agreement import Agreement, Purpose
from cryptosvc.core.errors import Malformed

AUTHENTICATION_OCTETS = 4
HIGHEST_VALUE = 2**13 - 1

_FIELD = "prepayment_token"
_BASE = 7_394_156_990_786_306_048
_OPENING = bytes.fromhex("110000000000")
_HIGHEST_COUNTER = 2**64 - 1
_COUNTER_BITS = 0x3FF
_ADDITIONAL_OCTETS = 35
_DIGITS = 20


class ValueClass(IntEnum):
    """In what the value is counted."""

    PENCE = 0
    POUNDS = 1


@dataclass(frozen=True, slots=True)
class Token:
    """A top-up to be authenticated.

    Args:
        originator: EUI-64 of the supplier, 8 octets.
        target: EUI-64 of the meter, 8 octets.
        counter: originator counter; its low 32 bits are zero.
        value_class: pence or pounds.
        value: 0 to 8191.

    Raises:
        Malformed: a part is out of its range.

    """

    originator: bytes
    target: bytes
    counter: int
    value_class: ValueClass
    value: int

    def __post_init__(self) -> None:
        if not 0 <= self.counter <= _HIGHEST_COUNTER or self.counter & 0xFFFF_FFFF:
            raise Malformed(
                "a top-up counter has 64 bits, the low 32 of them zero", rule="utrn/counter", field=_FIELD
            )
        if not 0 <= self.value <= HIGHEST_VALUE:
            raise Malformed("the value of a top-up is 0 to 8191", rule="utrn/value", field=_FIELD)
        if len(self.originator) != 8 or len(self.target) != 8:
            raise Malformed("originator and target have eight octets", rule="utrn/party", field=_FIELD)

    @property
    def agreement(self) -> Agreement:
        """What key and initialisation vector are made from: as for a Command."""
        return Agreement(self.originator, Purpose.COMMAND, self.counter, self.target)

    @property
    def upper(self) -> int:
        """Upper 32 bits of the PTUT."""
        return (self.counter >> 32 & _COUNTER_BITS) << 15 | self.value_class << 13 | self.value

    @property
    def additional(self) -> bytes:
        """Additional authenticated data of GCM."""
        return b"".join(
            (
                _OPENING,
                self.originator,
                self.target,
                bytes((Purpose.COMMAND,)),
                self.counter.to_bytes(8),
                self.upper.to_bytes(4),
            )
        )


def read_additional(octets: bytes) -> Token:
    """Read back what `Token.additional` writes, 35 octets.

    Raises:
        Malformed: it is not that: another length or opening, a counter or value class there is none of, an upper half
            that is not of the counter.

    """
    if len(octets) != _ADDITIONAL_OCTETS or not octets.startswith(_OPENING):
        raise Malformed(
            "what is authenticated of a token has 35 octets and begins with 11 and five zeros",
            rule="utrn/form",
            field=_FIELD,
        )
    upper = int.from_bytes(octets[31:])
    value_class = upper >> 13 & 0x3
    if value_class not in (ValueClass.PENCE, ValueClass.POUNDS):
        raise Malformed("the value of a top-up is in pence or pounds", rule="utrn/value", field=_FIELD)
    token = Token(
        originator=octets[6:14],
        target=octets[14:22],
        counter=int.from_bytes(octets[23:31]),
        value_class=ValueClass(value_class),
        value=upper & HIGHEST_VALUE,
    )
    if token.additional != octets:
        raise Malformed(
            "the upper half of the PTUT has another counter than the token, or it is no Command's",
            rule="utrn/form",
            field=_FIELD,
        )
    return token


def utrn(token: Token, authentication: bytes) -> str:
    """Write the UTRN, twenty digits, of a token and the last 4 octets of its 16-octet tag; Malformed for another length."""
    if len(authentication) != AUTHENTICATION_OCTETS:
        raise Malformed(
            "a UTRN carries the last four octets of the tag", rule="utrn/authentication", field=_FIELD
        )
    digits = str(_BASE + (token.upper << 32 | int.from_bytes(authentication)))
    return digits + str(check_digit(digits))


def authentication_of(token: Token, digits: str) -> bytes:
    """Read the authentication (4 octets) out of a UTRN that says what `token` says.

    Raises:
        Malformed: not twenty digits, a wrong check digit, or another top-up than the token.

    """
    if len(digits) != _DIGITS or not (digits.isascii() and digits.isdigit()):
        raise Malformed("a UTRN has twenty digits", rule="utrn/digits", field=_FIELD)
    if str(check_digit(digits[:-1])) != digits[-1]:
        raise Malformed(
            "the check digit of the UTRN is not that of its digits", rule="utrn/check-digit", field=_FIELD
        )
    ptut = int(digits[:-1]) - _BASE
    if ptut < 0 or ptut >> 32 != token.upper:
        raise Malformed("the UTRN is not of this counter and value", rule="utrn/other-token", field=_FIELD)
    return (ptut & 0xFFFF_FFFF).to_bytes(AUTHENTICATION_OCTETS)


def check_digit(digits: str) -> int:
    """Compute the check digit of a string of decimal digits.

    A Verhoeff scheme of GBCS's own: from the first digit on, the n-th (from 0) is permuted n + 4 times and multiplied in
    D5, and the product is replaced by a table that is not the inverse. Software for the well-known scheme gives others.
    """
    product = 0
    for place, digit in enumerate(digits):
        product = _multiply(product, _permuted(int(digit), place + 4))
    return _FINAL[product]


def _multiply(left: int, right: int) -> int:
    """Multiply in the dihedral group of the pentagon: 0 to 4 are rotations, 5 to 9 reflections."""
    if left < 5:
        return (left + right) % 5 if right < 5 else 5 + (left + right) % 5
    return 5 + (left - right) % 5 if right < 5 else (left - right) % 5


def _permuted(digit: int, times: int) -> int:
    for _ in range(times % 8):
        digit = _PERMUTATION[digit]
    return digit


_PERMUTATION = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)
_FINAL = (1, 2, 6, 7, 5, 8, 3, 0, 9, 4)
