"""The terminal of a ceremony: large, calm, one thing at a time; it is projected on a wall while everyone watches.

Each step has a screen of its own: what will be done and under which clause, the words that confirm it, what came of
it, fingerprints in groups of hex digits and in words to read aloud. Ctrl-C, and the end of input, stop it safely: at
once where it waits for somebody, and before the next step where something is being done.
"""

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from rich.box import HEAVY
from rich.console import Console
from rich.padding import Padding
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from cryptosvc.core import fingerprint
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.ceremony.acts import Act
from cryptosvc.core.ceremony.entries import Done, Mode, Outcome, Present
from cryptosvc.core.ceremony.rows import ActKind, Role
from cryptosvc.core.ceremony.script import Script
from cryptosvc.core.ceremony.transcript import Transcript, lines, link
from cryptosvc.core.errors import Malformed, Unavailable

WIDTH = 100
_WORDS_IN_A_ROW = 6
_PROMPT = "> "


class TerminalDesk:
    """Implements `wiring.ceremony.holding.Terminal` on the terminal of this process."""

    def __init__(self) -> None:
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise Malformed(
                "a ceremony is held at a terminal, where everyone sees it; run it in one",
                rule="config/no-terminal",
            )
        self._console = Console(highlight=False)
        self._console.width = min(self._console.width, WIDTH)
        self._present: tuple[Present, ...] = ()
        self._stopping = False

    @contextmanager
    def attended(self) -> Iterator[None]:
        """Take Ctrl-C as a wish to stop, not as an order to drop what is being done."""
        before = signal.signal(signal.SIGINT, self._wish)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    # What a ceremony shows, and asks

    def opened(self, transcript: Transcript, script: Script) -> None:
        """Show what is going to be held, who is there, and how far it got."""
        header = transcript.header
        self._present = header.present
        rehearsal = header.mode is Mode.REHEARSAL
        self._screen("REHEARSAL - nothing made here is kept" if rehearsal else "CEREMONY")
        self._large(script.title)
        self._line(script.purpose)
        self._line(f"Clause {script.clause}.   {script.location}.")
        self._line(f"System {script.system}, module {script.module}, environment {header.environment.value}.")
        there = Table(box=None, show_header=False, padding=(0, 4, 0, 0))
        for one in header.present:
            there.add_row(one.person, ", ".join(role.value for role in one.roles))
        self._console.print(Padding(there, (1, 4)))
        self._line(f"{len(script.acts)} steps, {transcript.done()} of them done.")
        self._enter("Compare the fingerprint of the ceremony file with the one that was reviewed.", None)
        self._fingerprint("ceremony file", header.script_sha256)
        self._enter("", "Press Enter to begin.")

    def show(self, act: Act, acts: int) -> None:
        """Show one act."""
        self._screen(f"Step {act.number} of {acts}")
        self._large(act.sentence)
        if act.expected:
            self._line("Expected afterwards:")
            self._table([(name.replace("_", " "), _text(value)) for name, value in act.expected])
        if act.kind is ActKind.ATTACH_CERTIFICATE:
            self._line(
                f"The certificate must be in the folder `files`, as {act.text('file')}, before you go on."
            )

    def confirm(self, act: Act) -> tuple[str, str]:
        """Wait for the words, and for who states what is stated."""
        self._line("To confirm, type exactly:")
        self._console.print(Padding(Text(act.confirmation, style="bold"), (0, 8)))
        typed = self._ask()
        return (typed, self._by(act)) if typed == act.confirmation else (typed, "")

    def again(self, act: Act) -> None:
        """Say that something else was typed."""
        del act
        self._console.print(Padding(Text("That is not it. Nothing was done.", style="bold"), (1, 4)))

    def found(self, act: Act, done: Done) -> None:
        """Show what came of a step."""
        self._console.print(Padding(Text(f"Step {act.number} is done.", style="bold"), (1, 4)))
        self._table([(name.replace("_", " "), _text(value)) for name, value in sorted(done.facts.items())])
        for name, value in sorted(done.fingerprints.items()):
            self._fingerprint(name, value)
        if done.fingerprints or done.facts:
            self._enter("Read it aloud, and compare.", "Press Enter to go on.")

    def ended(self, transcript: Transcript) -> None:
        """Show how it ended."""
        footer = transcript.footer
        assert footer is not None  # it is shown when it has ended
        self._screen("End")
        self._large(
            "The ceremony is complete."
            if footer.outcome is Outcome.COMPLETED
            else f"The ceremony was STOPPED. {footer.reason}"
        )
        self._line("Everyone present signs the head of the transcript:")
        self._fingerprint("head", link(lines(transcript.entries)[-1]))

    def turn(self, person: str) -> None:
        """Say that somebody is to put in a card."""
        self._line(f"{person}: your card, and your PIN where it is asked for.")

    def resuming(self, present: tuple[Present, ...]) -> tuple[str, str]:
        """Ask why it was interrupted, and who says so."""
        self._screen("Resuming")
        self._line("Why was the ceremony interrupted? One sentence, which goes into the transcript.")
        while not (reason := self._ask()):
            self._line("One sentence, please.")
        return reason, self._one_of("Who says so?", [one.person for one in present])

    # Asking

    def _by(self, act: Act) -> str:
        """Who confirms: whoever holds the role for a statement, the administrator for everything else."""
        wanted = Role(act.text("role")) if act.kind is ActKind.ATTEST else Role.ADMINISTRATOR
        people = [one.person for one in self._present if wanted in one.roles]
        if act.kind is ActKind.ATTEST and len(people) > 1:
            return self._one_of("Who states this?", people)
        return people[0] if people else self._present[0].person

    def _one_of(self, question: str, people: Sequence[str]) -> str:
        self._line(f"{question} One of: {', '.join(people)}")
        while (name := self._ask()) not in people:
            self._line(f"One of: {', '.join(people)}")
        return name

    def _ask(self) -> str:
        """Read one line."""
        with self._interruptible():
            self._console.print()
            self._console.file.write(f"    {_PROMPT}")
            self._console.file.flush()
            line = sys.stdin.readline()
        if not line:
            raise _stopped()
        return line.strip()

    def _enter(self, said: str, prompt: str | None) -> None:
        if said:
            self._line(said)
        if prompt is not None:
            self._line(prompt)
            self._ask()

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """While somebody is waited for, Ctrl-C stops at once."""
        if self._stopping:
            raise _stopped()
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            yield
        except (KeyboardInterrupt, EOFError):
            raise _stopped() from None
        finally:
            signal.signal(signal.SIGINT, before)

    def _wish(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._stopping = True

    # Showing

    def _screen(self, title: str) -> None:
        self._console.clear()
        self._console.print(Rule(Text(f" {title} ", style="bold"), characters="=", align="left"))

    def _large(self, text: str) -> None:
        panel = Panel(Text(text, style="bold"), box=HEAVY, padding=(2, 4), width=self._console.width)
        self._console.print(Padding(panel, (1, 0)))

    def _line(self, text: str) -> None:
        self._console.print(Padding(Text(text), (0, 4)))

    def _table(self, rows: Sequence[tuple[str, str]]) -> None:
        if rows:
            table = Table(box=None, show_header=False, padding=(0, 4, 0, 0))
            for name, value in rows:
                table.add_row(Text(name), Text(value, overflow="fold"))
            self._console.print(Padding(table, (0, 8)))

    def _fingerprint(self, name: str, sha256: str) -> None:
        digest = bytes.fromhex(sha256)
        groups = fingerprint.grouped(digest).split(" ")
        words = fingerprint.words(digest)
        self._console.print(Padding(Text(f"Fingerprint of {name}", style="bold"), (1, 4, 0, 4)))
        for at in range(0, len(groups), 8):
            self._console.print(Padding(Text(" ".join(groups[at : at + 8])), (0, 8)))
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for at in range(0, len(words), _WORDS_IN_A_ROW):
            row = words[at : at + _WORDS_IN_A_ROW]
            table.add_row(*(f"{at + place:2d} {word}" for place, word in enumerate(row, start=1)))
        self._console.print(Padding(table, (1, 8)))


def _stopped() -> Unavailable:
    return Unavailable(
        "stopped before the next step, at your wish; everything done so far is written down. Go on with: cryptosvc "
        "ceremony resume",
        rule="ceremony/interrupted",
    )


def _text(value: JsonValue) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(str(one) for one in value) or "none"
    return str(value)
