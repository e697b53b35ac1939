"""Valid specimens: authorities, and the payloads an OCA or Organisation key is asked to sign.

Built with pyca/cryptography and nothing of the project's own, so that they judge it.

Example:
    root = root_authority()
    issuing = issuing_authority(root)
    key = ec.generate_private_key(ec.SECP256R1())
    payload = organisation_tbs(issuing.certificate, key.public_key(), role=0x02, entity="90-B3-D5-1F-30-01-00-00")
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID

from cryptosvc.core.names import Environment, Eui64, KeyId, ModuleName, RemotePartyRole, SystemName
from cryptosvc.core.registry import KeyRecord, KeyState, Origin

AT = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
"""When the specimens are signed."""

TEST_POLICY = "1.2.826.0.1.8641679.1.2.1.4"
SUPPLIER = "90-B3-D5-1F-30-01-00-00"
ORGANISATION_DAYS = 3653
ISSUING_VALIDITY_DAYS = 9132
_SECOND = timedelta(seconds=1)
_SIGNER = ec.generate_private_key(ec.SECP256R1())

PublicKey = ec.EllipticCurvePublicKey


def nanoseconds(moment: datetime) -> int:
    """Nanoseconds since 1970."""
    return int(moment.timestamp()) * 1_000_000_000


def key_pair(seed: str) -> ec.EllipticCurvePrivateKey:
    """A P-256 key from a word, the same every time."""
    return ec.derive_private_key(int.from_bytes(hashlib.sha256(seed.encode()).digest()), ec.SECP256R1())


def point_of(key: PublicKey) -> bytes:
    """The 65 octets of the point."""
    return key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)


def key_identifier(key: PublicKey) -> bytes:
    """RFC 5280 method 2."""
    digest = hashlib.sha1(point_of(key)).digest()  # noqa: S324 -- an identifier, by the standard
    return bytes([0x40 | digest[12] & 0x0F]) + digest[13:]


def oca_name(role: int, common_name: str) -> x509.Name:
    """`OU=<role>, CN=<name>`, PrintableString."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, f"{role:02X}", _ASN1Type.PrintableString),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name, _ASN1Type.PrintableString),
        ]
    )


def organisation_name(role: int, entity: str, common_name: str = "") -> x509.Name:
    """`[CN=<name>,] OU=<role>`, UTF8String, and the EUI-64 as x500UniqueIdentifier."""
    octets = bytes.fromhex(entity.replace("-", ""))
    parts = [
        x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, f"{role:02X}"),
        x509.NameAttribute(NameOID.X500_UNIQUE_IDENTIFIER, b"\x00" + octets, _ASN1Type.BitString),
    ]
    if common_name:
        parts.insert(0, x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    return x509.Name(parts)


def key_usage(*names: str) -> x509.KeyUsage:
    """KeyUsage with these bits, by pyca's argument names."""
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


def policies(*oids: str) -> x509.CertificatePolicies:
    """CertificatePolicies without qualifiers."""
    return x509.CertificatePolicies(
        [x509.PolicyInformation(x509.ObjectIdentifier(oid), None) for oid in oids]
    )


def _begin(
    issuer: x509.Name, subject: x509.Name, key: PublicKey, serial: int, start: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days) - _SECOND)
    )


def _authority(key_identifier_: bytes) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier(key_identifier_, None, None)


def certificate_builder(tbs_of: x509.CertificateBuilder) -> bytes:
    """TBSCertificate of a builder, signed by a key that is thrown away."""
    return tbs_of.sign(_SIGNER, hashes.SHA256()).tbs_certificate_bytes


def root_tbs(
    key: PublicKey,
    *,
    name: str = "ZA",
    serial: int = 0x11,
    start: datetime = AT,
    days: int = 18_263,
    contingency: bytes = b"",
) -> bytes:
    """TBSCertificate of a self-signed Root OCA; `contingency` is the value of the RFC 5934 extension."""
    return certificate_builder(root_builder(key, name, serial, start, days, contingency))


def root_builder(
    key: PublicKey, name: str, serial: int, start: datetime, days: int, contingency: bytes = b""
) -> x509.CertificateBuilder:
    subject = oca_name(0, name)
    builder = (
        _begin(subject, subject, key, serial, start, days)
        .add_extension(key_usage("key_cert_sign", "crl_sign"), critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(policies("2.5.29.32.0"), critical=True)
        .add_extension(x509.SubjectKeyIdentifier(key_identifier(key)), critical=False)
    )
    if contingency:
        oid = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.20")
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, contingency), critical=False)
    return builder


def issuing_tbs(
    root: bytes,
    key: PublicKey,
    *,
    name: str = "Z1",
    serial: int = 0x22,
    start: datetime = AT,
    days: int = 9132,
) -> bytes:
    """TBSCertificate of an Issuing OCA under the DER certificate `root`."""
    return certificate_builder(issuing_builder(root, key, name, serial, start, days))


def issuing_builder(
    root: bytes, key: PublicKey, name: str, serial: int, start: datetime, days: int
) -> x509.CertificateBuilder:
    issuer = x509.load_der_x509_certificate(root)
    return (
        _begin(issuer.subject, oca_name(7, name), key, serial, start, days)
        .add_extension(key_usage("key_cert_sign", "crl_sign"), critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(policies(TEST_POLICY), critical=True)
        .add_extension(x509.SubjectKeyIdentifier(key_identifier(key)), critical=False)
        .add_extension(_authority(_own_identifier(issuer)), critical=False)
    )


def organisation_builder(
    issuing: bytes,
    key: PublicKey,
    *,
    role: int = 0x02,
    entity: str = SUPPLIER,
    common_name: str = "",
    usage: str = "digital_signature",
    serial: int = 0x4FBC525201A1D7586C1BC1C4734DEB9F,
    start: datetime = AT,
    days: int = ORGANISATION_DAYS,
    policy: str = TEST_POLICY,
) -> x509.CertificateBuilder:
    """A builder for an Organisation Certificate under the DER certificate `issuing`; sign it with any key object."""
    issuer = x509.load_der_x509_certificate(issuing)
    return (
        _begin(issuer.subject, organisation_name(role, entity, common_name), key, serial, start, days)
        .add_extension(key_usage(usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier(key_identifier(key)), critical=False)
        .add_extension(policies(policy), critical=True)
        .add_extension(_authority(_own_identifier(issuer)), critical=False)
    )


def organisation_tbs(issuing: bytes, key: PublicKey, **choices: object) -> bytes:
    """TBSCertificate of an Organisation under the DER certificate `issuing`; see `organisation_builder`."""
    return certificate_builder(organisation_builder(issuing, key, **choices))  # type: ignore[arg-type]


def crl_builder(
    issuer: bytes,
    *,
    number: int = 1,
    this_update: datetime = AT,
    lasting: timedelta = timedelta(hours=48),
    revoked: Sequence[tuple[int, datetime, x509.ReasonFlags | None]] = (),
    only_ca: bool = False,
) -> x509.CertificateRevocationListBuilder:
    """A builder for a revocation list of the DER certificate `issuer`: an ARL where that is a root's."""
    certificate = x509.load_der_x509_certificate(issuer)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(certificate.subject)
        .last_update(this_update)
        .next_update(this_update + lasting)
        .add_extension(_authority(_own_identifier(certificate)), critical=False)
        .add_extension(x509.CRLNumber(number), critical=False)
    )
    if only_ca:
        scope = x509.IssuingDistributionPoint(
            full_name=None,
            relative_name=None,
            only_contains_user_certs=False,
            only_contains_ca_certs=True,
            only_some_reasons=None,
            indirect_crl=False,
            only_contains_attribute_certs=False,
        )
        builder = builder.add_extension(scope, critical=True)
    for serial, when, why in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when)
        if why is not None:
            entry = entry.add_extension(x509.CRLReason(why), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    return builder


def crl_tbs(issuer: bytes, **choices: object) -> bytes:
    """TBSCertList of a revocation list; see `crl_builder`."""
    return crl_builder(issuer, **choices).sign(_SIGNER, hashes.SHA256()).tbs_certlist_bytes  # type: ignore[arg-type]


def csr_builder(
    subject: x509.Name, usage: Sequence[str] = ("digital_signature",)
) -> x509.CertificateSigningRequestBuilder:
    """A builder for a request; no attributes where `usage` is empty."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return builder.add_extension(key_usage(*usage), critical=True) if usage else builder


def csr_info(
    key: ec.EllipticCurvePrivateKey, subject: x509.Name, usage: Sequence[str] = ("digital_signature",)
) -> bytes:
    """CertificationRequestInfo for the public half of `key`."""
    return csr_builder(subject, usage).sign(key, hashes.SHA256()).tbs_certrequest_bytes


@dataclass(frozen=True)
class Authority:
    """An OCA: its key and its DER certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: bytes


def root_authority(name: str = "ZA", start: datetime = AT - timedelta(days=1)) -> Authority:
    """A Root OCA that began a day ago."""
    key = key_pair(f"root {name}")
    builder = root_builder(key.public_key(), name, 0x11, start, 18_263)
    return Authority(key, builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER))


def issuing_authority(
    root: Authority, name: str = "Z1", start: datetime = AT - timedelta(days=1)
) -> Authority:
    """An Issuing OCA under `root` that began a day ago."""
    key = key_pair(f"issuing {name}")
    builder = issuing_builder(root.certificate, key.public_key(), name, 0x22, start, 9132)
    return Authority(key, builder.sign(root.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER))


def organisation_certificate(issuing: Authority, key: PublicKey, **choices: object) -> bytes:
    """A finished Organisation Certificate, DER."""
    builder = organisation_builder(issuing.certificate, key, **choices)  # type: ignore[arg-type]
    return builder.sign(issuing.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def key_record(
    key_class: str,
    key: PublicKey,
    certificate: bytes = b"",
    *,
    role: int | None = None,
    entity: str = "",
    state: KeyState = KeyState.ACTIVE,
) -> KeyRecord:
    """A key record as the registry would hold it."""
    return KeyRecord(
        key_id=KeyId(f"test-{key_class}"),
        version=1,
        key_class=key_class,
        state=state,
        system=SystemName("test-system"),
        environment=Environment.TEST,
        module=ModuleName("test-module"),
        label=f"test-{key_class}",
        object_id=b"\x01",
        public_point=point_of(key),
        certificate=certificate,
        eui64=Eui64.parse(entity) if entity else None,
        role=None if role is None else RemotePartyRole(role),
        origin=Origin.GENERATED,
        transferable=True,
        signs_for_eligible_user=False,
    )


def _own_identifier(certificate: x509.Certificate) -> bytes:
    return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
