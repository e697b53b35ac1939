"""CertificationRequestInfo: a request for a certificate of the signing key itself, complete or refused.

    root-oca, issuing-oca   subject of an OCA with the OU of the class        keyCertSign, cRLSign; CA
    every other class       subject of an Organisation with a role of the class   digitalSignature

The only attribute is extensionRequest, and only extensions that the certificate asked for may have. Whoever issues
the certificate adds the rest.

Example:
    >>> parse(certification_request_info_der, default_profile()).kind
    <ContentKind.CERTIFICATION_REQUEST: 'certification-request'>

Source: RFC 2986 4.1; RFC 2985 5.4.2; Smart Energy Code G2.60(b), G2.61(b), G2.56.
"""

from dataclasses import dataclass

from cryptosvc.core.content.base import Content, Statement
from cryptosvc.core.content.x509 import der, extensions, referee, signed
from cryptosvc.core.content.x509.distinguished import OcaName, OrganisationName, read_name
from cryptosvc.core.content.x509.extensions import Extension, KeyUsage
from cryptosvc.core.content.x509.profile import X509Profile
from cryptosvc.core.content.x509.public_key import key_identifier, point_of
from cryptosvc.core.errors import Forbidden, Internal, Malformed
from cryptosvc.core.keyclass import ceiling
from cryptosvc.core.names import ContentForm, ContentKind, Operation, UnixNanoseconds
from cryptosvc.core.registry import KeyRecord

_ATTRIBUTES = 0xA0
_V1 = der.encode(der.INTEGER, b"\x00")
_EXTENSION_REQUEST = "1.2.840.113549.1.9.14"

_CRITICAL = {
    extensions.KEY_USAGE: True,
    extensions.BASIC_CONSTRAINTS: True,
    extensions.CERTIFICATE_POLICIES: True,
    extensions.SUBJECT_KEY_IDENTIFIER: False,
}
"""Extensions that may be asked for, and whether they are critical."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestContent(Content):
    """A CertificationRequestInfo that follows the profile.

    Args:
        subject: whose certificate is asked for.
        public_point: for which key, 65 octets.
        usages: key usages asked for; empty where none are.

    """

    subject: OcaName | OrganisationName
    public_point: bytes
    usages: frozenset[KeyUsage]


def parse(payload: bytes, profile: X509Profile) -> RequestContent:
    """Read a DER CertificationRequestInfo to its last byte, by two parsers.

    Raises:
        Malformed: it is not one, or not one of the profile; the rule says which.

    """
    try:
        return _read(payload, profile)
    except Malformed as error:
        error.field = error.field or ContentForm.CERTIFICATION_REQUEST_INFO.value
        raise


def bind(
    content: Content,
    key: KeyRecord,
    statement: Statement,
    profile: X509Profile,  # noqa: ARG001 -- the common signature
    at: UnixNanoseconds,  # noqa: ARG001 -- likewise
) -> None:
    """Raise unless this request is for this very key, in a name its class may have.

    Raises:
        Forbidden: another public key, another entity, a role or usage the class has not.
        Malformed: the statement contradicts the request.

    """
    if not isinstance(content, RequestContent):
        raise Internal("not the content of a request", rule="csr/content")
    row = ceiling(key.key_class)
    clause = row.clause_for(Operation.SIGN, ContentKind.CERTIFICATION_REQUEST)
    _require_statement(statement, content.subject)
    if content.public_point != key.public_point:
        raise _forbidden("a request is for the public key of the key that signs it", "csr/own-key", clause)
    if content.subject.role not in row.roles:
        raise _forbidden(f"a {row.name} key has no certificate with this OU", "csr/role", clause)
    if key.role is not None and content.subject.role != key.role:
        raise _forbidden("the OU is not the role of this key", "csr/role", clause)
    if isinstance(content.subject, OrganisationName):
        if key.eui64 is not None and content.subject.entity != key.eui64:
            raise _forbidden("the subject is not the entity of this key", "csr/entity", clause)
        if content.usages not in (frozenset(), frozenset({KeyUsage.DIGITAL_SIGNATURE})):
            raise _forbidden("a signing key is certified for digitalSignature only", "csr/key-usage", clause)


def assemble(content: Content, signature: bytes, key: KeyRecord) -> bytes:  # noqa: ARG001 -- the common signature
    """Put CertificationRequestInfo and r‖s (64 octets) together; return the DER CertificationRequest."""
    return signed.finished(content.signed_bytes, signature)


def _read(payload: bytes, profile: X509Profile) -> RequestContent:
    # 1 our walk
    node = der.read(payload, limit=profile.request_octets)
    if node.tag != der.SEQUENCE:
        raise Malformed("a CertificationRequestInfo is a SEQUENCE", rule="csr/structure")
    fields = der.Fields(node, "csr")
    if fields.take(der.INTEGER).encoded != _V1:
        raise Malformed("the request is not version 0", rule="csr/version")
    name = fields.take(der.SEQUENCE)
    point = point_of(fields.take(der.SEQUENCE))
    asked = _asked(fields.take(_ATTRIBUTES))
    fields.end()
    # 2 the profile
    subject = read_name(name)
    _require_subject(subject, profile)
    usages = _require_extensions(asked, subject, point, profile)
    # 3 the second parser
    referee.request(signed.throwaway_copy(payload), payload, name.encoded, point, asked)
    facts = {
        "key_identifier": key_identifier(point).hex(),
        "subject_role": f"{subject.role:02X}",
        "usages": ",".join(sorted(usages)),
    }
    if isinstance(subject, OrganisationName):
        facts["entity"] = str(subject.entity)
    return RequestContent(
        kind=ContentKind.CERTIFICATION_REQUEST,
        signed_bytes=payload,
        facts=tuple(sorted(facts.items())),
        subject=subject,
        public_point=point,
        usages=usages,
    )


def _asked(attributes: der.Node) -> tuple[Extension, ...]:
    """Read the attributes: none, or one extensionRequest with one value."""
    if not attributes.children:
        return ()
    holder = der.Fields(attributes, "csr-attributes")
    attribute = der.Fields(holder.take(der.SEQUENCE), "csr-attributes")
    holder.end()
    if der.object_identifier(attribute.take(der.OBJECT_IDENTIFIER)) != _EXTENSION_REQUEST:
        raise Malformed("the only attribute of a request is extensionRequest", rule="csr/attribute")
    values = der.Fields(attribute.take(der.SET), "csr-attributes")
    attribute.end()
    value = values.take(der.SEQUENCE)
    values.end()
    return extensions.read_extensions(value)


def _require_subject(subject: OcaName | OrganisationName, profile: X509Profile) -> None:
    if isinstance(subject, OrganisationName) and subject.role not in profile.organisation_roles:
        raise Malformed(
            "the OU is not a role an Organisation Certificate may have; the operator configures organisation_roles",
            rule="csr/role",
        )


def _require_extensions(
    asked: tuple[Extension, ...], subject: OcaName | OrganisationName, point: bytes, profile: X509Profile
) -> frozenset[KeyUsage]:
    is_oca = isinstance(subject, OcaName)
    is_root = is_oca and subject.role == 0
    usages: frozenset[KeyUsage] = frozenset()
    for extension in asked:
        if extension.oid not in _CRITICAL or (extension.oid == extensions.BASIC_CONSTRAINTS and not is_oca):
            raise Malformed(
                "the request asks for an extension that its subject has not", rule="csr/extension"
            )
        if extension.critical != _CRITICAL[extension.oid]:
            raise Malformed(
                "an extension asked for is critical where it is not, or not where it is",
                rule="csr/criticality",
            )
        match extension.oid:
            case extensions.KEY_USAGE:
                usages = extensions.key_usages(extension.value)
                if usages not in ({extensions.OCA_USAGES} if is_oca else extensions.ORGANISATION_USAGES):
                    raise Malformed(
                        "the key usages asked for are not those of the subject", rule="csr/key-usage"
                    )
            case extensions.BASIC_CONSTRAINTS:
                if extensions.path_length(extension.value) != (None if is_root else 0):
                    raise Malformed(
                        "the path length of an Issuing OCA is 0, a root has none", rule="csr/path-length"
                    )
            case extensions.CERTIFICATE_POLICIES:
                _require_policies(
                    extensions.policies(extension.value), profile, is_oca=is_oca, is_root=is_root
                )
            case _:
                if extensions.subject_key_identifier(extension.value) != key_identifier(point):
                    raise Malformed(
                        "the subject key identifier is not method 2 of the public key", rule="csr/ski"
                    )
    return usages


def _require_policies(named: tuple[str, ...], profile: X509Profile, *, is_oca: bool, is_root: bool) -> None:
    if not profile.policies_of(is_oca=is_oca, is_root=is_root).issuperset(named) or (
        not is_oca and len(named) != 1
    ):
        raise Malformed(
            "the certificate policies are not those configured for the subject", rule="csr/policies"
        )


def _require_statement(statement: Statement, subject: OcaName | OrganisationName) -> None:
    if statement.service_reference_variant:
        raise Malformed(
            "a certification request has no Service Reference Variant; leave it out",
            rule="statement/not-of-this-form",
            field="service_reference_variant",
        )
    entity = str(subject.entity) if isinstance(subject, OrganisationName) else ""
    if statement.user_id and statement.user_id != entity:
        raise Malformed(
            "the User ID stated is not the entity of the request", rule="csr/user-id", field="user_id"
        )


def _forbidden(message: str, rule: str, clause: str) -> Forbidden:
    return Forbidden(message, rule=rule, clause=clause, field=ContentForm.CERTIFICATION_REQUEST_INFO.value)
