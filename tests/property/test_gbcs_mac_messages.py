"""Messages with MACs, from a grammar and broken: what is written is read again, and whatever is sent is read or Malformed."""

from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cryptosvc.core.content.gbcs import answer, attributes, envelope, framing, mac, top_up
from cryptosvc.core.content.gbcs.agreement import Agreement, Purpose, derive
from cryptosvc.core.content.gbcs.codes import Payload
from cryptosvc.core.content.gbcs.profile import GbcsProfile
from cryptosvc.core.errors import Forbidden, Internal, Malformed
from tests import precommands
from tests.mac_keys import derived

PROFILE = GbcsProfile(access_control_brokers=frozenset({precommands.BROKER}))
MANY = settings(max_examples=300, deadline=None)
SIGNED = precommands.ecs43()[:-1] + b"\x40" + bytes(range(64))
FINISHED = envelope.wrap(SIGNED, bytes(range(12)))

eui64s = st.binary(min_size=8, max_size=8)
counters = st.integers(0, framing.HIGHEST_COUNTER)
agreements = st.builds(Agreement, eui64s, st.sampled_from(Purpose), counters, eui64s)


@MANY
@given(agreements, st.binary(min_size=32, max_size=32))
def test_keys_are_those_other_software_derives(of: Agreement, secret: bytes) -> None:
    assert len(of.other_info) == 33
    assert len(of.vector) == 12
    assert bytes(derive(secret, of.other_info)) == derived(secret, of)


@MANY
@given(agreements, agreements)
def test_two_agreements_share_key_material_only_if_they_are_one(one: Agreement, two: Agreement) -> None:
    assert (one == two) is (one.other_info == two.other_info) is (one.text == two.text)


@pytest.mark.parametrize("octets", [0, 31, 33])
def test_a_shared_secret_has_32_octets(octets: int) -> None:
    with pytest.raises(Internal):
        derive(bytes(octets), bytes(33))


@MANY
@given(
    st.binary(min_size=34, max_size=70_000).map(lambda rest: b"\xdf" + rest),
    st.binary(min_size=12, max_size=12),
)
def test_what_is_wrapped_is_unwrapped(inner: bytes, made: bytes) -> None:
    if len(inner) + 17 > 0xFFFF:
        with pytest.raises(Malformed):
            envelope.wrap(inner, made)
        return
    whole = envelope.wrap(inner, made)
    assert envelope.unwrap(whole, len(whole), "f") == (inner, made)
    with pytest.raises(Malformed):
        envelope.unwrap(whole, len(whole) - 1, "f")


@pytest.mark.parametrize("octets", [0, 4, 11, 13, 16])
def test_a_mac_has_twelve_octets(octets: int) -> None:
    with pytest.raises(Internal):
        envelope.wrap(SIGNED, bytes(octets))
    with pytest.raises(Forbidden, match=r"^not verified$"):
        envelope.require_equal(bytes(12), bytes(octets))


def test_no_single_octet_of_a_finished_command_changes_unseen() -> None:
    before = mac.read_back(FINISHED, 65_535)
    for at in range(len(FINISHED)):
        for flip in (1, 0x80, 0xFF):
            changed = FINISHED[:at] + bytes((FINISHED[at] ^ flip,)) + FINISHED[at + 1 :]
            with suppress(Malformed):
                after = mac.read_back(changed, 65_535)
                assert (after.inner, after.mac) != (before.inner, before.mac)
                assert envelope.wrap(after.inner, after.mac) == changed
    for size in range(len(FINISHED)):
        with pytest.raises(Malformed):
            mac.read_back(FINISHED[:size], 65_535)
    with pytest.raises(Malformed):
        mac.read_back(FINISHED + b"\x00", 65_535)


def test_no_single_octet_of_a_command_to_authenticate_changes_unseen() -> None:
    before = mac.parse(SIGNED, PROFILE)
    assert before.inner == SIGNED
    for at in range(len(SIGNED)):
        for flip in (1, 0x40, 0xFF):
            changed = SIGNED[:at] + bytes((SIGNED[at] ^ flip,)) + SIGNED[at + 1 :]
            with suppress(Malformed):
                after = mac.parse(changed, PROFILE)
                assert after.inner == changed
                assert after.promise.digest != before.promise.digest
    for size in range(len(SIGNED)):
        with pytest.raises(Malformed):
            mac.parse(SIGNED[:size], PROFILE)
    with pytest.raises(Malformed):
        mac.parse(SIGNED + b"\x00", PROFILE)


RESPONSE = bytes.fromhex(
    "df0902" + "00000000000003e8" + "08" + "00db1234567890a0" + "08" + "90b3d51f30010000" + "00" + "020059"
)


def response(payload: bytes) -> answer.Apdu:
    return answer.read(RESPONSE + framing.emit_length(len(payload)) + payload + b"\x00", "gbcs_message")


@MANY
@given(st.binary(max_size=300), st.sampled_from(Payload))
@example(bytes.fromhex("da200003e80000011302"), Payload.DLMS)
@example(bytes.fromhex("0109010307020002310000"), Payload.GBZ)
def test_any_payload_of_a_response_is_read_or_malformed(payload: bytes, kind: Payload) -> None:
    for octets in (payload, b"\xda\x20\x00\x03\xe8\x00\x00" + payload, b"\x01\x09" + payload):
        with suppress(Malformed):
            for part in attributes.read(response(octets), kind):
                assert part.ciphertext
                assert len(part.tag) == 12


@MANY
@given(st.binary(max_size=400))
def test_any_message_is_read_or_malformed(octets: bytes) -> None:
    for start in (b"", b"\xdf\x09", FINISHED[:9], RESPONSE):
        with suppress(Malformed):
            mac.read_back(start + octets, 65_535)
        with suppress(Malformed):
            mac.parse(start + octets, PROFILE)
        with suppress(Malformed):
            answer.read(start + octets, "f")


@MANY
@given(
    eui64s,
    eui64s,
    st.integers(0, 2**32 - 1).map(lambda high: high << 32),
    st.sampled_from(top_up.ValueClass),
    st.integers(0, top_up.HIGHEST_VALUE),
    st.binary(min_size=4, max_size=4),
)
def test_a_top_up_is_read_as_it_was_written_and_no_digit_changes_alone(
    sender: bytes, meter: bytes, counter: int, kind: top_up.ValueClass, value: int, authentication: bytes
) -> None:
    token = top_up.Token(sender, meter, counter, kind, value)
    digits = top_up.utrn(token, authentication)
    assert len(digits) == 20
    assert top_up.authentication_of(token, digits) == authentication
    for place in range(20):
        wrong = digits[:place] + str((int(digits[place]) + 1) % 10) + digits[place + 1 :]
        with pytest.raises(Malformed):
            top_up.authentication_of(token, wrong)


@pytest.mark.parametrize(
    ("counter", "value", "rule"),
    [
        (1, 0, "utrn/counter"),
        (2**64, 0, "utrn/counter"),
        (-(2**32), 0, "utrn/counter"),
        (0, 8192, "utrn/value"),
        (0, -1, "utrn/value"),
    ],
)
def test_a_top_up_out_of_range_is_refused(counter: int, value: int, rule: str) -> None:
    with pytest.raises(Malformed) as caught:
        top_up.Token(bytes(8), bytes(8), counter, top_up.ValueClass.PENCE, value)
    assert caught.value.rule == rule


@pytest.mark.parametrize("digits", ["", "7" * 19, "7" * 21, "x" * 20, "7" * 19 + "٣"])
def test_what_is_no_utrn_is_refused(digits: str) -> None:
    token = top_up.Token(bytes(8), bytes(8), 0, top_up.ValueClass.PENCE, 0)
    with pytest.raises(Malformed):
        top_up.authentication_of(token, digits)
