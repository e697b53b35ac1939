"""Evidence bundles of any log, made in process: entries, a key that signs checkpoints, and who makes the bundle.

The log's key is a test's own, so that a test may also be the operator who forks the log.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

from cryptosvc.adapters.evidence_bundle import write_bundle
from cryptosvc.core.bundle import Head, Item
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.merkle import consistency_proof, inclusion_proof, leaf_hash, root_of
from cryptosvc.core.query import Query
from tests.log_verifier import signed_note

Entry = tuple[bytes, bytes]
_BEGAN = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def certificate(
    key: ec.EllipticCurvePrivateKey, subject: str = "maker", issuer: str = "maker", by=None
) -> x509.Certificate:
    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    builder = x509.CertificateBuilder(named(issuer), named(subject), key.public_key(), 7)
    builder = builder.not_valid_before(_BEGAN).not_valid_after(_BEGAN + dt.timedelta(days=9))
    return builder.sign(by or key, hashes.SHA256())


@dataclass
class BundledLog:
    """A log and who signs it.

    Args:
        origin: of the log.
        entries: (entry, withheld).
        key: signs checkpoints.
        maker: signs bundles.

    """

    origin: str
    entries: Sequence[Entry]
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    maker: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @cached_property
    def leaves(self) -> list[bytes]:
        return [leaf_hash(entry) for entry, _ in self.entries]

    @property
    def spki(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def subtree(self, height: int, index: int) -> bytes:
        return root_of(self.leaves[index << height : (index + 1) << height])

    def note(self, size: int) -> bytes:
        return signed_note(self.origin, [entry for entry, _ in self.entries[:size]], self.key).encode()

    def item(self, index: int, *, answer: bool) -> Item:
        entry, withheld = self.entries[index]
        path = inclusion_proof(index, len(self.entries), self.subtree)
        return Item(leaf_index=index, entry=entry, withheld=withheld, path=tuple(path), answer=answer)

    def head(self, since: int = 0) -> Head:
        size = len(self.entries)
        return Head(
            query=Query.of({}).document(),
            checkpoint=self.note(size),
            since=self.note(since) if since else b"",
            consistency=tuple(consistency_proof(since, size, self.subtree)) if since else (),
            made_by="",
            public_key=self.spki.hex(),
            certificates=(),
            entries=0,
            absent=("log-key",),
            completeness={},
        )

    def bundle(
        self, path: Path, answer: Sequence[int], beside: Sequence[int] = (), begin: int = 0, **more: JsonValue
    ) -> bytes:
        """Write a bundle; `more` changes its head before it is signed."""
        chosen = sorted({*answer, *beside})
        items = [self.item(index, answer=index in set(answer)) for index in chosen]
        head = replace(self.head(begin), **{"entries": len(items)} | more)  # type: ignore[arg-type]  # a test's own
        pem = self.maker.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_bundle(path, head, items, certificate(self.maker).public_bytes(Encoding.PEM), pem)
        return path.read_bytes()


def entries_of(export: bytes) -> tuple[list[bytes], list[bytes]]:
    """The lines before an export's entries, and those of the entries."""
    before, _, entries = export.partition(b"\n\n")
    return before.split(b"\n"), entries.split(b"\n")[:-1]
