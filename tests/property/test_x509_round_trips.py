"""What pyca's builders write with any allowed values is read back as those values; arbitrary bytes are only refused."""

import time
from datetime import timedelta

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from cryptosvc.core.content.base import Content
from cryptosvc.core.content.x509 import der
from cryptosvc.core.content.x509.distinguished import OrganisationName
from cryptosvc.core.errors import Malformed
from tests.certificates import (
    AT,
    crl_tbs,
    csr_info,
    key_pair,
    nanoseconds,
    organisation_name,
    organisation_tbs,
    point_of,
)
from tests.x509_specimens import ISSUING, ORGANISATION, SPECIMENS, Specimen

MANY = settings(max_examples=150, deadline=None)
FEW = settings(max_examples=60, deadline=None)

entities = st.binary(min_size=8, max_size=8).map(lambda octets: octets.hex("-").upper())
roles = st.sampled_from(sorted({1, 2, 3, 4, 5, 6, 8, 127, 135, 137}))
# at most 64 octets, which is how pyca counts
names = st.text(st.characters(exclude_categories=("C", "Z")), max_size=64).filter(
    lambda text: len(text.encode()) <= 64
)
serials = st.integers(1, 2**127 - 1)
seconds = st.integers(0, 30 * 86_400).map(lambda number: timedelta(seconds=number))
keys = st.integers(1, 2**64).map(lambda number: key_pair(str(number)))


def dates(content: Content) -> dict[str, str]:
    return dict(content.facts)


@FEW
@given(entities, roles, names, serials, seconds, st.integers(1, 3653), keys, st.booleans())
def test_organisation_certificates(
    entity: str,
    role: int,
    name: str,
    serial: int,
    later: timedelta,
    days: int,
    key: object,
    agreement: object,
) -> None:
    usage = "key_agreement" if agreement else "digital_signature"
    public = key.public_key()  # type: ignore[attr-defined]
    payload = organisation_tbs(
        ISSUING.certificate,
        public,
        entity=entity,
        role=role,
        common_name=name,
        serial=serial,
        start=AT + later,
        days=days,
        usage=usage,
    )
    content = SPECIMENS["organisation"].inspect(payload)
    facts = dates(content)
    assert content.signed_bytes == payload
    assert content.subject == OrganisationName(role, content.subject.entity, name)  # type: ignore[attr-defined]
    assert content.public_point == point_of(public)  # type: ignore[attr-defined]
    assert (facts["entity"], facts["subject_role"], facts["serial"]) == (entity, f"{role:02X}", str(serial))
    assert facts["usages"] == ("keyAgreement" if agreement else "digitalSignature")
    assert int(facts["not_before"]) * 10**9 == nanoseconds(AT + later)
    assert int(facts["not_after"]) - int(facts["not_before"]) == days * 86_400 - 1


reasons = st.sampled_from(
    [
        None,
        x509.ReasonFlags.key_compromise,
        x509.ReasonFlags.ca_compromise,
        x509.ReasonFlags.affiliation_changed,
        x509.ReasonFlags.superseded,
        x509.ReasonFlags.cessation_of_operation,
        x509.ReasonFlags.privilege_withdrawn,
    ]
)
entries = st.lists(
    st.tuples(st.integers(1, 2**159 - 1), seconds.map(lambda ago: AT - ago), reasons),
    max_size=40,
    unique_by=lambda e: e[0],
)


@FEW
@given(entries, st.integers(0, 2**159 - 1), st.integers(3600, 172_800))
def test_revocation_lists(revoked: list[tuple[int, object, object]], number: int, lasting: int) -> None:
    payload = crl_tbs(ISSUING.certificate, number=number, lasting=timedelta(seconds=lasting), revoked=revoked)
    content = SPECIMENS["crl"].inspect(payload)
    assert content.signed_bytes == payload
    assert content.serials == tuple(serial for serial, *_ in revoked)  # type: ignore[attr-defined]
    assert content.promises[0].number == number  # type: ignore[union-attr]
    assert int(dates(content)["next_update"]) - int(dates(content)["this_update"]) == lasting


@FEW
@given(names, st.booleans())
def test_requests(name: str, usage: object) -> None:
    subject = organisation_name(2, "90-B3-D5-1F-30-01-00-00", name)
    payload = csr_info(ORGANISATION, subject, ("digital_signature",) if usage else ())
    content = SPECIMENS["csr"].inspect(payload)
    assert content.signed_bytes == payload
    assert dates(content)["usages"] == ("digitalSignature" if usage else "")


trees = st.recursive(
    st.one_of(
        st.binary(max_size=40).map(lambda octets: der.encode(der.OCTET_STRING, octets)),
        st.integers(-(2**80), 2**80).map(
            lambda number: der.encode(
                der.INTEGER, number.to_bytes((number + (number < 0)).bit_length() // 8 + 1, signed=True)
            )
        ),
        st.text(max_size=20).map(lambda text: der.encode(der.UTF8_STRING, text.encode())),
        st.just(der.encode(der.NULL)),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda parts: der.encode(der.SEQUENCE, *parts)),
        st.lists(inner, max_size=4, unique=True).map(lambda parts: der.encode(der.SET, *sorted(parts))),
        inner.map(lambda part: der.encode(0xA3, part)),
    ),
    max_leaves=12,
)


@MANY
@given(trees)
def test_der_trees(encoded: bytes) -> None:
    assert der.emit(der.read(encoded, limit=10_000)) == encoded


@MANY
@given(st.binary(max_size=300), st.sampled_from(sorted(SPECIMENS)))
def test_arbitrary_bytes_are_refused(payload: bytes, name: str) -> None:
    assert isinstance(SPECIMENS[name].judged(payload), Malformed)


@MANY
@given(st.data(), st.sampled_from(sorted(SPECIMENS)))
def test_spliced_specimens_are_refused_or_fine(data: st.DataObject, name: str) -> None:
    specimen: Specimen = SPECIMENS[name]
    good = specimen.payload
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, min(len(good), start + 12)))
    payload = good[:start] + data.draw(st.binary(max_size=12)) + good[end:]
    verdict = specimen.judged(payload)
    assert (
        isinstance(verdict, Malformed)
        or payload == good
        or specimen.is_fine(payload) == isinstance(verdict, Content)
    )


@pytest.mark.parametrize("name", SPECIMENS)
def test_inspecting_takes_less_than_20_ms(name: str) -> None:
    specimen = SPECIMENS[name]
    specimen.inspect(specimen.payload)  # loads the linter
    taken = []
    for _ in range(15):
        start = time.process_time()
        specimen.inspect(specimen.payload)
        taken.append(time.process_time() - start)
    assert sorted(taken)[7] < 0.020
