"""A witness cosigns a log forward only; what was rolled back or forked is caught by name, and nobody counts twice."""

import base64
import hashlib
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from cryptosvc.core import checkpoint, merkle, witness
from cryptosvc.core.checkpoint import Checkpoint, Note, NoteSignature
from cryptosvc.core.errors import Conflict, Corrupt, Malformed, Refusal
from cryptosvc.core.witness import Submission, Witness

ORIGIN = "example.test/log"
LOG_KEY = ec.generate_private_key(ec.SECP256R1())
LOG_SPKI = LOG_KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
KEYS = [Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in range(3)]
WITNESSES = [
    Witness(f"w{number}.example.test", key.public_key().public_bytes_raw()) for number, key in enumerate(KEYS)
]
AT = 1_679_315_147
LEAVES = [merkle.leaf_hash(b"entry %d" % number) for number in range(20)]
FORKED = [*LEAVES[:5], merkle.leaf_hash(b"another"), *LEAVES[6:]]


def tree(size: int, leaves: list[bytes] = LEAVES) -> Checkpoint:
    return Checkpoint(ORIGIN, size, merkle.root_of(leaves[:size]))


def signed(found: Checkpoint) -> bytes:
    signature = LOG_KEY.sign(checkpoint.text(found), ec.ECDSA(hashes.SHA256()))
    return checkpoint.emit(
        Note(found, (NoteSignature(found.origin, checkpoint.key_id(LOG_SPKI), signature),))
    )


def sent(old: int, size: int, leaves: list[bytes] = LEAVES) -> Submission:
    def subtree(height: int, index: int) -> bytes:
        return merkle.root_of(leaves[index << height : (index + 1) << height])

    proof = merkle.consistency_proof(old, size, subtree) if 0 < old <= size else []
    return Submission(old, tuple(proof), signed(tree(size, leaves)))


def judged(submission: Submission, latest: Checkpoint | None = None) -> Checkpoint:
    known = {} if latest is None else {latest.origin: latest}
    return witness.judge_submission(submission, {ORIGIN: LOG_SPKI}, known)


def line(number: int, seen: Checkpoint, at: int = AT) -> NoteSignature:
    signature = KEYS[number].sign(witness.cosigned_message(seen, at))
    return witness.cosignature_line(WITNESSES[number], at, signature)


def cosigned(seen: Checkpoint, *lines: NoteSignature) -> bytes:
    note = checkpoint.parse(signed(seen))
    return checkpoint.emit(replace(note, signatures=(*note.signatures, *lines)))


def test_the_cosignature_is_the_one_of_the_standard() -> None:
    seen = tree(7)
    root = base64.b64encode(seen.root).decode()
    by_hand = f"cosignature/v1\ntime 1679315147\n{ORIGIN}\n7\n{root}\n".encode()
    found = line(0, seen)
    assert witness.cosigned_message(seen, AT) == by_hand
    assert found.signature == (1679315147).to_bytes(8, "big") + KEYS[0].sign(by_hand)
    material = b"w0.example.test\n\x04" + WITNESSES[0].public_key
    assert found.key_id == hashlib.sha256(material).digest()[:4]
    assert witness.verify_cosignature(found, seen, WITNESSES[0]).at == AT


@pytest.mark.parametrize("at", [-1, 1 << 63])
def test_a_time_outside_the_standard_is_not_signed(at: int) -> None:
    with pytest.raises(Malformed) as caught:
        witness.cosigned_message(tree(1), at)
    assert caught.value.rule == "witness/time"


@pytest.mark.parametrize("position", range(72))
def test_a_flip_anywhere_in_a_cosignature_is_found(position: int) -> None:
    good = line(0, tree(7))
    octets = bytearray(good.signature)
    octets[position] ^= 1
    with pytest.raises(Corrupt) as caught:
        witness.verify_cosignature(replace(good, signature=bytes(octets)), tree(7), WITNESSES[0])
    assert caught.value.rule == "witness/cosignature"


def test_a_cosignature_is_of_one_tree_by_one_witness() -> None:
    with pytest.raises(Corrupt, match="does not verify"):
        witness.verify_cosignature(line(0, tree(7)), tree(7, FORKED), WITNESSES[0])
    with pytest.raises(Corrupt) as caught:
        witness.verify_cosignature(line(0, tree(7)), tree(7), WITNESSES[1])
    assert caught.value.rule == "witness/other-key"


def test_a_witness_key_is_read_only_as_it_is_printed() -> None:
    printed = witness.emit_key(WITNESSES[0])
    assert witness.parse_key(printed) == WITNESSES[0]
    name, number, material = printed.split("+", 2)
    edited = base64.b64encode(b"\x01" + WITNESSES[0].public_key).decode()
    for wrong in ("", name, f"x{printed}", f"{name}+{number.upper()}G+{material}", f"{name}+{number}+{edited}",
                  printed + "\n", f"a b+{number}+{material}", f"{name}+{number}+{material[:-8]}"):  # fmt: skip
        with pytest.raises(Malformed) as caught:
            witness.parse_key(wrong)
        assert caught.value.rule == "witness/key"


@given(
    st.integers(0, 2**63 - 1),
    st.lists(st.binary(min_size=32, max_size=32), max_size=63),
    st.integers(1, 20),
)
def test_submissions_round_trip(old: int, proof: list[bytes], size: int) -> None:
    submission = Submission(old, tuple(proof), signed(tree(size)))
    assert witness.parse_submission(witness.emit_submission(submission)) == submission


def test_a_submission_is_read_only_as_it_is_printed() -> None:
    note = signed(tree(3))
    long = b"".join(base64.b64encode(bytes(32)) + b"\n" for _ in range(64))
    for wrong in (b"", note, b"old 3\n" + note, b"old 03\n\n" + note, b"old -1\n\n" + note, b"3\n\n" + note,
                  b"old 1\nAAAA\n\n" + note, b"old 1\n" + long + b"\n" + note, b"old \xff\n\n" + note,
                  b"old 3\n\n" + note + bytes(witness.MAX_SUBMISSION_OCTETS)):  # fmt: skip
        with pytest.raises(Malformed) as caught:
            witness.parse_submission(wrong)
        assert caught.value.rule == "witness/form"


@pytest.mark.parametrize("old", range(20))
def test_a_log_that_grows_is_cosigned_from_every_size_to_every_size(old: int) -> None:
    before = tree(old) if old else None
    for size in range(max(old, 1), 21):
        assert judged(sent(old, size), before) == tree(size)


@pytest.mark.parametrize(
    ("submission", "latest", "rule", "kind"),
    [
        (sent(9, 7), tree(9), "witness/old-size", Malformed),
        (sent(0, 7), tree(9), "witness/stale", Conflict),
        (sent(7, 12, FORKED), tree(9), "witness/stale", Conflict),
        (sent(9, 9, FORKED), tree(9), "witness/forked", Corrupt),
        (sent(9, 12, FORKED), tree(9), "witness/consistency", Corrupt),
        (replace(sent(9, 12), proof=()), tree(9), "witness/consistency", Corrupt),
        (replace(sent(9, 9), proof=(bytes(32),)), tree(9), "witness/consistency", Corrupt),
        (replace(sent(0, 9), proof=(bytes(32),)), None, "witness/consistency", Corrupt),
    ],
)
def test_a_log_that_was_rolled_back_or_forked_is_caught_by_name(
    submission: Submission, latest: Checkpoint | None, rule: str, kind: type[Refusal]
) -> None:
    with pytest.raises(kind) as caught:
        judged(submission, latest)
    assert caught.value.rule == rule


def test_only_the_logs_a_witness_was_told_of_are_cosigned_and_only_under_their_keys() -> None:
    with pytest.raises(Malformed) as unknown:
        witness.judge_submission(sent(0, 7), {"other.test/log": LOG_SPKI}, {})
    assert unknown.value.rule == "witness/origin"
    stranger = ec.generate_private_key(ec.SECP256R1()).public_key()
    spki = stranger.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(Corrupt) as forged:
        witness.judge_submission(sent(0, 7), {ORIGIN: spki}, {})
    assert forged.value.rule == "witness/signature"


def test_a_quorum_counts_each_key_once_and_unknown_ones_not_at_all() -> None:
    seen = tree(7)
    both = witness.require_quorum(cosigned(seen, line(0, seen), line(1, seen, AT + 5)), WITNESSES, 2)
    assert [(each.witness.name, each.at) for each in both] == [
        (WITNESSES[0].name, AT),
        (WITNESSES[1].name, AT + 5),
    ]
    twice = cosigned(seen, line(0, seen), line(0, seen, AT + 1))
    stranger = cosigned(seen, line(0, seen), line(2, seen))
    alias = Witness("alias.example.test", WITNESSES[0].public_key)
    second = witness.cosignature_line(alias, AT, KEYS[0].sign(witness.cosigned_message(seen, AT)))
    for note, trusted in (
        (twice, WITNESSES), (stranger, WITNESSES[:2]), (cosigned(seen, line(0, seen), second), [*WITNESSES, alias]),
    ):  # fmt: skip
        with pytest.raises(Corrupt) as caught:
            witness.require_quorum(note, trusted, 2)
        assert caught.value.rule == "witness/quorum"


def test_a_false_line_in_a_witness_name_is_never_passed_over() -> None:
    seen = tree(7)
    false = line(1, tree(7, FORKED))
    with pytest.raises(Corrupt) as caught:
        witness.require_quorum(cosigned(seen, line(0, seen), false), WITNESSES, 1)
    assert caught.value.rule == "witness/cosignature"


@pytest.mark.parametrize("quorum", [0, 4])
def test_a_quorum_nobody_could_reach_is_refused(quorum: int) -> None:
    with pytest.raises(Malformed) as caught:
        witness.require_quorum(cosigned(tree(7), line(0, tree(7))), WITNESSES, quorum)
    assert caught.value.rule == "witness/quorum-size"
