"""Hold a ceremony: one act after another, each announced, confirmed, written down, done, and looked at again.

The line that says an act was begun is on disk before anything is done; the line that says it was done is written only
after other code has read the result again and found the same. So whatever stops a ceremony, a slip, a power cut or a
kill, leaves a transcript that says which act was open, and `resume` finds out what became of it and goes on.

A refusal ends the ceremony: everyone present signs that it was stopped and why. What may pass (the module is away,
somebody pressed Ctrl-C) leaves it open, to be resumed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from cryptosvc.core import dsse
from cryptosvc.core.canonical import JsonValue, canonical
from cryptosvc.core.ceremony import script as scripts
from cryptosvc.core.ceremony import transcript as transcripts
from cryptosvc.core.ceremony.acts import Act
from cryptosvc.core.ceremony.entries import (
    Begun,
    Done,
    Entry,
    Footer,
    Header,
    Mode,
    Outcome,
    Present,
    Resumed,
)
from cryptosvc.core.ceremony.fields import TEXT_CHARACTERS
from cryptosvc.core.ceremony.rows import ActKind, Thing
from cryptosvc.core.ceremony.script import Script
from cryptosvc.core.ceremony.transcript import Transcript
from cryptosvc.core.ceremony.verdict import unmet
from cryptosvc.core.errors import (
    Busy,
    Conflict,
    Corrupt,
    CryptosvcError,
    Forbidden,
    Malformed,
    OutcomeUnknown,
    Unavailable,
)
from cryptosvc.core.life import NANOSECONDS, UnixSeconds
from cryptosvc.core.names import Environment
from cryptosvc.flow.ports import Clock

PASSING = (Unavailable, Busy, OutcomeUnknown)
"""Errors that leave the ceremony open: it is resumed when the cause is gone."""

_AGAIN = frozenset({ActKind.CHECKPOINT})
"""Acts that nobody can recognise afterwards as done by this very step; doing them again changes nothing."""


@dataclass(frozen=True, slots=True)
class Found:
    """What an act left behind.

    Args:
        facts: name → text, whole number, truth or list of texts, as transcripts hold them.
        fingerprints: name of what was made or used → SHA-256, lower-case hex.

    """

    facts: Mapping[str, JsonValue]
    fingerprints: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Where a ceremony is held and with what; the fields are those of `entries.Header`."""

    environment: Environment
    system: str
    software_version: str
    build_sha256: str
    policy_digest: str
    modules: tuple[tuple[tuple[str, str], ...], ...]


class Acts(Protocol):
    """What acts do. `perform` and `reread` share no code that could be wrong in both."""

    async def require_ready(self, script: Script) -> None:
        """Refuse before anybody begins: what the script takes as given is not so, or an act cannot be done here."""

    async def exists(self, thing: Thing, name: str) -> bool:
        """Whether something of this name is there already: a record, a label in the module, a file."""

    async def perform(self, act: Act, ceremony: str) -> Found:
        """Do it, or go on where it was interrupted; `ceremony` is the SHA-256 of the transcript's first line, hex."""

    async def reread(self, act: Act, ceremony: str) -> Found | None:
        """Look at the result with other code; None where the act was not done in this ceremony, or not all of it."""


class Scene(Protocol):
    """The deployment a ceremony is held on."""

    async def identity(self) -> Identity:
        """What it is now."""

    async def checkpoint(self) -> str:
        """Sign a checkpoint of the log; the note."""


class Pages(Protocol):
    """The transcript on disk."""

    def append(self, line: bytes) -> None:
        """Add a line; it is on disk when this returns."""

    def read(self) -> bytes:
        """Everything that was written whole: a last line without its end was never relied on, and is left out."""


class Desk(Protocol):
    """The screen everyone looks at, and the keyboard before it. Every method may raise Unavailable: they want to stop for now."""

    def opened(self, transcript: Transcript, script: Script) -> None:
        """Show what is going to be held, or how far it got."""

    def show(self, act: Act, acts: int) -> None:
        """Show one act of so many."""

    def confirm(self, act: Act) -> tuple[str, str]:
        """Wait for the words: what was typed, and by whom."""

    def again(self, act: Act) -> None:
        """Say that what was typed is not what confirms this act."""

    def found(self, act: Act, done: Done) -> None:
        """Show what came of it."""

    def ended(self, transcript: Transcript) -> None:
        """Show how it ended, before it is signed."""


class Signers(Protocol):
    """Everyone who is there, each with their key."""

    def sign_all(self, payload_type: str, payload: bytes) -> dsse.Envelope:
        """Have everyone sign."""


class Ceremony:
    """Holds one ceremony."""

    def __init__(
        self, acts: Acts, scene: Scene, pages: Pages, desk: Desk, signers: Signers, clock: Clock
    ) -> None:
        self._acts = acts
        self._scene = scene
        self._pages = pages
        self._desk = desk
        self._signers = signers
        self._clock = clock
        self._last = b""
        self._name = ""

    async def begin(
        self, script: Script, script_sha256: str, mode: Mode, present: tuple[Present, ...]
    ) -> Transcript:
        """Hold a ceremony from its first act.

        Raises:
            Conflict: `ceremony/held`, there is a transcript already.
            Forbidden: another system or environment than the script is for.
            Unavailable, Busy, OutcomeUnknown: it is left open; resume it.
            CryptosvcError: any other: it was stopped, and those present signed that.

        """
        if self._pages.read():
            raise Conflict(
                "a transcript is there already: resume it, or hold the ceremony into another folder",
                rule="ceremony/held",
            )
        found = await self._scene.identity()
        _require_scene(found, script, mode)
        await self._acts.require_ready(script)
        for act in script.acts:
            await self._require_new(act)
        header = Header(
            mode=mode,
            environment=found.environment,
            system=found.system,
            script=scripts.document(script),
            script_sha256=script_sha256,
            software_version=found.software_version,
            build_sha256=found.build_sha256,
            policy_digest=found.policy_digest,
            modules=found.modules,
            checkpoint=await self._scene.checkpoint(),
            present=present,
            at=self._now(),
        )
        self._desk.opened(Transcript((header,)), script)
        transcript = self._write(Transcript(()), header)
        return await self._walk(transcript, script)

    async def resume(
        self, script: Script, script_sha256: str, present: tuple[Present, ...], reason: str, by: str
    ) -> Transcript:
        """Go on with an interrupted ceremony.

        Raises:
            Malformed: there is none, or it has ended.
            Forbidden: it is another script, deployment, software, policy set, module, or other people, than it began with.
            Others as `begin`.

        """
        transcript = transcripts.parse(self._pages.read())
        self._take_up(transcript)
        header = transcript.header
        _require_same(header, await self._scene.identity(), script, script_sha256, present)
        if transcript.envelope is not None:
            raise Malformed("the ceremony has ended and was signed", rule="ceremony/ended")
        self._desk.opened(transcript, script)
        if transcript.footer is not None:
            return self._signed(transcript)
        transcript = self._write(transcript, Resumed(reason=reason, by=by, at=self._now()))
        return await self._walk(transcript, script)

    # The steps

    async def _walk(self, transcript: Transcript, script: Script) -> Transcript:
        """Every act that is not done yet, then the end."""
        try:
            while transcript.done() < len(script.acts):
                act = script.acts[transcript.done()]
                opened = transcript.open_step()
                found = await self._seen(act) if opened is not None else None
                if found is None:
                    transcript, found = await self._step(transcript, act, script, again=opened is not None)
                done = Done(
                    number=act.number, facts=found.facts, fingerprints=found.fingerprints, at=self._now()
                )
                transcript = self._write(transcript, done)
                self._desk.found(act, done)
            return await self._end(transcript, Outcome.COMPLETED, "")
        except PASSING:
            raise
        except CryptosvcError as error:
            written = transcripts.parse(self._pages.read())
            if written.footer is None:
                await self._end(written, Outcome.STOPPED, _reason(error))
            raise

    async def _step(
        self, transcript: Transcript, act: Act, script: Script, *, again: bool
    ) -> tuple[Transcript, Found]:
        # 1 nothing is replaced
        if not again:
            await self._require_new(act)
        # 2 say what will be done, and wait for the words
        self._desk.show(act, len(script.acts))
        typed, by = self._desk.confirm(act)
        while typed != act.confirmation:
            self._desk.again(act)
            typed, by = self._desk.confirm(act)
        # 3 write it down
        begun = Begun(
            number=act.number,
            act=scripts.act_document(act),
            sentence=act.sentence,
            confirmation=typed,
            by=by,
            at=self._now(),
        )
        transcript = self._write(transcript, begun)
        # 4 do it
        done = await self._acts.perform(act, self._name)
        # 5 look again
        seen = await self._acts.reread(act, self._name)
        if seen is None or canonical(_document(seen)) != canonical(_document(done)):
            names = _differing(done, seen)
            raise Corrupt(
                f"step {act.number}: what was read again is not what was done ({names}); stop and find out why",
                rule="ceremony/reread",
                clause=act.clause,
            )
        self._require_met(act, seen)
        return transcript, seen

    async def _seen(self, act: Act) -> Found | None:
        """What an interrupted step left behind; None where it has to be done (again)."""
        if act.kind in _AGAIN:
            return None
        found = await self._acts.reread(act, self._name)
        if found is not None:
            self._require_met(act, found)
        return found

    def _require_met(self, act: Act, found: Found) -> None:
        if missing := unmet(act, found.facts):
            raise Corrupt(
                f"step {act.number} did not have the expected {', '.join(missing)}",
                rule="ceremony/expectation",
                clause=act.clause,
            )

    async def _require_new(self, act: Act) -> None:
        for field, thing in act.row.makes.items():
            name = act.text(field)
            if await self._acts.exists(thing, name):
                raise Conflict(
                    f"the {thing} {name} is there already; nothing is replaced. Take another name",
                    rule="ceremony/exists",
                    field=f"acts.{act.number - 1}.{field}",
                )

    async def _end(self, transcript: Transcript, outcome: Outcome, reason: str) -> Transcript:
        note = await self._scene.checkpoint()
        footer = Footer(outcome=outcome, reason=reason, checkpoint=note, at=self._now())
        return self._signed(self._write(transcript, footer))

    def _signed(self, transcript: Transcript) -> Transcript:
        self._desk.ended(transcript)
        envelope = self._signers.sign_all(transcripts.PAYLOAD_TYPE, transcripts.statement(transcript))
        self._pages.append(dsse.emit(envelope))
        return transcript.signed(envelope)

    # The transcript

    def _write(self, transcript: Transcript, entry: Entry) -> Transcript:
        longer = transcript.then(entry) if transcript.entries else Transcript((entry,))
        line = transcripts.line(entry, self._last or None)
        self._pages.append(line)
        self._last = line
        self._name = self._name or transcripts.link(line)
        return longer

    def _take_up(self, transcript: Transcript) -> None:
        chain = transcripts.lines(transcript.entries)
        self._last, self._name = chain[-1], transcripts.link(chain[0])

    def _now(self) -> UnixSeconds:
        return UnixSeconds(self._clock.now().at // NANOSECONDS)


def _require_scene(found: Identity, script: Script, mode: Mode) -> None:
    wanted = Environment.TEST if mode is Mode.REHEARSAL else script.environment
    if (found.environment, found.system) != (wanted, script.system):
        raise Forbidden(
            f"the ceremony is for system {script.system} in {wanted}; this deployment is {found.system} in "
            f"{found.environment}",
            rule="ceremony/other-deployment",
            clause="G2.20",
        )


def _require_same(
    header: Header, found: Identity, script: Script, script_sha256: str, present: tuple[Present, ...]
) -> None:
    """A ceremony goes on as it began, or not at all."""
    began = Identity(
        environment=header.environment,
        system=header.system,
        software_version=header.software_version,
        build_sha256=header.build_sha256,
        policy_digest=header.policy_digest,
        modules=tuple(tuple(sorted(one)) for one in header.modules),
    )
    for what, holds in (
        ("ceremony file", header.script_sha256 == script_sha256),
        ("plan", canonical(header.script) == canonical(scripts.document(script))),
        ("deployment, software, policies or module", began == found),
        ("people", header.present == present),
    ):
        if not holds:
            raise Forbidden(
                f"the ceremony began with another {what}; it goes on as it began, or a new one is held",
                rule="ceremony/changed",
                clause="G5.13(b)",
            )


def _document(found: Found) -> dict[str, JsonValue]:
    return {"facts": found.facts, "fingerprints": found.fingerprints}


def _differing(done: Found, seen: Found | None) -> str:
    if seen is None:
        return "nothing was found"
    names = sorted({*done.facts, *seen.facts})
    differing = [name for name in names if done.facts.get(name) != seen.facts.get(name)]
    return ", ".join(differing) or "fingerprints"


def _reason(error: CryptosvcError) -> str:
    """The error as the one line of text a footer holds."""
    line = "".join(letter if letter.isprintable() and letter != "`" else " " for letter in error.message)
    return f"{error.rule}: {line}"[:TEXT_CHARACTERS].strip()
