"""Keep the policy set in the log, once for each digest: a decision that names it can then be retold for ever."""

from collections.abc import Mapping

from cryptosvc.core.canonical import canonical
from cryptosvc.core.policy_set import KIND, WITHHELD, digest_of
from cryptosvc.core.query import Cursor, Query
from cryptosvc.flow.observe import Observer
from cryptosvc.flow.ports import Search

_PAGES = 8
"""How far back it is looked for where the query index cannot say; kept twice does no harm."""


async def keep(search: Search, observer: Observer, digest: str, files: Mapping[str, str]) -> bool:
    """Record the files of a policy set unless the log has them; whether it had to. Files of another digest are not kept.

    Args:
        search: finds them.
        observer: records them.
        digest: of the set, lower-case hex.
        files: name → text, of everything that is in the digest.

    Raises:
        Unavailable, Corrupt: the log cannot be read or written.

    """
    if (
        digest_of(files) != digest
    ):  # the folder changed since it was loaded: the next start keeps what is loaded then
        return False
    query = Query.of({"kind": [KIND], "policies": [digest]})
    cursor: Cursor | None = None
    for _ in range(_PAGES):
        page = await search.page(query, cursor, 1)
        if page.entries:
            return False
        if page.cursor is None:
            break
        cursor = page.cursor
    kept = canonical(dict(files)).decode()
    await observer.happened("policy-set", "load", {"policy_digest": digest}, {WITHHELD: kept})
    return True
