"""Decision tables: what the policies are meant to say, row by row, written by somebody who read the clause.

A table is a TOML file. `given` are the facts its rows start from, each `[[row]]` names the letter of the clause, says
in words what happens, overrides facts, and expects `permit` or `refuse` by exactly the policies in `by`.

Example:
    [given]
    key_class = "root-oca"

    [[row]]
    clause = "G2.60(a)"
    says = "a Root OCA key signs an OCA Certificate"
    content_kind = "oca-certificate"
    expect = "permit"
    by = ["root-oca-signs-oca-certificate"]

"""

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import Any

from cryptosvc.adapters.policy.matrix import allowed_at_most, favourable
from cryptosvc.adapters.policy.source import Rule
from cryptosvc.core.case import Facts, PolicyAnswer
from cryptosvc.core.errors import Malformed
from cryptosvc.core.keyclass import KEY_CLASSES
from cryptosvc.core.names import ContentKind, Environment, Operation, UserRole
from cryptosvc.core.registry import KeyState, Origin

TABLE_SUFFIX = ".toml"

_WORDS: Mapping[str, Callable[[str], object]] = {
    "operation": Operation,
    "content_kind": ContentKind,
    "state": KeyState,
    "origin": Origin,
    "environment": Environment,
    "user_role": lambda word: None if word == "none" else UserRole(word),
    "key_class": lambda word: KEY_CLASSES[word].name,
}
_FACTS = {field.name: field.type for field in fields(Facts)}
_START = favourable("root-oca", ContentKind.OCA_CERTIFICATE)


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """One row.

    Args:
        file: the table.
        clause: letter of the clause it is about.
        says: what happens, in words.
        facts: what is asked.
        permit: whether it is permitted.
        by: ids of the policies that decide, sorted; empty for a refusal because nothing permits.

    """

    file: str
    clause: str
    says: str
    facts: Facts
    permit: bool
    by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """Where policies and tables disagree: file and row, and what is wrong."""

    where: str
    wrong: str


def read_tables(files: Mapping[str, bytes]) -> list[DecisionRow]:
    """Read every `*.toml` of a folder's files.

    Raises:
        Malformed: a file is no TOML, a row lacks a part or names an unknown fact or word; the field names the file.

    """
    return [
        row for name in sorted(files) if name.endswith(TABLE_SUFFIX) for row in _rows_of(name, files[name])
    ]


def check_tables(
    rows: Sequence[DecisionRow],
    rules: Mapping[str, Rule],
    decide_all: Callable[[Sequence[Facts]], Sequence[PolicyAnswer]],
) -> list[Finding]:
    """Compare tables with policies; nothing found means that each row holds and each policy decides some row."""
    decided = {name for row in rows for name in row.by}
    found = [
        Finding(rule.file, f"no row of any table is decided by {name}")
        for name, rule in rules.items()
        if name not in decided
    ]
    for row, answer in zip(rows, decide_all([row.facts for row in rows]), strict=True):
        where = f"{row.file}: {row.clause}, {row.says}"
        if (answer.allowed, answer.policies) != (row.permit, row.by):
            found.append(
                Finding(
                    where,
                    f"expected {_said(row.permit, row.by)}; got {_said(answer.allowed, answer.policies)}",
                )
            )
        elif answer.allowed and not allowed_at_most(row.facts):
            found.append(Finding(where, "is permitted by policy but not by the ceiling"))
    return found


def _said(permit: bool, by: Sequence[str]) -> str:  # noqa: FBT001 - private, and read aloud it is clear
    return f"{'permit' if permit else 'refuse'} by {', '.join(by) or 'no policy'}"


def _rows_of(name: str, octets: bytes) -> list[DecisionRow]:
    try:
        document = tomllib.loads(octets.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _malformed(name, f"is no TOML: {error}") from None
    given, rows = document.get("given", {}), document.get("row", [])
    if (
        set(document) - {"given", "row"}
        or not isinstance(given, dict)
        or not isinstance(rows, list)
        or not rows
    ):
        raise _malformed(name, "has [given] and at least one [[row]], and nothing else")
    return [
        _row(name, number, one)
        for number, row in enumerate(rows, start=1)
        for one in _one_per_value({**given, **row})
    ]


def _one_per_value(parts: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    lists = {part: value for part, value in parts.items() if isinstance(value, list) and part != "by"}
    for values in product(*lists.values()):
        yield {**parts, **dict(zip(lists, values, strict=True))}


def _row(name: str, number: int, parts: Mapping[str, object]) -> DecisionRow:
    clause, says, expect, by = (parts.get(part) for part in ("clause", "says", "expect", "by"))
    if not (isinstance(clause, str) and isinstance(says, str) and expect in ("permit", "refuse")):
        raise _malformed(name, f"row {number} needs clause, says, and expect: permit or refuse")
    if not isinstance(by, list) or not all(isinstance(policy, str) for policy in by):
        raise _malformed(name, f"row {number} needs by, the list of policies that decide it")
    facts = _START
    for fact, value in parts.items():
        if fact not in ("clause", "says", "expect", "by"):
            facts = replace(facts, **{fact: _value(name, number, fact, value)})
    return DecisionRow(name, clause, says, facts, expect == "permit", tuple(sorted(by)))


def _value(name: str, number: int, fact: str, value: object) -> Any:
    if fact not in _FACTS:
        raise _malformed(name, f"row {number} names {fact}, which is no fact; facts are {', '.join(_FACTS)}")
    if fact in _WORDS and isinstance(value, str):
        try:
            return _WORDS[fact](value)
        except (ValueError, KeyError):
            raise _malformed(name, f"row {number}: {value!r} is no {fact}") from None
    if type(value) is not _FACTS[fact]:
        raise _malformed(name, f"row {number}: {value!r} is no {fact}")
    return value


def _malformed(name: str, what: str) -> Malformed:
    return Malformed(f"the decision table {name} {what}", rule="policy/decision-table", field=name)
