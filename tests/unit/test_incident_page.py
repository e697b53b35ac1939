"""The page of an incident: who is to be notified by when, what it rests on, and nothing left out silently."""

import pytest
from pydantic import ValidationError

from cryptosvc.config.duties import IncidentSettings, NoticeSettings
from cryptosvc.core.account import instant
from cryptosvc.core.incident import Incident, notices_of, page
from cryptosvc.core.life import UnixSeconds

KNOWN = UnixSeconds(1_800_000_000)


def made(alarms: int = 2, left_out: int = 0, settings: IncidentSettings | None = None) -> Incident:
    plan = (settings or IncidentSettings()).plan()
    return Incident(
        title="a key was used past the service",
        said="Two signatures\nnobody asked for.",
        clause="G2.11(a)",
        known_at=KNOWN,
        start=KNOWN - 3600,
        stop=0,
        keys=("k-1", "k-2"),
        origin="example.test/log",
        system="dcc-live-1",
        environment="live",
        entries=42,
        root="ab" * 32,
        alarms=tuple((leaf, "refused-purpose", "high", "G2.6(b)") for leaf in range(alarms)),
        alarms_left_out=left_out,
        evidence={"log.export": "cd" * 32},
        notices=notices_of(plan, KNOWN),
    )


def test_panel_and_sub_committee_are_named_where_nothing_is_configured() -> None:
    text = page(made())
    for who in ("Panel", "Security Sub-Committee"):
        assert f"| {who} |  | G2.11(a) | {instant((KNOWN + 86_400) * 10**9)} | | |" in text
    for said in (
        "nobody asked for.",
        "k-1, k-2",
        "ab" * 32,
        f"log.export: {'cd' * 32}",
        "no bound",
        "42 entries",
    ):
        assert said in text


def test_who_must_hear_first_stands_first_and_under_their_own_clause() -> None:
    settings = IncidentSettings(
        clause="G3.5",
        notify=(
            NoticeSettings(who="Panel", how="by mail", within_hours=24),
            NoticeSettings(who="Board", within_hours=1, clause="G2.10"),
        ),
    )
    found = notices_of(settings.plan(), KNOWN)
    assert [(one.who, one.how, one.clause, one.by - KNOWN) for one in found] == [
        ("Board", "", "G2.10", 3600),
        ("Panel", "by mail", "G3.5", 86_400),
    ]


def test_alarms_that_are_not_shown_are_counted() -> None:
    assert "And 7 more." in page(made(left_out=7))
    assert "\nNone.\n" in page(made(alarms=0))


@pytest.mark.parametrize("who", ["", "a|b", "a\nb", "x" * 101])
def test_a_body_is_named_in_a_cell(who: str) -> None:
    with pytest.raises(ValidationError):
        NoticeSettings(who=who)
