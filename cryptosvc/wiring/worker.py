"""One worker process: every floor put together, served until it is told to stop, drained, and taken apart again.

A worker one of whose calls into a module never returns cannot use that module again. It drains and leaves with
`LEFT_TO_BE_REPLACED`; the supervisor starts another, and what it had claimed is swept as outcome unknown.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import structlog
import uvloop
from prometheus_client import REGISTRY

import cryptosvc
from cryptosvc.adapters import multi_buffer
from cryptosvc.adapters.clock import SystemClock
from cryptosvc.adapters.hsm.assurance import ModuleConfig
from cryptosvc.adapters.hsm.hsm import Pkcs11Hsm
from cryptosvc.adapters.hsm.provision import Provisioner
from cryptosvc.adapters.hsm.vault import Pkcs11Vault
from cryptosvc.adapters.policy import CedarPolicy
from cryptosvc.adapters.software import software_digest
from cryptosvc.adapters.store.devices import StoredDeviceKeys
from cryptosvc.adapters.store.every_key import EveryKey
from cryptosvc.config.settings import Settings, read_settings
from cryptosvc.core.case import Principal
from cryptosvc.core.check import one_by_one
from cryptosvc.core.errors import Corrupt, Malformed, Unavailable
from cryptosvc.core.names import CallerId, KeyId, ModuleName, Operation, SystemName
from cryptosvc.core.record import Scope
from cryptosvc.core.registry import CallerRecord, CallerState, Grant
from cryptosvc.flow import policy_sets
from cryptosvc.flow.admit import Admission
from cryptosvc.flow.audit import Auditor
from cryptosvc.flow.checkpoint import Checkpointer
from cryptosvc.flow.cosign import Cosigner
from cryptosvc.flow.explain import Explainer
from cryptosvc.flow.gather import Gatherer
from cryptosvc.flow.govern import Governor
from cryptosvc.flow.keys import KeyReader
from cryptosvc.flow.observe import Observer
from cryptosvc.flow.query import Inquirer
from cryptosvc.flow.registers import Registers
from cryptosvc.flow.schedule import Scheduler
from cryptosvc.flow.setting import Setting
from cryptosvc.flow.sign import Signer
from cryptosvc.service.application import Application
from cryptosvc.service.limits import Limits
from cryptosvc.service.metrics import Metrics
from cryptosvc.service.server import Endpoint, Server
from cryptosvc.service.supervisor import LEFT_TO_BE_REPLACED, supervisor_gone
from cryptosvc.service.tracing import Tracing, configured
from cryptosvc.service.waiting import WaitingRoom
from cryptosvc.wiring import (
    journal,
    logkeys,
    modules,
    ownership,
    process,
    profiles,
    review,
    stores,
    watch_log,
    witnesses,
)
from cryptosvc.wiring.chores import HostLead, every
from cryptosvc.wiring.transfer_desk import transfer_desk

_MAINTAIN_EVERY_SECONDS = 1.0
_INDEX_EVERY_SECONDS = 0.125
"""A block of 1,024 each time: up to 8,000 entries a second; a burst of more is caught up with after."""
_SCHEDULE_EVERY_SECONDS = 2.0
_WITNESSES_EVERY_SECONDS = 5.0
_TRY_AGAIN_SECONDS = 1.0
_LOOK_EVERY_SECONDS = 0.2
_NO_CERTIFICATE = bytes(32)
_log = structlog.get_logger("cryptosvc.worker")


def run(config: Path, index: int, listen: str, ready: Path | None, proven: str = "") -> None:
    """Be worker `index`: serve on `listen`, say so by the file `ready`, stop on SIGTERM or SIGINT.

    Does not return where a call into a module hangs: the process ends with status `LEFT_TO_BE_REPLACED`.
    """
    process.protect_memory()
    name = f"{os.uname().nodename}/{index}"
    journal.set_up(part="worker", worker=name)
    settings = read_settings(config)
    process.settle_on_processor(index, settings.server.workers)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_work(settings, name, listen, ready, proven))


async def _work(settings: Settings, name: str, listen: str, ready: Path | None, proven: str) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for caught in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(caught, stop.set)
    orphaned = asyncio.create_task(supervisor_gone())
    orphaned.add_done_callback(lambda _: stop.set())
    clock = watch_log.system_clock(settings)
    configs = modules.module_configs(settings)
    hsm = Pkcs11Hsm(configs, clock, stores.lock_folder(settings))
    hsm.start()
    hanging = asyncio.create_task(_until_stuck(hsm, stop))
    waiting = WaitingRoom(endpoint(settings, listen), limits(settings))
    said = ""
    try:
        while not stop.is_set():
            try:
                for config in configs:
                    hsm.facts(config.name)
                owned = asyncio.create_task(asyncio.to_thread(_require_own, settings, configs))
                if not await _before(stop, owned):
                    break
                async with stores.opened(settings, hsm, clock, scope(settings, name)) as store:
                    await _serve(settings, listen, ready, hsm, clock, store, stop, waiting, proven)
            except (
                Unavailable
            ) as error:  # module or store are away: wait for them, they come back by themselves
                if error.rule != said:
                    said = error.rule
                    _log.error("worker cannot start yet", rule=error.rule, message=error.message)
                await waiting.tell(error)
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), _TRY_AGAIN_SECONDS)
    finally:
        orphaned.cancel()
        hanging.cancel()
        await waiting.close()
        hsm.close()
        if hsm.stuck is not None:
            process.leave(LEFT_TO_BE_REPLACED)


async def _until_stuck(hsm: Pkcs11Hsm, stop: asyncio.Event) -> None:
    """Have the worker drain once a call into a module is taken never to return."""
    while (why := hsm.stuck) is None:  # noqa: ASYNC110 - it is other threads that are waited for
        await asyncio.sleep(_LOOK_EVERY_SECONDS)
    _log.critical("worker leaves", rule=why.rule, message=why.message)
    stop.set()


async def _before(stop: asyncio.Event, work: "asyncio.Task[None]") -> bool:
    """Wait for a task or for `stop`; whether the task was done first. Raises what it raises."""
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((work, stopped), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
    if work.done():
        work.result()
        return True
    return False


def _require_own(settings: Settings, configs: Sequence[ModuleConfig]) -> None:
    """Refuse a token that belongs to another deployment; in a thread, since a module may hang."""
    for config in configs:
        with Provisioner(config, stores.lock_folder(settings)) as token:
            ownership.require_own(token, settings, config.name)


async def _serve(
    settings: Settings,
    listen: str,
    ready: Path | None,
    hsm: Pkcs11Hsm,
    clock: SystemClock,
    store: stores.Opened,
    stop: asyncio.Event,
    waiting: WaitingRoom,
    proven: str,
) -> None:
    application, checkpointer, policy_digest = assemble(
        settings, hsm, clock, store, await service_principal(store), proven
    )
    # Before the port is bound and the metrics are registered: where this cannot be written all of it is tried again.
    started = {"policy_digest": policy_digest, "software_digest": await asyncio.to_thread(software_digest)}
    await application.observer.happened("service-start", "serve", started, {})
    await policy_sets.keep(
        store.search, application.observer, policy_digest, review.kept_files(settings.policy.folder)
    )
    metrics = Metrics(REGISTRY)
    server = Server(
        application,
        endpoint(settings, listen),
        limits(settings),
        metrics,
        checks(settings, hsm, store),
        tracing=_tracing(settings),
        read_handshakes=True,
    )
    await waiting.close()
    await server.start()
    process.settle_collector()
    _log.info("worker serves", address=listen)
    if ready is not None:
        _touch(ready)
    lead = stores.checkpoint_lead(settings)
    indexing = stores.index_lead(settings)
    indexer = stores.indexer(settings, hsm)
    watches = HostLead(stores.lock_folder(settings) / "schedule.lock")
    scheduler = Scheduler(store.registry, store.ledger, clock)
    cosigner = Cosigner(store.ledger, application.observer, witnesses.peers(settings))
    interval = settings.log.checkpoint_seconds
    doing = [
        asyncio.create_task(every(_MAINTAIN_EVERY_SECONDS, "maintain", store.ledger.maintain)),
        asyncio.create_task(every(interval, "checkpoint", checkpointer.sign_checkpoint, lead)),
        asyncio.create_task(every(min(interval, _WITNESSES_EVERY_SECONDS), "witnesses", cosigner.turn, lead)),
        asyncio.create_task(
            every(_INDEX_EVERY_SECONDS, "query index", lambda: asyncio.to_thread(indexer.step), indexing)
        ),
        asyncio.create_task(
            every(_SCHEDULE_EVERY_SECONDS, "schedule", watching(scheduler, metrics), watches)
        ),
    ]
    watches_log, leave_watch = watch_log.begun(settings, store, clock, metrics)
    doing += watches_log
    await stop.wait()
    _log.info("worker drains")
    await server.stop(settings.server.longest_deadline_seconds)
    for chore in doing:
        chore.cancel()
    await asyncio.gather(*doing, return_exceptions=True)
    leave_watch()
    lead.give_back()
    await asyncio.to_thread(indexer.close)
    indexing.give_back()
    watches.give_back()
    _log.info("worker stopped")


def watching(scheduler: Scheduler, metrics: Metrics) -> Callable[[], Awaitable[None]]:
    """The chore that writes down what dates and limits have brought about, and shows what is coming."""

    async def watch() -> None:
        await scheduler.turn()
        metrics.due(scheduler.figures.counts, scheduler.figures.soonest)

    return watch


def _touch(ready: Path) -> None:
    ready.touch()


def assemble(
    settings: Settings,
    hsm: Pkcs11Hsm,
    clock: SystemClock,
    store: stores.Opened,
    service: Principal,
    proven: str = "",
) -> tuple[Application, Checkpointer, str]:
    """Put the use cases together; the third is the digest of the policies in force. `proven` as in `review.load`."""
    policy = review.load(settings.policy.folder, proven)
    formats = profiles.profiles(settings)
    gatherer = Gatherer(
        EveryKey(store.registry, StoredDeviceKeys(store.ledger, store.registry)),
        hsm,
        clock,
        settings.deployment.environment,
        profiles.supply_profile(settings),
        modules.assurance_profile(settings),
        profiles.separation_profile(settings),
        formats.smets1,
    )
    governed = setting(settings, policy)
    vault = Pkcs11Vault(modules.module_configs(settings), stores.lock_folder(settings))
    verify = multi_buffer.load() or one_by_one
    signer = Signer(gatherer, policy, store.ledger, hsm, clock, formats, verify)
    checkpointer = Checkpointer(
        signer, store.ledger, service, KeyId(settings.log.audit_key), settings.log.origin
    )
    application = Application(
        admission=Admission(store.registry, store.ledger, clock),
        signer=signer,
        explainer=Explainer(gatherer, policy, store.ledger, clock, formats),
        key_reader=KeyReader(store.registry, store.ledger, clock),
        auditor=Auditor(store.ledger, store.search, clock),
        inquirer=Inquirer(store.search, store.ledger, clock),
        observer=Observer(store.ledger, clock),
        governor=Governor(store.registry, vault, store.ledger, clock, governed),
        registers=Registers(store.registry, store.ledger, clock, governed),
        transfers=transfer_desk(settings, store, clock, signer, checkpointer, service),
    )
    return application, checkpointer, policy.digest


def setting(settings: Settings, policy: CedarPolicy) -> Setting:
    """What statements have to name here, and the rules of dual control."""
    deployment = settings.deployment
    return Setting(
        deployment.system,
        deployment.environment.value,
        settings.log.origin,
        policy.digest,
        policy.governance,
    )


def service_caller(settings: Settings) -> CallerRecord:
    """The service as its own caller: it may have checkpoints and its own statements signed, and nothing else.

    It is registered like any other, but no certificate leads to it: nothing hashes to 32 zero octets.
    """
    grants = tuple(
        Grant(operation=Operation.SIGN.value, key_class=key_class, key_ids=frozenset({key_id}))
        for key_class, key_id in (
            (logkeys.AUDIT_KEY_CLASS, settings.log.audit_key),
            (logkeys.SERVICE_KEY_CLASS, settings.log.service_key),
        )
    )
    return CallerRecord(
        caller_id=CallerId("cryptosvc"),
        version=1,
        state=CallerState.REGISTERED,
        certificate_sha256=_NO_CERTIFICATE,
        system=SystemName(settings.deployment.system),
        user_roles=frozenset(),
        user_ids=frozenset(),
        grants=grants,
    )


async def service_principal(store: stores.Opened) -> Principal:
    """The service's own record, believed because the log proves it; Corrupt where there is none."""
    caller = await store.registry.caller(_NO_CERTIFICATE)
    if caller is None:
        raise Corrupt(
            "the service's own caller record is missing; was the store made by init?",
            rule="registry/no-service",
        )
    return Principal(caller=caller, peer="service")


def scope(settings: Settings, name: str) -> Scope:
    """What every entry of one process carries."""
    return Scope(
        system=settings.deployment.system,
        environment=settings.deployment.environment.value,
        worker=name,
        software=f"cryptosvc {cryptosvc.__version__}",
    )


def endpoint(settings: Settings, listen: str) -> Endpoint:
    """Where and as whom to speak."""
    server = settings.server
    return Endpoint(
        address=listen,
        certificate_chain=profiles.read_octets(server.certificate, "server.certificate"),
        private_key=profiles.read_octets(server.private_key, "server.private_key"),
        client_authorities=profiles.read_octets(server.client_ca, "server.client_ca"),
    )


def limits(settings: Settings) -> Limits:
    """The configured bounds."""
    server = settings.server
    return Limits(
        message_octets=server.max_message_bytes,
        batch_items=server.max_batch_items,
        items_in_work=server.max_in_flight_items,
        connections=server.max_connections,
        deadline_seconds=server.longest_deadline_seconds,
        connection_age_seconds=server.max_connection_age_seconds,
    )


def checks(
    settings: Settings, hsm: Pkcs11Hsm, store: stores.Opened
) -> Mapping[str, Callable[[], Awaitable[None]]]:
    """How health finds out whether module, store and log work."""

    async def module() -> None:
        for configured_module in settings.modules:
            hsm.facts(ModuleName(configured_module.name))

    async def registry() -> None:
        await store.registry.keys({KeyId(settings.log.audit_key)})

    async def log() -> None:
        await store.ledger.head()

    return {"module": module, "store": registry, "log": log}


def _tracing(settings: Settings) -> Tracing | None:
    if not settings.server.tracing:
        return None
    try:
        return configured(settings.server.tracing, settings.deployment.system)
    except (LookupError, TypeError) as error:
        raise Malformed(str(error), rule="config/tracing", field="server.tracing") from None
