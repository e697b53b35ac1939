"""Certification requests that are wrong in one thing: over 2,000, refused by the rule for it."""

from collections.abc import Iterator

import pytest

from tests.certificates import key_pair, point_of
from tests.tlv import inserted, parse, replaced, tlv
from tests.x509_specimens import SPECIMENS
from tests.x509_wrong_parts import (
    OID,
    Case,
    assert_refused,
    extension,
    extension_cases,
    name_parts,
    named_bits,
    ou_texts,
    points,
    subjects,
    value_replaced,
)


def request_cases(name: str) -> Iterator[Case]:
    """Everything a request may get wrong."""
    good = SPECIMENS[name].payload
    listed = (3, 0, 1, 0)
    yield from extension_cases(name, listed, {"csr/extension"})
    for number in (1, 2, 127):
        yield f"version-{number}", replaced(good, (0,), bytes([2, 1, number])), {"csr/version"}
    yield "no-attributes", replaced(good, (3,), b""), {"csr/structure"}
    for point, raw, rule in points():
        yield f"point-{point}", replaced(good, (2,), raw), {rule}
    for text, rule in ou_texts():
        raw = name_parts(
            None, tlv(0x0C, text.encode()), tlv(0x03, b"\x00", bytes.fromhex("90b3d51f30010000"))
        )
        yield f"ou-{text!r}", replaced(good, (1,), raw), {"csr/role" if rule == "role" else rule}
    for role in (1, 3, 4, 5, 6, 8, 127, 135, 137):
        raw = name_parts(
            None, tlv(0x0C, f"{role:02X}".encode()), tlv(0x03, b"\x00", bytes.fromhex("90b3d51f30010000"))
        )
        yield f"role-{role}", replaced(good, (1,), raw), {"csr/role"}
    for bit in range(64):
        entity = (0x90B3D51F30010000 ^ 1 << bit).to_bytes(8)
        raw = name_parts(None, tlv(0x0C, b"02"), tlv(0x03, b"\x00", entity))
        yield f"entity-{bit}", replaced(good, (1,), raw), {"csr/entity"}
    for how, raw, rules in subjects():
        yield f"subject-{how}", replaced(good, (1,), raw), rules
    for bits in range(512):
        if bits != 0b100000000:
            rules = {"csr/key-usage", "extension/key-usage"}
            yield f"usage-{bits:09b}", value_replaced(good, "usage", named_bits(bits)), rules
    attribute = parse(good).at(3, 0).dump()
    request = parse(good).at(*listed).dump()
    for oid in (
        "06092a864886f70d010907",
        "06092a864886f70d010902",
        "060a2b060104018237020103",
        "06092a864886f70d01090f",
    ):
        raw = tlv(0x30, bytes.fromhex(oid), tlv(0x31, request))
        yield f"attribute-{oid}", replaced(good, (3, 0), raw), {"csr/attribute"}
        yield f"second-attribute-{oid}", inserted(good, (3, 0), raw), {"csr-attributes/structure"}
    yield "attribute-twice", inserted(good, (3, 0), attribute), {"csr-attributes/structure"}
    yield "value-twice", replaced(good, (3, 0, 1), tlv(0x31, request, request)), {"der/set-order"}
    yield "no-value", replaced(good, (3, 0, 1), tlv(0x31)), {"csr-attributes/structure"}
    ca = extension(OID["constraints"], bytes.fromhex("30030101ff"), critical=True)
    yield "ca", inserted(good, (*listed, 0), ca), {"csr/extension"}
    other_policy = tlv(0x30, tlv(0x30, bytes.fromhex("0604551d2000")))
    yield (
        "policy",
        inserted(good, (*listed, 0), extension(OID["policies"], other_policy, critical=True)),
        {"csr/policies"},
    )
    yield "ski", inserted(good, (*listed, 0), extension(OID["ski"], tlv(4, bytes(8)))), {"csr/ski"}


def foreign_key_cases(name: str) -> Iterator[Case]:
    """Requests that are right in themselves, and for another key."""
    good = SPECIMENS[name].payload
    for number in range(5):
        spki = parse(good).at(2).dump()[:-65] + point_of(key_pair(f"other {number}").public_key())
        yield f"point-{number}", replaced(good, (2,), spki), {"csr/own-key"}


@pytest.mark.parametrize("name", ["csr", "csr-named"])
def test_wrong_requests(name: str) -> None:
    assert assert_refused(name, request_cases(name)) >= 1000
    assert assert_refused(name, foreign_key_cases(name)) == 5
