"""Device keys: what finding, opening and using one costs among a thousand and among a million; how fast a file is imported.

One store on SQLite and one SoftHSM2 token. The same keys' first use (cold: read, verified, unwrapped) and second (warm); the
use is the encryption of a DLMS request.
"""

import asyncio
import hashlib
import json
import os
import random
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench_deployment import REPOSITORY
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from long_log import ORIGIN, HeadKey

from cryptosvc.adapters.clock import SystemClock
from cryptosvc.adapters.device_files import DeviceFile
from cryptosvc.adapters.hsm.assurance import Assurance, ModuleConfig
from cryptosvc.adapters.hsm.device_work import encrypted_only
from cryptosvc.adapters.hsm.opened_keys import OpenedKeys
from cryptosvc.adapters.hsm.pins import PinFile
from cryptosvc.adapters.hsm.provision import Provisioner
from cryptosvc.adapters.hsm.sealing_processes import Pkcs11Sealing
from cryptosvc.adapters.hsm.transport_key import public_key_pem
from cryptosvc.adapters.store.devices import StoredDeviceKeys
from cryptosvc.adapters.store.engine import migrate, open_store
from cryptosvc.adapters.store.ledger import Ledger
from cryptosvc.adapters.store.registry import StoredRegistry
from cryptosvc.core import dsse
from cryptosvc.core.canonical import canonical
from cryptosvc.core.content.dlms import protection
from cryptosvc.core.content.dlms.profile import Smets1Profile
from cryptosvc.core.device_file import PAYLOAD_TYPE, Manifest, manifest_payload
from cryptosvc.core.device_keys import DeviceKeyName
from cryptosvc.core.device_records import (
    DeviceSourceRecord,
    DeviceWorkRecord,
    SourceState,
    WorkKind,
    WorkState,
)
from cryptosvc.core.keyclass import ceiling
from cryptosvc.core.names import ContentForm, Environment, Eui64, KeyId, ModuleName, SystemName
from cryptosvc.core.record import Scope
from cryptosvc.core.registry import KeyRecord, KeyState, Origin
from cryptosvc.core.transfer.mechanism import OaepHash
from cryptosvc.flow.device_import import DeviceImporter
from cryptosvc.flow.devices import DeviceKeeper

SYSTEM = SystemName("bench")
FEW = 1000
SAMPLE = 300
ROUNDS = 5
KIND = "encryption"
REQUEST = bytes.fromhex("4d4d4d0000bc614e00000001c0010000080000010000ff0200")
"""A get-request, with system title and counter before it."""
STORAGE = {"epoch": "storage-wrapping", "binding": "storage-binding", "transport": "device-transport"}


@dataclass(frozen=True)
class DeviceKeyCosts:
    """What was found: medians in µs of wall time, cold and warm, with few keys and with many; keys a second."""

    keys: int
    few_cold_us: float
    few_warm_us: float
    many_cold_us: float
    many_warm_us: float
    imported_per_second: float


def measure(folder: Path, keys: int, processes: int) -> DeviceKeyCosts:
    """Import `FEW` keys, measure; import the rest up to `keys`, measure again."""
    folder.mkdir(parents=True)
    config = module_of(folder)
    return asyncio.run(_measure(folder, config, keys, processes))


async def _measure(folder: Path, config: ModuleConfig, keys: int, processes: int) -> DeviceKeyCosts:
    url = f"sqlite:///{folder}/store.db"
    migrate(url)
    scope = Scope(system=SYSTEM, environment="test", worker="bench", software="bench")
    clock = SystemClock()
    ledger = Ledger(
        open_store(url), origin=ORIGIN, scope=scope, clock=clock, authenticator=HeadKey(), anchor=None
    )
    await ledger.initialise()
    registry = StoredRegistry(ledger)
    records = [storage_record(name, key_class, config) for name, key_class in STORAGE.items()]
    with Provisioner(config, folder / "locks") as token:
        for record in records:
            token.generate(record.label, record.object_id, ceiling(record.key_class).template)
    source = ec.generate_private_key(ec.SECP256R1())
    spki = source.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    sender = DeviceSourceRecord(
        source_id="maker", version=1, state=SourceState.REGISTERED, system=SYSTEM, key=spki
    )
    await registry.change([*records, sender])
    transport = public_key_pem(config, folder / "locks", records[2])
    devices = StoredDeviceKeys(ledger, registry)
    sealing = Pkcs11Sealing([config], folder / "locks", processes)
    keeper = DeviceKeeper(registry, registry, devices, sealing, clock)
    importer = DeviceImporter(registry, keeper, devices, sealing, Environment.TEST, {KIND})
    try:
        seconds = 0.0
        costs: list[tuple[float, float]] = []
        for name, numbers in (("few", range(FEW)), ("many", range(FEW, keys))):
            path = folder / name
            digest = write_file(path, numbers, source, spki, transport)
            await registry.change([import_work(name, digest, len(numbers))])
            started = time.monotonic()
            await import_file(importer, name, path)
            seconds = time.monotonic() - started
            path.unlink()
            costs.append(await _costs(ledger, registry, config, folder, numbers.stop))
        return DeviceKeyCosts(keys, *costs[0], *costs[1], (keys - FEW) / seconds)
    finally:
        sealing.close()
        await ledger.close()


async def import_file(importer: DeviceImporter, work: str, path: Path) -> None:
    """As `cryptosvc device-key import` does it: the module is one part ahead of the store."""
    file = DeviceFile(path)
    found = await importer.begin(work, file.first_line)
    file.require(found.manifest.keys, found.manifest.body_sha256)
    ahead = await importer.prepare(found, *file.lines_from(0))
    while ahead.lines:
        lines, first = file.lines_from(found.work.position + len(ahead.lines))
        following = asyncio.create_task(importer.prepare(found, lines, first))
        found, bad = await importer.take(found, ahead)
        if bad:
            raise SystemExit(f"line {bad[0].number}: {bad[0].why}")
        ahead = await following


async def _costs(
    ledger: Ledger, registry: StoredRegistry, config: ModuleConfig, folder: Path, there: int
) -> tuple[float, float]:
    """Median µs to find and open a key for the first time, and for the second; the best of some rounds, other keys in each."""
    rounds = [await _round(ledger, registry, config, folder, there, number) for number in range(ROUNDS)]
    return min(cold for cold, _ in rounds), min(warm for _, warm in rounds)


async def _round(
    ledger: Ledger, registry: StoredRegistry, config: ModuleConfig, folder: Path, there: int, number: int
) -> tuple[float, float]:
    chosen = random.Random(number).sample(range(there), min(SAMPLE, there))  # noqa: S311 - which keys are looked at
    names = [DeviceKeyName(_device(number), KIND) for number in chosen]
    devices = StoredDeviceKeys(ledger, registry)
    with Provisioner(config, folder / "locks") as token:
        functions, session, mechanisms = token.session_of_its_own()
        opened = OpenedKeys(functions, SAMPLE)
        opened.begin(session, mechanisms)
        content = protection.parse(ContentForm.DLMS_ENCRYPTION, REQUEST, Smets1Profile())
        rounds: list[float] = []
        for _ in range(2):
            spent: list[float] = []
            for name in names:
                started = time.perf_counter()
                view = await devices.device_keys([name])
                encrypted_only(functions, session, opened.handle(view.keys[name]), content)
                spent.append((time.perf_counter() - started) * 1e6)
            rounds.append(statistics.median(spent))
        opened.forget()
    return rounds[0], rounds[1]


def module_of(folder: Path) -> ModuleConfig:
    made = subprocess.run(
        [sys.executable, REPOSITORY / "softhsm" / "provision.py", folder, "--label", "bench"],
        check=True,
        capture_output=True,
        text=True,
    )
    facts: dict[str, str] = json.loads(made.stdout)
    os.environ["SOFTHSM2_CONF"] = facts["conf"]
    return ModuleConfig(
        name=ModuleName("softhsm"),
        library=facts["library"],
        token_label=facts["label"],
        token_serial=facts["serial"],
        pin=PinFile(folder / "pin"),
        sessions=1,
        manufacturer=facts["manufacturer"],
        model=facts["model"],
        firmware=facts["firmware"],
        assurance=Assurance(standard="", level=0, certificate="", country="GB"),
        worker_country="GB",
        environment=Environment.TEST,
    )


def storage_record(name: str, key_class: str, config: ModuleConfig) -> KeyRecord:
    return KeyRecord(
        key_id=KeyId(name),
        version=1,
        key_class=key_class,
        state=KeyState.ACTIVE,
        system=SYSTEM,
        environment=Environment.TEST,
        module=config.name,
        label=name,
        object_id=hashlib.sha256(name.encode()).digest()[:16],
        public_point=b"",
        certificate=b"",
        eui64=None,
        role=None,
        origin=Origin.GENERATED,
        transferable=False,
        signs_for_eligible_user=False,
    )


def import_work(name: str, digest: str, keys: int) -> DeviceWorkRecord:
    return DeviceWorkRecord(
        work_id=name,
        version=1,
        state=WorkState.APPROVED,
        system=SYSTEM,
        kind=WorkKind.IMPORT,
        subject=digest,
        source="maker",
        keys=keys,
        on_bad_line="report",
    )


def write_file(
    path: Path, numbers: Sequence[int], source: ec.EllipticCurvePrivateKey, spki: bytes, transport: bytes
) -> str:
    """Write a file of random keys; hex SHA-256 of its manifest."""
    file_key = secrets.token_bytes(32)
    body, scratch = hashlib.sha256(), path.with_suffix(".body")
    with scratch.open("wb") as out:
        for line in _lines(numbers, file_key):
            body.update(line)
            out.write(line)
    public = load_pem_public_key(transport)
    wrapped = public.encrypt(file_key, padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None))  # type: ignore[union-attr]  # noqa: S303 - what SoftHSM has
    manifest = Manifest(
        system=SYSTEM,
        environment="test",
        source="maker",
        keys=len(numbers),
        body_sha256=body.hexdigest(),
        transport=KeyId("transport"),
        oaep=OaepHash.SHA_1,
        file_key=wrapped,
    )
    signers = {dsse.key_id(spki): lambda octets: source.sign(octets, ec.ECDSA(hashes.SHA256()))}
    first = dsse.emit(dsse.sign(PAYLOAD_TYPE, manifest_payload(manifest), signers))
    with path.open("wb") as out, scratch.open("rb") as lines:
        out.write(first + b"\n")
        while part := lines.read(1 << 20):
            out.write(part)
    scratch.unlink()
    return hashlib.sha256(first).hexdigest()


def _lines(numbers: Sequence[int], file_key: bytes) -> Iterator[bytes]:
    for number in numbers:
        key = secrets.token_bytes(16)
        check = Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(bytes(16))[:3]  # noqa: S305 - the check value is made so
        yield (
            canonical(
                {
                    "device": str(_device(number)),
                    "kind": KIND,
                    "version": 1,
                    "manufacturer": "maker",
                    "model": "m1",
                    "firmware": "1.0",
                    "check_value": check.hex(),
                    "key": aes_key_wrap_with_padding(file_key, key).hex(),
                }
            )
            + b"\n"
        )


def _device(number: int) -> Eui64:
    return Eui64(b"\x90\xb3\xd5\x1f" + number.to_bytes(4))
