"""What must hold of an evidence bundle: an answer of the log with its proofs, verified off-line with nothing but the log's public key.

A bundle is lines: a head, an entry with its audit path for each line, and the signature of whoever made it.

1. The log's key signed the checkpoint, and the key is the one the verifier was given.
2. The checkpoint extends the one the bundle begins with, which is the one the verifier kept.
3. Each entry is in the tree of the checkpoint, in the order of the log, and what is beside it is what it commits to.
4. Whoever made the bundle signed all of it: the question, that this is the answer, what is said to be absent.
5. Each entry of the answer answers the question; each use fell into a state of its key that allows it; the policy
   sets that decided, and the record of the log's own key, stand beside the answer or are said to be absent.

Whether the answer is complete can be told with a range of the log only (`core/completeness.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from cryptosvc.core import checkpoint, history, policy_set
from cryptosvc.core.bundle import Head, Item, malformed
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.checkpoint import Checkpoint
from cryptosvc.core.device_keys import USED_KEY
from cryptosvc.core.device_records import DEVICE_STORE
from cryptosvc.core.entries import count_use, read_entry, values_beside
from cryptosvc.core.errors import Corrupt, Malformed
from cryptosvc.core.history import RecordChange, Use
from cryptosvc.core.merkle import leaf_hash, verify_consistency, verify_inclusion
from cryptosvc.core.query import Query, query_from_document
from cryptosvc.core.registry import RECORD_KINDS
from cryptosvc.core.said import moment, said, silent_about

LOG_KEY = "log-key"
"""Said to be absent where the record of the log's own key is not there."""
LOG_KEY_CLASS = "audit-signing"
SOFTWARE_KIND = "service-start"


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleVerdict:
    """A bundle that verified.

    Args:
        checkpoint: that the entries are in.
        since: that it extends; None where the bundle begins with none.
        query: what was asked.
        answer: leaf index and leaf hash of each entry of the answer.
        beside: how many entries stand beside it.
        absent: what is said not to be there.
        software: digests of the software that served, as its starts say.
        completeness: as `Head`.

    """

    checkpoint: Checkpoint
    since: Checkpoint | None
    query: Query
    answer: tuple[tuple[int, bytes], ...]
    beside: int
    absent: tuple[str, ...]
    software: tuple[str, ...]
    completeness: Mapping[str, JsonValue]


@dataclass(slots=True)
class Judge:
    """Takes a bundle line by line; memory holds the answer's hashes and what it rests on, no entry.

    Args:
        head: as parsed.
        start: the checkpoint it begins with.
        stop: the one its entries are in.
        query: the question; None where it cannot be read, which is said once it is known who wrote it.

    """

    head: Head
    start: Checkpoint | None
    stop: Checkpoint
    query: Query | None
    _last: int = -1
    _beside: int = 0
    _answer: list[tuple[int, bytes]] = field(default_factory=list)
    _foreign: list[int] = field(default_factory=list)
    _uses: dict[tuple[str, int, str, str], Use] = field(default_factory=dict)
    _versions: dict[tuple[str, str, int], RecordChange] = field(default_factory=dict)
    _policies: set[str] = field(default_factory=set)
    _policies_kept: set[str] = field(default_factory=set)
    _software: set[str] = field(default_factory=set)

    def take(self, item: Item) -> None:
        """Take the next line.

        Raises:
            Corrupt: `bundle/order`, `export/entry`, `export/entry-version`, `export/withheld`, `export/commitment`,
                `export/record-leaf`, `merkle/inclusion`.
            Malformed: `merkle/proof-length`, `export/redacted`.

        """
        index = item.leaf_index
        if not self._last < index < self.stop.size:
            raise Corrupt(f"entry {index} does not stand in the order of the log", rule="bundle/order")
        self._last = index
        entry = read_entry(index, item.entry)
        beside = values_beside(index, entry, item.withheld)
        kind = entry.get("kind")
        if isinstance(kind, str) and kind in RECORD_KINDS:
            change = history.change_of(index, kind, entry, beside)
            self._versions[change.kind, change.record_id, change.version] = change
        hashed = leaf_hash(item.entry)
        verify_inclusion(hashed, index, self.stop.size, item.path, self.stop.root)
        if kind == policy_set.KIND and policy_set.WITHHELD in beside:
            self._keep_policies(beside[policy_set.WITHHELD])
        facts = entry.get("facts")
        if kind == SOFTWARE_KIND and isinstance(facts, Mapping) and "software_digest" in facts:
            self._software.add(str(facts["software_digest"]))
        if item.answer:
            self._answer.append((index, hashed))
            if self.query is not None and not _answers(self.query, entry, beside):
                self._foreign.append(index)
            if kind == "use":
                count_use(index, entry, self._uses)
            if isinstance(digest := entry.get("policy_digest"), str):
                self._policies.add(digest)
        else:
            self._beside += 1

    def conclude(self) -> BundleVerdict:
        """Compare the lines with each other, and with the head; the signature is verified before.

        Raises:
            Malformed: `bundle/format`: the question is none.
            Corrupt: `bundle/record-missing`, `export/use-in-state`, `bundle/policy-set`, `bundle/key-record`,
                `completeness/foreign`, `bundle/completeness`.

        """
        if self.query is None:
            raise malformed()
        absent = set(self.head.absent)
        for use in self._uses.values():
            name = ("device-store-record", DEVICE_STORE) if use.key == USED_KEY else ("key-record", use.key)
            version = self._versions.get((*name, use.version))
            if version is not None:
                history.require_state(use, version)
            elif "/".join((*name, str(use.version))) not in absent:
                raise Corrupt(
                    f"entry {use.leaf_index} uses version {use.version} of key {use.key!r}, whose record is not there",
                    rule="bundle/record-missing",
                )
        missing = sorted(self._policies - self._policies_kept - absent)
        if missing:
            raise Corrupt(f"the policy set {missing[0]} is not there", rule="bundle/policy-set")
        if LOG_KEY not in absent and not any(self._is_log_key(one) for one in self._versions.values()):
            raise Corrupt("the record of the log's own key is not there", rule="bundle/key-record")
        if self._foreign:
            raise Corrupt(
                f"entry {self._foreign[0]} does not answer the question", rule="completeness/foreign"
            )
        start = 0 if self.start is None else self.start.size
        found, complete = sum(index >= start for index, _ in self._answer), self.head.completeness
        if complete and dict(complete) != {
            "found": found,
            "start": start,
            "undecided": complete.get("undecided"),
        }:
            raise Corrupt(
                "the answer has not as many entries as are said to be all", rule="bundle/completeness"
            )
        return BundleVerdict(
            checkpoint=self.stop,
            since=self.start,
            query=self.query,
            answer=tuple(self._answer),
            beside=self._beside,
            absent=self.head.absent,
            software=tuple(sorted(self._software)),
            completeness=self.head.completeness,
        )

    def _keep_policies(self, kept: str) -> None:
        try:
            files = orjson.loads(kept)
            self._policies_kept.add(policy_set.digest_of(files))
        except (orjson.JSONDecodeError, AttributeError):
            raise Corrupt("the policies kept in the log cannot be read", rule="bundle/policy-set") from None

    def _is_log_key(self, change: RecordChange) -> bool:
        if change.kind != "key-record" or not change.document:
            return False
        document = history.object_of(change.document)
        point = document.get("public_point")
        return (
            document.get("key_class") == LOG_KEY_CLASS
            and isinstance(point, str)
            and self.head.public_key.endswith(point)
            and bool(point)
        )


def _answers(query: Query, entry: Mapping[str, JsonValue], beside: Mapping[str, str]) -> bool:
    """Whether an entry answers a question, or may: the values that would tell were left out for whoever this is for."""
    at, pairs = moment(entry), said(entry, beside)
    unmet = [one.field for one in query.conditions if one.pairs.isdisjoint(pairs)]
    return query.start <= at < query.stop and all(silent_about(name, entry, beside) for name in unmet)


def begin(head: Head, public_key_der: bytes, *, origin: str = "", kept: bytes = b"") -> Judge:
    """Verify checkpoints and key of a head.

    Args:
        head: as parsed.
        public_key_der: SubjectPublicKeyInfo of the log's key, as the verifier was given it.
        origin: the origin expected; empty takes the checkpoint's own (its signature covers it).
        kept: signed note that the verifier kept; empty for none.

    Raises:
        Malformed, Corrupt: `checkpoint/…`, `bundle/key`, `bundle/since`, `bundle/rolled-back`, `merkle/…`.

    """
    expected = origin or checkpoint.parse(head.checkpoint).checkpoint.origin
    stop = checkpoint.verify(head.checkpoint, expected, public_key_der)
    if head.public_key != public_key_der.hex():
        raise Corrupt("the bundle names another key than the one it is verified with", rule="bundle/key")
    try:
        query = query_from_document(head.query)
    except Malformed:
        query = None
    if not head.since:
        if kept or head.consistency:
            raise Corrupt("the bundle does not begin with the checkpoint that was kept", rule="bundle/since")
        return Judge(head, None, stop, query)
    start = checkpoint.verify(head.since, expected, public_key_der)
    if kept and checkpoint.verify(kept, expected, public_key_der) != start:
        raise Corrupt("the bundle does not begin with the checkpoint that was kept", rule="bundle/since")
    if not 0 < start.size <= stop.size:
        raise Corrupt(
            f"the checkpoint that was kept signs {start.size} entries and the bundle's {stop.size}: the log was put back",
            rule="bundle/rolled-back",
        )
    verify_consistency(start.size, stop.size, head.consistency, start.root, stop.root)
    return Judge(head, start, stop, query)


def require_made(digest: bytes, public_key: ec.EllipticCurvePublicKey, signature: bytes) -> None:
    """Verify the signature of whoever made a bundle, ECDSA with SHA-256 over the SHA-256 of the lines before it.

    Raises:
        Corrupt: `bundle/signature`.

    """
    try:
        public_key.verify(signature, digest, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise Corrupt(
            "the bundle is not as whoever made it signed it: the question, the answer's extent or what is said to be "
            "absent was changed",
            rule="bundle/signature",
        ) from None


def needed_beside(
    entries: Sequence[Mapping[str, JsonValue]],
) -> tuple[set[tuple[str, int]], set[str], set[str]]:
    """What an answer rests on: (key, version) of its uses, digests of policy sets, workers that wrote it."""
    keys: set[tuple[str, int]] = set()
    digests: set[str] = set()
    workers: set[str] = set()
    for entry in entries:
        key, version, digest = entry.get("key"), entry.get("key_version"), entry.get("policy_digest")
        if entry.get("kind") == "use" and isinstance(key, str) and isinstance(version, int):
            keys.add((key, version))
        if isinstance(digest, str):
            digests.add(digest)
        workers.add(str(entry.get("worker", "")))
    return keys, digests, workers
