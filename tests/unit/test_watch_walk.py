"""The watch over a log: what it finds is in the log once, whatever was lost, put back or changed in between."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cryptosvc.adapters.watch_state import FollowedLog, StateFile
from cryptosvc.config.settings import read_settings
from cryptosvc.config.watching import WatchRuleSettings, WatchSettings, rules_of
from cryptosvc.core.erased import is_alone
from cryptosvc.core.errors import Corrupt, Forbidden, Malformed, Unavailable
from cryptosvc.core.names import UnixNanoseconds
from cryptosvc.core.record import Leaf, Observed, Refused
from cryptosvc.core.watch.alarm import Alarm
from cryptosvc.core.watch.defaults import DEFAULT_RULES
from cryptosvc.core.watch.rules import Rule
from cryptosvc.flow.ports import StoredEntry, TreeHead
from cryptosvc.flow.watch import Watchman
from tests.fakes.ledger import FakeLedger
from tests.store_stand import SCOPE, SetClock, new_database, open_stand

SECOND = 10**9


@dataclass
class FakeFollowing:
    ledger: FakeLedger

    async def after(self, start: int, at_most: int) -> tuple[TreeHead, Sequence[StoredEntry]]:
        leaves = self.ledger.leaves[start : start + at_most]
        entries = [StoredEntry(start + n, one.entry, one.withheld) for n, one in enumerate(leaves)]
        return await self.ledger.head(), entries


@dataclass
class FakeMemory:
    state: bytes = b""

    def recall(self) -> bytes:
        return self.state

    def keep(self, state: bytes) -> None:
        self.state = state


@dataclass
class Scene:
    clock: SetClock = field(default_factory=lambda: SetClock(1_700_000_000 * SECOND))
    memory: FakeMemory = field(default_factory=FakeMemory)
    told: list[Alarm] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ledger = FakeLedger("watch.example/log", SCOPE, self.clock)
        self.watch = self.another()

    def another(self, rules: Sequence[Rule] = DEFAULT_RULES) -> Watchman:
        """As another process takes it up."""
        return Watchman(
            FakeFollowing(self.ledger), self.ledger, self.memory, self.clock, rules, self.told.append
        )

    async def refuse(self, rule: str, times: int = 1) -> None:
        self.clock.at += SECOND
        error = Forbidden("no", rule=rule, clause="G2.56")
        at = UnixNanoseconds(self.clock.at)
        refused = Refused(error=error, operation="sign", at=at, time_quality="synchronised", peer="p")
        await self.ledger.record([refused] * times)

    async def settle(self, watch: Watchman | None = None) -> None:
        """Let it come to rest: read everything, its own entries too."""
        watch = watch or self.watch
        still = 0
        while still < 3:
            size = len(self.ledger.leaves)
            await watch.turn()
            still = still + 1 if len(self.ledger.leaves) == size and not watch.behind else 0

    def alarms(self) -> list[dict[str, str]]:
        entries = [json.loads(one.entry) for one in self.ledger.leaves if not is_alone(one.entry)]
        return [one["facts"] for one in entries if one["kind"] == "alarm"]


async def test_an_alarm_is_an_entry_with_rule_clause_severity_and_leaves():
    scene = Scene()
    await scene.settle()
    await scene.refuse("audit/not-auditor")
    refused = len(scene.ledger.leaves) - 1
    await scene.settle()
    (facts,) = scene.alarms()
    assert (
        facts.items()
        >= {
            "rule": "log-read-refused",
            "clause": "G2.7",
            "severity": "medium",
            "leaves": str(refused),
            "count": "1",
        }.items()
    )
    assert [one.rule for one in scene.told] == ["log-read-refused"]
    size = len(scene.ledger.leaves)
    await scene.settle()
    assert len(scene.ledger.leaves) == size


async def test_begun_anew_over_deleted_entries_it_raises_nothing_twice():
    scene = Scene()
    await scene.settle()
    await scene.refuse("audit/not-auditor")
    refused = len(scene.ledger.leaves) - 1
    await scene.settle()
    told = scene.alarms()
    scene.ledger.erase(refused)
    scene.memory.state = b""
    scene.watch = scene.another()
    await scene.settle()
    assert scene.alarms() == told != []
    await scene.refuse("audit/not-auditor")
    await scene.settle()
    assert len(scene.alarms()) == len(told) + 1


@pytest.mark.parametrize("seed", range(4))
async def test_killed_at_any_moment_nothing_is_written_twice_and_nothing_is_left_out(seed: int):
    """Processes come and go; what each had kept is as old as it happens to be, or lost."""
    chance = random.Random(seed)
    calm, troubled = Scene(), Scene()
    old = [b""]
    for _ in range(60):
        rule, times = chance.choice(["audit/not-auditor", "a/b", "policy/refused"]), chance.randrange(1, 4)
        for one in (calm, troubled):
            one.clock.at += 300 * SECOND
            await one.refuse(rule, times)
        await calm.settle()
        await troubled.settle()
        if chance.random() < 0.3:
            troubled.watch.keep()
            old.append(troubled.memory.state)
        if chance.random() < 0.5:
            troubled.memory.state = chance.choice(old)
            troubled.watch = troubled.another()
    await troubled.settle()
    causes = [one["cause"] for one in troubled.alarms()]
    assert len(causes) == len(set(causes)) > 3
    assert [one["rule"] for one in troubled.alarms()] == [one["rule"] for one in calm.alarms()]
    assert [one["leaves"] for one in troubled.alarms()] == [one["leaves"] for one in calm.alarms()]


async def test_an_answer_that_was_lost_is_no_second_alarm():
    scene = Scene()
    await scene.settle()
    await scene.refuse("audit/not-auditor")
    record, lost = scene.ledger.record, []

    async def losing(batch: Sequence[Observed]) -> object:
        await record(batch)
        lost.append(batch)
        raise Unavailable("the store was lost while it committed", rule="store/uncertain")

    scene.ledger.record = losing  # type: ignore[method-assign,assignment]
    with pytest.raises(Unavailable):
        await scene.settle()
    scene.ledger.record = record  # type: ignore[method-assign]
    await scene.settle()
    assert len(lost) == 1
    assert len(scene.alarms()) == 1


async def test_what_was_there_before_the_first_watch_is_judged_and_a_new_table_judges_what_comes():
    scene = Scene()
    await scene.refuse("a/b", 20)
    await scene.refuse("audit/not-auditor")
    await scene.settle()
    assert [one["rule"] for one in scene.alarms()] == ["log-read-refused"]
    stricter = rules_of(
        WatchSettings(
            rules=(
                WatchRuleSettings(name="repeated-refusals-of-key", off=True),
                WatchRuleSettings(name="log-read-refused", threshold=2),
                WatchRuleSettings(
                    name="any-refusal",
                    clause="G2.6(b)",
                    severity="low",  # type: ignore[arg-type]  # as a file spells it
                    meaning="-",
                    test="count",  # type: ignore[arg-type]
                    where={"rule": ("a/*",)},
                ),
            )
        )
    )
    scene.watch.keep()
    other = scene.another(stricter)
    await scene.settle(other)
    assert len(scene.alarms()) == 1
    await scene.refuse("a/b")
    await scene.settle(other)
    assert [one["rule"] for one in scene.alarms()] == ["log-read-refused", "any-refusal"]
    begun = [json.loads(one.entry) for one in scene.ledger.leaves if b'"kind":"watch"' in one.entry]
    assert begun[0]["facts"]["from"] == "0"
    assert int(begun[1]["facts"]["from"]) > 21


async def test_a_state_of_another_log_is_forgotten_and_an_edited_log_is_not():
    scene, other = Scene(), Scene()
    await other.refuse("a/b", 3)
    await other.settle()
    other.watch.keep()
    scene.memory.state = other.memory.state
    await scene.refuse("audit/not-auditor", 9)
    await scene.settle(scene.another())
    await scene.settle(scene.another())
    assert len(scene.alarms()) == 1
    head = await scene.ledger.head()
    scene.ledger.leaves[3] = Leaf(scene.ledger.leaves[4].entry + b" ", b"")

    async def unmoved() -> TreeHead:
        return head

    scene.ledger.head = unmoved  # type: ignore[method-assign]
    edited = scene.another()
    scene.memory.state = b"no state"
    with pytest.raises(Corrupt) as caught:
        await scene.settle(edited)
    assert caught.value.rule == "watch/log-changed"


async def test_a_value_that_was_changed_beside_the_log_is_an_alarm_and_stops_nothing():
    scene = Scene()
    await scene.refuse("a/b")
    leaf = scene.ledger.leaves[-1]
    scene.ledger.leaves[-1] = Leaf(leaf.entry, leaf.withheld.replace(b'"p"', b'"q"'))
    await scene.refuse("audit/not-auditor")
    await scene.settle()
    assert [one["rule"] for one in scene.alarms()] == ["withheld-value-changed", "log-read-refused"]


async def test_on_a_real_store_with_a_state_file(tmp_path: Path):
    url = new_database(f"sqlite:///{tmp_path}/store.db")
    stand = await open_stand(url, tmp_path, first=True)
    told: list[Alarm] = []
    state = StateFile(tmp_path / "watch.state")

    def watch() -> Watchman:
        return Watchman(
            FollowedLog(stand.ledger), stand.ledger, state, stand.clock, DEFAULT_RULES, told.append
        )

    error = Forbidden("no", rule="audit/not-auditor", clause="G2.7")
    at = UnixNanoseconds(stand.clock.at)
    refused = Refused(error=error, operation="sign", at=at, time_quality="synchronised", peer="p")
    await stand.ledger.record([refused] * 3)
    first = watch()
    assert [await first.turn() for _ in range(4)] == [4, 1, 1, 0]
    first.keep()
    second = watch()
    assert [await second.turn() for _ in range(2)] == [0, 0]
    assert [one.rule for one in told] == ["log-read-refused"]
    assert (tmp_path / "watch.state").stat().st_mode & 0o777 == 0o600
    await stand.ledger.close()
    with pytest.raises(Unavailable, match="cannot be written"):
        StateFile(tmp_path / "missing" / "watch.state").keep(b"")


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ('name = "log-export"\nthreshold = 0', "a threshold is"),
        ('name = "log-export"\nwhere = { nobody = ["x"] }', "nobody is no field"),
        ('name = "mine"\ntest = "count"', "needs clause, severity, meaning, where"),
        ('name = "log-export"\n[[watch.rules]]\nname = "log-export"', "names a rule twice"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused_with_the_file(tmp_path: Path, rules: str, said: str):
    example = Path(__file__).resolve().parents[2] / "config.example.toml"
    file = tmp_path / "cryptosvc.toml"
    file.write_text(example.read_text() + f"\n[[watch.rules]]\n{rules}\n")
    with pytest.raises(Malformed, match=said):
        read_settings(file)


def test_the_rules_are_on_the_auditors_page():
    page = (Path(__file__).resolve().parents[2] / "docs/auditors.md").read_text()
    for one in DEFAULT_RULES:
        assert f"| `{one.name}` | {one.clause} | {one.severity} | {one.meaning} |" in page
    assert page.count("\n| `") >= len(DEFAULT_RULES)
