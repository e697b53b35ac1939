"""A query and its cursor read back only what was printed; a hostile one is refused by name."""

import re
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.errors import Malformed
from cryptosvc.core.query import LATEST, MAX_CONDITIONS, MAX_VALUES, Cursor, Query, query_from_document
from cryptosvc.core.said import FIELDS, moment, said, silent_about

QUERY = Query.of({"key": ["k"]})
VALUES = some.text("abcXYZ019-:. ", min_size=1, max_size=8)
QUERIES = some.builds(
    Query.of,
    some.dictionaries(
        some.sampled_from(sorted(FIELDS)), some.lists(VALUES, min_size=1, max_size=3), max_size=4
    ),
    start=some.integers(0, 2**62),
    stop=some.integers(2**62 + 1, LATEST),
    oldest_first=some.booleans(),
)


def text(octets: bytes) -> str:
    return urlsafe_b64encode(octets).decode().rstrip("=")


@given(QUERIES)
def test_a_query_reads_back_as_printed(query: Query) -> None:
    document = query.document()
    plain = {**document, "conditions": {one.field: list(one.values) for one in query.conditions}}
    assert query_from_document(plain) == query


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"start": "00"},
        {"start": "-1"},
        {"more": 1},
        {"conditions": {"key": ["b", "a"]}},
        {"conditions": {"key": "a"}},
        {"conditions": {"key": [1]}},
        {"oldest_first": 1},
    ],
)
def test_another_document_is_no_query(change: dict[str, object]) -> None:
    plain = {**QUERY.document(), "conditions": {"key": ["a", "b"]}}
    assert query_from_document(plain).conditions[0].values == ("a", "b")
    with pytest.raises(Malformed):
        query_from_document({**plain, **change})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("rule", "conditions", "times"),
    [
        ("query/field", {"payload": ["x"]}, {}),
        ("query/values", {"key": []}, {}),
        ("query/values", {"key": [str(n) for n in range(MAX_VALUES + 1)]}, {}),
        ("query/value", {"key": [""]}, {}),
        ("query/value", {"key": ["k" * 201]}, {}),
        ("query/value", {"key": ["k\n"]}, {}),
        ("query/value", {"key": ["ké"]}, {}),
        ("query/conditions", {str(n): ["x"] for n in range(MAX_CONDITIONS + 1)}, {}),
        ("query/time", {}, {"start": 5, "stop": 5}),
        ("query/time", {}, {"start": -1}),
        ("query/time", {}, {"stop": LATEST + 1}),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(
    rule: str, conditions: dict[str, list[str]], times: dict[str, int]
) -> None:
    with pytest.raises(Malformed) as caught:
        Query.of(conditions, **times)  # type: ignore[arg-type]
    assert caught.value.rule == rule


@given(some.integers(0, 2**53 - 1), some.integers(0, 2**53 - 1))
def test_a_cursor_reads_back_as_printed(one: int, other: int) -> None:
    cursor = Cursor(QUERY.digest, max(one, other), min(one, other))
    assert Cursor.parse(cursor.emit(), QUERY) == cursor


@pytest.mark.parametrize(
    "forged",
    [
        "",
        "é",
        "%%%",
        "A" * 1000,
        text(b"{}"),
        text(b"[]"),
        text(b'{"at":1,"query":"x"}'),
        text(b'{"at":true,"query":"' + QUERY.digest.encode() + b'","size":1}'),
        text(b'{"at":1.0,"query":"' + QUERY.digest.encode() + b'","size":1}'),
        text(b'{"at": 1,"query":"' + QUERY.digest.encode() + b'","size":1}'),
        text(b'{"at":1,"query":"' + QUERY.digest.encode() + b'","size":1,"x":1}'),
        text(b'{"at":2,"query":"' + QUERY.digest.encode() + b'","size":1}'),
        text(b'{"at":-1,"query":"' + QUERY.digest.encode() + b'","size":1}'),
        text(b'{"at":1,"query":"' + QUERY.digest.encode() + b'","size":99999999999999999999}'),
        Cursor(QUERY.digest, 5, 2).emit() + "=",
    ],
)
def test_a_made_up_cursor_is_refused(forged: str) -> None:
    with pytest.raises(Malformed) as caught:
        Cursor.parse(forged, QUERY)
    assert caught.value.rule == "query/cursor"


def test_a_cursor_belongs_to_its_query() -> None:
    cursor = Cursor.first(QUERY, 7)
    for other in (Query.of({"key": ["j"]}), Query.of({"key": ["k"]}, oldest_first=True), Query.of({})):
        with pytest.raises(Malformed) as caught:
            Cursor.parse(cursor.emit(), other)
        assert caught.value.rule == "query/cursor-of-other"


def test_an_entry_says_what_stands_in_it_and_beside_it() -> None:
    entry: dict[str, JsonValue] = {
        "kind": "use",
        "time": "17",
        "key": "k",
        "key_class": "command-signing",
        "approvals": ["c1", "c2"],
        "facts": {"message_code": "0068", "type": "ceremony-seal", "subject": "c-7"},
        "because": {"proposal": "p1"},
        "commitments": {"principal": "00", "target": "00"},
        "clause": "",
    }
    assert said(entry, {"principal": "head-end"}) == {
        ("kind", "use"),
        ("key", "k"),
        ("class", "command-signing"),
        ("approver", "c1"),
        ("approver", "c2"),
        ("message", "0068"),
        ("ceremony", "c-7"),
        ("proposal", "p1"),
        ("caller", "head-end"),
    }
    assert moment(entry) == 17
    assert silent_about("target", entry, {"principal": "head-end"})
    assert not silent_about("caller", entry, {"principal": "head-end"})
    assert not silent_about("key", entry, {})


def test_the_users_of_a_record_are_those_its_document_names() -> None:
    document = '{"eui64":"90-B3-D5-1F-30-01-00-00","user_ids":["90-B3-D5-1F-30-02-00-00"]}'
    assert said({}, {"document": document}) == {
        ("user", "90-B3-D5-1F-30-01-00-00"),
        ("user", "90-B3-D5-1F-30-02-00-00"),
    }
    for broken in ("", "[]", "{", '{"user_ids":[1],"eui64":null}'):
        assert said({}, {"document": broken}) == set()


@pytest.mark.parametrize("time", [None, 5, "x", "-1", "1" * 40])
def test_a_time_that_is_none_is_the_beginning(time: object) -> None:
    assert moment({"time": time}) == 0  # type: ignore[dict-item]


def test_the_auditors_page_lists_every_field_and_no_other() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/auditors.md").read_text()
    table = page.split("| field |", 1)[1].split("\n\n", 1)[0]
    rows = dict(re.findall(r"^\| `([a-z]+)` \| (.*?) \|", table, re.MULTILINE))
    assert rows == {name: field.meaning for name, field in FIELDS.items()}
