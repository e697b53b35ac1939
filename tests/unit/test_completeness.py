"""A range of the log proves an answer complete: whatever is dropped, added, moved or edited is found off-line, by name."""

import random
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from cryptosvc.adapters.export import write_export
from cryptosvc.adapters.log_range import replay, write_range
from cryptosvc.core.completeness import Answered, frontier_of
from cryptosvc.core.errors import Corrupt, CryptosvcError, Malformed
from cryptosvc.core.merkle import EMPTY, inclusion_proof, leaf_hash, root_of
from cryptosvc.core.query import Query
from cryptosvc.core.record import sealed
from tests.signed_logs import ORIGIN, SPKI, STOP, Entry, log, note

K1 = Query.of({"key": ["k1"]})
CALLER = Query.of({"caller": ["c1"], "kind": ["use"]})
START = 11


def ranged(folder: Path, entries: list[Entry], start: int = START) -> Path:
    path = folder / "range.jsonl"
    frontier = EMPTY.extended([leaf_hash(entry) for entry, _ in entries[:start]])
    write_range(
        path, ORIGIN, note(entries[:start]) if start else b"", note(entries), frontier, entries[start:]
    )
    return path


def answered(folder: Path, entries: list[Entry], leaves: list[int]) -> Path:
    path = folder / "answer.jsonl"
    lines = [{"leaf_index": index, "leaf_hash": leaf_hash(entries[index][0]).hex()} for index in leaves]
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    return path


@pytest.mark.parametrize("start", [0, 1, START, 16, STOP])
def test_a_range_gives_every_entry_that_answers_and_no_other(tmp_path: Path, start: int) -> None:
    entries = log()
    path = ranged(tmp_path, entries, start)
    expected = tuple(number for number in range(start, STOP) if number % 3 == 1)
    seen: list[tuple[int, int]] = []
    found = replay(path, SPKI, K1, progress=lambda done, size: seen.append((done, size)))
    assert found == Answered(start, STOP, expected, ())
    assert seen == ([(STOP - start, STOP - start)] if start < STOP else [])
    by_caller = replay(path, SPKI, CALLER, origin=ORIGIN)
    assert by_caller.leaves == tuple(number for number in range(start, STOP) if number % 2)


def test_no_time_an_entry_may_claim_is_outside_of_a_question_without_an_end(tmp_path: Path) -> None:
    leaves = [
        sealed({"v": 1, "kind": "use", "time": time, "key": "k1"}, {}, bytes(16))
        for time in ("0", "x", str(2**63 - 1), str(2**63), "9" * 20, "9" * 21)
    ]
    entries = [(leaf.entry, leaf.withheld) for leaf in leaves]
    assert replay(ranged(tmp_path, entries, 0), SPKI, K1).leaves == (0, 1, 2, 3, 4, 5)


def test_an_export_is_a_range_too(tmp_path: Path) -> None:
    entries = log()
    path = tmp_path / "export.jsonl"
    write_export(path, ORIGIN, [note(entries[:5]), note(entries)], [], entries)
    assert replay(path, SPKI, K1).leaves == tuple(range(1, STOP, 3))


def test_an_answer_that_leaves_out_one_entry_is_found(tmp_path: Path) -> None:
    entries = log()
    path = ranged(tmp_path, entries)
    whole = list(replay(path, SPKI, K1).leaves)
    assert replay(path, SPKI, K1, answer=answered(tmp_path, entries, whole)).leaves == tuple(whole)
    begun_earlier = answered(tmp_path, entries, [1, 4, *whole[::-1]])
    assert replay(path, SPKI, K1, answer=begun_earlier).leaves == tuple(whole)
    for left_out in whole:
        short = [index for index in whole if index != left_out]
        with pytest.raises(Corrupt) as caught:
            replay(path, SPKI, K1, answer=answered(tmp_path, entries, short))
        assert caught.value.rule == "completeness/missing"
        assert f"entry {left_out} " in caught.value.message


def test_an_answer_with_another_entry_in_it_is_found(tmp_path: Path) -> None:
    entries = log()
    path = ranged(tmp_path, entries)
    whole = list(replay(path, SPKI, K1).leaves)
    with pytest.raises(Corrupt) as caught:
        replay(path, SPKI, K1, answer=answered(tmp_path, entries, [*whole, START]))
    assert caught.value.rule == "completeness/foreign"
    moved = answered(tmp_path, entries, whole)
    other = leaf_hash(entries[0][0]).hex().encode()
    moved.write_bytes(moved.read_bytes().replace(leaf_hash(entries[whole[1]][0]).hex().encode(), other))
    with pytest.raises(Corrupt) as caught:
        replay(path, SPKI, K1, answer=moved)
    assert caught.value.rule == "completeness/changed"
    for broken in (b"x\n", b"[]\n", b"{}\n", b'{"leaf_index":"x","leaf_hash":""}\n', b'{"leaf_index":1}\n'):
        moved.write_bytes(broken)
        with pytest.raises(Malformed):
            replay(path, SPKI, K1, answer=moved)


def dropped(lines: list[bytes]) -> list[bytes]:
    return [*lines[:9], *lines[10:]]


def doubled(lines: list[bytes]) -> list[bytes]:
    return [*lines[:9], lines[9], *lines[9:]]


def swapped(lines: list[bytes]) -> list[bytes]:
    return [*lines[:9], lines[10], lines[9], *lines[11:]]


def edited(lines: list[bytes]) -> list[bytes]:
    return [*lines[:9], lines[9].replace(b'"key":"k', b'"key":"j'), *lines[10:]]


def in_another_s_place(lines: list[bytes]) -> list[bytes]:
    return [*lines[:9], lines[12], *lines[10:]]


def disclosed_wrongly(lines: list[bytes]) -> list[bytes]:
    return [*lines[:9], lines[9].replace(b'"c0"', b'"c2"').replace(b'"c1"', b'"c3"'), *lines[10:]]


def cut(lines: list[bytes]) -> list[bytes]:
    return [*lines[:-1], lines[-1][:-1]]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (dropped, "completeness/truncated"),
        (doubled, "completeness/truncated"),
        (swapped, "completeness/root"),
        (edited, "completeness/root"),
        (in_another_s_place, "completeness/root"),
        (disclosed_wrongly, "export/commitment"),
        (cut, "completeness/truncated"),
    ],
)
def test_a_changed_range_proves_nothing(
    tmp_path: Path, change: Callable[[list[bytes]], list[bytes]], rule: str
) -> None:
    path = ranged(tmp_path, log())
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(Corrupt) as caught:
        replay(path, SPKI, K1)
    assert caught.value.rule == rule


def test_a_dropped_entry_with_its_checkpoint_and_head_put_right_is_found(tmp_path: Path) -> None:
    """Somebody with the file but not the log's key cannot make the rest fit; somebody who forks the log is found by the
    checkpoint the auditor kept.
    """
    entries = log()
    short = [*entries[:20], *entries[21:]]
    path = ranged(tmp_path, short)
    kept = note(entries[:START])
    assert kept.decode().replace("\n", "\\n").encode()[:40] in path.read_bytes()
    forked = ranged(tmp_path, [*entries[:3], *entries[4:]])
    lines = forked.read_bytes().splitlines(keepends=True)
    lines[1] = orjson.dumps({"checkpoint": kept.decode()}) + b"\n"
    forked.write_bytes(b"".join(lines))
    with pytest.raises(Corrupt) as caught:
        replay(forked, SPKI, K1)
    assert caught.value.rule == "completeness/frontier"


@pytest.mark.parametrize("line", [0, 1, 2, 3])
def test_every_flip_before_the_entries_is_caught(tmp_path: Path, line: int) -> None:
    path = ranged(tmp_path, log())
    lines = path.read_bytes().splitlines(keepends=True)
    chance = random.Random(line)
    for at in chance.sample(range(len(lines[line])), 40):
        flipped = bytearray(lines[line])
        flipped[at] ^= 1 << chance.randrange(7)
        path.write_bytes(b"".join([*lines[:line], bytes(flipped), *lines[line + 1 :]]))
        with pytest.raises(CryptosvcError):
            replay(path, SPKI, K1, origin=ORIGIN)


def test_what_was_redacted_is_counted_and_not_taken_for_no(tmp_path: Path) -> None:
    entries = log()
    for number in (13, 14, 15):
        entries[number] = (entries[number][0], b"")
    path = ranged(tmp_path, entries)
    found = replay(path, SPKI, CALLER)
    assert found.undecided == (13, 14, 15)
    assert not {13, 15} & set(found.leaves)
    assert replay(path, SPKI, Query.of({"caller": ["c1"], "key": ["k1"]})).undecided == (13,)
    assert replay(path, SPKI, Query.of({"caller": ["c1"]}, stop=1000)).undecided == ()
    assert replay(path, SPKI, K1).undecided == ()


def test_the_frontier_comes_out_of_the_proof_of_the_last_entry() -> None:
    digests = [leaf_hash(bytes([number])) for number in range(70)]
    for size in range(1, 71):

        def subtree(height: int, index: int) -> bytes:
            return root_of(digests[index << height : (index + 1) << height])

        path = inclusion_proof(size - 1, size, subtree)
        assert frontier_of(digests[size - 1], path, size) == EMPTY.extended(digests[:size])
        with pytest.raises(Malformed):
            frontier_of(digests[size - 1], [*path, bytes(32)], size)
    with pytest.raises(Malformed):
        frontier_of(digests[0], [], 0)
