"""Whether a transcript is what it says: everything that can be derived is derived again and compared.

1. every line follows from the one before (`transcript.parse`);
2. the plan in the header is a plan that stands, and each step is the act of that number, announced in its sentence,
   confirmed in its words, by somebody who was there;
3. what was found is what was expected; a key that was split in `live` has the module vendor's evidence;
4. the people the plan requires were there, each once, each with a key of their own;
5. the log went on from the checkpoint before to the one after, where its key is given under its signature;
6. everyone present signed the head of the chain, and nobody else did.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryptosvc.core import checkpoint as notes
from cryptosvc.core import dsse
from cryptosvc.core.canonical import JsonValue, canonical
from cryptosvc.core.ceremony import script as scripts
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
from cryptosvc.core.ceremony.fields import Setting
from cryptosvc.core.ceremony.rows import ActKind, Role
from cryptosvc.core.ceremony.script import Script
from cryptosvc.core.ceremony.transcript import PAYLOAD_TYPE, Transcript, lines, link, parse, statement
from cryptosvc.core.errors import Corrupt, Forbidden
from cryptosvc.core.names import Environment

MODULE_EVIDENCE = "module_evidence"
"""The fact that names the module vendor's own evidence of a split or a recombination."""

_ALONE = frozenset({Role.ADMINISTRATOR, Role.WITNESS, Role.AUDITOR})
"""Roles that nobody has beside another: they watch the others."""


@dataclass(frozen=True, slots=True)
class LogKey:
    """Of the log whose checkpoints the transcript holds: origin, SubjectPublicKeyInfo DER of its key."""

    origin: str
    spki: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A transcript that verified.

    Args:
        script: the ceremony.
        script_sha256: of the file it was read from, lower-case hex; compare it with the file that was reviewed.
        mode: rehearsal or real.
        outcome: completed or stopped.
        steps: how many acts were done.
        interruptions: how often it was resumed.
        signed_by: persons whose signatures were checked, in the header's order.
        head: SHA-256 of the last line, lower-case hex.
        log_checked: whether the checkpoints' signatures were checked too.

    """

    script: Script
    script_sha256: str
    mode: Mode
    outcome: Outcome
    steps: int
    interruptions: int
    signed_by: tuple[str, ...]
    head: str
    log_checked: bool


def verify(octets: bytes, keys: Mapping[str, bytes], log: LogKey | None = None) -> Verdict:
    """Judge a transcript.

    Args:
        octets: the file.
        keys: person → SubjectPublicKeyInfo DER of the key they sign with, from the custodian register or wherever
            the verifier believes it from; never from the transcript.
        log: the log's key; None for a rehearsal, whose log is thrown away.

    Raises:
        Malformed: not a transcript, or its plan cannot be held.
        Corrupt: `transcript/chain` and `transcript/…`, named after what is not as it should be.
        Forbidden: as `dsse.verify`.

    """
    transcript = parse(octets)
    footer = transcript.footer
    if footer is None:
        raise _corrupt(
            "the transcript has no footer: it was cut off, or the ceremony has not ended", "unfinished"
        )
    script = _plan(transcript.header)
    _require_people(transcript.header, script, keys)
    _require_walk(transcript, script)
    for entry in transcript.entries:
        if isinstance(entry, Begun):
            _require_announced(entry, script, transcript.header)
        elif isinstance(entry, Done):
            _require_results(entry, script, transcript.header)
    _require_checkpoints(transcript.header, footer, log)
    _require_signatures(transcript, keys)
    return Verdict(
        script=script,
        script_sha256=transcript.header.script_sha256,
        mode=transcript.header.mode,
        outcome=footer.outcome,
        steps=transcript.done(),
        interruptions=sum(isinstance(entry, Resumed) for entry in transcript.entries),
        signed_by=tuple(one.person for one in transcript.header.present),
        head=link(lines(transcript.entries)[-1]),
        log_checked=log is not None,
    )


def unmet(act: Act, facts: Mapping[str, JsonValue]) -> tuple[str, ...]:
    """Name the expected results that the facts do not have, sorted; empty where all are met.

    A list is compared without regard to order.
    """
    return tuple(name for name, value in act.expected if not _same(value, facts.get(name)))


def _same(expected: Setting, found: JsonValue) -> bool:
    if isinstance(expected, tuple):
        listed = found if isinstance(found, Sequence) and not isinstance(found, str) else [None]
        return sorted(map(str, listed)) == list(expected)
    return type(found) is type(expected) and found == expected


def _plan(header: Header) -> Script:
    script = scripts.read(header.script)
    if canonical(scripts.document(script)) != canonical(header.script):
        raise _corrupt("the plan in the header is not as this version prints it", "script")
    wanted = Environment.TEST if header.mode is Mode.REHEARSAL else script.environment
    if header.environment is not wanted:
        raise _corrupt(f"the plan is for {wanted} and was held in {header.environment}", "environment")
    if header.system != script.system:
        raise _corrupt("the plan is for another system than the one it was held on", "system", "G2.20")
    return script


def require_present(present: Sequence[Present], script: Script) -> None:
    """Require that those present are whom the plan asks for.

    Raises:
        Corrupt: `transcript/people`: one is named twice or shares a key, watches and acts at once, or a role is short.

    """
    people, keys = {one.person for one in present}, {one.key_id for one in present}
    if len(people) != len(present) or len(keys) != len(present):
        raise _corrupt("each person present is named once and has a key of their own", "people")
    for one in present:
        if (
            not one.roles
            or len(set(one.roles)) != len(one.roles)
            or (len(one.roles) > 1 and _ALONE & {*one.roles})
        ):
            raise _corrupt(f"{one.person} cannot be present in these roles at once", "people")
    for role, number in script.people:
        if sum(role in one.roles for one in present) < number:
            raise _corrupt(f"fewer than {number} in the role {role} were present", "people")


def _require_people(header: Header, script: Script, keys: Mapping[str, bytes]) -> None:
    require_present(header.present, script)
    for one in header.present:
        if one.person not in keys:
            raise _corrupt(f"no key of {one.person} is known to you; look into the register", "people")
        if dsse.key_id(keys[one.person]) != one.key_id:
            raise _corrupt(f"{one.person} has another key in the register", "people")


def _require_walk(transcript: Transcript, script: Script) -> None:
    """Acts in order, each begun and done; after an interruption the open one may begin again."""
    present = {one.person for one in transcript.header.present}
    reached, is_open, resumed, last = 0, False, False, transcript.header.at
    for entry in transcript.entries[1:]:
        if entry.at < last:
            raise _corrupt("time runs backwards between two lines", "time")
        last = entry.at
        if isinstance(entry, Begun | Resumed) and entry.by not in present:
            raise _corrupt(f"{entry.by} was not present", "people")
        if not _follows(entry, reached, is_open=is_open, resumed=resumed):
            raise _corrupt("the steps are not the acts of the plan in their order", "order")
        if isinstance(entry, Begun):
            reached, is_open = entry.number, True
        elif isinstance(entry, Done):
            is_open = False
        resumed = isinstance(entry, Resumed)
    footer = transcript.footer
    completed = reached == len(script.acts) and not is_open
    if footer is not None and (footer.outcome is Outcome.COMPLETED) is not completed:
        raise _corrupt("the ceremony says it was completed and was not, or the reverse", "outcome")
    if footer is not None and bool(footer.reason) is completed:
        raise _corrupt("a ceremony that was stopped says why, and no other does", "outcome")


def _follows(entry: Entry, reached: int, *, is_open: bool, resumed: bool) -> bool:
    match entry:
        case Begun():
            return entry.number == (reached if is_open else reached + 1) and (resumed or not is_open)
        case Done():
            return is_open and entry.number == reached
        case Resumed() | Footer():
            return True
        case Header():
            return False


def _require_announced(begun: Begun, script: Script, header: Header) -> None:
    act = _act(begun.number, script)
    planned = scripts.act_document(act)
    if canonical({"act": begun.act}) != canonical({"act": planned}):
        raise _corrupt(f"step {act.number} is another act than the plan has", "act")
    if begun.sentence != act.sentence or begun.confirmation != act.confirmation:
        raise _corrupt(f"step {act.number} was not announced or confirmed in its words", "confirmation")
    if act.kind is ActKind.ATTEST:
        roles = next(one.roles for one in header.present if one.person == begun.by)
        if Role(act.text("role")) not in roles:
            raise _corrupt(f"step {act.number} is stated by somebody in another role", "people")


def _require_results(done: Done, script: Script, header: Header) -> None:
    act = _act(done.number, script)
    if missing := unmet(act, done.facts):
        raise _corrupt(f"step {act.number} did not have the expected {', '.join(missing)}", "expectation")
    splits = act.kind in {ActKind.SPLIT_KEY, ActKind.RECOMBINE_KEY}
    if splits and header.environment is Environment.LIVE and not done.facts.get(MODULE_EVIDENCE):
        raise _corrupt(f"step {act.number} lacks the module's own evidence", "module-evidence", "G2.44B")


def _act(number: int, script: Script) -> Act:
    if not 1 <= number <= len(script.acts):
        raise _corrupt("the plan has no act of this number", "order")
    return script.acts[number - 1]


def _require_checkpoints(header: Header, footer: Footer, log: LogKey | None) -> None:
    read: list[notes.Checkpoint] = []
    for note in (header.checkpoint, footer.checkpoint):
        octets = note.encode()
        read.append(
            notes.parse(octets).checkpoint if log is None else notes.verify(octets, log.origin, log.spki)
        )
    before, after = read
    grown = after.size > before.size or (after.size == before.size and after.root == before.root)
    if before.origin != after.origin or not grown:
        raise _corrupt("the log after the ceremony does not go on from the one before", "checkpoint", "G2.27")


def _require_signatures(transcript: Transcript, keys: Mapping[str, bytes]) -> None:
    envelope = transcript.envelope
    if envelope is None:
        raise _corrupt("nobody signed the transcript", "unsigned")
    if envelope.payload_type != PAYLOAD_TYPE or envelope.payload != statement(transcript):
        raise _corrupt("the signatures are over another transcript", "signatures")
    present = {one.key_id: keys[one.person] for one in transcript.header.present}
    try:
        signed = dsse.verify(envelope, present)
    except Forbidden as error:
        raise _corrupt(error.message, "signatures") from None
    if set(signed) != set(present):
        missing = [one.person for one in transcript.header.present if one.key_id not in signed]
        raise _corrupt(f"not everyone present signed: {', '.join(missing)}", "signatures")


def _corrupt(message: str, rule: str, clause: str = "") -> Corrupt:
    return Corrupt(message, rule=f"transcript/{rule}", clause=clause)
