"""DSSE: whatever parses emits the same bytes; no changed byte of an envelope still verifies as another envelope."""

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from cryptosvc.core import dsse
from cryptosvc.core.errors import Refusal

PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=40)
SIGNATURES = st.lists(
    st.builds(dsse.Signature, PRINTABLE, st.binary(min_size=1, max_size=72)),
    min_size=1,
    max_size=16,
    unique_by=lambda one: one.key_id,
)
ENVELOPES = st.builds(dsse.Envelope, PRINTABLE, st.binary(max_size=300), SIGNATURES.map(tuple))


@given(ENVELOPES)
@settings(deadline=None)
def test_parse_is_the_inverse_of_emit(envelope):
    assert dsse.parse(dsse.emit(envelope)) == envelope


@given(ENVELOPES, st.data())
@settings(deadline=None)
def test_what_still_parses_after_a_change_is_what_it_emits(envelope, data):
    octets = bytearray(dsse.emit(envelope))
    at = data.draw(st.integers(0, len(octets) - 1))
    octets[at] ^= data.draw(st.integers(1, 255))
    try:
        parsed = dsse.parse(bytes(octets))
    except Refusal:
        return
    assert dsse.emit(parsed) == octets
    assert parsed != envelope


def test_no_single_byte_change_of_a_signed_envelope_verifies():
    key = ec.generate_private_key(ec.SECP256R1())
    spki = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    octets = dsse.emit(dsse.sign("t/x", b"payload", {"k": lambda m: key.sign(m, ec.ECDSA(hashes.SHA256()))}))
    survivors = [
        at for at in range(len(octets)) for bit in range(8) if verifies(flipped(octets, at, bit), {"k": spki})
    ]
    assert survivors == []
    assert verifies(octets, {"k": spki})


def flipped(octets: bytes, at: int, bit: int) -> bytes:
    return octets[:at] + bytes([octets[at] ^ 1 << bit]) + octets[at + 1 :]


def verifies(octets: bytes, keys: dict[str, bytes]) -> bool:
    try:
        dsse.verify(dsse.parse(octets), keys)
    except Refusal:
        return False
    return True
