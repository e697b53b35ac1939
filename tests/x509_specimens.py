"""Valid payloads of every form with what judges them: our parse and bind, and the independent oracle."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from cryptography import x509

from cryptosvc.core.content.base import Content, Statement
from cryptosvc.core.content.x509 import certificate, crl, csr
from cryptosvc.core.content.x509.identity import known_oca
from cryptosvc.core.content.x509.profile import X509Profile
from cryptosvc.core.errors import Refusal
from cryptosvc.core.names import UnixNanoseconds
from cryptosvc.core.registry import KeyRecord
from tests import x509_oracle
from tests.certificates import (
    AT,
    SUPPLIER,
    crl_tbs,
    csr_info,
    issuing_authority,
    issuing_tbs,
    key_pair,
    key_record,
    nanoseconds,
    organisation_name,
    organisation_tbs,
    root_authority,
    root_tbs,
)

NOW = UnixNanoseconds(nanoseconds(AT))
ROOT = root_authority()
ISSUING = issuing_authority(ROOT)
ORGANISATION = key_pair("organisation")
ROOT_KEY = key_record("root-oca", ROOT.key.public_key(), ROOT.certificate, role=0)
ISSUING_KEY = key_record("issuing-oca", ISSUING.key.public_key(), ISSUING.certificate, role=7)
SUPPLIER_KEY = key_record("command-signing", ORGANISATION.public_key(), role=2, entity=SUPPLIER)
PROFILE = X509Profile(known_oca=frozenset({known_oca(ISSUING.certificate)}))
CONTINGENCY = bytes.fromhex("3011300b060960864801650304012d0402abcd")

_REASON = x509.ReasonFlags
_HOUR = timedelta(hours=1)
_ROOT_ISSUER = x509_oracle.Issuer(ROOT.certificate, ROOT.key)
_ISSUING_ISSUER = x509_oracle.Issuer(ISSUING.certificate, ISSUING.key)


@dataclass(frozen=True)
class Specimen:
    """A valid payload, the key it is for, and two judges of it and of whatever is made out of it."""

    payload: bytes
    key: KeyRecord
    form: str
    is_fine: Callable[[bytes], bool]

    def inspect(self, payload: bytes) -> Content:
        """Parse and bind, as the corridor does."""
        match self.form:
            case "certificate":
                content: Content = certificate.parse(payload, PROFILE)
                certificate.bind(content, self.key, Statement(), PROFILE, NOW)
            case "crl":
                content = crl.parse(payload, PROFILE)
                crl.bind(content, self.key, Statement(), PROFILE, NOW)
            case _:
                content = csr.parse(payload, PROFILE)
                csr.bind(content, self.key, Statement(), PROFILE, NOW)
        return content

    def judged(self, payload: bytes) -> Content | Refusal:
        """What `inspect` makes of it: the content, or the refusal. Anything else it raises is a failure of the test."""
        try:
            return self.inspect(payload)
        except Refusal as refusal:
            return refusal


def _issued(payload: bytes, key: KeyRecord, issuer: x509_oracle.Issuer) -> Specimen:
    return Specimen(payload, key, "certificate", lambda other: x509_oracle.certificate_is_fine(other, issuer))


def _listed(payload: bytes, key: KeyRecord, issuer: x509_oracle.Issuer) -> Specimen:
    known = frozenset({0x11, 0x22})
    return Specimen(payload, key, "crl", lambda other: x509_oracle.list_is_fine(other, issuer, known))


def _requested(payload: bytes) -> Specimen:
    entity = bytes.fromhex(SUPPLIER.replace("-", ""))
    return Specimen(
        payload,
        SUPPLIER_KEY,
        "csr",
        lambda other: x509_oracle.request_is_fine(other, ORGANISATION, entity, 2),
    )


_POINT = ORGANISATION.public_key()

SPECIMENS = {
    "root": _issued(root_tbs(ROOT.key.public_key()), ROOT_KEY, _ROOT_ISSUER),
    "root-contingency": _issued(
        root_tbs(ROOT.key.public_key(), contingency=CONTINGENCY), ROOT_KEY, _ROOT_ISSUER
    ),
    "issuing": _issued(
        issuing_tbs(ROOT.certificate, key_pair("new").public_key(), name="Z2"), ROOT_KEY, _ROOT_ISSUER
    ),
    "organisation": _issued(
        organisation_tbs(ISSUING.certificate, _POINT, serial=7), ISSUING_KEY, _ISSUING_ISSUER
    ),
    "organisation-named": _issued(
        organisation_tbs(ISSUING.certificate, _POINT, common_name="Señor & Co", usage="key_agreement"),
        ISSUING_KEY,
        _ISSUING_ISSUER,
    ),
    "arl": _listed(
        crl_tbs(
            ROOT.certificate,
            number=300,
            lasting=timedelta(days=366),
            revoked=[(0x22, AT - _HOUR, _REASON.ca_compromise)],
            only_ca=True,
        ),
        ROOT_KEY,
        _ROOT_ISSUER,
    ),
    "crl": _listed(
        crl_tbs(
            ISSUING.certificate,
            number=9,
            revoked=[(7, AT - _HOUR, _REASON.key_compromise), (5, AT - 2 * _HOUR, None)],
        ),
        ISSUING_KEY,
        _ISSUING_ISSUER,
    ),
    "crl-empty": _listed(crl_tbs(ISSUING.certificate), ISSUING_KEY, _ISSUING_ISSUER),
    "csr": _requested(csr_info(ORGANISATION, organisation_name(2, SUPPLIER))),
    "csr-named": _requested(csr_info(ORGANISATION, organisation_name(2, SUPPLIER, "GIT Test"))),
    "csr-bare": _requested(csr_info(ORGANISATION, organisation_name(2, SUPPLIER), ())),
}
