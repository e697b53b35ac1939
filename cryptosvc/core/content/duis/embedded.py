"""The GBCS Command a document carries, read far enough that it cannot be someone else's.

Bound to the document around it: originator, target and counter to the RequestID, the message code to the Service
Reference Variant. The payload behind the header was judged when the Pre-Command itself was signed, and the signature on
it is a command-signing key's; neither is judged a second time here.

Source: GBCS 6.4.5 and 13.3.3.1; DUIS XML schema 5.4, types SignedPreCommand and PreCommand.
"""

import binascii
from base64 import b64decode, b64encode
from dataclasses import dataclass

from cryptosvc.core.content.duis.message_id import MessageId
from cryptosvc.core.content.gbcs import codes, framing
from cryptosvc.core.errors import Malformed
from cryptosvc.core.names import ContentForm, Eui64

_LONGEST = 65_535
_TAIL = 1 + framing.SIGNATURE_OCTETS


@dataclass(frozen=True, slots=True)
class Embedded:
    """A Command inside a document.

    Args:
        message_id: originator, target and counter of its header.
        code: its message code, with the Service Reference Variants that code belongs to.

    """

    message_id: MessageId
    code: codes.Code


def signed_pre_command(text: str) -> Embedded:
    """Read the base64 text of a GBCSPayload as a Pre-Command with its signature, 0x40 and r‖s, to the last octet."""
    octets = _decoded(text)
    if octets[-_TAIL:][:1] != bytes((framing.SIGNATURE_OCTETS,)):
        raise _refused(
            "is a Pre-Command followed by its signature, length 40 and 64 octets", "duis/gbcs-unsigned"
        )
    return _read(octets[:-_TAIL], null_signature=False)


def pre_command(text: str) -> Embedded:
    """Read the base64 text of a GBCSPayload as a Pre-Command that nobody has signed yet."""
    return _read(_decoded(text), null_signature=True)


def _read(octets: bytes, *, null_signature: bool) -> Embedded:
    try:
        frame = framing.read(octets, _LONGEST)
        code = codes.by_octets(frame.other_info[: codes.CODE_ONLY])
    except Malformed as malformed:
        raise _refused(f"is a Pre-Command ({malformed.message})", malformed.rule) from None
    if frame.end != len(octets) and not null_signature:
        raise _refused("has one signature field", "gbcs/trailing-bytes")
    if len(frame.other_info) != codes.CODE_ONLY:
        raise _refused(
            "has no OtherInfo but its message code: only the Access Control Broker adds to it",
            "gbcs/other-info",
        )
    if not code.signers:
        raise _refused("is a Command of a code that carries a signature", "gbcs/not-signed")
    return Embedded(MessageId(Eui64(frame.originator), Eui64(frame.target), frame.counter), code)


def _decoded(text: str) -> bytes:
    compact = "".join(text.split())
    try:
        octets = b64decode(compact, validate=True)
    except (binascii.Error, ValueError):
        raise _refused("is base64", "duis/gbcs-base64") from None
    if b64encode(octets).decode() != compact:
        raise _refused("is base64 in its one form", "duis/gbcs-base64")
    return octets


def _refused(what: str, rule: str) -> Malformed:
    return Malformed(
        f"the GBCSPayload of a DUIS document {what}", rule=rule, field=ContentForm.DUIS_DOCUMENT.value
    )
