"""An export is believed only as it was signed: every way to change it is caught, by name."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cryptosvc.adapters import export
from cryptosvc.core import checkpoint
from cryptosvc.core.canonical import JsonValue, digest
from cryptosvc.core.commitments import ENTRY_VERSION
from cryptosvc.core.entries import CHUNK_ENTRIES
from cryptosvc.core.errors import Corrupt, CryptosvcError
from cryptosvc.core.evidence import RecordBeside
from cryptosvc.core.merkle import leaf_hash, root_of
from cryptosvc.core.record import sealed
from tests.second_verifier import agreeing

ORIGIN = "example.test/log"
KEY = ec.generate_private_key(ec.SECP256R1())
SPKI = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
AT = 1_800_000_000_000_000_000

Entry = tuple[bytes, bytes]


@pytest.fixture(autouse=True)
def two_verifiers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each export here is verified by both verifiers, which must agree."""
    monkeypatch.setattr(export, "verify_export", agreeing(export.verify_export))


def leaf(kind: str, withheld: dict[str, str] | None = None, **fields: JsonValue) -> Entry:
    entry: dict[str, JsonValue] = {"v": ENTRY_VERSION, "kind": kind, "time": str(AT), **fields}
    made = sealed(entry, withheld or {}, bytes(16))
    return made.entry, made.withheld


def key_document(version: int, state: str) -> dict[str, JsonValue]:
    return {"key_id": "supplier-1", "version": version, "state": state}


def record_change(version: int, state: str) -> Entry:
    return leaf(
        "key-record",
        key="supplier-1",
        record_version=version,
        record_digest=digest(key_document(version, state)).hex(),
        state=state,
    )


def use(version: int, number: int) -> Entry:
    return leaf(
        "use",
        {"principal": "caller-1", "target": f"device-{number}"},
        key="supplier-1",
        key_version=version,
        operation="sign",
        content_kind="gbcs-pre-command",
        outcome="signed",
        n=number,
    )


def small_log(uses: int = 20) -> list[Entry]:
    return [leaf("genesis"), record_change(1, "active"), *(use(1, number) for number in range(uses))]


def note(entries: list[Entry], origin: str = ORIGIN, key: ec.EllipticCurvePrivateKey = KEY) -> bytes:
    found = checkpoint.Checkpoint(origin, len(entries), root_of([leaf_hash(entry) for entry, _ in entries]))
    signature = key.sign(checkpoint.text(found), ec.ECDSA(hashes.SHA256()))
    return checkpoint.emit(
        checkpoint.Note(found, (checkpoint.NoteSignature(origin, checkpoint.key_id(SPKI), signature),))
    )


def records(version: int = 1, state: str = "active", leaf_index: int = 1) -> list[RecordBeside]:
    return [RecordBeside("key-record", "supplier-1", leaf_index, key_document(version, state))]


def written(folder: Path, entries: list[Entry], notes: list[bytes], beside: list[RecordBeside]) -> Path:
    path = folder / "export.jsonl"
    export.write_export(path, ORIGIN, notes, beside, entries)
    return path


def test_an_untouched_export_verifies_with_all_its_checkpoints(tmp_path: Path) -> None:
    entries = small_log()
    path = written(tmp_path, entries, [note(entries[:size]) for size in (1, 2, 7, 16, 22)], records())
    verdict = export.verify_export(path, SPKI, origin=ORIGIN)
    assert (verdict.size, verdict.checkpoints, verdict.records) == (22, 5, 1)
    assert verdict.kinds == {"genesis": 1, "key-record": 1, "use/signed": 20}


def test_a_log_of_many_chunks_verifies_in_many_processes(tmp_path: Path) -> None:
    entries = small_log(5 * CHUNK_ENTRIES)
    notes = [note(entries[:size]) for size in (4096, 5000, len(entries))]
    path = written(tmp_path, entries, notes, records())
    seen: list[int] = []
    verdict = export.verify_export(path, SPKI, processes=2, progress=lambda done, _size: seen.append(done))
    assert verdict.size == len(entries) == seen[-1]
    assert verdict.root == root_of([leaf_hash(entry) for entry, _ in entries])


def changed(entries: list[Entry]) -> list[Entry]:
    entry, withheld = entries[9]
    return [*entries[:9], (entry.replace(b'"n":7', b'"n":8'), withheld), *entries[10:]]


def without_one(entries: list[Entry]) -> list[Entry]:
    return [*entries[:9], *entries[10:], use(1, 99)]


def with_one_more(entries: list[Entry]) -> list[Entry]:
    return [*entries[:9], use(1, 99), *entries[9:-1]]


def reordered(entries: list[Entry]) -> list[Entry]:
    return [*entries[:9], entries[10], entries[9], *entries[11:]]


@pytest.mark.parametrize("tamper", [changed, without_one, with_one_more, reordered])
def test_a_tampered_entry_breaks_the_root(
    tmp_path: Path, tamper: Callable[[list[Entry]], list[Entry]]
) -> None:
    entries = small_log()
    path = written(tmp_path, tamper(entries), [note(entries)], records())
    with pytest.raises(Corrupt) as caught:
        export.verify_export(path, SPKI)
    assert caught.value.rule == "export/root"


def test_a_forked_log_fails_against_an_older_checkpoint(tmp_path: Path) -> None:
    entries = small_log()
    other = [*entries[:5], *(use(1, number) for number in range(100, 117))]
    path = written(tmp_path, other, [note(entries[:10]), note(other)], records())
    with pytest.raises(Corrupt) as caught:
        export.verify_export(path, SPKI)
    assert caught.value.rule == "export/root"


def test_a_key_record_that_differs_from_the_log_is_named(tmp_path: Path) -> None:
    entries = small_log()
    path = written(tmp_path, entries, [note(entries)], records(state="suspended"))
    with pytest.raises(Corrupt, match="supplier-1") as caught:
        export.verify_export(path, SPKI)
    assert caught.value.rule == "export/record-differs"


def test_an_older_record_with_its_older_leaf_is_named(tmp_path: Path) -> None:
    entries = [*small_log(), record_change(2, "suspended")]
    path = written(tmp_path, entries, [note(entries)], records(1, "active", 1))
    with pytest.raises(Corrupt) as caught:
        export.verify_export(path, SPKI)
    assert caught.value.rule == "export/record-differs"


def test_a_missing_and_an_unknown_record_are_named(tmp_path: Path) -> None:
    entries = small_log()
    with pytest.raises(Corrupt) as caught:
        export.verify_export(written(tmp_path, entries, [note(entries)], []), SPKI)
    assert caught.value.rule == "export/record-missing"
    stranger = replace(records()[0], record_id="stranger")
    with pytest.raises(Corrupt) as caught:
        export.verify_export(written(tmp_path, entries, [note(entries)], [*records(), stranger]), SPKI)
    assert caught.value.rule == "export/record-unknown"


@pytest.mark.parametrize(
    ("extra", "rule"),
    [
        (use(2, 1), "export/use-of-unknown-key"),
        (use(0, 1), "export/use-of-unknown-key"),
        (record_change(3, "active"), "export/record-version"),
        (record_change(1, "active"), "export/record-version"),
        (
            leaf("use", key="supplier-1", key_version=1, operation="sign", content_kind="x"),
            "export/use-in-state",
        ),
        (
            leaf("use", key="supplier-1", key_version=1, operation="sign", content_kind="x", time="soon"),
            "export/entry",
        ),
    ],
)
def test_a_log_that_contradicts_itself_is_named(tmp_path: Path, extra: Entry, rule: str) -> None:
    entries = [*small_log(), extra]
    with pytest.raises(Corrupt) as caught:
        export.verify_export(written(tmp_path, entries, [note(entries)], records()), SPKI)
    assert caught.value.rule == rule


def test_a_use_in_a_state_that_forbids_it_is_named(tmp_path: Path) -> None:
    entries = [*small_log(), record_change(2, "suspended"), use(2, 7)]
    path = written(tmp_path, entries, [note(entries)], records(2, "suspended", 22))
    with pytest.raises(Corrupt) as caught:
        export.verify_export(path, SPKI)
    assert caught.value.rule == "export/use-in-state"


def test_a_value_beside_an_entry_that_is_not_the_committed_one_is_named(tmp_path: Path) -> None:
    entries = small_log()
    entry, withheld = entries[5]
    entries[5] = (entry, withheld.replace(b"caller-1", b"caller-2"))
    with pytest.raises(Corrupt) as caught:
        export.verify_export(written(tmp_path, entries, [note(entries)], records()), SPKI)
    assert caught.value.rule == "export/commitment"


@pytest.mark.parametrize(
    "withheld",
    [
        b'{"principal":["00000000000000000000000000000000",5]}',
        b'{"principal":[5,"caller-1"]}',
        b'{"principal":"caller-1"}',
        b'{"principal":[]}',
        b"[]",
        b"5",
        b"null",
    ],
)
def test_a_value_beside_an_entry_of_another_type_is_named(tmp_path: Path, withheld: bytes) -> None:
    entries = small_log()
    entries[5] = (entries[5][0], withheld)
    with pytest.raises(Corrupt) as caught:
        export.verify_export(written(tmp_path, entries, [note(entries)], records()), SPKI)
    assert caught.value.rule == "export/withheld"


def test_redacted_values_break_no_proof(tmp_path: Path) -> None:
    entries = [(entry, b"") for entry, _ in small_log()]
    assert export.verify_export(written(tmp_path, entries, [note(entries)], records()), SPKI).size == 22


def test_another_key_or_origin_verifies_nothing(tmp_path: Path) -> None:
    entries = small_log()
    path = written(tmp_path, entries, [note(entries)], records())
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    with pytest.raises(Corrupt):
        export.verify_export(path, other.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(Corrupt):
        export.verify_export(path, SPKI, origin="other.test/log")


def test_no_single_changed_octet_goes_unseen(tmp_path: Path) -> None:
    """Every changed octet is refused, or leaves entries, records and checkpoints exactly as they were."""
    entries = small_log()
    path = written(tmp_path, entries, [note(entries)], records())
    original = path.read_bytes()
    draw = random.Random(7)
    caught = 0
    for _ in range(600):
        octets = bytearray(original)
        position = draw.randrange(len(octets))
        octets[position] ^= 1 << draw.randrange(8)
        path.write_bytes(octets)
        try:
            export.verify_export(path, SPKI, origin=ORIGIN)
        except CryptosvcError:
            caught += 1
            continue
        assert list(export.entries_of(path)) == entries, position
    assert caught > 590


def test_a_truncated_export_is_refused_at_every_length(tmp_path: Path) -> None:
    entries = small_log(3)
    path = written(tmp_path, entries, [note(entries)], records())
    original = path.read_bytes()
    for length in range(len(original)):
        path.write_bytes(original[:length])
        with pytest.raises(CryptosvcError):
            export.verify_export(path, SPKI)


def test_an_export_that_does_not_hold_what_its_checkpoint_signs_is_not_left_behind(tmp_path: Path) -> None:
    entries = small_log()
    with pytest.raises(Corrupt):
        written(tmp_path, entries[:-1], [note(entries)], records())
    assert list(tmp_path.iterdir()) == []
