"""Off-line verification of a log export: nothing but the export and the log's public key is needed (G2.27).

The export is read in chunks of `CHUNK_ENTRIES` lines (a power of two, so that each chunk is a complete subtree);
`read_chunk` judges one chunk and can run in any process, `conclude` puts the chunks together:

1. every entry is canonical JSON of a known version, and what is kept beside it matches its commitments;
2. the root over all leaves is the one the signed checkpoint names, and every older checkpoint is a prefix;
3. the first entry is the genesis, and each record's changes are numbered without a gap;
4. every use of a key names a version of its record that the log holds before it, in a state that allows the use at
   that time, and no key is used more often than its limit allows;
5. the registry records beside the log are, each, what its last leaf commits to, and none is missing;
6. every change of a record comes out again from what was approved, from the genesis on (`core/derivation.py`).

Removed, inserted, changed or reordered entries change the root; a forked log fails against an older checkpoint.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from cryptosvc.core import checkpoint, derivation, history
from cryptosvc.core.canonical import JsonValue, canonical, digest
from cryptosvc.core.derivation import Derived, Owner
from cryptosvc.core.errors import Corrupt, Internal
from cryptosvc.core.genesis import begun_by, documents
from cryptosvc.core.history import RecordChange, Use
from cryptosvc.core.merkle import leaf_hash, root_of
from cryptosvc.core.record import ENTRY_VERSION, commitment
from cryptosvc.core.registry import RECORD_KINDS

CHUNK_ENTRIES = 4096
SEPARATOR = b"\t"
"""Stands between an entry and what is kept beside it; canonical JSON never contains it raw."""

FORMAT = "cryptosvc-log-export"
FORMAT_VERSION = 1


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
    first: Mapping[str, JsonValue]
    first_beside: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RecordBeside:
    """A registry record as exported: the leaf it names and its document (canonical JSON object)."""

    kind: str
    record_id: str
    leaf_index: int
    document: Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A log that verified.

    Args:
        origin: the log.
        size: number of entries the checkpoint signs.
        root: its root hash.
        checkpoints: how many checkpoints were verified.
        records: how many registry records were compared with their leaves.
        kinds: entries by kind and outcome.
        environment: of the deployment, as the genesis says: in `test` records may have been made without approval.
        derived: what came of deriving every change of a record again.

    """

    origin: str
    size: int
    root: bytes
    checkpoints: int
    records: int
    kinds: Mapping[str, int] = field(default_factory=dict)
    environment: str = ""
    derived: Derived = field(default=Derived())


def read_chunk(start: int, lines: Sequence[bytes], prefixes: Iterable[int] = ()) -> ChunkFindings:
    """Judge the entries `start`, `start + 1`, … .

    Args:
        start: index of the first line's entry.
        lines: `entry TAB withheld`, without line ends.
        prefixes: how many leading leaves of this chunk to give a root for (older checkpoints end inside it).

    Raises:
        Corrupt: an entry is not canonical, of an unknown version, or does not match what is kept beside it.

    """
    hashes: list[bytes] = []
    kinds: Counter[str] = Counter()
    changes: list[RecordChange] = []
    uses: dict[tuple[str, int, str, str], Use] = {}
    first: tuple[Mapping[str, JsonValue], Mapping[str, str]] = ({}, {})
    for index, line in enumerate(lines, start):
        octets, _, withheld = line.partition(SEPARATOR)
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
    return ChunkFindings(
        start=start,
        count=len(hashes),
        root=root_of(hashes),
        prefix_roots={count: root_of(hashes[:count]) for count in prefixes},
        kinds=kinds,
        changes=tuple(changes),
        uses=tuple(uses.values()),
        first=first[0],
        first_beside=first[1],
    )


def conclude(
    chunks: Sequence[ChunkFindings],
    notes: Sequence[bytes],
    records: Sequence[RecordBeside],
    origin: str,
    public_key_der: bytes,
) -> Verdict:
    """Put the chunks together and compare them with checkpoints and records.

    Args:
        chunks: findings of every chunk, in order.
        notes: signed checkpoints in any order; the largest one must sign exactly the exported size.
        records: registry records beside the log.
        origin: expected origin line.
        public_key_der: SubjectPublicKeyInfo of the audit-signing key.

    Raises:
        Corrupt: whatever does not hold, by name.

    """
    size = sum(chunk.count for chunk in chunks)
    checkpoints = sorted(
        (checkpoint.verify(note, origin, public_key_der) for note in notes), key=lambda found: found.size
    )
    # 1 roots
    if not checkpoints:
        raise Corrupt(
            "the export carries no checkpoint, so nothing vouches for it", rule="export/no-checkpoint"
        )
    for found in checkpoints:
        if found.size > size:
            raise Corrupt(
                f"a checkpoint signs {found.size} entries but the export has {size}: entries were removed",
                rule="export/truncated",
            )
        if found.size and _root_at(chunks, found.size) != found.root:
            raise Corrupt(
                f"the first {found.size} entries are not those the checkpoint of that size signs: "
                "an entry was changed, removed, inserted or moved, or the log was forked",
                rule="export/root",
            )
    if checkpoints[-1].size != size:
        raise Corrupt(
            f"the export has {size} entries but its newest checkpoint signs {checkpoints[-1].size}",
            rule="export/unsigned-entries",
        )
    # 2 genesis
    genesis = chunks[0].first if chunks else {}
    if chunks and genesis.get("kind") != "genesis":
        raise Corrupt("the first entry is not the genesis of a log", rule="export/genesis")
    # 3 record changes
    changes = [change for chunk in chunks for change in chunk.changes]
    versions = history.versions_of(changes)
    # 4 uses
    uses = [use for chunk in chunks for use in chunk.uses]
    for use in uses:
        history.require_use(use, versions)
    history.require_within_limits(uses, versions)
    # 5 records beside the log
    _compare(records, versions)
    # 6 every change, from the genesis on
    environment = str(genesis.get("environment", ""))
    derived = _derived(chunks[0], changes, origin) if chunks else Derived()
    kinds: Counter[str] = Counter()
    for chunk in chunks:
        kinds.update(chunk.kinds)
    return Verdict(
        origin,
        size,
        checkpoints[-1].root,
        len(checkpoints),
        len(records),
        dict(sorted(kinds.items())),
        environment,
        derived,
    )


def _derived(first: ChunkFindings, changes: Sequence[RecordChange], origin: str) -> Derived:
    """Derive every change again, from what entry 0 says on."""
    entry = first.first
    owner = Owner(origin, str(entry.get("system", "")), str(entry.get("environment", "")))
    founded = begun_by(entry, first.first_beside.get("genesis", ""))
    named = {} if founded is None else documents(founded)
    return derivation.derived(changes, owner, named, shortcut=entry.get("shortcut") is True)


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
    try:
        beside: dict[str, list[str]] = orjson.loads(withheld)
        readable = isinstance(commitments, Mapping) and canonical(beside) == withheld
        committed = {
            name: (bytes.fromhex(salt), salt, value) for name, (salt, value) in beside.items() if readable
        }
    except (ValueError, TypeError, AttributeError, Internal):
        readable = False
    if not readable or not all(
        own.hex() == salt and isinstance(value, str) for own, salt, value in committed.values()
    ):
        raise Corrupt(f"what is kept beside entry {index} is not readable", rule="export/withheld")
    for name, (own, _, value) in committed.items():
        if not isinstance(commitments, Mapping) or commitments.get(name) != commitment(own, name, value):
            raise Corrupt(
                f"entry {index}: the value of {name!r} kept beside it is not the one committed to",
                rule="export/commitment",
            )
        values[name] = value
    return values


def _is_canonical(entry: Mapping[str, JsonValue], octets: bytes) -> bool:
    try:
        return canonical(entry) == octets
    except Internal:
        return False


def _text(index: int, entry: Mapping[str, JsonValue], name: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str):
        raise Corrupt(f"entry {index} has no text {name!r}", rule="export/entry")
    return value


def _integer(index: int, entry: Mapping[str, JsonValue], name: str) -> int:
    value = entry.get(name)
    if not isinstance(value, int):
        raise Corrupt(f"entry {index} has no whole number {name!r}", rule="export/entry")
    return value


def count_use(index: int, entry: Mapping[str, JsonValue], uses: dict[tuple[str, int, str, str], Use]) -> None:
    """Count a use with those of its key, version, operation and content kind; Corrupt where a field is missing."""
    key, version = _text(index, entry, "key"), _integer(index, entry, "key_version")
    operation, kind = _text(index, entry, "operation"), _text(index, entry, "content_kind")
    time = _text(index, entry, "time")
    if not time.isdecimal():
        raise Corrupt(f"entry {index} has no time", rule="export/entry")
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
    use.first_at, use.last_at = min(at, use.first_at), max(at, use.last_at)
    use.count += "after" not in entry


def _root_at(chunks: Sequence[ChunkFindings], size: int) -> bytes:
    roots: list[bytes] = []
    for chunk in chunks:
        if chunk.start + chunk.count <= size:
            roots.append(chunk.root)
        elif chunk.start < size:
            roots.append(chunk.prefix_roots[size - chunk.start])
    return root_of(roots)


def _compare(records: Sequence[RecordBeside], states: Mapping[history.Name, Sequence[RecordChange]]) -> None:
    seen: set[tuple[str, str]] = set()
    for record in records:
        identity = (record.kind, record.record_id)
        seen.add(identity)
        versions = states.get(identity)
        if not versions:
            raise Corrupt(
                f"the record of {record.record_id!r} is in no entry of the log", rule="export/record-unknown"
            )
        if (
            versions[-1].leaf_index != record.leaf_index
            or versions[-1].digest != digest(record.document).hex()
        ):
            raise Corrupt(
                f"the record of {record.record_id!r} differs from what entry {versions[-1].leaf_index} commits to",
                rule="export/record-differs",
            )
    for _, record_id in sorted(set(states) - seen):
        raise Corrupt(
            f"the record of {record_id!r} is in the log but not beside it", rule="export/record-missing"
        )
