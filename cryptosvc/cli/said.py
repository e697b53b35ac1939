"""A statement as it is shown to the person who is asked to sign it: in words first, then as a digest to compare.

Example:
    for line in said(statement, None):
        print(line)
"""

import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

import orjson

from cryptosvc.core import fingerprint
from cryptosvc.core import genesis as founding
from cryptosvc.core import statement as statements
from cryptosvc.core.acts.base import Act, Kind, Parameter, Turn, require_parameters
from cryptosvc.core.acts.table import act as act_named
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.errors import CryptosvcError
from cryptosvc.core.genesis import Genesis
from cryptosvc.core.registry import Record, record_document, record_from_document, record_id
from cryptosvc.core.statement import Statement

_WORDS_IN_A_LINE = 6
_GROUPS_IN_A_LINE = 8
_HEX_SHOWN = 64


def said(statement: Statement, before: Mapping[str, JsonValue] | None) -> Iterator[str]:
    """What is signed, line by line; what a terminal would obey, or not show, is shown by its number.

    Args:
        statement: what is signed.
        before: document of the subject's record as it was handed over; None where it was not.

    Raises:
        Malformed: the statement is of no act, or its parameters are not the act's; then nobody should sign it.

    """
    yield from map(_shown_whole, _said(statement, before))


def _said(statement: Statement, before: Mapping[str, JsonValue] | None) -> Iterator[str]:
    act = act_named(statement.act)
    require_parameters(act, statement)
    yield "WHAT WILL CHANGE"
    yield f"  {act.sentence(statement)}"
    yield ""
    yield f"  Under clause   {statement.clause} of the Smart Energy Code"
    yield f"  Because        {statement.reason}"
    yield f"  Act            {statement.act}"
    version = (
        "does not exist yet" if statement.subject_version == 0 else f"at version {statement.subject_version}"
    )
    yield f"  Subject        {statement.subject}, {version}"
    yield f"  Proposed by    {statement.proposed_by}, {_moment(statement.proposed_at)}"
    yield f"  Good until     {_moment(statement.expires_at)}"
    yield f"  Deployment     {statement.system}, environment {statement.environment.value}"
    yield f"  Log            {statement.origin}"
    yield f"  Policies       {statement.policy_digest}"
    yield ""
    yield "WITH THESE PARAMETERS"
    yield from _parameters(act, statement)
    if before is not None:
        yield ""
        yield from _difference(act, statement, before)
    digest = hashlib.sha256(statements.emit(statement)).digest()
    yield ""
    yield "ITS DIGEST, TO COMPARE WITH THE OTHERS"
    yield from digest_lines(digest)


def genesis_said(genesis: Genesis) -> Iterator[str]:
    """A genesis as it is shown to those who sign it; characters as in `said`."""
    yield from map(_shown_whole, _genesis_said(genesis))


def _shown_whole(line: str) -> str:
    """A line of what can be seen: no control, direction or line-breaking character gets to the terminal."""
    return "".join(one if one.isprintable() else f"<U+{ord(one):04X}>" for one in line)


def _genesis_said(genesis: Genesis) -> Iterator[str]:
    yield "HOW THIS DEPLOYMENT WILL BEGIN"
    yield f"  Deployment     {genesis.system}, environment {genesis.environment.value}"
    yield f"  Log            {genesis.origin}"
    yield f"  Drawn up       {_moment(genesis.made_at)}"
    yield f"  Policies       {genesis.policy_digest}"
    yield ""
    yield "ITS FIRST CUSTODIANS"
    for one in genesis.custodians:
        yield f"  {one.custodian_id}: {one.name} ({one.person})"
        yield f"      acts as {', '.join(sorted(role.value for role in one.roles))}"
        yield f"      key {fingerprint.grouped(hashlib.sha256(one.key).digest())}"
    yield ""
    yield "CALLERS THAT MAY HAND IN OR READ"
    for caller in genesis.callers:
        what = ["hands in"] if any(grant.operation == "govern" for grant in caller.grants) else []
        what += ["reads the log"] if caller.auditor else []
        yield f"  {caller.caller_id}: {' and '.join(what) or 'the service itself'}"
    yield ""
    yield f"KEYS OF THE LOG, TO BE GENERATED: {', '.join(str(one.key_id) for one in genesis.keys)}"
    yield ""
    yield "ITS DIGEST, TO COMPARE WITH THE OTHERS"
    yield from digest_lines(hashlib.sha256(founding.emit(genesis)).digest())


def digest_lines(digest: bytes) -> Iterator[str]:
    """A digest in hex groups and in words."""
    groups = fingerprint.grouped(digest).split(" ")
    for at in range(0, len(groups), _GROUPS_IN_A_LINE):
        yield "  " + " ".join(groups[at : at + _GROUPS_IN_A_LINE])
    yield ""
    words = fingerprint.words(digest)
    for at in range(0, len(words), _WORDS_IN_A_LINE):
        numbered = (
            f"{number:>2} {word:<9}" for number, word in enumerate(words[at : at + _WORDS_IN_A_LINE], at + 1)
        )
        yield "  " + " ".join(numbered).rstrip()


def _parameters(act: Act, statement: Statement) -> Iterator[str]:
    if not statement.parameters:
        yield "  none"
    for parameter in act.parameters:
        if parameter.name not in statement.parameters:
            continue
        yield f"  {parameter.name}: {parameter.meaning}"
        for line in _value(parameter, statement.parameters[parameter.name]):
            yield f"      {line}"


def _value(parameter: Parameter, value: JsonValue) -> Iterator[str]:
    if parameter.kind is Kind.DATE and isinstance(value, int):
        yield _moment(value)
    elif parameter.kind is Kind.HEX and isinstance(value, str) and len(value) > _HEX_SHOWN:
        octets = bytes.fromhex(value)
        yield f"{len(octets)} octets, whose SHA-256 is"
        yield fingerprint.grouped(hashlib.sha256(octets).digest())
    elif isinstance(value, Mapping):
        yield from _document(value)
    elif isinstance(value, bool):
        yield "yes" if value else "no"
    else:
        yield str(value)


def _document(value: Mapping[str, JsonValue]) -> Iterator[str]:
    for name, inner in value.items():
        shown = inner if isinstance(inner, str) else orjson.dumps(inner, default=list).decode()
        yield f"{name.replace('_', ' ')}: {shown}"


def _difference(act: Act, statement: Statement, document: Mapping[str, JsonValue]) -> Iterator[str]:
    """What the act makes of the record, as far as that can be told without the module and the other records."""
    yield "WHAT THE RECORD SAYS NOW, AND WHAT IT WILL SAY (as it was handed to you; this part is not signed)"
    record = record_from_document(act.kind, document)
    if (record_id(record), record.version) != (statement.subject, statement.subject_version):
        yield "  The record that was handed to you is another one, or at another version. Do not sign; ask why."
        return
    after = None if act.touches_module else _after(act, statement, record)
    for name, value in document.items():
        new = value if after is None else after.get(name)
        now, then = _short(value), _short(new)
        yield (
            f"  {name.replace('_', ' ')}: {now}"
            if now == then
            else f"  {name.replace('_', ' ')}: {now}  ->  {then}"
        )


def _after(act: Act, statement: Statement, record: Record) -> Mapping[str, JsonValue] | None:
    turn = Turn(
        statement=statement, at=statement.proposed_at, records={(act.kind, statement.subject): record}
    )
    try:
        return record_document(act.after(turn)[0])
    except CryptosvcError:  # it needs other records than this one; the service has them
        return None


def _short(value: JsonValue) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value, default=list).decode()
    return text if len(text) <= _HEX_SHOWN else f"{text[:24]}… ({len(text)} characters)"


def _moment(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
