"""Gather: what a decision may depend on, read through the ports; keys a caller may not see look like no keys."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cryptosvc.core import supply
from cryptosvc.core.case import Case
from cryptosvc.core.content import forms
from cryptosvc.core.errors import Forbidden, Malformed, Unavailable
from cryptosvc.core.names import Environment, KeyId, Operation, SystemName, UserRole
from cryptosvc.core.registry import Grant, KeyState
from tests import duis_documents
from tests.corridor import (
    SUPPLIER_KEY,
    XML_KEY,
    Corridor,
    caller_record,
    duis_request,
    pre_command_request,
)


async def gather(corridor: Corridor, *requests, operation=Operation.SIGN):
    items = [(one, forms.parse(one.form, one.payload, corridor.profiles)) for one in requests]
    return await corridor.gatherer.gather(corridor.principal, operation, items)


async def the_case(corridor: Corridor, request=None) -> Case:
    (case,) = await gather(corridor, request or pre_command_request())
    assert isinstance(case, Case), case
    return case


async def the_refusal(corridor: Corridor, request=None, kind=Forbidden):
    (refusal,) = await gather(corridor, request or pre_command_request())
    assert isinstance(refusal, kind)
    return refusal


async def test_the_facts_are_those_of_key_module_caller_and_content():
    corridor = Corridor()
    case = await the_case(corridor)
    facts = case.facts
    assert (facts.operation, facts.key_class, facts.state) == (
        Operation.SIGN,
        "command-signing",
        KeyState.ACTIVE,
    )
    assert (facts.environment, facts.user_role) == (Environment.TEST, UserRole.IMPORT_SUPPLIER)
    assert (facts.same_system, facts.granted, facts.in_united_kingdom) == (True, True, True)
    assert (facts.module_standard, facts.module_level) == ("FIPS 140-2", 3)
    assert (facts.supply_sensitive, facts.supply_sensitive_check, facts.eligible_user_key) == (
        False,
        False,
        False,
    )
    assert case.generation == corridor.keys.generation
    assert case.at == corridor.clock.at
    assert hash(facts) == hash((await the_case(corridor)).facts)


async def test_a_batch_reads_its_keys_once():
    corridor = Corridor()
    cases = await gather(
        corridor, pre_command_request("a", counter=1), duis_request(), pre_command_request("b", counter=2)
    )
    assert [case.key.key_id for case in cases] == [SUPPLIER_KEY, XML_KEY, SUPPLIER_KEY]
    assert corridor.keys.asked == [{SUPPLIER_KEY, XML_KEY}]


async def test_an_unknown_key_and_a_key_not_granted_are_told_apart_by_nothing():
    unknown = await the_refusal(Corridor(), pre_command_request(key_id=KeyId("nobody")))
    not_granted = await the_refusal(
        Corridor(caller=caller_record(Grant(operation="sign", key_class="xml-signing")))
    )
    others = Corridor()
    others.keys.records[SUPPLIER_KEY] = replace(
        others.keys.records[SUPPLIER_KEY], system=SystemName("another")
    )
    of_another_system = await the_refusal(others)
    for refusal in (not_granted, of_another_system):
        assert str(refusal) == str(unknown)
        assert (refusal.rule, refusal.clause, refusal.field) == (unknown.rule, unknown.clause, unknown.field)


@pytest.mark.parametrize(
    "grant",
    [
        Grant(operation="explain", key_class="command-signing"),
        Grant(operation="sign", key_class="root-oca"),
        Grant(operation="sign", key_class="command-signing", key_ids=frozenset({"another-key"})),
        Grant(operation="SIGN", key_class="command-signing"),
    ],
)
async def test_a_grant_is_for_its_operation_class_and_keys(grant):
    assert (await the_refusal(Corridor(caller=caller_record(grant)))).rule == "key/not-granted"


async def test_a_named_key_of_another_system_may_be_granted_and_policy_is_told():
    grant = Grant(operation="sign", key_class="command-signing", key_ids=frozenset({SUPPLIER_KEY}))
    corridor = Corridor(caller=caller_record(grant))
    assert (await the_case(corridor)).facts.same_system is True
    corridor.keys.records[SUPPLIER_KEY] = replace(
        corridor.keys.records[SUPPLIER_KEY], system=SystemName("another")
    )
    assert (await the_case(corridor)).facts.same_system is False


async def test_a_caller_states_its_own_user_ids_and_roles_only():
    corridor = Corridor()
    asked = pre_command_request()
    other_user = replace(asked, statement=replace(asked.statement, user_id=duis_documents.STRANGER))
    other_role = replace(asked, statement=replace(asked.statement, user_role="GS"))
    no_role = replace(asked, statement=replace(asked.statement, user_role=""))
    assert (await the_refusal(corridor, other_user)).rule == "caller/user-id"
    assert (await the_refusal(corridor, other_role)).rule == "caller/user-role"
    assert (await the_case(corridor, no_role)).facts.user_role is None
    silent = replace(asked, statement=replace(asked.statement, user_id="", user_role=""))
    assert (await the_case(corridor, silent)).request.statement.user_id == ""


@pytest.mark.parametrize(
    ("country", "worker_country", "inside"),
    [("GB", "GB", True), ("GB", "FR", False), ("FR", "GB", False), ("FR", "FR", False)],
)
async def test_module_and_worker_both_stand_in_the_united_kingdom(country, worker_country, inside):
    corridor = Corridor()
    corridor.hsm.module = replace(corridor.hsm.module, country=country, worker_country=worker_country)
    assert (await the_case(corridor)).facts.in_united_kingdom is inside


async def test_one_item_that_fails_leaves_the_others():
    corridor = Corridor()
    answers = await gather(corridor, pre_command_request(key_id=KeyId("nobody")), pre_command_request())
    assert [type(one) for one in answers] == [Forbidden, Case]


async def test_a_module_that_is_gone_is_unavailable_per_item():
    corridor = Corridor()
    corridor.hsm.gone = True
    assert (await the_refusal(corridor, kind=Unavailable)).rule == "hsm/gone"


def checker():
    key = ec.generate_private_key(ec.SECP256R1())
    spki = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return spki, lambda message: key.sign(message, ec.ECDSA(hashes.SHA256()))


async def test_a_supply_sensitive_check_is_a_fact_when_it_holds_and_a_refusal_when_it_does_not():
    spki, signs = checker()
    corridor = Corridor(caller=replace(caller_record(), supply_sensitive_checker_key=spki), sensitive={"7.2"})
    asked = pre_command_request()
    bare = await the_case(corridor, asked)
    assert (bare.facts.supply_sensitive, bare.facts.supply_sensitive_check) == (True, False)
    envelope = supply.attest(asked.payload, asked.request_id, spki, signs)
    checked = await the_case(corridor, replace(asked, supply_sensitive_check=envelope))
    assert (checked.facts.supply_sensitive, checked.facts.supply_sensitive_check) == (True, True)
    reused = replace(pre_command_request("another"), supply_sensitive_check=envelope)
    assert (await the_refusal(corridor, reused, Malformed)).clause == "G3.25(a)"


async def test_sensitivity_is_read_from_the_bytes_of_every_form():
    corridor = Corridor(sensitive={"8.2"})
    assert (await the_case(corridor, duis_request())).facts.supply_sensitive is True
    silent = replace(
        duis_request(), statement=replace(duis_request().statement, service_reference_variant="")
    )
    assert (await the_case(corridor, silent)).facts.supply_sensitive is True


@pytest.mark.parametrize(
    ("sensitive", "marked", "role", "wanted"),
    [
        (set(), False, 2, False),
        (set(), True, 2, True),
        ({"7.2"}, False, 2, True),
        ({"7.2"}, False, 3, False),  # only suppliers may send 7.2
        ({"6.15.1"}, False, 3, True),
        ({"7.16"}, False, 8, True),
        ({"7.16"}, False, 2, False),
        ({"7.2"}, False, 4, False),  # the DCC is nobody's Eligible User
        ({"12.2"}, False, 2, False),  # no Command belongs to it
    ],
)
async def test_a_key_is_an_eligible_users_where_its_role_or_its_record_says_so(
    sensitive, marked, role, wanted
):
    corridor = Corridor(sensitive=sensitive)
    record = replace(corridor.keys.records[SUPPLIER_KEY], role=role, signs_for_eligible_user=marked)
    corridor.keys.records[SUPPLIER_KEY] = record
    assert (await the_case(corridor)).facts.eligible_user_key is wanted
