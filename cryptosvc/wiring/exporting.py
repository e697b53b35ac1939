"""`audit export` and `audit verify`."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

import orjson
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from cryptosvc.adapters.clock import SystemClock
from cryptosvc.adapters.export import verify_export, write_export
from cryptosvc.adapters.hsm.hsm import Pkcs11Hsm
from cryptosvc.cli.actions import Document, Progress
from cryptosvc.config.settings import Settings, read_settings
from cryptosvc.core import checkpoint
from cryptosvc.core.erased import TELLING, Missing, hash_of, is_alone
from cryptosvc.core.errors import Conflict, Corrupt, Malformed, Unavailable
from cryptosvc.core.evidence import Verdict
from cryptosvc.core.merkle import EMPTY
from cryptosvc.wiring import modules, proof, stores, worker
from cryptosvc.wiring.profiles import read_octets

_HASHED_TOGETHER = 1024
_TELLING = re.compile(rb'"kind":"(?:%s)"' % b"|".join(kind.encode() for kind in sorted(TELLING)))


def export(config: Path, out: Path, progress: Progress) -> Document:
    """Look over everything there is, sign a checkpoint over it, and write it all to a file, read from the store.

    Raises:
        Unavailable: store or module out of reach; the registry changed at this very moment.
        Corrupt: the store is not what the log's head vouches for.

    """
    settings = read_settings(config)
    clock = SystemClock()
    hsm = Pkcs11Hsm(modules.module_configs(settings), clock, stores.lock_folder(settings))
    hsm.start()
    try:
        return asyncio.run(_export(settings, hsm, clock, out, progress))
    finally:
        hsm.close()


async def _export(
    settings: Settings, hsm: Pkcs11Hsm, clock: SystemClock, out: Path, progress: Progress
) -> Document:
    async with stores.opened(settings, hsm, clock, worker.scope(settings, "export")) as store:
        # before the log's key vouches for them
        await _look_over(store, progress)
        await _sign_checkpoint(settings, hsm, clock, store)
        records = await store.registry.every_record()
        notes = await store.ledger.checkpoints()
        size = max(checkpoint.parse(note).checkpoint.size for note in notes)
        late = [record.record_id for record in records if record.leaf_index >= size]
        if late:
            raise Unavailable(
                f"the newest checkpoint signs {size} entries and does not cover the last change of {late[0]} yet; "
                "try again",
                rule="checkpoint/not-covered",
            )
        entries = _told(store.ledger.entries(0, size), size, progress)
        written = await asyncio.to_thread(write_export, out, settings.log.origin, notes, records, entries)
    return {
        "written_to": str(out),
        "origin": settings.log.origin,
        "entries": written,
        "records": len(records),
    }


async def _look_over(store: stores.Opened, progress: Progress) -> None:
    """Hold every record and every entry against the authenticated head.

    Raises:
        Corrupt: a record is not what its leaf commits to, the entries do not make up the head's tree, or one is a hash alone
            that nobody deleted.

    """
    await store.registry.every_record()
    head = await store.ledger.head()
    root = await asyncio.to_thread(_root_of, store.ledger.entries(0, head.size), head.size, progress)
    if root != head.root:
        raise Corrupt(
            "the entries in the store are not those the log's head vouches for: the database was edited; nothing was "
            "signed or exported",
            rule="log/leaf-changed",
        )


def _root_of(entries: Iterator[tuple[bytes, bytes]], size: int, progress: Progress) -> bytes:
    frontier, missing = EMPTY, Missing()
    while some := [entry for entry, _ in islice(entries, _HASHED_TOGETHER)]:
        for index, entry in enumerate(some, frontier.size):
            if is_alone(entry):
                missing.miss(index)
            elif _TELLING.search(entry):
                missing.hear(index, orjson.loads(entry))
        frontier = frontier.extended([hash_of(entry) for entry in some])
        progress("looking over", frontier.size, size)
    missing.require_gone()
    return frontier.root()


async def _sign_checkpoint(
    settings: Settings, hsm: Pkcs11Hsm, clock: SystemClock, store: stores.Opened
) -> None:
    """Have everything covered that is there now; where a worker signs at this very moment, that one does."""
    service = await worker.service_principal(store)
    _, checkpointer, _ = worker.assemble(settings, hsm, clock, store, service, await proof.held(store))
    with suppress(Conflict):
        await checkpointer.sign_checkpoint()


def _told(
    entries: Iterator[tuple[bytes, bytes]], size: int, progress: Progress
) -> Iterator[tuple[bytes, bytes]]:
    for done, entry in enumerate(entries):
        if done % 1024 == 0:
            progress("exporting", done, size)
        yield entry


def verify(
    export: Path, key: Path, origin: str, since: Path | None, processes: int, progress: Progress
) -> Verdict:
    """Verify an export with the log's public key (PEM or DER). Raises as `adapters.export.verify_export`."""
    return verify_export(
        export,
        public_key_der(key),
        origin=origin or None,
        kept=b"" if since is None else read_octets(since, "--since"),
        processes=processes or None,
        progress=lambda done, size: progress("verifying", done, size),
    )


def public_key_der(path: Path) -> bytes:
    """Read a public key file as SubjectPublicKeyInfo DER; Malformed where it is none."""
    octets = read_octets(path, "--key")
    load = load_pem_public_key if octets.startswith(b"-----") else load_der_public_key
    try:
        return load(octets).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except ValueError:
        raise Malformed(
            f"{path} is not a public key (PEM or DER)", rule="config/public-key", field="--key"
        ) from None
