"""The fuzzer finds nothing in a few seconds, gets further than its seeds, and does find what is put there."""

import random
from pathlib import Path

import pytest

from cryptosvc.core.content.gbcs import dlms
from cryptosvc.core.errors import Malformed
from tests import fuzzing


@pytest.mark.parametrize("name", list(fuzzing.READERS))
def test_a_few_seconds_find_nothing(gbcs_data: Path, name: str) -> None:
    (run,) = fuzzing.fuzz_all(gbcs_data / "rtds", 3.0, 20_261_123, [name])
    assert run.findings == []
    assert run.inputs > 200
    assert 0 < run.read < run.inputs


def test_a_reader_that_falls_over_is_found(gbcs_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(octets: bytes) -> None:
        if len(octets) != 35:
            raise Malformed("not that long", rule="x")
        if octets[30] == 0xFF:
            raise IndexError

    monkeypatch.setitem(fuzzing.READERS, "token", careless)
    (run,) = fuzzing.fuzz_all(gbcs_data / "rtds", 5.0, 1, ["token"])
    assert run.findings
    assert {what for what, _ in run.findings} == {"IndexError: "}
    assert all(octets[30] == 0xFF for _, octets in run.findings)


def test_a_reader_that_does_not_come_back_is_found(gbcs_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(_: bytes) -> None:
        while True:
            pass

    monkeypatch.setattr(fuzzing, "SLOW_SECONDS", 0.05)
    monkeypatch.setitem(fuzzing.READERS, "token", endless)
    (run,) = fuzzing.fuzz_all(gbcs_data / "rtds", 30.0, 1, ["token"])
    assert {what for what, _ in run.findings} == {"Finding: it takes more than a second"}


def test_what_is_read_with_an_octet_too_many_is_found() -> None:
    with pytest.raises(fuzzing.Finding):
        fuzzing._require_refused(lambda: None)


def test_inputs_that_take_new_steps_are_kept(gbcs_data: Path) -> None:
    start = fuzzing.seeds(gbcs_data / "rtds")["attributes"][:1]
    short = fuzzing.fuzz("attributes", start, 0.0, random.Random(1))
    (first,) = start
    coverage = fuzzing.Coverage()
    fuzzing.tried(fuzzing.read_attributes, first.octets, coverage, short)
    assert coverage.taken()
    run = fuzzing.fuzz("attributes", start, 1.5, random.Random(1))
    assert run.steps > len(coverage.ever)
    assert run.kept > 1


def test_a_specification_that_a_selection_left_no_room_for_is_refused() -> None:
    # found by the fuzzer: two specifications by their number of octets, but the first one's selection takes them
    first = bytes((dlms.GET_WITH_SELECTION,)) + bytes(9)
    payload = b"\xd9\x20" + bytes(3) + b"\x00\x02" + first + b"\x01" + b"\x09\x08" + bytes(8)
    with pytest.raises(Malformed) as refused:
        dlms.read(payload, 0, len(payload), bytes(8), None)
    assert refused.value.rule == "gbcs/truncated"
