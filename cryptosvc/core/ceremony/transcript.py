"""The transcript of a ceremony: canonical JSON, one entry a line, each naming the SHA-256 of the line before.

The first line is the header (what was planned, with what, by whom), then for every act a `begun` line, written before
anything is done, and a `done` line with what was found afterwards; the last is the footer, and under it stands one
DSSE envelope in which everyone present signs the head of the chain. A ceremony that was interrupted leaves a
transcript without a footer; whoever goes on writes a `resumed` line first.

Entry fields are printed and read by the same rule: what does not print back as it was read is Malformed, and a line
that does not follow from the one before is Corrupt. What the lines say is judged by `verdict.py`.

Example:
    >>> link(None)
    '0000000000000000000000000000000000000000000000000000000000000000'
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Self

import orjson

from cryptosvc.core import dsse
from cryptosvc.core.canonical import JsonValue, canonical
from cryptosvc.core.ceremony.entries import VERSION, Begun, Done, Entry, Footer, Header, read
from cryptosvc.core.documents import mapping, text
from cryptosvc.core.errors import Corrupt, Internal, Malformed

PAYLOAD_TYPE = "application/vnd.cryptosvc.ceremony+json"
OCTETS_AT_MOST = 16 << 20
_NOTHING_BEFORE = "0" * 64


@dataclass(frozen=True, slots=True)
class Transcript:
    """A transcript so far.

    Args:
        entries: the header first; a footer, where there is one, last.
        envelope: the signatures of those present over `statement`; None before they signed.

    """

    entries: tuple[Entry, ...]
    envelope: dsse.Envelope | None = None

    @property
    def header(self) -> Header:
        """The first entry; Malformed where that is no header."""
        if not self.entries or not isinstance(self.entries[0], Header):
            raise Malformed("a transcript begins with its header", rule="transcript/header")
        return self.entries[0]

    @property
    def footer(self) -> Footer | None:
        """The last entry, where it is a footer."""
        last = self.entries[-1]
        return last if isinstance(last, Footer) else None

    def steps(self) -> tuple[tuple[Begun, Done | None], ...]:
        """Each act that was begun, with what was found when it was done."""
        done = {entry.number: entry for entry in self.entries if isinstance(entry, Done)}
        begun = {entry.number: entry for entry in self.entries if isinstance(entry, Begun)}
        return tuple((entry, done.get(number)) for number, entry in begun.items())

    def then(self, entry: Entry) -> Self:
        """Give the transcript with one entry more; Malformed `transcript/ended` after the footer."""
        if self.footer is not None:
            raise Malformed("the ceremony has ended; nothing is added to it", rule="transcript/ended")
        return replace(self, entries=(*self.entries, entry))

    def open_step(self) -> Begun | None:
        """Find the act that was begun and is not known to be done: what whoever resumes looks at first."""
        return next((begun for begun, done in self.steps() if done is None), None)

    def done(self) -> int:
        """How many acts are done."""
        return sum(done is not None for _, done in self.steps())

    def signed(self, envelope: dsse.Envelope) -> Self:
        """Give the transcript with its signatures."""
        return replace(self, envelope=envelope)


def line(entry: Entry, previous: bytes | None) -> bytes:
    """Print an entry as its line, without line end.

    Args:
        entry: what to print.
        previous: the line before; None for the header.

    """
    return canonical({**entry.document(), "previous": link(previous)})


def link(previous: bytes | None) -> str:
    """SHA-256 of a line, lower-case hex, as the next line names it; zeros where there is none."""
    return _NOTHING_BEFORE if previous is None else hashlib.sha256(previous).hexdigest()


def lines(entries: Iterable[Entry]) -> tuple[bytes, ...]:
    """Print entries as their chain."""
    printed: list[bytes] = []
    for entry in entries:
        printed.append(line(entry, printed[-1] if printed else None))
    return tuple(printed)


def statement(transcript: Transcript) -> bytes:
    """Print what those present sign: the head of the chain, and what it is the head of.

    Raises:
        Malformed: `transcript/footer`, the ceremony has not ended.

    """
    footer = transcript.footer
    if footer is None:
        raise Malformed("a transcript is signed when it has its footer", rule="transcript/footer")
    return canonical(
        {
            "v": VERSION,
            "title": transcript.header.script.get("title", ""),
            "mode": transcript.header.mode.value,
            "outcome": footer.outcome.value,
            "entries": len(transcript.entries),
            "head": link(lines(transcript.entries)[-1]),
        }
    )


def emit(transcript: Transcript) -> bytes:
    """Print a transcript as its file."""
    printed = lines(transcript.entries)
    if transcript.envelope is not None:
        printed = (*printed, dsse.emit(transcript.envelope))
    return b"".join(one + b"\n" for one in printed)


def parse(octets: bytes) -> Transcript:
    """Read a transcript, whole or interrupted.

    Raises:
        Malformed: `transcript/size`, `transcript/line`, `transcript/header`, or as `dsse.parse`.
        Corrupt: `transcript/chain`, a line does not follow from the one before: changed, moved or missing.

    """
    if len(octets) > OCTETS_AT_MOST:
        raise Malformed(f"a transcript has at most {OCTETS_AT_MOST} octets", rule="transcript/size")
    read = octets.split(b"\n")
    if read.pop() or not read:
        raise Malformed("a transcript ends with the end of a line", rule="transcript/line")
    entries: list[Entry] = []
    previous: bytes | None = None
    envelope: dsse.Envelope | None = None
    for at, one in enumerate(read):
        if entries and isinstance(entries[-1], Footer):
            if at != len(read) - 1:
                raise Malformed(
                    "after the footer stand the signatures, and nothing else", rule="transcript/line"
                )
            envelope = dsse.parse(one)
            break
        entries.append(_entry(one, previous, at + 1))
        previous = one
    transcript = Transcript(tuple(entries), envelope)
    if [entry for entry in entries if isinstance(entry, Header)] != [transcript.header]:
        raise Malformed("a transcript has one header, its first line", rule="transcript/header")
    return transcript


def _entry(octets: bytes, previous: bytes | None, at: int) -> Entry:
    try:
        document: Mapping[str, JsonValue] = mapping({"line": orjson.loads(octets)}, "line")
        entry = read(document)
        printed = line(entry, previous)
        alone = canonical({**entry.document(), "previous": text(document, "previous")})
    except (KeyError, ValueError, TypeError, Malformed, Internal):
        raise Malformed(f"line {at} is no entry as this version prints it", rule="transcript/line") from None
    if alone != octets:
        raise Malformed(f"line {at} is no entry as this version prints it", rule="transcript/line")
    if printed != octets:
        raise Corrupt(
            f"line {at} does not follow from the line before: something was changed, moved or taken out",
            rule="transcript/chain",
        )
    return entry
