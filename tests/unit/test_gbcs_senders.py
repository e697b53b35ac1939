"""Who may send a Command without a signature: by the request matrix, and by what the published parties did send."""

import json
from pathlib import Path

import pytest

from cryptosvc.core.content.gbcs import codes
from cryptosvc.core.content.gbcs.command import parse
from cryptosvc.core.content.gbcs.parties import Parties
from cryptosvc.core.content.gbcs.senders import SENDERS, may_send
from cryptosvc.core.errors import Forbidden
from cryptosvc.core.names import RemotePartyRole
from tests.mac_corridor import asked_of, parties_of
from tests.mac_keys import certificate
from tests.rtds import PROFILE

SUPPLIER = bytes.fromhex("90b3d51f30010000")
OPERATOR = bytes.fromhex("90b3d51f30020000")


def test_every_variant_of_an_unsigned_command_has_its_line_and_it_is_the_matrix(gbcs_data: Path) -> None:
    rows = json.loads((gbcs_data / "duis_request_matrix.json").read_text())
    eligible = {row["Service Reference Variant"]: set(row["Eligible User Roles"]) for row in rows}
    unsigned = {
        variant
        for code in codes.CODES.values()
        if not code.signers
        for variant in code.variants
        if eligible.get(variant)
    }
    assert set(SENDERS) == unsigned
    alone = {"IS": 2, "GS": 2, "ED": 3, "GT": 3, "LC": 8, "OU": 127}
    for variant, roles in SENDERS.items():
        for user, role in alone.items():
            if user in eligible[variant]:
                assert RemotePartyRole(role) in roles
        if not eligible[variant] & {"ED", "GT"}:
            assert RemotePartyRole.NETWORK_OPERATOR not in roles
        if not eligible[variant] & {"IS", "GS", "ES", "RSA"}:
            assert RemotePartyRole.SUPPLIER not in roles


@pytest.mark.parametrize(
    ("role", "variant", "may"),
    [
        (RemotePartyRole.SUPPLIER, "2.2", True),
        (RemotePartyRole.NETWORK_OPERATOR, "2.2", False),
        (RemotePartyRole.NETWORK_OPERATOR, "6.5", True),
        (RemotePartyRole.SUPPLIER, "6.5", False),
        (RemotePartyRole.OTHER, "9.1", True),
        (RemotePartyRole.SUPPLIER, "8.5", False),
        (RemotePartyRole.WAN_PROVIDER, "11.2", False),
    ],
)
def test_both_sides(role: RemotePartyRole, variant: str, may: bool) -> None:
    assert may_send(role, (variant,)) is may
    assert not may_send(role, ())


def test_a_network_operator_sends_no_top_up(gbcs_data: Path) -> None:
    one = next(
        each
        for each in asked_of(gbcs_data)
        if each.command.agreement.initiator == SUPPLIER
        and each.command.pre_command.service_reference_variants == ("2.2",)
    )
    device = one.request.device_certificate
    parties = parties_of(gbcs_data)
    assert parse(one.request.payload, device, PROFILE, parties).originator is None
    known = Parties.of([certificate(gbcs_data, OPERATOR, "ds")], [], chained=False)
    moved = one.request.payload.replace(SUPPLIER, OPERATOR)
    with pytest.raises(Forbidden) as refused:
        parse(moved, device, PROFILE, known)
    assert (refused.value.rule, refused.value.clause) == ("gbcs/not-eligible", "G2.44(b)")
