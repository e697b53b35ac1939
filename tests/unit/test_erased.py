"""A hash alone is believed where the log says that the entry was deleted, and nowhere else: by both verifiers, and over a range."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryptosvc.adapters import export
from cryptosvc.adapters.log_range import replay, write_range
from cryptosvc.core import erased
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.errors import Corrupt
from cryptosvc.core.history import RecordChange, Use, require_within_limits
from cryptosvc.core.life import UnixSeconds
from cryptosvc.core.merkle import EMPTY, leaf_hash, root_of
from cryptosvc.core.query import Query
from tests.second_verifier import agreeing
from tests.unit.test_export_verification import (
    ORIGIN,
    SPKI,
    Entry,
    leaf,
    note,
    record_change,
    records,
    use,
    written,
)

PERIOD = "log-2026"
GENESIS, USES = 2, 12


@pytest.fixture(autouse=True)
def two_verifiers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each export here is verified by both verifiers, which must agree."""
    monkeypatch.setattr(export, "verify_export", agreeing(export.verify_export))


def said(kind: str, key: str = PERIOD, **facts: JsonValue) -> Entry:
    return leaf(kind, facts={"key": key, **facts})


def whole(*after: Entry) -> list[Entry]:
    """Genesis, a key's record, a dozen uses, and what is said of them later."""
    return [leaf("genesis"), record_change(1, "active"), *(use(1, number) for number in range(USES)), *after]


def without(entries: Sequence[Entry], gone: Sequence[int]) -> list[Entry]:
    return [
        (erased.alone(leaf_hash(entry)), b"") if number in gone else (entry, beside)
        for number, (entry, beside) in enumerate(entries)
    ]


def verified(folder: Path, entries: Sequence[Entry], gone: Sequence[int]) -> int:
    """Verify an export of which these entries are hashes alone; how many are said to be deleted."""
    path = written(folder, without(entries, gone), [note(list(entries[:5])), note(list(entries))], records())
    verdict = export.verify_export(path, SPKI)
    assert verdict.root == root_of([leaf_hash(entry) for entry, _ in entries])
    return verdict.gone.archived


def rule(folder: Path, entries: Sequence[Entry], gone: Sequence[int]) -> str:
    with pytest.raises(Corrupt) as caught:
        verified(folder, entries, gone)
    return caught.value.rule


SEALED = said("sealed", leaves="4-8,9-12")
FILE = "00" * 32
AWAY = said("archived", entries="7", sha256=FILE, leaves="4-8,9-12")
GONE = [4, 5, 6, 7, 9, 10, 11]


def test_every_other_entry_is_proven_as_before(tmp_path: Path) -> None:
    entries = whole(SEALED, AWAY, use(1, 99))
    assert verified(tmp_path, entries, []) == 0
    assert verified(tmp_path, entries, GONE) == len(GONE)
    assert verified(tmp_path, entries, [5]) == 1  # what was kept elsewhere may still be shown


def attacks() -> Iterator[tuple[str, list[Entry], list[int], str]]:
    yield "nothing says so", whole(), [5], "export/erased"
    yield "sealed, and never deleted", whole(SEALED), [5], "export/erased"
    yield (
        "archived without it",
        whole(SEALED, said("archived", sha256=FILE, leaves="6-8")),
        [5],
        "export/erased",
    )
    yield "one more than was sealed", whole(SEALED, AWAY), [5, 8], "export/erased"
    yield "before the first that was", whole(SEALED, AWAY), [3, 4], "export/erased"
    yield "after the last that was", whole(SEALED, AWAY), [11, 12], "export/erased"
    yield "brought back", whole(SEALED, AWAY, said("returned", sha256=FILE)), [5], "export/erased"
    first, second = (
        said("archived", sha256=name * 32, leaves=of) for name, of in (("01", "4-8"), ("02", "9-12"))
    )
    both = whole(SEALED, first, second, said("returned", sha256="01" * 32))
    yield "in the file that came back, while another is out", both, [5, 9], "export/erased"
    yield "itself", whole(SEALED, AWAY), [14], "export/erased"
    yield "a leaf that comes later", whole(said("sealed", leaves="14-20"), AWAY), [], "export/entry"
    yield "itself, said by itself", whole(said("sealed", leaves="4-15"), AWAY), [5], "export/entry"
    yield "the genesis", whole(SEALED, AWAY), [0], "export/genesis"
    few = [leaf("genesis"), record_change(1, "active"), said("archived", sha256=FILE, leaves="1-2")]
    yield "a record", few, [1], "export/record-unknown"
    yield "runs out of order", whole(said("sealed", leaves="9-12,4-8"), AWAY), [5], "export/entry"
    for text in ("4-4", "8-4", "4", "a-8", "4-8,", "-8", "4-8;9-12", "٤-8"):
        yield f"runs {text!r}", whole(said("sealed", leaves=text), AWAY), [], "export/entry"
    yield "no key", whole(leaf("sealed", facts={"leaves": "4-8"}), AWAY), [], "export/entry"
    yield "no file", whole(SEALED, said("archived", leaves="4-8")), [], "export/entry"
    yield "no facts", whole(leaf("archived")), [], "export/entry"


@pytest.mark.parametrize(
    ("entries", "gone", "wanted"),
    [one[1:] for one in attacks()],
    ids=[one[0] for one in attacks()],
)
def test_no_other_entry_may_be_left_out(
    tmp_path: Path, entries: list[Entry], gone: list[int], wanted: str
) -> None:
    assert rule(tmp_path, entries, gone) == wanted


def test_another_hash_is_another_log(tmp_path: Path) -> None:
    entries = whole(SEALED, AWAY)
    changed = without(entries, GONE)
    changed[5] = erased.alone(leaf_hash(b"{}")), b""
    path = written(tmp_path, changed, [note(entries)], records())
    with pytest.raises(Corrupt) as caught:
        export.verify_export(path, SPKI)
    assert caught.value.rule == "export/root"


@pytest.mark.parametrize("digits", ["A" * 64, "a" * 63, "a" * 65, "g" * 64])
def test_a_hash_has_one_form(tmp_path: Path, digits: str) -> None:
    entries = whole(SEALED, AWAY)
    changed = without(entries, GONE)
    changed[5] = digits.encode(), b""
    path = written(tmp_path, changed, [note(entries)], records())
    with pytest.raises(Corrupt) as caught:
        export.verify_export(path, SPKI)
    assert caught.value.rule == "export/entry"


def test_nothing_stands_beside_a_hash(tmp_path: Path) -> None:
    entries = whole(SEALED, AWAY)
    changed = without(entries, GONE)
    changed[5] = changed[5][0], entries[5][1]
    path = written(tmp_path, changed, [note(entries)], records())
    with pytest.raises(Corrupt) as caught:
        export.verify_export(path, SPKI)
    assert caught.value.rule == "export/entry"


def ranged(folder: Path, entries: list[Entry], gone: Sequence[int], start: int, stop: int) -> Path:
    path = folder / "range"
    frontier = EMPTY.extended([leaf_hash(entry) for entry, _ in entries[:start]])
    held = without(entries, gone)[start:stop]
    write_range(path, ORIGIN, note(entries[:start]) if start else b"", note(entries[:stop]), frontier, held)
    return path


def test_a_range_counts_what_was_deleted_as_undecided_and_says_so_itself(tmp_path: Path) -> None:
    entries = whole(SEALED, AWAY)
    query = Query.of({"key": ["supplier-1"], "kind": ["use"]})
    for start in (0, 3, 6):
        found = replay(ranged(tmp_path, entries, GONE, start, len(entries)), SPKI, query)
        gone = [one for one in GONE if one >= start]
        assert (found.undecided, found.gone) == (tuple(gone), erased.Gone(0, len(gone)))
        assert found.leaves == tuple(n for n in range(max(start, GENESIS), GENESIS + USES) if n not in GONE)
    # it ends before the log says so
    with pytest.raises(Corrupt) as caught:
        replay(ranged(tmp_path, entries, GONE, 0, len(entries) - 1), SPKI, query)
    assert caught.value.rule == "export/erased"


def test_a_destroyed_key_is_one_whose_record_says_so() -> None:
    missing = erased.Missing()
    for number in (3, 4):
        missing.miss(number)
    missing.hear(5, {"kind": "sealed", "facts": {"key": PERIOD, "leaves": "3-5"}})
    missing.hear(6, {"kind": "key-record", "key": PERIOD, "state": "deactivated"})
    with pytest.raises(Corrupt):
        missing.require_gone()
    assert missing.count() == erased.Gone()
    later = erased.Missing()
    later.hear(7, {"kind": "key-record", "key": PERIOD, "state": "destroyed"})
    later.hear(8, {"kind": "returned", "facts": {"sha256": FILE}})  # whatever comes after, it stays destroyed
    missing.add(later)
    assert missing.require_gone() == missing.count() == erased.Gone(2, 0)


def test_a_key_used_up_by_deleted_claims_was_used_up() -> None:
    def version(number: int, index: int, reference: str) -> RecordChange:
        return RecordChange(
            leaf_index=index,
            at=UnixSeconds(1),
            kind="key-record",
            record_id="k",
            version=number,
            digest="",
            document="",
            state="active",
            due=(),
            usage_limit=5,
            reason="rule" if reference else "init",
            reference=reference,
            approvals=(),
        )

    history = {("key-record", "k"): [version(1, 1, ""), version(2, 9, "schedule/usage-limit")]}
    three = Use(leaf_index=2, key="k", version=1, operation="sign", content_kind="", first_at=1, last_at=1)
    three.count = 3
    require_within_limits([three], history, [(5, 7)])
    require_within_limits([three], history, [(3, 9)])
    for lost in ([], [(5, 6)], [(8, 12)]):
        with pytest.raises(Corrupt) as caught:
            require_within_limits([three], history, lost)
        assert caught.value.rule == "export/usage-limit"


@given(st.sets(st.integers(0, 300)))
def test_runs_read_back(leaves: set[int]) -> None:
    runs = erased.runs_of(sorted(leaves))
    texts = list(erased.emit(runs))
    assert [run for text in texts for run in erased.parse(text) or []] == runs
    assert {leaf for start, stop in runs for leaf in range(start, stop)} == leaves


def test_many_runs_are_told_in_several() -> None:
    runs = [(2 * number, 2 * number + 1) for number in range(erased.MOST_RUNS + 1)]
    first, second = erased.emit(runs)
    assert (len(erased.parse(first) or []), erased.parse(second)) == (erased.MOST_RUNS, [runs[-1]])


@given(*[st.sets(st.integers(0, 60)) for _ in range(3)])
def test_what_is_gone_is_what_was_said_to_be_leaf_by_leaf(
    held: set[int], destroyed: set[int], archived: set[int]
) -> None:
    missing = erased.Missing()
    for leaf_index in sorted(held):
        missing.miss(leaf_index)
    missing.said = [
        erased.Said(70, PERIOD, "sealed", tuple(erased.runs_of(sorted(destroyed)))),
        erased.Said(71, PERIOD, "destroyed"),
        erased.Said(72, FILE, "archived", tuple(erased.runs_of(sorted(archived)))),
    ]
    if held <= destroyed | archived:
        assert missing.require_gone() == erased.Gone(len(held & destroyed), len(held - destroyed))
    else:
        with pytest.raises(Corrupt) as caught:
            missing.require_gone()
        assert f"entry {min(held - destroyed - archived)} " in caught.value.message
