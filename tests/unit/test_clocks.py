"""Clocks that differ are found, recorded once and alarmed; NTP is asked of real servers on loopback."""

import socket
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest

from cryptosvc.adapters.clock import SystemClock
from cryptosvc.adapters.ntp import NtpSource, _unix
from cryptosvc.adapters.watch_state import StateFile
from cryptosvc.config.duties import TimeSourceSettings
from cryptosvc.core.clocks import Finding, Kind, Reading, compare
from cryptosvc.core.errors import Unavailable
from cryptosvc.core.watch.defaults import DEFAULT_RULES
from cryptosvc.core.watch.watcher import Watcher
from cryptosvc.flow.clocks import ClockWatch
from cryptosvc.flow.observe import Observer
from tests.fakes.ledger import FakeLedger
from tests.ntp_server import SECOND, ntp, stamp
from tests.store_stand import SCOPE, SetClock

NETWORK, INDEPENDENT = Kind.NETWORK, Kind.INDEPENDENT


def readings(*offsets: tuple[Kind, int]) -> list[Reading]:
    return [Reading(f"s{number}", kind, offset, 0) for number, (kind, offset) in enumerate(offsets)]


def rules(found: list[Finding]) -> set[str]:
    return {one.rule.removeprefix("clock/") for one in found}


def test_each_is_held_against_each_and_the_bound_itself_is_no_difference():
    def said(network: int, independent: int) -> set[str]:
        return rules(compare(readings((NETWORK, network), (INDEPENDENT, independent)), tolerance=10))

    assert said(10, 0) == said(-10, 0) == said(5, -5) == set()
    assert said(11, 5) == {"own-from-network"}
    assert said(-5, -11) == {"own-from-independent"}
    assert said(6, -5) == {"network-time"}
    assert said(-11, 0) == {"network-time", "own-from-network"}
    assert said(99, 99) == {"own-from-network", "own-from-independent"}


def test_one_wrong_source_of_three_decides_nothing():
    good = [(NETWORK, 1), (NETWORK, 2), (INDEPENDENT, 0), (INDEPENDENT, 1)]
    assert compare(readings(*good, (NETWORK, 10**12), (INDEPENDENT, -(10**12))), tolerance=10) == []


def test_a_kind_that_is_silent_or_not_sure_of_itself_is_said():
    unsure = [Reading("a", NETWORK, 0, 11), Reading("b", INDEPENDENT, 0, 10)]
    assert rules(compare(unsure, tolerance=10)) == {"network-silent"}
    assert rules(compare([], tolerance=10)) == {"network-silent", "independent-silent"}
    assert compare([], tolerance=10, asked=()) == []


@dataclass
class Source:
    name: str
    kind: Kind
    offset: int | None = 0

    async def read(self) -> Reading:
        if self.offset is None:
            raise Unavailable("away", rule="clock/source")
        return Reading(self.name, self.kind, self.offset, 0)


@dataclass
class Scene:
    hubs: Source = field(default_factory=lambda: Source("hubs", NETWORK))
    other: Source = field(default_factory=lambda: Source("other", INDEPENDENT))
    told: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        clock = SetClock(1_800_000_000 * SECOND)
        self.ledger = FakeLedger("o", SCOPE, clock)
        observer = Observer(self.ledger, clock)
        self.watch = ClockWatch([self.hubs, self.other], observer, SECOND, self.told.append)

    def said(self) -> list[tuple[str, str]]:
        entries = [orjson.loads(one.entry) for one in self.ledger.leaves]
        found = [one["facts"] for one in entries if one["kind"] == "clock"]
        return [(one["rule"].removeprefix("clock/"), one["difference_ms"]) for one in found]


async def test_a_difference_is_recorded_once_alarmed_and_taken_back():
    scene = Scene()
    await scene.watch.turn()
    assert (scene.said(), scene.told) == ([], [False])
    scene.hubs.offset = 3 * SECOND
    await scene.watch.turn()
    await scene.watch.turn()
    assert scene.said() == [("network-time", "3000"), ("own-from-network", "3000")]
    assert scene.told == [False, True, True]
    watcher = Watcher(DEFAULT_RULES)
    for leaf, stored in enumerate(scene.ledger.leaves):
        watcher.take(leaf, orjson.loads(stored.entry), {})
    assert {(one.rule, one.clause, one.severity) for one in watcher.pending} == {
        ("clocks-differ", "G2.47", "high")
    }
    scene.hubs.offset = scene.other.offset = None
    await scene.watch.turn()
    assert rules_of(scene)[2:] == ["network-silent", "independent-silent"]
    scene.hubs.offset = scene.other.offset = 0
    await scene.watch.turn()
    assert rules_of(scene)[4:] == ["agreed"]
    assert scene.told[-1] is False


def rules_of(scene: Scene) -> list[str]:
    return [rule for rule, _ in scene.said()]


@pytest.mark.parametrize("ahead", [0, 90 * SECOND, -7200 * SECOND])
async def test_a_server_says_how_far_it_is_ahead(ahead: int):
    with ntp(ahead=ahead, dispersion=1 << 14) as port:
        found = await NtpSource("a", NETWORK, "127.0.0.1", port, 30.0).read()
    assert abs(found.offset - ahead) <= found.error  # the delay bounds what scheduling did to it
    assert found.error >= SECOND // 4


@pytest.mark.parametrize(
    "wrong", [{"stratum": 0}, {"stratum": 16}, {"first": 3 << 6 | 4 << 3 | 4}, {"first": 4 << 3 | 3}]
)
async def test_a_server_without_time_gives_none(wrong: dict[str, int]):
    with ntp(**wrong) as port, pytest.raises(Unavailable, match="no time itself"):
        await NtpSource("a", NETWORK, "127.0.0.1", port, 30.0).read()


async def test_an_answer_to_another_question_is_none():
    with ntp(cookie=b"guessed!") as port, pytest.raises(Unavailable):
        await NtpSource("a", NETWORK, "127.0.0.1", port, 0.2).read()


async def test_a_server_that_is_away_is_unavailable():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        with pytest.raises(Unavailable):
            await NtpSource("a", NETWORK, "127.0.0.1", silent.getsockname()[1], 0.05).read()


@pytest.mark.parametrize("at", [1_800_000_000, 2_085_978_495, 2_085_978_496, 4_000_000_000])
def test_the_era_that_lies_nearest_is_meant(at: int):
    for near in (at - 10**9, at, at + 10**9):
        assert _unix(stamp(at * SECOND), near * SECOND) == at * SECOND


async def test_two_servers_that_differ_are_found(tmp_path: Path):
    scene = Scene()
    file = StateFile(tmp_path / "clock.quality")

    def tell(differs: bool) -> None:
        file.keep(b"differing" if differs else b"")

    with ntp(ahead=3600 * SECOND) as network, ntp() as independent:
        sources = [
            NtpSource("hubs", NETWORK, "127.0.0.1", network, 30.0),
            NtpSource("other", INDEPENDENT, "127.0.0.1", independent, 30.0),
        ]
        observer = Observer(scene.ledger, scene.ledger.clock)
        found = await ClockWatch(sources, observer, 60 * SECOND, tell).turn()
    assert rules(found) == {"network-time", "own-from-network"}
    assert SystemClock(tmp_path / "clock.quality").now().quality == "differing"
    tell(False)
    assert SystemClock(tmp_path / "clock.quality").now().quality != "differing"
    assert SystemClock().now().quality != "differing"


@pytest.mark.parametrize(
    ("address", "where"),
    [
        ("ntp.example", ("ntp.example", 123)),
        ("ntp.example:11123", ("ntp.example", 11123)),
        ("[2001:db8::1]", ("2001:db8::1", 123)),
        ("[::1]:5", ("::1", 5)),
    ],
)
def test_where_a_source_is(address: str, where: tuple[str, int]):
    assert TimeSourceSettings(name="a", kind=NETWORK, address=address).where() == where
