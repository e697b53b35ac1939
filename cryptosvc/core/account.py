"""What a key, a person or a User ever did, told from the entries that name it; fed in the order of the log.

Pure counting: whoever reads the entries decides which are fed, and whether all of them were.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import orjson

from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.life import NANOSECONDS
from cryptosvc.core.said import Entry, moment, said

_MONTHS_OF_A_HALF = 6


@dataclass(slots=True)
class Account:
    """Counts and lists over some entries; `document` says them."""

    entries: int = 0
    uses: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    months: Counter[tuple[str, str]] = field(default_factory=Counter)
    callers: Counter[str] = field(default_factory=Counter)
    keys: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    modules: set[str] = field(default_factory=set)
    certificates: list[str] = field(default_factory=list)
    first_use: dict[str, JsonValue] | None = None
    last_use: dict[str, JsonValue] | None = None
    refusals: list[dict[str, JsonValue]] = field(default_factory=list)
    changes: list[dict[str, JsonValue]] = field(default_factory=list)

    def take(self, leaf_index: int, entry: Entry, beside: Mapping[str, str]) -> None:
        """Count one entry.

        Args:
            leaf_index: from 0; each more than the one before.
            entry: parsed.
            beside: withheld values by name, as far as they are kept.

        """
        kind = str(entry.get("kind", ""))
        self.entries += 1
        self.kinds[kind] += 1
        pairs = said(entry, beside)
        if "principal" in beside:
            self.callers[beside["principal"]] += 1
        self.keys.update(value for name, value in pairs if name == "key")
        self.modules.update(value for name, value in pairs if name == "module")
        at: dict[str, JsonValue] = {"leaf_index": leaf_index, "time": instant(moment(entry))}
        if kind == "use":
            self._use(entry, at)
        elif kind == "refusal":
            said_of = ("operation", "reason", "rule", "clause")
            self.refusals.append(
                at
                | {name: str(entry.get(name, "")) for name in said_of}
                | {"caller": beside.get("principal", "")}
            )
        elif kind.endswith("-record"):
            self._change(kind, entry, beside, at)

    def document(self) -> dict[str, JsonValue]:
        """Everything, in an order that tells a story."""
        return {
            "entries": self.entries,
            "kinds": dict(sorted(self.kinds.items())),
            "first_use": self.first_use,
            "last_use": self.last_use,
            "uses": [
                {"operation": operation, "content": content, "outcome": outcome, "count": count}
                for (operation, content, outcome), count in sorted(self.uses.items())
            ],
            "uses_by_month": [
                {"month": month, "outcome": outcome, "count": count}
                for (month, outcome), count in sorted(self.months.items())
            ],
            "callers": dict(sorted(self.callers.items())),
            "keys": dict(sorted(self.keys.items())),
            "modules": sorted(self.modules),
            "certificates": list(self.certificates),
            "refusals": list(self.refusals),
            "changes": list(self.changes),
        }

    def _use(self, entry: Entry, at: dict[str, JsonValue]) -> None:
        outcome = str(entry.get("outcome", ""))
        self.uses[str(entry.get("operation", "")), str(entry.get("content_kind", "")), outcome] += 1
        self.months[str(at["time"])[:7], outcome] += 1
        self.first_use = self.first_use or at
        self.last_use = at

    def _change(self, kind: str, entry: Entry, beside: Mapping[str, str], at: dict[str, JsonValue]) -> None:
        because, approvals = entry.get("because"), entry.get("approvals")
        self.changes.append(
            at
            | {
                "kind": kind,
                "version": entry.get("record_version"),
                "state": entry.get("state"),
                "because": dict(because) if isinstance(because, Mapping) else {},
                "approvals": list(approvals) if isinstance(approvals, Sequence) else [],
            }
        )
        try:
            document = orjson.loads(beside.get("document", "{}"))
            certificate = bytes.fromhex(document.get("certificate", ""))
        except (ValueError, TypeError, AttributeError):
            return
        digest = hashlib.sha256(certificate).hexdigest()
        if certificate and digest not in self.certificates:
            self.certificates.append(digest)


@dataclass(slots=True)
class UserCounts:
    """What was done for one User, by half-year (G5.27(b)): uses, and how many different devices were addressed."""

    _halves: dict[str, tuple[Counter[str], set[str]]] = field(default_factory=dict)

    def take(self, entry: Entry, beside: Mapping[str, str]) -> None:
        """Count one entry that says this User; what is no use counts for nothing."""
        if entry.get("kind") != "use" or entry.get("outcome") != "signed":
            return
        counts, devices = self._halves.setdefault(half_year(moment(entry)), (Counter(), set()))
        counts[str(entry.get("content_kind", ""))] += 1
        if "target" in beside:
            devices.add(beside["target"])

    def rows(self, user: str) -> list[dict[str, JsonValue]]:
        """A row for each half-year in which something was done."""
        return [
            {
                "user": user,
                "half_year": half,
                "uses": sum(counts.values()),
                "by_content": dict(sorted(counts.items())),
                "devices": len(devices),
            }
            for half, (counts, devices) in sorted(self._halves.items())
        ]


def instant(nanoseconds: int) -> str:
    """A moment of the log as text, UTC, to the millisecond; empty where there is none."""
    if not nanoseconds:
        return ""
    seconds, rest = divmod(nanoseconds, NANOSECONDS)
    try:
        found = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return ""
    return f"{found:%Y-%m-%dT%H:%M:%S}.{rest // 1_000_000:03}Z"


def half_year(nanoseconds: int) -> str:
    """The half-year of a moment, as `2026-H2`."""
    text = instant(nanoseconds)
    return f"{text[:4]}-H{1 if int(text[5:7]) <= _MONTHS_OF_A_HALF else 2}" if text else ""
