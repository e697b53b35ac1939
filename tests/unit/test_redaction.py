"""A redacted export or range verifies as the whole one does, says nothing of what was left out, and says how much."""

from pathlib import Path

import pytest

from cryptosvc.adapters import export
from cryptosvc.adapters.log_range import replay, write_range
from cryptosvc.adapters.redaction import redact
from cryptosvc.core.errors import Corrupt, Malformed
from cryptosvc.core.merkle import EMPTY, leaf_hash
from cryptosvc.core.query import Query
from tests.signed_logs import ORIGIN, SPKI, Entry, log, note

CALLER = Query.of({"caller": ["c1"]})


def exported(folder: Path, entries: list[Entry]) -> Path:
    path = folder / "export.jsonl"
    export.write_export(path, ORIGIN, [note(entries)], [], entries)
    return path


def test_what_was_left_out_is_gone_and_every_proof_holds(tmp_path: Path) -> None:
    entries = log()
    path = exported(tmp_path, entries)
    out = tmp_path / "redacted.jsonl"
    assert redact(path, out, ["principal"]) == (len(entries), len(entries))
    assert b'"c1"' in path.read_bytes()
    assert b'"c1"' not in out.read_bytes()
    whole, found = replay(path, SPKI, CALLER), replay(out, SPKI, CALLER)
    assert whole.leaves == tuple(range(1, len(entries), 2))
    assert (found.leaves, found.undecided) == ((), tuple(range(len(entries))))
    assert replay(out, SPKI, Query.of({"key": ["k1"]})) == replay(path, SPKI, Query.of({"key": ["k1"]}))


def test_what_was_not_named_stays(tmp_path: Path) -> None:
    entries = log()
    path = exported(tmp_path, entries)
    out = tmp_path / "redacted.jsonl"
    assert redact(path, out, ["target"]) == (len(entries), 0)
    assert out.read_bytes() == path.read_bytes()


def test_a_range_is_redacted_like_an_export_and_of_anything(tmp_path: Path) -> None:
    entries = log()
    path, out = tmp_path / "range.jsonl", tmp_path / "redacted.jsonl"
    write_range(
        path,
        ORIGIN,
        note(entries[:9]),
        note(entries),
        EMPTY.extended([leaf_hash(entry) for entry, _ in entries[:9]]),
        entries[9:],
    )
    assert redact(path, out, ["principal", "caller"]) == (len(entries) - 9, len(entries) - 9)
    assert replay(out, SPKI, CALLER).undecided == tuple(range(9, len(entries)))


@pytest.mark.parametrize(
    ("names", "rule"),
    [(["caller"], "redaction/needed"), (["custodian", "peer"], "redaction/needed"), ([], "redaction/none")],
)
def test_what_an_export_needs_is_not_left_out(tmp_path: Path, names: list[str], rule: str) -> None:
    out = tmp_path / "redacted.jsonl"
    with pytest.raises(Malformed) as caught:
        redact(exported(tmp_path, log()), out, names)
    assert caught.value.rule == rule
    assert not out.exists()


@pytest.mark.parametrize("broken", [b"{}\n", b"{}\t[]\n", b"{}\t{\n", b"{}\t"])
def test_a_broken_line_ends_it_and_leaves_no_file(tmp_path: Path, broken: bytes) -> None:
    path = exported(tmp_path, log())
    path.write_bytes(path.read_bytes() + broken)
    out = tmp_path / "redacted.jsonl"
    with pytest.raises(Corrupt) as caught:
        redact(path, out, ["principal"])
    assert caught.value.rule == "redaction/line"
    assert list(tmp_path.iterdir()) == [path]
