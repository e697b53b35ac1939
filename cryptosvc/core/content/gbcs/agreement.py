"""What a GBCS key is agreed over: OtherInfo of the key derivation, the initialisation vector, and the tuple both hang on.

A MAC key is made anew for each message, from the static keys of two parties and from who says what to whom under which
number. Key and initialisation vector depend on nothing else, so two different messages under one tuple would be
authenticated under one key and one vector, which gives away the authentication key of GCM: the tuple is promised to
one message for ever (`Agreement.text` is what the promise counts).

    OtherInfo  60 85 74 06 08 03 00   algorithm: AES-GCM-128
               initiator(8)           who sends: originator-system-title, or the Device
               09 purpose(1) number(8)  transaction id: its length, what for, the counter
               recipient(8)           who receives
    vector     initiator(8) 00 00 00 00

Example:
    >>> broker_to_device = Agreement(bytes(8), Purpose.COMMAND, 1000, bytes.fromhex("00DB1234567890A0"))
    >>> broker_to_device.other_info.hex()
    '608574060803000000000000000000090100000000000003e800db1234567890a0'
    >>> broker_to_device.text
    '00-00-00-00-00-00-00-00/00-DB-12-34-56-78-90-A0/01/1000'

Source: GBCS 0.8.1 page 30 (OtherInfo) and 6.4.5; SP 800-56A Rev 3 5.8.1 with SP 800-56C Rev 2 4.1 (single-step KDF with
SHA-256); checked against every message of the Reference Test Data Set 4.5.0 that carries a MAC.
"""

import hashlib
from dataclasses import dataclass
from enum import IntEnum

from cryptosvc.core.errors import Internal

SHARED_SECRET_OCTETS = 32
"""Z: the x-coordinate of the agreed P-256 point."""
KEY_OCTETS = 16
"""AES-128."""
VECTOR_OCTETS = 12
TAG_OCTETS = 12
"""Of GCM's sixteen, the first twelve are sent."""

_ALGORITHM = bytes.fromhex("60857406080300")
_TRANSACTION_ID_OCTETS = b"\x09"
_FIRST_ROUND = (1).to_bytes(4)
_NO_INVOCATION = bytes(4)


class Purpose(IntEnum):
    """First octet of the transaction id: what kind of message, or an encrypted attribute."""

    COMMAND = 1
    RESPONSE = 2
    ALERT = 3
    ENCRYPTED_ATTRIBUTE = 4


@dataclass(frozen=True, slots=True)
class Agreement:
    """One key and one initialisation vector of two parties.

    Args:
        initiator: EUI-64 of who sends, 8 octets.
        purpose: what for.
        number: originator counter, 0 to 2**64 - 1.
        recipient: EUI-64 of who receives, 8 octets.

    """

    initiator: bytes
    purpose: Purpose
    number: int
    recipient: bytes

    @property
    def other_info(self) -> bytes:
        """OtherInfo of the key derivation, 33 octets."""
        return b"".join(
            (
                _ALGORITHM,
                self.initiator,
                _TRANSACTION_ID_OCTETS,
                bytes((self.purpose,)),
                self.number.to_bytes(8),
                self.recipient,
            )
        )

    @property
    def vector(self) -> bytes:
        """Initialisation vector, 12 octets: fixed, because the key is not."""
        return self.initiator + _NO_INVOCATION

    @property
    def text(self) -> str:
        """Initiator, recipient, purpose and number, as a promise counts them."""
        first, second = self.initiator.hex("-").upper(), self.recipient.hex("-").upper()
        return f"{first}/{second}/{self.purpose:02}/{self.number}"


def derive(shared_secret: bytes | bytearray | memoryview, other_info: bytes) -> bytearray:
    """Derive the AES-128 key: one round of the single-step KDF, for a module that has no such KDF of its own.

    Args:
        shared_secret: Z, 32 octets; the caller wipes it.
        other_info: as `Agreement.other_info`.

    Returns:
        The key, 16 octets; the caller wipes it.

    Raises:
        Internal: Z has another length.

    """
    if len(shared_secret) != SHARED_SECRET_OCTETS:
        raise Internal("a shared secret on P-256 has 32 octets", rule="agreement/shared-secret")
    hashed = hashlib.sha256(_FIRST_ROUND)
    hashed.update(
        shared_secret
    )  # not put together with the rest, which would be a copy that nobody overwrites
    hashed.update(other_info)
    return bytearray(hashed.digest()[:KEY_OCTETS])
