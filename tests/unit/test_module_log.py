"""A module's own log against the service's: what was signed past the service is found, and nothing else."""

import random
from dataclasses import replace

import orjson
import pytest

from cryptosvc.core.errors import Malformed
from cryptosvc.core.module_log import Counted, read, unrecorded
from cryptosvc.core.watch.defaults import DEFAULT_RULES
from cryptosvc.core.watch.watcher import Watcher
from cryptosvc.flow.module_log import ModuleLogReader
from tests.claims import authorised_to_sign, key_record
from tests.fakes.ledger import FakeKeys, FakeLedger
from tests.fakes.search import FakeSearch
from tests.store_stand import SCOPE, SetClock, checked

AT = 1_767_225_600


def row(number: int, at: int, object_id: bytes = b"\x01", label: str = "") -> Counted:
    return Counted(number, at, object_id, label)


def test_both_forms_say_the_same():
    table = b"time,object_id,label\n2026-01-01T00:00:00Z,01,k\n2026-01-01T01:00:00+01:00,,k\n"
    lines = (
        b'{"label":"k","object_id":"01","time":"2026-01-01T00:00:00Z"}\n'
        b'{"label":"k","object_id":"","time":"2026-01-01T01:00:00+01:00"}\n'
    )
    assert read(table) == read(lines) == (row(1, AT, label="k"), row(2, AT, b"", "k"))


@pytest.mark.parametrize(
    ("octets", "rule"),
    [
        (b"", "module-log/form"),
        (b"time,label\n", "module-log/form"),
        (b"time,object_id,label\n2026-01-01T00:00:00Z,01\n", "module-log/form"),
        (b"time,object_id,label\n2026-01-01T00:00:00,01,k\n", "module-log/row"),
        (b"time,object_id,label\nyesterday,01,k\n", "module-log/row"),
        (b"time,object_id,label\n2026-01-01T00:00:00Z,xy,k\n", "module-log/row"),
        (b"time,object_id,label\n2026-01-01T00:00:00Z,,\n", "module-log/row"),
        (b'{"time":"2026-01-01T00:00:00Z"}\n', "module-log/row"),
        (b"{nothing\n", "module-log/row"),
        (b"\xff", "module-log/encoding"),
    ],
)
def test_what_is_not_in_the_form_is_refused(octets: bytes, rule: str):
    with pytest.raises(Malformed) as refused:
        read(octets)
    assert refused.value.rule == rule


def test_a_signature_needs_a_use_of_its_own_within_the_tolerance():
    by_id, by_label = {b"\x01": "k"}, {"k": "k"}

    def left(rows: list[Counted], *uses: int) -> list[int]:
        return [one.counted.row for one in unrecorded(rows, {"k": uses}, by_id, by_label, 60)]

    assert left([row(1, AT)], AT - 60) == []
    assert left([row(1, AT)], AT + 60) == []
    assert left([row(1, AT)], AT - 61) == [1]
    assert left([row(1, AT)], AT + 61) == [1]
    assert left([row(1, AT), row(2, AT)], AT) == [2]
    assert left([row(1, AT, b"", "k")], AT) == []
    assert left([row(1, AT, b"\x02", "k")], AT) == [1]
    assert left([row(1, AT, b"", "nobody")], AT) == [1]


@pytest.mark.parametrize("seed", range(20))
def test_exactly_as_many_are_found_as_were_put_in_where_uses_lie_apart(seed: int):
    chance = random.Random(seed)
    uses = [AT + 200 * n for n in range(200)]
    rows = [row(n + 1, at + chance.randrange(-60, 61)) for n, at in enumerate(uses)]
    extra = [row(1000 + n, AT + 200 * chance.randrange(200) + 100) for n in range(chance.randrange(9))]
    both = rows + extra
    chance.shuffle(both)
    found = unrecorded(both, {"k": uses}, {b"\x01": "k"}, {}, 60)
    assert sorted(one.counted.row for one in found) == sorted(one.row for one in extra)


async def test_what_was_signed_past_the_service_is_recorded_and_alarmed():
    clock = SetClock(AT * 10**9)
    ledger = FakeLedger("module.example/log", SCOPE, clock)
    keys = FakeKeys(ledger)
    key = key_record(label="key-1", object_id=b"\x01", public_point=b"\x04" + bytes(64))
    await keys.change([key])
    verdict = authorised_to_sign(key, b"to be signed")
    verdict = replace(verdict, case=replace(verdict.case, at=clock.at))
    (claim,) = await ledger.claim([verdict])
    await ledger.record([checked(claim)])
    module = verdict.case.module.name
    reader = ModuleLogReader(keys, FakeSearch(ledger), ledger, clock)
    own = row(1, AT + 1, key.object_id)
    assert await reader.compare(module, [own], "ab" * 32, 60) == []
    past = row(2, AT + 2, key.object_id)
    (found,) = await reader.compare(module, [own, past], "ab" * 32, 60)
    assert (found.counted, found.key) == (past, key.key_id)
    watcher = Watcher(DEFAULT_RULES)
    for leaf, one in enumerate(ledger.leaves):
        watcher.take(leaf, orjson.loads(one.entry), {})
    (alarm,) = [one for one in watcher.pending if one.rule == "signature-outside-the-log"]
    assert (alarm.value, alarm.severity, alarm.clause) == (key.key_id, "critical", "G2.6(a)")
    with pytest.raises(Malformed, match="no signature in it"):
        await reader.compare(module, [], "ab" * 32, 60)
