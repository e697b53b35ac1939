"""Supply Sensitive Checks: attached and right, attached and wrong, or not attached (G3.23, G3.25)."""

import hashlib
import json
from base64 import b64decode

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cryptosvc.core import dsse, supply
from cryptosvc.core.content.base import Content
from cryptosvc.core.errors import Forbidden, Malformed
from cryptosvc.core.names import ContentKind

PAYLOAD = b"\xdf\x09 a Pre-Command"
REQUEST_ID = "request-1"


def new_checker():
    key = ec.generate_private_key(ec.SECP256R1())
    spki = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return spki, lambda message: key.sign(message, ec.ECDSA(hashes.SHA256()))


CHECKER, CHECKER_SIGNS = new_checker()
STRANGER, STRANGER_SIGNS = new_checker()
ENVELOPE = supply.attest(PAYLOAD, REQUEST_ID, CHECKER, CHECKER_SIGNS)


def refusal_of(*arguments: object, kind=Forbidden) -> str:
    with pytest.raises(kind) as refusal:
        supply.check_attached(*arguments)
    assert refusal.value.clause == "G3.25(a)"
    assert refusal.value.field == "supply_sensitive_check"
    return refusal.value.rule


def test_nothing_attached_is_an_answer_whether_or_not_a_checker_is_registered():
    assert supply.check_attached(b"", PAYLOAD, REQUEST_ID, CHECKER) is False
    assert supply.check_attached(b"", PAYLOAD, REQUEST_ID, b"") is False


def test_a_check_over_these_bytes_and_this_request_holds():
    assert supply.check_attached(ENVELOPE, PAYLOAD, REQUEST_ID, CHECKER) is True


def test_the_statement_is_what_the_docstring_says():
    value = json.loads(b64decode(json.loads(ENVELOPE)["payload"]))
    assert value == {
        "payload_sha256": hashlib.sha256(PAYLOAD).hexdigest(),
        "request_id": REQUEST_ID,
        "result": "passed",
        "type": "application/vnd.cryptosvc.supply-sensitive-check.v1+json",
    }


def test_a_check_over_other_bytes_or_for_another_request_is_malformed():
    assert refusal_of(ENVELOPE, PAYLOAD + b"\x00", REQUEST_ID, CHECKER, kind=Malformed) == "supply/statement"
    assert refusal_of(ENVELOPE, PAYLOAD, "request-2", CHECKER, kind=Malformed) == "supply/statement"


def test_a_check_by_anyone_else_is_forbidden():
    by_stranger = supply.attest(PAYLOAD, REQUEST_ID, STRANGER, STRANGER_SIGNS)
    assert refusal_of(by_stranger, PAYLOAD, REQUEST_ID, CHECKER) == "dsse/unknown-key"
    # The stranger signs under the checker's key id.
    posing = supply.attest(PAYLOAD, REQUEST_ID, CHECKER, STRANGER_SIGNS)
    assert refusal_of(posing, PAYLOAD, REQUEST_ID, CHECKER) == "dsse/signature"


def test_a_check_is_forbidden_where_no_checker_is_registered():
    assert refusal_of(ENVELOPE, PAYLOAD, REQUEST_ID, b"") == "supply/no-checker"


def test_a_registered_key_that_is_none_is_forbidden_and_not_a_crash():
    broken = b"\x30\x03\x02\x01\x01"
    made = supply.attest(PAYLOAD, REQUEST_ID, broken, CHECKER_SIGNS)
    assert refusal_of(made, PAYLOAD, REQUEST_ID, broken) == "dsse/key"


def test_an_extra_signature_beside_the_checkers_is_forbidden():
    both = dsse.sign(
        supply.PAYLOAD_TYPE,
        supply.statement(PAYLOAD, REQUEST_ID),
        {dsse.key_id(CHECKER): CHECKER_SIGNS, "friend": STRANGER_SIGNS},
    )
    assert refusal_of(dsse.emit(both), PAYLOAD, REQUEST_ID, CHECKER) == "dsse/unknown-key"


def test_a_statement_under_another_type_is_malformed():
    other = dsse.sign(
        "application/json", supply.statement(PAYLOAD, REQUEST_ID), {dsse.key_id(CHECKER): CHECKER_SIGNS}
    )
    assert refusal_of(dsse.emit(other), PAYLOAD, REQUEST_ID, CHECKER, kind=Malformed) == "supply/payload-type"


@pytest.mark.parametrize(
    "said",
    [
        b'{"result":"failed"}',
        supply.statement(PAYLOAD, REQUEST_ID).replace(b"passed", b"failed"),
        supply.statement(PAYLOAD, REQUEST_ID) + b"\n",
        supply.statement(PAYLOAD, REQUEST_ID)[:-1] + b',"zz":1}',
        b"",
    ],
)
def test_only_the_one_statement_counts(said):
    made = dsse.emit(dsse.sign(supply.PAYLOAD_TYPE, said, {dsse.key_id(CHECKER): CHECKER_SIGNS}))
    assert refusal_of(made, PAYLOAD, REQUEST_ID, CHECKER, kind=Malformed) == "supply/statement"


@pytest.mark.parametrize(
    "envelope", [b"x", b"{}", ENVELOPE + b" ", b"A" * 4097], ids=["text", "empty", "space", "big"]
)
def test_what_is_no_envelope_is_malformed(envelope):
    rule = refusal_of(envelope, PAYLOAD, REQUEST_ID, CHECKER, kind=Malformed)
    assert rule.split("/")[0] in {"dsse", "supply"}


def test_the_size_bound_has_two_sides():
    for extra, rule in ((0, "dsse/json"), (1, "supply/size")):
        envelope = b"x" * (supply.ENVELOPE_OCTETS + extra)
        assert refusal_of(envelope, PAYLOAD, REQUEST_ID, CHECKER, kind=Malformed) == rule


def test_an_envelope_for_the_longest_request_id_fits():
    long_id = '"' * 64
    made = supply.attest(PAYLOAD, long_id, CHECKER, CHECKER_SIGNS)
    assert len(made) < supply.ENVELOPE_OCTETS
    assert supply.check_attached(made, PAYLOAD, long_id, CHECKER) is True


def test_sensitive_is_read_from_the_content_and_not_from_the_caller():
    profile = supply.SupplyProfile(frozenset({"7.2", "7.3"}))
    of = {
        variants: supply.sensitive(
            Content(kind=ContentKind.GBCS_PRE_COMMAND, signed_bytes=b"", service_reference_variants=variants),
            profile,
        )
        for variants in ((), ("1.1",), ("7.2",), ("7.1", "7.3"))
    }
    assert of == {(): False, ("1.1",): False, ("7.2",): True, ("7.1", "7.3"): True}
