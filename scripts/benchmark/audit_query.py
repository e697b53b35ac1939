"""Queries: the first page of an answer from a short log and from a long one, and what filling the index costs.

Two stores on SQLite, or the PostgreSQL database of `--store` and one of the same name and `_short` beside it. Both logs
end 500 entries after the last indexed block, so that both read a tail of the same length. They are asked in turns, by
searchers opened after both were filled, for the same places of a block: whatever else the machine does is done to
both. Devices are named ten times each, spread over the whole log; keys all the time, now and then, or never.
"""

import asyncio
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import islice, product
from pathlib import Path

import psycopg
import psycopg.sql
from long_log import CALLER, ORIGIN, HeadKey

from cryptosvc.adapters.clock import SystemClock
from cryptosvc.adapters.store.engine import migrate, open_store
from cryptosvc.adapters.store.heads import HeadKeeper
from cryptosvc.adapters.store.indexer import Indexer, index_store
from cryptosvc.adapters.store.ledger import Ledger
from cryptosvc.adapters.store.postings import BLOCK
from cryptosvc.adapters.store.search import Searcher
from cryptosvc.core.case import Principal
from cryptosvc.core.names import CallerId, UnixNanoseconds
from cryptosvc.core.query import Query
from cryptosvc.core.record import Observed, Scope

SHORT_BLOCKS = 9
TAIL = 500
GROUP = 1024
PAGE = 5
ROUNDS = 10
"""With connections of their own: where the machine's scheduler puts them does not decide."""
RUNS = 12
"""Of a question in a round."""
PREPARED_SECONDS = 0.1
RECORDED = 49_152
"""Entries recorded in each turn, alone and beside the indexer."""
BEGAN = 2_000_000_000_000_000_000
"""Later than the genesis entry, whose time is the clock's: one entry of a block in another year spreads its time."""
STEP = 100_000_000
"""Nanoseconds between entries."""
PER_DEVICE = 10
SPREAD = 7919
"""Devices follow each other in steps of this, so that each is named as often as any other, all over the log."""
SCOPE = Scope(system="bench", environment="test", worker="bench/0", software="bench")


@dataclass(frozen=True, slots=True)
class Pages:
    """Milliseconds of a first page, lowest tenth (others use the machine too): from the short log, from the long."""

    asked: str
    short: float
    long: float

    @property
    def ratio(self) -> float:
        """How much longer it takes in the long log."""
        return self.long / self.short


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was measured.

    Args:
        pages: by question.
        entries: of the long log.
        index_microseconds: processor time to index an entry.
        records_ratio: entries recorded a second while the index is filled beside, by another process, to those without.

    """

    pages: Sequence[Pages]
    entries: int
    index_microseconds: float
    records_ratio: float


def run(folder: Path, entries: int, store: str = "") -> Outcome:
    """Measure.

    Args:
        folder: scratch.
        entries: length of the long log.
        store: URL of an empty PostgreSQL database, whose role may make another beside it; empty for SQLite.

    """
    return asyncio.run(_run(store or f"sqlite:///{folder}/query.db", entries))


async def _run(url: str, entries: int) -> Outcome:
    blocks = max(entries // BLOCK, 3 * SHORT_BLOCKS)
    urls = short_url(url), url
    sizes = [count * BLOCK + TAIL for count in (SHORT_BLOCKS, blocks)]
    with ExitStack() as stack:
        if not url.startswith("sqlite:"):
            stack.enter_context(_database(url, urls[0]))
        ledgers = [_ledger(one) for one in urls]
        spent = 0.0
        try:
            for ledger, one, size in zip(ledgers, urls, sizes, strict=True):
                spent = await _filled(ledger, one, size)
            stands = [Stand(*both) for both in zip(urls, sizes, [one.keeper for one in ledgers], strict=True)]
            pages = await first_pages(stands)
            ratio = await _beside(ledgers[1], url, sizes[1])
        finally:
            for ledger in ledgers:
                await ledger.close()
    return Outcome(pages, sizes[1], spent, ratio)


def short_url(url: str) -> str:
    """Where the short log is when the long one is here."""
    database, mark, options = url.partition("?")
    return f"{database}_short{mark}{options}"


@contextmanager
def _database(url: str, short: str) -> Iterator[None]:
    """The database of the short log, for as long as it is needed."""
    name = psycopg.sql.Identifier(short.partition("?")[0].rpartition("/")[2])
    with psycopg.connect(url.replace("postgresql+psycopg://", "postgresql://", 1), autocommit=True) as server:
        server.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(name))
        try:
            yield
        finally:
            server.execute(psycopg.sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def _ledger(url: str) -> Ledger:
    migrate(url)
    return Ledger(
        open_store(url), origin=ORIGIN, scope=SCOPE, clock=SystemClock(), authenticator=HeadKey(), anchor=None
    )


async def _filled(ledger: Ledger, url: str, size: int) -> float:
    """Record a log of a size while another process fills the index; microseconds of processor that took for an entry."""
    await ledger.initialise()
    blocks = str(size // BLOCK)
    with subprocess.Popen([sys.executable, __file__, url, blocks], stdout=subprocess.PIPE) as filler:
        try:
            made = _entries(1, size, size)
            while some := list(islice(made, GROUP)):
                await ledger.record(some)
            await ledger.maintain()
            told, _ = await asyncio.to_thread(filler.communicate)
        except BaseException:
            filler.kill()
            raise
    return float(told)


def _entries(start: int, stop: int, size: int) -> Iterator[Observed]:
    """Entries `start` up to `stop` of a log of `size`."""
    devices = _devices(size)
    for number in range(start, stop):
        caller = replace(CALLER, caller_id=CallerId(f"caller-{number % 3}"))
        yield Observed(
            kind="explain",
            operation="explain",
            at=UnixNanoseconds(BEGAN + number * STEP),
            time_quality="synchronised",
            principal=Principal(caller=caller, peer="ipv4:127.0.0.1:1"),
            facts={"key": f"key-{number % 2}", "message_code": "0068", "rule": _rare(number)},
            withheld={
                "target": device(size, number * SPREAD % devices),
                "user_id": "90-B3-D5-1F-30-01-00-00",
            },
        )


def _rare(number: int) -> str:
    return "rare/one" if number % 501 == 0 else "common/one"


def _devices(size: int) -> int:
    """How many a log has: an even number, so each is always used with the same key."""
    return size // PER_DEVICE // 2 * 2


def device(size: int, number: int) -> str:
    """A device of the log of a size."""
    return f"{size}-{number}"


@dataclass(frozen=True, slots=True)
class Stand:
    """A log to ask: where it is, how many entries it has, and who verifies its head."""

    url: str
    size: int
    keeper: HeadKeeper

    def opened(self) -> Searcher:
        """A searcher that knows nothing yet."""
        return Searcher(open_store(self.url), index_store(self.url), self.keeper)

    def query(self, asked: str, chance: random.Random, *, oldest_first: bool) -> Query:
        """One of these questions."""
        # an even entry, so one of key-0, and so are all entries of its device
        named = device(self.size, 2 * chance.randrange(1, self.size // 2) * SPREAD % _devices(self.size))
        conditions = {
            "key": {"key": [f"key-{chance.randrange(2)}"]},
            "caller": {"caller": [f"caller-{chance.randrange(3)}"]},
            "device": {"target": [named]},
            "rule, one in 501": {"rule": ["rare/one"]},
            "key and device": {"key": ["key-0"], "target": [named]},
            "key never used": {"key": [f"absent-{chance.random()}"]},
        }
        if asked in conditions:
            return Query.of(conditions[asked], oldest_first=oldest_first)
        # 1,000 entries from the middle of a block on: what of the block is before them is looked at too
        start = BEGAN + (BLOCK // 2 + BLOCK * chance.randrange(self.size // BLOCK - 2)) * STEP
        return Query.of({}, start=start, stop=start + 1000 * STEP, oldest_first=oldest_first)


ASKED = (
    "key",
    "caller",
    "device",
    "rule, one in 501",
    "key and device",
    "key never used",
    "time range",
)


async def first_pages(stands: Sequence[Stand]) -> list[Pages]:
    """Time the first page of every question, in rounds with searchers of their own."""
    chance = random.Random(1)  # noqa: S311 - nothing secret
    times: dict[str, list[list[float]]] = {}
    for _ in range(ROUNDS):
        searchers = [stand.opened() for stand in stands]
        for searcher in searchers:
            searcher.prepare()  # as a worker does when it starts,
        await asyncio.sleep(PREPARED_SECONDS)  # seconds before anybody asks it
        for oldest_first, asked in product((False, True), ASKED):
            both = times.setdefault(f"{asked}, {'oldest' if oldest_first else 'newest'} first", [[], []])
            for run in range(RUNS):
                for at in (0, 1) if run % 2 else (1, 0):
                    query = stands[at].query(asked, chance, oldest_first=oldest_first)
                    both[at].append(await _milliseconds(searchers[at], query))
        for searcher in searchers:
            searcher.close()
    return [Pages(name, *map(_low, both)) for name, both in times.items()]


def _low(times: Sequence[float]) -> float:
    return statistics.quantiles(times, n=10)[0]


async def _milliseconds(searcher: Searcher, query: Query) -> float:
    started = time.perf_counter()
    await searcher.page(query, None, PAGE)
    return (time.perf_counter() - started) * 1000


async def _beside(ledger: Ledger, url: str, at: int) -> float:
    """Records a second with another process filling the index, to those without: taken in turns."""
    alone: list[float] = []
    beside: list[float] = []
    for _ in range(3):
        alone.append(await _recording(ledger, at))
        filler = subprocess.Popen([sys.executable, __file__, url], stdout=subprocess.PIPE)
        assert filler.stdout is not None
        try:
            filler.stdout.readline()  # it has started
            beside.append(await _recording(ledger, at))
        finally:
            filler.terminate()
            filler.wait()
    return statistics.median(beside) / statistics.median(alone)


async def _recording(ledger: Ledger, at: int) -> float:
    items = list(_entries(at, at + RECORDED, at))
    started = time.perf_counter()
    for start in range(0, len(items), GROUP):
        await ledger.record(items[start : start + GROUP])
    return len(items) / (time.perf_counter() - started)


def _fill_for_ever(url: str) -> None:
    """As the chore of a worker does it."""
    indexer = Indexer(open_store(url), index_store(url))
    while True:
        indexer.step()
        print("a step", flush=True)
        time.sleep(0.5)


def _fill(url: str, blocks: int) -> None:
    """Fill the index up to so many blocks, while they are recorded; print microseconds of processor for an entry."""
    indexer = Indexer(open_store(url), index_store(url))
    spent, done = 0.0, 0
    while done < blocks:
        before = time.process_time()
        added = indexer.step(16)
        if added:
            spent, done = spent + time.process_time() - before, done + added
        else:
            time.sleep(0.2)
    indexer.close()
    print(spent * 1e6 / (blocks * BLOCK))


if __name__ == "__main__":
    if len(sys.argv) > 2:  # with how many blocks to fill
        _fill(sys.argv[1], int(sys.argv[2]))
    else:
        _fill_for_ever(sys.argv[1])
