"""The software check of signatures: AWS-LC one by one and eight lanes at a time find the same things."""

import hashlib
import random
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.hashes import SHA256

from cryptosvc.adapters import multi_buffer
from cryptosvc.core.check import Presented, Verify, one_by_one
from tests import certificates

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
KEYS = [certificates.key_pair(f"verify-{number}") for number in range(3)]
POINTS = [certificates.point_of(key.public_key()) for key in KEYS]
EIGHT_LANES = "avx512ifma" in Path("/proc/cpuinfo").read_text()


@pytest.fixture(params=["one-by-one", "multi-buffer"])
def verify(request: pytest.FixtureRequest) -> Verify:
    if request.param == "one-by-one":
        return one_by_one
    found = multi_buffer.load()
    if found is None and not EIGHT_LANES:
        pytest.skip("this processor has no AVX-512 IFMA")
    assert found is not None, "the library is there and the processor can, but it does not load"
    return found


def presented(key: int, digest: bytes) -> Presented:
    r, s = decode_dss_signature(KEYS[key].sign(digest, ec.ECDSA(Prehashed(SHA256()))))
    return POINTS[key], r.to_bytes(32) + s.to_bytes(32), digest


def digests(count: int) -> list[bytes]:
    return [hashlib.sha256(b"%d" % number).digest() for number in range(count)]


def referee(one: Presented) -> bool:
    """What OpenSSL says."""
    point, signature, digest = one
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
        key.verify(encode_dss_signature(r, s), digest, ec.ECDSA(Prehashed(SHA256())))
    except (InvalidSignature, ValueError):
        return False
    return len(signature) == 64


@pytest.mark.parametrize("count", range(20))
def test_any_number_of_good_signatures_of_several_keys_verify(verify: Verify, count: int):
    assert (
        verify([presented(number % 3, digest) for number, digest in enumerate(digests(count))])
        == [True] * count
    )


@pytest.mark.parametrize("wrong", range(11))
def test_the_one_that_is_wrong_is_found_in_its_place(verify: Verify, wrong: int):
    asked = [presented(0, digest) for digest in digests(11)]
    point, signature, _ = asked[wrong]
    for other in (
        (POINTS[1], signature, asked[wrong][2]),
        (point, signature, bytes(32)),
        (point, signature[:-1], asked[wrong][2]),
        (point, signature + b"\0", asked[wrong][2]),
        (point, b"", asked[wrong][2]),
        (bytes(65), signature, asked[wrong][2]),
        (b"\x04" + bytes(63) + b"\x01", signature, asked[wrong][2]),
        (point[:-1] + bytes([point[-1] ^ 1]), signature, asked[wrong][2]),
        (point[:33], signature, asked[wrong][2]),
        (b"", signature, asked[wrong][2]),
    ):
        given = [*asked[:wrong], other, *asked[wrong + 1 :]]
        assert verify(given) == [number != wrong for number in range(11)]


def test_values_at_the_edges_are_told_as_openssl_tells_them(verify: Verify):
    edges = [0, 1, 2, ORDER - 1, ORDER, ORDER + 1, 2**255, 2**256 - 1]
    asked: list[Presented] = [
        (POINTS[0], r.to_bytes(32) + s.to_bytes(32), digest)
        for r in edges
        for s in edges
        for digest in (bytes(32), b"\xff" * 32, ORDER.to_bytes(32))
    ]
    for digest in (bytes(32), b"\xff" * 32, ORDER.to_bytes(32), (ORDER - 1).to_bytes(32)):
        point, signature, _ = good = presented(0, digest)
        r, s = signature[:32], int.from_bytes(signature[32:])
        asked += [
            good,
            (point, r + (ORDER - s).to_bytes(32), digest),
            (point, r[::-1] + signature[32:], digest),
        ]
    expected = [referee(one) for one in asked]
    assert expected.count(True) == 8
    assert verify(asked) == expected


def test_a_thousand_changed_bits_are_told_as_openssl_tells_them(verify: Verify):
    chance = random.Random(7)
    good = [presented(number % 3, digest) for number, digest in enumerate(digests(40))]
    asked: list[Presented] = []
    for _ in range(1000):
        parts = list(chance.choice(good))
        part = chance.choice([0, 1, 1, 1, 2])
        octets = bytearray(parts[part])
        octets[chance.randrange(len(octets))] ^= 1 << chance.randrange(8)
        parts[part] = bytes(octets)
        asked += [tuple(parts), chance.choice(good)]  # type: ignore[list-item]
    assert verify(asked) == [referee(one) for one in asked]


def test_the_lanes_themselves_find_what_is_good():
    found = multi_buffer.load()
    if found is None and not EIGHT_LANES:
        pytest.skip("this processor has no AVX-512 IFMA")
    assert found is not None
    asked = [presented(0, digest) for digest in digests(8)]
    assert found.lanes(asked) == [True] * 8
    point, signature, digest = asked[5]
    asked[5] = (point, signature, bytes(reversed(digest)))
    assert found.lanes(asked[:7]) == [True] * 5 + [False, True]


def test_a_library_that_says_yes_to_everything_is_not_believed():
    class Yes:
        class mbx_nistp256_ecdsa_verify_mb8:  # noqa: N801 - the library's name
            def __new__(cls, *_: object) -> int:  # type: ignore[misc]
                return 0

    assert not multi_buffer.tells(multi_buffer.MultiBuffer(Yes()))  # type: ignore[arg-type]


def test_without_the_package_there_is_none():
    script = (
        "import importlib.metadata as m\n"
        "def gone(name): raise m.PackageNotFoundError(name)\n"
        "m.files = gone\n"
        "from cryptosvc.adapters import multi_buffer\n"
        "print(multi_buffer.load())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"
