"""What every Ledger must hold to: the fake, SQLite and PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import orjson
import pytest

from cryptosvc.core.checkpoint import Checkpoint, Note, NoteSignature, emit
from cryptosvc.core.content.base import Rising
from cryptosvc.core.errors import Conflict, Malformed, OutcomeUnknown, Repeated, Unavailable
from cryptosvc.core.merkle import leaf_hash, verify_consistency, verify_inclusion
from cryptosvc.core.names import UnixNanoseconds
from cryptosvc.core.record import Claim, Failed, Refused
from cryptosvc.flow.ports import Keys, Ledger, Stale
from tests.fakes.ledger import FakeKeys, FakeLedger
from tests.store_stand import (
    CALLER,
    KEY,
    ORIGIN,
    SCOPE,
    SetClock,
    authorised,
    checked,
    new_database,
    observed,
    once,
    open_stand,
)


@dataclass
class Subject:
    ledger: Ledger
    keys: Keys
    clock: SetClock
    sweep: Callable[[], Awaitable[int]]


@pytest.fixture(params=["fake", "sqlite", "postgres"])
async def subject(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    clock = SetClock()
    if request.param == "fake":
        ledger = FakeLedger(ORIGIN, SCOPE, clock)
        yield Subject(ledger, FakeKeys(ledger), clock, ledger.sweep)
        return
    url = f"sqlite:///{tmp_path}/store.db"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_server").make_database()
    stand = await open_stand(new_database(url), tmp_path, first=True, clock=clock)
    yield Subject(stand.ledger, stand.keys, clock, stand.ledger.maintain)
    await stand.ledger.close()


async def claimed(ledger: Ledger, **how: object) -> Claim:
    (answer,) = await ledger.claim([authorised(**how)])
    assert isinstance(answer, Claim), answer
    return answer


async def refused(ledger: Ledger, **how: object) -> Conflict:
    (answer,) = await ledger.claim([authorised(**how)])
    assert isinstance(answer, Conflict), answer
    return answer


async def test_a_claim_that_is_recorded_is_a_leaf(subject: Subject) -> None:
    claim = await claimed(subject.ledger, payload=b"bytes")
    (receipt,) = await subject.ledger.record([checked(claim)])
    stored = await subject.ledger.entry(receipt.leaf_index)
    assert stored is not None
    entry = orjson.loads(stored.entry)
    assert (receipt.origin, receipt.leaf_index, receipt.leaf_hash) == (ORIGIN, 1, leaf_hash(stored.entry))
    assert (entry["kind"], entry["outcome"], entry["key"]) == ("use", "signed", KEY.key_id)
    assert b"caller-1" not in stored.entry
    assert orjson.loads(stored.withheld)["principal"][1] == "caller-1"
    assert claim.deadline > subject.clock.at


async def test_the_first_leaf_is_the_genesis(subject: Subject) -> None:
    stored = await subject.ledger.entry(0)
    assert stored is not None
    assert orjson.loads(stored.entry)["kind"] == "genesis"
    assert (await subject.ledger.head()).size == 1


async def test_every_leaf_proves_in_every_size_and_sizes_are_consistent(subject: Subject) -> None:
    roots = {}
    for _ in range(6):
        await subject.ledger.record([observed(), observed()])
        head = await subject.ledger.head()
        roots[head.size] = head.root
    for size, root in roots.items():
        for index in range(size):
            stored = await subject.ledger.entry(index)
            assert stored is not None
            proof = await subject.ledger.inclusion_proof(index, size)
            verify_inclusion(leaf_hash(stored.entry), index, size, proof, root)
        for larger, later in roots.items():
            if larger >= size:
                proof = await subject.ledger.consistency_proof(size, larger)
                verify_consistency(size, larger, proof, root, later)


async def test_past_the_end_there_is_nothing(subject: Subject) -> None:
    size = (await subject.ledger.head()).size
    assert await subject.ledger.entry(size) is None
    assert await subject.ledger.entry(-1) is None
    for index, tree in ((size, size), (0, size + 1), (-1, size)):
        with pytest.raises(Malformed):
            await subject.ledger.inclusion_proof(index, tree)
    for first, second in ((1, size + 1), (0, size), (2, 1)):
        with pytest.raises(Malformed):
            await subject.ledger.consistency_proof(first, second)


async def test_a_log_over_many_tiles_still_proves(subject: Subject) -> None:
    for _ in range(5):
        await subject.ledger.record([observed() for _ in range(170)])
        await subject.sweep()
    head = await subject.ledger.head()
    assert head.size == 851
    for index in (0, 1, 255, 256, 511, 512, 767, 768, 850):
        stored = await subject.ledger.entry(index)
        assert stored is not None
        proof = await subject.ledger.inclusion_proof(index, head.size)
        verify_inclusion(leaf_hash(stored.entry), index, head.size, proof, head.root)
    proof = await subject.ledger.consistency_proof(300, head.size)
    assert proof


async def test_a_repeated_request_id_is_answered_with_the_first_receipt(subject: Subject) -> None:
    claim = await claimed(subject.ledger, request_id="again", payload=b"one")
    under_way = await refused(subject.ledger, request_id="again", payload=b"one")
    assert isinstance(under_way, Repeated)
    assert (under_way.same_bytes, under_way.leaf_index, under_way.leaf_hash) == (True, None, b"")
    (receipt,) = await subject.ledger.record([checked(claim)])
    same = await refused(subject.ledger, request_id="again", payload=b"one")
    other = await refused(subject.ledger, request_id="again", payload=b"two")
    assert isinstance(same, Repeated)
    assert isinstance(other, Repeated)
    assert (same.same_bytes, same.leaf_index, same.leaf_hash) == (True, receipt.leaf_index, receipt.leaf_hash)
    assert (other.same_bytes, other.leaf_index) == (False, receipt.leaf_index)


async def test_request_ids_are_per_caller(subject: Subject) -> None:
    await claimed(subject.ledger, request_id="mine")
    await claimed(subject.ledger, request_id="mine", caller=replace(CALLER, caller_id="caller-2"))


async def test_a_request_id_twice_in_one_batch_is_claimed_once(subject: Subject) -> None:
    first, second = await subject.ledger.claim([authorised(request_id="twin"), authorised(request_id="twin")])
    assert isinstance(first, Claim)
    assert isinstance(second, Repeated)
    assert second.leaf_index is None


async def test_a_counter_is_never_used_for_other_bytes(subject: Subject) -> None:
    await claimed(subject.ledger, promises=[once("a/b/1", b"x")])
    await claimed(subject.ledger, promises=[once("a/b/1", b"x")])
    conflict = await refused(subject.ledger, promises=[once("a/b/1", b"y")])
    # the clause is the one that would have let it
    assert (conflict.rule, conflict.clause) == ("once/gbcs-counter", authorised().clause)
    await claimed(subject.ledger, promises=[once("a/b/2", b"y")])
    await claimed(subject.ledger, promises=[once("a/b/1", b"y", scope="certificate-serial")])
    await claimed(subject.ledger, promises=[once("a/b/1", b"y")], key=replace(KEY, key_id="key-2"))


async def test_within_one_batch_too(subject: Subject) -> None:
    answers = await subject.ledger.claim(
        [
            authorised(promises=[once("t/1", b"x")]),
            authorised(promises=[once("t/1", b"y")]),
            authorised(promises=[once("t/1", b"x")]),
            authorised(promises=[Rising("crl-number", 5)]),
            authorised(promises=[Rising("crl-number", 5)]),
            authorised(promises=[Rising("crl-number", 6)]),
        ]
    )
    assert [type(answer) for answer in answers] == [Claim, Conflict, Claim, Claim, Conflict, Claim]


async def test_what_is_refused_takes_nothing(subject: Subject) -> None:
    await claimed(subject.ledger, promises=[once("u/1", b"x")])
    await refused(subject.ledger, request_id="free", promises=[once("u/2", b"y"), once("u/1", b"y")])
    await claimed(subject.ledger, request_id="free", promises=[once("u/2", b"z")])


async def test_a_number_only_rises(subject: Subject) -> None:
    top = 2**159 - 1
    for number in (0, 1, 7, top):
        await claimed(subject.ledger, promises=[Rising("crl-number", number)])
        conflict = await refused(subject.ledger, promises=[Rising("crl-number", number)])
        assert (conflict.rule, conflict.clause) == ("rising/crl-number", authorised().clause)
    assert isinstance(await refused(subject.ledger, promises=[Rising("crl-number", 8)]), Conflict)


async def test_another_generation_is_stale_and_takes_nothing(subject: Subject) -> None:
    old, new = authorised(request_id="g", generation=3), authorised(generation=0)
    stale, fresh = await subject.ledger.claim([old, new])
    assert isinstance(stale, Stale)
    assert isinstance(fresh, Claim)
    await claimed(subject.ledger, request_id="g")


async def test_foreseeing_takes_nothing(subject: Subject) -> None:
    item = authorised(request_id="f", promises=[once("f/1", b"x"), Rising("crl-number", 4)])
    assert list(await subject.ledger.foresee([item])) == [None]
    assert list(await subject.ledger.foresee([item])) == [None]
    (claim,) = await subject.ledger.claim([item])
    assert isinstance(claim, Claim)
    (foreseen,) = await subject.ledger.foresee([item])
    assert isinstance(foreseen, Repeated)


async def test_failures_refusals_and_observations_are_leaves_in_order(subject: Subject) -> None:
    claim = await claimed(subject.ledger)
    gone = Unavailable("the module is gone", rule="hsm/gone")
    refusal = Refused(
        error=Conflict("no", rule="test/no"),
        operation="sign",
        at=UnixNanoseconds(1),
        time_quality="synchronised",
    )
    receipts = await subject.ledger.record([Failed(claim, gone), refusal, observed("service-start")])
    entries = []
    for receipt in receipts:
        stored = await subject.ledger.entry(receipt.leaf_index)
        assert stored is not None
        entries.append(orjson.loads(stored.entry))
    assert [entry["kind"] for entry in entries] == ["use", "refusal", "service-start"]
    assert [receipt.leaf_index for receipt in receipts] == [1, 2, 3]
    assert (entries[0]["outcome"], entries[0]["rule"]) == ("unavailable", "hsm/gone")


async def test_a_claim_past_its_deadline_is_swept_once_and_never_retried(subject: Subject) -> None:
    claim = await claimed(subject.ledger, request_id="late", payload=b"late")
    done = await claimed(subject.ledger)
    await subject.ledger.record([checked(done)])
    assert await subject.sweep() == 0
    subject.clock.at = claim.deadline + 1
    assert await subject.sweep() == 1
    assert await subject.sweep() == 0
    again = await refused(subject.ledger, request_id="late", payload=b"late")
    assert isinstance(again, Repeated)
    assert again.leaf_index is not None
    stored = await subject.ledger.entry(again.leaf_index)
    assert stored is not None
    entry = orjson.loads(stored.entry)
    assert (entry["outcome"], entry["rule"]) == ("outcome_unknown", "claim/expired")
    assert orjson.loads(stored.withheld)["principal"][1] == "caller-1"


async def test_work_that_ends_after_the_sweep_is_still_recorded(subject: Subject) -> None:
    claim = await claimed(subject.ledger)
    subject.clock.at = claim.deadline + 1
    assert await subject.sweep() == 1
    (receipt,) = await subject.ledger.record([checked(claim)])
    stored = await subject.ledger.entry(receipt.leaf_index)
    assert stored is not None
    entry = orjson.loads(stored.entry)
    assert (entry["outcome"], entry["after"]) == ("signed", "outcome_unknown")


async def test_unknown_outcomes_are_recorded_as_such(subject: Subject) -> None:
    claim = await claimed(subject.ledger)
    (receipt,) = await subject.ledger.record([Failed(claim, OutcomeUnknown("lost", rule="hsm/lost"))])
    stored = await subject.ledger.entry(receipt.leaf_index)
    assert stored is not None
    assert orjson.loads(stored.entry)["outcome"] == "outcome_unknown"


async def test_concurrent_calls_each_get_their_own_answers(subject: Subject) -> None:
    async def one(number: int) -> tuple[int, int]:
        claim = await claimed(subject.ledger, request_id=f"c-{number}", payload=str(number).encode())
        (receipt,) = await subject.ledger.record([checked(claim)])
        return number, receipt.leaf_index

    found = await asyncio.gather(*(one(number) for number in range(60)))
    assert sorted(index for _, index in found) == list(range(1, 61))
    for number, index in found:
        stored = await subject.ledger.entry(index)
        assert stored is not None
        assert orjson.loads(stored.entry)["request_id"] == f"c-{number}"


async def test_a_batch_larger_than_a_group_is_whole(subject: Subject) -> None:
    answers = await subject.ledger.claim([authorised(promises=[once(f"big/{n}")]) for n in range(300)])
    claims = [answer for answer in answers if isinstance(answer, Claim)]
    assert len(claims) == 300
    receipts = await subject.ledger.record([checked(claim) for claim in claims])
    assert [receipt.leaf_index for receipt in receipts] == list(range(1, 301))
    assert await subject.sweep() == 0


def note(size: int) -> bytes:
    return emit(Note(Checkpoint(ORIGIN, size, bytes(32)), (NoteSignature(ORIGIN, b"abcd", b"signature"),)))


async def test_checkpoints_only_grow(subject: Subject) -> None:
    assert await subject.ledger.checkpoint() is None
    await subject.ledger.keep_checkpoint(note(3))
    await subject.ledger.keep_checkpoint(note(9))
    for size in (3, 9, 8):
        with pytest.raises(Conflict):
            await subject.ledger.keep_checkpoint(note(size))
    assert await subject.ledger.checkpoint() == note(9)
