"""TBSCertificate: an OCA Certificate or an Organisation Certificate, complete or refused.

The kind is read from the bytes alone: a subject that is an OCA makes an OCA Certificate, a subject that is an
Organisation makes an Organisation Certificate, whoever is asked to sign. `core/keyclass.py` then says which class may
sign which (G2.60, G2.61), and `bind` that it is this very key.

    kind           subject OU   CA        key usage                          policies        AKI
    root           00 = issuer  yes       keyCertSign, cRLSign               configured      none, or its own
    issuing        07           yes, 0    keyCertSign, cRLSign               configured      issuer's
    organisation   role         none      digitalSignature or keyAgreement   one configured  issuer's

Example:
    >>> parse(tbs_der, default_profile()).kind
    <ContentKind.ORGANISATION_CERTIFICATE: 'organisation-certificate'>

Source: Smart Energy Code G2.60(a), G2.61(a); RFC 5280 4.1, 4.2; published test certificates of the hierarchy.
"""

import hashlib
from dataclasses import dataclass

from cryptosvc.core.content.base import Content, Once, Statement
from cryptosvc.core.content.x509 import der, extensions, lint, referee, signed, signer
from cryptosvc.core.content.x509.distinguished import OcaName, OrganisationName, read_name
from cryptosvc.core.content.x509.extensions import KeyUsage
from cryptosvc.core.content.x509.profile import X509Profile
from cryptosvc.core.content.x509.public_key import key_identifier
from cryptosvc.core.content.x509.tbs import TbsCertificate, read_tbs
from cryptosvc.core.errors import Forbidden, Internal, Malformed
from cryptosvc.core.names import ContentForm, ContentKind, RemotePartyRole, UnixNanoseconds
from cryptosvc.core.registry import KeyRecord

_DAY = 86_400 * 1_000_000_000
_SECOND = 1_000_000_000

_OF_EVERY_KIND = frozenset(
    {
        extensions.KEY_USAGE,
        extensions.SUBJECT_KEY_IDENTIFIER,
        extensions.AUTHORITY_KEY_IDENTIFIER,
        extensions.CERTIFICATE_POLICIES,
    }
)
"""Extensions that a certificate of every kind may have."""

_CRITICAL = frozenset({extensions.KEY_USAGE, extensions.CERTIFICATE_POLICIES, extensions.BASIC_CONSTRAINTS})
"""Extensions that are critical where they are; all others are not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateContent(Content):
    """A TBSCertificate that follows the profile of its kind.

    Args:
        issuer_der, subject_der: DER of the Names.
        subject: the subject as read.
        serial: serial number.
        not_before, not_after: validity, both ends included.
        public_point: the certified point, 65 octets.
        authority: key identifier of the issuer's key; empty where a root certificate has none.

    """

    issuer_der: bytes
    subject_der: bytes
    subject: OcaName | OrganisationName
    serial: int
    not_before: UnixNanoseconds
    not_after: UnixNanoseconds
    public_point: bytes
    authority: bytes

    @property
    def is_root(self) -> bool:
        """Whether it is a self-issued root certificate."""
        return isinstance(self.subject, OcaName) and self.subject.role is RemotePartyRole.ROOT


def parse(payload: bytes, profile: X509Profile) -> CertificateContent:
    """Read a DER TBSCertificate to its last byte, by two parsers and a linter.

    Raises:
        Malformed: it is not one, or not one of the profile; the rule says which.

    """
    try:
        # 1 our walk
        tbs = read_tbs(der.read(payload, limit=profile.certificate_octets))
        # 2 the profile
        content = _conform(payload, tbs, profile)
        # 3 the second parser, and the linter, on one and the same copy
        copy = signed.throwaway_copy(payload)
        referee.certificate(copy, payload, tbs)
        lint.certificate(copy, root=content.is_root)
    except Malformed as error:
        error.field = error.field or ContentForm.TBS_CERTIFICATE.value
        raise
    return content


def bind(
    content: Content, key: KeyRecord, statement: Statement, profile: X509Profile, at: UnixNanoseconds
) -> None:
    """Raise unless this certificate is this key's to sign, now.

    Raises:
        Forbidden: another issuer, a validity outside the issuer's, a root certificate that is not the key's own, …
        Malformed: the statement says what a certificate has not.

    """
    if not isinstance(content, CertificateContent):
        raise Internal("not the content of a certificate", rule="certificate/content")
    clause = "G2.60(a)" if content.kind is ContentKind.OCA_CERTIFICATE else "G2.61(a)"
    signer.require_no_statement(statement, ContentForm.TBS_CERTIFICATE)
    if content.is_root:
        _require_own_root(content, key, clause)
    else:
        _require_issued(content, key, clause)
    if content.not_after <= at:
        raise _forbidden("the certificate would end before it is signed", "certificate/expired", clause)
    if abs(content.not_before - at) > profile.start_within_days * _DAY:
        raise _forbidden(
            f"the certificate would begin more than {profile.start_within_days} days from now",
            "certificate/start",
            clause,
        )


def assemble(content: Content, signature: bytes, key: KeyRecord) -> bytes:  # noqa: ARG001 -- the common signature
    """Put TBSCertificate and r‖s (64 octets) together; return the DER Certificate."""
    return signed.finished(content.signed_bytes, signature)


# --- the profile --------------------------------------------------------------------------------------------------


def _conform(payload: bytes, tbs: TbsCertificate, profile: X509Profile) -> CertificateContent:
    issuer, subject = read_name(tbs.issuer), read_name(tbs.subject)
    if not isinstance(issuer, OcaName):
        raise Malformed("the issuer of a certificate is an OCA", rule="certificate/issuer-form")
    _require_serial(tbs.serial, profile)
    is_oca = isinstance(subject, OcaName)
    is_root = is_oca and subject.role == RemotePartyRole.ROOT
    if is_root and tbs.issuer.encoded != tbs.subject.encoded:
        raise Malformed(
            "a certificate for OU 00 is a root's own: issuer and subject are one", rule="certificate/root"
        )
    if isinstance(subject, OrganisationName) and subject.role not in profile.organisation_roles:
        raise Malformed(
            "the OU is not a role an Organisation Certificate may have; the operator configures organisation_roles",
            rule="certificate/role",
        )
    _require_extensions(tbs, profile, is_oca=is_oca, is_root=is_root)
    usages = _require_usages(tbs, is_oca=is_oca)
    _require_constraints(tbs, is_oca=is_oca, is_root=is_root)
    policies = _require_policies(tbs, profile, is_oca=is_oca, is_root=is_root)
    _require_validity(tbs, profile, is_oca=is_oca, is_root=is_root)
    authority = _require_identifiers(tbs, is_root=is_root)
    facts = {
        "entity": str(subject.entity) if isinstance(subject, OrganisationName) else "",
        "issuer_role": f"{issuer.role:02X}",
        "key_identifier": key_identifier(tbs.public_point).hex(),
        "not_after": str(tbs.not_after // _SECOND),
        "not_before": str(tbs.not_before // _SECOND),
        "policies": ",".join(policies),
        "serial": str(tbs.serial),
        "subject_role": f"{subject.role:02X}",
        "usages": ",".join(sorted(usages)),
    }
    return CertificateContent(
        kind=ContentKind.OCA_CERTIFICATE if is_oca else ContentKind.ORGANISATION_CERTIFICATE,
        signed_bytes=payload,
        facts=tuple((name, value) for name, value in facts.items() if value),
        promises=(Once("certificate-serial", str(tbs.serial), hashlib.sha256(payload).digest()),),
        issuer_der=tbs.issuer.encoded,
        subject_der=tbs.subject.encoded,
        subject=subject,
        serial=tbs.serial,
        not_before=tbs.not_before,
        not_after=tbs.not_after,
        public_point=tbs.public_point,
        authority=authority,
    )


def _require_serial(serial: int, profile: X509Profile) -> None:
    if serial.bit_length() >= profile.serial_octets * 8:
        raise Malformed(
            f"a serial number has at most {profile.serial_octets} octets, its sign bit included",
            rule="certificate/serial",
        )


def _require_extensions(tbs: TbsCertificate, profile: X509Profile, *, is_oca: bool, is_root: bool) -> None:
    """Only extensions of the kind, each critical or not as it must be; what is configured beside is walked as DER."""
    known = _OF_EVERY_KIND | ({extensions.BASIC_CONSTRAINTS} if is_oca else set())
    if is_root and profile.root_contingency_key:
        known |= {extensions.WRAPPED_APEX_CONTINGENCY_KEY}
    for extension in tbs.extensions:
        if extension.oid not in known | profile.extra_extensions:
            raise Malformed(
                "the certificate has an extension that its kind has not", rule="certificate/extension"
            )
        if extension.critical != (extension.oid in _CRITICAL):
            raise Malformed(
                "keyUsage, certificatePolicies and basicConstraints are critical, other extensions are not",
                rule="certificate/criticality",
            )
        if extension.oid == extensions.WRAPPED_APEX_CONTINGENCY_KEY:
            extensions.wrapped_contingency_key(extension.value)
        else:
            extensions.read_value(extension.value)


def _require_usages(tbs: TbsCertificate, *, is_oca: bool) -> frozenset[KeyUsage]:
    extension = tbs.extension(extensions.KEY_USAGE)
    usages = frozenset() if extension is None else extensions.key_usages(extension.value)
    if usages not in ({extensions.OCA_USAGES} if is_oca else extensions.ORGANISATION_USAGES):
        raise Malformed(
            "an OCA's key usages are keyCertSign and cRLSign; an Organisation's is digitalSignature or keyAgreement",
            rule="certificate/key-usage",
        )
    return usages


def _require_constraints(tbs: TbsCertificate, *, is_oca: bool, is_root: bool) -> None:
    extension = tbs.extension(extensions.BASIC_CONSTRAINTS)
    if (extension is None) == is_oca:
        raise Malformed(
            "an OCA Certificate has basicConstraints, an Organisation Certificate has none",
            rule="certificate/ca",
        )
    if extension is not None and extensions.path_length(extension.value) != (None if is_root else 0):
        raise Malformed(
            "the path length of an Issuing OCA is 0, a root has none", rule="certificate/path-length"
        )


def _require_policies(
    tbs: TbsCertificate, profile: X509Profile, *, is_oca: bool, is_root: bool
) -> tuple[str, ...]:
    allowed = profile.policies_of(is_oca=is_oca, is_root=is_root)
    extension = tbs.extension(extensions.CERTIFICATE_POLICIES)
    named = () if extension is None else extensions.policies(extension.value)
    if bool(named) != bool(allowed) or not allowed.issuperset(named) or (not is_oca and len(named) != 1):
        raise Malformed(
            "the certificate policies are not those configured for its kind", rule="certificate/policies"
        )
    return named


def _require_validity(tbs: TbsCertificate, profile: X509Profile, *, is_oca: bool, is_root: bool) -> None:
    days = profile.root_days if is_root else profile.issuing_days if is_oca else profile.organisation_days
    if tbs.not_after - tbs.not_before + _SECOND > days * _DAY:
        raise Malformed(f"a certificate of this kind lasts at most {days} days", rule="certificate/validity")


def _require_identifiers(tbs: TbsCertificate, *, is_root: bool) -> bytes:
    """Subject key identifier by method 2; return the authority key identifier, empty where a root has none."""
    own = key_identifier(tbs.public_point)
    subject = tbs.extension(extensions.SUBJECT_KEY_IDENTIFIER)
    if subject is None or extensions.subject_key_identifier(subject.value) != own:
        raise Malformed(
            "the subject key identifier is not method 2 of the public key", rule="certificate/ski"
        )
    authority = tbs.extension(extensions.AUTHORITY_KEY_IDENTIFIER)
    if authority is None and is_root:
        return b""
    identifier = b"" if authority is None else extensions.authority_key_identifier(authority.value)
    if not identifier or (is_root and identifier != own):
        raise Malformed(
            "the authority key identifier is missing, or a root's is not its own", rule="certificate/aki"
        )
    return identifier


# --- this very key ------------------------------------------------------------------------------------------------


def _forbidden(message: str, rule: str, clause: str) -> Forbidden:
    return Forbidden(message, rule=rule, clause=clause, field=ContentForm.TBS_CERTIFICATE.value)


def _require_own_root(content: CertificateContent, key: KeyRecord, clause: str) -> None:
    if content.public_point != key.public_point:
        raise _forbidden("a root certificate is signed by the key it is for", "certificate/own-key", clause)
    if key.certificate:
        own = signer.certificate_of(key)
        if content.subject_der != own.subject_der:
            raise _forbidden(
                "the root certificate is not in the name of this key", "certificate/issuer", clause
            )


def _require_issued(content: CertificateContent, key: KeyRecord, clause: str) -> None:
    own = signer.certificate_of(key)
    if content.issuer_der != own.subject_der:
        raise _forbidden(
            "the issuer is not the subject of this key's own certificate", "certificate/issuer", clause
        )
    if own.role != (
        RemotePartyRole.ROOT if isinstance(content.subject, OcaName) else RemotePartyRole.ISSUING_AUTHORITY
    ):
        raise _forbidden(
            "a Root OCA issues OCA Certificates, an Issuing OCA Organisation Certificates",
            "certificate/issuer-role",
            clause,
        )
    if content.authority != own.ski:
        raise _forbidden("the authority key identifier is not this key's", "certificate/aki", clause)
    if content.public_point == key.public_point:
        raise _forbidden(
            "the certificate would certify the issuer's own key", "certificate/issuer-key", clause
        )
    if content.not_before < own.not_before or content.not_after > own.not_after:
        raise _forbidden(
            "the validity is not inside that of this key's own certificate", "certificate/validity", clause
        )
