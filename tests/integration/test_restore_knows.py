"""What a restore is held against: whoever knows a newer state, or another log, is heard (G2.16)."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cryptosvc.adapters.store.engine import open_store
from cryptosvc.cli.backup import Asked
from cryptosvc.core import checkpoint as notes
from cryptosvc.core.backup import Manifest
from cryptosvc.core.checkpoint import Checkpoint, Note, NoteSignature
from cryptosvc.core.errors import Corrupt, Unavailable
from cryptosvc.core.merkle import leaf_hash
from cryptosvc.core.names import Environment
from cryptosvc.core.witness import AddCheckpoint, Witness
from cryptosvc.flow.cosign import Answer
from cryptosvc.wiring import restore_checks
from cryptosvc.wiring.restore_checks import Known, examine, known_states, needs_quorum
from tests.store_stand import CALLER, KEY, ORIGIN, SoftwareHmac, Stand, new_database, observed, open_stand

LOG = ec.generate_private_key(ec.SECP256R1())
LOG_KEY = LOG.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def signed(size: int, root: bytes) -> bytes:
    """A checkpoint as the log's key signs it."""
    found = Checkpoint(ORIGIN, size, root)
    signature = LOG.sign(notes.text(found), ec.ECDSA(hashes.SHA256()))
    return notes.emit(Note(found, (NoteSignature(ORIGIN, notes.key_id(LOG_KEY), signature),)))


@dataclass
class Peer:
    """A witness that answers always the same."""

    name: str
    answer: Answer | Unavailable
    asked: list[AddCheckpoint] = field(default_factory=list)

    @property
    def witness(self) -> Witness:
        return Witness(self.name, bytes(32))

    async def add_checkpoint(self, asked: AddCheckpoint) -> Answer:
        self.asked.append(asked)
        if isinstance(self.answer, Unavailable):
            raise self.answer
        return self.answer


@dataclass
class Scene:
    stand: Stand
    url: str
    folder: Path
    manifest: Manifest

    @property
    def settings(self) -> SimpleNamespace:
        return SimpleNamespace(
            store=SimpleNamespace(anchor=self.folder / "anchor", url=self.url),
            log=SimpleNamespace(origin=ORIGIN),
        )

    async def known(self, *peers: Peer, **asked: object) -> tuple[list[Known], list[str]]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(restore_checks.witnesses, "peers", lambda _: peers)
            return await known_states(
                self.settings,  # type: ignore[arg-type]  # as much of it as is looked at
                SoftwareHmac(),
                Asked(key=self.folder / "key", **asked),  # type: ignore[arg-type]  # a test's keywords
                self.manifest,
                LOG_KEY,
            )

    async def examined(self, *known: Known) -> int:
        store = SimpleNamespace(ledger=self.stand.ledger, registry=self.stand.keys)
        settings = self.settings
        return await examine(store, settings, self.manifest, known, LOG_KEY, lambda *_: None)  # type: ignore[arg-type]  # as above


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    url = new_database(f"sqlite:///{tmp_path}/store.db")
    stand = await open_stand(url, tmp_path, first=True)
    await stand.keys.change([KEY, CALLER])
    await stand.ledger.record([observed() for _ in range(5)])
    head = await stand.ledger.head()
    await stand.ledger.keep_checkpoint(signed(head.size, head.root))
    manifest = Manifest(
        origin=ORIGIN,
        system="supplier-1",
        environment="test",
        made_at=1,
        size=head.size,
        root=head.root,
        checkpoint=signed(head.size, head.root).decode(),
        sha256=bytes(32),
        octets=0,
        rows={},
        software="",
        policy_digest="",
    )
    (tmp_path / "anchor").unlink(missing_ok=True)
    yield Scene(stand, url, tmp_path, manifest)
    await stand.ledger.close()


async def test_everybody_who_knows_something_is_asked(scene: Scene):
    size, root = scene.manifest.size, scene.manifest.root
    peers = (
        Peer("same", Answer(200, b"")),
        Peer("older", Answer(409, b"3\n")),
        Peer("newer", Answer(409, b"%d\n" % (size + 9))),
        Peer("stranger", Answer(404, b"")),
        Peer("away", Unavailable("-", rule="witness/unreachable")),
    )
    known, silent = await scene.known(*peers)
    assert known == [Known("same", size, root), Known("older", 3, b""), Known("newer", size + 9, b"")]
    assert silent == ["stranger", "away"]
    assert all(peer.asked == [AddCheckpoint(size, (), scene.manifest.checkpoint.encode())] for peer in peers)
    note = scene.folder / "auditor.note"
    note.write_bytes(signed(4, b"\x01" * 32))
    known, _ = await scene.known(known=[note], replaces=scene.url)
    assert known == [Known("auditor.note", 4, b"\x01" * 32), Known("the store it replaces", size, root)]
    await scene.stand.ledger.record([observed()])
    await scene.stand.ledger.maintain()  # writes the anchor
    known, _ = await scene.known()
    assert [(one.source, one.size) for one in known] == [("anchor", size + 1)]


async def test_what_is_not_of_the_log_is_refused(scene: Scene):
    with pytest.raises(Corrupt) as refused:
        await scene.known(Peer("faithful", Answer(409, b"%d\n" % scene.manifest.size)))
    assert refused.value.rule == "restore/forked"
    note = scene.folder / "forged.note"
    octets = signed(4, bytes(32))
    note.write_bytes(octets.replace(b"\n4\n", b"\n5\n"))
    with pytest.raises(Corrupt):
        await scene.known(known=[note])
    with open_store(scene.url).writing() as session:
        session.run("UPDATE head SET tag = ?", bytes(32))
    with pytest.raises(Corrupt) as refused:
        await scene.known(replaces=scene.url)
    assert refused.value.rule == "log/head-forged"


async def test_a_backup_of_another_log_than_is_known_is_a_fork_whoever_approves(scene: Scene):
    size, root = scene.manifest.size, scene.manifest.root
    entries = [entry for entry, _ in scene.stand.ledger.entries(0, 2)]
    known = Known("auditor.note", 1, leaf_hash(entries[0]))
    assert (
        await scene.examined(known, Known("same", size, root), Known("newer", size + 5, b"\x02" * 32)) == size
    )
    for wrong in (Known("auditor.note", 1, leaf_hash(entries[1])), Known("auditor.note", size, bytes(32))):
        with pytest.raises(Corrupt) as refused:
            await scene.examined(known, wrong)
        assert refused.value.rule == "restore/forked"


async def test_a_snapshot_that_its_manifest_is_not_of_is_refused(scene: Scene):
    scene.manifest = replace(scene.manifest, size=scene.manifest.size - 1)
    with pytest.raises(Corrupt) as refused:
        await scene.examined()
    assert refused.value.rule == "backup/head"


@pytest.mark.parametrize(
    ("environment", "known", "needs"),
    [
        (Environment.TEST, [], True),
        (Environment.TEST, [Known("a", 9, b"")], False),
        (Environment.TEST, [Known("a", 10, b"")], False),
        (Environment.TEST, [Known("a", 9, b""), Known("b", 11, b"")], True),
        (Environment.LIVE, [Known("a", 10, b"")], True),
    ],
)
def test_who_may_restore_alone(environment: Environment, known: list[Known], needs: bool):
    assert needs_quorum(environment, known, 10) is needs


async def test_an_edited_entry_is_found_before_anything_is_written(scene: Scene):
    with open_store(scene.url).writing() as session:
        (entry, _) = session.leaf(5)
        session.run("UPDATE leaf SET entry = ? WHERE leaf_index = 5", entry.replace(b'"test"', b'"live"'))
    with pytest.raises(Corrupt) as refused:
        await scene.examined()
    assert refused.value.rule in {"log/leaf-changed", "export/root"}
