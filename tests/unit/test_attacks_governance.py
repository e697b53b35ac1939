"""Attacks on dual control by who holds the log's keys, the database, or one custodian's key; each is found or refused."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cryptosvc.cli.said import said
from cryptosvc.core import custody, dsse
from cryptosvc.core import statement as statements
from cryptosvc.core.acts.base import Turn
from cryptosvc.core.acts.table import act as act_named
from cryptosvc.core.custodian import CustodianRecord, CustodianRole, Privilege, custodian_document
from cryptosvc.core.errors import (
    AwaitingApproval,
    Busy,
    Corrupt,
    CryptosvcError,
    Forbidden,
    Malformed,
    WrongState,
)
from cryptosvc.core.life import DAY
from cryptosvc.core.names import SystemName
from cryptosvc.core.proposal import Endorsement, ProposalState
from cryptosvc.core.record import Because
from cryptosvc.core.registry import KeyRecord, caller_document
from cryptosvc.flow import setting
from tests.claims import caller_record
from tests.fakes.vault import FakeVault
from tests.govern_stand import HANDS_IN, ORDER, Stand
from tests.governance import GOVERNANCE, NOW, SYSTEM


def custodian(here: Stand, name: str) -> CustodianRecord:
    found = here.ledger.records["custodian-record", name]
    assert isinstance(found, CustodianRecord)
    return found


async def force(here: Stand, proposal_id: str, people: str = "1") -> None:
    """The holder of database and log keys writes the end of a proposal without the service's judgement."""
    found = here.proposal(proposal_id)
    act = act_named(found.statement.act)
    records = await here.governor._about(act, found.statement)
    now = here.room.now
    after = act.after(Turn(statement=found.statement, at=now, records=records))
    outcome = (("needed_people", people), ("needed_roles", "key-custodian"))
    done = replace(found, version=found.version + 1, state=ProposalState.DONE, ended_on=now, outcome=outcome)
    approvals = tuple(sorted(one.key_id for one in found.endorsements[1:]))
    await here.keys.change([done, *after], Because("proposal", proposal_id, approvals))


async def active() -> Stand:
    here = await Stand().begin()
    await here.active("key-1")
    return here


async def test_the_approval_of_somebody_removed_since_counts_neither_here_nor_in_a_replay():
    here = await active()
    proposal = await here.approved("key.suspend", "key-1", ("ben",))
    await here.carry("custodian.remove", "ben", ("cat", "dan"))
    with pytest.raises(AwaitingApproval):
        await here.governor.execute(HANDS_IN, proposal)
    await force(here, proposal)
    with pytest.raises(Corrupt) as found:
        here.replay()
    assert found.value.rule == "replay/quorum"


async def test_somebody_removed_signs_nothing_new():
    here = await active()
    statement = here.statement("key.suspend", "key-1")
    await here.propose(statement)
    await here.carry("custodian.remove", "ben", ("cat", "dan"))
    proposal = statements.proposal_id(statement)
    signature = dsse.parse(here.person("ben").endorse(statement)).signatures[0]
    more = Endorsement("ben", signature.key_id, signature.signature, here.room.now)
    record = here.proposal(proposal)
    await here.keys.change(
        [replace(record, version=2, endorsements=(*record.endorsements, more))],
        Because("proposal", proposal),
    )
    with pytest.raises(Corrupt) as found:
        here.replay()
    assert found.value.rule == "replay/custodian"


async def test_the_approval_of_a_key_that_was_replaced_counts_no_more():
    here = await active()
    proposal = await here.approved("key.suspend", "key-1", ("ben",))
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    spki = other.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ben = custodian(here, "ben")
    changed = custodian_document(replace(ben, version=ben.version + 1, key=spki))
    await here.carry("custodian.change", "ben", ("cat", "dan"), record=changed)
    with pytest.raises(AwaitingApproval):
        await here.governor.execute(HANDS_IN, proposal)
    await force(here, proposal)
    with pytest.raises(Corrupt) as found:
        here.replay()
    assert found.value.rule == "replay/quorum"


class SlowVault(FakeVault):
    """Something happens while the module works."""

    meanwhile = None

    async def generate(self, key: KeyRecord):
        if self.meanwhile is not None:
            doing, self.meanwhile = self.meanwhile, None
            await doing()
        return await super().generate(key)


async def test_an_honest_act_stands_whatever_becomes_of_an_approver_while_the_module_works():
    vault = SlowVault()
    here = await Stand(vault=vault).begin()
    await here.carry("key.order", "key-1", ("ben", "cat", "dan"), **ORDER)

    async def loses_role() -> None:
        ben = custodian(here, "ben")
        changed = replace(ben, version=ben.version + 1, roles=frozenset({CustodianRole.AUDITOR}))
        await here.carry("custodian.change", "ben", ("cat", "dan"), record=custodian_document(changed))

    vault.meanwhile = loses_role
    await here.carry("key.generate", "key-1", ("ben", "cat"))
    assert here.key("key-1").public_point
    assert here.replay().records == here.ledger.records


@pytest.mark.parametrize("people", ["9" * 5000, "", "-1", "²"])
async def test_a_quorum_that_is_no_number_is_found(people: str):
    here = await active()
    proposal = await here.approved("key.suspend", "key-1", ("ben",))
    await force(here, proposal, people)
    with pytest.raises(Corrupt) as found:
        here.replay()
    assert found.value.rule == "replay/quorum"


async def test_registering_replaces_nobody_and_changing_makes_nobody():
    here = await Stand().begin()
    caller = replace(caller_record(), system=SYSTEM, certificate_sha256=b"\x01" * 32)
    with pytest.raises(WrongState):
        await here.carry("caller.change", caller.caller_id, record=caller_document(caller))
    await here.carry("caller.register", caller.caller_id, record=caller_document(caller))
    again = caller_document(replace(caller, version=2, auditor=True))
    with pytest.raises(WrongState) as refused:
        await here.carry("caller.register", caller.caller_id, record=again)
    assert refused.value.rule == "statement/act"
    ben = custodian(here, "ben")
    with pytest.raises(WrongState):
        await here.carry(
            "custodian.register", "ben", record=custodian_document(replace(ben, version=ben.version + 1))
        )


@pytest.mark.parametrize("certificate", [bytes(32), b"", b"\x01" * 3, b"\x01" * 33])
async def test_a_caller_is_known_by_a_certificate(certificate: bytes):
    here = await Stand().begin()
    caller = replace(caller_record(), system=SYSTEM, certificate_sha256=certificate)
    with pytest.raises(Malformed):
        await here.carry("caller.register", caller.caller_id, record=caller_document(caller))


async def test_the_services_own_caller_is_nobodys_to_change_or_revoke():
    own = replace(caller_record(), system=SYSTEM)
    here = await Stand(records=(own,)).begin()
    taken = caller_document(replace(own, version=2, certificate_sha256=b"\x01" * 32))
    with pytest.raises(Malformed):
        await here.carry("caller.change", own.caller_id, record=taken)
    with pytest.raises(Malformed):
        await here.carry("caller.revoke", own.caller_id)


@pytest.mark.parametrize("name", ["Ben\x1b[2J", "Ben\u202eneB", "Ben\nand nobody else"])
async def test_what_a_terminal_would_obey_reaches_nobody(name: str):
    here = await Stand().begin()
    ben = custodian(here, "ben")
    document = custodian_document(replace(ben, version=ben.version + 1, name=name))
    with pytest.raises(Malformed):
        await here.carry("custodian.change", "ben", ("cat", "dan"), record=document)
    statement = replace(here.statement("custodian.change", "ben", record=document), origin=f"a{name}")
    lines = list(said(statement, None))
    assert all(line.isprintable() for line in lines)
    assert any("<U+" in line for line in lines)


async def test_open_proposals_are_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(setting, "OPEN_OF_ONE", 3)
    here = await active()
    for _ in range(3):
        await here.propose(here.statement("key.suspend", "key-1"))
    with pytest.raises(Busy) as refused:
        await here.propose(here.statement("key.suspend", "key-1"))
    assert refused.value.rule == "proposal/too-many"
    await here.propose(here.statement("key.suspend", "key-1", proposer="ben"))


def test_an_end_before_its_beginning_shortens_no_cooling_off():
    here = SystemName("dcc-other")
    first = Privilege(SYSTEM, NOW, custody.UnixSeconds(1))
    later = custody.UnixSeconds(NOW + 86_400)
    record = replace(Stand().person("ben").record, privileges=(first, Privilege(here, later, None)))
    rules = custody.Rules(relevant=frozenset({tuple(sorted((SYSTEM, here)))}))
    with pytest.raises(CryptosvcError) as refused:
        custody.require_may_be_registered(record, [], rules)
    assert refused.value.rule == "custody/six-months"


async def test_what_was_signed_for_a_deployment_of_the_same_names_is_not_carried_out_in_the_next_one():
    """The log is begun anew under the same names, system, origin and policies, with the same custodians."""
    before = await Stand().begin()
    statement = before.statement("key.order", "key-1", **ORDER)
    await before.propose(statement)
    await before.approve(statement, "ben")
    before.later(DAY // 2)
    after = await Stand(room=before.room).begin()
    assert statement.expires_at > after.room.now
    with pytest.raises(Forbidden) as refused:
        await after.propose(statement)
    assert refused.value.rule == "statement/before-the-log"
    with pytest.raises(Malformed) as unknown:
        await after.approve(statement, "ben")
    assert unknown.value.rule == "proposal/unknown"
    # what is signed anew is another statement
    await after.propose(after.statement("key.order", "key-1", **ORDER))


async def test_a_statement_may_be_as_old_as_the_log_and_as_two_clocks_may_be_apart():
    here = await Stand(governance=replace(GOVERNANCE, clock_tolerance_seconds=30)).begin()
    for name, ago, refused in (("key-1", 30, False), ("key-2", 31, True)):
        statement = replace(here.statement("key.order", name, **ORDER), proposed_at=NOW - ago)
        if not refused:
            await here.propose(statement)
            continue
        with pytest.raises(Forbidden):
            await here.propose(statement)
