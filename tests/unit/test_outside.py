"""Checkpoints outside: a place only grows, and a log that was put back, cut or rewritten is caught by what it has."""

import os
import random
import socket
from dataclasses import dataclass, field, replace
from pathlib import Path

import orjson
import pytest
from pydantic import ValidationError

from cryptosvc.adapters.export import write_export
from cryptosvc.adapters.outside import AppendedFile, SyslogPlace, read_place
from cryptosvc.adapters.receivers import Syslog
from cryptosvc.adapters.watch_state import StateFile
from cryptosvc.config.duties import OutsideSettings
from cryptosvc.core import checkpoint
from cryptosvc.core.errors import Corrupt, Malformed, Unavailable
from cryptosvc.core.names import UnixNanoseconds
from cryptosvc.core.outside import line, notes_of, require_of
from cryptosvc.core.record import Observed
from cryptosvc.core.watch.defaults import DEFAULT_RULES
from cryptosvc.core.watch.watcher import Watcher
from cryptosvc.flow.observe import Observer
from cryptosvc.flow.outside import Place, Publisher
from cryptosvc.wiring.witnessing import Witnessing
from tests.fakes.ledger import FakeLedger
from tests.signed_logs import ORIGIN, SPKI, Entry, log, note
from tests.store_stand import SCOPE, SetClock


@dataclass
class Memory:
    state: bytes = b""

    def recall(self) -> bytes:
        return self.state

    def keep(self, state: bytes) -> None:
        self.state = state


@dataclass
class Scene:
    ledger: FakeLedger = field(default_factory=lambda: FakeLedger(ORIGIN, SCOPE, SetClock(10**18)))

    def publisher(self, **places: Place) -> Publisher:
        return Publisher(self.ledger, Observer(self.ledger, self.ledger.clock), places)

    async def sign(self, more: int = 3, what: str = "query") -> bytes:
        for _ in range(more):
            await self.ledger.record(
                [
                    Observed(
                        kind="read",
                        operation="read-log",
                        at=UnixNanoseconds(10**18),
                        time_quality="-",
                        facts={"what": what},
                    )
                ]
            )
        made = note([(one.entry, b"") for one in self.ledger.leaves])
        self.ledger.notes.append(made)
        return made

    def said(self) -> list[dict[str, str]]:
        entries = [orjson.loads(one.entry) for one in self.ledger.leaves]
        return [one["facts"] for one in entries if one["kind"] == "outside"]


def held(entries: list[Entry], *notes: bytes) -> int:
    return require_of(notes, ORIGIN, SPKI, (entry for entry, _ in entries)).checkpoints


def test_a_log_is_held_to_every_checkpoint() -> None:
    entries = log(60)
    notes = [note(entries[:size]) for size in (1, 2, 17, 59, 60)]
    found = require_of([*notes, *notes], ORIGIN, SPKI, (entry for entry, _ in entries))
    assert (found.checkpoints, found.largest) == (10, 60)
    for cut in (0, 1, 59):
        with pytest.raises(Corrupt) as caught:
            held(entries[:cut], *notes)
        assert (caught.value.rule, caught.value.clause) == ("outside/rolled-back", "G2.27(a)")


@pytest.mark.parametrize("seed", range(20))
def test_an_entry_that_was_changed_taken_out_or_put_in_is_caught(seed: int) -> None:
    chance = random.Random(seed)
    entries = log(40)
    notes = [note(entries[:size]) for size in (20, 40)]
    assert held(entries, *notes) == 2
    forged = list(entries)
    at = chance.randrange(40)
    match chance.randrange(3):
        case 0:
            forged[at] = (forged[at][0][:-1] + b" }", b"")
        case 1:
            forged = [*forged[:at], *forged[at + 1 :], forged[0]]
        case _:
            forged.insert(at, (b"{}", b""))
    with pytest.raises(Corrupt) as caught:
        held(forged, *notes)
    assert caught.value.rule == "outside/forked"


def test_two_faces_are_caught_though_each_is_a_log() -> None:
    entries, others = log(9), [*log(8), (b"{}", b"")]
    for one in (entries, others):
        with pytest.raises(Corrupt, match="two faces"):
            held(one, note(entries), note(others))


def test_what_the_logs_key_did_not_sign_counts_for_nothing() -> None:
    entries = log(5)
    parsed = checkpoint.parse(note(entries))
    forged = checkpoint.emit(replace(parsed, checkpoint=replace(parsed.checkpoint, size=4)))
    with pytest.raises(Corrupt) as caught:
        held(entries, note(entries), forged)
    assert caught.value.rule == "outside/unsigned"
    with pytest.raises(Malformed, match="no checkpoint of other/log"):
        require_of([note(entries)], "other/log", SPKI, [])


def test_lines_of_others_and_lines_cut_off_are_passed_over() -> None:
    good = note(log(3))
    octets = (
        b"noise\n"
        + line(good)[:40]
        + b"\n<109>1 - h cryptosvc - checkpoint - "
        + line(good)
        + b'{"checkpoint":7}\n'
    )
    assert notes_of(octets) == [good]


async def test_each_checkpoint_is_appended_once_and_the_file_verifies_an_export(tmp_path: Path) -> None:
    scene, path = Scene(), tmp_path / "checkpoints"
    place = AppendedFile(path, StateFile(tmp_path / "octets"))
    publisher = scene.publisher(archive=place)
    assert await publisher.turn() == 0
    notes = []
    for _ in range(3):
        notes.append(await scene.sign())
        assert [await publisher.turn(), await publisher.turn()] == [1, 0]
    assert read_place(path) == notes
    assert path.stat().st_mode & 0o777 == 0o600
    # another process goes on where this one was
    notes.append(await scene.sign())
    again = scene.publisher(archive=AppendedFile(path, StateFile(tmp_path / "octets")))
    assert await again.turn() == 1
    assert read_place(path) == notes
    entries = [(one.entry, one.withheld) for one in scene.ledger.leaves]
    export = tmp_path / "log.export"
    write_export(export, ORIGIN, [notes[-1]], [], iter(entries))
    (tmp_path / "key").write_bytes(SPKI)
    (told,) = Witnessing().require_held(export, tmp_path / "key", [path])
    assert (told["checkpoints"], told["largest"]) == (4, len(entries))


async def test_a_file_that_shrank_is_refused_recorded_and_alarmed(tmp_path: Path) -> None:
    scene, path, memory = Scene(), tmp_path / "checkpoints", Memory()
    publisher = scene.publisher(archive=AppendedFile(path, memory))
    await scene.sign()
    await publisher.turn()
    await scene.sign()
    os.truncate(path, path.stat().st_size - 1)
    for one in (publisher, publisher, scene.publisher(archive=AppendedFile(path, memory))):
        with pytest.raises(Corrupt) as caught:
            await one.turn()
        assert caught.value.rule == "outside/shrunk"
    path.unlink()
    with pytest.raises(Corrupt, match="has 0"):
        await scene.publisher(archive=AppendedFile(path, memory)).turn()
    assert [one["rule"] for one in scene.said()] == ["outside/shrunk"] * 3  # once by each process
    watcher = Watcher(DEFAULT_RULES)
    for leaf, stored in enumerate(scene.ledger.leaves):
        watcher.take(leaf, orjson.loads(stored.entry), {})
    assert {one.rule for one in watcher.pending} == {"checkpoints-lost-outside"}


@pytest.mark.parametrize(("changed", "rule"), [(False, "outside/rolled-back"), (True, "outside/forked")])
async def test_a_log_that_was_put_back_finds_a_checkpoint_it_does_not_extend(
    tmp_path: Path, changed: bool, rule: str
) -> None:
    scene, path = Scene(), tmp_path / "checkpoints"
    await scene.sign(9)
    await scene.publisher(archive=AppendedFile(path, Memory())).turn()
    del scene.ledger.leaves[5:]
    scene.ledger.notes.clear()
    await scene.sign(20 if changed else 1, "entry")
    before = path.read_bytes()
    with pytest.raises(Corrupt) as caught:
        await scene.publisher(archive=AppendedFile(path, Memory())).turn()
    assert caught.value.rule == rule
    assert path.read_bytes() == before


async def test_a_line_that_was_cut_off_does_not_spoil_the_next(tmp_path: Path) -> None:
    scene, path = Scene(), tmp_path / "checkpoints"
    path.write_bytes(b'{"checkpoint":"exam')
    made = await scene.sign()
    await scene.publisher(archive=AppendedFile(path, Memory())).turn()
    assert read_place(path) == [made]


async def test_a_place_that_is_away_holds_up_no_other(tmp_path: Path) -> None:
    scene = Scene()
    await scene.sign()
    gone = AppendedFile(tmp_path / "nowhere" / "file", Memory())
    here = AppendedFile(tmp_path / "file", Memory())
    publisher = scene.publisher(gone=gone, here=here)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await publisher.turn()
    assert len(read_place(tmp_path / "file")) == 1
    assert scene.said() == [{"place": "gone", "rule": "outside/file", "size": "0"}]
    (tmp_path / "nowhere").mkdir()
    assert await publisher.turn() == 1


async def test_a_syslog_is_a_place() -> None:
    scene = Scene()
    made = await scene.sign()
    with socket.create_server(("127.0.0.1", 0)) as server:
        syslog = Syslog("127.0.0.1", server.getsockname()[1], "tcp", lambda _alarm, _leaf: b"", 10.0)
        assert await scene.publisher(siem=SyslogPlace(syslog)).turn() == 1
        taken, _ = server.accept()
        with taken:
            octets = b"".join(iter(lambda: taken.recv(65_536), b""))
    length, _, message = octets.partition(b" ")
    assert int(length) == len(message)
    assert message.startswith(b"<109>1 - ")
    assert notes_of(message) == [made]


def test_a_place_is_a_file_or_a_syslog() -> None:
    for given in ({}, {"file": Path("/a"), "syslog": "h:1"}):
        with pytest.raises(ValidationError, match="exactly one"):
            OutsideSettings(name="a", **given)
