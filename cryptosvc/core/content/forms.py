"""The one table from what a caller says its bytes are to the code that reads them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import assert_never

from cryptosvc.core.content import checkpoint_note, service_statement
from cryptosvc.core.content.base import Content, Statement
from cryptosvc.core.content.dlms import association, key_change, protection
from cryptosvc.core.content.dlms.profile import Smets1Profile
from cryptosvc.core.content.duis import document
from cryptosvc.core.content.duis.profile import DuisProfile
from cryptosvc.core.content.gbcs import command, precommand, received, token
from cryptosvc.core.content.gbcs.parties import Parties
from cryptosvc.core.content.gbcs.profile import GbcsProfile
from cryptosvc.core.content.tls import handshake
from cryptosvc.core.content.x509 import certificate, crl, csr
from cryptosvc.core.content.x509.profile import KnownOca, X509Profile
from cryptosvc.core.errors import Malformed
from cryptosvc.core.names import ContentForm, UnixNanoseconds
from cryptosvc.core.registry import KeyRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiles:
    """What stays configuration of the formats (design.md section 10).

    Args:
        x509: certificates, requests, revocation lists.
        gbcs: message codes, Access Control Broker.
        duis: the schema; None where no schema is installed, and then no DUIS document is read.
        log_origin: origin line of this deployment's log.
        parties: registered originators of Commands, and who certifies Devices.
        smets1: system titles, and what is configured of SMETS1 Devices.

    """

    x509: X509Profile
    gbcs: GbcsProfile
    duis: DuisProfile | None
    log_origin: str
    parties: Parties = field(default=Parties())
    smets1: Smets1Profile = field(default=Smets1Profile())


def parse(form: ContentForm, payload: bytes, profiles: Profiles, device_certificate: bytes = b"") -> Content:
    """Read `payload` to its last byte as `form`, or raise Malformed with the field named after the form.

    What is under an agreed key is read with the certificate of its Device, and may be Forbidden already.
    """
    match form:
        case ContentForm.GBCS_PRE_COMMAND:
            return precommand.parse(payload, profiles.gbcs)
        case ContentForm.GBCS_COMMAND:
            return command.parse(payload, device_certificate, profiles.gbcs, profiles.parties)
        case ContentForm.GBCS_MESSAGE:
            return received.parse_answer(payload, device_certificate, profiles.gbcs, profiles.parties)
        case ContentForm.ENCRYPTED_RESPONSE:
            return received.parse_encrypted(payload, device_certificate, profiles.gbcs, profiles.parties)
        case ContentForm.TOP_UP:
            return token.parse(payload, device_certificate, profiles.parties)
        case ContentForm.TBS_CERTIFICATE:
            return certificate.parse(payload, profiles.x509)
        case ContentForm.TBS_CERT_LIST:
            return crl.parse(payload, profiles.x509)
        case ContentForm.CERTIFICATION_REQUEST_INFO:
            return csr.parse(payload, profiles.x509)
        case ContentForm.DUIS_DOCUMENT:
            return document.parse(payload, _schema(profiles))
        case ContentForm.TLS_SERVER_KEY_EXCHANGE:
            return handshake.parse_key_exchange(payload)
        case ContentForm.TLS_TRANSCRIPT:
            return handshake.parse_transcript(payload)
        case (
            ContentForm.DLMS_AUTHENTICATED_ENCRYPTION
            | ContentForm.DLMS_ENCRYPTION
            | ContentForm.DLMS_AUTHENTICATION
            | ContentForm.DLMS_CHALLENGE
        ):
            return protection.parse(form, payload, profiles.smets1)
        case ContentForm.DLMS_PROTECTED:
            return protection.parse_protected(payload)
        case ContentForm.DLMS_KEY_CHANGE:
            return key_change.parse(payload)
        case ContentForm.DLMS_ASSOCIATION:
            return association.parse(payload, profiles.smets1)
        case ContentForm.LOG_CHECKPOINT:
            return checkpoint_note.parse(payload)
        case ContentForm.SERVICE_STATEMENT:
            return service_statement.parse(payload)
        case _:
            assert_never(form)


def bind(
    form: ContentForm,
    content: Content,
    key: KeyRecord,
    statement: Statement,
    profiles: Profiles,
    at: UnixNanoseconds,
    registered_oca: frozenset[KnownOca] = frozenset(),
    second: KeyRecord | None = None,
) -> None:
    """Raise Forbidden (or Malformed where the statement contradicts the bytes) unless `content` is for this key.

    `registered_oca` are the OCA Certificates of the registered keys, which an Organisation ARL may list; `second` is the
    other key of a SMETS1 Device that takes part.
    """
    match form:
        case ContentForm.GBCS_PRE_COMMAND:
            precommand.bind(content, key, statement, profiles.gbcs, at)
        case ContentForm.GBCS_COMMAND:
            command.bind(content, key, statement, profiles.gbcs, at)
        case ContentForm.GBCS_MESSAGE | ContentForm.ENCRYPTED_RESPONSE:
            received.bind(content, key, statement, at)
        case ContentForm.TOP_UP:
            token.bind(content, key, statement, at)
        case ContentForm.TBS_CERTIFICATE:
            certificate.bind(content, key, statement, profiles.x509, at)
        case ContentForm.TBS_CERT_LIST:
            crl.bind(content, key, statement, profiles.x509, at, registered_oca)
        case ContentForm.CERTIFICATION_REQUEST_INFO:
            csr.bind(content, key, statement, profiles.x509, at)
        case ContentForm.DUIS_DOCUMENT:
            document.bind(content, key, statement, _schema(profiles), at)
        case ContentForm.TLS_SERVER_KEY_EXCHANGE | ContentForm.TLS_TRANSCRIPT:
            handshake.bind(content, key, at)
        case (
            ContentForm.DLMS_AUTHENTICATED_ENCRYPTION
            | ContentForm.DLMS_ENCRYPTION
            | ContentForm.DLMS_AUTHENTICATION
            | ContentForm.DLMS_CHALLENGE
            | ContentForm.DLMS_PROTECTED
        ):
            protection.bind(content, key, second, statement, profiles.smets1)
        case ContentForm.DLMS_KEY_CHANGE:
            key_change.bind(content, key, second, statement)
        case ContentForm.DLMS_ASSOCIATION:
            association.bind(content, key, second, statement, profiles.smets1)
        case ContentForm.LOG_CHECKPOINT:
            checkpoint_note.bind(content, profiles.log_origin)
        case ContentForm.SERVICE_STATEMENT:
            service_statement.bind(content, profiles.log_origin)
        case _:
            assert_never(form)


def _protected(content: Content, made: bytes, key: KeyRecord) -> bytes:
    return protection.assemble(content, made, protection.require_device_key(key).row.kind)


def _association(content: Content, made: bytes, _key: KeyRecord) -> bytes:
    return association.assemble(content, made)


def _key_change(content: Content, made: bytes, _key: KeyRecord) -> bytes:
    return key_change.assemble(content, made)


_ASSEMBLE: dict[ContentForm, Callable[[Content, bytes, KeyRecord], bytes]] = {
    ContentForm.GBCS_PRE_COMMAND: precommand.assemble,
    ContentForm.GBCS_COMMAND: command.assemble,
    ContentForm.GBCS_MESSAGE: received.assemble,
    ContentForm.ENCRYPTED_RESPONSE: received.assemble,
    ContentForm.TOP_UP: token.assemble,
    ContentForm.TBS_CERTIFICATE: certificate.assemble,
    ContentForm.TBS_CERT_LIST: crl.assemble,
    ContentForm.CERTIFICATION_REQUEST_INFO: csr.assemble,
    ContentForm.DUIS_DOCUMENT: document.assemble,
    ContentForm.TLS_SERVER_KEY_EXCHANGE: handshake.assemble,
    ContentForm.TLS_TRANSCRIPT: handshake.assemble,
    ContentForm.DLMS_AUTHENTICATED_ENCRYPTION: _protected,
    ContentForm.DLMS_ENCRYPTION: _protected,
    ContentForm.DLMS_AUTHENTICATION: _protected,
    ContentForm.DLMS_CHALLENGE: _protected,
    ContentForm.DLMS_PROTECTED: _protected,
    ContentForm.DLMS_KEY_CHANGE: _key_change,
    ContentForm.DLMS_ASSOCIATION: _association,
    ContentForm.LOG_CHECKPOINT: checkpoint_note.assemble,
    ContentForm.SERVICE_STATEMENT: service_statement.assemble,
}


def assemble(form: ContentForm, content: Content, signature: bytes, key: KeyRecord) -> bytes:
    """Put r‖s (64 octets; for a Command its MAC, 12) and content together into the finished artefact."""
    return _ASSEMBLE[form](content, signature, key)


def _schema(profiles: Profiles) -> DuisProfile:
    if profiles.duis is None:
        raise Malformed(
            "no DUIS schema is installed, so no DUIS document can be read; the operator sets duis.schema",
            rule="duis/no-schema",
            field=ContentForm.DUIS_DOCUMENT.value,
        )
    return profiles.duis
