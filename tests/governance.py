"""Custodians, statements and signatures for tests of dual control."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import count

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cryptosvc.core import dsse
from cryptosvc.core import statement as statements
from cryptosvc.core.acts.table import act
from cryptosvc.core.asset import IDENTITY, ModuleRecord
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.custodian import CustodianRecord, CustodianRole, CustodianState, Privilege
from cryptosvc.core.custody import Rules
from cryptosvc.core.device_records import (
    DeviceSourceRecord,
    DeviceStoreRecord,
    DeviceWorkRecord,
    SourceState,
    WorkKind,
    WorkState,
)
from cryptosvc.core.life import DAY, Asset, UnixSeconds
from cryptosvc.core.names import Environment, ModuleName, SystemName
from cryptosvc.core.proposal import Endorsement, ProposalRecord, ProposalState
from cryptosvc.core.quorum import Governance, QuorumRow, withdrawal_payload
from cryptosvc.core.statement import STATEMENT_TYPE, WITHDRAWAL_TYPE, Statement

SYSTEM = SystemName("dcc-test")
ORIGIN = "example.test/log"
POLICY_DIGEST = "ab" * 32
NOW = UnixSeconds(1_800_000_000)
GOVERNANCE = Governance(
    rows=(
        QuorumRow("key.suspend", "*", 1, frozenset({"key-custodian", "security-officer"})),
        QuorumRow("key.compromise", "*", 1, frozenset({"key-custodian", "security-officer"})),
        QuorumRow("key.*", "*", 2, frozenset({"key-custodian"})),
        QuorumRow("*", "*", 2, frozenset({"key-custodian", "security-officer"})),
    ),
    custody=Rules(),
    ecos_service_live=None,
    longest_seconds=14 * DAY,
)
_nonces = count(1)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with a signing key and a record."""

    record: CustodianRecord
    key: ec.EllipticCurvePrivateKey

    def sign(self, payload_type: str, payload: bytes) -> bytes:
        """A DSSE envelope with this person's signature."""
        key_id = dsse.key_id(self.record.key)
        signer = {key_id: lambda octets: self.key.sign(octets, ec.ECDSA(hashes.SHA256()))}
        return dsse.emit(dsse.sign(payload_type, payload, signer))

    def endorse(self, statement: Statement) -> bytes:
        """An approval."""
        return self.sign(STATEMENT_TYPE, statements.emit(statement))

    def withdraw(self, proposal_id: str, reason: str) -> bytes:
        """A withdrawal."""
        return self.sign(WITHDRAWAL_TYPE, withdrawal_payload(proposal_id, reason))


def person(name: str, *roles: CustodianRole, system: SystemName = SYSTEM, at: UnixSeconds = NOW) -> Person:
    """Somebody who may approve: screened, cleared, checked and privileged."""
    key = ec.generate_private_key(ec.SECP256R1())
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    record = CustodianRecord(
        custodian_id=name,
        version=1,
        state=CustodianState.REGISTERED,
        system=system,
        person=f"person-{name}",
        name=name.title(),
        key=spki,
        certificate=b"",
        roles=frozenset(roles or (CustodianRole.KEY_CUSTODIAN,)),
        in_united_kingdom=True,
        screening_standard="BS 7858:2019",
        screened_on=UnixSeconds(at - 300 * DAY),
        clearance="SC",
        clearance_reviewed_on=UnixSeconds(at - 30 * DAY),
        security_check_on=UnixSeconds(at - 300 * DAY),
        privileges=(Privilege(system, UnixSeconds(at - 300 * DAY), None),),
    )
    return Person(record, key)


@dataclass(slots=True)
class Room:
    """A few custodians and the deployment their statements are for."""

    people: Mapping[str, Person] = field(
        default_factory=lambda: {name: person(name) for name in ("ada", "ben", "cat", "dan", "eve")}
    )
    system: SystemName = SYSTEM
    environment: Environment = Environment.TEST
    origin: str = ORIGIN
    policy_digest: str = POLICY_DIGEST
    now: UnixSeconds = NOW

    def statement(
        self, name: str, subject: str, version: int, by: str = "ada", **parameters: JsonValue
    ) -> Statement:
        """A statement of an act, open for a day."""
        return Statement(
            act=name,
            subject=subject,
            subject_version=version,
            parameters=parameters,
            clause=act(name).clause,
            reason="as rehearsed",
            system=self.system,
            environment=self.environment,
            origin=self.origin,
            policy_digest=self.policy_digest,
            proposed_by=by,
            proposed_at=self.now,
            expires_at=UnixSeconds(self.now + DAY),
            nonce=f"{next(_nonces):032x}",
        )


CUSTODIAN = person("ada").record
_STATEMENT = Room().statement("key.suspend", "key-1", 1)
PROPOSAL = ProposalRecord(
    proposal_id=statements.proposal_id(_STATEMENT),
    version=1,
    state=ProposalState.OPEN,
    statement=_STATEMENT,
    endorsements=(Endorsement("ada", dsse.key_id(CUSTODIAN.key), b"\x30", NOW),),
)
MODULE = ModuleRecord(
    module=ModuleName("soft"),
    version=1,
    system=SYSTEM,
    asset=Asset(label="token", classification="secret", responsible="Ada"),
    identity=tuple((name, "as reported") for name in sorted(IDENTITY)),
    assurance="none",
)


DEVICE_STORE = DeviceStoreRecord(
    version=1, system=SYSTEM, root=bytes(32), keys=2, needed=(("binding-1", 2), ("epoch-1", 2))
)
DEVICE_SOURCE = DeviceSourceRecord(
    source_id="maker", version=1, state=SourceState.REGISTERED, system=SYSTEM, key=b"\x30\x00"
)
DEVICE_WORK = DeviceWorkRecord(
    work_id="import-1",
    version=1,
    state=WorkState.APPROVED,
    system=SYSTEM,
    kind=WorkKind.IMPORT,
    subject="ab" * 32,
    source="maker",
    keys=2,
    on_bad_line="report",
    facts=(("transport", "transport-1"),),
)


def later(record: CustodianRecord, **changes: object) -> CustodianRecord:
    """The next version of a custodian record."""
    return replace(record, version=record.version + 1, **changes)  # type: ignore[arg-type]  # a test's keywords
