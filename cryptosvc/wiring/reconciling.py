"""`reconcile` and destruction certificates: what an operator does on the machine of the service, beside its workers."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptosvc.adapters.clock import SystemClock
from cryptosvc.adapters.hsm.hsm import Pkcs11Hsm
from cryptosvc.adapters.hsm.vault import Pkcs11Vault
from cryptosvc.cli.actions import Document
from cryptosvc.config.settings import Settings, read_settings
from cryptosvc.core import destruction
from cryptosvc.core.errors import Malformed
from cryptosvc.core.module_log import Unrecorded
from cryptosvc.core.module_log import read as read_module_log
from cryptosvc.core.names import KeyId, ModuleName
from cryptosvc.core.reconcile import Difference
from cryptosvc.flow.device_destruction import DeviceCertifier
from cryptosvc.flow.module_log import ModuleLogReader
from cryptosvc.flow.reconcile import Reconciler
from cryptosvc.flow.sign import Signer
from cryptosvc.wiring import logkeys, modules, ownership, proof, stores, worker
from cryptosvc.wiring.exporting import public_key_der
from cryptosvc.wiring.profiles import read_octets


@dataclass(frozen=True, slots=True)
class Floor:
    """What these actions stand on."""

    settings: Settings
    hsm: Pkcs11Hsm
    clock: SystemClock
    store: stores.Opened


@asynccontextmanager
async def opened_floor(config: Path, name: str) -> AsyncIterator[Floor]:
    """Open modules and store as the process `name` of this host; raises as `stores.opened`."""
    settings = read_settings(config)
    clock = SystemClock()
    hsm = Pkcs11Hsm(modules.module_configs(settings), clock, stores.lock_folder(settings))
    hsm.start()
    try:
        async with stores.opened(settings, hsm, clock, worker.scope(settings, name)) as store:
            yield Floor(settings, hsm, clock, store)
    finally:
        hsm.close()


def reconcile(config: Path, *, finish: bool) -> tuple[list[Difference], list[Document]]:
    """Compare modules, registry and log; with `finish`, first end what was left unfinished.

    Returns:
        What differs, and what became of unfinished acts.

    Raises:
        Unavailable: a module or the store is out of reach.
        Corrupt: the store is not what the log's head vouches for.

    """

    async def run() -> tuple[list[Difference], list[Document]]:
        async with opened_floor(config, "reconcile") as floor:
            walk = reconciler(floor.settings, floor.store, floor.clock)
            endings = await walk.finish() if finish else []
            found = await walk.compare()
            return found, [
                {"proposal_id": one.proposal_id, "state": one.state.value, "why": one.why} for one in endings
            ]

    return asyncio.run(run())


def reconciler(settings: Settings, store: stores.Opened, clock: SystemClock) -> Reconciler:
    """Put the use case together."""
    configs = modules.module_configs(settings)
    mark = ownership.mark_of(settings)
    own = {(str(config.name), mark) for config in configs}
    own.add((str(logkeys.log_module(settings)), settings.log.head_key))
    return Reconciler(
        store.registry,
        Pkcs11Vault(configs, stores.lock_folder(settings)),
        store.ledger,
        clock,
        [ModuleName(str(config.name)) for config in configs],
        frozenset(own),
    )


def certify_destruction(config: Path, key_id: str, out: Path) -> Document:
    """Issue the destruction certificate of a key and write it to a file; raises as `Certifier.certificate`."""

    async def run() -> bytes:
        async with opened_floor(config, "destruction") as floor:
            return await (await certifier(floor)).certificate(KeyId(key_id))

    envelope = asyncio.run(run())
    out.write_bytes(envelope)
    return {"key": key_id, "written_to": str(out), "octets": len(envelope)}


async def certifier(floor: Floor) -> DeviceCertifier:
    """Put the use case together."""
    settings, store = floor.settings, floor.store
    service = await worker.service_principal(store)
    application, checkpointer, _ = worker.assemble(
        settings, floor.hsm, floor.clock, store, service, await proof.held(store)
    )
    signer: Signer = application.signer
    return DeviceCertifier(
        store.registry,
        store.ledger,
        signer,
        checkpointer,
        service,
        KeyId(settings.log.service_key),
        settings.log.origin,
    )


def verify_destruction(certificate: Path, service_key: Path, log_key: Path) -> Document:
    """Verify a destruction certificate with two public keys and nothing else; Corrupt where it does not hold."""
    envelope = read_octets(certificate, "CERTIFICATE")
    found = destruction.verify(envelope, public_key_der(service_key), public_key_der(log_key))
    statement = found.proposal.statement
    return {
        "holds": True,
        "key": found.key.key_id,
        "key_class": found.key.key_class,
        "system": found.key.system,
        "destroyed_on": found.proposal.ended_on,
        "proposed_by": statement.proposed_by,
        "approved_by": tuple(one.custodian_id for one in found.proposal.endorsements[1:]),
        "reason": statement.reason,
        "log_entries": found.size,
        "evidence": dict(found.proposal.outcome),
    }


def module_log(config: Path, module: str, file: Path, tolerance_seconds: int) -> Document:
    """Hold a module's own log against the service's and record what differs; raises as `ModuleLogReader.compare`."""
    octets = read_octets(file, "FILE")
    rows = read_module_log(octets)

    async def run() -> list[Unrecorded]:
        async with opened_floor(config, "module-log") as floor:
            if module not in {str(one.name) for one in floor.settings.modules}:
                raise Malformed(f"there is no module {module!r}", rule="module-log/module", field="--module")
            reader = ModuleLogReader(
                floor.store.registry, floor.store.search, floor.store.ledger, floor.clock
            )
            return await reader.compare(module, rows, hashlib.sha256(octets).hexdigest(), tolerance_seconds)

    found = asyncio.run(run())
    return {
        "module": module,
        "signatures": len(rows),
        "unrecorded": [
            {
                "row": one.counted.row,
                "at": one.counted.at,
                "key": one.key,
                "label": one.counted.label,
                "object_id": one.counted.object_id.hex(),
            }
            for one in found
        ],
    }
