"""Parts of X.509 payloads that are wrong in one thing, each with the rules that may refuse it.

Used by tests/property/test_x509_wrong_*.py, together over 7,000 near-misses.
"""

from collections.abc import Iterator
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric import ec

from cryptosvc.core.errors import Forbidden, Malformed
from tests.certificates import point_of
from tests.tlv import found, inserted, parse, replaced, tlv
from tests.x509_specimens import ORGANISATION, SPECIMENS

Case = tuple[str, bytes, set[str]]

SERIAL_RULE = {"certificate/serial"}
TRUE = bytes.fromhex("0101ff")
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
    "alternative-name": ("0603551d11", "3003820161"),
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


def assert_refused(name: str, cases: Iterator[Case]) -> int:
    """Each payload is refused by one of its rules, with a field, and the oracle refuses it too; return how many."""
    specimen = SPECIMENS[name]
    seen = set()
    for how, payload, rules in cases:
        seen.add(payload)
        verdict = specimen.judged(payload)
        assert isinstance(verdict, Malformed | Forbidden), (name, how)
        assert verdict.rule in rules, (name, how)
        assert verdict.field, (name, how)
        assert not specimen.is_fine(payload), (name, how)
    assert specimen.payload not in seen
    return len(seen)


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


def encoded_time(moment: datetime) -> bytes:
    if moment.year < 2050:
        return tlv(0x17, moment.strftime("%y%m%d%H%M%SZ").encode())
    return tlv(0x18, moment.strftime("%Y%m%d%H%M%SZ").encode())
