"""The stage of a rehearsal: a fresh SoftHSM2 token, a fresh store, people with keys in memory, and what is given.

Everything lies in one private folder that is removed at the end. Policies, formats and software are those of the
deployment the ceremony is for; what is given is made first, by the same acts that a ceremony is made of.
"""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from cryptosvc.adapters.clock import SystemClock
from cryptosvc.adapters.hsm import softhsm
from cryptosvc.adapters.hsm.hsm import Pkcs11Hsm
from cryptosvc.config.provisioning import Provisioning
from cryptosvc.config.settings import LogSettings, ModuleSettings, Settings
from cryptosvc.core import dsse, first_request
from cryptosvc.core.ceremony.acts import Act
from cryptosvc.core.ceremony.entries import Present
from cryptosvc.core.ceremony.plan import Given
from cryptosvc.core.ceremony.rows import ActKind, Role, Thing
from cryptosvc.core.ceremony.script import Script
from cryptosvc.core.copies import FIELD, accounts
from cryptosvc.core.custodian import CustodianRecord, CustodianRole, CustodianState, Privilege
from cryptosvc.core.custody import Rules
from cryptosvc.core.keyclass import KEY_CLASSES, ceiling
from cryptosvc.core.life import DAY, NANOSECONDS, UnixSeconds
from cryptosvc.core.names import CallerId, ContentKind, Environment, Operation, SystemName
from cryptosvc.core.proposal import ProposalRecord
from cryptosvc.core.registry import CallerRecord, CallerState, Grant, KeyRecord, KeyState, Record
from cryptosvc.wiring import modules, provision, stores, worker
from cryptosvc.wiring.ceremony.acts import OfficeActs
from cryptosvc.wiring.ceremony.office import DEFAULT_CALLER, Office, governance
from cryptosvc.wiring.ceremony.outside import Outside
from cryptosvc.wiring.ceremony.people import HeldKey, Room
from cryptosvc.wiring.ceremony.shelf import FILES, PAPERS, Shelf

_CEREMONY = "0" * 64
"""What stands for a transcript while the stage is set: nothing of it is part of the ceremony."""
_MODULE_FOLDER = "token"
_ISSUER = "issuer_certificate"
_ENTITY = "00-00-00-00-00-00-00-01"
_REGISTERED = {
    Role.CUSTODIAN: CustodianRole.KEY_CUSTODIAN,
    Role.ADMINISTRATOR: CustodianRole.CEREMONY_ADMINISTRATOR,
    Role.SECURITY_OFFICER: CustodianRole.SECURITY_OFFICER,
}
_ALREADY = frozenset({KeyState.ORDERED, KeyState.PRE_ACTIVATION})


@contextmanager
def private_folder() -> Iterator[Path]:
    """A folder only its owner can enter, gone at the end."""
    with tempfile.TemporaryDirectory(prefix="cryptosvc-rehearsal-") as folder:
        yield Path(folder)


def staged(settings: Settings, script: Script, folder: Path) -> Settings:
    """The deployment's settings on a stage: its policies and formats, a token and a store of its own."""
    made = softhsm.make_token(folder / _MODULE_FOLDER, "rehearsal")
    module = ModuleSettings(
        name=script.module,
        library=Path(made.library),
        token_label=made.reported.label,
        token_serial=made.reported.serial,
        pin_file=made.pin_file,
        manufacturer=made.reported.manufacturer,
        model=made.reported.model,
        firmware=made.reported.firmware,
        country=settings.deployment.worker_country,
    )
    deployment = settings.deployment.model_copy(
        update={"system": script.system, "environment": Environment.TEST}
    )
    store = settings.store.model_copy(
        update={"url": f"sqlite:///{folder / 'store.db'}", "anchor": folder / "head.anchor"}
    )
    log = LogSettings(origin=settings.log.origin)
    return settings.model_copy(
        update={"deployment": deployment, "store": store, "log": log, "modules": (module,)}
    )


def so_pin_file(folder: Path) -> Path:
    """Where the Security Officer's PIN of the stage's token is."""
    return folder / _MODULE_FOLDER / "so-pin"


async def provisioned(settings: Settings) -> None:
    """Make the store, the log and their keys on the stage."""
    await provision.provisioned(settings, Provisioning(), lambda _what, _done, _total: None)


def listing(office: Office, outside: Outside) -> Office:
    """The deployment on the stage, whose policies list the issuer that is played there as they list the real one."""
    rules = office.setting.governance
    digest = hashlib.sha256(outside.issuing_certificate).hexdigest()
    listed = replace(rules, foreign_issuers=rules.foreign_issuers | {digest})
    return replace(office, setting=replace(office.setting, governance=listed))


async def peopled(settings: Settings, room: Room) -> None:
    """Register everyone, and the caller of the ceremony."""
    clock = SystemClock()
    configs = modules.module_configs(settings)
    hsm = Pkcs11Hsm(configs, clock, stores.lock_folder(settings))
    hsm.start()
    try:
        system = SystemName(settings.deployment.system)
        rules = governance(settings).custody
        records: list[Record] = [caller(system), *register(room, system, rules, now(clock))]
        async with stores.opened(settings, hsm, clock, worker.scope(settings, "rehearsal")) as store:
            await store.registry.change(records)
    finally:
        hsm.close()


def cast(script: Script) -> Room:
    """As many people as the script requires, each with a key in memory."""
    present, keys = [], {}
    for role, number in script.people:
        for at in range(1, number + 1):
            name = f"rehearsal-{role.value}-{at}"
            keys[name] = HeldKey(ec.generate_private_key(ec.SECP256R1()))
            present.append(Present(person=name, roles=(role,), key_id=dsse.key_id(keys[name].spki)))
    return Room(tuple(present), keys)


def register(room: Room, system: SystemName, rules: Rules, at: UnixSeconds) -> tuple[CustodianRecord, ...]:
    """Everyone on the stage as the custodian register would have them."""
    records = []
    for one in room.present:
        roles = frozenset(_REGISTERED.get(role, CustodianRole.WITNESS) for role in one.roles)
        records.append(
            CustodianRecord(
                custodian_id=one.person,
                version=1,
                state=CustodianState.REGISTERED,
                system=system,
                person=one.person,
                name=one.person,
                key=room.keys[one.person].spki,
                certificate=b"",
                roles=roles,
                in_united_kingdom=True,
                screening_standard=max(rules.screening_standards),
                screened_on=UnixSeconds(at - DAY),
                clearance="rehearsal",
                clearance_reviewed_on=UnixSeconds(at - DAY),
                security_check_on=UnixSeconds(at - DAY),
                privileges=(Privilege(system, UnixSeconds(at - DAY), None),),
            )
        )
    return tuple(records)


def caller(system: SystemName) -> CallerRecord:
    """The caller in whose name a ceremony asks: it may govern, and ask every class to sign what the class may."""
    grants = [
        Grant(operation=Operation.SIGN.value, key_class=row.name)
        for row in KEY_CLASSES.values()
        if row.roles and any(operation is Operation.SIGN for operation, _ in row.ceiling)
    ]
    grants.append(Grant(operation=Operation.GOVERN.value, key_class=""))
    return CallerRecord(
        caller_id=CallerId(DEFAULT_CALLER),
        version=1,
        state=CallerState.REGISTERED,
        certificate_sha256=bytes(31) + b"\x01",  # no certificate leads to it
        system=system,
        user_roles=frozenset(),
        user_ids=frozenset(),
        grants=tuple(grants),
    )


@dataclass(frozen=True, slots=True)
class Stage:
    """Makes what a script takes as given, and plays the issuer of another system."""

    office: Office
    acts: OfficeActs
    shelf: Shelf
    outside: Outside
    script: Script
    numbers: list[int] = field(default_factory=list)

    async def set(self) -> None:
        """Make every given thing, OCA keys first since they issue for the others."""
        order = {"root-oca": 0, "issuing-oca": 1}
        keys = [one for one in self.script.given if one.thing is Thing.KEY]
        for one in sorted(keys, key=lambda one: order.get(one.key_class, 2)):
            await self._key(one)
        for one in self.script.given:
            await self._paper(one)

    async def deliver(self, key_id: str, file: str) -> None:
        """Issue the certificate that a key's latest request asks for, into a file; and the issuer's where it is asked for."""
        for act in self.script.acts:
            beside = act.text(_ISSUER) if act.has(_ISSUER) and act.text("file") == file else ""
            if beside and not self.shelf.has(FILES, beside):
                self.shelf.put(FILES, beside, self.outside.issuing_certificate)
        if self.shelf.has(FILES, file):
            return
        key = await self.office.key(key_id)
        assert key is not None  # the plan has it made by now
        request = await self._request_of(key)
        days = self._days(key_id)
        self.shelf.put(FILES, file, self.outside.issue(request, days, self._now()))

    async def _request_of(self, key: KeyRecord) -> bytes:
        """The latest that was signed in the ceremony, or what a key that derives signed while it was made."""
        if not first_request.is_due(key):
            requests = [act.text("request") for act in self.script.acts if _asks(act, str(key.key_id))]
            return self.shelf.get(PAPERS, requests[-1] if requests else f"{key.key_id}.given-request")
        made = [
            dict(one.outcome)
            for one in await self.office.store.registry.of_kind("proposal-record")
            if isinstance(one, ProposalRecord)
            and (one.statement.act, one.statement.subject) == ("key.generate", key.key_id)
        ]
        return bytes.fromhex(made[-1]["certification_request"])

    def _copies(self, key_id: str) -> list[str]:
        """Copies of a given key of which the script says what became of them."""
        for act in self.script.acts:
            if act.kind is ActKind.DESTROY and act.text("key") == key_id and act.has(FIELD):
                return sorted(accounts(act.text(FIELD)))
        return []

    def _days(self, key_id: str) -> int:
        for act in self.script.acts:
            if act.kind is ActKind.ATTACH_CERTIFICATE and act.text("key") == key_id:
                wanted = dict(act.expected).get("validity_days")
                if isinstance(wanted, int):
                    return wanted
        return self.office.x509.organisation_days

    async def _key(self, one: Given) -> None:
        row, name = ceiling(one.key_class), one.name
        settings: dict[str, str | int] = {
            "key": name,
            "class": one.key_class,
            "label": name,
            "classification": "rehearsal",
            "responsible": "rehearsal",
        }
        if row.roles:
            settings["role"] = int(min(row.roles))
        if row.roles and one.key_class not in ("root-oca", "issuing-oca"):
            settings["eui64"] = _ENTITY
        await self._do(ActKind.GENERATE_KEY, settings)
        for copy in self._copies(name):
            said: dict[str, str | int] = {
                "key": name,
                "copy": copy,
                "place": "rehearsal",
                "evidence": f"{name}.{copy}",
            }
            await self._do(ActKind.BACK_UP, said)
        is_certified = row.permits(Operation.SIGN, ContentKind.CERTIFICATION_REQUEST)
        if is_certified and not (one.key_class == "root-oca" and one.state in _ALREADY):
            await self._certified(one)
        if one.state is not None and one.state not in _ALREADY:
            await self._brought(one)

    async def _certified(self, one: Given) -> None:
        name, certificate = one.name, f"{one.name}.given-certificate"
        if one.key_class == "root-oca":
            await self._do(ActKind.ACTIVATE, {"key": name})
            days = self.office.x509.root_days
            asked: dict[str, str | int] = {"key": name, "certificate": certificate, "common_name": name}
            await self._do(ActKind.SELF_SIGN_CERTIFICATE, {**asked, "days": days})
            return
        request = f"{name}.given-request"
        await self._do(ActKind.CERTIFICATION_REQUEST, {"key": name, "request": request, "common_name": name})
        roots = [given.name for given in self.script.given if given.key_class == "root-oca"]
        if one.key_class == "issuing-oca" and roots:
            asked = {"issuer": roots[0], "subject": name, "request": request, "certificate": certificate}
            days = self.office.x509.issuing_days
            await self._do(ActKind.SIGN_CERTIFICATE, {**asked, "profile": "oca-certificate", "days": days})
            return
        if one.key_class == "issuing-oca":
            issued = self.outside.issue_oca(self.shelf.get(PAPERS, request), self._now())
            self.shelf.put(FILES, f"{name}.given-file", issued)
        await self._do(
            ActKind.ATTACH_CERTIFICATE,
            {"key": name, "certificate": certificate, "file": f"{name}.given-file"},
        )

    async def _brought(self, one: Given) -> None:
        """Bring a key to the state it is given in."""
        if one.key_class != "root-oca":
            await self._do(ActKind.ACTIVATE, {"key": one.name})
        match one.state:
            case KeyState.SUSPENDED:
                await self._do(ActKind.SUSPEND, {"key": one.name})
            case KeyState.SPLIT:
                await self._do(ActKind.SPLIT_KEY, self._parts(one))
            case KeyState.DEACTIVATED:
                await self._do(ActKind.DEACTIVATE, {"key": one.name})
            case KeyState.COMPROMISED | KeyState.DESTROYED:
                await self._do(ActKind.COMPROMISE, {"key": one.name, "since": "1970-01-02T00:00:00Z"})
            case _:
                pass
        if one.state is KeyState.DESTROYED:
            await self._do(ActKind.DESTROY, {"key": one.name})

    def _parts(self, one: Given) -> dict[str, str | int]:
        """In how many parts a given key is: as many as there are part holders; of how many the ceremony says."""
        needed = [
            act.number_of("threshold")
            for act in self.script.acts
            if act.kind is ActKind.RECOMBINE_KEY and act.text("key") == one.name
        ]
        holders = dict(self.script.people).get(Role.PART_HOLDER, 0)
        threshold = needed[0] if needed else holders
        return {"key": one.name, "purpose": one.key_class, "threshold": threshold, "parts": holders}

    async def _paper(self, one: Given) -> None:
        if one.thing is Thing.REQUEST:
            await self._do(
                ActKind.CERTIFICATION_REQUEST, {"key": one.key, "request": one.name, "common_name": one.key}
            )
        if one.thing is Thing.LIST:
            await self._list(one.name)

    async def _list(self, name: str) -> None:
        for given in self.script.given:
            if given.key_class == "root-oca":
                await self._do(ActKind.SIGN_ARL, {"issuer": given.name, "list": name, "days": 30})
                return
            if given.key_class == "issuing-oca":
                await self._do(ActKind.SIGN_CRL, {"issuer": given.name, "list": name, "days": 1})
                return

    async def _do(self, kind: ActKind, settings: dict[str, str | int]) -> None:
        number = len(self.numbers)
        self.numbers.append(number)
        act = Act(number=number, kind=kind, settings=tuple(sorted(settings.items())), clause="G5.13(b)")
        await self.acts.perform(act, _CEREMONY)

    def _now(self) -> UnixSeconds:
        return now(self.office.clock)


def now(clock: SystemClock) -> UnixSeconds:
    """Seconds of the clock."""
    return UnixSeconds(clock.now().at // NANOSECONDS)


def _asks(act: Act, key_id: str) -> bool:
    return act.kind is ActKind.CERTIFICATION_REQUEST and act.text("key") == key_id
