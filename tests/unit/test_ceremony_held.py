"""A ceremony walked by flow/ceremony.py over small real parts: interrupted everywhere, resumed, stopped, refused."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from cryptosvc.core import dsse
from cryptosvc.core.ceremony import transcript as transcripts
from cryptosvc.core.ceremony import verdict
from cryptosvc.core.ceremony.acts import Act
from cryptosvc.core.ceremony.entries import Done, Footer, Mode, Outcome, Present
from cryptosvc.core.ceremony.rows import ActKind, Role, Thing
from cryptosvc.core.ceremony.script import Script
from cryptosvc.core.ceremony.transcript import Transcript
from cryptosvc.core.errors import Conflict, Corrupt, CryptosvcError, Forbidden, Malformed, Unavailable
from cryptosvc.core.names import Environment
from cryptosvc.flow.ceremony import Ceremony, Found, Identity
from cryptosvc.flow.ports import Instant
from tests import ceremonies

PLAN = ceremonies.script("issuing-oca")
THERE = ceremonies.people(PLAN)
SHA256 = ceremonies.sha("file")


class KilledError(Exception):
    """The process is gone: nothing of it runs any more."""


@dataclass
class World:
    """What outlives a process: transcript, results, the log's size."""

    lines: list[bytes] = field(default_factory=list)
    results: dict[int, Found] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    size: int = 10
    now: int = 1_800_000_000
    performed: list[int] = field(default_factory=list)


class Part:
    """Acts, scene, pages, desk and clock of one process, which can be killed before any of its doings."""

    def __init__(self, world: World, kill_at: int = -1) -> None:
        self.world = world
        self.kill_at = kill_at
        self.doings = 0
        self.typed: list[str] = []
        self.refusing: dict[int, CryptosvcError] = {}
        self.lying: Mapping[str, object] = {}
        self.identity_found = Identity(
            environment=Environment.LIVE,
            system=PLAN.system,
            software_version="0.1.0",
            build_sha256=ceremonies.sha("build"),
            policy_digest=ceremonies.sha("policy"),
            modules=((("name", PLAN.module), ("serial", "1")),),
        )
        self.asked_again: list[str] = []

    def doing(self) -> None:
        self.doings += 1
        if self.doings == self.kill_at:
            raise KilledError

    # Acts

    async def require_ready(self, script: Script) -> None:
        del script

    async def exists(self, thing: Thing, name: str) -> bool:
        del thing
        return name in self.world.names

    async def perform(self, act: Act, ceremony: str) -> Found:
        assert len(ceremony) == 64
        self.doing()
        if act.number in self.refusing:
            raise self.refusing[act.number]
        facts = {name: list(value) if isinstance(value, tuple) else value for name, value in act.expected}
        found = Found(facts, {"result": ceremonies.sha(str(act.number))})
        self.world.results[act.number] = found
        self.world.performed.append(act.number)
        self.world.names.update(act.text(name) for name in act.row.makes)
        self.doing()
        return found

    async def reread(self, act: Act, ceremony: str) -> Found | None:
        assert len(ceremony) == 64
        found = self.world.results.get(act.number)
        return found if found is None else replace(found, facts={**found.facts, **self.lying})

    # Scene

    async def identity(self) -> Identity:
        return self.identity_found

    async def checkpoint(self) -> str:
        self.world.size += 1
        return ceremonies.note(self.world.size)

    # Pages

    def append(self, line: bytes) -> None:
        self.doing()
        self.world.lines.append(line)
        self.doing()

    def read(self) -> bytes:
        return b"".join(line + b"\n" for line in self.world.lines)

    # Desk

    def opened(self, transcript: Transcript, script: Script) -> None:
        del transcript, script

    def show(self, act: Act, acts: int) -> None:
        assert act.number <= acts

    def confirm(self, act: Act) -> tuple[str, str]:
        who = Role(act.text("role")) if act.kind is ActKind.ATTEST else Role.ADMINISTRATOR
        by = next(one.name for one in THERE if who in one.roles)
        return (self.typed.pop(0) if self.typed else act.confirmation), by

    def again(self, act: Act) -> None:
        self.asked_again.append(act.confirmation)

    def found(self, act: Act, done: Done) -> None:
        assert act.number == done.number

    def ended(self, transcript: Transcript) -> None:
        assert transcript.footer is not None

    # Signers

    def sign_all(self, payload_type: str, payload: bytes) -> dsse.Envelope:
        signers: dict[str, Callable[[bytes], bytes]] = {
            dsse.key_id(one.spki): lambda octets, one=one: one.key.sign(octets, ec.ECDSA(hashes.SHA256()))
            for one in THERE
        }
        return dsse.sign(payload_type, payload, signers)

    # Clock

    def now(self) -> Instant:
        self.world.now += 1
        return Instant(self.world.now * 1_000_000_000, "synchronised")


def present() -> tuple[Present, ...]:
    return tuple(one.present for one in THERE)


def ceremony(part: Part) -> Ceremony:
    return Ceremony(part, part, part, part, part, part)


async def begun(part: Part, plan: Script = PLAN) -> Transcript:
    return await ceremony(part).begin(plan, SHA256, Mode.REAL, present())


async def resumed(part: Part) -> Transcript:
    return await ceremony(part).resume(PLAN, SHA256, present(), "power returned", THERE[0].name)


def verified(part: Part) -> verdict.Verdict:
    log = verdict.LogKey(ceremonies.ORIGIN, ceremonies.spki_of(ceremonies.key("log")))
    return verdict.verify(part.read(), ceremonies.keys_of(THERE), log)


async def test_a_ceremony_is_held_from_the_first_act_to_the_signatures() -> None:
    part = Part(World())
    held = await begun(part)
    assert verified(part).outcome is Outcome.COMPLETED
    assert transcripts.emit(held) == part.read()
    assert part.world.performed == [act.number for act in PLAN.acts]


async def test_a_wrong_confirmation_is_asked_for_again_and_nothing_is_done() -> None:
    part = Part(World())
    part.typed = ["yes", "generate-key", "attest witnes", PLAN.acts[0].confirmation]
    await begun(part)
    assert part.asked_again == [PLAN.acts[0].confirmation] * 3
    assert part.world.performed == [act.number for act in PLAN.acts]


async def test_killed_before_any_of_its_doings_a_ceremony_is_resumed_and_every_act_is_done_once() -> None:
    whole = Part(World())
    await begun(whole)
    for kill_at in range(1, whole.doings + 1):
        part = Part(World(), kill_at)
        with pytest.raises(KilledError):
            await begun(part)
        after = Part(part.world)
        if not after.world.lines:
            await begun(after)
        elif (
            transcripts.parse(after.read()).envelope is not None
        ):  # killed after the signatures were on disk: it has ended
            with pytest.raises(Malformed, match="has ended"):
                await resumed(after)
        else:
            await resumed(after)
        assert verified(after).outcome is Outcome.COMPLETED, kill_at
        checkpoints = {act.number for act in PLAN.acts if act.kind is ActKind.CHECKPOINT}
        once = [number for number in after.world.performed if number not in checkpoints]
        assert once == [act.number for act in PLAN.acts if act.number not in checkpoints], kill_at


async def test_what_may_pass_leaves_it_open_and_a_refusal_stops_it_for_good() -> None:
    part = Part(World())
    part.refusing = {3: Unavailable("the module is away", rule="hsm/away")}
    with pytest.raises(Unavailable):
        await begun(part)
    assert transcripts.parse(part.read()).footer is None
    part.refusing = {3: Forbidden("a clearance `lapsed`\n", rule="custody/clearance")}
    with pytest.raises(Forbidden):
        await resumed(part)
    stopped = verified(part)
    assert (stopped.outcome, stopped.steps, stopped.interruptions) == (Outcome.STOPPED, 2, 1)
    footer = transcripts.parse(part.read()).footer
    assert isinstance(footer, Footer)
    assert footer.reason == "custody/clearance: a clearance  lapsed"
    with pytest.raises(Malformed, match="has ended"):
        await resumed(Part(part.world))


async def test_what_is_read_again_must_be_what_was_done_and_what_was_expected() -> None:
    part = Part(World())
    part.lying = {"state": "active"}
    with pytest.raises(Corrupt) as raised:
        await begun(part)
    assert raised.value.rule == "ceremony/reread"
    assert verified(part).outcome is Outcome.STOPPED
    interrupted = Part(World(), kill_at=2 + 6 * 2 + 4)
    with pytest.raises(KilledError):
        await begun(interrupted)
    after = Part(interrupted.world)
    after.lying = {"state": "suspended"}
    with pytest.raises(Corrupt) as raised:
        await resumed(after)
    assert raised.value.rule == "ceremony/expectation"


async def test_an_existing_name_stops_it_before_it_begins() -> None:
    part = Part(World(names={"issuing-oca-1.der"}))
    with pytest.raises(Conflict) as raised:
        await begun(part)
    assert (raised.value.rule, raised.value.field) == ("ceremony/exists", "acts.7.file")
    assert part.read() == b""


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("deployment", {"policy_digest": ceremonies.sha("other")}),
        ("deployment", {"software_version": "0.2.0"}),
        ("deployment", {"modules": ((("name", PLAN.module), ("serial", "2")),)}),
    ],
)
async def test_it_goes_on_as_it_began_or_not_at_all(what: str, change: dict[str, object]) -> None:
    part = Part(World(), kill_at=8)
    with pytest.raises(KilledError):
        await begun(part)
    after = Part(part.world)
    after.identity_found = replace(after.identity_found, **change)
    with pytest.raises(Forbidden, match=what):
        await resumed(after)
    with pytest.raises(Forbidden, match="ceremony file"):
        await ceremony(Part(part.world)).resume(
            PLAN, ceremonies.sha("other"), present(), "power returned", THERE[0].name
        )
    with pytest.raises(Forbidden, match="people"):
        await ceremony(Part(part.world)).resume(PLAN, SHA256, present()[1:], "power", THERE[0].name)


async def test_it_is_held_on_the_deployment_it_is_for_and_once_in_a_folder() -> None:
    part = Part(World())
    part.identity_found = replace(part.identity_found, environment=Environment.TEST)
    with pytest.raises(Forbidden) as raised:
        await begun(part)
    assert raised.value.rule == "ceremony/other-deployment"
    part = Part(World())
    await begun(part)
    with pytest.raises(Conflict) as conflict:
        await begun(Part(part.world))
    assert conflict.value.rule == "ceremony/held"
