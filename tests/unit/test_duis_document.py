"""DUIS documents: what is read, for whose key it is, and that what comes out is validly signed."""

import base64
import hashlib
from dataclasses import replace

import pytest
from lxml import etree

from cryptosvc.core.content.base import Content, Once, Statement
from cryptosvc.core.content.duis import document, embedded
from cryptosvc.core.errors import Forbidden, Internal, Malformed, WrongState
from cryptosvc.core.names import ContentKind, RemotePartyRole, UnixNanoseconds, UserRole
from tests import certificates, xml_signatures
from tests import duis_documents as duis

PROFILE = duis.demo_profile()
USER = duis.signer()
DCC = duis.signer(137, duis.DCC)
AT = UnixNanoseconds(certificates.nanoseconds(certificates.AT))
READ_INVENTORY = duis.request()


def bind(
    payload: bytes, signer: duis.Signer = USER, statement: Statement = duis.STATEMENT, profile=PROFILE
) -> None:
    document.bind(document.parse(payload, profile), signer.record, statement, profile, AT)


def signed(payload: bytes, signer: duis.Signer = USER) -> bytes:
    content = document.parse(payload, PROFILE)
    return document.assemble(content, signer.sign(content.signed_bytes), signer.record)


def rule_of(payload: bytes) -> str:
    with pytest.raises(Malformed) as refusal:
        document.parse(payload, PROFILE)
    assert refusal.value.field == "duis_document"
    return refusal.value.rule


def test_a_service_request_is_read_to_its_facts():
    content = document.parse(READ_INVENTORY, PROFILE)
    assert content.kind is ContentKind.DUIS_DOCUMENT
    assert dict(content.facts) == {
        "body": "ReadInventory",
        "command_variant": "8",
        "counter": "1",
        "document": "request",
        "duis_request_id": f"{duis.USER}:{duis.DCC}:1",
        "originator": duis.USER,
        "service_reference_variant": "8.2",
        "target": duis.DCC,
    }
    assert list(content.facts) == sorted(content.facts)
    assert content.service_reference_variants == ("8.2",)


def test_what_is_signed_is_the_signed_info_of_the_finished_document():
    content = document.parse(READ_INVENTORY, PROFILE)
    finished = signed(READ_INVENTORY)
    assert content.signed_bytes == xml_signatures.signed_info_octets(finished)
    # Two canonicalisers agree on it, and it is canonical already.
    text = content.signed_bytes.decode()
    assert etree.canonicalize(text) == text


def test_the_finished_document_verifies_and_is_schema_valid():
    finished = signed(READ_INVENTORY)
    xml_signatures.verify(finished, USER.private.public_key())
    assert PROFILE.schema.validate(etree.fromstring(finished))
    assert xml_signatures.issuer_and_serial(finished) == ("CN=Z1,OU=07", 0x4FBC525201A1D7586C1BC1C4734DEB9F)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        ('<?xml version="1.0" encoding="UTF-8"?>\n', "\n"),
        ("<?xml version='1.0' encoding='utf-8' standalone='yes'?>\r\n\r\n", "\r\n \t"),
        ('<?xml version="1.0"?>', ""),
    ],
)
def test_every_octet_of_the_document_stays_where_it_was(before, after):
    payload = (
        before.encode() + READ_INVENTORY.replace(b"</sr:Header>", b"\r\n\t</sr:Header>\r\n") + after.encode()
    )
    finished = signed(payload)
    start = finished.index(b"<ds:Signature")
    end = finished.index(b"</ds:Signature>") + len(b"</ds:Signature>")
    assert finished[:start] + finished[end:] == payload
    xml_signatures.verify(finished, USER.private.public_key())


@pytest.mark.parametrize(
    "declared",
    [
        'xmlns:ds="http://www.w3.org/2000/09/xmldsig#"',
        'xmlns:sig="http://www.w3.org/2000/09/xmldsig#"',
        'xmlns:ds="http://www.w3.org/2001/XMLSchema-instance"',
        'xmlns="http://www.w3.org/2000/09/xmldsig#"',
        'xmlns="http://www.dccinterface.co.uk/ServiceUserGateway"',
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xsd="http://www.w3.org/2001/XMLSchema"',
    ],
)
def test_the_signature_verifies_whatever_the_root_declares(declared):
    payload = READ_INVENTORY.replace(b"<sr:Request ", f"<sr:Request {declared} ".encode())
    finished = signed(payload)
    xml_signatures.verify(finished, USER.private.public_key())
    assert PROFILE.schema.validate(etree.fromstring(finished))


def test_another_prefix_and_the_default_namespace_are_the_same_document_to_read():
    default = READ_INVENTORY.replace(b"sr:", b"").replace(b"xmlns:sr", b"xmlns").replace(b":sr=", b"=")
    assert b"sr:" not in default
    content = document.parse(default, PROFILE)
    assert content.facts == document.parse(READ_INVENTORY, PROFILE).facts
    xml_signatures.verify(signed(default), USER.private.public_key())


@pytest.mark.parametrize("at", range(0, 64, 7))
def test_the_referee_refuses_a_changed_signature(at):
    finished = signed(READ_INVENTORY)
    value = finished.split(b"SignatureValue>")[1].split(b"<")[0]
    changed = bytearray(base64.b64decode(value))
    changed[at] ^= 1
    with pytest.raises(xml_signatures.NotSigned):
        xml_signatures.verify(finished.replace(value, base64.b64encode(changed)), USER.private.public_key())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"-2A<", b"-2B<"),
        (b":1<", b":2<"),
        (b">8.2</sr:ServiceReferenceV", b">8.3</sr:ServiceReferenceV"),
        (b"5.4", b"5.3"),
    ],
)
def test_the_referee_refuses_a_changed_document(old, new):
    finished = signed(READ_INVENTORY)
    assert old in finished
    with pytest.raises(xml_signatures.NotSigned, match="DigestValue"):
        xml_signatures.verify(finished.replace(old, new, 1), USER.private.public_key())


def test_an_issuer_name_is_escaped_as_rfc_4514_says():
    signer = duis.signer(issuer="A, B+C=(D)")
    finished = signed(READ_INVENTORY, signer)
    assert xml_signatures.issuer_and_serial(finished)[0] == "CN=A\\, B\\+C\\=(D),OU=07"
    xml_signatures.verify(finished, signer.private.public_key())


def test_the_same_document_promises_the_same_and_another_promises_otherwise():
    (first,) = document.parse(READ_INVENTORY, PROFILE).promises
    (again,) = document.parse(READ_INVENTORY, PROFILE).promises
    (other,) = document.parse(READ_INVENTORY.replace(b"-2A<", b"-2B<"), PROFILE).promises
    assert isinstance(first, Once)
    assert first == again
    assert (first.scope, first.value) == (other.scope, other.value)
    assert first.digest != other.digest
    assert first.digest == hashlib.sha256(document.parse(READ_INVENTORY, PROFILE).signed_bytes).digest()
    assert len(first.value) <= 200


def test_a_request_and_its_signed_pre_command_share_a_request_id_without_conflict():
    ask = duis.request(
        target=duis.DEVICE, command_variant="4", reference="7.2", variant="7.2", body=duis.DISABLE_SUPPLY
    )
    (first,) = document.parse(ask, PROFILE).promises
    (second,) = document.parse(duis.signed_request(), PROFILE).promises
    assert first.value == f"{duis.USER}:{duis.DEVICE}:1:service-request"
    assert second.value == f"{duis.USER}:{duis.DEVICE}:1:signed-pre-command"


# --- header against body ---------------------------------------------------------------------------------------------


def test_a_header_may_not_state_another_variant_than_the_body_shows():
    hidden = duis.request(body=duis.DISABLE_SUPPLY)
    assert rule_of(hidden) == "duis/body"
    assert rule_of(duis.request(command_variant="4", reference="7.2", variant="7.2")) == "duis/body"


@pytest.mark.parametrize("command_variant", ["1", "2", "3", "4", "5", "6", "7"])
def test_a_non_device_request_has_command_variant_8(command_variant):
    assert rule_of(duis.request(command_variant=command_variant)) == "duis/command-variant"


@pytest.mark.parametrize("command_variant", ["1", "2", "3", "8"])
def test_a_critical_request_is_never_a_non_critical_one(command_variant):
    ask = duis.request(
        command_variant=command_variant, reference="7.2", variant="7.2", body=duis.DISABLE_SUPPLY
    )
    assert rule_of(ask) == "duis/command-variant"


@pytest.mark.parametrize("command_variant", ["5", "6", "7"])
def test_only_a_signed_pre_command_has_command_variant_5_to_7(command_variant):
    ask = duis.request(
        command_variant=command_variant, reference="7.2", variant="7.2", body=duis.DISABLE_SUPPLY
    )
    assert rule_of(ask) == "duis/body"
    carried = duis.signed_request(command_variant=command_variant)
    assert dict(document.parse(carried, PROFILE).facts)["message_code"] == "0050"


def test_a_signed_pre_command_never_has_command_variant_4():
    assert rule_of(duis.signed_request(command_variant="4")) == "duis/body"


@pytest.mark.parametrize("command_variant", ["+8", "08", " 8 ", "8\n", "8.0"])
def test_a_command_variant_has_one_spelling(command_variant):
    assert rule_of(duis.request(command_variant=command_variant)) in {
        "duis/command-variant",
        "duis/schema-invalid",
    }


def test_the_service_reference_is_that_of_the_variant():
    assert rule_of(duis.request(reference="7.2")) == "duis/service-reference"


# --- identifiers -----------------------------------------------------------------------------------------------------

BAD_COUNTERS = [
    "01",
    "00",
    "+1",
    "-1",
    " 1",
    "1 ",
    "1e3",
    "0x1",
    "1.0",
    "",
    "18446744073709551616",
    "9" * 20,
    "9" * 300,
    "١",
]
BAD_IDS = [
    *(f"{duis.USER}:{duis.DCC}:{counter}" for counter in BAD_COUNTERS),
    f" {duis.USER}:{duis.DCC}:1",
    f"{duis.USER}:{duis.DCC}:1\n",
    f"{duis.USER.lower()}:{duis.DCC}:1",
    f"{duis.USER}:{duis.DCC.lower()}:1",
    f"{duis.USER}:{duis.DCC}",
    f"{duis.USER}:{duis.DCC}:1:1",
    f"{duis.USER}::1",
    f":{duis.DCC}:1",
    f"{duis.USER[:-1]}:{duis.DCC}:1",
    f"{duis.USER}0:{duis.DCC}:1",
    f"{duis.USER.replace('-', '')}:{duis.DCC}:1",
    f"{duis.USER.replace('-', ':')}:{duis.DCC}:1",
    f"{duis.USER} :{duis.DCC}:1",
    f"{duis.USER}\u00a0:{duis.DCC}:1",
    f"{duis.USER}:{duis.DCC}:1" * 2000,
]


@pytest.mark.parametrize("text", BAD_IDS)
def test_a_request_id_has_one_spelling(text):
    assert rule_of(duis.request(request_id=text or " ")) in {"duis/message-id", "duis/schema-invalid"}


@pytest.mark.parametrize("counter", [0, 1, 2**32, 2**63, 2**64 - 1])
def test_a_counter_has_64_bits(counter):
    facts = dict(document.parse(duis.request(counter=counter), PROFILE).facts)
    assert facts["counter"] == str(counter)


@pytest.mark.parametrize("text", BAD_IDS)
def test_a_preceding_request_id_is_as_exact(text):
    payload = duis.request(
        extra_header=f"<sr:PrecedingServiceRequestID>{text}</sr:PrecedingServiceRequestID>"
    )
    assert rule_of(payload) in {"duis/message-id", "duis/schema-invalid"}


def test_a_sequenced_request_is_read():
    header = (
        "<sr:FirstInSequence>false</sr:FirstInSequence>"
        f"<sr:PrecedingServiceRequestID>{duis.USER}:{duis.DCC}:0</sr:PrecedingServiceRequestID>"
    )
    assert dict(document.parse(duis.request(extra_header=header), PROFILE).facts)["counter"] == "1"


# --- the Command inside ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "choices", [{"originator": duis.STRANGER}, {"target": duis.DCC}, {"counter": 2}, {"counter": 2**64 - 1}]
)
def test_a_document_cannot_carry_someone_elses_command(choices):
    assert rule_of(duis.signed_request(duis.signed_pre_command(**choices))) == "duis/gbcs-identity"


@pytest.mark.parametrize("code", [0x0051, 0x004F, 0x0081 + 1, 0x0062])
def test_a_document_cannot_carry_a_command_of_another_variant(code):
    assert rule_of(duis.signed_request(duis.signed_pre_command(code=code))) in {
        "duis/gbcs-variant",
        "gbcs/message-code",
        "gbcs/not-signed",
    }


def test_the_two_codes_of_one_variant_are_both_carried():
    for code in (0x0050, 0x0081):
        facts = dict(document.parse(duis.signed_request(duis.signed_pre_command(code=code)), PROFILE).facts)
        assert facts["message_code"] == f"{code:04X}"


GOOD = duis.signed_pre_command()
BAD_PAYLOADS = {
    "unsigned": duis.pre_command(),
    "unsigned without null": duis.pre_command()[:-1],
    "null before the signature": duis.pre_command() + GOOD[-65:],
    "short signature": GOOD[:-1],
    "long signature": GOOD + b"\x00",
    "signed twice": GOOD + GOOD[-65:],
    "wrong signature length": GOOD[:-65] + b"\x41" + GOOD[-64:],
    "mac wrapped": bytes.fromhex("dd000000000000") + b"\x40" + GOOD,
    "response": GOOD.replace(b"\xdf\x09\x01", b"\xdf\x09\x02", 1),
    "alert": GOOD.replace(b"\xdf\x09\x01", b"\xdf\x09\x03", 1),
    "date-time": GOOD[:29] + b"\x0c" + bytes(12) + GOOD[30:],
    "acting for another": duis.signed_pre_command(supplementary=bytes(16)),
    "unknown code": duis.signed_pre_command(code=0xFFFF),
    "code that carries no signature": duis.signed_pre_command(code=0x0001),
    "empty": b"",
    "signature only": GOOD[-65:],
    "one octet": b"\xdf",
}


@pytest.mark.parametrize("name", BAD_PAYLOADS)
def test_what_a_document_carries_is_exactly_one_signed_pre_command(name):
    rule = rule_of(duis.signed_request(BAD_PAYLOADS[name]))
    assert rule.split("/")[0] in {"gbcs", "duis"}
    assert rule not in {"duis/gbcs-identity", "duis/gbcs-variant"}


@pytest.mark.parametrize("cut", range(0, len(GOOD), 3))
def test_a_truncated_command_is_refused(cut):
    assert rule_of(duis.signed_request(GOOD[:cut]))


@pytest.mark.parametrize(
    "text",
    [
        base64.b64encode(GOOD).decode() + "====",
        base64.b64encode(GOOD).decode()[:-1] + "*",
        base64.b64encode(GOOD).decode().replace("=", ""),
        base64.urlsafe_b64encode(b"\xff" * 3).decode(),
        base64.b64encode(GOOD)[:-3].decode() + "B==",
        "é",
        GOOD.hex(),
    ],
)
def test_base64_has_one_form(text):
    assert rule_of(duis.signed_request(text=text))


@pytest.mark.parametrize("size", [1, 2, 4, 5])
def test_base64_has_no_loose_bits(size):
    text = base64.b64encode(bytes(size)).decode()
    loose = text.replace("A=", "B=")
    assert loose != text
    assert base64.b64decode(loose, validate=True) == bytes(size)
    # The schema's xs:base64Binary says so too; the reader does not lean on it.
    assert rule_of(duis.signed_request(text=loose)) == "duis/schema-invalid"
    with pytest.raises(Malformed) as refusal:
        embedded.signed_pre_command(loose)
    assert refusal.value.rule == "duis/gbcs-base64"


def test_base64_may_be_wrapped_by_white_space():
    text = base64.b64encode(GOOD).decode()
    wrapped = "\n" + "\r\n ".join(text[at : at + 64] for at in range(0, len(text), 64)) + "\n"
    assert embedded.signed_pre_command(wrapped) == embedded.signed_pre_command(text)
    finished = signed(duis.signed_request(text=wrapped))
    xml_signatures.verify(finished, USER.private.public_key())


# --- bind ------------------------------------------------------------------------------------------------------------


def refusal_of(kind, payload=READ_INVENTORY, signer=USER, statement=duis.STATEMENT, profile=PROFILE):
    with pytest.raises(kind) as refusal:
        bind(payload, signer, statement, profile)
    return refusal.value.rule


def test_a_users_request_is_for_the_users_key():
    bind(READ_INVENTORY)
    theirs = replace(duis.STATEMENT, user_id=duis.STRANGER)
    assert (
        refusal_of(Forbidden, duis.request(originator=duis.STRANGER), statement=theirs) == "duis/originator"
    )
    assert refusal_of(Forbidden, signer=duis.signer(entity=duis.STRANGER)) == "duis/originator"


@pytest.mark.parametrize("role", [role for role in RemotePartyRole if role not in {135, 137}])
def test_no_other_role_signs_documents(role):
    other = replace(USER, record=replace(USER.record, role=role))
    with pytest.raises(Forbidden) as refusal:
        bind(READ_INVENTORY, other)
    assert (refusal.value.rule, refusal.value.clause) == ("duis/role", "G3.29")


def test_a_key_without_role_entity_or_certificate_signs_nothing():
    assert refusal_of(Forbidden, signer=replace(USER, record=replace(USER.record, role=None))) == "duis/role"
    assert (
        refusal_of(Forbidden, signer=replace(USER, record=replace(USER.record, eui64=None)))
        == "key-certificate/other-party"
    )
    assert (
        refusal_of(WrongState, signer=replace(USER, record=duis.without_certificate(USER)))
        == "duis/no-certificate"
    )


def test_what_the_caller_states_must_be_what_the_document_says():
    variant = replace(duis.STATEMENT, service_reference_variant="7.2")
    user = replace(duis.STATEMENT, user_id=duis.STRANGER)
    assert refusal_of(Malformed, statement=variant) == "duis/statement"
    assert refusal_of(Malformed, statement=user) == "duis/statement"
    bind(READ_INVENTORY, statement=replace(duis.STATEMENT, service_reference_variant=""))


@pytest.mark.parametrize("missing", ["user_id", "user_role"])
def test_a_users_request_states_user_id_and_user_role(missing):
    with pytest.raises(Malformed) as refusal:
        bind(READ_INVENTORY, statement=replace(duis.STATEMENT, **{missing: ""}))
    assert (refusal.value.rule, refusal.value.field) == ("duis/user-unstated", missing)


@pytest.mark.parametrize("role", list(UserRole))
def test_a_user_role_must_be_eligible_for_the_variant(role):
    ask = duis.request(command_variant="4", reference="7.2", variant="7.2", body=duis.DISABLE_SUPPLY)
    statement = Statement(user_id=duis.USER, user_role=role.value)
    if role in {UserRole.IMPORT_SUPPLIER, UserRole.GAS_SUPPLIER}:
        bind(ask, statement=statement)
    else:
        assert refusal_of(Forbidden, ask, statement=statement) == "duis/eligible-user-role"


def test_a_user_role_nobody_knows_is_not_eligible():
    unknown = replace(duis.STATEMENT, user_role="KING")
    assert refusal_of(Forbidden, statement=unknown) == "duis/eligible-user-role"


def test_the_operator_may_change_who_is_eligible():
    nobody = replace(PROFILE, eligible={**PROFILE.eligible, "8.2": frozenset()})
    assert refusal_of(Forbidden, profile=nobody) == "duis/eligible-user-role"


def test_the_dcc_signs_its_own_requests_and_only_as_the_dcc():
    own = duis.request(originator=duis.DCC)
    bind(own, DCC, Statement())
    bind(own, DCC, Statement(user_id=duis.DCC, user_role="DCC", service_reference_variant="8.2"))
    assert refusal_of(Forbidden, own, DCC, Statement(user_role="IS")) == "duis/eligible-user-role"
    assert refusal_of(Forbidden, READ_INVENTORY, DCC, Statement()) == "duis/originator"


def test_content_of_another_form_is_a_fault_of_ours():
    stray = Content(kind=ContentKind.GBCS_PRE_COMMAND, signed_bytes=b"")
    with pytest.raises(Internal):
        document.bind(stray, USER.record, duis.STATEMENT, PROFILE, AT)
    with pytest.raises(Internal):
        document.assemble(stray, bytes(64), USER.record)
