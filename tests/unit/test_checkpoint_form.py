"""A checkpoint is read only in the form it is printed, and believed only with the log's own signature."""

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from cryptosvc.core import checkpoint
from cryptosvc.core.checkpoint import Checkpoint, Note, NoteSignature
from cryptosvc.core.errors import Corrupt, Malformed

KEY = ec.generate_private_key(ec.SECP256R1())
SPKI = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
ORIGIN = "example.test/log"

origins = st.from_regex(r"[a-z0-9./-]{1,40}", fullmatch=True)
checkpoints = st.builds(Checkpoint, origins, st.integers(0, 2**63 - 1), st.binary(min_size=32, max_size=32))


def signed(found: Checkpoint, key: ec.EllipticCurvePrivateKey = KEY, spki: bytes = SPKI) -> bytes:
    signature = key.sign(checkpoint.text(found), ec.ECDSA(hashes.SHA256()))
    return checkpoint.emit(Note(found, (NoteSignature(found.origin, checkpoint.key_id(spki), signature),)))


@given(checkpoints)
def test_text_and_note_round_trip(found: Checkpoint) -> None:
    assert checkpoint.parse_text(checkpoint.text(found)) == found
    assert checkpoint.parse(signed(found)).checkpoint == found


@given(checkpoints, st.data())
def test_a_changed_note_is_never_believed_as_another(found: Checkpoint, data: st.DataObject) -> None:
    note = bytearray(signed(found))
    position = data.draw(st.integers(0, 10_000)) % len(note)  # a DER signature varies in length
    note[position] ^= data.draw(st.integers(1, 255))
    try:
        believed = checkpoint.verify(bytes(note), found.origin, SPKI)
    except (Malformed, Corrupt):
        return
    assert believed == found


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"example.test/log\n1\n",
        b"example.test/log\n01\n" + b"A" * 43 + b"=\n",
        b"example.test/log\n-1\n" + b"A" * 43 + b"=\n",
        b"example.test/log\n1\n" + b"A" * 43 + b"=\nextension\n",
        b"example.test/log\n1\n" + b"A" * 40 + b"\n",
        b"two words\n1\n" + b"A" * 43 + b"=\n",
        b"example.test/log\n1_0\n" + b"A" * 43 + b"=\n",
        b"\n1\n" + b"A" * 43 + b"=\n",
    ],
)
def test_other_forms_of_a_text_are_refused(octets: bytes) -> None:
    with pytest.raises(Malformed) as refused:
        checkpoint.parse_text(octets)
    assert refused.value.rule == "checkpoint/form"


def test_another_origin_is_named() -> None:
    with pytest.raises(Corrupt) as refused:
        checkpoint.verify(signed(Checkpoint("other.test/log", 3, bytes(32))), ORIGIN, SPKI)
    assert refused.value.rule == "checkpoint/origin"


def test_a_note_by_another_key_is_unsigned() -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    spki = other.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(Corrupt) as refused:
        checkpoint.verify(signed(Checkpoint(ORIGIN, 3, bytes(32)), other, spki), ORIGIN, SPKI)
    assert refused.value.rule == "checkpoint/unsigned"


def test_a_forged_signature_under_the_right_key_id_does_not_verify() -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(Corrupt) as refused:
        checkpoint.verify(signed(Checkpoint(ORIGIN, 3, bytes(32)), other, SPKI), ORIGIN, SPKI)
    assert refused.value.rule == "checkpoint/signature"


def test_an_unknown_witness_beside_the_log_is_ignored() -> None:
    found = Checkpoint(ORIGIN, 3, bytes(32))
    note = checkpoint.parse(signed(found))
    witness = NoteSignature("witness.test/w", b"\x00\x01\x02\x03", b"x" * 72)
    with_witness = checkpoint.emit(Note(found, (*note.signatures, witness)))
    assert checkpoint.verify(with_witness, ORIGIN, SPKI) == found


@pytest.mark.parametrize("origin", ["a\tb", "a\x01", "0\x05", "a\x7f", "a\r"])
def test_an_origin_is_printable(origin: str) -> None:
    with pytest.raises(Malformed):
        checkpoint.parse_text(f"{origin}\n1\n{'A' * 43}=\n".encode())


def test_a_size_fits_into_64_bits() -> None:
    octets = f"log.example\n{(1 << 63) - 1}\n{'A' * 43}=\n".encode()
    assert checkpoint.parse_text(octets).size == (1 << 63) - 1
    for size in (1 << 63, 10**4000):
        with pytest.raises(Malformed):
            checkpoint.parse_text(f"log.example\n{size}\n{'A' * 43}=\n".encode())
