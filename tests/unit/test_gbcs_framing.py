"""The frame of a Pre-Command: each octet of it, both sides of each bound."""

import pytest

from cryptosvc.core.content.gbcs import framing
from cryptosvc.core.errors import Malformed
from tests import precommands

MESSAGE = precommands.ecs43()


def rule_of(message: bytes, maximum_octets: int = 65_535) -> str:
    with pytest.raises(Malformed) as refusal:
        framing.read(message, maximum_octets)
    assert refusal.value.field == "gbcs_pre_command"
    return refusal.value.rule


def changed(at: int, value: int) -> bytes:
    return MESSAGE[:at] + bytes((value,)) + MESSAGE[at + 1 :]


@pytest.mark.parametrize(
    ("at", "value", "rule"),
    [
        (0, 0xDD, "gbcs/mac-wrapped"),
        (0, 0x30, "gbcs/tag"),
        (0, 0x09, "gbcs/tag"),
        (1, 8, "gbcs/tag"),
        (2, 0, "gbcs/cra"),
        (2, 2, "gbcs/cra"),
        (2, 3, "gbcs/cra"),
        (11, 7, "gbcs/header"),
        (20, 9, "gbcs/header"),
        (29, 12, "gbcs/date-time"),
        (30, 0, "gbcs/other-info"),
        (30, 1, "gbcs/other-info"),
        (30, 0x80, "gbcs/length-form"),
        (30, 0x83, "gbcs/length-form"),
        (30, 0x7F, "gbcs/other-info"),
    ],
)
def test_a_changed_header_octet_names_its_rule(at: int, value: int, rule: str) -> None:
    assert rule_of(changed(at, value)) == rule


def test_every_prefix_is_refused() -> None:
    whole = len(MESSAGE) - 1  # without the null signature it is whole as well
    for size in range(whole):
        assert rule_of(MESSAGE[:size]).startswith("gbcs/")
    assert framing.read(MESSAGE[:whole], 65_535) == framing.read(MESSAGE, 65_535)


def test_nothing_follows_but_one_empty_signature() -> None:
    bare = MESSAGE[:-1]
    assert rule_of(bare + b"\x01") == "gbcs/trailing-bytes"
    assert rule_of(bare + b"\x00\x00") == "gbcs/trailing-bytes"
    assert rule_of(bare + b"\x40" + bytes(63)) == "gbcs/trailing-bytes"
    assert rule_of(bare + b"\x40" + bytes(64)) == "gbcs/already-signed"
    assert rule_of(bare + b"\x40" + bytes(65)) == "gbcs/trailing-bytes"
    assert rule_of(MESSAGE + b"\x40" + bytes(64)) == "gbcs/trailing-bytes"


@pytest.mark.parametrize("size", [0, 1, 0x7F, 0x80, 0xFF, 0x100, 0xFFFF])
def test_lengths_at_every_form_come_back(size: int) -> None:
    message = framing.build(code=1, originator=bytes(8), target=bytes(8), counter=0, payload=bytes(size))
    frame = framing.read(message, 70_000)
    assert frame.end - frame.start == size
    assert framing.length(framing.emit_length(size), 0, 3) == (size, len(framing.emit_length(size)))


@pytest.mark.parametrize(
    "form", ["8105", "817f", "820005", "8200ff", "80", "8300ffff", "84", "ff", "81", "82", "8201"]
)
def test_a_length_in_another_form_is_refused(form: str) -> None:
    octets = bytes.fromhex(form)
    with pytest.raises(Malformed) as refusal:
        framing.length(octets, 0, len(octets))
    assert refusal.value.rule == "gbcs/length-form"


def test_a_payload_length_that_is_not_minimal_is_refused() -> None:
    at = framing.read(MESSAGE, 65_535).start - 1
    size = MESSAGE[at]
    for form in (bytes((0x81, size)), bytes((0x82, 0, size))):
        assert rule_of(MESSAGE[:at] + form + MESSAGE[at + 1 :]) == "gbcs/length-form"


def test_what_cannot_be_written_is_refused() -> None:
    whole = {"code": 1, "originator": bytes(8), "target": bytes(8), "counter": 0, "payload": b""}
    for wrong in (
        {"originator": bytes(7)},
        {"target": bytes(9)},
        {"counter": 2**64},
        {"counter": -1},
        {"code": 0x10000},
        {"payload": bytes(0x10000)},
    ):
        with pytest.raises(Malformed):
            framing.build(**{**whole, **wrong})  # type: ignore[arg-type]


def test_the_size_bound() -> None:
    assert rule_of(MESSAGE, len(MESSAGE) - 1) == "gbcs/too-long"
    assert framing.read(MESSAGE, len(MESSAGE)).counter == 1000
