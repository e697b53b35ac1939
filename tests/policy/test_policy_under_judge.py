"""Policy files no load-time check ever saw, put in front of `judge`: the ceiling holds whatever they say."""

import pytest

from cryptosvc.adapters.policy import CedarPolicy
from cryptosvc.adapters.policy.matrix import favourable
from cryptosvc.adapters.policy.source import parse_source
from cryptosvc.core.case import Case, Facts, ModuleFacts, Principal, Request
from cryptosvc.core.content.base import Content
from cryptosvc.core.content.forms import Profiles
from cryptosvc.core.errors import Forbidden, Refusal, WrongState
from cryptosvc.core.judge import judge
from cryptosvc.core.names import (
    CallerId,
    ContentForm,
    ContentKind,
    Environment,
    KeyId,
    ModuleName,
    RequestId,
    SystemName,
    UnixNanoseconds,
)
from cryptosvc.core.registry import CallerRecord, CallerState, KeyRecord, KeyState, Origin

ANYTHING = b'@id("anything") @clause("G2.60") @text("x.") permit (principal, action, resource);'
ONE_CALLER = (
    b'@id("alice") @clause("G2.60") @text("x.") permit (principal, action, resource)'
    b' when { principal != Caller::"alice" };'
)
DEACTIVATED = (
    b'@id("old-keys") @clause("G2.60") @text("x.") permit (principal, action, resource)'
    b' when { context.state == KeyState::"deactivated" };'
)


def unchecked(policy_files: dict[str, bytes], policy: bytes) -> CedarPolicy:
    """A set of one policy, as if lint, schema and matrix had let it through."""
    return CedarPolicy(parse_source({"1.cedar": policy, "s.cedarschema": policy_files["schema.cedarschema"]}))


def case_of(facts: Facts) -> Case:
    caller = CallerRecord(
        caller_id=CallerId("alice"),
        version=1,
        state=CallerState.REGISTERED,
        certificate_sha256=bytes(32),
        system=SystemName("s"),
        user_roles=frozenset(),
        user_ids=frozenset(),
        grants=(),
    )
    key = KeyRecord(
        key_id=KeyId("k"),
        version=1,
        key_class=facts.key_class,
        state=facts.state,
        system=SystemName("s"),
        environment=Environment.LIVE,
        module=ModuleName("m"),
        label="k",
        object_id=b"k",
        public_point=b"",
        certificate=b"",
        eui64=None,
        role=None,
        origin=Origin.GENERATED,
        transferable=False,
        signs_for_eligible_user=False,
    )
    return Case(
        request=Request(
            request_id=RequestId("r"), key_id=KeyId("k"), form=ContentForm.TBS_CERTIFICATE, payload=b""
        ),
        principal=Principal(caller=caller, peer="test"),
        content=Content(kind=facts.content_kind, signed_bytes=b""),
        key=key,
        module=ModuleFacts(
            name=ModuleName("m"),
            standard="FIPS 140-2",
            level=3,
            certificate="1",
            country="GB",
            worker_country="GB",
        ),
        facts=facts,
        generation=1,
        at=UnixNanoseconds(0),
        time_quality="synchronised",
    )


def refusal_of(policy: CedarPolicy, facts: Facts) -> Refusal:
    """Purpose and state are judged before the content's binding, so no profile is looked at."""
    answer = policy.decide(facts)
    assert answer.allowed, "the policy file is meant to be too wide"
    profiles: Profiles = None  # type: ignore[assignment]
    with pytest.raises(Refusal) as caught:
        judge(case_of(facts), answer, profiles)
    return caught.value


@pytest.mark.parametrize("policy", [ANYTHING, ONE_CALLER])
@pytest.mark.parametrize(
    ("key_class", "kind", "clause"),
    [
        ("root-oca", ContentKind.ORGANISATION_CERTIFICATE, "G2.60"),
        ("issuing-oca", ContentKind.GBCS_PRE_COMMAND, "G2.61"),
        ("command-signing", ContentKind.DUIS_DOCUMENT, "G2.56"),
        ("log-authentication", ContentKind.LOG_CHECKPOINT, "G2.27"),
    ],
)
def test_the_class_ceiling_stops_what_policy_permits(policy_files, policy, key_class, kind, clause) -> None:
    refusal = refusal_of(unchecked(policy_files, policy), favourable(key_class, kind))
    assert isinstance(refusal, Forbidden)
    assert (refusal.rule, refusal.clause) == ("ceiling/purpose", clause)


def test_the_lifecycle_stops_a_policy_that_fires_on_deactivated_keys_only(policy_files) -> None:
    facts = favourable("root-oca", ContentKind.OCA_CERTIFICATE, KeyState.DEACTIVATED)
    refusal = refusal_of(unchecked(policy_files, DEACTIVATED), facts)
    assert isinstance(refusal, WrongState)
    assert refusal.rule == "lifecycle/state"


def test_that_policy_permits_nothing_to_an_active_key(policy_files) -> None:
    facts = favourable("root-oca", ContentKind.OCA_CERTIFICATE, KeyState.ACTIVE)
    assert not unchecked(policy_files, DEACTIVATED).decide(facts).allowed
