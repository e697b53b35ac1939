"""What a real ceremony did otherwise than its rehearsal.

Both transcripts are laid out field by field. What cannot but differ between them (times, serial numbers, key values,
the module and its token, who exactly was there) is listed by name in `BY_NATURE` and shown; any other difference
means that something was done that was not rehearsed, and `require_as_rehearsed` refuses it.

An interruption is not an act. Where the real ceremony was resumed, and the step that was open was begun again word for
word before it was done, the two are compared as if it had gone through; the interruptions are listed beside. A step
that was begun again otherwise, or done twice, is a difference as any other.

Example:
    >>> "facts.serial" in BY_NATURE, "facts.state" in BY_NATURE
    (True, False)
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import orjson

from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.ceremony.entries import Begun, Done, Entry, Footer, Header, Mode, Resumed
from cryptosvc.core.ceremony.transcript import Transcript
from cryptosvc.core.errors import Corrupt, Malformed
from cryptosvc.core.life import UnixSeconds

ABSENT = "(not there)"

BY_NATURE: Mapping[str, str] = {
    "at": "time",
    "by": "person",
    "mode": "rehearsal or real",
    "environment": "a rehearsal is always held in test",
    "modules.*.manufacturer": "module",
    "modules.*.model": "module",
    "modules.*.serial": "module",
    "modules.*.firmware": "module",
    "modules.*.token": "module",
    "checkpoint": "state of the log",
    "present.*.person": "person",
    "present.*.key_id": "key value",
    "fingerprints.*": "key value",
    "facts.public_key": "key value",
    "facts.serial": "serial number",
    "facts.crl_number": "serial number",
    "facts.not_before": "time",
    "facts.not_after": "time",
    "facts.this_update": "time",
    "facts.next_update": "time",
    "facts.leaf": "state of the log",
    "facts.proposal": "names time and log",
    "facts.approved_by": "person",
    "facts.module_evidence": "module",
    "facts.log_size": "state of the log",
    "facts.log_root": "state of the log",
}
"""Field, list positions as `*` → why it differs. A field that is not here must be the same."""

REAL_ONLY = frozenset({"facts.module_evidence"})
"""Fields of BY_NATURE that a rehearsal lacks: a software token has no vendor's evidence."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One field.

    Args:
        where: `header`, `step 3 begun`, `step 3 done`, `resumed` or `footer`, a space, and the dotted field.
        rehearsal, real: the values as JSON text; `ABSENT` where there is none.
        why: why it may differ; empty where it may not.

    """

    where: str
    rehearsal: str
    real: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Interruption:
    """The real ceremony stopped and went on.

    Args:
        after: where: the last step that was done, 0 before the first.
        again: the step that was open and was begun again for it; 0 where none was, or what it left was whole.
        reason, by, at: as who resumed it wrote them.

    """

    after: int
    again: int
    reason: str
    by: str
    at: UnixSeconds


@dataclass(frozen=True, slots=True)
class Differences:
    """All of them, each list in the order of the transcripts.

    Args:
        by_nature: what cannot but differ.
        others: what should not.
        interruptions: where the real ceremony stopped and went on, and did nothing else for it.

    """

    by_nature: tuple[Difference, ...]
    others: tuple[Difference, ...]
    interruptions: tuple[Interruption, ...] = ()


def compare(rehearsal: Transcript, real: Transcript) -> Differences:
    """Lay two transcripts that verified beside each other.

    Raises:
        Malformed: `transcript/mode`, the first is no rehearsal or the second no real ceremony.

    """
    if rehearsal.header.mode is not Mode.REHEARSAL or real.header.mode is not Mode.REAL:
        raise Malformed("give the rehearsal first and the real ceremony second", rule="transcript/mode")
    entries, interruptions = _uninterrupted(real.entries)
    first, second = _laid_out(rehearsal.entries), _laid_out(entries)
    found = [
        Difference(
            f"{place} {field}",
            first.get((place, field), ABSENT),
            second.get((place, field), ABSENT),
            _why(field)
            if (place, field) in second and ((place, field) in first or field in REAL_ONLY)
            else "",
        )
        for place, field in dict.fromkeys((*first, *second))
        if first.get((place, field)) != second.get((place, field))
    ]
    found += _out_of_order(rehearsal, real)
    return Differences(
        tuple(one for one in found if one.why), tuple(one for one in found if not one.why), interruptions
    )


def require_as_rehearsed(differences: Differences) -> None:
    """Raise Corrupt `transcript/not-as-rehearsed`, naming the fields, unless all differences are by nature."""
    if differences.others:
        named = ", ".join(one.where for one in differences.others[:10])
        more = f" and {len(differences.others) - 10} more" if len(differences.others) > 10 else ""
        raise Corrupt(f"not as rehearsed: {named}{more}", rule="transcript/not-as-rehearsed")


def _uninterrupted(entries: Sequence[Entry]) -> tuple[list[Entry], tuple[Interruption, ...]]:
    """The entries as if nothing had interrupted them, and what did."""
    kept: list[Entry] = []
    found: list[Interruption] = []
    done, resumed = 0, False
    for entry in entries:
        if isinstance(entry, Resumed):
            found.append(Interruption(done, 0, entry.reason, entry.by, entry.at))
            resumed = True
            continue
        before = kept[-1] if kept else None
        if resumed and isinstance(entry, Begun) and isinstance(before, Begun) and _same(before, entry):
            kept.pop()
            found[-1] = replace(found[-1], again=entry.number)
        kept.append(entry)
        resumed = False
        if isinstance(entry, Done):
            done = entry.number
    return kept, tuple(found)


def _same(one: Begun, other: Begun) -> bool:
    """Whether the same was read out and confirmed; by whom and when may differ."""
    return replace(one, by=other.by, at=other.at) == other


def _laid_out(entries: Sequence[Entry]) -> dict[tuple[str, str], str]:
    laid: dict[tuple[str, str], str] = {}
    seen: Counter[str] = Counter()
    order: list[str] = []
    for entry in entries:
        place = _place(entry)
        seen[place] += 1
        place += f" ({seen[place]})" if seen[place] > 1 else ""
        order.append(place)
        for field, value in _leaves(entry.document(), ""):
            laid[place, field] = orjson.dumps(value).decode()
    laid["order", "of entries"] = ", ".join(order)
    return laid


def _place(entry: Entry) -> str:
    document = entry.document()
    kind = str(document["kind"])
    return f"step {document['number']} {kind}" if "number" in document else kind


def _leaves(value: JsonValue, path: str) -> list[tuple[str, JsonValue]]:
    """Flatten to (dotted path, scalar); an empty table or list counts as a value of its own."""
    if isinstance(value, Mapping) and value:
        return [
            leaf
            for name, inner in sorted(value.items())
            for leaf in _leaves(inner, f"{path}.{name}" if path else name)
        ]
    if isinstance(value, Sequence) and not isinstance(value, str) and value:
        return [leaf for at, inner in enumerate(value) for leaf in _leaves(inner, f"{path}.{at}")]
    return [(path, value)]


def _why(field: str) -> str:
    parts = field.split(".")
    if parts[0] == "fingerprints":
        return BY_NATURE["fingerprints.*"]
    if parts[0] in {"modules", "present"} and len(parts) > 2:
        parts[1] = "*"
    if parts[0] == "facts":
        parts = parts[:2]
    return BY_NATURE.get(".".join(parts), "")


def _out_of_order(rehearsal: Transcript, real: Transcript) -> list[Difference]:
    footer: Footer | None = rehearsal.footer
    header: Header = real.header
    if footer is not None and footer.at <= header.at:
        return []
    ended = ABSENT if footer is None else str(footer.at)
    return [Difference("rehearsal ended before the real ceremony began", ended, str(header.at))]
