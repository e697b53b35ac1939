"""policies/tests against policies/, row by row; and that the reader of tables finds what is wrong."""

from dataclasses import replace

import pytest

from cryptosvc.adapters.policy import CedarPolicy
from cryptosvc.adapters.policy.tables import check_tables, read_tables
from cryptosvc.core.errors import Malformed
from tests.policy.conftest import POLICIES

ROWS = read_tables({path.name: path.read_bytes() for path in (POLICIES / "tests").iterdir()})


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.file}: {row.clause} {row.says}")
def test_row(policy: CedarPolicy, row) -> None:
    answer = policy.decide(row.facts)
    assert (answer.allowed, answer.policies) == (row.permit, row.by)


def test_tables_hold_and_every_policy_decides_some_row(policy: CedarPolicy) -> None:
    assert check_tables(ROWS, policy.rules, policy.decide_all) == []


def test_each_clause_cited_by_a_forbid_has_both_sides(policy: CedarPolicy) -> None:
    """A table that only refuses would hold for a policy that refuses everything."""
    for file in {row.file for row in ROWS}:
        assert {row.permit for row in ROWS if row.file == file} == {True, False}, file


def test_exempt_roles_are_never_cited_the_clauses_they_are_exempt_from(policy: CedarPolicy) -> None:
    exempt = [row for row in ROWS if row.facts.user_role in ("ES", "RSA")]
    assert len(exempt) >= 10
    for row in exempt:
        assert not [clause for clause in policy.decide(row.facts).clauses if clause.startswith("G3.")], (
            row.says
        )


def test_a_wrong_expectation_is_found(policy: CedarPolicy) -> None:
    wrong = [replace(ROWS[0], permit=not ROWS[0].permit), *ROWS[1:]]
    (finding,) = check_tables(wrong, policy.rules, policy.decide_all)
    assert ROWS[0].says in finding.where


def test_the_wrong_policy_for_the_right_answer_is_found(policy: CedarPolicy) -> None:
    wrong = [*ROWS, replace(ROWS[0], by=("root-oca-signs-organisation-arl",))]
    (finding,) = check_tables(wrong, policy.rules, policy.decide_all)
    assert "root-oca-signs-organisation-arl" in finding.wrong


def test_a_policy_no_row_is_about_is_found(policy: CedarPolicy) -> None:
    fewer = [row for row in ROWS if row.by != ("adopted-keys-stay-in-test",)]
    (finding,) = check_tables(fewer, policy.rules, policy.decide_all)
    assert "adopted-keys-stay-in-test" in finding.wrong


GOOD = b'[[row]]\nclause = "G2.60(a)"\nsays = "x"\nexpect = "refuse"\nby = []\n'


@pytest.mark.parametrize(
    ("octets", "part"),
    [
        (b"\xff", "no TOML"),
        (b"[[row]", "no TOML"),
        (b"", "at least one"),
        (b"[other]\n" + GOOD, "nothing else"),
        (GOOD.replace(b'"refuse"', b'"maybe"'), "permit or refuse"),
        (GOOD.replace(b"by = []\n", b""), "needs by"),
        (GOOD.replace(b"by = []", b"by = [1]"), "needs by"),
        (GOOD + b'colour = "red"\n', "no fact"),
        (GOOD + b'state = "sleepy"\n', "no state"),
        (GOOD + b'key_class = "root-ocaa"\n', "no key_class"),
        (GOOD + b'granted = "yes"\n', "no granted"),
        (GOOD + b"module_level = true\n", "no module_level"),
    ],
)
def test_a_table_that_is_not_one_is_refused(octets: bytes, part: str) -> None:
    with pytest.raises(Malformed, match=part) as caught:
        read_tables({"x.toml": octets})
    assert caught.value.rule == "policy/decision-table"
    assert caught.value.field == "x.toml"


def test_the_good_table_is_read() -> None:
    (row,) = read_tables({"x.toml": GOOD, "README.md": b"not a table"})
    assert not row.permit
