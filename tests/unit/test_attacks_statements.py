"""What a caller leaves out beside a User's Pre-Command must not let it past what it would be asked for saying it.

The User Role decides who may send a Service Reference Variant, whether the caller holds the role, and which policies
are asked (no role reads as the DCC's). Thresholds will count by User ID and User Role, so a User's Pre-Command names both.
"""

from dataclasses import replace

import pytest

from cryptosvc.core.content.base import Statement
from cryptosvc.core.content.gbcs import codes, precommand
from cryptosvc.core.content.gbcs.profile import GbcsProfile
from cryptosvc.core.errors import Forbidden, Malformed
from cryptosvc.core.names import RemotePartyRole, UnixNanoseconds, UserRole
from cryptosvc.flow.sign import NotSigned
from tests import corridor, precommands
from tests.certificates import key_pair, key_record
from tests.precommands import SUPPLIER

AT = UnixNanoseconds(0)
PROFILE = GbcsProfile()
STATED = Statement(service_reference_variant="7.1", user_id=str(SUPPLIER), user_role="IS")


def bind(message: bytes, statement: Statement, role: RemotePartyRole = RemotePartyRole.SUPPLIER) -> None:
    key = key_record(
        "command-signing", key_pair("attacker").public_key(), role=role.value, entity=str(SUPPLIER)
    )
    precommand.bind(precommand.parse(message, PROFILE), key, statement, PROFILE, AT)


@pytest.mark.parametrize(
    ("left_out", "field"),
    [
        ({"user_role": ""}, "user_role"),
        ({"user_id": ""}, "user_id"),
        ({"user_id": "", "user_role": ""}, "user_id"),
    ],
)
def test_a_users_pre_command_names_user_id_and_user_role(left_out: dict[str, str], field: str) -> None:
    bind(precommands.ecs42(), STATED)
    with pytest.raises(Malformed) as refusal:
        bind(precommands.ecs42(), replace(STATED, **left_out))
    assert (refusal.value.rule, refusal.value.field) == ("gbcs/user-unstated", field)


async def test_a_caller_without_an_eligible_role_does_not_sign_by_saying_nothing() -> None:
    walk = corridor.Corridor()
    caller = replace(corridor.caller_record(), user_roles=frozenset({UserRole.EXPORT_SUPPLIER}))
    principal = replace(walk.principal, caller=caller)
    for role, rule in (("IS", "caller/user-role"), ("ES", "gbcs/user-role"), ("", "gbcs/user-unstated")):
        asked = corridor.pre_command_request(f"asks-{role}")
        asked = replace(asked, statement=replace(asked.statement, user_role=role))
        (answer,) = await walk.signer.sign(principal, [asked])
        assert isinstance(answer, NotSigned)
        assert answer.error.rule == rule
    assert walk.hsm.signed == []


def _replacement(code: int) -> bytes:
    certificate = precommands.der(
        0x30, precommands.der(0x30), precommands.der(0x30), precommands.der(0x03, b"\x00")
    )
    return precommands.cs02b(certificate, code)


@pytest.mark.parametrize("user_role", [role.value for role in UserRole])
def test_a_role_of_another_remote_party_is_refused_although_the_variant_has_it(user_role: str) -> None:
    """6.15.1 is for suppliers and network operators; 0102 is the former's message, and a supplier's key signs it."""
    assert UserRole.ELECTRICITY_DISTRIBUTOR in codes.ELIGIBLE_ROLES["6.15.1"]
    said = replace(STATED, service_reference_variant="6.15.1", user_role=user_role)
    if user_role in ("IS", "GS"):
        bind(_replacement(0x0102), said)
        return
    with pytest.raises(Forbidden) as refusal:
        bind(_replacement(0x0102), said)
    assert refusal.value.rule == "gbcs/user-role"


def test_a_user_is_named_where_there_is_no_variant_too() -> None:
    """0100 has no variant, hence no row of eligible roles: the roles of the key's Remote Party Role count."""
    payload = precommands.der(
        0x30,
        precommands.der(0x30, b"\x02\x01\x00", b"\x83" + precommands.unsigned(1000)[1:]),
        precommands.der(
            0x30,
            precommands.der(
                0x30,
                precommands.der(
                    0x30, precommands.der(0x30), precommands.der(0x30), precommands.der(0x03, b"\x00")
                ),
                precommands.der(0x30, precommands.unsigned(0), precommands.KEY_USAGE_SIGNATURE),
            ),
        ),
        precommands.der(0x30),
    )
    message = precommands.build(0x0100, payload)
    bind(message, replace(STATED, service_reference_variant=""))
    with pytest.raises(Malformed):
        bind(message, Statement())
    with pytest.raises(Forbidden):
        bind(message, replace(STATED, service_reference_variant="", user_role="LC"))
