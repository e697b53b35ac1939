"""The words of the field as types: identifiers, roles, operations, content kinds.

An EUI-64 is eight octets; its text form is upper-case hex pairs joined by hyphens, `90-B3-D5-1F-30-01-00-00`
(DUIS RequestID; GBCS Business Originator ID and Business Target ID).

Example:
    >>> str(Eui64.parse("90-B3-D5-1F-30-01-00-00"))
    '90-B3-D5-1F-30-01-00-00'
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import NewType, Self

from cryptosvc.core.errors import Malformed

KeyId = NewType("KeyId", str)
NO_KEY = KeyId("")
"""Where a second key could stand and none does."""
CallerId = NewType("CallerId", str)
RequestId = NewType("RequestId", str)
ModuleName = NewType("ModuleName", str)
SystemName = NewType("SystemName", str)
"""A DCC Individual Live System or a User (per User Role), as named in the configuration (G2.20, G3.14)."""
MessageCode = NewType("MessageCode", int)
"""GBCS message code, 0 to 0xFFFF."""
UnixNanoseconds = NewType("UnixNanoseconds", int)
"""Nanoseconds since 1970-01-01T00:00:00Z, leap seconds not counted."""

EUI64_OCTETS = 8


@dataclass(frozen=True, slots=True, order=True)
class Eui64:
    """An EUI-64 entity identifier: exactly eight octets, big-endian."""

    octets: bytes

    def __post_init__(self) -> None:
        if len(self.octets) != EUI64_OCTETS:
            raise Malformed("an EUI-64 is exactly eight octets", rule="eui64/length")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `AA-BB-CC-DD-EE-FF-00-11`; any other form, lower case included, is refused as Malformed."""
        try:
            octets = bytes.fromhex(text.replace("-", ""))
        except ValueError:
            raise Malformed(
                "an EUI-64 is eight upper-case hex pairs joined by hyphens", rule="eui64/text"
            ) from None
        if len(octets) != EUI64_OCTETS or str(found := cls(octets)) != text:
            raise Malformed("an EUI-64 is eight upper-case hex pairs joined by hyphens", rule="eui64/text")
        return found

    def __str__(self) -> str:
        return self.octets.hex("-").upper()


class Environment(StrEnum):
    """Where the deployment stands. It is in every record; SoftHSM can stand in for a FIPS module in `test` only."""

    TEST = "test"
    LIVE = "live"


class RemotePartyRole(IntEnum):
    """Remote Party Role codes, the OU of an Organisation Certificate as two upper-case hex digits.

    Source: GBCS RemotePartyRole (0 to 8, 127); SEC Section L Annex A Table 1 (135, 137).
    """

    ROOT = 0
    RECOVERY = 1
    SUPPLIER = 2
    NETWORK_OPERATOR = 3
    ACCESS_CONTROL_BROKER = 4
    TRANSITIONAL_COS = 5
    WAN_PROVIDER = 6
    ISSUING_AUTHORITY = 7
    LOAD_CONTROLLER = 8
    OTHER = 127
    XML_SIGN = 135
    DSP_XML_SIGN = 137


class UserRole(StrEnum):
    """SEC User Roles a caller may act in, and the DCC itself. Source: SEC Section A; DUIS eligible user roles.

    SMETS1_SERVICE_PROVIDER and DUAL_CONTROL are the DCC in the roles of G2.44(e) and G2.44(c), which have rules of their own.
    """

    DCC = "DCC"
    SMETS1_SERVICE_PROVIDER = "S1SP"
    DUAL_CONTROL = "DCO"
    IMPORT_SUPPLIER = "IS"
    EXPORT_SUPPLIER = "ES"
    GAS_SUPPLIER = "GS"
    ELECTRICITY_DISTRIBUTOR = "ED"
    GAS_TRANSPORTER = "GT"
    REGISTERED_SUPPLIER_AGENT = "RSA"
    OTHER_USER = "OU"
    LOAD_CONTROLLER = "LC"


class Operation(StrEnum):
    """What is asked of a key or of the service; the Cedar action.

    ACCOMPANY is what the second key of a request does: it is additional data of another's GCM, or what another wraps.
    """

    SIGN = "sign"
    MAC = "mac"
    VERIFY = "verify-mac"
    ENCRYPT = "encrypt"
    DECRYPT = "decrypt"
    WRAP = "wrap"
    ACCOMPANY = "accompany"
    EXPLAIN = "explain"
    READ_KEYS = "read-keys"
    READ_LOG = "read-log"
    GOVERN = "govern"


class ContentForm(StrEnum):
    """What a caller may say its bytes are: the field of the request that carries them. There is no raw form.

    LOG_CHECKPOINT and SERVICE_STATEMENT are the service's own and have no field in the API.
    """

    TBS_CERTIFICATE = "tbs_certificate"
    CERTIFICATION_REQUEST_INFO = "certification_request_info"
    TBS_CERT_LIST = "tbs_cert_list"
    GBCS_PRE_COMMAND = "gbcs_pre_command"
    GBCS_COMMAND = "gbcs_command"
    GBCS_MESSAGE = "gbcs_message"
    ENCRYPTED_RESPONSE = "encrypted_response"
    TOP_UP = "prepayment_token"
    DUIS_DOCUMENT = "duis_document"
    TLS_SERVER_KEY_EXCHANGE = "tls_server_key_exchange"
    TLS_TRANSCRIPT = "tls_transcript"
    DLMS_AUTHENTICATED_ENCRYPTION = "dlms_authenticated_encryption"
    DLMS_ENCRYPTION = "dlms_encryption"
    DLMS_AUTHENTICATION = "dlms_authentication"
    DLMS_CHALLENGE = "dlms_challenge"
    DLMS_PROTECTED = "dlms_protected"
    DLMS_KEY_CHANGE = "dlms_key_change"
    DLMS_ASSOCIATION = "dlms_association"
    LOG_CHECKPOINT = "log_checkpoint"
    SERVICE_STATEMENT = "service_statement"


OWN_FORMS = frozenset({ContentForm.LOG_CHECKPOINT, ContentForm.SERVICE_STATEMENT})
"""Forms the service alone asks for."""


class ContentKind(StrEnum):
    """What the bytes turned out to be once parsed to the last one."""

    OCA_CERTIFICATE = "oca-certificate"
    ORGANISATION_CERTIFICATE = "organisation-certificate"
    CERTIFICATION_REQUEST = "certification-request"
    ORGANISATION_ARL = "organisation-arl"
    ORGANISATION_CRL = "organisation-crl"
    GBCS_PRE_COMMAND = "gbcs-pre-command"
    GBCS_COMMAND = "gbcs-command"
    GBCS_ANSWER = "gbcs-answer"
    ENCRYPTED_ATTRIBUTES = "encrypted-attributes"
    TOP_UP = "prepayment-token"
    DUIS_DOCUMENT = "duis-document"
    TLS_HANDSHAKE = "tls-handshake"
    DLMS_CIPHERED = "dlms-ciphered-request"
    DLMS_AUTHENTICATED = "dlms-authenticated-request"
    DLMS_CHALLENGE = "dlms-challenge"
    DLMS_ANSWER = "dlms-protected-answer"
    DLMS_KEY_CHANGE = "dlms-key-change"
    DLMS_ASSOCIATION = "dlms-association"
    LOG_CHECKPOINT = "log-checkpoint"
    SERVICE_STATEMENT = "service-statement"


def operation_on(content: "ContentForm | ContentKind") -> Operation:
    """Which operation a content is given to; what has no entry is signed."""
    return _OPERATIONS.get(content, Operation.SIGN)


_OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {
        ContentForm.GBCS_COMMAND: Operation.MAC,
        ContentKind.GBCS_COMMAND: Operation.MAC,
        ContentForm.TOP_UP: Operation.MAC,
        ContentKind.TOP_UP: Operation.MAC,
        ContentForm.GBCS_MESSAGE: Operation.VERIFY,
        ContentKind.GBCS_ANSWER: Operation.VERIFY,
        ContentForm.ENCRYPTED_RESPONSE: Operation.DECRYPT,
        ContentKind.ENCRYPTED_ATTRIBUTES: Operation.DECRYPT,
        ContentForm.DLMS_AUTHENTICATED_ENCRYPTION: Operation.ENCRYPT,
        ContentForm.DLMS_ENCRYPTION: Operation.ENCRYPT,
        ContentKind.DLMS_CIPHERED: Operation.ENCRYPT,
        ContentForm.DLMS_AUTHENTICATION: Operation.MAC,
        ContentKind.DLMS_AUTHENTICATED: Operation.MAC,
        ContentForm.DLMS_CHALLENGE: Operation.MAC,
        ContentKind.DLMS_CHALLENGE: Operation.MAC,
        ContentForm.DLMS_PROTECTED: Operation.DECRYPT,
        ContentKind.DLMS_ANSWER: Operation.DECRYPT,
        ContentForm.DLMS_KEY_CHANGE: Operation.WRAP,
        ContentKind.DLMS_KEY_CHANGE: Operation.WRAP,
        ContentForm.DLMS_ASSOCIATION: Operation.ENCRYPT,
        ContentKind.DLMS_ASSOCIATION: Operation.ENCRYPT,
    }
)
