"""DLMS, GBZ and ASN.1 payloads: near misses of each rule."""

import pytest

from cryptosvc.core.content.gbcs import asn1, dlms, gbz, structures
from cryptosvc.core.content.gbcs.asn1 import Expected
from cryptosvc.core.errors import Malformed
from tests.precommands import KEY_USAGE_SIGNATURE, der, unsigned

COUNTER = (0x0102030405060708).to_bytes(8)
GET_ENERGY = dlms.spec(dlms.GET, 3, "1-0:1.8.0.255", 2)
SET_LIMIT = dlms.spec(dlms.SET, 1, "0-0:94.44.0.1", 2)


def read_dlms(payload: bytes) -> None:
    dlms.read(b"\xaa" + payload + b"\xbb", 1, 1 + len(payload), COUNTER, None)


def dlms_rule(payload: bytes) -> str:
    with pytest.raises(Malformed) as refusal:
        read_dlms(payload)
    return refusal.value.rule


def datum(octets: str) -> bytes:
    return dlms.emit(COUNTER, [(SET_LIMIT, bytes.fromhex(octets))])


@pytest.mark.parametrize(
    "octets",
    ["00", "03ff", "0500000001", "0600000001", "0f80", "108000", "11ff", "12ffff", "14" + "00" * 8, "15" + "ff" * 8,
     "1605", "1700000000", "18" + "00" * 8, "19" + "00" * 12, "1a" + "00" * 5, "1b00000000", "0d12", "0900", "090141",
     "0a0141", "0c0141", "0400", "040180", "0408ff", "0100", "0102110111ff", "0200", "020211011200ff",
     "01020202110112000102021102120002", "09" + "8180" + "00" * 128],
)  # fmt: skip
def test_every_datum_of_gbcs_is_read(octets: str) -> None:
    read_dlms(datum(octets))


@pytest.mark.parametrize(
    ("octets", "rule"),
    [
        ("13", "dlms-type"),
        ("07", "dlms-type"),
        ("ff", "dlms-type"),
        ("0e", "dlms-type"),
        ("1200", "truncated"),
        ("0902", "truncated"),
        ("09810141", "length-form"),
        ("0401ff", "dlms-bits"),
        ("040700", None),
        ("040701", "dlms-bits"),
        ("0102110112", "dlms-array"),
        ("0102110112ffff", "dlms-array"),
        ("0201", "truncated"),
        ("0203110112", "truncated"),
        ("110011", "dlms-trailing"),
        ("", "truncated"),
        ("0201" * 12 + "00", None),
        ("0201" * 13 + "00", "dlms-depth"),
        ("0182ffff" + "00", "truncated"),
    ],
)
def test_a_datum_that_is_not_one_is_refused(octets: str, rule: str | None) -> None:
    if rule is None:
        read_dlms(datum(octets))
    else:
        assert dlms_rule(datum(octets)) == f"gbcs/{rule}"


def test_the_head_of_an_access_request() -> None:
    whole = dlms.emit(COUNTER, [(GET_ENERGY, dlms.NULL)])
    read_dlms(whole)
    assert dlms_rule(b"\xda" + whole[1:]) == "gbcs/payload-kind"
    assert dlms_rule(whole[:1] + b"\x40" + whole[2:]) == "gbcs/payload-kind"
    assert dlms_rule(whole[:4] + b"\x09" + whole[5:]) == "gbcs/invoke-id"
    assert dlms_rule(whole[:5] + b"\x0c" + whole[6:]) == "gbcs/payload-kind"
    assert dlms_rule(whole[:6] + b"\x00" + whole[7:]) == "gbcs/dlms-count"
    assert dlms_rule(whole[:6] + b"\x02" + whole[7:]) == "gbcs/dlms-count"
    assert dlms_rule(whole[:7] + b"\x05" + whole[8:]) == "gbcs/dlms-choice"
    assert dlms_rule(whole[:7] + b"\x00" + whole[8:]) == "gbcs/dlms-choice"
    assert dlms_rule(whole[:-2] + b"\x02\x00\x00") == "gbcs/dlms-count"
    assert dlms_rule(whole[:-1] + b"\x11\x00") == "gbcs/dlms-value"
    assert dlms_rule(whole + b"\x00") == "gbcs/dlms-trailing"


def test_a_selection_is_read_where_no_items_are_known_and_nowhere_else() -> None:
    selective = dlms.spec(dlms.GET_WITH_SELECTION, 7, "1-0:99.1.0.255", 2)
    request = dlms.emit(COUNTER, [(selective + b"\x01\x02\x02\x11\x01\x11\x02", dlms.NULL)])
    read_dlms(request)
    assert dlms_rule(request.replace(b"\x11\x02\x01\x00", b"\x11\x02\x01\x11")) == "gbcs/dlms-value"
    assert dlms_rule(request.replace(b"\x02\x02\x11", b"\x02\x09\x11")) == "gbcs/truncated"
    with pytest.raises(Malformed) as refusal:
        dlms.read(request, 0, len(request), COUNTER, {dlms.spec(dlms.GET, 7, "1-0:99.1.0.255", 2): dlms.NULL})
    assert refusal.value.rule == "gbcs/dlms-item"


def gbz_rule(payload: bytes, grammar: gbz.Grammar | None = None) -> str:
    with pytest.raises(Malformed) as refusal:
        gbz.read(b"\xaa" + payload + b"\x01", 1, 1 + len(payload), grammar)
    return refusal.value.rule


def test_near_misses_of_gbz() -> None:
    one = gbz.Component(cluster=0x0702, command=0x0E, zcl=b"\x01\x02")
    dated = gbz.Component(cluster=0x0705, command=0x09, zcl=bytes(4), from_date_time=bytes(4))
    whole = gbz.emit([one, dated])
    gbz.read(whole, 0, len(whole), None)
    second = 3 + 5 + 5
    assert gbz_rule(b"") == "gbcs/payload-kind"
    assert gbz_rule(b"\x01\x09") == "gbcs/payload-kind"
    assert gbz_rule(b"\x01\x08" + whole[2:]) == "gbcs/payload-kind"
    assert gbz_rule(b"\x01\x09\x00") == "gbcs/gbz-trailing"
    assert gbz_rule(whole + b"\x00") == "gbcs/gbz-trailing"
    assert gbz_rule(whole[:2] + b"\x03" + whole[3:]) == "gbcs/gbz-control"
    assert gbz_rule(whole[:2] + b"\x01" + whole[3:]) == "gbcs/gbz-control"
    for control in (0x01, 0x02, 0x03, 0x11, 0x20, 0x80):
        assert gbz_rule(whole[:3] + bytes((control,)) + whole[4:]) == "gbcs/gbz-control"
    for control in (0x00, 0x10, 0x02, 0x03, 0x13):
        assert gbz_rule(whole[:second] + bytes((control,)) + whole[second + 1 :]) == "gbcs/gbz-control"
    assert gbz_rule(whole[:7] + b"\x02" + whole[8:]) == "gbcs/truncated"
    assert gbz_rule(whole[:6] + b"\x01" + whole[7:]) == "gbcs/truncated"
    for frame_control in (0x02, 0x03, 0x04, 0x05, 0x21, 0x81):
        assert gbz_rule(whole[:8] + bytes((frame_control,)) + whole[9:]) == "gbcs/gbz-zcl-header"
    assert gbz_rule(whole[:9] + b"\x01" + whole[10:]) == "gbcs/gbz-zcl-header"
    for size in range(len(whole)):
        assert gbz_rule(whole[:size]).startswith("gbcs/")


def test_without_a_table_nothing_changes_the_supply() -> None:
    for frame_control in (0x01, 0x09, 0x11):
        change = gbz.Component(cluster=0x0702, command=0x0B, zcl=bytes(18), frame_control=frame_control)
        assert gbz_rule(gbz.emit([change])) == "gbcs/gbz-command"
        assert (
            gbz_rule(gbz.emit([gbz.Component(cluster=0x0702, command=0x0D, zcl=b""), change]))
            == "gbcs/gbz-command"
        )
    for method in (1, 2):
        script = dlms.spec(dlms.ACTION, 9, "0-0:10.0.106.255", method), b"\x12\x00\x34"
        assert dlms_rule(dlms.emit(COUNTER, [(GET_ENERGY, dlms.NULL), script])) == "gbcs/dlms-item"


def test_a_grammar_bounds_count_length_and_fixed_octets() -> None:
    template = gbz.Template(dated=False, octets=2, open_ended=False, fixed=((1, b"\x02"),))
    grammar = gbz.Grammar(1, 1, {bytes.fromhex("0702010b"): (template,)})
    one = gbz.Component(cluster=0x0702, command=0x0B, zcl=b"\x01\x02")
    payload = gbz.emit([one])
    gbz.read(payload, 0, len(payload), grammar)
    assert gbz_rule(gbz.emit([one, one]), grammar) == "gbcs/gbz-count"
    for other in (
        gbz.Component(cluster=0x0702, command=0x0B, zcl=b"\x01\x03"),
        gbz.Component(cluster=0x0702, command=0x0B, zcl=b"\x01"),
        gbz.Component(cluster=0x0702, command=0x0B, zcl=b"\x01\x02\x03"),
        gbz.Component(cluster=0x0702, command=0x0B, zcl=b"\x01\x02", from_date_time=bytes(4)),
    ):
        assert gbz_rule(gbz.emit([other]), grammar) == "gbcs/gbz-value"
    for other in (
        gbz.Component(cluster=0x0703, command=0x0B, zcl=b"\x01\x02"),
        gbz.Component(cluster=0x0702, command=0x0C, zcl=b"\x01\x02"),
        gbz.Component(cluster=0x0702, command=0x0B, zcl=b"\x01\x02", frame_control=9),
    ):
        assert gbz_rule(gbz.emit([other]), grammar) == "gbcs/gbz-command"


def asn1_rule(code: int, payload: bytes, counter: int = 5) -> str:
    with pytest.raises(Malformed) as refusal:
        read_asn1(code, payload, counter)
    return refusal.value.rule


def read_asn1(code: int, payload: bytes, counter: int = 5) -> None:
    expected = Expected(counter, structures.MODES.get(code))
    asn1.read(b"\xaa" + payload + b"\xbb", 1, 1 + len(payload), structures.STRUCTURES[code], expected)


CERTIFICATE = der(0x30, der(0x30, b"\x02\x01\x01"), der(0x30), der(0x03, b"\x00\xff"))
CELL = der(0x30, unsigned(2), KEY_USAGE_SIGNATURE)
CONTROL = (unsigned(2), der(0xA2, unsigned(2), KEY_USAGE_SIGNATURE), b"\x83\x01\x05")


def cs02b(*control: bytes, replacements: bytes | None = None, path: bytes = b"", time: bytes = b"") -> bytes:
    replaced = der(0x30, CERTIFICATE, CELL) if replacements is None else replacements
    return der(0x30, der(0x30, *(control or CONTROL)), der(0x30, replaced), der(0x30, path), time)


@pytest.mark.parametrize(
    ("code", "payload"),
    [
        (0x0102, cs02b()),
        (0x0102, cs02b(path=CERTIFICATE * 3, time=der(0x18, b"99991231235959Z"))),
        (0x0102, cs02b(*CONTROL, b"\x84\x01\x00", der(0xA5, der(0x30, unsigned(1), unsigned(0))))),
        (0x0102, cs02b(*CONTROL, der(0xA6, der(0x30, unsigned(3), unsigned(2**64 - 1))))),
        (0x0104, cs02b(unsigned(4), b"\x83\x01\x05", replacements=der(0x30, CERTIFICATE, der(0x30, unsigned(4), KEY_USAGE_SIGNATURE)))),
        (0x0108, cs02b(unsigned(8), b"\x81\x01\x01", b"\x83\x01\x05")),
        (0x0109, cs02b(unsigned(9), b"\x80\x02\x01\x02", b"\x83\x01\x05")),
        (0x000A, der(0x30, KEY_USAGE_SIGNATURE)),
        (0x000A, der(0x30, bytes.fromhex("03020308"))),
        (0x000B, CERTIFICATE),
        (0x000D, der(0x30, unsigned(0), der(0x04, bytes(8)), unsigned(1), CERTIFICATE)),
        (0x00AB, der(0x30, unsigned(3), der(0x04, bytes(8)), unsigned(5))),
        (0x000F, der(0x04, bytes(8))),
        (0x0012, der(0x30, der(0x04, bytes(32)), unsigned(5))),
        (0x0012, der(0x30, der(0x04, bytes(32)), unsigned(5), der(0x18, b"20290228000000Z"))),
        (0x0013, der(0x05)),
        (0x007F, der(0x30, der(0x18, b"20280229000000Z"), der(0x18, b"20280229000001Z"))),
        (0x008C, der(0x30, der(0x30, der(0x30, der(0x04, bytes(8)), unsigned(5))))),
        (0x0008, der(0x30, CELL, der(0x30, unsigned(2), unsigned(127)))),
        (0x0125, der(0x30, der(0x30, unsigned(0x0A), *CONTROL[1:]), der(0x30, CERTIFICATE))),
        (0x0126, der(0x30, unsigned(0x0B), der(0x30, CERTIFICATE))),
    ],
)  # fmt: skip
def test_every_structure_is_read(code: int, payload: bytes) -> None:
    read_asn1(code, payload)
    assert asn1_rule(code, payload + b"\x00") == "gbcs/asn1-trailing"
    for size in range(len(payload)):
        assert asn1_rule(code, payload[:size]).startswith("gbcs/")


@pytest.mark.parametrize(
    ("code", "payload", "rule"),
    [
        (0x0102, cs02b(unsigned(3), *CONTROL[1:]), "mode-mismatch"),
        (0x0103, cs02b(), "mode-mismatch"),
        (0x0102, cs02b(*CONTROL[:2], b"\x83\x01\x06"), "counter-mismatch"),
        (0x0102, cs02b(*CONTROL[:2]), "truncated"),
        (0x0102, cs02b(CONTROL[0], der(0xA2, unsigned(4), KEY_USAGE_SIGNATURE), CONTROL[2]), "asn1-range"),
        (0x0102, cs02b(replacements=der(0x30, CERTIFICATE, der(0x30, unsigned(4), KEY_USAGE_SIGNATURE))), "asn1-range"),
        (0x0102, cs02b(replacements=der(0x30, CERTIFICATE, der(0x30, unsigned(2), KEY_USAGE_SIGNATURE, unsigned(0)))), "asn1-range"),
        (0x0102, cs02b(replacements=b""), "asn1-structure"),
        (0x0102, cs02b(*CONTROL, b"\x87\x01\x05"), "asn1-structure"),
        (0x0102, cs02b(CONTROL[0], CONTROL[2], CONTROL[1]), "asn1-structure"),
        (0x0102, cs02b(CONTROL[0], b"\x80\x02\x01\x02", *CONTROL[1:]), "asn1-structure"),
        (0x0109, cs02b(unsigned(9), b"\x83\x01\x05"), "asn1-structure"),
        (0x0102, cs02b(time=der(0x18, b"20290229000000Z")), "asn1-time"),
        (0x0102, cs02b(time=der(0x17, b"290228000000Z")), "asn1-structure"),
        (0x000A, der(0x30, bytes.fromhex("03020080")), "asn1-bits"),
        (0x000A, der(0x30, bytes.fromhex("03020640")), "asn1-bits"),
        (0x000A, der(0x30, bytes.fromhex("03020700")), "asn1-bits"),
        (0x000A, der(0x30, bytes.fromhex("030100")), "asn1-bits"),
        (0x000F, der(0x04, bytes(7)), "asn1-range"),
        (0x0012, der(0x30, der(0x04, bytes(32)), unsigned(6)), "counter-mismatch"),
        (0x0012, der(0x30, der(0x04, b""), unsigned(5)), "asn1-range"),
        (0x0012, der(0x30, der(0x04, bytes(32)), b"\x02\x02\x00\x05"), "der"),
        (0x0012, der(0x30, der(0x04, bytes(32)), b"\x02\x02\xff\x85"), "der"),
        (0x0012, der(0x30, der(0x04, bytes(32)), b"\x02\x00"), "der"),
        (0x0013, b"\x05\x01\x00", "der"),
        (0x0013, b"\x05\x81\x00", "der"),
        (0x0013, b"\x05\x80", "der"),
        (0x0013, b"\x1f\x05\x00", "der"),
        (0x007F, der(0x30, der(0x18, b"20280229000000Z"), der(0x18, b"2028022900000Z")), "asn1-time"),
        (0x007F, der(0x30, der(0x18, b"20280229000000Z"), der(0x18, b"20280229000060Z")), "asn1-time"),
        (0x007F, der(0x30, der(0x18, b"20280229000000Z"), der(0x18, b"00000229000000Z")), "asn1-time"),
        (0x0125, der(0x30, der(0x30, unsigned(0x0B))), "mode-mismatch"),
        (0x0125, der(0x30, der(0x30, unsigned(0x0A), CONTROL[1], b"\x83\x01\x06")), "counter-mismatch"),
        (0x0125, der(0x30, der(0x30, b"\x83\x01\x0a")), "asn1-structure"),
        (0x0125, der(0x30), "truncated"),
        (0x000B, der(0x30, der(0x30, b"\x01\x01\x01"), der(0x30), der(0x03, b"\x00")), "der"),
        (0x000B, der(0x30, der(0x30, b"\x06\x01\x80"), der(0x30), der(0x03, b"\x00")), "der"),
        (0x000B, der(0x30, der(0x30, b"\x06\x00"), der(0x30), der(0x03, b"\x00")), "der"),
        (0x000B, der(0x30, der(0x30, b"\x24\x00"), der(0x30), der(0x03, b"\x00")), "der"),
        (0x000B, der(0x30, der(0x30, b"\x41\x00"), der(0x30), der(0x03, b"\x00")), "der"),
        (0x000B, der(0x30, der(0x30, b"\x0c\x01\xff"), der(0x30), der(0x03, b"\x00")), "der"),
        (0x000B, der(0x30, der(0x30, b"\x13\x01\xff"), der(0x30), der(0x03, b"\x00")), "der"),
        (0x000B, der(0x30, der(0x30), der(0x30), der(0x03, b"\x01\xff")), "der"),
        (0x000B, der(0x30, der(0x30), der(0x30), der(0x03, b"\x08\x00")), "der"),
        (0x000B, der(0x30, der(0x30), der(0x30), der(0x03, b"")), "der"),
        (0x000B, der(0x30, der(0x30, b"\x17\x0d251301000000Z"), der(0x30), der(0x03, b"\x00")), "asn1-time"),
    ],
)  # fmt: skip
def test_near_misses_of_each_structure(code: int, payload: bytes, rule: str) -> None:
    assert asn1_rule(code, payload) == f"gbcs/{rule}"


def test_any_der_is_bounded_in_depth() -> None:
    def nested(depth: int) -> bytes:
        inner = b""
        for _ in range(depth):
            inner = der(0x30, inner)
        return der(0x30, inner, der(0x30), der(0x03, b"\x00"))

    read_asn1(0x000B, nested(16))
    assert asn1_rule(0x000B, nested(18)) == "gbcs/asn1-depth"
    assert asn1_rule(0x000B, nested(2000)) == "gbcs/asn1-depth"
