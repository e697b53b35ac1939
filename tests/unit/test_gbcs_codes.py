"""The table of message codes."""

import pytest

from cryptosvc.core.content.gbcs import codes
from cryptosvc.core.content.gbcs.codes import CODES, ELIGIBLE_ROLES, Payload
from cryptosvc.core.content.gbcs.items import ITEMS
from cryptosvc.core.content.gbcs.structures import MODES, STRUCTURES
from cryptosvc.core.content.gbcs.templates import GRAMMARS
from cryptosvc.core.errors import Malformed
from cryptosvc.core.keyclass import KEY_CLASSES
from cryptosvc.core.names import RemotePartyRole, UserRole

WITHDRAWN_AND_UNKNOWN_ITEMS = {0x0046, 0x0054, 0x0055, 0x007D}


def test_every_asn1_code_has_a_structure_and_no_other_does() -> None:
    assert {row.number for row in CODES.values() if row.payload is Payload.ASN1} == set(STRUCTURES)
    assert set(MODES) <= set(STRUCTURES)


def test_every_critical_dlms_and_gbz_code_has_its_items_but_the_withdrawn() -> None:
    known = set(ITEMS) | set(GRAMMARS)
    critical = {row.number for row in CODES.values() if row.signers and row.payload is not Payload.ASN1}
    assert critical - known == WITHDRAWN_AND_UNKNOWN_ITEMS
    assert known <= critical
    for code in ITEMS:
        assert codes.by_number(code).payload is Payload.DLMS
    for code in GRAMMARS:
        assert codes.by_number(code).payload is Payload.GBZ


def test_only_roles_of_keys_that_sign_commands_sign() -> None:
    signing = {role for row in CODES.values() for role in row.signers}
    assert signing == KEY_CLASSES["command-signing"].roles | KEY_CLASSES["recovery"].roles


def test_one_role_signs_for_each_kind_of_party() -> None:
    assert codes.by_number(0x0050).signers == {RemotePartyRole.SUPPLIER: 2}
    assert codes.by_number(0x0103).signers == {
        RemotePartyRole.NETWORK_OPERATOR: 2,
        RemotePartyRole.ACCESS_CONTROL_BROKER: 2,
    }
    assert codes.by_number(0x000F).signers == {
        RemotePartyRole.SUPPLIER: 2,
        RemotePartyRole.ACCESS_CONTROL_BROKER: 18,
    }
    assert codes.by_number(0x0108).signers == {RemotePartyRole.RECOVERY: 2}
    assert not codes.by_number(0x0104).signers
    assert not codes.by_number(0x0109).signers


@pytest.mark.parametrize(
    "number", [0x0000, 0x0018, 0x0061, 0x00CC, 0x0116, 0x0124, 0x0128, 0x012B, 0x1000, 0xFFFF]
)
def test_an_unknown_code_or_that_of_an_alert_is_refused(number: int) -> None:
    with pytest.raises(Malformed) as refusal:
        codes.by_number(number)
    assert refusal.value.rule == "gbcs/message-code"


def test_eleven_codes_belong_to_several_variants() -> None:
    """Nine here; with their other, MAC-only form 0008 and 011B are eleven."""
    several = {row.text for row in CODES.values() if len({*row.variants, *row.broker_variants}) > 1}
    assert several == {"000F", "0055", "005F", "0062", "007F", "00AB", "00AF", "0102", "0103"}


def test_every_signed_variant_has_eligible_users() -> None:
    signed = {
        variant for row in CODES.values() if row.signers for variant in (*row.variants, *row.broker_variants)
    }
    assert signed == set(ELIGIBLE_ROLES)
    assert ELIGIBLE_ROLES["7.1"] == {UserRole.IMPORT_SUPPLIER}
