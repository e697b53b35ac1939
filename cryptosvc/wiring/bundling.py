"""`audit query --bundle` and `audit verify BUNDLE`: an answer put together with everything it rests on, and judged.

1. The newest checkpoint is taken, and the proof that it extends the one that was kept.
2. The question is asked; what is not under that checkpoint yet is no part of the answer.
3. Beside the answer goes what it rests on: the record of each key in the version that was used, the policy sets that
   decided, the starts of the software that served, the record of the log's own key. What the log does not give this
   auditor is named as absent.
4. Where the answer is to be proven complete, the question is replayed over the range.
5. It is signed with the client's key, and verified once more as it was written.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import orjson

from cryptosvc.adapters import evidence_bundle, log_range, redaction
from cryptosvc.adapters.software import software_digest
from cryptosvc.cli.actions import Connection, Document, Progress
from cryptosvc.cli.bundling import Bundling
from cryptosvc.cli.inquiry import Asked
from cryptosvc.client import messages
from cryptosvc.client.calls import Client
from cryptosvc.core import checkpoint, policy_set
from cryptosvc.core.bundle import Head, Item
from cryptosvc.core.bundle_judge import LOG_KEY, LOG_KEY_CLASS, SOFTWARE_KIND, needed_beside
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.device_keys import USED_KEY
from cryptosvc.core.device_records import DEVICE_STORE
from cryptosvc.core.erased import is_alone
from cryptosvc.core.errors import Corrupt, Malformed
from cryptosvc.core.query import LATEST, MAX_VALUES, Query
from cryptosvc.pb.v1 import audit_pb2
from cryptosvc.wiring.exporting import public_key_der
from cryptosvc.wiring.profiles import read_octets

_Entry = Mapping[str, JsonValue]


@dataclass(slots=True)
class _Gathered:
    """Entries of the log by leaf index, and what should be beside the answer and is not."""

    size: int
    items: dict[int, Item] = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)

    def keep(self, one: audit_pb2.Entry, *, answer: bool) -> None:
        if one.leaf_index not in self.items:
            self.items[one.leaf_index] = Item(
                leaf_index=one.leaf_index,
                entry=one.entry,
                withheld=one.withheld,
                path=tuple(one.hashes),
                answer=answer,
            )


def write(
    client: Client, connection: Connection, asked: Asked, wanted: Bundling, progress: Progress
) -> Document:
    """Ask the service, and write the answer with its proofs.

    Raises:
        Corrupt: the log was put back behind the checkpoint that was kept, or the bundle does not verify.
        Malformed: client key or certificates that cannot be used.

    """
    log_key = public_key_der(wanted.log_key)
    # 1 the checkpoints
    last = log_range.read_head(range_of(wanted)).last if wanted.complete else client.get_checkpoint()
    stop = checkpoint.parse(last).checkpoint
    since = b""
    consistency: tuple[bytes, ...] = ()
    if wanted.since is not None:
        since = read_octets(wanted.since, "--since")
        old = checkpoint.parse(since).checkpoint.size
        if not 0 < old <= stop.size:
            raise Corrupt(
                f"the checkpoint that was kept signs {old} entries and the service's newest {stop.size}: the log was "
                "put back",
                rule="bundle/rolled-back",
            )
        consistency = tuple(client.prove_consistency(old, stop.size).hashes)
    # 2 the answer
    gathered = _Gathered(stop.size)
    for number, one in enumerate(_answer(client, asked, stop.size), 1):
        gathered.keep(one, answer=True)
        progress("asking", number, asked.limit)
    # 3 what it rests on
    certificates = _gather_beside(client, gathered, log_key)
    if wanted.chain is not None:
        certificates = [*certificates, *evidence_bundle.certificates_of(read_octets(wanted.chain, "--chain"))]
    # 4 whether it is all
    query = Query.of(
        asked.conditions, start=asked.start, stop=asked.stop or LATEST, oldest_first=asked.oldest_first
    )
    complete = _completeness(wanted, query, gathered, progress) if wanted.complete else {}
    # 5 sign and verify
    items = _redacted(gathered, wanted.without)
    head = Head(
        query=query.document(),
        checkpoint=last,
        since=since,
        consistency=consistency,
        made_by="",
        public_key=log_key.hex(),
        certificates=tuple(one.hex() for one in certificates),
        entries=len(items),
        absent=tuple(sorted(gathered.absent)),
        completeness=complete,
    )
    evidence_bundle.write_bundle(
        wanted.out,
        head,
        items,
        read_octets(connection.certificate, "--cert"),
        read_octets(connection.private_key, "--key"),
    )
    return {"written_to": str(wanted.out), **_judged(wanted.out, log_key, "", since, None, progress)}


def _redacted(gathered: _Gathered, names: Collection[str]) -> list[Item]:
    """Everything in the order of the log, without these values; what cannot be told without them is named as absent."""
    needed = sorted(redaction.NEEDED & set(names))
    if needed:
        raise Malformed(
            f"a record of a person is told by its {needed[0]!r}; leave out 'document' and 'principal' instead",
            rule="redaction/needed",
            field="--without",
        )
    items = [gathered.items[index] for index in sorted(gathered.items)]
    if policy_set.WITHHELD in names:
        gathered.absent |= needed_beside([orjson.loads(one.entry) for one in items if one.answer])[1]
    if "document" in names:
        gathered.absent.add(LOG_KEY)
    return [replace(one, withheld=redaction.without(one.withheld, names)[0]) for one in items]


def range_of(wanted: Bundling) -> Path:
    """Where the range goes that proves the answer complete."""
    return wanted.out.with_name(wanted.out.name + ".range")


def verify(
    path: Path, key: Path, origin: str, since: Path | None, ranged: Path | None, progress: Progress
) -> Document:
    """Verify a bundle off-line; with a range, that its answer is complete as well.

    Raises:
        Malformed, Corrupt: whatever does not hold, by name.

    """
    kept = b"" if since is None else read_octets(since, "--since")
    return _judged(path, public_key_der(key), origin, kept, ranged, progress)


def _judged(
    path: Path, log_key: bytes, origin: str, kept: bytes, ranged: Path | None, progress: Progress
) -> dict[str, JsonValue]:
    found, made_by = evidence_bundle.verify_bundle(
        path,
        log_key,
        origin=origin,
        kept=kept,
        progress=lambda done, size: progress("verifying", done, size),
    )
    here, stop = software_digest(), found.checkpoint
    complete = "claimed" if found.completeness else "not claimed"
    if ranged is not None:
        start = found.completeness.get("start", 0) if found.completeness else 0
        replayed = log_range.replay(ranged, log_key, found.query, origin=stop.origin, given=found.answer)
        if (replayed.start, replayed.stop) != (start, stop.size):
            raise Malformed(
                f"the range is from entry {replayed.start} to {replayed.stop}; it has to be from {start} to {stop.size}",
                rule="bundle/range",
                field="--range",
            )
        complete = "proven"
    return {
        "verified": True,
        "origin": stop.origin,
        "entries": stop.size,
        "root": stop.root.hex(),
        "since": "" if found.since is None else found.since.size,
        "question": found.query.document(),
        "answer": len(found.answer),
        "answer_is_complete": complete,
        "undecided": found.completeness.get("undecided", 0),
        "beside": found.beside,
        "absent": found.absent,
        "made_by_certificate": made_by,
        "software_digests": found.software,
        "software_is_this": found.software == (here,),
    }


def _completeness(
    wanted: Bundling, query: Query, gathered: _Gathered, progress: Progress
) -> dict[str, JsonValue]:
    """Replay the question over the range that was fetched."""
    found = log_range.replay(
        range_of(wanted),
        public_key_der(wanted.log_key),
        query,
        progress=lambda done, size: progress("replaying", done, size),
    )
    answer = {index for index, item in gathered.items.items() if item.answer and index >= found.start}
    if answer != set(found.leaves):
        raise Corrupt(
            f"the answer has {len(answer)} entries and the log {len(found.leaves)} from entry {found.start} on: ask for all "
            "of them (--limit 0), and without a cursor",
            rule="completeness/missing",
        )
    return {"found": len(answer), "start": found.start, "undecided": len(found.undecided)}


def _answer(client: Client, asked: Asked, size: int) -> Iterator[audit_pb2.Entry]:
    """Entries of the answer that the checkpoint covers, as many as were asked for."""
    question = messages.query(
        asked.conditions,
        start=asked.start,
        stop=asked.stop,
        oldest_first=asked.oldest_first,
        cursor=asked.cursor,
        prove_in=size,
    )
    given = 0
    for page in client.query(question):
        for one in page.entries:
            if one.leaf_index < size and not is_alone(one.entry):
                yield one
                given += 1
                if given == asked.limit:
                    return


def _gather_beside(client: Client, gathered: _Gathered, log_key: bytes) -> list[bytes]:
    """Find what the answer rests on; the certificates of the log's key, as its record has them."""
    keys, digests, workers = needed_beside([orjson.loads(one.entry) for one in gathered.items.values()])
    for key, version in sorted(keys):
        kind, name = ("device-store-record", DEVICE_STORE) if key == USED_KEY else ("key-record", key)
        asked = {"kind": [kind]} if key == USED_KEY else {"kind": [kind], "key": [key]}
        wanted = [
            one
            for one, entry in _each(client, asked, gathered.size)
            if entry.get("record_version") == version
        ]
        for one in wanted:
            gathered.keep(one, answer=False)
        if not wanted:
            gathered.absent.add(f"{kind}/{name}/{version}")
    for some in _some(sorted(digests)):
        kept = set()
        for one, entry in _each(client, {"kind": [policy_set.KIND], "policies": some}, gathered.size):
            gathered.keep(one, answer=False)
            facts = entry.get("facts")
            kept.add(facts.get("policy_digest") if isinstance(facts, Mapping) and one.withheld else None)
        gathered.absent |= set(some) - kept
    for some in _some(sorted(workers)):
        for one, _ in _each(client, {"kind": [SOFTWARE_KIND], "worker": some}, gathered.size):
            gathered.keep(one, answer=False)
    return _gather_log_key(client, gathered, log_key)


def _gather_log_key(client: Client, gathered: _Gathered, log_key: bytes) -> list[bytes]:
    newest: tuple[audit_pb2.Entry, bytes] | None = None
    for one, _ in _each(client, {"kind": ["key-record"], "class": [LOG_KEY_CLASS]}, gathered.size):
        try:
            document = orjson.loads(orjson.loads(one.withheld)["document"][1])
            if log_key.hex().endswith(document["public_point"]):
                newest = one, bytes.fromhex(document["certificate"])
        except (ValueError, KeyError, TypeError):
            continue
    if newest is None:
        gathered.absent.add(LOG_KEY)
        return []
    gathered.keep(newest[0], answer=False)
    return [newest[1]] if newest[1] else []


def _each(
    client: Client, conditions: Mapping[str, Sequence[str]], size: int
) -> Iterator[tuple[audit_pb2.Entry, _Entry]]:
    """Entries the checkpoint covers, oldest first, with their proofs."""
    for page in client.query(messages.query(conditions, oldest_first=True, prove_in=size)):
        for one in page.entries:
            if one.leaf_index < size and not is_alone(one.entry):
                yield one, orjson.loads(one.entry)


def _some(values: Sequence[str]) -> Iterator[Sequence[str]]:
    """As many as a condition takes."""
    for at in range(0, len(values), MAX_VALUES):
        yield values[at : at + MAX_VALUES]
