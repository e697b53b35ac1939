"""Measure the service as ratios in one run on one machine. See `scripts/bench --help`."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import audit_query
import audit_report
import device_keys
import floor
import long_log
import macs
import record_cost
import transfer_rows
from bench_deployment import KEY_ID, REPOSITORY, USER_ID, USER_ROLE, VARIANT, Deployment
from load import Order
from measure import Measured, children, under_load

HISTORY = REPOSITORY / ".bench" / "history.jsonl"
CORES = os.cpu_count() or 1


@dataclass
class Figure:
    """One figure: what was measured, what it must reach, and how it was measured.

    Args:
        name: what.
        value: the figure.
        bound: what it is held to; `at_most` says from which side. None where it is only printed.
        conditions: batch size, channels, who shares the cores.

    """

    name: str
    value: float
    bound: float | None
    conditions: str
    at_most: bool = False

    @property
    def holds(self) -> bool:
        """Whether the bound is kept."""
        if self.bound is None:
            return True
        return self.value <= self.bound if self.at_most else self.value >= self.bound


@dataclass
class Bench:
    """One run of the bench.

    Args:
        folder: scratch.
        seconds: length of each measurement.
        soak: length of the memory measurement.

    """

    folder: Path
    seconds: float
    soak: float
    log_entries: int
    device_keys: int
    query_entries: int = 300_000
    store: str = ""
    figures: list[Figure] = field(default_factory=list)
    counter: int = 1

    def say(self, figure: Figure) -> None:
        """Keep and print a figure."""
        self.figures.append(figure)
        sign = "≤" if figure.at_most else "≥"
        bound = (
            ""
            if figure.bound is None
            else f"  (wanted {sign} {figure.bound:g}: {'yes' if figure.holds else 'NO'})"
        )
        print(f"{figure.name:<58} {figure.value:>10.3f}{bound}\n    {figure.conditions}", flush=True)

    def load(
        self,
        deployment: Deployment,
        workers: list[int],
        mode: str,
        *,
        processes: int,
        concurrency: int,
        channels: int,
        batch: int = 64,
        per_second: int = 26_000,
        seconds: float | None = None,
        target: str | None = None,
    ) -> Measured:
        """Load the service (or, with `target`, something else) and measure its workers."""
        seconds = seconds or self.seconds
        each = int(per_second * seconds / processes) // batch * batch
        payloads = self.folder / "payloads"
        deployment.payloads(payloads, each * processes, self.counter)
        self.counter += each * processes
        tls = deployment.folder / "tls"
        order = Order(
            target=target or deployment.target,
            ca=str(tls / "ca.pem"),
            certificate=str(tls / "caller.pem"),
            private_key=str(tls / "caller.key"),
            mode=mode,
            payloads=str(payloads),
            first=0,
            count=each,
            key_id=KEY_ID,
            variant=VARIANT,
            user_id=USER_ID,
            user_role=USER_ROLE,
            batch=batch,
            concurrency=concurrency,
            channels=channels,
            seconds=seconds,
        )
        measured = under_load([replace(order, first=index * each) for index in range(processes)], workers)
        if measured.errors or not measured.signed:
            raise SystemExit(f"the {mode} run did not go clean: {measured.errors or 'nothing was signed'}")
        return measured

    def deployment(self, name: str, **settings: object) -> Deployment:
        """A fresh deployment."""
        made = Deployment(self.folder / name, **settings)
        made.make()
        return made


def signing(bench: Bench) -> None:
    """Batch, stream, unary, one client, scaling, memory: SoftHSM2 and SQLite, defaults."""
    deployment = bench.deployment("signing")
    alone = floor.measure(deployment, 1)
    work = floor.measure(deployment, CORES)
    for one, how in ((alone, "one process alone"), (work, f"{CORES} processes at once, as the service runs")):
        bench.say(
            Figure(f"floor, {how}: raw C_Sign, CPU µs", one.sign_us, None, "C program on the same token")
        )
        bench.say(Figure(f"floor, {how}: raw verification, CPU µs", one.verify_us, None, one.verify_how))
    shared = f"{CORES} workers on {CORES} cores, load generators share the cores"
    workers = deployment.start(CORES)
    try:
        bench.load(deployment, workers, "batch", processes=2, concurrency=4, channels=16, seconds=2)  # warm
        batch = bench.load(
            deployment, workers, "batch", processes=2, concurrency=8, channels=16, per_second=36000
        )
        work = floor.measure(deployment, CORES).mean(work)
        conditions = (
            f"batch of 64, 2 processes × 8 calls × 16 channels; {shared}; {batch.rate:.0f} signatures/s, "
        )
        conditions += f"{batch.cpu_us:.0f} µs CPU each"
        bench.say(
            Figure(
                "batch: floor work / service CPU per signature",
                work.total_us / batch.cpu_us,
                0.65,
                conditions,
            )
        )
        stream = bench.load(
            deployment, workers, "stream", processes=2, concurrency=16, channels=16, per_second=36000
        )
        conditions = f"frames of 64, 2 processes × 16 streams; {shared}; {stream.rate:.0f}/s, {stream.cpu_us:.0f} µs CPU each"
        bench.say(
            Figure(
                "stream: floor work / service CPU per signature",
                work.total_us / stream.cpu_us,
                0.40,
                conditions,
            )
        )
        thin = bench.load(deployment, workers, "stream", processes=2, concurrency=32, channels=16, batch=1)
        conditions = f"frames of 1, 2 processes × 32 streams; {shared}; {thin.rate:.0f}/s, {thin.cpu_us:.0f} µs CPU each"
        bench.say(
            Figure(
                "stream, one request a frame: floor / service CPU",
                work.total_us / thin.cpu_us,
                None,
                conditions,
            )
        )
        unary = bench.load(deployment, workers, "unary", processes=2, concurrency=32, channels=16)
        many = bench.load(
            deployment, workers, "batch", processes=4, concurrency=4, channels=16, per_second=36000
        )
        one = bench.load(
            deployment, workers, "client", processes=1, concurrency=16, channels=16, per_second=36000
        )
        conditions = (
            f"batch of 64; {one.rate:.0f}/s by one AsyncClient, {many.rate:.0f}/s by 4 processes; {shared}"
        )
        bench.say(Figure("one client process / many", one.rate / many.rate, 0.8, conditions))
        soak = (
            bench.load(
                deployment,
                workers,
                "batch",
                processes=1,
                concurrency=8,
                channels=16,
                seconds=bench.soak,
                per_second=18000,
            )
            if bench.soak
            else batch
        )
        conditions = f"under batch load for {soak.seconds:.0f} s, each worker: " + ", ".join(
            f"{peak:.0f}" for peak in soak.resident
        )
        conditions += f"; besides, {soak.index:.0f} MiB of the index file, which all workers share"
        bench.say(
            Figure("resident memory of a worker, MiB", max(soak.resident), 200, conditions, at_most=True)
        )
        if bench.soak:
            conditions = (
                f"most in the last sixth of {soak.seconds:.0f} s over most in the second; {soak.rate:.0f}/s"
            )
            bench.say(
                Figure("resident memory, growth of a worker", soak.growth, 1.05, conditions, at_most=True)
            )
    finally:
        deployment.stop()
    empty = against_empty(bench, deployment)
    conditions = f"concurrency 64 over 2 processes × 16 channels; {unary.rate:.0f}/s against {empty.rate:.0f}/s; {shared}"
    bench.say(Figure("unary / empty grpc.aio server", unary.rate / empty.rate, 0.50, conditions))
    alone = deployment.start(1)
    try:
        single = bench.load(
            deployment, alone, "batch", processes=1, concurrency=8, channels=8, per_second=18000
        )
    finally:
        deployment.stop()
    # client CPU apart: what N workers sign per core they had, against one worker; idle cores count against them
    used = min(1.0, (batch.service_cpu + batch.client_cpu) / (batch.seconds * CORES))
    factor = CORES * used * single.cpu_us / batch.cpu_us
    conditions = f"{single.cpu_us:.0f} µs CPU per signature in 1 worker, {batch.cpu_us:.0f} in {CORES}; "
    conditions += f"client CPU apart; {100 * used:.0f} % of the cores were busy"
    bench.say(Figure(f"scaling 1 → {CORES} workers", factor, 0.75 * CORES, conditions))


def against_empty(bench: Bench, deployment: Deployment) -> Measured:
    """The same unary load on the empty server."""
    tls = deployment.folder / "tls"
    server = subprocess.Popen(
        [
            sys.executable,
            str(Path(__file__).with_name("empty_server.py")),
            str(deployment.port),
            str(CORES),
            str(tls / "ca.pem"),
            str(tls / "server.pem"),
            str(tls / "server.key"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    server.stdout.readline()
    try:
        workers = children(server.pid)
        return bench.load(
            deployment, workers, "empty", processes=2, concurrency=32, channels=16, per_second=36000
        )
    finally:
        server.stdin.close()
        server.wait(20)


def slow_module(bench: Bench) -> None:
    """A module that takes 2 ms a call, as a network HSM does."""
    deployment = bench.deployment("slow", sessions=8)
    deployment.library = floor.slow_module(bench.folder)
    workers = deployment.start(1)
    try:
        possible = 8 / 0.002
        for mode, concurrency, batch in (("batch", 8, 64), ("unary", 64, 1)):
            run = bench.load(
                deployment,
                workers,
                mode,
                processes=1,
                concurrency=concurrency,
                channels=8,
                batch=batch,
                per_second=6000,
            )
            conditions = f"{mode}, {concurrency} calls of {batch}; 2 ms a call, 8 sessions, 1 worker; {run.rate:.0f}/s of {possible:.0f}/s"
            # single calls are bound by the one worker's processor before such a module is: that takes two workers
            bound = 0.9 if batch > 1 else None
            bench.say(Figure(f"module of 2 ms kept busy, {mode}", run.rate / possible, bound, conditions))
    finally:
        deployment.stop()


def log(bench: Bench) -> None:
    """Appending to a long log, and verifying it."""
    found = long_log.measure(bench.folder / "log", bench.log_entries)
    conditions = f"{found.entries} entries; {found.empty_us:.1f} µs CPU per claim and record when empty, {found.full_us:.1f} then; 64 a commit"
    bench.say(
        Figure(
            "append to a long log / to an empty one",
            found.full_us / found.empty_us,
            1.1,
            conditions,
            at_most=True,
        )
    )
    conditions = f"{found.entries} entries, {CORES} processes, nothing else running"
    bench.say(Figure("verification, entries/s", found.verified_per_second, 200_000, conditions))


def devices(bench: Bench) -> None:
    """Keys of SMETS1 Devices: a thousand against many, and the import of many."""
    found = device_keys.measure(bench.folder / "devices", bench.device_keys, CORES)
    for name, few, many in (
        ("cold", found.few_cold_us, found.many_cold_us),
        ("warm", found.few_warm_us, found.many_warm_us),
    ):
        bench.say(
            Figure(
                f"a device key among many / among {device_keys.FEW}, {name}",
                many / few,
                1.2,
                f"{found.keys} keys; median of finding one, opening it and encrypting a request: {few:.1f} µs then {many:.1f} µs, SoftHSM2, SQLite",
                at_most=True,
            )
        )
    conditions = f"{found.keys} keys, {CORES} processes, SoftHSM2, SQLite, nothing else running"
    bench.say(Figure("import of device keys, keys/s", found.imported_per_second, 5000, conditions))


def moving(bench: Bench) -> None:
    """Keys of SMETS1 Devices to another system."""
    found = transfer_rows.measure(bench.folder / "moving", bench.device_keys, CORES)
    seconds = found.packing_seconds + found.taking_seconds
    conditions = (
        f"{found.keys} keys, {CORES} processes, SoftHSM2, SQLite: packed in {found.packing_seconds:.0f} s, taken in in "
        f"{found.taking_seconds:.0f} s; {found.octets >> 20} MiB on the way"
    )
    name, million = "seconds for a million device keys to another system", 1_000_000 / found.keys
    bench.say(Figure(name, seconds * million, 600.0, conditions, at_most=True))
    conditions = (
        f"resident {found.tenth_mib:.0f} MiB after a tenth of either half, {found.end_mib:.0f} at the end"
    )
    ratio = found.end_mib / found.tenth_mib
    bench.say(Figure("memory of that, at the end / after a tenth", ratio, 1.2, conditions, at_most=True))


def commands(bench: Bench) -> None:
    """MACs of Commands against the module's own work."""
    found = macs.measure(bench.folder / "macs", max(20, int(4 * bench.seconds)))
    bench.say(
        Figure(
            "service CPU of a MAC / raw derivation and GMAC",
            found.ratio,
            2.0,
            f"{found.macs} Commands in batches of {macs.BATCH}, 1 worker, SoftHSM2 (derives in the service), the raw program with its allocator as it comes: "
            f"{found.service_us:.0f} µs against {found.raw_us:.0f} µs",
            at_most=True,
        )
    )


def queries(bench: Bench) -> None:
    """Queries: the first page from a long log against a short one, and the index beside the records."""
    folder = bench.folder / "queries"
    folder.mkdir()
    found = audit_query.run(folder, bench.query_entries, bench.store)
    for one in found.pages:
        conditions = f"{found.entries} entries; {one.short:.2f} ms then {one.long:.2f} ms, lowest tenth"
        name = f"first page, {one.asked}"
        bench.say(Figure(name, one.ratio, 1.5, conditions, at_most=True))
    conditions = (
        f"{found.index_microseconds:.1f} µs of processor for an entry; another process fills the index"
    )
    bench.say(Figure("records while the index is filled / without", found.records_ratio, 0.9, conditions))


def recording(bench: Bench) -> None:
    """What the query index and the commitments add to a signature."""

    def load(workers: list[int]) -> Measured:
        return bench.load(
            deployment, workers, "batch", processes=2, concurrency=8, channels=16, per_second=36000
        )

    deployment = bench.deployment("recording")
    found = record_cost.measure(deployment, CORES, load)
    conditions = (
        f"batch of 64, medians of {record_cost.ROUNDS} turns; {found.bare_us:.0f} µs CPU a signature with nothing indexed, "
        f"{found.indexed_us:.0f} with all of it; commitments of an entry {found.commitments_us:.1f} µs"
    )
    bench.say(
        Figure("signature with index and commitments / without", found.ratio, 1.10, conditions, at_most=True)
    )


def reports(bench: Bench) -> None:
    """Reports: how long one on a long log takes, and what memory that wants."""
    folder = bench.folder / "reports"
    folder.mkdir()
    found = audit_report.run(folder, bench.log_entries)
    conditions = f"{bench.log_entries} entries verified and counted by one process"
    bench.say(Figure("seconds for a report", found.seconds, 60.0, conditions, at_most=True))
    conditions = (
        f"peak of {found.memory >> 20} MiB; {audit_report.SHORT} entries take {found.short_memory >> 20} MiB"
    )
    ratio = found.memory / found.short_memory
    bench.say(Figure("memory of a report, long log / short", ratio, 1.2, conditions, at_most=True))


SECTIONS: dict[str, Callable[[Bench], None]] = {
    "signing": signing,
    "slow-module": slow_module,
    "log": log,
    "devices": devices,
    "device-transfer": moving,
    "macs": commands,
    "audit-query": queries,
    "audit-report": reports,
    "record-cost": recording,
}


def main() -> None:
    """Run the sections asked for."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument(
        "sections", nargs="*", choices=[*SECTIONS, []], help="all of them where none is named"
    )
    parser.add_argument("--seconds", type=float, default=8, help="length of each measurement (default 8)")
    parser.add_argument(
        "--soak", type=float, default=0, help="seconds of load for the memory figure; 600 for the whole of it"
    )
    parser.add_argument(
        "--log-entries", type=int, default=1_000_000, help="length of the long log (default a million)"
    )
    parser.add_argument(
        "--device-keys", type=int, default=1_000_000, help="how many many device keys are (default a million)"
    )
    parser.add_argument(
        "--query-entries",
        type=int,
        default=300_000,
        help="length of the log that is queried (default 300,000)",
    )
    parser.add_argument(
        "--store", default="", help="URL of an empty PostgreSQL database for audit-query (default SQLite)"
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON at the end")
    parser.add_argument("--keep", action="store_true", help="leave the scratch folder")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="cryptosvc-bench-"))
    bench = Bench(
        folder,
        arguments.seconds,
        arguments.soak,
        arguments.log_entries,
        arguments.device_keys,
        arguments.query_entries,
        arguments.store,
    )
    try:
        for name in arguments.sections or SECTIONS:
            SECTIONS[name](bench)
    finally:
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)
    document = {
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip(),
        "cores": CORES,
        "figures": {figure.name: round(figure.value, 4) for figure in bench.figures},
        "conditions": {figure.name: figure.conditions for figure in bench.figures},
        "missed": [figure.name for figure in bench.figures if not figure.holds],
    }
    HISTORY.parent.mkdir(exist_ok=True)
    with HISTORY.open("a") as history:
        history.write(json.dumps(document) + "\n")
    if arguments.json:
        print(json.dumps(document, indent=2))
    if document["missed"]:
        raise SystemExit(f"missed: {', '.join(document['missed'])}")


if __name__ == "__main__":
    main()
