"""`governance.toml` → the rules of dual control, or Malformed that names the row.

Strict: every word must be known, every row must decide something, and no row may ask fewer people than the class
table does, so that what a reader sees is what holds. Narrower is always possible; laxer does not load.

Source: Smart Energy Code G4.1 to G4.8, G2.22A, G2.22B(d), G2.24, G2.58, G3.13, G5.13(b).
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from fnmatch import fnmatchcase

from cryptosvc.adapters.policy.transfer_bodies import read_bodies
from cryptosvc.core.acts.table import ACTS
from cryptosvc.core.custodian import CustodianRole, Side
from cryptosvc.core.custody import Rules
from cryptosvc.core.errors import Malformed
from cryptosvc.core.keyclass import KEY_CLASSES
from cryptosvc.core.life import DAY, UnixSeconds
from cryptosvc.core.quorum import Governance, QuorumRow, least_people

GOVERNANCE_FILE = "governance.toml"

LONGEST_OPEN_DAYS = 31
CLEARANCE_DAYS = 366
"""A clearance is reviewed annually (G4.1(b), G4.4(b))."""
CLOCK_SECONDS = 30
CLOCK_SECONDS_AT_MOST = 300
"""How far two clocks may be apart: "some small leeway, usually no more than a few minutes" (RFC 7519 4.1.5, of `nbf`,
which is the same question); the Code names no number (G2.47)."""

_FIELDS = frozenset(
    {
        "longest_open_days",
        "clock_tolerance_seconds",
        "ecos_service_live",
        "foreign_issuers",
        "custody",
        "quorum",
        "transfer_body",
    }
)
_ROW_FIELDS = frozenset({"act", "class", "people", "roles"})
_CUSTODY_FIELDS = frozenset(
    {
        "separated",
        "relevant",
        "screening_standards",
        "clearance_days",
        "engagement_gap_days",
        "security_check",
        "party",
    }
)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PEOPLE = ""
"""Key class of acts that are not on a key; a row for `*` covers them."""


def read_governance(octets: bytes) -> Governance:
    """Read the file.

    Raises:
        Malformed: `governance/toml`, `governance/field`, `governance/row` (a row is not understood, asks too few
            people, or decides nothing); `field` names the row as `quorum.3`, counted from 1.

    """
    try:
        document = tomllib.loads(octets.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Malformed(
            f"{GOVERNANCE_FILE} is not TOML: {error}", rule="governance/toml", field=GOVERNANCE_FILE
        ) from None
    _require_known(document, _FIELDS, "")
    rows = _rows(document.get("quorum"))
    _require_sound(rows)
    return Governance(
        rows=rows,
        custody=_custody(document.get("custody", {})),
        ecos_service_live=_day(document.get("ecos_service_live")),
        longest_seconds=DAY
        * _number(document.get("longest_open_days"), "longest_open_days", 1, LONGEST_OPEN_DAYS),
        foreign_issuers=_digests(document.get("foreign_issuers", [])),
        clock_tolerance_seconds=_number(
            document.get("clock_tolerance_seconds", CLOCK_SECONDS),
            "clock_tolerance_seconds",
            0,
            CLOCK_SECONDS_AT_MOST,
        ),
        transfer_bodies=read_bodies(document.get("transfer_body", [])),
    )


def _rows(found: object) -> tuple[QuorumRow, ...]:
    if not isinstance(found, list) or not found:
        raise _field("quorum", "is a list of rows: who must approve what")
    return tuple(_row(number, row) for number, row in enumerate(found, 1))


def _row(number: int, row: object) -> QuorumRow:
    if not isinstance(row, Mapping) or set(row) != _ROW_FIELDS:
        raise _row_fault(number, f"has {', '.join(sorted(_ROW_FIELDS))}, and nothing else")
    act, key_class, people, roles = row["act"], row["class"], row["people"], row["roles"]
    if not isinstance(act, str) or not any(fnmatchcase(name, act) for name in ACTS):
        raise _row_fault(number, f"is for acts {act!r}, and no act is called so; acts are {', '.join(ACTS)}")
    if not isinstance(key_class, str) or not any(fnmatchcase(name, key_class) for name in KEY_CLASSES):
        raise _row_fault(
            number,
            f"is for classes {key_class!r}, and no class is called so; classes are {', '.join(KEY_CLASSES)}",
        )
    if not isinstance(people, int) or isinstance(people, bool) or not 1 <= people <= 16:
        raise _row_fault(number, f"({act}, {key_class}) asks 1 to 16 people besides the proposer")
    known = {role.value for role in CustodianRole}
    if not isinstance(roles, list) or not roles or not all(role in known for role in roles):
        raise _row_fault(
            number, f"({act}, {key_class}) names roles that count, of {', '.join(sorted(known))}"
        )
    return QuorumRow(act, key_class, people, frozenset(roles))


def _require_sound(rows: Sequence[QuorumRow]) -> None:
    """Walk every act and class to the row that decides it: it asks enough people, and every row decides something."""
    deciding: set[int] = set()
    for act in ACTS.values():
        for key_class in KEY_CLASSES if act.kind == "key-record" else (_PEOPLE,):
            number, row = next(
                (
                    (number, row)
                    for number, row in enumerate(rows, 1)
                    if fnmatchcase(act.name, row.act) and fnmatchcase(key_class, row.key_class)
                ),
                (0, None),
            )
            if row is None:
                continue
            deciding.add(number)
            least = least_people(act, key_class)
            if row.people < least:
                raise _row_fault(
                    number,
                    f"asks {row.people} for {act.name} of {key_class} keys, which needs {least} at least",
                )
    for number, row in enumerate(rows, 1):
        if number not in deciding:
            raise _row_fault(
                number, f"({row.act}, {row.key_class}) decides nothing: rows above it match first"
            )


def _custody(found: object) -> Rules:
    if not isinstance(found, Mapping):
        raise _field("custody", "is a table")
    _require_known(found, _CUSTODY_FIELDS, "custody.")
    usual = Rules()
    return Rules(
        separated=_pairs(found.get("separated", []), "custody.separated"),
        relevant=_pairs(found.get("relevant", []), "custody.relevant"),
        screening_standards=_standards(found.get("screening_standards", sorted(usual.screening_standards))),
        clearance_days=_number(
            found.get("clearance_days", usual.clearance_days), "custody.clearance_days", 1, CLEARANCE_DAYS
        ),
        engagement_gap_days=_number(
            found.get("engagement_gap_days", usual.engagement_gap_days),
            "custody.engagement_gap_days",
            0,
            10_000,
        ),
        security_check=_truth(found.get("security_check", usual.security_check), "custody.security_check"),
        party=_party(found.get("party", usual.party.value)),
    )


def _party(found: object) -> Side:
    if found not in {side.value for side in Side}:
        raise _field("custody.party", 'is "dcc" or "user": whose systems this deployment\'s are')
    return Side(str(found))


def _pairs(found: object, name: str) -> frozenset[tuple[str, str]]:
    if not isinstance(found, list):
        raise _field(name, "is a list of pairs of systems")
    pairs: set[tuple[str, str]] = set()
    for pair in found:
        if not isinstance(pair, list) or len(set(map(str, pair))) != 2 or len(pair) != 2:
            raise _field(name, "has pairs of two different systems")
        if not all(isinstance(system, str) and system for system in pair):
            raise _field(name, "has pairs of names of systems")
        first, second = sorted(pair)
        pairs.add((first, second))
    return frozenset(pairs)


def _standards(found: object) -> frozenset[str]:
    good = isinstance(found, list) and found and all(isinstance(one, str) and one for one in found)
    if not good or not isinstance(found, list):
        raise _field(
            "custody.screening_standards", "names at least one standard, as BS 7858:2019 (G4.3, G4.6)"
        )
    return frozenset(found)


def _number(found: object, name: str, least: int, most: int) -> int:
    if not isinstance(found, int) or isinstance(found, bool) or not least <= found <= most:
        raise _field(name, f"is a number from {least} to {most}")
    return found


def _truth(found: object, name: str) -> bool:
    if not isinstance(found, bool):
        raise _field(name, "is true or false")
    return found


def _day(found: object) -> UnixSeconds | None:
    if found is None:
        return None
    if not isinstance(found, date) or isinstance(found, datetime):
        raise _field("ecos_service_live", "is a date, as 2023-06-30, without quotes")
    return UnixSeconds(int(datetime(found.year, found.month, found.day, tzinfo=UTC).timestamp()))


def _digests(found: object) -> frozenset[str]:
    if not isinstance(found, list) or not all(
        isinstance(one, str) and _SHA256.fullmatch(one) for one in found
    ):
        raise _field("foreign_issuers", "is a list of SHA-256 digests of certificates, in lower-case hex")
    return frozenset(found)


def _require_known(found: Mapping[str, object], known: frozenset[str], prefix: str) -> None:
    if unknown := sorted(set(found) - known):
        raise _field(f"{prefix}{unknown[0]}", f"is no setting; settings are {', '.join(sorted(known))}")


def _field(name: str, what: str) -> Malformed:
    return Malformed(f"{GOVERNANCE_FILE}: {name} {what}", rule="governance/field", field=name)


def _row_fault(number: int, what: str) -> Malformed:
    return Malformed(
        f"{GOVERNANCE_FILE}: row {number} {what}",
        rule="governance/row",
        clause="G5.13(b)",
        field=f"quorum.{number}",
    )
