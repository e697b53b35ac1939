"""The few extensions of the profile, each read to its last byte; encodings inside an extension are DER too.

Source: RFC 5280 4.2 and 5.2; RFC 5934 (wrapped apex contingency key, non-critical in its module).
"""

from dataclasses import dataclass
from enum import StrEnum

from cryptosvc.core.content.x509 import der
from cryptosvc.core.content.x509.public_key import KEY_IDENTIFIER_OCTETS
from cryptosvc.core.errors import Malformed

SUBJECT_KEY_IDENTIFIER = "2.5.29.14"
KEY_USAGE = "2.5.29.15"
SUBJECT_ALTERNATIVE_NAME = "2.5.29.17"
BASIC_CONSTRAINTS = "2.5.29.19"
CRL_NUMBER = "2.5.29.20"
REASON_CODE = "2.5.29.21"
ISSUING_DISTRIBUTION_POINT = "2.5.29.28"
CERTIFICATE_POLICIES = "2.5.29.32"
AUTHORITY_KEY_IDENTIFIER = "2.5.29.35"
WRAPPED_APEX_CONTINGENCY_KEY = "1.3.6.1.5.5.7.1.20"

LARGEST_OCTETS = 2048
"""Of one extension; the largest of the profile, a wrapped contingency key, needs about 150."""

_ONLY_USER_CERTIFICATES = 0x81
_ONLY_CA_CERTIFICATES = 0x82


class KeyUsage(StrEnum):
    """Bits of the keyUsage extension, in bit order. Source: RFC 5280 4.2.1.3."""

    DIGITAL_SIGNATURE = "digitalSignature"
    CONTENT_COMMITMENT = "contentCommitment"
    KEY_ENCIPHERMENT = "keyEncipherment"
    DATA_ENCIPHERMENT = "dataEncipherment"
    KEY_AGREEMENT = "keyAgreement"
    KEY_CERT_SIGN = "keyCertSign"
    CRL_SIGN = "cRLSign"
    ENCIPHER_ONLY = "encipherOnly"
    DECIPHER_ONLY = "decipherOnly"


OCA_USAGES = frozenset({KeyUsage.KEY_CERT_SIGN, KeyUsage.CRL_SIGN})
ORGANISATION_USAGES = frozenset(
    {frozenset({KeyUsage.DIGITAL_SIGNATURE}), frozenset({KeyUsage.KEY_AGREEMENT})}
)


@dataclass(frozen=True, slots=True)
class Extension:
    """One extension, its value not yet read.

    Args:
        oid: dotted text.
        critical: as encoded; FALSE is never encoded.
        value: contents of extnValue.

    """

    oid: str
    critical: bool
    value: bytes


def read_extensions(node: der.Node) -> tuple[Extension, ...]:
    """Read a SEQUENCE OF Extension: at least one, none twice, `critical FALSE` not written."""
    found: list[Extension] = []
    for member in node.children:
        if member.tag != der.SEQUENCE:
            raise Malformed("an extension is a SEQUENCE", rule="extension/structure")
        fields = der.Fields(member, "extension")
        oid = der.object_identifier(fields.take(der.OBJECT_IDENTIFIER))
        critical = fields.optional(der.BOOLEAN)
        value = fields.take(der.OCTET_STRING).content
        fields.end()
        if critical is not None and critical.content == b"\x00":
            raise Malformed("an extension encodes critical FALSE, the default", rule="extension/default")
        found.append(Extension(oid, critical is not None, value))
    if not found:
        raise Malformed("a list of extensions is empty", rule="extension/empty")
    if len({extension.oid for extension in found}) != len(found):
        raise Malformed("an extension appears twice", rule="extension/duplicate")
    return tuple(found)


def read_value(value: bytes) -> der.Node:
    """Walk the value of an extension."""
    return der.read(value, limit=LARGEST_OCTETS)


def _read(value: bytes, tag: int, name: str) -> der.Node:
    node = read_value(value)
    if node.tag != tag:
        raise Malformed(f"the value of {name} is of another type", rule="extension/structure")
    return node


def key_usages(value: bytes) -> frozenset[KeyUsage]:
    """Read KeyUsage: at least one bit, no trailing zero bits (X.690 11.2.2)."""
    content = _read(value, der.BIT_STRING, "keyUsage").content
    length = (len(content) - 1) * 8 - content[0]
    bits = int.from_bytes(content[1:]) >> content[0]
    if not bits & 1 or length > len(KeyUsage):
        raise Malformed(
            "keyUsage has no bits, trailing zero bits, or bits that have no meaning",
            rule="extension/key-usage",
        )
    return frozenset(
        usage for at, usage in enumerate(KeyUsage) if at < length and bits >> (length - 1 - at) & 1
    )


def path_length(value: bytes) -> int | None:
    """Read BasicConstraints of a CA; return pathLenConstraint or None. A certificate without CA has no such extension."""
    fields = der.Fields(_read(value, der.SEQUENCE, "basicConstraints"), "basic-constraints")
    authority = fields.optional(der.BOOLEAN)
    length = fields.optional(der.INTEGER)
    fields.end()
    if authority is None or authority.content != b"\xff":
        raise Malformed("basicConstraints is there and does not say CA", rule="extension/basic-constraints")
    if length is None:
        return None
    if der.integer(length) < 0:
        raise Malformed("a path length is negative", rule="extension/basic-constraints")
    return der.integer(length)


def policies(value: bytes) -> tuple[str, ...]:
    """Read CertificatePolicies: at least one identifier, none twice, no qualifiers."""
    found = []
    for member in _read(value, der.SEQUENCE, "certificatePolicies").children:
        if member.tag != der.SEQUENCE:
            raise Malformed("a certificate policy is a SEQUENCE", rule="extension/structure")
        fields = der.Fields(member, "certificate-policy")
        found.append(der.object_identifier(fields.take(der.OBJECT_IDENTIFIER)))
        fields.end()
    if not found or len(set(found)) != len(found):
        raise Malformed("certificatePolicies names none, or one twice", rule="extension/policies")
    return tuple(found)


def subject_key_identifier(value: bytes) -> bytes:
    """Read SubjectKeyIdentifier, eight octets."""
    return _identifier(_read(value, der.OCTET_STRING, "subjectKeyIdentifier"))


def authority_key_identifier(value: bytes) -> bytes:
    """Read AuthorityKeyIdentifier with keyIdentifier only, eight octets."""
    fields = der.Fields(_read(value, der.SEQUENCE, "authorityKeyIdentifier"), "authority-key-identifier")
    found = fields.take(0x80)
    fields.end()
    return _identifier(found)


def _identifier(node: der.Node) -> bytes:
    if len(node.content) != KEY_IDENTIFIER_OCTETS:
        raise Malformed(
            f"a key identifier is {KEY_IDENTIFIER_OCTETS} octets", rule="extension/key-identifier"
        )
    return node.content


def wrapped_contingency_key(value: bytes) -> None:
    """Read ApexContingencyKey: an algorithm with or without parameters, and a wrapped key of 1 to 1024 octets."""
    fields = der.Fields(_read(value, der.SEQUENCE, "wrappedApexContingencyKey"), "contingency-key")
    algorithm = der.Fields(fields.take(der.SEQUENCE), "contingency-key")
    wrapped = fields.take(der.OCTET_STRING)
    fields.end()
    algorithm.take(der.OBJECT_IDENTIFIER)
    algorithm.optional(der.NULL, der.SEQUENCE, der.OCTET_STRING)
    algorithm.end()
    if not 1 <= len(wrapped.content) <= 1024:
        raise Malformed("a wrapped contingency key has 1 to 1024 octets", rule="extension/contingency-key")


def crl_number(value: bytes) -> int:
    """Read CRLNumber: 0 to 2**159 - 1, at most 20 octets."""
    node = _read(value, der.INTEGER, "cRLNumber")
    if len(node.content) > 20 or der.integer(node) < 0:
        raise Malformed("a CRL number is not negative and has at most 20 octets", rule="extension/crl-number")
    return der.integer(node)


def reason(value: bytes) -> int:
    """Read CRLReason."""
    return der.integer(_read(value, der.ENUMERATED, "reasonCode"))


def only_ca_certificates(value: bytes) -> bool:
    """Read IssuingDistributionPoint with exactly one of onlyContainsUserCerts and onlyContainsCACerts; say which."""
    fields = der.Fields(_read(value, der.SEQUENCE, "issuingDistributionPoint"), "distribution-point")
    only = fields.take(_ONLY_USER_CERTIFICATES, _ONLY_CA_CERTIFICATES)
    fields.end()
    if only.content != b"\xff":
        raise Malformed(
            "a scope of an issuing distribution point is not TRUE as DER writes it", rule="der/boolean"
        )
    return only.tag == _ONLY_CA_CERTIFICATES
