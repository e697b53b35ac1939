"""What a restore is held against: the backup's own proofs, what others know of the log, certificates, and a quorum."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from cryptosvc.adapters.clock import SystemClock
from cryptosvc.adapters.hsm.vault import Pkcs11Vault
from cryptosvc.adapters.store.anchor import Anchor
from cryptosvc.adapters.store.devices import StoredDeviceKeys
from cryptosvc.adapters.store.engine import open_store
from cryptosvc.adapters.store.heads import Head, HeadAuthenticator, HeadKeeper
from cryptosvc.cli.actions import Progress
from cryptosvc.cli.backup import Asked
from cryptosvc.config.settings import Settings
from cryptosvc.core import checkpoint as notes
from cryptosvc.core import destruction, device_destruction, dsse
from cryptosvc.core import statement as statements
from cryptosvc.core.acts.logs import RESTORE
from cryptosvc.core.backup import Manifest
from cryptosvc.core.content.checkpoint_note import public_key_der
from cryptosvc.core.custodian import CustodianRecord
from cryptosvc.core.entries import CHUNK_ENTRIES, SEPARATOR, ChunkFindings, prefixes_in, read_chunk
from cryptosvc.core.errors import AwaitingApproval, Corrupt, CryptosvcError, Forbidden, Malformed
from cryptosvc.core.evidence import judged, require_prefix
from cryptosvc.core.life import Event, UnixSeconds
from cryptosvc.core.merkle import root_of
from cryptosvc.core.names import Environment
from cryptosvc.core.registry import KeyRecord
from cryptosvc.core.witness import AddCheckpoint
from cryptosvc.flow.govern import Governor
from cryptosvc.wiring import modules, proof, review, stores, witnesses, worker
from cryptosvc.wiring.ceremony import office
from cryptosvc.wiring.profiles import read_octets

_CLAUSE = "G2.16"
_DEVICES_AT_ONCE = 500
_OK, _CONFLICT = 200, 409


@dataclass(frozen=True, slots=True)
class Known:
    """A state the log is known to have had.

    Args:
        source: who knows it.
        size: entries.
        root: of their tree; empty where the source named a size only.

    """

    source: str
    size: int
    root: bytes


async def public_keys(store: stores.Opened, settings: Settings) -> tuple[bytes, bytes]:
    """SubjectPublicKeyInfo of the service-signing key and of the log's key, as the registry has them."""
    found: list[bytes] = []
    for key_id in (settings.log.service_key, settings.log.audit_key):
        key = await store.registry.record("key-record", key_id)
        if not isinstance(key, KeyRecord):
            raise Corrupt(f"the backup has no key {key_id}", rule="backup/no-key", clause=_CLAUSE)
        found.append(public_key_der(key.public_point))
    return found[0], found[1]


async def known_states(
    settings: Settings, authenticator: HeadAuthenticator, asked: Asked, manifest: Manifest, log_key: bytes
) -> tuple[list[Known], list[str]]:
    """What is known of the log outside of the backup, and the witnesses that could not be asked.

    Raises:
        Corrupt: a checkpoint is not the log's; the anchor or the store it replaces was edited; a witness cosigned other entries.
        Unavailable: the store it replaces cannot be read.

    """
    found: list[Known] = []
    anchored = Anchor(settings.store.anchor, authenticator).read()
    if anchored is not None:
        found.append(_head("anchor", anchored))
    for path in asked.known:
        signed = notes.verify(read_octets(path, "--known"), settings.log.origin, log_key)
        found.append(Known(path.name, signed.size, signed.root))
    if asked.replaces:
        found.append(_head("the store it replaces", _head_of(asked.replaces, settings, authenticator)))
    silent: list[str] = []
    if manifest.checkpoint:
        note = manifest.checkpoint.encode()
        signed = notes.verify(note, settings.log.origin, log_key)
        for peer in witnesses.peers(settings):
            try:
                answer = await peer.add_checkpoint(AddCheckpoint(signed.size, (), note))
            except CryptosvcError:
                silent.append(peer.witness.name)
                continue
            said = answer.body.decode("ascii", "replace").strip()
            if answer.status == _OK:
                found.append(Known(peer.witness.name, signed.size, signed.root))
            elif answer.status == _CONFLICT and said.isdecimal() and int(said) != signed.size:
                found.append(Known(peer.witness.name, int(said), b""))
            elif answer.status == _CONFLICT:
                raise _forked(Known(peer.witness.name, signed.size, b""))
            else:
                silent.append(peer.witness.name)
    return found, silent


def _head(source: str, head: Head) -> Known:
    return Known(source, head.size, head.frontier.root())


def _head_of(url: str, settings: Settings, authenticator: HeadAuthenticator) -> Head:
    """The authenticated head of another store of this deployment."""
    store = open_store(url)
    try:
        with store.reading() as session:
            return HeadKeeper(settings.log.origin, authenticator).verified(session.head(), None)
    finally:
        store.close()


async def examine(
    store: stores.Opened,
    settings: Settings,
    manifest: Manifest,
    known: Sequence[Known],
    log_key: bytes,
    progress: Progress,
    destroyed: Collection[str] = (),
) -> int:
    """Verify the log, the records and the device keys of the copy; how many entries there are.

    `destroyed` are ids of keys that certificates say were destroyed after the backup. Opening the store has verified its head. Here every entry is read, and every change derived again from the genesis on.

    Raises:
        Corrupt: whatever does not hold, by name; `restore/forked` where it is not the log that is known.

    """
    head = await store.ledger.head()
    if (head.size, head.root) != (manifest.size, manifest.root):
        raise Corrupt(
            "the snapshot's log is not the one its manifest names", rule="backup/head", clause=_CLAUSE
        )
    signed = [notes.verify(note, settings.log.origin, log_key) for note in await store.ledger.checkpoints()]
    sizes = [*(one.size for one in signed), *(one.size for one in known)]
    records = await store.registry.every_record()
    chunks = await asyncio.to_thread(_chunks, store, head.size, sizes, progress)
    if root_of([chunk.root for chunk in chunks]) != head.root:
        raise Corrupt(
            "the entries are not those the head vouches for: the backup was edited", rule="log/leaf-changed"
        )
    for note in signed:
        require_prefix(chunks, note)
    for state in known:
        if state.root and state.size <= head.size:
            try:
                require_prefix(chunks, notes.Checkpoint(settings.log.origin, state.size, state.root))
            except Corrupt:
                raise _forked(state) from None
    judged(chunks, records, settings.log.origin, destroyed=destroyed)
    devices, after = StoredDeviceKeys(store.ledger, store.registry), None
    while rows := (await devices.page(after, _DEVICES_AT_ONCE))[1]:
        after = rows[-1].row.device
    return head.size


def _chunks(store: stores.Opened, size: int, sizes: Sequence[int], progress: Progress) -> list[ChunkFindings]:
    found: list[ChunkFindings] = []
    entries = store.ledger.entries(0, size)
    for start in range(0, size, CHUNK_ENTRIES):
        progress("verifying", start, size)
        lines = [entry + SEPARATOR + beside for entry, beside in islice(entries, CHUNK_ENTRIES)]
        found.append(read_chunk(start, lines, prefixes_in(start, sizes)))
    return found


async def destroyed_keys(
    certificates: Sequence[Path], service: bytes, log_key: bytes
) -> dict[str, UnixSeconds]:
    """Keys that certificates say were destroyed → when; of device keys the epochs.

    Raises:
        Corrupt: a certificate does not hold.

    """
    found: dict[str, UnixSeconds] = {}
    for path in certificates:
        octets = read_octets(path, "--destroyed")
        try:
            of_key = destruction.verify(octets, service, log_key)
        except Corrupt as error:
            if error.rule != "destruction/type":
                raise
            keys: Sequence[KeyRecord] = device_destruction.verify(octets, service, log_key).epochs
        else:
            keys = (of_key.key,)
        for key in keys:
            on = key.life.when(Event.DESTROY)
            assert on is not None  # what a certificate of a destroyed key says
            found[key.key_id] = on
    return found


def needs_quorum(environment: Environment, known: Sequence[Known], size: int) -> bool:
    """Whether a restore takes a quorum: the log went on after the backup, nobody can say whether it did, or it is live."""
    return environment is Environment.LIVE or not known or any(one.size > size for one in known)


async def require_quorum(
    store: stores.Opened,
    settings: Settings,
    clock: SystemClock,
    asked: Asked,
    said: Mapping[str, str | int],
) -> str:
    """Carry the act of a quorum out in the copy's log, by the same walk as the service; the proposal's id.

    Raises:
        AwaitingApproval: no statement was handed in (`restore/rolls-back`), or too few approved it.
        Malformed, Forbidden: it is for another act, backup or deployment; as `Governor`.

    """
    envelopes = [read_octets(path, "--approval") for path in asked.approvals]
    if not envelopes:
        raise AwaitingApproval(
            f"the log is known to have had {said['known']} entries (0: nobody can say), this backup has {said['size']}: what "
            "came after is lost for ever. In live, and where anything may be lost, a quorum approves it: propose log.restore "
            f"{said['backup']} --param size={said['size']} --param known={said['known']}, and give the envelopes with "
            "--approval",
            rule="restore/rolls-back",
            clause=_CLAUSE,
        )
    statement = statements.parse(dsse.parse(envelopes[0]).payload)
    given = statement.parameters
    known, least = given.get("known"), said["known"]
    assert isinstance(least, int)
    if (statement.act, statement.subject, given.get("size")) != (RESTORE, said["backup"], said["size"]) or (
        not isinstance(known, int) or known < least
    ):
        raise Forbidden(
            f"what was approved is not this restore: log.restore of {said['backup']}, size {said['size']}, known "
            f"{least} or more",
            rule="restore/other-act",
            clause=_CLAUSE,
            field="--approval",
        )
    if not asked.caller:
        raise Malformed(
            "say who hands the approvals in: --caller ID", rule="restore/caller", field="--caller"
        )
    principal = await office.principal(store, asked.caller)
    policy = review.load(settings.policy.folder, await proof.held(store))
    vault = Pkcs11Vault(modules.module_configs(settings), stores.lock_folder(settings))
    governor = Governor(store.registry, vault, store.ledger, clock, worker.setting(settings, policy))
    first = await store.registry.record("custodian-record", statement.proposed_by)
    proposer = dsse.key_id(first.key) if isinstance(first, CustodianRecord) else ""
    ordered = sorted(envelopes, key=lambda one: dsse.parse(one).signatures[0].key_id != proposer)
    proposal = await governor.propose(principal, statements.emit(statement), ordered[0])
    for one in ordered[1:]:
        await governor.approve(principal, proposal.proposal_id, one)
    await governor.execute(principal, proposal.proposal_id)
    return proposal.proposal_id


def _forked(state: Known) -> Corrupt:
    return Corrupt(
        f"{state.source} knows a log of {state.size} entries that this backup's is not the beginning or the end of: one of "
        "them was rewritten",
        rule="restore/forked",
        clause=_CLAUSE,
    )
