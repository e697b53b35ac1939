"""The DCC's published documents: the referee is right about them, and the service reads and signs every one."""

import json
import re
from base64 import b64encode
from pathlib import Path

import pytest
from cryptography import x509
from lxml import etree

from cryptosvc.core.content.base import Statement
from cryptosvc.core.content.duis import document, variants
from cryptosvc.core.content.gbcs import codes
from cryptosvc.core.errors import Forbidden, Malformed
from cryptosvc.core.names import UnixNanoseconds, UserRole
from tests import certificates, xml_signatures
from tests import duis_documents as duis

AT = UnixNanoseconds(certificates.nanoseconds(certificates.AT))


@pytest.fixture(scope="module")
def profile(gbcs_data):
    return duis.dcc_profile(gbcs_data)


def certificates_by_serial(gbcs_data: Path) -> dict[int, x509.Certificate]:
    found = {}
    for path in (gbcs_data / "zaz1" / "xmlsign").glob("*.pem"):
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        found[certificate.serial_number] = certificate
    for path in (gbcs_data / "keystore").rglob("*.pem"):
        if b"BEGIN CERTIFICATE" in path.read_bytes():
            try:
                certificate = x509.load_pem_x509_certificate(path.read_bytes())
                found.setdefault(certificate.serial_number, certificate)
            except ValueError:
                continue  # two published certificates carry algorithm parameters that pyca refuses
    return found


def test_the_referee_accepts_the_real_signatures(gbcs_data):
    known = certificates_by_serial(gbcs_data)
    samples = sorted((gbcs_data / "duis_samples" / "signed").iterdir())
    assert len(samples) >= 3
    for path in samples:
        octets = path.read_bytes()
        issuer, serial = xml_signatures.issuer_and_serial(octets)
        assert issuer == known[serial].issuer.rfc4514_string()
        xml_signatures.verify(octets, known[serial].public_key())


def test_the_referee_refuses_the_negative_samples(gbcs_data):
    known = certificates_by_serial(gbcs_data)
    refused = []
    for path in sorted((gbcs_data / "duis_samples" / "negative").iterdir()):
        octets = path.read_bytes()
        try:
            _, serial = xml_signatures.issuer_and_serial(octets)
            xml_signatures.verify(octets, known[serial].public_key())
        except (xml_signatures.NotSigned, KeyError, TypeError):
            refused.append(path.name)
    # readfw-response-invalid is validly signed and not schema-valid; the inspector refuses it below.
    assert {path.name for path in (gbcs_data / "duis_samples" / "negative").iterdir()} - set(refused) <= {
        "readfw-response-invalid.xml"
    }
    assert "readfw-response-badsignature.xml" in refused


def test_our_signed_info_for_a_real_sample_is_the_one_that_was_signed(gbcs_data, profile):
    for path in sorted((gbcs_data / "duis_samples" / "signed").iterdir()):
        octets = path.read_bytes()
        without = re.sub(rb"<ds:Signature.*</ds:Signature>", b"", octets, flags=re.DOTALL)
        assert document.parse(without, profile).signed_bytes == xml_signatures.signed_info_octets(octets)


def test_every_published_request_is_read_signed_and_verifies(gbcs_data, profile):
    samples = sorted((gbcs_data / "duis_samples" / "unsigned").iterdir())
    assert len(samples) >= 70
    signers: dict[str, duis.Signer] = {}
    for path in samples:
        payload = duis.stripped(path.read_bytes())
        content = document.parse(payload, profile)
        facts = dict(content.facts)
        originator = facts["originator"]
        signer = signers.setdefault(originator, duis.signer(entity=originator))
        eligible = sorted(variants.SERVICE_REQUESTS[facts["service_reference_variant"]].eligible)
        statement = Statement(
            service_reference_variant=facts["service_reference_variant"],
            user_id=originator,
            user_role=eligible[0],
        )
        document.bind(content, signer.record, statement, profile, AT)
        finished = document.assemble(content, signer.sign(content.signed_bytes), signer.record)
        xml_signatures.verify(finished, signer.private.public_key())
        assert profile.schema.validate(etree.fromstring(finished)), path.name
        assert content.service_reference_variants == (facts["service_reference_variant"],)


def test_published_documents_as_they_stand_are_refused_for_their_signature(gbcs_data, profile):
    for folder in ("unsigned", "signed"):
        for path in sorted((gbcs_data / "duis_samples" / folder).iterdir()):
            with pytest.raises(Malformed) as refusal:
                document.parse(path.read_bytes(), profile)
            assert refusal.value.rule in {"duis/signature-present", "duis/markup-declaration"}


def test_the_negative_samples_are_refused_where_they_are_wrong_without_their_signature(gbcs_data, profile):
    folder = gbcs_data / "duis_samples" / "negative"
    with pytest.raises(Malformed) as refusal:
        document.parse((folder / "duis-xxe.xml").read_bytes(), profile)
    assert refusal.value.rule == "duis/markup-declaration"
    with pytest.raises(Malformed) as refusal:
        document.parse(duis.stripped((folder / "readfw-response-invalid.xml").read_bytes()), profile)
    assert refusal.value.rule == "duis/schema-invalid"
    assert "11.2.11.2" not in str(refusal.value)


# --- responses -------------------------------------------------------------------------------------------------------


def response_samples(gbcs_data: Path) -> list[bytes]:
    return [
        duis.stripped(path.read_bytes()) for path in sorted((gbcs_data / "duis_samples" / "signed").iterdir())
    ]


def test_the_dcc_signs_responses_and_no_user_does(gbcs_data, profile):
    dcc, user = duis.signer(137, duis.DCC), duis.signer()
    for payload in response_samples(gbcs_data):
        content = document.parse(payload, profile)
        assert dict(content.facts)["document"] == "response"
        assert content.promises == ()
        assert content.service_reference_variants == ()
        document.bind(content, dcc.record, Statement(), profile, AT)
        xml_signatures.verify(
            document.assemble(content, dcc.sign(content.signed_bytes), dcc.record), dcc.private.public_key()
        )
        with pytest.raises(Forbidden) as refusal:
            document.bind(content, user.record, Statement(), profile, AT)
        assert refusal.value.rule == "duis/response-role"
        with pytest.raises(Forbidden):
            document.bind(content, dcc.record, Statement(user_role="IS"), profile, AT)


def response(carried: str, *, request_id: str = "", response_id: str = "", variant: str = "7.2") -> bytes:
    identifiers = "".join(
        f"<sr:{name}>{text}</sr:{name}>"
        for name, text in (("RequestID", request_id), ("ResponseID", response_id))
        if text
    )
    return (
        f'<sr:Response xmlns:sr="{duis.NAMESPACE}" schemaVersion="5.4"><sr:Header>{identifiers}'
        "<sr:ResponseCode>I0</sr:ResponseCode><sr:ResponseDateTime>2026-11-22T12:00:00Z</sr:ResponseDateTime>"
        f"</sr:Header><sr:Body>{carried}</sr:Body></sr:Response>"
    ).encode()


def message(carried: str = "", variant: str = "7.2", reference: str = "7.2") -> str:
    return (
        f"<sr:ResponseMessage><sr:ServiceReference>{reference}</sr:ServiceReference>"
        f"<sr:ServiceReferenceVariant>{variant}</sr:ServiceReferenceVariant>{carried}</sr:ResponseMessage>"
    )


def pre_command(octets: bytes) -> str:
    return (
        "<sr:PreCommand><sr:GBCSVersion>4.3</sr:GBCSVersion>"
        f"<sr:GBCSPayload>{b64encode(octets).decode()}</sr:GBCSPayload></sr:PreCommand>"
    )


ASKED = f"{duis.USER}:{duis.DEVICE}:1"
ANSWERED = f"{duis.DEVICE}:{duis.USER}:1"


def rule_of(payload: bytes, profile) -> str:
    with pytest.raises(Malformed) as refusal:
        document.parse(payload, profile)
    return refusal.value.rule


def test_a_response_may_carry_the_pre_command_that_was_asked_for_and_no_other(profile):
    good = response(message(pre_command(duis.pre_command())), request_id=ASKED)
    assert dict(document.parse(good, profile).facts)["message_code"] == "0050"
    for octets, rule in (
        (duis.pre_command(originator=duis.STRANGER), "duis/gbcs-identity"),
        (duis.pre_command(target=duis.DCC), "duis/gbcs-identity"),
        (duis.pre_command(counter=2), "duis/gbcs-identity"),
        (duis.pre_command(code=0x004F), "duis/gbcs-variant"),
        (duis.signed_pre_command(), "gbcs/already-signed"),
    ):
        assert rule_of(response(message(pre_command(octets)), request_id=ASKED), profile) == rule
    assert (
        rule_of(response(message(pre_command(duis.pre_command())), response_id=ANSWERED), profile)
        == "duis/message-id"
    )


def test_a_response_names_the_user_it_answers(profile):
    assert rule_of(response(message()), profile) == "duis/message-id"
    document.parse(response(message(), request_id=ASKED), profile)
    document.parse(response(message(), response_id=ANSWERED), profile)
    facts = dict(document.parse(response(message(), request_id=ASKED, response_id=ANSWERED), profile).facts)
    assert (facts["duis_request_id"], facts["duis_response_id"]) == (ASKED, ANSWERED)
    stranger = f"{duis.DEVICE}:{duis.STRANGER}:1"
    assert rule_of(response(message(), request_id=ASKED, response_id=stranger), profile) == "duis/message-id"


def test_a_response_states_the_service_reference_of_its_variant(profile):
    assert rule_of(response(message(reference="7.3"), request_id=ASKED), profile) == "duis/service-reference"


def test_other_roots_of_the_schema_are_refused(profile):
    for root in ("SMETS1SignedResponse", "S1SPAlert", "RequestID", "Nothing"):
        payload = f'<sr:{root} xmlns:sr="{duis.NAMESPACE}"/>'.encode()
        assert rule_of(payload, profile) == "duis/root"


# --- the table -------------------------------------------------------------------------------------------------------


def test_the_table_is_the_request_matrix(gbcs_data):
    rows = json.loads((gbcs_data / "duis_request_matrix.json").read_text())
    assert {row["Service Reference Variant"] for row in rows} == set(variants.SERVICE_REQUESTS)
    for row in rows:
        ours = variants.SERVICE_REQUESTS[row["Service Reference Variant"]]
        kind = variants.Kind.NON_DEVICE if row["Non-Device Request"] == "Yes" else variants.Kind.NON_CRITICAL
        assert ours.kind is (variants.Kind.CRITICAL if row["Critical"] == "Yes" else kind)
        # The matrix names nobody for 7.16; its Commands are signed by Load Controllers.
        named = {UserRole(role) for role in row["Eligible User Roles"]} or (
            {UserRole.LOAD_CONTROLLER} if ours.variant == "7.16" else set()
        )
        assert ours.eligible == named
        # The matrix lost a trailing zero of 6.20.
        assert row["Service Reference"].ljust(4, "0")[:4] == ours.service_reference.ljust(4, "0")[:4]


def test_the_table_has_the_body_elements_of_the_schema_in_its_order(gbcs_data):
    schema = etree.parse(gbcs_data / "duis_xsd" / "DUIS Schema V5.4.xsd")
    xsd = {"xs": "http://www.w3.org/2001/XMLSchema"}
    bodies = schema.xpath(
        "//xs:complexType[@name='Request']//xs:element[@name='Body']//xs:element/@name", namespaces=xsd
    )
    assert bodies == [row.body for row in variants.SERVICE_REQUESTS.values()] + [variants.SIGNED_PRE_COMMAND]
    stated = schema.xpath(
        "//xs:simpleType[@name='ServiceReferenceVariant']//xs:enumeration/@value", namespaces=xsd
    )
    assert stated == list(variants.SERVICE_REQUESTS)
    references = schema.xpath(
        "//xs:simpleType[@name='ServiceReference']//xs:enumeration/@value", namespaces=xsd
    )
    assert {row.service_reference for row in variants.SERVICE_REQUESTS.values()} <= set(references)


def test_the_table_agrees_with_the_one_of_message_codes():
    for variant, eligible in codes.ELIGIBLE_ROLES.items():
        assert variants.SERVICE_REQUESTS[variant].eligible == eligible
    signed = {variant for code in codes.CODES.values() if code.signers for variant in code.variants}
    assert signed <= set(variants.SERVICE_REQUESTS)
