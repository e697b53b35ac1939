"""Parse, bind and assemble as the corridor uses them: who may sign what, what is promised, what comes out."""

from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from cryptosvc.core.content.base import Content, Once, Rising, Statement
from cryptosvc.core.content.x509 import certificate, crl, csr
from cryptosvc.core.content.x509.profile import KnownOca, X509Profile, default_profile
from cryptosvc.core.errors import CryptosvcError, Forbidden, Internal, Malformed
from cryptosvc.core.keyclass import ceiling
from cryptosvc.core.names import ContentKind, Operation, UnixNanoseconds
from cryptosvc.core.registry import KeyRecord
from tests.certificates import (
    AT,
    SUPPLIER,
    crl_tbs,
    csr_info,
    issuing_tbs,
    key_pair,
    key_record,
    nanoseconds,
    oca_name,
    organisation_certificate,
    organisation_name,
    organisation_tbs,
    root_tbs,
)
from tests.x509_specimens import (
    ISSUING,
    ISSUING_KEY,
    NOW,
    ORGANISATION,
    PROFILE,
    ROOT,
    ROOT_KEY,
    SPECIMENS,
    SUPPLIER_KEY,
)

POINT = ORGANISATION.public_key()
KINDS = {
    "root": ContentKind.OCA_CERTIFICATE,
    "root-contingency": ContentKind.OCA_CERTIFICATE,
    "issuing": ContentKind.OCA_CERTIFICATE,
    "organisation": ContentKind.ORGANISATION_CERTIFICATE,
    "organisation-named": ContentKind.ORGANISATION_CERTIFICATE,
    "arl": ContentKind.ORGANISATION_ARL,
    "crl": ContentKind.ORGANISATION_CRL,
    "crl-empty": ContentKind.ORGANISATION_CRL,
    "csr": ContentKind.CERTIFICATION_REQUEST,
    "csr-named": ContentKind.CERTIFICATION_REQUEST,
    "csr-bare": ContentKind.CERTIFICATION_REQUEST,
}


def sign(key: ec.EllipticCurvePrivateKey, payload: bytes) -> bytes:
    r, s = decode_dss_signature(key.sign(payload, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32) + s.to_bytes(32)


def bound(
    payload: bytes,
    key: KeyRecord,
    statement: Statement = Statement(),  # noqa: B008 -- frozen
    profile: X509Profile = PROFILE,
    at: int = NOW,
) -> Content:
    content = certificate.parse(payload, profile)
    certificate.bind(content, key, statement, profile, UnixNanoseconds(at))
    return content


def refusal(payload: bytes, key: KeyRecord, **choices: object) -> CryptosvcError:
    with pytest.raises((Forbidden, Malformed)) as caught:
        bound(payload, key, **choices)  # type: ignore[arg-type]
    return caught.value


def test_every_kind_has_a_specimen() -> None:
    assert KINDS.keys() == SPECIMENS.keys()


@pytest.mark.parametrize("name", SPECIMENS)
def test_kind_and_facts(name: str) -> None:
    specimen = SPECIMENS[name]
    content = specimen.inspect(specimen.payload)
    assert content.kind is KINDS[name]
    assert content.signed_bytes == specimen.payload
    assert content.service_reference_variants == ()
    assert list(content.facts) == sorted(content.facts)
    assert all(value.isascii() and value.isprintable() for fact in content.facts for value in fact)
    assert hash(content)


# --- who may sign what ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("issuer", [ROOT, ISSUING])
def test_root_key_asked_for_an_organisation_certificate_is_told_its_purpose(issuer: object) -> None:
    payload = organisation_tbs(issuer.certificate, POINT)  # type: ignore[attr-defined]
    kind = certificate.parse(payload, PROFILE).kind
    assert kind is ContentKind.ORGANISATION_CERTIFICATE
    with pytest.raises(Forbidden) as caught:
        ceiling("root-oca").clause_for(Operation.SIGN, kind)
    assert caught.value.clause == "G2.60"


def test_issuing_key_asked_for_an_oca_certificate_is_told_its_purpose() -> None:
    kind = certificate.parse(issuing_tbs(ISSUING.certificate, POINT, name="Z2"), PROFILE).kind
    assert kind is ContentKind.OCA_CERTIFICATE
    with pytest.raises(Forbidden) as caught:
        ceiling("issuing-oca").clause_for(Operation.SIGN, kind)
    assert caught.value.clause == "G2.61"


def test_a_root_key_signs_its_first_certificate_before_it_has_one() -> None:
    key = key_pair("new root")
    payload = root_tbs(key.public_key(), name="ZB")
    assert bound(payload, key_record("root-oca", key.public_key())).kind is ContentKind.OCA_CERTIFICATE
    other = key_record("root-oca", key_pair("another root").public_key())
    assert refusal(payload, other).rule == "certificate/own-key"
    assert refusal(payload, ROOT_KEY).clause == "G2.60(a)"
    renamed = root_tbs(ROOT.key.public_key(), name="ZB")
    assert refusal(renamed, ROOT_KEY).rule == "certificate/issuer"


def test_a_key_without_a_usable_certificate_issues_nothing() -> None:
    payload = SPECIMENS["organisation"].payload
    assert refusal(payload, replace(ISSUING_KEY, certificate=b"")).rule == "key-certificate/none"
    assert refusal(payload, replace(ISSUING_KEY, certificate=b"\x30\x00")).rule == "key-certificate/malformed"
    assert (
        refusal(payload, replace(ISSUING_KEY, certificate=ROOT.certificate)).rule
        == "key-certificate/other-key"
    )
    mine = organisation_certificate(ISSUING, ISSUING.key.public_key())
    assert refusal(payload, replace(ISSUING_KEY, certificate=mine)).rule == "key-certificate/not-oca"


def test_a_root_in_an_issuing_keys_place_issues_nothing_to_organisations() -> None:
    misplaced = key_record("issuing-oca", ROOT.key.public_key(), ROOT.certificate)
    assert refusal(organisation_tbs(ROOT.certificate, POINT), misplaced).rule == "certificate/issuer-role"
    misplaced = key_record("root-oca", ISSUING.key.public_key(), ISSUING.certificate)
    error = refusal(issuing_tbs(ISSUING.certificate, POINT, name="Z2"), misplaced)
    assert (error.rule, error.clause) == ("certificate/issuer-role", "G2.60(a)")


def test_an_organisation_certificate_is_bound_to_its_issuer_with_the_clause() -> None:
    other = key_record("issuing-oca", ROOT.key.public_key(), ROOT.certificate)
    error = refusal(SPECIMENS["organisation"].payload, other)
    assert (error.rule, error.clause, error.field) == ("certificate/issuer", "G2.61(a)", "tbs_certificate")


@pytest.mark.parametrize(
    ("days", "rule"), [(-32, "certificate/start"), (32, "certificate/start"), (-31, ""), (31, "")]
)
def test_a_root_certificate_begins_about_now(days: int, rule: str) -> None:
    payload = root_tbs(ROOT.key.public_key(), start=AT + timedelta(days=days), days=1000)
    if rule:
        assert refusal(payload, ROOT_KEY).rule == rule
    else:
        assert bound(payload, ROOT_KEY).kind is ContentKind.OCA_CERTIFICATE


def test_a_certificate_that_is_over_is_not_signed() -> None:
    payload = root_tbs(ROOT.key.public_key(), start=AT - timedelta(days=2), days=2)
    assert refusal(payload, ROOT_KEY).rule == "certificate/expired"
    assert bound(payload, ROOT_KEY, at=nanoseconds(AT - timedelta(seconds=2)))


@pytest.mark.parametrize(
    ("statement", "field"),
    [
        (Statement(service_reference_variant="7.1"), "service_reference_variant"),
        (Statement(user_id=SUPPLIER), "user_id"),
    ],
)
def test_a_certificate_has_no_service_reference_variant_and_no_user(statement: Statement, field: str) -> None:
    error = refusal(SPECIMENS["organisation"].payload, ISSUING_KEY, statement=statement)
    assert (error.rule, error.field) == ("statement/not-of-this-form", field)
    arl = crl.parse(SPECIMENS["arl"].payload, PROFILE)
    with pytest.raises(Malformed) as caught:
        crl.bind(arl, ROOT_KEY, statement, PROFILE, NOW)
    assert caught.value.field == field


def test_content_of_another_form_is_a_fault_of_ours() -> None:
    content = certificate.parse(SPECIMENS["organisation"].payload, PROFILE)
    with pytest.raises(Internal):
        crl.bind(content, ISSUING_KEY, Statement(), PROFILE, NOW)
    with pytest.raises(Internal):
        csr.bind(content, ISSUING_KEY, Statement(), PROFILE, NOW)
    with pytest.raises(Internal):
        certificate.bind(crl.parse(SPECIMENS["crl"].payload, PROFILE), ISSUING_KEY, Statement(), PROFILE, NOW)


# --- requests -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key_class", "subject", "usage", "clause"),
    [
        ("root-oca", oca_name(0, "ZB"), ("key_cert_sign", "crl_sign"), "G2.60(b)"),
        ("issuing-oca", oca_name(7, "Z2"), ("key_cert_sign", "crl_sign"), "G2.61(b)"),
        ("command-signing", organisation_name(2, SUPPLIER), ("digital_signature",), "G2.56"),
        ("xml-signing", organisation_name(0x87, SUPPLIER), ("digital_signature",), "G2.56"),
    ],
)
def test_each_class_requests_its_own_kind(
    key_class: str, subject: x509.Name, usage: tuple[str, ...], clause: str
) -> None:
    content = csr.parse(csr_info(ORGANISATION, subject, usage), PROFILE)
    csr.bind(content, key_record(key_class, POINT), Statement(), PROFILE, NOW)
    for other in {"root-oca", "issuing-oca", "command-signing", "xml-signing"} - {key_class}:
        with pytest.raises(Forbidden) as caught:
            csr.bind(content, key_record(other, POINT), Statement(), PROFILE, NOW)
        assert caught.value.rule == "csr/role"
    with pytest.raises(Forbidden) as caught:
        csr.bind(content, key_record(key_class, key_pair("other").public_key()), Statement(), PROFILE, NOW)
    assert (caught.value.rule, caught.value.clause) == ("csr/own-key", clause)


def test_a_request_of_a_key_that_may_not_request() -> None:
    content = csr.parse(SPECIMENS["csr"].payload, PROFILE)
    with pytest.raises(Forbidden) as caught:
        csr.bind(content, key_record("audit-signing", POINT), Statement(), PROFILE, NOW)
    assert caught.value.rule == "ceiling/purpose"


def test_a_signing_key_requests_no_key_agreement() -> None:
    content = csr.parse(csr_info(ORGANISATION, organisation_name(2, SUPPLIER), ("key_agreement",)), PROFILE)
    with pytest.raises(Forbidden) as caught:
        csr.bind(content, SUPPLIER_KEY, Statement(), PROFILE, NOW)
    assert caught.value.rule == "csr/key-usage"


def test_the_user_stated_is_the_entity_of_the_request() -> None:
    content = csr.parse(SPECIMENS["csr"].payload, PROFILE)
    csr.bind(content, SUPPLIER_KEY, Statement(user_id=SUPPLIER), PROFILE, NOW)
    for statement in (
        Statement(user_id="00-00-00-00-00-00-00-01"),
        Statement(service_reference_variant="7.1"),
    ):
        with pytest.raises(Malformed):
            csr.bind(content, SUPPLIER_KEY, statement, PROFILE, NOW)


# --- revocation lists ---------------------------------------------------------------------------------------------------


def test_a_list_is_dated_now_and_its_issuer_is_valid() -> None:
    content = crl.parse(SPECIMENS["crl"].payload, PROFILE)
    hour, minutes = timedelta(hours=1), timedelta(minutes=5)
    for at, rule in (
        (AT + hour, ""),
        (AT + hour + timedelta(seconds=1), "crl/this-update"),
        (AT - minutes, ""),
        (AT - minutes - timedelta(seconds=1), "crl/this-update"),
        (AT - timedelta(days=2), "crl/issuer-validity"),
        (AT + timedelta(days=10_000), "crl/issuer-validity"),
    ):
        if not rule:
            crl.bind(content, ISSUING_KEY, Statement(), PROFILE, UnixNanoseconds(nanoseconds(at)))
            continue
        with pytest.raises(Forbidden) as caught:
            crl.bind(content, ISSUING_KEY, Statement(), PROFILE, UnixNanoseconds(nanoseconds(at)))
        assert (caught.value.rule, caught.value.clause) == (rule, "G2.61(c)")


def test_a_list_that_is_over_is_not_signed() -> None:
    profile = replace(PROFILE, this_update_age_seconds=10**7)
    content = crl.parse(SPECIMENS["crl-empty"].payload, profile)
    with pytest.raises(Forbidden) as caught:
        crl.bind(
            content, ISSUING_KEY, Statement(), profile, UnixNanoseconds(nanoseconds(AT + timedelta(hours=48)))
        )
    assert caught.value.rule == "crl/next-update"


def test_an_arl_lists_what_is_known_and_the_root_itself() -> None:
    entries = [(serial, AT, x509.ReasonFlags.superseded) for serial in (0x22, 0x11)]
    content = crl.parse(crl_tbs(ROOT.certificate, lasting=timedelta(days=30), revoked=entries), PROFILE)
    crl.bind(content, ROOT_KEY, Statement(), PROFILE, NOW)
    with pytest.raises(Forbidden) as caught:
        crl.bind(content, ROOT_KEY, Statement(), default_profile(), NOW)
    assert (caught.value.rule, caught.value.clause) == ("crl/unknown-oca", "G2.60(c)")
    elsewhere = X509Profile(known_oca=frozenset({KnownOca(b"\x30\x00", 0x22)}))
    with pytest.raises(Forbidden):
        crl.bind(content, ROOT_KEY, Statement(), elsewhere, NOW)


def test_the_length_of_a_list_is_bounded_and_a_long_one_is_compared_to_its_end() -> None:
    entries = [(serial, AT, x509.ReasonFlags.key_compromise) for serial in range(1, 101)]
    payload = crl_tbs(ISSUING.certificate, revoked=entries)
    assert dict(crl.parse(payload, replace(PROFILE, crl_entries=100)).facts)["entries"] == "100"
    with pytest.raises(Malformed) as caught:
        crl.parse(payload, replace(PROFILE, crl_entries=99))
    assert caught.value.rule == "crl/entries"


# --- promises and artefacts -----------------------------------------------------------------------------------------


def test_promises() -> None:
    payload = SPECIMENS["organisation"].payload
    digest = hashes.Hash(hashes.SHA256())
    digest.update(payload)
    expected = Once("certificate-serial", "7", digest.finalize())
    assert certificate.parse(payload, PROFILE).promises == (expected,)
    assert crl.parse(SPECIMENS["arl"].payload, PROFILE).promises == (Rising("crl-number", 300),)
    assert csr.parse(SPECIMENS["csr"].payload, PROFILE).promises == ()


def test_assembled_artefacts_verify() -> None:
    payload = SPECIMENS["organisation"].payload
    content = certificate.parse(payload, PROFILE)
    made = certificate.assemble(content, sign(ISSUING.key, payload), ISSUING_KEY)
    x509.load_der_x509_certificate(made).verify_directly_issued_by(
        x509.load_der_x509_certificate(ISSUING.certificate)
    )

    payload = SPECIMENS["crl"].payload
    made = crl.assemble(crl.parse(payload, PROFILE), sign(ISSUING.key, payload), ISSUING_KEY)
    assert x509.load_der_x509_crl(made).is_signature_valid(ISSUING.key.public_key())

    payload = SPECIMENS["csr"].payload
    made = csr.assemble(csr.parse(payload, PROFILE), sign(ORGANISATION, payload), SUPPLIER_KEY)
    assert x509.load_der_x509_csr(made).is_signature_valid


@pytest.mark.parametrize("size", [0, 63, 65, 72])
def test_a_signature_has_64_octets(size: int) -> None:
    content = certificate.parse(SPECIMENS["organisation"].payload, PROFILE)
    with pytest.raises(Internal):
        certificate.assemble(content, b"\x01" * size, ISSUING_KEY)
