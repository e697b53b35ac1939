"""What every Policy port does, the fake and Cedar alike."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from cryptosvc.adapters.policy import load_policy
from cryptosvc.adapters.policy.matrix import allowed_at_most, favourable
from cryptosvc.core.keyclass import KEY_CLASSES
from cryptosvc.core.names import ContentKind, Environment, Operation, UserRole
from cryptosvc.core.registry import KeyState, Origin
from cryptosvc.flow.ports import Policy
from tests.fakes.policy import FakePolicy

POLICIES = Path(__file__).resolve().parents[2] / "policies"
SIGNS = favourable("root-oca", ContentKind.OCA_CERTIFICATE)


@pytest.fixture(scope="module", params=["fake", "cedar"])
def engine(request: pytest.FixtureRequest) -> Policy:
    if request.param == "fake":
        return FakePolicy()
    return load_policy({path.name: path.read_bytes() for path in POLICIES.iterdir() if path.is_file()})


def test_the_digest_is_sha256_in_lower_case_hex(engine: Policy) -> None:
    assert len(bytes.fromhex(engine.digest)) == 32
    assert engine.digest == engine.digest.lower()


def test_a_permit_names_policy_clause_and_digest_and_no_text(engine: Policy) -> None:
    answer = engine.decide(SIGNS)
    assert answer.allowed
    assert answer.policies
    assert answer.clauses == ("G2.60(a)",)
    assert answer.text == ""
    assert answer.digest == engine.digest


@pytest.mark.parametrize(
    "changed",
    [
        {"granted": False},
        {"same_system": False},
        {"state": KeyState.SUSPENDED},
        {"content_kind": ContentKind.ORGANISATION_CERTIFICATE},
        {"operation": Operation.READ_LOG},
        {"key_class": "log-authentication"},
    ],
)
def test_a_refusal_says_why(engine: Policy, changed: dict[str, object]) -> None:
    answer = engine.decide(replace(SIGNS, **changed))
    assert not answer.allowed
    assert answer.text
    assert answer.rule == "policy/refused"
    assert answer.digest == engine.digest


def test_lists_are_sorted_without_repeats(engine: Policy) -> None:
    for changed in ({}, {"granted": False, "same_system": False, "state": KeyState.DESTROYED}):
        answer = engine.decide(replace(SIGNS, **changed))
        assert list(answer.policies) == sorted(set(answer.policies))
        assert list(answer.clauses) == sorted(set(answer.clauses))


def test_equal_facts_have_equal_answers(engine: Policy) -> None:
    assert engine.decide(SIGNS) == engine.decide(replace(SIGNS))


def test_nothing_outside_the_ceiling_is_permitted_and_nothing_raises(engine: Policy) -> None:
    permitted = 0
    for key_class, operation, kind, state in product(
        [*KEY_CLASSES, "no-such-class"], Operation, ContentKind, KeyState
    ):
        facts = replace(favourable(key_class, kind, state), operation=operation)
        # a prepayment key is a Supplier's: the DCC, which states no User Role, has none; a Device's key is its provider's
        allowed = any(
            engine.decide(replace(facts, user_role=role)).allowed
            for role in (None, UserRole.IMPORT_SUPPLIER, UserRole.SMETS1_SERVICE_PROVIDER)
        )
        assert not allowed or allowed_at_most(facts), facts
        permitted += allowed
    assert permitted == sum(
        allowed_at_most(replace(favourable(key_class, kind, state), operation=operation))
        for key_class, operation, kind, state in product(KEY_CLASSES, Operation, ContentKind, KeyState)
    )


def test_every_word_of_every_fact_is_answered(engine: Policy) -> None:
    for role, origin, environment, level in product([None, *UserRole], Origin, Environment, range(5)):
        facts = replace(SIGNS, user_role=role, origin=origin, environment=environment, module_level=level)
        assert engine.decide(facts).digest == engine.digest
