"""Rules on people against a plain second reading of them, second by second, and histories nobody can edit away."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryptosvc.core import custody
from cryptosvc.core.custodian import (
    AdditionalControl,
    CustodianRecord,
    CustodianRole,
    CustodianState,
    Engagement,
    Privilege,
    Side,
    custodian_document,
    custodian_from_document,
)
from cryptosvc.core.custody import Rules
from cryptosvc.core.errors import Forbidden, Malformed, Refusal
from cryptosvc.core.life import DAY, UnixSeconds
from cryptosvc.core.names import SystemName
from tests.governance import NOW, SYSTEM, person

OTHER = SystemName("dcc-other")
PAIR = tuple(sorted((SYSTEM, OTHER)))
RELEVANT = Rules(relevant=frozenset({PAIR}))
SEPARATED = Rules(separated=frozenset({PAIR}))
ADA = person("ada").record
LAST = 253_370_764_799

ANY_MOMENT = st.integers(0, LAST).map(UnixSeconds)
ANY_END = st.none() | ANY_MOMENT
READABLE = st.characters(exclude_categories=("C", "Z"))
TEXTS = st.text(READABLE, max_size=20)
SYSTEMS = st.sampled_from([SYSTEM, OTHER]) | TEXTS.map(SystemName)
RECORDS = st.builds(
    CustodianRecord,
    custodian_id=st.text(READABLE, min_size=1, max_size=20),
    version=st.integers(1, 2**40),
    state=st.sampled_from(CustodianState),
    system=TEXTS.map(SystemName),
    person=TEXTS.filter(lambda one: bool(one.strip())),
    name=TEXTS,
    key=st.binary(max_size=100),
    certificate=st.binary(max_size=100),
    roles=st.frozensets(st.sampled_from(CustodianRole)),
    in_united_kingdom=st.booleans(),
    screening_standard=TEXTS,
    screened_on=ANY_END,
    clearance=TEXTS,
    clearance_reviewed_on=ANY_END,
    security_check_on=ANY_END,
    privileges=st.lists(st.builds(Privilege, SYSTEMS, ANY_MOMENT, ANY_END), max_size=4).map(tuple),
    engagements=st.lists(st.builds(Engagement, st.sampled_from(Side), ANY_MOMENT, ANY_END), max_size=4).map(
        tuple
    ),
    additional_controls=st.lists(
        st.builds(AdditionalControl, st.tuples(TEXTS.map(SystemName), TEXTS.map(SystemName)), TEXTS),
        max_size=3,
    ).map(tuple),
)
WRONG = (
    st.none()
    | st.booleans()
    | st.integers(-3, 2**64)
    | st.text(max_size=4)
    | st.lists(st.integers(0, 3) | st.dictionaries(st.text(max_size=3), st.none(), max_size=2), max_size=2)
    | st.dictionaries(st.text(max_size=3), st.integers(0, 3), max_size=2)
)


@given(RECORDS)
@settings(deadline=None)
def test_a_printed_record_is_read_as_itself(record: CustodianRecord):
    assert custodian_from_document(custodian_document(record)) == record


@given(RECORDS, st.data())
@settings(deadline=None, max_examples=300)
def test_a_changed_document_is_malformed_or_prints_as_it_stands(record: CustodianRecord, data: st.DataObject):
    document = custodian_document(record)
    name = data.draw(st.sampled_from(sorted(document)))
    document[name] = data.draw(WRONG)
    try:
        found = custodian_from_document(document)
    except Malformed:
        return
    assert custodian_document(found) == document


def month_and_day(moment: int) -> tuple[int, datetime]:
    date = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=moment)
    return date.year * 12 + date.month, date


@given(ANY_MOMENT, st.integers(0, 11))
@settings(deadline=None, max_examples=500)
def test_months_later_is_the_same_day_or_the_last_of_its_month(start: UnixSeconds, months: int):
    before, began = month_and_day(start)
    after, ends = month_and_day(custody.months_later(start, months))
    assert after == before + months
    assert began.time() == ends.time()
    if ends.day != began.day:
        assert ends.day < began.day
        assert (ends + timedelta(days=1)).day == 1


@given(ANY_MOMENT, ANY_MOMENT)
@settings(deadline=None, max_examples=300)
def test_who_leaves_later_waits_no_shorter(one: UnixSeconds, other: UnixSeconds):
    if one <= other:
        assert custody.months_later(one, 6) <= custody.months_later(other, 6)
    assert 181 * DAY <= custody.months_later(one, 6) - one <= 184 * DAY


# Days around now, so that near misses are frequent; each privilege lasts, or ends after it began.
@st.composite
def periods(draw: st.DrawFn) -> tuple[UnixSeconds, UnixSeconds | None]:
    since = NOW + draw(st.integers(-900, 900)) * DAY
    lasts = draw(st.none() | st.integers(1, 500))
    return UnixSeconds(since), None if lasts is None else UnixSeconds(since + lasts * DAY)


PRIVILEGES = st.lists(
    st.builds(lambda system, when: Privilege(system, *when), st.sampled_from([SYSTEM, OTHER]), periods()),
    max_size=5,
).map(tuple)
ENGAGEMENTS = st.lists(
    st.builds(lambda side, when: Engagement(side, *when), st.sampled_from(Side), periods()), max_size=5
).map(tuple)


def stands(record: CustodianRecord, rules: Rules) -> bool:
    try:
        custody.require_may_be_registered(record, (), rules)
    except Forbidden:
        return False
    return True


def held(since: int, until: int | None) -> range:
    """The days of a period, counted from day 0 of the model; 4000 days on stands for ever."""
    first = (since - NOW) // DAY
    return range(first, 4000 if until is None else (until - NOW) // DAY)


@given(PRIVILEGES)
@settings(deadline=None, max_examples=300)
def test_separated_systems_day_by_day(privileges: tuple[Privilege, ...]):
    on = {
        system: {day for one in privileges if one.system == system for day in held(one.since, one.until)}
        for system in (SYSTEM, OTHER)
    }
    assert stands(replace(ADA, privileges=privileges), SEPARATED) == on[SYSTEM].isdisjoint(on[OTHER])


@given(PRIVILEGES)
@settings(deadline=None, max_examples=300)
def test_six_months_by_a_second_reading(privileges: tuple[Privilege, ...]):
    def cool(ended: int | None, begins: int) -> bool:
        if ended is None:
            return False
        whole, date = month_and_day(ended)
        later, begin = month_and_day(begins)
        # begins six months on, or later: by month first, then by what is left within the month
        if later != whole + 6:
            return later > whole + 6
        tail = (begin + timedelta(days=1)).month != begin.month
        return begin.day >= date.day or tail

    good = all(
        first.system == second.system or cool(first.until, second.since) or cool(second.until, first.since)
        for first, second in combinations(privileges, 2)
    )
    assert stands(replace(ADA, privileges=privileges), RELEVANT) == good


@given(ENGAGEMENTS, st.integers(0, 400))
@settings(deadline=None, max_examples=300)
def test_engagements_day_by_day(engagements: tuple[Engagement, ...], gap: int):
    def days(side: Side, longer: int) -> set[int]:
        return {
            day
            for one in engagements
            if one.side is side
            for day in held(one.since, None if one.until is None else one.until + longer * DAY)
        }

    apart = days(Side.DCC, gap).isdisjoint(days(Side.USER, 0)) and days(Side.DCC, 0).isdisjoint(
        days(Side.USER, gap)
    )
    record = replace(ADA, engagements=engagements)
    rules = Rules(engagement_gap_days=gap)
    assert stands(record, rules) == apart
    if not apart:
        with pytest.raises(Forbidden):
            custody.require_may_approve(record, SYSTEM, rules, NOW)


ENDS = st.none() | st.integers(-5, 5).map(lambda days: UnixSeconds(NOW + days * DAY))
SHORT = st.lists(
    st.builds(
        Privilege,
        st.sampled_from([SYSTEM, OTHER]),
        st.integers(-9, 3).map(lambda days: UnixSeconds(NOW + days * DAY)),
        ENDS,
    ),
    max_size=3,
).map(tuple)


def on_system(record: CustodianRecord, system: SystemName, moment: int) -> bool:
    return any(
        one.system == system and one.since <= moment and (one.until is None or moment < one.until)
        for one in record.privileges
    )


@given(SHORT, st.data())
@settings(deadline=None, max_examples=500)
def test_no_accepted_change_takes_away_what_somebody_was(
    privileges: tuple[Privilege, ...], data: st.DataObject
):
    before = replace(ADA, privileges=privileges)
    edited = [
        replace(one, until=data.draw(ENDS)) if data.draw(st.booleans()) else one
        for one in privileges
        if data.draw(st.integers(0, 4))
    ]
    after = replace(before, privileges=(*edited, *data.draw(SHORT)))
    try:
        custody.require_change(before, after, NOW, Rules())
    except Refusal:
        return
    for day in range(-10, 0):
        for system in (SYSTEM, OTHER):
            moment = NOW + day * DAY
            assert on_system(after, system, moment) or not on_system(before, system, moment)


@given(RECORDS, RECORDS, ANY_MOMENT)
@settings(deadline=None, max_examples=300)
def test_any_record_is_accepted_or_refused_by_rule(
    record: CustodianRecord, other: CustodianRecord, at: UnixSeconds
):
    rules = Rules(relevant=frozenset({PAIR}))
    signing = replace(record, key=ADA.key)
    refused: list[Refusal] = []
    for require in (
        lambda: custody.require_may_be_registered(signing, (other,), rules),
        lambda: custody.require_may_be_registered(replace(signing, certificate=b""), (), rules),
        lambda: custody.require_may_approve(signing, SYSTEM, rules, at),
        lambda: custody.require_change(other, signing, at, rules),
        lambda: custody.require_checked(signing, rules, at),
    ):
        try:
            require()
        except Refusal as refusal:
            refused.append(refusal)
    assert all(one.rule.startswith("custody/") and one.clause.startswith("G") for one in refused)


@given(RECORDS, ANY_MOMENT)
@settings(deadline=None)
def test_leaving_is_a_change_that_the_rules_accept(record: CustodianRecord, at: UnixSeconds):
    here = replace(record, state=CustodianState.REGISTERED)
    left = custody.ended(here, at)
    custody.require_change(here, left, at, Rules())
    assert all(one.until is not None and one.until <= at for one in left.privileges)
    assert all(one.until is not None and one.until <= at for one in left.engagements)
    assert custody.ended(left, at) == left
