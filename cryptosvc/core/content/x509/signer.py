"""The key that is asked: its own certificate, and the statement that certificates, requests and lists do not have."""

from cryptosvc.core.content.base import Statement
from cryptosvc.core.content.x509.extensions import OCA_USAGES, KeyUsage
from cryptosvc.core.content.x509.identity import CertificateFacts, read_certificate
from cryptosvc.core.errors import Forbidden, Malformed, WrongState
from cryptosvc.core.keyclass import AUTHORITY_CLASSES, Usage, ceiling
from cryptosvc.core.names import ContentForm, Environment, UnixNanoseconds
from cryptosvc.core.registry import KeyRecord

_SECOND = 1_000_000_000
_FOR_SIGNATURES = frozenset({KeyUsage.DIGITAL_SIGNATURE})
_FOR_KEY_AGREEMENT = frozenset({KeyUsage.KEY_AGREEMENT})


def require_own_certificate(key: KeyRecord) -> None:
    """Require of a key's certificate what its class signs under: an OCA Certificate, or an Organisation's.

    Raises:
        Forbidden: as `certificate_of` for the classes of OCA keys, as `require_organisation` for all others.

    """
    if key.key_class in AUTHORITY_CLASSES:
        certificate_of(key)
    else:
        require_organisation(key)


def certificate_of(key: KeyRecord) -> CertificateFacts:
    """Read the OCA Certificate of a signing key.

    Raises:
        Forbidden: the key has none, one that cannot be read, one of another key, or one that is not an OCA's.

    """
    if not key.certificate:
        raise _forbidden(
            key, "this key has no certificate yet, so it can issue nothing", "key-certificate/none"
        )
    facts = _own(key)
    if not facts.is_ca or facts.usages != OCA_USAGES:
        raise _forbidden(key, "this key's certificate is not an OCA Certificate", "key-certificate/not-oca")
    return facts


def require_organisation(key: KeyRecord) -> None:
    """Require that a key's certificate is an Organisation's and says what its record says.

    In environment `test` a key may be without a certificate, and then its record stands alone.

    Entity and role decide what a key may sign, and the record has them from the certificate; where the two have come
    apart, whoever relies on the certificate would be told another signer than was judged.

    Raises:
        Forbidden: there is none in `live`; it cannot be read, is of another key, entity or role, or is not for
            signatures (a key that derives: for key agreement).

    """
    if not key.certificate and key.environment is Environment.TEST:
        return
    if not key.certificate:
        raise _forbidden(
            key,
            "this key has no certificate yet, and in live nothing is signed under a name nobody certified; "
            "a key custodian attaches it",
            "key-certificate/none",
        )
    facts = _own(key)
    if (facts.eui64, facts.role) != (key.eui64, key.role):
        raise _forbidden(
            key,
            "this key's certificate names another entity or role than its record",
            "key-certificate/other-party",
        )
    derives = Usage.DERIVE in ceiling(key.key_class).template.usages
    if facts.is_ca or facts.usages != (_FOR_KEY_AGREEMENT if derives else _FOR_SIGNATURES):
        raise _forbidden(
            key,
            f"this key's certificate is not for {'key agreement' if derives else 'digital signatures'} alone",
            "key-certificate/key-usage",
        )


def require_in_force(key: KeyRecord, at: UnixNanoseconds) -> None:
    """Require that a key's certificate, where it has one, is valid now: from notBefore to notAfter, both included.

    Whoever relies on the signature holds it against that certificate, and a device that finds it out of date would
    refuse the message after its counter was used up.

    Args:
        key: whose certificate was read by `require_organisation`.
        at: when the case was gathered.

    Raises:
        WrongState: it is not valid yet, or not any more.

    Source: RFC 5280 4.1.2.5 (both ends included, in whole seconds).
    """
    if not key.certificate:
        return
    facts = _own(key)
    if at < facts.not_before:
        raise _out_of_date(
            key,
            "this key's certificate is not valid yet; wait, or look at the clock of the service",
            "key-certificate/not-yet-valid",
        )
    if at >= facts.not_after + _SECOND:
        raise _out_of_date(
            key,
            "this key's certificate is not valid any more; a key custodian attaches its successor",
            "key-certificate/expired",
        )


def _own(key: KeyRecord) -> CertificateFacts:
    try:
        facts = read_certificate(key.certificate)
    except Malformed:
        raise _forbidden(
            key,
            "this key's own certificate cannot be read; a key custodian must replace it",
            "key-certificate/malformed",
        ) from None
    if facts.public_point != key.public_point:
        raise _forbidden(key, "this key's certificate is for another key", "key-certificate/other-key")
    return facts


def require_no_statement(statement: Statement, form: ContentForm) -> None:
    """A certificate or revocation list belongs to no service request and is for no User."""
    if statement.service_reference_variant or statement.user_id:
        raise Malformed(
            f"a {form} has no Service Reference Variant and no User ID; leave both out",
            rule="statement/not-of-this-form",
            field="service_reference_variant" if statement.service_reference_variant else "user_id",
        )


def _forbidden(key: KeyRecord, message: str, rule: str) -> Forbidden:
    return Forbidden(message, rule=rule, clause=ceiling(key.key_class).clause, field="key_id")


def _out_of_date(key: KeyRecord, message: str, rule: str) -> WrongState:
    return WrongState(message, rule=rule, clause=ceiling(key.key_class).clause, field="key_id")
