"""`ceremony rehearse | run | resume`: from files to a ceremony that was held."""

import asyncio
import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)

from cryptosvc.adapters.hsm.splitting import Place
from cryptosvc.config.ceremony import CARD, CeremonyFile, PersonEntry, read_ceremony, read_people
from cryptosvc.config.settings import Settings, read_settings
from cryptosvc.core import dsse
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.ceremony import printed, verdict
from cryptosvc.core.ceremony import transcript as transcripts
from cryptosvc.core.ceremony.entries import Mode, Present
from cryptosvc.core.ceremony.transcript import Transcript
from cryptosvc.core.errors import Conflict, CryptosvcError, Forbidden, Malformed, Unavailable
from cryptosvc.core.names import Environment, ModuleName
from cryptosvc.flow.ceremony import Ceremony, Desk
from cryptosvc.flow.govern import Governor
from cryptosvc.wiring import journal, modules, stores
from cryptosvc.wiring.ceremony import office as offices
from cryptosvc.wiring.ceremony import rehearsal
from cryptosvc.wiring.ceremony.acts import OfficeActs
from cryptosvc.wiring.ceremony.governed import Governing
from cryptosvc.wiring.ceremony.office import DEFAULT_CALLER, Office, OfficeScene
from cryptosvc.wiring.ceremony.outside import Outside
from cryptosvc.wiring.ceremony.people import OwnKey, Room, controllers
from cryptosvc.wiring.ceremony.shelf import Shelf, TranscriptFile
from cryptosvc.wiring.ceremony.splitting import Splitter

_LOG = "office.log"


class Terminal(Desk, Protocol):
    """A Desk that also says whose turn it is to sign, and asks why a ceremony goes on."""

    def turn(self, person: str) -> None:
        """Say that somebody is to put in a card; the PIN is asked for next."""

    def resuming(self, present: tuple[Present, ...]) -> tuple[str, str]:
        """Ask why the ceremony was interrupted, and who says so."""


@dataclass(frozen=True, slots=True)
class Held:
    """Where a ceremony was written down.

    Args:
        transcript: machine-readable.
        page: the same for people.
        people: folder of the public keys that verify it.

    """

    transcript: Path
    page: Path
    people: Path

    def document(self, held: Transcript) -> dict[str, JsonValue]:
        """What the command answers."""
        footer = held.footer
        return {
            "title": str(held.header.script["title"]),
            "mode": held.header.mode.value,
            "outcome": "" if footer is None else footer.outcome.value,
            "steps": held.done(),
            "transcript": str(self.transcript),
            "page": str(self.page),
            "people": str(self.people),
        }


def rehearse(config: Path, file: Path, folder: Path, desk: Terminal) -> dict[str, JsonValue]:
    """Hold a ceremony on a stage of its own, and keep the transcript and the public keys that verify it."""
    settings, ceremony = read_settings(config), read_ceremony(file)
    to = _places(folder, file, "rehearsal")
    if to.transcript.exists():
        raise _held(to.transcript)
    with rehearsal.private_folder() as stage, _logging(stage):
        staged = rehearsal.staged(settings, ceremony.script, stage)
        pages = TranscriptFile(stage / "transcript.jsonl")
        held, room = asyncio.run(_rehearse(staged, ceremony, stage, pages, desk))
        _keep(to.transcript, pages.read())
    _print(to, held, {one.person: room.keys[one.person].spki for one in room.present})
    return to.document(held)


def run(
    config: Path,
    file: Path,
    people: Path,
    folder: Path,
    caller: str,
    desk: Terminal,
    so_pin_file: Path | None = None,
) -> dict[str, JsonValue]:
    """Hold a ceremony that counts; the Security Officer's PIN is for a key that is split in `test`."""
    settings, ceremony = read_settings(config), read_ceremony(file)
    return _real(settings, ceremony, people, folder, file, caller, so_pin_file, desk, again=False)


def resume(
    config: Path,
    file: Path,
    people: Path,
    folder: Path,
    caller: str,
    desk: Terminal,
    so_pin_file: Path | None = None,
) -> dict[str, JsonValue]:
    """Go on with an interrupted ceremony."""
    settings, ceremony = read_settings(config), read_ceremony(file)
    return _real(settings, ceremony, people, folder, file, caller, so_pin_file, desk, again=True)


# Holding


def _real(
    settings: Settings,
    ceremony: CeremonyFile,
    people: Path,
    folder: Path,
    file: Path,
    caller: str,
    so_pin_file: Path | None,
    desk: Terminal,
    *,
    again: bool,
) -> dict[str, JsonValue]:
    room = _room(read_people(people), settings, desk)
    verdict.require_present(room.present, ceremony.script)
    to = _places(folder, file, "transcript")
    shelf = Shelf(folder)
    with _alone(folder), _logging(folder):
        pages = TranscriptFile(to.transcript)
        _require_where_it_was(pages, again=again)
        keys = {one.person: room.keys[one.person].spki for one in room.present}
        try:
            held = asyncio.run(
                _hold(settings, ceremony, room, shelf, pages, caller, so_pin_file, desk, again=again)
            )
        except CryptosvcError:
            if written := pages.read():
                _print(to, transcripts.parse(written), keys)
            raise
        _print(to, held, keys)
    return to.document(held)


async def _hold(
    settings: Settings,
    ceremony: CeremonyFile,
    room: Room,
    shelf: Shelf,
    pages: TranscriptFile,
    caller: str,
    so_pin_file: Path | None,
    desk: Terminal,
    *,
    again: bool,
) -> Transcript:
    script, sha256 = ceremony.script, ceremony.sha256
    async with offices.opened(settings, caller) as office:
        scene = OfficeScene(office, ModuleName(script.module))
        governing = await _governing(office, room, shelf, so_pin_file)
        acts = OfficeActs(office, governing, shelf, scene, script)
        walk = Ceremony(acts, scene, pages, desk, room, office.clock)
        if not again:
            return await walk.begin(script, sha256, Mode.REAL, room.present)
        reason, by = desk.resuming(room.present)
        return await walk.resume(script, sha256, room.present, reason, by)


async def _rehearse(
    settings: Settings, ceremony: CeremonyFile, stage: Path, pages: TranscriptFile, desk: Terminal
) -> tuple[Transcript, Room]:
    script = ceremony.script
    await rehearsal.provisioned(settings)
    room = rehearsal.cast(script)
    await rehearsal.peopled(settings, room)
    shelf = Shelf(stage / "office")
    async with offices.opened(settings, DEFAULT_CALLER) as opened:
        outside = Outside(opened.x509, rehearsal.now(opened.clock))
        await opened.store.registry.change(outside.records())
        office = rehearsal.listing(opened, outside)
        scene = OfficeScene(office, ModuleName(script.module))
        governing = await _governing(office, room, shelf, rehearsal.so_pin_file(stage))

        async def deliver(key_id: str, file: str) -> None:
            await setting.deliver(key_id, file)

        acts = OfficeActs(office, governing, shelf, scene, script, deliver)
        setting = rehearsal.Stage(office, acts, shelf, outside, script)
        await setting.set()
        walk = Ceremony(acts, scene, pages, desk, room, office.clock)
        return await walk.begin(script, ceremony.sha256, Mode.REHEARSAL, room.present), room


async def _governing(office: Office, room: Room, shelf: Shelf, so_pin_file: Path | None) -> Governing:
    folder = stores.lock_folder(office.settings)
    places = {
        str(one.name): Place(one, folder, so_pin_file) for one in modules.module_configs(office.settings)
    }
    records = office.store.registry
    splitter = Splitter(places, office.vault, records, room, shelf)
    return Governing(
        Governor(records, office.vault, office.store.ledger, office.clock, office.setting, splitter.movers()),
        office.store.registry,
        office.vault,
        office.clock,
        office.setting,
        office.principal,
        room,
        controllers(room, await office.register()),
    )


def _room(entries: tuple[PersonEntry, ...], settings: Settings, desk: Terminal) -> Room:
    keys = {}
    for one in entries:
        if settings.deployment.environment is Environment.LIVE and not one.key.startswith(CARD):
            raise Forbidden(
                f"the key of {one.person} is a file; in live everyone signs with a card of their own",
                rule="ceremony/file-key",
                clause="G5.13(a)",
                field="present",
            )
        keys[one.person] = OwnKey(one.key, one.person, desk.turn)
    present = tuple(
        Present(person=one.person, roles=one.roles, key_id=dsse.key_id(keys[one.person].spki))
        for one in entries
    )
    return Room(present, keys)


def _require_where_it_was(pages: TranscriptFile, *, again: bool) -> None:
    """Refuse at once what opening modules and policies would only delay."""
    written = pages.read()
    if not again and written:
        raise _held(pages.path)
    if again and not written:
        raise Malformed("there is no ceremony to go on with in this folder", rule="ceremony/none")
    if again and transcripts.parse(written).envelope is not None:
        raise Malformed("the ceremony has ended and was signed", rule="ceremony/ended")


# Files


def _places(folder: Path, file: Path, kind: str) -> Held:
    name = f"{file.stem}.{kind}"
    return Held(folder / f"{name}.jsonl", folder / f"{name}.md", folder / f"{name}.people")


def _print(to: Held, transcript: Transcript, keys: Mapping[str, bytes]) -> None:
    """Write the page for people, and the public keys beside it."""
    _keep(to.page, printed.markdown(transcript).encode())
    for person, spki in keys.items():
        pem = load_der_public_key(spki).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        _keep(to.people / f"{person}.pem", pem)


def _keep(path: Path, octets: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(octets)
    except OSError as error:
        raise Unavailable(f"cannot write {path}: {error.strerror}", rule="ceremony/folder") from None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One ceremony at a time in a folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Conflict("another ceremony is being held in this folder", rule="ceremony/under-way") from None
    finally:
        os.close(descriptor)


@contextmanager
def _logging(folder: Path) -> Iterator[None]:
    """Operational logs go to a file: the screen is for those present."""
    with (folder / _LOG).open("a", encoding="utf-8") as stream:
        journal.set_up(stream, part="ceremony")
        yield


def _held(path: Path) -> Conflict:
    return Conflict(
        f"{path} is there already: resume that ceremony, or hold this one from a file of another name",
        rule="ceremony/held",
    )
