"""Tally: nothing is lost, whether events flood or the log is away."""

import asyncio
from collections import Counter
from typing import cast

from cryptosvc.core.errors import Unavailable
from cryptosvc.flow.observe import Observer
from cryptosvc.flow.ports import Ledger
from cryptosvc.service.handshakes import HandshakeReader
from cryptosvc.service.tally import Event, Tally
from tests.service_stand import StandClock, StandLedger, until


def _tally(ledger: StandLedger, singly: int, window_seconds: float) -> Tally:
    observer = Observer(cast("Ledger", ledger), StandClock())
    return Tally(observer, "handshake-failed", "connect", singly=singly, window_seconds=window_seconds)


def _recorded(ledger: StandLedger) -> Counter[str]:
    counts: Counter[str] = Counter()
    for entry in ledger.observed("handshake-failed"):
        counts[entry.facts["reason"]] += int(entry.facts["count"])
    return counts


async def test_a_flood_becomes_a_few_entries_that_count_it_all():
    ledger = StandLedger()
    tally = _tally(ledger, singly=3, window_seconds=0.1)
    running = asyncio.ensure_future(tally.run())
    for number in range(1000):
        tally.add(Event("expired" if number % 4 else "untrusted", f"peer-{number}"))
    await until(lambda: _recorded(ledger) == {"expired": 750, "untrusted": 250})
    assert len(ledger.recorded) == 5
    assert [entry.withheld for entry in ledger.observed("handshake-failed")][:3] == [
        {"peer": "peer-0"},
        {"peer": "peer-1"},
        {"peer": "peer-2"},
    ]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert len(ledger.recorded) == 5


async def test_what_happens_while_the_log_is_away_is_recorded_when_it_is_back():
    ledger = StandLedger()
    ledger.failing = Unavailable("gone", rule="store/gone")
    tally = _tally(ledger, singly=2, window_seconds=0.05)
    running = asyncio.ensure_future(tally.run())
    for _ in range(10):
        tally.add(Event("expired", "p"))
    await asyncio.sleep(0.15)
    assert ledger.recorded == []
    ledger.failing = None
    await until(lambda: _recorded(ledger) == {"expired": 10})
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_the_last_events_are_recorded_when_the_worker_ends():
    ledger = StandLedger()
    tally = _tally(ledger, singly=1, window_seconds=60.0)
    running = asyncio.ensure_future(tally.run())
    await asyncio.sleep(0)
    for _ in range(4):
        tally.add(Event("closed", "p"))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert _recorded(ledger) == {"closed": 4}


def test_lines_of_others_pass_and_a_client_s_handshake_is_not_the_server_s():
    found: list[Event] = []
    reader = HandshakeReader(found.append)
    prefix = b"I1122 20:48:51.123535   12420 handshaker.cc:155] "
    step = prefix + b"CallNextHandshakerLocked: error="
    args = b" shutdown=false index=2, args={grpc.internal.endpoint_peer_address=ipv4:192.0.2.1:9, "
    lines = [
        b"Traceback (most recent call last):",
        step + b"OK shutdown=false index=1, args={grpc.internal.server_credentials=0x1}",
        step + b"UNKNOWN: Tls handshake failed: CERTIFICATE_VERIFY_FAILED: certificate has expired",
        args + b"}",
        step + b"UNKNOWN: Ssl handshake failed: CERTIFICATE_VERIFY_FAILED: certificate has expired",
        args + b"grpc.internal.server_credentials=0x1}",
        b"W1122 20:48:51.123535   12420 other.cc:1] something else",
        b"",
    ]
    assert [reader.line(line) for line in lines] == [True, False, False, False, False, False, True, True]
    assert found == [Event("expired", "ipv4:192.0.2.1:9")]
