"""What can be done in a ceremony: one table row per act.

A row says which keys the act has in the file, what it makes and needs, what it is to the key's lifecycle or what it
signs, the sentence that is read out before it is done, and which results may be expected of it. An act that is not
in the table cannot be written in a ceremony file.

Example:
    >>> ROWS[ActKind.SUSPEND].sentence_of({"key": "issuing-oca-1"})
    'Suspend the key issuing-oca-1: nothing can be signed with it until it is resumed.'
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from string import Formatter
from types import MappingProxyType

from cryptosvc.core.ceremony import fields
from cryptosvc.core.ceremony.fields import Field, Setting
from cryptosvc.core.life import Event
from cryptosvc.core.names import ContentKind


class Role(StrEnum):
    """In what capacity somebody is present."""

    ADMINISTRATOR = "ceremony-administrator"
    CUSTODIAN = "key-custodian"
    OPERATOR = "operator"
    PART_HOLDER = "part-holder"
    SECURITY_OFFICER = "security-officer"
    WITNESS = "witness"
    AUDITOR = "auditor"


class Thing(StrEnum):
    """What acts make and use. All names of a ceremony are different, whatever they name."""

    KEY = "key"
    CERTIFICATE = "certificate"
    REQUEST = "request"
    LIST = "list"
    FILE = "file"


class ActKind(StrEnum):
    """The acts, as a ceremony file spells them."""

    GENERATE_KEY = "generate-key"
    SELF_SIGN_CERTIFICATE = "self-sign-certificate"
    CERTIFICATION_REQUEST = "certification-request"
    SIGN_CERTIFICATE = "sign-certificate"
    ATTACH_CERTIFICATE = "attach-certificate"
    SIGN_ARL = "sign-arl"
    SIGN_CRL = "sign-crl"
    ACTIVATE = "activate"
    SUSPEND = "suspend"
    RESUME = "resume"
    RENEW = "renew"
    SUPERSEDE = "supersede"
    DEACTIVATE = "deactivate"
    COMPROMISE = "compromise"
    DESTROY = "destroy"
    BACK_UP = "back-up"
    EXPORT_PUBLIC = "export-public"
    SPLIT_KEY = "split-key"
    RECOMBINE_KEY = "recombine-key"
    REVOKE = "revoke"
    DECOMMISSION_SYSTEM = "decommission-system"
    ATTEST = "attest"
    CHECKPOINT = "checkpoint"


@dataclass(frozen=True, slots=True, kw_only=True)
class ActRow:
    """One row.

    Args:
        subject: the field that names what the act is about; typed again to confirm it. Empty: it has none.
        sentence: what will be done, in fragments; one whose fields are not all set is left out.
        needs: field → what it must name, made by an earlier act or given.
        makes: field → what it names from now on.
        others: the fields that are neither.
        event: what it is in the life of the key it is about.
        signs: what it signs with the key in `signer`; None where a field or nothing says so.
        signer: the field that names the signing key.
        clause: of Section G; empty where the signing key's class or the ceremony says which.
        results: names in `RESULTS` that may be expected of it.

    """

    subject: str
    sentence: tuple[str, ...]
    needs: Mapping[str, frozenset[Thing]] = field(default_factory=dict)
    makes: Mapping[str, Thing] = field(default_factory=dict)
    others: tuple[Field, ...] = ()
    event: Event | None = None
    signs: ContentKind | None = None
    signer: str = ""
    clause: str = ""
    results: frozenset[str] = frozenset()

    @property
    def fields(self) -> tuple[Field, ...]:
        """Every field of the act."""
        return (*(Field(name, fields.name) for name in (*self.needs, *self.makes)), *self.others)

    def sentence_of(self, settings: Mapping[str, Setting]) -> str:
        """Say what will be done."""
        said = [
            fragment.format_map(dict(settings))
            for fragment in self.sentence
            if all(name in settings for _, name, _, _ in Formatter().parse(fragment) if name)
        ]
        return "".join(said)


RESULTS: Mapping[str, fields.Reader] = MappingProxyType(
    {
        "state": fields.key_state,
        "transferable": fields.truth,
        "extensions": fields.extension_names,
        "critical_extensions": fields.extension_names,
        "key_usage": fields.key_usages,
        "path_length": fields.count,
        "remote_party_role": fields.party_role,
        "validity_days": fields.positive,
        "entries": fields.count,
        "threshold": fields.positive,
        "parts": fields.positive,
        "objects_left": fields.count,
        "copies_left": fields.count,
        "keys_left": fields.count,
        "certificates_left": fields.count,
        "revoked": fields.truth,
        "usable": fields.truth,
    }
)
"""Facts that a ceremony file may say beforehand: name → reader."""

_KEY = frozenset({Thing.KEY})
_CERTIFICATE_RESULTS = frozenset(
    {"extensions", "critical_extensions", "key_usage", "path_length", "remote_party_role", "validity_days"}
)
_LIST_RESULTS = frozenset({"extensions", "critical_extensions", "entries", "validity_days"})
_DAYS = Field("days", fields.positive)
_EVIDENCE = Field("evidence", fields.name, required=False)
"""In live: the file with what the quorum of the module gave as evidence."""
_SIGNED_CERTIFICATES = (ContentKind.OCA_CERTIFICATE.value, ContentKind.ORGANISATION_CERTIFICATE.value)


def _event(event: Event, sentence: str, *, clause: str = "G5.13(b)") -> ActRow:
    """Make the row of an act that is one event in the life of a key and needs nothing else."""
    return ActRow(
        subject="key",
        sentence=(sentence,),
        needs={"key": _KEY},
        event=event,
        clause=clause,
        results=frozenset({"state"}),
    )


def _list(signs: ContentKind, what: str) -> ActRow:
    return ActRow(
        subject="list",
        sentence=(f"Sign the {what} {{list}} with the key {{issuer}}", ", valid for {days} days", "."),
        needs={"issuer": _KEY},
        makes={"list": Thing.LIST},
        others=(_DAYS,),
        signs=signs,
        signer="issuer",
        results=_LIST_RESULTS,
    )


ROWS: Mapping[ActKind, ActRow] = MappingProxyType(
    {
        ActKind.GENERATE_KEY: ActRow(
            subject="key",
            sentence=(
                "Generate the key {key} of class {class}",
                " for Remote Party Role {role}",
                " and entity {eui64}",
                " under the label {label}",
                ", {classification}, for which {responsible} answers",
                ".",
            ),
            makes={"key": Thing.KEY},
            others=(
                Field("class", fields.key_class),
                Field("label", fields.sentence),
                Field("classification", fields.sentence),
                Field("responsible", fields.sentence),
                Field("role", fields.party_role, required=False),
                Field("eui64", fields.eui64, required=False),
            ),
            event=Event.GENERATE,
            clause="G5.13(b)",
            results=frozenset({"state", "transferable"}),
        ),
        ActKind.SELF_SIGN_CERTIFICATE: ActRow(
            subject="certificate",
            sentence=(
                "Sign the certificate {certificate} of the key {key} with that key itself",
                ", in the name of {common_name}",
                ", valid for {days} days",
                ", and attach it to the key.",
            ),
            needs={"key": _KEY},
            makes={"certificate": Thing.CERTIFICATE},
            others=(_DAYS, Field("common_name", fields.sentence)),
            signs=ContentKind.OCA_CERTIFICATE,
            signer="key",
            results=_CERTIFICATE_RESULTS,
        ),
        ActKind.CERTIFICATION_REQUEST: ActRow(
            subject="request",
            sentence=(
                "Sign the certification request {request} for the key {key}",
                ", in the name of {common_name}",
                ".",
            ),
            needs={"key": _KEY},
            makes={"request": Thing.REQUEST},
            others=(Field("common_name", fields.sentence),),
            signs=ContentKind.CERTIFICATION_REQUEST,
            signer="key",
            results=frozenset({"key_usage", "remote_party_role"}),
        ),
        ActKind.SIGN_CERTIFICATE: ActRow(
            subject="certificate",
            sentence=(
                "Sign the {profile} {certificate} with the key {issuer}, from the request {request} of the key {subject}",
                ", valid for {days} days",
                ", and attach it to {subject}.",
            ),
            needs={"issuer": _KEY, "subject": _KEY, "request": frozenset({Thing.REQUEST})},
            makes={"certificate": Thing.CERTIFICATE},
            others=(Field("profile", fields.word(*_SIGNED_CERTIFICATES)), _DAYS),
            signer="issuer",
            results=_CERTIFICATE_RESULTS,
        ),
        ActKind.ATTACH_CERTIFICATE: ActRow(
            subject="certificate",
            sentence=(
                "Attach the certificate {certificate}, which its issuer sent in the file {file}, to the key {key}",
                " after checking it against the key and its request.",
                " Its issuer is another system's, whose certificate is in the file {issuer_certificate}.",
            ),
            needs={"key": _KEY},
            makes={"certificate": Thing.CERTIFICATE},
            others=(Field("file", fields.name), Field("issuer_certificate", fields.name, required=False)),
            event=Event.CERTIFY,
            clause="G5.13(b)",
            results=_CERTIFICATE_RESULTS,
        ),
        ActKind.SIGN_ARL: _list(ContentKind.ORGANISATION_ARL, "Organisation ARL"),
        ActKind.SIGN_CRL: _list(ContentKind.ORGANISATION_CRL, "Organisation CRL"),
        ActKind.ACTIVATE: _event(
            Event.ACTIVATE, "Activate the key {key}: from now on it may sign what its class allows."
        ),
        ActKind.SUSPEND: _event(
            Event.SUSPEND, "Suspend the key {key}: nothing can be signed with it until it is resumed."
        ),
        ActKind.RESUME: _event(
            Event.RESUME, "Resume the key {key}: it may sign again what its class allows."
        ),
        ActKind.RENEW: ActRow(
            subject="key",
            sentence=("Renew the key {key}: its certificate is {certificate} from now on.",),
            needs={"key": _KEY, "certificate": frozenset({Thing.CERTIFICATE})},
            event=Event.RENEW,
            clause="G5.13(b)",
            results=frozenset({"state"}),
        ),
        ActKind.SUPERSEDE: ActRow(
            subject="key",
            sentence=("Supersede the key {key} by the key {by}: {key} signs nothing ever after.",),
            needs={"key": _KEY, "by": _KEY},
            event=Event.SUPERSEDE,
            clause="G5.13(b)",
            results=frozenset({"state"}),
        ),
        ActKind.DEACTIVATE: _event(
            Event.DEACTIVATE,
            "Deactivate the key {key}: it signs nothing ever after; what it signed stays valid.",
        ),
        ActKind.COMPROMISE: ActRow(
            subject="key",
            sentence=("Record that the key {key} is compromised, since {since}: it is never used again.",),
            needs={"key": _KEY},
            others=(Field("since", fields.moment),),
            event=Event.COMPROMISE,
            clause="G5.13(a)",
            results=frozenset({"state"}),
        ),
        ActKind.DESTROY: ActRow(
            subject="key",
            sentence=(
                "Destroy the key {key} in its module and in every copy that is known, and ask the module again.",
                " Every part was destroyed: {parts_destroyed}.",
                " Every back-up was destroyed: {backups_destroyed}.",
                " This cannot be undone.",
            ),
            needs={"key": _KEY},
            others=(
                Field("parts_destroyed", fields.sentence, required=False),
                Field("backups_destroyed", fields.sentence, required=False),
            ),
            event=Event.DESTROY,
            clause="G5.13(c)",
            results=frozenset({"state", "objects_left", "copies_left"}),
        ),
        ActKind.BACK_UP: ActRow(
            subject="key",
            sentence=(
                "Record that the key {key} is backed up as {copy}, to {place}, by its module's own procedure;",
                " the evidence is in the file {evidence}.",
            ),
            needs={"key": _KEY},
            others=(
                Field("copy", fields.name),
                Field("place", fields.sentence),
                Field("evidence", fields.name),
            ),
            event=Event.BACK_UP,
            clause="G5.13(a)",
            results=frozenset({"state"}),
        ),
        ActKind.EXPORT_PUBLIC: ActRow(
            subject="of",
            sentence=("Write the public part of {of} to the new file {file}.",),
            needs={"of": frozenset({Thing.KEY, Thing.CERTIFICATE, Thing.REQUEST, Thing.LIST})},
            makes={"file": Thing.FILE},
            clause="G5.13(b)",
        ),
        ActKind.SPLIT_KEY: ActRow(
            subject="key",
            sentence=(
                "Split the {purpose} key {key} into {parts} parts, one for each part holder;",
                " any {threshold} of them together restore it, and it is unusable until they do.",
                " The quorum of the module does it; its evidence is in the file {evidence}.",
            ),
            needs={"key": _KEY},
            others=(
                Field("purpose", fields.word("recovery", "contingency")),
                Field("threshold", fields.positive),
                Field("parts", fields.positive),
                _EVIDENCE,
            ),
            event=Event.SPLIT,
            results=frozenset({"threshold", "parts", "usable", "state"}),
        ),
        ActKind.RECOMBINE_KEY: ActRow(
            subject="key",
            sentence=(
                "Restore the key {key} from the parts of {threshold} part holders.",
                " The quorum of the module does it; its evidence is in the file {evidence}.",
            ),
            needs={"key": _KEY},
            others=(Field("threshold", fields.positive), _EVIDENCE),
            event=Event.RECOMBINE,
            results=frozenset({"threshold", "usable", "state"}),
        ),
        ActKind.REVOKE: ActRow(
            subject="certificate",
            sentence=(
                "Revoke the certificate {certificate} for the reason {reason}. This cannot be undone.",
            ),
            needs={"certificate": frozenset({Thing.CERTIFICATE})},
            others=(Field("reason", fields.reason),),
            results=frozenset({"revoked"}),
        ),
        ActKind.DECOMMISSION_SYSTEM: ActRow(
            subject="system",
            sentence=(
                "Record that the system {system} is decommissioned: its certificates are revoked, its keys destroyed.",
                " This cannot be undone.",
            ),
            others=(Field("system", fields.name),),
            clause="G11.5(j)",
            results=frozenset({"keys_left", "certificates_left"}),
        ),
        ActKind.ATTEST: ActRow(
            subject="role",
            sentence=("Statement of the {role}: {statement}",),
            others=(
                Field("role", fields.word(*(role.value for role in Role))),
                Field("statement", fields.sentence),
                Field("clause", fields.clause, required=False),
            ),
        ),
        ActKind.CHECKPOINT: ActRow(
            subject="",
            sentence=("Sign a checkpoint of the log and write it into the transcript.",),
            clause="G2.27",
        ),
    }
)
