"""Commands and their MACs: what is authenticated, the finished Command, and any message with a MAC read back.

A Command goes in as it comes from its originator (a Signed Pre-Command for a critical message code, an unsigned one for
the rest), is read as completely as before signing, and comes out with its MAC:

    message code is            signature     MAC    examples
    critical                   must be       yes    0050
    not critical               must not be   yes    0059, 0104
    credentials read           must not be   yes    0008, 011B (signed by the CoS Party they go without a MAC)
    recovery, contingency      -             none   0108, 0109: refused here
    of a PPMID                 -             its    0090, 009B: the Access Control Broker has no part in it

Example:
    >>> command = parse(signed_pre_command, profile)
    >>> command.agreement.other_info, command.agreement.vector, command.additional  # what the module needs
    >>> finished = assemble(command, mac)
    >>> read_back(finished, 65_535).mac == mac
    True

Source: GBCS 0.8.1 6.4.5 and page 163 (which messages carry what); SEC G2.44(b); every message of the Reference Test Data
Set 4.5.0.
"""

import hashlib
from dataclasses import dataclass

from cryptosvc.core.content.base import Once
from cryptosvc.core.content.gbcs import answer, envelope, framing, precommand
from cryptosvc.core.content.gbcs.agreement import Agreement, Purpose
from cryptosvc.core.content.gbcs.answer import Apdu
from cryptosvc.core.content.gbcs.codes import Code
from cryptosvc.core.content.gbcs.precommand import PreCommand
from cryptosvc.core.content.gbcs.profile import GbcsProfile
from cryptosvc.core.errors import Malformed
from cryptosvc.core.values import quickly

COMMAND_FIELD = "gbcs_command"
MESSAGE_FIELD = "gbcs_message"
ONCE_SCOPE = "gbcs-mac"

CREDENTIALS_READ = frozenset({0x0008, 0x011B})
"""Codes that exist twice: unsigned with a MAC, and signed by the CoS Party without one."""
NO_MAC = frozenset({0x0108, 0x0109})
"""Recovery and contingency: their signature is all the authentication there is."""
FROM_PPMID = frozenset({0x0090, 0x009B})
"""Sent by a PPMID on the home area network, which makes the MAC itself."""

_COMMAND_OPENING = bytes((framing.GENERAL_SIGNING, 0x09, framing.COMMAND))


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A Command that may be given its MAC.

    Args:
        pre_command: as read: message code, parties, counter, Service Reference Variants.
        signature: r‖s, 64 octets, over `pre_command.signed_bytes`; empty for a code that is not critical. Not verified.
        inner: the General-Signing APDU that the MAC is over, to its signature or the 00 of none.
        agreement: what key and initialisation vector are made from.
        promise: under this tuple only ever these bytes.

    """

    pre_command: PreCommand
    signature: bytes
    inner: bytes
    agreement: Agreement
    promise: Once

    @property
    def additional(self) -> bytes:
        """Additional authenticated data of GCM."""
        return envelope.additional(self.inner)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authenticated:
    """A message with a MAC, read and not yet verified.

    Args:
        apdu: what is inside, its payload delimited.
        inner: the same as octets.
        mac: as claimed, 12 octets.

    """

    apdu: Apdu
    inner: bytes
    mac: bytes

    @property
    def agreement(self) -> Agreement:
        """What key and initialisation vector are made from."""
        return self.apdu.agreement

    @property
    def additional(self) -> bytes:
        """Additional authenticated data of GCM."""
        return envelope.additional(self.inner)


# Made for every Command of a batch: see `quickly`.
_command, _agreement, _once = quickly(Command), quickly(Agreement), quickly(Once)


def parse(message: bytes, profile: GbcsProfile) -> Command:
    """Read a Command that has no MAC yet: a Signed Pre-Command, or an unsigned Command with or without its last 00.

    Args:
        message: from its DF tag; at most `profile.maximum_octets`.
        profile: who is an Access Control Broker.

    Raises:
        Malformed: it is not one completely; its message code goes with another form, or without a MAC; it has one.

    """
    try:
        return _parse(message, profile)
    except Malformed as error:
        error.field = COMMAND_FIELD
        raise


def assemble(command: Command, mac: bytes) -> bytes:
    """Write the finished Command: the wrapper around what was read, and the MAC (12 octets) at its end."""
    return envelope.wrap(command.inner, mac)


def read_back(message: bytes, maximum_octets: int) -> Authenticated:
    """Read a finished Command, or a Response or Alert with a MAC. The MAC is not verified here.

    A signed Response or Alert has no MAC, so a signature inside is refused unless it is a Command's.

    Raises:
        Malformed: it is not one completely.

    """
    inner, mac = envelope.unwrap(message, maximum_octets, MESSAGE_FIELD)
    apdu = answer.read(inner, MESSAGE_FIELD)
    if apdu.signature and apdu.cra is not Purpose.COMMAND:
        raise Malformed(
            "a Response or Alert is signed or carries a MAC, never both",
            rule="gbcs/signed-and-mac",
            field=MESSAGE_FIELD,
        )
    return Authenticated(apdu=apdu, inner=inner, mac=mac)


def _parse(message: bytes, profile: GbcsProfile) -> Command:
    if len(message) > profile.maximum_octets:
        raise framing.wrong(f"a Command has at most {profile.maximum_octets} octets", "too-long")
    unsigned, signature = _split(message)
    pre_command = precommand.parse(unsigned, profile)
    _check_form(pre_command.code, signed=bool(signature))
    inner = precommand.signed(pre_command, signature) if signature else precommand.emit(pre_command)
    agreement = _agreement(
        initiator=inner[12:20],
        purpose=Purpose.COMMAND,
        number=pre_command.counter,
        recipient=inner[21:29],
    )
    return _command(
        pre_command=pre_command,
        signature=signature,
        inner=inner,
        agreement=agreement,
        promise=_once(ONCE_SCOPE, agreement.text, hashlib.sha256(inner).digest()),
    )


def _split(message: bytes) -> tuple[bytes, bytes]:
    """Take the signature from behind the payload, whose place the header tells; without one, nothing is taken."""
    if not message.startswith(_COMMAND_OPENING):
        return message, b""  # `precommand` says what is wrong with it
    at = 30  # a Command has no date-time; `precommand` refuses what says otherwise
    for _ in ("OtherInfo", "payload"):
        octets, at = framing.length(message, at, len(message))
        at += octets
    if message[at : at + 1] != bytes((framing.SIGNATURE_OCTETS,)):
        return message, b""
    signature = message[at + 1 :]
    if len(signature) != framing.SIGNATURE_OCTETS:
        raise framing.wrong("a signature has 64 octets, and nothing follows it", "signature-field")
    return message[:at], signature


def _check_form(code: Code, *, signed: bool) -> None:
    """Hold the message code against the signature that is there or not."""
    number = code.number
    if number in FROM_PPMID:
        raise framing.wrong(
            f"{code.use_case} ({code.text}) is sent by a PPMID, which makes the MAC itself", "of-ppmid"
        )
    if number in NO_MAC or (signed and number in CREDENTIALS_READ):
        raise framing.wrong(
            f"{code.use_case} ({code.text}) carries a signature and no MAC; send it as it is", "without-mac"
        )
    critical = bool(code.signers) and number not in CREDENTIALS_READ
    if signed and not critical:
        raise framing.wrong(
            f"{code.use_case} ({code.text}) is not critical and carries no signature", "not-critical"
        )
    if critical and not signed:
        raise framing.wrong(
            f"{code.use_case} ({code.text}) is critical: send the Signed Pre-Command", "signature-missing"
        )
