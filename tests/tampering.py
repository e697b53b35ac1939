"""Ways to tamper with a log export or an evidence bundle, each drawn at random.

The log is real; its checkpoints are signed again with a key of the test's own, so that the operator who holds the log's
key can be played as well: one that forks the log, or puts it back, and signs that.

    tampered(sample, kind, draw)   the octets of an export or bundle, never those of the sample
"""

import hashlib
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from cryptosvc.core import bundle
from cryptosvc.core.merkle import consistency_proof
from tests.bundles import BundledLog, Entry
from tests.log_verifier import printed

Draw = random.Random
Lines = list[bytes]
RECORD_IDS = ("caller-record", "custodian-record")


@dataclass
class Sample:
    """An export and a bundle of one log.

    Args:
        folder: for files.
        log: the log.
        answer, beside: what the bundle holds.
        kept_size: of the checkpoint that the verifier kept.

    """

    folder: Path
    log: BundledLog
    answer: Sequence[int]
    beside: Sequence[int]
    kept_size: int

    @property
    def size(self) -> int:
        return len(self.log.entries)

    @cached_property
    def kept(self) -> bytes:
        return self.log.note(self.kept_size)

    @cached_property
    def export(self) -> bytes:
        return exported(self.log, (self.kept_size // 2, self.kept_size, self.size))

    @cached_property
    def bundle(self) -> bytes:
        return self.log.bundle(self.folder / "sample.bundle", self.answer, self.beside, self.kept_size)


def exported(log: BundledLog, sizes: Sequence[int]) -> bytes:
    """An export of a log, with the registry as its entries say."""
    head = {"format": "cryptosvc-log-export", "origin": log.origin, "size": len(log.entries), "version": 1}
    notes = [printed({"checkpoint": log.note(size).decode()}) for size in sizes]
    records: dict[tuple[str, str], bytes] = {}
    for index, (octets, withheld) in enumerate(log.entries):
        entry = json.loads(octets)
        kind = entry["kind"]
        if kind.endswith("-record"):
            values = json.loads(withheld)
            name = kind.removesuffix("-record")
            identity = values[name][1] if kind in RECORD_IDS else entry[name]
            document = json.loads(values["document"][1])
            line = {"document": document, "kind": kind, "leaf_index": index, "record_id": identity}
            records[kind, identity] = printed(line)
    entries = [entry + b"\t" + withheld for entry, withheld in log.entries]
    return b"\n".join([printed(head), *notes, *records.values(), b"", *entries]) + b"\n"


def tampered(octets: bytes, make: Callable[[], bytes]) -> bytes:
    """Draw until something is different."""
    while (found := make()) == octets:
        pass
    return found


# Any file of lines


def flip(octets: bytes, draw: Draw) -> bytes:
    changed = bytearray(octets)
    changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def other_number(draw: Draw, number: int) -> int:
    return draw.choice(
        [one for one in (number - 1, number + 1, 0, number + 1000, 7) if one not in (number, -1)]
    )


def other_hash(draw: Draw, text: str) -> str:
    """One hash of a proof changed, left out, added, or in another place."""
    found = [text[at : at + 64] for at in range(0, len(text), 64)]
    match draw.randrange(4):
        case 0:
            at = draw.randrange(len(found))
            found[at] = draw.randbytes(32).hex()
        case 1:
            del found[draw.randrange(len(found))]
        case 2:
            found.insert(draw.randrange(len(found) + 1), draw.randbytes(32).hex())
        case _:
            draw.shuffle(found)
    return "".join(found)


def edited_document(draw: Draw, document: dict[str, object]) -> dict[str, object]:
    """A record with one field changed."""
    name = draw.choice(sorted(document))
    value = document[name]
    changed: object = draw.choice(["x", 7, None])
    if isinstance(value, str) and value:
        at = draw.randrange(len(value))
        changed = value[:at] + draw.choice("0a_") + value[at + 1 :]
    elif isinstance(value, int):
        changed = not value if isinstance(value, bool) else value + 1
    return document | {name: changed}


def edited_record_entry(draw: Draw, line: bytes) -> bytes:
    """A key's record changed beside its entry, or what stands open in the entry."""
    *place, octets, withheld = line.split(b"\t")
    entry, beside = json.loads(octets), json.loads(withheld)
    if draw.randrange(2):
        salt, text = beside["document"]
        document = printed(edited_document(draw, json.loads(text))).decode()
        beside["document"] = [salt, document]
    else:
        changes = {"state": "compromised", "record_version": 9, "record_digest": "00" * 32, "usage_limit": 1}
        name = draw.choice(sorted(changes))
        entry[name] = changes[name]
    return b"\t".join([*place, printed(entry), printed(beside)])


# An export


def parts(octets: bytes) -> tuple[Lines, Lines]:
    before, _, entries = octets.partition(b"\n\n")
    return before.split(b"\n"), entries.split(b"\n")[:-1]


def whole(before: Lines, entries: Lines, draw: Draw | None = None) -> bytes:
    """An export again; with `draw`, the head's size now and then follows the entries."""
    if draw is not None and draw.randrange(2):
        before = [printed(json.loads(before[0]) | {"size": len(entries)}), *before[1:]]
    return b"\n".join([*before, b"", *entries]) + b"\n"


def notes_at(before: Lines) -> list[int]:
    return [at for at, line in enumerate(before) if line.startswith(b'{"checkpoint"')]


def export_delete(sample: Sample, draw: Draw) -> bytes:
    before, entries = parts(sample.export)
    newest = notes_at(before)[-1]
    choice = draw.choice(["entry", "entry", "entry", "record", "checkpoint"])
    if choice == "entry":
        del entries[draw.randrange(len(entries))]
    elif choice == "record":
        del before[draw.randrange(newest + 1, len(before))]
    else:
        del before[newest]
    return whole(before, entries, draw)


def export_swap(sample: Sample, draw: Draw) -> bytes:
    before, entries = parts(sample.export)
    one, other = draw.sample(range(len(entries)), 2)
    entries[one], entries[other] = entries[other], entries[one]
    return whole(before, entries)


def export_insert(sample: Sample, draw: Draw) -> bytes:
    before, entries = parts(sample.export)
    entries.insert(draw.randrange(len(entries) + 1), draw.choice(entries))
    return whole(before, entries, draw)


def shorter(sample: Sample, size: int) -> BundledLog:
    return BundledLog(sample.log.origin, sample.log.entries[:size], sample.log.key)


def export_roll_back(sample: Sample, draw: Draw) -> bytes:
    size = draw.randrange(1, sample.kept_size)
    return exported(shorter(sample, size), (size,))


def forked(sample: Sample, draw: Draw) -> BundledLog:
    """The log from some entry on as it might have been, signed with its own key."""
    entries: list[Entry] = list(sample.log.entries)
    plain = [
        at
        for at in range(sample.kept_size)
        if json.loads(entries[at][0])["kind"] in {"use", "read", "refusal"}
    ]
    at = draw.choice(plain)
    entries[at] = printed(json.loads(entries[at][0]) | {"worker": f"w{draw.random()}"}), b""
    return BundledLog(sample.log.origin, entries, sample.log.key, sample.log.maker)


def export_fork(sample: Sample, draw: Draw) -> bytes:
    return exported(forked(sample, draw), (sample.size,))


def export_edit_index(sample: Sample, draw: Draw) -> bytes:
    before, entries = parts(sample.export)
    at = draw.randrange(notes_at(before)[-1] + 1, len(before))
    record = json.loads(before[at])
    before[at] = printed(record | {"leaf_index": other_number(draw, record["leaf_index"])})
    return whole(before, entries)


def export_edit_proof(sample: Sample, draw: Draw) -> bytes:
    """What proves an export is the signed root: another size or root, under the old signature."""
    before, entries = parts(sample.export)
    at = draw.choice(notes_at(before))
    origin, size, root, *rest = json.loads(before[at])["checkpoint"].split("\n")
    if draw.randrange(2):
        size = str(other_number(draw, int(size)))
    else:
        other = shorter(sample, draw.randrange(1, sample.size)).note
        root = other(draw.randrange(1, 2)).decode().split("\n")[2]
    before[at] = printed({"checkpoint": "\n".join([origin, size, root, *rest])})
    return whole(before, entries)


def export_edit_key_record(sample: Sample, draw: Draw) -> bytes:
    before, entries = parts(sample.export)
    if draw.randrange(2):
        at = draw.choice([at for at, line in enumerate(before) if b'"kind":"key-record"' in line])
        record = json.loads(before[at])
        before[at] = printed(record | {"document": edited_document(draw, record["document"])})
    else:
        at = draw.choice([at for at, line in enumerate(entries) if b'"kind":"key-record"' in line])
        entries[at] = edited_record_entry(draw, entries[at])
    return whole(before, entries)


def other_note(sample: Sample, draw: Draw) -> bytes:
    """A checkpoint that is not the log's newest."""
    stranger = ec.generate_private_key(ec.SECP256R1())
    match draw.randrange(3):
        case 0:
            return BundledLog(sample.log.origin, sample.log.entries, stranger).note(sample.size)
        case 1:
            return BundledLog(sample.log.origin + "-2", sample.log.entries, sample.log.key).note(sample.size)
        case _:
            return sample.log.note(draw.randrange(1, sample.size))


def export_replace_checkpoint(sample: Sample, draw: Draw) -> bytes:
    before, entries = parts(sample.export)
    before[notes_at(before)[-1]] = printed({"checkpoint": other_note(sample, draw).decode()})
    return whole(before, entries)


def hash_alone(octets: bytes) -> bytes:
    """What stands for an entry past retention, where this one is not."""
    return hashlib.sha256(b"\x00" + octets).hexdigest().encode()


def export_leave_a_hash(sample: Sample, draw: Draw) -> bytes:
    before, entries = parts(sample.export)
    for at in draw.sample(range(len(entries)), draw.randrange(1, 4)):
        entries[at] = hash_alone(entries[at].partition(b"\t")[0]) + b"\t"
    return whole(before, entries)


# A bundle


def bundle_lines(sample: Sample) -> tuple[dict[str, object], Lines, bytes]:
    head, *lines, signature = sample.bundle.split(b"\n")[:-1]
    return json.loads(head), lines, signature


def bundled(head: dict[str, object], lines: Lines, signature: bytes, draw: Draw | None = None) -> bytes:
    if draw is not None and draw.randrange(2):
        head = head | {"entries": len(lines)}
    return b"\n".join([printed(head), *lines, signature]) + b"\n"


def bundle_delete(sample: Sample, draw: Draw) -> bytes:
    head, lines, signature = bundle_lines(sample)
    if draw.randrange(8):
        del lines[draw.randrange(len(lines))]
        return bundled(head, lines, signature, draw)
    return bundled(head, lines, b"", None)[:-1]  # the signature


def bundle_swap(sample: Sample, draw: Draw) -> bytes:
    head, lines, signature = bundle_lines(sample)
    one, other = draw.sample(range(len(lines)), 2)
    lines[one], lines[other] = lines[other], lines[one]
    return bundled(head, lines, signature)


def bundle_insert(sample: Sample, draw: Draw) -> bytes:
    """An entry twice, or another of the log with a proof that holds, in its place or elsewhere."""
    head, lines, signature = bundle_lines(sample)
    index = draw.randrange(sample.size)
    line = draw.choice([draw.choice(lines), sample.log.item(index, answer=bool(draw.randrange(2))).emit()])
    lines.insert(draw.randrange(len(lines) + 1), line)
    if draw.randrange(2):
        lines.sort(key=lambda one: int(json.loads(one.split(b"\t")[0])["leaf_index"]))
    return bundled(head, lines, signature, draw)


def bundle_roll_back(sample: Sample, draw: Draw) -> bytes:
    size = draw.randrange(1, sample.kept_size)
    log = shorter(sample, size)
    answer = [at for at in sample.answer if at < size] or [0]
    beside = [at for at in sample.beside if at < size]
    return log.bundle(sample.folder / "back.bundle", answer, beside, **_since(sample, ()))


def bundle_fork(sample: Sample, draw: Draw) -> bytes:
    log = forked(sample, draw)
    path = consistency_proof(sample.kept_size, sample.size, log.subtree)
    return log.bundle(
        sample.folder / "fork.bundle", sample.answer, sample.beside, **_since(sample, tuple(path))
    )


def _since(sample: Sample, path: tuple[bytes, ...]) -> dict[str, object]:
    return {"since": sample.kept, "consistency": path}


def bundle_edit_index(sample: Sample, draw: Draw) -> bytes:
    head, lines, signature = bundle_lines(sample)
    at = draw.randrange(len(lines))
    item = bundle.parse_item(lines[at])
    lines[at] = replace(item, leaf_index=other_number(draw, item.leaf_index)).emit()
    return bundled(head, lines, signature)


def bundle_edit_proof(sample: Sample, draw: Draw) -> bytes:
    head, lines, signature = bundle_lines(sample)
    if draw.randrange(4) == 0:
        return bundled(head | {"consistency": other_hash(draw, str(head["consistency"]))}, lines, signature)
    at = draw.randrange(len(lines))
    place, *rest = lines[at].split(b"\t")
    found = json.loads(place)
    lines[at] = b"\t".join([printed(found | {"hashes": other_hash(draw, found["hashes"])}), *rest])
    return bundled(head, lines, signature)


def bundle_edit_key_record(sample: Sample, draw: Draw) -> bytes:
    head, lines, signature = bundle_lines(sample)
    at = draw.choice([at for at, line in enumerate(lines) if b'"kind":"key-record"' in line])
    lines[at] = edited_record_entry(draw, lines[at])
    return bundled(head, lines, signature)


def bundle_leave_a_hash(sample: Sample, draw: Draw) -> bytes:
    head, lines, signature = bundle_lines(sample)
    at = draw.randrange(len(lines))
    place, octets, _ = lines[at].split(b"\t")
    lines[at] = b"\t".join([place, hash_alone(octets), b""])
    return bundled(head, lines, signature)


def bundle_replace_checkpoint(sample: Sample, draw: Draw) -> bytes:
    head, lines, signature = bundle_lines(sample)
    return bundled(head | {"checkpoint": other_note(sample, draw).decode()}, lines, signature)


EDITS: dict[str, tuple[Callable[[Sample, Draw], bytes], Callable[[Sample, Draw], bytes]]] = {
    "flip": (lambda sample, draw: flip(sample.export, draw), lambda sample, draw: flip(sample.bundle, draw)),
    "delete": (export_delete, bundle_delete),
    "swap": (export_swap, bundle_swap),
    "insert": (export_insert, bundle_insert),
    "roll back": (export_roll_back, bundle_roll_back),
    "fork": (export_fork, bundle_fork),
    "edit index": (export_edit_index, bundle_edit_index),
    "edit proof": (export_edit_proof, bundle_edit_proof),
    "edit key record": (export_edit_key_record, bundle_edit_key_record),
    "leave a hash": (export_leave_a_hash, bundle_leave_a_hash),
    "replace checkpoint": (export_replace_checkpoint, bundle_replace_checkpoint),
}
"""Kind of edit → of an export, of a bundle."""
