"""`doctor`: look at everything a worker needs, one finding each, and say what to do. Uses no key but the log's own."""

import asyncio
import ssl
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from cryptosvc.adapters.clock import SystemClock
from cryptosvc.adapters.hsm import mechanisms
from cryptosvc.adapters.hsm.assurance import ModuleConfig
from cryptosvc.adapters.hsm.hsm import Pkcs11Hsm
from cryptosvc.adapters.hsm.provision import Provisioner
from cryptosvc.cli.actions import Finding, Health
from cryptosvc.config.settings import Settings, read_settings
from cryptosvc.core import checkpoint
from cryptosvc.core.clocks import Kind
from cryptosvc.core.errors import CryptosvcError
from cryptosvc.core.names import Environment, SystemName
from cryptosvc.wiring import modules, ownership, profiles, review, stores, worker

EXPIRES_SOON_DAYS = 30
_REQUIRED_LEVEL = 3
_SECONDS = 1_000_000_000


def examine(config: Path) -> list[Finding]:
    """Every finding, in the order a worker would meet them; stops where nothing further can be looked at."""
    try:
        settings = read_settings(config)
    except CryptosvcError as error:
        return [
            _wrong("configuration", error, "correct the file; config.example.toml explains every setting")
        ]
    found = [Finding(subject="configuration", health=Health.OK, seen=str(config))]
    clock = SystemClock()
    found += _clock(clock)
    found += _tls(settings, clock)
    found += _guarded("policies", lambda: _policies(settings))
    found += _guarded("formats", lambda: _formats(settings))
    found += _looking_on(settings)
    configs = modules.module_configs(settings)
    hsm = Pkcs11Hsm(configs, clock, stores.lock_folder(settings))
    hsm.start()
    try:
        for module in configs:
            found += _guarded(f"module {module.name}", partial(_module, hsm, module, settings, clock))
        found += _guarded("store and log", partial(_store, settings, hsm, clock))
    finally:
        hsm.close()
    return found


def _guarded(subject: str, look: Callable[[], Iterable[Finding]]) -> list[Finding]:
    found: list[Finding] = []
    try:
        found.extend(look())
    except CryptosvcError as error:
        found.append(_wrong(subject, error, _ADVICE.get(error.rule, "")))
    return found


_ADVICE = {
    "store/not-initialised": "run: cryptosvc init PROVISIONING_FILE",
    "store/schema": "run: cryptosvc init PROVISIONING_FILE",
    "hsm/unexpected-firmware": "look up whether the certificate covers what it reports; G2.44 is about what was validated",
    "hsm/firmware-not-certified": "go back to firmware the certificate covers, or list what a newer certificate covers",
    "hsm/certificate-unstated": "set certificate and certificate_firmware of the module",
    "hsm/token-absent": "compare token_label and token_serial with: softhsm2-util --show-slots, or the vendor's tool",
}


def _clock(clock: SystemClock) -> Iterator[Finding]:
    instant = clock.now()
    seen = f"{datetime.fromtimestamp(instant.at / _SECONDS, UTC):%Y-%m-%d %H:%M:%S} UTC, {instant.quality}"
    if instant.quality == "synchronised":
        yield Finding(subject="clock", health=Health.OK, seen=seen)
    else:
        yield Finding(
            subject="clock",
            health=Health.WARNING,
            seen=seen,
            advice="start a time service (systemd-timesyncd, chrony); every record says that its time is unsynchronised",
        )


def _looking_on(settings: Settings) -> Iterator[Finding]:
    """What a live deployment should not be without, and starts without all the same."""
    live = settings.deployment.environment is Environment.LIVE
    for subject, there, advice in (
        (
            "watch",
            settings.watch is not None,
            "add the table [watch]: without it nothing is alarmed, and anomalous events are to be detected (G2.10, G2.29)",
        ),
        (
            "time sources",
            {one.kind for one in settings.time.sources} == set(Kind),
            "add [[time.sources]] of both kinds: Network Time is to be compared with an Independent Time Source (G2.47)",
        ),
    ):
        health = Health.OK if there or not live else Health.WARNING
        seen = "configured" if there else "not configured"
        yield Finding(subject=subject, health=health, seen=seen, advice="" if health is Health.OK else advice)


def _tls(settings: Settings, clock: SystemClock) -> Iterator[Finding]:
    server = settings.server
    now = datetime.fromtimestamp(clock.now().at / _SECONDS, UTC)
    for setting, path in (("server.certificate", server.certificate), ("server.client_ca", server.client_ca)):
        yield from _guarded(setting, partial(_certificates, setting, path, now))
    yield from _guarded("server.private_key", lambda: _private_key(settings))


def _certificates(setting: str, path: Path, now: datetime) -> Iterator[Finding]:
    octets = profiles.read_octets(path, setting)
    try:
        certificates = x509.load_pem_x509_certificates(octets)
    except ValueError:
        yield Finding(
            subject=setting,
            health=Health.WRONG,
            seen=f"{path} holds no PEM certificate",
            advice="give a PEM file",
        )
        return
    for certificate in certificates:
        name, until = certificate.subject.rfc4514_string(), certificate.not_valid_after_utc
        seen = f"{name}, valid until {until:%Y-%m-%d}"
        days = (until - now).days
        if certificate.not_valid_before_utc > now or until <= now:
            yield Finding(
                subject=setting, health=Health.WRONG, seen=seen + ": not valid now", advice="renew it"
            )
        elif days < EXPIRES_SOON_DAYS:
            yield Finding(
                subject=setting,
                health=Health.WARNING,
                seen=f"{seen}: {days} days",
                advice="renew it, then restart",
            )
        else:
            yield Finding(subject=setting, health=Health.OK, seen=seen)


def _private_key(settings: Settings) -> Iterator[Finding]:
    path = settings.server.private_key
    octets = profiles.read_octets(path, "server.private_key")
    try:
        key = load_pem_private_key(octets, None)
        certificate = x509.load_pem_x509_certificate(
            profiles.read_octets(settings.server.certificate, "server.certificate")
        )
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(settings.server.certificate, path)
    except (ValueError, TypeError, ssl.SSLError):
        yield Finding(
            subject="server.private_key",
            health=Health.WRONG,
            seen=f"{path} is not the unencrypted PEM key of server.certificate",
            advice="give the key that the certificate was made for, without a passphrase and with mode 0600",
        )
        return
    del octets
    same = key.public_key() == certificate.public_key()
    if same and not path.stat().st_mode & 0o077:
        yield Finding(subject="server.private_key", health=Health.OK, seen="belongs to server.certificate")
    elif same:
        yield Finding(
            subject="server.private_key",
            health=Health.WARNING,
            seen=f"{path} can be read by others",
            advice=f"run: chmod 600 {path}",
        )


def _policies(settings: Settings) -> Iterator[Finding]:
    found = review.check(settings.policy.folder)
    yield Finding(
        subject="policies",
        health=Health.OK,
        seen=f"{found['policies']} policies, {found['decision_rows']} decision rows hold, digest {str(found['digest'])[:16]}…",
    )


def _formats(settings: Settings) -> Iterator[Finding]:
    profiles.profiles(settings)
    if settings.duis is None:
        yield Finding(
            subject="DUIS schema",
            health=Health.WARNING,
            seen="none is configured, so no DUIS document is read",
            advice="set [duis] where this deployment signs DUIS documents",
        )
    else:
        yield Finding(subject="DUIS schema", health=Health.OK, seen=str(settings.duis.schema_file))
    if not settings.supply_sensitive.sensitive_variants:
        yield Finding(
            subject="supply_sensitive.sensitive_variants",
            health=Health.WARNING,
            seen="the list is empty, so no Supply Sensitive Check is asked for",
            advice="set the Code's list (G3.23, G3.25) before live use",
        )


def _module(
    hsm: Pkcs11Hsm, module: ModuleConfig, settings: Settings, clock: SystemClock
) -> Iterator[Finding]:
    facts = hsm.facts(module.name)
    with Provisioner(module, stores.lock_folder(settings)) as token:
        ownership.require_own(token, settings, module.name)
    reported, advertised = hsm.reported(module.name)
    subject = f"module {module.name}"
    yield Finding(
        subject=subject,
        health=Health.OK,
        seen=f"token {reported.label} serial {reported.serial}, {reported.manufacturer} {reported.model} {reported.firmware}",
    )
    missing = [found.row for found in mechanisms.check(advertised) if found.mechanism is None]
    if missing:
        yield Finding(
            subject=f"{subject} mechanisms",
            health=Health.WRONG if any(row.needed for row in missing) else Health.WARNING,
            seen="lacks: " + "; ".join(row.capability for row in missing),
            advice="see the remarks in cryptosvc/adapters/hsm/mechanisms.py for what each is needed for",
        )
    else:
        yield Finding(
            subject=f"{subject} mechanisms", health=Health.OK, seen="has every one the service can use"
        )
    accepted = modules.assurance_profile(settings).accepts(facts.standard, clock.now().at)
    yield _assurance(
        subject,
        f"{facts.standard or 'no standard'} level {facts.level}",
        settings,
        accepted and facts.level >= _REQUIRED_LEVEL,
    )


def _assurance(subject: str, stated: str, settings: Settings, enough: bool) -> Finding:  # noqa: FBT001 - private, read beside its one call
    if enough:
        return Finding(subject=f"{subject} assurance", health=Health.OK, seen=stated)
    live = settings.deployment.environment is Environment.LIVE
    return Finding(
        subject=f"{subject} assurance",
        health=Health.WRONG if live else Health.OK,
        seen=f"{stated}; enough for environment test only",
        advice="G2.44 asks for FIPS 140-2 Level 3 or what replaces it" if live else "",
    )


def _store(settings: Settings, hsm: Pkcs11Hsm, clock: SystemClock) -> list[Finding]:
    stores.require_tables(settings)
    return asyncio.run(_opened_store(settings, hsm, clock))


async def _opened_store(settings: Settings, hsm: Pkcs11Hsm, clock: SystemClock) -> list[Finding]:
    async with stores.opened(settings, hsm, clock, worker.scope(settings, "doctor")) as store:
        head = await store.ledger.head()
        keys = await store.registry.keys_of(SystemName(settings.deployment.system))
        callers = await store.registry.callers()
        note = await store.ledger.checkpoint()
    found = [
        Finding(
            subject="store and log",
            health=Health.OK,
            seen=f"{settings.store.url.partition('://')[0]}, {head.size} entries, the head verifies",
        ),
        Finding(
            subject="registry",
            health=Health.OK if keys and callers else Health.WARNING,
            seen=f"{len(keys)} keys and {len(callers)} callers, each as the log says",
            advice="" if keys and callers else "run: cryptosvc init PROVISIONING_FILE",
        ),
    ]
    if note is None:
        found.append(
            Finding(
                subject="checkpoint",
                health=Health.WARNING,
                seen="none has been signed yet",
                advice="start the service; it signs one within log.checkpoint_seconds",
            )
        )
    else:
        size = checkpoint.parse(note).checkpoint.size
        found.append(
            Finding(subject="checkpoint", health=Health.OK, seen=f"signs {size} of {head.size} entries")
        )
    return found


def _wrong(subject: str, error: CryptosvcError, advice: str) -> Finding:
    return Finding(
        subject=subject, health=Health.WRONG, seen=error.message, advice=advice or f"rule {error.rule}"
    )
