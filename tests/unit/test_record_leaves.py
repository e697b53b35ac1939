"""Log entries: canonical, complete, free of payload and persons; commitments open one by one."""

import hashlib
import json
from dataclasses import replace

import pytest
import rfc8785

from cryptosvc.core import commitments, record
from cryptosvc.core.case import Case
from cryptosvc.core.content import forms
from cryptosvc.core.errors import Corrupt, Forbidden, Malformed, OutcomeUnknown
from cryptosvc.core.judge import judge
from cryptosvc.core.names import Operation, UnixNanoseconds
from cryptosvc.core.record import Observed, Refused, Scope
from tests import duis_documents
from tests.corridor import ALLOWED, SUPPLIER, Corridor, duis_request, pre_command_request

SCOPE = Scope(system="test-system", environment="test", worker="w0", software="1+abc")
SALT = bytes(range(16))
AT = UnixNanoseconds(2**60)


async def opened(request):
    corridor = Corridor()
    content = forms.parse(request.form, request.payload, corridor.profiles)
    (case,) = await corridor.gatherer.gather(corridor.principal, Operation.SIGN, [(request, content)])
    assert isinstance(case, Case)
    entry = record.opening(judge(case, ALLOWED, corridor.profiles), SCOPE)
    return entry, entry.pop("_withheld"), corridor


def refused(error=None, **known) -> Refused:
    error = error or Malformed("no", rule="a/b", clause="G2.60", field="payload")
    return Refused(error=error, operation="sign", at=AT, time_quality="unsynchronised", **known)


async def every_leaf() -> list[tuple[record.Leaf, bytes]]:
    """Each kind of leaf, with the payload it is about."""
    found = []
    for request in (pre_command_request(), duis_request()):
        entry, withheld, corridor = await opened(request)
        content = forms.parse(request.form, request.payload, corridor.profiles)
        known = {
            "request": request,
            "principal": corridor.principal,
            "content": content,
            "key": corridor.keys.records[request.key_id],
        }
        leaves = (
            record.signed_leaf(entry, withheld, bytes(32), SALT),
            record.failed_leaf(entry, withheld, OutcomeUnknown("?", rule="hsm/silent"), SALT),
            record.failed_leaf(entry, withheld, Corrupt("!", rule="check/signature"), SALT),
            record.refused_leaf(refused(**known), SCOPE, SALT),
            record.refused_leaf(refused(request=request), SCOPE, SALT),
            record.refused_leaf(refused(peer="ipv4:192.0.2.1:9"), SCOPE, SALT),
            record.observed_leaf(
                Observed(kind="read", operation="get-key", at=AT, time_quality="synchronised", principal=corridor.principal, facts={"key": "k"}, withheld={"device": duis_documents.DEVICE}),
                SCOPE,
                SALT,
            ),
        )  # fmt: skip
        found += [(leaf, request.payload) for leaf in leaves]
    return found


async def test_every_leaf_is_canonical():
    for leaf, _ in await every_leaf():
        assert leaf.entry == rfc8785.dumps(json.loads(leaf.entry))
        assert leaf.withheld == b"" or leaf.withheld == rfc8785.dumps(json.loads(leaf.withheld))
        assert leaf.entry.isascii()


async def test_every_leaf_says_when_where_and_by_what():
    for leaf, _ in await every_leaf():
        entry = json.loads(leaf.entry)
        assert entry["v"] == commitments.ENTRY_VERSION
        assert int(entry["time"]) > 0
        assert entry["time_quality"] in {"synchronised", "unsynchronised"}
        assert (entry["system"], entry["environment"], entry["worker"], entry["software"]) == (
            "test-system",
            "test",
            "w0",
            "1+abc",
        )


async def test_no_leaf_holds_payload_person_or_device():
    names = (duis_documents.DEVICE, "00-DB-12-34-56-0A-90-A0", "head-end", "127.0.0.1", "192.0.2.1")
    for leaf, payload in await every_leaf():
        assert b"_withheld" not in leaf.entry
        for window in range(0, len(payload) - 24, 8):
            piece = payload[window : window + 24]
            assert piece not in leaf.entry
            assert piece.hex().encode() not in leaf.entry
        for name in names:
            assert name.encode() not in leaf.entry


async def test_a_use_says_all_that_decided_it():
    entry, withheld, corridor = await opened(pre_command_request())
    leaf = json.loads(record.signed_leaf(entry, withheld, b"\xab" * 32, SALT).entry)
    key = corridor.keys.records[pre_command_request().key_id]
    assert leaf["kind"] == "use"
    assert (leaf["outcome"], leaf["result_digest"]) == ("signed", "ab" * 32)
    assert (leaf["decision"], leaf["clause"], leaf["policies"]) == ("permit", "G2.56", ["p1", "p2"])
    assert leaf["policy_digest"] == "d" * 64
    assert (leaf["key"], leaf["key_version"], leaf["key_class"]) == (
        key.key_id,
        key.version,
        "command-signing",
    )
    assert (leaf["module"], leaf["request_id"], leaf["operation"]) == ("test-module", "r1", "sign")
    assert leaf["content_kind"] == "gbcs-pre-command"
    assert leaf["payload_digest"] == hashlib.sha256(pre_command_request().payload).hexdigest()
    assert (leaf["service_reference_variant"], leaf["user_role"]) == ("7.2", "IS")
    assert leaf["facts"]["message_code"] == "0050"
    assert set(withheld) == {"principal", "peer", "user_id", "target"}


async def test_a_document_withholds_its_request_id():
    entry, withheld, _ = await opened(duis_request())
    assert withheld["duis_request_id"] == f"{SUPPLIER}:{duis_documents.DCC}:1"
    assert {"duis_request_id", "target"}.isdisjoint(entry["facts"])
    assert entry["facts"]["service_reference_variant"] == "8.2"


async def test_each_commitment_opens_with_its_own_salt_and_no_other():
    entry, withheld, _ = await opened(pre_command_request())
    leaf = record.signed_leaf(entry, withheld, bytes(32), SALT)
    commitments = json.loads(leaf.entry)["commitments"]
    beside = json.loads(leaf.withheld)
    assert set(commitments) == set(beside) == set(withheld)
    for name, (salt, value) in beside.items():
        assert value == withheld[name]
        assert len(bytes.fromhex(salt)) == record.SALT_OCTETS
        said = bytes.fromhex(salt) + b"\x00" + name.encode() + b"\x00" + value.encode()
        assert commitments[name] == hashlib.sha256(said).hexdigest()
    assert len({salt for salt, _ in beside.values()}) == len(beside)
    assert SALT.hex() not in leaf.withheld.decode()


async def test_another_salt_gives_other_commitments_for_the_same_values():
    entry, withheld, _ = await opened(pre_command_request())
    one = json.loads(record.signed_leaf(entry, withheld, bytes(32), SALT).entry)["commitments"]
    two = json.loads(record.signed_leaf(entry, withheld, bytes(32), bytes(16)).entry)["commitments"]
    assert all(one[name] != two[name] for name in withheld)


def test_a_commitment_binds_name_and_value():
    made = commitments.commitment(SALT, "target", "x")
    assert made != commitments.commitment(SALT, "targe", "tx")
    assert made != commitments.commitment(SALT, "target", "y")
    assert made != commitments.commitment(bytes(16), "target", "x")


async def test_a_redacted_leaf_keeps_its_entry():
    entry, withheld, _ = await opened(pre_command_request())
    leaf = record.signed_leaf(entry, withheld, bytes(32), SALT)
    assert replace(leaf, withheld=b"").entry == leaf.entry


@pytest.mark.parametrize(
    "error", [OutcomeUnknown("?", rule="hsm/silent"), Corrupt("!", rule="check/signature")]
)
async def test_a_failed_use_says_its_reason_and_rule_and_has_no_result(error):
    entry, withheld, _ = await opened(pre_command_request())
    leaf = json.loads(record.failed_leaf(entry, withheld, error, SALT).entry)
    assert (leaf["outcome"], leaf["rule"]) == (error.reason.value.lower(), error.rule)
    assert "result_digest" not in leaf


def test_a_refusal_says_rule_clause_and_policies_and_not_its_message():
    error = Forbidden("a sentence for a person", rule="policy/refused", clause="G4.8", policies=("p2",))
    leaf = json.loads(record.refused_leaf(refused(error), SCOPE, SALT).entry)
    assert (leaf["kind"], leaf["decision"], leaf["outcome"]) == ("refusal", "refuse", "refused")
    assert (leaf["reason"], leaf["rule"], leaf["clause"], leaf["policies"]) == (
        "FORBIDDEN",
        "policy/refused",
        "G4.8",
        ["p2"],
    )
    assert "commitments" not in leaf
    assert "a sentence" not in json.dumps(leaf)


def test_a_refusal_of_nobody_commits_to_the_peer():
    leaf = record.refused_leaf(refused(peer="ipv4:192.0.2.1:9"), SCOPE, SALT)
    assert json.loads(leaf.withheld)["peer"][1] == "ipv4:192.0.2.1:9"


def test_a_response_id_is_withheld_like_a_request_id():
    assert {"target", "duis_request_id", "duis_response_id"} <= record.WITHHELD_FACTS
