"""Logs to ask questions of: random entries of the kinds there are, with times that are not always in order."""

import random
from collections.abc import Sequence
from dataclasses import replace

from cryptosvc.core.case import Principal
from cryptosvc.core.errors import Forbidden
from cryptosvc.core.names import CallerId, UnixNanoseconds
from cryptosvc.core.query import Cursor, Query
from cryptosvc.core.record import Observed, Refused
from cryptosvc.flow.ports import Ledger, Search, StoredEntry
from tests.claims import caller_record

SECOND = 1_000_000_000
BEGAN = 1_700_000_000 * SECOND
KEYS = ("k-all-day", "k-rare", "k-once", "k-never")
CALLERS = ("head-end", "other")
TARGETS = tuple(f"90-B3-D5-1F-30-01-00-{n:02X}" for n in range(40))
CODES = ("0008", "0068", "00CE")
USERS = ("90-B3-D5-1F-30-02-00-00", "90-B3-D5-1F-30-03-00-00")
RULES = ("ceiling/purpose", "caller/not-granted")


def entries(count: int, seed: int = 1) -> list[Observed | Refused]:
    """Random entries, a tenth of a second apart, now and then an hour late."""
    chance = random.Random(seed)
    return [_entry(number, chance) for number in range(count)]


def _entry(number: int, chance: random.Random) -> Observed | Refused:
    late = 3600 * SECOND if chance.random() < 0.01 else 0
    at = UnixNanoseconds(BEGAN + number * SECOND // 10 - late)
    caller = replace(caller_record(), caller_id=CallerId(chance.choice(CALLERS)))
    principal = Principal(caller=caller, peer="ipv4:127.0.0.1:1")
    if chance.random() < 0.1:
        error = Forbidden("refused", rule=chance.choice(RULES), clause="G2.56")
        return Refused(error=error, operation="sign", at=at, time_quality="synchronised", principal=principal)
    key = KEYS[0] if chance.random() < 0.98 else KEYS[1]
    return Observed(
        kind="explain",
        operation="explain",
        at=at,
        time_quality="synchronised",
        principal=principal,
        facts={"key": KEYS[2] if number == 7 else key, "message_code": chance.choice(CODES)},
        withheld={"target": chance.choice(TARGETS), "user_id": chance.choice(USERS)},
    )


async def fill(ledger: Ledger, items: Sequence[Observed | Refused]) -> None:
    """Record them in order."""
    for at in range(0, len(items), 256):
        await ledger.record(items[at : at + 256])


def some_query(chance: random.Random, span: int) -> Query:
    """A random question to such a log."""
    choices: dict[str, tuple[str, ...]] = {
        "key": KEYS,
        "caller": (*CALLERS, "nobody"),
        "target": TARGETS,
        "message": CODES,
        "user": USERS,
        "rule": RULES,
        "clause": ("G2.56", "G9.9"),
        "decision": ("refuse",),
        "kind": ("explain", "refusal", "genesis"),
        "request": ("r-1",),
    }
    names = chance.sample(sorted(choices), chance.choice((0, 1, 1, 1, 2, 2, 3)))
    conditions = {
        name: chance.sample(choices[name], min(len(choices[name]), chance.choice((1, 1, 2))))
        for name in names
    }
    times: dict[str, int] = {}
    if chance.random() < 0.5:
        one, other = sorted(chance.sample(range(-40_000, span + 1), 2))
        times = {"start": BEGAN + one * SECOND // 10, "stop": BEGAN + other * SECOND // 10}
    return Query.of(conditions, oldest_first=chance.random() < 0.5, **times)  # type: ignore[arg-type]  # no oldest_first in times


async def answer(search: Search, query: Query, at_most: int = 50) -> list[StoredEntry]:
    """Every page of an answer; each cursor goes through its text."""
    found: list[StoredEntry] = []
    cursor: Cursor | None = None
    while True:
        page = await search.page(query, cursor, at_most)
        assert len(page.entries) <= at_most
        found += page.entries
        if page.cursor is None:
            return found
        assert page.cursor != cursor, "a page that goes nowhere"
        cursor = Cursor.parse(page.cursor.emit(), query)
