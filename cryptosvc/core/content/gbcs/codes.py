"""Message codes: what a code means, what its payload is, who may sign it, which service requests it belongs to.

A Command carries a Remote Party's signature exactly if it is critical (or is one of the few the DCC signs for
itself); every other Command is authenticated by a MAC alone and no command-signing key ever signs it. A code that
is not in the table is no Command and is refused.

Example:
    >>> by_number(0x0050).use_case, by_number(0x0050).payload, by_number(0x0050).variants
    ('ECS43', <Payload.DLMS: 'dlms'>, ('7.2',))

Sources: GBCS use-case annex (message code, use case, category, roles); DCC Reference Test Data Set 4.5.0 (which
originator signs which code; length of OtherInfo); DUIS 5.4 request matrix (Service Reference Variants, eligible User
Roles). The numbers are facts of those; the table is ours.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from cryptosvc.core.errors import Malformed
from cryptosvc.core.names import RemotePartyRole, UserRole

CODE_ONLY = 2
"""Octets of OtherInfo that hold the message code and nothing else."""
BY_CONTINGENCY = 0x0109
"""Any credentials by the Contingency Private Key, which has no Remote Party Role; the only code it signs."""
WITH_SUPPLEMENTARY_PARTY = 18
"""Octets of OtherInfo: message code, Supplementary Remote Party ID (8), Supplementary Remote Party Counter (8)."""


class Payload(StrEnum):
    """What the content of the message is encoded as."""

    DLMS = "dlms"
    GBZ = "gbz"
    ASN1 = "asn1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """One message code that is a Command.

    Args:
        number: 0 to 0xFFFF.
        text: the same as four upper-case hex digits.
        use_case: GBCS use case.
        payload: encoding of the payload.
        signers: Remote Party Roles whose key may sign it, each with the octets of OtherInfo it then has; empty for a
            Command that carries no signature.
        variants: Service Reference Variants of the signed (for a code without signers: the MAC-only) Command, sorted.
        broker_variants: the same where the Access Control Broker is the originator.

    """

    number: int
    text: str
    use_case: str
    payload: Payload
    signers: Mapping[RemotePartyRole, int]
    variants: tuple[str, ...]
    broker_variants: tuple[str, ...]


# code, use case, payload, Service Reference Variants where it is signed (- for none)
_SIGNED = """
0008 CS02a asn1 -; 000A CS02c asn1 6.17; 000B CS02d asn1 6.15.2; 000C CS02e asn1 6.24.2;
000D CS03A1 asn1 8.7.1; 000F CS04AC asn1 8.8.1,8.8.2; 0012 CS06 asn1 11.3; 0019 ECS01a dlms 1.1.1;
001A ECS02 dlms 1.6; 001B ECS03 dlms 1.6; 001C ECS04a dlms 1.5; 001D ECS05 dlms 1.7;
001E ECS07 dlms 2.3; 001F ECS08 dlms 2.1; 0020 ECS09 dlms 2.5; 0043 ECS28a dlms 6.4.1;
0046 ECS30 dlms 6.8; 004B ECS38 dlms 7.12; 004F ECS42 dlms 7.1; 0050 ECS43 dlms 7.2;
0051 ECS44 dlms 7.3; 0053 ECS46a dlms 6.14.1; 0054 ECS46c dlms 6.14.2; 0055 ECS47 dlms 7.5,7.6,7.8;
0062 ECS70 dlms 6.11,8.1.1; 0068 ECS81 dlms 6.25; 006B GCS01a gbz 1.1.1; 006C GCS02 gbz 1.6;
006D GCS03 gbz 1.6; 006E GCS04 gbz 2.3; 006F GCS05 gbz 2.1; 0070 GCS06 gbz 2.5; 007C GCS23 gbz 6.6;
007D GCS24 gbz 6.7; 007E GCS25 gbz 6.8; 007F GCS28 asn1 6.11,8.1.1; 0081 GCS32 gbz 7.2;
0085 GCS39 gbz 7.3; 0086 GCS40a gbz 1.5; 00A2 ECS01b dlms 1.2.1; 00A3 GCS01b gbz 1.2.1;
00AB CS03A2 asn1 8.7.1; 00AF CS03C asn1 8.7.1; 00B3 ECS04b dlms 1.5; 00B4 GCS40b gbz 1.5;
00B7 ECS01c dlms 1.1.2; 00C0 GCS40c gbz 1.5; 00C2 GCS40d gbz 1.5; 00C7 ECS01d dlms 1.2.2;
00D7 ECS30a dlms 6.8; 00D8 GCS25a gbz 6.8; 00DB ECS48 dlms 6.26; 00DE ECS08a dlms 2.1;
00FC GCS24a gbz 6.7; 0100 CS02b asn1 -; 0101 CS02b asn1 -; 0102 CS02b asn1 6.15.1;
0103 CS02b asn1 6.15.1; 0105 CS02b asn1 -; 0106 CS02b asn1 -; 0107 CS02b asn1 6.23; 0108 CS02b asn1 -;
0109 CS02b asn1 -; 011A ECS46d dlms 6.14.3; 011B CS02f asn1 -; 011E ECS47a dlms 7.13;
011F ECS47e dlms 7.16; 0125 CS02g asn1 -; 0126 CS02g asn1 6.15.1;
"""

# Commands without a signature: authenticated by the Access Control Broker's MAC alone.
# 0090 and 009B come from a PPMID. 0104 replaces the Access Control Broker's own credentials.
_MAC_ONLY = """
0001 CCS01 dlms 8.11; 0002 CCS02 dlms 8.11; 0003 CCS03 dlms 8.12.1; 0004 CCS05/CCS04 dlms 8.9;
0007 CS01a dlms 2.2; 000E CS03B asn1 8.7.2; 0010 CS04B asn1 8.8.2; 0013 CS07 asn1 8.9;
0014 CS10a gbz 6.13; 0015 CS11 gbz 3.3; 0021 ECS10 dlms 3.1; 0022 ECS12 dlms 3.2;
0023 ECS14 dlms 3.5; 0024 ECS15a dlms 3.3; 0025 ECS16 dlms 3.4; 0026 ECS17a dlms 4.2;
0027 ECS17b dlms 4.1.1; 0028 ECS17c dlms 4.16; 0029 ECS17d dlms 4.1.2; 002A ECS17e dlms 4.1.3;
002B ECS18a dlms 4.12.2; 002C ECS18b dlms 4.12.1; 002D ECS19 dlms 4.3; 002E ECS20a dlms 4.4.4;
002F ECS20b dlms 4.4.2; 0030 ECS20c dlms 4.4.3; 0033 ECS21a dlms 4.6.1; 0034 ECS21b dlms 4.14;
0035 ECS21c dlms 4.6.2; 0036 ECS22a dlms 4.8.3; 0037 ECS22b dlms 4.8.1; 0038 ECS22c dlms 4.8.2;
0039 ECS23 dlms 4.10; 003A ECS24 dlms 4.11.1; 003B ECS26a dlms 4.13; 003C ECS26b dlms 6.2.1;
003D ECS26c dlms 6.2.2; 003E ECS26d dlms 6.2.3; 003F ECS26e dlms 6.2.4; 0040 ECS26f dlms 6.2.5;
0042 ECS27 dlms 4.15; 0044 ECS28b dlms 6.4.2; 0045 ECS29a dlms 6.5; 0047 ECS34 dlms 6.12;
0048 ECS35a dlms 6.13; 0049 ECS35b dlms 6.13; 004A ECS37 dlms 6.18.1; 004C ECS39a dlms 6.20.1;
004D ECS39b dlms 6.20.2; 004E ECS40 dlms 6.2.7; 0052 ECS45 dlms 7.4; 0058 ECS50 dlms 9.1;
0059 ECS52 dlms 11.2; 005A ECS57 dlms 6.18.2; 005E ECS61c dlms 7.11; 005F ECS62 dlms 7.10,7.9;
0060 ECS66 dlms 4.17; 0069 ECS82 dlms 4.18; 0071 GCS07 gbz 3.1; 0072 GCS09 gbz 3.2;
0073 GCS11 gbz 3.5; 0074 GCS13a gbz 4.1.1; 0075 GCS14 gbz 4.3; 0076 GCS15c gbz 4.4.3;
0077 GCS16a gbz 4.6.1; 0078 GCS17 gbz 4.8.1; 0079 GCS18 gbz 4.10; 007B GCS21a gbz 6.2.8;
0080 GCS31 gbz 14.1; 0082 GCS33 gbz 7.4; 0083 GCS36 gbz 9.1; 0084 GCS38 gbz 11.2;
0087 GCS41 gbz 6.20.1; 0088 GCS44 gbz 3.4; 0089 GCS46 gbz 6.2.7; 008C GCS59 asn1 8.12.2;
008D GCS60 gbz 4.18; 0090 PCS02 gbz -; 0092 ECS26i dlms 6.2.4; 0093 ECS35c dlms 6.13;
0094 ECS35d dlms 6.13; 0096 GCS16b gbz 4.14; 0097 CS01b gbz 2.2; 009B PCS01 gbz -;
009D GCS21d gbz 6.2.3; 009E GCS21e gbz 6.2.4; 009F GCS21f gbz 4.11.1; 00A0 GCS61 gbz 4.17;
00A1 CS10b gbz 6.13; 00AC ECS25a dlms 6.22; 00AD GCS20 gbz 6.22; 00AE ECS29b dlms 6.5;
00B0 ECS25b dlms 6.22; 00B5 GCS21b gbz 4.13; 00B6 GCS13c gbz 4.1.2; 00B8 GCS13b gbz 4.1.4;
00B9 ECS35e dlms 6.13; 00BA ECS35f dlms 6.13; 00BB ECS61a dlms 7.7; 00BC ECS23b dlms 4.10;
00BD ECS24b dlms 4.11.2; 00BE ECS26j dlms 6.2.9; 00BF GCS21j gbz 6.2.9; 00C1 ECS15c dlms 3.3;
00C3 GCS15b gbz 4.4.2; 00C4 GCS15d gbz 4.4.4; 00C5 GCS15e gbz 4.4.5; 00C6 ECS26k dlms 6.2.1;
00C9 ECS20d dlms 4.4.5; 00D1 ECS29c dlms 6.5; 00D2 ECS29d dlms 6.5; 00D3 ECS29e dlms 6.27;
00D4 ECS29f dlms 6.27; 00D9 ECS26l dlms 6.2.3; 00DA GCS21k gbz 6.2.3; 00EA ECS25a1 dlms 6.22;
00EB ECS25a2 dlms 6.22; 00EC ECS25a3 dlms 6.22; 00ED ECS25b3 dlms 6.22; 00EE ECS25r1 dlms 6.2.10;
00EF ECS25r2 dlms 6.2.10; 00F1 GCS20r gbz 6.2.10; 00F9 ECS26m dlms 6.2.4; 00FA ECS26n dlms 6.2.4;
00FB GCS21m gbz 6.2.4; 00FD ECS35g dlms 6.13; 00FE CCS07 dlms 8.9; 0104 CS02b asn1 8.5;
010A DBCH01 dlms 6.31; 010B DBCH02 dlms 6.32; 010C DBCH03 dlms 6.30; 010D DBCH04 dlms 6.28;
010E DBCH05 dlms 6.29; 010F CCS06 dlms 8.9; 011C ECS61d dlms 7.14; 011D ECS61e dlms 7.15;
0129 CS08 asn1 11.2; 012A GCS60a gbz 4.18;
"""

# Who signs what. 0100 (root by supplier) and 0101 (root by WAN provider) have no sample: by their names. 0109 (any by
# contingency) is signed by the Contingency Private Key, which has no Remote Party Role, hence nobody here.
# 0008 and 011B exist twice: with a MAC only (the DCC reading credentials) and, as below, with a signature.
_SIGNERS: Mapping[RemotePartyRole, tuple[int, str]] = MappingProxyType(
    {
        RemotePartyRole.RECOVERY: (CODE_ONLY, "0108"),
        RemotePartyRole.SUPPLIER: (
            CODE_ONLY,
            (
                "000A 000B 000C 000D 000F 0012 0019 001A 001B 001C 001D 001E 001F 0020 0043 0046 004B 004F 0050 0051 "
                "0053 0054 0055 0062 0068 006B 006C 006D 006E 006F 0070 007C 007D 007E 007F 0081 0085 0086 00A2 00A3 "
                "00AB 00AF 00B3 00B4 00B7 00C0 00C2 00C7 00D7 00D8 00DB 00DE 00FC 0100 0102 011A 011B 011E 0126"
            ),
        ),
        RemotePartyRole.NETWORK_OPERATOR: (CODE_ONLY, "0103"),
        RemotePartyRole.TRANSITIONAL_COS: (CODE_ONLY, "0008 0106 0107 011B"),
        RemotePartyRole.WAN_PROVIDER: (CODE_ONLY, "0101 0105"),
        RemotePartyRole.LOAD_CONTROLLER: (CODE_ONLY, "011F 0125"),
    }
)
# The Access Control Broker signs for a User in joins and unjoins (naming the User) and in handover (for itself).
_BROKER_SIGNS: Mapping[int, tuple[int, tuple[str, ...]]] = MappingProxyType(
    {
        0x000F: (WITH_SUPPLEMENTARY_PARTY, ("8.8.2",)),
        0x00AB: (WITH_SUPPLEMENTARY_PARTY, ("8.7.2",)),
        0x00AF: (WITH_SUPPLEMENTARY_PARTY, ("8.7.2",)),
        0x0102: (CODE_ONLY, ("6.21",)),
        0x0103: (CODE_ONLY, ("6.21",)),
    }
)

# User Roles that may send the service request; a variant of the signed Commands that no User may send is not here.
_ELIGIBLE = """
IS,GS: 1.1.1 1.2.1 1.5 1.6 2.1 2.3 2.5 6.8 6.11 6.15.2 6.17 6.21 6.23 6.24.2 7.2 7.3 8.1.1 8.7.1 8.8.1 11.3
IS: 1.1.2 1.2.2 1.7 6.4.1 6.14.1 6.14.2 6.14.3 6.25 6.26 7.1 7.5 7.6 7.8 7.12 7.13
GS: 6.6 6.7
IS,GS,ED,GT: 6.15.1
IS,GS,OU: 8.7.2 8.8.2
LC: 7.16
"""


def by_number(number: int) -> Code:
    """Find the row of a code, or raise Malformed."""
    return by_octets(number.to_bytes(2))


def by_octets(code: bytes) -> Code:
    """Find the row of a code as it stands in OtherInfo (2 octets, big-endian), or raise Malformed."""
    try:
        return CODES[code]
    except KeyError:
        raise Malformed(
            "the message code is not one of a Command this service knows; alerts and responses are never signed here",
            rule="gbcs/message-code",
            field="gbcs_pre_command",
        ) from None


def _rows() -> Iterator[Code]:
    signers: dict[int, dict[RemotePartyRole, int]] = {}
    for role, (octets, codes) in _SIGNERS.items():
        for code in codes.split():
            signers.setdefault(int(code, 16), {})[role] = octets
    for number, (octets, _) in _BROKER_SIGNS.items():
        signers[number][RemotePartyRole.ACCESS_CONTROL_BROKER] = octets
    for line in (_SIGNED + _MAC_ONLY).replace(";", "\n").splitlines():
        if not line.strip():
            continue
        text, use_case, payload, listed = line.split()
        number = int(text, 16)
        variants = tuple(sorted(listed.split(","))) if listed != "-" else ()
        yield Code(
            number=number,
            text=text,
            use_case=use_case,
            payload=Payload(payload),
            signers=MappingProxyType(signers.get(number, {})),
            variants=variants,
            broker_variants=_BROKER_SIGNS.get(number, (0, variants))[1],
        )


CODES: Mapping[bytes, Code] = MappingProxyType({row.number.to_bytes(2): row for row in _rows()})
"""Every Command, by its code as it stands in OtherInfo."""

ELIGIBLE_ROLES: Mapping[str, frozenset[UserRole]] = MappingProxyType(
    {
        variant: frozenset(map(UserRole, roles.split(",")))
        for roles, variants in (line.split(":") for line in _ELIGIBLE.split("\n") if line)
        for variant in variants.split()
    }
)
"""Service Reference Variant of a signed Command → User Roles that may send it."""

USERS: Mapping[RemotePartyRole, frozenset[UserRole]] = MappingProxyType(
    {
        RemotePartyRole.SUPPLIER: frozenset({UserRole.IMPORT_SUPPLIER, UserRole.GAS_SUPPLIER}),
        RemotePartyRole.NETWORK_OPERATOR: frozenset(
            {UserRole.ELECTRICITY_DISTRIBUTOR, UserRole.GAS_TRANSPORTER}
        ),
        RemotePartyRole.LOAD_CONTROLLER: frozenset({UserRole.LOAD_CONTROLLER}),
    }
)
"""Remote Party Roles of Users → the User Roles in which their keys sign Commands; every other one is the DCC's."""
