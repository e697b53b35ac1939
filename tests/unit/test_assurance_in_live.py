"""The dated table, the fact and the policy together: in live a module counts until the Panel's day and not on it."""

import pytest

from cryptosvc.adapters.policy import CedarPolicy, load_policy
from cryptosvc.core.assurance import AcceptedStandard, AssuranceProfile
from cryptosvc.core.case import Case
from cryptosvc.core.content import forms
from cryptosvc.core.names import Environment, Operation
from cryptosvc.core.supply import SupplyProfile
from cryptosvc.flow.gather import Gatherer
from tests.conftest import REPOSITORY
from tests.corridor import Corridor, pre_command_request

DAY = 86_400_000_000_000


@pytest.fixture(scope="module")
def policy() -> CedarPolicy:
    return load_policy(
        {path.name: path.read_bytes() for path in (REPOSITORY / "policies").iterdir() if path.is_file()}
    )


async def case_under(*rows: AcceptedStandard, corridor: Corridor) -> Case:
    gatherer = Gatherer(
        corridor.keys,
        corridor.hsm,
        corridor.clock,
        Environment.LIVE,
        SupplyProfile(frozenset()),
        AssuranceProfile(rows),
    )
    request = pre_command_request()
    content = forms.parse(request.form, request.payload, corridor.profiles)
    (case,) = await gatherer.gather(corridor.principal, Operation.SIGN, [(request, content)])
    assert isinstance(case, Case)
    return case


async def test_the_day_before_and_the_day(policy: CedarPolicy) -> None:
    corridor = Corridor()
    today = corridor.clock.at
    ends_tomorrow = AcceptedStandard("FIPS 140-2", accepted_from=0, accepted_until=today + DAY)
    ended_today = AcceptedStandard("FIPS 140-2", accepted_from=0, accepted_until=today)
    before = await case_under(ends_tomorrow, corridor=corridor)
    after = await case_under(ended_today, AcceptedStandard("FIPS 140-3", 0), corridor=corridor)
    assert before.facts.module_accepted
    assert policy.decide(before.facts).allowed
    assert not after.facts.module_accepted
    answer = policy.decide(after.facts)
    assert not answer.allowed
    assert answer.policies == ("user-keys-in-level-3-modules",)
    assert answer.clauses == ("G3.22",)


async def test_without_a_table_nothing_is_signed_in_live(policy: CedarPolicy) -> None:
    case = await case_under(corridor=Corridor())
    assert not policy.decide(case.facts).allowed
