"""The corridor: one answer per request, in order; what is refused is recorded; nothing is released unrecorded."""

from dataclasses import replace

import pytest

from cryptosvc.core.case import Principal
from cryptosvc.core.check import Checked, verify_p256
from cryptosvc.core.content.gbcs import framing
from cryptosvc.core.errors import (
    Busy,
    Conflict,
    Corrupt,
    Forbidden,
    Malformed,
    OutcomeUnknown,
    Unavailable,
    WrongState,
)
from cryptosvc.core.names import CallerId, KeyId
from cryptosvc.core.record import Failed, Refused
from cryptosvc.core.registry import KeyState
from cryptosvc.flow.sign import JUDGED_AT_MOST, NotSigned, Signed
from tests import duis_documents, precommands, xml_signatures
from tests.corridor import (
    PRIVATE,
    SUPPLIER_KEY,
    XML_KEY,
    Corridor,
    caller_record,
    duis_request,
    malformed_request,
    pre_command_request,
)


async def walk(corridor: Corridor, *requests):
    return await corridor.signer.sign(corridor.principal, requests)


def errors_of(answers) -> list[type | None]:
    return [type(one.error) if isinstance(one, NotSigned) else None for one in answers]


async def test_a_pre_command_comes_back_signed_and_recorded():
    corridor = Corridor()
    (answer,) = await walk(corridor, pre_command_request())
    assert isinstance(answer, Signed)
    message = precommands.ecs43()
    assert (
        answer.checked.artefact
        == message[:-1] + bytes((framing.SIGNATURE_OCTETS,)) + answer.checked.signature
    )
    verify_p256(corridor.keys.records[SUPPLIER_KEY].public_point, answer.checked.signature, message[1:-1])
    assert corridor.ledger.recorded == [answer.checked]
    assert answer.receipt.leaf_index == 0


async def test_a_duis_document_comes_back_validly_signed():
    corridor = Corridor()
    (answer,) = await walk(corridor, duis_request())
    assert isinstance(answer, Signed)
    xml_signatures.verify(answer.checked.artefact, PRIVATE[XML_KEY].public_key())


async def test_an_empty_batch_is_answered_and_leaves_no_trace():
    corridor = Corridor()
    assert await walk(corridor) == []
    assert corridor.ledger.recorded == []
    assert corridor.hsm.signed == []


async def test_items_succeed_and_fail_one_by_one_in_order():
    corridor = Corridor()
    answers = await walk(
        corridor,
        malformed_request("r0"),
        pre_command_request("r1", counter=1),
        pre_command_request("r2", key_id=KeyId("no-such-key")),
        duis_request("r3"),
        pre_command_request("r4", counter=2),
        pre_command_request(
            "r5", counter=2, payload=precommands.ecs43(target=duis_documents.DEVICE, counter=2)
        ),
        pre_command_request("r6", counter=1, payload=precommands.ecs44(counter=2)),
    )
    assert errors_of(answers) == [Malformed, None, Forbidden, None, None, None, Malformed]
    assert [answer.receipt.leaf_index for answer in answers] == list(range(7))
    asked = [
        one.request if isinstance(one, Refused) else one.claim.authorised.case.request
        for one in corridor.ledger.recorded
    ]
    assert [one.request_id for one in asked] == [f"r{n}" for n in range(7)]
    assert len(corridor.hsm.signed) == 4


async def test_each_signature_is_over_its_own_request():
    corridor = Corridor()
    requests = [pre_command_request(f"r{n}", counter=n) for n in range(64)]
    answers = await walk(corridor, *requests)
    point = corridor.keys.records[SUPPLIER_KEY].public_point
    for request, answer in zip(requests, answers, strict=True):
        verify_p256(point, answer.checked.signature, request.payload[1:-1])
        assert answer.checked.artefact.startswith(request.payload[:-1])


async def test_a_counter_reused_for_other_bytes_is_refused_inside_one_batch_and_across():
    corridor = Corridor()
    other = replace(
        pre_command_request("r2"),
        payload=precommands.ecs44(),
        statement=replace(pre_command_request().statement, service_reference_variant="7.3"),
    )
    answers = await walk(corridor, pre_command_request("r1"), other, pre_command_request("r3"))
    assert errors_of(answers) == [None, Conflict, None]
    (again,) = await walk(corridor, replace(other, request_id="r4"))
    assert isinstance(again.error, Conflict)
    assert len(corridor.hsm.signed) == 2


async def test_callers_that_share_a_walk_are_each_judged_as_themselves():
    corridor = Corridor()
    stranger = Principal(
        caller=replace(caller_record(), caller_id=CallerId("stranger"), grants=()), peer="ipv4:127.0.0.1:2"
    )
    auditor = Principal(
        caller=replace(caller_record(), caller_id=CallerId("other-role"), user_roles=frozenset()),
        peer="ipv4:127.0.0.1:3",
    )
    items = [
        (corridor.principal, pre_command_request("r0", counter=1)),
        (stranger, pre_command_request("r1", counter=2)),
        (corridor.principal, malformed_request("r2")),
        (auditor, pre_command_request("r3", counter=3)),
        (corridor.principal, duis_request("r4")),
    ]
    answers = await corridor.signer.sign_each(items)
    assert errors_of(answers) == [None, Forbidden, Malformed, Forbidden, None]
    for (principal, request), recorded in zip(items, corridor.ledger.recorded, strict=True):
        if isinstance(recorded, Refused):
            assert (recorded.principal, recorded.request) == (principal, request)
        else:
            case = recorded.claim.authorised.case
            assert (case.principal, case.request) == (principal, request)


async def test_a_stale_item_is_judged_again_as_its_own_caller():
    corridor = Corridor()
    stranger = Principal(caller=replace(caller_record(), caller_id=CallerId("another")), peer="")
    corridor.keys.moves = [lambda keys: keys.change(XML_KEY, KeyState.ACTIVE)] * 2
    answers = await corridor.signer.sign_each(
        [
            (corridor.principal, pre_command_request("r0", counter=1)),
            (stranger, pre_command_request("r1", counter=2)),
        ]
    )
    assert errors_of(answers) == [None, None]
    principals = [one.checked.claim.authorised.case.principal for one in answers]
    assert principals == [corridor.principal, stranger]


# --- the registry moves ----------------------------------------------------------------------------------------------


async def test_what_was_judged_under_an_older_registry_is_judged_again():
    corridor = Corridor()
    corridor.keys.moves = [lambda keys: keys.change(XML_KEY, KeyState.ACTIVE)]
    (answer,) = await walk(corridor, pre_command_request())
    assert isinstance(answer, Signed)
    assert len(corridor.policy.asked) == 2
    assert answer.checked.claim.authorised.case.generation == 2


async def test_a_key_suspended_between_judge_and_claim_signs_nothing():
    corridor = Corridor()
    corridor.keys.moves = [lambda keys: keys.change(SUPPLIER_KEY, KeyState.SUSPENDED)]
    suspended, unaffected = await walk(corridor, pre_command_request(), duis_request())
    assert isinstance(suspended.error, WrongState)
    assert suspended.error.clause == "G5.13(b)"
    assert isinstance(unaffected, Signed)
    assert [claim.authorised.case.key.key_id for claim in corridor.hsm.signed] == [XML_KEY]


async def test_a_registry_that_never_rests_ends_in_busy():
    corridor = Corridor()
    corridor.keys.moves = [lambda keys: keys.change(XML_KEY, KeyState.ACTIVE)] * JUDGED_AT_MOST
    (answer,) = await walk(corridor, pre_command_request())
    assert isinstance(answer.error, Busy)
    assert corridor.hsm.signed == []
    assert isinstance(corridor.ledger.recorded[0], Refused)


async def test_one_move_fewer_is_still_signed():
    corridor = Corridor()
    corridor.keys.moves = [lambda keys: keys.change(XML_KEY, KeyState.ACTIVE)] * (JUDGED_AT_MOST - 1)
    (answer,) = await walk(corridor, pre_command_request())
    assert isinstance(answer, Signed)


async def test_only_stale_items_are_judged_again():
    corridor = Corridor()
    corridor.keys.moves = [lambda keys: keys.change(SUPPLIER_KEY, KeyState.ACTIVE)]
    answers = await walk(corridor, malformed_request("r0"), pre_command_request("r1"))
    assert errors_of(answers) == [Malformed, None]
    assert corridor.keys.asked == [{SUPPLIER_KEY}, {SUPPLIER_KEY}]


# --- refusals --------------------------------------------------------------------------------------------------------


async def test_a_refusal_is_recorded_with_what_was_known():
    corridor = Corridor()
    request = malformed_request()
    (answer,) = await walk(corridor, request)
    (refused,) = corridor.ledger.recorded
    assert isinstance(refused, Refused)
    assert refused.error is answer.error
    assert (refused.request, refused.principal, refused.operation) == (request, corridor.principal, "sign")
    assert refused.time_quality == "synchronised"
    assert refused.content is None
    assert corridor.policy.asked == []


async def test_a_policy_refusal_keeps_clause_and_policies():
    corridor = Corridor()
    corridor.policy.forbid = lambda _: "not on a Sunday"
    (answer,) = await walk(corridor, pre_command_request())
    assert isinstance(answer.error, Forbidden)
    assert (answer.error.clause, answer.error.policies) == ("G2.20", ("forbidden-by-test",))
    (refused,) = corridor.ledger.recorded
    assert refused.content is not None
    assert refused.content.service_reference_variants == ("7.2",)
    assert corridor.ledger.claimed == []


async def test_refusals_alone_use_no_key_and_open_no_claim():
    corridor = Corridor()
    await walk(corridor, malformed_request("r1"), malformed_request("r2"))
    assert corridor.ledger.claimed == []
    assert corridor.hsm.signed == []
    assert len(corridor.ledger.recorded) == 2


# --- things break ----------------------------------------------------------------------------------------------------


async def test_a_log_that_cannot_be_written_refuses_refusals_as_unavailable():
    corridor = Corridor()
    corridor.ledger.on_record = Unavailable("no disk", rule="store/gone")
    with pytest.raises(Unavailable):
        await walk(corridor, malformed_request())


async def test_after_a_key_was_used_a_lost_log_is_outcome_unknown_and_nothing_is_released():
    corridor = Corridor()
    corridor.ledger.on_record = Unavailable("no disk", rule="store/gone")
    with pytest.raises(OutcomeUnknown) as raised:
        await walk(corridor, pre_command_request())
    assert raised.value.rule == "record/unavailable"
    assert len(corridor.hsm.signed) == 1


async def test_a_store_that_cannot_claim_uses_no_key():
    corridor = Corridor()
    corridor.ledger.on_claim = Unavailable("no store", rule="store/gone")
    with pytest.raises(Unavailable):
        await walk(corridor, pre_command_request())
    assert corridor.hsm.signed == []


@pytest.mark.parametrize("failure", [Corrupt("the head went back", rule="log/head")])
async def test_a_corrupt_log_stays_corrupt(failure):
    corridor = Corridor()
    corridor.ledger.on_record = failure
    with pytest.raises(Corrupt):
        await walk(corridor, pre_command_request())


SPOILED = {
    "a flipped bit": lambda s, _: s[:-1] + bytes([s[-1] ^ 1]),
    "zeros": lambda s, _: bytes(64),
    "short": lambda s, _: s[:-1],
    "long": lambda s, _: s + b"\x00",
    "empty": lambda *_: b"",
    "r and s exchanged": lambda s, _: s[32:] + s[:32],
    "the order added": lambda s, _: b"\xff" * 64,
}


@pytest.mark.parametrize("name", SPOILED)
async def test_a_signature_that_does_not_verify_is_never_released(name):
    corridor = Corridor()
    corridor.hsm.spoil = SPOILED[name]
    (answer,) = await walk(corridor, pre_command_request())
    assert isinstance(answer, NotSigned)
    assert isinstance(answer.error, Corrupt)
    (failed,) = corridor.ledger.recorded
    assert isinstance(failed, Failed)
    assert failed.claim is corridor.hsm.signed[0]


async def test_one_spoiled_signature_spoils_no_other():
    corridor = Corridor()
    corridor.hsm.spoil = lambda s, claim: bytes(64) if claim.authorised.case.request.request_id == "r1" else s
    answers = await walk(corridor, *(pre_command_request(f"r{n}", counter=n) for n in range(3)))
    assert errors_of(answers) == [None, Corrupt, None]
    assert [type(one) for one in corridor.ledger.recorded] == [Checked, Failed, Checked]


async def test_signatures_in_the_wrong_order_are_never_released():
    corridor = Corridor()
    exchanged = corridor.hsm.sign

    async def sign_backwards(claims):
        made = await exchanged(claims)
        return [
            replace(one, signature=other.signature) for one, other in zip(made, reversed(made), strict=True)
        ]

    corridor.hsm.sign = sign_backwards
    answers = await walk(corridor, *(pre_command_request(f"r{n}", counter=n) for n in range(2)))
    assert errors_of(answers) == [Corrupt, Corrupt]


async def test_a_module_that_falls_silent_ends_as_recorded_outcome_unknown():
    corridor = Corridor()
    corridor.hsm.fail = lambda claim: claim.authorised.case.request.request_id == "r0"
    answers = await walk(corridor, *(pre_command_request(f"r{n}", counter=n) for n in range(2)))
    assert errors_of(answers) == [OutcomeUnknown, None]
    assert isinstance(corridor.ledger.recorded[0], Failed)


async def test_a_module_that_is_gone_is_unavailable_per_item():
    corridor = Corridor()
    corridor.hsm.gone = True
    answers = await walk(corridor, pre_command_request(), duis_request())
    assert errors_of(answers) == [Unavailable, Unavailable]
    assert all(isinstance(one, Refused) for one in corridor.ledger.recorded)


async def test_without_a_duis_schema_no_document_is_read_and_the_rest_goes_on():
    corridor = Corridor()
    corridor.signer._profiles = replace(corridor.profiles, duis=None)
    answers = await walk(corridor, duis_request(), pre_command_request())
    assert errors_of(answers) == [Malformed, None]
    assert answers[0].error.rule == "duis/no-schema"
