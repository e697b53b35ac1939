"""Which policy set need not be proven again: one that this very software proved before, as the log says.

The proof takes seconds, and a command that signs one checkpoint would spend nearly all its time on it. A worker that
serves has proven its policies and says so in its first entry (`service-start`: digest of the policies, digest of the
software). Such an entry is believed as any other is: with its proof to the head that the module authenticates.
"""

import asyncio

import orjson

from cryptosvc.adapters.software import software_digest
from cryptosvc.core.query import Query
from cryptosvc.wiring import stores

_STARTS = 16
"""How many of the newest starts are looked at: the workers of one or two services."""


async def held(store: stores.Opened) -> str:
    """Digest of the policy set that this software proved last; empty where the log has none.

    Raises:
        Unavailable, Corrupt: the log cannot be read, or is not what its head vouches for.

    """
    mine = await asyncio.to_thread(software_digest)
    page = await store.search.page(Query.of({"kind": ["service-start"]}), None, _STARTS)
    for found in page.entries:
        entry = await store.ledger.entry(found.leaf_index)
        if entry is None:
            continue
        facts = orjson.loads(entry.entry).get("facts", {})
        if facts.get("software_digest") == mine:
            return str(facts["policy_digest"])
    return ""
