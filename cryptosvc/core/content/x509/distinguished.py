"""Names of the SMKI Organisation hierarchy: two forms, and nothing that is nearly one.

    OCA            OU (00 root, 07 issuing), then CN; both PrintableString
    Organisation   CN if any, then OU (the Remote Party Role), both UTF8String, then x500UniqueIdentifier: EUI-64

The OU is two upper-case hexadecimal digits. One attribute per RDN, in this order.

Example:
    >>> read_name(node_of(OU="07", CN="Z1"))
    OcaName(role=<RemotePartyRole.ISSUING_AUTHORITY: 7>, common_name='Z1')

Source: published test certificates of the hierarchy; RFC 5280 4.1.2.4 and Appendix A (ub-common-name 64); RFC 4514.
"""

import re
from dataclasses import dataclass

from cryptosvc.core.content.x509 import der
from cryptosvc.core.errors import Malformed
from cryptosvc.core.names import EUI64_OCTETS, Eui64, RemotePartyRole

COMMON_NAME = "2.5.4.3"
ORGANISATIONAL_UNIT = "2.5.4.11"
UNIQUE_IDENTIFIER = "2.5.4.45"

_LONGEST_COMMON_NAME = 64
_ROLE = re.compile(r"[0-9A-F]{2}")
_SHORT = {COMMON_NAME: "CN", ORGANISATIONAL_UNIT: "OU"}
_ESCAPED = re.compile(r'([,+"\\<>;=])')


@dataclass(frozen=True, slots=True)
class OcaName:
    """Name of a Root OCA or Issuing OCA."""

    role: RemotePartyRole
    common_name: str


@dataclass(frozen=True, slots=True)
class OrganisationName:
    """Name of an Organisation.

    Args:
        role: the OU as a number, 0 to 255; not every number is a role that is known.
        entity: the Entity Identifier.
        common_name: empty where there is none.

    """

    role: int
    entity: Eui64
    common_name: str


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of a name: its type, the tag of its value, and the contents octets of its value."""

    oid: str
    tag: int
    content: bytes


def attributes(name: der.Node) -> tuple[Attribute, ...]:
    """Read a Name with one attribute in each RDN."""
    found = []
    for relative in name.children:
        if relative.tag != der.SET or len(relative.children) != 1 or relative.children[0].tag != der.SEQUENCE:
            raise Malformed("a name has exactly one attribute in each part", rule="name/structure")
        fields = der.Fields(relative.children[0], "name")
        oid = fields.take(der.OBJECT_IDENTIFIER)
        value = fields.take(der.UTF8_STRING, der.PRINTABLE_STRING, der.BIT_STRING)
        fields.end()
        found.append(Attribute(der.object_identifier(oid), value.tag, value.content))
    return tuple(found)


def read_name(name: der.Node) -> OcaName | OrganisationName:
    """Read a Name as one of the two forms.

    Raises:
        Malformed: it is neither; the rule begins with `name/`.

    """
    found = attributes(name)
    match [attribute.oid for attribute in found]:
        case [_, "2.5.4.3"]:
            _expect(found, ORGANISATIONAL_UNIT, COMMON_NAME, string=der.PRINTABLE_STRING)
            role = _role(found[0])
            if role not in (RemotePartyRole.ROOT, RemotePartyRole.ISSUING_AUTHORITY):
                raise Malformed("the OU of an OCA is 00 or 07", rule="name/oca-role")
            return OcaName(RemotePartyRole(role), _common_name(found[1]))
        case [_, "2.5.4.45"]:
            _expect(found, ORGANISATIONAL_UNIT, UNIQUE_IDENTIFIER, string=der.UTF8_STRING)
            return OrganisationName(_role(found[0]), _entity(found[1]), "")
        case [_, _, "2.5.4.45"]:
            _expect(found, COMMON_NAME, ORGANISATIONAL_UNIT, UNIQUE_IDENTIFIER, string=der.UTF8_STRING)
            return OrganisationName(_role(found[1]), _entity(found[2]), _common_name(found[0]))
        case _:
            raise Malformed(
                "a name is OU, CN of an OCA, or [CN], OU, x500UniqueIdentifier of an Organisation",
                rule="name/form",
            )


def rfc4514(found: tuple[Attribute, ...]) -> str:
    """Write a name as text, last part first, as `CN=Z1,OU=07`; what is not CN or OU as `oid=#hex`."""
    return ",".join(map(_text_of, reversed(found)))


def _text_of(attribute: Attribute) -> str:
    if attribute.oid not in _SHORT or attribute.tag == der.BIT_STRING:
        return f"{attribute.oid}=#{der.encode(attribute.tag, attribute.content).hex()}"
    text = _ESCAPED.sub(r"\\\1", attribute.content.decode())
    if text[:1] in ("#", " "):
        text = "\\" + text
    if len(text) > 1 and text.endswith(" "):
        text = text[:-1] + "\\ "
    return f"{_SHORT[attribute.oid]}={text}"


def _expect(found: tuple[Attribute, ...], *oids: str, string: int) -> None:
    for attribute, oid in zip(found, oids, strict=True):
        if attribute.oid != oid:
            raise Malformed("the parts of a name are not in the order of the profile", rule="name/form")
        if attribute.tag != (der.BIT_STRING if oid == UNIQUE_IDENTIFIER else string):
            raise Malformed(
                "a part of a name has another string type than the profile's", rule="name/string-type"
            )


def _role(attribute: Attribute) -> int:
    text = attribute.content.decode()
    if not _ROLE.fullmatch(text):
        raise Malformed(
            "the OU is a Remote Party Role as two upper-case hexadecimal digits", rule="name/role"
        )
    return int(text, 16)


def _entity(attribute: Attribute) -> Eui64:
    if len(attribute.content) != 1 + EUI64_OCTETS or attribute.content[0]:
        raise Malformed(
            "the x500UniqueIdentifier is a BIT STRING of the 64 bits of an EUI-64", rule="name/entity"
        )
    return Eui64(attribute.content[1:])


def _common_name(attribute: Attribute) -> str:
    text = attribute.content.decode()
    if not 1 <= len(text) <= _LONGEST_COMMON_NAME or not text.isprintable() or text != text.strip():
        raise Malformed(
            f"a CN has 1 to {_LONGEST_COMMON_NAME} printable characters and no space at its ends",
            rule="name/common-name",
        )
    return text
