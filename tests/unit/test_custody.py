"""Who may be a custodian and who may approve, to the second, clause by clause (G2.22B(d), G2.24, G3.13, G4)."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from cryptosvc.core import custody
from cryptosvc.core.acts.table import ACTS
from cryptosvc.core.custodian import (
    AdditionalControl,
    CustodianRecord,
    CustodianState,
    Engagement,
    Privilege,
    Side,
    custodian_document,
    custodian_from_document,
)
from cryptosvc.core.custody import Rules
from cryptosvc.core.errors import Conflict, Forbidden, Malformed, Refusal
from cryptosvc.core.life import DAY, UnixSeconds
from cryptosvc.core.names import SystemName
from tests.governance import NOW, SYSTEM, person

OTHER = SystemName("dcc-other")
PAIR = tuple(sorted((SYSTEM, OTHER)))
RELEVANT = Rules(relevant=frozenset({PAIR}))
SEPARATED = Rules(separated=frozenset({PAIR}))
ADA = person("ada").record
DEFAULT = Rules()


def moment(text: str) -> UnixSeconds:
    return UnixSeconds(int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()))


def rule_of(refusing: object) -> str:
    assert isinstance(refusing, Refusal)
    return refusing.rule


def with_privileges(*privileges: Privilege) -> CustodianRecord:
    return replace(ADA, privileges=privileges)


def registered(record: CustodianRecord, rules: Rules = DEFAULT, *others: CustodianRecord) -> str:
    """Empty where it may be registered; else the rule."""
    try:
        custody.require_may_be_registered(record, others, rules)
    except Refusal as refusal:
        return refusal.rule if refusal.clause else "no clause"
    return ""


def approving(record: CustodianRecord, at: int = NOW, rules: Rules = DEFAULT) -> str:
    try:
        custody.require_may_approve(record, SYSTEM, rules, UnixSeconds(at))
    except Refusal as refusal:
        return refusal.rule if refusal.clause else "no clause"
    return ""


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2026-01-15T10:00:00", "2026-07-15T10:00:00"),
        ("2026-08-31T23:59:59", "2027-02-28T23:59:59"),
        ("2023-08-31T00:00:00", "2024-02-29T00:00:00"),
        ("2026-12-31T12:00:00", "2027-06-30T12:00:00"),
        ("2024-02-29T12:00:00", "2024-08-29T12:00:00"),
    ],
)
def test_six_months_are_calendar_months_to_the_second(start: str, end: str):
    assert custody.months_later(moment(start), 6) == moment(end)
    before = Privilege(SYSTEM, UnixSeconds(0), moment(start))
    for late, rule in ((0, ""), (-1, "custody/six-months")):
        after = Privilege(OTHER, UnixSeconds(moment(end) + late), None)
        assert registered(with_privileges(before, after), RELEVANT) == rule
        assert registered(with_privileges(after, before), RELEVANT) == rule


def test_six_months_cannot_be_waived_and_separation_can():
    both = with_privileges(Privilege(SYSTEM, NOW, None), Privilege(OTHER, NOW, None))
    controlled = replace(both, additional_controls=(AdditionalControl(PAIR, "two people, always"),))
    assert registered(both, SEPARATED) == "custody/separated-systems"
    assert registered(controlled, SEPARATED) == ""
    assert registered(replace(both, additional_controls=(AdditionalControl(PAIR, ""),)), SEPARATED) != ""
    assert registered(both, RELEVANT) == registered(controlled, RELEVANT) == "custody/six-months"
    # and whoever got there by a changed rule does not approve either
    assert approving(replace(both, privileges=(*ADA.privileges, *both.privileges)), rules=RELEVANT) == (
        "custody/six-months"
    )


def test_one_after_the_other_is_no_overlap_of_separated_systems():
    meeting = with_privileges(Privilege(SYSTEM, UnixSeconds(1), NOW), Privilege(OTHER, NOW, None))
    assert registered(meeting, SEPARATED) == ""
    overlapping = with_privileges(
        Privilege(SYSTEM, UnixSeconds(1), UnixSeconds(NOW + 1)), Privilege(OTHER, NOW, None)
    )
    assert registered(overlapping, SEPARATED) == "custody/separated-systems"


def test_the_same_system_twice_is_nothing():
    assert (
        registered(with_privileges(Privilege(SYSTEM, NOW, None), Privilege(SYSTEM, NOW, None)), RELEVANT)
        == ""
    )


@pytest.mark.parametrize("gap", [0, 182, 183])
def test_engagements_on_both_sides_keep_the_configured_time(gap: int):
    later = UnixSeconds(NOW + gap * DAY)
    for first, second in ((Side.DCC, Side.USER), (Side.USER, Side.DCC)):
        record = replace(
            ADA, engagements=(Engagement(first, UnixSeconds(1), NOW), Engagement(second, later, None))
        )
        assert registered(record) == ("" if gap == 183 else "custody/engagement")
    lasting = (Engagement(Side.DCC, UnixSeconds(1), None), Engagement(Side.USER, later, None))
    assert registered(replace(ADA, engagements=lasting)) == "custody/engagement"


def test_a_person_a_key_and_a_certificate_are_registered_once():
    twin = replace(person("eve").record, person=ADA.person)
    assert registered(twin, Rules(), ADA) == "custody/person-twice"
    assert registered(replace(ADA, custodian_id="eve", person="p2"), Rules(), ADA) == "custody/key-twice"
    carded = replace(ADA, certificate=b"\x30\x00")
    other = replace(person("eve").record, certificate=b"\x30\x00")
    assert registered(other, Rules(), carded) == "custody/key-twice"
    assert registered(ADA, Rules(), ADA) == ""


def test_who_was_removed_comes_again_with_what_they_were():
    had = custody.ended(with_privileges(Privilege(OTHER, UnixSeconds(1), None)), NOW)
    removed = replace(had, state=CustodianState.REMOVED)
    again = replace(
        person("again").record,
        person=ADA.person,
        privileges=(Privilege(SYSTEM, UnixSeconds(NOW + DAY), None),),
    )
    assert registered(again, RELEVANT, removed) == "custody/six-months"
    waited = custody.months_later(NOW, 6)
    assert registered(replace(again, privileges=(Privilege(SYSTEM, waited, None),)), RELEVANT, removed) == ""


def changed(after: CustodianRecord, before: CustodianRecord = ADA) -> str:
    try:
        custody.require_change(before, after, NOW, DEFAULT)
    except Forbidden as refusal:
        return refusal.rule
    return ""


def test_history_only_grows():
    (old,) = ADA.privileges
    assert changed(ADA) == ""
    assert changed(with_privileges(old, Privilege(OTHER, NOW, None))) == ""
    assert changed(with_privileges(replace(old, until=NOW))) == ""
    assert changed(with_privileges(replace(old, until=UnixSeconds(NOW - 1)))) == "custody/history"
    assert changed(with_privileges()) == "custody/history"
    assert changed(with_privileges(replace(old, since=UnixSeconds(old.since + 1)))) == "custody/history"
    assert changed(with_privileges(replace(old, system=OTHER))) == "custody/history"
    closed = with_privileges(replace(old, until=NOW))
    assert changed(with_privileges(old), closed) == "custody/history"
    assert changed(with_privileges(replace(old, until=UnixSeconds(NOW + 1))), closed) == "custody/history"
    assert changed(replace(ADA, person="somebody else")) == "custody/person"
    assert changed(ADA, replace(ADA, state=CustodianState.REMOVED)) == "custody/removed"
    engaged = replace(ADA, engagements=(Engagement(Side.USER, UnixSeconds(1), None),))
    assert changed(ADA, engaged) == "custody/history"


def test_who_may_approve():
    assert approving(ADA) == ""
    assert approving(replace(ADA, state=CustodianState.REMOVED)) == "custody/removed"
    assert approving(replace(ADA, security_check_on=None)) == "custody/security-check"
    assert approving(replace(ADA, security_check_on=UnixSeconds(NOW + 1))) == "custody/security-check"
    assert approving(replace(ADA, security_check_on=None), rules=Rules(security_check=False)) == ""
    assert approving(replace(ADA, screening_standard="a chat")) == "custody/screening"
    abroad = replace(ADA, in_united_kingdom=False, screening_standard="ISO-comparable")
    assert approving(abroad) == ""
    assert approving(replace(abroad, screening_standard="")) == "custody/screening"
    assert approving(replace(ADA, screened_on=None)) == "custody/screening"
    assert approving(replace(ADA, clearance="")) == "custody/clearance"
    assert approving(replace(ADA, clearance_reviewed_on=None)) == "custody/clearance"


@pytest.mark.parametrize(("late", "rule"), [(-1, ""), (0, ""), (1, "custody/clearance")])
def test_a_clearance_lapses_to_the_second(late: int, rule: str):
    reviewed = UnixSeconds(NOW - 365 * DAY - late)
    assert approving(replace(ADA, clearance_reviewed_on=reviewed)) == rule
    assert approving(replace(ADA, clearance_reviewed_on=UnixSeconds(NOW + 1))) == "custody/clearance"


@pytest.mark.parametrize(
    ("since", "until", "rule"),
    [
        (0, None, ""),
        (1, None, "custody/not-privileged"),
        (-1, 1, ""),
        (-1, 0, "custody/not-privileged"),
    ],
)
def test_a_privilege_begins_and_ends_to_the_second(since: int, until: int | None, rule: str):
    lasts = Privilege(SYSTEM, UnixSeconds(NOW + since), None if until is None else UnixSeconds(NOW + until))
    assert approving(with_privileges(lasts)) == rule
    assert approving(with_privileges(replace(lasts, system=OTHER))) == "custody/not-privileged"


def test_a_record_is_read_only_as_it_is_printed():
    full = replace(
        ADA,
        engagements=(Engagement(Side.DCC, UnixSeconds(1), NOW),),
        additional_controls=(AdditionalControl(PAIR, "two people, always"),),
    )
    document = custodian_document(full)
    assert custodian_from_document(document) == full
    for name in document:
        with pytest.raises(Malformed):
            custodian_from_document({key: value for key, value in document.items() if key != name})
        with pytest.raises(Malformed):
            custodian_from_document(document | {name: 1.5})
    for wrong in ({"more": 1}, {"roles": ["key-custodian", "king"]}, {"person": ""}, {"version": True}):
        with pytest.raises(Malformed):
            custodian_from_document(document | wrong)


def test_conflicts_are_conflicts():
    with pytest.raises(Conflict) as found:
        custody.require_may_be_registered(replace(ADA, custodian_id="x"), [ADA], Rules())
    assert rule_of(found.value) == "custody/key-twice"


@pytest.mark.parametrize(
    "spelling", ["PERSON-ADA", " person-ada", "person - ada", "person-\uff41da", "person-ada\u2003"]
)
def test_another_spelling_is_no_other_person(spelling: str):
    twin = replace(person("eve").record, person=spelling)
    assert registered(twin, DEFAULT, ADA) == "custody/person-twice"
    left = replace(
        custody.ended(with_privileges(Privilege(OTHER, UnixSeconds(1), None)), NOW),
        state=CustodianState.REMOVED,
    )
    soon = replace(twin, privileges=(Privilege(SYSTEM, UnixSeconds(NOW + DAY), None),))
    assert registered(soon, RELEVANT, left) == "custody/six-months"


def test_who_is_engaged_on_both_sides_approves_nothing():
    both = replace(
        ADA,
        engagements=(Engagement(Side.DCC, UnixSeconds(1), None), Engagement(Side.USER, UnixSeconds(2), None)),
    )
    assert approving(both) == "custody/engagement"
    assert approving(replace(both, engagements=both.engagements[:1])) == ""
    # a longer time between, configured since, holds from then on
    apart = (
        Engagement(Side.DCC, UnixSeconds(1), UnixSeconds(DAY)),
        Engagement(Side.USER, UnixSeconds(11 * DAY), None),
    )
    assert approving(replace(both, engagements=apart), rules=Rules(engagement_gap_days=10)) == ""
    assert approving(replace(both, engagements=apart), rules=Rules(engagement_gap_days=11)) != ""


def checked(record: CustodianRecord, rules: Rules = DEFAULT) -> str:
    try:
        custody.require_checked(record, rules, NOW)
    except Forbidden as refusal:
        return refusal.rule
    return ""


@pytest.mark.parametrize(("since", "until"), [(-5, None), (0, None), (1, None), (-5, 1), (5, 9)])
def test_no_privilege_now_or_later_without_a_security_check(since: int, until: int | None):
    held = Privilege(SYSTEM, UnixSeconds(NOW + since), None if until is None else UnixSeconds(NOW + until))
    record = replace(with_privileges(held), security_check_on=None)
    assert checked(record) == "custody/security-check"
    assert checked(replace(record, security_check_on=UnixSeconds(NOW + 1))) == "custody/security-check"
    assert checked(replace(record, security_check_on=NOW)) == ""
    assert checked(record, Rules(security_check=False)) == ""
    assert checked(custody.ended(record, NOW)) == ""


def test_an_end_that_lies_ahead_may_move_and_one_that_passed_may_not():
    (old,) = ADA.privileges
    fixed = with_privileges(replace(old, until=UnixSeconds(NOW + 10)))
    for until, rule in ((10, ""), (0, ""), (20, ""), (-1, "custody/history")):
        assert changed(with_privileges(replace(old, until=UnixSeconds(NOW + until))), fixed) == rule
    assert changed(with_privileges(old), fixed) == ""
    assert changed(custody.ended(fixed, NOW), fixed) == ""
    assert custody.ended(fixed, NOW).privileges[0].until == NOW
    past = with_privileges(replace(old, until=UnixSeconds(NOW - 1)))
    assert custody.ended(past, NOW) == past
    assert changed(with_privileges(replace(old, until=UnixSeconds(NOW + 1))), past) == "custody/history"


@pytest.mark.parametrize("moment", [-1, 253_370_764_800, 10**15, 2**62])
def test_no_date_lies_where_no_period_can_end(moment: int):
    document = custodian_document(replace(ADA, engagements=(Engagement(Side.DCC, UnixSeconds(1), None),)))
    privilege = {"system": OTHER, "since": 1, "until": 2}
    engagement = {"side": "dcc", "since": 1, "until": 2}
    for wrong in (
        {"security_check_on": moment},
        {"screened_on": moment},
        {"clearance_reviewed_on": moment},
        {"privileges": [privilege | {"since": moment}]},
        {"privileges": [privilege | {"until": moment}]},
        {"engagements": [engagement | {"since": moment}]},
        {"engagements": [engagement | {"until": moment}]},
    ):
        with pytest.raises(Malformed):
            custodian_from_document(document | wrong)


def test_the_last_date_still_has_six_months_after_it():
    last = UnixSeconds(253_370_764_799)
    document = custodian_document(with_privileges(Privilege(SYSTEM, UnixSeconds(0), last)))
    record = custodian_from_document(document)
    assert custody.months_later(last, 6) == moment("9999-06-30T23:59:59")
    after = Privilege(OTHER, UnixSeconds(last), None)
    assert registered(replace(record, privileges=(*record.privileges, after)), RELEVANT) == (
        "custody/six-months"
    )


def test_a_certificate_of_no_known_version_is_refused_by_rule():
    key = person("eve")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "eve")])
    begins = datetime(2026, 1, 1, tzinfo=UTC)
    good = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.key.public_key())
        .serial_number(1)
        .not_valid_before(begins)
        .not_valid_after(datetime(2030, 1, 1, tzinfo=UTC))
        .sign(key.key, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )
    assert registered(replace(key.record, certificate=good)) == ""
    assert registered(replace(ADA, certificate=good)) == "custody/certificate"
    version = good.index(b"\xa0\x03\x02\x01\x02") + 4
    odd = good[:version] + b"\x07" + good[version + 1 :]
    for wrong in (odd, good[:-1], good + b"\x00", b"\x30\x00", b"no certificate"):
        assert registered(replace(key.record, certificate=wrong)) == "custody/certificate"


AT_A_USER = Rules(party=Side.USER, relevant=frozenset({PAIR}))
UNTIL_NOW = Privilege(OTHER, UnixSeconds(1), NOW)
ENGAGED = (Engagement(Side.DCC, UnixSeconds(1), None), Engagement(Side.USER, UnixSeconds(1), None))


@pytest.mark.parametrize(
    ("refused", "rule", "of_dcc", "of_user"),
    [
        (replace(ADA, state=CustodianState.REMOVED), "removed", "G4.7", "G5.22(b)"),
        (replace(ADA, privileges=()), "not-privileged", "G4.7", "G5.22(b)"),
        (replace(ADA, security_check_on=None), "security-check", "G4.7", "G5.22(b)"),
        (replace(ADA, screened_on=None), "screening", "G4.6", "G4.3"),
        (replace(ADA, clearance=""), "clearance", "G4.4(b)", "G4.1(b)"),
        (replace(ADA, engagements=ENGAGED), "engagement", "G2.24", "G3.13"),
        (replace(ADA, privileges=(*ADA.privileges, UNTIL_NOW)), "six-months", "G2.22B(d)", "G5.22(c)"),
    ],
)
def test_a_refusal_names_the_clause_that_binds_the_party(refused, rule, of_dcc, of_user):
    """The rules are the same; G4.4 to G4.8, G2.22B and G2.24 bind the DCC, G4.1 to G4.3, G3.13 and G5.22 a User."""
    for rules, clause in ((replace(AT_A_USER, party=Side.DCC), of_dcc), (AT_A_USER, of_user)):
        with pytest.raises(Forbidden) as found:
            custody.require_may_approve(refused, SYSTEM, rules, NOW)
        assert (found.value.rule, found.value.clause) == (f"custody/{rule}", clause)


def test_no_act_on_people_keys_or_assets_is_refused_to_a_user_under_a_clause_on_the_dcc_alone():
    of_dcc = {"G4.7", "G5.6", "G5.13(b)"}
    clauses = {act.clause for act in ACTS.values()}
    assert of_dcc <= clauses
    assert of_dcc.isdisjoint(map(AT_A_USER.clause, clauses))
    assert {Rules().clause(one) for one in clauses} == clauses
