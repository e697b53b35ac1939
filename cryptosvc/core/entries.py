"""Entries as an export holds them, a chunk at a time: what any process can judge of a stretch of the log by itself.

A chunk is `CHUNK_ENTRIES` lines, a power of two, so that each is a complete subtree. Everything here is read for each of
millions of entries, and by processes that do nothing else: it imports little.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import orjson

from cryptosvc.core import erased, history, review
from cryptosvc.core.canonical import JsonValue, canonical
from cryptosvc.core.commitments import ENTRY_VERSION
from cryptosvc.core.errors import Corrupt, Internal
from cryptosvc.core.history import RecordChange, Use
from cryptosvc.core.merkle import leaf_hash, root_of
from cryptosvc.core.registry import RECORD_KINDS
from cryptosvc.core.review import Recorded

CHUNK_ENTRIES = 4096
SEPARATOR = b"\t"
"""Stands between an entry and what is kept beside it; canonical JSON never contains it raw."""

_sha256 = hashlib.sha256


@dataclass(frozen=True, slots=True)
class ChunkFindings:
    """What one chunk of entries turned out to hold.

    Args:
        start: index of its first entry.
        count: number of entries.
        root: RFC 6962 root over the chunk's leaves.
        prefix_roots: root over the chunk's first n leaves, for each n asked.
        kinds: entries by kind and outcome.
        changes: record changes in order.
        uses: uses by key, version, operation and content kind.
        reviews: sign-offs of the log, in order.
        missing: entries of which the hash alone is there, and what others say of that.
        first: the first entry.
        first_beside: what is kept beside it.

    """

    start: int
    count: int
    root: bytes
    prefix_roots: Mapping[int, bytes]
    kinds: Mapping[str, int]
    changes: tuple[RecordChange, ...]
    uses: tuple[Use, ...]
    reviews: tuple[Recorded, ...]
    missing: erased.Missing
    first: Mapping[str, JsonValue]
    first_beside: Mapping[str, str]


def read_chunk(start: int, lines: Sequence[bytes], prefixes: Iterable[int] = ()) -> ChunkFindings:
    """Judge the entries `start`, `start + 1`, … .

    Args:
        start: index of the first line's entry.
        lines: `entry TAB withheld`, without line ends; of an entry that was deleted `hash TAB` (`core/erased.py`).
        prefixes: how many leading leaves of this chunk to give a root for (older checkpoints end inside it).

    Raises:
        Corrupt: an entry is not canonical, of an unknown version, or does not match what is kept beside it.

    """
    hashes: list[bytes] = []
    kinds: Counter[str] = Counter()
    changes: list[RecordChange] = []
    uses: dict[tuple[str, int, str, str], Use] = {}
    reviews: list[Recorded] = []
    missing = erased.Missing()
    first: tuple[Mapping[str, JsonValue], Mapping[str, str]] = ({}, {})
    for index, line in enumerate(lines, start):
        octets, _, withheld = line.partition(SEPARATOR)
        if erased.is_alone(octets) and not withheld:
            missing.miss(index)
            hashes.append(erased.hash_of(octets))
            continue
        entry = read_entry(index, octets)
        beside = values_beside(index, entry, withheld)
        hashes.append(leaf_hash(octets))
        kind = str(entry.get("kind", ""))
        if index == start:
            first = entry, beside
        kinds[f"{kind}/{entry['outcome']}" if "outcome" in entry else kind] += 1
        if kind in RECORD_KINDS:
            changes.append(history.change_of(index, kind, entry, beside))
        elif kind == "use":
            count_use(index, entry, uses)
        elif kind == review.KIND and entry.get("operation") == review.SIGN_OFF:
            reviews.append(_review_of(index, entry, beside))
        if kind in erased.TELLING:
            missing.hear(index, entry)
    return ChunkFindings(
        start=start,
        count=len(hashes),
        root=root_of(hashes),
        prefix_roots={count: root_of(hashes[:count]) for count in prefixes},
        kinds=kinds,
        changes=tuple(changes),
        uses=tuple(uses.values()),
        reviews=tuple(reviews),
        missing=missing,
        first=first[0],
        first_beside=first[1],
    )


def _review_of(index: int, entry: Mapping[str, JsonValue], beside: Mapping[str, str]) -> Recorded:
    facts = entry.get("facts")
    return Recorded(
        leaf_index=index,
        facts=facts if isinstance(facts, dict) else {},
        custodian_id=beside.get("custodian", ""),
        envelope=beside.get("review", ""),
    )


def prefixes_in(start: int, sizes: Iterable[int]) -> list[int]:
    """Which of the checkpoint sizes end inside the chunk that starts at `start`, as counts of its leading leaves."""
    return sorted({size - start for size in sizes if 0 < size - start <= CHUNK_ENTRIES})


def read_entry(index: int, octets: bytes) -> dict[str, JsonValue]:
    """Read an entry; Corrupt where it is not canonical (`export/entry`), or of an unknown version."""
    try:
        entry: dict[str, JsonValue] = orjson.loads(octets)
    except orjson.JSONDecodeError:
        raise Corrupt(f"entry {index} is not JSON", rule="export/entry") from None
    if not octets.startswith(b"{") or not _is_canonical(entry, octets):
        raise Corrupt(f"entry {index} is not a canonical JSON object", rule="export/entry")
    if entry.get("v") != ENTRY_VERSION:
        raise Corrupt(f"entry {index} is of an unknown version", rule="export/entry-version")
    return entry


def values_beside(index: int, entry: Mapping[str, JsonValue], withheld: bytes) -> Mapping[str, str]:
    """Compare what is kept beside an entry with its commitments, and give the values by name.

    Redacted fields are simply absent. Corrupt: a value is not the one committed to, or the octets are not in form.
    """
    if not withheld:
        return {}
    commitments = entry.get("commitments")
    values: dict[str, str] = {}
    other = ""
    readable = False
    try:
        beside: dict[str, list[str]] = orjson.loads(withheld)
        if isinstance(commitments, dict) and canonical(beside) == withheld:
            readable = True
            for name, (salt, value) in beside.items():
                own = bytes.fromhex(salt)
                if own.hex() != salt:
                    readable = False
                # as `commitment`, of which there are a million here
                made = _sha256(b"\x00".join((own, name.encode(), value.encode()))).hexdigest()
                if commitments.get(name) != made:
                    other = other or name
                values[name] = value
    except (ValueError, TypeError, AttributeError, Internal):
        readable = False
    if not readable:
        raise Corrupt(f"what is kept beside entry {index} is not readable", rule="export/withheld")
    if other:
        raise Corrupt(
            f"entry {index}: the value of {other!r} kept beside it is not the one committed to",
            rule="export/commitment",
        )
    return values


def _is_canonical(entry: Mapping[str, JsonValue], octets: bytes) -> bool:
    try:
        return canonical(entry) == octets
    except Internal:
        return False


def count_use(index: int, entry: Mapping[str, JsonValue], uses: dict[tuple[str, int, str, str], Use]) -> None:
    """Count a use with those of its key, version, operation and content kind; Corrupt where a field is missing."""
    key, version, time = entry.get("key"), entry.get("key_version"), entry.get("time")
    operation, kind = entry.get("operation"), entry.get("content_kind")
    if (
        not isinstance(key, str)
        or not isinstance(version, int)
        or not isinstance(operation, str)
        or not isinstance(kind, str)
        or not isinstance(time, str)
        or not time.isdecimal()
    ):
        raise Corrupt(f"entry {index} does not say of a use what such an entry says", rule="export/entry")
    at = int(time)
    use = uses.get((key, version, operation, kind))
    if use is None:
        use = uses[key, version, operation, kind] = Use(
            leaf_index=index,
            key=key,
            version=version,
            operation=operation,
            content_kind=kind,
            first_at=at,
            last_at=at,
        )
    if at < use.first_at:
        use.first_at = at
    elif at > use.last_at:
        use.last_at = at
    use.count += "after" not in entry
