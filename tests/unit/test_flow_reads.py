"""Admission, explanation, key reads and audit reads: every call leaves a record, and nobody sees what is not theirs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from cryptosvc.core import checkpoint, erased
from cryptosvc.core.canonical import canonical
from cryptosvc.core.commitments import commitment
from cryptosvc.core.errors import (
    Conflict,
    Corrupt,
    Forbidden,
    Malformed,
    Refusal,
    Unavailable,
    Unidentified,
    WrongState,
)
from cryptosvc.core.judge import Authorised
from cryptosvc.core.merkle import leaf_hash
from cryptosvc.core.names import KeyId, SystemName
from cryptosvc.core.record import Observed, Refused
from cryptosvc.core.registry import CallerRecord, CallerState, Grant, KeyState
from cryptosvc.flow.admit import Admission
from cryptosvc.flow.audit import Auditor
from cryptosvc.flow.explain import Explainer
from cryptosvc.flow.keys import KeyReader
from cryptosvc.flow.ports import StoredEntry
from tests.corridor import (
    SUPPLIER_KEY,
    XML_KEY,
    Corridor,
    ListLedger,
    caller_record,
    malformed_request,
    pre_command_request,
)
from tests.fakes.ledger import FakeLedger
from tests.fakes.search import FakeSearch
from tests.store_stand import SCOPE

PEER = "ipv4:127.0.0.1:5"


@dataclass
class OneCaller:
    """A registry that knows one caller, by a certificate of ones."""

    caller_found: CallerRecord

    async def caller(self, certificate_sha256: bytes) -> CallerRecord | None:
        return self.caller_found if certificate_sha256 == b"\x01" * 32 else None


def admission(corridor: Corridor, state: CallerState = CallerState.REGISTERED) -> Admission:
    keys = OneCaller(replace(caller_record(), state=state))
    return Admission(keys, corridor.ledger, corridor.clock)


async def test_a_registered_caller_is_admitted_and_nothing_is_recorded_yet():
    corridor = Corridor()
    principal = await admission(corridor).admit(b"\x01" * 32, PEER, "sign")
    assert principal.caller.caller_id == "head-end"
    assert principal.peer == PEER
    assert corridor.ledger.recorded == []


@pytest.mark.parametrize(
    ("certificate", "state", "rule"),
    [
        (b"", CallerState.REGISTERED, "caller/no-certificate"),
        (b"\x02" * 32, CallerState.REGISTERED, "caller/unknown"),
        (b"\x01" * 32, CallerState.REVOKED, "caller/revoked"),
    ],
)
async def test_who_is_not_admitted_is_recorded_first(certificate, state, rule):
    corridor = Corridor()
    with pytest.raises(Unidentified) as refused:
        await admission(corridor, state).admit(certificate, PEER, "sign")
    assert refused.value.rule == rule
    (record,) = corridor.ledger.recorded
    assert isinstance(record, Refused)
    assert record.error is refused.value
    assert record.peer == PEER


async def test_nobody_is_refused_without_a_record():
    corridor = Corridor()
    corridor.ledger.on_record = Unavailable("the disk is full", rule="store/full")
    with pytest.raises(Unavailable):
        await admission(corridor).admit(b"", PEER, "sign")


def explainer(corridor: Corridor, ledger: ListLedger | None = None) -> Explainer:
    return Explainer(
        corridor.gatherer, corridor.policy, ledger or corridor.ledger, corridor.clock, corridor.profiles
    )


async def test_explain_says_what_sign_would_do_and_uses_nothing():
    corridor = Corridor()
    explained = await explainer(corridor).explain(corridor.principal, pre_command_request())
    assert explained.refusal is None
    assert explained.authorised is not None
    assert explained.authorised.clause == "G2.56"
    assert corridor.hsm.signed == []
    assert corridor.ledger.claimed == []
    (record,) = corridor.ledger.recorded
    assert isinstance(record, Observed)
    assert record.facts["verdict"] == "permit"


@pytest.mark.parametrize(
    ("request_made", "kind"),
    [
        (malformed_request(), Malformed),
        (pre_command_request(key_id=KeyId("nobody-s")), Forbidden),
        (pre_command_request(key_id=XML_KEY), Forbidden),
    ],
)
async def test_explain_gives_the_refusal_that_sign_would_give(request_made, kind):
    corridor = Corridor()
    explained = await explainer(corridor).explain(corridor.principal, request_made)
    (signed,) = await corridor.signer.sign(corridor.principal, [request_made])
    assert type(explained.refusal) is kind is type(signed.error)
    assert explained.refusal.rule == signed.error.rule
    assert (explained.content is None) == (kind is Malformed)
    assert corridor.ledger.recorded[0].facts["rule"] == signed.error.rule


async def test_explain_sees_the_state_of_the_key():
    corridor = Corridor()
    corridor.keys.change(SUPPLIER_KEY, KeyState.SUSPENDED)
    explained = await explainer(corridor).explain(corridor.principal, pre_command_request())
    assert isinstance(explained.refusal, WrongState)


async def test_explain_foresees_what_the_claim_would_refuse():
    class Foreseeing(ListLedger):
        async def foresee(self, batch: Sequence[Authorised]) -> Sequence[Refusal | None]:
            return [Conflict("used", rule="once/gbcs-counter") for _ in batch]

    corridor = Corridor()
    ledger = Foreseeing(corridor.keys, corridor.clock)
    explained = await explainer(corridor, ledger).explain(corridor.principal, pre_command_request())
    assert explained.refusal is not None
    assert explained.refusal.rule == "once/gbcs-counter"


async def test_a_caller_sees_the_keys_it_may_use_and_no_other():
    only_xml = caller_record(Grant(operation="sign", key_class="xml-signing"))
    corridor = Corridor(caller=only_xml)
    reader = KeyReader(corridor.keys, corridor.ledger, corridor.clock)
    assert [key.key_id for key in await reader.list_keys(corridor.principal)] == [XML_KEY]
    assert (await reader.key(corridor.principal, XML_KEY)).key_id == XML_KEY
    errors = []
    for hidden in (SUPPLIER_KEY, KeyId("does-not-exist")):
        with pytest.raises(Forbidden) as refused:
            await reader.key(corridor.principal, hidden)
        errors.append((refused.value.rule, refused.value.message, refused.value.clause))
    assert errors[0] == errors[1], "a key that is hidden must look like one that is not there"
    assert len(corridor.ledger.recorded) == 4


async def test_a_named_key_grant_does_not_reach_its_neighbour():
    named = caller_record(Grant(operation="sign", key_class="xml-signing", key_ids=frozenset({"another"})))
    corridor = Corridor(caller=named)
    reader = KeyReader(corridor.keys, corridor.ledger, corridor.clock)
    assert await reader.list_keys(corridor.principal) == []


class OneEntry(ListLedger):
    """A log of one entry, by `owner`."""

    owner = "head-end"
    kept_beside = ""
    """What somebody wrote beside the entry instead."""
    erased = False

    async def entry(self, leaf_index: int) -> StoredEntry | None:
        withheld = canonical({"principal": ("00" * 16, self.kept_beside or self.owner)})
        leaf = canonical(
            {"v": 1, "commitments": {"principal": commitment(bytes(16), "principal", self.owner)}}
        )
        if self.erased:
            leaf, withheld = erased.alone(leaf_hash(leaf)), b""
        return StoredEntry(0, leaf, withheld) if leaf_index == 0 else None

    async def checkpoint(self) -> bytes | None:
        return None

    async def inclusion_proof(self, leaf_index: int, tree_size: int) -> Sequence[bytes]:
        return [bytes(32)] * tree_size


def auditor(corridor: Corridor) -> tuple[Auditor, OneEntry]:
    ledger = OneEntry(corridor.keys, corridor.clock)
    searched = FakeLedger("test/log", SCOPE, corridor.clock)
    return Auditor(ledger, FakeSearch(searched), corridor.clock), ledger


async def said_to_be_gone(audit: Auditor, *kinds: str) -> None:
    """Have the log say of entry 0 what entries of these kinds say."""
    searched = audit._deletions._search
    assert isinstance(searched, FakeSearch)
    instant = searched.ledger.clock.now()
    for kind in kinds:
        said = Observed(
            kind=kind,
            operation=kind,
            at=instant.at,
            time_quality=instant.quality,
            facts={"key": "log-2026", "sha256": "00" * 32, "leaves": "0-1"},
        )
        await searched.ledger.record([said])


async def test_a_caller_reads_its_own_entry_and_not_another_s():
    corridor = Corridor()
    audit, ledger = auditor(corridor)
    assert (await audit.entry(corridor.principal, 0)).leaf_index == 0
    ledger.owner = "somebody-else"
    with pytest.raises(Forbidden) as refused:
        await audit.entry(corridor.principal, 0)
    assert refused.value.rule == "audit/not-auditor"
    assert [type(one) for one in ledger.recorded] == [Observed, Refused]


async def test_an_auditor_reads_every_entry():
    corridor = Corridor(caller=replace(caller_record(), auditor=True, user_ids=frozenset()))
    audit, ledger = auditor(corridor)
    ledger.owner = "somebody-else"
    assert (await audit.entry(corridor.principal, 0)).leaf_index == 0
    assert [type(one) for one in ledger.recorded] == [Observed]


@pytest.mark.parametrize("is_auditor", [False, True])
async def test_of_a_deleted_entry_an_auditor_is_told_the_hash_and_everybody_its_proof(is_auditor):
    corridor = Corridor(caller=replace(caller_record(), auditor=is_auditor))
    audit, ledger = auditor(corridor)
    whole = await ledger.entry(0)
    ledger.erased = True
    await said_to_be_gone(audit, "archived")
    with pytest.raises(WrongState if is_auditor else Forbidden) as refused:
        await audit.entry(corridor.principal, 0)
    told = leaf_hash(whole.entry)
    assert (refused.value.rule == "audit/erased") is (told.hex() in refused.value.message) is is_auditor
    assert (await audit.prove_inclusion(corridor.principal, 0, 1)).leaf_hash == told
    assert [type(one) for one in ledger.recorded] == [Refused, Observed]


@pytest.mark.parametrize("kinds", [(), ("sealed",), ("archived", "returned")])
async def test_a_hash_that_somebody_put_in_the_place_of_an_entry_is_not_given_out(kinds):
    corridor = Corridor(caller=replace(caller_record(), auditor=True))
    audit, ledger = auditor(corridor)
    ledger.erased = True
    await said_to_be_gone(audit, *kinds)
    with pytest.raises(Corrupt) as found:
        await audit.entry(corridor.principal, 0)
    assert found.value.rule == "export/erased"


@pytest.mark.parametrize("is_auditor", [False, True])
async def test_what_was_edited_beside_an_entry_opens_it_to_nobody(is_auditor):
    """A database administrator who writes a caller's name beside another's entry gains nothing, and is found."""
    corridor = Corridor(caller=replace(caller_record(), auditor=is_auditor))
    audit, ledger = auditor(corridor)
    ledger.owner, ledger.kept_beside = "somebody-else", "head-end"
    with pytest.raises(Corrupt) as found:
        await audit.entry(corridor.principal, 0)
    assert found.value.rule == "export/commitment"


async def test_a_key_of_another_system_is_not_shown_even_where_it_is_named():
    foreign = caller_record(
        Grant(operation="sign", key_class="command-signing", key_ids=frozenset({SUPPLIER_KEY}))
    )
    corridor = Corridor(caller=replace(foreign, system=SystemName("another-system")))
    reader = KeyReader(corridor.keys, corridor.ledger, corridor.clock)
    assert await reader.list_keys(corridor.principal) == []
    with pytest.raises(Forbidden) as refused:
        await reader.key(corridor.principal, SUPPLIER_KEY)
    assert refused.value.rule == "key/not-granted"


async def test_past_the_end_there_is_nothing():
    corridor = Corridor(caller=replace(caller_record(), auditor=True))
    audit, ledger = auditor(corridor)
    for ask in (audit.entry(corridor.principal, 1), audit.prove_inclusion(corridor.principal, 1, 1)):
        with pytest.raises(Malformed) as refused:
            await ask
        assert refused.value.rule == "audit/index"
    assert [type(one) for one in ledger.recorded] == [Refused, Refused]


async def test_before_the_first_checkpoint_the_answer_is_to_wait():
    corridor = Corridor()
    audit, ledger = auditor(corridor)
    with pytest.raises(Unavailable) as refused:
        await audit.checkpoint(corridor.principal)
    assert refused.value.rule == "checkpoint/none-yet"
    assert len(ledger.recorded) == 1


async def test_a_checkpoint_goes_through_the_corridor_like_anything_else():
    """Only an audit-signing key may sign one, and no other form passes for one."""
    corridor = Corridor()
    text = checkpoint.text(checkpoint.Checkpoint("test/log", 7, bytes(32)))
    (answer,) = await corridor.signer.sign(corridor.principal, [replace(pre_command_request(), payload=text)])
    assert isinstance(answer.error, Malformed)
