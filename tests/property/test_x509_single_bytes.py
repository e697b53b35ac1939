"""Every single-byte change and every truncation of valid payloads: refused, or still valid by the oracle's word.

The oracle is pyca/cryptography: it reads the payload, judges the values by the profile stated a second time, and its
own builder writes the very same bytes (tests/x509_oracle.py). It is asked about every payload that is accepted; for
what is refused, a sample of the oracle's word says that nothing valid is refused either.
"""

import pytest

from cryptosvc.core.content.base import Content
from cryptosvc.core.errors import Forbidden, Malformed
from tests.x509_specimens import SPECIMENS, Specimen

CHUNKS = 4
EVERY_VALUE = ("organisation", "crl-empty", "csr-bare")
OPAQUE_TO_THE_ORACLE = {"root-contingency"}
"""pyca does not look into a wrapped contingency key; our walk does, and refuses what pyca would let pass."""
BIT_FLIPS = ("root", "issuing", "organisation-named", "arl", "crl", "csr-named")


def _judge(specimen: Specimen, payload: bytes) -> bool:
    verdict = specimen.judged(payload)
    if isinstance(verdict, Content):
        assert verdict.signed_bytes == payload
        assert specimen.is_fine(payload), payload.hex()
        return True
    assert isinstance(verdict, Malformed | Forbidden)
    return False


@pytest.mark.parametrize("chunk", range(CHUNKS))
@pytest.mark.parametrize("name", EVERY_VALUE)
def test_every_value_of_every_byte(name: str, chunk: int) -> None:
    specimen = SPECIMENS[name]
    good = specimen.payload
    refused = 0
    for at in range(chunk, len(good), CHUNKS):
        for value in range(256):
            if value != good[at]:
                refused += not _judge(specimen, good[:at] + bytes([value]) + good[at + 1 :])
    assert refused > 40 * len(good)


@pytest.mark.parametrize("name", BIT_FLIPS)
def test_every_bit_flip(name: str) -> None:
    specimen = SPECIMENS[name]
    good = specimen.payload
    accepted = 0
    for at in range(len(good)):
        for bit in range(8):
            accepted += _judge(specimen, good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :])
    assert accepted < len(good)


@pytest.mark.parametrize("name", sorted(SPECIMENS.keys() - OPAQUE_TO_THE_ORACLE))
def test_what_is_refused_is_not_fine(name: str) -> None:
    specimen = SPECIMENS[name]
    good = specimen.payload
    for at in range(len(good)):
        payload = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
        assert specimen.is_fine(payload) == isinstance(specimen.judged(payload), Content), at


@pytest.mark.parametrize("name", SPECIMENS)
def test_every_truncation_and_trailing_byte(name: str) -> None:
    specimen = SPECIMENS[name]
    good = specimen.payload
    for payload in [good[:size] for size in range(len(good))] + [
        good + bytes([octet]) for octet in range(256)
    ]:
        assert isinstance(specimen.judged(payload), Malformed)
