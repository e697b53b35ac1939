"""A witness's desk answers in tlog-witness's terms, keeps before it signs, and signs nothing once its memory is gone."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cryptosvc.adapters.witness_desk import Answer, WitnessDesk, found_state
from cryptosvc.core import checkpoint, merkle, witness
from cryptosvc.core.checkpoint import Checkpoint, Note, NoteSignature
from cryptosvc.core.errors import Corrupt, Unavailable

ORIGIN = "example.test/log"
LOG_KEY = ec.generate_private_key(ec.SECP256R1())
SPKI = LOG_KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
STRANGER = ec.generate_private_key(ec.SECP256R1())
LEAVES = [merkle.leaf_hash(b"entry %d" % number) for number in range(20)]
FORKED = [*LEAVES[:5], merkle.leaf_hash(b"another"), *LEAVES[6:]]
AT = 1_679_315_147


def desk(path: Path) -> WitnessDesk:
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    return WitnessDesk("w.example.test", key, {ORIGIN: SPKI}, path, now=lambda: AT)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "witness.json"
    found_state(path)
    return path


def body(
    old: int,
    size: int,
    leaves: list[bytes] = LEAVES,
    key: ec.EllipticCurvePrivateKey = LOG_KEY,
    origin: str = ORIGIN,
) -> bytes:
    def subtree(height: int, index: int) -> bytes:
        return merkle.root_of(leaves[index << height : (index + 1) << height])

    found = Checkpoint(origin, size, merkle.root_of(leaves[:size]))
    signature = key.sign(checkpoint.text(found), ec.ECDSA(hashes.SHA256()))
    note = checkpoint.emit(Note(found, (NoteSignature(origin, checkpoint.key_id(SPKI), signature),)))
    proof = merkle.consistency_proof(old, size, subtree) if 0 < old <= size else []
    return witness.emit_submission(witness.Submission(old, tuple(proof), note))


def test_the_answer_is_a_cosignature_that_the_log_adds_to_its_note(state: Path) -> None:
    at_work = desk(state)
    sent = body(0, 7)
    answer = at_work.add_checkpoint(sent)
    note = witness.parse_submission(sent).note + answer.body
    (found,) = witness.require_quorum(note, [at_work.witness], 1)
    assert (answer.status, found.at) == (200, AT)
    assert checkpoint.verify(note, ORIGIN, SPKI).size == 7


def test_each_refusal_has_the_status_of_the_standard_and_changes_nothing(state: Path) -> None:
    at_work = desk(state)
    assert at_work.add_checkpoint(body(0, 9)).status == 200
    before = state.read_bytes()
    for sent, status, said in (
        (b"old 9\n", 400, b"witness/form"),
        (b"old 9\n\nno note\n", 400, b"checkpoint/form"),
        (body(9, 7), 400, b"witness/old-size"),
        (body(9, 12, key=STRANGER), 403, b"witness/signature"),
        (body(0, 9, origin="other.test/log"), 404, b"witness/origin"),
        (body(9, 9, FORKED), 409, b"witness/forked"),
        (body(9, 12, FORKED), 422, b"witness/consistency"),
    ):
        answer = at_work.add_checkpoint(sent)
        assert (answer.status, answer.body.partition(b":")[0]) == (status, said)
    assert at_work.add_checkpoint(body(0, 7)) == Answer(409, "text/x.tlog.size", b"9\n")
    assert state.read_bytes() == before


def test_a_witness_started_again_still_knows_what_it_saw(state: Path) -> None:
    assert desk(state).add_checkpoint(body(0, 9)).status == 200
    assert desk(state).add_checkpoint(body(9, 12, FORKED)).status == 422
    assert desk(state).add_checkpoint(body(9, 12)).status == 200
    assert desk(state).latest()[ORIGIN].size == 12


def test_of_two_trees_sent_at_once_one_is_cosigned(state: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        answers = list(
            threads.map(
                lambda number: desk(state).add_checkpoint(body(0, 9, FORKED if number % 2 else LEAVES)),
                range(8),
            )
        )
    assert sorted(answer.status for answer in answers) == [200] + [409] * 7


def test_nothing_is_signed_that_could_not_be_kept(state: Path) -> None:
    state.with_name(state.name + ".partial").mkdir()
    with pytest.raises(Unavailable) as caught:
        desk(state).add_checkpoint(body(0, 9))
    assert caught.value.rule == "witness/state-file"
    assert desk(state).latest() == {}


def test_a_witness_that_lost_its_memory_signs_nothing(state: Path) -> None:
    with pytest.raises(Unavailable):
        found_state(state)
    for octets in (
        b"",
        b"[]",
        b'{"a":1}',
        b'{"a":"b"}',
        b'{"other":"%s\\n0\\n%s\\n"}' % (b"log", b"A" * 43 + b"="),
    ):
        state.write_bytes(octets)
        with pytest.raises(Corrupt) as damaged:
            desk(state).add_checkpoint(body(0, 9))
        assert damaged.value.rule == "witness/state"
    state.unlink()
    with pytest.raises(Unavailable) as gone:
        desk(state).add_checkpoint(body(0, 9))
    assert gone.value.rule == "witness/state-file"
