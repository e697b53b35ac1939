"""The query index: which entries say what, kept behind the log and believed by nobody.

Entries are taken 1,024 at a time (a block). For each pair of a block (`core/said.py`) there is one row: the pair's
term and which of the block's entries say it. So a key that signs all day costs a row a block, and a query by one pair
reads a few rows at the end it begins at, however long the log is. What it names is read from the log and proven before
it leaves, and looked at again; what it left out is what a completeness proof finds (ADR 0014).

A term is 64 bits of a keyed digest under a key drawn for the index, so the index holds no name; that two pairs share
one does no harm. `forget` takes a pair of an entry out again, where its value was deleted. The index is derived: lose
it, and it is built again.

Beside PostgreSQL's tables it stands in the same database; beside SQLite in a file of its own, so that filling it never
takes the lock that signing waits for.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import orjson
from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, Table

from cryptosvc.adapters.store.session import Session
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.erased import is_alone
from cryptosvc.core.query import LATEST
from cryptosvc.core.said import INDEXED, Pair, moment, said

BLOCK_BITS = 10
BLOCK = 1 << BLOCK_BITS
EVERY = (1 << BLOCK) - 1
"""The bitmap of a block all of whose entries are meant; bit n stands for its n-th entry."""
TERM_KEY_OCTETS = 32
_BITMAP_OCTETS = BLOCK // 8
_LISTED_AT_MOST = _BITMAP_OCTETS // 2 - 1
"""Fewer entries than this stand as a list of two octets each, which is shorter than the bitmap."""
_LATEST = 2**63 - 1

metadata = MetaData()
_Number = BigInteger().with_variant(Integer, "sqlite")

query_state = Table(
    "query_state",
    metadata,
    Column("id", _Number, primary_key=True, autoincrement=False),
    Column("term_key", LargeBinary, nullable=False),
    Column("log", LargeBinary, nullable=False),
    Column("through", _Number, nullable=False),
    Column("last", LargeBinary, nullable=False),
    comment="one row: key of the terms, whose log this is, how many entries are in, hash of the last of them",
)
query_posting = Table(
    "query_posting",
    metadata,
    Column("term", _Number, primary_key=True, autoincrement=False),
    Column("block", _Number, primary_key=True, autoincrement=False),
    Column("leaves", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
query_block = Table(
    "query_block",
    metadata,
    Column("block", _Number, primary_key=True, autoincrement=False),
    Column("earliest", _Number, nullable=False),
    Column("latest", _Number, nullable=False),
    Column("highest", _Number, nullable=False),
    Column("lowest", _Number, nullable=False),
    Index("query_block_highest", "highest", "block"),
    Index("query_block_lowest", "lowest", "block"),
    comment="times of a block; highest of all up to it, lowest of all from it on, which rise with the block",
)
TABLES = (query_state, query_posting, query_block)


@dataclass(frozen=True, slots=True)
class IndexState:
    """How far the index is.

    Args:
        term_key: what terms are made with, 32 octets.
        log: database id of the log it was made from.
        through: how many entries are in; a multiple of BLOCK.
        last: leaf hash of the last of them; empty before the first.

    """

    term_key: bytes
    log: bytes
    through: int
    last: bytes


@dataclass(frozen=True, slots=True)
class Posted:
    """One block ready for the index.

    Args:
        block: its number.
        rows: numbers of the entries inside the block by term, rising; two pairs of one term may repeat one.
        earliest, latest: times of its entries, nanoseconds.

    """

    block: int
    rows: Mapping[int, Sequence[int]]
    earliest: int
    latest: int


class Terms:
    """Pairs as the index spells them; remembers those that come again and again."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._known: dict[Pair, int] = {}

    def term(self, pair: Pair) -> int:
        """64 bits, signed."""
        found = self._known.get(pair)
        if found is None:
            octets = hashlib.blake2b(f"{pair[0]}\0{pair[1]}".encode(), key=self._key, digest_size=8).digest()
            found = int.from_bytes(octets, signed=True)
            if len(self._known) >= _KNOWN_AT_MOST:
                self._known.clear()
            self._known[pair] = found
        return found


_KNOWN_AT_MOST = 4096


def post(block: int, leaves: Sequence[tuple[bytes, bytes]], terms: Terms) -> Posted:
    """Read the (entry, withheld) of one whole block; what is not readable, or a hash alone, is posted under nothing."""
    rows: dict[int, list[int]] = {}
    times: list[int] = []
    for number, (octets, withheld) in enumerate(leaves):
        if is_alone(octets):
            continue
        entry, beside = readable(octets, withheld)
        times.append(moment(entry))
        for pair in said(entry, beside):
            if pair[0] in INDEXED:
                rows.setdefault(terms.term(pair), []).append(number)
    # a block of hashes alone is of no time: only who asks for every entry comes by
    return Posted(block, rows, min(times, default=LATEST - 1), max(times, default=0))


def readable(octets: bytes, withheld: bytes) -> tuple[Mapping[str, JsonValue], Mapping[str, str]]:
    """Entry and withheld values as far as they can be read; nothing is verified."""
    try:
        entry = orjson.loads(octets)
        beside = orjson.loads(withheld) if withheld else {}
        values = {name: value for name, (_, value) in beside.items() if isinstance(value, str)}
    except (ValueError, TypeError, AttributeError):
        return {}, {}
    return (entry, values) if isinstance(entry, dict) else ({}, {})


def bitmap_of(found: Sequence[int]) -> int:
    """The bitmap with these bits set."""
    bits = bytearray(_BITMAP_OCTETS)
    for number in found:
        bits[number >> 3] |= 1 << (number & 7)
    return int.from_bytes(bits, "little")


def packed(bitmap: int) -> bytes:
    """A row's octets: two for each entry where they are few, else the bitmap."""
    if bitmap.bit_count() <= _LISTED_AT_MOST:
        return b"".join(number.to_bytes(2) for number in numbers(bitmap))
    return bitmap.to_bytes(_BITMAP_OCTETS)


def unpacked(octets: bytes) -> int:
    """The bitmap of a row."""
    if len(octets) == _BITMAP_OCTETS:
        return int.from_bytes(octets)
    bitmap = 0
    for at in range(0, len(octets), 2):
        bitmap |= 1 << (int.from_bytes(octets[at : at + 2]) & (BLOCK - 1))
    return bitmap


def numbers(bitmap: int, *, descending: bool = False) -> Iterator[int]:
    """Which bits are set."""
    while bitmap:
        number = bitmap.bit_length() - 1 if descending else (bitmap & -bitmap).bit_length() - 1
        yield number
        bitmap ^= 1 << number


# Statements. A session here is one of the index's own store.


def state(session: Session) -> IndexState | None:
    """How far the index is; None before it was begun."""
    for row in session.rows("SELECT term_key, log, through, last FROM query_state WHERE id = 1"):
        return IndexState(*cast("tuple[bytes, bytes, int, bytes]", row))
    return None


def begin(session: Session, log: bytes, term_key: bytes) -> None:
    """Start from nothing, under a new key."""
    for table in TABLES:
        session.run(f"DELETE FROM {table.name}")  # noqa: S608  # a constant
    session.run(
        "INSERT INTO query_state (id, term_key, log, through, last) VALUES (1, ?, ?, 0, ?)",
        term_key,
        log,
        b"",
    )


def put(session: Session, posted: Sequence[Posted], last: bytes) -> None:
    """Add the blocks that come next; adding one again changes nothing."""
    session.run_many(
        "INSERT INTO query_posting (term, block, leaves) VALUES (?, ?, ?) ON CONFLICT (term, block) DO NOTHING",
        # in the order of the tree, so that neighbours share a page while it is at hand
        sorted(
            (term, one.block, packed(bitmap_of(rows))) for one in posted for term, rows in one.rows.items()
        ),
    )
    highest = session.number("SELECT COALESCE(MAX(highest), 0) FROM query_block")
    for one in posted:
        highest = max(highest, one.latest)
        # what was recorded late or with a clock put back belongs to an earlier time than blocks before it
        session.run("UPDATE query_block SET lowest = ? WHERE lowest > ?", one.earliest, one.earliest)
        session.run(
            "INSERT INTO query_block (block, earliest, latest, highest, lowest) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (block) DO NOTHING",
            one.block,
            one.earliest,
            one.latest,
            highest,
            one.earliest,
        )
    session.run(
        "UPDATE query_state SET through = ?, last = ? WHERE id = 1",
        (posted[-1].block + 1) << BLOCK_BITS,
        last,
    )


def rows_from(
    session: Session, term: int, block: int, *, descending: bool, at_most: int
) -> list[tuple[int, int]]:
    """(block, bitmap) of a term from this block on, in order."""
    sql = (
        "SELECT block, leaves FROM query_posting WHERE term = ? AND block <= ? ORDER BY block DESC LIMIT ?"
        if descending
        else "SELECT block, leaves FROM query_posting WHERE term = ? AND block >= ? ORDER BY block LIMIT ?"
    )
    found = cast("list[tuple[int, bytes]]", session.rows(sql, term, block, at_most))
    return [(number, unpacked(octets)) for number, octets in found]


def rows_of(session: Session, term: int, blocks: Sequence[int], *, descending: bool) -> list[tuple[int, int]]:
    """(block, bitmap) of a term at those of these blocks that have it, in order."""
    marks = ", ".join("?" * len(blocks))
    sql = f"SELECT block, leaves FROM query_posting WHERE term = ? AND block IN ({marks})"  # noqa: S608  # marks only
    found = cast("list[tuple[int, bytes]]", session.rows(sql, term, *blocks))
    return [(number, unpacked(octets)) for number, octets in sorted(found, reverse=descending)]


def blocks_from(
    session: Session,
    block: int,
    within: tuple[int, int],
    start: int,
    stop: int,
    *,
    descending: bool,
    at_most: int,
) -> list[tuple[int, int]]:
    """(block, every bit) of blocks of a stretch with an entry that may be of this time, from this block on, in order."""
    where = "block >= ? AND block <= ? AND latest >= ? AND earliest < ?"
    if descending:
        within = within[0], min(block, within[1])
        sql = f"SELECT block FROM query_block WHERE {where} ORDER BY block DESC LIMIT ?"  # noqa: S608  # constants
    else:
        within = max(block, within[0]), within[1]
        sql = f"SELECT block FROM query_block WHERE {where} ORDER BY block LIMIT ?"  # noqa: S608  # constants
    found = session.rows(sql, *within, start, stop, at_most)
    return [(cast("int", number), EVERY) for (number,) in found]


def stretch(session: Session, start: int, stop: int) -> tuple[int, int] | None:
    """First and last block that may hold entries of `start <= time < stop`; None where none does."""
    first = session.number(
        "SELECT block FROM query_block WHERE highest >= ? ORDER BY highest, block LIMIT 1", start
    )
    last = session.number(
        "SELECT block FROM query_block WHERE lowest < ? ORDER BY lowest DESC, block DESC LIMIT 1", stop
    )
    return (first, last) if 0 <= first <= last else None


def forget(session: Session, leaf_index: int, pairs: Collection[Pair]) -> None:
    """Take pairs of one entry out, whose values were deleted; what is not there is passed over."""
    found = state(session)
    if found is None:
        return
    terms = Terms(found.term_key)
    block, bit = leaf_index >> BLOCK_BITS, 1 << (leaf_index & (BLOCK - 1))
    for pair in sorted(pairs):
        term = terms.term(pair)
        for (octets,) in session.rows(
            "SELECT leaves FROM query_posting WHERE term = ? AND block = ?", term, block
        ):
            left = unpacked(cast("bytes", octets)) & ~bit
            if left:
                session.run(
                    "UPDATE query_posting SET leaves = ? WHERE term = ? AND block = ?",
                    packed(left),
                    term,
                    block,
                )
            else:
                session.run("DELETE FROM query_posting WHERE term = ? AND block = ?", term, block)
