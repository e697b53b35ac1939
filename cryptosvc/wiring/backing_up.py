"""`backup`: a snapshot of the whole store, signed and sealed, while the service runs."""

import asyncio
import hashlib
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cryptosvc.adapters import envelope
from cryptosvc.adapters.software import software_digest
from cryptosvc.adapters.store import snapshot
from cryptosvc.adapters.store.engine import migrate, open_store
from cryptosvc.adapters.store.heads import Head
from cryptosvc.cli.actions import Document, Progress
from cryptosvc.config.settings import Settings, read_settings
from cryptosvc.core import backup as backups
from cryptosvc.core.backup import Manifest
from cryptosvc.core.case import Principal, Request
from cryptosvc.core.errors import Conflict, Forbidden, Unavailable
from cryptosvc.core.names import ContentForm, Environment, KeyId, RequestId
from cryptosvc.flow.sign import Signed, Signer
from cryptosvc.wiring import proof, stores, worker
from cryptosvc.wiring.reconciling import Floor, opened_floor

_SQLITE = "sqlite:///"
TRAILER_OCTETS = 8
"""Behind snapshot and manifest: how long the manifest is, big-endian."""


def backup(config: Path, out: Path, to: Sequence[str], progress: Progress) -> Document:
    """Back the store up: snapshot, manifest, envelope, and an entry in the log that says so.

    Args:
        config: the service's configuration.
        out: the file to write; it appears when it is whole.
        to: recipients; those of the configuration where there are none.
        progress: told how far it is.

    Raises:
        Malformed: no recipient, or none.
        Forbidden: a recipient that the configuration does not name, where it names any.
        Unavailable, Corrupt: as `stores.opened`.

    """
    settings = read_settings(config)
    recipients = _recipients(settings, to)

    async def run() -> Document:
        async with opened_floor(config, "backup") as floor:
            with tempfile.TemporaryDirectory(prefix=".backup-", dir=private_folder(settings)) as folder:
                return await _written(floor, out, recipients, Path(folder) / "snapshot.db", progress)

    return asyncio.run(run())


def private_folder(settings: Settings) -> Path:
    """Where a snapshot may stand in the clear for a while: where the store does, or else what only the service reads."""
    url = settings.store.url
    return Path(url.removeprefix(_SQLITE)).parent if url.startswith(_SQLITE) else stores.lock_folder(settings)


async def _written(
    floor: Floor, out: Path, recipients: Sequence[str], plain: Path, progress: Progress
) -> Document:
    settings, store = floor.settings, floor.store
    service = await worker.service_principal(store)
    application, checkpointer, policy_digest = worker.assemble(
        settings, floor.hsm, floor.clock, store, service, await proof.held(store)
    )
    # 1 a checkpoint that goes into the snapshot; where a worker signs at this very moment, that one does
    with suppress(Conflict):
        await checkpointer.sign_checkpoint()
    # 2 the snapshot
    head, note, rows = await asyncio.to_thread(_copied, floor, plain, progress)
    digest, octets = await asyncio.to_thread(lambda: (digest_of(plain), plain.stat().st_size))
    # 3 the manifest
    manifest = Manifest(
        origin=settings.log.origin,
        system=settings.deployment.system,
        environment=settings.deployment.environment.value,
        made_at=floor.clock.now().at,
        size=head.size,
        root=head.frontier.root(),
        checkpoint=note.decode(),
        sha256=digest,
        octets=octets,
        rows=rows,
        software=await asyncio.to_thread(software_digest),
        policy_digest=policy_digest,
    )
    payload = backups.payload(manifest)
    signed = await _signed(application.signer, service, KeyId(settings.log.service_key), payload)
    await asyncio.to_thread(_append, plain, signed)
    # 4 the envelope, and the entry before anybody can take the file
    partial = out.with_name(out.name + ".partial")
    try:
        await asyncio.to_thread(envelope.seal, plain, partial, recipients)
        sealed, octets = await asyncio.to_thread(lambda: (digest_of(partial), partial.stat().st_size))
        facts = {
            "backup": hashlib.sha256(payload).hexdigest(),
            "size": str(head.size),
            "sha256": sealed.hex(),
            "recipients": ",".join(sorted(_named(one) for one in recipients)),
        }
        receipt = await application.observer.happened("backup", "back-up", facts, {})
        partial.replace(out)
    except OSError as error:
        raise Unavailable(f"cannot write {out}: {error.strerror}", rule="backup/unwritable") from None
    finally:
        partial.unlink(missing_ok=True)
    return {
        "written_to": str(out),
        "octets": octets,
        "recorded_as": receipt.leaf_index,
        **facts,
    }


def _copied(floor: Floor, plain: Path, progress: Progress) -> tuple[Head, bytes, dict[str, int]]:
    """Copy one moment of the store into a file; its head, believed, and its newest checkpoint."""
    url = f"{_SQLITE}{plain}"
    migrate(url)
    plain.chmod(0o600)
    source, target = open_store(floor.settings.store.url), open_store(url)
    keeper = floor.store.ledger.keeper
    try:
        known = keeper.known
        with source.reading() as session:
            head = keeper.verified(session.head(), known)
            note = session.checkpoint() or b""
            with target.writing() as into:
                rows = snapshot.copied(
                    session,
                    into,
                    shared=False,
                    progress=lambda table, done: progress(f"copying {table}", done, 0),
                )
        return head, note, rows
    finally:
        source.close()
        target.close()


async def _signed(signer: Signer, service: Principal, key: KeyId, payload: bytes) -> bytes:
    request = Request(
        request_id=RequestId(f"backup-{hashlib.sha256(payload).hexdigest()[:40]}"),
        key_id=key,
        form=ContentForm.SERVICE_STATEMENT,
        payload=payload,
    )
    (answer,) = await signer.sign(service, [request])
    if not isinstance(answer, Signed):
        raise answer.error
    return answer.checked.artefact


def _append(plain: Path, manifest: bytes) -> None:
    with plain.open("ab") as file:
        file.write(manifest + len(manifest).to_bytes(TRAILER_OCTETS))


def digest_of(path: Path) -> bytes:
    """SHA-256 of a file, read a little at a time."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _recipients(settings: Settings, to: Sequence[str]) -> Sequence[str]:
    configured = settings.backup.recipients
    wanted = list(dict.fromkeys(to)) or list(configured)
    envelope.require_recipients(wanted)
    if configured and (others := [one for one in wanted if one not in configured]):
        raise Forbidden(
            f"{_named(others[0])} is not among backup.recipients; a backup holds everything the log withholds",
            rule="backup/other-recipient",
            clause="G2.16(a)",
            field="--to",
        )
    if not configured and settings.deployment.environment is Environment.LIVE:
        raise Forbidden(
            "in live, who may open backups is configured: set backup.recipients",
            rule="backup/recipients-unset",
            clause="G2.16(a)",
            field="backup.recipients",
        )
    return wanted


def _named(recipient: str) -> str:
    """A recipient as the log names it: its public key without what people write behind."""
    return " ".join(recipient.split()[:2])
