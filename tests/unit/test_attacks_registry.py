"""A key record that contradicts its own certificate, or holds no point: refused before the key moves, never a crash after."""

from dataclasses import replace

import pytest

from cryptosvc.core.check import verify_p256
from cryptosvc.core.errors import Corrupt
from cryptosvc.core.names import Environment
from cryptosvc.core.registry import KeyRecord
from cryptosvc.flow.sign import NotSigned, Signed
from tests import certificates, corridor
from tests.corridor import SUPPLIER_KEY, XML_KEY

ISSUING = certificates.issuing_authority(certificates.root_authority())
STRANGER = "90-B3-D5-1F-30-02-00-00"


def certificate(record: KeyRecord, **choices: object) -> bytes:
    public = corridor.PRIVATE[record.key_id].public_key()
    chosen = {"role": record.role, "entity": str(record.eui64)} | choices
    return certificates.organisation_certificate(ISSUING, public, **chosen)


SPOILT = {
    "unreadable": (lambda _: b"\x30\x00", "key-certificate/malformed"),
    "trailing": (lambda record: record.certificate + b"\x00", "key-certificate/malformed"),
    "another key": (
        lambda record: certificates.organisation_certificate(
            ISSUING, certificates.key_pair("other").public_key(), role=record.role, entity=str(record.eui64)
        ),
        "key-certificate/other-key",
    ),
    "another entity": (lambda record: certificate(record, entity=STRANGER), "key-certificate/other-party"),
    "another role": (lambda record: certificate(record, role=3), "key-certificate/other-party"),
    "an unknown role": (lambda record: certificate(record, role=0x55), "key-certificate/malformed"),
    "key agreement": (lambda record: certificate(record, usage="key_agreement"), "key-certificate/key-usage"),
    "an authority": (lambda _: ISSUING.certificate, "key-certificate/other-key"),
}


@pytest.mark.parametrize("name", SPOILT)
async def test_a_certificate_that_is_not_the_records_refuses_this_item_and_no_other(name: str) -> None:
    spoil, rule = SPOILT[name]
    for spoilt, other in ((SUPPLIER_KEY, XML_KEY), (XML_KEY, SUPPLIER_KEY)):
        walk = corridor.Corridor()
        record = walk.keys.records[spoilt]
        walk.keys.records[spoilt] = replace(record, certificate=spoil(record))
        answers = await walk.signer.sign(
            walk.principal, [corridor.pre_command_request(), corridor.duis_request()]
        )
        by_key = dict(zip((SUPPLIER_KEY, XML_KEY), answers, strict=True))
        assert isinstance(by_key[other], Signed)
        refused = by_key[spoilt]
        assert isinstance(refused, NotSigned)
        assert refused.error.rule == rule
        assert [claim.authorised.case.key.key_id for claim in walk.hsm.signed] == [other]


@pytest.mark.parametrize("point", [b"", b"\x04", b"\x04" + bytes(64), b"\x02" + bytes(32), bytes(65)])
def test_a_registered_point_that_is_none_is_corrupt_and_no_crash(point: bytes) -> None:
    with pytest.raises(Corrupt) as refusal:
        verify_p256(point, bytes(31) + b"\x01" + bytes(31) + b"\x01", b"signed")
    assert refusal.value.rule == "check/signature"


async def test_what_cannot_be_assembled_after_the_key_was_used_costs_no_other_item(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Belt and braces: `bind` has refused whatever `assemble` could stumble over."""
    monkeypatch.setattr("cryptosvc.core.content.x509.signer.require_organisation", lambda _: None)
    monkeypatch.setattr("cryptosvc.core.content.x509.signer.require_in_force", lambda _, __: None)
    walk = corridor.Corridor()
    walk.keys.records[XML_KEY] = replace(walk.keys.records[XML_KEY], certificate=b"\x30\x00")
    good, bad = await walk.signer.sign(
        walk.principal, [corridor.pre_command_request(), corridor.duis_request()]
    )
    assert isinstance(good, Signed)
    assert isinstance(bad, NotSigned)
    assert (type(bad.error), bad.error.rule) == (Corrupt, "check/artefact")


async def test_a_key_without_a_certificate_signs_in_test_and_never_in_live() -> None:
    walk = corridor.Corridor()
    bare = replace(walk.keys.records[SUPPLIER_KEY], certificate=b"")
    walk.keys.records[SUPPLIER_KEY] = bare
    (answer,) = await walk.signer.sign(walk.principal, [corridor.pre_command_request()])
    assert isinstance(answer, Signed)
    walk.keys.records[SUPPLIER_KEY] = replace(bare, environment=Environment.LIVE)
    (answer,) = await walk.signer.sign(walk.principal, [corridor.pre_command_request("again")])
    assert isinstance(answer, NotSigned)
    assert answer.error.rule == "key-certificate/none"
