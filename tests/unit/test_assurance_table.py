"""Accepted module standards: dated rows, both sides of each day (G1.3)."""

import pytest

from cryptosvc.core.assurance import AcceptedStandard, AssuranceProfile
from cryptosvc.core.names import UnixNanoseconds

TABLE = AssuranceProfile(
    (
        AcceptedStandard("FIPS 140-2", accepted_from=0, accepted_until=1_000),
        AcceptedStandard("FIPS 140-3", accepted_from=500),
        AcceptedStandard("X", accepted_from=0, accepted_until=10),
        AcceptedStandard("X", accepted_from=20),
    )
)


@pytest.mark.parametrize(
    ("standard", "at", "accepted"),
    [
        ("FIPS 140-2", 0, True),
        ("FIPS 140-2", 999, True),
        ("FIPS 140-2", 1_000, False),
        ("FIPS 140-3", 499, False),
        ("FIPS 140-3", 500, True),
        ("FIPS 140-3", 2**62, True),
        ("X", 9, True),
        ("X", 10, False),
        ("X", 19, False),
        ("X", 20, True),
        ("fips 140-2", 1, False),
        ("", 1, False),
    ],
)
def test_a_standard_counts_from_its_first_day_to_before_its_last(
    standard: str, at: int, accepted: bool
) -> None:
    assert TABLE.accepts(standard, UnixNanoseconds(at)) is accepted


def test_until_the_panels_day_old_and_new_both_count_and_then_the_new_alone() -> None:
    """G1.3(b), then G1.3(a)."""
    for at, counts in ((700, {"FIPS 140-2", "FIPS 140-3"}), (1_000, {"FIPS 140-3"})):
        found = {row.standard for row in TABLE.rows if TABLE.accepts(row.standard, UnixNanoseconds(at))}
        assert found - {"X"} == counts


def test_an_empty_table_accepts_nothing() -> None:
    assert not AssuranceProfile().accepts("FIPS 140-2", UnixNanoseconds(1))


def test_tables_are_values() -> None:
    assert AssuranceProfile(TABLE.rows) == TABLE
    assert hash(AssuranceProfile(TABLE.rows)) == hash(TABLE)
