"""Whatever is accepted after a change is read the same by a second parser, and what is signed verifies."""

from xml.etree import ElementTree as ET

from hypothesis import given, settings
from hypothesis import strategies as st

from cryptosvc.core.content.duis import document
from cryptosvc.core.content.duis.message_id import MessageId
from cryptosvc.core.errors import Malformed
from cryptosvc.core.names import Eui64
from tests import duis_documents as duis
from tests import xml_signatures

PROFILE = duis.demo_profile()
USER = duis.signer()
SR = f"{{{duis.NAMESPACE}}}"
SEEDS = (
    duis.request(),
    b'<?xml version="1.0" encoding="UTF-8"?>\r\n' + duis.request(counter=2**64 - 1),
    duis.request(
        target=duis.DEVICE, command_variant="4", reference="7.2", variant="7.2", body=duis.DISABLE_SUPPLY
    ),
    duis.signed_request(),
)


def read_by_expat(octets: bytes) -> dict[str, str]:
    """The facts of a request, by another parser than the service's."""
    root = ET.fromstring(octets)  # noqa: S314 -- octets the service accepted: there is no DOCTYPE in them
    (body,) = root.find(f"{SR}Body")
    request_id = root.findtext(f"{SR}Header/{SR}RequestID")
    originator, target, counter = request_id.split(":")
    return {
        "body": body.tag.removeprefix(SR),
        "command_variant": root.findtext(f"{SR}Header/{SR}CommandVariant"),
        "counter": counter,
        "duis_request_id": request_id,
        "originator": originator,
        "service_reference_variant": root.findtext(f"{SR}Header/{SR}ServiceReferenceVariant"),
        "target": target,
    }


def is_refused_or_right(octets: bytes) -> bool:
    """False where refused; True where accepted, after everything about it was checked."""
    try:
        content = document.parse(octets, PROFILE)
    except Malformed:
        return False
    facts = dict(content.facts)
    assert facts.items() >= read_by_expat(octets).items()
    finished = document.assemble(content, USER.sign(content.signed_bytes), USER.record)
    xml_signatures.verify(finished, USER.private.public_key())
    assert finished.replace(finished[finished.index(b"<ds:Sig") : finished.rindex(b"</")], b"") == octets
    return True


def test_every_single_octet_change_is_refused_or_read_alike():
    accepted = 0
    for seed in SEEDS[:3:2]:
        for at in range(len(seed)):
            for bit in range(8):
                accepted += is_refused_or_right(seed[:at] + bytes([seed[at] ^ 1 << bit]) + seed[at + 1 :])
    # Digits of EUI-64s, of the counter and of schemaVersion may change into other valid ones; markup never may.
    assert 0 < accepted < 400


def test_every_truncation_is_refused():
    for seed in SEEDS:
        for size in range(len(seed)):
            assert not is_refused_or_right(seed[:size])


def test_every_single_octet_left_out_or_doubled_is_refused_or_read_alike():
    for seed in SEEDS:
        for at in range(len(seed)):
            is_refused_or_right(seed[:at] + seed[at + 1 :])
            is_refused_or_right(seed[:at] + seed[at : at + 1] + seed[at:])
        assert is_refused_or_right(seed)


FRAGMENTS = st.sampled_from(
    [
        b"<", b">", b"&", b"&lt;", b"&#65;", b"&amp;", b'"', b"'", b"/", b" ", b"\r\n", b"\t", b"=", b":", b"sr:", b"<!--", b"-->", b"<![CDATA[", b"]]>", b"<?x?>", b"<!DOCTYPE a>", b"<sr:Body>", b"</sr:Body>", b"<sr:Header>", b"</sr:Header>", b"</sr:Request>", b' xmlns:x="urn:x"', b' xmlns=""', b' xsi:type="x"', b' Id="x"', b"<ds:Signature/>", b"7.2", b"8.2", b"DisableSupply", b"\x00", b"\xff", b"\xc2\xa0", b"\xef\xbb\xbf",
    ]
)  # fmt: skip


@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 12), FRAGMENTS), min_size=1, max_size=4),
)
@settings(deadline=None, max_examples=500)
def test_spliced_fragments_are_refused_or_read_alike(seed, splices):
    for at, drop, fragment in splices:
        place = at % (len(seed) + 1)
        seed = seed[:place] + fragment + seed[place + drop :]
    is_refused_or_right(seed)


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_noise_is_refused(noise):
    assert not is_refused_or_right(noise)


EUIS = st.binary(min_size=8, max_size=8).map(Eui64)


@given(EUIS, EUIS, st.integers(0, 2**64 - 1))
@settings(deadline=None)
def test_identifiers_round_trip_and_are_in_the_document_as_they_are(originator, target, counter):
    made = MessageId(originator, target, counter)
    assert MessageId.parse(str(made)) == made
    content = document.parse(duis.request(request_id=str(made)), PROFILE)
    assert content.request_id == made
    assert content.promises[0].value == f"{made}:service-request"


@given(st.text(max_size=80))
@settings(deadline=None)
def test_text_that_parses_as_an_identifier_is_its_text_form(text):
    try:
        found = MessageId.parse(text)
    except Malformed:
        return
    assert str(found) == text


@given(st.sampled_from(SEEDS), st.sampled_from(SEEDS))
def test_two_documents_have_one_signed_info_only_if_they_are_one_document(one, other):
    same = document.parse(one, PROFILE).signed_bytes == document.parse(other, PROFILE).signed_bytes
    assert same == (one == other)
