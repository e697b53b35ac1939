"""Custodian records: who may propose and approve governed acts, and what the Code asks to be known of them.

Source: Smart Energy Code G4.1 to G4.8 (screening, clearance, Security Check, Privileged Persons), G2.22B(d), G2.24 and
G3.13 (engagements). Dates are whole seconds since 1970-01-01T00:00:00Z. History only grows: a privilege or an
engagement that ended keeps its dates, because a cooling-off period runs from them. They lie in the years 1970 to 9998,
so that a period that runs from any of them ends on a date, too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.documents import mappings, number, number_or_none, octets, text, texts, truth
from cryptosvc.core.errors import Malformed
from cryptosvc.core.life import UnixSeconds
from cryptosvc.core.names import SystemName

_NO_DATE = 253_370_764_800
"""9999-01-01T00:00:00Z: dates are before it."""


class CustodianState(StrEnum):
    """Whether a custodian counts."""

    REGISTERED = "registered"
    REMOVED = "removed"


class CustodianRole(StrEnum):
    """What a custodian acts as; the governance policy says which roles count for which act."""

    KEY_CUSTODIAN = "key-custodian"
    CEREMONY_ADMINISTRATOR = "ceremony-administrator"
    SECURITY_OFFICER = "security-officer"
    WITNESS = "witness"
    PMA_APPROVER = "pma-approver"
    TRANSFER_APPROVER = "transfer-approver"
    """Signs for the body that approves transfers the SMKI PMA is not asked for (`core/transfer/bodies.py`)."""
    AUDITOR = "auditor"


class Side(StrEnum):
    """Whose systems somebody develops or tests (G2.24, G3.13)."""

    DCC = "dcc"
    USER = "user"


@dataclass(frozen=True, slots=True)
class Privilege:
    """Somebody is a Privileged Person for a system, from and, where it has ended, to.

    Args:
        system: which.
        since: from when.
        until: to when; None while it lasts.

    """

    system: SystemName
    since: UnixSeconds
    until: UnixSeconds | None


@dataclass(frozen=True, slots=True)
class Engagement:
    """Somebody is engaged on the DCC's systems, or on a User's; dates as in `Privilege`."""

    side: Side
    since: UnixSeconds
    until: UnixSeconds | None


@dataclass(frozen=True, slots=True)
class AdditionalControl:
    """Why somebody may be privileged on two Separated systems (G4.8(b)).

    Args:
        systems: the two, sorted.
        control: what was established, in words.

    """

    systems: tuple[SystemName, SystemName]
    control: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CustodianRecord:
    """One custodian.

    Args:
        custodian_id: unique; same alphabet as key ids.
        version: counts changes of this record, from 1.
        state: registered, or removed for good.
        system: the system whose register this is.
        person: reference that names one person, whatever certificates they hold; quorums count it.
        name: to show.
        key: SubjectPublicKeyInfo DER of the P-256 key that signs statements.
        certificate: DER of the certificate over that key; empty where the key is registered alone.
        roles: what they act as.
        in_united_kingdom: where they work: G4.3 and G4.6 ask for BS 7858 there, for a comparable standard elsewhere.
        screening_standard, screened_on: which standard they were screened to, and when.
        clearance, clearance_reviewed_on: security clearance and its last annual review (G4.1, G4.4).
        security_check_on: when they passed a Security Check (G4.7); None where they have not.
        privileges: systems they are or were a Privileged Person for.
        engagements: sides they are or were engaged on.
        additional_controls: for Separated systems they are privileged on together.

    """

    custodian_id: str
    version: int
    state: CustodianState
    system: SystemName
    person: str
    name: str
    key: bytes
    certificate: bytes
    roles: frozenset[CustodianRole]
    in_united_kingdom: bool
    screening_standard: str
    screened_on: UnixSeconds | None
    clearance: str
    clearance_reviewed_on: UnixSeconds | None
    security_check_on: UnixSeconds | None
    privileges: tuple[Privilege, ...]
    engagements: tuple[Engagement, ...] = ()
    additional_controls: tuple[AdditionalControl, ...] = ()


def custodian_document(record: CustodianRecord) -> dict[str, JsonValue]:
    """Print a custodian record; histories keep their order."""
    return {
        "custodian_id": record.custodian_id,
        "version": record.version,
        "state": record.state.value,
        "system": record.system,
        "person": record.person,
        "name": record.name,
        "key": record.key.hex(),
        "certificate": record.certificate.hex(),
        "roles": sorted(role.value for role in record.roles),
        "in_united_kingdom": record.in_united_kingdom,
        "screening_standard": record.screening_standard,
        "screened_on": record.screened_on,
        "clearance": record.clearance,
        "clearance_reviewed_on": record.clearance_reviewed_on,
        "security_check_on": record.security_check_on,
        "privileges": [
            {"system": one.system, "since": one.since, "until": one.until} for one in record.privileges
        ],
        "engagements": [
            {"side": one.side.value, "since": one.since, "until": one.until} for one in record.engagements
        ],
        "additional_controls": [
            {"systems": list(one.systems), "control": one.control} for one in record.additional_controls
        ],
    }


def custodian_from_document(document: Mapping[str, JsonValue]) -> CustodianRecord:
    """Read a custodian record. Malformed: not what `custodian_document` prints."""
    try:
        found = CustodianRecord(
            custodian_id=text(document, "custodian_id"),
            version=number(document, "version"),
            state=CustodianState(text(document, "state")),
            system=SystemName(text(document, "system")),
            person=text(document, "person"),
            name=text(document, "name"),
            key=octets(document, "key"),
            certificate=octets(document, "certificate"),
            roles=frozenset(CustodianRole(role) for role in texts(document, "roles")),
            in_united_kingdom=truth(document, "in_united_kingdom"),
            screening_standard=text(document, "screening_standard"),
            screened_on=_date(document, "screened_on"),
            clearance=text(document, "clearance"),
            clearance_reviewed_on=_date(document, "clearance_reviewed_on"),
            security_check_on=_date(document, "security_check_on"),
            privileges=tuple(
                Privilege(SystemName(text(one, "system")), _moment(number(one, "since")), _date(one, "until"))
                for one in mappings(document, "privileges")
            ),
            engagements=tuple(
                Engagement(Side(text(one, "side")), _moment(number(one, "since")), _date(one, "until"))
                for one in mappings(document, "engagements")
            ),
            additional_controls=tuple(_control(one) for one in mappings(document, "additional_controls")),
        )
        same = custodian_document(found) == document
    except (KeyError, ValueError, TypeError):
        same = False
    if not same or not found.person.strip() or not found.custodian_id or not _can_be_read(found):
        raise Malformed("this is not a custodian record as this version prints it", rule="registry/document")
    return found


def _can_be_read(found: CustodianRecord) -> bool:
    """What is shown to those who approve has no control, direction or line-breaking characters."""
    words = (found.custodian_id, found.person, found.name, found.clearance, found.screening_standard)
    return all(one.isprintable() for one in (*words, *(one.control for one in found.additional_controls)))


def _control(document: Mapping[str, JsonValue]) -> AdditionalControl:
    first, second = texts(document, "systems")
    return AdditionalControl((SystemName(first), SystemName(second)), text(document, "control"))


def _date(document: Mapping[str, JsonValue], name: str) -> UnixSeconds | None:
    value = number_or_none(document, name)
    return None if value is None else _moment(value)


def _moment(value: int) -> UnixSeconds:
    if not 0 <= value < _NO_DATE:
        raise ValueError("no date")
    return UnixSeconds(value)
