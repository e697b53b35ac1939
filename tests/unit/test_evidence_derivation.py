"""What somebody with the log's keys, but without the custodians', can make of a log: found, by name.

The forger here rewrites entries and what is kept beside them with every digest, commitment and checkpoint right. What
is missing is a custodian's signature, and the log that derives.
"""

import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cryptosvc.adapters import export
from cryptosvc.core import checkpoint
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.errors import Corrupt, CryptosvcError
from cryptosvc.core.evidence import RecordBeside, Verdict
from cryptosvc.core.founding import genesis_leaf
from cryptosvc.core.life import DAY, NANOSECONDS, Life
from cryptosvc.core.merkle import leaf_hash, root_of
from cryptosvc.core.names import UnixNanoseconds
from cryptosvc.core.record import Because, Leaf, Scope, registered_leaf
from cryptosvc.core.registry import (
    KeyRecord,
    KeyState,
    Record,
    record_from_document,
    record_id,
    record_kind,
)
from cryptosvc.flow.schedule import Scheduler
from tests.claims import key_record
from tests.govern_stand import Stand
from tests.governance import NOW, ORIGIN, SYSTEM, person
from tests.second_verifier import agreeing
from tests.store_stand import authorised, checked

KEY = ec.generate_private_key(ec.SECP256R1())
SPKI = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
SCOPE = Scope(system=SYSTEM, environment="test", worker="w", software="s")
Leaves = list[Leaf]


async def kept() -> Stand:
    """A log under dual control: a key with dates and a limit is made, used and runs out, another is suspended."""
    stand = Stand()
    await stand.keys.change(stand.genesis)
    await stand.ordered("key-1")
    await stand.carry("key.activate", "key-1", on=NOW + 10, usage_limit=2)
    await stand.active("key-2")
    scheduler = Scheduler(stand.keys, stand.ledger, stand.clock)
    stand.later(20)
    for _ in range(2):
        await use(stand, "key-1")
        await scheduler.turn()
    await use(stand, "key-2")
    await stand.carry("key.suspend", "key-2", ("ben",))
    await stand.approved("key.resume", "key-2", ("ben",))
    stand.later(2 * DAY)
    assert await scheduler.turn() == 1
    await scheduler.turn()
    assert stand.key("key-1").state is KeyState.DEACTIVATED
    return stand


async def use(stand: Stand, key_id: str) -> None:
    asked = authorised(generation=stand.ledger.generation, key=stand.key(key_id))
    asked = replace(asked, case=replace(asked.case, at=UnixNanoseconds(stand.clock.at)))
    (claim,) = await stand.ledger.claim([asked])
    await stand.ledger.record([checked(claim)])  # type: ignore[arg-type]  # claimed


def verified(folder: Path, leaves: Leaves, registered: list[RecordBeside] | None = None) -> Verdict:
    """Sign a checkpoint over the leaves and verify the export off-line."""
    found = checkpoint.Checkpoint(ORIGIN, len(leaves), root_of([leaf_hash(leaf.entry) for leaf in leaves]))
    signature = KEY.sign(checkpoint.text(found), ec.ECDSA(hashes.SHA256()))
    signed = checkpoint.NoteSignature(ORIGIN, checkpoint.key_id(SPKI), signature)
    note = checkpoint.emit(checkpoint.Note(found, (signed,)))
    path = folder / "log.export"
    entries = [(leaf.entry, leaf.withheld) for leaf in leaves]
    records = beside(leaves) if registered is None else registered
    export.write_export(path, ORIGIN, [note], records, entries)
    return agreeing(export.verify_export)(path, SPKI)


def beside(leaves: Leaves) -> list[RecordBeside]:
    """The registry that goes with the leaves."""
    newest: dict[tuple[str, str], RecordBeside] = {}
    for index, leaf in enumerate(leaves):
        entry = orjson.loads(leaf.entry)
        if "because" in entry:
            document = of(leaf)
            record = record_from_document(entry["kind"], document)
            name = record_kind(record), record_id(record)
            newest[name] = RecordBeside(*name, index, document)
    return list(newest.values())


def of(leaf: Leaf) -> Mapping[str, JsonValue]:
    """The document kept beside a leaf."""
    found: Mapping[str, JsonValue] = orjson.loads(orjson.loads(leaf.withheld)["document"][1])
    return found


def again(leaf: Leaf, record: Record, because: Because | None = None) -> Leaf:
    """The leaf of another record, in the place of this one: all that a forger can compute is right."""
    entry = orjson.loads(leaf.entry)
    ((kind, reference),) = entry["because"].items()
    why = because or Because(kind, reference, tuple(entry["approvals"]))
    return registered_leaf(record, SCOPE, UnixNanoseconds(int(entry["time"])), "synchronised", bytes(16), why)


def place(leaves: Leaves, kind: str, state: str, name: str = "") -> int:
    """Index of the last leaf of a record of a kind that leads to a state."""
    return next(
        index
        for index, leaf in reversed(list(enumerate(leaves)))
        if (entry := orjson.loads(leaf.entry))["kind"] == kind
        and entry.get("state") == state
        and name in (entry.get("key", ""), "")
    )


def edited(leaves: Leaves, at: int, **fields: JsonValue) -> Leaves:
    """The log with fields of one document other than they were, from the beginning."""
    kind = orjson.loads(leaves[at].entry)["kind"]
    record = record_from_document(kind, {**of(leaves[at]), **fields})
    return [*leaves[:at], again(leaves[at], record), *leaves[at + 1 :]]


async def test_what_was_kept_derives_to_the_last_change(tmp_path: Path) -> None:
    stand = await kept()
    verdict = verified(tmp_path, stand.ledger.leaves)
    changes = sum(b'"because"' in leaf.entry for leaf in stand.ledger.leaves)
    assert verdict.derived.changes == changes
    assert (verdict.derived.underived, verdict.derived.proposals) == (0, 7)
    assert (verdict.environment, verdict.kinds["use/signed"]) == ("test", 3)


def a_state(leaves: Leaves) -> Leaves:
    """A key that was suspended is said to be active."""
    return edited(leaves, place(leaves, "key-record", "suspended"), state="active")


def a_limit(leaves: Leaves) -> Leaves:
    at = place(leaves, "key-record", "active", "key-2")
    life = of(leaves[at])["life"]
    assert isinstance(life, Mapping)
    return edited(leaves, at, life={**life, "usage_limit": 7})


def a_date(leaves: Leaves) -> Leaves:
    """The key became active earlier than was approved."""
    at = place(leaves, "key-record", "active", "key-1")
    life = of(leaves[at])["life"]
    assert isinstance(life, Mapping)
    milestones = life["milestones"]
    assert isinstance(milestones, Mapping)
    return edited(leaves, at, life={**life, "milestones": {**milestones, "activate": NOW}})


def a_quorum(leaves: Leaves) -> Leaves:
    """The proposal says that one person is enough, and has one."""
    at = place(leaves, "proposal-record", "done")
    proposal = of(leaves[at])
    outcome = proposal["outcome"]
    endorsements = proposal["endorsements"]
    assert isinstance(outcome, Mapping)
    assert isinstance(endorsements, list)
    return edited(leaves, at, outcome={**outcome, "needed_people": "0"}, endorsements=endorsements[:1])


def an_approval(leaves: Leaves) -> Leaves:
    """Ben's approval is signed by somebody else's key."""
    at = place(leaves, "proposal-record", "done")
    endorsements = of(leaves[at])["endorsements"]
    assert isinstance(endorsements, list)
    stranger = person("ben")
    last = endorsements[-1]
    forged = stranger.key.sign(b"whatever", ec.ECDSA(hashes.SHA256())).hex()
    return edited(leaves, at, endorsements=[*endorsements[:-1], {**last, "signature": forged}])


def the_register(leaves: Leaves) -> Leaves:
    """Ben's key is exchanged for the forger's: what Ben signed does not verify any more."""
    at = next(
        i for i, leaf in enumerate(leaves) if b'"custodian-record"' in leaf.entry and b"Ben" in leaf.withheld
    )
    return edited(leaves, at, key=person("mallory").record.key.hex())


def without_approval(leaves: Leaves) -> Leaves:
    """The key is active again by a proposal that never was."""
    at = place(leaves, "key-record", "suspended")
    record = record_from_document("key-record", of(leaves[at]))
    assert isinstance(record, KeyRecord)
    back = replace(record, version=record.version + 1, state=KeyState.ACTIVE)
    return [*leaves, again(leaves[at], back, Because("proposal", "ab" * 32, ("cd" * 32,)))]


def by_a_rule(leaves: Leaves) -> Leaves:
    at = place(leaves, "key-record", "suspended")
    record = record_from_document("key-record", of(leaves[at]))
    assert isinstance(record, KeyRecord)
    back = replace(record, version=record.version + 1, state=KeyState.ACTIVE)
    return [*leaves, again(leaves[at], back, Because("rule", "schedule/activation-date"))]


def by_a_genesis(leaves: Leaves) -> Leaves:
    record = replace(key_record(key_id="key-9"), system=SYSTEM)
    return [*leaves, again(leaves[-1], record, Because("genesis", "ab" * 32))]


def a_moment(leaves: Leaves) -> Leaves:
    """An approved act is said to have been carried out long before."""
    return edited(leaves, place(leaves, "proposal-record", "done"), ended_on=NOW - 90 * DAY)


def a_late_signature(leaves: Leaves) -> Leaves:
    at = place(leaves, "proposal-record", "open")
    endorsements = of(leaves[at])["endorsements"]
    assert isinstance(endorsements, list)
    forged = [*endorsements[:-1], {**endorsements[-1], "at": NOW - 90 * DAY}]
    return edited(leaves, at, endorsements=forged)


def counted(leaves: Leaves, at: int, approvals: tuple[str, ...]) -> Leaves:
    """The log with other approvals in one entry."""
    entry = orjson.loads(leaves[at].entry) | {"approvals": approvals}
    forged = replace(leaves[at], entry=orjson.dumps(entry, option=orjson.OPT_SORT_KEYS))
    return [*leaves[:at], forged, *leaves[at + 1 :]]


def an_approval_counted_that_is_not_there(leaves: Leaves) -> Leaves:
    at = place(leaves, "proposal-record", "done")
    return counted(leaves, at, (*orjson.loads(leaves[at].entry)["approvals"], "ff" * 32))


def an_approval_not_counted(leaves: Leaves) -> Leaves:
    return counted(leaves, place(leaves, "proposal-record", "done"), ())


def other_approvals_beside_the_record(leaves: Leaves) -> Leaves:
    return counted(leaves, place(leaves, "key-record", "suspended"), ("ff" * 32,))


def for_another_log(leaves: Leaves) -> Leaves:
    """Statements that were approved for another deployment are brought over with their signatures."""
    first = orjson.loads(leaves[0].entry) | {"system": "another"}
    return [Leaf(orjson.dumps(first, option=orjson.OPT_SORT_KEYS), b""), *leaves[1:]]


@pytest.mark.parametrize(
    ("forge", "rule"),
    [
        (a_state, "replay/record"),
        (a_limit, "replay/record"),
        (a_date, "replay/rule"),
        (a_quorum, "replay/endorsements"),
        (an_approval, "replay/endorsements"),
        (the_register, "replay/signature"),
        (without_approval, "replay/proposal"),
        (by_a_rule, "replay/rule"),
        (by_a_genesis, "replay/genesis"),
        (for_another_log, "replay/other-log"),
        (a_moment, "replay/moment"),
        (a_late_signature, "replay/moment"),
        (an_approval_counted_that_is_not_there, "replay/approvals"),
        (an_approval_not_counted, "replay/quorum"),
        (other_approvals_beside_the_record, "replay/approvals"),
    ],
)
async def test_a_log_rebuilt_without_the_custodians_keys_is_found(
    tmp_path: Path, forge: Callable[[Leaves], Leaves], rule: str
) -> None:
    stand = await kept()
    with pytest.raises(Corrupt) as caught:
        verified(tmp_path, forge(list(stand.ledger.leaves)))
    assert caught.value.rule == rule


async def test_one_use_more_than_the_limit_is_found(tmp_path: Path) -> None:
    """The counter in the store was set back, and the key claimed once more; the log was kept by the service itself."""
    stand = Stand()
    await stand.keys.change(stand.genesis)
    await stand.ordered("key-1")
    await stand.carry("key.activate", "key-1", usage_limit=1)
    await use(stand, "key-1")
    assert verified(tmp_path, stand.ledger.leaves).derived.underived == 0
    stand.ledger._uses.clear()  # what a database administrator can do
    await use(stand, "key-1")
    with pytest.raises(Corrupt) as caught:
        verified(tmp_path, stand.ledger.leaves)
    assert caught.value.rule == "export/usage-limit"


async def test_a_key_deactivated_as_used_up_that_was_not_is_found(tmp_path: Path) -> None:
    stand = await kept()
    leaves = [
        leaf
        for leaf in stand.ledger.leaves
        if b'"key":"key-1"' not in leaf.entry or b'"use"' not in leaf.entry
    ]
    with pytest.raises(Corrupt) as caught:
        verified(tmp_path, leaves)
    assert caught.value.rule == "export/usage-limit"


def redacted(leaf: Leaf) -> Leaf:
    """The leaf with its document dropped, and nothing else."""
    values = orjson.loads(leaf.withheld)
    del values["document"]
    return replace(leaf, withheld=orjson.dumps(values, option=orjson.OPT_SORT_KEYS) if values else b"")


async def test_a_redacted_document_takes_out_what_rests_on_it_and_is_counted(tmp_path: Path) -> None:
    stand = await kept()
    leaves = list(stand.ledger.leaves)
    whole = verified(tmp_path, leaves)
    registered = beside(leaves)
    for at, leaf in enumerate(leaves):
        if b'"because"' not in leaf.entry:
            continue
        verdict = verified(tmp_path, [*leaves[:at], redacted(leaf), *leaves[at + 1 :]], registered)
        assert verdict.derived.underived >= 1
        assert verdict.derived.changes + verdict.derived.underived == whole.derived.changes
    everything = [redacted(leaf) if b'"because"' in leaf.entry else leaf for leaf in leaves]
    verdict = verified(tmp_path, everything, registered)
    assert (verdict.derived.changes, verdict.derived.underived) == (0, whole.derived.changes)


async def test_one_redaction_hides_no_forgery_elsewhere(tmp_path: Path) -> None:
    stand = await kept()
    leaves = a_state(list(stand.ledger.leaves))
    registered = beside(leaves)
    at = place(leaves, "key-record", "active", "key-1")
    with pytest.raises(Corrupt) as caught:
        verified(tmp_path, [*leaves[:at], redacted(leaves[at]), *leaves[at + 1 :]], registered)
    assert caught.value.rule == "replay/record"


def test_a_live_log_with_a_change_by_init_is_refused(tmp_path: Path) -> None:
    scope = replace(SCOPE, environment="live")
    at = UnixNanoseconds(NOW * NANOSECONDS)
    leaves = [genesis_leaf(ORIGIN, scope, at, "synchronised")]
    assert verified(tmp_path, leaves).environment == "live"
    record = key_record(key_id="key-1")
    leaves.append(registered_leaf(record, scope, at, "synchronised", bytes(16)))
    with pytest.raises(Corrupt) as caught:
        verified(tmp_path, leaves)
    assert caught.value.rule == "replay/init-in-live"


@pytest.mark.parametrize("life", [Life(usage_limit=3), Life()])
def test_an_entry_that_hides_what_its_document_says_is_found(tmp_path: Path, life: Life) -> None:
    at = UnixNanoseconds(NOW * NANOSECONDS)
    record = replace(key_record(key_id="key-1"), life=life)
    honest = registered_leaf(record, SCOPE, at, "synchronised", bytes(16))
    leaves = [genesis_leaf(ORIGIN, SCOPE, at, "synchronised"), honest]
    assert verified(tmp_path, leaves).derived.changes == 1
    for name, value in (("usage_limit", 4), ("state", "suspended"), ("due", [])):
        entry = orjson.loads(honest.entry) | {name: value}
        if entry == orjson.loads(honest.entry):
            continue
        forged = replace(honest, entry=orjson.dumps(entry, option=orjson.OPT_SORT_KEYS))
        with pytest.raises(Corrupt) as caught:
            verified(tmp_path, [leaves[0], forged])
        assert caught.value.rule == "export/record-leaf"


def _somewhere_else(document: JsonValue, draw: random.Random) -> JsonValue:
    """The document with one value in it, somewhere, another."""
    if isinstance(document, Mapping) and document:
        name = draw.choice(sorted(document))
        return {**document, name: _somewhere_else(document[name], draw)}
    if isinstance(document, list) and document:
        at = draw.randrange(len(document))
        if draw.random() < 0.2:
            return [*document[:at], *document[at + 1 :]]
        return [*document[:at], _somewhere_else(document[at], draw), *document[at + 1 :]]
    if isinstance(document, bool):
        return not document
    if isinstance(document, int):
        return draw.choice((0, 1, document + DAY, 2**50))  # a second more or less is a clock's
    if isinstance(document, str) and document:
        at = draw.randrange(len(document))
        return draw.choice(
            (document[:at] + draw.choice("0a9") + document[at + 1 :], "key-2", "ben", "active", "")
        )
    return draw.choice((None, 1, NOW, "ab"))


async def test_whatever_is_rewritten_in_a_record_is_refused_by_name_or_is_nothing(tmp_path: Path) -> None:
    """Entry, digest and checkpoint follow the rewritten document; no foreign exception escapes."""
    stand = await kept()
    leaves = list(stand.ledger.leaves)
    changes = [at for at, leaf in enumerate(leaves) if b'"because"' in leaf.entry]
    draw = random.Random(11)
    refused: Counter[str] = Counter()
    for _ in range(250):
        at = draw.choice(changes)
        document = _somewhere_else(of(leaves[at]), draw)
        assert isinstance(document, Mapping)
        try:
            forged = edited(leaves, at, **document)
        except (
            CryptosvcError,
            KeyError,
        ):  # KeyError: a class that there is not, which no forger can print either
            refused["no record"] += 1
            continue
        if forged == leaves:
            continue
        try:
            verified(tmp_path, forged)
        except CryptosvcError as error:
            refused[error.rule.partition("/")[0]] += 1
            continue
        # what the shortcut of environment test registers is nobody's to approve, and so nobody's to contradict; what a
        # module reported, and what policy asked beyond the class's least, is in the record alone
        because = orjson.loads(leaves[at].entry)["because"]
        assert because == {"init": ""} or {**document, "outcome": 0} == {**of(leaves[at]), "outcome": 0}
    assert refused["replay"] > 30
    assert set(refused) <= {"no record", "replay", "export"}
