"""Who may query what, and that every question and refusal is in the log."""

from dataclasses import replace

import orjson
import pytest

from cryptosvc.core.case import Principal
from cryptosvc.core.erased import is_alone
from cryptosvc.core.errors import Corrupt, Forbidden, Malformed
from cryptosvc.core.merkle import leaf_hash, root_of, verify_inclusion
from cryptosvc.core.names import CallerId, Eui64, UnixNanoseconds
from cryptosvc.core.query import Cursor, Query
from cryptosvc.core.record import Observed
from cryptosvc.flow.audit import Auditor
from cryptosvc.flow.query import Inquirer
from tests.claims import caller_record
from tests.fakes.ledger import FakeLedger
from tests.fakes.search import FakeSearch
from tests.query_stand import BEGAN, KEYS, TARGETS, USERS, entries, fill
from tests.store_stand import ORIGIN, SCOPE, SetClock

AUDITOR = Principal(
    caller=replace(caller_record(), caller_id=CallerId("auditor"), auditor=True), peer="ipv4:127.0.0.1:9"
)
OF_ONE = replace(AUDITOR, caller=replace(AUDITOR.caller, user_ids=frozenset({Eui64.parse(USERS[0])})))
CALLER = replace(AUDITOR, caller=replace(AUDITOR.caller, auditor=False))


async def stand(count: int = 60) -> tuple[Inquirer, FakeLedger]:
    clock = SetClock()
    ledger = FakeLedger(ORIGIN, SCOPE, clock)
    await fill(ledger, entries(count))
    return Inquirer(FakeSearch(ledger), ledger, clock), ledger


def last(ledger: FakeLedger) -> tuple[dict[str, object], dict[str, list[str]]]:
    leaf = ledger.leaves[-1]
    return orjson.loads(leaf.entry), orjson.loads(leaf.withheld)


async def test_a_question_is_recorded_and_names_nobody_in_the_open():
    inquirer, ledger = await stand()
    query = Query.of({"target": [TARGETS[1]]})
    page = await inquirer.page(AUDITOR, query, "", 10)
    entry, withheld = last(ledger)
    assert (entry["kind"], entry["operation"]) == ("read", "read-log")
    assert entry["facts"] == {"what": "query", "entries": str(len(page.entries)), "size": str(page.size)}
    assert TARGETS[1].encode() not in ledger.leaves[-1].entry
    assert orjson.loads(withheld["query"][1])["conditions"] == {"target": [TARGETS[1]]}
    assert withheld["principal"][1] == "auditor"


async def test_each_entry_found_is_proven_in_the_tree_that_was_asked_for():
    inquirer, ledger = await stand()
    page = await inquirer.page(AUDITOR, Query.of({"key": [KEYS[0]]}), "", 100, prove_in=40)
    hashes = [leaf_hash(leaf.entry) for leaf in ledger.leaves[:40]]
    inside = [one for one in page.entries if one.leaf_index < 40]
    assert page.proofs.keys() == {one.leaf_index for one in inside}
    assert len(page.entries) > len(inside) > 10
    for one in inside:
        verify_inclusion(
            leaf_hash(one.entry), one.leaf_index, 40, page.proofs[one.leaf_index], root_of(hashes)
        )
    with pytest.raises(Malformed):
        await inquirer.page(AUDITOR, Query.of({}), "", 1, prove_in=10**6)
    assert last(ledger)[0]["kind"] == "refusal"


async def test_who_is_no_auditor_is_refused_and_that_is_recorded():
    inquirer, ledger = await stand()
    with pytest.raises(Forbidden) as refused:
        await inquirer.page(CALLER, Query.of({}), "", 10)
    assert (refused.value.rule, refused.value.clause) == ("audit/not-auditor", "G2.26")
    assert last(ledger)[0]["rule"] == "audit/not-auditor"


async def test_a_cursor_of_another_question_is_refused_and_that_is_recorded():
    inquirer, ledger = await stand()
    page = await inquirer.page(AUDITOR, Query.of({}), "", 10)
    assert page.cursor is not None
    for cursor in (page.cursor.emit(), "x"):
        with pytest.raises(Malformed):
            await inquirer.page(AUDITOR, Query.of({"key": [KEYS[0]]}), cursor, 10)
        assert last(ledger)[0]["rule"] in {"query/cursor-of-other", "query/cursor"}


async def test_an_auditor_of_one_user_sees_that_one_only():
    inquirer, _ = await stand()
    page = await inquirer.page(OF_ONE, Query.of({}), "", 1000)
    assert page.entries
    assert {orjson.loads(one.withheld)["user_id"][1] for one in page.entries} == {USERS[0]}
    everything = await inquirer.page(AUDITOR, Query.of({"user": [USERS[0]]}), "", 1000)
    assert page.entries == everything.entries
    with pytest.raises(Forbidden) as refused:
        await inquirer.page(OF_ONE, Query.of({"user": [USERS[1]]}), "", 10)
    assert (refused.value.rule, refused.value.clause) == ("audit/other-user", "G5.28")
    with pytest.raises(Forbidden):
        await inquirer.page(OF_ONE, Query.of({"user": list(USERS)}), "", 10)


async def test_a_wider_cursor_opens_nothing_to_an_auditor_of_one_user():
    inquirer, _ = await stand()
    wide = await inquirer.page(AUDITOR, Query.of({}), "", 5)
    assert wide.cursor is not None
    with pytest.raises(Malformed):
        await inquirer.page(OF_ONE, Query.of({}), wide.cursor.emit(), 5)
    narrow = await inquirer.page(OF_ONE, Query.of({}), "", 5)
    assert narrow.cursor is not None
    moved = replace(narrow.cursor, at=narrow.cursor.size)
    again = await inquirer.page(OF_ONE, Query.of({}), moved.emit(), 5)
    assert again.entries == narrow.entries
    assert Cursor(narrow.digest, narrow.size, narrow.cursor.at) == narrow.cursor


async def test_an_entry_of_another_user_stays_closed_one_by_one_as_well():
    _, ledger = await stand()
    audit = Auditor(ledger, FakeSearch(ledger), SetClock())
    seen: dict[str, int] = {}
    for index, leaf in enumerate(ledger.leaves[1:], 1):
        user = orjson.loads(leaf.withheld).get("user_id", ["", "none"])[1]
        seen.setdefault(user, index)
    assert (await audit.entry(OF_ONE, seen[USERS[0]])).leaf_index == seen[USERS[0]]
    for hidden in (seen[USERS[1]], seen["none"], 0):
        with pytest.raises(Forbidden) as refused:
            await audit.entry(OF_ONE, hidden)
        assert refused.value.rule == "audit/other-user"
        assert (await audit.entry(AUDITOR, hidden)).leaf_index == hidden


async def test_a_page_gives_no_hash_out_where_nobody_deleted_the_entry():
    inquirer, ledger = await stand()
    size = len(ledger.leaves)
    ledger.erase(3)
    assert await inquirer.page(AUDITOR, Query.of({"kind": ["explain"]}), "", 5)
    with pytest.raises(Corrupt) as found:
        await inquirer.page(AUDITOR, Query.of({}, oldest_first=True), "", 5)
    assert found.value.rule == "export/erased"
    said = Observed(
        kind="archived",
        operation="archive",
        at=UnixNanoseconds(BEGAN),
        time_quality="synchronised",
        facts={"key": "p", "sha256": "00" * 32, "leaves": "3-4"},
    )
    await ledger.record([said])
    page = await inquirer.page(AUDITOR, Query.of({}, oldest_first=True), "", size)
    assert [is_alone(one.entry) for one in page.entries[:5]] == [False, False, False, True, False]
