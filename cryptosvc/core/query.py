"""A question to the log as a value: conditions that must all hold, a stretch of time, and which end to begin at.

A condition is a field (`core/said.py`) and the values any of which will do. What a query finds in a log of one size is
fixed: the cursor names that size and the place reached, and belongs to its query alone. A cursor is no secret and no
right: whoever made one up could as well ask from there, and what may be seen is decided again at every page.

Example:
    >>> query = Query.of({"key": ["k1"], "outcome": ["signed", "refused"]})
    >>> query.answered_by({("key", "k1"), ("outcome", "signed")}, at=5)
    True
"""

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import orjson

from cryptosvc.core.canonical import JsonValue, canonical
from cryptosvc.core.errors import Internal, Malformed
from cryptosvc.core.said import FIELDS, Pair

MAX_CONDITIONS = 16
MAX_VALUES = 32
MAX_VALUE_CHARACTERS = 200
LATEST = 2**63 - 1
"""End of a stretch of time without an end, nanoseconds."""
_CURSOR_OCTETS = 256
_LARGEST_SIZE = 2**53 - 1
"""Largest integer of canonical JSON; no log is longer."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Holds of an entry that says one of these pairs.

    Args:
        field: name in `FIELDS`.
        values: sorted, without repetition, at least one.

    """

    field: str
    values: tuple[str, ...]

    @property
    def pairs(self) -> frozenset[Pair]:
        """The pairs any of which will do."""
        return frozenset((self.field, value) for value in self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A question; made with `of`, which checks it.

    Args:
        conditions: all of them hold; sorted by field.
        start, stop: nanoseconds, `start <= time < stop`.
        oldest_first: by position in the log, which follows time but for what was recorded late.

    """

    conditions: tuple[Condition, ...] = ()
    start: int = 0
    stop: int = LATEST
    oldest_first: bool = False

    @classmethod
    def of(
        cls,
        conditions: Mapping[str, Sequence[str]],
        *,
        start: int = 0,
        stop: int = LATEST,
        oldest_first: bool = False,
    ) -> Self:
        """Check and put in order what was asked.

        Raises:
            Malformed: an unknown field, no value or too many, a value that no entry can hold, or no time in between.

        """
        if len(conditions) > MAX_CONDITIONS:
            raise Malformed(
                f"a query has at most {MAX_CONDITIONS} conditions",
                rule="query/conditions",
                field="conditions",
            )
        if not 0 <= start < stop <= LATEST:
            raise Malformed(
                "the time range of a query begins before it ends, and not before 1970",
                rule="query/time",
                field="start",
            )
        return cls(
            conditions=tuple(_condition(name, conditions[name]) for name in sorted(conditions)),
            start=start,
            stop=stop,
            oldest_first=oldest_first,
        )

    @property
    def everything(self) -> bool:
        """Whether every entry is asked for; only then are those part of the answer of which the hash alone is left."""
        return not self.conditions and self.start == 0 and self.stop == LATEST

    def answered_by(self, said: Collection[Pair], at: int) -> bool:
        """Whether an entry that says these pairs at this time (nanoseconds) is part of the answer."""
        return self.start <= at < self.stop and all(not one.pairs.isdisjoint(said) for one in self.conditions)

    def document(self) -> dict[str, JsonValue]:
        """The query as canonical JSON takes it."""
        found: dict[str, JsonValue] = {
            "conditions": {one.field: one.values for one in self.conditions},
            "oldest_first": self.oldest_first,
            "start": str(self.start),
            "stop": str(self.stop),
            "v": 1,
        }
        return found

    @property
    def digest(self) -> str:
        """What a cursor knows its query by: SHA-256 of the canonical document, hex."""
        return hashlib.sha256(canonical(self.document())).hexdigest()


def query_from_document(document: Mapping[str, JsonValue]) -> Query:
    """Read what `Query.document` gives; Malformed for anything it would not give."""
    try:
        match document:
            case {
                "conditions": Mapping() as conditions,
                "oldest_first": bool() as oldest_first,
                "start": str() as start,
                "stop": str() as stop,
                "v": 1,
            } if len(document) == 5:
                found = Query.of(
                    {str(name): _texts(values) for name, values in conditions.items()},
                    start=int(start),
                    stop=int(stop),
                    oldest_first=oldest_first,
                )
                same = canonical(found.document()) == canonical(document)
            case _:
                same = False
    except (ValueError, TypeError, Internal):
        same = False
    if not same:
        raise Malformed("this is not a query as the service prints one", rule="query/document")
    return found


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in an answer.

    Args:
        digest: of the query.
        size: how long the log was when the answer began; entries after that are no part of it.
        at: leaves below this one (newest first) or from it on (oldest first) are still to come.

    """

    digest: str
    size: int
    at: int

    def emit(self) -> str:
        """URL-safe text."""
        octets = canonical({"at": self.at, "query": self.digest, "size": self.size})
        return urlsafe_b64encode(octets).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str, query: Query) -> Self:
        """Read what `emit` printed for this query; Malformed for anything else."""
        octets = text.encode() if text.isascii() and len(text) <= _CURSOR_OCTETS else b""
        try:
            document = orjson.loads(urlsafe_b64decode(octets + b"=" * (-len(octets) % 4)))
            match document:
                case {"at": int() as at, "query": str() as digest, "size": int() as size}:
                    found = cls(digest, size, at)
                    same = found.emit() == text and not isinstance(at, bool) and not isinstance(size, bool)
                case _:
                    same = False
        except (ValueError, TypeError, Internal):
            same = False
        if not same:
            raise Malformed(
                "this cursor was not given out by the service", rule="query/cursor", field="cursor"
            )
        if found.digest != query.digest:
            raise Malformed(
                "this cursor belongs to another query", rule="query/cursor-of-other", field="cursor"
            )
        if not 0 <= found.at <= found.size <= _LARGEST_SIZE:
            raise Malformed("this cursor points outside its log", rule="query/cursor", field="cursor")
        return found

    @classmethod
    def first(cls, query: Query, size: int) -> Self:
        """Where an answer over a log of this size begins."""
        return cls(query.digest, size, 0 if query.oldest_first else size)

    def done(self, *, oldest_first: bool) -> bool:
        """Whether nothing is to come any more."""
        return self.at >= self.size if oldest_first else self.at <= 0


def _condition(name: str, values: Sequence[str]) -> Condition:
    if name not in FIELDS:
        raise Malformed(
            f"a query asks by one of: {', '.join(FIELDS)}", rule="query/field", field="conditions.field"
        )
    chosen = tuple(sorted(set(values)))
    if not chosen or len(chosen) > MAX_VALUES:
        raise Malformed(
            f"a condition has 1 to {MAX_VALUES} values", rule="query/values", field="conditions.values"
        )
    for value in chosen:
        if not value or len(value) > MAX_VALUE_CHARACTERS or not (value.isascii() and value.isprintable()):
            raise Malformed(
                f"a value is 1 to {MAX_VALUE_CHARACTERS} printable ASCII characters",
                rule="query/value",
                field="conditions.values",
            )
    return Condition(name, chosen)


def _texts(values: JsonValue) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
        raise TypeError
    return [str(one) for one in values]
