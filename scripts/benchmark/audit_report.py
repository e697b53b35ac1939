"""How long a report on a long log takes, and whether its memory stays flat: one process, entries as the service writes them."""

import hashlib
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench_deployment import REPOSITORY
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cryptosvc.adapters.log_range import write_range
from cryptosvc.core import checkpoint
from cryptosvc.core.merkle import EMPTY, leaf_hash
from cryptosvc.core.record import sealed

ORIGIN = "cryptosvc.example/bench"
SHORT = 50_000
_BEGAN = 1_793_000_000
_CHUNK = 4096
_CLASSES = (("command-signing", "G2.56"), ("xml-signing", "G3.29"), ("issuing-oca", "G2.61"))


@dataclass(frozen=True)
class Outcome:
    """Seconds and peak memory (octets) of a report on a long log, and peak memory of one on a short log."""

    seconds: float
    memory: int
    short_memory: int


def run(folder: Path, entries: int) -> Outcome:
    """Write a short log and a long one, and report on both, each in a process of its own."""
    _, short_memory = _report(folder, SHORT)
    seconds, memory = _report(folder, entries)
    return Outcome(seconds, memory, short_memory)


def _report(folder: Path, entries: int) -> tuple[float, int]:
    path, key = folder / f"{entries}.range", folder / "log.pub"
    _write(path, key, entries)
    command = (
        "import resource, sys; from cryptosvc.__main__ import main\n"
        "try: main()\n"
        "finally: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    )
    arguments = ["audit", "report", "--range", str(path), "--log-key", str(key), "-o", str(folder / "r.html")]
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", command, *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    seconds = time.monotonic() - started
    path.unlink()
    return seconds, int(done.stderr.split()[-1]) * 1024


def _write(path: Path, key_file: Path, count: int) -> None:
    """A range of `count` entries under a checkpoint; the entries are made twice, once for the root."""
    frontier, digests = EMPTY, []
    for octets, _ in _entries(count):
        digests.append(leaf_hash(octets))
        if len(digests) == _CHUNK:
            frontier, digests = frontier.extended(digests), []
    frontier = frontier.extended(digests)
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    found = checkpoint.Checkpoint(ORIGIN, count, frontier.root())
    signature = key.sign(checkpoint.text(found), ec.ECDSA(hashes.SHA256()))
    signed = checkpoint.NoteSignature(ORIGIN, checkpoint.key_id(public), signature)
    write_range(path, ORIGIN, b"", checkpoint.emit(checkpoint.Note(found, (signed,))), EMPTY, _entries(count))
    key_file.write_bytes(public)


def _entries(count: int) -> Iterator[tuple[bytes, bytes]]:
    chance = random.Random(1)  # noqa: S311 - nothing secret
    for number in range(count):
        kind = chance.random()
        key = chance.randrange(40)
        fields = _use(number, key) if kind < 0.97 else _refusal(key) if kind < 0.999 else _change(number, key)
        fields |= {
            "v": 1,
            "time": str((_BEGAN * 10 + number * 25) * 100_000_000),
            "time_quality": "synchronised",
            "system": "bench",
            "environment": "test",
            "worker": f"worker-{number % 4}",
            "software": "0.1.0",
        }
        withheld = {
            "principal": f"caller-{number % 7}",
            "peer": "ipv4:127.0.0.1:1",
            "target": f"90-B3-D5-1F-30-01-{number >> 8 & 255:02X}-{number & 255:02X}",
        }
        leaf = sealed(fields, withheld, number.to_bytes(16))
        yield leaf.entry, leaf.withheld


def _use(number: int, key: int) -> dict:
    key_class, clause = _CLASSES[key % 3]
    return {
        "kind": "use",
        "operation": "sign",
        "request_id": f"r-{number}",
        "content_kind": "gbcs-pre-command",
        "payload_digest": hashlib.sha256(b"%d" % number).hexdigest(),
        "key": f"key-{key:03}",
        "key_version": 2,
        "key_class": key_class,
        "decision": "permit",
        "clause": clause,
        "policies": ["purpose-commands", "grants"],
        "policy_digest": "ab" * 32,
        "approvals": [],
        "module": f"softhsm{key % 2}",
        "facts": {"message_code": "0008", "originator": "90-B3-D5-1F-30-01-00-00", "counter": str(number)},
        "outcome": "signed",
        "result_digest": "cd" * 32,
    }


def _refusal(key: int) -> dict:
    return {
        "kind": "refusal",
        "operation": "sign",
        "key": f"key-{key:03}",
        "decision": "refuse",
        "outcome": "refused",
        "reason": "FORBIDDEN",
        "rule": "ceiling/purpose" if key % 2 else "caller/not-granted",
        "clause": "G2.56",
        "policies": [],
    }


def _change(number: int, key: int) -> dict:
    return {
        "kind": "key-record",
        "operation": "change",
        "key": f"key-{key:03}",
        "key_class": "command-signing",
        "record_version": number,
        "record_digest": "ef" * 32,
        "state": "suspended" if number % 2 else "active",
        "because": {"proposal": f"p-{number}"},
        "approvals": ["aa"],
    }
