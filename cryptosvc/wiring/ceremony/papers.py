"""What a ceremony has signed, put together: certificates, requests and revocation lists of the X.509 profile.

These are proposals to the corridor, nothing more: it parses every octet again, and judges it, before a key is used.

Source: RFC 5280 4.1, 5.1; RFC 2986 4.1; docs of the profile in `core/content/x509/`.
"""

import datetime as dt
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID

from cryptosvc.core.content.x509.profile import X509Profile
from cryptosvc.core.errors import Corrupt
from cryptosvc.core.life import UnixSeconds
from cryptosvc.core.names import Eui64

_SECOND = dt.timedelta(seconds=1)
_SERIAL_OCTETS = 15
_SIGNS_NOTHING = ec.generate_private_key(ec.SECP256R1())
"""Builders only give what is to be signed together with a signature; the one of this key is thrown away."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """A certificate that was revoked: its serial number, when, and CRLReason."""

    serial: int
    at: UnixSeconds
    reason: int


def public_key(point: bytes) -> ec.EllipticCurvePublicKey:
    """The key of an uncompressed point, 65 octets."""
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)


def spki(point: bytes) -> bytes:
    """SubjectPublicKeyInfo DER of a point."""
    return public_key(point).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def root_certificate(
    point: bytes, common_name: str, days: int, at: UnixSeconds, profile: X509Profile
) -> bytes:
    """TBSCertificate of a Root OCA, which it signs itself."""
    name = oca_name(0, common_name)
    builder = _begun(name, name, point, days, at)
    builder = _oca(builder, point, None, sorted(profile.root_policies))
    return _tbs(builder)


def issued_certificate(
    issuer: bytes, request: bytes, days: int, at: UnixSeconds, profile: X509Profile, *, is_oca: bool
) -> bytes:
    """TBSCertificate under the DER certificate `issuer`, in the name and for the key of a DER request.

    Corrupt where the request is not signed by its own key: nobody has shown that they hold it.
    """
    above, asked = x509.load_der_x509_certificate(issuer), x509.load_der_x509_csr(request)
    if not asked.is_signature_valid:
        raise Corrupt("the request is not signed by its own key", rule="ceremony/request", clause="G2.60(b)")
    point = _point(asked.public_key())
    builder = _begun(above.subject, asked.subject, point, days, at)
    if is_oca:
        builder = _oca(builder, point, 0, sorted(profile.issuing_policies))
    else:
        builder = (
            builder.add_extension(_usage(_asked_usage(asked)), critical=True)
            .add_extension(_policies(sorted(profile.organisation_policies)[:1]), critical=True)
            .add_extension(_identifier(point), critical=False)
        )
    return _tbs(builder.add_extension(_authority(above), critical=False))


def _asked_usage(asked: x509.CertificateSigningRequest) -> str:
    """What an Organisation's key is for: to agree keys where the request says so, otherwise to sign."""
    try:
        found = asked.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return "digital_signature"
    return "key_agreement" if found.key_agreement else "digital_signature"


def request(point: bytes, name: x509.Name, *, is_oca: bool) -> bytes:
    """CertificationRequestInfo of a key: its name, and the key usages of its kind."""
    usage = _usage("key_cert_sign", "crl_sign") if is_oca else _usage("digital_signature")
    # pyca puts the key of the signer into a request, so the request is of the throw-away key and the point is put
    # in its place: both are an SPKI of the same length, and the octets stand there once.
    builder = x509.CertificateSigningRequestBuilder().subject_name(name).add_extension(usage, critical=True)
    info = builder.sign(_SIGNS_NOTHING, hashes.SHA256()).tbs_certrequest_bytes
    own = _SIGNS_NOTHING.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return info.replace(own, spki(point))


def revocation_list(
    issuer: bytes, number: int, days: int, at: UnixSeconds, revoked: Sequence[Revocation], *, is_arl: bool
) -> bytes:
    """TBSCertList of the DER certificate `issuer`."""
    above = x509.load_der_x509_certificate(issuer)
    scope = x509.IssuingDistributionPoint(
        full_name=None,
        relative_name=None,
        only_contains_user_certs=not is_arl,
        only_contains_ca_certs=is_arl,
        only_some_reasons=None,
        indirect_crl=False,
        only_contains_attribute_certs=False,
    )
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(above.subject)
        .last_update(_moment(at))
        .next_update(_moment(at) + dt.timedelta(days=days))
        .add_extension(_authority(above), critical=False)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(scope, critical=True)
    )
    for one in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(one.serial).revocation_date(_moment(one.at))
        reason = x509.CRLReason(_REASONS[one.reason])
        builder = builder.add_revoked_certificate(entry.add_extension(reason, critical=False).build())
    return builder.sign(_SIGNS_NOTHING, hashes.SHA256()).tbs_certlist_bytes


def listed(encoded: bytes) -> tuple[Revocation, ...]:
    """What a DER CertificateList lists."""
    found = []
    for entry in x509.load_der_x509_crl(encoded):
        reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
        at = UnixSeconds(int(entry.revocation_date_utc.timestamp()))
        found.append(Revocation(entry.serial_number, at, _CODES[reason]))
    return tuple(found)


def oca_name(role: int, common_name: str) -> x509.Name:
    """`OU=00|07, CN=name`, PrintableString."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, f"{role:02X}", _ASN1Type.PrintableString),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name, _ASN1Type.PrintableString),
        ]
    )


def organisation_name(role: int, entity: Eui64, common_name: str) -> x509.Name:
    """`CN=name, OU=role`, UTF8String, and the EUI-64 as x500UniqueIdentifier."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, f"{role:02X}"),
            x509.NameAttribute(NameOID.X500_UNIQUE_IDENTIFIER, b"\x00" + entity.octets, _ASN1Type.BitString),
        ]
    )


_CODES = {
    x509.ReasonFlags.key_compromise: 1,
    x509.ReasonFlags.ca_compromise: 2,
    x509.ReasonFlags.affiliation_changed: 3,
    x509.ReasonFlags.superseded: 4,
    x509.ReasonFlags.cessation_of_operation: 5,
    x509.ReasonFlags.privilege_withdrawn: 9,
}
_REASONS = {code: reason for reason, code in _CODES.items()}


def _begun(
    issuer: x509.Name, subject: x509.Name, point: bytes, days: int, at: UnixSeconds
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(public_key(point))
        .serial_number(int.from_bytes(b"\x01" + secrets.token_bytes(_SERIAL_OCTETS)))
        .not_valid_before(_moment(at))
        .not_valid_after(_moment(at) + dt.timedelta(days=days) - _SECOND)
    )


def _oca(
    builder: x509.CertificateBuilder, point: bytes, path_length: int | None, policies: Sequence[str]
) -> x509.CertificateBuilder:
    builder = builder.add_extension(_usage("key_cert_sign", "crl_sign"), critical=True).add_extension(
        x509.BasicConstraints(ca=True, path_length=path_length), critical=True
    )
    if policies:
        builder = builder.add_extension(_policies(policies), critical=True)
    return builder.add_extension(_identifier(point), critical=False)


def _tbs(builder: x509.CertificateBuilder) -> bytes:
    return builder.sign(_SIGNS_NOTHING, hashes.SHA256()).tbs_certificate_bytes


def _moment(at: UnixSeconds) -> dt.datetime:
    return dt.datetime.fromtimestamp(at, dt.UTC)


def _point(key: object) -> bytes:
    assert isinstance(key, ec.EllipticCurvePublicKey)  # the corridor refuses every other request
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _identifier(point: bytes) -> x509.SubjectKeyIdentifier:
    """RFC 5280 4.2.1.2 method 2: 0100 and the last 60 bits of SHA-1 over the point."""
    digest = hashlib.sha1(point, usedforsecurity=False).digest()
    return x509.SubjectKeyIdentifier(bytes([0x40 | digest[12] & 0x0F]) + digest[13:])


def _authority(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    return x509.AuthorityKeyIdentifier(identifier, None, None)


def _usage(*names: str) -> x509.KeyUsage:
    every = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: name in names for name in every})


def _policies(oids: Sequence[str]) -> x509.CertificatePolicies:
    return x509.CertificatePolicies(
        [x509.PolicyInformation(x509.ObjectIdentifier(oid), None) for oid in oids]
    )
