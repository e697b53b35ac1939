"""Acts on keys, carried out by processes that kill themselves (SIGKILL) at a chosen step. Test-only entry.

    python -m tests.killed_acts CONFIG            every act at every step, each in a process of its own; then ends them

CONFIG is that of a deployment made by `tests.governed.founded`. The store and the module are real, and what is wrapped
around them does nothing but end the process. Prints a JSON object: how each process ended, and what `finish` came to.
"""

import asyncio
import os
import signal
import sys
import time
import traceback
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from cryptosvc.adapters.clock import SystemClock
from cryptosvc.adapters.hsm import objects
from cryptosvc.adapters.hsm.constants import Cka, Cko
from cryptosvc.adapters.hsm.cryptoki import Functions, number
from cryptosvc.adapters.hsm.hsm import Pkcs11Hsm
from cryptosvc.adapters.hsm.provision import Provisioner
from cryptosvc.adapters.hsm.vault import Pkcs11Vault
from cryptosvc.config.settings import read_settings
from cryptosvc.core import statement as statements
from cryptosvc.core.acts.base import Made
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.case import Principal
from cryptosvc.core.custodian import CustodianRecord
from cryptosvc.core.keyclass import ceiling
from cryptosvc.core.life import UnixSeconds
from cryptosvc.core.registry import KeyRecord
from cryptosvc.flow import reconcile
from cryptosvc.flow.govern import Governor
from cryptosvc.flow.reconcile import Reconciler
from cryptosvc.wiring import modules, review, stores, worker
from cryptosvc.wiring.reconciling import reconciler
from tests.governance import Person, Room
from tests.mortal_service import Beside, Reaper

RECORDS = ("executing-before-commit", "executing-after-commit", "done-before-commit", "done-after-commit")
STEPS = {
    "key.generate": (*RECORDS, "begins", "only-public", "only-private", "made", "answered"),
    "key.register": (*RECORDS, "answered"),
    "key.destroy": (*RECORDS, "begins", "half-destroyed", "destroyed", "answered"),
}
ASKED_CLASS = "command-signing"
ASKED: dict[str, JsonValue] = {
    "class": ASKED_CLASS,
    "module": "softhsm",
    "classification": "secret",
    "responsible": "Ada",
}
APPROVERS = ("ben", "cat", "dan")
_DONE = b'"kind":"proposal-record"'


def key_of(act: str, step: str) -> str:
    """The key that a process dies over."""
    return f"{act.partition('.')[2]}-{step}"


class Commits(Beside):
    """A store whose process dies before or after the n-th change of a proposal is durable."""

    changes = 0

    def writing(self) -> AbstractContextManager[Any]:
        return self._writing()

    @contextmanager
    def _writing(self) -> Iterator[Any]:
        with self._inner.writing() as session:
            watched = _Watched(session, self._reaper)
            yield watched
            name = ""
            if watched.proposal:
                Commits.changes += 1
                name = {1: "executing", 2: "done"}.get(Commits.changes, "")
            self._reaper.at(f"{name}-before-commit")
        self._reaper.at(f"{name}-after-commit")


class _Watched(Beside):
    proposal = False

    def append(self, start: int, leaves: Sequence[Any]) -> Any:
        self.proposal = self.proposal or any(_DONE in leaf.entry for leaf in leaves)
        return self._inner.append(start, leaves)


class Armed(Reaper):
    """Ends this process at its step, once it is armed."""

    def __init__(self, step: str) -> None:
        super().__init__(step, Path())
        self.mine = step
        self.armed = False

    def at(self, step: str) -> None:
        if self.armed and step == self.mine:
            os.kill(os.getpid(), signal.SIGKILL)


def _mortal_vault(reaper: Armed) -> None:
    """Vault and token come by at their steps."""
    made_pair, destroyed, generated = Functions.generate_pair, Provisioner.destroy, Provisioner.generate

    def generate_pair(self: Functions, session: int, *rest: Any) -> tuple[int, int]:
        public, private = made_pair(self, session, *rest)
        if reaper.armed and reaper.mine in ("only-public", "only-private"):
            assert self.C_DestroyObject(session, private if reaper.mine == "only-public" else public) == 0
            os.kill(os.getpid(), signal.SIGKILL)
        reaper.at("made")
        return public, private

    def generate(self: Provisioner, *rest: Any) -> bytes:
        reaper.at("begins")
        return generated(self, *rest)

    def destroy(self: Provisioner, label: str, object_id: bytes) -> int:
        reaper.at("begins")
        if reaper.armed and reaper.mine == "half-destroyed":
            _die_between(self._library.functions, self._session, label, object_id)
        count = destroyed(self, label, object_id)
        reaper.at("destroyed")
        return count

    Functions.generate_pair = generate_pair  # type: ignore[method-assign]
    Provisioner.generate = generate  # type: ignore[method-assign,assignment]
    Provisioner.destroy = destroy  # type: ignore[method-assign]
    for name in ("generate", "adopt", "destroy"):
        setattr(Pkcs11Vault, name, _answering(getattr(Pkcs11Vault, name), reaper))


def _answering(call: Any, reaper: Armed) -> Any:
    async def answered(self: Pkcs11Vault, key: KeyRecord) -> Made:
        made: Made = await call(self, key)
        reaper.at("answered")
        return made

    return answered


def _die_between(functions: Any, session: int, label: str, object_id: bytes) -> None:
    """Destroy as the product does, and end this process when the first object is gone and the second is not."""
    first = functions.C_DestroyObject

    def dies(where: int, handle: int) -> int:
        assert functions.attribute(where, handle, Cka.CLASS) == number(Cko.PRIVATE_KEY)
        assert first(where, handle) == 0
        assert len(objects.matching(functions, session, label, object_id)) == 1
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    functions.C_DestroyObject = dies


@dataclass
class Bench:
    """A worker's governor and reconciler, and custodians who sign whatever they are given."""

    governor: Governor
    reconciler: Reconciler
    store: stores.Opened
    office: Principal
    room: Room

    async def approved(self, act: str, subject: str, **parameters: JsonValue) -> str:
        """Propose and approve; the proposal's id."""
        found = await self.store.registry.record(f"{act.partition('.')[0]}-record", subject)
        version = 0 if found is None else found.version
        statement = self.room.statement(act, subject, version, "ada", **parameters)
        octets = statements.emit(statement)
        await self.governor.propose(self.office, octets, self.room.people["ada"].endorse(statement))
        for name in APPROVERS:
            envelope = self.room.people[name].endorse(statement)
            await self.governor.approve(self.office, statements.proposal_id(statement), envelope)
        return statements.proposal_id(statement)

    async def subject(self, proposal_id: str) -> str:
        """What a proposal is about."""
        return (await self.governor.proposal(self.office, proposal_id)).statement.subject

    async def carry(self, act: str, subject: str, **parameters: JsonValue) -> None:
        """Propose, approve and carry out."""
        await self.governor.execute(self.office, await self.approved(act, subject, **parameters))


@asynccontextmanager
async def opened(config: Path) -> AsyncIterator[Bench]:
    """A bench in this process."""
    settings = read_settings(config)
    clock = SystemClock()
    hsm = Pkcs11Hsm(modules.module_configs(settings), clock, stores.lock_folder(settings))
    hsm.start()
    try:
        async with stores.opened(settings, hsm, clock, worker.scope(settings, f"p{os.getpid()}")) as store:
            service = await worker.service_principal(store)
            application, _, digest = worker.assemble(settings, hsm, clock, store, service)
            (office,) = [one for one in await store.registry.callers() if one.caller_id == "office"]
            room = Room(
                people=await _people(config.parent, store),
                system=settings.deployment.system,
                environment=settings.deployment.environment,
                origin=settings.log.origin,
                policy_digest=digest,
                now=UnixSeconds(int(time.time())),
            )
            yield Bench(
                application.governor,
                reconciler(settings, store, clock),
                store,
                Principal(caller=office, peer="ipv4:127.0.0.1:1"),
                room,
            )
    finally:
        hsm.close()


async def _people(folder: Path, store: stores.Opened) -> dict[str, Person]:
    found: dict[str, Person] = {}
    for one in await store.registry.of_kind("custodian-record"):
        assert isinstance(one, CustodianRecord)
        key = load_pem_private_key((folder / f"{one.custodian_id}.pem").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        found[one.custodian_id] = Person(one, key)
    return found


async def _die(config: Path, act: str, step: str) -> None:
    """Have a key at the point where the act is due, and die in it."""
    reaper = Armed(step)
    make = stores.open_store
    stores.open_store = lambda *asked: Commits(make(*asked), reaper)  # type: ignore[assignment,return-value]
    _mortal_vault(reaper)
    key_id = key_of(act, step)
    async with opened(config) as bench:
        parameters: dict[str, JsonValue] = {}
        if act == "key.register":
            settings = read_settings(config)
            (module,) = modules.module_configs(settings)
            with Provisioner(module, stores.lock_folder(settings)) as token:
                token.generate(key_id, b"\x77", ceiling(ASKED_CLASS).template)
            parameters = {**ASKED, "object_label": key_id, "object_id": "77"}
        else:
            await bench.carry("key.order", key_id, **ASKED)
        if act == "key.destroy":
            await bench.carry("key.generate", key_id)
        proposal = await bench.approved(act, key_id, **parameters)
        reaper.armed, Commits.changes = True, 0
        await bench.governor.execute(bench.office, proposal)


SURVIVED, FAILED = 17, 18


def die(config: Path, act: str, step: str) -> int:
    """Do it in a process of its own; how that ended, negative for a signal."""
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(_die(config, act, step))
        except BaseException:  # noqa: BLE001  # the child says why, and is no second parent
            traceback.print_exc()
            os._exit(FAILED)
        os._exit(SURVIVED)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


async def finish(config: Path) -> dict[str, Any]:
    """End what was left, as `cryptosvc reconcile --finish` does two minutes later."""
    async with opened(config) as bench:
        early = {one.state.value for one in await bench.reconciler.finish()}
        reconcile.SETTLED_SECONDS = 0
        endings = {
            await bench.subject(one.proposal_id): one.state.value for one in await bench.reconciler.finish()
        }
        again = await bench.reconciler.finish()
        found = [f"{one.kind.value} {one.subject}" for one in await bench.reconciler.compare()]
        # what was not done is done now, with its own approvals: nothing is in the way
        retried: dict[str, str] = {}
        for one in await bench.store.registry.of_kind("key-record"):
            assert isinstance(one, KeyRecord)
            if one.state.value == "ordered":
                await bench.carry("key.generate", one.key_id)
                after = await bench.store.registry.record("key-record", one.key_id)
                assert isinstance(after, KeyRecord)
                retried[one.key_id] = after.state.value
        left = [f"{one.kind.value} {one.subject}" for one in await bench.reconciler.compare()]
        states = {
            one.key_id: one.state.value
            for one in await bench.store.registry.of_kind("key-record")
            if isinstance(one, KeyRecord)
        }
    return {
        "states": states,
        "early": sorted(early),
        "endings": endings,
        "again": len(again),
        "differences": found,
        "retried": retried,
        "left": left,
    }


def main(config: Path) -> None:
    """Die at each step, then end what was left; one JSON object on standard output."""
    policies = review.load(read_settings(config).policy.folder)  # proved once, not in every process
    review.load = lambda _folder, _proven="": policies
    deaths = {key_of(act, step): die(config, act, step) for act, steps in STEPS.items() for step in steps}
    print(orjson.dumps({"deaths": deaths, **asyncio.run(finish(config))}).decode(), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
