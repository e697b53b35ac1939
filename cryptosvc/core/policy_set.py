"""The policy set as the log keeps it: once for each digest, so that a decision can be retold years later.

The files stand beside an entry of kind `policy-set`, as canonical JSON of name → text. Their digest is the one that
every decision names, so whoever has them can tell that they are the ones.
"""

import hashlib
from collections.abc import Mapping

import orjson

from cryptosvc.core.canonical import canonical
from cryptosvc.core.errors import Corrupt

KIND = "policy-set"
WITHHELD = "policy_files"
"""Name of the value that stands beside the entry."""


def digest_of(files: Mapping[str, str]) -> str:
    """Digest of policy files, lower-case hex: SHA-256 of the canonical JSON of name → SHA-256 of the file, hex."""
    return hashlib.sha256(
        canonical({name: hashlib.sha256(text.encode()).hexdigest() for name, text in files.items()})
    ).hexdigest()


def files_of(kept: str, digest: str) -> Mapping[str, str]:
    """Read the files that stand beside an entry.

    Raises:
        Corrupt: `policy-set/digest`: they are not those of this digest.

    """
    try:
        files = orjson.loads(kept)
        same = (
            isinstance(files, dict)
            and all(isinstance(text, str) for text in files.values())
            and digest_of(files) == digest
        )
    except orjson.JSONDecodeError:
        same = False
    if not same:
        raise Corrupt("the policies kept in the log are not those of the digest", rule="policy-set/digest")
    found: Mapping[str, str] = files
    return found


def policy_text(files: Mapping[str, str], policy_id: str) -> str:
    """One policy as it stands in its file, annotations and all; empty where there is none of this id."""
    mark = f'@id("{policy_id}")'
    for name, text in sorted(files.items()):
        if name.endswith(".cedar") and mark in text:
            start = text.index(mark)
            following = text.find("\n@id(", start + 1)
            return text[start : len(text) if following < 0 else following].strip()
    return ""
