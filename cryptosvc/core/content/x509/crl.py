"""TBSCertList: an Organisation ARL or an Organisation CRL, complete or refused.

The issuer's OU says which: 00, the Root OCA, lists OCA Certificates; 07, an Issuing OCA, lists Organisation
Certificates. Version 2; CRL number and authority key identifier always; an issuing distribution point may say which
of the two it is; no delta, no indirect and no partial lists; of an entry only its reason.

Example:
    >>> parse(tbs_cert_list_der, default_profile()).promises
    (Rising(scope='crl-number', number=1),)

Source: RFC 5280 5.1 to 5.3; Smart Energy Code G2.60(c), G2.61(c).
"""

from dataclasses import dataclass

from cryptosvc.core.content.base import Content, Rising, Statement
from cryptosvc.core.content.x509 import der, extensions, lint, referee, signed, signer
from cryptosvc.core.content.x509.distinguished import OcaName, read_name
from cryptosvc.core.content.x509.extensions import Extension
from cryptosvc.core.content.x509.profile import KnownOca, X509Profile
from cryptosvc.core.content.x509.tbs import require_algorithm, serial_number
from cryptosvc.core.errors import Forbidden, Internal, Malformed
from cryptosvc.core.names import ContentForm, ContentKind, RemotePartyRole, UnixNanoseconds
from cryptosvc.core.registry import KeyRecord

_EXTENSIONS = 0xA0
_V2 = der.encode(der.INTEGER, b"\x01")
_SECOND = 1_000_000_000
_LONGEST_SERIAL_OCTETS = 20
_LINTED_ENTRIES = 32
"""The linter takes 0.15 ms for an entry and an entry can only have two shapes, which our walk and the second parser
both see in every one; so the linter reads the list with its first entries."""
_TIMES = (der.UTC_TIME, der.GENERALIZED_TIME)


@dataclass(frozen=True, slots=True)
class Entry:
    """A revoked certificate.

    Args:
        serial: its serial number.
        revoked_at: revocation date.
        extensions: none, or the reason.

    """

    serial: int
    revoked_at: UnixNanoseconds
    extensions: tuple[Extension, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationContent(Content):
    """A TBSCertList that follows the profile.

    Args:
        issuer_der: DER of the issuer's Name.
        authority: key identifier of the issuer's key.
        this_update, next_update: when it was made, and when the next one is due at the latest.
        serials: what it lists, in its order.

    """

    issuer_der: bytes
    authority: bytes
    this_update: UnixNanoseconds
    next_update: UnixNanoseconds
    serials: tuple[int, ...]


def parse(payload: bytes, profile: X509Profile) -> RevocationContent:
    """Read a DER TBSCertList to its last byte, by two parsers; a linter reads all of it but most of the entries.

    Raises:
        Malformed: it is not one, or not one of the profile; the rule says which.

    """
    try:
        return _read(payload, profile)
    except Malformed as error:
        error.field = error.field or ContentForm.TBS_CERT_LIST.value
        raise


def bind(
    content: Content,
    key: KeyRecord,
    statement: Statement,
    profile: X509Profile,
    at: UnixNanoseconds,
    registered: frozenset[KnownOca] = frozenset(),
) -> None:
    """Raise unless this list is this key's to sign, now.

    An ARL may list the OCA Certificates of the profile, those that are `registered` with keys, and the key's own.

    Raises:
        Forbidden: another issuer, made at another time, or an ARL that lists what is not known as an OCA Certificate.
        Malformed: the statement says what a revocation list has not.

    """
    if not isinstance(content, RevocationContent):
        raise Internal("not the content of a revocation list", rule="crl/content")
    clause = "G2.60(c)" if content.kind is ContentKind.ORGANISATION_ARL else "G2.61(c)"
    signer.require_no_statement(statement, ContentForm.TBS_CERT_LIST)
    own = signer.certificate_of(key)
    if content.issuer_der != own.subject_der:
        raise _forbidden("the issuer is not the subject of this key's own certificate", "crl/issuer", clause)
    if content.authority != own.ski:
        raise _forbidden("the authority key identifier is not this key's", "crl/aki", clause)
    if not own.not_before <= at <= own.not_after:
        raise _forbidden("this key's own certificate is not valid now", "crl/issuer-validity", clause)
    early = at - content.this_update
    if not -profile.clock_tolerance_seconds * _SECOND <= early <= profile.this_update_age_seconds * _SECOND:
        raise _forbidden("thisUpdate is not now", "crl/this-update", clause)
    if content.next_update <= at:
        raise _forbidden("nextUpdate has passed", "crl/next-update", clause)
    if content.kind is ContentKind.ORGANISATION_ARL:
        known = profile.known_oca | registered | {KnownOca(own.issuer_der, own.serial)}
        if any(KnownOca(content.issuer_der, serial) not in known for serial in content.serials):
            raise _forbidden(
                "an Organisation ARL lists OCA Certificates only, and one listed is not known as one; "
                "register it with its key, or let the operator name it in x509.known_oca",
                "crl/unknown-oca",
                clause,
            )


def assemble(content: Content, signature: bytes, key: KeyRecord) -> bytes:  # noqa: ARG001 -- the common signature
    """Put TBSCertList and r‖s (64 octets) together; return the DER CertificateList."""
    return signed.finished(content.signed_bytes, signature)


def _read(payload: bytes, profile: X509Profile) -> RevocationContent:
    # 1 our walk
    node = der.read(payload, limit=profile.crl_octets)
    if node.tag != der.SEQUENCE:
        raise Malformed("a TBSCertList is a SEQUENCE", rule="crl/structure")
    fields = der.Fields(node, "crl")
    if fields.take(der.INTEGER).encoded != _V2:
        raise Malformed("the revocation list is not version 2", rule="crl/version")
    require_algorithm(fields.take(der.SEQUENCE))
    issuer_name = fields.take(der.SEQUENCE)
    this_update = der.instant(fields.take(*_TIMES))
    next_update = der.instant(fields.take(*_TIMES))
    listed = fields.optional(der.SEQUENCE)
    wrapper = der.Fields(fields.take(_EXTENSIONS), "crl")
    fields.end()
    found = extensions.read_extensions(wrapper.take(der.SEQUENCE))
    wrapper.end()
    # 2 the profile
    issuer = _issuer(issuer_name)
    is_arl = issuer.role is RemotePartyRole.ROOT
    _require_interval(next_update - this_update, profile, is_arl=is_arl)
    entries = () if listed is None else _entries(listed, this_update, profile)
    number, authority = _require_extensions(found, is_arl=is_arl)
    # 3 the second parser on a copy of the whole; the linter on one without most of the entries
    seen = [(entry.serial, entry.revoked_at, entry.extensions) for entry in entries]
    copy = signed.throwaway_copy(payload)
    referee.revocation_list(copy, payload, issuer_name.encoded, (this_update, next_update), seen, found)
    lint.revocation_list(signed.throwaway_copy(_shortened(node, listed)))
    return RevocationContent(
        kind=ContentKind.ORGANISATION_ARL if is_arl else ContentKind.ORGANISATION_CRL,
        signed_bytes=payload,
        facts=(
            ("crl_number", str(number)),
            ("entries", str(len(entries))),
            ("issuer_role", f"{issuer.role:02X}"),
            ("next_update", str(next_update // _SECOND)),
            ("this_update", str(this_update // _SECOND)),
        ),
        promises=(Rising("crl-number", number),),
        issuer_der=issuer_name.encoded,
        authority=authority,
        this_update=this_update,
        next_update=next_update,
        serials=tuple(entry.serial for entry in entries),
    )


def _issuer(name: der.Node) -> OcaName:
    issuer = read_name(name)
    if not isinstance(issuer, OcaName):
        raise Malformed("the issuer of a revocation list is an OCA", rule="crl/issuer-form")
    return issuer


def _shortened(node: der.Node, listed: der.Node | None) -> bytes:
    if listed is None or len(listed.children) <= _LINTED_ENTRIES:
        return node.encoded
    first = der.encode(der.SEQUENCE, *(entry.encoded for entry in listed.children[:_LINTED_ENTRIES]))
    return der.encode(der.SEQUENCE, *(first if child is listed else child.encoded for child in node.children))


def _entries(listed: der.Node, this_update: UnixNanoseconds, profile: X509Profile) -> tuple[Entry, ...]:
    """Read revokedCertificates: not empty (RFC 5280 5.1.2.6), no serial twice, nothing revoked in the future."""
    if not 1 <= len(listed.children) <= profile.crl_entries:
        raise Malformed(
            f"a list of revoked certificates that is there has 1 to {profile.crl_entries} entries",
            rule="crl/entries",
        )
    entries = tuple(_entry(child, profile) for child in listed.children)
    if len({entry.serial for entry in entries}) != len(entries):
        raise Malformed("a serial number is listed twice", rule="crl/duplicate-serial")
    if any(entry.revoked_at > this_update for entry in entries):
        raise Malformed("an entry was revoked after thisUpdate", rule="crl/revocation-date")
    return entries


def _entry(node: der.Node, profile: X509Profile) -> Entry:
    if node.tag != der.SEQUENCE:
        raise Malformed("an entry of a revocation list is a SEQUENCE", rule="crl/structure")
    fields = der.Fields(node, "crl-entry")
    serial = serial_number(fields.take(der.INTEGER), _LONGEST_SERIAL_OCTETS)
    revoked_at = der.instant(fields.take(*_TIMES))
    listed = fields.optional(der.SEQUENCE)
    fields.end()
    found = () if listed is None else extensions.read_extensions(listed)
    for extension in found:
        if extension.oid != extensions.REASON_CODE or extension.critical:
            raise Malformed(
                "an entry has no extension but a reason, not critical", rule="crl/entry-extension"
            )
        if extensions.reason(extension.value) not in profile.revocation_reasons:
            raise Malformed("the reason of an entry is not one that is configured", rule="crl/reason")
    return Entry(serial, revoked_at, found)


def _require_interval(lasting: int, profile: X509Profile, *, is_arl: bool) -> None:
    shortest, longest = (
        (profile.arl_shortest_seconds, profile.arl_longest_seconds)
        if is_arl
        else (profile.crl_shortest_seconds, profile.crl_longest_seconds)
    )
    if not shortest * _SECOND <= lasting <= longest * _SECOND:
        raise Malformed(
            f"nextUpdate is {shortest} to {longest} seconds after thisUpdate in a list of this kind",
            rule="crl/interval",
        )


def _require_extensions(found: tuple[Extension, ...], *, is_arl: bool) -> tuple[int, bytes]:
    """Return CRL number and authority key identifier; nothing is there but them and perhaps the scope."""
    number: int | None = None
    authority: bytes | None = None
    for extension in found:
        if extension.critical != (extension.oid == extensions.ISSUING_DISTRIBUTION_POINT):
            raise Malformed(
                "of a revocation list only the issuing distribution point is critical", rule="crl/criticality"
            )
        match extension.oid:
            case extensions.CRL_NUMBER:
                number = extensions.crl_number(extension.value)
            case extensions.AUTHORITY_KEY_IDENTIFIER:
                authority = extensions.authority_key_identifier(extension.value)
            case extensions.ISSUING_DISTRIBUTION_POINT:
                if extensions.only_ca_certificates(extension.value) != is_arl:
                    raise Malformed(
                        "the scope of the list is not that of its issuer: CA certificates for OU 00, others for 07",
                        rule="crl/scope",
                    )
            case _:
                raise Malformed("the revocation list has an extension of no use here", rule="crl/extension")
    if number is None or authority is None:
        raise Malformed(
            "a revocation list has a CRL number and an authority key identifier", rule="crl/extension"
        )
    return number, authority


def _forbidden(message: str, rule: str, clause: str) -> Forbidden:
    return Forbidden(message, rule=rule, clause=clause, field=ContentForm.TBS_CERT_LIST.value)
