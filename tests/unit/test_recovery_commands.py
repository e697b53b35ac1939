"""The keys of the SMKI Recovery Procedure: what each signs, and that it signs nothing else (G2.56)."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cryptosvc.core.content.base import Statement
from cryptosvc.core.content.gbcs import codes, precommand
from cryptosvc.core.content.gbcs.profile import GbcsProfile
from cryptosvc.core.errors import Forbidden, Malformed
from cryptosvc.core.keyclass import KEY_CLASSES
from cryptosvc.core.names import ContentKind, Eui64, Operation, RemotePartyRole, UnixNanoseconds
from cryptosvc.core.registry import KeyRecord
from tests import precommands
from tests.certificates import key_record
from tests.precommands import BROKER

OWNER = Eui64.parse("90-B3-D5-1F-30-00-00-05")
PROFILE = GbcsProfile(access_control_brokers=frozenset({BROKER}))
PUBLIC = ec.derive_private_key(11, ec.SECP256R1()).public_key()
UNSAID = Statement(service_reference_variant="", user_id="", user_role="")
COUNTER = 5
BY_RECOVERY, BY_CONTINGENCY, BY_SUPPLIER = 0x0108, 0x0109, 0x0102


def der(tag: int, *contents: bytes) -> bytes:
    content = b"".join(contents)
    assert len(content) < 0x80
    return bytes((tag, len(content))) + content


def replaces(code: int, *symmetric_key: bytes, cell: bytes = b"\x02\x01\x02") -> bytes:
    """CS02b of a message code, which is also its mode: one certificate, for the cell of a role."""
    certificate = der(0x30, der(0x30, b"\x02\x01\x01"), der(0x30), der(0x03, b"\x00\xff"))
    control = der(0x30, der(0x02, bytes((code & 0xFF,))), *symmetric_key, b"\x83\x01\x05")
    replaced = der(0x30, certificate, der(0x30, cell, bytes.fromhex("03020780")))
    return der(0x30, control, der(0x30, replaced), der(0x30))


SYMMETRIC_KEY = b"\x80\x04\x01\x02\x03\x04"
MESSAGES = {
    BY_RECOVERY: replaces(BY_RECOVERY),
    BY_CONTINGENCY: replaces(BY_CONTINGENCY, SYMMETRIC_KEY),
    BY_SUPPLIER: replaces(BY_SUPPLIER),
}


def message(code: int, originator: Eui64 = OWNER, acting_for: bytes = b"") -> bytes:
    return precommands.build(code, MESSAGES[code], originator, counter=COUNTER, supplementary=acting_for)


def key(key_class: str, role: RemotePartyRole | None = None, entity: Eui64 | None = OWNER) -> KeyRecord:
    return replace(key_record(key_class, PUBLIC), role=role, eui64=entity)


RECOVERY = key("recovery", RemotePartyRole.RECOVERY)
CONTINGENCY = key("contingency")


def bind(octets: bytes, by: KeyRecord, statement: Statement = UNSAID) -> None:
    read = precommand.parse(octets, PROFILE)
    precommand.bind(read, by, statement, PROFILE, UnixNanoseconds(0))


def rule_of(octets: bytes, by: KeyRecord, statement: Statement = UNSAID) -> str:
    with pytest.raises((Forbidden, Malformed)) as caught:
        bind(octets, by, statement)
    return caught.value.rule


def test_each_signs_its_one_command() -> None:
    bind(message(BY_RECOVERY), RECOVERY)
    bind(message(BY_CONTINGENCY), CONTINGENCY)
    bind(message(BY_CONTINGENCY), CONTINGENCY, replace(UNSAID, user_role="DCC"))


def test_of_all_message_codes_the_recovery_role_signs_one() -> None:
    signed = [code.number for code in codes.CODES.values() if RemotePartyRole.RECOVERY in code.signers]
    assert signed == [BY_RECOVERY]
    assert RemotePartyRole.RECOVERY not in KEY_CLASSES["command-signing"].roles
    assert KEY_CLASSES["recovery"].roles == {RemotePartyRole.RECOVERY}
    assert not KEY_CLASSES["contingency"].roles


@pytest.mark.parametrize(
    ("code", "by", "rule"),
    [
        (BY_CONTINGENCY, RECOVERY, "gbcs/not-signed"),
        (BY_SUPPLIER, RECOVERY, "gbcs/role"),
        (BY_RECOVERY, CONTINGENCY, "gbcs/contingency"),
        (BY_SUPPLIER, CONTINGENCY, "gbcs/contingency"),
        (BY_CONTINGENCY, key("command-signing", RemotePartyRole.NETWORK_OPERATOR), "gbcs/not-signed"),
        # as keys were registered before Recovery keys had a class of their own
        (BY_RECOVERY, key("command-signing", RemotePartyRole.RECOVERY), "gbcs/role"),
        (BY_RECOVERY, key("recovery", RemotePartyRole.SUPPLIER), "gbcs/role"),
        (BY_SUPPLIER, key("recovery", RemotePartyRole.SUPPLIER), "gbcs/role"),
    ],
)
def test_neither_signs_the_others_command_and_nobody_else_theirs(code: int, by: KeyRecord, rule: str) -> None:
    assert rule_of(message(code), by) == rule


def test_other_commands_are_refused_under_the_clause_that_forbids_them() -> None:
    for octets, by in ((message(BY_SUPPLIER), RECOVERY), (message(BY_RECOVERY), CONTINGENCY)):
        with pytest.raises(Forbidden) as caught:
            bind(octets, by)
        assert caught.value.clause == "G2.56"


@pytest.mark.parametrize(("code", "by"), [(BY_RECOVERY, RECOVERY), (BY_CONTINGENCY, CONTINGENCY)])
def test_the_originator_is_whom_the_key_is_for(code: int, by: KeyRecord) -> None:
    assert rule_of(message(code, BROKER), by) == "gbcs/originator"
    assert rule_of(message(code), replace(by, eui64=None)) == "gbcs/originator"


def test_the_contingency_key_acts_for_nobody() -> None:
    acting = message(BY_CONTINGENCY, BROKER, OWNER.octets + (7).to_bytes(8))
    assert rule_of(acting, key("contingency", entity=BROKER)) == "gbcs/contingency"


@pytest.mark.parametrize(("code", "by"), [(BY_RECOVERY, RECOVERY), (BY_CONTINGENCY, CONTINGENCY)])
def test_neither_is_of_a_service_reference_variant(code: int, by: KeyRecord) -> None:
    assert (
        rule_of(message(code), by, replace(UNSAID, service_reference_variant="7.2"))
        == "gbcs/service-reference-variant"
    )


def test_only_the_command_by_contingency_carries_the_symmetric_key() -> None:
    for code, payload in (
        (BY_CONTINGENCY, replaces(BY_CONTINGENCY)),
        (BY_RECOVERY, replaces(BY_RECOVERY, SYMMETRIC_KEY)),
    ):
        with pytest.raises(Malformed):
            precommand.parse(precommands.build(code, payload, OWNER, counter=COUNTER), PROFILE)


def test_the_ceiling_lets_them_do_nothing_but_sign() -> None:
    for name, kinds in (
        ("recovery", {ContentKind.GBCS_PRE_COMMAND, ContentKind.CERTIFICATION_REQUEST}),
        ("contingency", {ContentKind.GBCS_PRE_COMMAND}),
    ):
        allowed = set(KEY_CLASSES[name].ceiling)
        assert allowed == {(Operation.SIGN, kind) for kind in kinds}
