"""The DER walk, both sides of each bound."""

import pytest

from cryptosvc.core.content.x509 import der
from cryptosvc.core.errors import Malformed

LIMIT = 70_000


def read(text: str) -> der.Node:
    return der.read(bytes.fromhex(text), limit=LIMIT)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "truncated"),
        ("02", "truncated"),
        ("0202 01", "truncated"),
        ("0201 01 00", "trailing-bytes"),
        ("028101 01", "length-form"),
        ("3080 0000", "indefinite-length"),
        ("0285 0000000001 01", "truncated"),
        ("0282 01", "truncated"),
        ("1f8101 00", "tag-number"),
        ("4201 00", "type"),
        ("c201 00", "type"),
        ("2400", "type"),
        ("6200", "type"),
        ("1401 41", "type"),
        ("1601 41", "type"),
        ("0200", "integer"),
        ("0202 0001", "integer"),
        ("0202 ff80", "integer"),
        ("0100", "boolean"),
        ("0101 01", "boolean"),
        ("0102 ffff", "boolean"),
        ("0300", "bit-string"),
        ("0301 01", "bit-string"),
        ("0302 0880", "bit-string"),
        ("0302 0101", "bit-string"),
        ("0501 00", "null"),
        ("0600", "object-identifier"),
        ("0601 80", "object-identifier"),
        ("0602 8001", "object-identifier"),
        ("0601 ff", "object-identifier"),
        ("0641" + "01" * 65, "object-identifier"),
        ("0c01 ff", "string"),
        ("0c02 c0af", "string"),
        ("0c03 eda080", "string"),
        ("1301 40", "string"),
        ("1301 2a", "string"),
        ("170d 3236303233303030303030305a", "time"),
        ("170b 323630323032303030305a", "time"),
        ("180f 32303439313233313233353935395a", "time"),
        ("1811 32303530303130313030303030302e305a", "time"),
        ("3106 020102 020101", "set-order"),
        ("3106 020101 020101", "set-order"),
    ],
)
def test_refused(text: str, rule: str) -> None:
    with pytest.raises(Malformed) as caught:
        read(text)
    assert caught.value.rule == f"der/{rule}"


@pytest.mark.parametrize(
    "text",
    [
        "0201 00",
        "0201 80",
        "0202 0080",
        "0202 ff7f",
        "0101 00",
        "0101 ff",
        "0301 00",
        "0302 0780",
        "0400",
        "0500",
        "0601 2a",
        "0640" + "01" * 64,
        "0c00",
        "1300",
        "170d 3439313233313233353935395a",
        "180f 32303530303130313030303030305a",
        "3106 020101 020102",
        "8000",
        "a000",
    ],
)
def test_read_and_written_again(text: str) -> None:
    assert der.emit(read(text)) == bytes.fromhex(text)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 255, 256, 65_535, 65_536])
def test_every_form_of_length(size: int) -> None:
    encoded = der.encode(der.OCTET_STRING, bytes(size))
    assert der.read(encoded, limit=LIMIT).content == bytes(size)


def test_nesting_is_bounded() -> None:
    def nested(depth: int) -> bytes:
        encoded = b""
        for _ in range(depth):
            encoded = der.encode(der.SEQUENCE, encoded)
        return encoded

    assert der.read(nested(der.DEEPEST), limit=LIMIT).tag == der.SEQUENCE
    with pytest.raises(Malformed) as caught:
        der.read(nested(der.DEEPEST + 1), limit=LIMIT)
    assert caught.value.rule == "der/too-deep"
    with pytest.raises(Malformed):
        der.read(nested(10_000), limit=LIMIT)


def test_size_is_bounded() -> None:
    encoded = der.encode(der.OCTET_STRING, bytes(10))
    assert der.read(encoded, limit=12).content == bytes(10)
    with pytest.raises(Malformed) as caught:
        der.read(encoded, limit=11)
    assert caught.value.rule == "der/too-long"


@pytest.mark.parametrize(
    ("text", "oid"),
    [
        ("0600"[:2] + "03 550403", "2.5.4.3"),
        ("0608 2a8648ce3d040302", "1.2.840.10045.4.3.2"),
        ("060d 2a863a0001848fb90f01020104", "1.2.826.0.1.8641679.1.2.1.4"),
        ("0601 27", "0.39"),
        ("0601 28", "1.0"),
        ("0601 50", "2.0"),
        ("0603 883703", "2.999.3"),
    ],
)
def test_object_identifiers(text: str, oid: str) -> None:
    assert der.object_identifier(read(text)) == oid


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("170d 3730303130313030303030305a", 0),
        ("170d 3530303130313030303030305a", -631_152_000),
        ("170d 3439313233313233353935395a", 2_524_607_999),
        ("180f 32303530303130313030303030305a", 2_524_608_000),
        ("180f 39393939313233313233353935395a", 253_402_300_799),
    ],
)
def test_times(text: str, seconds: int) -> None:
    assert der.instant(read(text)) == seconds * 1_000_000_000
