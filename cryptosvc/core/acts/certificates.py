"""Attaching a certificate to a key: checked against the key, its class, its issuer and the ECoS rules.

Source: Smart Energy Code G2.57 to G2.59, G2.60, G2.61, G5.13(b); RFC 5280 4.1, 6.1.3.
"""

import hashlib
from dataclasses import replace

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from cryptosvc.core.acts.base import Kind, Parameter, Turn, text_of
from cryptosvc.core.content.x509.extensions import OCA_USAGES
from cryptosvc.core.content.x509.identity import CertificateFacts, read_certificate
from cryptosvc.core.content.x509.signer import require_own_certificate
from cryptosvc.core.errors import Forbidden, Malformed
from cryptosvc.core.keyclass import AUTHORITY_CLASSES, ceiling
from cryptosvc.core.life import DAY, NANOSECONDS, UnixSeconds
from cryptosvc.core.names import RemotePartyRole
from cryptosvc.core.registry import KeyRecord
from cryptosvc.core.statement import Statement

PARAMETERS = (
    Parameter("certificate", Kind.HEX, "DER of the certificate, in hex"),
    Parameter(
        "issuer",
        Kind.NAME,
        "key id of the registered OCA key that issued it; the key's own for a root",
        required=False,
    ),
    Parameter(
        "issuer_certificate",
        Kind.HEX,
        "instead of issuer: DER of another system's OCA Certificate, which the governance policy lists",
        required=False,
    ),
    Parameter(
        "other_purposes",
        Kind.TRUTH,
        "the key also serves purposes that GBCS does not describe (G2.57)",
        required=False,
    ),
    Parameter(
        "replaces_recovered",
        Kind.HEX,
        "serial number, in hex, of the certificate revoked under the SMKI Recovery Procedure that this replaces (G2.59)",
        required=False,
    ),
)

GBCS_ROLES = frozenset(role for role in RemotePartyRole if role <= RemotePartyRole.OTHER)
"""Remote Party Roles that the GB Companion Specification knows; those above are Section L's (Annex A, Table 1)."""


def issuers(statement: Statement) -> tuple[tuple[str, str], ...]:
    """The issuing key's record is looked at, where the issuer is a key of this system."""
    name = text_of(statement, "issuer")
    return (("key-record", name),) if name else ()


def certified(turn: Turn, key: KeyRecord) -> KeyRecord:
    """Give a key record its certificate and what the certificate says of entity and role.

    Raises:
        Forbidden: `certificate/…`: of another key, party, role, use or validity, not issued by the key named, or not
            to be enrolled any more (G2.58).
        Malformed: it cannot be read.

    """
    statement = turn.statement
    der = bytes.fromhex(text_of(statement, "certificate"))
    facts = read_certificate(der)
    row = ceiling(key.key_class)
    for what, holds in (
        ("is for another key", facts.public_point == key.public_point),
        ("names another entity than was ordered", key.eui64 is None or facts.eui64 == key.eui64),
        ("carries another role than was ordered", key.role is None or facts.role == key.role),
        (f"carries a role that no {row.name} key has", facts.role in row.roles),
        ("is not valid now", facts.not_before <= turn.at * NANOSECONDS <= facts.not_after),
    ):
        if not holds:
            raise _refused(what, row.clause)
    made = replace(key, certificate=der, eui64=facts.eui64, role=facts.role)
    require_own_certificate(made)
    _require_issued(turn, made, facts)
    return _flagged(turn, made, facts)


def _require_issued(turn: Turn, made: KeyRecord, facts: CertificateFacts) -> None:
    """The issuer's certificate stands above this one, and its key verifies the signature."""
    name, foreign = text_of(turn.statement, "issuer"), text_of(turn.statement, "issuer_certificate")
    if bool(name) == bool(foreign):
        raise Malformed(
            "a certificate's issuer is either a registered key (issuer) or another system's (issuer_certificate)",
            rule="statement/parameters",
            clause="G2.61(a)",
            field="issuer",
        )
    above = _foreign(turn, bytes.fromhex(foreign)) if foreign else _registered(turn, made, name)
    inside = above.not_before <= facts.not_before and facts.not_after <= above.not_after
    if above.subject_der != facts.issuer_der or not inside:
        raise _refused(
            "is not one that the issuer named can have issued: it is issued by that name, and valid within its "
            "issuer's validity",
            "G2.61(a)",
        )
    _require_signature(made.certificate, above.public_point)


def _registered(turn: Turn, made: KeyRecord, name: str) -> CertificateFacts:
    """Certificate of a registered OCA key of the class that issues to keys like this one."""
    issuer = made if name == made.key_id else turn.records.get(("key-record", name))
    if not isinstance(issuer, KeyRecord) or not issuer.certificate:
        raise _refused("names an issuer that is no registered OCA key with a certificate", "G2.61")
    wanted = "root-oca" if made.key_class in AUTHORITY_CLASSES else "issuing-oca"
    if issuer.key_class != wanted:
        raise _refused(
            f"is not one that {name} can have issued: its issuer is a {wanted} key",
            "G2.60(a)" if wanted == "root-oca" else "G2.61(a)",
        )
    return read_certificate(issuer.certificate)


def _foreign(turn: Turn, der: bytes) -> CertificateFacts:
    """An OCA Certificate of another system, as the governance policy lists it."""
    if turn.foreign_issuers is not None and hashlib.sha256(der).hexdigest() not in turn.foreign_issuers:
        raise _refused("comes from an issuer that the governance policy does not list", "G2.61(a)")
    above = read_certificate(der)
    if not above.is_ca or above.usages != OCA_USAGES:
        raise _refused("names an issuer whose certificate is no OCA Certificate", "G2.61(a)")
    return above


def _require_signature(der: bytes, public_point: bytes) -> None:
    try:
        certificate = x509.load_der_x509_certificate(der)
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public_point)
        key.verify(certificate.signature, certificate.tbs_certificate_bytes, ec.ECDSA(hashes.SHA256()))
    except (ValueError, InvalidSignature):
        raise _refused("is not signed by the issuer it names", "G2.61(a)") from None


def _flagged(turn: Turn, made: KeyRecord, facts: CertificateFacts) -> KeyRecord:
    """G2.57 to G2.59: a GBCS role on a key that also serves other purposes.

    A key that was flagged stays so: leaving the parameter out of a renewal does not end what the key is used for.
    """
    stated = turn.statement.parameters.get("other_purposes") is True
    if not (stated or made.life.replace_by is not None) or facts.role not in GBCS_ROLES:
        return made
    live = turn.ecos_service_live
    # "a date which is after the ECoS Service Live Date": that day itself is not
    if live is not None and turn.at >= live + DAY and not _replaces_recovered(turn.statement, facts):
        raise Forbidden(
            "after the ECoS Service Live Date no certificate with a GBCS Remote Party Role is enrolled for a key that "
            "serves other purposes, save to replace one revoked under the SMKI Recovery Procedure (G2.59)",
            rule="certificate/ecos",
            clause="G2.58",
            field="certificate",
        )
    ends = UnixSeconds(facts.not_after // NANOSECONDS)
    # the end of the first certificate stands (G2.57): the same key under a later one is not its replacement
    by = ends if made.life.replace_by is None else min(ends, made.life.replace_by)
    return replace(made, life=replace(made.life, replace_by=by))


def _replaces_recovered(statement: Statement, facts: CertificateFacts) -> bool:
    """Whether the statement names the certificate that was revoked; it is not the one that is enrolled."""
    named = text_of(statement, "replaces_recovered")
    return named != "" and int(named, 16) not in (0, facts.serial)


def _refused(what: str, clause: str) -> Forbidden | Malformed:
    return Forbidden(
        f"the certificate {what}", rule="certificate/not-this-keys", clause=clause, field="certificate"
    )
