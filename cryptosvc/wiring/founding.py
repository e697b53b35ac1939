"""`genesis-draft`, `genesis-sign`, `genesis`: a deployment begins with what its first custodians signed."""

import asyncio
import hashlib
import os
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from cryptosvc.adapters.clock import SystemClock
from cryptosvc.adapters.hsm import card
from cryptosvc.adapters.hsm.hsm import Pkcs11Hsm
from cryptosvc.adapters.hsm.provision import Provisioner
from cryptosvc.adapters.store.engine import migrate
from cryptosvc.cli.actions import Document, Progress, Signed
from cryptosvc.config.genesis import CustodianEntry, GenesisFile, OfficeEntry, read_genesis_file
from cryptosvc.config.settings import Settings, read_settings
from cryptosvc.core import dsse
from cryptosvc.core import genesis as founding
from cryptosvc.core.custodian import CustodianRecord, CustodianState, Engagement, Privilege
from cryptosvc.core.errors import Conflict, Forbidden, Malformed
from cryptosvc.core.founding import Founding
from cryptosvc.core.genesis import GENESIS_TYPE, Genesis
from cryptosvc.core.keyclass import ceiling
from cryptosvc.core.life import NANOSECONDS, Asset, Event, Life, UnixSeconds
from cryptosvc.core.names import CallerId, KeyId, Operation, SystemName
from cryptosvc.core.record import Because
from cryptosvc.core.registry import CallerRecord, CallerState, Grant, KeyRecord
from cryptosvc.wiring import beginning, logkeys, modules, ownership, profiles, review, stores, worker
from cryptosvc.wiring.beginning import Beginning


def draft(config: Path, file: Path) -> bytes:
    """Draw a genesis up for a deployment: the octets its custodians sign. Malformed, Forbidden as its files say."""
    settings = read_settings(config)
    policy = review.load(settings.policy.folder)
    asked = read_genesis_file(file)
    made_at = UnixSeconds(SystemClock().now().at // NANOSECONDS)
    system = SystemName(settings.deployment.system)
    drawn = Genesis(
        system=system,
        environment=settings.deployment.environment,
        origin=settings.log.origin,
        policy_digest=policy.digest,
        made_at=made_at,
        custodians=tuple(custodian_of(one, system) for one in asked.custodians),
        callers=(worker.service_caller(settings), *(_caller(one, system) for one in asked.callers)),
        keys=tuple(_log_key(settings, asked, one, made_at) for one in _log_keys(settings)),
    )
    founding.require_people(drawn, policy.governance.custody)
    return founding.emit(drawn)


def sign(key: str, octets: bytes) -> Signed:
    """Add a signature to a genesis: over the document, or to an envelope that others have signed."""
    before: tuple[dsse.Signature, ...] = ()
    document = octets
    if octets.startswith(b'{"payload"'):
        envelope = dsse.parse(octets)
        document, before = envelope.payload, envelope.signatures
    genesis = founding.parse(document)
    with card.open_key(key) as opened:
        name = dsse.key_id(opened.spki)
        if name not in {dsse.key_id(one.key) for one in genesis.custodians}:
            raise Forbidden(
                "this key is none of the custodians' that the genesis names", rule="genesis/signatures"
            )
        if name in {one.key_id for one in before}:
            raise Conflict("this key has signed it already", rule="genesis/signatures")
        mine = dsse.sign(GENESIS_TYPE, document, {name: opened.sign})
    whole = dsse.Envelope(GENESIS_TYPE, document, (*before, *mine.signatures))
    return Signed(name, dsse.emit(whole))


def run(config: Path, file: Path, progress: Progress) -> Document:
    """Begin a deployment with a signed genesis.

    Raises:
        Forbidden: it is for another deployment or other policies; a custodian may not be one, or did not sign; a token
            belongs to another system.
        Conflict: the deployment has begun before.
        Malformed, Unavailable, Corrupt: as files, modules and store say.

    """
    settings = read_settings(config)
    return asyncio.run(founded(settings, profiles.read_octets(file, "genesis"), progress))


async def founded(
    settings: Settings, envelope: bytes, progress: Progress, *, shortcut: bool = False
) -> Document:
    """As `run`, from values; with `shortcut`, `init` may add to it without approval."""
    genesis = _judged(settings, envelope)
    configs = {config.name: config for config in modules.module_configs(settings)}
    with modules.tokens_of(configs, stores.lock_folder(settings)) as tokens:
        log_token = tokens[logkeys.log_module(settings)]
        if settings.store.anchor.exists() and not beginning.is_open(settings, log_token):
            raise _begun(f"{settings.store.anchor} is there")
        for name, token in tokens.items():
            ownership.take(token, settings, name)
        migrate(settings.store.url)
        came = beginning.begin(settings, log_token)
        clock = SystemClock()
        hsm = Pkcs11Hsm(tuple(configs.values()), clock, stores.lock_folder(settings))
        hsm.start()
        try:
            scope = worker.scope(settings, f"{os.uname().nodename}/genesis")
            begun = Founding(envelope, founding.digest(genesis), shortcut)
            async with stores.opened(settings, hsm, clock, scope, founding=begun) as store:
                points = await _registered(genesis, begun, came, store, log_token, progress)
        finally:
            hsm.close()
        beginning.end(settings, log_token)
    return {
        "system": genesis.system,
        "environment": genesis.environment.value,
        "origin": genesis.origin,
        "genesis": founding.digest(genesis),
        "custodians": tuple(one.custodian_id for one in genesis.custodians),
        "callers": tuple(str(one.caller_id) for one in genesis.callers),
        "keys_generated": tuple(str(one.key_id) for one in genesis.keys),
        "log_public_key": logkeys.public_pem(points[str(settings.log.audit_key)]),
    }


def is_begun(settings: Settings) -> bool:
    """Whether a deployment has begun, and did not stop in the middle of it; raises as the module says."""
    if not settings.store.anchor.exists():
        return False
    configs = {config.name: config for config in modules.module_configs(settings)}
    log_module = logkeys.log_module(settings)
    with modules.tokens_of({log_module: configs[log_module]}, stores.lock_folder(settings)) as tokens:
        return not beginning.is_open(settings, tokens[log_module])


async def _registered(
    genesis: Genesis,
    begun: Founding,
    came: Beginning,
    store: stores.Opened,
    token: Provisioner,
    progress: Progress,
) -> dict[str, bytes]:
    """Make the keys of the genesis and enter its records; their public points. What an interrupted run made goes first."""
    first = await store.ledger.entry(0)
    logged = {} if first is None else orjson.loads(first.entry)
    if (logged.get("genesis"), logged.get("shortcut")) != (begun.digest, begun.shortcut):
        raise _begun("its log begins otherwise than with this genesis")
    names = {one.key_id for one in genesis.keys}
    if await store.registry.generation():
        view = await store.registry.keys(names)
        return {str(one.key_id): one.public_point for one in view.keys.values()}
    points: dict[str, bytes] = {}
    for done, one in enumerate(genesis.keys):
        progress(f"key {one.key_id}", done, len(genesis.keys))
        if one.key_class == logkeys.HEAD_KEY_CLASS:
            points[str(one.key_id)] = b""  # it authenticates entry 0 already
            continue
        if came.interrupted:
            token.destroy(one.label, one.object_id)
        template = ceiling(one.key_class).template
        points[str(one.key_id)] = token.generate(one.label, one.object_id, template)
    await store.registry.change(founding.records(genesis, points), Because("genesis", begun.digest))
    return points


def _begun(why: str) -> Conflict:
    return Conflict(f"this deployment has begun: {why}", rule="genesis/begun", clause="G2.20")


def _judged(settings: Settings, envelope: bytes) -> Genesis:
    """Everything that can be refused, before anything is made."""
    genesis = founding.read_signed(envelope)
    policy = review.load(settings.policy.folder)
    here = (settings.deployment.system, settings.deployment.environment, settings.log.origin)
    if (genesis.system, genesis.environment, genesis.origin) != here:
        raise Forbidden(
            f"the genesis is for {genesis.system} ({genesis.environment.value}), log {genesis.origin}; this deployment "
            f"is {here[0]} ({here[1].value}), log {here[2]}",
            rule="genesis/other-deployment",
            clause="G2.20",
        )
    if genesis.policy_digest != policy.digest:
        raise Forbidden(
            "the genesis was signed under other policies than are in force; draw it up again",
            rule="genesis/policies",
        )
    founding.require_people(genesis, policy.governance.custody)
    wanted = {str(one.key_id): (one.label, one.object_id, one.module) for one in _log_keys(settings)}
    found = {str(one.key_id): (one.label, one.object_id, one.module) for one in genesis.keys}
    if found != wanted or worker.service_caller(settings) not in genesis.callers:
        raise Forbidden(
            "the genesis names other log keys than the configuration, or not the service itself; draw it up again",
            rule="genesis/records",
        )
    return genesis


def _log_keys(settings: Settings) -> tuple[KeyRecord, ...]:
    head = logkeys.head_key(settings)
    return (
        head,
        *(
            replace(
                head,
                key_id=KeyId(name),
                key_class=key_class,
                label=name,
                object_id=logkeys.object_id(name),
                transferable=ceiling(key_class).template.transferable,
            )
            for name, key_class in (
                (settings.log.audit_key, logkeys.AUDIT_KEY_CLASS),
                (settings.log.service_key, logkeys.SERVICE_KEY_CLASS),
            )
        ),
    )


def _log_key(settings: Settings, asked: GenesisFile, key: KeyRecord, made_at: UnixSeconds) -> KeyRecord:
    asset = Asset(
        label=key.label, classification=asked.log_keys.classification, responsible=asked.log_keys.responsible
    )
    if key.key_id == settings.log.head_key:
        # as it is configured: this key judges the store, and no record of it does
        return replace(key, asset=asset)
    life = Life().passed(Event.GENERATE, made_at).passed(Event.ACTIVATE, made_at)
    return replace(key, asset=asset, life=life)


def custodian_of(entry: CustodianEntry, system: SystemName) -> CustodianRecord:
    """The record of a new custodian as a file describes them; Malformed where their key cannot be read."""
    field = f"custodians.{entry.id}"
    return CustodianRecord(
        custodian_id=entry.id,
        version=1,
        state=CustodianState.REGISTERED,
        system=system,
        person=entry.person,
        name=entry.name,
        key=_public_key(entry.key, field),
        certificate=b"" if entry.certificate is None else profiles.read_certificate(entry.certificate, field),
        roles=entry.roles,
        in_united_kingdom=entry.in_united_kingdom,
        screening_standard=entry.screening_standard,
        screened_on=_seconds(entry.screened_on),
        clearance=entry.clearance,
        clearance_reviewed_on=_seconds(entry.clearance_reviewed_on),
        security_check_on=None if entry.security_check_on is None else _seconds(entry.security_check_on),
        privileges=(Privilege(system, _seconds(entry.privileged_since), None),),
        engagements=tuple(
            Engagement(one.side, _seconds(one.since), None if one.until is None else _seconds(one.until))
            for one in entry.engagements
        ),
    )


def _caller(entry: OfficeEntry, system: SystemName) -> CallerRecord:
    grants = (Grant(operation=Operation.GOVERN.value, key_class="*"),) if entry.govern else ()
    return CallerRecord(
        caller_id=CallerId(entry.id),
        version=1,
        state=CallerState.REGISTERED,
        certificate_sha256=hashlib.sha256(
            profiles.read_certificate(entry.certificate, f"callers.{entry.id}")
        ).digest(),
        system=system,
        user_roles=frozenset(),
        user_ids=frozenset(),
        grants=grants,
        auditor=entry.auditor,
    )


def _public_key(path: Path, field: str) -> bytes:
    try:
        key = load_pem_public_key(profiles.read_octets(path, field))
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Malformed(f"{path} is no PEM public key on P-256", rule="config/public-key", field=field)
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _seconds(day: date) -> UnixSeconds:
    return UnixSeconds(int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()))
