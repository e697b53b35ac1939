"""Checkpoints that were put outside of the service, to places where nothing is taken back, and what they prove of a log.

A place has one line for each checkpoint: `{"checkpoint":"…signed note…"}` in canonical JSON, and nothing else where it is
a file. Syslog writes words of its own before it; lines that have no such object are passed over, since a place is
shared and may be cut off in the middle of a line.

Source: Smart Energy Code G2.27(a) (evidential weight); C2SP tlog-checkpoint.

Example:
    >>> notes_of(line(b"n\\n")) == [b"n\\n"]
    True
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import orjson

from cryptosvc.core import checkpoint
from cryptosvc.core.canonical import canonical
from cryptosvc.core.checkpoint import Checkpoint
from cryptosvc.core.erased import hash_of
from cryptosvc.core.errors import Corrupt, CryptosvcError, Malformed
from cryptosvc.core.merkle import EMPTY

CLAUSE = "G2.27(a)"
_BEGIN = b'{"checkpoint":'


@dataclass(frozen=True, slots=True)
class Held:
    """What a log was held to: how many checkpoints, and the largest size among them."""

    checkpoints: int
    largest: int


def line(note: bytes) -> bytes:
    """A checkpoint as a place takes it, with its line end."""
    return canonical({"checkpoint": note.decode()}) + b"\n"


def notes_of(octets: bytes) -> list[bytes]:
    """Every note that stands in a place, in order."""
    found: list[bytes] = []
    for one in octets.split(b"\n"):
        _, begin, rest = one.partition(_BEGIN)
        if begin:
            try:
                document = orjson.loads(begin + rest.strip())
            except orjson.JSONDecodeError:
                continue
            if isinstance(document, dict) and isinstance(document.get("checkpoint"), str):
                found.append(document["checkpoint"].encode())
    return found


def require_of(notes: Sequence[bytes], origin: str, public_key: bytes, entries: Iterable[bytes]) -> Held:
    """Hold a log to the checkpoints that were put outside.

    Args:
        notes: as `notes_of` gives them; those of other logs are passed over, since a place may be shared.
        origin: of the log.
        public_key: SubjectPublicKeyInfo DER of the log's key.
        entries: the log's entries, from the first on.

    Raises:
        Malformed: `outside/none`: there is no checkpoint of this log.
        Corrupt: `outside/unsigned`, one that the log's key did not sign; `outside/rolled-back`, the log has fewer entries
            than one signs; `outside/forked`, it has other entries.

    """
    wanted: dict[int, bytes] = {}
    count = 0
    for note in notes:
        found = _verified(note, origin, public_key)
        if found is not None:
            count += 1
            if wanted.setdefault(found.size, found.root) != found.root:
                raise _forked(found.size)
    if not wanted:
        raise Malformed(f"there is no checkpoint of {origin} in it", rule="outside/none", field="--outside")
    frontier, waiting, size = EMPTY, list[bytes](), 0
    sizes = sorted(wanted, reverse=True)
    largest = sizes[0]
    if sizes[-1] == 0:
        sizes.pop()
    for entry in entries:
        if not sizes:
            break
        waiting.append(hash_of(entry))
        size += 1
        if size == sizes[-1]:
            frontier, waiting = frontier.extended(waiting), []
            if frontier.root() != wanted[sizes.pop()]:
                raise _forked(size)
    if sizes:
        raise Corrupt(
            f"a checkpoint of {largest} entries was put outside and the log has {size}: it was put back, or this export is "
            "older; export it again",
            rule="outside/rolled-back",
            clause=CLAUSE,
        )
    return Held(count, largest)


def _verified(note: bytes, origin: str, public_key: bytes) -> Checkpoint | None:
    try:
        if checkpoint.parse(note).checkpoint.origin != origin:
            return None
        return checkpoint.verify(note, origin, public_key)
    except CryptosvcError as error:
        raise Corrupt(
            f"a checkpoint that was put outside is not of this log's key: {error.message}",
            rule="outside/unsigned",
            clause=CLAUSE,
        ) from None


def _forked(size: int) -> Corrupt:
    return Corrupt(
        f"a checkpoint of {size} entries was put outside and the log has others: it was rewritten, or shows two faces",
        rule="outside/forked",
        clause=CLAUSE,
    )
