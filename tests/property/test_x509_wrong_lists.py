"""Revocation lists that are wrong in one thing: over 400, refused by the rule for it."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.certificates import AT
from tests.tlv import found, inserted, parse, replaced, tlv
from tests.x509_specimens import SPECIMENS
from tests.x509_wrong_parts import (
    OID,
    SERIAL_RULE,
    UNKNOWN,
    Case,
    algorithms,
    assert_refused,
    encoded_time,
    extension,
    extension_cases,
    rdn,
    value_replaced,
)

SUBJECT_OF_A_CERTIFICATE = 5


def list_cases(name: str) -> Iterator[Case]:
    """Everything a revocation list may get wrong."""
    good = SPECIMENS[name].payload
    tree = parse(good)
    is_arl = name == "arl"
    last = len(tree.children) - 1
    yield from extension_cases(name, (last, 0), {"crl/extension", "crl/criticality"})
    for number in (0, 2, 3):
        yield f"version-{number}", replaced(good, (0,), bytes([2, 1, number])), {"crl/version"}
    yield "no-version", replaced(good, (0,), b""), {"crl/structure"}
    yield "no-next-update", replaced(good, (4,), b""), {"crl/structure"}
    yield "no-extensions-at-all", replaced(good, (last,), b""), {"crl/structure"}
    yield "no-number", replaced(good, found(good, OID["number"]), b""), {"crl/extension"}
    yield "no-aki", replaced(good, found(good, OID["aki"]), b""), {"crl/extension"}
    for algorithm, raw in algorithms():
        yield f"algorithm-{algorithm}", replaced(good, (1,), raw), {"signature/algorithm"}
    for number in ("ff", "80", "00" * 21, "7f" * 21, "01" * 30):
        rules = {"extension/crl-number", "der/integer"}
        yield f"number-{number}", value_replaced(good, "number", tlv(2, bytes.fromhex(number))), rules
    authority = parse(good).at(*found(good, OID["aki"])).children[-1].children[0].children[0].content
    for bit in range(64):
        flipped = (int.from_bytes(authority) ^ 1 << bit).to_bytes(8)
        yield f"aki-{bit}", value_replaced(good, "aki", tlv(0x30, tlv(0x80, flipped))), {"crl/aki"}
    second, day = timedelta(seconds=1), timedelta(days=1)
    shortest, longest = (day, 366 * day) if is_arl else (timedelta(hours=1), timedelta(hours=48))
    for lasting in (
        -day,
        -second,
        0 * day,
        second,
        shortest - second,
        longest + second,
        2 * longest,
        3650 * day,
    ):
        yield f"lasts-{lasting}", replaced(good, (4,), encoded_time(AT + lasting)), {"crl/interval"}
    for ahead in (301, 3600, 86_400):
        start = AT + ahead * second
        moved = replaced(replaced(good, (3,), encoded_time(start)), (4,), encoded_time(start + shortest))
        yield f"ahead-{ahead}", moved, {"crl/this-update"}
    for ago in (7201, 86_400):
        start = AT - ago * second
        moved = replaced(replaced(good, (3,), encoded_time(start)), (4,), encoded_time(start + longest))
        yield f"ago-{ago}", moved, {"crl/this-update", "crl/revocation-date"}
    for how, ou, common, rule in (
        ("other", b"00" if is_arl else b"07", b"QQ", "crl/issuer"),
        ("role", b"02", b"ZA", "name/oca-role"),
    ):
        raw = tlv(0x30, rdn("060355040b", tlv(0x13, ou)), rdn("0603550403", tlv(0x13, common)))
        yield f"issuer-{how}", replaced(good, (2,), raw), {rule}
    yield (
        "issuer-organisation",
        replaced(good, (2,), parse(SPECIMENS["organisation"].payload).at(SUBJECT_OF_A_CERTIFICATE).dump()),
        {"crl/issuer-form"},
    )
    yield from _scope_cases(good, is_arl=is_arl, last=last)
    if name != "crl-empty":
        yield from _entry_cases(good)


def _scope_cases(good: bytes, *, is_arl: bool, last: int) -> Iterator[Case]:
    wrong = [
        "3000",
        "300381 01 01",
        "3003 8201 01",
        "30068101ff8201ff",
        "3003 8401ff",
        "30038501ff",
        "300683020780",
        "3005a003a00161",
    ]
    wrong.append("30038101ff" if is_arl else "30038201ff")
    for value in wrong:
        content = bytes.fromhex(value.replace(" ", ""))
        content = tlv(0x30, content[2:])
        rules = {"crl/scope", "distribution-point/structure", "der/boolean", "der/truncated"}
        if is_arl:
            yield f"scope-{value}", value_replaced(good, "scope", content), rules
        else:
            raw = extension(OID["scope"], content, critical=True)
            yield f"scope-{value}", inserted(good, (last, 0, 0), raw), rules


def _entry_cases(good: bytes) -> Iterator[Case]:
    entry = parse(good).at(5, 0)
    serial, when, reasons = (child.dump() for child in entry.children)
    yield "no-entries", replaced(good, (5,), tlv(0x30)), {"crl/entries"}
    yield "twice", inserted(good, (5, 0), entry.dump()), {"crl/duplicate-serial"}
    yield "twice-otherwise", inserted(good, (5, 0), tlv(0x30, serial, when)), {"crl/duplicate-serial"}
    for number in ("00", "ff", "80", "01" * 21, "7f" * 30):
        raw = tlv(0x30, tlv(2, bytes.fromhex(number)), when, reasons)
        yield f"serial-{number}", replaced(good, (5, 0), raw), SERIAL_RULE
    for later in (1, 60, 10**7):
        raw = tlv(0x30, serial, encoded_time(AT + timedelta(seconds=later)), reasons)
        yield f"revoked-later-{later}", replaced(good, (5, 0), raw), {"crl/revocation-date"}
    for reason in (0, 6, 7, 8, 10, 11, 42, 127):
        raw = tlv(0x30, extension(OID["reason"], bytes([0x0A, 1, reason])))
        yield f"reason-{reason}", replaced(good, (5, 0, 2), raw), {"crl/reason"}
    right = extension(OID["reason"], b"\x0a\x01\x01")
    yield (
        "reason-integer",
        replaced(good, (5, 0, 2), tlv(0x30, extension(OID["reason"], b"\x02\x01\x01"))),
        {"extension/structure"},
    )
    yield "reason-twice", replaced(good, (5, 0, 2), tlv(0x30, right, right)), {"extension/duplicate"}
    yield (
        "reason-critical",
        replaced(good, (5, 0, 2), tlv(0x30, extension(OID["reason"], b"\x0a\x01\x01", critical=True))),
        {"crl/entry-extension"},
    )
    yield "no-extensions", replaced(good, (5, 0, 2), tlv(0x30)), {"extension/empty"}
    for name, (oid, value) in UNKNOWN.items():
        for critical in (False, True):
            raw = tlv(0x30, right, extension(bytes.fromhex(oid), bytes.fromhex(value), critical=critical))
            yield f"entry-{name}-{critical}", replaced(good, (5, 0, 2), raw), {"crl/entry-extension"}


def unknown_oca_cases() -> Iterator[Case]:
    """An ARL that lists what nobody knows as an OCA Certificate."""
    good = SPECIMENS["arl"].payload
    for serial in (1, 2, 0x10, 0x12, 0x21, 0x23, 0x7FFFFFFF):
        size = (serial.bit_length() + 8) // 8
        yield (
            f"unknown-{serial}",
            replaced(good, (5, 0, 0), tlv(2, serial.to_bytes(size))),
            {"crl/unknown-oca"},
        )


@pytest.mark.parametrize("name", ["arl", "crl", "crl-empty"])
def test_wrong_lists(name: str) -> None:
    assert assert_refused(name, list_cases(name)) >= 150


def test_an_arl_with_an_unknown_certificate() -> None:
    assert assert_refused("arl", unknown_oca_cases()) == 7
