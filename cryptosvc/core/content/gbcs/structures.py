"""The ASN.1 payload of each message code.

Equalities held here, each of which every sample keeps: the replacement mode is the one of the message code (CS02b:
its low octet; CS02g: 0A by load controller, 0B by supplier); the sequence number of CS02b and the originator counter
of CS06 are the originator counter of the message. The credentials
CS02b replaces, and the cell that authorises it, are those the name of the message code says.

CS02g's own definition was found nowhere: it is read as something that begins with the mode, whose sequence number is
the originator counter where it stands as in CS02b (after the authorising cell), and as DER walked to its last octet.

Sources: GBCS 0.8.1 Annex 3 and 13.3; SmartDCCInnovation/gbcs-parser (shapes); Reference Test Data Set 4.5.0.
"""

from collections.abc import Mapping
from types import MappingProxyType

from cryptosvc.core.content.gbcs import asn1
from cryptosvc.core.content.gbcs.asn1 import (
    Expected,
    Member,
    Type,
    any_sequence,
    bits,
    context,
    counter,
    generalized_time,
    integer,
    named_bits,
    null,
    octets,
    optional,
    required,
    sequence,
    sequence_of,
)
from cryptosvc.core.content.gbcs.framing import wrong
from cryptosvc.core.names import RemotePartyRole

_OCTET = 0xFF
_HIGHEST_SEQUENCE_NUMBER = 2**64 - 1
# Named bits 0 digitalSignature, 4 keyAgreement, 5 keyCertSign and 6 cRLSign.
_KEY_USAGES = 0b1000_1110

_ROLE = integer(0, _OCTET)
_KEY_USAGE = named_bits(_KEY_USAGES)
_CELL_USAGE = integer(0, 1)  # management, prePaymentTopUp
_NOT_DEFAULT_CELL_USAGE = integer(1, 1)  # DER leaves out a DEFAULT
_SEQUENCE_NUMBER = integer(0, _HIGHEST_SEQUENCE_NUMBER)
_ENTITY_ID = octets(8, 8)
_DEVICE_TYPE = integer(0, _OCTET)
_TIME = generalized_time()
CERTIFICATE = sequence(required(any_sequence()), required(any_sequence()), required(bits()))


def _cell(role: Type) -> Type:
    """TrustAnchorCellIdentifier of a Remote Party Role."""
    return sequence(required(role), required(_KEY_USAGE), optional(_NOT_DEFAULT_CELL_USAGE))


_SPECIALIST_FLOORS = sequence_of(sequence(required(_CELL_USAGE), required(_SEQUENCE_NUMBER)))
_OTHER_CHANGES = sequence_of(
    sequence(required(_ROLE), required(_SEQUENCE_NUMBER), optional(_SPECIALIST_FLOORS))
)


def _update_security_credentials(authoriser: Type, replaced: Type, *symmetric_key: Member) -> Type:
    """CS02b, by a party of role `authoriser`, of credentials of role `replaced`."""
    control = sequence(
        required(asn1.mode()),
        *symmetric_key,
        optional(context(1, integer(0, 1))),  # applyTimeBasedCPVChecks
        optional(context(2, _cell(authoriser))),  # authorisingRemotePartyTACellIdentifier
        required(context(3, counter())),  # authorisingRemotePartySeqNumber
        optional(context(4, _SEQUENCE_NUMBER)),  # newRemotePartyFloorSeqNumber
        optional(context(5, _SPECIALIST_FLOORS)),
        optional(context(6, _OTHER_CHANGES)),
    )
    return sequence(
        required(control),
        required(sequence_of(sequence(required(CERTIFICATE), required(_cell(replaced))), fewest=1)),
        required(sequence_of(CERTIFICATE)),
        optional(_TIME),
    )


def _role(role: RemotePartyRole) -> Type:
    return integer(role, role)


_ROOT, _SUPPLIER = _role(RemotePartyRole.ROOT), _role(RemotePartyRole.SUPPLIER)
_NETWORK_OPERATOR = _role(RemotePartyRole.NETWORK_OPERATOR)
_BROKER = _role(RemotePartyRole.ACCESS_CONTROL_BROKER)
_COS_PARTY, _WAN_PROVIDER = _role(RemotePartyRole.TRANSITIONAL_COS), _role(RemotePartyRole.WAN_PROVIDER)
_RECOVERY = _role(RemotePartyRole.RECOVERY)
_PLAINTEXT_SYMMETRIC_KEY = required(
    context(0, octets(1, 64))
)  # in a replacement by contingency, always and only

_PROVIDE_CREDENTIALS = sequence(required(_cell(_ROLE)), required(sequence_of(_ROLE, fewest=1)))
_KEY_USAGE_ALONE = sequence(required(_KEY_USAGE))
_JOIN = sequence(required(integer(0, 3)), required(_ENTITY_ID), required(_DEVICE_TYPE), optional(CERTIFICATE))
_ACTIVATE_FIRMWARE = sequence(required(octets(1, 64)), required(counter()), optional(_TIME))
_SET_TIME = sequence(required(_TIME), required(_TIME))
_RESTORE_LOG = sequence(required(sequence_of(sequence(required(_ENTITY_ID), required(_DEVICE_TYPE)))))

_AUTHORISING_CELL_TAG = asn1.CONTEXT | asn1.CONSTRUCTED | 2
_SEQUENCE_NUMBER_TAG = asn1.CONTEXT | 3


def _load_controller_contents(buffer: bytes, start: int, end: int, expected: Expected) -> None:
    """CS02g: mode first, the sequence number where it stands as in CS02b, DER throughout."""
    any_sequence().contents(buffer, start, end, expected)
    tag, at, after = asn1.header(buffer, start, end)
    if tag != asn1.SEQUENCE:  # the mode may stand in the command itself rather than in a control
        at, after = start, end
    tag, value, at = asn1.header(buffer, at, after)
    if tag != asn1.INTEGER:
        raise wrong("a credentials replacement begins with its mode", "asn1-structure")
    asn1.mode().contents(buffer, value, at, expected)
    like_cs02b = False
    while at < after:
        tag, value, at = asn1.header(buffer, at, after)
        if tag == _SEQUENCE_NUMBER_TAG and like_cs02b:
            counter().contents(buffer, value, at, expected)
        like_cs02b = tag == _AUTHORISING_CELL_TAG


_UPDATE_LOAD_CONTROLLER = Type(asn1.SEQUENCE, _load_controller_contents)

STRUCTURES: Mapping[int, Type] = MappingProxyType(
    {
        0x0008: _PROVIDE_CREDENTIALS,  # CS02a
        0x000A: _KEY_USAGE_ALONE,  # CS02c issue security credentials
        0x000B: CERTIFICATE,  # CS02d update Device certificate
        0x000C: _KEY_USAGE_ALONE,  # CS02e provide Device certificate
        0x000D: _JOIN,  # CS03A1
        0x000E: _JOIN,  # CS03B
        0x00AB: _JOIN,  # CS03A2
        0x00AF: _JOIN,  # CS03C
        0x000F: _ENTITY_ID,  # CS04AC unjoin
        0x0010: _ENTITY_ID,  # CS04B unjoin
        0x0012: _ACTIVATE_FIRMWARE,  # CS06
        0x0013: null(),  # CS07 read join details
        0x0129: null(),  # CS08 read firmware version
        0x007F: _SET_TIME,  # GCS28
        0x008C: _RESTORE_LOG,  # GCS59
        # CS02b, credentials of … by …
        0x0100: _update_security_credentials(_SUPPLIER, _ROOT),
        0x0101: _update_security_credentials(_WAN_PROVIDER, _ROOT),
        0x0102: _update_security_credentials(_SUPPLIER, _SUPPLIER),
        0x0103: _update_security_credentials(_NETWORK_OPERATOR, _NETWORK_OPERATOR),
        0x0104: _update_security_credentials(_BROKER, _BROKER),
        0x0105: _update_security_credentials(_WAN_PROVIDER, _WAN_PROVIDER),
        0x0106: _update_security_credentials(_COS_PARTY, _COS_PARTY),
        0x0107: _update_security_credentials(_COS_PARTY, _SUPPLIER),
        0x0108: _update_security_credentials(_RECOVERY, _ROLE),
        0x0109: _update_security_credentials(_ROLE, _ROLE, _PLAINTEXT_SYMMETRIC_KEY),
        0x011B: _PROVIDE_CREDENTIALS,  # CS02f
        0x0125: _UPDATE_LOAD_CONTROLLER,  # CS02g by load controller
        0x0126: _UPDATE_LOAD_CONTROLLER,  # CS02g by supplier
    }
)

MODES: Mapping[int, int] = MappingProxyType(
    {**{code: code & _OCTET for code in range(0x0100, 0x010A)}, 0x0125: 0x0A, 0x0126: 0x0B}
)
"""Message code → credentials replacement mode."""
