"""Queries: the first page of an answer from a short log and from a long one, and what filling the index costs.

One store on SQLite, or on the PostgreSQL database of `--store`. Both logs end 500 entries after the last indexed block,
so that both read a tail of the same length. Devices are named ten times each, spread over the whole log; keys all the
time, now and then, or never.
"""

import asyncio
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from long_log import CALLER, ORIGIN, HeadKey

from cryptosvc.adapters.clock import SystemClock
from cryptosvc.adapters.store.engine import migrate, open_store
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
GROUP = 256
PAGE = 5
RUNS = 40
RECORDED = 49_152
"""Entries recorded in each turn, alone and beside the indexer."""
BEGAN = 1_700_000_000_000_000_000
STEP = 100_000_000
"""Nanoseconds between entries."""
PER_DEVICE = 10
SPREAD = 7919
"""Devices follow each other in steps of this, so that each is named as often as any other, all over the log."""
SCOPE = Scope(system="bench", environment="test", worker="bench/0", software="bench")


@dataclass(frozen=True, slots=True)
class Pages:
    """Milliseconds of a first page, lower quartile (others use the machine too), by question; short log and long."""

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
        store: URL of an empty PostgreSQL database; empty for SQLite.

    """
    return asyncio.run(_run(store or f"sqlite:///{folder}/query.db", entries))


async def _run(url: str, entries: int) -> Outcome:
    migrate(url)
    ledger = Ledger(
        open_store(url), origin=ORIGIN, scope=SCOPE, clock=SystemClock(), authenticator=HeadKey(), anchor=None
    )
    await ledger.initialise()
    searcher = Searcher(open_store(url), index_store(url), ledger.keeper)
    indexer = Indexer(open_store(url), index_store(url))
    blocks = max(entries // BLOCK, 3 * SHORT_BLOCKS)
    spent = 0.0
    timed: list[dict[str, float]] = []
    try:
        at = 1
        for size in (SHORT_BLOCKS * BLOCK + TAIL, blocks * BLOCK + TAIL):
            made = _entries(at, size, size)
            while some := list(islice(made, GROUP)):
                await ledger.record(some)
            at = size
            before = time.process_time()
            while await asyncio.to_thread(indexer.step):
                pass
            spent = (time.process_time() - before) / size
            timed.append(await _questions(searcher, size))
        ratio = await _beside(ledger, url, at)
    finally:
        searcher.close()
        indexer.close()
        await ledger.close()
    short, long = timed
    pages = [Pages(asked, short[asked], long[asked]) for asked in short]
    return Outcome(pages, blocks * BLOCK + TAIL, spent * 1e6, ratio)


def _entries(start: int, stop: int, size: int) -> Iterator[Observed]:
    """Entries `start` up to `stop` of a log of `size`."""
    devices = size // PER_DEVICE
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


def device(size: int, number: int) -> str:
    """A device of the log of a size."""
    return f"{size}-{number}"


async def _questions(searcher: Searcher, size: int) -> dict[str, float]:
    """Milliseconds of a first page by question, lower quartile."""
    chance = random.Random(size)  # noqa: S311 - nothing secret
    devices = size // PER_DEVICE
    found: dict[str, float] = {}
    for oldest_first in (False, True):
        end = "oldest" if oldest_first else "newest"
        questions = {
            "key": lambda: {"key": [f"key-{chance.randrange(2)}"]},
            "caller": lambda: {"caller": [f"caller-{chance.randrange(3)}"]},
            "device": lambda: {"target": [device(size, chance.randrange(devices))]},
            "rule, one in 501": lambda: {"rule": ["rare/one"]},
            "key and device": lambda: {"key": ["key-0"], "target": [device(size, chance.randrange(devices))]},
            "key never used": lambda: {"key": [f"absent-{chance.random()}"]},
        }
        for asked, conditions in questions.items():
            query = [Query.of(conditions(), oldest_first=oldest_first) for _ in range(RUNS)]
            found[f"{asked}, {end} first"] = await _first_page(searcher, query)
        ranges = []
        for _ in range(RUNS):
            start = BEGAN + chance.randrange(size - 2000) * STEP
            ranges.append(Query.of({}, start=start, stop=start + 1000 * STEP, oldest_first=oldest_first))
        found[f"time range, {end} first"] = await _first_page(searcher, ranges)
    return found


async def _first_page(searcher: Searcher, queries: Sequence[Query]) -> float:
    times: list[float] = []
    for query in queries:
        started = time.perf_counter()
        await searcher.page(query, None, PAGE)
        times.append((time.perf_counter() - started) * 1000)
    return statistics.quantiles(times, n=4)[0]


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


if __name__ == "__main__":
    _fill_for_ever(sys.argv[1])
