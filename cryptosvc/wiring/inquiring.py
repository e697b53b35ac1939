"""What an auditor's commands do: questions to the service, and proofs on the auditor's own machine."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import orjson

from cryptosvc.adapters import log_range, redaction
from cryptosvc.adapters.evidence_bundle import is_bundle
from cryptosvc.cli.actions import Connection, Document, Progress
from cryptosvc.cli.bundling import Bundling
from cryptosvc.cli.inquiry import Asked, Rows
from cryptosvc.client import messages
from cryptosvc.client.calls import Client
from cryptosvc.core import checkpoint, dsse, policy_set
from cryptosvc.core.account import Account, UserCounts, instant
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.completeness import frontier_of
from cryptosvc.core.entries import values_beside
from cryptosvc.core.erased import Missing, is_alone
from cryptosvc.core.errors import Corrupt, Malformed
from cryptosvc.core.merkle import EMPTY, leaf_hash
from cryptosvc.core.query import LATEST, Cursor, Query
from cryptosvc.core.retold import Told, proposal_of, retold, verified
from cryptosvc.core.said import moment, said
from cryptosvc.pb.v1 import audit_pb2
from cryptosvc.wiring import bundling
from cryptosvc.wiring.calls import client_of
from cryptosvc.wiring.exporting import public_key_der
from cryptosvc.wiring.profiles import read_octets

_PERSON = ("caller", "custodian")


class Inquiries:
    """Implements `cli.inquiry.Inquiries`."""

    def query(self, connection: Connection, asked: Asked) -> Iterator[Rows]:
        """Ask, and give what comes, a page at a time."""
        question = messages.query(
            asked.conditions,
            start=asked.start,
            stop=asked.stop,
            oldest_first=asked.oldest_first,
            most_entries=asked.limit,
            cursor=asked.cursor,
        )
        with client_of(connection) as client:
            for page in client.query(question):
                yield Rows([_row(one) for one in page.entries], page.cursor, page.tree_size)

    def bundle(self, connection: Connection, asked: Asked, wanted: Bundling, progress: Progress) -> Document:
        """Ask, and write the answer with its proofs to a file."""
        fetched: Document | None = None
        if wanted.complete:
            fetched = self.fetch_range(connection, bundling.range_of(wanted), wanted.since, progress)
        with client_of(connection) as client:
            done = bundling.write(client, connection, asked, wanted, progress)
        return {**done, "range": "" if fetched is None else str(fetched["written_to"])}

    def usage(self, connection: Connection, key_id: str, start: int, stop: int) -> Document:
        """Tell everything a key did."""
        with client_of(connection) as client:
            told = _account(client, {"key": [key_id]}, start, stop).document()
            return {"key": key_id, **_gone(client), **told}

    def who(self, connection: Connection, name: str, start: int, stop: int) -> Document:
        """Tell everything a caller or custodian did."""
        with client_of(connection) as client:
            told: dict[str, JsonValue] = {"name": name, **_gone(client)}
            for field in _PERSON:
                found = _account(client, {field: [name]}, start, stop)
                if found.entries:
                    told[f"as_{field}"] = found.document()
            keys = sorted({key for one in _each(client, {"custodian": [name]}) if (key := _key_of(one))})
            if keys:
                told["as_approver"] = _account(client, {"approver": keys}, start, stop).document()
            return told

    def why(self, connection: Connection, leaf_index: int) -> Document:
        """Retell a decision."""
        with client_of(connection) as client:
            told = _told(client.get_entry(leaf_index))
            digest = told.entry.get("policy_digest")
            files = _policy_set(client, digest) if isinstance(digest, str) else None
            return retold(told, files, _approvals(client, told))

    def users(self, connection: Connection, start: int, stop: int) -> Sequence[Document]:
        """List every User, with its counts by half-year."""
        with client_of(connection) as client:
            records = itertools.chain(
                _each(client, {"kind": ["caller-record"]}), _each(client, {"kind": ["key-record"]})
            )
            users = {
                value for one in records for name, value in said(one.entry, one.beside) if name == "user"
            }
            rows: list[Document] = []
            for user in sorted(users):
                counts = UserCounts()
                for one in _each(client, {"user": [user], "kind": ["use"]}, start, stop):
                    counts.take(one.entry, one.beside)
                rows += counts.rows(user) or [{"user": user, "half_year": "", "uses": 0, "devices": 0}]
            return rows

    def fetch_range(
        self, connection: Connection, out: Path, since: Path | None, progress: Progress
    ) -> Document:
        """Fetch every entry from the checkpoint that was kept to the newest one."""
        with client_of(connection) as client:
            last = client.get_checkpoint()
            stop = checkpoint.parse(last).checkpoint
            first = b"" if since is None else read_octets(since, "--since")
            start = checkpoint.parse(first).checkpoint.size if first else 0
            if start > stop.size:
                raise Corrupt(
                    f"the checkpoint that was kept signs {start} entries and the service's newest {stop.size}: the log "
                    "was put back",
                    rule="completeness/rolled-back",
                )
            frontier = EMPTY
            if start:
                proof = client.prove_inclusion(start - 1, start)
                frontier = frontier_of(proof.leaf_hash, list(proof.hashes), start)
            entries = _between(client, start, stop.size, progress)
            written = log_range.write_range(out, stop.origin, first, last, frontier, entries)
        return {
            "written_to": str(out),
            "origin": stop.origin,
            "from": start,
            "to": stop.size,
            "entries": written,
        }

    def complete(
        self, range_file: Path, key: Path, asked: Asked, origin: str, answer: Path | None, progress: Progress
    ) -> Document:
        """Replay a query over a range, off-line."""
        query = Query.of(asked.conditions, start=asked.start, stop=asked.stop or LATEST)
        found = log_range.replay(
            range_file,
            public_key_der(key),
            query,
            origin=origin,
            answer=answer,
            progress=lambda done, size: progress("replaying", done, size),
        )
        return {
            "verified": True,
            "from": found.start,
            "to": found.stop,
            "found": len(found.leaves),
            "undecided": len(found.undecided),
            "erased": found.gone.erased,
            "archived": found.gone.archived,
            "answer_is_complete": "not given" if answer is None else True,
            "leaves": found.leaves,
            "undecided_leaves": found.undecided,
        }

    def verify_bundle(
        self, path: Path, key: Path, origin: str, since: Path | None, ranged: Path | None, progress: Progress
    ) -> Document | None:
        """Verify a bundle off-line; None where the file is none."""
        if not is_bundle(path):
            return None
        return bundling.verify(path, key, origin, since, ranged, progress)

    def redact(self, path: Path, out: Path, names: Sequence[str], progress: Progress) -> Document:
        """Write a copy without some values."""
        entries, left_out = redaction.redact(path, out, names, lambda done: progress("redacting", done, 0))
        return {"written_to": str(out), "entries": entries, "values_left_out": left_out}


def _each(
    client: Client, conditions: Mapping[str, Sequence[str]], start: int = 0, stop: int = 0
) -> Iterator[Told]:
    question = messages.query(conditions, start=start, stop=stop, oldest_first=True)
    for page in client.query(question):
        for one in page.entries:
            yield _told(one)


def _between(client: Client, start: int, stop: int, progress: Progress) -> Iterator[tuple[bytes, bytes]]:
    """Every entry of a stretch of the log: a cursor is no secret, so one is made for exactly that."""
    if start == stop:
        return
    query = Query.of({}, oldest_first=True)
    cursor = Cursor(query.digest, stop, start).emit()
    done = 0
    for page in client.query(messages.query({}, oldest_first=True, cursor=cursor)):
        for one in page.entries:
            if one.leaf_index != start + done:
                raise Corrupt(f"the service left out entry {start + done}", rule="completeness/truncated")
            yield one.entry, one.withheld
            done += 1
        progress("fetching", done, stop - start)


def _account(client: Client, conditions: Mapping[str, Sequence[str]], start: int, stop: int) -> Account:
    account = Account()
    for one in _each(client, conditions, start, stop):
        account.take(one.leaf_index, one.entry, one.beside)
    return account


def _gone(client: Client) -> dict[str, JsonValue]:
    """How many entries of the whole log are hashes alone: what they said is not counted."""
    said = Missing()
    for one in _each(client, {"kind": ["sealed", "archived", "returned"]}):
        said.hear(one.leaf_index, one.entry)
    for key in sorted({one.of for one in said.said if one.what == "sealed"}):
        for one in _each(client, {"kind": ["key-record"], "key": [key]}):
            said.hear(one.leaf_index, one.entry)
    gone = said.count()
    return {"erased_in_log": gone.erased, "archived_in_log": gone.archived}


def _policy_set(client: Client, digest: str) -> Mapping[str, str] | None:
    for one in _each(client, {"kind": [policy_set.KIND], "policies": [digest]}):
        if policy_set.WITHHELD in one.beside:
            return policy_set.files_of(one.beside[policy_set.WITHHELD], digest)
    return None


def _approvals(client: Client, told: Told) -> list[JsonValue]:
    """Signatures behind an entry: on its own proposal, or on those that brought its key to the version it names."""
    proposals = {proposal_of(told)} - {""}
    key, version = told.entry.get("key"), told.entry.get("key_version")
    if isinstance(key, str) and isinstance(version, int):
        for one in _each(client, {"key": [key], "kind": ["key-record"]}):
            named = one.entry.get("record_version")
            if isinstance(named, int) and named <= version:
                proposals |= {proposal_of(one)} - {""}
    found: list[JsonValue] = []
    for proposal in sorted(proposals):
        versions = list(_each(client, {"proposal": [proposal], "kind": ["proposal-record"]}))
        if versions:
            custodians = list(_each(client, {"kind": ["custodian-record"]}))
            found += verified(versions[-1], custodians)
    return found


def _told(one: audit_pb2.Entry) -> Told:
    """Read an entry as it came, which is no hash alone; what is beside it is what it commits to, or Corrupt."""
    try:
        entry = orjson.loads(one.entry)
    except orjson.JSONDecodeError:
        raise Malformed("the service gave an entry that is not JSON", rule="export/entry") from None
    return Told(one.leaf_index, entry, values_beside(one.leaf_index, entry, one.withheld))


def _key_of(told: Told) -> str:
    """Key id a custodian's record registers; empty where it is not kept."""
    try:
        document = orjson.loads(told.beside.get("document", "{}"))
        return dsse.key_id(bytes.fromhex(document["key"]))
    except (ValueError, KeyError, TypeError):
        return ""


_COLUMNS = ("key", "class", "content", "message", "outcome", "rule", "clause", "caller", "target", "user")


def _row(one: audit_pb2.Entry) -> dict[str, JsonValue]:
    if is_alone(one.entry):
        gone: dict[str, JsonValue] = dict.fromkeys(("time", "kind", "operation", *_COLUMNS), "")
        return {"leaf_index": one.leaf_index, **gone, "kind": "erased", "leaf_hash": one.entry.decode()}
    told = _told(one)
    pairs = said(told.entry, told.beside)
    row: dict[str, JsonValue] = {
        "leaf_index": told.leaf_index,
        "time": instant(moment(told.entry)),
        "kind": str(told.entry.get("kind", "")),
        "operation": str(told.entry.get("operation", "")),
    }
    for name in _COLUMNS:
        row[name] = " ".join(sorted(value for field, value in pairs if field == name))
    row["leaf_hash"] = leaf_hash(one.entry).hex()
    return row
