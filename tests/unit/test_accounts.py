"""Accounts of keys, people and Users, decisions retold, and the policy set the log keeps."""

import hashlib
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from cryptosvc.adapters.policy.source import parse_source
from cryptosvc.core import policy_set
from cryptosvc.core.account import Account, UserCounts, half_year, instant
from cryptosvc.core.canonical import canonical
from cryptosvc.core.errors import Corrupt
from cryptosvc.core.retold import Told, proposal_of, retold, verified
from cryptosvc.flow import policy_sets
from cryptosvc.flow.observe import Observer
from cryptosvc.wiring.review import kept_files
from tests.fakes.ledger import FakeLedger
from tests.fakes.search import FakeSearch
from tests.govern_stand import Stand
from tests.query_stand import BEGAN, SECOND, TARGETS
from tests.store_stand import ORIGIN, SCOPE, SetClock

POLICIES = Path(__file__).resolve().parents[2] / "policies"
CERTIFICATE = b"a certificate"


def use(number: int, outcome: str = "signed", content: str = "gbcs-pre-command") -> tuple[dict, dict]:
    at = BEGAN + number * 40 * 86_400 * SECOND
    entry = {
        "kind": "use",
        "time": str(at),
        "operation": "sign",
        "content_kind": content,
        "key": "k1",
        "outcome": outcome,
        "module": "m1",
    }
    return entry, {"principal": f"c{number % 2}", "target": TARGETS[number % 3]}


def test_an_account_counts_uses_by_content_outcome_and_month():
    account = Account()
    for number in range(5):
        account.take(number, *use(number))
    account.take(5, *use(5, "unavailable", "duis-document"))
    told = account.document()
    assert told["uses"] == [
        {"operation": "sign", "content": "duis-document", "outcome": "unavailable", "count": 1},
        {"operation": "sign", "content": "gbcs-pre-command", "outcome": "signed", "count": 5},
    ]
    assert [one["month"] for one in told["uses_by_month"]] == sorted(
        {instant(BEGAN + number * 40 * 86_400 * SECOND)[:7] for number in range(6)}
    )
    assert told["callers"] == {"c0": 3, "c1": 3}
    assert (told["first_use"]["leaf_index"], told["last_use"]["leaf_index"]) == (0, 5)
    assert told["modules"] == ["m1"]
    assert told["keys"] == {"k1": 6}


def test_an_account_lists_every_refusal_and_every_change():
    account = Account()
    refusal = {
        "kind": "refusal",
        "time": str(BEGAN),
        "operation": "sign",
        "reason": "FORBIDDEN",
        "rule": "ceiling/purpose",
        "clause": "G2.60",
        "key": "k1",
    }
    account.take(3, refusal, {"principal": "c9"})
    change = {
        "kind": "key-record",
        "time": str(BEGAN),
        "key": "k1",
        "record_version": 2,
        "state": "active",
        "because": {"proposal": "p1"},
        "approvals": ["a", "b"],
    }
    for leaf_index in (4, 5):
        account.take(
            leaf_index, change, {"document": orjson.dumps({"certificate": CERTIFICATE.hex()}).decode()}
        )
    for broken in ("[]", "{", '{"certificate":"zz"}', '{"certificate":5}', '{"certificate":""}'):
        account.take(6, change, {"document": broken})
    told = account.document()
    assert told["refusals"] == [
        {
            "leaf_index": 3,
            "time": "2023-11-14T22:13:20.000Z",
            "operation": "sign",
            "reason": "FORBIDDEN",
            "rule": "ceiling/purpose",
            "clause": "G2.60",
            "caller": "c9",
        }
    ]
    assert told["changes"][0] == {
        "leaf_index": 4,
        "time": "2023-11-14T22:13:20.000Z",
        "kind": "key-record",
        "version": 2,
        "state": "active",
        "because": {"proposal": "p1"},
        "approvals": ["a", "b"],
    }
    assert told["certificates"] == [hashlib.sha256(CERTIFICATE).hexdigest()]
    assert told["first_use"] is None


def test_a_user_s_devices_are_counted_once_in_each_half_year():
    counts = UserCounts()
    for number in range(9):
        counts.take(*use(number))
    counts.take(*use(1, "unavailable"))
    counts.take({"kind": "read", "time": str(BEGAN)}, {"target": "x"})
    rows = counts.rows("u")
    assert [(row["half_year"], row["uses"], row["devices"]) for row in rows] == [
        ("2023-H2", 2, 2),
        ("2024-H1", 4, 3),
        ("2024-H2", 3, 3),
    ]
    assert rows[0]["by_content"] == {"gbcs-pre-command": 2}


@pytest.mark.parametrize(
    ("text", "half"), [("2024-06-30T23:59:59.999Z", "2024-H1"), ("2024-07-01T00:00:00.000Z", "2024-H2")]
)
def test_half_years_meet_at_midnight(text: str, half: str):
    at = 1_719_791_999_999_000_000 + (0 if half.endswith("1") else 1_000_000)
    assert (instant(at), half_year(at)) == (text, half)


def test_a_time_that_is_none_is_no_text():
    assert instant(0) == ""
    assert half_year(0) == ""


async def governed() -> tuple[Stand, list[Told]]:
    here = await Stand().begin()
    await here.active("key-1")
    await here.carry("key.suspend", "key-1", ("ben",))
    told = []
    for index, leaf in enumerate(here.ledger.leaves):
        beside = {name: value for name, (_, value) in orjson.loads(leaf.withheld or b"{}").items()}
        told.append(Told(index, orjson.loads(leaf.entry), beside))
    return here, told


async def test_the_approvals_behind_a_change_are_verified_again():
    _, told = await governed()
    change = next(one for one in told if one.entry.get("state") == "suspended")
    proposal_id = proposal_of(change)
    proposal = [one for one in told if one.entry.get("proposal") == proposal_id][-1]
    custodians = [one for one in told if one.entry["kind"] == "custodian-record"]
    rows = verified(proposal, custodians)
    assert [(row["custodian"], row["verdict"], row["act"]) for row in rows] == [
        ("ada", "verifies", "key.suspend"),
        ("ben", "verifies", "key.suspend"),
    ]
    document = retold(change, None, rows)
    assert document["approvals"] == rows
    assert document["policy_set"] == "this entry names no policy set"
    # somebody else's key in the register, nobody in it, and a signature that is another's
    ben = next(one for one in custodians if '"ben"' in one.beside["document"])
    ada = next(one for one in custodians if '"ada"' in one.beside["document"])
    key_of_ada = orjson.loads(ada.beside["document"])["key"]
    other = orjson.loads(ben.beside["document"]) | {"key": key_of_ada}
    forged = replace(ben, beside={**ben.beside, "document": canonical(other).decode()})
    assert verified(proposal, [ada, forged])[1]["verdict"] == "does not verify"
    assert verified(proposal, [ada])[1]["verdict"].startswith("no record of this custodian")
    removed = orjson.loads(ben.beside["document"]) | {"state": "removed"}
    gone = replace(ben, beside={**ben.beside, "document": canonical(removed).decode()})
    assert verified(proposal, [ada, gone])[1]["verdict"] == "was no custodian then"
    (row,) = verified(replace(proposal, beside={}), custodians)
    assert row["verdict"] == "its document was redacted"


def test_the_policy_set_that_is_kept_is_that_of_the_digest():
    files = kept_files(POLICIES)
    digest = parse_source({name: text.encode() for name, text in files.items()}).digest
    assert policy_set.digest_of(files) == digest
    kept = canonical(files).decode()
    assert policy_set.files_of(kept, digest) == files
    for broken in (kept.replace("permit", "forbid", 1), "[]", "{", '{"a":1}'):
        with pytest.raises(Corrupt) as caught:
            policy_set.files_of(broken, digest)
        assert caught.value.rule == "policy-set/digest"
    for rule in parse_source({name: text.encode() for name, text in files.items()}).rules.values():
        text = policy_set.policy_text(files, rule.rule_id)
        assert text.startswith(f'@id("{rule.rule_id}")')
        assert rule.text in text
        assert text.count("@id(") == 1
    assert policy_set.policy_text(files, "absent") == ""


async def test_a_policy_set_is_kept_once():
    files = {"a.cedar": '@id("one")\npermit(principal, action, resource);'}
    digest = policy_set.digest_of(files)
    ledger = FakeLedger(ORIGIN, SCOPE, SetClock())
    observer = Observer(ledger, SetClock())
    search = FakeSearch(ledger)
    assert await policy_sets.keep(search, observer, digest, files)
    assert not await policy_sets.keep(search, observer, digest, files)
    assert not await policy_sets.keep(search, observer, "0" * 64, files)
    entry, withheld = orjson.loads(ledger.leaves[-1].entry), orjson.loads(ledger.leaves[-1].withheld)
    assert (entry["kind"], entry["facts"]) == ("policy-set", {"policy_digest": digest})
    assert policy_set.files_of(withheld[policy_set.WITHHELD][1], digest) == files
    assert len(ledger.leaves) == 2
    use_of_it = Told(
        9, {"kind": "use", "policy_digest": digest, "policies": ["one"], "decision": "permit"}, {}
    )
    told = retold(use_of_it, files, [])
    assert told["policies"] == [{"id": "one", "text": files["a.cedar"]}]
    assert told["policy_set"] == "kept in the log; its 1 files have this digest"
    assert retold(use_of_it, None, [])["policy_set"].startswith("the policy set of this digest is not kept")
