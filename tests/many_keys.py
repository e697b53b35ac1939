"""A registry of very many keys, written in one transaction: as if each had been registered, at a thousandth of the time."""

from cryptosvc.adapters.store import records
from cryptosvc.adapters.store.appending import Extension, Registry
from cryptosvc.adapters.store.heads import Head
from cryptosvc.adapters.store.ledger import Ledger
from cryptosvc.adapters.store.session import Session
from cryptosvc.core.merkle import leaf_hash
from cryptosvc.core.record import INIT
from cryptosvc.core.registry import KeyRecord
from cryptosvc.core.registry_tree import NodeName, bucket_hash, with_bucket
from tests import claims
from tests.store_stand import observed

_INSERT = (
    "INSERT INTO record (kind, record_id, version, leaf_index, document, bucket, system, certificate_sha256) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)


def name(number: int) -> str:
    """Id of a key."""
    return f"key-{number:06}"


def key(number: int) -> KeyRecord:
    """One of the keys."""
    return claims.key_record(
        key_id=name(number), label="k", public_point=b"\x04" + bytes(64), key_class="command-signing"
    )


async def fill(ledger: Ledger, count: int, entries: int) -> None:
    """Register `count` keys in a store that has none, and go on with other entries until there are so many."""
    writer = ledger.writer

    def write(session: Session, head: Head) -> Extension:
        leaves, rows = [], []
        for number in range(count):
            record = key(number)
            leaves.append(writer.registered(record, INIT))
            rows.append(records.row_of(record, head.size + number))
        buckets: dict[int, list[records.Commitment]] = {}
        for row in rows:
            buckets.setdefault(row.bucket, []).append(records.commitment(row))
        nodes: dict[NodeName, bytes] = {}
        root = head.registry_root
        for bucket, members in buckets.items():
            root = with_bucket(bucket, bucket_hash(members), nodes)
        session.run_many(
            _INSERT,
            [
                (
                    row.kind,
                    row.record_id,
                    row.version,
                    row.leaf_index,
                    row.document,
                    row.bucket,
                    row.system,
                    row.certificate_sha256,
                )
                for row in rows
            ],
        )
        session.put_registry_nodes(nodes)
        other = writer.preparer.prepare([observed()], {}, bytes(16))[0].leaf
        leaves += [other] * (entries - len(leaves))
        registry = Registry(head.generation + 1, root)
        hashes = [leaf_hash(leaf.entry) for leaf in leaves]
        return writer.appender.append(session, leaves, hashes, registry=registry)

    await ledger.job(lambda: ledger.change(write))
