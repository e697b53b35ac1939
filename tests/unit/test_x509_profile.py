"""What is configured reaches the inspectors, and what is out of range does not load."""

from dataclasses import replace

import pytest

from cryptosvc.core.content.x509 import certificate, lint, signed
from cryptosvc.core.content.x509.profile import X509Profile, default_profile
from cryptosvc.core.errors import Malformed
from tests.certificates import organisation_tbs
from tests.tlv import inserted, replaced
from tests.x509_specimens import CONTINGENCY, ISSUING, ORGANISATION, PROFILE, SPECIMENS

LIVE_POLICY = "1.2.3.4"


@pytest.mark.parametrize(
    "wrong",
    [
        {"organisation_policies": frozenset()},
        {"issuing_policies": frozenset()},
        {"root_policies": frozenset({"anyPolicy"})},
        {"extra_extensions": frozenset({"1.02"})},
        {"organisation_days": 0},
        {"organisation_roles": frozenset({2, 7})},
        {"organisation_roles": frozenset({256})},
        {"serial_octets": 21},
        {"serial_octets": 0},
        {"crl_shortest_seconds": 10, "crl_longest_seconds": 9},
        {"arl_shortest_seconds": 0},
        {"revocation_reasons": frozenset({8})},
    ],
)
def test_out_of_range(wrong: dict[str, object]) -> None:
    with pytest.raises(Malformed) as caught:
        X509Profile(**wrong)  # type: ignore[arg-type]
    assert caught.value.rule == "x509-profile/range"


def test_a_profile_is_a_value() -> None:
    assert default_profile() == X509Profile()
    assert len({default_profile(), X509Profile(), PROFILE}) == 2


def rule_of(payload: bytes, profile: X509Profile) -> str:
    try:
        certificate.parse(payload, profile)
    except Malformed as error:
        return error.rule
    return ""


def test_policies_roles_and_days_are_configuration() -> None:
    payload = organisation_tbs(
        ISSUING.certificate, ORGANISATION.public_key(), policy=LIVE_POLICY, role=0x88, days=4000
    )
    profile = PROFILE
    assert rule_of(payload, profile) == "certificate/role"
    profile = replace(profile, organisation_roles=frozenset({0x88}))
    assert rule_of(payload, profile) == "certificate/policies"
    profile = replace(profile, organisation_policies=frozenset({LIVE_POLICY}))
    assert rule_of(payload, profile) == "certificate/validity"
    assert rule_of(payload, replace(profile, organisation_days=4000)) == ""


def test_serial_octets_are_configuration() -> None:
    payload = replaced(SPECIMENS["organisation"].payload, (1,), b"\x02\x14" + b"\x7f" * 20)
    assert rule_of(payload, PROFILE) == "certificate/serial"
    assert rule_of(payload, replace(PROFILE, serial_octets=20)) == ""


def test_contingency_key_and_root_policies_are_configuration() -> None:
    payload = SPECIMENS["root-contingency"].payload
    assert CONTINGENCY in payload
    assert rule_of(payload, PROFILE) == ""
    assert rule_of(payload, replace(PROFILE, root_contingency_key=False)) == "certificate/extension"
    assert rule_of(payload, replace(PROFILE, root_policies=frozenset())) == "certificate/policies"


def test_extra_extensions_are_never_critical_and_always_der() -> None:
    oid = bytes.fromhex("06062b0601040101")  # 1.3.6.1.4.1.1
    profile = replace(PROFILE, extra_extensions=frozenset({"1.3.6.1.4.1.1"}))

    def extended(rest: bytes) -> bytes:
        extension = oid + rest
        raw = bytes([0x30, len(extension)]) + extension
        return inserted(SPECIMENS["organisation"].payload, (7, 0, 0), raw)

    assert rule_of(extended(b"\x04\x02\x05\x00"), PROFILE) == "certificate/extension"
    assert rule_of(extended(b"\x04\x02\x05\x00"), profile) == ""
    assert rule_of(extended(b"\x01\x01\xff\x04\x02\x05\x00"), profile) == "certificate/criticality"
    assert rule_of(extended(b"\x04\x03\x05\x81\x00"), profile) == "der/length-form"


def test_the_linter_refuses_what_the_profile_would_let_pass() -> None:
    # An extendedKeyUsage beside: the linter sees an encoding that is none of that type.
    profile = replace(PROFILE, extra_extensions=frozenset({"2.5.29.37"}))
    raw = bytes.fromhex("30090603551d2504020500")
    payload = inserted(SPECIMENS["organisation"].payload, (7, 0, 0), raw)
    assert rule_of(payload, PROFILE) == "certificate/extension"
    assert rule_of(payload, profile) in {"lint/finding", "referee/refused"}


def test_the_linter_is_asked_and_its_waiver_is_for_roots_only() -> None:
    root = signed.throwaway_copy(SPECIMENS["root"].payload)
    lint.certificate(root, root=True)
    with pytest.raises(Malformed, match="authority_key_identifier_extension_absent"):
        lint.certificate(root, root=False)
    with pytest.raises(Malformed) as caught:
        lint.certificate(b"\x30\x00", root=False)
    assert caught.value.rule == "lint/unreadable"
    with pytest.raises(Malformed):
        lint.revocation_list(root)
