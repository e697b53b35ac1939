"""TBSCertificate as a structure: version 3, ecdsa-with-SHA256 without parameters, everything in its place and type.

Which values a certificate of a kind may have is the business of `certificate` and `identity`.

Source: RFC 5280 4.1; RFC 5758 3.2 (parameters absent).
"""

from dataclasses import dataclass

from cryptosvc.core.content.x509 import der
from cryptosvc.core.content.x509.extensions import Extension, read_extensions
from cryptosvc.core.content.x509.public_key import point_of
from cryptosvc.core.errors import Malformed
from cryptosvc.core.names import UnixNanoseconds

ECDSA_WITH_SHA256 = der.encode(
    der.SEQUENCE, der.encode(der.OBJECT_IDENTIFIER, bytes.fromhex("2a8648ce3d040302"))
)
"""AlgorithmIdentifier, DER."""

_VERSION = 0xA0
_EXTENSIONS = 0xA3
_V3 = der.encode(der.INTEGER, b"\x02")


@dataclass(frozen=True, slots=True, kw_only=True)
class TbsCertificate:
    """A TBSCertificate.

    Args:
        serial: positive, at most 20 content octets.
        issuer, subject: Names as walked.
        not_before, not_after: validity, both ends included.
        public_point: uncompressed P-256 point on the curve, 65 octets.
        extensions: in their order.

    """

    serial: int
    issuer: der.Node
    not_before: UnixNanoseconds
    not_after: UnixNanoseconds
    subject: der.Node
    public_point: bytes
    extensions: tuple[Extension, ...]

    def extension(self, oid: str) -> Extension | None:
        """Find an extension."""
        return next((extension for extension in self.extensions if extension.oid == oid), None)


def read_tbs(node: der.Node) -> TbsCertificate:
    """Read the structure.

    Raises:
        Malformed: the rule begins with `tbs-certificate/`, `public-key/` or `extension/`.

    """
    if node.tag != der.SEQUENCE:
        raise Malformed("a TBSCertificate is a SEQUENCE", rule="tbs-certificate/structure")
    fields = der.Fields(node, "tbs-certificate")
    version = fields.take(_VERSION)
    if version.content != _V3:
        raise Malformed("the certificate is not version 3", rule="tbs-certificate/version")
    serial = serial_number(fields.take(der.INTEGER), 20)
    require_algorithm(fields.take(der.SEQUENCE))
    issuer = fields.take(der.SEQUENCE)
    validity = der.Fields(fields.take(der.SEQUENCE), "tbs-certificate")
    not_before = der.instant(validity.take(der.UTC_TIME, der.GENERALIZED_TIME))
    not_after = der.instant(validity.take(der.UTC_TIME, der.GENERALIZED_TIME))
    validity.end()
    subject = fields.take(der.SEQUENCE)
    point = point_of(fields.take(der.SEQUENCE))
    wrapper = der.Fields(fields.take(_EXTENSIONS), "tbs-certificate")
    extensions = read_extensions(wrapper.take(der.SEQUENCE))
    wrapper.end()
    fields.end()
    if not_after < not_before:
        raise Malformed("the certificate ends before it begins", rule="tbs-certificate/validity")
    return TbsCertificate(
        serial=serial,
        issuer=issuer,
        not_before=not_before,
        not_after=not_after,
        subject=subject,
        public_point=point,
        extensions=extensions,
    )


def serial_number(node: der.Node, longest: int) -> int:
    """Read a positive serial number of at most `longest` content octets."""
    value = der.integer(node)
    if value <= 0 or len(node.content) > longest:
        raise Malformed(
            f"a serial number is positive and has at most {longest} octets", rule="certificate/serial"
        )
    return value


def require_algorithm(node: der.Node) -> None:
    """Require ecdsa-with-SHA256, parameters absent."""
    if node.encoded != ECDSA_WITH_SHA256:
        raise Malformed(
            "the signature algorithm inside is not ecdsa-with-SHA256 without parameters",
            rule="signature/algorithm",
        )
