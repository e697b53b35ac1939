"""A registry of very many keys, written in one transaction: as if each had been registered, at a thousandth of the time.

`python -m tests.many_keys CONFIG COUNT` does it to a deployment that `init` has made, in a process of its own, since a
PKCS#11 library is global to its process.
"""

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

from cryptosvc.adapters.clock import SystemClock
from cryptosvc.adapters.hsm.hsm import Pkcs11Hsm
from cryptosvc.adapters.store import records
from cryptosvc.adapters.store.appending import Extension, Registry
from cryptosvc.adapters.store.heads import Head
from cryptosvc.adapters.store.ledger import Ledger
from cryptosvc.adapters.store.session import Session
from cryptosvc.config.settings import read_settings
from cryptosvc.core.merkle import leaf_hash
from cryptosvc.core.names import SystemName
from cryptosvc.core.record import INIT
from cryptosvc.core.registry import KeyRecord
from cryptosvc.core.registry_tree import NodeName, bucket_hash, path, with_bucket
from cryptosvc.wiring import modules, stores, worker
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


async def fill(ledger: Ledger, count: int, entries: int, system: str = "") -> None:
    """Register `count` keys beside the records there are, and go on with other entries until there are so many."""
    writer = ledger.writer

    def write(session: Session, head: Head) -> Extension:
        leaves, rows = [], []
        for number in range(count):
            record = replace(key(number), system=SystemName(system)) if system else key(number)
            leaves.append(writer.registered(record, INIT))
            rows.append(records.row_of(record, head.size + number))
        buckets: dict[int, list[records.Commitment]] = {}
        already = session.records()
        for row in (*already, *rows):
            buckets.setdefault(row.bucket, []).append(records.commitment(row))
        nodes: dict[NodeName, bytes] = {}
        for row in already:
            nodes |= session.registry_nodes(path(row.bucket))
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


async def _fill(config: Path, count: int) -> None:
    settings = read_settings(config)
    clock = SystemClock()
    hsm = Pkcs11Hsm(modules.module_configs(settings), clock, stores.lock_folder(settings))
    hsm.start()
    try:
        async with stores.opened(settings, hsm, clock, worker.scope(settings, "fill")) as store:
            await fill(store.ledger, count, count, settings.deployment.system)
    finally:
        hsm.close()


if __name__ == "__main__":
    asyncio.run(_fill(Path(sys.argv[1]), int(sys.argv[2])))
