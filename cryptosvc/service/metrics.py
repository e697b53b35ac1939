"""Prometheus metrics of a worker, and the endpoint that shows those of all workers together.

Workers are processes, so with more than one the client library's multiprocess mode is used: the supervisor sets
`PROMETHEUS_MULTIPROC_DIR` for them before they start, each writes its own files there, and the supervisor serves the
sum on a loopback port.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """What one worker counts. Labels are methods, codes and reasons: never a caller, a key or a peer.

    Args:
        registry: where the metrics are registered; a test passes its own.

    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._calls = Counter(
            "cryptosvc_calls",
            "Calls ended, by method and gRPC status.",
            ("method", "code"),
            registry=registry,
        )
        self._seconds = Histogram(
            "cryptosvc_call_seconds",
            "Time from a call's start to its end.",
            ("method",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._items = Counter(
            "cryptosvc_items",
            "Requests to sign that were answered, by outcome.",
            ("outcome",),
            registry=registry,
        )
        self._handshakes = Counter(
            "cryptosvc_handshakes_failed",
            "TLS handshakes that failed, by reason.",
            ("reason",),
            registry=registry,
        )
        self._in_work = Gauge(
            "cryptosvc_items_in_work",
            "Requests accepted and not yet answered.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._due = Gauge(
            "cryptosvc_keys_due",
            "Keys to which something happens within 90 days, or that somebody has to see to by then, by event.",
            ("event",),
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._soonest = Gauge(
            "cryptosvc_keys_due_soonest_timestamp_seconds",
            "When the first of them comes, by event; 0 where none does.",
            ("event",),
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._alarms = Counter(
            "cryptosvc_alarms",
            "Alarms written into the log, by rule and severity.",
            ("rule", "severity"),
            registry=registry,
        )
        self._behind = Gauge(
            "cryptosvc_watch_behind",
            "Entries of the log that the watch has not judged yet.",
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._told = Counter(
            "cryptosvc_alarms_told",
            "Attempts to tell a receiver of an alarm, by receiver and result (taken, failed).",
            ("receiver", "result"),
            registry=registry,
        )
        self._call_of: dict[tuple[str, str], Callable[[], None]] = {}
        self._seconds_of: dict[str, Callable[[float], None]] = {}
        self._item_of: dict[str, Callable[[float], None]] = {}

    def call(self, method: str, code: str, seconds: float) -> None:
        """Count a call that ended."""
        count = self._call_of.get((method, code))
        if count is None:
            count = self._call_of[(method, code)] = self._calls.labels(method, code).inc
        count()
        observe = self._seconds_of.get(method)
        if observe is None:
            observe = self._seconds_of[method] = self._seconds.labels(method).observe
        observe(seconds)

    def items(self, outcome: str, number: float = 1.0) -> None:
        """Count answered requests; `outcome` is `signed` or the reason, lower case."""
        count = self._item_of.get(outcome)
        if count is None:
            count = self._item_of[outcome] = self._items.labels(outcome).inc
        count(number)

    def handshake_failed(self, reason: str) -> None:
        """Count a failed handshake."""
        self._handshakes.labels(reason).inc()

    def in_work(self, items: int) -> None:
        """Set how much is in work."""
        self._in_work.set(items)

    def due(self, counts: Mapping[str, int], soonest: Mapping[str, int]) -> None:
        """Set what is coming; only the worker that has the lead knows."""
        for event, count in counts.items():
            self._due.labels(event).set(count)
            self._soonest.labels(event).set(soonest.get(event, 0))

    def alarm(self, rule: str, severity: str) -> None:
        """Count an alarm."""
        self._alarms.labels(rule, severity).inc()

    def told(self, receiver: str, result: str) -> None:
        """Count an attempt to tell a receiver of an alarm; `taken` or `failed`."""
        self._told.labels(receiver, result).inc()

    def watch_behind(self, entries: int) -> None:
        """Set how far the watch is behind the log; only the worker that has the lead knows."""
        self._behind.set(entries)


def expose(directory: Path, host: str, port: int) -> tuple[WSGIServer, int]:
    """Serve the sum of all workers' metrics over HTTP, on a thread.

    Args:
        directory: where the workers write; emptied first, since files of an earlier run would be counted again.
        host: a loopback address.
        port: 0 for any.

    Returns:
        The server (`shutdown` ends it) and its port.

    """
    directory.mkdir(parents=True, exist_ok=True)
    for left in directory.glob("*.db"):
        left.unlink()
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=os.fspath(directory))  # type: ignore[no-untyped-call]  # untyped in the library
    server, _ = start_http_server(port, addr=host, registry=registry)
    return server, server.server_port


def forget_process(directory: Path, process_id: int) -> None:
    """Drop the gauges of a worker that is gone; its counters stay in the sum."""
    mark_process_dead(process_id, os.fspath(directory))  # type: ignore[no-untyped-call]  # untyped in the library
