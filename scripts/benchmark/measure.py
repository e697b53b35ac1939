"""Clocks of the bench: what processes cost, and load generators that start together."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from load import Order

TICKS = os.sysconf("SC_CLK_TCK")
LOAD = Path(__file__).with_name("load.py")
INDEX_FILE = ".index"
"""How the name of the file with the fingerprints of SQLite's claims ends."""


def cpu_seconds(pids: Sequence[int]) -> float:
    """User and system CPU of these processes so far."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def resident_mib(pid: int) -> tuple[float, float]:
    """Resident memory of one process, MiB: its own, and what it has mapped of the index file beside the database.

    That file is one for all workers, and its pages are the kernel's to take back as those of any file; it grows with the log,
    since uniqueness is for ever.
    """
    own = mapped = 0
    of_index = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        first, _, rest = line.partition(" ")
        if not first.endswith(":"):
            of_index = line.endswith(INDEX_FILE)
        elif first == "Rss:":
            octets = int(rest.split()[0])
            own, mapped = (own, mapped + octets) if of_index else (own + octets, mapped)
    return own / 1024, mapped / 1024


def children(pid: int) -> list[int]:
    """Direct children of a process."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


@dataclass(frozen=True)
class Measured:
    """One run under load.

    Args:
        signed: signatures that came back.
        seconds: wall time of the longest generator.
        service_cpu: CPU seconds of the service's workers.
        client_cpu: CPU seconds of the generators.
        p99_ms: worst generator's 99th percentile of a call.
        errors: what went wrong, by message; must be empty.
        resident: largest resident memory of each worker seen while it ran, MiB; without the index file.
        index: most that a worker had mapped of the index file, MiB.
        growth: the largest of the last sixth of the run over the largest of the second sixth, worst worker; the first
            fills caches.

    """

    signed: int
    seconds: float
    service_cpu: float
    client_cpu: float
    p99_ms: float | None
    errors: dict[str, int]
    resident: tuple[float, ...]
    index: float
    growth: float

    @property
    def rate(self) -> float:
        """Signatures a second."""
        return self.signed / self.seconds

    @property
    def cpu_us(self) -> float:
        """CPU microseconds of the service per signature."""
        return 1e6 * self.service_cpu / max(1, self.signed)


def under_load(orders: Sequence[Order], workers: Sequence[int]) -> Measured:
    """Run the generators together and measure the workers while they do."""
    processes = [
        subprocess.Popen(
            [sys.executable, str(LOAD)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in orders
    ]
    for process, order in zip(processes, orders, strict=True):
        process.stdin.write(json.dumps(asdict(order)) + "\n")
        process.stdin.flush()
    for process in processes:
        if process.stdout.readline() != "ready\n":
            raise SystemExit("a load generator did not start")
    whole = [*workers, *(child for worker in workers for child in children(worker))]
    before = cpu_seconds(whole)
    seen: list[list[float]] = []
    mapped: list[float] = [0.0]
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.5):
            found = [resident_mib(pid) for pid in workers]
            seen.append([own for own, _ in found])
            mapped.append(max(index for _, index in found))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    results = [json.loads(process.stdout.readline()) for process in processes]
    ended.set()
    watcher.join()
    time.sleep(0.05)
    used = cpu_seconds(whole) - before
    for process in processes:
        process.wait(30)
    errors: dict[str, int] = {}
    for result in results:
        for message, count in result["errors"].items():
            errors[message] = errors.get(message, 0) + count
        if result["ran_out"]:
            errors["the generator ran out of prepared requests"] = 1
    return Measured(
        signed=sum(result["signed"] for result in results),
        seconds=max(result["seconds"] for result in results),
        service_cpu=used,
        client_cpu=sum(result["cpu_seconds"] for result in results),
        p99_ms=max((result["p99_ms"] for result in results if result["p99_ms"]), default=None),
        errors=errors,
        resident=tuple(map(max, zip(*seen, strict=True))),
        index=max(mapped),
        growth=_growth(seen),
    )


def _growth(seen: Sequence[Sequence[float]]) -> float:
    part = max(1, len(seen) // 6)
    early, late = zip(*seen[part : 2 * part], strict=True), zip(*seen[-part:], strict=True)
    return max((max(after) / max(before) for before, after in zip(early, late, strict=True)), default=1.0)
