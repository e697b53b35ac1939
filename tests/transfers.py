"""Two deployments with a transfer of keys between them, on fakes: papers, signatures of everybody, movers in software."""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import orjson
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cryptosvc.core import dsse
from cryptosvc.core.acts.base import Made
from cryptosvc.core.acts.transfer_destination import proof_of
from cryptosvc.core.canonical import JsonValue, canonical
from cryptosvc.core.content import service_statement
from cryptosvc.core.custodian import CustodianRole
from cryptosvc.core.device_records import DeviceStoreRecord
from cryptosvc.core.handover import checks, notices
from cryptosvc.core.handover.claimed import emit
from cryptosvc.core.handover.notices import Freight
from cryptosvc.core.life import DAY, UnixSeconds
from cryptosvc.core.names import Environment, KeyId, SystemName
from cryptosvc.core.record import Because
from cryptosvc.core.registry import KeyRecord, Record
from cryptosvc.core.statement import Statement
from cryptosvc.core.transfer import papers
from cryptosvc.core.transfer.bodies import PMA as PMA_BODY
from cryptosvc.core.transfer.mechanism import Mechanism, OaepHash, Trust
from cryptosvc.core.transfer.papers import APPROVAL_TYPE, DECISION_TYPE, Approval, Conditions, Party, Plan
from cryptosvc.core.transfer.proof import (
    _SIGNED,
    answer_of_secret,
    answer_of_work,
    check_value,
    pair_of,
    proves_by_agreement,
)
from cryptosvc.core.transfer.record import TransferRecord
from cryptosvc.core.transfer.states import Step
from cryptosvc.flow.govern import Ended, Mover
from tests.fakes.promises import NOTHING, FakePromises
from tests.govern_stand import HANDS_IN, Stand
from tests.governance import NOW, Person, Room, person

TRANSFER = "move-1"
THERE, THEIR_ORIGIN = SystemName("dcc-next"), "next.test/log"
CUSTODIANS = ("ada", "ben", "cat", "dan", "eve")
PMA = ("pat", "pia", "pip")
QUORUM = ("ben", "cat", "dan")
KEYS = {"broker-1": "key-agreement", "command-1": "command-signing"}
STORAGE = {"epoch-1": "storage-wrapping", "binding-1": "storage-binding"}
MODULE_FACTS = {
    "firmware": "1",
    "manufacturer": "maker",
    "model": "module",
    "serial": "7",
    "assurance": "none",
    "assurance_level": "0",
    "oaep_hashes": "sha-256,sha-1",
}
VIEW = hashlib.sha256(b"the Sub-Committee has no objection").hexdigest()
ATTESTED = "the courier is accompanied"
ATTENDED: Mapping[str, JsonValue] = {
    "witnesses": ["Wil Witness"],
    "attested": {ATTESTED: "Nia Named"},
}


def spki_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def pma_people() -> dict[str, Person]:
    return {name: person(name, CustodianRole.PMA_APPROVER) for name in PMA}


@dataclass
class End:
    """One deployment: its stand under dual control, its service key, and a module in software."""

    stand: Stand
    service: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )
    transport: rsa.RSAPrivateKey | None = None
    given: dict[str, str] = field(default_factory=dict)
    """What the movers say instead, for tests of what is refused."""
    promises: FakePromises = field(default_factory=FakePromises)

    def claims_of(self, key_id: str) -> str:
        """Digest of what a key was used for here, as a package names it."""
        return hashlib.sha256(emit(self.promises.taken.get(KeyId(key_id), NOTHING))).hexdigest()

    @property
    def spki(self) -> bytes:
        return spki_of(self.service)

    @property
    def party(self) -> Party:
        setting = self.stand.setting
        return Party(
            SystemName(setting.system), Environment.TEST, setting.origin, checks.fingerprint(self.spki)
        )

    def say(self, document: Mapping[str, JsonValue]) -> bytes:
        """A statement of the service."""
        return envelope(service_statement.PAYLOAD_TYPE, canonical(document), self.service)

    @property
    def record(self) -> TransferRecord:
        found = self.stand.ledger.records["transfer-record", TRANSFER]
        assert isinstance(found, TransferRecord)
        return found

    async def carry(self, step: str, **parameters: JsonValue) -> Ended:
        return await self.stand.carry(f"transfer.{step}", TRANSFER, QUORUM, **parameters)

    def movers(self) -> dict[str, Mover]:
        return {
            "transfer.offer": self._offered,
            "transfer.export": self._exported,
            "transfer.import": self._imported,
            "transfer.dispose": self._disposed,
            "transfer.decline": self._declined,
        }

    async def _offered(self, _: Statement, __: Mapping[tuple[str, str], Record]) -> Made:
        self.transport = rsa.generate_private_key(public_exponent=65537, key_size=3072)
        public = self.transport.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return self._made(MODULE_FACTS | {"transport": public.hex()})

    async def _exported(self, statement: Statement, _: Mapping[tuple[str, str], Record]) -> Made:
        keys = scope_keys(statement)
        blobs = {f"blob:{name}": hashlib.sha256(name.encode()).hexdigest() for name in keys}
        checks_of = {
            f"check:{name}": check_value(CHALLENGE, worked(name)) for name in keys if name in STORAGE
        }
        return self._made(
            {"trust": "none", "oaep_hash": "sha-256", "carrier": "ca" * 32, **blobs, **checks_of}
        )

    async def _imported(self, statement: Statement, _: Mapping[tuple[str, str], Record]) -> Made:
        document = orjson.loads(dsse.parse(bytes.fromhex(str(statement.parameters["package"]))).payload)
        package = notices.package_from_document(document)
        proofs = {
            f"proof:{one.record.key_id}": (
                f"{CHALLENGE.hex()}:{worked(one.record.key_id).hex()}"
                if one.check
                else proof(private_of(one.record), one.record)
            )
            for one in package.keys
        }
        claims = {f"claims:{one.record.key_id}": one.claims for one in package.keys}
        self.transport = None
        return self._made({**proofs, **claims, "transport_left": "0"})

    async def _disposed(self, statement: Statement, _: Mapping[tuple[str, str], Record]) -> Made:
        return self._made({"objects_left": "0"})

    async def _declined(self, _: Statement, __: Mapping[tuple[str, str], Record]) -> Made:
        self.transport = None
        return self._made({"transport_left": "0"})

    def _made(self, facts: Mapping[str, str]) -> Made:
        said = {name: value for name, value in {**facts, **self.given}.items() if value}
        return Made(b"", tuple(sorted(said.items())))


CHALLENGE = bytes(32)


def worked(key_id: str) -> bytes:
    """What the symmetric key of this name answers, in software."""
    return answer_of_work(TRANSFER, key_id, hashlib.sha256(key_id.encode()).digest())


_PRIVATE: dict[bytes, ec.EllipticCurvePrivateKey] = {}


def private_of(key: KeyRecord) -> ec.EllipticCurvePrivateKey:
    return _PRIVATE[key.public_point]


def proof(private: ec.EllipticCurvePrivateKey, key: KeyRecord, transfer: str = TRANSFER) -> str:
    challenge = secrets.token_bytes(32)
    if proves_by_agreement(key.key_class):
        secret = private.exchange(ec.ECDH(), pair_of(challenge).public_key())
        answer = answer_of_secret(transfer, key.key_id, secret)
    else:
        message = b"\0".join((_SIGNED, transfer.encode(), key.key_id.encode(), challenge))
        r, s = decode_dss_signature(private.sign(message, ec.ECDSA(hashes.SHA256())))
        answer = r.to_bytes(32) + s.to_bytes(32)
    return f"{challenge.hex()}:{answer.hex()}"


def envelope(payload_type: str, payload: bytes, *signers: ec.EllipticCurvePrivateKey) -> bytes:
    calls = {
        dsse.key_id(spki_of(one)): (lambda octets, one=one: one.sign(octets, ec.ECDSA(hashes.SHA256())))
        for one in signers
    }
    return dsse.emit(dsse.sign(payload_type, payload, calls))


def scope_keys(statement: Statement) -> list[str]:
    scope = statement.parameters["scope"]
    assert isinstance(scope, Mapping)
    keys = scope["keys"]
    assert isinstance(keys, list)
    return [str(one) for one in keys]


@dataclass
class Pair:
    """Source and destination, and the SMKI PMA, whose keys both have registered."""

    source: End
    destination: End
    pma: Mapping[str, Person]
    sent: bytes = b""
    keys: Mapping[str, str] = field(default_factory=lambda: KEYS)

    # What is signed

    def plan(self, **changes: object) -> Plan:
        offer = self.destination.record.offer
        made = Plan(
            transfer_id=TRANSFER,
            offer=checks.offer_digest(offer),
            source=self.source.party,
            destination=offer.party,
            keys=tuple(
                papers.PlannedKey(
                    key_id=name,
                    key_class=key.key_class,
                    role=None if key.role is None else int(key.role),
                    public_point=key.public_point,
                    certificate=key.certificate,
                )
                for name in sorted(self.keys)
                for key in [self.source.stand.key(name)]
            ),
            reason="another provider runs the service from May (G2.22F)",
            mechanism=Mechanism(OaepHash.SHA_256, Trust.NONE),
            disposition=papers.DESTROY,
            disposition_seconds=7 * DAY,
            committee_view=VIEW,
            may_move_on=False,
            body=PMA_BODY,
        )
        return replace(made, **changes)  # type: ignore[arg-type]  # a test's keywords

    def conditions(self, **changes: object) -> Conditions:
        made = Conditions(
            not_before=NOW,
            not_after=UnixSeconds(NOW + 10 * DAY),
            transport_key=checks.fingerprint(self.destination.record.offer.transport),
            source_people=3,
            destination_people=3,
            assurance_level=0,
            attempts=2,
            witnesses=1,
            attested=(ATTESTED,),
        )
        return replace(made, **changes)  # type: ignore[arg-type]  # a test's keywords

    def approval(self, plan: Plan, **changes: object) -> Approval:
        offer = self.destination.record.offer
        made = Approval(
            transfer_id=TRANSFER,
            plan=checks.plan_digest(plan),
            offer=checks.offer_digest(offer),
            mechanism=plan.mechanism,
            committee_view=plan.committee_view,
            disposition=plan.disposition,
            disposition_seconds=plan.disposition_seconds,
            conditions=self.conditions(),
        )
        return replace(made, **changes)  # type: ignore[arg-type]  # a test's keywords

    def signed(self, approval: Approval, *names: str) -> bytes:
        return self.by_pma(APPROVAL_TYPE, papers.approval_document(approval), *names)

    def by_pma(self, kind: str, document: Mapping[str, JsonValue], *names: str) -> bytes:
        return envelope(kind, canonical(document), *(self.pma[one].key for one in names or ("pat", "pia")))

    def decision(self, *names: str) -> bytes:
        plan = self.source.record.plan
        assert plan is not None
        document = papers.decision_document(TRANSFER, checks.plan_digest(plan))
        return self.by_pma(DECISION_TYPE, document, *names)

    def package(self, **changes: object) -> bytes:
        """What the source's service signs once the export is in its log."""
        record = self.source.record
        facts = dict(record.facts)
        assert record.plan is not None
        at = record.when(Step.EXPORT)
        assert at is not None
        made = notices.Package(
            plan=record.plan,
            approval=self.sent.decode(),
            keys=tuple(
                notices.PackedKey(
                    record=self.source.stand.key(one.key_id),
                    blob=facts[f"blob:{one.key_id}"],
                    claims=self.source.claims_of(one.key_id),
                    check=facts.get(f"check:{one.key_id}", ""),
                )
                for one in record.plan.keys
            ),
            carrier=facts["carrier"],
            trust=Trust(facts["trust"]),
            exported_at=at,
        )
        return self.source.say(notices.package_document(replace(made, **changes)))  # type: ignore[arg-type]  # a test's keywords

    def receipt(self, **changes: object) -> bytes:
        """What the destination's service signs once the import is in its log."""
        record = self.destination.record
        at = record.when(Step.IMPORT)
        assert at is not None
        assert record.plan is not None
        made = notices.Receipt(
            transfer_id=TRANSFER,
            party=self.destination.party,
            package=record.package,
            proofs=tuple(proof_of(dict(record.facts), one.key_id) for one in record.plan.keys),
            imported_at=at,
        )
        return self.destination.say(notices.receipt_document(replace(made, **changes)))  # type: ignore[arg-type]  # a test's keywords

    def not_imported(self, **changes: object) -> bytes:
        made = notices.NotImported(
            transfer_id=TRANSFER,
            party=self.destination.party,
            offer=checks.offer_digest(self.destination.record.offer),
            declined_at=NOW,
        )
        return self.destination.say(notices.not_imported_document(replace(made, **changes)))  # type: ignore[arg-type]  # a test's keywords

    # The steps

    async def offered(self) -> "Pair":
        await self.destination.carry(
            "offer",
            module="soft",
            service_key=checks.fingerprint(self.destination.spki),
            complies="audited against Section G in March",
            affiliation="no provider of either system is affiliated with the other's",
            valid_until=NOW + 20 * DAY,
        )
        return self

    def proposal(self, plan: Plan | None = None) -> dict[str, JsonValue]:
        document = papers.plan_document(self.plan() if plan is None else plan)
        return {
            "offer": self.destination.say(papers.offer_document(self.destination.record.offer)).hex(),
            "destination_key": self.destination.spki.hex(),
            "plan": canonical(document).hex(),
        }

    async def proposed(self) -> "Pair":
        await self.offered()
        await self.source.carry("propose", **self.proposal())
        return self

    def scope(self, *approvers: str) -> dict[str, JsonValue]:
        return {"keys": sorted(self.keys), "approved_by": sorted(approvers or ("pat", "pia"))}

    async def approved(self) -> "Pair":
        await self.proposed()
        assert self.source.record.plan is not None
        self.sent = self.signed(self.approval(self.source.record.plan))
        await self.source.carry("approve", approval=self.sent.hex(), scope=self.scope())
        return self

    async def exported(self) -> "Pair":
        await self.approved()
        await self.source.carry("export", **self.export())
        return self

    def export(self) -> dict[str, JsonValue]:
        return {"approval": self.sent.hex(), "scope": self.scope(), "attended": ATTENDED}

    def importing(self, package: bytes | None = None) -> dict[str, JsonValue]:
        return {
            "package": (self.package() if package is None else package).hex(),
            "source_key": self.source.spki.hex(),
            "scope": self.scope(),
            "attended": ATTENDED,
        }

    async def imported(self) -> "Pair":
        await self.exported()
        await self.destination.carry("import", **self.importing())
        return self

    def receiving(self, receipt: bytes | None = None) -> dict[str, JsonValue]:
        return {
            "receipt": (self.receipt() if receipt is None else receipt).hex(),
            "destination_key": self.destination.spki.hex(),
            "package": self.destination.record.package,
        }

    async def receipted(self) -> "Pair":
        await self.imported()
        await self.source.carry("receipt", **self.receiving())
        return self


async def two_ends(keys: Mapping[str, str] = KEYS) -> Pair:
    """Two deployments, the source with an active key of each class in `keys`, both with the SMKI PMA's keys."""
    pma = pma_people()
    here = Stand(room=Room(people={name: person(name) for name in CUSTODIANS} | pma))
    there = Stand(
        room=Room(
            people={name: person(name, system=THERE) for name in CUSTODIANS}
            | {name: Person(replace(one.record, system=THERE), one.key) for name, one in pma.items()},
            system=THERE,
            origin=THEIR_ORIGIN,
        )
    )
    there.setting = replace(there.setting, system=THERE, origin=THEIR_ORIGIN)
    source, destination = End(here), End(there)
    for end in (source, destination):
        await end.stand.begin()
        end.stand.governor = end.stand.another(movers=end.movers())
    for name, key_class in keys.items():
        await here.ordered(name, key_class)
        await here.carry("key.activate", name)
        key = here.key(name)
        if key.public_point:
            _PRIVATE[key.public_point] = here.vault.held[key.module, key.label, key.object_id]
    return Pair(source, destination, pma, keys=keys)


async def executed(end: End, proposal: str) -> Ended:
    """Carry an approved proposal out."""
    return await end.stand.governor.execute(HANDS_IN, proposal)


async def specimen() -> TransferRecord:
    """A record of a transfer that has gone as far as it can at its source."""
    pair = await (await two_ends()).receipted()
    return pair.source.record


ROWS = 3
FREIGHT = Freight(rows=ROWS, chunks=1, last="ab" * 32)


async def filled(pair: Pair, *needed: str) -> None:
    """A test's own hand: the source has device keys under these storage keys."""
    record = DeviceStoreRecord(
        version=1,
        system=SystemName(pair.source.stand.setting.system),
        root=b"r" * 32,
        keys=ROWS,
        needed=tuple((name, ROWS) for name in sorted(needed)),
    )
    await pair.source.stand.keys.change([record], Because("init", ""))
