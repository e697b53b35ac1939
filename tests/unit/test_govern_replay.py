"""Replay accepts what dual control did and refuses what it did not, each forgery by its name (G2.27, G5.13(b))."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from cryptosvc.core import statement as statements
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.errors import Corrupt
from cryptosvc.core.life import DAY
from cryptosvc.core.record import Because
from cryptosvc.core.registry import caller_document, key_document
from cryptosvc.core.replay import Change, expired, replayed
from tests.claims import caller_record, key_record
from tests.govern_stand import HANDS_IN, Stand
from tests.governance import NOW, person

Changes = list[Change]


async def history() -> Stand:
    """A key ordered, generated, activated and suspended; a proposal withdrawn."""
    here = await Stand().begin()
    await here.active("key-1")
    await here.carry("key.suspend", "key-1", ("ben",))
    statement = here.statement("key.resume", "key-1")
    await here.propose(statement)
    proposal_id = statements.proposal_id(statement)
    await here.governor.withdraw(HANDS_IN, proposal_id, here.person("ada").withdraw(proposal_id, "no"), "no")
    return here


async def test_what_happened_is_derived_again():
    here = await history()
    replay = here.replay()
    assert replay.records == here.ledger.records
    assert replay.governed == 4


def at(changes: Changes, kind: str, state: str, number: int = -1) -> int:
    """Place of the change of a kind that leads to a state, the last of them."""
    return [i for i, one in enumerate(changes) if (one.kind, one.document.get("state")) == (kind, state)][
        number
    ]


def with_document(changes: Changes, place: int, **fields: JsonValue) -> Changes:
    """The changes with fields of one document edited, as a database administrator would."""
    edited = replace(changes[place], document={**changes[place].document, **fields})
    return [*changes[:place], edited, *changes[place + 1 :]]


def suspended_stays_active(changes: Changes) -> Changes:
    return with_document(changes, at(changes, "key-record", "suspended"), state="active")


def activated_for_longer(changes: Changes) -> Changes:
    place = at(changes, "key-record", "active")
    life = changes[place].document["life"]
    assert isinstance(life, Mapping)
    return with_document(changes, place, life={**life, "usage_limit": 7})


def another_public_key(changes: Changes) -> Changes:
    place = at(changes, "key-record", "active")
    return with_document(changes, place, public_point="04" + "11" * 64)


def approvals_dropped(changes: Changes) -> Changes:
    place = at(changes, "proposal-record", "done")
    endorsements = changes[place].document["endorsements"]
    assert isinstance(endorsements, list)
    return with_document(changes, place, endorsements=endorsements[:1])


def never_approved(changes: Changes) -> Changes:
    """The approvals and the versions of the proposal that brought them are left out altogether."""
    done = changes[at(changes, "proposal-record", "done")]
    endorsements = done.document["endorsements"]
    assert isinstance(endorsements, list)
    mine = [one for one in changes if one.document.get("proposal_id") == done.document["proposal_id"]]
    cut = replace(done, document={**done.document, "version": 2, "endorsements": endorsements[:1]})
    return [cut if one is done else one for one in changes if one not in mine[1:-1]]


def signature_forged(changes: Changes) -> Changes:
    place = at(changes, "proposal-record", "open", 0)
    (first,) = changes[place].document["endorsements"]  # type: ignore[misc,union-attr]  # a list of one
    forged = {**first, "signature": "3006020101020101"}  # type: ignore[dict-item]  # an object
    return with_document(changes, place, endorsements=[forged])


def expired_long_ago(changes: Changes) -> Changes:
    place = at(changes, "proposal-record", "done")
    late = replace(changes[place], at=changes[place].at + DAY)
    return [*changes[:place], late, *changes[place + 1 :]]


def carried_out_twice(changes: Changes) -> Changes:
    return [*changes, changes[at(changes, "key-record", "suspended")]]


def record_left_out(changes: Changes) -> Changes:
    place = at(changes, "key-record", "suspended")
    return [*changes[:place], *changes[place + 1 :]]


def proposal_left_out(changes: Changes) -> Changes:
    place = at(changes, "proposal-record", "done")
    return [*changes[:place], *changes[place + 1 :]]


def reasonless(changes: Changes) -> Changes:
    place = at(changes, "key-record", "suspended")
    return [*changes[:place], replace(changes[place], reason="custom"), *changes[place + 1 :]]


def by_a_rule(changes: Changes) -> Changes:
    place = at(changes, "key-record", "suspended")
    ruled = replace(changes[place], reason="rule", reference="schedule/crypto-period")
    return [*changes[:place], ruled, *changes[place + 1 :]]


def by_the_genesis(changes: Changes) -> Changes:
    document = caller_document(caller_record())
    return [*changes, replace(changes[0], kind="caller-record", document=document)]


def withdrawn_by_nobody(changes: Changes) -> Changes:
    return with_document(changes, at(changes, "proposal-record", "withdrawn"), withdrawal=None)


def reopened(changes: Changes) -> Changes:
    return with_document(changes, at(changes, "proposal-record", "withdrawn"), state="executing")


def no_document(changes: Changes) -> Changes:
    return with_document(changes, at(changes, "key-record", "suspended"), more="yes")


@pytest.mark.parametrize(
    ("forge", "rule"),
    [
        (suspended_stays_active, "record"),
        (activated_for_longer, "record"),
        (another_public_key, "record"),
        (approvals_dropped, "endorsements"),
        (never_approved, "quorum"),
        (signature_forged, "signature"),
        (expired_long_ago, "expired"),
        (carried_out_twice, "proposal"),
        (record_left_out, "record-missing"),
        (proposal_left_out, "proposal"),
        (reasonless, "no-reason"),
        (by_a_rule, "rule"),
        (by_the_genesis, "genesis"),
        (withdrawn_by_nobody, "withdrawal"),
        (reopened, "quorum"),
        (no_document, "document"),
    ],
)
async def test_a_forged_history_is_refused_by_name(forge: Callable[[Changes], Changes], rule: str):
    here = await history()
    with pytest.raises(Corrupt) as refused:
        here.replay(forge(here.changes()))
    assert refused.value.rule == f"replay/{rule}"


async def test_the_shortcut_stands_in_test_and_not_in_live():
    here = await Stand().begin()
    record = key_record()
    await here.keys.change([record])
    changes = here.changes()
    assert changes[-1].document == key_document(record)
    assert here.replay().records["key-record", record.key_id] == record
    named = {(one.kind, str(one.document["custodian_id"])): one.document for one in changes[:-1]}
    with pytest.raises(Corrupt) as refused:
        replayed(changes, "live", named)
    assert refused.value.rule == "replay/init-in-live"


async def test_a_signer_who_was_registered_later_did_not_sign_then():
    here = await Stand().begin()
    fay = person("fay")
    late = replace(here.person("ada"), record=fay.record)
    statement = replace(here.statement("key.order", "key-1"), proposed_by="fay")
    assert late.record.custodian_id == "fay"
    here.ledger.records["custodian-record", "fay"] = fay.record
    with pytest.raises(Exception, match="needs 'class'"):
        await here.governor.propose(HANDS_IN, statements.emit(statement), fay.endorse(statement))
    await here.active("key-1")
    statement = here.statement("key.suspend", "key-1", proposer="fay")
    await here.governor.propose(HANDS_IN, statements.emit(statement), fay.endorse(statement))
    with pytest.raises(Corrupt) as refused:
        here.replay()
    assert refused.value.rule == "replay/custodian"


async def test_an_expiry_is_a_rule_and_comes_no_earlier_than_its_date():
    here = await Stand().begin()
    await here.active("key-1")
    statement = here.statement("key.suspend", "key-1")
    opened = await here.propose(statement)
    here.later(DAY)
    over = expired(opened)
    await here.keys.change([over], Because("rule", "schedule/proposal-expiry"))
    assert here.replay().records == here.ledger.records
    changes = here.changes()
    early = [*changes[:-1], replace(changes[-1], at=NOW)]
    with pytest.raises(Corrupt) as refused:
        here.replay(early)
    assert refused.value.rule == "replay/rule"
