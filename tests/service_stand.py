"""A service to call in tests: the real server and the real use cases around the corridor, over a log in memory.

The corridor itself is stood in for by `StandSigner`, which says on demand whatever a corridor can say; its own tests
are elsewhere. Key ids choose what it does.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from prometheus_client import CollectorRegistry

from cryptosvc.client.channels import Target
from cryptosvc.core.case import Case, Facts, ModuleFacts, Principal, Request
from cryptosvc.core.check import Checked
from cryptosvc.core.content.base import Content
from cryptosvc.core.errors import (
    AwaitingApproval,
    Busy,
    Conflict,
    Corrupt,
    CryptosvcError,
    Forbidden,
    Malformed,
    OutcomeUnknown,
    Repeated,
    Unavailable,
    WrongState,
)
from cryptosvc.core.judge import Authorised
from cryptosvc.core.names import (
    CallerId,
    ContentKind,
    Environment,
    KeyId,
    ModuleName,
    Operation,
    SystemName,
    UnixNanoseconds,
)
from cryptosvc.core.record import Claim, Observed, Receipt, Refused, Scope
from cryptosvc.core.registry import CallerRecord, CallerState, Grant, KeyRecord, KeyState, Origin
from cryptosvc.flow.admit import Admission
from cryptosvc.flow.audit import Auditor
from cryptosvc.flow.checkpoint import Checkpointer
from cryptosvc.flow.explain import Explained, Explainer
from cryptosvc.flow.keys import KeyReader
from cryptosvc.flow.observe import Observer
from cryptosvc.flow.ports import Instant, Keys, KeyView, Ledger, Search, StoredEntry
from cryptosvc.flow.query import Inquirer
from cryptosvc.flow.sign import NotSigned, Signed, Signer
from cryptosvc.flow.spokesman import Spokesman
from cryptosvc.flow.transfer_log import TransferLog
from cryptosvc.flow.transfers import TransferDesk
from cryptosvc.service.application import Application
from cryptosvc.service.health import Check
from cryptosvc.service.limits import Limits
from cryptosvc.service.metrics import Metrics
from cryptosvc.service.server import Endpoint, Server
from tests import govern_stand
from tests.fakes.ledger import FakeLedger
from tests.fakes.promises import FakePromises
from tests.fakes.search import FakeSearch
from tests.pki import Authority, Identity

ORIGIN = "stand.example/log"
SYSTEM = SystemName("dcc-data")
SCOPE = Scope(system=SYSTEM, environment="test", worker="w0", software="stand")
MODULE = ModuleFacts(
    name=ModuleName("stand"), standard="", level=0, certificate="", country="GB", worker_country="GB"
)
AT = UnixNanoseconds(1_700_000_000_123_456_789)

ERRORS: Mapping[str, CryptosvcError] = {
    "malformed": Malformed("not a certificate", rule="der/bad", field="tbs_certificate"),
    "forbidden": Forbidden(
        "not for this", rule="ceiling/purpose", clause="G2.60", field="key_id", policies=("p1", "p2")
    ),
    "awaiting": AwaitingApproval("not approved yet", rule="quorum/incomplete"),
    "suspended": WrongState("suspended", rule="lifecycle/state", clause="G5.13(b)"),
    "conflict": Conflict("counter used", rule="promise/once"),
    "busy": Busy("full", rule="queue/full"),
    "gone": Unavailable("module gone", rule="hsm/gone"),
    "unknown": OutcomeUnknown("lost", rule="hsm/lost"),
    "corrupt": Corrupt("bad signature", rule="check/signature"),
}
"""What a request under each of these key ids ends with, as an item."""


class StandClock:
    """Always the same time."""

    def now(self) -> Instant:
        return Instant(AT, "synchronised")


class StandLedger:
    """Entries in memory; `failing` makes every write raise it."""

    def __init__(self) -> None:
        self.recorded: list[object] = []
        self.failing: CryptosvcError | None = None

    async def record(self, batch: Sequence[object]) -> list[Receipt]:
        if self.failing is not None:
            raise self.failing
        receipts = []
        for item in batch:
            self.recorded.append(item)
            index = len(self.recorded) - 1
            receipts.append(receipt(index))
        return receipts

    async def entry(self, leaf_index: int) -> StoredEntry | None:
        if leaf_index >= len(self.recorded):
            return None
        return StoredEntry(leaf_index, b'{"n":%d}' % leaf_index, b"")

    async def inclusion_proof(self, leaf_index: int, tree_size: int) -> list[bytes]:
        return [hashlib.sha256(b"%d/%d" % (leaf_index, tree_size)).digest()]

    async def consistency_proof(self, first_size: int, second_size: int) -> list[bytes]:
        return [hashlib.sha256(b"%d-%d" % (first_size, second_size)).digest()]

    async def checkpoint(self) -> bytes | None:
        return b"a note\n"

    def refusals(self) -> list[Refused]:
        return [item for item in self.recorded if isinstance(item, Refused)]

    def observed(self, kind: str) -> list[Observed]:
        return [item for item in self.recorded if isinstance(item, Observed) and item.kind == kind]


def receipt(index: int) -> Receipt:
    return Receipt(
        origin=ORIGIN, leaf_index=index, leaf_hash=hashlib.sha256(b"%d" % index).digest(), recorded_at=AT
    )


class StandKeys:
    """A registry with the callers and keys a test names."""

    def __init__(self, callers: Sequence[CallerRecord], keys: Sequence[KeyRecord]) -> None:
        self.callers = {caller.certificate_sha256: caller for caller in callers}
        self._keys = {key.key_id: key for key in keys}

    async def keys(self, key_ids: Collection[KeyId]) -> KeyView:
        return KeyView(1, {key_id: self._keys[key_id] for key_id in key_ids if key_id in self._keys})

    async def keys_of(self, system: SystemName) -> list[KeyRecord]:
        return sorted(
            (key for key in self._keys.values() if key.system == system), key=lambda key: key.key_id
        )

    async def keys_of_classes(self, key_classes: frozenset[str]) -> KeyView:
        return KeyView(1, {one: key for one, key in self._keys.items() if key.key_class in key_classes})

    async def caller(self, certificate_sha256: bytes) -> CallerRecord | None:
        return self.callers.get(certificate_sha256)


class StandSigner:
    """Signs with a key of its own, or ends as the key id says; remembers what it was asked."""

    def __init__(self, ledger: StandLedger, key: ec.EllipticCurvePrivateKey) -> None:
        self._ledger = ledger
        self._key = key
        self._used: dict[str, tuple[bytes, Receipt]] = {}
        self.batches: list[int] = []
        self.peers: list[str] = []
        self.finished = 0
        self.whole_batch_error: list[Exception] = []
        self.release = asyncio.Event()
        self.release.set()

    async def sign(self, principal: Principal, requests: Sequence[Request]) -> list[Signed | NotSigned]:
        return await self.sign_each([(principal, request) for request in requests])

    async def sign_each(self, items: Sequence[tuple[Principal, Request]]) -> list[Signed | NotSigned]:
        self.batches.append(len(items))
        self.peers.extend(principal.peer for principal, _ in items)
        if self.whole_batch_error:
            raise self.whole_batch_error.pop(0)
        await self.release.wait()
        answers = [await self._one(principal, request) for principal, request in items]
        self.finished += len(items)
        return answers

    async def _one(self, principal: Principal, request: Request) -> Signed | NotSigned:
        if request.key_id == "bug":
            raise ZeroDivisionError("secret payload bytes in an exception text")
        first = self._used.get(request.request_id)
        error = ERRORS.get(request.key_id)
        if first is not None:
            error = Repeated(
                same_bytes=first[0] == request.payload,
                leaf_index=first[1].leaf_index,
                leaf_hash=first[1].leaf_hash,
            )
        if error is not None:
            (made,) = await self._ledger.record([("not signed", request.request_id)])
            return NotSigned(error, made)
        checked = checked_of(principal, request, self._key)
        (made,) = await self._ledger.record([("signed", request.request_id)])
        self._used[request.request_id] = (request.payload, made)
        return Signed(checked, made)


class StandExplainer:
    """Permits every key but those that end in an error."""

    def __init__(self, ledger: StandLedger, key: ec.EllipticCurvePrivateKey) -> None:
        self._ledger = ledger
        self._key = key

    async def explain(self, principal: Principal, request: Request) -> Explained:
        (made,) = await self._ledger.record([("explained", request.request_id)])
        error = ERRORS.get(request.key_id)
        authorised = checked_of(principal, request, self._key).claim.authorised
        if error is not None:
            return Explained(None, cast("Forbidden", error), made, authorised.case.content)
        return Explained(authorised, None, made, authorised.case.content)


def checked_of(principal: Principal, request: Request, key: ec.EllipticCurvePrivateKey) -> Checked:
    """Make what the corridor would have made."""
    r, s = decode_dss_signature(key.sign(request.payload, ec.ECDSA(hashes.SHA256())))
    signature = r.to_bytes(32) + s.to_bytes(32)
    case = Case(
        request=request,
        principal=principal,
        content=Content(
            kind=ContentKind.ORGANISATION_CERTIFICATE, signed_bytes=request.payload, facts=(("serial", "1"),)
        ),
        key=key_record(request.key_id, key),
        module=MODULE,
        facts=cast("Facts", SimpleNamespace()),
        generation=1,
        at=AT,
        time_quality="synchronised",
    )
    claim = Claim(Authorised(case, "G2.61(a)", ("may-sign",), "00" * 32), "claim", AT)
    artefact = b"signed:" + request.payload
    return Checked(claim, signature, artefact, hashlib.sha256(artefact).digest())


def key_record(key_id: str, key: ec.EllipticCurvePrivateKey) -> KeyRecord:
    """A key of the stand."""
    return KeyRecord(
        key_id=KeyId(key_id),
        version=3,
        key_class="issuing-oca",
        state=KeyState.ACTIVE,
        system=SYSTEM,
        environment=Environment.TEST,
        module=ModuleName("stand"),
        label=key_id,
        object_id=b"\x01",
        public_point=key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint),
        certificate=b"",
        eui64=None,
        role=None,
        origin=Origin.GENERATED,
        transferable=False,
        signs_for_eligible_user=False,
    )


def caller_record(
    name: str, identity: Identity, *, state: CallerState = CallerState.REGISTERED
) -> CallerRecord:
    """A caller that may sign with every key of the stand."""
    return CallerRecord(
        caller_id=CallerId(name),
        version=1,
        state=state,
        certificate_sha256=identity.sha256,
        system=SYSTEM,
        user_roles=frozenset(),
        user_ids=frozenset(),
        grants=(Grant(operation=Operation.SIGN.value, key_class="issuing-oca"),),
        auditor=True,
    )


@dataclass
class Stand:
    """A running service and all that a test may want to look at."""

    authority: Authority
    client: Identity
    key: ec.EllipticCurvePrivateKey
    ledger: StandLedger
    keys: StandKeys
    signer: StandSigner
    server: Server
    registry: CollectorRegistry
    broken: dict[str, CryptosvcError] = field(default_factory=dict)

    def target(self, identity: Identity | None = None, connections: int = 2) -> Target:
        """The way to it, as this identity."""
        who = identity or self.client
        return Target(
            f"localhost:{self.server.port}",
            self.authority.certificate,
            who.certificate,
            who.key,
            connections=connections,
        )


def transfers_of(governing: govern_stand.Stand) -> TransferDesk:
    """A desk on fakes; what it has signed and proven, the tests between deployments see."""
    checkpointer = cast("Checkpointer", None)
    log = TransferLog(governing.keys, governing.ledger, checkpointer, "stand")
    service = cast("Principal", None)
    spokesman = Spokesman(
        governing.keys,
        FakePromises(),
        None,
        cast("Signer", None),
        governing.clock,
        (service, KeyId("service")),
    )
    return TransferDesk(governing.keys, governing.ledger, governing.clock, log, spokesman, KeyId("service"))


@asynccontextmanager
async def stand(
    limits: Limits | None = None,
    key_ids: Sequence[str] = ("key-1", "key-2", "key-3"),
    *,
    read_handshakes: bool = False,
    governed: govern_stand.Stand | None = None,
    search: Search | None = None,
) -> AsyncIterator[Stand]:
    """Start a service on a free port; it is stopped at the end. `governed` is what it governs, on fakes of its own."""
    governing = governed or govern_stand.Stand()
    authority = Authority()
    server_identity, client = authority.server(), authority.client()
    key = ec.generate_private_key(ec.SECP256R1())
    ledger, clock = StandLedger(), StandClock()
    keys = StandKeys([caller_record("client", client)], [key_record(key_id, key) for key_id in key_ids])
    signer = StandSigner(ledger, key)
    as_ledger, as_keys = cast("Ledger", ledger), cast("Keys", keys)
    searching = search or FakeSearch(FakeLedger("stand", SCOPE, clock))
    application = Application(
        admission=Admission(as_keys, as_ledger, clock),
        signer=cast("Signer", signer),
        explainer=cast("Explainer", StandExplainer(ledger, key)),
        key_reader=KeyReader(as_keys, as_ledger, clock),
        auditor=Auditor(as_ledger, searching, clock),
        inquirer=Inquirer(searching, as_ledger, clock),
        observer=Observer(as_ledger, clock),
        governor=governing.governor,
        registers=governing.registers,
        transfers=transfers_of(governing),
    )
    broken: dict[str, CryptosvcError] = {}

    def check(name: str) -> Check:
        async def ask() -> None:
            if name in broken:
                raise broken[name]

        return ask

    registry = CollectorRegistry()
    server = Server(
        application,
        Endpoint(
            address="127.0.0.1:0",
            certificate_chain=server_identity.certificate,
            private_key=server_identity.key,
            client_authorities=authority.certificate,
        ),
        limits or Limits(),
        Metrics(registry),
        {name: check(name) for name in ("module", "store", "log")},
        read_handshakes=read_handshakes,
    )
    await server.start()
    try:
        yield Stand(authority, client, key, ledger, keys, signer, server, registry, broken)
    finally:
        signer.release.set()
        await server.stop(1.0)


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until something another task or thread does has happened; TimeoutError where it does not."""
    async with asyncio.timeout(seconds):
        while not condition():  # what is waited for is not the test's to signal
            await asyncio.sleep(0.01)
