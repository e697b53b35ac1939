"""`transfer …`: what is done on the machine of the service."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Container
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson

from cryptosvc.adapters.clock import SystemClock
from cryptosvc.adapters.crate import FolderCrate
from cryptosvc.adapters.hsm.carriage import Pkcs11Carriage
from cryptosvc.adapters.hsm.hsm import Pkcs11Hsm
from cryptosvc.adapters.hsm.provision import Provisioner
from cryptosvc.adapters.hsm.vault import Pkcs11Vault
from cryptosvc.adapters.policy.source import parse_source
from cryptosvc.adapters.store.moved_claims import MovedClaims
from cryptosvc.cli.actions import Document, Progress
from cryptosvc.config.settings import Settings, read_settings
from cryptosvc.config.transfer import read_terms
from cryptosvc.core import dsse
from cryptosvc.core.canonical import JsonValue, canonical, digest
from cryptosvc.core.case import Principal
from cryptosvc.core.content.checkpoint_note import public_key_der
from cryptosvc.core.custodian import CustodianRecord, CustodianState
from cryptosvc.core.errors import Conflict, Malformed
from cryptosvc.core.handover import checks, logged, notices
from cryptosvc.core.names import KeyId, SystemName
from cryptosvc.core.proposal import ProposalRecord, ProposalState
from cryptosvc.core.registry import KeyRecord
from cryptosvc.core.transfer import papers
from cryptosvc.core.transfer.bodies import body_of
from cryptosvc.core.transfer.mechanism import Mechanism, best
from cryptosvc.core.transfer.papers import Party, Plan
from cryptosvc.flow.checkpoint import Checkpointer
from cryptosvc.flow.freight import Freighter
from cryptosvc.flow.govern import Governor
from cryptosvc.flow.setting import Setting
from cryptosvc.flow.spokesman import Spokesman
from cryptosvc.flow.transfer import Movers
from cryptosvc.flow.transfer_log import TransferLog
from cryptosvc.wiring import modules, ownership, proof, review, stores, worker
from cryptosvc.wiring.ceremony import office as offices
from cryptosvc.wiring.profiles import read_octets
from cryptosvc.wiring.transfer_freight import freighter, settle
from cryptosvc.wiring.transfer_papers import (
    APPROVED,
    NAMES,
    PACKAGE_DIGEST,
    PLAN,
    SCOPE,
    offer_in,
    plan_in,
    write,
)

_BEGUN = (ProposalState.EXECUTING, ProposalState.DONE)
_ASKED_AGAIN = 5
_OF_DESTINATION = frozenset({papers.OFFER, papers.RECEIPT, papers.NOT_IMPORTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Machine:
    """What is opened on the machine of a service, beside its workers."""

    settings: Settings
    hsm: Pkcs11Hsm
    clock: SystemClock
    store: stores.Opened
    principal: Principal

    async def own_key(self, name: str) -> bytes:
        """SubjectPublicKeyInfo DER of one of the service's own keys."""
        return public_key_der((await self.key(name)).public_point)

    async def key(self, name: str) -> KeyRecord:
        """A key's record as of now, proved by the log; Malformed where there is none."""
        found = await self.store.registry.record("key-record", name)
        if not isinstance(found, KeyRecord):
            raise Malformed(f"there is no key {name}", rule="transfer/key", clause="G2.22I", field="keys")
        return found

    async def say(self, transfer_id: str, folder: Path, freight: Freighter) -> dict[str, JsonValue]:
        """Have the service sign what it has to say, and write it down; the policies are proven, as in a worker."""
        service = await worker.service_principal(self.store)
        application, checkpointer, _ = worker.assemble(
            self.settings, self.hsm, self.clock, self.store, service, await proof.held(self.store)
        )
        name = KeyId(self.settings.log.service_key)
        store = self.store
        promises, crate = MovedClaims(store.ledger), FolderCrate(folder)
        spokesman = Spokesman(
            store.registry, promises, crate, application.signer, self.clock, (service, name), freight
        )
        kind, envelope = await spokesman.say(transfer_id)
        key = await self.own_key(name)
        written = [write(folder / NAMES[kind], envelope)]
        mine = "destination.key" if kind in _OF_DESTINATION else "source.key"
        written.append(write(folder / mine, key))
        if kind == papers.PACKAGE:
            document = orjson.loads(dsse.parse(envelope).payload)
            written.append(write(folder / PACKAGE_DIGEST, digest(document)))
            written += await self._proofs(transfer_id, folder, checkpointer)
        return {"statement": kind, "service_key_sha256": checks.fingerprint(key), "written": written}

    async def _proofs(self, transfer_id: str, folder: Path, checkpointer: Checkpointer) -> list[str]:
        """The log's part of a package: that the export is in it. Left out where the log is too busy; `evidence` has it."""
        log = TransferLog(self.store.registry, self.store.ledger, checkpointer, self.settings.log.origin)
        for _ in range(_ASKED_AGAIN):
            try:
                found, octets = await log.bundle(transfer_id)
            except Conflict:
                continue
            return [write(folder / f"{found.side.value}-log.json", octets)]
        return []


@asynccontextmanager
async def _opened(config: Path, caller: str) -> AsyncIterator[_Machine]:
    settings, clock = read_settings(config), SystemClock()
    configs, folder = modules.module_configs(settings), stores.lock_folder(settings)
    for one in configs:
        with Provisioner(one, folder) as token:
            ownership.require_own(token, settings, one.name)
    hsm = Pkcs11Hsm(configs, clock, folder)
    hsm.start()
    try:
        async with stores.opened(settings, hsm, clock, worker.scope(settings, "transfer")) as store:
            principal = await offices.principal(store, caller)
            yield _Machine(settings=settings, hsm=hsm, clock=clock, store=store, principal=principal)
    finally:
        hsm.close()


@asynccontextmanager
async def _machine(
    config: Path, caller: str, folder: Path, processes: int, progress: Progress
) -> AsyncIterator[tuple[_Machine, Freighter]]:
    async with _opened(config, caller) as machine:
        with freighter(machine.settings, machine.store, folder, progress, processes) as freight:
            yield machine, freight


def carry_out(
    config: Path,
    proposal_id: str,
    folder: Path,
    so_pin_file: Path | None,
    caller: str,
    processes: int,
    progress: Progress,
) -> Document:
    """Carry out an approved act on a transfer, or go on with one that was interrupted, be it when all was recorded.

    Args:
        config: of the service.
        proposal_id: of the act.
        folder: where the package's blobs are written to, or read from.
        so_pin_file: PIN of the Security Officer, for an export.
        caller: registered caller in whose name it is recorded.
        processes: how many use the module at a time, where device keys move.
        progress: told how many of them are through.

    Raises:
        CryptosvcError: as `Governor.execute`.

    """

    async def run() -> Document:
        async with _machine(config, caller, folder, processes, progress) as (machine, freight):
            settings, store = machine.settings, machine.store
            vault = Pkcs11Vault(modules.module_configs(settings), stores.lock_folder(settings))
            movers = Movers(
                _carriage(settings, so_pin_file),
                FolderCrate(folder),
                MovedClaims(store.ledger),
                vault,
                settings.deployment.environment,
                freight.require_whole,
                machine.clock,
            )
            setting = _setting(settings)
            governor = Governor(store.registry, vault, store.ledger, machine.clock, setting, movers.by_act())
            found = await store.registry.record("proposal-record", proposal_id)
            state = found.state if isinstance(found, ProposalRecord) else None
            if _is_unsaid(found, movers.by_act()):
                # recorded, and the power went before it was said: what is left to do is to say it
                done = await governor.proposal(machine.principal, proposal_id)
            else:
                go = governor.resume if state is ProposalState.EXECUTING else governor.execute
                done = (await go(machine.principal, proposal_id)).proposal
            await settle(freight, done.statement)
            return {
                "proposal_id": proposal_id,
                "act": done.statement.act,
                "transfer": done.statement.subject,
                "resumed": state in _BEGUN,
                "outcome": dict(done.outcome),
                **await machine.say(done.statement.subject, folder, freight),
            }

    return asyncio.run(run())


def _is_unsaid(found: object, acts: Container[str]) -> bool:
    """Whether an act on a transfer was carried out and recorded. What is said of it again is the same, signed anew."""
    return (
        isinstance(found, ProposalRecord)
        and found.state is ProposalState.DONE
        and found.statement.act in acts
    )


def say(config: Path, transfer_id: str, folder: Path, caller: str, progress: Progress) -> Document:
    """Have the service sign again what follows from where a transfer stands; written into the folder with its public key."""

    async def run() -> Document:
        async with _machine(config, caller, folder, 1, progress) as (machine, freight):
            return {"transfer": transfer_id, **await machine.say(transfer_id, folder, freight)}

    return asyncio.run(run())


def evidence(config: Path, transfer_id: str, folder: Path, caller: str) -> Document:
    """Take the transfer out of this log with its proofs; written into the folder with the log's public key beside it."""

    async def run() -> Document:
        async with _opened(config, caller) as machine:
            settings, store = machine.settings, machine.store
            service = await worker.service_principal(store)
            _, checkpointer, _ = worker.assemble(
                settings, machine.hsm, machine.clock, store, service, await proof.held(store)
            )
            log = TransferLog(store.registry, store.ledger, checkpointer, settings.log.origin)
            found, octets = await log.bundle(transfer_id)
            key = await machine.own_key(settings.log.audit_key)
        logged.verify(octets, key)
        written = [write(folder / f"{found.side.value}-log.json", octets)]
        written.append(write(folder / f"{found.side.value}-log.key", key))
        return {
            "transfer": transfer_id,
            "state": found.state.value,
            "log_key_sha256": checks.fingerprint(key),
            "written": written,
        }

    return asyncio.run(run())


def plan(config: Path, terms_file: Path, folder: Path, caller: str) -> Document:
    """Draw up a plan for the offer in the folder, by what this system's module was measured to do."""

    async def run() -> Document:
        terms, offer = read_terms(terms_file), offer_in(folder)
        async with _opened(config, caller) as machine:
            settings = machine.settings
            keys = [await machine.key(name) for name in sorted(terms.keys)]
            hashes, trust = await _carriage(settings, None).measured(keys[0].module)
            service_key = checks.fingerprint(await machine.own_key(settings.log.service_key))
        deployment = settings.deployment
        made = Plan(
            transfer_id=offer.transfer_id,
            offer=checks.offer_digest(offer),
            source=Party(
                SystemName(deployment.system), deployment.environment, settings.log.origin, service_key
            ),
            destination=offer.party,
            keys=tuple(checks.planned_of(one) for one in keys),
            reason=terms.reason,
            mechanism=Mechanism(best(hashes, offer.oaep_hashes), trust),
            disposition=terms.disposition,
            disposition_seconds=terms.disposition_seconds,
            committee_view=hashlib.sha256(read_octets(terms.committee_view, "committee_view")).hexdigest(),
            may_move_on=terms.may_move_on,
            body=body_of({one.key_class for one in keys}, _setting(settings).governance.transfer_bodies),
        )
        document = papers.plan_document(made)
        return {
            "transfer": made.transfer_id,
            "plan_sha256": checks.plan_digest(made),
            "keys": tuple(one.key_id for one in made.keys),
            "oaep_hash": made.mechanism.oaep_hash.value,
            "trust": made.mechanism.trust.value,
            "written": write(folder / PLAN, canonical(document)),
        }

    return asyncio.run(run())


def scope(config: Path, folder: Path, caller: str) -> Document:
    """Write down which keys move and who signed for the approving body, as this registry knows them."""

    async def run() -> Document:
        async with _opened(config, caller) as machine:
            found = await machine.store.registry.of_kind("custodian-record")
            bodies = _setting(machine.settings).governance.transfer_bodies
        custodians = [
            one
            for one in found
            if isinstance(one, CustodianRecord) and one.state is CustodianState.REGISTERED
        ]
        package = folder / NAMES[papers.PACKAGE]
        if package.exists():
            document = orjson.loads(dsse.parse(package.read_bytes()).payload)
            packed = notices.package_from_document(document)
            planned, envelope = packed.plan, packed.approval.encode()
        else:
            planned, envelope = plan_in(folder), read_octets(folder / APPROVED, APPROVED)
        _, signers = checks.approved(envelope, custodians, planned.body, bodies)
        made: dict[str, JsonValue] = {
            "keys": [one.key_id for one in planned.keys],
            "approved_by": list(signers),
        }
        return {**made, "written": write(folder / SCOPE, canonical(made))}

    return asyncio.run(run())


def _carriage(settings: Settings, so_pin_file: Path | None) -> Pkcs11Carriage:
    return Pkcs11Carriage(modules.module_configs(settings), stores.lock_folder(settings), so_pin_file)


def _setting(settings: Settings) -> Setting:
    """What statements have to name here.

    No policy decides anything of an act, so none is proven for it: what a statement
    names as its policies, the service has proven.
    """
    deployment, files = settings.deployment, review.folder_files(settings.policy.folder)
    return Setting(
        deployment.system,
        deployment.environment.value,
        settings.log.origin,
        parse_source(files).digest,
        offices.governance(settings),
    )
