"""A bundle is believed as far as its proofs go: what its maker signed wrongly is found as well, by name."""

from pathlib import Path

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from cryptosvc.adapters import evidence_bundle, log_range, redaction
from cryptosvc.adapters.software import software_digest
from cryptosvc.core import bundle, bundle_judge
from cryptosvc.core.canonical import canonical
from cryptosvc.core.errors import CryptosvcError, Malformed
from cryptosvc.core.merkle import EMPTY
from cryptosvc.core.query import Query
from tests.bundles import BundledLog, certificate
from tests.governance import ORIGIN
from tests.second_verifier import LEFT_TO_THE_FIRST, rule_of
from tests.unit.test_evidence_derivation import kept

REPOSITORY = Path(__file__).resolve().parents[2]
OF_KEY_1 = Query.of({"key": ["key-1"], "kind": ["use"]}, oldest_first=True)


@pytest.fixture
async def log() -> BundledLog:
    """A governed log; the policy set of its decisions is not kept in it."""
    stand = await kept()
    return BundledLog(ORIGIN, [(leaf.entry, leaf.withheld) for leaf in stand.ledger.leaves])


def told(log: BundledLog) -> list[dict[str, object]]:
    return [orjson.loads(entry) for entry, _ in log.entries]


def asked(log: BundledLog) -> tuple[list[int], list[int], dict[str, object]]:
    """Indexes of what key-1 was used for, of what they rest on, and what a head says of it."""
    entries = told(log)
    answer = [at for at, one in enumerate(entries) if (one["kind"], one.get("key")) == ("use", "key-1")]
    beside = [at for at, one in enumerate(entries) if one["kind"] == "key-record" and one["key"] == "key-1"]
    digests = {str(entries[at]["policy_digest"]) for at in answer}
    said = {"query": OF_KEY_1.document(), "absent": tuple(sorted({"log-key", *digests}))}
    assert len(answer) == 2
    return answer, beside, said


def both(path: Path, log: BundledLog, note: bytes = b"") -> tuple[str, str]:
    """What the verifiers say; `conclude` and what follows is the first one's alone."""
    try:
        evidence_bundle.verify_bundle(path, log.spki, kept=note)
        first = ""
    except CryptosvcError as error:
        first = error.rule
    return first, rule_of(path.read_bytes(), log.key.public_key(), note.decode())


def test_an_answer_verifies_with_what_it_rests_on(log: BundledLog, tmp_path: Path):
    answer, beside, said = asked(log)
    path = tmp_path / "a.bundle"
    log.bundle(path, answer, beside, 7, **said)
    assert both(path, log, log.note(7)) == ("", "")
    found, made_by = evidence_bundle.verify_bundle(path, log.spki, origin=ORIGIN)
    assert [index for index, _ in found.answer] == answer
    assert (found.beside, found.query, len(made_by)) == (len(beside), OF_KEY_1, 64)
    assert found.since is not None
    assert (found.since.size, found.checkpoint.size) == (7, len(log.entries))


@pytest.mark.parametrize("since", [1, 2, 3, 4, 5, 8, 13, 16])
def test_it_extends_any_checkpoint_that_was_kept(log: BundledLog, tmp_path: Path, since: int):
    answer, beside, said = asked(log)
    path = tmp_path / "a.bundle"
    for size in {since, len(log.entries)}:
        log.bundle(path, answer, beside, size, **said)
        assert both(path, log, log.note(size)) == ("", "")
        other = log.note(size - 1) if size > 1 else log.note(2)
        assert both(path, log, other) == ("bundle/since", "bundle/since")


def test_a_bundle_without_what_was_kept_is_not_what_was_asked_for(log: BundledLog, tmp_path: Path):
    answer, beside, said = asked(log)
    path = tmp_path / "a.bundle"
    log.bundle(path, answer, beside, **said)
    assert both(path, log, log.note(3)) == ("bundle/since", "bundle/since")
    with pytest.raises(CryptosvcError) as refused:
        evidence_bundle.verify_bundle(path, log.spki, origin="another/log")
    assert refused.value.rule == "checkpoint/origin"


SIGNED_WRONG = {
    "a key's record left out": ("bundle/record-missing", {"beside": ()}),
    "a policy set left out": ("bundle/policy-set", {"absent": ("log-key",)}),
    "the log key's record left out": ("bundle/key-record", {"absent": ()}),
    "an entry that was not asked for": ("completeness/foreign", {"answer": 0}),
    "fewer than all": ("bundle/completeness", {"completeness": {"found": 3, "start": 0, "undecided": 0}}),
    "all from elsewhere on": ("bundle/completeness", {"completeness": {"found": 2, "start": 4, "undecided": 0}}),
    "no question": ("bundle/format", {"query": {"v": 1}}),
    "certificates of another key": ("bundle/chain", {"certificates": (certificate(ec.generate_private_key(ec.SECP256R1())).public_bytes(Encoding.DER).hex(),)}),
    "certificates that are none": ("bundle/chain", {"certificates": ("00",)}),
}  # fmt: skip


@pytest.mark.parametrize("what", list(SIGNED_WRONG))
def test_what_its_maker_signed_wrongly_is_found_by_the_first_verifier(
    log: BundledLog, tmp_path: Path, what: str
):
    rule, changes = SIGNED_WRONG[what]
    answer, beside, said = asked(log)
    more = dict(changes)
    beside = more.pop("beside", beside)
    if "answer" in more:
        answer = [*answer, more.pop("answer")]
    if what == "the log key's record left out":
        more["absent"] = tuple(one for one in said["absent"] if one != "log-key")
    path = tmp_path / "a.bundle"
    log.bundle(path, answer, beside, **{**said, **more})
    assert both(path, log) == (rule, "")


async def test_a_use_in_a_state_that_forbids_it_is_found(log: BundledLog, tmp_path: Path):
    answer, beside, said = asked(log)
    entries = told(log)
    at = next(
        index for index in beside if entries[index]["record_version"] == entries[answer[0]]["key_version"]
    )
    changed = log.entries[at][0].replace(b'"state":"active"', b'"state":"suspended"')
    changed = changed.replace(b'"state":"pre-activation"', b'"state":"suspended"')
    assert changed != log.entries[at][0]
    rewritten = [*log.entries[:at], (changed, b""), *log.entries[at + 1 :]]
    path = tmp_path / "a.bundle"
    other = BundledLog(ORIGIN, rewritten)
    other.bundle(path, answer, beside, **said)
    assert both(path, other) == ("export/use-in-state", "")
    assert "export/use-in-state" in LEFT_TO_THE_FIRST


def test_a_chain_of_certificates_leads_from_the_log_key(log: BundledLog, tmp_path: Path):
    issuer = ec.generate_private_key(ec.SECP256R1())
    root = certificate(issuer, "root", "root").public_bytes(Encoding.DER).hex()
    leaf = certificate(log.key, "log", "root", by=issuer)
    own = leaf.public_bytes(Encoding.DER).hex()
    answer, beside, said = asked(log)
    path = tmp_path / "a.bundle"
    for chain, rule in (
        ((own,), ""),
        ((own, root), ""),
        ((own, own), "bundle/chain"),
        ((root, own), "bundle/chain"),
    ):
        log.bundle(path, answer, beside, **{**said, "certificates": chain})
        assert both(path, log) == (rule, "")


def test_an_answer_by_a_value_that_was_left_out_may_be_one(log: BundledLog, tmp_path: Path):
    answer, beside, said = asked(log)
    values = orjson.loads(log.entries[answer[0]][1])
    path, by_caller = tmp_path / "a.bundle", {**said, "query": Query.of({"caller": ["nobody"]}).document()}
    assert values["principal"][1] != "nobody"
    log.bundle(path, answer, beside, **by_caller)
    assert both(path, log) == ("completeness/foreign", "")
    for at in answer:
        entry, withheld = log.entries[at]
        log.entries[at] = entry, redaction.without(withheld, {"principal"})[0]
    log.bundle(path, answer, beside, **by_caller)
    assert both(path, log) == ("", "")


def test_an_answer_is_held_against_a_range(log: BundledLog, tmp_path: Path):
    answer, beside, said = asked(log)
    path, ranged = tmp_path / "a.bundle", tmp_path / "a.range"
    log_range.write_range(ranged, ORIGIN, b"", log.note(len(log.entries)), EMPTY, log.entries)
    log.bundle(path, answer, beside, **said)
    found, _ = evidence_bundle.verify_bundle(path, log.spki)
    replayed = log_range.replay(ranged, log.spki, found.query, given=found.answer)
    assert list(replayed.leaves) == answer
    log.bundle(path, answer[:1], beside, **said)
    short, _ = evidence_bundle.verify_bundle(path, log.spki)
    with pytest.raises(CryptosvcError) as refused:
        log_range.replay(ranged, log.spki, short.query, given=short.answer)
    assert refused.value.rule == "completeness/missing"


def test_a_bundle_is_made_with_a_key_and_its_own_certificate(log: BundledLog, tmp_path: Path):
    other = ec.generate_private_key(ec.SECP256R1())
    pem = certificate(other).public_bytes(Encoding.PEM)
    for private in (b"", b"-----BEGIN PRIVATE KEY-----"):
        with pytest.raises(Malformed) as refused:
            evidence_bundle.write_bundle(tmp_path / "x", log.head(), [], pem, private)
        assert refused.value.rule == "bundle/maker"
    assert list(tmp_path.iterdir()) == []


def test_lines_are_read_as_they_are_printed_only(log: BundledLog):
    item, head = log.item(3, answer=True), log.head(5)
    assert bundle.parse_item(item.emit()) == item
    assert bundle.parse_head(head.emit()).emit() == head.emit()
    for line in (
        item.emit() + b"\t",
        item.emit().replace(b"true", b"1"),
        b"{}\t{}\t",
        b"",
        item.emit().upper(),
    ):
        with pytest.raises(Malformed):
            bundle.parse_item(line)
    for line in (
        b"",
        b"{}",
        canonical({"query": 1}),
        head.emit() + b" ",
        head.emit().replace(b'"version":1', b'"version":2'),
    ):
        with pytest.raises(Malformed):
            bundle.parse_head(line)


def test_the_digest_of_the_software_is_over_every_file(tmp_path: Path):
    (tmp_path / "a.py").write_text("1")
    found = software_digest(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_text("2")
    assert software_digest(tmp_path) == found
    (tmp_path / "b.py").write_text("")
    assert software_digest(tmp_path) != found
    assert software_digest() == software_digest(REPOSITORY / "cryptosvc")


def test_what_an_answer_rests_on_is_told(log: BundledLog):
    answer, _, _ = asked(log)
    keys, digests, workers = bundle_judge.needed_beside([told(log)[at] for at in answer])  # type: ignore[misc]  # JSON
    assert {key for key, _ in keys} == {"key-1"}
    assert len(digests) == len(workers) == 1
