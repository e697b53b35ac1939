"""The words policies may use: one enumerated Cedar entity type per table of the service.

A word that only the schema knows can be written in a policy and never hold; a word that only the service knows
makes a request no policy can speak of. So both sides must have the same words, and a schema that differs is refused.
"""

import re
from collections.abc import Mapping
from difflib import get_close_matches

from cryptosvc.core.errors import Malformed
from cryptosvc.core.keyclass import KEY_CLASSES
from cryptosvc.core.names import ContentKind, Environment, Operation, UserRole
from cryptosvc.core.registry import KeyState, Origin

NO_ROLE = "none"
"""The User Role of a request that states none."""

WORDS: Mapping[str, frozenset[str]] = {
    "UserRole": frozenset({NO_ROLE, *UserRole}),
    "KeyClass": frozenset(KEY_CLASSES),
    "Content": frozenset(ContentKind),
    "KeyState": frozenset(KeyState),
    "Origin": frozenset(Origin),
    "Environment": frozenset(Environment),
    "Action": frozenset(Operation),
}

FACT_WORDS: Mapping[str, str] = {
    "content": "Content",
    "state": "KeyState",
    "origin": "Origin",
    "environment": "Environment",
}
"""Context attributes whose value is a word, and whose words those are."""

_ENUMERATED = re.compile(r"^\s*entity (\w+) enum \[([^\]]*)\];", re.MULTILINE)
_ACTIONS = re.compile(r"^\s*action ([^{;]*?) appliesTo", re.MULTILINE)
_WORD = re.compile(r'"([^"]*)"')


def require_same_words(rendered_schema: str, file: str) -> None:
    """Raise Malformed unless the schema, as Cedar renders it, enumerates exactly the service's words."""
    found = {name: frozenset(_WORD.findall(words)) for name, words in _ENUMERATED.findall(rendered_schema)}
    found["Action"] = frozenset(
        word for names in _ACTIONS.findall(rendered_schema) for word in _WORD.findall(names)
    )
    for name, words in WORDS.items():
        if name not in found:
            raise Malformed(f"{file} does not enumerate {name}", rule="policy/schema-words", field=file)
        if difference := sorted(words ^ found[name]):
            raise Malformed(
                f"{file} and the service disagree on {name}: {', '.join(difference)}; both need the same words",
                rule="policy/schema-words",
                field=file,
            )


def nearest(word: str, kind: str | None = None) -> str:
    """Suggest a known word for a misspelt one: `; did you mean "…"?`, or nothing."""
    known = WORDS[kind] if kind else frozenset().union(*WORDS.values())
    close = get_close_matches(word, sorted(known), n=1)
    return f'; did you mean "{close[0]}"?' if close else ""
