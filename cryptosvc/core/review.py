"""Sign-off of a range of the log: what an auditor signs who has reviewed it, and what is left when some have.

A statement is canonical JSON. It names the entries `start` to `stop` (the last is `stop - 1`) and the checkpoint they
were reviewed under, by size and root, so it holds of that log and of no other that was put in its place.

Source: Smart Energy Code G2.26 (audit logs are reviewed regularly), G2.27 (evidential weight).

Example:
    >>> unreviewed(0, 10, [(2, 5), (4, 7)])
    [(0, 2), (7, 10)]
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import orjson

from cryptosvc.core.canonical import JsonValue, canonical
from cryptosvc.core.documents import number, octets, text
from cryptosvc.core.errors import Malformed
from cryptosvc.core.life import UnixSeconds

KIND = "review"
SIGN_OFF = "sign-off"
OVERDUE = "overdue"
REVIEW_TYPE = "application/vnd.cryptosvc.review.v1+json"
CLAUSE = "G2.26"
VERSION = 1
LARGEST_OCTETS = 8192
REMARKS_CHARACTERS = 2000
_ROOT_OCTETS = 32
Range = tuple[int, int]
"""First leaf, and the leaf after the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A sign-off as an entry of the log has it.

    Args:
        leaf_index: which entry.
        facts: of the entry.
        custodian_id: who signed it off; empty where it was redacted.
        envelope: what was signed, DSSE; empty where it was redacted.

    """

    leaf_index: int
    facts: Mapping[str, JsonValue]
    custodian_id: str
    envelope: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """What is signed.

    Args:
        origin: of the log.
        start, stop: the entries, from `start` to `stop - 1`.
        size, root: of the checkpoint they were reviewed under; `stop` is not past it, `root` is 32 octets.
        reviewed_at: when.
        remarks: what was found, at most 2,000 characters; may be empty.

    """

    origin: str
    start: int
    stop: int
    size: int
    root: bytes
    reviewed_at: UnixSeconds
    remarks: str = ""


def facts_of(review: Review) -> dict[str, str]:
    """What the entry of a sign-off says of it."""
    return {
        "clause": CLAUSE,
        "root": review.root.hex(),
        "size": str(review.size),
        "start": str(review.start),
        "statement": hashlib.sha256(emit(review)).hexdigest(),
        "stop": str(review.stop),
    }


def review_document(review: Review) -> dict[str, JsonValue]:
    """Print a statement."""
    return {
        "v": VERSION,
        "origin": review.origin,
        "start": review.start,
        "stop": review.stop,
        "size": review.size,
        "root": review.root.hex(),
        "reviewed_at": review.reviewed_at,
        "remarks": review.remarks,
    }


def emit(review: Review) -> bytes:
    """The octets that are signed; Malformed where the statement cannot be meant."""
    _require_meant(review)
    return canonical(review_document(review))


def parse(octets_: bytes) -> Review:
    """Read a statement; Malformed unless it is exactly what `emit` writes."""
    if len(octets_) > LARGEST_OCTETS:
        raise Malformed(f"a review has at most {LARGEST_OCTETS} octets", rule="review/size")
    try:
        found = _from_document(orjson.loads(octets_))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        raise _malformed() from None
    if emit(found) != octets_:
        raise _malformed()
    return found


def unreviewed(start: int, stop: int, reviewed: Iterable[Range]) -> list[Range]:
    """What of `start` to `stop` no range covers, in order; ranges may overlap and lie outside."""
    left: list[Range] = []
    at = start
    for begin, end in sorted(reviewed):
        if begin >= stop:
            break
        if begin > at:
            left.append((at, begin))
        at = max(at, end)
    if at < stop:
        left.append((at, stop))
    return left


def range_of(facts: Mapping[str, JsonValue]) -> Range | None:
    """The range a recorded sign-off names; None where the facts are of none."""
    start, stop = facts.get("start"), facts.get("stop")
    if isinstance(start, str) and isinstance(stop, str) and start.isdecimal() and stop.isdecimal():
        return int(start), int(stop)
    return None


def _from_document(document: object) -> Review:
    if not isinstance(document, dict) or document.get("v") != VERSION:
        raise ValueError
    return Review(
        origin=text(document, "origin"),
        start=number(document, "start"),
        stop=number(document, "stop"),
        size=number(document, "size"),
        root=octets(document, "root"),
        reviewed_at=UnixSeconds(number(document, "reviewed_at")),
        remarks=text(document, "remarks"),
    )


def _require_meant(review: Review) -> None:
    if not 0 <= review.start < review.stop <= review.size:
        raise Malformed(
            "a review is of one entry at least, and of none that the checkpoint does not cover",
            rule="review/range",
            field="start, stop",
        )
    if len(review.root) != _ROOT_OCTETS or not review.origin or review.reviewed_at < 0:
        raise _malformed()
    if len(review.remarks) > REMARKS_CHARACTERS or not all(
        one.isprintable() or one == "\n" for one in review.remarks
    ):
        raise Malformed(
            f"remarks are at most {REMARKS_CHARACTERS} printable characters",
            rule="review/remarks",
            field="remarks",
        )


def _malformed() -> Malformed:
    return Malformed("this is no statement of a review, as `audit review sign` writes it", rule="review/form")
