"""Query over mutual TLS: pages, cursors, refusals, both clients."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from cryptosvc.client import errors, messages
from cryptosvc.client.asynchronous import AsyncClient
from cryptosvc.core.query import Query
from cryptosvc.service import querying
from cryptosvc.service.limits import Limits
from tests.fakes.ledger import FakeLedger
from tests.fakes.search import FakeSearch
from tests.query_stand import KEYS, TARGETS, answer, entries, fill
from tests.service_stand import SCOPE, Stand, StandClock, caller_record, stand


@dataclass
class Asked:
    service: Stand
    client: AsyncClient
    search: FakeSearch


@pytest.fixture
async def asked() -> AsyncIterator[Asked]:
    ledger = FakeLedger("stand", SCOPE, StandClock())
    await fill(ledger, entries(400))
    search = FakeSearch(ledger)
    async with (
        stand(Limits(page_items=50), search=search) as service,
        AsyncClient(service.target()) as client,
    ):
        yield Asked(service, client, search)


async def test_a_stream_brings_every_page_and_can_be_taken_up_again(asked: Asked):
    expected = await answer(asked.search, Query.of({"key": [KEYS[0]]}))
    pages = [page async for page in asked.client.query(messages.query({"key": [KEYS[0]]}))]
    found = [entry for page in pages for entry in page.entries]
    assert [(one.leaf_index, one.entry, one.withheld) for one in found] == [
        (one.leaf_index, one.entry, one.withheld) for one in expected
    ]
    assert len(pages) > 3
    assert [bool(page.cursor) for page in pages] == [True] * (len(pages) - 1) + [False]
    again = messages.query({"key": [KEYS[0]]}, cursor=pages[1].cursor)
    rest = [entry async for page in asked.client.query(again) for entry in page.entries]
    assert rest == found[len(pages[0].entries) + len(pages[1].entries) :]
    recorded = [one.facts["entries"] for one in asked.service.ledger.observed("read")]
    assert recorded[: len(pages)] == [str(len(page.entries)) for page in pages]


async def test_a_stream_ends_after_as_many_entries_as_were_asked_for(asked: Asked):
    question = messages.query({}, most_entries=70, oldest_first=True)
    pages = [page async for page in asked.client.query(question)]
    assert [entry.leaf_index for page in pages for entry in page.entries] == list(range(70))
    assert pages[-1].cursor


async def test_a_large_page_travels_in_frames_that_can_each_be_taken_up(asked: Asked, monkeypatch):
    monkeypatch.setattr(querying, "_FRAME_OCTETS", 5000)
    pages = [page async for page in asked.client.query(messages.query({}))]
    whole = [entry.leaf_index for page in pages for entry in page.entries]
    assert whole == list(range(400, -1, -1))
    assert len(pages) > 50
    reached = 0
    for page in pages[:-1]:
        reached += len(page.entries)
        rest = messages.query({}, cursor=page.cursor, most_entries=1)
        (first,) = [entry async for one in asked.client.query(rest) for entry in one.entries]
        assert first.leaf_index == whole[reached]


@pytest.mark.parametrize(
    ("conditions", "how", "rule"),
    [
        ({"payload": ["x"]}, {}, "query/field"),
        ({"key": []}, {}, "query/values"),
        ({}, {"start": 5, "stop": 5}, "query/time"),
        ({}, {"cursor": "x"}, "query/cursor"),
        ({"target": [TARGETS[0] + "\n"]}, {}, "query/value"),
    ],
)
async def test_what_is_no_question_is_refused_and_recorded(asked: Asked, conditions, how, rule):
    with pytest.raises(errors.InvalidRequest) as caught:
        async for _ in asked.client.query(messages.query(conditions, **how)):
            pass
    assert caught.value.rule == rule
    assert [one.error.rule for one in asked.service.ledger.refusals()] == [rule]


async def test_a_field_named_twice_is_refused(asked: Asked):
    question = messages.query({"key": ["a"]})
    question.conditions.add(field="key", values=["b"])
    with pytest.raises(errors.InvalidRequest) as caught:
        async for _ in asked.client.query(question):
            pass
    assert caught.value.rule == "query/field-twice"


async def test_who_is_no_auditor_gets_nothing(asked: Asked):
    identity = asked.service.authority.client("caller")
    asked.service.keys.callers[identity.sha256] = replace(caller_record("caller", identity), auditor=False)
    async with AsyncClient(asked.service.target(identity)) as client:
        with pytest.raises(errors.NotPermitted) as caught:
            async for _ in client.query(messages.query({})):
                pass
    assert (caught.value.rule, caught.value.clause) == ("audit/not-auditor", "G2.26")


async def test_an_auditor_revoked_while_it_reads_gets_no_further_page(asked: Asked):
    identity = asked.service.authority.client("leaver")
    record = caller_record("leaver", identity)
    asked.service.keys.callers[identity.sha256] = record
    async with AsyncClient(asked.service.target(identity)) as client:
        pages = client.query(messages.query({}, page_size=1))
        got = len((await anext(pages)).entries)
        asked.service.keys.callers[identity.sha256] = replace(record, auditor=False, version=2)

        async def rest() -> int:
            return sum([len(page.entries) async for page in pages])

        with pytest.raises(errors.NotPermitted):
            await rest()
    assert got == 1
