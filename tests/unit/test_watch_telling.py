"""Telling of alarms: both forms, over real sockets on loopback, at least once and in order."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from cryptosvc.adapters.receivers import Syslog, Webhook
from cryptosvc.core.errors import Unavailable
from cryptosvc.core.names import UnixNanoseconds
from cryptosvc.core.record import Observed
from cryptosvc.core.watch.alarm import Alarm, alarm_of
from cryptosvc.core.watch.defaults import DEFAULT_RULES
from cryptosvc.core.watch.finding import Sender, cef, ocsf
from cryptosvc.flow.tell import Teller
from tests.fakes.ledger import FakeLedger
from tests.fakes.search import FakeSearch
from tests.store_stand import SCOPE, SetClock

AT = 1_700_000_000
SENDER = Sender("a.example/log", "supplier", "test", "1.0")
RULES = {one.name: one for one in DEFAULT_RULES}


def an_alarm(first: int = 3, name: str = "refused-purpose", group: str = "k|1=\\x") -> Alarm:
    return alarm_of(RULES[name], group, (first, first + 1), 2, AT)


def form(alarm: Alarm, leaf_index: int) -> bytes:
    return ocsf(alarm, leaf_index, SENDER)


def test_an_alarm_in_ocsf_is_a_detection_finding():
    event = json.loads(ocsf(an_alarm(), 9, SENDER))
    assert {name: event[name] for name in ("class_uid", "category_uid", "activity_id", "type_uid")} == {
        "class_uid": 2004,
        "category_uid": 2,
        "activity_id": 1,
        "type_uid": 200401,
    }
    assert (event["severity_id"], event["severity"], event["time"]) == (4, "High", AT * 1000)
    assert event["metadata"]["version"] == "1.3.0"
    assert event["metadata"]["uid"] == "a.example/log#9"
    assert event["finding_info"]["uid"] == an_alarm().cause
    assert event["finding_info"]["analytic"] == {
        "name": "refused-purpose",
        "type": "Rule",
        "type_id": 1,
        "uid": "refused-purpose",
    }
    assert event["unmapped"]["clause"] == "G2.6(b)"
    assert event["unmapped"]["leaves"] == [3, 4]


def test_an_alarm_in_cef_cannot_be_broken_out_of():
    line = cef(an_alarm(group="a=b\\c\nd"), 9, SENDER).decode()
    assert line.startswith(
        f"CEF:0|cryptosvc|cryptosvc|1.0|refused-purpose|{RULES['refused-purpose'].meaning}|8|"
    )
    assert "\n" not in line
    assert line.endswith("cs4Label=key cs4=a\\=b\\\\c d")
    assert f"externalId={an_alarm().cause} cnt=2 dvchost=a.example/log cs1Label=clause cs1=G2.6(b)" in line


@contextmanager
def web(answers: list[int]) -> Iterator[tuple[str, list[bytes]]]:
    got: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.rfile.read(int(self.headers["Content-Length"])))
            assert (self.path, self.headers["Content-Type"]) == ("/alarms?x=1", "application/json")
            self.send_response(answers.pop(0) if answers else 204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/alarms?x=1", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_a_webhook_takes_what_it_answers_2xx_to():
    with web([200, 500, 302]) as (url, got):
        hook = Webhook(url, form, "application/json", 5)
        await hook.tell(an_alarm(), 9)
        assert json.loads(got[0])["finding_info"]["title"] == "refused-purpose"
        for status in (500, 302):
            with pytest.raises(Unavailable, match=f"it answered {status}"):
                await hook.tell(an_alarm(), 9)
    with pytest.raises(Unavailable, match="ConnectionRefusedError"):
        await hook.tell(an_alarm(), 9)


async def test_syslog_over_tcp_is_framed_by_its_length():
    with socket.create_server(("127.0.0.1", 0)) as server:
        receiver = Syslog("127.0.0.1", server.getsockname()[1], "tcp", form, 5)
        sending = asyncio.create_task(receiver.tell(an_alarm(), 9))
        connection, _ = await asyncio.to_thread(server.accept)
        with connection:
            octets = b""
            while part := await asyncio.to_thread(connection.recv, 65536):
                octets += part
        await sending
    length, _, message = octets.partition(b" ")
    assert int(length) == len(message)
    assert message.startswith(b"<107>1 2023-11-14T22:13:20Z ")
    assert json.loads(message[message.index(b"{") :])["class_uid"] == 2004
    with pytest.raises(Unavailable):
        await receiver.tell(an_alarm(), 9)


async def test_syslog_over_udp_is_one_datagram():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        receiver = Syslog(
            "127.0.0.1", server.getsockname()[1], "udp", lambda alarm, leaf: cef(alarm, leaf, SENDER), 5
        )
        await receiver.tell(an_alarm(), 9)
        message = server.recv(65536)
    assert b" cryptosvc - alarm - CEF:0|" in message


@dataclass
class Listener:
    """A receiver that takes what it is let to."""

    refuse: int = 0
    heard: list[tuple[int, str, str]] = field(default_factory=list)

    async def tell(self, alarm: Alarm, leaf_index: int) -> None:
        self.heard.append((leaf_index, alarm.rule, alarm.value))
        if self.refuse:
            self.refuse -= 1
            raise Unavailable("it answered 500", rule="watch/receiver")


@dataclass
class FakeMemory:
    state: bytes = b""

    def recall(self) -> bytes:
        return self.state

    def keep(self, state: bytes) -> None:
        self.state = state


@dataclass
class Scene:
    clock: SetClock = field(default_factory=lambda: SetClock(AT * 10**9))
    memory: FakeMemory = field(default_factory=FakeMemory)
    results: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ledger = FakeLedger("tell.example/log", SCOPE, self.clock)

    def teller(self, **receivers: Listener) -> Teller:
        meanings = {one.name: one.meaning for one in DEFAULT_RULES}
        return Teller(
            FakeSearch(self.ledger),
            self.ledger,
            self.clock,
            self.memory,
            receivers,
            meanings,
            lambda name, result: self.results.append((name, result)),
        )

    async def raise_one(self, alarm: Alarm) -> int:
        at = UnixNanoseconds(self.clock.at)
        entry = Observed(
            kind="alarm",
            operation=alarm.rule,
            at=at,
            time_quality="synchronised",
            facts=alarm.facts("d"),
            withheld=alarm.withheld(),
        )
        (receipt,) = await self.ledger.record([entry])
        return receipt.leaf_index


async def test_each_receiver_hears_in_order_and_one_that_fails_holds_up_no_other():
    scene = Scene()
    leaves = [await scene.raise_one(an_alarm(n)) for n in range(3)]
    good, bad = Listener(), Listener(refuse=2)
    teller = scene.teller(bad=bad, good=good)
    with pytest.raises(Unavailable, match="bad: it answered 500"):
        await teller.turn()
    assert [leaf for leaf, _, _ in good.heard] == leaves
    assert await teller.turn() == 0
    assert len(bad.heard) == 1
    scene.clock.at += 2 * 10**9
    with pytest.raises(Unavailable):
        await teller.turn()
    scene.clock.at += 4 * 10**9
    assert await teller.turn() == 3
    assert [leaf for leaf, _, _ in bad.heard] == [leaves[0], leaves[0], *leaves]
    assert len(good.heard) == 3
    assert scene.results.count(("bad", "failed")) == 2
    assert scene.results.count(("bad", "taken")) == 3


async def test_a_restart_goes_on_where_it_was_and_a_lost_place_tells_everything_again():
    scene = Scene()
    first = await scene.raise_one(an_alarm(1))
    listener = Listener()
    assert await scene.teller(siem=listener).turn() == 1
    second = await scene.raise_one(an_alarm(2))
    assert await scene.teller(siem=listener).turn() == 1
    assert await scene.teller(siem=listener).turn() == 0
    assert [leaf for leaf, _, _ in listener.heard] == [first, second]
    for state in (b"", b"nothing", b"[]", b'{"siem":99}'):
        scene.memory.state = state
        again = Listener()
        assert await scene.teller(siem=again).turn() == 2, state
    newcomer = Listener()
    assert await scene.teller(siem=Listener(), newcomer=newcomer).turn() == 2
    assert [leaf for leaf, _, _ in newcomer.heard] == [first, second]


async def test_what_the_log_withholds_is_not_told():
    scene = Scene()
    await scene.raise_one(an_alarm(name="repeated-refusals-of-caller", group="head-end-7"))
    await scene.raise_one(an_alarm(name="refused-purpose", group="some-key"))
    listener = Listener()
    assert await scene.teller(siem=listener).turn() == 2
    assert [value for _, _, value in listener.heard] == ["", "some-key"]
