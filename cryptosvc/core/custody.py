"""Who may be a custodian, and who may approve now: the rules on people, each by its clause.

The rules are the same for the DCC and for a User; what asks for them is not, and a refusal names the clause that binds
the deployment it stands in.

Source: Smart Energy Code G2.22A to G2.22B(d), G2.23, G2.24, G3.12, G3.13, G4.1 to G4.8, G5.22.
"""

from calendar import monthrange
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from unicodedata import normalize

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from cryptosvc.core.custodian import (
    CustodianRecord,
    CustodianState,
    Engagement,
    Privilege,
    Side,
)
from cryptosvc.core.errors import Conflict, Forbidden
from cryptosvc.core.life import DAY, UnixSeconds
from cryptosvc.core.names import SystemName

SIX_MONTHS = 6
_FOR_EVER = UnixSeconds(2**62)
_OF_USERS: Mapping[str, str] = {
    "G2.22B(d)": "G5.22(c)",
    "G2.24": "G3.13",
    "G4.4(b)": "G4.1(b)",
    "G4.6": "G4.3",
    "G4.7": "G5.22(b)",
    "G4.8": "G5.22(c)",
    "G4.8(a)": "G5.22(c)",
    "G5.6": "G5.21",
    "G5.13(b)": "G5.24(b)",
}
"""Clause that binds the DCC → the one that asks the same of a User, or that a User meets with it.

G3.13, G4.1, G4.3, G5.21 and G5.24 are the Users' own wording. Neither Security Check (G4.7) nor separation of persons (G4.8, G2.22B(d))
is asked of a User by name: a User who configures them does so under the access control of its Information Security
Management System, which grants and removes authorisations (G5.22(b)) and keeps one individual's activities from
becoming a means of Compromise (G5.22(c)).
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the deployment configures; the six months of G2.22B(d) are the Code's and are not here.

    Args:
        separated: pairs of systems that must be Separated (G4.8), each sorted.
        relevant: pairs of systems that are each other's relevant system (G2.22A), each sorted.
        screening_standards: accepted in the United Kingdom (G4.3(a), G4.6(a)).
        clearance_days: a clearance is reviewed at least so often (G4.1(b), G4.4(b)).
        engagement_gap_days: time between engagements on DCC and User systems (G2.24(b), G3.13(b)).
        security_check: whether a Security Check is required to approve (G4.7): for the DCC's systems.
        party: whose systems the deployment's are; its clauses are cited.

    """

    separated: frozenset[tuple[str, str]] = frozenset()
    relevant: frozenset[tuple[str, str]] = frozenset()
    screening_standards: frozenset[str] = frozenset({"BS 7858:2012", "BS 7858:2019"})
    clearance_days: int = 365
    engagement_gap_days: int = 183
    security_check: bool = True
    party: Side = Side.DCC

    def clause(self, of_dcc: str) -> str:
        """The clause to cite here, for one that binds the DCC."""
        return _OF_USERS.get(of_dcc, of_dcc) if self.party is Side.USER else of_dcc


def require_may_be_registered(
    record: CustodianRecord, others: Iterable[CustodianRecord], rules: Rules
) -> None:
    """Require that a custodian record may stand in the register.

    Raises:
        Conflict: the person, the key or the certificate is registered under another id.
        Forbidden: `custody/key`, `custody/certificate`: what signs is no P-256 key in its one form, or the certificate is
            over another; `custody/separated-systems` (G4.8), `custody/six-months` (G2.22B(d)), `custody/engagement`
            (G2.24, G3.13).

    """
    known = list(others)
    _require_distinct(record, known, rules)
    _require_key(record, rules)
    # whoever was removed and comes again under another id brings what they were with them
    past = [one for one in known if _same_person(one, record) and one.custodian_id != record.custodian_id]
    whole = replace(
        record,
        privileges=(*record.privileges, *(had for one in past for had in one.privileges)),
        engagements=(*record.engagements, *(had for one in past for had in one.engagements)),
    )
    _require_apart(whole, rules)
    _require_engagements(whole, rules)


def require_checked(record: CustodianRecord, rules: Rules, at: UnixSeconds) -> None:
    """Require that who is a Privileged Person, or will be without another change, has passed a Security Check.

    Raises:
        Forbidden: `custody/security-check` (G4.7).

    """
    privileged = any(_not_over(one, at) for one in record.privileges)
    if (
        rules.security_check
        and privileged
        and (record.security_check_on is None or record.security_check_on > at)
    ):
        raise _may_not("has not passed a Security Check", "security-check", rules.clause("G4.7"))


def require_change(before: CustodianRecord, after: CustodianRecord, at: UnixSeconds, rules: Rules) -> None:
    """Require that a change keeps history: the person stays, and no privilege or engagement is dropped or shortened.

    What is not over ends at the moment of the change at the earliest: a cooling-off period cannot be begun in the past.

    Raises:
        Forbidden: `custody/removed`, `custody/person`, `custody/history`.

    """
    if before.state is CustodianState.REMOVED:
        raise Forbidden(
            "a custodian that was removed stays so; register another id",
            rule="custody/removed",
            clause=rules.clause("G4.7"),
        )
    if before.person != after.person:
        raise Forbidden(
            "a custodian record stays with one person; register another",
            rule="custody/person",
            clause=rules.clause("G4.7"),
        )
    _require_grown(before.privileges, after.privileges, at, rules)
    _require_grown(before.engagements, after.engagements, at, rules)


def ended(record: CustodianRecord, at: UnixSeconds) -> CustodianRecord:
    """The record of somebody who leaves: what is not over ends now, and cooling-off periods run from here."""
    return replace(
        record,
        privileges=tuple(replace(one, until=at) if _not_over(one, at) else one for one in record.privileges),
        engagements=tuple(
            replace(one, until=at) if _not_over(one, at) else one for one in record.engagements
        ),
    )


def require_may_approve(record: CustodianRecord, system: str, rules: Rules, at: UnixSeconds) -> None:
    """Require that a custodian may propose or approve for a system at a moment.

    Raises:
        Forbidden: `custody/removed`, `custody/not-privileged`, `custody/security-check` (G4.7), `custody/screening`
            (G4.3, G4.6), `custody/clearance` (G4.1, G4.4), and as `require_may_be_registered` for what time changes.

    """
    if record.state is not CustodianState.REGISTERED:
        raise _may_not("is no registered custodian any more", "removed", rules.clause("G4.7"))
    if not any(one.system == system and _lasts(one, at) for one in record.privileges):
        what = f"is not a Privileged Person for {system} at this time"
        raise _may_not(what, "not-privileged", rules.clause("G4.7"))
    if rules.security_check and (record.security_check_on is None or record.security_check_on > at):
        raise _may_not("has not passed a Security Check", "security-check", rules.clause("G4.7"))
    screened = record.screened_on is not None and record.screened_on <= at
    if not screened or not _screening_accepted(record, rules):
        raise _may_not("has not been screened to an accepted standard", "screening", rules.clause("G4.6"))
    reviewed = record.clearance_reviewed_on
    if not record.clearance or reviewed is None or not 0 <= at - reviewed <= rules.clearance_days * DAY:
        what = "has no security clearance that was reviewed within the year"
        raise _may_not(what, "clearance", rules.clause("G4.4(b)"))
    _require_apart(record, rules)
    _require_engagements(record, rules)


def months_later(moment: UnixSeconds, months: int) -> UnixSeconds:
    """The same day and time so many calendar months on; the last day of a month that has no such day."""
    start = datetime.fromtimestamp(moment, UTC)
    count = start.month - 1 + months
    year, month = start.year + count // 12, count % 12 + 1
    day = min(start.day, monthrange(year, month)[1])
    return UnixSeconds(int(start.replace(year=year, month=month, day=day).timestamp()))


def _screening_accepted(record: CustodianRecord, rules: Rules) -> bool:
    if record.in_united_kingdom:
        return record.screening_standard in rules.screening_standards
    return bool(record.screening_standard)


def _require_key(record: CustodianRecord, rules: Rules) -> None:
    """One key has one encoding, so that nobody is two signers by writing the same key in two ways."""
    try:
        key = load_der_public_key(record.key)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if (
        not isinstance(key, ec.EllipticCurvePublicKey)
        or not isinstance(key.curve, ec.SECP256R1)
        or key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != record.key
    ):
        raise Forbidden(
            "a custodian signs with a P-256 key, registered as SubjectPublicKeyInfo with the uncompressed point",
            rule="custody/key",
            clause=rules.clause("G4.7"),
        )
    if not record.certificate:
        return
    try:
        certified = x509.load_der_x509_certificate(record.certificate).public_key()
        same = certified.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == record.key
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        same = False
    if not same:
        raise Forbidden(
            "the custodian's certificate is over another key than the one that is registered",
            rule="custody/certificate",
            clause=rules.clause("G4.7"),
        )


def _require_distinct(record: CustodianRecord, others: Iterable[CustodianRecord], rules: Rules) -> None:
    for other in others:
        if other.custodian_id == record.custodian_id:
            continue
        if other.key == record.key or (record.certificate and other.certificate == record.certificate):
            raise Conflict(
                "another custodian has this key or certificate",
                rule="custody/key-twice",
                clause=rules.clause("G4.7"),
            )
        if _same_person(other, record) and other.state is CustodianState.REGISTERED:
            raise Conflict(
                f"this person is registered already, as {other.custodian_id}; each person has one record",
                rule="custody/person-twice",
                clause=rules.clause("G4.7"),
            )


def _require_apart(record: CustodianRecord, rules: Rules) -> None:
    """Separated systems, and six months between relevant ones."""
    controlled = {one.systems for one in record.additional_controls if one.control}
    for first in record.privileges:
        for second in record.privileges:
            pair = _pair(first.system, second.system)
            if first.system >= second.system:
                continue
            if pair in rules.relevant and not _six_months_apart(first, second):
                raise Forbidden(
                    f"nobody is a Privileged Person for {pair[0]} and for {pair[1]} within six months of each other",
                    rule="custody/six-months",
                    clause=rules.clause("G2.22B(d)"),
                )
            if pair in rules.separated and pair not in controlled and _overlap(first, second):
                raise Forbidden(
                    f"{pair[0]} and {pair[1]} are Separated: nobody is privileged on both, unless additional "
                    "controls are established and named in the record (G4.8(b))",
                    rule="custody/separated-systems",
                    clause=rules.clause("G4.8(a)"),
                )


def _require_engagements(record: CustodianRecord, rules: Rules) -> None:
    gap = rules.engagement_gap_days * DAY
    for first in record.engagements:
        for second in record.engagements:
            if first.side is Side.DCC and second.side is Side.USER and not _apart(first, second, gap):
                raise Forbidden(
                    f"nobody is engaged on DCC and on User systems within {rules.engagement_gap_days} days of each other",
                    rule="custody/engagement",
                    clause=rules.clause("G2.24"),
                )


def _require_grown(
    before: Sequence[Privilege | Engagement],
    after: Sequence[Privilege | Engagement],
    at: UnixSeconds,
    rules: Rules,
) -> None:
    """What was there is there still, in its place; what is not over may get another end, and new ones may follow."""
    for number, old in enumerate(before):
        new = after[number] if number < len(after) else None
        if new is None or _begins(new) != _begins(old) or not _may_end(old.until, new.until, at):
            raise Forbidden(
                "a custodian's history only grows: past privileges and engagements keep their dates",
                rule="custody/history",
                clause=rules.clause("G2.22B(d)"),
            )


def _may_end(old: UnixSeconds | None, new: UnixSeconds | None, at: UnixSeconds) -> bool:
    """An end that has passed stays; any other stays ahead, or is now."""
    return old == new or ((old is None or old > at) and (new is None or new >= at))


def _begins(one: Privilege | Engagement) -> tuple[str, UnixSeconds]:
    return (one.system if isinstance(one, Privilege) else one.side.value, one.since)


def _six_months_apart(first: Privilege, second: Privilege) -> bool:
    earlier, later = sorted((first, second), key=lambda one: one.since)
    if earlier.until is None:
        return False
    # an end before its beginning ends nothing earlier
    return later.since >= months_later(max(earlier.until, earlier.since), SIX_MONTHS)


def _apart(first: Engagement, second: Engagement, gap: int) -> bool:
    earlier, later = sorted((first, second), key=lambda one: one.since)
    return earlier.until is not None and later.since >= max(earlier.until, earlier.since) + gap


def _overlap(first: Privilege, second: Privilege) -> bool:
    return max(first.since, second.since) < min(_end(first), _end(second))


def _end(one: Privilege | Engagement) -> UnixSeconds:
    return _FOR_EVER if one.until is None else one.until


def _not_over(one: Privilege | Engagement, at: UnixSeconds) -> bool:
    return at < _end(one)


def _lasts(one: Privilege, at: UnixSeconds) -> bool:
    return one.since <= at and _not_over(one, at)


def _same_person(first: CustodianRecord, second: CustodianRecord) -> bool:
    """A reference names the same person in other letter case, spacing or Unicode composition."""
    return one_person(first.person) == one_person(second.person)


def one_person(reference: str) -> str:
    """What a reference to a person comes down to, whatever its letter case, spacing or Unicode composition."""
    return "".join(normalize("NFKC", normalize("NFKC", reference).casefold()).split())


def _pair(first: SystemName, second: SystemName) -> tuple[str, str]:
    return (first, second) if first < second else (second, first)


def _may_not(what: str, rule: str, clause: str) -> Forbidden:
    return Forbidden(f"this custodian {what}", rule=f"custody/{rule}", clause=clause)
