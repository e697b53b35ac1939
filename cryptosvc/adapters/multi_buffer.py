"""The software check of signatures, eight at a time.

Intel's Cryptography Primitives Library (package ipp-crypto, its library crypto_mb) verifies eight P-256 signatures in
the lanes of one AVX-512 register: 16 µs each, where AWS-LC takes 47. It shares no code for this with OpenSSL. What it
is given is public: keys, digests, signatures. AWS-LC looks again at each that the lanes do not find good.

Where the library is not installed, cannot be loaded (`scripts/multi-buffer` prepares it), or the processor lacks
AVX-512 IFMA, there is none and AWS-LC checks alone. It is believed only after it told a good signature from a bad one
in each of its lanes.

Source: Intel Cryptography Primitives Library developer reference, mbx_nistp256_ecdsa_verify_mb8.
"""

import ctypes
from collections.abc import Sequence
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from cryptosvc.core.check import P256_COORDINATE_OCTETS, Presented, is_point, one_by_one

LANES = 8
WORTH_IT_FROM = 3
"""Signatures from which on eight lanes, filled or not, cost less than AWS-LC one by one."""

_PACKAGE = "ipp-crypto"
_LIBRARY = "libcrypto_mb.so."
_OCTETS = P256_COORDINATE_OCTETS
_PAIR = 2 * _OCTETS
_STATUS_BITS = 4
_STATUS = (1 << _STATUS_BITS) - 1
_Lanes = ctypes.c_void_p * LANES

# RFC 6979 A.2.5: P-256, SHA-256, message "sample"
_KNOWN: Presented = (
    b"\x04"
    + bytes.fromhex("60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6")
    + bytes.fromhex("7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299"),
    bytes.fromhex("efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716")
    + bytes.fromhex("f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"),
    bytes.fromhex("af2bdbe1aa9b6ec1e2ade1d694f41fc71a831d0268e9891562113d8a62add1bf"),
)


class MultiBuffer:
    """Verifies in eight lanes. For one thread: the lanes' octets are kept between calls.

    Args:
        library: crypto_mb, loaded so that it keeps the interpreter's lock, as every check of 0.1 ms does.

    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._verify = library.mbx_nistp256_ecdsa_verify_mb8
        self._verify.argtypes = (ctypes.c_void_p,) * 7
        self._verify.restype = ctypes.c_uint32
        self._signatures = ctypes.create_string_buffer(LANES * _PAIR)
        self._digests = ctypes.create_string_buffer(LANES * _OCTETS)
        self._points = ctypes.create_string_buffer(LANES * _PAIR)
        self._to = tuple(map(ctypes.addressof, (self._signatures, self._digests, self._points)))
        signatures, digests, points = self._to
        self._arguments = (
            *_halves(signatures),
            _Lanes(*(digests + _OCTETS * lane for lane in range(LANES))),
            *_halves(points),
            None,  # no third coordinate: points are affine
            None,  # no working memory of ours
        )

    def __call__(self, presented: Sequence[Presented]) -> list[bool]:
        """Whether each verifies, in order; a `core.check.Verify`."""
        verdicts: list[bool] = []
        for at in range(0, len(presented), LANES):
            group = presented[at : at + LANES]
            if len(group) < WORTH_IT_FROM:
                verdicts += one_by_one(group)
            else:
                verdicts += [
                    found or one_by_one((one,))[0]
                    for found, one in zip(self.lanes(group), group, strict=True)
                ]
        return verdicts

    def lanes(self, group: Sequence[Presented]) -> list[bool]:
        """Which of at most eight are found good here.

        What is not is for AWS-LC to say: the library also turns away a digest that, as a number, is zero or not below the
        order of the curve. One signature in 2^32 has such a digest, and its key must not fall into disuse over it.
        """
        whole = [_is_whole(one) for one in group]
        lanes = [one if fits else _KNOWN for one, fits in zip(group, whole, strict=True)]
        lanes += [_KNOWN] * (LANES - len(lanes))
        points, signatures, digests = zip(*lanes, strict=True)
        to_signatures, to_digests, to_points = self._to
        ctypes.memmove(to_signatures, b"".join(signatures), LANES * _PAIR)
        ctypes.memmove(to_digests, b"".join(digests), LANES * _OCTETS)
        ctypes.memmove(to_points, b"".join(map(_affine, points)), LANES * _PAIR)
        status = self._verify(*self._arguments)
        return [fits and not status >> _STATUS_BITS * lane & _STATUS for lane, fits in enumerate(whole)]


def load() -> MultiBuffer | None:
    """Load the library where it is installed and does what it is for on this processor; None elsewhere."""
    try:
        files = metadata.files(_PACKAGE) or ()
    except metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.name.startswith(_LIBRARY):
            try:
                found = MultiBuffer(ctypes.PyDLL(str(Path(file.locate()))))
            except (OSError, AttributeError):  # needs what is not here, or is not that library
                return None
            return found if tells(found) else None
    return None


def tells(verify: MultiBuffer) -> bool:
    """Whether a good signature verifies in each lane and one with a digest of another message in none."""
    point, signature, digest = _KNOWN
    bad: Presented = (point, signature, bytes(reversed(digest)))
    mixed = [[bad if lane == wrong else _KNOWN for lane in range(LANES)] for wrong in range(LANES)]
    return all(verify(group) == [lane != wrong for lane in range(LANES)] for wrong, group in enumerate(mixed))


def _halves(base: int) -> tuple[ctypes.Array[ctypes.c_void_p], ctypes.Array[ctypes.c_void_p]]:
    """Where the first and the second half of each lane's pair begin."""
    return (
        _Lanes(*(base + _PAIR * lane for lane in range(LANES))),
        _Lanes(*(base + _PAIR * lane + _OCTETS for lane in range(LANES))),
    )


def _is_whole(one: Presented) -> bool:
    point, signature, digest = one
    return len(signature) == _PAIR and len(digest) == _OCTETS and is_point(point)


@lru_cache(maxsize=4096)
def _affine(point: bytes) -> bytes:
    """The coordinates as the library takes them: x, then y, 32 octets each, the least first."""
    return point[_OCTETS:0:-1] + point[:_OCTETS:-1]
