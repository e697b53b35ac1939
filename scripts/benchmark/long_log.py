"""What a claim and its record cost when the log is empty and when it is long, and how fast a long log verifies."""

import asyncio
import hashlib
import hmac
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench_deployment import SUPPLIER, USER_ID, USER_ROLE, VARIANT, disable_supply
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cryptosvc.adapters import export
from cryptosvc.adapters.clock import SystemClock
from cryptosvc.adapters.store.engine import migrate, open_store
from cryptosvc.adapters.store.ledger import Ledger
from cryptosvc.adapters.store.registry import StoredRegistry
from cryptosvc.core import checkpoint
from cryptosvc.core.case import Case, Facts, ModuleFacts, PolicyAnswer, Principal, Request
from cryptosvc.core.check import Checked
from cryptosvc.core.content import checkpoint_note, forms
from cryptosvc.core.content.base import Statement
from cryptosvc.core.content.gbcs.profile import GbcsProfile
from cryptosvc.core.content.x509.profile import default_profile
from cryptosvc.core.errors import Corrupt
from cryptosvc.core.judge import Authorised, judge
from cryptosvc.core.names import (
    CallerId,
    ContentForm,
    ContentKind,
    Environment,
    Eui64,
    KeyId,
    ModuleName,
    Operation,
    RemotePartyRole,
    RequestId,
    SystemName,
    UserRole,
)
from cryptosvc.core.record import Scope
from cryptosvc.core.registry import CallerRecord, CallerState, Grant, KeyRecord, KeyState, Origin

ORIGIN = "cryptosvc.example/bench"
BATCH = 64
SAMPLE = 40_000
"""Operations at each end whose cost is compared."""
IN_FLIGHT = 4

KEY = KeyRecord(
    key_id=KeyId("supplier-signing"),
    version=1,
    key_class="command-signing",
    state=KeyState.ACTIVE,
    system=SystemName("bench"),
    environment=Environment.TEST,
    module=ModuleName("softhsm"),
    label="supplier-signing",
    object_id=b"\x01",
    public_point=b"",
    certificate=b"",
    eui64=Eui64(SUPPLIER),
    role=RemotePartyRole.SUPPLIER,
    origin=Origin.GENERATED,
    transferable=True,
    signs_for_eligible_user=False,
)
CALLER = CallerRecord(
    caller_id=CallerId("supplier"),
    version=1,
    state=CallerState.REGISTERED,
    certificate_sha256=bytes(32),
    system=SystemName("bench"),
    user_roles=frozenset({UserRole.IMPORT_SUPPLIER}),
    user_ids=frozenset({Eui64(SUPPLIER)}),
    grants=(Grant(operation="sign", key_class="command-signing"),),
)
MODULE = ModuleFacts(name=KEY.module, standard="", level=0, certificate="", country="GB", worker_country="GB")
FACTS = Facts(
    operation=Operation.SIGN,
    key_class=KEY.key_class,
    content_kind=ContentKind.GBCS_PRE_COMMAND,
    state=KEY.state,
    origin=KEY.origin,
    environment=Environment.TEST,
    user_role=None,
    same_system=True,
    granted=True,
    module_standard="",
    module_level=0,
    in_united_kingdom=True,
    supply_sensitive=False,
    supply_sensitive_check=False,
    eligible_user_key=False,
)
ANSWER = PolicyAnswer(allowed=True, policies=("bench",), clauses=("G2.56",), text="", digest="0" * 64)
PROFILES = forms.Profiles(x509=default_profile(), gbcs=GbcsProfile(), duis=None, log_origin=ORIGIN)


@dataclass(frozen=True)
class LongLog:
    """What was found."""

    entries: int
    empty_us: float
    full_us: float
    verified_per_second: float


class HeadKey:
    """The head's HMAC key, in software: the module's share is measured by the signing figures."""

    def __init__(self) -> None:
        self._key = os.urandom(32)

    def mac(self, data: bytes) -> bytes:
        """HMAC-SHA256."""
        return hmac.digest(self._key, data, "sha256")

    def verify(self, data: bytes, tag: bytes) -> None:
        """Corrupt unless it is the tag."""
        if not hmac.compare_digest(self.mac(data), tag):
            raise Corrupt("the head does not verify", rule="log/head-forged")


def measure(folder: Path, entries: int) -> LongLog:
    """Fill a log to `entries` with claims and records, measuring the first and the last; then verify it."""
    folder.mkdir()
    return asyncio.run(_measure(folder, entries))


async def _measure(folder: Path, entries: int) -> LongLog:
    url = f"sqlite:///{folder / 'log.db'}"
    migrate(url)
    ledger = Ledger(
        open_store(url),
        origin=ORIGIN,
        clock=SystemClock(),
        authenticator=HeadKey(),
        anchor=None,
        scope=Scope(system="bench", environment="test", worker="bench-0", software="bench"),
    )
    await ledger.initialise()
    registry = StoredRegistry(ledger)
    private = ec.generate_private_key(ec.SECP256R1())
    public = private.public_key()
    point = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    key = KeyRecord(**{name: getattr(KEY, name) for name in KEY.__slots__} | {"public_point": point})
    await registry.change([key, CALLER])
    generation = (await registry.keys([key.key_id])).generation
    work = _authorised(key, generation)
    empty_us = await _cost(ledger, work, SAMPLE)
    await _cost(ledger, work, max(0, entries - 2 * SAMPLE))
    full_us = await _cost(ledger, work, SAMPLE)
    await ledger.maintain()
    head = await ledger.head()
    text = checkpoint.text(checkpoint.Checkpoint(ORIGIN, head.size, head.root))
    spki = checkpoint_note.public_key_der(point)
    line = checkpoint.NoteSignature(
        ORIGIN, checkpoint.key_id(spki), private.sign(text, ec.ECDSA(hashes.SHA256()))
    )
    note = checkpoint.emit(checkpoint.Note(checkpoint.parse_text(text), (line,)))
    path = folder / "export"
    export.write_export(path, ORIGIN, [note], await registry.every_record(), ledger.entries(0, head.size))
    await ledger.close()
    return LongLog(head.size, empty_us, full_us, _verified_per_second(path, spki))


_VERIFY = """
import sys, time
from pathlib import Path
from cryptosvc.adapters.export import verify_export
began = time.monotonic()
verdict = verify_export(Path(sys.argv[1]), bytes.fromhex(sys.argv[2]), origin=sys.argv[3])
print(verdict.size / (time.monotonic() - began))
"""


def _verified_per_second(path: Path, spki: bytes) -> float:
    """Entries a second, in a process of its own: those of its pool would import all of the benchmark first."""
    command = [sys.executable, "-c", _VERIFY, str(path), spki.hex(), ORIGIN]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


async def _cost(ledger: Ledger, work: Iterator[Authorised], count: int) -> float:
    """CPU microseconds of claiming and recording one operation, `BATCH` a transaction, preparation apart."""
    used = 0.0
    for start in range(0, count, BATCH * IN_FLIGHT * 16):
        batches = [
            [next(work) for _ in range(BATCH)]
            for _ in range(min(IN_FLIGHT * 16, -(-(count - start) // BATCH)))
        ]
        before = time.process_time()
        for batch in batches:
            claims = await ledger.claim(batch)
            await ledger.record([Checked(claim, bytes(64), b"", bytes(32)) for claim in claims])
        used += time.process_time() - before
    return 1e6 * used / max(1, count)


def _authorised(key: KeyRecord, generation: int) -> Iterator[Authorised]:
    principal = Principal(caller=CALLER, peer="ipv4:127.0.0.1:1")
    clock = SystemClock()
    number = 0
    while True:
        number += 1
        payload = disable_supply(
            1_000_000 + number, int.from_bytes(hashlib.sha256(number.to_bytes(8)).digest()[:2])
        )
        request = Request(
            request_id=RequestId(hashlib.md5(number.to_bytes(8)).hexdigest()),  # noqa: S324 - random-looking ids
            key_id=key.key_id,
            form=ContentForm.GBCS_PRE_COMMAND,
            payload=payload,
            statement=Statement(service_reference_variant=VARIANT, user_id=USER_ID, user_role=USER_ROLE),
        )
        case = Case(
            request=request,
            principal=principal,
            content=forms.parse(request.form, payload, PROFILES),
            key=key,
            module=MODULE,
            facts=FACTS,
            generation=generation,
            at=clock.now().at,
            time_quality="unsynchronised",
        )
        yield judge(case, ANSWER, PROFILES)
