"""Who may approve, what an approval is good for, and what becomes of it: attacks on dual control, one by one.

Covers SEC G4.7, G4.8, G2.22B(d), G5.13(b); design section 8: bound to the exact statement, policies and end, consumed
once, nobody approves their own proposal.
"""

from dataclasses import replace

import pytest

from cryptosvc.core import statement as statements
from cryptosvc.core.custodian import CustodianRole, CustodianState, Privilege
from cryptosvc.core.errors import AwaitingApproval, Conflict, Forbidden, Malformed, Refusal, WrongState
from cryptosvc.core.life import DAY
from cryptosvc.core.names import Environment, SystemName
from cryptosvc.core.proposal import ProposalState
from cryptosvc.core.record import Because
from cryptosvc.core.registry import KeyState
from cryptosvc.core.statement import Statement
from cryptosvc.flow.govern import Governor
from tests.govern_stand import HANDS_IN, ORDER, STRANGER, Stand
from tests.governance import GOVERNANCE, NOW, Person, Room, person


async def ordering(here: Stand) -> Statement:
    """A proposal to order a key, by Ada."""
    statement = here.statement("key.order", "key-1", **ORDER)
    await here.propose(statement)
    return statement


async def refused_approval(here: Stand, statement: Statement, envelope: bytes) -> Refusal:
    """What an approval is refused with; the proposal stays as it was."""
    before = here.proposal(statements.proposal_id(statement))
    with pytest.raises(Refusal) as refused:
        await here.governor.approve(HANDS_IN, before.proposal_id, envelope)
    assert here.proposal(before.proposal_id) == before
    return refused.value


async def refused_statement(here: Stand, statement: Statement, rule: str) -> None:
    """Whoever proposes it is refused, and nothing is kept."""
    with pytest.raises(Refusal) as refused:
        await here.propose(statement)
    assert refused.value.rule == rule
    assert not [name for name in here.ledger.records if name[0] == "proposal-record"]


async def test_an_act_awaits_its_approvals_and_says_how_many_of_which_roles():
    here = await Stand().begin()
    statement = await ordering(here)
    proposal_id = statements.proposal_id(statement)
    with pytest.raises(AwaitingApproval) as awaited:
        await here.governor.execute(HANDS_IN, proposal_id)
    assert awaited.value.message.startswith("0 of 2 approvals by key-custodian")
    await here.approve(statement, "ben")
    with pytest.raises(AwaitingApproval) as awaited:
        await here.governor.execute(HANDS_IN, proposal_id)
    assert awaited.value.message.startswith("1 of 2 approvals by key-custodian")
    assert awaited.value.clause == "G5.13(b)"
    await here.approve(statement, "cat")
    await here.governor.execute(HANDS_IN, proposal_id)
    assert here.key("key-1").state is KeyState.ORDERED


async def test_a_root_key_needs_three_whatever_the_policy_says():
    here = await Stand().begin()
    root = {**ORDER, "class": "root-oca"}
    proposal_id = await here.approved("key.order", "root", ("ben", "cat"), **root)
    with pytest.raises(AwaitingApproval) as awaited:
        await here.governor.execute(HANDS_IN, proposal_id)
    assert awaited.value.message.startswith("2 of 3 approvals")


async def test_nobody_approves_their_own_proposal():
    here = await Stand().begin()
    statement = await ordering(here)
    refusal = await refused_approval(here, statement, here.person("ada").endorse(statement))
    assert refusal.rule == "quorum/self-approval"


def same_person(name: str, as_who: Person) -> Person:
    """A second id with a second key, of one person."""
    twin = person(name)
    return Person(replace(twin.record, person=as_who.record.person), twin.key)


async def test_a_second_id_and_key_of_the_proposer_does_not_approve():
    room = Room()
    twin = same_person("ada-2", room.people["ada"])
    here = await Stand(room=replace(room, people={**room.people, "ada-2": twin})).begin()
    statement = await ordering(here)
    refusal = await refused_approval(here, statement, twin.endorse(statement))
    assert refusal.rule == "quorum/self-approval"


async def test_a_person_with_two_ids_counts_once():
    room = Room()
    twin = same_person("ben-2", room.people["ben"])
    here = await Stand(room=replace(room, people={**room.people, "ben-2": twin})).begin()
    statement = await ordering(here)
    await here.approve(statement, "ben")
    refusal = await refused_approval(here, statement, twin.endorse(statement))
    assert refusal.rule == "quorum/approved-before"
    # even where the second signature is in the record already, as if the check above had not been there
    found = here.proposal(statements.proposal_id(statement))
    ben = found.endorsements[1]
    both = replace(found, version=found.version + 1, endorsements=(*found.endorsements, ben))
    await here.keys.change([both], Because("proposal", found.proposal_id))
    with pytest.raises(AwaitingApproval):
        await here.governor.execute(HANDS_IN, found.proposal_id)


async def test_an_approval_is_good_for_its_own_statement_alone():
    here = await Stand().begin()
    statement = await ordering(here)
    other = here.statement("key.order", "key-2", **ORDER)
    refusal = await refused_approval(here, statement, here.person("ben").endorse(other))
    assert refusal.rule == "quorum/other-statement"
    once_more = replace(statement, nonce="0" * 32)
    refusal = await refused_approval(here, statement, here.person("ben").endorse(once_more))
    assert refusal.rule == "quorum/other-statement"


async def test_a_withdrawals_signature_is_no_approval_and_an_approvals_no_withdrawal():
    here = await Stand().begin()
    statement = await ordering(here)
    proposal_id = statements.proposal_id(statement)
    refusal = await refused_approval(here, statement, here.person("ben").withdraw(proposal_id, "no"))
    assert refusal.rule == "quorum/other-statement"
    with pytest.raises(Forbidden) as refused:
        await here.governor.withdraw(HANDS_IN, proposal_id, here.person("ada").endorse(statement), "no")
    assert refused.value.rule == "quorum/other-statement"


async def test_a_forged_signature_and_a_stranger_do_not_approve():
    here = await Stand().begin()
    statement = await ordering(here)
    impostor = Person(here.person("ben").record, person("mallory").key)
    assert (await refused_approval(here, statement, impostor.endorse(statement))).rule == "dsse/signature"
    stranger = person("mallory")
    assert (await refused_approval(here, statement, stranger.endorse(statement))).rule == "dsse/unknown-key"
    assert isinstance(await refused_approval(here, statement, b"{}"), Malformed)


async def test_an_expired_proposal_is_neither_approved_nor_carried_out():
    here = await Stand().begin()
    statement = await ordering(here)
    for name in ("ben", "cat"):
        await here.approve(statement, name)
    here.later(DAY)
    refusal = await refused_approval(here, statement, here.person("dan").endorse(statement))
    assert refusal.rule == "statement/expired"
    with pytest.raises(Forbidden) as refused:
        await here.governor.execute(HANDS_IN, statements.proposal_id(statement))
    assert refused.value.rule == "statement/expired"


async def test_a_second_before_its_end_it_is_carried_out():
    here = await Stand().begin()
    statement = await ordering(here)
    for name in ("ben", "cat"):
        await here.approve(statement, name)
    here.later(DAY - 1)
    await here.governor.execute(HANDS_IN, statements.proposal_id(statement))
    assert here.key("key-1").state is KeyState.ORDERED


async def test_under_other_policies_nothing_that_was_signed_before_counts():
    here = await Stand().begin()
    statement = await ordering(here)
    await here.approve(statement, "ben")
    await here.approve(statement, "cat")
    newer = here.another(policy_digest="cd" * 32)
    proposal_id = statements.proposal_id(statement)
    for walk in (
        newer.approve(HANDS_IN, proposal_id, here.person("dan").endorse(statement)),
        newer.execute(HANDS_IN, proposal_id),
    ):
        with pytest.raises(Forbidden) as refused:
            await walk
        assert refused.value.rule == "statement/policies"


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"system": SystemName("other")}, "statement/other-deployment"),
        ({"environment": Environment.LIVE}, "statement/other-deployment"),
        ({"origin": "example.test/other"}, "statement/other-deployment"),
        ({"policy_digest": "cd" * 32}, "statement/policies"),
        ({"proposed_at": NOW - 60, "expires_at": NOW}, "statement/expired"),
        ({"proposed_at": NOW + 1}, "statement/not-yet"),
        ({"expires_at": NOW + 15 * DAY}, "statement/too-long"),
        ({"clause": "G4.7"}, "statement/clause"),
        ({"subject_version": 1}, "statement/version"),
        ({"act": "key.steal"}, "statement/act"),
        ({"parameters": {**ORDER, "more": "yes"}}, "statement/parameters"),
        ({"parameters": {"class": "command-signing"}}, "statement/parameters"),
        ({"parameters": {**ORDER, "role": "2"}}, "statement/parameters"),
        ({"parameters": {**ORDER, "role": 7}}, "statement/role"),
        ({"proposed_by": "ben"}, "quorum/proposer"),
    ],
)
async def test_a_statement_that_is_not_for_here_and_now_is_not_proposed(changes, rule):
    here = await Stand().begin()
    statement = replace(here.statement("key.order", "key-1", **ORDER), **changes)
    envelope = here.person("ada").endorse(statement)
    with pytest.raises(Refusal) as refused:
        await here.governor.propose(HANDS_IN, statements.emit(statement), envelope)
    assert refused.value.rule == rule
    assert not [name for name in here.ledger.records if name[0] == "proposal-record"]


@pytest.mark.parametrize(("ahead", "refused"), [(30, False), (31, True)])
async def test_a_statement_may_begin_as_far_ahead_as_two_clocks_may_be_apart(ahead, refused):
    """Whoever proposes has another clock; its end is by the clock of the service, to the second."""
    here = await Stand(governance=replace(GOVERNANCE, clock_tolerance_seconds=30)).begin()
    begins = replace(
        here.statement("key.order", "key-1", **ORDER), proposed_at=NOW + ahead, expires_at=NOW + DAY
    )
    if refused:
        with pytest.raises(Forbidden, match=r"31 seconds from now, and 30 are tolerated") as found:
            await here.propose(begins)
        assert found.value.rule == "statement/not-yet"
        return
    await here.propose(begins)
    for name in ("ben", "cat"):
        await here.approve(begins, name)
    await here.governor.execute(HANDS_IN, statements.proposal_id(begins))
    assert here.key("key-1").state is KeyState.ORDERED
    assert here.replay().records == here.ledger.records
    late = replace(begins, subject="key-2", nonce="ff" * 16, expires_at=NOW + 40)
    await here.propose(late)
    here.later(40)
    with pytest.raises(Forbidden) as found:
        await here.approve(late, "ben")
    assert found.value.rule == "statement/expired"


async def test_a_statement_is_proposed_once_and_carried_out_once():
    here = await Stand().begin()
    statement = await ordering(here)
    with pytest.raises(Conflict) as refused:
        await here.propose(statement)
    assert refused.value.rule == "proposal/repeated"
    await here.approve(statement, "ben")
    await here.approve(statement, "cat")
    await here.governor.execute(HANDS_IN, statements.proposal_id(statement))
    with pytest.raises(Conflict) as refused:
        await here.governor.execute(HANDS_IN, statements.proposal_id(statement))
    assert refused.value.rule == "proposal/not-open"
    with pytest.raises(Conflict) as refused:
        await here.propose(statement)
    assert refused.value.rule == "statement/version"


async def test_two_workers_that_carry_it_out_at_once_carry_it_out_once():
    here = await Stand().begin()
    first = await here.approved("key.order", "key-1", **ORDER)
    # the second reads the proposal before the first has written it
    stale = here.proposal(first)
    await here.governor.execute(HANDS_IN, first)
    records = here.keys.record

    async def old(kind: str, wanted: str) -> object:
        return (
            stale
            if kind == "proposal-record"
            else None
            if kind == "key-record"
            else await records(kind, wanted)
        )

    here.keys.record = old  # type: ignore[method-assign]  # a read that is behind
    with pytest.raises(Conflict) as refused:
        await here.another().execute(HANDS_IN, first)
    assert refused.value.rule == "registry/version"
    assert here.replay().governed == 1


async def test_of_two_proposals_on_one_version_the_second_has_to_be_signed_again():
    here = await Stand().begin()
    await here.active("key-1")
    suspend = await here.approved("key.suspend", "key-1", ("ben",))
    deactivate = await here.approved("key.deactivate", "key-1")
    await here.governor.execute(HANDS_IN, suspend)
    with pytest.raises(Conflict) as refused:
        await here.governor.execute(HANDS_IN, deactivate)
    assert refused.value.rule == "statement/version"
    assert here.key("key-1").state is KeyState.SUSPENDED


async def test_withdrawn_by_who_signed_it_and_by_nobody_else():
    here = await Stand().begin()
    statement = await ordering(here)
    proposal_id = statements.proposal_id(statement)
    await here.approve(statement, "ben")
    with pytest.raises(Forbidden) as refused:
        await here.governor.withdraw(
            HANDS_IN, proposal_id, here.person("dan").withdraw(proposal_id, "no"), "no"
        )
    assert refused.value.rule == "quorum/withdrawal"
    with pytest.raises(Forbidden) as refused:
        await here.governor.withdraw(
            HANDS_IN, proposal_id, here.person("ben").withdraw(proposal_id, "no"), "other"
        )
    assert refused.value.rule == "quorum/other-statement"
    found = await here.governor.withdraw(
        HANDS_IN, proposal_id, here.person("ben").withdraw(proposal_id, "typo"), "typo"
    )
    assert (found.state, found.ended_on, dict(found.outcome)) == (
        ProposalState.WITHDRAWN,
        NOW,
        {"reason": "typo"},
    )
    for walk in (
        here.governor.approve(HANDS_IN, proposal_id, here.person("cat").endorse(statement)),
        here.governor.execute(HANDS_IN, proposal_id),
    ):
        with pytest.raises(Conflict) as conflict:
            await walk
        assert conflict.value.rule == "proposal/not-open"
    assert here.replay().records == here.ledger.records


def lapsed(name: str, **changes: object) -> Room:
    """A room in which one custodian's record says something else."""
    room = Room()
    one = room.people[name]
    changed = Person(replace(one.record, **changes), one.key)  # type: ignore[arg-type]  # a test's keywords
    return replace(room, people={**room.people, name: changed})


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"security_check_on": None}, "custody/security-check"),
        ({"clearance_reviewed_on": NOW - 366 * DAY}, "custody/clearance"),
        ({"clearance": ""}, "custody/clearance"),
        ({"screening_standard": "a friend's word"}, "custody/screening"),
        ({"privileges": (Privilege(SystemName("other"), NOW - DAY, None),)}, "custody/not-privileged"),
        ({"privileges": ()}, "custody/not-privileged"),
        ({"state": CustodianState.REMOVED}, "dsse/unknown-key"),
    ],
)
async def test_who_may_not_be_a_custodian_approves_and_proposes_nothing(changes, rule):
    here = await Stand(room=lapsed("ben", **changes)).begin()
    statement = await ordering(here)
    assert (await refused_approval(here, statement, here.person("ben").endorse(statement))).rule == rule
    mine = here.statement("key.order", "key-2", proposer="ben", **ORDER)
    with pytest.raises(Forbidden) as refused:
        await here.propose(mine)
    assert refused.value.rule == rule


async def test_a_role_that_does_not_count_does_not_count():
    here = await Stand(room=lapsed("ben", roles=frozenset({CustodianRole.WITNESS}))).begin()
    proposal_id = await here.approved("key.order", "key-1", ("ben", "cat"), **ORDER)
    with pytest.raises(AwaitingApproval) as awaited:
        await here.governor.execute(HANDS_IN, proposal_id)
    assert awaited.value.message.startswith("1 of 2")


async def test_an_approval_lapses_with_the_clearance_of_who_gave_it():
    room = lapsed("ben", clearance_reviewed_on=NOW - 365 * DAY + 3600)
    here = await Stand(room=room).begin()
    proposal_id = await here.approved("key.order", "key-1", **ORDER)
    here.later(7200)
    with pytest.raises(AwaitingApproval) as awaited:
        await here.governor.execute(HANDS_IN, proposal_id)
    assert awaited.value.message.startswith("1 of 2")


async def test_a_proposer_who_is_removed_meanwhile_takes_the_proposal_along():
    here = await Stand().begin()
    proposal_id = await here.approved("key.order", "key-1", **ORDER)
    statement = here.statement("custodian.remove", "ada", proposer="dan")
    await here.propose(statement)
    await here.approve(statement, "ben")
    await here.approve(statement, "cat")
    await here.governor.execute(HANDS_IN, statements.proposal_id(statement))
    with pytest.raises(Forbidden) as refused:
        await here.governor.execute(HANDS_IN, proposal_id)
    assert refused.value.rule == "quorum/proposer"


async def test_what_no_row_covers_nobody_approves():
    here = Stand()
    here.governance = replace(here.governance, rows=here.governance.rows[:3])
    here.setting = replace(here.setting, governance=here.governance)
    here.governor = here.another()
    await here.begin()
    await refused_statement(here, here.statement("caller.revoke", "caller-1"), "quorum/no-rule")


async def test_an_act_the_state_does_not_allow_is_refused_when_it_is_proposed():
    here = await Stand().begin()
    await here.ordered("key-1")
    with pytest.raises(WrongState) as refused:
        await here.propose(here.statement("key.resume", "key-1"))
    assert refused.value.rule == "lifecycle/event"


async def test_a_caller_without_the_grant_hands_in_nothing_and_is_recorded():
    here = await Stand().begin()
    statement = here.statement("key.order", "key-1", **ORDER)
    octets, envelope = statements.emit(statement), here.person("ada").endorse(statement)
    size = len(here.ledger.leaves)
    with pytest.raises(Forbidden) as refused:
        await here.governor.propose(STRANGER, octets, envelope)
    assert refused.value.rule == "caller/not-granted"
    assert len(here.ledger.leaves) == size + 1
    assert b'"refusal"' in here.ledger.leaves[-1].entry
    assert b"caller/not-granted" in here.ledger.leaves[-1].entry


async def test_reads_are_recorded_and_newest_come_first():
    here = await Stand().begin()
    first = await ordering(here)
    here.later(60)
    second = here.statement("key.order", "key-2", **ORDER)
    await here.propose(second)
    found = await here.governor.proposals(HANDS_IN)
    assert [one.statement.subject for one in found] == ["key-2", "key-1"]
    one = await here.governor.proposal(HANDS_IN, statements.proposal_id(first))
    assert one.statement == first
    assert b"read-proposal" in here.ledger.leaves[-1].entry
    with pytest.raises(Malformed) as refused:
        await here.governor.proposal(HANDS_IN, "0" * 64)
    assert refused.value.rule == "proposal/unknown"
    assert isinstance(here.governor, Governor)


async def test_a_custodian_removed_while_it_is_decided_does_not_count():
    """Between the look at the register and the transaction another worker removes an approver."""
    here = await Stand().begin()
    await here.carry("key.order", "k", **ORDER)
    proposal = await here.approved("key.label", "k", ("ben", "cat"), label="new")
    removal = await here.approved("custodian.remove", "ben", ("dan", "eve"))
    another, looked = here.another(), here.keys.of_kind

    async def slowly(kind: str) -> object:
        found = await looked(kind)
        here.keys.of_kind = looked  # once
        await another.execute(HANDS_IN, removal)
        return found

    here.keys.of_kind = slowly
    with pytest.raises(AwaitingApproval):
        await here.governor.execute(HANDS_IN, proposal)
    assert here.key("k").asset.label != "new"
    here.replay()
