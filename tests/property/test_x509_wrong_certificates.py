"""Certificates that are wrong in one thing: over 4,000, refused by the rule for it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.certificates import AT, ISSUING_VALIDITY_DAYS, key_identifier, key_pair, point_of
from tests.tlv import found, inserted, parse, replaced, tlv
from tests.x509_specimens import ISSUING, ROOT, SPECIMENS
from tests.x509_wrong_parts import (
    OID,
    SERIAL_RULE,
    Case,
    algorithms,
    assert_refused,
    encoded_time,
    extension,
    extension_cases,
    name_parts,
    named_bits,
    ou_texts,
    points,
    rdn,
    subjects,
    value_replaced,
)

VERSION, SERIAL, ALGORITHM, ISSUER, VALIDITY, SUBJECT, SPKI, EXTENSIONS = range(8)
AT_LEAST = {
    "root": 750,
    "root-contingency": 750,
    "issuing": 800,
    "organisation": 1150,
    "organisation-named": 800,
}


def certificate_cases(name: str) -> Iterator[Case]:
    """Everything every kind of certificate may get wrong."""
    specimen = SPECIMENS[name]
    good = specimen.payload
    is_root = name.startswith("root")
    yield from extension_cases(name, (EXTENSIONS, 0), {"certificate/extension"})
    for number in (0, 1, 3, 4, 127):
        yield (
            f"version-{number}",
            replaced(good, (VERSION, 0), bytes([2, 1, number])),
            {"tbs-certificate/version"},
        )
    yield "no-version", replaced(good, (VERSION,), b""), {"tbs-certificate/structure"}
    for serial in (
        "00",
        "80",
        "ff",
        "ff00",
        "8000000000000000",
        "00" + "80" + "00" * 15,
        "01" + "00" * 16,
        "7f" * 17,
        "7f" * 20,
        "7f" * 21,
        "01" * 64,
    ):
        yield f"serial-{serial}", replaced(good, (SERIAL,), tlv(2, bytes.fromhex(serial))), SERIAL_RULE
    for algorithm, raw in algorithms():
        yield f"algorithm-{algorithm}", replaced(good, (ALGORITHM,), raw), {"signature/algorithm"}
    for point, raw, rule in points():
        yield f"point-{point}", replaced(good, (SPKI,), raw), {rule}
    for tag in (0xA1, 0xA2, 0x81, 0x82):
        raw = bytes([tag, 2, 0, 0xFF]) if tag < 0xA0 else tlv(tag, tlv(3, b"\x00\xff"))
        yield f"unique-id-{tag:x}", inserted(good, (SPKI,), raw), {"tbs-certificate/structure"}
    yield from _validity_cases(good, is_root=is_root)
    yield from _identifier_cases(good, is_root=is_root)
    right = {0b000001100} if name in ("root", "root-contingency", "issuing") else {0b100000000, 0b000010000}
    for bits in range(512):
        if bits not in right:
            rules = {"certificate/key-usage", "extension/key-usage"}
            yield f"usage-{bits:09b}", value_replaced(good, "usage", named_bits(bits)), rules
    for oid in ("0603551d20", "06042b060100", "060d2a863a0001848fb90f01020105", "0604551d2001"):
        yield (
            f"policy-{oid}",
            value_replaced(good, "policies", tlv(0x30, tlv(0x30, bytes.fromhex(oid)))),
            {"certificate/policies"},
        )
    own = parse(good).at(*found(good, OID["policies"])).children[-1].children[0]
    policy = own.children[0].dump()
    qualified = tlv(
        0x30, own.children[0].children[0].dump(), tlv(0x30, tlv(0x30, bytes.fromhex("06082b06010505070202")))
    )
    yield "policy-twice", value_replaced(good, "policies", tlv(0x30, policy, policy)), {"extension/policies"}
    yield "policy-none", value_replaced(good, "policies", tlv(0x30)), {"extension/policies"}
    yield (
        "policy-qualified",
        value_replaced(good, "policies", tlv(0x30, qualified)),
        {"certificate-policy/structure"},
    )
    for missing in ("usage", "policies", "ski"):
        rule = {"usage": "key-usage", "ski": "ski"}.get(missing, missing)
        yield f"no-{missing}", replaced(good, found(good, OID[missing]), b""), {f"certificate/{rule}"}


def _validity(start: datetime, end: datetime) -> bytes:
    return tlv(0x30, encoded_time(start), encoded_time(end))


def _validity_cases(good: bytes, *, is_root: bool) -> Iterator[Case]:
    second, day = timedelta(seconds=1), timedelta(days=1)
    longest = {True: 18_263}.get(is_root, ISSUING_VALIDITY_DAYS if found_constraints(good) else 3653)
    for extra in (second - second, second, day, 365 * day):
        whole = _validity(AT, AT + longest * day + extra)
        yield f"too-long-{extra}", replaced(good, (VALIDITY,), whole), {"certificate/validity"}
    for back in (1, 60, 86_400, 10**8):
        whole = _validity(AT, AT - back * second)
        yield f"backwards-{back}", replaced(good, (VALIDITY,), whole), {"tbs-certificate/validity"}
    yield (
        "over",
        replaced(good, (VALIDITY,), _validity(AT - 30 * day, AT)),
        {"certificate/expired" if is_root else "certificate/validity"},
    )
    for days in (32, 40, 365):
        whole = _validity(AT + days * day, AT + 400 * day)
        yield f"starts-in-{days}", replaced(good, (VALIDITY,), whole), {"certificate/start"}
        whole = _validity(AT - days * day, AT + 400 * day)
        yield (
            f"started-{days}-ago",
            replaced(good, (VALIDITY,), whole),
            {"certificate/start" if is_root else "certificate/validity"},
        )
    if not is_root:
        whole = _validity(AT - day - second, AT + 400 * day)
        yield "before-the-issuer", replaced(good, (VALIDITY,), whole), {"certificate/validity"}
    before_2050 = tlv(0x30, tlv(0x18, b"20261122120000Z"), tlv(0x17, b"270101000000Z"))
    yield "generalized-before-2050", replaced(good, (VALIDITY,), before_2050), {"der/time"}
    yield (
        "forever",
        replaced(good, (VALIDITY,), _validity(AT, datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))),
        {"certificate/validity"},
    )


def found_constraints(payload: bytes) -> bool:
    return OID["constraints"] in payload


def _identifier_cases(good: bytes, *, is_root: bool) -> Iterator[Case]:
    own = parse(good).at(*found(good, OID["ski"])).children[-1].children[0].content
    for bit in range(64):
        flipped = (int.from_bytes(own) ^ 1 << bit).to_bytes(8)
        yield f"ski-{bit}", value_replaced(good, "ski", tlv(4, flipped)), {"certificate/ski"}
    for wrong in (b"", own[1:], own + b"\x00", own[:4] * 5):
        yield (
            f"ski-size-{len(wrong)}",
            value_replaced(good, "ski", tlv(4, wrong)),
            {"extension/key-identifier"},
        )
    if is_root:
        for wrong in (own[::-1], bytes(8)):
            raw = extension(OID["aki"], tlv(0x30, tlv(0x80, wrong)))
            yield f"aki-{wrong.hex()}", inserted(good, (EXTENSIONS, 0, 0), raw), {"certificate/aki"}
        return
    authority = parse(good).at(*found(good, OID["aki"])).children[-1].children[0].children[0].content
    for bit in range(64):
        flipped = (int.from_bytes(authority) ^ 1 << bit).to_bytes(8)
        yield f"aki-{bit}", value_replaced(good, "aki", tlv(0x30, tlv(0x80, flipped))), {"certificate/aki"}
    structure = {"authority-key-identifier/structure", "extension/key-identifier"}
    for how, parts in {
        "empty": (),
        "short": (tlv(0x80, authority[1:]),),
        "none": (tlv(0x80),),
        "serial": (tlv(0x80, authority), tlv(0x82, b"\x01")),
        "issuer": (tlv(0x80, authority), tlv(0xA1, tlv(0xA4, tlv(0x30))), tlv(0x82, b"\x01")),
        "octet-string": (tlv(0x04, authority),),
        "constructed": (tlv(0xA0, tlv(0x04, authority)),),
    }.items():
        yield f"aki-{how}", value_replaced(good, "aki", tlv(0x30, *parts)), structure
    yield "no-aki", replaced(good, found(good, OID["aki"]), b""), {"certificate/aki"}


def kind_cases() -> Iterator[tuple[str, str, bytes, set[str]]]:
    """Wrong CA flag, path length, issuer, subject: (specimen, how, payload, rules)."""
    organisation, issuing, root = (SPECIMENS[name].payload for name in ("organisation", "issuing", "root"))
    for how, value in (
        ("ca", "30030101ff"),
        ("ca-0", "30060101ff020100"),
        ("empty", "3000"),
        ("said-no", "3003010100"),
    ):
        raw = extension(OID["constraints"], bytes.fromhex(value), critical=True)
        yield (
            "organisation",
            f"constraints-{how}",
            inserted(organisation, (EXTENSIONS, 0, 0), raw),
            {"certificate/extension"},
        )
    for how, value in (
        ("no-path", "30030101ff"),
        ("path-1", "30060101ff020101"),
        ("path-255", "30070101ff020200ff"),
    ):
        yield (
            "issuing",
            f"path-{how}",
            value_replaced(issuing, "constraints", bytes.fromhex(value)),
            {"certificate/path-length"},
        )
    for how, value in (("path-0", "30060101ff020100"), ("path-9", "30060101ff020109")):
        yield (
            "root",
            f"path-{how}",
            value_replaced(root, "constraints", bytes.fromhex(value)),
            {"certificate/path-length"},
        )
    for name, good in (("issuing", issuing), ("root", root)):
        for how, value in (
            ("not", "3000"),
            ("negative", "30060101ff0201ff"),
            ("only-path", "3003020100"),
            ("said-no", "3003010100"),
        ):
            yield (
                name,
                f"constraints-{how}",
                value_replaced(good, "constraints", bytes.fromhex(value)),
                {"extension/basic-constraints"},
            )
        yield name, "no-constraints", replaced(good, found(good, OID["constraints"]), b""), {"certificate/ca"}
    oca_rule = {"certificate/extension", "certificate/ca", "certificate/key-usage"}
    yield (
        "organisation",
        "oca-subject",
        replaced(organisation, (SUBJECT,), parse(issuing).at(SUBJECT).dump()),
        oca_rule,
    )
    yield (
        "issuing",
        "organisation-subject",
        replaced(issuing, (SUBJECT,), parse(organisation).at(SUBJECT).dump()),
        oca_rule,
    )
    yield (
        "root",
        "organisation-subject",
        replaced(root, (SUBJECT,), parse(organisation).at(SUBJECT).dump()),
        oca_rule,
    )
    yield (
        "issuing",
        "root-subject",
        replaced(
            issuing,
            (SUBJECT,),
            tlv(0x30, rdn("060355040b", tlv(0x13, b"00")), rdn("0603550403", tlv(0x13, b"ZB"))),
        ),
        {"certificate/root"},
    )
    for name, good in (("organisation", organisation), ("issuing", issuing)):
        for how, ou, common in (
            ("other", b"07", b"Z2"),
            ("case", b"07", b"z1"),
            ("root", b"00", b"ZB"),
            ("space", b"07", b"Z 1"),
        ):
            raw = tlv(0x30, rdn("060355040b", tlv(0x13, ou)), rdn("0603550403", tlv(0x13, common)))
            yield name, f"issuer-{how}", replaced(good, (ISSUER,), raw), {"certificate/issuer"}
        for how, raw in (
            ("utf8", tlv(0x30, rdn("060355040b", tlv(0x0C, b"07")), rdn("0603550403", tlv(0x0C, b"Z1")))),
            ("reversed", tlv(0x30, rdn("0603550403", tlv(0x13, b"Z1")), rdn("060355040b", tlv(0x13, b"07")))),
            ("role-02", tlv(0x30, rdn("060355040b", tlv(0x13, b"02")), rdn("0603550403", tlv(0x13, b"Z1")))),
            ("empty", tlv(0x30)),
            ("organisation", parse(organisation).at(SUBJECT).dump()),
        ):
            yield (
                name,
                f"issuer-{how}",
                replaced(good, (ISSUER,), raw),
                {
                    "name/string-type",
                    "name/form",
                    "name/oca-role",
                    "certificate/issuer-form",
                },
            )
    for text, rule in ou_texts():
        raw = name_parts(None, tlv(0x0C, text.encode()), tlv(0x03, bytes(9)))
        yield (
            "organisation",
            f"ou-{text!r}",
            replaced(organisation, (SUBJECT,), raw),
            {"certificate/role" if rule == "role" else rule},
        )
    for how, raw, rules in subjects():
        yield "organisation", f"subject-{how}", replaced(organisation, (SUBJECT,), raw), rules


def foreign_key_cases() -> Iterator[tuple[str, str, bytes, set[str]]]:
    """Right in themselves, and not this key's to sign."""
    for name, of, rule in (
        ("organisation", ISSUING.key, "certificate/issuer-key"),
        ("issuing", ROOT.key, "certificate/issuer-key"),
        ("root", key_pair("other root"), "certificate/own-key"),
    ):
        payload = SPECIMENS[name].payload
        key = of.public_key()
        spki = parse(payload).at(SPKI).dump()[:-65] + point_of(key)
        payload = value_replaced(replaced(payload, (SPKI,), spki), "ski", tlv(4, key_identifier(key)))
        yield name, "point", payload, {rule}


@pytest.mark.parametrize("name", AT_LEAST)
def test_wrong_certificates(name: str) -> None:
    of_kind = [case for of, *case in [*kind_cases(), *foreign_key_cases()] if of == name]
    count = assert_refused(name, certificate_cases(name)) + assert_refused(name, iter(of_kind))
    assert count >= AT_LEAST[name]
