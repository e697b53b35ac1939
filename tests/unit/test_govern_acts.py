"""Every act of the table, from proposal to record, through the Governor; and the log derives it all again.

Covers SEC G5.13(b) and G5.24 (key material throughout its life), G4.7, G2.20, G5.6 (registers), G2.57 to G2.59.
"""

import hashlib
from dataclasses import replace
from datetime import timedelta

import pytest

from cryptosvc.core.acts.table import ACTS
from cryptosvc.core.asset import module_document
from cryptosvc.core.custodian import CustodianRecord, CustodianState, custodian_document
from cryptosvc.core.errors import Forbidden, Malformed, WrongState
from cryptosvc.core.life import DAY, IN_CEREMONIES, Event
from cryptosvc.core.names import Environment, Eui64, KeyId, ModuleName, RemotePartyRole
from cryptosvc.core.proposal import ProposalState
from cryptosvc.core.registry import (
    CallerRecord,
    CallerState,
    Grant,
    KeyRecord,
    KeyState,
    Origin,
    caller_document,
    key_document,
)
from tests import certificates
from tests.claims import caller_record
from tests.govern_stand import ORDER, Stand
from tests.governance import GOVERNANCE, MODULE, NOW, SYSTEM, person

START = certificates.AT - timedelta(days=1)
ROOT = certificates.root_authority(start=START)
ISSUING = certificates.issuing_authority(ROOT, start=START)
ENTITY = certificates.SUPPLIER


def oca_key(key_class: str, authority: certificates.Authority) -> KeyRecord:
    """An active OCA key with its certificate."""
    record = certificates.key_record(key_class, authority.key.public_key(), authority.certificate)
    return replace(record, key_id=KeyId(key_class), system=SYSTEM)


async def stand() -> Stand:
    records = (oca_key("root-oca", ROOT), oca_key("issuing-oca", ISSUING))
    return await Stand(records=records).begin()


def certificate_for(here: Stand, key_id: str, **choices: object) -> str:
    """An Organisation Certificate for a key that the vault generated, in hex."""
    record = here.key(key_id)
    key = here.vault.held["soft", record.label, record.object_id]
    choices = {"role": 2, "entity": ENTITY, **choices}
    return certificates.organisation_certificate(ISSUING, key.public_key(), **choices).hex()


async def test_a_key_goes_from_order_to_destruction_and_the_log_derives_every_step():
    here = await stand()
    await here.carry("key.order", "key-1", role=2, eui64=ENTITY, **ORDER)
    assert here.key("key-1").state is KeyState.ORDERED
    assert here.key("key-1").public_point == b""
    await here.carry("key.generate", "key-1")
    made = here.key("key-1")
    assert (made.state, len(made.public_point), made.origin) == (
        KeyState.PRE_ACTIVATION,
        65,
        Origin.GENERATED,
    )
    await here.carry("key.label", "key-1", label="Supplier signing", responsible="Ben")
    assert (here.key("key-1").asset.responsible, here.key("key-1").asset.classification) == ("Ben", "secret")
    await here.carry("key.certify", "key-1", certificate=certificate_for(here, "key-1"), issuer="issuing-oca")
    certified = here.key("key-1")
    assert (certified.eui64, certified.role) == (Eui64.parse(ENTITY), RemotePartyRole(2))
    await here.carry("key.distribute", "key-1", to="the DCC")
    await here.carry("key.install", "key-1", where="head-end")
    await here.carry("key.activate", "key-1", until=NOW + 300 * DAY, usage_limit=9)
    active = here.key("key-1")
    assert (active.state, active.life.deactivate_on, active.life.usage_limit) == (
        KeyState.ACTIVE,
        NOW + 300 * DAY,
        9,
    )
    await here.carry("key.suspend", "key-1", ("ben",))
    assert here.key("key-1").state is KeyState.SUSPENDED
    await here.carry("key.resume", "key-1")
    renewed = certificate_for(here, "key-1", serial=0x77)
    await here.carry("key.renew", "key-1", certificate=renewed, issuer="issuing-oca", until=NOW + 200 * DAY)
    assert here.key("key-1").certificate.hex() == renewed
    await here.active("key-2")
    await here.carry("key.supersede", "key-1", by="key-2")
    assert here.key("key-1").state is KeyState.DEACTIVATED
    assert here.key("key-1").life.superseded_by == "key-2"
    assert here.key("key-2").life.supersedes == "key-1"
    await here.carry("key.destroy", "key-1")
    assert here.key("key-1").state is KeyState.DESTROYED
    assert [label for _, label, _ in here.vault.held] == ["key-2"]
    await here.carry("key.compromise", "key-1", ("dan",), since=NOW - DAY)
    assert here.key("key-1").life.compromised_since == NOW - DAY
    await here.carry("key.deactivate", "key-2")
    assert here.key("key-2").state is KeyState.DEACTIVATED
    replay = here.replay()
    assert replay.records == here.ledger.records
    assert replay.governed == sum(1 for name in here.ledger.records if name[0] == "proposal-record")


async def test_an_object_that_is_there_is_adopted_and_its_record_says_so():
    here = await stand()
    lost = replace(here.key("issuing-oca"), module=ModuleName("soft"), label="old", object_id=b"\x09")
    await here.vault.generate(lost)
    await here.carry("key.register", "key-1", **ORDER, object_label="old", object_id="09")
    found = here.key("key-1")
    assert (found.origin, found.state, found.transferable) == (
        Origin.ADOPTED,
        KeyState.PRE_ACTIVATION,
        False,
    )
    assert found.public_point == certificates.point_of(here.vault.held["soft", "old", b"\x09"].public_key())
    assert here.replay().records == here.ledger.records


async def test_callers_are_registered_changed_and_revoked_for_good():
    here = await stand()
    caller = replace(caller_record(), system=SYSTEM, certificate_sha256=b"\x07" * 32)
    await here.carry("caller.register", "caller-1", record=caller_document(caller))
    wider = replace(caller, version=2, grants=(Grant(operation="sign", key_class="command-signing"),))
    await here.carry("caller.change", "caller-1", record=caller_document(wider))
    assert here.ledger.records["caller-record", "caller-1"] == wider
    await here.carry("caller.revoke", "caller-1")
    revoked = here.ledger.records["caller-record", "caller-1"]
    assert isinstance(revoked, CallerRecord)
    assert (revoked.state, revoked.version) == (CallerState.REVOKED, 3)
    back = here.statement("caller.change", "caller-1", record=caller_document(replace(caller, version=4)))
    with pytest.raises(WrongState) as refused:
        await here.propose(back)
    assert refused.value.rule == "caller/revoked"
    assert here.replay().records == here.ledger.records


async def test_custodians_are_registered_changed_and_removed_for_good():
    here = await stand()
    fay = person("fay")
    await here.carry("custodian.register", "fay", record=custodian_document(fay.record))
    here.room = replace(here.room, people={**here.room.people, "fay": fay})
    reviewed = replace(fay.record, version=2, clearance_reviewed_on=NOW)
    await here.carry("custodian.change", "fay", ("ben", "cat"), record=custodian_document(reviewed))
    assert here.ledger.records["custodian-record", "fay"] == reviewed
    await here.carry("custodian.remove", "fay")
    removed = here.ledger.records["custodian-record", "fay"]
    assert isinstance(removed, CustodianRecord)
    assert removed.state is CustodianState.REMOVED
    statement = here.statement("key.order", "key-1", **ORDER)
    await here.propose(statement)
    with pytest.raises(Forbidden) as refused:
        await here.approve(statement, "fay")
    assert refused.value.rule == "dsse/unknown-key"
    assert here.replay().records == here.ledger.records


async def test_a_module_enters_the_asset_register():
    here = await stand()
    await here.carry("module.register", "soft", record=module_document(MODULE))
    assert here.ledger.records["module-record", "soft"] == MODULE
    assert here.replay().records == here.ledger.records


async def test_every_act_of_the_table_is_walked_here():
    """The walks above carry out each act once at least, or this list is not the table's."""
    walked = {
        *("key.order", "key.generate", "key.register", "key.label", "key.certify", "key.distribute"),
        *("key.install", "key.activate", "key.suspend", "key.resume", "key.supersede", "key.renew"),
        *("key.deactivate", "key.compromise", "key.destroy", "caller.register", "caller.change"),
        *("caller.revoke", "custodian.register", "custodian.change", "custodian.remove", "module.register"),
    }
    # transfers are walked in tests/unit/test_transfer_walk.py
    # those on device keys in tests/unit/test_device_works.py, and those of keys in parts in tests/unit/test_split_keys.py
    in_ceremonies = {"key.back-up", *(f"key.{event}" for event in IN_CEREMONIES)}
    others = {name for name in ACTS if name.startswith(("transfer.", "device-"))}
    after_restores = {"key.advance", "log.restore"}  # tests/unit/test_rewound.py
    assert walked == set(ACTS) - others - in_ceremonies - after_restores


async def test_an_order_says_what_key_it_is_for_and_nothing_else():
    here = await stand()
    await here.carry("key.order", "key-1", **ORDER)
    document = key_document(here.key("key-1"))
    assert document["environment"] == Environment.TEST.value
    assert document["system"] == SYSTEM
    assert document["asset"] == {"label": "", "classification": "secret", "responsible": "Ada"}
    assert here.vault.held == {}


async def test_a_date_that_came_unwritten_keeps_its_milestone_when_somebody_acts():
    here = await stand()
    await here.ordered("key-1")
    await here.carry("key.activate", "key-1", on=NOW + 10 * DAY)
    assert here.key("key-1").state is KeyState.PRE_ACTIVATION
    here.later(11 * DAY)
    await here.carry("key.suspend", "key-1", ("ben",))
    suspended = here.key("key-1")
    assert suspended.state is KeyState.SUSPENDED
    assert suspended.life.when(Event.ACTIVATE) == NOW + 10 * DAY
    assert here.replay().records == here.ledger.records


@pytest.mark.parametrize(
    ("choices", "says"),
    [
        ({"entity": "90-B3-D5-1F-30-02-00-00"}, "another entity"),
        ({"role": 3}, "another role"),
        ({"start": certificates.AT + timedelta(days=4000), "days": 10}, "not valid now"),
    ],
)
async def test_a_certificate_that_is_not_the_keys_is_refused(choices, says):
    here = await stand()
    await here.ordered("key-1", role=2, eui64=ENTITY)
    der = certificate_for(here, "key-1", **choices)
    statement = here.statement("key.certify", "key-1", certificate=der, issuer="issuing-oca")
    with pytest.raises(Forbidden) as refused:
        await here.propose(statement)
    assert refused.value.rule == "certificate/not-this-keys"
    assert says in refused.value.message


async def test_a_certificate_for_another_key_or_by_another_issuer_is_refused():
    here = await stand()
    await here.ordered("key-1", role=2, eui64=ENTITY)
    await here.ordered("key-2")
    others = certificate_for(here, "key-2")
    twin = certificates.Authority(certificates.key_pair("twin"), ISSUING.certificate)
    record = here.key("key-1")
    own = here.vault.held["soft", record.label, record.object_id].public_key()
    forged = certificates.organisation_certificate(twin, own, role=2, entity=ENTITY).hex()
    for der, issuer, says in (
        (others, "issuing-oca", "another key"),
        (forged, "issuing-oca", "not signed by the issuer"),
        (certificate_for(here, "key-1"), "root-oca", "root-oca can have issued"),
        (certificate_for(here, "key-1"), "nobody", "no registered OCA key"),
    ):
        statement = here.statement("key.certify", "key-1", certificate=der, issuer=issuer)
        with pytest.raises(Forbidden) as refused:
            await here.propose(statement)
        assert says in refused.value.message


async def test_a_certificate_may_come_from_another_systems_issuer_that_the_policy_lists():
    foreign = ISSUING.certificate
    listed = frozenset({hashlib.sha256(foreign).hexdigest()})
    here = await Stand(governance=replace(GOVERNANCE, foreign_issuers=listed)).begin()
    await here.ordered("key-1", role=2, eui64=ENTITY)
    der = certificate_for(here, "key-1")
    twin = certificates.Authority(certificates.key_pair("twin"), ISSUING.certificate)
    record = here.key("key-1")
    own = here.vault.held["soft", record.label, record.object_id].public_key()
    leaf = certificates.organisation_certificate(twin, own, role=2, entity=ENTITY).hex()
    for more, says in (
        ({"certificate": der, "issuer_certificate": ROOT.certificate.hex()}, "does not list"),
        ({"certificate": leaf, "issuer_certificate": foreign.hex()}, "not signed by the issuer"),
    ):
        with pytest.raises(Forbidden) as refused:
            await here.propose(here.statement("key.certify", "key-1", **more))
        assert says in refused.value.message
    for more in ({}, {"issuer": "issuing-oca", "issuer_certificate": foreign.hex()}):
        with pytest.raises(Malformed) as malformed:
            await here.propose(here.statement("key.certify", "key-1", certificate=der, **more))
        assert malformed.value.rule == "statement/parameters"
    await here.carry("key.certify", "key-1", certificate=der, issuer_certificate=foreign.hex())
    assert here.key("key-1").certificate.hex() == der
    assert here.replay().records == here.ledger.records


async def test_a_proposal_that_is_carried_out_says_who_counted_and_what_was_asked():
    here = await stand()
    ended = await here.carry("key.order", "key-1", ("ben", "cat", "dan"), **ORDER)
    assert ended.proposal.state is ProposalState.DONE
    assert dict(ended.proposal.outcome) == {"needed_people": "2", "needed_roles": "key-custodian"}
    assert [one.custodian_id for one in ended.proposal.endorsements] == ["ada", "ben", "cat", "dan"]
    last = here.changes()[-1]
    assert len(last.approvals) == 3
    assert last.reference == ended.proposal.proposal_id
    assert [receipt.leaf_index for receipt in ended.receipts] == [
        last.leaf_index - 1,
        last.leaf_index,
    ]
