"""Which Organisations may send a Command that is not critical: the User Roles of its service request, as Remote Party Roles.

A Command without a signature says who it is from and proves nothing, so what is held is what can be: its originator is
registered, and a party of that role may send such a service request at all. One User may have several User Roles and has one
Remote Party Role, which its certificate says; an Export Supplier or a Registered Supplier Agent has a supplier's or another's.

Example:
    >>> may_send(RemotePartyRole.NETWORK_OPERATOR, ("2.2",))
    False

Source: DUIS 5.4 request matrix (eligible User Roles); GBCS RemotePartyRole. Which User Role has which Remote Party Role is
in neither and was inferred from the originators of the Reference Test Data Set 4.5.0.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from cryptosvc.core.names import RemotePartyRole, UserRole

_ROLES: Mapping[UserRole, frozenset[RemotePartyRole]] = MappingProxyType(
    {
        UserRole.IMPORT_SUPPLIER: frozenset({RemotePartyRole.SUPPLIER}),
        UserRole.GAS_SUPPLIER: frozenset({RemotePartyRole.SUPPLIER}),
        UserRole.EXPORT_SUPPLIER: frozenset({RemotePartyRole.SUPPLIER, RemotePartyRole.OTHER}),
        UserRole.ELECTRICITY_DISTRIBUTOR: frozenset({RemotePartyRole.NETWORK_OPERATOR}),
        UserRole.GAS_TRANSPORTER: frozenset({RemotePartyRole.NETWORK_OPERATOR}),
        UserRole.REGISTERED_SUPPLIER_AGENT: frozenset({RemotePartyRole.SUPPLIER, RemotePartyRole.OTHER}),
        UserRole.OTHER_USER: frozenset({RemotePartyRole.OTHER}),
        UserRole.LOAD_CONTROLLER: frozenset({RemotePartyRole.LOAD_CONTROLLER}),
    }
)

# User Roles: variants of Commands without a signature. 8.5 is the DCC's own and is in no line.
_ELIGIBLE = """
IS,GS: 2.2 3.1 3.2 3.3 3.4 3.5 4.3 4.4.2 4.4.3 4.4.4 4.4.5 4.6.1 4.13 4.14 4.18 6.20.1 6.28 6.29 8.12.1 8.12.2
IS,GS,ED,GT: 4.1.1 4.1.2 4.10
IS,ED: 4.1.3 4.12.1 4.15 4.16
GS: 4.1.4
ES,ED: 4.2 4.12.2
ES: 4.6.2 6.20.2
IS,GS,ED,GT,OU: 4.8.1 4.17
IS,ED,OU: 4.8.2 7.7 7.14 7.15
ES,ED,OU: 4.8.3
IS,GS,OU: 4.11.1 8.7.2 8.8.2 8.9 8.11
IS,OU: 4.11.2 7.11
IS,RSA,ED: 6.2.1 6.2.2
IS,RSA,GS: 6.2.3
IS,ES,GS,RSA,ED,GT,OU: 6.2.4 6.2.7 11.2
IS,RSA: 6.2.5
GS,RSA,GT: 6.2.8
IS,GS,RSA: 6.2.9 6.30 6.31 6.32
IS,GS,ED: 6.2.10 6.22
IS: 6.4.2 6.12 7.9 7.10
ED: 6.5 6.18.1 6.18.2 6.27
IS,GS,ED,GT,RSA: 6.13
IS,ES,GS,RSA,ED,GT: 7.4
OU: 9.1
GT: 14.1
"""


def _read() -> Mapping[str, frozenset[RemotePartyRole]]:
    table: dict[str, frozenset[RemotePartyRole]] = {}
    for line in _ELIGIBLE.split("\n"):
        users, _, variants = line.partition(":")
        for variant in variants.split():
            table[variant] = frozenset[RemotePartyRole]().union(
                *(_ROLES[UserRole(user)] for user in users.split(","))
            )
    return MappingProxyType(table)


SENDERS: Mapping[str, frozenset[RemotePartyRole]] = _read()
"""Service Reference Variant → Remote Party Roles of who may send its Command."""


def may_send(role: RemotePartyRole, variants: Iterable[str]) -> bool:
    """Whether a party of this role may send a Command of one of these variants; without a variant nobody but the DCC does."""
    return any(role in SENDERS.get(variant, ()) for variant in variants)
