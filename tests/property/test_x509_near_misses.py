"""Near-misses by meaning: over 2,000 certificates, requests and lists that are wrong in one thing, by the rule for it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cryptosvc.core.errors import Forbidden, Malformed
from tests.certificates import AT, ISSUING_VALIDITY_DAYS, key_identifier, key_pair, point_of
from tests.tlv import found, inserted, parse, replaced, tlv
from tests.x509_specimens import ISSUING, ORGANISATION, ROOT, SPECIMENS

Case = tuple[str, bytes, set[str]]

VERSION, SERIAL, ALGORITHM, ISSUER, VALIDITY, SUBJECT, SPKI, EXTENSIONS = range(8)
SERIAL_RULE = {"certificate/serial"}
TRUE = bytes.fromhex("0101ff")
CERTIFICATES = ("root", "root-contingency", "issuing", "organisation", "organisation-named")
LISTS = ("arl", "crl", "crl-empty")
REQUESTS = ("csr", "csr-named")
OID = {
    "ski": bytes.fromhex("0603551d0e"),
    "usage": bytes.fromhex("0603551d0f"),
    "constraints": bytes.fromhex("0603551d13"),
    "number": bytes.fromhex("0603551d14"),
    "reason": bytes.fromhex("0603551d15"),
    "scope": bytes.fromhex("0603551d1c"),
    "policies": bytes.fromhex("0603551d20"),
    "aki": bytes.fromhex("0603551d23"),
    "request": bytes.fromhex("06092a864886f70d01090e"),
}
UNKNOWN = {
    "alternative-name": ("0603551d11", "300a8208612e6578616d706c65"[:4] + "00"),
    "issuer-alternative-name": ("0603551d12", "3000"),
    "extended-usage": ("0603551d25", "300a06082b06010505070301"),
    "name-constraints": ("0603551d1e", "3000"),
    "policy-mappings": ("0603551d21", "3000"),
    "policy-constraints": ("0603551d24", "3003800100"),
    "inhibit-any": ("0603551d36", "020100"),
    "crl-points": ("0603551d1f", "3000"),
    "freshest": ("0603551d2e", "3000"),
    "delta": ("0603551d1b", "020101"),
    "authority-access": ("06082b06010505070101", "3000"),
    "private": ("06062b0601040101", "0500"),
    "ct-poison": ("060a2b06010401d679020403", "0500"),
    "certificate-issuer": ("0603551d1d", "3000"),
    "invalidity-date": ("0603551d18", "180f32303236303130313030303030305a"),
}
UNKNOWN["alternative-name"] = ("0603551d11", "30038201" + "61")


def extension(oid: bytes, value: bytes, *, critical: bool = False) -> bytes:
    return tlv(0x30, oid, TRUE if critical else b"", tlv(0x04, value))


def value_replaced(payload: bytes, name: str, value: bytes) -> bytes:
    """The extension with another value, its criticality kept."""
    path = found(payload, OID[name])
    critical = parse(payload).at(*path).children[1].tag == 0x01
    return replaced(payload, path, extension(OID[name], value, critical=critical))


def named_bits(number: int) -> bytes:
    """A named bit list of nine bits in DER, the first bit the highest."""
    bits = f"{number:09b}".rstrip("0")
    unused = -len(bits) % 8
    octets = int(bits + "0" * unused, 2).to_bytes((len(bits) + unused) // 8) if bits else b""
    return tlv(0x03, bytes([unused if bits else 0]), octets)


def extension_cases(name: str, parent: tuple[int, ...], rules: set[str]) -> Iterator[Case]:
    """Unknown, duplicate and wrongly critical extensions after the last one in the list at `parent`."""
    good = SPECIMENS[name].payload
    listed = parse(good).at(*parent).children
    last = (*parent, len(listed) - 1)
    for unknown, (oid, value) in UNKNOWN.items():
        for critical in (False, True):
            raw = extension(bytes.fromhex(oid), bytes.fromhex(value), critical=critical)
            yield f"{unknown}-{critical}", inserted(good, last, raw), rules
    for index, member in enumerate(listed):
        yield f"duplicate-{index}", inserted(good, last, member.dump()), {"extension/duplicate"}
        oid, critical, value = (
            member.children[0].dump(),
            member.children[1].tag == 0x01,
            member.children[-1].dump(),
        )
        flipped = tlv(0x30, oid, b"" if critical else TRUE, value)
        yield (
            f"criticality-{index}",
            replaced(good, (*parent, index), flipped),
            {f"{SPECIMENS[name].form}/criticality"},
        )
        said = tlv(0x30, oid, b"\x01\x01\x00", value)
        yield f"default-{index}", replaced(good, (*parent, index), said), {"extension/default"}
        for how, inner in (
            ("trailing", tlv(0x04, member.children[-1].children[0].dump(), b"\x00")),
            ("ber", tlv(0x04, b"\x30\x81\x00")),
            ("indefinite", tlv(0x04, b"\x30\x80\x00\x00")),
            ("empty", tlv(0x04)),
        ):
            raw = tlv(0x30, oid, TRUE if critical else b"", inner)
            yield (
                f"inside-{how}-{index}",
                replaced(good, (*parent, index), raw),
                {
                    "der/trailing-bytes",
                    "der/length-form",
                    "der/indefinite-length",
                    "der/truncated",
                },
            )
    yield "no-extensions", replaced(good, parent, tlv(0x30)), {"extension/empty"}


def algorithms() -> Iterator[tuple[str, bytes]]:
    """Signature algorithms that are not ecdsa-with-SHA256 without parameters."""
    right = "06082a8648ce3d040302"
    yield "null", tlv(0x30, bytes.fromhex(right), b"\x05\x00")
    yield "curve", tlv(0x30, bytes.fromhex(right), bytes.fromhex("06082a8648ce3d030107"))
    yield "empty-sequence", tlv(0x30, bytes.fromhex(right), b"\x30\x00")
    for oid in (
        "06072a8648ce3d0401",  # ecdsa-with-SHA1
        "06082a8648ce3d040301",  # SHA-224
        "06082a8648ce3d040303",  # SHA-384
        "06082a8648ce3d040304",  # SHA-512
        "06092a864886f70d01010b",  # sha256WithRSAEncryption
        "06092a864886f70d010105",
        "06032b6570",  # Ed25519
        "06072a8648ce3d0201",  # id-ecPublicKey
        "0609608648016503040302",  # dsa-with-sha256
    ):
        yield oid, tlv(0x30, bytes.fromhex(oid))


def points() -> Iterator[tuple[str, bytes, str]]:
    """SubjectPublicKeyInfos that are not an uncompressed point on P-256."""
    algorithm = bytes.fromhex("301306072a8648ce3d020106082a8648ce3d030107")
    good = point_of(ORGANISATION.public_key())

    def info(point: bytes, kind: bytes = algorithm, unused: int = 0) -> bytes:
        return tlv(0x30, kind, tlv(0x03, bytes([unused]), point))

    yield "compressed-2", info(b"\x02" + good[1:33]), "public-key/uncompressed"
    yield "compressed-3", info(b"\x03" + good[1:33]), "public-key/uncompressed"
    yield "hybrid", info(b"\x06" + good[1:]), "public-key/uncompressed"
    yield "infinity", info(b"\x00"), "public-key/uncompressed"
    yield "empty", info(b""), "public-key/uncompressed"
    yield "short", info(good[:-1]), "public-key/uncompressed"
    yield "long", info(good + b"\x00"), "public-key/uncompressed"
    yield "zero", info(b"\x04" + bytes(64)), "public-key/on-curve"
    p = (2**256 - 2**224 + 2**192 + 2**96 - 1).to_bytes(32)
    yield "x-is-p", info(b"\x04" + p + good[33:]), "public-key/on-curve"
    yield "y-is-p", info(b"\x04" + good[1:33] + p), "public-key/on-curve"
    yield "all-ones", info(b"\x04" + b"\xff" * 64), "public-key/on-curve"
    for at in range(1, 65):
        yield (
            f"off-curve-{at}",
            info(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]),
            "public-key/on-curve",
        )
    other_curve = point_of(ec.derive_private_key(7, ec.SECP256K1()).public_key())
    yield "secp256k1-point", info(other_curve), "public-key/on-curve"
    for kind in (
        "301006072a8648ce3d020106052b8104000a",  # secp256k1
        "301006072a8648ce3d020106052b81040022",  # P-384
        "300906072a8648ce3d0201",  # no curve
        "300b06072a8648ce3d02010500",  # implicitCurve
        "301306072a8648ce3d020106082a8648ce3d030101",  # P-192
        "300d06092a864886f70d0101010500",  # RSA
        "300506032b6570",  # Ed25519
        "301206062b81040132"[:4] + "06052b8104010c06082a8648ce3d030107",  # id-ecDH
    ):
        node = bytes.fromhex(kind)
        yield f"algorithm-{kind}", info(good, tlv(0x30, node[2:])), "public-key/algorithm"


def ou_texts() -> Iterator[tuple[str, str]]:
    """OUs that are no role an Organisation Certificate may have, and the rule."""
    allowed = {1, 2, 3, 4, 5, 6, 8, 127, 135, 137}
    for role in range(256):
        if role not in allowed:
            yield f"{role:02X}", "role"
    for text in (
        "",
        "2",
        "002",
        "137",
        "8a",
        "7f",
        "fF",
        "0x",
        "G0",
        " 2",
        "2 ",
        "-1",
        "+2",
        "02\n",
        "\uff10\uff12",
        "٠٢",
    ):
        yield text, "name/role"


def name_parts(common_name: bytes | None, ou: bytes, entity: bytes) -> bytes:
    parts = [] if common_name is None else [rdn("0603550403", common_name)]
    return tlv(0x30, *parts, rdn("060355040b", ou), rdn("060355042d", entity))


def rdn(oid: str, value: bytes) -> bytes:
    return tlv(0x31, tlv(0x30, bytes.fromhex(oid), value))


def subjects() -> Iterator[tuple[str, bytes, set[str]]]:
    """Organisation subjects that are not of the form."""
    ou, entity = tlv(0x0C, b"02"), tlv(0x03, b"\x00", bytes.fromhex("90b3d51f30010000"))
    form = {"name/form", "name/structure", "name/string-type", "name/oca-role"}
    yield "empty", tlv(0x30), form
    yield "no-entity", tlv(0x30, rdn("060355040b", ou)), form
    yield "no-role", tlv(0x30, rdn("060355042d", entity)), form
    yield "entity-first", tlv(0x30, rdn("060355042d", entity), rdn("060355040b", ou)), form
    yield "entity-twice", tlv(0x30, rdn("060355042d", entity), rdn("060355042d", entity)), form
    yield (
        "role-first",
        tlv(0x30, rdn("060355040b", ou), rdn("0603550403", ou), rdn("060355042d", entity)),
        form,
    )
    yield (
        "role-twice",
        tlv(0x30, rdn("060355040b", ou), rdn("060355040b", ou), rdn("060355042d", entity)),
        form,
    )
    yield (
        "country",
        tlv(0x30, rdn("0603550406", tlv(0x13, b"GB")), rdn("060355040b", ou), rdn("060355042d", entity)),
        form,
    )
    for extra in (
        "0603550406",
        "0603550407",
        "060355040a",
        "0603550405",
        "0603550403",
        "060a0992268993f22c640119",
    ):
        whole = tlv(
            0x30, rdn(extra, ou), rdn("0603550403", ou), rdn("060355040b", ou), rdn("060355042d", entity)
        )
        yield f"four-{extra}", whole, form
    both = sorted(
        [tlv(0x30, bytes.fromhex("060355040b"), ou), tlv(0x30, bytes.fromhex("060355042d"), entity)]
    )
    yield "multi-valued", tlv(0x30, tlv(0x31, *both)), form
    yield "multi-valued-unsorted", tlv(0x30, tlv(0x31, *reversed(both))), {"der/set-order"}
    yield "empty-part", tlv(0x30, tlv(0x31), rdn("060355042d", entity)), form
    yield (
        "value-twice",
        tlv(0x30, tlv(0x31, tlv(0x30, bytes.fromhex("060355040b"), ou, ou)), rdn("060355042d", entity)),
        form,
    )
    for tag in (0x13, 0x03):
        value = tlv(tag, b"02") if tag == 0x13 else tlv(0x03, b"\x00")
        yield f"role-type-{tag}", name_parts(None, value, entity), form
    for tag in (0x04, 0x02, 0x05):
        yield f"role-type-{tag}", name_parts(None, tlv(tag, b"" if tag == 5 else b"02"), entity), form
    yield "entity-utf8", name_parts(None, ou, tlv(0x0C, b"90B3D51F")), form
    for size in (0, 1, 7, 9, 16):
        yield f"entity-{size}", name_parts(None, ou, tlv(0x03, b"\x00", bytes(size))), {"name/entity"}
    for unused in range(1, 8):
        raw = tlv(0x03, bytes([unused]), bytes.fromhex("90b3d51f30010000"))
        yield f"entity-unused-{unused}", name_parts(None, ou, raw), {"name/entity"}
    for text in (
        "",
        " ",
        " a",
        "a ",
        "a\x00",
        "a\nb",
        "\u202eabc",
        "a\u200b",
        "x" * 65,
        "é" * 65,
        "\ufeffa",
        "\x7f",
    ):
        yield f"cn-{text!r}", name_parts(tlv(0x0C, text.encode()), ou, entity), {"name/common-name"}
    yield "cn-printable", name_parts(tlv(0x13, b"abc"), ou, entity), form


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


def _time(moment: datetime) -> bytes:
    if moment.year < 2050:
        return tlv(0x17, moment.strftime("%y%m%d%H%M%SZ").encode())
    return tlv(0x18, moment.strftime("%Y%m%d%H%M%SZ").encode())


def _validity(start: datetime, end: datetime) -> bytes:
    return tlv(0x30, _time(start), _time(end))


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
    other = key_pair("other organisation").public_key()
    for name in REQUESTS:
        payload = SPECIMENS[name].payload
        spki = parse(payload).at(2).dump()[:-65] + point_of(other)
        yield name, "point", replaced(payload, (2,), spki), {"csr/own-key"}


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
        yield f"lasts-{lasting}", replaced(good, (4,), _time(AT + lasting)), {"crl/interval"}
    for ahead in (301, 3600, 86_400):
        start = AT + ahead * second
        moved = replaced(replaced(good, (3,), _time(start)), (4,), _time(start + shortest))
        yield f"ahead-{ahead}", moved, {"crl/this-update"}
    for ago in (7201, 86_400):
        start = AT - ago * second
        moved = replaced(replaced(good, (3,), _time(start)), (4,), _time(start + longest))
        yield f"ago-{ago}", moved, {"crl/this-update", "crl/revocation-date"}
    for how, ou, common, rule in (
        ("other", b"00" if is_arl else b"07", b"QQ", "crl/issuer"),
        ("role", b"02", b"ZA", "name/oca-role"),
    ):
        raw = tlv(0x30, rdn("060355040b", tlv(0x13, ou)), rdn("0603550403", tlv(0x13, common)))
        yield f"issuer-{how}", replaced(good, (2,), raw), {rule}
    yield (
        "issuer-organisation",
        replaced(good, (2,), parse(SPECIMENS["organisation"].payload).at(SUBJECT).dump()),
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
        raw = tlv(0x30, serial, _time(AT + timedelta(seconds=later)), reasons)
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


def unknown_oca_cases() -> Iterator[tuple[str, str, bytes, set[str]]]:
    good = SPECIMENS["arl"].payload
    for serial in (1, 2, 0x10, 0x12, 0x21, 0x23, 0x7FFFFFFF):
        size = (serial.bit_length() + 8) // 8
        yield (
            "arl",
            f"unknown-{serial}",
            replaced(good, (5, 0, 0), tlv(2, serial.to_bytes(size))),
            {"crl/unknown-oca"},
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


def every_case() -> Iterator[tuple[str, str, bytes, set[str]]]:
    for name in CERTIFICATES:
        yield from ((name, *case) for case in certificate_cases(name))
    for name in LISTS:
        yield from ((name, *case) for case in list_cases(name))
    for name in REQUESTS:
        yield from ((name, *case) for case in request_cases(name))
    yield from kind_cases()
    yield from foreign_key_cases()
    yield from unknown_oca_cases()


@pytest.mark.parametrize("name", sorted(SPECIMENS.keys() - {"csr-bare"}))
def test_near_misses(name: str) -> None:
    specimen = SPECIMENS[name]
    wrong = []
    count = 0
    for of, how, payload, rules in every_case():
        if of != name:
            continue
        count += 1
        assert payload != specimen.payload, how
        verdict = specimen.judged(payload)
        if not isinstance(verdict, Malformed | Forbidden) or verdict.rule not in rules or not verdict.field:
            wrong.append((how, verdict if not isinstance(verdict, Exception) else verdict.rule, rules))
        assert not specimen.is_fine(payload), how
    assert not wrong
    assert count >= 150


def test_there_are_enough_near_misses() -> None:
    cases = [(name, payload) for name, _, payload, _ in every_case()]
    assert len(set(cases)) >= 2000
