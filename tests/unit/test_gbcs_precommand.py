"""Pre-Commands: who may sign which, and what may be said beside them."""

import hashlib
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cryptosvc.core.content.base import Content, Once, Statement
from cryptosvc.core.content.gbcs import codes, dlms, framing, precommand
from cryptosvc.core.content.gbcs.precommand import PreCommand
from cryptosvc.core.content.gbcs.profile import GbcsProfile
from cryptosvc.core.errors import Forbidden, Malformed
from cryptosvc.core.names import ContentKind, Eui64, RemotePartyRole, UnixNanoseconds
from cryptosvc.core.registry import KeyRecord
from tests import precommands
from tests.certificates import key_record
from tests.precommands import BROKER, DEVICE, SUPPLIER

AT = UnixNanoseconds(0)
PROFILE = GbcsProfile(access_control_brokers=frozenset({BROKER}))
PUBLIC = ec.derive_private_key(7, ec.SECP256R1()).public_key()
ACTING_FOR = SUPPLIER.octets + (77).to_bytes(8)
DISABLE = Statement(service_reference_variant="7.2", user_id=str(SUPPLIER), user_role="IS")


def key(
    role: RemotePartyRole | None = RemotePartyRole.SUPPLIER, entity: Eui64 | None = SUPPLIER
) -> KeyRecord:
    return replace(key_record("command-signing", PUBLIC), role=role, eui64=entity)


def parse(message: bytes) -> PreCommand:
    return precommand.parse(message, PROFILE)


def bind(
    message: bytes,
    role: RemotePartyRole | None = RemotePartyRole.SUPPLIER,
    entity: Eui64 | None = SUPPLIER,
    statement: Statement = DISABLE,
) -> None:
    precommand.bind(parse(message), key(role, entity), statement, PROFILE, AT)


def forbidden(rule: str, clause: str, message: bytes, **choices: object) -> None:
    with pytest.raises(Forbidden) as refusal:
        bind(message, **choices)  # type: ignore[arg-type]
    assert (refusal.value.rule, refusal.value.clause) == (rule, clause)


def malformed(rule: str, message: bytes, **choices: object) -> None:
    with pytest.raises(Malformed) as refusal:
        bind(message, **choices)  # type: ignore[arg-type]
    assert refusal.value.rule == rule


def test_what_is_read() -> None:
    content = parse(precommands.ecs43(counter=2**63))
    assert content.kind is ContentKind.GBCS_PRE_COMMAND
    assert content.facts == (
        ("counter", str(2**63)),
        ("message_code", "0050"),
        ("originator", str(SUPPLIER)),
        ("payload_kind", "dlms"),
        ("target", str(DEVICE)),
        ("use_case", "ECS43"),
    )
    assert content.service_reference_variants == ("7.2",)
    assert content.promises == (
        Once(
            "gbcs-counter", f"{SUPPLIER}/{DEVICE}/01/{2**63}", hashlib.sha256(content.signed_bytes).digest()
        ),
    )


def test_facts_of_a_party_acting_for_another_are_sorted_too() -> None:
    content = parse(precommands.cs04ac(BROKER, acting_for=ACTING_FOR))
    assert content.facts == tuple(sorted(content.facts))
    assert dict(content.facts)["supplementary_party"] == str(SUPPLIER)
    assert dict(content.facts)["supplementary_counter"] == "77"
    assert content.service_reference_variants == ("8.8.2",)


def test_with_and_without_the_null_signature_it_is_the_same() -> None:
    message = precommands.gcs32()
    assert parse(message) == parse(message[:-1])
    assert precommand.emit(parse(message[:-1])) == message


def test_the_signed_pre_command_has_the_signature_in_place_of_the_null() -> None:
    message, signature = precommands.ecs43(), bytes(range(64))
    signed = precommand.assemble(parse(message), signature, key())
    assert signed == message[:-1] + b"\x40" + signature
    with pytest.raises(Malformed) as refusal:
        parse(signed)
    assert refusal.value.rule == "gbcs/already-signed"


def test_other_bytes_under_one_counter_promise_the_same_value() -> None:
    (one,), (other,) = parse(precommands.ecs38(limit=1)).promises, parse(precommands.ecs38(limit=2)).promises
    assert isinstance(one, Once)
    assert isinstance(other, Once)
    assert (one.scope, one.value) == (other.scope, other.value)
    assert one.digest != other.digest


def test_a_longest_promise_fits() -> None:
    (once,) = parse(precommands.ecs43(counter=2**64 - 1)).promises
    assert isinstance(once, Once)
    assert once.value.isascii()
    assert len(once.value) <= 200


def test_the_right_key_may() -> None:
    bind(precommands.ecs43())
    bind(
        precommands.gcs28(),
        statement=replace(DISABLE, service_reference_variant="8.1.1", user_role="GS"),
    )


def test_another_partys_key_may_not() -> None:
    forbidden("gbcs/originator", "G3.29", precommands.ecs43(), entity=DEVICE)
    forbidden("gbcs/originator", "G3.29", precommands.ecs43(), entity=None)
    forbidden(
        "gbcs/originator", "G2.56", precommands.ecs43(), entity=DEVICE, role=RemotePartyRole.TRANSITIONAL_COS
    )


@pytest.mark.parametrize("role", [role for role in RemotePartyRole if role is not RemotePartyRole.SUPPLIER])
def test_another_role_may_not(role: RemotePartyRole) -> None:
    users = (RemotePartyRole.NETWORK_OPERATOR, RemotePartyRole.LOAD_CONTROLLER)
    rule = "gbcs/broker" if role is RemotePartyRole.ACCESS_CONTROL_BROKER else "gbcs/role"
    forbidden(rule, "G3.29" if role in users else "G2.56", precommands.ecs43(), role=role)


def test_a_key_without_a_role_may_not() -> None:
    forbidden("gbcs/role", "G2.56", precommands.ecs43(), role=None)


def _access_request(code: int, originator: Eui64 = SUPPLIER) -> bytes:
    item = dlms.spec(dlms.GET, 3, "1-0:1.8.0.255", 2), dlms.NULL
    return precommands.build(code, dlms.emit((1000).to_bytes(8), [item]), originator)


@pytest.mark.parametrize(
    "code",
    [row.number for row in codes.CODES.values() if row.payload is codes.Payload.DLMS and not row.signers],
)
def test_a_command_without_a_signature_is_signed_by_nobody(code: int) -> None:
    message = _access_request(code)
    for role in RemotePartyRole:
        if role is not RemotePartyRole.ACCESS_CONTROL_BROKER:
            forbidden("gbcs/not-signed", "G3.29" if role in (2, 3, 8) else "G2.56", message, role=role)
    forbidden(
        "gbcs/not-signed",
        "G2.56",
        _access_request(code, BROKER),
        role=RemotePartyRole.ACCESS_CONTROL_BROKER,
        entity=BROKER,
    )


def test_the_broker_acts_for_a_user_and_says_so() -> None:
    broker = {"role": RemotePartyRole.ACCESS_CONTROL_BROKER, "entity": BROKER}
    acting = precommands.cs04ac(BROKER, acting_for=ACTING_FOR)
    bind(acting, RemotePartyRole.ACCESS_CONTROL_BROKER, BROKER, Statement(service_reference_variant="8.8.2"))
    bind(
        acting,
        RemotePartyRole.ACCESS_CONTROL_BROKER,
        BROKER,
        Statement(service_reference_variant="8.8.2", user_id=str(SUPPLIER), user_role="DCC"),
    )
    malformed(
        "gbcs/user-id",
        acting,
        statement=Statement(service_reference_variant="8.8.2", user_id=str(BROKER)),
        **broker,
    )
    forbidden("gbcs/acting-for", "G2.56", precommands.cs04ac(BROKER), **broker)


def test_only_the_configured_broker_acts_for_another() -> None:
    with pytest.raises(Malformed) as refusal:
        parse(precommands.cs04ac(SUPPLIER, acting_for=ACTING_FOR))
    assert refusal.value.rule == "gbcs/supplementary-party"
    forbidden(
        "gbcs/broker", "G2.56", precommands.cs04ac(SUPPLIER), role=RemotePartyRole.ACCESS_CONTROL_BROKER
    )
    forbidden("gbcs/broker", "G3.29", precommands.cs04ac(BROKER, acting_for=ACTING_FOR), entity=BROKER)


@pytest.mark.parametrize("octets", [3, 9, 10, 17, 19, 26])
def test_other_info_of_another_length_is_refused(octets: int) -> None:
    with pytest.raises(Malformed) as refusal:
        parse(precommands.cs04ac(BROKER, acting_for=bytes(octets - 2)))
    assert refusal.value.rule == "gbcs/other-info"


def test_a_signed_command_never_carries_a_partys_certificate_but_a_read_may() -> None:
    certificate = precommands.der(
        0x30, precommands.der(0x30), precommands.der(0x30), precommands.der(0x03, b"\x00")
    )
    item = dlms.spec(dlms.GET, 3, "1-0:1.8.0.255", 2), dlms.NULL
    payload = dlms.emit((1000).to_bytes(8), [item])
    read = precommands.build(0x0027, payload, BROKER, supplementary=ACTING_FOR + certificate)
    assert parse(read).supplementary_party == str(SUPPLIER)
    for broken in (certificate + b"\x00", certificate[:-1], b"\x31" + certificate[1:]):
        with pytest.raises(Malformed):
            parse(precommands.build(0x0027, payload, BROKER, supplementary=ACTING_FOR + broken))
    with pytest.raises(Malformed) as refusal:
        parse(precommands.cs04ac(BROKER, acting_for=ACTING_FOR + certificate))
    assert refusal.value.rule == "gbcs/other-info"


@pytest.mark.parametrize("variant", ["", "7.1", "7.20", "07.2", "7.2 "])
def test_the_variant_must_be_stated_and_be_one_of_the_codes(variant: str) -> None:
    malformed(
        "gbcs/service-reference-variant",
        precommands.ecs43(),
        statement=Statement(service_reference_variant=variant),
    )


def test_a_code_without_a_variant_takes_none() -> None:
    cell = precommands.der(0x30, b"\x02\x01\x05", precommands.KEY_USAGE_SIGNATURE)
    payload = precommands.der(0x30, cell, precommands.der(0x30, b"\x02\x01\x02"))
    message = precommands.build(0x0008, payload)
    role = RemotePartyRole.TRANSITIONAL_COS
    bind(message, role, statement=Statement())
    bind(message, role, statement=Statement(user_role="DCC"))
    malformed(
        "gbcs/service-reference-variant",
        message,
        role=role,
        statement=Statement(service_reference_variant="6.24.1"),
    )


@pytest.mark.parametrize("user_role", ["ES", "ED", "DCC", "OU", "is"])
def test_a_user_role_that_may_not_send_it_is_refused(user_role: str) -> None:
    forbidden(
        "gbcs/user-role",
        "G1.5",
        precommands.ecs43(),
        statement=replace(DISABLE, user_role=user_role),
    )


def test_a_user_id_that_is_not_the_originator_is_refused() -> None:
    for user_id in (str(DEVICE), str(SUPPLIER).lower(), "x"):
        malformed(
            "gbcs/user-id",
            precommands.ecs43(),
            statement=Statement(service_reference_variant="7.2", user_id=user_id),
        )


def test_other_content_is_not_a_pre_command() -> None:
    other = Content(kind=ContentKind.DUIS_DOCUMENT, signed_bytes=b"x")
    with pytest.raises(Malformed):
        precommand.bind(other, key(), DISABLE, PROFILE, AT)


@pytest.mark.parametrize(
    ("code", "script"), [(0x004F, precommands.OPEN), (0x0050, precommands.CLOSE), (0x0051, precommands.OPEN)]
)
def test_a_load_switch_code_carries_its_own_script_only(code: int, script: bytes) -> None:
    item = dlms.spec(dlms.ACTION, 9, precommands.LOAD_SWITCH_SCRIPTS, 1), dlms.LONG_UNSIGNED + script
    with pytest.raises(Malformed) as refusal:
        parse(precommands.build(code, dlms.emit((1000).to_bytes(8), [item])))
    assert refusal.value.rule == "gbcs/dlms-value"


@pytest.mark.parametrize(
    "item",
    [
        (dlms.spec(dlms.ACTION, 9, "0-0:10.0.107.255", 1), b"\x12\x00\x34"),
        (dlms.spec(dlms.ACTION, 9, precommands.LOAD_SWITCH_SCRIPTS, 2), b"\x12\x00\x34"),
        (dlms.spec(dlms.SET, 9, precommands.LOAD_SWITCH_SCRIPTS, 1), b"\x12\x00\x34"),
        (dlms.spec(dlms.ACTION, 10, precommands.LOAD_SWITCH_SCRIPTS, 1), b"\x12\x00\x34"),
        (dlms.spec(dlms.GET, 8, "0-0:1.0.0.255", 2), b"\x00"),
    ],
)
def test_ecs43_touches_nothing_but_the_load_switch(item: tuple[bytes, bytes]) -> None:
    with pytest.raises(Malformed) as refusal:
        parse(precommands.build(0x0050, dlms.emit((1000).to_bytes(8), [item])))
    assert refusal.value.rule == "gbcs/dlms-item"


def test_gcs32_closes_the_valve_and_never_arms_it() -> None:
    message = bytearray(precommands.gcs32())
    assert message[-3] == 0
    message[-3] = 1
    with pytest.raises(Malformed) as refusal:
        parse(bytes(message))
    assert refusal.value.rule == "gbcs/gbz-value"


def test_ecs70_sets_the_clock_by_adjustment_and_only_reads_the_time() -> None:
    counter = (1000).to_bytes(8)
    clock = "0-0:1.0.0.255"
    read = [(dlms.spec(dlms.GET, 8, clock, 2), dlms.NULL)]
    assert parse(precommands.build(0x0062, dlms.emit(counter, read))).service_reference_variants == (
        "6.11",
        "8.1.1",
    )
    write = [(dlms.spec(dlms.SET, 8, clock, 2), b"\x09\x0c" + bytes(12))]
    with pytest.raises(Malformed) as refusal:
        parse(precommands.build(0x0062, dlms.emit(counter, write)))
    assert refusal.value.rule == "gbcs/dlms-item"


def test_a_message_over_the_configured_size_is_refused() -> None:
    message = precommands.ecs43()
    small = GbcsProfile(maximum_octets=len(message) - 1)
    with pytest.raises(Malformed) as refusal:
        precommand.parse(message, small)
    assert refusal.value.rule == "gbcs/too-long"
    assert precommand.parse(message, GbcsProfile(maximum_octets=len(message))).counter == 1000


def test_a_profile_is_a_hashable_value() -> None:
    assert GbcsProfile.of([str(BROKER)]) == PROFILE
    assert hash(GbcsProfile.of([str(BROKER)])) == hash(PROFILE)
    assert GbcsProfile().brokers == frozenset()
    with pytest.raises(Malformed):
        GbcsProfile.of(["90b3d51f30000002"])


def test_refusals_name_the_field_of_the_request() -> None:
    with pytest.raises(Malformed) as refusal:
        parse(b"")
    assert refusal.value.field == framing.FIELD == "gbcs_pre_command"
