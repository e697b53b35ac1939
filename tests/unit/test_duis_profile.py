"""The DUIS profile: schemas come from the octets given, never from anywhere else; the examples work together."""

import socket
from dataclasses import FrozenInstanceError

import pytest
from lxml import etree

from cryptosvc.core.content.base import Statement
from cryptosvc.core.content.duis import document
from cryptosvc.core.content.duis.profile import MAX_DEPTH, MAX_OCTETS, duis_profile
from cryptosvc.core.content.duis.variants import SERVICE_REQUESTS
from cryptosvc.core.errors import Malformed
from cryptosvc.core.names import UnixNanoseconds, UserRole
from tests import certificates, xml_signatures
from tests import duis_documents as duis

DEMO = (duis.EXAMPLES / "demo.xsd").read_bytes()
XMLDSIG = (duis.EXAMPLES / "xmldsig-subset.xsd").read_bytes()
AT = UnixNanoseconds(certificates.nanoseconds(certificates.AT))
XSD = "http://www.w3.org/2001/XMLSchema"


def refusal(*arguments: object, **choices: object) -> Malformed:
    with pytest.raises(Malformed) as caught:
        duis_profile(*arguments, **choices)
    assert caught.value.rule == "duis/schema"
    return caught.value


def test_the_examples_sign_a_document():
    profile = duis_profile(DEMO, XMLDSIG)
    payload = (duis.EXAMPLES / "read-inventory.xml").read_bytes()
    content = document.parse(payload, profile)
    facts = dict(content.facts)
    signer = duis.signer(entity=facts["originator"])
    statement = Statement(service_reference_variant="8.2", user_id=facts["originator"], user_role="IS")
    document.bind(content, signer.record, statement, profile, AT)
    finished = document.assemble(content, signer.sign(content.signed_bytes), signer.record)
    xml_signatures.verify(finished, signer.private.public_key())
    assert profile.schema.validate(etree.fromstring(finished))


def test_the_example_document_is_valid_under_the_dccs_schema_too(gbcs_data):
    payload = (duis.EXAMPLES / "read-inventory.xml").read_bytes()
    assert document.parse(payload, duis.dcc_profile(gbcs_data)).variant == "8.2"


def test_what_the_example_schema_accepts_the_dccs_accepts(gbcs_data):
    theirs, ours = duis.dcc_profile(gbcs_data), duis.demo_profile()
    disable = duis.request(
        target=duis.DEVICE, command_variant="4", reference="7.2", variant="7.2", body=duis.DISABLE_SUPPLY
    )
    for payload in (duis.request(), disable, duis.signed_request()):
        assert document.parse(payload, theirs).signed_bytes == document.parse(payload, ours).signed_bytes


def test_a_variant_that_a_newer_schema_has_and_the_table_lacks_is_refused():
    newer = DEMO.replace(
        b'<xs:enumeration value="8.2"/>', b'<xs:enumeration value="8.2"/><xs:enumeration value="8.99"/>'
    )
    payload = duis.request(reference="8.99", variant="8.99")
    with pytest.raises(Malformed) as caught:
        document.parse(payload, duis_profile(newer, XMLDSIG))
    assert caught.value.rule == "duis/variant"


def test_an_import_with_a_space_in_its_location_compiles(gbcs_data):
    folder = gbcs_data / "duis_xsd"
    main = (folder / "DUIS Schema V5.4.xsd").read_bytes()
    assert b'schemaLocation="MMC Schema V5.4.xsd"' in main
    assert duis.dcc_profile(gbcs_data).max_octets == MAX_OCTETS


def test_an_import_that_was_not_given_is_named(gbcs_data):
    folder = gbcs_data / "duis_xsd"
    found = refusal(
        (folder / "DUIS Schema V5.4.xsd").read_bytes(), (folder / "xmldsig-core-schema.xsd").read_bytes()
    )
    assert str(found).endswith("imports http://www.dccinterface.co.uk/ResponseAndAlert; give that schema too")


@pytest.mark.parametrize("octets", [b"", b"x", b"<x/>", b"<schema/>", DEMO[:-5], b"\x00"])
def test_what_is_no_schema_is_refused(octets):
    refusal(octets, XMLDSIG)
    refusal(DEMO, octets)
    refusal(DEMO, XMLDSIG, [octets])


def test_a_schema_that_does_not_compile_is_refused():
    assert "does not compile" in str(
        refusal(DEMO.replace(b'type="sr:DemoBody"', b'type="sr:Missing"'), XMLDSIG)
    )


def test_the_schemas_may_not_be_swapped():
    assert "not the one of XML signatures" in str(refusal(XMLDSIG, DEMO))


@pytest.mark.parametrize("name", ["include", "redefine"])
def test_includes_are_not_followed(name):
    including = DEMO.replace(b"<xs:import", f'<xs:{name} schemaLocation="x.xsd"/><xs:import'.encode(), 1)
    assert f"xs:{name}" in str(refusal(including, XMLDSIG))


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        yield server


def was_called(server: socket.socket) -> bool:
    try:
        server.accept()[0].close()
    except TimeoutError:
        return False
    return True


def test_no_location_is_ever_fetched(listener, tmp_path):
    port = listener.getsockname()[1]
    url = f"http://127.0.0.1:{port}/x"
    (tmp_path / "evil.xsd").write_text("not a schema")
    # An import by URL: answered with the octets given.
    duis_profile(DEMO.replace(b'"xmldsig-subset.xsd"', f'"{url}.xsd"'.encode()), XMLDSIG)
    duis_profile(
        DEMO.replace(b'"xmldsig-subset.xsd"', f'"{(tmp_path / "evil.xsd").as_uri()}"'.encode()), XMLDSIG
    )
    # A document type whose external subset is elsewhere: not loaded.
    doctype = (
        f'<!DOCTYPE schema PUBLIC "-//W3C//DTD XMLSCHEMA 200102//EN" "{url}.dtd" [<!ENTITY e "x">]>'.encode()
    )
    start = XMLDSIG.index(b"<xs:schema")
    duis_profile(DEMO, XMLDSIG[:start] + doctype + XMLDSIG[start:])
    # An external entity: refused, not fetched.
    entity = f'<!DOCTYPE schema [<!ENTITY e SYSTEM "{url}.ent">]>'.encode()
    at = DEMO.index(b"<xs:schema")
    used = DEMO[:at] + entity + DEMO[at:].replace(b"</xs:schema>", b"&e;</xs:schema>")
    refusal(used, XMLDSIG)
    assert not was_called(listener)


def test_an_import_is_answered_by_its_namespace_whatever_its_location_says():
    without_location = DEMO.replace(b' schemaLocation="xmldsig-subset.xsd"', b"")
    assert document.parse(duis.request(), duis_profile(without_location, XMLDSIG)).variant == "8.2"


def test_bounds_are_as_given_and_the_profile_is_frozen():
    profile = duis_profile(DEMO, XMLDSIG, max_octets=1000, max_depth=9)
    assert (profile.max_octets, profile.max_depth) == (1000, 9)
    assert (duis_profile(DEMO, XMLDSIG).max_octets, MAX_DEPTH) == (MAX_OCTETS, 32)
    with pytest.raises(FrozenInstanceError):
        profile.max_octets = 1


def test_eligible_roles_extend_the_table_and_do_not_replace_the_rest():
    profile = duis_profile(DEMO, XMLDSIG, eligible={"8.5": frozenset({UserRole.IMPORT_SUPPLIER})})
    assert profile.eligible["8.5"] == {UserRole.IMPORT_SUPPLIER}
    assert profile.eligible["7.2"] == SERVICE_REQUESTS["7.2"].eligible
    assert duis_profile(DEMO, XMLDSIG).eligible["8.5"] == frozenset()
