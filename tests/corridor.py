"""A corridor without disk or module: the smallest real answers behind each port, and ways to make each step fail.

For tests of the flow itself. What an adapter must hold to is tested in tests/contract, on the adapters and their fakes.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from cryptosvc.core.case import ModuleFacts, PolicyAnswer, Principal, Request
from cryptosvc.core.check import Checked
from cryptosvc.core.content.base import Once, Statement
from cryptosvc.core.content.forms import Profiles
from cryptosvc.core.content.gbcs.profile import GbcsProfile
from cryptosvc.core.content.x509.profile import default_profile
from cryptosvc.core.errors import Conflict, OutcomeUnknown, Refusal, Unavailable
from cryptosvc.core.judge import Authorised
from cryptosvc.core.names import (
    CallerId,
    ContentForm,
    Environment,
    KeyId,
    ModuleName,
    RequestId,
    SystemName,
    UnixNanoseconds,
    UserRole,
)
from cryptosvc.core.record import Claim, Failed, Observed, Produced, Receipt, Refused
from cryptosvc.core.registry import CallerRecord, CallerState, Grant, KeyRecord, KeyState
from cryptosvc.core.supply import SupplyProfile
from cryptosvc.flow.gather import Gatherer
from cryptosvc.flow.ports import Instant, KeyView, Stale
from cryptosvc.flow.sign import Signer
from tests import certificates, duis_documents, precommands
from tests.fakes.policy import FakePolicy

SYSTEM = SystemName("test-system")
MODULE = ModuleName("test-module")
SUPPLIER_KEY = KeyId("supplier-ds")
XML_KEY = KeyId("supplier-xml")
SUPPLIER = precommands.SUPPLIER
ALLOWED = PolicyAnswer(allowed=True, policies=("p1", "p2"), clauses=("G2.56",), text="", digest="d" * 64)
"""What a policy engine says to everything, for tests of what holds whatever it says."""
PRIVATE = {name: certificates.key_pair(name) for name in (SUPPLIER_KEY, XML_KEY)}


def key_record(name: KeyId = SUPPLIER_KEY, key_class: str = "command-signing", role: int = 2) -> KeyRecord:
    """An active key of the supplier, with its certificate."""
    public = PRIVATE[name].public_key()
    issuing = certificates.issuing_authority(certificates.root_authority())
    certificate = certificates.organisation_certificate(issuing, public, role=role, entity=str(SUPPLIER))
    record = certificates.key_record(key_class, public, certificate, role=role, entity=str(SUPPLIER))
    return replace(record, key_id=name, module=MODULE, system=SYSTEM)


def caller_record(*grants: Grant) -> CallerRecord:
    """A caller that acts for the supplier and may sign with its two classes of key."""
    return CallerRecord(
        caller_id=CallerId("head-end"),
        version=1,
        state=CallerState.REGISTERED,
        certificate_sha256=bytes(32),
        system=SYSTEM,
        user_roles=frozenset({UserRole.IMPORT_SUPPLIER}),
        user_ids=frozenset({SUPPLIER}),
        grants=grants
        or (
            Grant(operation="sign", key_class="command-signing"),
            Grant(operation="sign", key_class="xml-signing"),
        ),
    )


def pre_command_request(
    request_id: str = "r1", *, counter: int = 1000, payload: bytes = b"", key_id: KeyId = SUPPLIER_KEY
) -> Request:
    """A Pre-Command 7.2 of the supplier."""
    return Request(
        request_id=RequestId(request_id),
        key_id=key_id,
        form=ContentForm.GBCS_PRE_COMMAND,
        payload=payload or precommands.ecs43(counter=counter),
        statement=Statement(service_reference_variant="7.2", user_id=str(SUPPLIER), user_role="IS"),
    )


def duis_request(request_id: str = "d1", *, counter: int = 1) -> Request:
    """A Read Inventory of the supplier."""
    return Request(
        request_id=RequestId(request_id),
        key_id=XML_KEY,
        form=ContentForm.DUIS_DOCUMENT,
        payload=duis_documents.request(originator=str(SUPPLIER), counter=counter),
        statement=Statement(service_reference_variant="8.2", user_id=str(SUPPLIER), user_role="IS"),
    )


def malformed_request(request_id: str = "m1") -> Request:
    """Not a Pre-Command."""
    return replace(pre_command_request(request_id), payload=b"\xdfnot a Pre-Command")


@dataclass
class StepClock:
    """A second passes at each reading."""

    at: int = 1_800_000_000_000_000_000

    def now(self) -> Instant:
        self.at += 1_000_000_000
        return Instant(UnixNanoseconds(self.at), "synchronised")


@dataclass
class RegistryKeys:
    """Key records in a dictionary; `moves` are applied one at each reading, as if someone changed the registry."""

    records: dict[KeyId, KeyRecord]
    generation: int = 1
    moves: list[Callable[["RegistryKeys"], None]] = field(default_factory=list)
    class_moves: list[Callable[["RegistryKeys"], None]] = field(default_factory=list)
    asked: list[frozenset[KeyId]] = field(default_factory=list)

    async def keys(self, key_ids: Collection[KeyId]) -> KeyView:
        self.asked.append(frozenset(key_ids))
        view = KeyView(self.generation, {k: self.records[k] for k in key_ids if k in self.records})
        if self.moves:
            self.moves.pop(0)(self)
        return view

    async def keys_of(self, system: SystemName) -> Sequence[KeyRecord]:
        return [one for _, one in sorted(self.records.items()) if one.system == system]

    async def keys_of_classes(self, key_classes: frozenset[str]) -> KeyView:
        found = {k: one for k, one in self.records.items() if one.key_class in key_classes}
        view = KeyView(self.generation, found)
        if self.class_moves:
            self.class_moves.pop(0)(self)
        return view

    async def caller(self, certificate_sha256: bytes) -> CallerRecord | None:
        return caller_record() if certificate_sha256 == bytes(32) else None

    def change(self, name: KeyId, state: KeyState) -> None:
        """A new generation in which the key has another state."""
        self.records[name] = replace(self.records[name], state=state)
        self.generation += 1


@dataclass
class SoftwareHsm:
    """Signs with keys in memory; `spoil` may change a signature, `fail` may fail a claim."""

    module: ModuleFacts
    private: Mapping[KeyId, ec.EllipticCurvePrivateKey] = field(default_factory=lambda: PRIVATE)
    signed: list[Claim] = field(default_factory=list)
    spoil: Callable[[bytes, Claim], bytes] = lambda signature, _: signature
    fail: Callable[[Claim], bool] = lambda _: False
    gone: bool = False

    def facts(self, module: ModuleName) -> ModuleFacts:
        if self.gone or module != self.module.name:
            raise Unavailable("the module is gone", rule="hsm/gone")
        return self.module

    async def sign(self, claims: Sequence[Claim]) -> Sequence[Produced | Failed]:
        return [self._one(claim) for claim in claims]

    def _one(self, claim: Claim) -> Produced | Failed:
        if self.fail(claim):
            return Failed(claim, OutcomeUnknown("the module fell silent", rule="hsm/silent"))
        self.signed.append(claim)
        case = claim.authorised.case
        der = self.private[case.key.key_id].sign(case.content.signed_bytes, ec.ECDSA(hashes.SHA256()))
        r, s = decode_dss_signature(der)
        return Produced(claim, self.spoil(r.to_bytes(32) + s.to_bytes(32), claim))


@dataclass
class ListLedger:
    """Claims against a registry, and records in a list."""

    registry: RegistryKeys
    clock: StepClock
    recorded: list[Checked | Failed | Refused | Observed] = field(default_factory=list)
    claimed: list[Claim] = field(default_factory=list)
    taken: dict[tuple[str, str, str], bytes] = field(default_factory=dict)
    on_record: Exception | None = None
    on_claim: Exception | None = None

    async def claim(self, batch: Sequence[Authorised]) -> Sequence[Claim | Refusal | Stale]:
        if self.on_claim:
            raise self.on_claim
        return [self._claim(one) for one in batch]

    def _claim(self, authorised: Authorised) -> Claim | Refusal | Stale:
        case = authorised.case
        if case.generation != self.registry.generation:
            return Stale()
        for promise in case.content.promises:
            if isinstance(promise, Once):
                place = (case.key.key_id, promise.scope, promise.value)
                if self.taken.setdefault(place, promise.digest) != promise.digest:
                    return Conflict("the counter was used for other bytes", rule="claim/once")
        claim = Claim(authorised, f"claim-{len(self.claimed)}", UnixNanoseconds(self.clock.at + 10**10))
        self.claimed.append(claim)
        return claim

    async def foresee(self, batch: Sequence[Authorised]) -> Sequence[Refusal | None]:
        return [None for _ in batch]

    async def record(self, batch: Sequence[Checked | Failed | Refused | Observed]) -> Sequence[Receipt]:
        if self.on_record:
            raise self.on_record
        first = len(self.recorded)
        self.recorded.extend(batch)
        return [
            Receipt(
                origin="test/log",
                leaf_index=first + n,
                leaf_hash=hashlib.sha256(str(first + n).encode()).digest(),
                recorded_at=UnixNanoseconds(self.clock.at),
            )
            for n in range(len(batch))
        ]


class Corridor:
    """Everything `Signer` needs, and the signer."""

    def __init__(self, *, caller: CallerRecord | None = None, sensitive: Collection[str] = ()) -> None:
        self.clock = StepClock()
        self.keys = RegistryKeys(
            {
                SUPPLIER_KEY: key_record(),
                XML_KEY: key_record(XML_KEY, "xml-signing", 135),
            }
        )
        self.hsm = SoftwareHsm(
            ModuleFacts(
                name=MODULE,
                standard="FIPS 140-2",
                level=3,
                certificate="0000",
                country="GB",
                worker_country="GB",
            )
        )
        self.ledger = ListLedger(self.keys, self.clock)
        self.policy = FakePolicy()
        self.profiles = Profiles(
            x509=default_profile(),
            gbcs=GbcsProfile(),
            duis=duis_documents.demo_profile(),
            log_origin="test/log",
        )
        self.gatherer = Gatherer(
            self.keys, self.hsm, self.clock, Environment.TEST, SupplyProfile(frozenset(sensitive))
        )
        self.principal = Principal(caller=caller or caller_record(), peer="ipv4:127.0.0.1:1")
        self.signer = Signer(self.gatherer, self.policy, self.ledger, self.hsm, self.clock, self.profiles)
