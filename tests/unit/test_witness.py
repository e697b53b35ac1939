"""Witnesses: what they cosign, what they refuse, and what the service makes of either."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cryptosvc.adapters.witness_http import HttpPeer, WitnessServer
from cryptosvc.adapters.witness_memory import FolderMemory
from cryptosvc.core import checkpoint as notes
from cryptosvc.core.errors import Corrupt, Malformed, Unavailable
from cryptosvc.core.life import UnixSeconds
from cryptosvc.core.witness import (
    AddCheckpoint,
    Witness,
    cosign,
    cosignature,
    cosignatures,
    require_cosigned,
    require_extends,
    with_line,
)
from cryptosvc.flow.cosign import Cosigner
from cryptosvc.flow.observe import Observer
from cryptosvc.flow.witness import Answer, WitnessDesk
from tests import signed_logs
from tests.fakes.ledger import FakeLedger
from tests.store_stand import ORIGIN, SCOPE, SetClock

LOG_KEY = signed_logs.KEY
SPKI = signed_logs.SPKI
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
WITNESS = Witness("auditor.example/witness", KEY.public_key().public_bytes_raw())


class Desk:
    """A witness without HTTP; `silent` and `says` make it misbehave."""

    def __init__(
        self, folder: Path, origin: str, witness: Witness = WITNESS, key: Ed25519PrivateKey = KEY
    ) -> None:
        self.witness = witness
        self.silent = False
        self.says: Answer | None = None
        self.asked: list[AddCheckpoint] = []
        self.desk = WitnessDesk(witness.name, key, {origin: SPKI}, FolderMemory(folder), SetClock())

    async def add_checkpoint(self, asked: AddCheckpoint) -> Answer:
        self.asked.append(asked)
        if self.silent:
            raise Unavailable("away", rule="witness/unreachable")
        return self.says or self.desk.add_checkpoint(asked.text())


class Log:
    """A log whose checkpoints are signed in software."""

    def __init__(self) -> None:
        clock = SetClock(1_700_000_000 * 10**9)
        self.ledger = FakeLedger(ORIGIN, SCOPE, clock)
        self.observer = Observer(self.ledger, clock)

    @property
    def origin(self) -> str:
        return self.ledger.origin

    async def grow(self, entries: int, what: str = "a") -> None:
        for _ in range(entries):
            await self.observer.happened("read", what, {}, {})

    async def signed(self) -> bytes:
        head = await self.ledger.head()
        found = notes.Checkpoint(self.origin, head.size, head.root)
        signature = LOG_KEY.sign(notes.text(found), ec.ECDSA(hashes.SHA256()))
        line = notes.NoteSignature(self.origin, notes.key_id(SPKI), signature)
        note = notes.emit(notes.Note(found, (line,)))
        await self.ledger.keep_checkpoint(note)
        return note

    def recorded(self) -> list[str]:
        entries = [json.loads(leaf.entry) for leaf in self.ledger.leaves]
        return [entry["facts"]["rule"] for entry in entries if entry["kind"] == "witness"]


@pytest.fixture
async def log() -> Log:
    made = Log()
    await made.grow(6)
    return made


def asking(log: Log, old: int, note: bytes, proof: tuple[bytes, ...] = ()) -> bytes:
    return AddCheckpoint(old, proof, note).text()


# What is said and how it is printed


def test_a_verifier_key_is_read_as_it_is_printed_and_no_other_way() -> None:
    text = WITNESS.text()
    assert Witness.parse(text) == WITNESS
    name, key_id, key = text.split("+", 2)
    other = Witness("other", WITNESS.public_key)
    for bad in (
        "",
        name,
        f"{name}+{key_id}",
        f"other+{key_id}+{key}",
        f"{name}+{other.key_id.hex()}+{key}",
        f"{name}+{key_id}+{key[:-4]}",
        text + " ",
        text.replace("+BA", "+AA", 1) if "+BA" in text else text + "x",
        " " + text,
    ):
        with pytest.raises(Malformed):
            Witness.parse(bad)


def test_a_cosignature_is_of_this_checkpoint_by_this_witness_at_this_time() -> None:
    found = notes.Checkpoint("example.test/log", 7, bytes(32))
    line = cosign(found, WITNESS.name, KEY, UnixSeconds(1_700_000_000))
    assert cosignature(line, WITNESS, found).at == 1_700_000_000
    for bit in range(0, 8 * len(line.signature), 7):
        octets = bytearray(line.signature)
        octets[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Corrupt):
            cosignature(replace(line, signature=bytes(octets)), WITNESS, found)
    for other in (replace(found, size=8), replace(found, root=b"\x01" * 32), replace(found, origin="x")):
        with pytest.raises(Corrupt):
            cosignature(line, WITNESS, other)
    for short in (line.signature[:-1], line.signature + b"x", b""):
        with pytest.raises(Corrupt):
            cosignature(replace(line, signature=short), WITNESS, found)


async def test_a_request_is_read_as_it_is_printed_and_no_other_way(log: Log) -> None:
    asked = AddCheckpoint(3, (b"\x01" * 32, b"\x02" * 32), await log.signed())
    octets = asked.text()
    assert AddCheckpoint.parse(octets) == asked
    for bad in (
        b"",
        octets[4:],
        octets.replace(b"old 3", b"old 03"),
        octets.replace(b"old 3", b"old -3"),
        octets.replace(b"old 3\n", b"old 3\n" + b"AAAA\n"),
        octets.replace(b"old 3\n", b"old 3\n" + octets.split(b"\n")[1] * 1 + b"=\n"),
        AddCheckpoint(3, (b"\x01" * 32,) * 64, asked.note).text(),
    ):
        with pytest.raises(Malformed):
            AddCheckpoint.parse(bad)


# The witness


async def test_it_cosigns_what_extends_what_it_cosigned_and_remembers_before_it_says_so(
    log: Log, tmp_path: Path
) -> None:
    desk = Desk(tmp_path, log.origin).desk
    first = await log.signed()
    said = desk.add_checkpoint(asking(log, 0, first))
    assert said.status == 200
    assert FolderMemory(tmp_path).newest(log.origin) == first
    assert cosignatures(first + said.body, [WITNESS])
    await log.grow(9)
    second = await log.signed()
    proof = tuple(await log.ledger.consistency_proof(7, 16))
    assert desk.add_checkpoint(asking(log, 7, second, proof)).status == 200
    # asked again for what it has: the same size, nothing to prove
    assert desk.add_checkpoint(asking(log, 16, second)).status == 200


async def test_each_refusal_has_its_number(log: Log, tmp_path: Path) -> None:
    desk = Desk(tmp_path, log.origin).desk
    note = await log.signed()
    assert desk.add_checkpoint(asking(log, 0, note)).status == 200
    await log.grow(3)
    newer = await log.signed()
    proof = tuple(await log.ledger.consistency_proof(7, 10))
    stale = desk.add_checkpoint(asking(log, 5, newer, proof))
    assert (stale.status, stale.body, stale.content_type) == (409, b"7\n", "text/x.tlog.size")
    assert desk.add_checkpoint(asking(log, 11, newer)).status == 400
    assert desk.add_checkpoint(b"x").status == 400
    assert desk.add_checkpoint(asking(log, 7, b"x")).status == 400
    assert desk.add_checkpoint(asking(log, 7, newer, proof[::-1])).status == 422
    assert desk.add_checkpoint(asking(log, 7, newer, proof[:-1])).status == 422
    assert desk.add_checkpoint(asking(log, 7, newer, (*proof, bytes(32)))).status == 422
    forged = note.replace(b"\n7\n", b"\n8\n")
    assert desk.add_checkpoint(asking(log, 7, forged)).status == 403
    strange = note.replace(log.origin.encode(), b"another.example/log")
    assert desk.add_checkpoint(asking(log, 0, strange)).status == 404
    assert FolderMemory(tmp_path).newest(log.origin) == note
    assert desk.add_checkpoint(asking(log, 7, newer, proof)).status == 200
    # back again: it was cosigned with ten
    assert desk.add_checkpoint(asking(log, 7, note)).body == b"10\n"


async def test_other_entries_of_the_same_size_are_not_cosigned(log: Log, tmp_path: Path) -> None:
    desk = Desk(tmp_path, log.origin).desk
    assert desk.add_checkpoint(asking(log, 0, await log.signed())).status == 200
    other = Log()
    await other.grow(6, "b")
    said = desk.add_checkpoint(asking(other, 7, await other.signed()))
    assert (said.status, said.body) == (409, b"7\n")


def test_the_first_checkpoint_has_nothing_to_prove() -> None:
    found = notes.Checkpoint("o", 3, bytes(32))
    require_extends(None, found, ())
    require_extends(replace(found, size=0), found, ())
    with pytest.raises(Malformed):
        require_extends(None, found, (bytes(32),))
    with pytest.raises(Corrupt) as back:
        require_extends(found, replace(found, size=2), ())
    assert back.value.rule == "witness/rolled-back"
    with pytest.raises(Corrupt) as fork:
        require_extends(found, replace(found, root=b"\x01" * 32), ())
    assert fork.value.rule == "witness/forked"


# The service


def second(folder: Path, log: Log) -> Desk:
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    return Desk(folder / "second", log.origin, Witness("second", key.public_key().public_bytes_raw()), key)


async def test_the_newest_checkpoint_is_cosigned_by_all_and_asked_for_once(log: Log, tmp_path: Path) -> None:
    desks = [Desk(tmp_path / "first", log.origin), second(tmp_path, log)]
    cosigner = Cosigner(log.ledger, log.observer, desks)
    assert await cosigner.turn() == 0  # there is no checkpoint yet
    for size in (7, 12):
        await log.signed()
        assert await cosigner.turn() == 2
        assert await cosigner.turn() == 0
        note = await log.ledger.checkpoint()
        assert note is not None
        assert notes.verify(note, log.origin, SPKI).size == size
        assert [one.witness for one in cosignatures(note, [desk.witness for desk in desks])] == [
            WITNESS.name,
            "second",
        ]
        await log.grow(12 - size)
    assert [asked.old for asked in desks[0].asked] == [0, 7]
    assert log.recorded() == []


async def test_a_service_that_was_restarted_learns_from_the_witness_what_it_has(
    log: Log, tmp_path: Path
) -> None:
    desk = Desk(tmp_path, log.origin)
    await log.signed()
    await Cosigner(log.ledger, log.observer, [desk]).turn()
    await log.grow(4)
    await log.signed()
    assert await Cosigner(log.ledger, log.observer, [desk]).turn() == 1
    assert [asked.old for asked in desk.asked] == [0, 0, 7]


async def test_a_witness_that_is_away_is_recorded_once_and_holds_up_no_other(
    log: Log, tmp_path: Path
) -> None:
    away, there = Desk(tmp_path / "first", log.origin), second(tmp_path, log)
    away.silent = True
    cosigner = Cosigner(log.ledger, log.observer, [away, there])
    await log.signed()
    assert [await cosigner.turn(), await cosigner.turn()] == [1, 0]
    assert log.recorded() == ["witness/unreachable"]
    away.silent = False
    assert await cosigner.turn() == 1
    away.silent = True
    await log.signed()
    await cosigner.turn()
    assert log.recorded() == ["witness/unreachable"] * 2


@pytest.mark.parametrize("entries", [3, 6, 9])
async def test_a_log_that_was_rewritten_is_caught_by_name(log: Log, tmp_path: Path, entries: int) -> None:
    desk = Desk(tmp_path, log.origin)
    await log.signed()
    await Cosigner(log.ledger, log.observer, [desk]).turn()
    other = Log()
    await other.grow(entries, "other")
    await other.signed()
    cosigner = Cosigner(other.ledger, other.observer, [desk, second(tmp_path, log)])
    rule = "witness/rolled-back" if entries < 6 else "witness/forked"
    for _ in range(2):
        with pytest.raises(Corrupt) as caught:
            await cosigner.turn()
        assert (caught.value.rule, caught.value.clause) == (rule, "G2.27")
    assert other.recorded() == [rule]
    note = await other.ledger.checkpoint()
    assert note is not None
    assert cosignatures(note, [WITNESS]) == ()


async def test_a_log_put_back_to_yesterday_is_caught_though_its_entries_are_its_own(
    log: Log, tmp_path: Path
) -> None:
    desk = Desk(tmp_path, log.origin)
    yesterday = await log.signed()
    leaves = list(log.ledger.leaves)
    await log.grow(5)
    await log.signed()
    await Cosigner(log.ledger, log.observer, [desk]).turn()
    log.ledger.leaves[:] = leaves
    log.ledger.notes[:] = [yesterday]
    with pytest.raises(Corrupt) as caught:
        await Cosigner(log.ledger, log.observer, [desk]).turn()
    assert caught.value.rule == "witness/rolled-back"


@pytest.mark.parametrize(
    ("said", "rule"),
    [
        (Answer(200, b""), "witness/answer"),
        (Answer(200, b"\xe2\x80\x94 x AAAAAAAA\n"), "witness/cosignature"),
        (Answer(409, b"-1\n"), "witness/answer"),
        (Answer(409, b"9" * 30), "witness/answer"),
        (Answer(403, b"no"), "witness/refused"),
        (Answer(500, b""), "witness/refused"),
        (Answer(422, b""), "witness/forked"),
    ],
)
async def test_what_a_lying_witness_says_is_not_kept(
    log: Log, tmp_path: Path, said: Answer, rule: str
) -> None:
    desk = Desk(tmp_path, log.origin)
    note = await log.signed()
    desk.says = said
    cosigner = Cosigner(log.ledger, log.observer, [desk])
    if rule in ("witness/cosignature", "witness/forked"):
        with pytest.raises(Corrupt):
            await cosigner.turn()
    else:
        assert await cosigner.turn() == 0
    assert log.recorded() == [rule]
    assert await log.ledger.checkpoint() == note


async def test_a_quorum_is_of_those_that_were_named(log: Log) -> None:
    note = await log.signed()
    found = notes.parse(note).checkpoint
    cosigned = with_line(note, cosign(found, WITNESS.name, KEY, UnixSeconds(5)))
    stranger = Witness("stranger", bytes(32))
    assert [one.at for one in require_cosigned(cosigned, [WITNESS, stranger], 1)] == [5]
    for octets, quorum in ((cosigned, 2), (note, 1)):
        with pytest.raises(Corrupt) as missing:
            require_cosigned(octets, [WITNESS, stranger], quorum)
        assert missing.value.rule == "witness/quorum"
    # cosigned again it has one line of this witness
    twice = with_line(cosigned, cosign(found, WITNESS.name, KEY, UnixSeconds(9)))
    assert [one.at for one in require_cosigned(twice, [WITNESS], 1)] == [9]
    assert notes.verify(twice, log.origin, SPKI) == found


# Over HTTP


@pytest.fixture
def server(tmp_path: Path, log: Log) -> Iterator[WitnessServer]:
    desk = Desk(tmp_path, log.origin)
    made = WitnessServer("127.0.0.1", 0, desk.desk.add_checkpoint)
    thread = threading.Thread(target=made.serve)
    thread.start()
    yield made
    made.close()
    thread.join()


async def test_witness_and_service_understand_each_other_over_http(log: Log, server: WitnessServer) -> None:
    peer = HttpPeer(WITNESS, f"http://127.0.0.1:{server.port}/")
    cosigner = Cosigner(log.ledger, log.observer, [peer])
    await log.signed()
    assert await cosigner.turn() == 1
    await log.grow(3)
    await log.signed()
    assert await cosigner.turn() == 1
    too_much = await peer.add_checkpoint(AddCheckpoint(0, (), b"x" * 20_000))
    assert too_much.status == 413
    elsewhere = HttpPeer(WITNESS, f"http://127.0.0.1:{server.port}/other")
    assert (await elsewhere.add_checkpoint(AddCheckpoint(0, (), b""))).status == 404


async def test_a_witness_nobody_listens_for_is_away(log: Log) -> None:
    peer = HttpPeer(WITNESS, "http://127.0.0.1:1")
    with pytest.raises(Unavailable) as away:
        await peer.add_checkpoint(AddCheckpoint(0, (), await log.signed()))
    assert away.value.rule == "witness/unreachable"
    for url in ("", "ftp://x", "http://"):
        with pytest.raises(Malformed):
            HttpPeer(WITNESS, url)
