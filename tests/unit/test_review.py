"""Sign-off of the log: by a registered auditor, of this log, once; and what nobody signed off is aged and alarmed."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import orjson
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cryptosvc.cli.reviewing import Reviewed
from cryptosvc.core import checkpoint, derivation, dsse, review
from cryptosvc.core.custodian import CustodianRecord, CustodianRole, CustodianState
from cryptosvc.core.derivation import Derived, Owner
from cryptosvc.core.errors import Conflict, Corrupt, Forbidden, Malformed
from cryptosvc.core.life import DAY, NANOSECONDS, UnixSeconds
from cryptosvc.core.names import UnixNanoseconds
from cryptosvc.core.record import Observed
from cryptosvc.core.replay import Replay
from cryptosvc.core.review import REVIEW_TYPE, Review
from cryptosvc.core.watch.defaults import DEFAULT_RULES
from cryptosvc.core.watch.watcher import Watcher
from cryptosvc.flow.review import Reviewer
from cryptosvc.wiring.reviewing import Reviews
from tests.fakes.ledger import FakeKeys, FakeLedger
from tests.fakes.search import FakeSearch
from tests.governance import Person, person
from tests.signed_logs import KEY, ORIGIN, SPKI
from tests.store_stand import SCOPE, SetClock

AT = 1_800_000_000


@dataclass
class Scene:
    clock: SetClock = field(default_factory=lambda: SetClock(AT * NANOSECONDS))
    auditor: Person = field(default_factory=lambda: person("ann", CustodianRole.AUDITOR))

    def __post_init__(self) -> None:
        self.ledger = FakeLedger(ORIGIN, SCOPE, self.clock)
        self.keys = FakeKeys(self.ledger)
        self.admit(self.auditor)
        self.reviewer = Reviewer(self.keys, FakeSearch(self.ledger), self.ledger, self.clock, ORIGIN)

    def admit(self, one: Person) -> None:
        self.ledger.records["custodian-record", one.record.custodian_id] = one.record

    async def grow(self, count: int) -> None:
        for _ in range(count):
            at = UnixNanoseconds(self.clock.at)
            await self.ledger.record(
                [Observed(kind="read", operation="read-log", at=at, time_quality="synchronised", facts={})]
            )

    async def statement(self, start: int, stop: int, **changed: object) -> Review:
        head = await self.ledger.head()
        made = Review(
            origin=ORIGIN,
            start=start,
            stop=stop,
            size=head.size,
            root=head.root,
            reviewed_at=UnixSeconds(AT),
            remarks="nothing out of the ordinary",
        )
        return replace(made, **changed)

    async def sign_off(self, start: int, stop: int, by: Person | None = None, **changed: object) -> int:
        made = review.emit(await self.statement(start, stop, **changed))
        _, _, receipt = await self.reviewer.sign_off((by or self.auditor).sign(REVIEW_TYPE, made))
        return receipt.leaf_index


def test_what_is_left_is_what_no_range_covers():
    chance = random.Random(7)
    for _ in range(300):
        start, stop = 5, 5 + chance.randrange(30)
        ranges = [
            (begin := chance.randrange(40), begin + chance.randrange(1, 9))
            for _ in range(chance.randrange(6))
        ]
        left = review.unreviewed(start, stop, ranges)
        covered = {leaf for begin, end in ranges for leaf in range(begin, end)}
        assert [leaf for begin, end in left for leaf in range(begin, end)] == [
            leaf for leaf in range(start, stop) if leaf not in covered
        ]
        assert all(begin < end for begin, end in left)


@pytest.mark.parametrize(
    "changed",
    [
        {"start": 4, "stop": 4},
        {"start": -1},
        {"stop": 12},
        {"root": b"\0" * 31},
        {"origin": ""},
        {"remarks": "\x1b[2J"},
        {"remarks": "x" * 2001},
        {"reviewed_at": UnixSeconds(-1)},
    ],
)
def test_a_statement_that_cannot_be_meant_is_not_written(changed: dict[str, object]):
    good = Review(origin="o", start=0, stop=11, size=11, root=b"\1" * 32, reviewed_at=UnixSeconds(1))
    assert review.parse(review.emit(good)) == good
    with pytest.raises(Malformed):
        review.emit(replace(good, **changed))


@pytest.mark.parametrize("octets", [b"", b"[]", b"{}", b" ", b'{"v":2}', b"x" * 9000])
def test_other_octets_are_no_statement(octets: bytes):
    with pytest.raises(Malformed):
        review.parse(octets)


def test_another_form_of_the_same_statement_is_none():
    good = review.emit(
        Review(origin="o", start=0, stop=1, size=1, root=b"\1" * 32, reviewed_at=UnixSeconds(1))
    )
    for other in (good + b"\n", good.replace(b'"v":1', b'"v":true'), good.replace(b'":0', b'":0.0')):
        with pytest.raises(Malformed):
            review.parse(other)


async def test_a_sign_off_is_an_entry_with_the_envelope_beside_it():
    scene = Scene()
    await scene.grow(9)
    leaf = await scene.sign_off(2, 7)
    stored = scene.ledger.leaves[leaf]
    entry, beside = orjson.loads(stored.entry), orjson.loads(stored.withheld)
    assert (entry["kind"], entry["operation"]) == ("review", "sign-off")
    assert (entry["facts"]["start"], entry["facts"]["stop"], entry["facts"]["clause"]) == ("2", "7", "G2.26")
    envelope = dsse.parse(beside["review"][1].encode())
    dsse.verify(envelope, {dsse.key_id(scene.auditor.record.key): scene.auditor.record.key})
    assert review.parse(envelope.payload).stop == 7
    assert beside["custodian"][1] == "ann"
    assert "ann" not in stored.entry.decode()
    assert [one.left for one in await scene.reviewer.left()] == [(0, 2), (7, 11)]
    assert [one.reviewed for one in await scene.reviewer.signed_off()] == [(2, 7)]


async def test_what_was_deleted_unreviewed_is_overdue():
    scene = Scene()
    await scene.grow(9)
    await scene.sign_off(2, 7)
    before = await scene.reviewer.left()
    scene.ledger.erase(7)
    first, second = await scene.reviewer.left()
    assert (first, second.left) == (before[0], (7, 11))
    assert second.age_seconds > 50 * 365 * DAY
    assert await scene.reviewer.turn(30)


async def test_only_a_registered_auditor_signs_off():
    scene = Scene()
    await scene.grow(3)
    custodian, removed = person("ben"), person("rob", CustodianRole.AUDITOR)
    scene.admit(custodian)
    scene.admit(Person(replace(removed.record, state=CustodianState.REMOVED), removed.key))
    for one in (custodian, removed, person("stranger", CustodianRole.AUDITOR)):
        with pytest.raises(Forbidden) as refused:
            await scene.sign_off(0, 3, by=one)
        assert (refused.value.rule, refused.value.clause) == ("review/auditor", "G2.26")
    made = scene.auditor.sign(REVIEW_TYPE, review.emit(await scene.statement(0, 3)))
    forged = dsse.parse(scene.auditor.sign(REVIEW_TYPE, review.emit(await scene.statement(0, 2))))
    swapped = dsse.emit(replace(dsse.parse(made), payload=forged.payload))
    with pytest.raises(Forbidden, match="does not verify"):
        await scene.reviewer.sign_off(swapped)
    with pytest.raises(Malformed, match="something else"):
        await scene.reviewer.sign_off(
            scene.auditor.sign("text/plain", review.emit(await scene.statement(0, 3)))
        )
    two = dsse.parse(made).signatures + dsse.parse(custodian.sign(REVIEW_TYPE, b"x")).signatures
    with pytest.raises(Malformed, match="the one who reviewed"):
        await scene.reviewer.sign_off(dsse.emit(replace(dsse.parse(made), signatures=two)))
    assert await scene.reviewer.signed_off() == []


async def test_a_verifier_judges_every_sign_off_again():
    scene = Scene()
    await scene.grow(9)
    statement = await scene.statement(2, 7)
    leaf = await scene.sign_off(2, 7)
    stored = scene.ledger.leaves[leaf]
    entry, beside = orjson.loads(stored.entry), orjson.loads(stored.withheld)
    good = review.Recorded(
        leaf_index=leaf,
        facts=entry["facts"],
        custodian_id=beside["custodian"][1],
        envelope=beside["review"][1],
    )
    roots = {statement.size: statement.root}
    auditor = scene.auditor.record

    def judged(
        one: review.Recorded, auditor: CustodianRecord | None = auditor, roots: Mapping[int, bytes] = roots
    ) -> Derived:
        deriving = derivation._Deriving(Replay("test"), Owner(ORIGIN, "fault", "test"))
        if auditor is not None:
            deriving.replay.records["custodian-record", "ann"] = auditor
        deriving.review(one, roots)
        return Derived(deriving.changes, deriving.underived, 0, deriving.reviews)

    assert judged(good) == Derived(reviews=1)
    assert judged(good, roots={}) == Derived(reviews=1)
    for redacted in (replace(good, envelope=""), replace(good, custodian_id="")):
        assert judged(redacted) == Derived(underived=1)
    other = scene.auditor.sign(REVIEW_TYPE, review.emit(replace(statement, stop=8))).decode()
    as_text = scene.auditor.sign("text/plain", review.emit(statement)).decode()
    elsewhere = replace(statement, origin="another/log")
    moved = replace(
        good,
        facts=review.facts_of(elsewhere),
        envelope=scene.auditor.sign(REVIEW_TYPE, review.emit(elsewhere)).decode(),
    )
    for wrong in (
        replace(good, facts=good.facts | {"stop": "9"}),
        replace(good, facts={}),
        replace(good, envelope=other),
        replace(good, envelope=as_text),
        replace(good, envelope="{}"),
        replace(good, envelope=person("ann", CustodianRole.AUDITOR).sign(REVIEW_TYPE, b"x").decode()),
        replace(good, leaf_index=statement.size - 1),
        moved,
    ):
        with pytest.raises(Corrupt) as refused:
            judged(wrong)
        assert refused.value.rule == "replay/review"
    for nobody in (
        None,
        replace(auditor, state=CustodianState.REMOVED),
        replace(auditor, roles=frozenset({CustodianRole.KEY_CUSTODIAN})),
        person("ann", CustodianRole.AUDITOR).record,
    ):
        with pytest.raises(Corrupt) as refused:
            judged(good, nobody)
        assert refused.value.rule == "replay/review"
    with pytest.raises(Corrupt) as refused:
        judged(good, roots={statement.size: bytes(32)})
    assert refused.value.rule == "replay/review"


async def test_what_was_reviewed_must_be_of_this_log_and_counts_once():
    scene = Scene()
    await scene.grow(5)
    for changed in ({"root": b"\7" * 32}, {"origin": "another/log"}, {"size": 99}):
        with pytest.raises(Corrupt) as refused:
            await scene.sign_off(0, 5, **changed)
        assert refused.value.rule == "review/other-log"
    signed = scene.auditor.sign(REVIEW_TYPE, review.emit(await scene.statement(0, 5)))
    await scene.grow(4)
    await scene.reviewer.sign_off(signed)
    with pytest.raises(Conflict, match="entry 10 already"):
        await scene.reviewer.sign_off(signed)


async def test_what_is_unreviewed_for_too_long_is_recorded_once_and_alarmed():
    scene = Scene()
    await scene.grow(3)
    scene.clock.at += 31 * DAY * NANOSECONDS
    assert not await scene.reviewer.turn(31)
    scene.clock.at += NANOSECONDS
    assert await scene.reviewer.turn(31)
    assert not await scene.reviewer.turn(31)
    watcher = Watcher(DEFAULT_RULES)
    for leaf, one in enumerate(scene.ledger.leaves):
        watcher.take(leaf, orjson.loads(one.entry), {})
    (alarm,) = watcher.pending
    assert (alarm.rule, alarm.clause, alarm.leaves) == ("review-late", "G2.26", (4,))
    await scene.sign_off(0, 4)
    assert not await scene.reviewer.turn(31)
    scene.clock.at += 32 * DAY * NANOSECONDS
    assert await scene.reviewer.turn(31)
    last = orjson.loads(scene.ledger.leaves[-1].entry)["facts"]
    assert (last["start"], last["stop"], last["days"]) == ("4", "6", "32")
    scene.clock.at += 32 * DAY * NANOSECONDS
    assert await scene.reviewer.turn(31)  # nobody did anything for another period


async def test_what_the_command_signs_off_line_is_taken(tmp_path: Path):
    scene = Scene()
    await scene.grow(6)
    head = await scene.ledger.head()
    found = checkpoint.Checkpoint(ORIGIN, head.size, head.root)
    reviewed = _files(tmp_path, found)
    key = tmp_path / "ann.key"
    key.write_bytes(scene.auditor.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    said = Reviews().sign(str(key), reviewed, tmp_path / "out")
    assert (said["from"], said["to"]) == (1, 6)
    review_, auditor, _ = await scene.reviewer.sign_off((tmp_path / "out").read_bytes())
    assert (review_.start, review_.stop, review_.remarks, auditor.custodian_id) == (1, 7, "fine", "ann")
    note = reviewed.checkpoint.read_bytes()
    reviewed.checkpoint.write_bytes(note.replace(b"\n7\n", b"\n6\n"))
    with pytest.raises(Corrupt):
        Reviews().sign(str(key), reviewed, tmp_path / "another")


def _files(folder: Path, found: checkpoint.Checkpoint) -> Reviewed:
    signature = KEY.sign(checkpoint.text(found), ec.ECDSA(hashes.SHA256()))
    line = checkpoint.NoteSignature(ORIGIN, checkpoint.key_id(SPKI), signature)
    (folder / "note").write_bytes(checkpoint.emit(checkpoint.Note(found, (line,))))
    (folder / "log.der").write_bytes(SPKI)
    return Reviewed(checkpoint=folder / "note", log_key=folder / "log.der", start=1, stop=0, remarks="fine")
