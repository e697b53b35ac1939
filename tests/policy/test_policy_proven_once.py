"""The proof is made once by the supervisor, and by a worker where it finds other policies than the proven ones."""

import pytest

from cryptosvc.adapters.policy import CedarPolicy, cedar, load_policy
from cryptosvc.core.errors import Malformed

OVER_WIDE = b"""
@id("too-much")
@clause("G2.60")
@text("Nobody may do this.")
permit (principal, action, resource) when { context.granted };
"""


@pytest.fixture
def proofs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Digest of each source that was proven."""
    made: list[str] = []
    prove = cedar.prove_under_ceiling

    def counted(source: cedar.Source) -> None:
        made.append(source.digest)
        prove(source)

    monkeypatch.setattr(cedar, "prove_under_ceiling", counted)
    return made


def test_policies_that_were_proven_are_loaded_as_they_are(
    policy: CedarPolicy, policy_files: dict[str, bytes], proofs: list[str]
) -> None:
    assert load_policy(policy_files, policy.digest).digest == policy.digest
    assert proofs == []


def test_any_other_policies_are_proven_again(
    policy: CedarPolicy, policy_files: dict[str, bytes], proofs: list[str]
) -> None:
    with pytest.raises(Malformed) as refused:
        load_policy({**policy_files, "99-more.cedar": OVER_WIDE}, policy.digest)
    assert refused.value.rule == "policy/over-wide"
    assert len(proofs) == 1
    assert proofs != [policy.digest]
