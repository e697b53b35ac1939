"""What a log says of its records, for off-line verification: their versions, and the uses of keys under them.

Each record's versions run without a gap, and each use of a key fell into a state that allows it and within the key's
usage limit. Why each change was made, and whether it may have been, is `core/derivation.py`'s to find out.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import orjson

from cryptosvc.core import lifecycle
from cryptosvc.core.canonical import JsonValue, canonical
from cryptosvc.core.described import OPEN_IDS, described
from cryptosvc.core.device_keys import USED_KEY
from cryptosvc.core.device_records import DEVICE_STORE
from cryptosvc.core.errors import Corrupt, Internal, Malformed
from cryptosvc.core.life import NANOSECONDS, Event, UnixSeconds
from cryptosvc.core.lifecycle import Due
from cryptosvc.core.names import ContentKind, Operation
from cryptosvc.core.registry import KeyState, Record, record_from_document, record_id, record_kind

Name = tuple[str, str]
"""Kind and id of a record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordChange:
    """A leaf that commits to a version of a record.

    Args:
        leaf_index: which.
        at: when, by the leaf's own time.
        kind, record_id: of the record.
        version: of the record, from 1.
        digest: SHA-256 of the record's document, hex.
        state: as the leaf says; empty for a record that has none.
        due: what is going to happen to a key by date, soonest first.
        usage_limit: of a key; None where it has none.
        reason, reference: why it changed; empty where the leaf does not say.
        approvals: key ids whose approval counted, as the leaf says.
        document: canonical JSON of the record; empty where it was redacted.

    """

    leaf_index: int
    at: UnixSeconds
    kind: str
    record_id: str
    version: int
    digest: str
    state: str
    due: tuple[Due, ...]
    usage_limit: int | None
    reason: str
    reference: str
    approvals: tuple[str, ...]
    document: str

    @property
    def name(self) -> Name:
        """Kind and id."""
        return self.kind, self.record_id


@dataclass(slots=True, kw_only=True)
class Use:
    """Uses of one version of one key in a stretch of the log, of one operation and content kind.

    What a key may do begins and ends once in a version's time, so the first and the last use speak for all.

    Args:
        leaf_index: the first of them.
        key, version, operation, content_kind: what they have in common.
        first_at, last_at: the earliest and the latest, nanoseconds.
        count: how many claims; what came in after its claim was swept is counted with the claim.

    """

    leaf_index: int
    key: str
    version: int
    operation: str
    content_kind: str
    first_at: int
    last_at: int
    count: int = 0


def change_of(
    index: int, kind: str, entry: Mapping[str, JsonValue], beside: Mapping[str, str]
) -> RecordChange:
    """Read the leaf of a record.

    Raises:
        Corrupt: `export/entry`; `export/record-leaf` where the entry and the document beside it contradict each other.
        Malformed: `export/redacted`.

    """
    name = OPEN_IDS.get(kind)
    found = beside.get(kind.removesuffix("-record")) if name is None else entry.get(name)
    if found is None:
        raise Malformed(
            f"entry {index}: the id of its record was redacted, so the record cannot be compared",
            rule="export/redacted",
        )
    try:
        change = _read(index, kind, str(found), entry, beside.get("document", ""))
    except (KeyError, TypeError, ValueError):
        raise Corrupt(
            f"entry {index} does not say of its record what such an entry says", rule="export/entry"
        ) from None
    if change.document:
        _require_as_said(entry, change)
    return change


def _read(index: int, kind: str, found: str, entry: Mapping[str, JsonValue], document: str) -> RecordChange:
    version, limit, because = entry["record_version"], entry.get("usage_limit"), entry.get("because", {})
    due, approvals = entry.get("due", ()), entry.get("approvals", ())
    if not isinstance(version, int) or not (limit is None or isinstance(limit, int)):
        raise TypeError
    if (
        not isinstance(because, Mapping)
        or not isinstance(due, Sequence)
        or not isinstance(approvals, Sequence)
    ):
        raise TypeError
    ((reason, reference),) = because.items() if because else (("", ""),)
    return RecordChange(
        leaf_index=index,
        at=UnixSeconds(int(str(entry["time"])) // NANOSECONDS),
        kind=kind,
        record_id=found,
        version=version,
        digest=str(entry.get("record_digest", "")),
        state=str(entry.get("state", "")),
        due=tuple(_due(one) for one in due),
        usage_limit=limit,
        reason=reason,
        reference=str(reference),
        approvals=tuple(str(one) for one in approvals),
        document=document,
    )


def _due(found: JsonValue) -> Due:
    if not isinstance(found, Mapping):
        raise TypeError
    at = found["at"]
    if not isinstance(at, int):
        raise TypeError
    return Due(Event(str(found["event"])), UnixSeconds(at), str(found["rule"]))


def _require_as_said(entry: Mapping[str, JsonValue], change: RecordChange) -> None:
    """The document is the one committed to, and the entry says of it what the service would."""
    try:
        record = record_of(change)
        said = described(record)
    except (Malformed, KeyError):  # no record, or one of a class that there is not
        record, said = None, {}
    if (
        record is None
        or (record_kind(record), record_id(record)) != change.name
        or canonical(said)
        != canonical({name: entry[name] for name in {*said, "usage_limit"} if name in entry})
    ):
        raise Corrupt(
            f"entry {change.leaf_index} says otherwise of its record than the document beside it",
            rule="export/record-leaf",
        )


def record_of(change: RecordChange) -> Record:
    """The record a change made; Malformed where its document is none."""
    return record_from_document(change.kind, object_of(change.document))


def object_of(document: str) -> Mapping[str, JsonValue]:
    """Read a document's text; Malformed where it is no canonical JSON object."""
    try:
        found = orjson.loads(document)
        same = isinstance(found, dict) and canonical(found) == document.encode()
    except (ValueError, Internal):
        same = False
    if not same:
        raise Malformed("this is not a canonical JSON object", rule="registry/document")
    return found  # type: ignore[no-any-return]  # just seen to be an object


def versions_of(changes: Sequence[RecordChange]) -> dict[Name, list[RecordChange]]:
    """Group changes by record; versions must run 1, 2, 3, …"""
    states: dict[Name, list[RecordChange]] = {}
    for change in changes:
        earlier = states.setdefault(change.name, [])
        if change.version != len(earlier) + 1:
            raise Corrupt(
                f"entry {change.leaf_index} is version {change.version} of {change.record_id!r}, "
                f"but {len(earlier)} came before it",
                rule="export/record-version",
            )
        earlier.append(change)
    return states


def require_use(use: Use, versions: Mapping[Name, Sequence[RecordChange]]) -> None:
    """Require that the log holds the version used, and that its state allowed the use when it was claimed."""
    of_device = use.key == USED_KEY
    found = versions.get(("device-store-record", DEVICE_STORE) if of_device else ("key-record", use.key), ())
    if not 1 <= use.version <= len(found) or found[use.version - 1].leaf_index >= use.leaf_index:
        raise Corrupt(
            f"entry {use.leaf_index} uses version {use.version} of key {use.key!r}, which the log did not hold then",
            rule="export/use-of-unknown-key",
        )
    require_state(use, found[use.version - 1])


def require_state(use: Use, version: RecordChange) -> None:
    """Require that the state a key had under this version of its record allowed the use when it was claimed.

    Raises:
        Corrupt: `export/use-in-state`.

    """
    if use.key == USED_KEY:
        return  # which row it was, and in which state, is withheld; the record vouches for every row
    try:
        state = KeyState(version.state)
        operation, kind = Operation(use.operation), ContentKind(use.content_kind)
        allowed = all(
            lifecycle.permits(
                lifecycle.come_about(state, version.due, UnixSeconds(at // NANOSECONDS))[0], operation, kind
            )
            for at in (use.first_at, use.last_at)
        )
    except ValueError:
        allowed = False
    if not allowed:
        raise Corrupt(
            f"entry {use.leaf_index} uses key {use.key!r} in a state that does not allow it, or another use under "
            "the same version of its record did",
            rule="export/use-in-state",
        )


def require_within_limits(
    uses: Iterable[Use],
    versions: Mapping[Name, Sequence[RecordChange]],
    erased: Sequence[tuple[int, int]] = (),
) -> None:
    """Require that no key was claimed more often than a limit allows, and none deactivated for it that was not.

    Counted are claims under those versions of the key's record that have a limit. Any of the entries that were deleted
    (`erased`, in runs) may have been a claim.
    """
    counts: dict[str, dict[int, int]] = {}
    for use in uses:
        of_key = counts.setdefault(use.key, {})
        of_key[use.version] = of_key.get(use.version, 0) + use.count
    for (kind, key), of_record in versions.items():
        if kind == "key-record":
            _require_within_limit(key, of_record, counts.get(key, {}), erased)


def _require_within_limit(
    key: str,
    versions: Sequence[RecordChange],
    counts: Mapping[int, int],
    erased: Sequence[tuple[int, int]],
) -> None:
    so_far, limit = 0, None
    for version in versions:
        spent = version.reason == "rule" and version.reference == lifecycle.USAGE_LIMIT
        lost = sum(max(0, min(stop, version.leaf_index) - start) for start, stop in erased) if spent else 0
        if spent and (limit is None or not so_far <= limit <= so_far + lost):
            raise Corrupt(
                f"entry {version.leaf_index} deactivates key {key!r} as used up after {so_far} claims; "
                f"its limit is {limit}",
                rule="export/usage-limit",
                clause="G5.13(b)",
            )
        limit = version.usage_limit
        used = counts.get(version.version, 0) if limit is not None else 0
        so_far += used
        if limit is not None and used and so_far > limit:
            raise Corrupt(
                f"key {key!r} was claimed {so_far} times by version {version.version} of its record, "
                f"which allows {limit}",
                rule="export/usage-limit",
                clause="G5.13(b)",
            )
