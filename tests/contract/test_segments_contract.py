"""What a stretch of the log holds, sealed behind it and deleted with its key: on SQLite and PostgreSQL (G2.17, G2.18)."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import orjson
import psycopg
import pytest

from cryptosvc.adapters.store import archive
from cryptosvc.adapters.store import segments as stored
from cryptosvc.adapters.store.engine import open_store
from cryptosvc.adapters.store.segments import SegmentKeys
from cryptosvc.core import erased, segments
from cryptosvc.core.errors import Corrupt, Unavailable
from cryptosvc.core.merkle import leaf_hash
from cryptosvc.core.names import KeyId, UnixNanoseconds
from cryptosvc.core.registry import KeyState
from tests.claims import key_record
from tests.store_stand import ORIGIN, SetClock, SoftwareHmac, Stand, new_database, observed, open_stand

PERIOD = "log-2026"
SECRET = "somebody-that-nobody-else-is-called"
OLD, NEW = 10**18, 2 * 10**18
KEY = replace(
    key_record(), key_id=KeyId(PERIOD), key_class=segments.KEY_CLASS, label=PERIOD, public_point=b""
)
DATA_KEY = SoftwareHmac(b"of the segment").mac(segments.derivation(ORIGIN, PERIOD))


@dataclass
class Scene:
    stand: Stand
    url: str
    folder: Path
    asked: list[str]

    def reading(self) -> SegmentKeys:
        def data_key(name: str) -> bytes:
            self.asked.append(name)
            return DATA_KEY

        return SegmentKeys(data_key)

    def beside(self, opener: SegmentKeys | None) -> list[tuple[bytes, bytes]]:
        """Every entry with what stands beside it, as somebody reads it."""
        with closing(open_store(self.url, opener)) as store, store.reading() as session:
            found = session.leaves(0, 10_000)
            assert session.leaves_of(range(len(found))) == dict(enumerate(found))
            assert session.leaf(len(found) - 1) == found[-1]
            return found

    def seal(self, start: int = 0, before: int = NEW) -> stored.Stretch:
        with closing(open_store(self.url)) as store:
            size = len(self.beside(None))
            return stored.seal(store, start, size, before, PERIOD, DATA_KEY, lambda _: None)

    async def destroy(self) -> None:
        key = await self.stand.keys.record("key-record", PERIOD)
        await self.stand.keys.change([replace(key, version=key.version + 1, state=KeyState.DESTROYED)])

    def octets(self) -> bytes:
        """Everything the engine has on its disk of the store, as far as anybody can read it."""
        if self.url.startswith("sqlite"):
            return b"".join(path.read_bytes() for path in self.folder.glob("store.db*"))
        with psycopg.connect(self.url.replace("+psycopg", ""), autocommit=True) as server:
            server.execute("CREATE EXTENSION IF NOT EXISTS pageinspect")
            (pages,) = server.execute("SELECT pg_relation_size('leaf') / 8192").fetchone() or (0,)
            return b"".join(
                server.execute("SELECT get_raw_page('leaf', %s)", (number,)).fetchone()[0]  # type: ignore[index]  # a row
                for number in range(pages)
            )


@pytest.fixture(params=["sqlite", "postgres"])
async def scene(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Scene]:
    url = f"sqlite:///{tmp_path}/store.db"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_server").make_database()
    stand = await open_stand(new_database(url), tmp_path, first=True, clock=SetClock(OLD))
    await stand.keys.change([KEY])
    one = replace(observed(), withheld={"principal": SECRET, "query": "{}"})
    old = [replace(one, at=UnixNanoseconds(OLD + n)) for n in range(300)]
    await stand.ledger.record([*old, replace(one, at=UnixNanoseconds(NEW))])
    yield Scene(stand, url, tmp_path, [])
    await stand.ledger.close()


async def test_what_is_sealed_reads_as_before_and_is_nowhere_in_the_clear(scene: Scene) -> None:
    before, head = scene.beside(None), await scene.stand.ledger.head()
    assert SECRET.encode() in scene.octets()
    done = scene.seal()
    assert (done.start, done.stop) == (0, len(before) - 1)  # the newest is too young
    assert done.sealed[PERIOD].entries == 300
    assert done.sealed[PERIOD].whole == [(len(before) - 301, len(before) - 1)]
    assert scene.beside(scene.reading()) == before
    assert scene.asked == [PERIOD]
    for now, was in zip(scene.beside(None), before, strict=True):
        said = orjson.loads(was[0])
        kept = said["kind"] in segments.KEPT_KINDS or int(said["time"]) >= NEW
        assert (now[1] == was[1]) is kept
        assert (now[0] == was[0]) is (kept or said["kind"] not in erased.KINDS)
        assert segments.hash_of(now[0]) == leaf_hash(was[0])
        assert kept or (segments.key_of(now[0]), segments.key_of(now[1])) == (PERIOD, PERIOD)
        assert kept or SECRET.encode() not in now[1]
    assert await scene.stand.ledger.head() == head
    await scene.stand.ledger.maintain()  # the log looks after itself as before
    # again: nothing is sealed twice, and it goes on where it was
    as_it_stands = scene.beside(None)
    assert scene.seal() == done
    assert scene.beside(None) == as_it_stands
    assert scene.seal(done.stop, NEW + 1).sealed[PERIOD].entries == 1
    await asyncio.to_thread(scene.stand.ledger._store.close)  # so that nobody holds the write-ahead log
    stored.scrub(scene.url)
    stored.scrub(scene.url, rewrite=True)
    assert SECRET.encode() not in scene.octets()


async def test_what_an_interrupted_seal_left_is_told_under_its_own_key(scene: Scene) -> None:
    with closing(open_store(scene.url)) as store:
        first = stored.seal(store, 0, 100, NEW, "log-2025", bytes(32), lambda _: None)
        second = stored.seal(store, 0, len(scene.beside(None)), NEW, PERIOD, DATA_KEY, lambda _: None)
    assert second.sealed["log-2025"] == first.sealed["log-2025"]
    assert second.sealed["log-2025"].entries + second.sealed[PERIOD].entries == 300
    (one,), (other,) = second.sealed["log-2025"].whole, second.sealed[PERIOD].whole
    assert one[1] == other[0] == 100


async def test_a_destroyed_key_leaves_hashes_and_every_proof(scene: Scene) -> None:
    before = scene.beside(None)
    scene.seal()
    opener = scene.reading()
    assert scene.beside(opener) == before
    await scene.destroy()
    # known or not, the data key is used no more; of an entry its hash stays
    for reader in (opener, scene.reading()):
        for (entry, now), (was_entry, was) in zip(scene.beside(reader), before, strict=False):
            gone = (
                orjson.loads(was_entry)["kind"] in erased.KINDS and int(orjson.loads(was_entry)["time"]) < NEW
            )
            assert entry == (erased.alone(leaf_hash(was_entry)) if gone else was_entry)
            assert now == (b"" if gone else was)
    ledger = scene.stand.ledger
    head = await ledger.head()
    for leaf_index in (3, 200):
        assert await ledger.inclusion_proof(leaf_index, head.size)
    with closing(open_store(scene.url)) as store:
        assert stored.empty(store, 0, len(before), PERIOD) == 300
        assert stored.empty(store, 0, len(before), PERIOD) == 0
    assert {beside for _, beside in scene.beside(None)[3:300]} == {b""}
    assert all(erased.is_alone(entry) for entry, _ in scene.beside(None)[3:300])
    assert await ledger.head() == head
    for leaf_index in (3, 200):
        assert await ledger.inclusion_proof(leaf_index, head.size)
        found = await ledger.entry(leaf_index)
        assert found is not None
        assert erased.hash_of(found.entry) == leaf_hash(before[leaf_index][0])
    await ledger.maintain()
    await ledger.record([observed()])


async def test_a_segment_goes_to_a_file_and_returns_verified(scene: Scene) -> None:
    before = scene.beside(None)
    scene.seal()
    sealed, file = scene.beside(None), scene.folder / "segment"
    with closing(open_store(scene.url)) as store:
        made = archive.write(store, file, ORIGIN, PERIOD, [(0, 200), (200, len(before))])
        assert (made.entries, made.sha256) == (300, hashlib.sha256(file.read_bytes()).hexdigest())
        assert made.whole == ((len(before) - 301, len(before) - 1),)
        with pytest.raises(Unavailable) as there:  # it may be the only copy
            archive.write(store, file, ORIGIN, PERIOD, [(0, 200)])
        assert there.value.rule == "segment/unwritable"
        assert archive.key_of(file) == PERIOD
        assert archive.take_out(store, file) == 300
        assert SECRET.encode() not in file.read_bytes()
        assert sum(beside == b"" for _, beside in scene.beside(scene.reading())) >= 300
        assert sum(erased.is_alone(entry) for entry, _ in scene.beside(scene.reading())) == 300
        assert archive.take_out(store, file) == 300  # again: nothing is there to take
        # nothing that was changed, cut or of another log is believed
        lines = file.read_bytes().splitlines(keepends=True)
        other = scene.folder / "other"
        swapped = [lines[0], lines[1].split(b"\t")[0] + b"\t" + lines[2].split(b"\t", 1)[1], *lines[2:]]
        for changed, origin, key_id in (
            (lines[:-1], ORIGIN, PERIOD),
            (lines[1:], ORIGIN, PERIOD),
            ([lines[0], b"x\n", *lines[2:]], ORIGIN, PERIOD),
            (swapped, ORIGIN, PERIOD),
            (lines, "another/log", PERIOD),
            (lines, ORIGIN, "another"),
        ):
            other.write_bytes(b"".join(changed))
            with pytest.raises(Corrupt) as refused:
                archive.verify(store, other, origin, key_id, DATA_KEY)
            assert refused.value.rule == "segment/archive"
        with pytest.raises(Corrupt) as refused:
            archive.verify(store, file, ORIGIN, PERIOD, bytes(32))
        assert refused.value.rule == "segment/changed"
        assert archive.verify(store, file, ORIGIN, PERIOD, DATA_KEY) == 300
        assert archive.put_back(store, file) == 300
    assert scene.beside(None) == sealed
    assert scene.beside(scene.reading()) == before


async def test_what_was_changed_or_belongs_to_another_entry_is_found(scene: Scene) -> None:
    scene.seal()
    rows = scene.beside(None)
    entry, beside = rows[8]
    at = 2 + len(PERIOD)
    for column, octets in (
        ("withheld", rows[7][1]),
        ("withheld", beside[:-1]),
        ("entry", entry[:-1] + bytes((entry[-1] ^ 1,))),
        ("entry", entry[:at] + rows[7][0][at : at + 32] + entry[at + 32 :]),
        ("entry", entry[: at + 33]),
    ):
        with closing(open_store(scene.url)) as store:
            with store.writing() as session:
                session.run(f"UPDATE leaf SET {column} = ? WHERE leaf_index = 8", octets)  # noqa: S608  # of the test
            with pytest.raises(Corrupt) as found:
                scene.beside(scene.reading())
            assert found.value.rule == "segment/changed"
            with store.writing() as session:
                session.run("UPDATE leaf SET entry = ?, withheld = ? WHERE leaf_index = 8", entry, beside)
    # a hash in the place of an entry is of that entry, or is found where it is proven
    with closing(open_store(scene.url)) as store, store.writing() as session:
        session.run("UPDATE leaf SET entry = ? WHERE leaf_index = 8", rows[7][0])
    with pytest.raises(Corrupt) as found:
        await scene.stand.ledger.entry(8)
    assert found.value.rule == "log/leaf-changed"


async def test_a_key_that_nobody_knows_is_no_deletion(scene: Scene) -> None:
    with closing(open_store(scene.url)) as store:
        stored.seal(store, 0, 10, NEW, "another", DATA_KEY, lambda _: None)
    with pytest.raises(Unavailable) as refused:
        scene.beside(scene.reading())
    assert refused.value.rule == "segment/unknown-key"


def test_a_sealed_value_belongs_to_its_leaf_and_its_key() -> None:
    beside, leaf = b'{"principal":["00","a"]}', leaf_hash(b"{}")
    octets = segments.sealed(beside, leaf, PERIOD, DATA_KEY)
    assert segments.key_of(octets) == PERIOD
    assert segments.key_of(beside) == segments.key_of(b"") == ""
    assert segments.opened(octets, leaf, DATA_KEY) == beside
    for wrong in (
        (octets, leaf_hash(b"[]"), DATA_KEY),
        (octets, leaf, bytes(32)),
        (octets[:-1], leaf, DATA_KEY),
    ):
        with pytest.raises(Corrupt) as refused:
            segments.opened(*wrong)
        assert refused.value.rule == "segment/changed"
