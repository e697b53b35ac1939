"""Attacks on a transfer of keys, by name: each is refused on the side that sees it, and nothing has moved."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

import pytest

from cryptosvc.core import dsse
from cryptosvc.core.canonical import JsonValue, canonical
from cryptosvc.core.custodian import CustodianRole, CustodianState
from cryptosvc.core.errors import Corrupt, CryptosvcError, Forbidden, WrongState
from cryptosvc.core.handover import checks
from cryptosvc.core.life import DAY, UnixSeconds
from cryptosvc.core.names import Environment, RemotePartyRole, SystemName
from cryptosvc.core.record import Because
from cryptosvc.core.registry import KeyRecord, KeyState
from cryptosvc.core.transfer import papers
from cryptosvc.core.transfer.mechanism import Mechanism, OaepHash, Trust, best, require_fit
from cryptosvc.core.transfer.papers import Offer
from cryptosvc.core.transfer.proof import Proof, require_proven
from tests.governance import NOW
from tests.transfers import ATTENDED, KEYS, TRANSFER, End, Pair, pma_people, private_of, proof, two_ends

POINT = bytes.fromhex(
    "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
)
Attack = Callable[[Pair], Awaitable[object]]


async def refused(attack: Attack, pair: Pair, rule: str, end: End | None = None) -> None:
    """The attack is refused by that rule, is in the log of the side that sees it, and changed no record of keys."""
    end = end or pair.source
    before = dict(end.stand.ledger.records)
    with pytest.raises(CryptosvcError) as found:
        await attack(pair)
    assert found.value.rule == rule, found.value.message
    after = end.stand.ledger.records
    moved = {name for name in after if after[name] != before.get(name) and name[0] != "proposal-record"}
    assert moved == set()
    assert b'"refusal"' in end.stand.ledger.leaves[-1].entry


async def change_key(end: End, name: str, **changes: object) -> None:
    """What no act does: a test's own hand on a record."""
    key = end.stand.key(name)
    changed = replace(key, version=key.version + 1, **changes)  # type: ignore[arg-type]  # a test's keywords
    await end.stand.keys.change([changed], Because("init", ""))


async def revoke(end: End, name: str) -> None:
    """A custodian is removed from the register of one side."""
    found = end.stand.ledger.records["custodian-record", name]
    gone = replace(found, version=found.version + 1, state=CustodianState.REMOVED)  # type: ignore[call-arg,arg-type]  # a custodian's
    await end.stand.keys.change([gone], Because("init", ""))


# The offer


def offering(**changes: object) -> Attack:
    async def attack(pair: Pair) -> None:
        offer: Offer = replace(pair.destination.record.offer, **changes)  # type: ignore[arg-type]  # a test's keywords
        parameters = pair.proposal(pair.plan(offer=checks.offer_digest(offer), destination=offer.party))
        parameters["offer"] = pair.destination.say(papers.offer_document(offer)).hex()
        await pair.source.carry("propose", **parameters)

    return attack


async def offer_signed_by_another(pair: Pair) -> None:
    document = papers.offer_document(pair.destination.record.offer)
    await pair.source.carry("propose", **{**pair.proposal(), "offer": pair.source.say(document).hex()})


OFFERS: dict[str, tuple[Attack, str]] = {
    "signed by another key": (offer_signed_by_another, "transfer/other-signer"),
    "for another transfer": (offering(transfer_id="move-2"), "transfer/mixed"),
    "that has ended": (offering(valid_until=NOW), "transfer/offer-ended"),
    "that says nothing of Section G": (offering(complies=" "), "transfer/no-compliance"),
    "that says nothing of affiliation": (offering(affiliation=""), "transfer/no-compliance"),
    "without a hash in common": (offering(oaep_hashes=(OaepHash.SHA_1,)), "transfer/no-common-hash"),
}


@pytest.mark.parametrize("name", OFFERS)
async def test_an_offer(name: str) -> None:
    attack, rule = OFFERS[name]
    await refused(attack, await (await two_ends()).offered(), rule)


# The plan


def planning(**changes: object) -> Attack:
    async def attack(pair: Pair) -> None:
        await pair.source.carry("propose", **pair.proposal(pair.plan(**changes)))

    return attack


def with_party(which: str, **changes: object) -> Attack:
    async def attack(pair: Pair) -> None:
        party = replace(getattr(pair.plan(), which), **changes)
        await pair.source.carry("propose", **pair.proposal(pair.plan(**{which: party})))

    return attack


def planning_key(**changes: object) -> Attack:
    async def attack(pair: Pair) -> None:
        plan = pair.plan()
        keys = (plan.keys[0], replace(plan.keys[1], **changes))  # type: ignore[arg-type]  # a test's keywords
        await pair.source.carry("propose", **pair.proposal(replace(plan, keys=keys)))

    return attack


def key_that_is(**changes: object) -> Attack:
    async def attack(pair: Pair) -> None:
        await pair.source.carry("propose", **pair.proposal())

    attack.changes = changes  # type: ignore[attr-defined]  # what the test does to the key first
    return attack


async def plan_not_canonical(pair: Pair) -> None:
    document = canonical(papers.plan_document(pair.plan())).replace(b'"v":1', b'"v": 1')
    await pair.source.carry("propose", **{**pair.proposal(), "plan": document.hex()})


PLANS: dict[str, tuple[Attack, str]] = {
    "for another transfer": (planning(transfer_id="move-2"), "transfer/mixed"),
    "for another offer": (planning(offer="00" * 32), "transfer/mixed"),
    "of another source": (with_party("source", origin="elsewhere/log"), "transfer/other-source"),
    "for another destination": (with_party("destination", service_key="00" * 32), "transfer/mixed"),
    "into the same system": (
        with_party("destination", system=SystemName("dcc-test")),
        "transfer/mixed",
    ),
    "for another body": (planning(body="the source itself"), "transfer/other-body"),
    "that keeps copies for a year": (planning(disposition_seconds=365 * DAY), "transfer/disposition-late"),
    "under another role": (
        planning_key(role=int(RemotePartyRole.SUPPLIER)),
        "transfer/key",
    ),
    "of another class": (planning_key(key_class="xml-signing"), "transfer/key"),
    "of a key that is not there": (planning_key(key_id="command-9"), "transfer/key"),
    "with another public key": (planning_key(public_point=b"\x04" + bytes(64)), "transfer/key"),
    "that is not canonical": (plan_not_canonical, "transfer/paper"),
    "of no key": (planning(keys=()), "transfer/paper"),
    "of a key that was not made transferable": (key_that_is(transferable=False), "transfer/not-transferable"),
    "of a key that is suspended": (key_that_is(state=KeyState.SUSPENDED), "transfer/key-state"),
    "of a key on another module": (key_that_is(module="other"), "transfer/modules"),
}


@pytest.mark.parametrize("name", PLANS)
async def test_a_plan(name: str) -> None:
    attack, rule = PLANS[name]
    pair = await (await two_ends()).offered()
    if changes := getattr(attack, "changes", {}):
        await change_key(pair.source, "command-1", **changes)
    await refused(attack, pair, rule)


async def test_a_plan_for_a_key_with_a_usage_limit() -> None:
    pair = await (await two_ends()).offered()
    life = replace(pair.source.stand.key("command-1").life, usage_limit=7)
    await change_key(pair.source, "command-1", life=life)
    await refused(planning(), pair, "transfer/usage-limit")


# The approval


def approving(*names: str, **changes: object) -> Attack:
    async def attack(pair: Pair) -> None:
        plan = pair.source.record.plan
        assert plan is not None
        signed = pair.signed(pair.approval(plan, **changes), *names)
        scope = pair.scope(*names) if names else pair.scope()
        await pair.source.carry("approve", approval=signed.hex(), scope=scope)

    return attack


async def over_another_plan(pair: Pair) -> None:
    plan = pair.source.record.plan
    assert plan is not None
    signed = pair.signed(replace(pair.approval(plan), plan="00" * 32))
    await pair.source.carry("approve", approval=signed.hex(), scope=pair.scope())


def conditional(**changes: object) -> Attack:
    async def attack(pair: Pair) -> None:
        await approving(conditions=pair.conditions(**changes))(pair)

    return attack


async def approved_by_a_stranger(pair: Pair) -> None:
    pair.pma = {**pma_people(), "pia": pair.pma["pia"]}
    await approving()(pair)


async def approved_by_custodians(pair: Pair) -> None:
    people = pair.source.stand.room.people
    pair.pma = {"ben": people["ben"], "cat": people["cat"]}
    await approving("ben", "cat")(pair)


async def approval_twice_by_one(pair: Pair) -> None:
    await approving("pat")(pair)


async def approval_and_other_approvers_shown(pair: Pair) -> None:
    plan = pair.source.record.plan
    assert plan is not None
    signed = pair.signed(pair.approval(plan))
    # the custodians are shown pat, pia and pip; pip did not sign
    await pair.source.carry("approve", approval=signed.hex(), scope=pair.scope("pat", "pia", "pip"))


async def approval_with_a_condition_changed(pair: Pair) -> None:
    plan = pair.source.record.plan
    assert plan is not None
    signed = pair.signed(pair.approval(plan))
    await pair.source.carry("approve", approval=eased(pair, signed).hex(), scope=pair.scope())


def eased(pair: Pair, signed: bytes) -> bytes:
    """The approval without the witness it asks for, under the signatures it has."""
    document = papers.approval_document(pair.approval(pair.plan(), conditions=pair.conditions(witnesses=0)))
    return dsse.emit(replace(dsse.parse(signed), payload=canonical(document)))


APPROVALS: dict[str, tuple[Attack, str]] = {
    "for another transfer": (approving(transfer_id="move-2"), "transfer/mixed"),
    "over another plan": (over_another_plan, "transfer/mixed"),
    "over another offer": (approving(offer="00" * 32), "transfer/mixed"),
    "of another mechanism": (approving(mechanism=Mechanism(OaepHash.SHA_1, Trust.NONE)), "transfer/mixed"),
    "on another view of the Sub-Committee": (approving(committee_view="00" * 32), "transfer/mixed"),
    "of another disposition": (approving(disposition=papers.DEACTIVATE), "transfer/mixed"),
    "for another transport key": (conditional(transport_key="00" * 32), "transfer/transport-key"),
    "for a better module": (conditional(assurance_level=3), "transfer/assurance"),
    "with no time to act": (conditional(not_after=NOW), "transfer/window"),
    "with a condition changed": (approval_with_a_condition_changed, "transfer/pma-key"),
    "by a stranger": (approved_by_a_stranger, "transfer/pma-key"),
    "by the source's own custodians": (approved_by_custodians, "transfer/pma-key"),
    "by one person": (approval_twice_by_one, "transfer/pma-quorum"),
    "with approvers who did not sign": (approval_and_other_approvers_shown, "transfer/mixed"),
}


@pytest.mark.parametrize("name", APPROVALS)
async def test_an_approval(name: str) -> None:
    attack, rule = APPROVALS[name]
    await refused(attack, await (await two_ends()).proposed(), rule)


async def test_an_approval_by_somebody_of_the_source_who_was_given_the_role_besides() -> None:
    pair = await (await two_ends()).proposed()
    both = frozenset({CustodianRole.PMA_APPROVER, CustodianRole.KEY_CUSTODIAN})
    changed = replace(pair.pma["pia"].record, version=2, roles=both)
    await pair.source.stand.keys.change([changed], Because("init", ""))
    await refused(approving(), pair, "transfer/pma-key")


# The export


async def exports(pair: Pair) -> None:
    await pair.source.carry("export", **pair.export())


def attended(**changes: object) -> Attack:
    async def attack(pair: Pair) -> None:
        await pair.source.carry("export", **{**pair.export(), "attended": {**ATTENDED, **changes}})  # type: ignore[dict-item]  # a test's keywords

    return attack


async def export_after_the_window(pair: Pair) -> None:
    pair.source.stand.later(10 * DAY)
    await exports(pair)


async def export_of_fewer_keys(pair: Pair) -> None:
    scope = {**pair.scope(), "keys": ["command-1"]}
    await pair.source.carry("export", **{**pair.export(), "scope": scope})


async def export_with_a_condition_changed(pair: Pair) -> None:
    await pair.source.carry("export", **{**pair.export(), "approval": eased(pair, pair.sent).hex()})


async def export_under_an_earlier_approval(pair: Pair) -> None:
    plan = pair.source.record.plan
    assert plan is not None
    other = pair.signed(pair.approval(plan), "pat", "pip")
    export = {**pair.export(), "approval": other.hex(), "scope": pair.scope("pat", "pip")}
    await pair.source.carry("export", **export)


EXPORTS: dict[str, tuple[Attack, str]] = {
    "outside the window": (export_after_the_window, "transfer/window"),
    "without a witness": (attended(witnesses=[]), "transfer/witnesses"),
    "with one witness twice": (attended(witnesses=[" "]), "transfer/witnesses"),
    "with a condition nobody attests": (attended(attested={}), "transfer/attested"),
    "with a condition that was not asked": (
        attended(attested={**dict(ATTENDED["attested"]), "more": "Nia"}),  # type: ignore[call-overload]  # a mapping
        "transfer/attested",
    ),
    "of other keys than were shown": (export_of_fewer_keys, "transfer/mixed"),
    "with a condition changed": (export_with_a_condition_changed, "transfer/pma-key"),
    "under an approval that was not taken in": (export_under_an_earlier_approval, "transfer/mixed"),
}


@pytest.mark.parametrize("name", EXPORTS)
async def test_an_export(name: str) -> None:
    attack, rule = EXPORTS[name]
    await refused(attack, await (await two_ends()).approved(), rule)


async def test_an_export_by_fewer_custodians_than_the_approval_asks_for() -> None:
    pair = await (await two_ends()).proposed()
    plan = pair.source.record.plan
    assert plan is not None
    pair.sent = pair.signed(pair.approval(plan, conditions=pair.conditions(source_people=4)))
    await pair.source.carry("approve", approval=pair.sent.hex(), scope=pair.scope())
    await refused(exports, pair, "transfer/people")


async def test_an_export_under_an_offer_that_has_ended() -> None:
    pair = await (await two_ends()).proposed()
    plan = pair.source.record.plan
    assert plan is not None
    longer = pair.conditions(not_after=UnixSeconds(NOW + 60 * DAY))
    pair.sent = pair.signed(pair.approval(plan, conditions=longer))
    await pair.source.carry("approve", approval=pair.sent.hex(), scope=pair.scope())
    pair.source.stand.later(30 * DAY)
    await refused(exports, pair, "transfer/offer-ended")


async def test_an_export_after_a_key_of_the_pma_was_revoked() -> None:
    pair = await (await two_ends()).approved()
    await revoke(pair.source, "pia")
    await refused(exports, pair, "transfer/pma-key")


async def test_an_export_tried_more_often_than_the_approval_allows() -> None:
    pair = await (await two_ends()).approved()
    for _ in range(2):
        pair.source.given = {"trust": "none", "oaep_hash": "sha-256", "carrier": ""}
        # the module does less than was planned: known once it has answered, so the record refuses and nothing moves
        with pytest.raises(Forbidden):
            await exports(pair)
    pair.source.given = {}
    await refused(exports, pair, "transfer/attempts")


async def test_a_key_exported_twice() -> None:
    pair = await (await two_ends()).exported()
    await refused(exports, pair, "transfer/step")


# The package


def packing(**changes: object) -> Attack:
    async def attack(pair: Pair) -> None:
        await pair.destination.carry("import", **pair.importing(pair.package(**changes)))

    return attack


def packing_key(**changes: object) -> Attack:
    async def attack(pair: Pair) -> None:
        from cryptosvc.core.handover.notices import PackedKey

        keys = [
            PackedKey(record=pair.source.stand.key(name), blob="00" * 32, claims="00" * 32)
            for name in sorted(KEYS)
        ]
        record: KeyRecord = replace(keys[1].record, **changes)  # type: ignore[arg-type]  # a test's keywords
        swapped = (keys[0], PackedKey(record=record, blob="00" * 32, claims="00" * 32))
        await pair.destination.carry("import", **pair.importing(pair.package(keys=swapped)))

    return attack


async def package_signed_by_another(pair: Pair) -> None:
    stranger = End(pair.source.stand)
    package = pair.package()
    await pair.destination.carry("import", **{**pair.importing(package), "source_key": stranger.spki.hex()})


async def package_of_a_stranger(pair: Pair) -> None:
    pair.source.service = End(pair.source.stand).service  # signs and is named, and was in no plan
    await pair.destination.carry("import", **pair.importing(pair.package()))


def with_plan(**changes: object) -> Attack:
    async def attack(pair: Pair) -> None:
        plan = pair.source.record.plan
        assert plan is not None
        await packing(plan=replace(plan, **changes))(pair)  # type: ignore[arg-type]  # a test's keywords

    return attack


async def approval_for_another_transport_key(pair: Pair) -> None:
    plan = pair.source.record.plan
    assert plan is not None
    other = pair.signed(pair.approval(plan, conditions=pair.conditions(transport_key="00" * 32)))
    await packing(approval=other.decode())(pair)


async def condition_changed(pair: Pair) -> None:
    await packing(approval=eased(pair, pair.sent).decode())(pair)


async def import_after_the_window(pair: Pair) -> None:
    package = pair.package()
    pair.destination.stand.later(10 * DAY)
    await pair.destination.carry("import", **pair.importing(package))


def imported_while(**changes: object) -> Attack:
    async def attack(pair: Pair) -> None:
        parameters = {**pair.importing(), "attended": {**ATTENDED, **changes}}
        await pair.destination.carry("import", **parameters)  # type: ignore[arg-type]  # a test's keywords

    return attack


PACKAGES: dict[str, tuple[Attack, str]] = {
    "signed by another key": (package_signed_by_another, "transfer/other-signer"),
    "of a stranger": (package_of_a_stranger, "transfer/other-signer"),
    "for another offer": (with_plan(offer="00" * 32), "transfer/mixed"),
    "of another transfer": (with_plan(transfer_id="move-2"), "transfer/mixed"),
    "of another mechanism": (with_plan(mechanism=Mechanism(OaepHash.SHA_1, Trust.NONE)), "transfer/mixed"),
    "with a key of another role": (
        packing_key(role=RemotePartyRole.SUPPLIER, key_class="xml-signing"),
        "transfer/substituted",
    ),
    "with a key relabelled": (packing_key(role=RemotePartyRole.SUPPLIER), "transfer/substituted"),
    "with a key of another public key": (
        packing_key(public_point=b"\x04" + bytes(64)),
        "transfer/substituted",
    ),
    "with a key still usable at its source": (packing_key(state=KeyState.ACTIVE), "transfer/still-usable"),
    "with a key of another system": (packing_key(system=SystemName("a-user")), "transfer/substituted"),
    "with an approval for another transport key": (
        approval_for_another_transport_key,
        "transfer/transport-key",
    ),
    "with a condition changed": (condition_changed, "transfer/pma-key"),
    "outside the window": (import_after_the_window, "transfer/window"),
    "imported without a witness": (imported_while(witnesses=[]), "transfer/witnesses"),
    "imported with a condition nobody attests": (imported_while(attested={}), "transfer/attested"),
}


@pytest.mark.parametrize("name", PACKAGES)
async def test_a_package(name: str) -> None:
    attack, rule = PACKAGES[name]
    pair = await (await two_ends()).exported()
    await refused(attack, pair, rule, pair.destination)


async def test_an_import_after_a_key_of_the_pma_was_revoked() -> None:
    pair = await (await two_ends()).exported()
    await revoke(pair.destination, "pia")
    await refused(packing(), pair, "transfer/pma-key", pair.destination)


async def test_an_import_by_fewer_custodians_than_the_approval_asks_for() -> None:
    pair = await (await two_ends()).proposed()
    plan = pair.source.record.plan
    assert plan is not None
    pair.sent = pair.signed(pair.approval(plan, conditions=pair.conditions(destination_people=4)))
    await pair.source.carry("approve", approval=pair.sent.hex(), scope=pair.scope())
    await exports(pair)
    await refused(packing(), pair, "transfer/people", pair.destination)


async def test_an_import_under_an_offer_that_has_ended() -> None:
    pair = await (await two_ends()).proposed()
    plan = pair.source.record.plan
    assert plan is not None
    longer = pair.conditions(not_after=UnixSeconds(NOW + 60 * DAY))
    pair.sent = pair.signed(pair.approval(plan, conditions=longer))
    await pair.source.carry("approve", approval=pair.sent.hex(), scope=pair.scope())
    await exports(pair)
    pair.destination.stand.later(30 * DAY)
    await refused(packing(), pair, "transfer/offer-ended", pair.destination)


async def test_a_package_of_a_key_that_is_there_already() -> None:
    pair = await (await two_ends()).exported()
    key = replace(pair.source.stand.key("command-1"), version=1, system=SystemName("dcc-next"))
    await pair.destination.stand.keys.change([key], Because("init", ""))
    await refused(packing(), pair, "transfer/key-exists", pair.destination)


async def test_a_package_opened_twice() -> None:
    pair = await (await two_ends()).imported()
    await refused(packing(), pair, "transfer/step", pair.destination)


async def test_an_import_whose_key_did_not_prove_itself_leaves_no_record() -> None:
    pair = await (await two_ends()).exported()
    other = pair.source.stand.key("broker-1")
    for facts in (
        {"proof:command-1": ""},
        {"proof:command-1": "00:00"},
        {"proof:command-1": proof(private_of(other), pair.source.stand.key("command-1"))},
        {"transport_left": "2"},
        {"claims:command-1": ""},
        {"claims:command-1": "00" * 32},
    ):
        pair.destination.given = facts
        with pytest.raises(CryptosvcError) as found:
            await pair.destination.carry("import", **pair.importing())
        assert found.value.rule in ("transfer/not-proven", "transfer/not-destroyed", "transfer/claims"), facts
        assert ("key-record", "command-1") not in pair.destination.stand.ledger.records
        # a module that did not do what it should is no attack: the act stands open, and is gone on with
        seen = b'"refusal"' in pair.destination.stand.ledger.leaves[-1].entry
        assert seen is not isinstance(found.value, Corrupt)
        assert pair.destination.record.state == "offered"


# Receipt, disposition, roll-back


def receiving(**changes: object) -> Attack:
    async def attack(pair: Pair) -> None:
        await pair.source.carry("receipt", **pair.receiving(pair.receipt(**changes)))

    return attack


async def receipt_by_another(pair: Pair) -> None:
    parameters = pair.receiving()
    stranger = End(pair.destination.stand)
    await pair.source.carry("receipt", **{**parameters, "destination_key": stranger.spki.hex()})


async def receipt_with_the_proof_of_another_transfer(pair: Pair) -> None:
    key = pair.source.stand.key("command-1")
    challenge, _, answer = proof(private_of(key), key, "move-2").partition(":")
    old = Proof("command-1", bytes.fromhex(challenge), bytes.fromhex(answer))
    other = pair.source.stand.key("broker-1")
    challenge, _, answer = proof(private_of(other), other).partition(":")
    good = Proof("broker-1", bytes.fromhex(challenge), bytes.fromhex(answer))
    await receiving(proofs=(good, old))(pair)


RECEIPTS: dict[str, tuple[Attack, str]] = {
    "of another transfer": (receiving(transfer_id="move-2"), "transfer/mixed"),
    "for another package": (receiving(package="00" * 32), "transfer/mixed"),
    "without proofs": (receiving(proofs=()), "transfer/mixed"),
    "signed by another key": (receipt_by_another, "transfer/other-signer"),
    "with a proof made for another transfer": (
        receipt_with_the_proof_of_another_transfer,
        "transfer/not-proven",
    ),
}


@pytest.mark.parametrize("name", RECEIPTS)
async def test_a_receipt(name: str) -> None:
    attack, rule = RECEIPTS[name]
    await refused(attack, await (await two_ends()).imported(), rule)


async def test_a_disposition_before_the_receipt() -> None:
    pair = await (await two_ends()).imported()
    with pytest.raises(WrongState) as found:
        await pair.source.carry("dispose", scope=pair.scope())
    assert found.value.rule == "transfer/step"


def rolling_back(**changes: object) -> Attack:
    async def attack(pair: Pair) -> None:
        await pair.source.carry(
            "roll-back",
            not_imported=pair.not_imported(**changes).hex(),
            destination_key=pair.destination.spki.hex(),
            scope=pair.scope(),
        )

    return attack


async def rolled_back_by_one_of_the_pma(pair: Pair) -> None:
    await pair.source.carry("roll-back", decision=pair.decision("pat").hex(), scope=pair.scope("pat"))


async def rolled_back_by_a_decision_on_another_plan(pair: Pair) -> None:
    document = papers.decision_document(TRANSFER, "00" * 32)
    decision = pair.by_pma(papers.DECISION_TYPE, document)
    await pair.source.carry("roll-back", decision=decision.hex(), scope=pair.scope())


async def rolled_back_by_an_approval(pair: Pair) -> None:
    await pair.source.carry("roll-back", decision=pair.sent.hex(), scope=pair.scope())


async def rolled_back_on_the_sources_own_word(pair: Pair) -> None:
    from cryptosvc.core.handover import notices

    notice = notices.NotImported(
        transfer_id=TRANSFER,
        party=pair.destination.party,
        offer=checks.offer_digest(pair.destination.record.offer),
        declined_at=UnixSeconds(NOW),
    )
    said = pair.source.say(notices.not_imported_document(notice))
    await pair.source.carry(
        "roll-back", not_imported=said.hex(), destination_key=pair.source.spki.hex(), scope=pair.scope()
    )


BACK: dict[str, tuple[Attack, str]] = {
    "on a notice of another transfer": (rolling_back(transfer_id="move-2"), "transfer/mixed"),
    "on a notice of another offer": (rolling_back(offer="00" * 32), "transfer/mixed"),
    "on the source's own word": (rolled_back_on_the_sources_own_word, "transfer/other-signer"),
    "by one person of the PMA": (rolled_back_by_one_of_the_pma, "transfer/pma-quorum"),
    "by a decision on another plan": (rolled_back_by_a_decision_on_another_plan, "transfer/mixed"),
    "by the approval, handed in as a decision": (rolled_back_by_an_approval, "transfer/paper"),
}


@pytest.mark.parametrize("name", BACK)
async def test_a_roll_back(name: str) -> None:
    attack, rule = BACK[name]
    await refused(attack, await (await two_ends()).exported(), rule)


async def test_a_declined_transfer_whose_key_is_still_there_is_not_declined() -> None:
    pair = await (await two_ends()).exported()
    pair.destination.given = {"transport_left": "1"}
    with pytest.raises(CryptosvcError) as found:
        await pair.destination.carry("decline")
    assert found.value.rule == "transfer/not-destroyed"
    assert pair.destination.record.state == "offered"


# Whatever was said once, said again


async def disposed() -> Pair:
    pair = await (await two_ends()).receipted()
    await pair.source.carry("dispose", scope=pair.scope())
    return pair


async def rolled_back() -> Pair:
    pair = await (await two_ends()).exported()
    await pair.source.carry("roll-back", decision=pair.decision().hex(), scope=pair.scope())
    return pair


REPLAYS: tuple[tuple[str, str, Callable[[Pair], Mapping[str, JsonValue]]], ...] = (
    ("source", "propose", lambda pair: pair.proposal(pair.source.record.plan)),
    ("source", "approve", lambda pair: {"approval": pair.sent.hex(), "scope": pair.scope()}),
    ("source", "export", lambda pair: pair.export()),
    ("source", "receipt", lambda pair: pair.receiving()),
    ("source", "dispose", lambda pair: {"scope": pair.scope()}),
    ("source", "roll-back", lambda pair: {"decision": pair.decision().hex(), "scope": pair.scope()}),
    ("source", "abort", lambda _: {}),
    ("destination", "import", lambda pair: pair.importing()),
    ("destination", "decline", lambda _: {}),
)


def again(end: End, step: str, said: Callable[[Pair], Mapping[str, JsonValue]]) -> Attack:
    async def attack(pair: Pair) -> None:
        await end.carry(step, **said(pair))

    return attack


async def test_whatever_was_said_once_is_refused_and_recorded_when_it_is_said_again() -> None:
    pair = await disposed()
    for side, step, said in REPLAYS:
        end: End = getattr(pair, side)
        await refused(again(end, step, said), pair, "transfer/step", end)
    pair = await rolled_back()
    for side, step, said in REPLAYS:
        if side == "source" and step != "receipt":  # there is none
            await refused(again(pair.source, step, said), pair, "transfer/step")


# What the mechanism must be


def test_live_takes_sha_256_and_enforced_trust_and_nothing_less() -> None:
    require_fit(Mechanism(OaepHash.SHA_256, Trust.ENFORCED), Environment.LIVE)
    for mechanism, rule in (
        (Mechanism(OaepHash.SHA_1, Trust.ENFORCED), "transfer/weak-hash"),
        (Mechanism(OaepHash.SHA_256, Trust.KEPT), "transfer/trust-not-enforced"),
        (Mechanism(OaepHash.SHA_256, Trust.NONE), "transfer/trust-not-enforced"),
    ):
        require_fit(mechanism, Environment.TEST)
        with pytest.raises(Forbidden) as found:
            require_fit(mechanism, Environment.LIVE)
        assert found.value.rule == rule
    assert best(tuple(OaepHash), tuple(OaepHash)) is OaepHash.SHA_256
    with pytest.raises(Forbidden):
        best((OaepHash.SHA_256,), (OaepHash.SHA_1,))


async def test_less_trust_than_was_approved_is_less_than_was_approved() -> None:
    pair = await (await two_ends()).offered()
    plan = pair.plan(mechanism=Mechanism(OaepHash.SHA_256, Trust.ENFORCED))
    await pair.source.carry("propose", **pair.proposal(plan))
    pair.sent = pair.signed(pair.approval(plan))
    await pair.source.carry("approve", approval=pair.sent.hex(), scope=pair.scope())
    await refused(exports, pair, "transfer/trust-not-enforced")


def test_a_proof_is_of_its_length() -> None:
    with pytest.raises(CryptosvcError):
        require_proven(Proof("command-1", b"", b""), TRANSFER, "command-signing", POINT)
