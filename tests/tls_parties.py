"""Parties of TLS handshakes with SMETS1 Devices: a key of class `tls`, its certificate, and OpenSSL on the other side."""

import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from cryptosvc.core.content.tls import handshake
from cryptosvc.core.names import ContentForm, UnixNanoseconds
from cryptosvc.core.registry import KeyRecord
from tests import certificates, tls_stack

NOW = datetime.now(UTC).replace(microsecond=0)
AT = UnixNanoseconds(int(NOW.timestamp()) * 1_000_000_000)


def private_key(name: str) -> ec.EllipticCurvePrivateKey:
    return certificates.key_pair(name)


@cache
def certificate(
    name: str, *, issuer: str = "tls authority", begins: int = -1, ends: int = 30, signs: bool = True
) -> x509.Certificate:
    """A certificate for the name `head.end`; `begins` and `ends` in days from now."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "head.end")])
    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)])
    return _signed(private_key(name).public_key(), subject, authority, issuer, begins, ends, signs=signs)


@cache
def authority(issuer: str = "tls authority") -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)])
    return _signed(private_key(issuer).public_key(), name, name, issuer, -1, 30, signs=None)


def _signed(public, subject, issuer_name, issuer, begins, ends, *, signs):
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer_name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + timedelta(days=begins))
        .not_valid_after(NOW + timedelta(days=ends))
        .add_extension(x509.BasicConstraints(ca=signs is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("head.end")]), critical=False)
        .add_extension(
            x509.KeyUsage(
                digital_signature=bool(signs),
                key_cert_sign=signs is None,
                crl_sign=signs is None,
                key_agreement=signs is False,
                **dict.fromkeys(
                    (
                        "content_commitment",
                        "key_encipherment",
                        "data_encipherment",
                        "encipher_only",
                        "decipher_only",
                    ),
                    False,
                ),
            ),
            critical=True,
        )
    )
    return builder.sign(private_key(issuer), hashes.SHA256())


def der(name: str, **parts) -> bytes:
    return certificate(name, **parts).public_bytes(Encoding.DER)


def key_record(name: str = "tls-head-end", certificate: bytes = b"") -> KeyRecord:
    """An active `tls` key, with or without a registered certificate."""
    return certificates.key_record("tls", private_key(name).public_key(), certificate)


def openssl(*, server: bool, version: ssl.TLSVersion, curve: str = "") -> ssl.SSLContext:
    """The Device's side: verifies our certificate, and as a server asks for it and sends one of its own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = context.maximum_version = version
    context.load_verify_locations(cadata=authority().public_bytes(Encoding.PEM).decode())
    context.verify_mode = ssl.CERT_REQUIRED
    if curve:
        context.set_ecdh_curve(curve)
    if server:
        private = private_key("device").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "device.pem"
            path.write_bytes(private + certificate("device").public_bytes(Encoding.PEM))
            context.load_cert_chain(path)
    return context


OURS = "tls-head-end"
PARSE = {
    ContentForm.TLS_SERVER_KEY_EXCHANGE: handshake.parse_key_exchange,
    ContentForm.TLS_TRANSCRIPT: handshake.parse_transcript,
}
SCENARIOS = {
    "1.2 server": (tls_stack.serve_1_2, True, ssl.TLSVersion.TLSv1_2),
    "1.2 client": (tls_stack.call_1_2, False, ssl.TLSVersion.TLSv1_2),
    "1.3 server": (tls_stack.serve_1_3, True, ssl.TLSVersion.TLSv1_3),
    "1.3 server, retried": (lambda s: tls_stack.serve_1_3(s, tls_stack.P256), True, ssl.TLSVersion.TLSv1_3),
    "1.3 client": (tls_stack.call_1_3, False, ssl.TLSVersion.TLSv1_3),
}


def signer(form: str, payload: bytes) -> bytes:
    """Parse, bind, sign in software, assemble: what the corridor does around the module."""
    key = key_record(OURS)
    content = PARSE[ContentForm(form)](payload)
    handshake.bind(content, key, AT)
    encoded = private_key(OURS).sign(content.signed_bytes, ec.ECDSA(hashes.SHA256()))
    r, s = decode_dss_signature(encoded)
    return handshake.assemble(content, r.to_bytes(32) + s.to_bytes(32), key)


def of_point(point: bytes) -> bytes:
    """DER of a certificate for a key that is elsewhere: its public point, uncompressed."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "head.end")])
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tls authority")])
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    return _signed(public, subject, issuer, "tls authority", -1, 30, signs=True).public_bytes(Encoding.DER)


def performed(
    name: str, sign: tls_stack.Signer = signer, certificate: bytes | None = None
) -> tls_stack.Stack:
    """One whole handshake with OpenSSL."""
    walk, server, version = SCENARIOS[name]
    ours = der(OURS) if certificate is None else certificate
    stack = tls_stack.Stack(openssl(server=not server, version=version), ours, sign, server)
    walk(stack)
    return stack
