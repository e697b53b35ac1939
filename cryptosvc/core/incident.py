"""A Major Security Incident as it is put together and told: who is to be notified by when, and a page of words.

The Code says that the Panel and the Security Sub-Committee are notified promptly (G2.11(a), G3.5), or as soon as is
reasonably practicable where the SMETS1 CSP System concerned is Telefonica's (G2.11(b)). In how many hours, by which
address and who else is the operator's own plan, and configured.

Source: Smart Energy Code G2.11, G3.5; G2.10 (steps of the Information Security Management System).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryptosvc.core.account import instant
from cryptosvc.core.life import NANOSECONDS, UnixSeconds

KIND = "incident"
DECLARE = "declare"
_HOUR = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Somebody to be notified.

    Args:
        who: body or person.
        how: address, number or procedure; empty where the configuration says none.
        clause: of the Code.
        by: Unix seconds.

    """

    who: str
    how: str
    clause: str
    by: UnixSeconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """What is told.

    Args:
        title: in a line.
        said: what is known, in words; may have several lines.
        clause: under which it is notified.
        known_at: when it became known, from which the hours run.
        start, stop: Unix seconds of what it is about; 0 for no bound.
        keys: ids of keys it is about.
        origin, system, environment: of the deployment.
        entries: of the log when the pack was made; `root` of it, hex.
        alarms: (leaf index, rule, severity, clause) of each alarm of that time.
        alarms_left_out: how many more there are.
        evidence: name of each file → SHA-256, hex.
        notices: who is to be notified.

    """

    title: str
    said: str
    clause: str
    known_at: UnixSeconds
    start: int
    stop: int
    keys: tuple[str, ...]
    origin: str
    system: str
    environment: str
    entries: int
    root: str
    alarms: tuple[tuple[int, str, str, str], ...]
    alarms_left_out: int
    evidence: Mapping[str, str]
    notices: tuple[Notice, ...]


def notices_of(plan: Sequence[tuple[str, str, str, int]], known_at: UnixSeconds) -> tuple[Notice, ...]:
    """Who is to be notified, soonest first; `plan` has who, how, clause and within how many hours."""
    made = [
        Notice(who=who, how=how, clause=clause, by=UnixSeconds(known_at + hours * _HOUR))
        for who, how, clause, hours in plan
    ]
    return tuple(sorted(made, key=lambda one: (one.by, one.who)))


def page(incident: Incident) -> str:
    """The page of words, Markdown: to be read, completed by hand and sent."""
    about = f"from {_when(incident.start)} to {_when(incident.stop)}"
    lines = [
        f"# Major Security Incident: {incident.title}",
        "",
        (
            f"Notification under {incident.clause} of the Smart Energy Code. System {incident.system}, environment "
            f"{incident.environment}. Known since {_when(incident.known_at)}."
        ),
        "",
        "## Who is to be notified",
        "",
        "| who | how | clause | not later than | notified at | by |",
        "|---|---|---|---|---|---|",
        *(f"| {one.who} | {one.how} | {one.clause} | {_when(one.by)} | | |" for one in incident.notices),
        "",
        "## What is known",
        "",
        incident.said or "Nothing was said yet.",
        "",
        f"It is about what was recorded {about}"
        + (f", and the keys {', '.join(incident.keys)}." if incident.keys else "."),
        "",
        "## Alarms of that time",
        "",
        *_alarms(incident),
        "",
        "## Evidence",
        "",
        (
            f"The log {incident.origin} had {incident.entries} entries with the root {incident.root}. The files beside this "
            "page, each with its SHA-256:"
        ),
        "",
        *(f"- {name}: {digest}" for name, digest in sorted(incident.evidence.items())),
        "",
        (
            "`cryptosvc audit verify` judges the evidence with nothing but the log's public key. That this pack was made is an "
            "entry of the log, with the SHA-256 of its file SHA256SUMS."
        ),
        "",
    ]
    return "\n".join(lines)


def _alarms(incident: Incident) -> list[str]:
    if not incident.alarms:
        return ["None."]
    rows = [
        f"| {leaf} | {rule} | {severity} | {clause} |" for leaf, rule, severity, clause in incident.alarms
    ]
    more = [f"And {incident.alarms_left_out} more."] if incident.alarms_left_out else []
    return ["| entry | rule | severity | clause |", "|---|---|---|---|", *rows, *more]


def _when(second: int) -> str:
    return instant(second * NANOSECONDS) if second else "no bound"
