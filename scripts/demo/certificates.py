"""Certificates of the demonstration: builders for the SMKI-like hierarchy, and a finished TLS hierarchy beside it."""

import datetime as dt
import hashlib
import ipaddress
import secrets
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

TEST_POLICY = "1.2.826.0.1.8641679.1.2.1.4"
ANY_POLICY = "2.5.29.32.0"
_DAY = dt.timedelta(days=1)
_SECOND = dt.timedelta(seconds=1)


def oca_name(role: int, name: str) -> x509.Name:
    """`OU=00|07, CN=name`, PrintableString."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, f"{role:02X}", _ASN1Type.PrintableString),
            x509.NameAttribute(NameOID.COMMON_NAME, name, _ASN1Type.PrintableString),
        ]
    )


def root_certificate(key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    """A self-issued Root OCA Certificate, 50 years."""
    name = oca_name(0, "QUICKSTART-ROOT")
    return _oca(name, name, key, days=50 * 365, path_length=None, policy=ANY_POLICY)


def issuing_certificate(root: x509.Certificate, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    """An Issuing OCA Certificate, 25 years."""
    name = oca_name(7, "QUICKSTART-ISSUING")
    builder = _oca(root.subject, name, key, days=25 * 365, path_length=0, policy=TEST_POLICY)
    return builder.add_extension(_authority(root), critical=False)


def organisation_certificate(
    issuing: x509.Certificate, key: ec.EllipticCurvePublicKey, role: int, entity: bytes
) -> x509.CertificateBuilder:
    """An Organisation Certificate for digital signatures, 10 years."""
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, f"{role:02X}"),
            x509.NameAttribute(NameOID.X500_UNIQUE_IDENTIFIER, b"\x00" + entity, _ASN1Type.BitString),
        ]
    )
    return (
        _begin(issuing.subject, subject, key, days=10 * 365)
        .add_extension(_usage("digital_signature"), critical=True)
        .add_extension(_policies(TEST_POLICY), critical=True)
        .add_extension(x509.SubjectKeyIdentifier(key_identifier(key)), critical=False)
        .add_extension(_authority(issuing), critical=False)
    )


def key_identifier(key: ec.EllipticCurvePublicKey) -> bytes:
    """RFC 5280 4.2.1.2 method 2: 0100 and the last 60 bits of SHA-1 over the point."""
    digest = hashlib.sha1(key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)).digest()  # noqa: S324 - an identifier, by the standard
    return bytes([0x40 | digest[12] & 0x0F]) + digest[13:]


def _oca(
    issuer: x509.Name,
    subject: x509.Name,
    key: ec.EllipticCurvePublicKey,
    *,
    days: int,
    path_length: int | None,
    policy: str,
) -> x509.CertificateBuilder:
    return (
        _begin(issuer, subject, key, days=days)
        .add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_policies(policy), critical=True)
        .add_extension(x509.SubjectKeyIdentifier(key_identifier(key)), critical=False)
    )


def _begin(
    issuer: x509.Name, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, days: int
) -> x509.CertificateBuilder:
    start = dt.datetime.now(dt.UTC).replace(microsecond=0)
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(key)
        .serial_number(int.from_bytes(b"\x01" + secrets.token_bytes(15)))
        .not_valid_before(start)
        .not_valid_after(start + days * _DAY - _SECOND)
    )


def _usage(*names: str) -> x509.KeyUsage:
    every = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign"
    )
    every += " crl_sign encipher_only decipher_only"
    return x509.KeyUsage(**{name: name in names for name in every.split()})


def _policies(oid: str) -> x509.CertificatePolicies:
    return x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier(oid), None)])


def _authority(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    return x509.AuthorityKeyIdentifier(identifier, None, None)


class TlsAuthority:
    """A CA for TLS, of no other use: server and client certificates as PEM files in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "quickstart TLS")])
        self._builder = x509.CertificateBuilder().issuer_name(self._name)
        certificate = self._finish(
            self._name, self._key.public_key(), [(x509.BasicConstraints(ca=True, path_length=0), True)]
        )
        folder.mkdir(parents=True)
        (folder / "ca.pem").write_bytes(certificate.public_bytes(Encoding.PEM))

    def issue(self, name: str, *, server: bool = False) -> None:
        """Write NAME.pem and NAME.key."""
        key = ec.generate_private_key(ec.SECP256R1())
        usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        extensions: list[tuple[x509.ExtensionType, bool]] = [(x509.ExtendedKeyUsage([usage]), False)]
        if server:
            hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            extensions.append((x509.SubjectAlternativeName(hosts), False))
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._finish(subject, key.public_key(), extensions)
        (self._folder / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
        private = self._folder / f"{name}.key"
        private.touch(mode=0o600)
        private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    def _finish(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        extensions: list[tuple[x509.ExtensionType, bool]],
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        builder = (
            self._builder.subject_name(subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _DAY)
            .not_valid_after(now + 365 * _DAY)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(self._key, hashes.SHA256())
