"""The key that is asked: its own certificate, and the statement that certificates, requests and lists do not have."""

from cryptosvc.core.content.base import Statement
from cryptosvc.core.content.x509.extensions import OCA_USAGES
from cryptosvc.core.content.x509.identity import CertificateFacts, read_certificate
from cryptosvc.core.errors import Forbidden, Malformed
from cryptosvc.core.names import ContentForm
from cryptosvc.core.registry import KeyRecord


def certificate_of(key: KeyRecord) -> CertificateFacts:
    """Read the OCA Certificate of a signing key.

    Raises:
        Forbidden: the key has none, one that cannot be read, one of another key, or one that is not an OCA's.

    """
    if not key.certificate:
        raise _forbidden("this key has no certificate yet, so it can issue nothing", "key-certificate/none")
    try:
        facts = read_certificate(key.certificate)
    except Malformed:
        raise _forbidden(
            "this key's own certificate cannot be read; a key custodian must replace it",
            "key-certificate/malformed",
        ) from None
    if facts.public_point != key.public_point:
        raise _forbidden("this key's certificate is for another key", "key-certificate/other-key")
    if not facts.is_ca or facts.usages != OCA_USAGES:
        raise _forbidden("this key's certificate is not an OCA Certificate", "key-certificate/not-oca")
    return facts


def require_no_statement(statement: Statement, form: ContentForm) -> None:
    """A certificate or revocation list belongs to no service request and is for no User."""
    if statement.service_reference_variant or statement.user_id:
        raise Malformed(
            f"a {form} has no Service Reference Variant and no User ID; leave both out",
            rule="statement/not-of-this-form",
            field="service_reference_variant" if statement.service_reference_variant else "user_id",
        )


def _forbidden(message: str, rule: str) -> Forbidden:
    return Forbidden(message, rule=rule, field="key_id")
