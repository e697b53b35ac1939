"""The transcript on paper: Markdown that prints well and holds every value of the machine-readable form.

Fingerprints stand as groups of hex digits and as the words they were read aloud in; times as UTC and in seconds.
Values stand between back quotes, which no value can contain, so nothing in a value is taken for markup.
"""

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence

from cryptosvc.core import fingerprint
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.ceremony import fields
from cryptosvc.core.ceremony import script as scripts
from cryptosvc.core.ceremony.difference import Difference, Differences
from cryptosvc.core.ceremony.entries import Begun, Done, Entry, Footer, Header, Mode, Resumed
from cryptosvc.core.ceremony.script import Script
from cryptosvc.core.ceremony.transcript import Transcript, lines, link
from cryptosvc.core.life import UnixSeconds

_GIVEN = ("name", "what", "class", "state", "split", "of the key", "fingerprint")


def markdown(transcript: Transcript) -> str:
    """Print a transcript, whole or interrupted.

    Raises:
        Malformed: the header's plan cannot be read.

    """
    chain = lines(transcript.entries)
    parts = [part for entry in transcript.entries for part in _entry(entry)]
    parts += ["## Signatures", ""]
    if transcript.envelope is None:
        parts += ["Nobody has signed.", ""]
    else:
        people = {one.key_id: one.person for one in transcript.header.present}
        parts += _table(
            ("person", "key", "signature"),
            [
                (people.get(one.key_id, "unknown"), one.key_id, b64encode(one.signature).decode())
                for one in transcript.envelope.signatures
            ],
        )
        kind, payload = (
            transcript.envelope.payload_type,
            transcript.envelope.payload.decode("utf-8", "replace"),
        )
        parts += _table(("what", "value"), [("payload type", kind), ("signed statement", payload)])
    head = link(chain[-1])
    parts += ["Head of the chain, which is what everyone signs:", "", *_fingerprint("head", head)]
    return "\n".join(parts)


def script_markdown(script: Script) -> str:
    """Print a plan for those who review it: who must come, what is there, each act in its words."""
    people = [(role.value, number) for role, number in script.people]
    given = [
        (
            one.name,
            one.thing.value,
            one.key_class,
            one.state,
            "in parts" if one.split else "",
            one.key,
            one.fingerprint,
        )
        for one in script.given
    ]
    parts = [
        f"# {script.title}",
        "",
        script.purpose,
        "",
        *_table(("what", "value"), [*_head(script)]),
        "## People",
        "",
        *_table(("role", "number"), people),
    ]
    if given:
        parts += ["## What is there before", "", *_table(_GIVEN, given)]
    parts += ["## Acts", ""]
    for act in script.acts:
        parts += [f"{act.number}. {act.sentence}", f"   - typed to confirm: `{act.confirmation}`"]
        parts += [f"   - expected: {name} = {_value(value)}" for name, value in act.expected]
    return "\n".join([*parts, ""])


def differences_markdown(found: Differences) -> str:
    """Print what a real ceremony did otherwise than its rehearsal."""
    parts = ["# Rehearsal and real ceremony", "", _verdict(found), ""]
    if found.interruptions:
        rows = [
            (
                _moment(one.at),
                f"step {one.after}",
                f"step {one.again}" if one.again else "nothing",
                one.by,
                one.reason,
            )
            for one in found.interruptions
        ]
        parts += ["## Interruptions", ""]
        parts += _table(("resumed at", "after", "begun again", "by", "reason"), rows)
    parts += ["## Not as rehearsed", ""]
    parts += _differences(found.others) if found.others else ["Nothing.", ""]
    parts += ["## Different by nature", ""]
    parts += _differences(found.by_nature) if found.by_nature else ["Nothing.", ""]
    return "\n".join(parts)


def _verdict(found: Differences) -> str:
    if found.others:
        return "**NOT as rehearsed.** What was done otherwise is listed first."
    times = len(found.interruptions)
    if not times:
        return "**As rehearsed.** The real ceremony did what was rehearsed and nothing else."
    often = "once" if times == 1 else f"{times} times"
    return (
        f"**As rehearsed, interrupted {often}.** The real ceremony was resumed, did what was rehearsed, each step once, "
        "and did nothing else."
    )


def _differences(found: Sequence[Difference]) -> list[str]:
    rows = [(one.where, _plain(one.rehearsal), _plain(one.real), one.why) for one in found]
    return _table(("where", "rehearsal", "real", "why"), rows)


def _plain(text: str) -> str:
    return text.replace("`", "'")


def _head(script: Script) -> Iterator[tuple[str, JsonValue]]:
    yield "clause", script.clause
    yield "location", script.location
    yield "party", script.party
    yield "environment", script.environment.value
    yield "system", script.system
    yield "module", script.module


def _entry(entry: Entry) -> list[str]:
    match entry:
        case Header():
            return _header(entry)
        case Begun():
            return [
                f"## Step {entry.number}",
                "",
                entry.sentence,
                "",
                *_table(
                    ("what", "value"),
                    [
                        ("typed", entry.confirmation),
                        ("by", entry.by),
                        ("begun", _moment(entry.at)),
                        *((f"act: {name}", value) for name, value in _flat(entry.act)),
                    ],
                ),
            ]
        case Done():
            found = [(name, value) for name, value in sorted(entry.facts.items())]
            prints = [
                row for name, value in sorted(entry.fingerprints.items()) for row in _fingerprint(name, value)
            ]
            at = ("done", _moment(entry.at))
            return [
                f"### Found after step {entry.number}",
                "",
                *_table(("what", "value"), [*found, at]),
                *prints,
            ]
        case Resumed():
            what = [("reason", entry.reason), ("by", entry.by), ("at", _moment(entry.at))]
            return ["## Resumed after an interruption", "", *_table(("what", "value"), what)]
        case Footer():
            ended = [("outcome", entry.outcome.value), ("at", _moment(entry.at))]
            why = [("reason", entry.reason)] if entry.reason else []
            return [
                "## End",
                "",
                *_table(("what", "value"), [*ended, *why]),
                *_note("after", entry.checkpoint),
            ]


def _header(header: Header) -> list[str]:
    script = scripts.read(header.script)
    mode = "REHEARSAL. Nothing made here is kept." if header.mode is Mode.REHEARSAL else "Real ceremony."
    facts: list[tuple[str, JsonValue]] = [
        ("mode", header.mode.value),
        ("held in environment", header.environment.value),
        ("system", header.system),
        ("begun", _moment(header.at)),
        ("software", header.software_version),
    ]
    present = [(one.person, ", ".join(one.roles), one.key_id) for one in header.present]
    modules = [
        (f"module {at}: {name}", value) for at, one in enumerate(header.modules, 1) for name, value in one
    ]
    return [
        script_markdown(script),
        "# Transcript",
        "",
        f"**{mode}**",
        "",
        *_table(("what", "value"), [*facts, *modules]),
        *_fingerprint("ceremony file", header.script_sha256),
        *_fingerprint("software", header.build_sha256),
        *_fingerprint("policy set", header.policy_digest),
        "## Present",
        "",
        *_table(("person", "roles", "key"), present),
        *_note("before", header.checkpoint),
    ]


def _note(when: str, note: str) -> list[str]:
    return [f"Checkpoint of the log {when}:", "", *(f"    {one}" for one in note.splitlines()), ""]


def _fingerprint(name: str, sha256: str) -> list[str]:
    digest = bytes.fromhex(sha256)
    said = fingerprint.words(digest)
    rows = [f"    {' '.join(said[at : at + 6])}" for at in range(0, len(said), 6)]
    return [f"Fingerprint of `{name}`:", "", f"    {fingerprint.grouped(digest)}", *rows, ""]


def _moment(at: UnixSeconds) -> str:
    return f"{fields.moment_of(at)} ({at})"


def _flat(document: Mapping[str, JsonValue], path: str = "") -> Iterator[tuple[str, JsonValue]]:
    for name, value in sorted(document.items()):
        where = f"{path}.{name}" if path else name
        if isinstance(value, Mapping):
            yield from _flat(value, where)
        else:
            yield where, value


def _table(titles: Sequence[str], rows: Sequence[Sequence[JsonValue]]) -> list[str]:
    body = [f"| {' | '.join(_value(cell) for cell in row)} |" for row in rows]
    return [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}", *body, ""]


def _value(value: JsonValue) -> str:
    """Print a cell; back quotes keep its text from being markup, and a bar is escaped as tables want it."""
    if isinstance(value, bool):
        return "`yes (true)`" if value else "`no (false)`"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_value(one) for one in value) or "(none)"
    return f"`{value}`".replace("|", "\\|") if value not in ("", None) else ""
