"""Whose certificates are known: the Organisations whose signed Commands are given a MAC, and who certifies Devices.

Both are a matter of deployment. An Organisation's certificate is registered beforehand; a Device's comes with each
request, since there are millions, and is believed because a configured Device authority signed it. In environment `test`
no authority need be configured; then a Device Certificate is read and held to the message, its chain is not checked, and
each record says so.

Example:
    >>> parties = Parties.of(organisation_certificates, device_authorities, chained=True)
    >>> peer = parties.device(certificate_der, target).public_point

Source: SEC G2.44(b); GBCS 12 (Device Certificates); RFC 5280 4.1.1.3, 6.1.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from cryptosvc.core.content.x509 import der
from cryptosvc.core.content.x509.extensions import KeyUsage
from cryptosvc.core.content.x509.identity import CertificateFacts, read_certificate
from cryptosvc.core.errors import Forbidden, Malformed

DEVICE_FIELD = "device_certificate"

_SIGNS = frozenset({KeyUsage.DIGITAL_SIGNATURE})
_AGREES = frozenset({KeyUsage.KEY_AGREEMENT})
_ECDSA = ec.ECDSA(hashes.SHA256())


@dataclass(frozen=True, slots=True, kw_only=True)
class Parties:
    """Certificates this deployment knows.

    Args:
        organisations: EUI-64 (8 octets) → its registered certificates for digital signatures.
        authorities: certificates of those who certify Devices.
        chained: a Device Certificate must be signed by one of them.

    """

    organisations: Mapping[bytes, tuple[CertificateFacts, ...]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    authorities: tuple[CertificateFacts, ...] = ()
    chained: bool = True

    @classmethod
    def of(cls, organisations: Iterable[bytes], authorities: Iterable[bytes], *, chained: bool) -> Self:
        """Read DER certificates; Malformed for one that is not of its kind, or where `chained` has no authority."""
        known: dict[bytes, tuple[CertificateFacts, ...]] = {}
        for encoded in organisations:
            facts = read_certificate(encoded)
            if facts.eui64 is None or facts.role is None or facts.usages != _SIGNS:
                raise Malformed(
                    "a registered originator has an Organisation Certificate for digital signatures",
                    rule="parties/organisation",
                )
            known[facts.eui64.octets] = (*known.get(facts.eui64.octets, ()), facts)
        issuers = tuple(map(read_certificate, authorities))
        if not all(issuer.is_ca for issuer in issuers):
            raise Malformed(
                "a Device authority has the certificate of a certification authority",
                rule="parties/authority",
            )
        return cls(
            organisations=MappingProxyType(known), authorities=issuers, chained=chained or bool(issuers)
        )

    def device(self, encoded: bytes, target: bytes) -> CertificateFacts:
        """Read the key agreement certificate of the Device a message is for; whether it is in force is not asked.

        Raises:
            Malformed: there is none, or it is none.
            Forbidden: it is another's, for another purpose, or not of a known authority.

        """
        if not encoded:
            raise Malformed(
                "a MAC is made for a Device: send its key agreement certificate",
                rule="gbcs/no-device-certificate",
                field=DEVICE_FIELD,
            )
        try:
            facts = read_certificate(encoded)
        except Malformed as error:
            error.field = DEVICE_FIELD
            raise
        if facts.eui64 is None or facts.role is not None or facts.eui64.octets != target:
            raise _forbidden("the certificate is not of the Device the message is for", "gbcs/other-device")
        if facts.usages != _AGREES:
            raise _forbidden("the certificate is not for key agreement alone", "gbcs/device-usage")
        if self.chained:
            _require_issued(encoded, facts, self.authorities)
        return facts


def verifies(point: bytes, signature: bytes, octets: bytes) -> bool:
    """Whether r‖s (64 octets) is an ECDSA P-256 signature with SHA-256 of `octets` under a point of 65 octets."""
    r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
    return _verifies(point, encode_dss_signature(r, s), octets)


@lru_cache(maxsize=4096)
def _require_issued(
    encoded: bytes, facts: CertificateFacts, authorities: tuple[CertificateFacts, ...]
) -> None:
    """Raise Forbidden unless an authority of the issuer's name signed the certificate; what raises is not kept."""
    fields = der.Fields(der.read(encoded, limit=len(encoded)), "certificate")
    tbs = fields.take(der.SEQUENCE)
    fields.take(der.SEQUENCE)
    signature = fields.take(der.BIT_STRING).content[1:]
    for authority in authorities:
        if authority.subject_der == facts.issuer_der and _verifies(
            authority.public_point, signature, tbs.encoded
        ):
            return
    raise _forbidden("no known authority signed the Device's certificate", "gbcs/device-chain")


def _verifies(point: bytes, signature: bytes, octets: bytes) -> bool:
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point).verify(signature, octets, _ECDSA)
    except (InvalidSignature, ValueError):
        return False
    return True


def _forbidden(message: str, rule: str) -> Forbidden:
    return Forbidden(message, rule=rule, clause="G2.44(b)", field=DEVICE_FIELD)
