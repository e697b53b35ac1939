"""The other messages of a handshake with certificates, and the ephemeral key a server signs in TLS 1.2.

Source: RFC 8446 4.3 and 4.4, RFC 5246 7.4, RFC 8422 5.4 and 5.7, RFC 6066 8.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from cryptosvc.core.content.tls.hellos import SIGNATURE_ALGORITHMS, ClientHello, require_answers
from cryptosvc.core.content.tls.reading import Message, Reader, malformed

CURVES: Mapping[int, ec.EllipticCurve] = {23: ec.SECP256R1(), 24: ec.SECP384R1(), 25: ec.SECP521R1()}
"""NamedCurve → curve, of those whose points can be checked. Source: RFC 8422 5.1.1."""

_NAMED_CURVE = 3
_UNCOMPRESSED = 4
_ECDSA_SIGN = 64
_OCSP = 1


@dataclass(frozen=True, slots=True)
class EcdhParams:
    """ServerECDHParams: the curve by number, the point uncompressed, and both as they are signed."""

    curve: int
    point: bytes
    octets: bytes


def ecdh_params(reader: Reader) -> EcdhParams:
    """Take ServerECDHParams: a named curve and a point on it."""
    if reader.number(1) != _NAMED_CURVE:
        raise malformed("has parameters of no named curve", "curve")
    curve = reader.number(2)
    if curve not in CURVES:
        raise malformed("names a curve that is not read here", "curve")
    point = reader.vector(1, least=1)
    require_on_curve(curve, point)
    octets = bytes([_NAMED_CURVE]) + curve.to_bytes(2) + bytes([len(point)]) + point
    return EcdhParams(curve, point, octets)


def require_on_curve(curve: int, point: bytes) -> None:
    """Raise Malformed unless `point` is an uncompressed point of the curve."""
    if point[0] == _UNCOMPRESSED:
        try:
            ec.EllipticCurvePublicKey.from_encoded_point(CURVES[curve], point)
        except ValueError:
            pass
        else:
            return
    raise malformed("has a point that is not on its curve, uncompressed", "point")


def certificates_1_3(message: Message) -> tuple[bytes, ...]:
    """Read a TLS 1.3 Certificate; its context is empty inside a handshake. DER of each certificate, own first."""
    reader = message.reader()
    if reader.vector(1):
        raise malformed(
            "has a certificate context, which only comes after a handshake", "certificate-context"
        )
    listed = Reader(reader.vector(3, least=1), "the certificate list")
    reader.end()
    found = []
    while listed.left:
        found.append(listed.vector(3, least=1))
        listed.extensions()
    return tuple(found)


def certificates_1_2(message: Message) -> tuple[bytes, ...]:
    """Read a TLS 1.2 Certificate: DER of each certificate, own first."""
    reader = message.reader()
    listed = Reader(reader.vector(3, least=1), "the certificate list")
    reader.end()
    found = []
    while listed.left:
        found.append(listed.vector(3, least=1))
    return tuple(found)


def encrypted_extensions(message: Message, offered: ClientHello) -> None:
    """Read EncryptedExtensions; each must have been offered."""
    reader = message.reader()
    require_answers(reader.extensions(), offered)
    reader.end()


def request_1_3(message: Message) -> tuple[int, ...]:
    """Read a TLS 1.3 CertificateRequest: the signature schemes it takes."""
    reader = message.reader()
    if reader.vector(1):
        raise malformed(
            "has a certificate context, which only comes after a handshake", "certificate-context"
        )
    extensions = reader.extensions(least=2)
    reader.end()
    if SIGNATURE_ALGORITHMS not in extensions:
        raise malformed("asks for a certificate and names no signature scheme", "schemes")
    schemes = Reader(extensions[SIGNATURE_ALGORITHMS], "signature_algorithms")
    found = schemes.numbers(2, 2)
    schemes.end()
    return found


def request_1_2(message: Message) -> tuple[int, ...]:
    """Read a TLS 1.2 CertificateRequest, which must take ECDSA: the signature schemes it takes."""
    reader = message.reader()
    if _ECDSA_SIGN not in reader.vector(1, least=1):
        raise malformed("asks for a certificate of another kind than ECDSA", "certificate-type")
    schemes = reader.numbers(2, 2)
    names = Reader(reader.vector(2), "the certificate authorities")
    while names.left:
        names.vector(2, least=1)
    reader.end()
    return schemes


def status(message: Message) -> None:
    """Read a CertificateStatus."""
    reader = message.reader()
    if reader.number(1) != _OCSP:
        raise malformed("has a certificate status of an unknown kind", "status")
    reader.vector(3, least=1)
    reader.end()


def signature(reader: Reader) -> None:
    """Take somebody else's DigitallySigned to the end; it is that side's affair whether it verifies."""
    reader.number(2)
    reader.vector(2, least=1)
    reader.end()


def server_key_exchange(message: Message) -> EcdhParams:
    """Read the other side's ServerKeyExchange."""
    reader = message.reader()
    params = ecdh_params(reader)
    signature(reader)
    return params


def client_key_exchange(message: Message, curve: int) -> None:
    """Read a ClientKeyExchange: a point on the server's curve."""
    reader = message.reader()
    point = reader.vector(1, least=1)
    reader.end()
    require_on_curve(curve, point)


def require_empty(message: Message) -> None:
    """Read a message that has no body."""
    message.reader().end()


def require_octets(message: Message, count: int) -> None:
    """Read a message of exactly that many octets (Finished)."""
    if len(message.body) != count:
        raise malformed("has a Finished of another length than its hash", "finished")
