"""DUIS documents: the whole XML in, the signed document out.

A Service Request is bound to its originator: the RequestID names the key's own EUI-64. A Signed Pre-Command inside one
carries the same originator, target and counter in its own header. The variant the header states is the one the body
shows. A Service Response has no signer's name in it and is the DCC's alone (role 137).

Refused although the schema has them: the roots SMETS1SignedResponse and S1SPAlert, and responses that carry one of
them, since those have a signature of another party inside and a DUIS document has exactly one.

Promise: `duis-request-id`. Under one key a RequestID belongs to one Service Request and, for a critical one, to one Signed
Pre-Command (which must repeat the counter, because the Command's own counter is fixed by then). The same document again
is the same answer; another document under the same RequestID is a Conflict for ever. Responses promise nothing: the DCC
answers one RequestID more than once (an acknowledgement, then the result).

Example:
    >>> content = parse(payload, profile)
    >>> signed = assemble(content, signature, key)

Source: DUIS XML schema 5.4; DUIS RequestID, CommandVariant; G2.56 and G3.29 (a key that signs Commands signs no XML).
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from lxml import etree

from cryptosvc.core.content.base import Content, Once, Statement
from cryptosvc.core.content.duis import embedded, xmldsig
from cryptosvc.core.content.duis.message_id import MessageId
from cryptosvc.core.content.duis.profile import DuisProfile
from cryptosvc.core.content.duis.sanitise import DUIS_NAMESPACE, sanitised
from cryptosvc.core.content.duis.variants import (
    SERVICE_REQUESTS,
    SIGNED_PRE_COMMAND,
    SIGNED_PRE_COMMAND_VARIANTS,
    ServiceRequest,
)
from cryptosvc.core.content.x509 import signer
from cryptosvc.core.errors import Forbidden, Internal, Malformed, WrongState
from cryptosvc.core.names import (
    ContentForm,
    ContentKind,
    RemotePartyRole,
    UnixNanoseconds,
    UserRole,
)
from cryptosvc.core.registry import KeyRecord

_FIELD = ContentForm.DUIS_DOCUMENT.value
_SR = f"{{{DUIS_NAMESPACE}}}"
_REQUEST = _SR + "Request"
_RESPONSE = _SR + "Response"
_GBCS_PAYLOAD = _SR + "GBCSPayload"
_SIGNING_ROLES = (RemotePartyRole.XML_SIGN, RemotePartyRole.DSP_XML_SIGN)


@dataclass(frozen=True, slots=True, kw_only=True)
class DuisDocument(Content):
    """A document ready to be signed.

    Args:
        document: the payload, untouched.
        signature_at: where in it the ds:Signature goes: before the root's end tag.
        request_id: from the header; None in a response that has none.
        response: whether it is a Service Response.
        variant: the Service Reference Variant it states; empty where it states none.

    """

    document: bytes
    signature_at: int
    request_id: MessageId | None
    response: bool
    variant: str


class _Fault(Protocol):
    line: int
    type_name: str


def parse(payload: bytes, profile: DuisProfile) -> DuisDocument:
    """Read a whole document.

    Args:
        payload: UTF-8 XML without a ds:Signature.
        profile: schema and bounds.

    Raises:
        Malformed: it is anything but one sanitised, schema-valid, consistent Service Request or Service Response.

    """
    root = sanitised(payload, profile.max_octets, profile.max_depth)
    if root.tag not in (_REQUEST, _RESPONSE):
        raise _refused("is a Request or a Response", "root")
    _require_valid(root, profile.schema)
    header = {_local(child): child.text or "" for child in root[0]}
    body = root[1][0]
    if root.tag == _REQUEST:
        return _request(payload, root, header, body)
    return _response(payload, root, header, body)


def bind(
    content: Content, key: KeyRecord, statement: Statement, profile: DuisProfile, at: UnixNanoseconds
) -> None:
    """Refuse unless this document is for this key to sign, and says what the caller stated.

    Raises:
        Forbidden: the key's role does not sign such a document, its certificate says other than its record, the
            originator is another, or the User Role stated is not eligible for the Service Reference Variant.
        WrongState: the key has no certificate for the signature to name, or one that is not valid at this time.
        Malformed: the statement contradicts the document, or a User's request comes without User ID and User Role.

    """
    document = _document(content)
    if key.role not in _SIGNING_ROLES:
        raise Forbidden(
            "a DUIS document is signed with a key whose certificate has role 135 or 137",
            rule="duis/role",
            clause="G3.29",
            field="key_id",
        )
    if not key.certificate:
        raise WrongState(
            "the key has no certificate yet, so a signature could not name it; ask a key custodian to add it",
            rule="duis/no-certificate",
            field="key_id",
        )
    signer.require_organisation(key)
    signer.require_in_force(key, at)
    if statement.service_reference_variant not in ("", document.variant):
        raise _contradicts("Service Reference Variant", "service_reference_variant")
    user_id = "" if document.request_id is None else str(document.request_id.originator)
    if statement.user_id not in ("", user_id):
        raise _contradicts("User ID", "user_id")
    if document.response:
        _bind_response(key, statement)
    else:
        _bind_request(document, key, statement, profile)


def assemble(content: Content, signature: bytes, key: KeyRecord) -> bytes:
    """Put the ds:Signature into the document as the last child of its root; every other octet stays as it was.

    Args:
        content: as `parse` made it.
        signature: r‖s, 64 octets.
        key: the key that signed, with its certificate.

    """
    document = _document(content)
    at = document.signature_at
    element = xmldsig.signature_element(document.signed_bytes, signature, key.certificate)
    return b"".join((document.document[:at], element, document.document[at:]))


def _request(
    payload: bytes, root: etree._Element, header: dict[str, str], body: etree._Element
) -> DuisDocument:
    request_id = MessageId.parse(header["RequestID"])
    if "PrecedingServiceRequestID" in header:
        MessageId.parse(header["PrecedingServiceRequestID"])
    row = _row(header)
    command_variant = header["CommandVariant"]
    if command_variant not in row.kind.value:
        raise _refused(
            "states a Command Variant that its Service Reference Variant does not have", "command-variant"
        )
    is_signed_pre_command = _local(body) == SIGNED_PRE_COMMAND
    if is_signed_pre_command is not (command_variant in SIGNED_PRE_COMMAND_VARIANTS):
        raise _refused(
            "has a Signed Pre-Command where its Command Variant is 5, 6 or 7, and only there", "body"
        )
    if not is_signed_pre_command and _local(body) != row.body:
        raise _refused("has the body of the Service Reference Variant that its header states", "body")
    facts = {
        "body": _local(body),
        "command_variant": command_variant,
        "counter": str(request_id.counter),
        "document": "request",
        "duis_request_id": str(request_id),
        "originator": str(request_id.originator),
        "service_reference_variant": row.variant,
        "target": str(request_id.target),
    }
    if is_signed_pre_command:
        command = embedded.signed_pre_command(body.findtext(_GBCS_PAYLOAD) or "")
        _require_own(command, request_id, row.variant)
        facts["message_code"] = command.code.text
    signed_info = xmldsig.signed_info(root)
    stage = "signed-pre-command" if is_signed_pre_command else "service-request"
    return DuisDocument(
        kind=ContentKind.DUIS_DOCUMENT,
        signed_bytes=signed_info,
        facts=tuple(sorted(facts.items())),
        promises=(Once("duis-request-id", f"{request_id}:{stage}", hashlib.sha256(signed_info).digest()),),
        service_reference_variants=(row.variant,),
        document=payload,
        signature_at=payload.rindex(b"</"),
        request_id=request_id,
        response=False,
        variant=row.variant,
    )


def _response(
    payload: bytes, root: etree._Element, header: dict[str, str], body: etree._Element
) -> DuisDocument:
    facts = {"body": _local(body), "document": "response", "response_code": header["ResponseCode"]}
    identifiers = {
        name: MessageId.parse(header[name]) for name in ("RequestID", "ResponseID") if name in header
    }
    request_id = identifiers.get("RequestID")
    response_id = identifiers.get("ResponseID")
    if not identifiers:
        raise _refused("has a RequestID or a ResponseID", "message-id")
    if request_id and response_id and request_id.originator != response_id.target:
        raise _refused(
            "answers the User who asked: the ResponseID's target is the RequestID's originator", "message-id"
        )
    if request_id:
        facts["duis_request_id"] = str(request_id)
    if response_id:
        facts["duis_response_id"] = str(response_id)
    variant = body.findtext(_SR + "ServiceReferenceVariant") or ""
    if variant:
        row = _row({_local(child): child.text or "" for child in body})
        facts["service_reference_variant"] = row.variant
    pre_command = body.find(_SR + "PreCommand")
    if pre_command is not None:
        if request_id is None:
            raise _refused("has a RequestID where it carries a Pre-Command", "message-id")
        command = embedded.pre_command(pre_command.findtext(_GBCS_PAYLOAD) or "")
        _require_own(command, request_id, variant)
        facts["message_code"] = command.code.text
    return DuisDocument(
        kind=ContentKind.DUIS_DOCUMENT,
        signed_bytes=xmldsig.signed_info(root),
        facts=tuple(sorted(facts.items())),
        document=payload,
        signature_at=payload.rindex(b"</"),
        request_id=request_id,
        response=True,
        variant=variant,
    )


def _require_own(command: embedded.Embedded, request_id: MessageId, variant: str) -> None:
    if command.message_id != request_id:
        raise _refused("carries a Command of its own originator, target and counter", "gbcs-identity")
    if variant not in command.code.variants:
        raise _refused("carries a Command of its own Service Reference Variant", "gbcs-variant")


def _row(stated: dict[str, str]) -> ServiceRequest:
    row = SERVICE_REQUESTS.get(stated["ServiceReferenceVariant"])
    if row is None:
        raise _refused("states a Service Reference Variant that is known", "variant")
    if stated.get("ServiceReference", row.service_reference) != row.service_reference:
        raise _refused("states the Service Reference of its Service Reference Variant", "service-reference")
    return row


def _bind_request(document: DuisDocument, key: KeyRecord, statement: Statement, profile: DuisProfile) -> None:
    if document.request_id is None or key.eui64 != document.request_id.originator:
        raise Forbidden(
            "the originator of the RequestID is not the entity this key belongs to",
            rule="duis/originator",
            clause="G3.29",
            field=_FIELD,
        )
    if key.role is RemotePartyRole.DSP_XML_SIGN:
        _require_dcc(statement)
        return
    if not statement.user_id or not statement.user_role:
        raise Malformed(
            "a User's Service Request is signed for a User ID in a User Role: state both",
            rule="duis/user-unstated",
            field="user_role" if statement.user_id else "user_id",
        )
    if statement.user_role not in profile.eligible.get(document.variant, ()):
        raise Forbidden(
            f"the User Role stated is not eligible for Service Reference Variant {document.variant}",
            rule="duis/eligible-user-role",
            clause="G1.5",
            field="user_role",
        )


def _bind_response(key: KeyRecord, statement: Statement) -> None:
    if key.role is not RemotePartyRole.DSP_XML_SIGN:
        raise Forbidden(
            "a Service Response is signed by the DCC, with a key of role 137",
            rule="duis/response-role",
            clause="G3.29",
            field="key_id",
        )
    _require_dcc(statement)


def _require_dcc(statement: Statement) -> None:
    if statement.user_role not in ("", UserRole.DCC):
        raise Forbidden(
            "a key of role 137 signs for the DCC",
            rule="duis/eligible-user-role",
            clause="G1.5",
            field="user_role",
        )


def _require_valid(root: etree._Element, schema: etree.XMLSchema) -> None:
    try:
        if schema.validate(root):
            return
    except etree.XMLSchemaError:
        raise _refused("is valid under the DUIS schema", "schema-invalid") from None
    # The validator's own message quotes the document; where, and which rule, is all that may be said.
    faults: Iterable[_Fault] = schema.error_log  # type: ignore[assignment]  # the stubs leave the log's entries out
    where = "; ".join(f"line {fault.line}, {fault.type_name}" for fault in islice(faults, 3))
    raise _refused(f"is valid under the DUIS schema ({where})", "schema-invalid")


def _document(content: Content) -> DuisDocument:
    if not isinstance(content, DuisDocument):
        raise Internal("a DUIS document was expected here", rule="duis/content")
    return content


def _local(element: etree._Element) -> str:
    return str(element.tag)[len(_SR) :]


def _refused(what: str, rule: str) -> Malformed:
    return Malformed(f"a DUIS document {what}", rule=f"duis/{rule}", field=_FIELD)


def _contradicts(what: str, field: str) -> Malformed:
    return Malformed(f"the {what} stated is not the one in the document", rule="duis/statement", field=field)
