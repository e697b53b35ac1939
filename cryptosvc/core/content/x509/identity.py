"""Facts of a finished certificate: whose it is, for what, from when to when.

Reads the certificates of the SMKI hierarchies as they are (Organisation, OCA, Device), strictly as far as anything
here depends on it. The signature is neither verified nor read: what makes a certificate believed is the registry
record it is in. (Two published Device Certificates have a signature whose integers are not minimal.)

Example:
    >>> read_certificate(certificate_der).eui64
    Eui64(octets=b'...')

Source: RFC 5280 4.1; published test certificates of the SMKI Organisation and Device hierarchies.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

from cryptosvc.core.content.x509 import der, extensions
from cryptosvc.core.content.x509.distinguished import OcaName, attributes, read_name, rfc4514
from cryptosvc.core.content.x509.extensions import KeyUsage
from cryptosvc.core.content.x509.profile import KnownOca
from cryptosvc.core.content.x509.public_key import key_identifier
from cryptosvc.core.content.x509.tbs import TbsCertificate, read_tbs, require_algorithm
from cryptosvc.core.errors import Malformed
from cryptosvc.core.keyclass import AUTHORITY_CLASSES
from cryptosvc.core.names import EUI64_OCTETS, Eui64, RemotePartyRole, UnixNanoseconds
from cryptosvc.core.registry import KeyRecord

LARGEST_OCTETS = 8 * 1024

_NOT_READ = frozenset({extensions.CERTIFICATE_POLICIES, extensions.WRAPPED_APEX_CONTINGENCY_KEY})
"""Known, of no consequence here."""

_READ = frozenset(
    {
        extensions.SUBJECT_KEY_IDENTIFIER,
        extensions.AUTHORITY_KEY_IDENTIFIER,
        extensions.KEY_USAGE,
        extensions.BASIC_CONSTRAINTS,
        extensions.SUBJECT_ALTERNATIVE_NAME,
    }
)
_HARDWARE_MODULE_NAME = "1.3.6.1.5.5.7.8.4"
_CONTEXT_0 = 0xA0
_EMPTY_SEQUENCE = der.encode(der.SEQUENCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFacts:
    """What a certificate says.

    Args:
        subject_der, issuer_der: DER of the Names.
        issuer_text: the issuer as RFC 4514 text, last part first, as `CN=Z1,OU=07` (for X509IssuerName).
        serial: serial number.
        eui64: Entity Identifier of the Organisation, or of the Device; None for an OCA.
        role: Remote Party Role from the OU; None for a Device.
        public_point: uncompressed P-256 point, 65 octets.
        ski: subject key identifier, 8 octets.
        not_before, not_after: validity, both ends included.
        is_ca: basicConstraints say CA.
        usages: key usages.

    """

    subject_der: bytes
    issuer_der: bytes
    issuer_text: str
    serial: int
    eui64: Eui64 | None
    role: RemotePartyRole | None
    public_point: bytes
    ski: bytes
    not_before: UnixNanoseconds
    not_after: UnixNanoseconds
    is_ca: bool
    usages: frozenset[KeyUsage]


@lru_cache(maxsize=4096)
def read_certificate(encoded: bytes) -> CertificateFacts:
    """Read a DER certificate of at most 8 KiB.

    Raises:
        Malformed: it is not DER, not of the hierarchy's form (algorithm parameters, an OU that is not two upper-case
            hexadecimal digits, an unknown role, another key, an unknown critical extension), or identifies its key
            in another way than by method 2.

    """
    fields = der.Fields(der.read(encoded, limit=LARGEST_OCTETS), "certificate")
    tbs = read_tbs(fields.take(der.SEQUENCE))
    require_algorithm(fields.take(der.SEQUENCE))
    fields.take(der.BIT_STRING)
    fields.end()
    unknown = {extension.oid for extension in tbs.extensions if extension.critical} - _READ - _NOT_READ
    if unknown:
        raise Malformed(
            "the certificate has a critical extension that is not known", rule="certificate/critical"
        )
    eui64, role = _whose(tbs)
    usage = tbs.extension(extensions.KEY_USAGE)
    return CertificateFacts(
        subject_der=tbs.subject.encoded,
        issuer_der=tbs.issuer.encoded,
        issuer_text=rfc4514(attributes(tbs.issuer)),
        serial=tbs.serial,
        eui64=eui64,
        role=role,
        public_point=tbs.public_point,
        ski=_key_identifier(tbs),
        not_before=tbs.not_before,
        not_after=tbs.not_after,
        is_ca=_is_authority(tbs),
        usages=frozenset() if usage is None else extensions.key_usages(usage.value),
    )


def known_oca(encoded: bytes) -> KnownOca:
    """Name a DER OCA Certificate so that an Organisation ARL may list it; Malformed where it is not one."""
    facts = read_certificate(encoded)
    if not facts.is_ca:
        raise Malformed(
            "an Organisation ARL lists OCA Certificates; this one is not of a CA", rule="certificate/not-oca"
        )
    return KnownOca(facts.issuer_der, facts.serial)


def registered_oca(keys: Iterable[KeyRecord]) -> frozenset[KnownOca]:
    """Name the OCA Certificates that are registered with Root OCA and Issuing OCA keys, whatever the keys' state.

    Its owner may be suspended or compromised when a certificate has to be revoked, so no state is left out. A key
    without a certificate, or with one that is no OCA Certificate, adds nothing: nothing can be listed by it.
    """
    named = set()
    for key in keys:
        if key.certificate and key.key_class in AUTHORITY_CLASSES:
            with suppress(Malformed):
                named.add(known_oca(key.certificate))
    return frozenset(named)


def _whose(tbs: TbsCertificate) -> tuple[Eui64 | None, RemotePartyRole | None]:
    if not tbs.subject.children:
        return _device(tbs), None
    name = read_name(tbs.subject)
    if isinstance(name, OcaName):
        return None, name.role
    try:
        return name.entity, RemotePartyRole(name.role)
    except ValueError:
        raise Malformed(
            "the OU of the certificate is not a known Remote Party Role", rule="name/role"
        ) from None


def _device(tbs: TbsCertificate) -> Eui64:
    """Read the hwSerialNum of a Device Certificate: subjectAltName, one otherName, HardwareModuleName."""
    alternative = tbs.extension(extensions.SUBJECT_ALTERNATIVE_NAME)
    if alternative is None:
        raise Malformed("the certificate names nobody", rule="name/form")
    names = der.Fields(extensions.read_value(alternative.value), "alternative-name")
    other = der.Fields(names.take(_CONTEXT_0), "alternative-name")
    names.end()
    kind = der.object_identifier(other.take(der.OBJECT_IDENTIFIER))
    wrapper = der.Fields(other.take(_CONTEXT_0), "alternative-name")
    other.end()
    module = der.Fields(wrapper.take(der.SEQUENCE), "alternative-name")
    wrapper.end()
    module.take(der.OBJECT_IDENTIFIER)
    number = module.take(der.OCTET_STRING).content
    module.end()
    if kind != _HARDWARE_MODULE_NAME or len(number) != EUI64_OCTETS:
        raise Malformed("a Device Certificate names a hardware module by its EUI-64", rule="name/device")
    return Eui64(number)


def _is_authority(tbs: TbsCertificate) -> bool:
    """Read basicConstraints; some published Organisation Certificates have them, and they say nothing."""
    constraints = tbs.extension(extensions.BASIC_CONSTRAINTS)
    if constraints is None or constraints.value == _EMPTY_SEQUENCE:
        return False
    extensions.path_length(constraints.value)
    return True


def _key_identifier(tbs: TbsCertificate) -> bytes:
    identifier = tbs.extension(extensions.SUBJECT_KEY_IDENTIFIER)
    if identifier is None or extensions.subject_key_identifier(identifier.value) != key_identifier(
        tbs.public_point
    ):
        raise Malformed(
            "the subject key identifier is not method 2 of the public key", rule="certificate/ski"
        )
    return key_identifier(tbs.public_point)
