"""`cryptosvc init`: from an empty token and database to a test deployment; run again, what is missing is added.

A key that is to be generated is registered as ordered first, then generated, then registered with its public point. So
no key is ever on the module without a record: what an interrupted run left is found by its record, destroyed, since
nobody can have used a key whose public point is not recorded, and generated again.
"""

import asyncio
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from cryptosvc.adapters.clock import SystemClock
from cryptosvc.adapters.hsm.hsm import Pkcs11Hsm
from cryptosvc.adapters.hsm.provision import Provisioner
from cryptosvc.adapters.hsm.vault import identity
from cryptosvc.adapters.store.engine import migrate
from cryptosvc.cli.actions import Document, Progress
from cryptosvc.config.provisioning import CallerEntry, KeyEntry, Provisioning, read_provisioning
from cryptosvc.config.settings import Settings, read_settings
from cryptosvc.core.asset import ModuleRecord
from cryptosvc.core.errors import Conflict, Forbidden, Malformed
from cryptosvc.core.founding import SHORTCUT
from cryptosvc.core.life import NANOSECONDS, Asset, UnixSeconds
from cryptosvc.core.names import CallerId, Environment, Eui64, KeyId, ModuleName, SystemName
from cryptosvc.core.registry import (
    CallerRecord,
    CallerState,
    Grant,
    KeyRecord,
    KeyState,
    Record,
    caller_document,
    record_id,
)
from cryptosvc.wiring import (
    beginning,
    founding,
    logkeys,
    modules,
    ownership,
    profiles,
    provision_keys,
    stores,
    worker,
)
from cryptosvc.wiring.certifying import certificate_named, certified


@dataclass(slots=True)
class _Plan:
    """What this run does to the registry."""

    at: UnixSeconds
    records: list[Record] = field(default_factory=list)
    generated: list[str] = field(default_factory=list)
    adopted: list[str] = field(default_factory=list)
    certified: list[str] = field(default_factory=list)
    callers: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def run(config: Path, file: Path, progress: Progress) -> Document:
    """Provision.

    Raises:
        Forbidden: environment live; a store or token of another system.
        Conflict: a key or caller is registered otherwise than the file says; an object is in the way.
        Malformed: a file is not what it should be.
        Unavailable, Corrupt: as the store and the module say.

    """
    settings = read_settings(config)
    provisioning = read_provisioning(file)
    if settings.deployment.environment is not Environment.TEST:
        raise Forbidden(
            "`init` provisions environment test only; in live, keys and callers come from ceremonies",
            rule="init/live",
            clause="G2.56",
        )
    return asyncio.run(_run(settings, provisioning, progress))


async def _run(settings: Settings, provisioning: Provisioning, progress: Progress) -> Document:
    if provisioning.genesis is not None and not founding.is_begun(settings):
        signed = profiles.read_octets(provisioning.genesis, "genesis")
        await founding.founded(settings, signed, progress, shortcut=True)
    return await provisioned(settings, provisioning, progress)


async def provisioned(settings: Settings, provisioning: Provisioning, progress: Progress) -> Document:
    """Provision as `run`, from values."""
    migrate(settings.store.url)
    configs = {config.name: config for config in modules.module_configs(settings)}
    fresh = not settings.store.anchor.exists()
    with modules.tokens_of(configs, stores.lock_folder(settings)) as tokens:
        for name, token in tokens.items():
            ownership.take(token, settings, name)
        log_token = tokens[logkeys.log_module(settings)]
        begins = fresh or beginning.is_open(settings, log_token)
        begun = beginning.begin(settings, log_token) if begins else None
        clock = SystemClock()
        hsm = Pkcs11Hsm(tuple(configs.values()), clock, stores.lock_folder(settings))
        hsm.start()
        try:
            scope = worker.scope(settings, f"{os.uname().nodename}/init")
            async with stores.opened(settings, hsm, clock, scope, founding=SHORTCUT) as store:
                at = UnixSeconds(clock.now().at // NANOSECONDS)
                plan = _Plan(at)
                if begun is not None and begun.interrupted:
                    plan.remarks.append("what an interrupted run had begun was finished")
                answer = await _provision(settings, provisioning, tokens, store, progress, plan)
        finally:
            hsm.close()
        if begins:
            beginning.end(settings, log_token)
        return answer


async def _provision(
    settings: Settings,
    provisioning: Provisioning,
    tokens: dict[ModuleName, Provisioner],
    store: stores.Opened,
    progress: Progress,
    plan: _Plan,
) -> Document:
    await _require_shortcut(store)
    every = await store.registry.of_kind("key-record")
    registered = {record.key_id: record for record in every if isinstance(record, KeyRecord)}
    callers = {record.caller_id: record for record in await store.registry.callers()}
    entries = [*_log_entries(settings), *provisioning.keys]
    if KeyId(settings.log.head_key) not in registered:
        plan.records.append(logkeys.head_key(settings))
    # 1 whatever can be refused; an object generated before that would be in the way of the next run
    total = len(entries) + len(provisioning.callers)
    done = 0
    to_generate = [
        entry
        for entry in entries
        if not entry.adopt and provision_keys.is_to_be_made(registered.get(KeyId(entry.id)))
    ]
    for entry in to_generate:
        _require_can_be_generated(settings, entry, tokens, registered.get(KeyId(entry.id)))
    for entry in entries:
        if entry not in to_generate:
            progress(f"key {entry.id}", done, total)
            _plan_key(settings, entry, registered, tokens, plan)
            done += 1
    own = worker.service_caller(settings)
    if own.caller_id not in callers:
        plan.records.append(own)
    for caller in provisioning.callers:
        progress(f"caller {caller.id}", done, total)
        _plan_caller(settings, caller, callers.get(CallerId(caller.id)), plan)
        done += 1
    entered = {record_id(one) for one in await store.registry.of_kind("module-record")}
    plan.records += [
        _module_record(settings, name, token) for name, token in tokens.items() if name not in entered
    ]
    # 2 the registry: everything, and of keys that are only now generated that they will be
    ordered = [
        registered.get(KeyId(entry.id)) or provision_keys.ordered(settings, entry) for entry in to_generate
    ]
    plan.records += [record for record in ordered if record.key_id not in registered]
    if plan.records:
        await store.registry.change(plan.records)
    # 3 the keys, and then the registry again
    made: list[Record] = []
    for entry, record in zip(to_generate, ordered, strict=True):
        progress(f"key {entry.id}", done, total)
        point, begun = provision_keys.generate(record, tokens)
        made.append(provision_keys.generated(entry, record, point, plan.at))
        plan.generated.append(entry.id)
        if begun:
            plan.remarks.append(f"{entry.id}: what an interrupted run had begun was destroyed")
        done += 1
    if made:
        await store.registry.change(made)
    head = await store.ledger.head()
    audit_key, service_key = KeyId(settings.log.audit_key), KeyId(settings.log.service_key)
    view = await store.registry.keys({audit_key, service_key})
    return {
        "system": settings.deployment.system,
        "environment": settings.deployment.environment.value,
        "origin": settings.log.origin,
        "keys_generated": tuple(plan.generated),
        "keys_adopted": tuple(plan.adopted),
        "keys_given_certificates": tuple(plan.certified),
        "callers_registered": tuple(plan.callers),
        "remarks": tuple(plan.remarks),
        "log_entries": head.size,
        "log_public_key": logkeys.public_pem(view.keys[audit_key].public_point),
        "service_public_key": logkeys.public_pem(view.keys[service_key].public_point),
    }


def _module_record(settings: Settings, name: ModuleName, token: Provisioner) -> ModuleRecord:
    """The module's line of the asset register, as it reports itself (G5.6)."""
    configured = next(one for one in settings.modules if one.name == name)
    level = f"{configured.standard} level {configured.level}, certificate {configured.certificate or 'none'}"
    return ModuleRecord(
        module=name,
        version=1,
        system=SystemName(settings.deployment.system),
        asset=Asset(
            label=f"token {configured.token_label}",
            classification="test",
            responsible=provision_keys.OPERATOR,
        ),
        identity=tuple(sorted(identity(token.reported).items())),
        assurance=level if configured.standard else "none",
    )


async def _require_shortcut(store: stores.Opened) -> None:
    """Refuse where the genesis of the log does not say that records may come without approval."""
    first = await store.ledger.entry(0)
    if first is None or orjson.loads(first.entry)["shortcut"] is not True:
        raise Forbidden(
            "this log began with a signed genesis, so everything changes under dual control; propose it",
            rule="init/no-shortcut",
            clause="G5.13(b)",
        )


def _log_entries(settings: Settings) -> Iterator[KeyEntry]:
    module = logkeys.log_module(settings)
    for name, key_class in (
        (settings.log.audit_key, logkeys.AUDIT_KEY_CLASS),
        (settings.log.service_key, logkeys.SERVICE_KEY_CLASS),
    ):
        yield KeyEntry.model_validate({"id": name, "class": key_class, "module": module})


def _plan_key(
    settings: Settings,
    entry: KeyEntry,
    registered: Mapping[KeyId, KeyRecord],
    tokens: dict[ModuleName, Provisioner],
    plan: _Plan,
) -> None:
    certificate = certificate_named(entry)
    record = registered.get(KeyId(entry.id))
    if record is None:
        made = _adopt(settings, entry, tokens, plan)
        _require_new(made, registered.values())
        plan.records.append(certified(entry, made, certificate) if certificate else made)
        return
    same = (entry.key_class, entry.system or settings.deployment.system)
    if (record.key_class, record.system) != same or (entry.module or record.module) != record.module:
        raise _differs(entry.id, "class, system or module")
    if provision_keys.is_to_be_made(record):
        raise _differs(
            entry.id, "origin (it was ordered by a run that was interrupted, and is to be generated)"
        )
    if certificate and not record.certificate:
        changed = replace(record, version=record.version + 1)
        plan.records.append(certified(entry, changed, certificate))
        plan.certified.append(entry.id)
    elif certificate and certificate != record.certificate:
        raise _differs(entry.id, "certificate")


def _adopt(
    settings: Settings, entry: KeyEntry, tokens: dict[ModuleName, Provisioner], plan: _Plan
) -> KeyRecord:
    made, differences = provision_keys.adopted(settings, entry, tokens, plan.at)
    plan.adopted.append(entry.id)
    plan.remarks += [f"{entry.id}: {difference}" for difference in differences]
    return made


def _require_new(made: KeyRecord, others: Iterable[KeyRecord]) -> None:
    """A key that was destroyed does not come back under another name, put back from a backup of its token."""
    for other in others:
        places = {(one.module, one.label, one.object_id) for one in (made, other)}
        same = made.public_point == other.public_point if made.public_point else len(places) == 1
        if same and other.state is KeyState.DESTROYED:
            raise Forbidden(
                f"the object for {made.key_id} is that of key {other.key_id}, which was destroyed; somebody put it back, so "
                "take the token out of use",
                rule="key/registered-already",
                clause="G5.13(b)",
            )


def _require_can_be_generated(
    settings: Settings, entry: KeyEntry, tokens: dict[ModuleName, Provisioner], record: KeyRecord | None
) -> None:
    module = provision_keys.module_of(settings, entry, tokens)
    if record is not None:
        same = (entry.key_class, entry.system or settings.deployment.system, module)
        if (record.key_class, record.system, record.module) != same:
            raise _differs(entry.id, "class, system or module")
    elif any(
        (seen.label, seen.object_id) == provision_keys.place(entry) for seen in tokens[module].objects()
    ):
        label, object_id = provision_keys.place(entry)
        raise Conflict(
            f"the token has an object {label!r} with id {object_id.hex()} already; adopt it or take another id",
            rule="hsm/object-exists",
        )
    if entry.certificate is not None:
        raise Malformed(
            f"key {entry.id}: its certificate is for another key: this one is only generated now. Leave the "
            "certificate out, and give it once there is one; or adopt the object it is for",
            rule="provisioning/certificate",
            field=f"keys.{entry.id}",
        )


def _plan_caller(settings: Settings, entry: CallerEntry, record: CallerRecord | None, plan: _Plan) -> None:
    version = 1 if record is None else record.version
    wanted = caller_of(entry, SystemName(entry.system or settings.deployment.system), version)
    if record is None:
        plan.records.append(wanted)
        plan.callers.append(entry.id)
    elif caller_document(record) != caller_document(wanted):
        raise _differs(entry.id, "record")


def caller_of(entry: CallerEntry, system: SystemName, version: int) -> CallerRecord:
    """The record of a caller as a file describes it; Malformed where its certificate cannot be read."""
    return CallerRecord(
        caller_id=CallerId(entry.id),
        version=version,
        state=CallerState.REVOKED if entry.revoked else CallerState.REGISTERED,
        certificate_sha256=hashlib.sha256(
            profiles.read_certificate(entry.certificate, f"callers.{entry.id}")
        ).digest(),
        system=system,
        user_roles=entry.user_roles,
        user_ids=frozenset(map(Eui64.parse, entry.user_ids)),
        grants=tuple(
            Grant(operation=grant.operation.value, key_class=grant.key_class, key_ids=grant.keys)
            for grant in entry.grants
        ),
        auditor=entry.auditor,
        supply_sensitive_checker_key=_checker_key(entry),
    )


def _checker_key(entry: CallerEntry) -> bytes:
    if entry.supply_sensitive_checker is None:
        return b""
    octets = profiles.read_octets(entry.supply_sensitive_checker, f"callers.{entry.id}")
    try:
        key = load_pem_public_key(octets)
    except (ValueError, UnsupportedAlgorithm):
        raise Malformed(
            f"caller {entry.id}: supply_sensitive_checker is no PEM public key",
            rule="provisioning/checker-key",
            field=f"callers.{entry.id}",
        ) from None
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _differs(name: str, what: str) -> Conflict:
    return Conflict(
        f"{name} is registered with another {what} than the file says; init adds, it does not change",
        rule="init/differs",
    )
