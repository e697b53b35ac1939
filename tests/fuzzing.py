"""A coverage-guided fuzzer for the readers of GBCS messages: frame, MAC wrapper, DLMS, GBZ, ASN.1, attributes, tokens; and of
what SMETS1 Devices get and send; and for a line of an import of their keys.

    scripts/fuzz --seconds 3600 --messages FOLDER

It starts from real messages, found at run time and never kept, changes them a little, and keeps a change that takes a step
between two lines which no input took before. Lines are watched with `sys.settrace`, in this package's readers alone.

What a reader may do with an input: refuse it as a `Refusal`, or read it, and then

    - it is written again octet for octet;
    - with one octet more behind it, it is refused (00 behind a Command without a signature field is that field);
    - it took less than a second of the processor.

Anything else is a finding: it is printed with the input, and the exit status is 1.
"""

import argparse
import os
import random
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType

from cryptosvc.core import device_file
from cryptosvc.core.content.dlms import apdu as requests
from cryptosvc.core.content.dlms import protection
from cryptosvc.core.content.gbcs import answer, attributes, codes, envelope, framing, mac, precommand, top_up
from cryptosvc.core.content.gbcs.agreement import Purpose
from cryptosvc.core.errors import Refusal
from tests import fuzzing_atheris
from tests.device_rows import WORK
from tests.device_sealing import arrived
from tests.dlms_device import sealed
from tests.rtds import PROFILE
from tests.unit.test_dlms_requests import READ

LARGEST = 65_535
METER = b"MMM-----"
SLOW_SECONDS = 1.0
_WATCHED = (
    *(f"{os.sep}core{os.sep}content{os.sep}{part}{os.sep}" for part in ("gbcs", "dlms")),
    f"{os.sep}core{os.sep}device_file.py",
)
_TELLING = (0x00, 0x01, 0x7F, 0x80, 0x81, 0x82, 0xFF, 0x09, 0x13, 0x30, 0x31, 0x40, 0xD9, 0xDA, 0xDD, 0xDF)


class Finding(Exception):
    """An input that a reader should have dealt with otherwise."""


def read_command(octets: bytes) -> None:
    """A Command that is to get its MAC."""
    command = mac.parse(octets, PROFILE)
    if command.inner not in (octets, octets + b"\x00"):
        raise Finding("a Command is not written again as it was read")
    if command.signature or command.inner == octets:
        _require_refused(lambda: mac.parse(octets + b"\x00", PROFILE))
    _require_refused(lambda: mac.parse(octets + b"\x01", PROFILE))


def read_pre_command(octets: bytes) -> None:
    """A Pre-Command that is to be signed."""
    read = precommand.parse(octets, PROFILE)
    if precommand.emit(read) not in (octets, octets + b"\x00"):
        raise Finding("a Pre-Command is not written again as it was read")
    _require_refused(lambda: precommand.parse(octets + b"\x01", PROFILE))


def read_message(octets: bytes) -> None:
    """A message with a MAC."""
    read = mac.read_back(octets, LARGEST)
    if envelope.wrap(read.inner, read.mac) != octets:
        raise Finding("a message with a MAC is not written again as it was read")
    _require_refused(lambda: mac.read_back(octets + b"\x00", LARGEST))


def read_attributes(octets: bytes) -> None:
    """A Response, and what is encrypted in it."""
    apdu = answer.read(octets, "x")
    tail = b"\x40" + apdu.signature if apdu.signature else b"\x00"
    if apdu.unsigned + tail != octets:
        raise Finding("an APDU is not delimited as it stands")
    _require_refused(lambda: answer.read(octets + b"\x00", "x"))
    payload = codes.by_number(apdu.code).payload
    found = attributes.read(apdu, payload)
    if sum(len(part.ciphertext) + len(part.tag) for part in found) > len(apdu.payload):
        raise Finding("more is encrypted than there is")
    if payload is not codes.Payload.ASN1:
        _require_refused(lambda: attributes.read(replace(apdu, payload=apdu.payload + b"\x00"), payload))


def read_token(octets: bytes) -> None:
    """What is authenticated of a prepayment token."""
    if top_up.read_additional(octets).additional != octets:
        raise Finding("a token is not written again as it was read")
    _require_refused(lambda: top_up.read_additional(octets + b"\x00"))


def read_request(octets: bytes) -> None:
    """A plaintext request that is to be protected for a SMETS1 Device."""
    read = requests.read(octets)
    if not requests.resembles(octets):
        raise Finding("what is read as a request does not resemble one")
    if len(read.items) > len(octets):
        raise Finding("more is touched than there are octets")
    _require_refused(lambda: requests.read(octets + b"\x00"))
    _require_refused(lambda: requests.read(octets[:-1]))


def read_protected(octets: bytes) -> None:
    """What a SMETS1 Device sent, with its system title before it."""
    content = protection.parse_protected(octets)
    header = bytes((content.security,)) + content.counter
    if not octets.endswith(header + content.text + content.tag):
        raise Finding("what a Device sent is not taken apart as it stands")
    _require_refused(lambda: protection.parse_protected(octets + b"\x00"))
    _require_refused(lambda: protection.parse_protected(octets[:-1]))


def read_import_line(octets: bytes) -> None:
    """A line of an import of device keys."""
    kinds = ("encryption", "authentication")
    if device_file.line_octets(device_file.read_line(octets, WORK, kinds)) != octets:
        raise Finding("a line is not written again as it was read")
    for tail in (b"\x00", b" ", b"\n", octets):
        _require_refused(lambda tail=tail: device_file.read_line(octets + tail, WORK, kinds))  # type: ignore[misc]  # bound now


def _require_refused(reading: Callable[[], object]) -> None:
    try:
        reading()
    except Refusal:
        return
    raise Finding("what has an octet too many is read all the same")


READERS: dict[str, Callable[[bytes], None]] = {
    "command": read_command,
    "pre-command": read_pre_command,
    "message": read_message,
    "attributes": read_attributes,
    "token": read_token,
    "smets1-request": read_request,
    "smets1-answer": read_protected,
    "import-line": read_import_line,
}


@dataclass(frozen=True)
class Seed:
    """An input in three parts, so that a changed middle can be given its right length.

    Args:
        before: what stands before the length of the middle.
        middle: the payload.
        after: what stands behind it.
        sized: the middle's length stands before it.

    """

    before: bytes
    middle: bytes
    after: bytes
    sized: bool = True

    @property
    def octets(self) -> bytes:
        length = framing.emit_length(len(self.middle)) if self.sized else b""
        return self.before + length + self.middle + self.after


def seeds(folder: Path) -> dict[str, list[Seed]]:
    """Seeds for each reader from the messages (hexadecimal, `*.HEX`) in a folder."""
    found: dict[str, list[Seed]] = {name: [] for name in READERS}
    found["smets1-request"] = [Seed(b"", octets, b"", sized=False) for octets, _ in READ.values()]
    found["import-line"] = [
        Seed(b"", device_file.line_octets(arrived(bytes(32), number, kind=kind)), b"", sized=False)
        for number, kind in enumerate(("encryption", "authentication"))
    ]
    found["smets1-answer"] = [
        Seed(METER + before, sealed_body, b"")
        for security in (0x10, 0x20, 0x30)
        for before in (b"\xcc", b"\xca", b"\xdb\x08" + METER)
        for sealed_body in (
            bytes((security,)) + bytes(4) + sealed(security, METER, 0, b"\xc4\x01\x00\x00\x09"),
        )
    ]
    for path in sorted(folder.rglob("*.HEX")):
        whole = bytes.fromhex(path.read_text())
        inner = envelope.unwrap(whole, LARGEST, "x")[0] if whole[0] == framing.GENERAL_CIPHERING else whole
        if inner is not whole:
            found["message"].append(_sized(whole[:7], whole[7:], inner))
        if "_PRECOMMAND_" in path.name:
            found["pre-command"].append(_parted(inner, inner))
            continue
        apdu = answer.read(inner, "x")
        if apdu.cra is Purpose.COMMAND:
            found["command"].append(_parted(inner, apdu.unsigned))
            token = top_up.Token(
                apdu.originator, apdu.target, apdu.counter & ~0xFFFF_FFFF, top_up.ValueClass.PENCE, 99
            )
            found["token"].append(Seed(b"", token.additional, b"", sized=False))
        elif apdu.cra is Purpose.RESPONSE:
            found["attributes"].append(_parted(inner, apdu.unsigned))
    return found


def _sized(before: bytes, rest: bytes, inner: bytes) -> Seed:
    """A wrapped message: the length is of all that follows."""
    return Seed(before, rest[rest.index(inner) - 5 :], b"")


def _parted(whole: bytes, unsigned: bytes) -> Seed:
    at = 30 + whole[29]
    octets, at = framing.length(whole, at, len(whole))
    begins = at + octets
    _, start = framing.length(whole, begins, len(whole))
    return Seed(whole[:begins], unsigned[start:], whole[len(unsigned) :])


@dataclass
class Coverage:
    """Steps between lines of the readers, ever taken and taken by the input under way."""

    ever: set[tuple[int, int, int]] = field(default_factory=set)
    now: set[tuple[int, int, int]] = field(default_factory=set)

    def watch(self, frame: FrameType, event: str, _argument: object) -> object:
        """Trace function: watches a call only of the readers' own code."""
        if event != "call" or not any(part in frame.f_code.co_filename for part in _WATCHED):
            return None
        where, last, now = id(frame.f_code), 0, self.now

        def line(frame: FrameType, _event: str, _argument: object) -> object:
            nonlocal last
            now.add((where, last, frame.f_lineno))
            last = frame.f_lineno
            return line

        return line

    def taken(self) -> bool:
        """Whether the input took a step that none took before; the next input begins."""
        new = not self.now <= self.ever
        self.ever |= self.now
        self.now.clear()
        return new


@dataclass
class Run:
    """What came of fuzzing one reader."""

    name: str
    inputs: int = 0
    read: int = 0
    kept: int = 0
    steps: int = 0
    findings: list[tuple[str, bytes]] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.inputs} inputs, {self.read} read, {self.steps} steps, "
            f"{self.kept} kept, {len(self.findings)} findings"
        )


def fuzz(name: str, start: Sequence[Seed], seconds: float, chance: random.Random) -> Run:
    """Fuzz one reader for a time; stops early at ten findings."""
    reader, coverage, run = READERS[name], Coverage(), Run(name)
    corpus = list(start)
    waiting = iter(list(start))
    until = time.monotonic() + seconds
    while time.monotonic() < until and len(run.findings) < 10:
        seed = next(waiting, None) or _changed(corpus, chance)
        octets = seed.octets if len(seed.middle) <= LARGEST else b""
        run.inputs += 1
        run.read += tried(reader, octets, coverage, run)
        if coverage.taken():
            corpus.append(seed)
            run.kept += 1
    run.steps = len(coverage.ever)
    return run


def tried(reader: Callable[[bytes], None], octets: bytes, coverage: Coverage | None, run: Run) -> bool:
    """Give a reader one input, its lines watched or not; whether it read it."""
    before = sys.gettrace()
    _PATIENCE.at_work = True
    signal.setitimer(signal.ITIMER_VIRTUAL, SLOW_SECONDS)
    if coverage is not None:
        sys.settrace(coverage.watch)  # type: ignore[arg-type]  # a trace function may return None
    try:
        reader(octets)
    except Refusal:
        return False
    except Exception as error:  # noqa: BLE001  # whatever else it is, it is what is looked for
        run.findings.append((f"{type(error).__name__}: {error}", octets))
        return False
    finally:
        _PATIENCE.at_work = False
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        if coverage is not None:
            sys.settrace(before)
    return True


@dataclass
class _Patience:
    """Whether a reader is at work: an alarm that comes late is nobody's."""

    at_work: bool = False

    def alarm(self, _signal: int, _frame: FrameType | None) -> None:
        """The time of one input, on the processor, is over."""
        if self.at_work:
            raise Finding("it takes more than a second")


_PATIENCE = _Patience()


def begin_patience() -> None:
    """Have an input that takes too long interrupted, in this process from now on."""
    signal.signal(signal.SIGVTALRM, _PATIENCE.alarm)


def _changed(corpus: Sequence[Seed], chance: random.Random) -> Seed:
    """One of the corpus with one to eight changes; those found later are likelier."""
    at = max(chance.randrange(len(corpus)), chance.randrange(len(corpus)))
    seed = corpus[at]
    middle, before, after = bytearray(seed.middle), seed.before, seed.after
    for _ in range(1 << chance.randrange(4)):
        _change(middle, chance, corpus)
    if chance.random() < 0.15:
        changed = bytearray(before)
        _change(changed, chance, corpus)
        before = bytes(changed)
    if chance.random() < 0.1:
        changed = bytearray(after)
        _change(changed, chance, corpus)
        after = bytes(changed)
    return Seed(before, bytes(middle), after, seed.sized)


def _change(octets: bytearray, chance: random.Random, corpus: Sequence[Seed]) -> None:
    at = chance.randrange(len(octets) + 1)
    match chance.randrange(8):
        case 0 if at < len(octets):
            octets[at] ^= 1 << chance.randrange(8)
        case 1 if at < len(octets):
            octets[at] = chance.choice(_TELLING)
        case 2 if at < len(octets):
            octets[at] = (octets[at] + chance.choice((-1, 1))) & 0xFF
        case 3:
            del octets[at : at + 1 + chance.randrange(16)]
        case 4:
            octets[at:at] = bytes((chance.choice(_TELLING),)) * (1 + chance.randrange(4))
        case 5:
            octets[at:at] = octets[at : at + 1 + chance.randrange(32)]
        case 6:
            other = chance.choice(corpus).middle
            start = chance.randrange(len(other) + 1)
            octets[at:] = other[start:]
        case _:
            octets[at : at + 2] = chance.randrange(1 << 16).to_bytes(2)


def fuzz_all(folder: Path, seconds: float, seed: int, only: Sequence[str] = ()) -> Iterator[Run]:
    """Fuzz every reader, or those named, an equal part of the time each.

    Raises:
        ValueError: the folder has no messages.

    """
    found = seeds(folder)
    names = [name for name in READERS if name in only or not only]
    if not all(found[name] for name in names):
        raise ValueError(f"{folder} has no messages for every reader; they are *.HEX, hexadecimal")
    previous = signal.signal(signal.SIGVTALRM, _PATIENCE.alarm)
    try:
        for name in names:
            yield fuzz(name, found[name], seconds / len(names), random.Random(seed))
    finally:
        signal.signal(signal.SIGVTALRM, previous)


def _fuzz_under_libfuzzer(folder: Path, seconds: float, seed: int, only: Sequence[str]) -> int:
    names = [name for name in READERS if name in only or not only]
    failed = 0
    for line, findings in fuzzing_atheris.fuzz_each(folder, seconds / len(names), names, seed):
        print(line, *(f"  {finding}" for finding in findings), sep="\n", flush=True)
        failed |= bool(findings)
    return failed


def main() -> int:
    """Run it; 1 where something was found."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--messages", type=Path, required=True, help="folder with real messages (*.HEX)")
    parser.add_argument("--seconds", type=float, default=3600.0, help="time for all readers together")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers; 0 for another each time")
    parser.add_argument("--engine", choices=("lines", "atheris"), default="lines", help="what guides it")
    parser.add_argument("--only", nargs="*", default=(), choices=list(READERS), help="these readers alone")
    chosen = parser.parse_args()
    seed = chosen.seed or random.SystemRandom().randrange(1, 2**32)
    print(f"seed {seed}", flush=True)
    failed = False
    if chosen.engine == "atheris":
        return _fuzz_under_libfuzzer(chosen.messages, chosen.seconds, seed, chosen.only)
    for run in fuzz_all(chosen.messages, chosen.seconds, seed, chosen.only):
        print(run, flush=True)
        for what, octets in run.findings:
            failed = True
            print(f"  {re.sub('[^ -~]', '?', what)}\n    {octets.hex()}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
