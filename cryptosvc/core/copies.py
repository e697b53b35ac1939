"""Copies of a key that its module's own procedure made, and what became of each before the key is certified destroyed.

A copy has a name of its own, as it stands on its medium. Whoever destroys the key gives one account for every copy that
the key's record names, and for no other: `NAME: who saw it destroyed, and how`, separated by semicolons.

Source: Smart Energy Code G5.13(b), (c).

Example:
    >>> accounts("tape-7: Wim saw it shredded; tape-8: Wanda saw it shredded")["tape-8"]
    'Wanda saw it shredded'
"""

import re
from collections.abc import Collection, Mapping

from cryptosvc.core.errors import Forbidden, Malformed

_ACCOUNT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63}): (\S.*)")
_CLAUSE = "G5.13(b)"
FIELD = "backups_destroyed"


def accounts(text: str) -> Mapping[str, str]:
    """Read them: name of a copy → what became of it; empty for an empty text.

    Raises:
        Malformed: an account is not `NAME: text`, or there are two of one copy.

    """
    found: dict[str, str] = {}
    for one in text.split(";") if text else ():
        matched = _ACCOUNT.fullmatch(one.strip())
        if matched is None or matched[1] in found:
            raise Malformed(
                "each copy has one account, `NAME: who saw it destroyed`, and semicolons stand between them",
                rule="destruction/accounts",
                clause=_CLAUSE,
                field=FIELD,
            )
        found[matched[1]] = matched[2]
    return found


def require_accounted(copies: Collection[str], text: str) -> None:
    """Require an account of every copy of a key and of no other; Forbidden otherwise, Malformed as `accounts`."""
    said = accounts(text)
    if missing := sorted(set(copies) - set(said)):
        raise Forbidden(
            f"nobody says what became of these copies of the key: {', '.join(missing)}",
            rule="destruction/backups",
            clause=_CLAUSE,
            field=FIELD,
        )
    if others := sorted(set(said) - set(copies)):
        raise Forbidden(
            f"the key's record knows no such copies: {', '.join(others)}",
            rule="destruction/backups",
            clause=_CLAUSE,
            field=FIELD,
        )
