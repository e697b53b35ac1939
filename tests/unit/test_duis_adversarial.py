"""XML attacks on the document inspector: refused, by the right rule, quickly, and without opening or fetching anything."""

import time

import pytest

from cryptosvc.core.content.duis import document
from cryptosvc.core.errors import CryptosvcError, Malformed
from tests import duis_documents as duis
from tests import xml_signatures

PROFILE = duis.demo_profile()
USER = duis.signer()
GOOD = duis.request()
TEXT = GOOD.decode()
ROOT = f'<sr:Request xmlns:sr="{duis.NAMESPACE}" schemaVersion="5.4">'
DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>'
SECRET = "a-file-that-must-not-be-read"


def rule_of(payload: bytes | str) -> str:
    octets = payload if isinstance(payload, bytes) else payload.encode()
    started = time.perf_counter()
    with pytest.raises(Malformed) as refusal:
        document.parse(octets, PROFILE)
    assert time.perf_counter() - started < 2
    assert refusal.value.field == "duis_document"
    assert len(str(refusal.value)) < 300
    return refusal.value.rule


def inside(element: str, text: str) -> str:
    """The good document with `text` at the start of an element's content."""
    opening = f"<sr:{element}>"
    assert opening in TEXT
    return TEXT.replace(opening, opening + text, 1)


def on_root(attributes: str) -> str:
    return TEXT.replace("<sr:Request ", f"<sr:Request {attributes} ", 1)


DOCTYPES = {
    "xxe file": '<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
    "xxe http": '<!DOCTYPE r [<!ENTITY x SYSTEM "http://127.0.0.1:1/x">]>',
    "xxe parameter": '<!DOCTYPE r [<!ENTITY % x SYSTEM "file:///etc/passwd"> %x;]>',
    "external subset": '<!DOCTYPE r SYSTEM "http://127.0.0.1:1/x.dtd">',
    "external public": '<!DOCTYPE r PUBLIC "-//x//y" "file:///x.dtd">',
    "internal entity": '<!DOCTYPE r [<!ENTITY x "7.2">]>',
    "billion laughs": "<!DOCTYPE r [<!ENTITY a0 'ha'>"
    + "".join(f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 10))
    + "]>",
    "quadratic blowup": f"<!DOCTYPE r [<!ENTITY x '{'A' * 50_000}'>]>",
    "default attribute": '<!DOCTYPE r [<!ATTLIST sr:Request schemaVersion CDATA "9.9">]>',
    "id attribute": "<!DOCTYPE r [<!ATTLIST sr:Request Id ID #IMPLIED>]>",
    "empty": "<!DOCTYPE r>",
    "notation": '<!DOCTYPE r [<!NOTATION n SYSTEM "x">]>',
    "unfinished": "<!DOCTYPE r [",
}


@pytest.mark.parametrize("name", DOCTYPES)
@pytest.mark.parametrize("declaration", ["", DECLARATION, DECLARATION + "\n"])
def test_no_doctype_reaches_a_parser(name, declaration):
    used = inside("ServiceReference", "&x;") if "entity" in name or "xxe" in name else TEXT
    assert rule_of(declaration + DOCTYPES[name] + used) == "duis/markup-declaration"


@pytest.mark.parametrize(
    "where", ["RequestID", "CommandVariant", "ServiceReferenceVariant", "DeviceID", "Header", "Body"]
)
@pytest.mark.parametrize(
    "text",
    [
        "<!---->",
        "<!-- x -->",
        "<!--<sr:Body/>-->",
        "<![CDATA[]]>",
        "<![CDATA[7.2]]>",
        "<!ENTITY x 'y'>",
        "<!X",
    ],
)
def test_no_comment_and_no_cdata_section_anywhere(where, text):
    assert rule_of(inside(where, text)) == "duis/markup-declaration"


def test_a_comment_that_would_truncate_a_request_id_is_refused():
    split = TEXT.replace(":1</sr:RequestID>", ":1<!-- -->0</sr:RequestID>")
    assert rule_of(split) == "duis/markup-declaration"


@pytest.mark.parametrize("before", ["<!-- x -->", DECLARATION + "<!-- x -->", "<!-- x -->" + DECLARATION])
def test_no_comment_beside_the_root(before):
    assert rule_of(before + TEXT) in {"duis/markup-declaration", "duis/processing-instruction"}
    assert rule_of(TEXT + before) in {"duis/markup-declaration", "duis/processing-instruction"}


@pytest.mark.parametrize(
    "instruction",
    ["<?x?>", "<?php echo 1?>", '<?xml-stylesheet href="http://127.0.0.1:1/"?>', DECLARATION, "<?", "<?x"],
)
def test_no_processing_instruction_anywhere(instruction):
    expected = {"duis/processing-instruction", "duis/declaration"}
    assert rule_of(DECLARATION + instruction + TEXT) in expected
    assert rule_of(TEXT + instruction) in expected
    for where in ("RequestID", "Header", "Body", "DeviceID"):
        assert rule_of(inside(where, instruction)) in expected


@pytest.mark.parametrize(
    "declaration",
    [
        '<?xml version="1.1"?>',
        '<?xml version="2.0"?>',
        '<?xml encoding="UTF-8"?>',
        '<?xml version="1.0" encoding="UTF-16"?>',
        '<?xml version="1.0" encoding="UTF-7"?>',
        '<?xml version="1.0" encoding="ISO-8859-1"?>',
        '<?xml version="1.0" encoding="US-ASCII"?>',
        '<?xml version="1.0" encoding="EBCDIC-CP-BE"?>',
        '<?xml version="1.0" encoding="utf8"?>',
        '<?xml version="1.0" encoding=""?>',
        '<?xml version="1.0" standalone="maybe"?>',
        '<?xml version="1.0" standalone="yes" encoding="UTF-8"?>',
        '<?xml version="1.0" encoding="UTF-8" encoding="UTF-16"?>',
        "<?XML version='1.0'?>",
        "<?xml?>",
        "<? xml version='1.0'?>",
        "<?xml version='1.0\"?>",
    ],
)
def test_the_xml_declaration_says_xml_1_0_in_utf_8(declaration):
    assert rule_of(declaration + TEXT) == "duis/declaration"


@pytest.mark.parametrize(
    "declaration", [" " + DECLARATION, "\n" + DECLARATION, " ", "\n", "x", "\ufeff", "\ufeff" + DECLARATION]
)
def test_nothing_stands_before_the_document(declaration):
    assert rule_of(declaration + TEXT) in {"duis/declaration", "duis/encoding"}


@pytest.mark.parametrize(
    "encoding",
    [
        "utf-16",
        "utf-16-le",
        "utf-16-be",
        "utf-32",
        "utf-32-le",
        "utf-32-be",
        "cp037",
        "cp500",
        "utf-8-sig",
    ],
)
@pytest.mark.parametrize("declared", ["", DECLARATION, '<?xml version="1.0"?>'])
def test_other_encodings_of_a_good_document_are_refused(encoding, declared):
    octets = (declared + TEXT).encode(encoding)
    assert rule_of(octets) in {"duis/encoding", "duis/declaration", "duis/well-formed"}


@pytest.mark.parametrize(
    "octets",
    [b"\xff", b"\xc0\xbc", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe0\x80\xbc", b"\x00", b"\x80", b"\xc3"],
)
def test_octets_that_are_no_utf_8_text_are_refused_wherever_they_stand(octets):
    for at in (0, 1, len(GOOD) // 2, len(GOOD)):
        assert rule_of(GOOD[:at] + octets + GOOD[at:]) == "duis/encoding"


@pytest.mark.parametrize(
    "character", [chr(n) for n in range(1, 32) if n not in {9, 10, 13}] + ["\ufffe", "\uffff"]
)
def test_control_characters_are_refused(character):
    assert rule_of(inside("DeviceID", character)) == "duis/well-formed"
    assert rule_of(inside("DeviceID", f"&#{ord(character)};")) == "duis/well-formed"


@pytest.mark.parametrize(
    "entity", ["&x;", "&xxe;", "&nbsp;", "&", "&;", "&#0;", "&#x110000;", "&#xD800;", "&lt", "%x;&y;"]
)
def test_undefined_entities_are_refused(entity):
    assert rule_of(inside("DeviceID", entity)) == "duis/well-formed"


# --- namespaces and prefixes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("element", ["Header", "RequestID", "Body", "ReadInventory", "DeviceID"])
@pytest.mark.parametrize(
    "declared",
    [
        'xmlns:sr="urn:other"',
        f'xmlns:sr="{duis.NAMESPACE}"',
        'xmlns="urn:other"',
        'xmlns=""',
        'xmlns:x="urn:x"',
        "xmlns = 'urn:x'",
        "\nxmlns\n:x='urn:x'",
        'xmlns:ds="http://www.w3.org/2000/09/xmldsig#"',
    ],
)
def test_namespaces_are_declared_on_the_root_only(element, declared):
    changed = TEXT.replace(f"<sr:{element}>", f"<sr:{element} {declared}>", 1)
    assert rule_of(changed) in {"duis/namespace-redeclared", "duis/well-formed", "duis/foreign-element"}


@pytest.mark.parametrize(
    "declared",
    [
        'xmlns:x="urn:x"',
        'xmlns:x="relative"',
        'xmlns="urn:y"',
        'xmlns:ds="urn:not-ds"',
        'xmlns:x="file:///etc/passwd"',
    ],
)
def test_only_known_namespaces_are_declared(declared):
    assert rule_of(on_root(declared)) == "duis/namespace"


def test_a_document_in_another_namespace_is_refused():
    for other in ("urn:x", duis.NAMESPACE + "/", duis.NAMESPACE.lower(), duis.NAMESPACE + "%20"):
        assert rule_of(TEXT.replace(duis.NAMESPACE, other)) == "duis/namespace"


def test_a_document_in_no_namespace_is_refused():
    bare = (
        TEXT.replace("sr:", "")
        .replace(f' xmlns:sr="{duis.NAMESPACE}"', "")
        .replace(f' xmlns="{duis.NAMESPACE}"', "")
    )
    assert "sr:" not in bare
    assert rule_of(bare) in {"duis/foreign-element", "duis/well-formed"}


@pytest.mark.parametrize(
    "element",
    [
        "<x/>",
        "<ds:Object/>",
        "<xs:element name='x'/>",
        "<xsi:type/>",
        "<ra:Header/>",
        "<sr:Request/>",
        "<sr:Unknown/>",
        "text",
    ],
)
@pytest.mark.parametrize("where", ["Header", "Body", "ReadInventory"])
def test_foreign_and_unknown_elements_are_refused(element, where):
    declared = (
        'xmlns:ds="http://www.w3.org/2000/09/xmldsig#" xmlns:xs="http://www.w3.org/2001/XMLSchema" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        'xmlns:ra="http://www.dccinterface.co.uk/ResponseAndAlert"'
    )
    changed = inside(where, element).replace("<sr:Request ", f"<sr:Request {declared} ", 1)
    assert rule_of(changed) in {"duis/foreign-element", "duis/signature-present", "duis/schema-invalid"}


@pytest.mark.parametrize(
    "attribute",
    [
        'xsi:schemaLocation="http://www.dccinterface.co.uk/ServiceUserGateway http://127.0.0.1:1/x.xsd"',
        'xsi:noNamespaceSchemaLocation="file:///etc/passwd"',
        'xsi:type="sr:DemoBody"',
        'xsi:nil="true"',
        'xml:id="x"',
        'xml:base="http://127.0.0.1:1/"',
        'xml:space="preserve"',
        'xml:lang="en"',
    ],
)
@pytest.mark.parametrize("element", ["Request", "Header", "Body", "DeviceID"])
def test_attributes_in_a_namespace_are_refused(attribute, element):
    declared = on_root('xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"')
    at = declared.index(f"<sr:{element}") + len(f"<sr:{element}")
    assert rule_of(f"{declared[:at]} {attribute}{declared[at:]}") == "duis/foreign-attribute"


@pytest.mark.parametrize("attribute", ['Id="x"', 'ID="x"', 'id="x"', 'AssertionID="x"', 'URI="#x"', 'a=""'])
@pytest.mark.parametrize("element", ["Request", "Header", "RequestID", "Body", "ReadInventory", "DeviceID"])
def test_no_element_carries_an_id(attribute, element):
    at = TEXT.index(f"<sr:{element}") + len(f"<sr:{element}")
    assert rule_of(f"{TEXT[:at]} {attribute}{TEXT[at:]}") == "duis/schema-invalid"


# --- wrapping --------------------------------------------------------------------------------------------------------

FINISHED = document.assemble(
    document.parse(GOOD, PROFILE), USER.sign(document.parse(GOOD, PROFILE).signed_bytes), USER.record
).decode()
SIGNATURE = FINISHED[
    FINISHED.index("<ds:Signature") : FINISHED.index("</ds:Signature>") + len("</ds:Signature>")
]


def test_a_signed_document_is_not_signed_again():
    assert rule_of(FINISHED) == "duis/signature-present"


@pytest.mark.parametrize(
    "where", ["Header", "RequestID", "ServiceReference", "Body", "ReadInventory", "DeviceID"]
)
@pytest.mark.parametrize("form", ["whole", "renamed prefix", "empty", "default namespace", "object wrapped"])
def test_a_signature_anywhere_inside_is_refused(where, form):
    dsig = 'xmlns:{}="http://www.w3.org/2000/09/xmldsig#"'
    nested = {
        "whole": SIGNATURE,
        "renamed prefix": SIGNATURE.replace("ds:", "q:").replace("xmlns:ds", "xmlns:q"),
        "empty": f"<ds:Signature {dsig.format('ds')}/>",
        "default namespace": '<Signature xmlns="http://www.w3.org/2000/09/xmldsig#"/>',
        "object wrapped": f"<ds:Signature {dsig.format('ds')}><ds:Object>{GOOD.decode()}</ds:Object></ds:Signature>",
    }[form]
    assert rule_of(inside(where, nested)) == "duis/signature-present"


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_signatures_beside_the_body_are_refused(copies):
    assert (
        rule_of(TEXT.replace("</sr:Request>", SIGNATURE * copies + "</sr:Request>"))
        == "duis/signature-present"
    )
    assert (
        rule_of(TEXT.replace("<sr:Header>", SIGNATURE * copies + "<sr:Header>")) == "duis/signature-present"
    )
    assert rule_of(TEXT + SIGNATURE * copies) == "duis/well-formed"


def test_a_document_inside_a_document_is_refused():
    for where in ("Header", "Body", "ReadInventory"):
        assert rule_of(inside(where, FINISHED)) in {"duis/signature-present", "duis/schema-invalid"}
        assert rule_of(inside(where, TEXT)) in {"duis/schema-invalid", "duis/namespace-redeclared"}


@pytest.mark.parametrize("part", ["Header", "Body", "RequestID", "CommandVariant", "ServiceReferenceVariant"])
def test_nothing_that_is_read_stands_there_twice(part):
    start, end = TEXT.index(f"<sr:{part}>"), TEXT.index(f"</sr:{part}>") + len(f"</sr:{part}>")
    once = TEXT[start:end]
    assert rule_of(TEXT[:end] + once + TEXT[end:]) == "duis/schema-invalid"
    assert rule_of(TEXT[:start] + TEXT[end:]) == "duis/schema-invalid"


def test_header_after_body_is_refused():
    header = TEXT[TEXT.index("<sr:Header>") : TEXT.index("</sr:Header>") + len("</sr:Header>")]
    assert (
        rule_of(TEXT.replace(header, "").replace("</sr:Request>", header + "</sr:Request>"))
        == "duis/schema-invalid"
    )


def test_two_roots_and_text_around_the_root_are_refused():
    for payload in (TEXT + TEXT, TEXT + "x", TEXT + "&#32;", TEXT + "<x/>", "<x/>" + TEXT):
        assert rule_of(payload) == "duis/well-formed"


@pytest.mark.parametrize(
    "payload",
    [
        "",
        " ",
        "<",
        "<>",
        "</>",
        "<a",
        "<a>",
        "</a>",
        "{}",
        ROOT,
        TEXT[:-1],
        TEXT[1:],
        "<a b=c/>",
        "<a b='1' b='2'/>",
    ],
)
def test_what_is_no_xml_is_refused(payload):
    assert rule_of(payload) in {"duis/well-formed", "duis/declaration"}


# --- size ------------------------------------------------------------------------------------------------------------


def padded(size: int) -> bytes:
    return GOOD + b" " * (size - len(GOOD))


def test_the_size_bound_has_two_sides():
    assert document.parse(padded(PROFILE.max_octets), PROFILE).signature_at < PROFILE.max_octets
    assert rule_of(padded(PROFILE.max_octets + 1)) == "duis/size"


def test_ten_megabytes_of_text_never_reach_the_parser():
    assert rule_of(inside("DeviceID", "A" * 10_000_000)) == "duis/size"


def test_a_hundred_megabytes_never_reach_the_parser():
    assert rule_of(b"<" * 100_000_000) == "duis/size"


def nested(depth: int) -> str:
    return ROOT + "<sr:Header>" * (depth - 1) + "</sr:Header>" * (depth - 1) + "</sr:Request>"


def test_the_depth_bound_has_two_sides():
    assert rule_of(nested(PROFILE.max_depth)) == "duis/schema-invalid"
    assert rule_of(nested(PROFILE.max_depth + 1)) == "duis/depth"


@pytest.mark.parametrize("depth", [100, 255, 256, 257, 1000, 9000])
def test_huge_depth_is_refused(depth):
    assert rule_of(nested(depth)) in {"duis/depth", "duis/well-formed"}


FILLER = PROFILE.max_octets - 2 * len(GOOD)
FLOODS = {
    "attributes": on_root(" ".join(f'a{n}=""' for n in range(FILLER // 12))),
    "one attribute name": on_root('a="" ' * (FILLER // 5)),
    "long attribute": on_root(f'a="{"x" * FILLER}"'),
    "namespaces": on_root(" ".join(f'xmlns:a{n}="u"' for n in range(FILLER // 20))),
    "elements": inside("Body", "<sr:X/>" * (FILLER // 7)),
    "wide and deep": nested(30).replace("</sr:Header>", "<sr:Y/>" * (FILLER // 8) + "</sr:Header>", 1),
    "long name": inside("Body", f"<{'x' * (FILLER - 3)}/>"),
    "long text": inside("DeviceID", "A" * FILLER),
    "long identifier": inside("RequestID", "90-" * (FILLER // 3)),
    "long counter": TEXT.replace(":1<", ":" + "1" * FILLER + "<"),
    "character references": inside("DeviceID", "&#65;" * (FILLER // 5)),
    "predefined entities": inside("DeviceID", "&amp;" * (FILLER // 5)),
    "open brackets": "<" * FILLER,
    "quotes": "<a b=" + "\"'" * (FILLER // 2),
    "spaces in a tag": f"<a{' ' * FILLER}",
    "unclosed": "<a>" * (FILLER // 3),
}


@pytest.mark.parametrize("name", FLOODS)
def test_floods_within_the_size_bound_are_refused_in_time(name):
    assert len(FLOODS[name]) <= PROFILE.max_octets
    assert rule_of(FLOODS[name]).startswith("duis/")


@pytest.fixture(scope="module")
def dcc_profile(gbcs_data):
    return duis.dcc_profile(gbcs_data)


@pytest.mark.parametrize("name", FLOODS)
def test_floods_are_refused_in_time_under_the_dccs_schema_too(name, dcc_profile):
    started = time.perf_counter()
    with pytest.raises(Malformed):
        document.parse(FLOODS[name].encode(), dcc_profile)
    assert time.perf_counter() - started < 2


def test_no_refusal_repeats_what_the_document_says():
    for payload in (
        inside("DeviceID", SECRET),
        inside("ServiceReferenceVariant", SECRET),
        inside("RequestID", SECRET),
        TEXT.replace("sr:ReadInventory", f"sr:{SECRET}"),
        on_root(f'{SECRET}=""'),
        TEXT.replace("</sr:Header>", f"</{SECRET}>"),
    ):
        with pytest.raises(CryptosvcError) as refusal:
            document.parse(payload.encode(), PROFILE)
        assert SECRET not in repr(refusal.value)
        assert SECRET not in str(refusal.value.__cause__)


def test_an_attribute_value_that_looks_like_the_end_tag_does_not_move_the_signature():
    payload = TEXT.replace('schemaVersion="5.4"', "schemaVersion='5.4'").replace(
        "</sr:Request>", "</sr:Request \t\n>"
    )
    content = document.parse(payload.encode(), PROFILE)
    finished = document.assemble(content, USER.sign(content.signed_bytes), USER.record)
    xml_signatures.verify(finished, USER.private.public_key())
    assert finished.endswith(b"</ds:Signature></sr:Request \t\n>")
