"""G2.22B(a): what arrives from the other relevant system is used once its origin and integrity verified."""

from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cryptosvc.adapters.policy import CedarPolicy
from cryptosvc.adapters.policy.source import parse_source
from cryptosvc.config.settings import read_settings
from cryptosvc.core import separation, supply
from cryptosvc.core.case import Case, Request
from cryptosvc.core.content import forms
from cryptosvc.core.content.gbcs.command import CommandContent
from cryptosvc.core.content.x509.identity import read_certificate
from cryptosvc.core.errors import Forbidden, Malformed, Refusal
from cryptosvc.core.names import ContentKind, Environment, Operation, SystemName
from cryptosvc.core.separation import RelevantSystem, SeparationProfile
from cryptosvc.core.supply import SupplyProfile
from cryptosvc.flow.gather import Gatherer
from cryptosvc.wiring import profiles
from tests import certificates
from tests.conftest import REPOSITORY
from tests.corridor import SUPPLIER, Corridor, duis_request, key_record, pre_command_request

OTHER = SystemName("the-other-system")
OTHER_KEY = certificates.key_pair("other relevant system")
STRANGER = certificates.key_pair("a stranger")


def spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def attested(payload: bytes, key=OTHER_KEY, system: SystemName = OTHER, said_to_be=None) -> bytes:
    return separation.attest(
        payload, system, spki(said_to_be or key), lambda octets: key.sign(octets, ec.ECDSA(hashes.SHA256()))
    )


COS = SeparationProfile(this=RelevantSystem.COS_PARTY, other=OTHER, other_key=spki(OTHER_KEY))
BROKER = SeparationProfile(
    this=RelevantSystem.ACCESS_CONTROL_BROKER,
    other=OTHER,
    other_key=spki(OTHER_KEY),
    other_entities=frozenset({str(SUPPLIER)}),
)
BROKER_OF_OTHERS = replace(BROKER, other_entities=frozenset({"90-B3-D5-1F-30-05-00-00"}))


@pytest.fixture(scope="module")
def policy() -> CedarPolicy:
    folder = REPOSITORY / "policies"
    return CedarPolicy(
        parse_source({one.name: one.read_bytes() for one in folder.iterdir() if one.is_file()})
    )


async def gathered(request: Request, profile: SeparationProfile | None) -> Case | Refusal:
    corridor = Corridor()
    gatherer = Gatherer(
        corridor.keys,
        corridor.hsm,
        corridor.clock,
        Environment.TEST,
        SupplyProfile(frozenset()),
        separated=profile,
    )
    content = forms.parse(request.form, request.payload, corridor.profiles)
    (found,) = await gatherer.gather(corridor.principal, Operation.SIGN, [(request, content)])
    return found


@pytest.mark.parametrize("made", [pre_command_request, duis_request])
@pytest.mark.parametrize(
    ("profile", "attach", "needs"),
    [
        (None, False, False),
        (SeparationProfile(), False, False),
        (COS, False, True),
        (COS, True, True),
        (BROKER, False, True),
        (BROKER, True, True),
        (BROKER_OF_OTHERS, False, False),
    ],
)
async def test_what_comes_from_the_other_is_used_with_its_statement_only(
    policy: CedarPolicy, made, profile: SeparationProfile | None, attach: bool, needs: bool
) -> None:
    request = made()
    if attach:
        request = replace(request, origin_statement=attested(request.payload))
    case = await gathered(request, profile)
    assert isinstance(case, Case)
    assert (case.facts.from_relevant_system, case.facts.origin_verified) == (needs, attach)
    assert case.facts.cos_party is (profile is COS)
    answer = policy.decide(case.facts)
    assert answer.allowed is (attach or not needs)
    if not answer.allowed:
        assert answer.policies == ("what-the-other-relevant-system-sent-is-verified",)
        assert answer.clauses == ("G2.22B(a)",)


@pytest.mark.parametrize(
    ("profile", "envelope", "kind", "rule"),
    [
        (COS, lambda payload: attested(payload, STRANGER), Forbidden, None),
        (COS, lambda payload: attested(payload, STRANGER, said_to_be=OTHER_KEY), Forbidden, None),
        (COS, lambda payload: attested(payload + b"\0"), Malformed, "separation/statement"),
        (COS, lambda payload: attested(payload, system=SystemName("x")), Malformed, "separation/statement"),
        (COS, lambda payload: attested(payload)[:-1], Malformed, None),
        (COS, lambda payload: attested(payload) + b" " * 5000, Malformed, "separation/size"),
        (SeparationProfile(), attested, Forbidden, "separation/no-other"),
        (replace(COS, other_key=b""), attested, Forbidden, "separation/no-other"),
    ],
)
async def test_a_statement_that_does_not_hold_is_refused(profile, envelope, kind, rule) -> None:
    request = pre_command_request()
    refused = await gathered(replace(request, origin_statement=envelope(request.payload)), profile)
    assert type(refused) is kind
    assert refused.clause == "G2.22B(a)"
    assert refused.field == "origin_statement"
    assert rule in (None, refused.rule)


@pytest.mark.parametrize(
    ("profile", "signed", "holds"),
    [(BROKER, True, True), (BROKER, False, False), (COS, True, False), (SeparationProfile(), True, False)],
)
def test_the_broker_takes_the_signature_that_verified_inside_a_command(profile, signed, holds) -> None:
    """`command.parse` verified it under the originator's registered certificate; the CoS Party's own proves nothing to it."""
    certificate = read_certificate(key_record().certificate)
    content = CommandContent(
        kind=ContentKind.GBCS_COMMAND,
        signed_bytes=b"command",
        facts=(("originator", str(SUPPLIER)),),
        command=None,  # type: ignore[arg-type]  # not looked at
        device=certificate,
        tasks=(),
        originator=certificate if signed else None,
    )
    assert separation.received(content, profile) is (profile.this is not None)
    assert separation.verified(content, b"payload", b"", profile) is holds


async def test_a_supply_sensitive_check_is_no_origin_statement() -> None:
    request = pre_command_request()
    check = supply.attest(
        request.payload,
        request.request_id,
        spki(OTHER_KEY),
        lambda octets: OTHER_KEY.sign(octets, ec.ECDSA(hashes.SHA256())),
    )
    refused = await gathered(replace(request, origin_statement=check), COS)
    assert isinstance(refused, Malformed)
    assert refused.rule == "separation/payload-type"


CONFIGURED = """
[relevant_system]
this = "{this}"
other = "the-other-system"
other_key = "other.pem"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    pem = OTHER_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "other.pem").write_bytes(pem)
    path = tmp_path / "config.toml"
    path.write_text((REPOSITORY / "config.example.toml").read_text() + CONFIGURED.format(this="cos-party"))
    return path


def test_the_other_system_is_read_from_the_configuration(config: Path) -> None:
    assert profiles.separation_profile(read_settings(config)) == COS


def test_without_the_table_there_is_no_other_system() -> None:
    found = profiles.separation_profile(read_settings(REPOSITORY / "config.example.toml"))
    assert found == SeparationProfile()


def test_what_is_no_key_and_a_broker_without_entities_are_refused(config: Path) -> None:
    config.write_text(config.read_text().replace("cos-party", "access-control-broker"))
    with pytest.raises(Malformed, match="other_entities"):
        read_settings(config)
    config.write_text(config.read_text() + f'other_entities = ["{SUPPLIER}"]\n')
    assert profiles.separation_profile(read_settings(config)) == BROKER
    (config.parent / "other.pem").write_text("no key")
    with pytest.raises(Malformed, match="P-256 public key"):
        profiles.separation_profile(read_settings(config))
