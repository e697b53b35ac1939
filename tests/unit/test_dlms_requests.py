"""Plaintext xDLMS requests: what is read, to the last octet, and what is refused."""

import pytest

from cryptosvc.core.content.dlms import apdu, association, framing
from cryptosvc.core.content.dlms.apdu import Item
from cryptosvc.core.content.dlms.profile import Smets1Profile
from cryptosvc.core.errors import Malformed
from tests.dlms_device import sealed

OBIS = bytes.fromhex("0000010000ff")
DESCRIPTOR = b"\x00\x08" + OBIS + b"\x02"
TOKEN = bytes.fromhex("00730000132800ff01")
TEXT = b"\x09\x03abc"
GET_ONE = b"\xc0\x01\x00" + DESCRIPTOR + b"\x00"
ENTER = b"\xc3\x01\x00" + TOKEN + b"\x01" + TEXT

READ = {
    "get": (GET_ONE, ["get 8/0-0:1.0.0.255/2"]),
    "get with a selection": (b"\xc0\x01\x00" + DESCRIPTOR + b"\x01\x01" + TEXT, ["get 8/0-0:1.0.0.255/2"]),
    "get the next block": (b"\xc0\x02\x00\x00\x00\x00\x01", []),
    "get a list": (b"\xc0\x03\x00\x02" + 2 * (DESCRIPTOR + b"\x00"), 2 * ["get 8/0-0:1.0.0.255/2"]),
    "set": (b"\xc1\x01\x00" + DESCRIPTOR + b"\x00" + TEXT, ["set 8/0-0:1.0.0.255/2"]),
    "set a list": (
        b"\xc1\x04\x00\x02" + 2 * (DESCRIPTOR + b"\x00") + b"\x02" + 2 * TEXT,
        2 * ["set 8/0-0:1.0.0.255/2"],
    ),
    "action": (ENTER, ["action 115/0-0:19.40.0.255/1"]),
    "action without a datum": (b"\xc3\x01\x00" + TOKEN + b"\x00", ["action 115/0-0:19.40.0.255/1"]),
    "action, the next block": (b"\xc3\x02\x00\x00\x00\x00\x01", []),
    "actions": (
        b"\xc3\x03\x00\x02" + TOKEN + DESCRIPTOR + b"\x02" + TEXT + b"\x00",
        ["action 115/0-0:19.40.0.255/1", "action 8/0-0:1.0.0.255/2"],
    ),
    "access": (
        b"\xd9\x00\x00\x00\x01\x00\x03\x01" + DESCRIPTOR + b"\x02" + DESCRIPTOR + b"\x03" + TOKEN
        + b"\x03\x00" + TEXT + TEXT,
        ["get 8/0-0:1.0.0.255/2", "set 8/0-0:1.0.0.255/2", "action 115/0-0:19.40.0.255/1"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_a_request_says_what_it_touches(name: str) -> None:
    octets, items = READ[name]
    read = apdu.read(octets)
    assert read.tag == octets[0]
    assert [str(item) for item in read.items] == items


@pytest.mark.parametrize("name", READ)
def test_nothing_shorter_or_longer_is_one(name: str) -> None:
    octets = READ[name][0]
    for end in range(len(octets)):
        with pytest.raises(Malformed) as refusal:
            apdu.read(octets[:end])
        assert refusal.value.rule.startswith("dlms/")
    for more in (b"\x00", b"\x01", octets):
        with pytest.raises(Malformed) as refusal:
            apdu.read(octets + more)
        assert refusal.value.rule.startswith("dlms/")


@pytest.mark.parametrize(
    ("octets", "rule"),
    [
        (b"", "not-a-request"),
        (b"\xc4\x01\x00\x01\x00", "not-a-request"),
        (b"\xcb" + GET_ONE, "not-a-request"),
        (b"\xc1\x02\x00" + DESCRIPTOR + b"\x00\x00" + bytes(4) + b"\x00", "choice"),
        (b"\xc3\x04\x00" + TOKEN + b"\x00" + bytes(4), "choice"),
        (b"\xc0\x04" + GET_ONE[2:], "choice"),
        (GET_ONE[:-1] + b"\x02", "optional"),
        (b"\xc0\x03\x00\x00", "count"),
        (b"\xc0\x03\x00\x82\xff\xff" + DESCRIPTOR, "count"),
        (b"\xc3\x03\x00\x01" + TOKEN + b"\x02" + TEXT + TEXT, "count"),
        (b"\xd9\x00\x00\x00\x01\x03abc\x01\x01" + DESCRIPTOR + b"\x01\x00", "date-time"),
        (b"\xd9\x00\x00\x00\x01\x00\x01\x06" + DESCRIPTOR + b"\x01\x00", "choice"),
        (b"\xc1\x01\x00" + DESCRIPTOR + b"\x00\x13\x02\x00\x12\x00", "datum"),
        (b"\xc1\x01\x00" + DESCRIPTOR + b"\x00" + 20 * b"\x02\x01" + b"\x00", "datum"),
    ],
)
def test_what_is_refused_says_why(octets: bytes, rule: str) -> None:
    with pytest.raises(Malformed) as refusal:
        apdu.read(octets)
    assert refusal.value.rule == f"dlms/{rule}"


def test_only_what_adds_credit_and_nothing_else_adds_credit() -> None:
    profile = Smets1Profile()
    assert profile.adds_credit(apdu.read(ENTER))
    assert profile.adds_credit(apdu.read(b"\xc3\x03\x00\x02" + 2 * TOKEN + b"\x02" + 2 * TEXT))
    for name, (octets, _) in READ.items():
        if name not in ("action", "action without a datum"):
            assert not profile.adds_credit(apdu.read(octets)), name
    other = Smets1Profile(add_credit=(Item("action", 8, "0-0:1.0.0.255", 2),))
    assert not other.adds_credit(apdu.read(ENTER))


@pytest.mark.parametrize("name", READ)
def test_every_request_resembles_one_and_random_octets_do_not(name: str) -> None:
    assert apdu.resembles(READ[name][0])
    assert not apdu.resembles(b"\x01" + READ[name][0])
    assert not apdu.resembles(b"P6wRJ21F")


@pytest.mark.parametrize(
    ("name", "tag"),
    [("get", "c8"), ("set", "c9"), ("action", "cb"), ("access", "db085449544c452e2e38")],
)
@pytest.mark.parametrize(("octets", "length"), [(5, "05"), (127, "7f"), (128, "8180"), (256, "820100")])
def test_each_request_has_its_protected_form(name: str, tag: str, octets: int, length: str) -> None:
    protected = b"\x30" * octets
    made = framing.wrap(READ[name][0][0], b"TITLE..8", protected)
    assert made == bytes.fromhex(tag + length) + protected


def test_the_published_request_with_a_dedicated_key() -> None:
    """The AARQ example of the Green Book, whose key, title and counter are those of its other suite 0 examples."""
    dedicated = bytes.fromhex("00112233445566778899aabbccddeeff")
    plain = association.with_key(bytes.fromhex("01000000065f1f0400007e1f04b0"), dedicated)
    assert plain.hex() == "01011000112233445566778899aabbccddeeff0000065f1f0400007e1f04b0"
    first, last = association.key_at()
    assert plain[first:last] == dedicated
    made = sealed(0x30, bytes.fromhex("4d4d4d0000bc614e"), 0x01234567, plain)
    assert made.hex() == (
        "801302ff8a7874133d414ced25b42534d28db0047720606b175bd52211be6841db204d39ee6fdb8e356855"
    )
    assert framing.wrap_initiate(b"\x30\x01\x23\x45\x67" + made)[:2].hex() == "2130"
