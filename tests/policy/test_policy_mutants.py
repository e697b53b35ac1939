"""Each policy damaged in each small way: decision tables or the net at load notice, and nothing foreign escapes."""

import re
from collections.abc import Iterator

import pytest

from cryptosvc.adapters.policy import CedarPolicy, load_policy
from cryptosvc.adapters.policy.source import parse_source
from cryptosvc.adapters.policy.tables import check_tables, read_tables
from cryptosvc.adapters.policy.words import WORDS
from cryptosvc.core.errors import Malformed
from tests.policy.conftest import POLICIES

FILES = {path.name: path.read_text() for path in POLICIES.iterdir() if path.is_file()}
ROWS = read_tables({path.name: path.read_bytes() for path in (POLICIES / "tests").iterdir()})
POLICY = re.compile(r'^@id\("(?P<id>[^"]+)"\)\n(?:.*\n)*?.*?;\n', re.MULTILINE)
CLAUSE = re.compile(r"^(?:when|unless) \{(?:[^}]|\n)*\}", re.MULTILINE)
BODY = re.compile(r"^(?:permit|forbid) ", re.MULTILINE)
ROLES = frozenset({"DCC", "IS", "ES"})
"""One role of each kind that clauses tell apart."""
SMETS1 = ("smets1-", "dlms-")
"""Words of SMETS1 Devices: a policy of theirs is damaged with each other one and with few of the rest, and the other way round."""
ENTITY = re.compile(r'\b(\w+)::"([\w-]+)"')


def others(kind: str, word: str) -> list[str]:
    """What a word is replaced with."""
    if kind == "UserRole":
        return sorted(ROLES - {word})
    alike = sorted(one for one in WORDS[kind] if one.startswith(SMETS1) == word.startswith(SMETS1))
    rest = sorted(WORDS[kind] - set(alike))
    return [one for one in (*alike, *rest[:2]) if one != word]


def damaged(text: str) -> Iterator[tuple[str, str]]:
    """(what was done, the policy after it)."""
    yield "deleted", ""
    start = BODY.search(text).start()
    head, body = text[:start], text[start:]
    for found in CLAUSE.finditer(body):
        yield f"without {found[0][:30]!r}", head + body[: found.start()] + body[found.end() :]
        other = "unless" if found[0].startswith("when") else "when"
        yield (
            f"{other} for {found[0][:30]!r}",
            head + body[: found.start()] + re.sub(r"^\w+", other, found[0]) + body[found.end() :],
        )
    for before, after in (("&&", "||"), ("||", "&&"), ("!", ""), (">= 3", ">= 2"), (">= 3", ">= 4")):
        for found in re.finditer(re.escape(before), body):
            yield (
                f"{after or 'nothing'} for {before} at {found.start()}",
                head + body[: found.start()] + after + body[found.end() :],
            )
    for found in ENTITY.finditer(body):
        kind, word = found.groups()
        for other in others(kind, word):
            yield (
                f"{other} for {word} at {found.start()}",
                head + body[: found.start(2)] + other + body[found.end(2) :],
            )


MUTANTS = [
    pytest.param(name, found[0], mutant, id=f"{found['id']}: {what}")
    for name, text in FILES.items()
    for found in POLICY.finditer(text)
    for what, mutant in damaged(found[0])
]


def noticed(files: dict[str, bytes]) -> str:
    """Who noticed: `files` (does not parse), `tables`, `net`, or nobody."""
    try:
        policy = CedarPolicy(parse_source(files))
    except Malformed:
        return "files"
    if check_tables(ROWS, policy.rules, policy.decide_all):
        return "tables"
    try:
        load_policy(files)
    except Malformed:
        return "net"
    return ""


def test_there_are_mutants_of_every_policy(policy: CedarPolicy) -> None:
    assert {mutant.id.split(":")[0] for mutant in MUTANTS} == set(policy.rules)
    assert len(MUTANTS) > 300


@pytest.mark.parametrize(("name", "before", "after"), MUTANTS)
def test_a_damaged_policy_is_noticed(name: str, before: str, after: str) -> None:
    changed = FILES[name].replace(before, after, 1)
    assert changed != FILES[name]
    assert noticed({**{file: text.encode() for file, text in FILES.items()}, name: changed.encode()})
