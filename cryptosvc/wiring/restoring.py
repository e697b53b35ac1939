"""`restore`: everything is verified, decided and written down on a copy; then the copy is moved into the empty store.

The copy is a store of its own in a folder that only the service reads. What the restore has to say (a quorum's act, keys
that are held or stay destroyed, the entry that the log was put back) it says in the copy's log, by the same walks as the
service. Until one transaction moves all of it the configured store is not touched.
"""

import asyncio
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from cryptosvc.adapters import envelope
from cryptosvc.adapters.clock import SystemClock
from cryptosvc.adapters.hsm.hsm import Pkcs11Hsm
from cryptosvc.adapters.store import snapshot
from cryptosvc.adapters.store.engine import migrate, open_store
from cryptosvc.cli.actions import Document, Progress
from cryptosvc.cli.backup import Asked
from cryptosvc.config.settings import Settings, read_settings
from cryptosvc.core import backup as backups
from cryptosvc.core import rewound
from cryptosvc.core.backup import Manifest
from cryptosvc.core.errors import Corrupt, Unavailable
from cryptosvc.core.life import NANOSECONDS, UnixSeconds
from cryptosvc.core.record import Because
from cryptosvc.core.registry import KeyRecord, KeyState
from cryptosvc.flow.observe import Observer
from cryptosvc.wiring import logkeys, modules, stores, worker
from cryptosvc.wiring.backing_up import TRAILER_OCTETS, digest_of, private_folder
from cryptosvc.wiring.restore_checks import (
    destroyed_keys,
    examine,
    known_states,
    needs_quorum,
    public_keys,
    require_quorum,
)

_SQLITE = "sqlite:///"


@dataclass(frozen=True, slots=True)
class _Opened:
    """A backup out of its envelope."""

    manifest: Manifest
    backup: str
    envelope: bytes
    plain: Path


def restore(config: Path, sealed: Path, asked: Asked, progress: Progress) -> Document:
    """Verify a backup, and restore it unless asked only to look.

    Raises:
        Corrupt: whatever does not hold of it, by name; `restore/forked` where it is of another log than is known.
        AwaitingApproval, Forbidden: it would roll the log back, and no quorum approved that.
        WrongState: the store is not empty.
        Malformed, Unavailable: keys, files, modules.

    """
    settings = read_settings(config)
    if not asked.look:
        migrate(settings.store.url)
        with closing(open_store(settings.store.url)) as target:
            snapshot.require_empty(target)
    with tempfile.TemporaryDirectory(prefix=".restore-", dir=private_folder(settings)) as folder:
        opened = _opened(sealed, asked.key, Path(folder) / "store.db", settings)
        clock = SystemClock()
        hsm = Pkcs11Hsm(modules.module_configs(settings), clock, stores.lock_folder(settings))
        hsm.start()
        try:
            done = asyncio.run(_decided(settings, hsm, clock, opened, asked, progress))
        finally:
            hsm.close()
        if not asked.look:
            _moved(settings, opened, progress)
    return done


def _opened(sealed: Path, key: Path, plain: Path, settings: Settings) -> _Opened:
    """Open the envelope, and hold the snapshot against its manifest, which nobody has verified yet."""
    envelope.open_sealed(sealed, plain, key)
    size = plain.stat().st_size
    with plain.open("rb+") as file:
        file.seek(max(size - TRAILER_OCTETS, 0))
        length = int.from_bytes(file.read(TRAILER_OCTETS))
        at = size - TRAILER_OCTETS - length
        if at < 0:
            raise Corrupt("this is no backup", rule="backup/manifest", clause="G2.16")
        file.seek(at)
        signed = file.read(length)
        file.truncate(at)
    manifest, backup = backups.read(signed)
    if (manifest.octets, manifest.sha256) != (at, digest_of(plain)):
        raise Corrupt("the snapshot is not the one its manifest is of", rule="backup/digest", clause="G2.16")
    here = (settings.log.origin, settings.deployment.system, settings.deployment.environment.value)
    if (manifest.origin, manifest.system, manifest.environment) != here:
        raise Corrupt(
            f"the backup is of {manifest.system} ({manifest.environment}), log {manifest.origin}, not of this deployment",
            rule="backup/other-deployment",
            clause="G2.20",
        )
    migrate(f"{_SQLITE}{plain}")
    return _Opened(manifest, backup, signed, plain)


async def _decided(
    settings: Settings, hsm: Pkcs11Hsm, clock: SystemClock, opened: _Opened, asked: Asked, progress: Progress
) -> Document:
    """Verify the copy, and write into its log what the restore has to say."""
    copy = settings.store.model_copy(
        update={"url": f"{_SQLITE}{opened.plain}", "anchor": opened.plain.with_name("anchor")}
    )
    staged = settings.model_copy(update={"store": copy})
    async with stores.opened(staged, hsm, clock, worker.scope(settings, "restore")) as store:
        # 1 what is known of the log elsewhere
        service, log_key = await public_keys(store, settings)
        backups.verify(opened.envelope, service)
        authenticator = hsm.head_mac(logkeys.head_key(settings))
        known, silent = await known_states(settings, authenticator, asked, opened.manifest, log_key)
        # 2 the backup itself, and that it is of that log; what was sealed under keys destroyed since is gone in it too
        gone = await destroyed_keys(asked.destroyed, service, log_key)
        store.segments.give_up(gone)
        size = await examine(store, settings, opened.manifest, known, log_key, progress, gone)
        said: dict[str, str | int] = {
            "backup": opened.backup,
            "made_at": opened.manifest.made_at // NANOSECONDS,
            "size": size,
            "known": max((one.size for one in known), default=0),
            "known_from": "; ".join(f"{one.source}: {one.size}" for one in known),
            "not_asked": ", ".join(silent),
        }
        needs = needs_quorum(settings.deployment.environment, known, size)
        if asked.look:
            return {**said, "needs_quorum": needs, "destroyed_since": sorted(gone)}
        # 3 the quorum, where the log would go back
        proposal = await require_quorum(store, settings, clock, asked, said) if needs else ""
        # 4 what the restore does to keys
        at = UnixSeconds(clock.now().at // NANOSECONDS)
        destroyed = await _destroyed(store, gone)
        held = await _held(store, at, opened.backup)
        # 5 for ever
        facts = {name: str(value) for name, value in said.items()} | {
            "proposal": proposal,
            "held": str(held),
            "destroyed": str(destroyed),
        }
        receipt = await Observer(store.ledger, clock).happened("restored", "restore", facts, {})
        return {
            **said,
            "proposal": proposal,
            "held": held,
            "destroyed": destroyed,
            "recorded_as": receipt.leaf_index,
        }


async def _destroyed(store: stores.Opened, gone: dict[str, UnixSeconds]) -> int:
    """Keys that were destroyed after the backup are destroyed in what is restored."""
    changed = []
    for key_id, on in sorted(gone.items()):
        key = await store.registry.record("key-record", key_id)
        if isinstance(key, KeyRecord) and key.state is not KeyState.DESTROYED:
            changed.append(rewound.destroyed_since(key, on))
    if changed:
        await store.registry.change(changed, Because("rule", rewound.DESTROYED_SINCE))
    return len(changed)


async def _held(store: stores.Opened, at: UnixSeconds, backup: str) -> int:
    """Every key whose promises the restore may have rewound is held."""
    every = await store.registry.of_kind("key-record")
    changed = [
        rewound.held(one, at, backup) for one in every if isinstance(one, KeyRecord) and rewound.is_held(one)
    ]
    if changed:
        await store.registry.change(changed, Because("rule", rewound.REWOUND))
    return len(changed)


def _moved(settings: Settings, opened: _Opened, progress: Progress) -> None:
    """Move the copy into the store, in one transaction, and the anchor of what was out of the way."""
    url = settings.store.url
    if url.startswith(_SQLITE):  # made from a store that is gone; both are made anew
        for derived in (".index", ".query"):
            path = Path(url.removeprefix(_SQLITE))
            path.with_name(path.name + derived).unlink(missing_ok=True)
    with closing(open_store(f"{_SQLITE}{opened.plain}")) as source, closing(open_store(url)) as target:
        snapshot.require_empty(target)
        with source.reading() as session, target.writing() as into:
            snapshot.copied(
                session,
                into,
                shared=not target.one_writer,
                progress=lambda table, done: progress(f"restoring {table}", done, 0),
            )
    anchor = settings.store.anchor
    try:
        if anchor.exists():
            anchor.replace(anchor.with_name(f"{anchor.name}.before-{opened.backup[:16]}"))
    except OSError as error:
        raise Unavailable(
            f"the store is restored, but its anchor could not be moved aside ({error.strerror}): move it before you start "
            "the service",
            rule="anchor/unwritable",
        ) from None
