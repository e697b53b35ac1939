"""Evidence bundles as lines: a head, entries with their audit paths, and the signature of whoever made it.

`core/bundle_judge.py` says what must hold of them. Parsing accepts only what emitting would print.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from cryptosvc.core.canonical import JsonValue, canonical
from cryptosvc.core.entries import SEPARATOR
from cryptosvc.core.errors import Internal, Malformed
from cryptosvc.core.merkle import HASH_OCTETS

FORMAT = "cryptosvc-evidence-bundle"
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The first line. What only whoever made the bundle vouches for is read once that signature is verified.

    Args:
        query: the question, as `Query.document` gives it.
        checkpoint: signed note; every entry is proven to be in its tree.
        since: the signed note that was kept from before; empty where there was none.
        consistency: that the one extends the other.
        made_by: certificate of whoever made and signed the bundle, DER, hex.
        public_key: SubjectPublicKeyInfo of the log's key, hex.
        certificates: DER, hex, of the log's key first, each issued by the next; none where it has none.
        entries: how many lines follow, but for the signature.
        absent: what should stand beside the answer and was not given, sorted.
        completeness: `found` and `undecided` of a replay of the question over the range from entry `start` to the
            checkpoint; empty where there was none.

    """

    query: Mapping[str, JsonValue]
    checkpoint: bytes
    since: bytes
    consistency: tuple[bytes, ...]
    made_by: str
    public_key: str
    certificates: tuple[str, ...]
    entries: int
    absent: tuple[str, ...]
    completeness: Mapping[str, JsonValue]

    def emit(self) -> bytes:
        """The line, without its end."""
        found: dict[str, JsonValue] = {
            "absent": self.absent,
            "certificates": self.certificates,
            "checkpoint": self.checkpoint.decode(),
            "completeness": self.completeness,
            "consistency": b"".join(self.consistency).hex(),
            "entries": self.entries,
            "format": FORMAT,
            "made_by": self.made_by,
            "public_key": self.public_key,
            "query": self.query,
            "since": self.since.decode(),
            "version": FORMAT_VERSION,
        }
        return canonical(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An entry with its proof.

    Args:
        leaf_index: where it is in the log.
        entry, withheld: as the log holds them.
        path: audit path in the tree of the checkpoint, lowest sibling first.
        answer: whether it is part of the answer; else it stands beside it.

    """

    leaf_index: int
    entry: bytes
    withheld: bytes
    path: tuple[bytes, ...]
    answer: bool

    def emit(self) -> bytes:
        """The line, without its end."""
        place: dict[str, JsonValue] = {
            "answer": self.answer,
            "hashes": b"".join(self.path).hex(),
            "leaf_index": self.leaf_index,
        }
        return SEPARATOR.join((canonical(place), self.entry, self.withheld))


def parse_head(line: bytes) -> Head:
    """Read a first line, without its end; Malformed (`bundle/format`) for anything `Head.emit` would not print."""
    try:
        found = orjson.loads(line)
        head = Head(
            query={**found["query"]},
            checkpoint=found["checkpoint"].encode(),
            since=found["since"].encode(),
            consistency=_hashes(found["consistency"]),
            made_by=found["made_by"],
            public_key=found["public_key"],
            certificates=tuple(found["certificates"]),
            entries=found["entries"],
            absent=tuple(found["absent"]),
            completeness={**found["completeness"]},
        )
        same = head.emit() == line and type(head.entries) is int
    except (ValueError, TypeError, KeyError, AttributeError, Internal):
        same = False
    if not same:
        raise malformed()
    return head


def parse_item(line: bytes) -> Item:
    """Read an entry's line, without its end; Malformed (`bundle/format`) for anything `Item.emit` would not print."""
    try:
        place, entry, withheld = line.split(SEPARATOR)
        found = orjson.loads(place)
        item = Item(
            leaf_index=found["leaf_index"],
            entry=entry,
            withheld=withheld,
            path=_hashes(found["hashes"]),
            answer=found["answer"],
        )
        same = item.emit() == line and (type(item.answer), type(item.leaf_index)) == (bool, int)
    except (ValueError, TypeError, KeyError, Internal):
        same = False
    if not same:
        raise malformed()
    return item


def malformed() -> Malformed:
    """What is said of a line that is not of a bundle."""
    return Malformed("this is not an evidence bundle of a version this program reads", rule="bundle/format")


def _hashes(text: str) -> tuple[bytes, ...]:
    octets = bytes.fromhex(text)
    if len(octets) % HASH_OCTETS or octets.hex() != text:
        raise ValueError
    return tuple(octets[at : at + HASH_OCTETS] for at in range(0, len(octets), HASH_OCTETS))
