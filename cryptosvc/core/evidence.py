"""Off-line verification of a log export: nothing but the export and the log's public key is needed (G2.27).

The export is read in chunks (`core/entries.py`), in any process; `conclude` puts them together:

1. every entry is canonical JSON of a known version, and what is kept beside it matches its commitments;
2. the root over all leaves is the one the signed checkpoint names, and every older checkpoint is a prefix;
3. the first entry is the genesis, and each record's changes are numbered without a gap;
4. every use of a key names a version of its record that the log holds before it, in a state that allows the use at
   that time, and no key is used more often than its limit allows;
5. the registry records beside the log are, each, what its last leaf commits to, and none is missing;
6. every change of a record comes out again from what was approved, from the genesis on, and every sign-off of the log is
   by somebody who was an auditor then (`core/derivation.py`);
7. an entry of which the hash alone is there was deleted, as later entries say (`core/erased.py`).

Removed, inserted, changed or reordered entries change the root; a forked log fails against an older checkpoint.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from cryptosvc.core import checkpoint, derivation, history
from cryptosvc.core.canonical import JsonValue, digest
from cryptosvc.core.derivation import Derived, Owner
from cryptosvc.core.entries import ChunkFindings
from cryptosvc.core.erased import Gone, Missing, Said
from cryptosvc.core.errors import Corrupt
from cryptosvc.core.genesis import begun_by, documents
from cryptosvc.core.history import RecordChange
from cryptosvc.core.merkle import root_of
from cryptosvc.core.review import Recorded

FORMAT = "cryptosvc-log-export"
FORMAT_VERSION = 1


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
        gone: entries of which the hash alone is there.

    """

    origin: str
    size: int
    root: bytes
    checkpoints: int
    records: int
    kinds: Mapping[str, int] = field(default_factory=dict)
    environment: str = ""
    derived: Derived = field(default=Derived())
    gone: Gone = field(default=Gone())


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
        require_prefix(chunks, found)
    if checkpoints[-1].size != size:
        raise Corrupt(
            f"the export has {size} entries but its newest checkpoint signs {checkpoints[-1].size}",
            rule="export/unsigned-entries",
        )
    roots = {found.size: found.root for found in checkpoints}
    kinds, environment, derived, gone = judged(chunks, records, origin, roots)
    return Verdict(
        origin,
        size,
        checkpoints[-1].root,
        len(checkpoints),
        len(records),
        kinds,
        environment,
        derived,
        gone,
    )


def require_prefix(chunks: Sequence[ChunkFindings], found: checkpoint.Checkpoint) -> None:
    """Require that the entries begin with those a checkpoint signs.

    Raises:
        Corrupt: `export/truncated`, `export/root`.

    """
    size = sum(chunk.count for chunk in chunks)
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


def judged(
    chunks: Sequence[ChunkFindings],
    records: Sequence[RecordBeside],
    origin: str,
    roots: Mapping[int, bytes] = MappingProxyType({}),
    destroyed: Collection[str] = (),
) -> tuple[Mapping[str, int], str, Derived, Gone]:
    """Everything but the roots: entries by kind, environment, what came of deriving each change, how many are hashes alone.

    As `conclude`. `roots` are those that checkpoints sign, by size; a sign-off of the log names one. `destroyed` are ids of
    keys that were destroyed after the log ends, where that is known from elsewhere.
    """
    # 2 genesis
    genesis = chunks[0].first if chunks else {}
    if chunks and genesis.get("kind") != "genesis":
        raise Corrupt("the first entry is not the genesis of a log", rule="export/genesis")
    # 3 record changes
    changes = [change for chunk in chunks for change in chunk.changes]
    versions = history.versions_of(changes)
    # 4 what was deleted, and uses
    missing = Missing()
    for chunk in chunks:
        missing.add(chunk.missing)
    missing.said += [
        Said(sum(chunk.count for chunk in chunks), key, "destroyed") for key in sorted(destroyed)
    ]
    gone = missing.require_gone()
    uses = [use for chunk in chunks for use in chunk.uses]
    for use in uses:
        history.require_use(use, versions)
    history.require_within_limits(uses, versions, missing.runs)
    # 5 records beside the log
    _compare(records, versions)
    # 6 every change, from the genesis on
    environment = str(genesis.get("environment", ""))
    reviews = [one for chunk in chunks for one in chunk.reviews]
    derived = _derived(chunks[0], changes, origin, reviews, roots) if chunks else Derived()
    kinds: Counter[str] = Counter()
    for chunk in chunks:
        kinds.update(chunk.kinds)
    return dict(sorted(kinds.items())), environment, derived, gone


def _derived(
    first: ChunkFindings,
    changes: Sequence[RecordChange],
    origin: str,
    reviews: Sequence[Recorded],
    roots: Mapping[int, bytes],
) -> Derived:
    """Derive every change again, from what entry 0 says on."""
    entry = first.first
    owner = Owner(origin, str(entry.get("system", "")), str(entry.get("environment", "")))
    founded = begun_by(entry, first.first_beside.get("genesis", ""))
    named = {} if founded is None else documents(founded)
    return derivation.derived(
        changes, owner, named, shortcut=entry.get("shortcut") is True, reviews=reviews, roots=roots
    )


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
