"""Fingerprints: hex groups and words say the same digest, and what was misheard is refused."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryptosvc.core.errors import Malformed
from cryptosvc.core.fingerprint import from_hex, from_words, grouped, words

DIGESTS = st.binary(min_size=32, max_size=32)
# the published BIP-39 vectors of 256 bits (trezor/python-mnemonic, vectors.json)
PUBLISHED = {
    "00" * 32: "abandon " * 23 + "art",
    "7f" * 32: "legal winner thank year wave sausage worth useful legal winner thank year wave sausage worth "
    "useful legal winner thank year wave sausage worth title",
    "80"
    * 32: "letter advice cage absurd amount doctor acoustic avoid letter advice cage absurd amount doctor "
    "acoustic avoid letter advice cage absurd amount doctor acoustic bless",
    "ff" * 32: "zoo " * 23 + "vote",
}


@pytest.mark.parametrize("digest", PUBLISHED)
def test_the_words_are_those_of_the_published_vectors(digest):
    assert " ".join(words(bytes.fromhex(digest))) == PUBLISHED[digest]
    assert from_words(PUBLISHED[digest]).hex() == digest


@given(DIGESTS)
@settings(deadline=None)
def test_each_form_reads_back(digest):
    assert from_words(" ".join(words(digest))) == digest
    assert from_words("\n".join(words(digest)).upper()) == digest
    assert from_hex(grouped(digest)) == digest
    assert grouped(digest).replace(" ", "") == digest.hex()


@given(DIGESTS, st.integers(0, 31), st.integers(1, 255))
@settings(deadline=None)
def test_two_digests_never_have_the_same_words(digest, at, flip):
    other = bytearray(digest)
    other[at] ^= flip
    assert words(bytes(other)) != words(digest)


def test_most_misheard_words_fail_the_checksum():
    said = list(words(hashlib.sha256(b"statement").digest()))
    every = sorted({word for seed in range(40) for word in words(hashlib.sha256(bytes([seed])).digest())})
    others = [word for word in every if word != said[5]]
    outcomes = [heard_as(" ".join([*said[:5], heard, *said[6:]])) for heard in others]
    assert set(outcomes) <= {"fingerprint/checksum", "another digest"}
    assert outcomes.count("fingerprint/checksum") / len(others) > 0.98  # eight bits: one in 256 passes


def heard_as(text):
    try:
        digest = from_words(text)
    except Malformed as error:
        return error.rule
    return "said" if digest == hashlib.sha256(b"statement").digest() else "another digest"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "fingerprint/words"),
        ("abandon " * 23, "fingerprint/words"),
        ("abandon " * 24 + "art", "fingerprint/words"),
        ("abandon " * 24, "fingerprint/checksum"),
        ("abandon " * 22 + "abandonn art", "fingerprint/word"),
        ("abandon " * 23 + "ärt", "fingerprint/word"),
    ],
)
def test_what_was_not_said_is_refused(text, rule):
    with pytest.raises(Malformed) as caught:
        from_words(text)
    assert caught.value.rule == rule


@pytest.mark.parametrize("text", ["", "00" * 31, "00" * 33, "0" * 63, "zz" * 32])
def test_hex_of_another_length_or_alphabet_is_refused(text):
    with pytest.raises(Malformed) as caught:
        from_hex(text)
    assert caught.value.rule == "fingerprint/hex"


@pytest.mark.parametrize("octets", [b"", bytes(31), bytes(33), bytes(16)])
def test_only_whole_digests_have_a_fingerprint(octets):
    for form in (grouped, words):
        with pytest.raises(Malformed, match="32 octets"):
            form(octets)
