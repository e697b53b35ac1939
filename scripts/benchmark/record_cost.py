"""What the query index and the commitments of entries add to a signature.

The same deployment is loaded twice in turn: once while another process holds the lead of the query index, so that nothing
is indexed, and once with it, where what is indexed after the load has ended counts as well. Commitments cannot be
switched off: they are part of the entry's format. Their cost is that of making those of one entry as the log has them,
with the function that is documented, which is slower than what the service does; it is taken from the first figure.
"""

import fcntl
import hashlib
import json
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench_deployment import Deployment
from measure import Measured, cpu_seconds

from cryptosvc.core.commitments import commitment
from cryptosvc.core.record import SALT_OCTETS

ROUNDS = 3
MADE = 20_000
_IDLE_SECONDS = 1.5
_IDLE_SHARE = 0.08
_WAIT_SECONDS = 120.0

Load = Callable[[list[int]], Measured]


@dataclass(frozen=True, slots=True)
class RecordCost:
    """CPU microseconds of a signature: with nothing indexed, with everything indexed, and of one entry's commitments."""

    bare_us: float
    indexed_us: float
    commitments_us: float

    @property
    def ratio(self) -> float:
        """With both over without either."""
        return self.indexed_us / (self.bare_us - self.commitments_us)


def measure(deployment: Deployment, cores: int, load: Load) -> RecordCost:
    """Load it in turn without and with the index; medians of `ROUNDS`."""
    bare, indexed = [], []
    for _ in range(ROUNDS):
        with _no_index(deployment.folder):
            bare.append(_cost(deployment, cores, load))
        indexed.append(_cost(deployment, cores, load))
    return RecordCost(statistics.median(bare), statistics.median(indexed), _commitments(deployment.folder))


@contextmanager
def _no_index(folder: Path) -> Iterator[None]:
    with (folder / "query-index.lock").open("w") as lead:
        fcntl.flock(lead, fcntl.LOCK_EX)
        yield


def _cost(deployment: Deployment, cores: int, load: Load) -> float:
    workers = deployment.start(cores)
    try:
        _until_idle(workers)  # what an earlier load left to be indexed
        before = cpu_seconds(workers)
        measured = load(workers)
        _until_idle(workers)
        return 1e6 * (cpu_seconds(workers) - before) / measured.signed
    finally:
        deployment.stop()


def _until_idle(workers: Sequence[int]) -> None:
    end = time.monotonic() + _WAIT_SECONDS
    while True:
        before = cpu_seconds(workers)
        time.sleep(_IDLE_SECONDS)
        if cpu_seconds(workers) - before < _IDLE_SHARE * _IDLE_SECONDS:
            return
        if time.monotonic() > end:
            raise SystemExit("the workers did not come to rest")


def _commitments(folder: Path) -> float:
    with closing(sqlite3.connect(f"file:{folder / 'cryptosvc.db'}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT withheld FROM leaf ORDER BY leaf_index DESC LIMIT 50").fetchall()
    values = max((json.loads(row[0] or b"{}") for row in rows), key=len)
    began = time.process_time()
    for _ in range(MADE):
        salts = hashlib.shake_128(b"salt of an entry").digest(SALT_OCTETS * len(values))
        for number, (name, (_, value)) in enumerate(values.items()):
            commitment(salts[SALT_OCTETS * number : SALT_OCTETS * (number + 1)], name, value)
    return 1e6 * (time.process_time() - began) / MADE
