"""Small logs with checkpoints signed in software, for tests of what an auditor verifies."""

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cryptosvc.core import checkpoint
from cryptosvc.core.merkle import leaf_hash, root_of
from cryptosvc.core.record import sealed

ORIGIN = "example.test/log"
KEY = ec.generate_private_key(ec.SECP256R1())
SPKI = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
Entry = tuple[bytes, bytes]
STOP = 37


def log(count: int = STOP) -> list[Entry]:
    made = []
    for number in range(count):
        leaf = sealed(
            {"v": 1, "kind": "use", "time": str(1000 + number), "key": f"k{number % 3}", "n": number},
            {"principal": f"c{number % 2}"},
            number.to_bytes(16),
        )
        made.append((leaf.entry, leaf.withheld))
    return made


def note(entries: list[Entry]) -> bytes:
    found = checkpoint.Checkpoint(ORIGIN, len(entries), root_of([leaf_hash(entry) for entry, _ in entries]))
    signature = KEY.sign(checkpoint.text(found), ec.ECDSA(hashes.SHA256()))
    return checkpoint.emit(
        checkpoint.Note(found, (checkpoint.NoteSignature(ORIGIN, checkpoint.key_id(SPKI), signature),))
    )
