"""What is withheld, sealed behind the log and deleted with its key: on SQLite and PostgreSQL (G2.17, G2.18)."""

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
from cryptosvc.core import segments
from cryptosvc.core.entries import values_beside
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
    assert (done.start, done.stop, done.entries) == (0, len(before) - 1, 300)  # the newest is too young
    assert scene.beside(scene.reading()) == before
    assert scene.asked == [PERIOD]
    as_it_stands = scene.beside(None)
    assert [entry for entry, _ in as_it_stands] == [entry for entry, _ in before]
    for (entry, now), (_, was) in zip(as_it_stands, before, strict=True):
        kept = orjson.loads(entry)["kind"] in segments.KEPT_KINDS or int(orjson.loads(entry)["time"]) >= NEW
        assert (now == was) is kept
        assert kept or (SECRET.encode() not in now and segments.key_of(now) == PERIOD)
    assert await scene.stand.ledger.head() == head
    await scene.stand.ledger.maintain()  # the log looks after itself as before
    # again: nothing is sealed twice, and it goes on where it was
    assert scene.seal().entries == 0
    assert scene.seal(done.stop, NEW + 1).entries == 1
    await asyncio.to_thread(scene.stand.ledger._store.close)  # so that nobody holds the write-ahead log
    stored.scrub(scene.url)
    stored.scrub(scene.url, rewrite=True)
    assert SECRET.encode() not in scene.octets()


async def test_a_destroyed_key_leaves_commitments_and_every_proof(scene: Scene) -> None:
    before = scene.beside(None)
    scene.seal()
    opener = scene.reading()
    assert scene.beside(opener) == before
    await scene.destroy()
    # known or not, the data key is used no more; the entries and what they commit to stay
    for reader in (opener, scene.reading()):
        for index, ((entry, now), (was_entry, was)) in enumerate(
            zip(scene.beside(reader), before, strict=False)
        ):
            assert entry == was_entry
            assert now in (b"", was)
            assert values_beside(index, orjson.loads(entry), now) == (
                values_beside(index, orjson.loads(entry), was) if now else {}
            )
    ledger = scene.stand.ledger
    head = await ledger.head()
    for leaf_index in (3, 200):
        assert await ledger.inclusion_proof(leaf_index, head.size)
    with closing(open_store(scene.url)) as store:
        assert stored.empty(store, 0, len(before), PERIOD) == 300
        assert stored.empty(store, 0, len(before), PERIOD) == 0
    assert {beside for _, beside in scene.beside(None)[3:300]} == {b""}
    await ledger.maintain()
    await ledger.record([observed()])


async def test_a_segment_goes_to_a_file_and_returns_verified(scene: Scene) -> None:
    before = scene.beside(None)
    scene.seal()
    sealed, file = scene.beside(None), scene.folder / "segment"
    with closing(open_store(scene.url)) as store:
        count, digest = archive.write(store, file, ORIGIN, PERIOD, [(0, 200), (200, len(before))])
        assert (count, digest) == (300, hashlib.sha256(file.read_bytes()).hexdigest())
        assert archive.key_of(file) == PERIOD
        assert archive.take_out(store, file) == 300
        assert SECRET.encode() not in file.read_bytes()
        assert sum(beside == b"" for _, beside in scene.beside(scene.reading())) >= 300
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
    with closing(open_store(scene.url)) as store, store.writing() as session:
        session.run("UPDATE leaf SET withheld = ? WHERE leaf_index = ?", rows[7][1], 8)
    with pytest.raises(Corrupt) as found:
        scene.beside(scene.reading())
    assert found.value.rule == "segment/changed"


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
