"""Words of an entry, as the rows of a report want them."""

from collections.abc import Mapping

import orjson

from cryptosvc.core.account import instant
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.retold import Told
from cryptosvc.core.said import moment

MOST_LEAVES = 5
_DIGITS = 15
_SHOWN_APART = frozenset({"severity", "leaves", "rule", "clause"})


def words(told: Told | None, *names: str) -> tuple[str, ...]:
    """Texts of an entry by field; empty where there is none, or the entry is not at hand."""
    if told is None:
        return ("",) * len(names)
    facts = told.entry.get("facts")
    known: dict[str, JsonValue] = dict(facts) if isinstance(facts, Mapping) else {}
    known |= {**told.entry, **told.beside, "time": instant(moment(told.entry))}
    return tuple(plain(known.get(name)) for name in names)


def plain(value: JsonValue) -> str:
    """A value as text; JSON where it is no text."""
    if value is None:
        return ""
    return value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def facts_of(told: Told | None) -> str:
    """Facts of an entry in a line, but for those that have a column of their own."""
    facts = None if told is None else told.entry.get("facts")
    if not isinstance(facts, Mapping):
        return ""
    return "; ".join(
        f"{name}: {plain(value)}" for name, value in sorted(facts.items()) if name not in _SHOWN_APART
    )


def leaves_of(told: Told | None) -> tuple[int, ...]:
    """Indexes of the entries an alarm rests on, at most `MOST_LEAVES`."""
    facts = None if told is None else told.entry.get("facts")
    named = facts.get("leaves") if isinstance(facts, Mapping) else None
    texts = named.split() if isinstance(named, str) else []
    return tuple(int(one) for one in texts if one.isascii() and one.isdecimal() and len(one) <= _DIGITS)[
        :MOST_LEAVES
    ]


def because(told: Told | None) -> str:
    """Why a record changed."""
    because = None if told is None else told.entry.get("because")
    if not isinstance(because, Mapping):
        return ""
    return "; ".join(f"{name} {plain(value)}".strip() for name, value in because.items())


def approvals_of(told: Told | None) -> str:
    """How many approvals counted."""
    approvals = None if told is None else told.entry.get("approvals")
    return str(len(approvals)) if isinstance(approvals, list | tuple) else ""


def document_of(told: Told | None) -> Mapping[str, JsonValue]:
    """The record's document that is kept beside an entry; empty where it is not."""
    try:
        found = orjson.loads("{}" if told is None else told.beside.get("document", "{}"))
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
