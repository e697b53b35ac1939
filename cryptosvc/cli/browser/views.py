"""What the console shows, and how a page asks for it.

A page asks with `GET /api/NAME?…`; the answer is a JSON document. Nothing here changes anything, and nothing is judged
here: proofs go to the browser as they came, with the octets they prove.
"""

from collections.abc import Callable, Mapping
from typing import Protocol
from urllib.parse import parse_qs

from cryptosvc.cli.actions import Document
from cryptosvc.cli.inquiry import Asked, Rows
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.errors import Malformed

PAGE_ROWS = 50
_MOST_PARAMETERS = 64
_LATEST_NANOSECOND = 2**63 - 1


class Views(Protocol):
    """What there is to show. Each raises classes of `core/errors.py` and nothing else."""

    def about(self) -> Document:
        """The log.

        Returns:
            `origin`; `log_key` (SubjectPublicKeyInfo, base64); `kept` (the signed checkpoint the log must extend);
            `fields` (name → meaning); `target`.

        """

    def rows(self, asked: Asked) -> Rows:
        """One page of an answer."""

    def key(self, key_id: str) -> Document:
        """Everything a key did."""

    def entry(self, leaf_index: int) -> Document:
        """One entry with its proof.

        Returns:
            `leaf_index`; `entry` (octets, base64); `withheld` (JSON text as it is kept beside it); `checkpoint` (the
            signed note); `hashes` (hex, the audit path in the tree of the checkpoint's size; null where the checkpoint
            does not cover the entry yet); `consistency` (hex, from the checkpoint that was kept to this one).

        """

    def why(self, leaf_index: int) -> Document:
        """A decision, retold."""


def answered(views: Views, name: str, query: str) -> Document:
    """Answer a page.

    Args:
        views: what there is.
        name: behind `/api/`.
        query: the part of the address behind `?`.

    Raises:
        Malformed: no such view, or parameters it does not take.

    """
    step = _VIEWS.get(name)
    if step is None:
        raise Malformed("the console has no such view", rule="console/view", field="path")
    try:
        parameters = parse_qs(
            query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=_MOST_PARAMETERS
        )
    except ValueError:
        raise _malformed("query") from None
    return step(views, parameters)


def _about(views: Views, parameters: Mapping[str, list[str]]) -> Document:
    _only(parameters)
    return views.about()


def _rows(views: Views, parameters: Mapping[str, list[str]]) -> Document:
    _only(parameters, "where", "start", "stop", "oldest", "cursor", several=("where",))
    conditions: dict[str, list[str]] = {}
    for one in parameters.get("where", []):
        field, mark, value = one.partition("=")
        if not mark or not field or not value:
            raise _malformed("where")
        conditions.setdefault(field, []).append(value)
    found = views.rows(
        Asked(
            conditions=conditions,
            start=_number(parameters, "start"),
            stop=_number(parameters, "stop"),
            oldest_first=_text(parameters, "oldest") == "1",
            limit=PAGE_ROWS,
            cursor=_text(parameters, "cursor"),
        )
    )
    rows: list[JsonValue] = [dict(row) for row in found.rows]
    return {"rows": rows, "cursor": found.cursor, "size": found.size}


def _key(views: Views, parameters: Mapping[str, list[str]]) -> Document:
    _only(parameters, "id")
    return views.key(_text(parameters, "id"))


def _entry(views: Views, parameters: Mapping[str, list[str]]) -> Document:
    _only(parameters, "index")
    return views.entry(_number(parameters, "index"))


def _why(views: Views, parameters: Mapping[str, list[str]]) -> Document:
    _only(parameters, "index")
    return views.why(_number(parameters, "index"))


_VIEWS: Mapping[str, Callable[[Views, Mapping[str, list[str]]], Document]] = {
    "about": _about,
    "query": _rows,
    "key": _key,
    "entry": _entry,
    "why": _why,
}


def _only(parameters: Mapping[str, list[str]], *names: str, several: tuple[str, ...] = ()) -> None:
    for name, values in parameters.items():
        if name not in names or (len(values) > 1 and name not in several):
            raise _malformed(name)


def _text(parameters: Mapping[str, list[str]], name: str) -> str:
    return parameters.get(name, [""])[0]


def _number(parameters: Mapping[str, list[str]], name: str) -> int:
    text = _text(parameters, name) or "0"
    if not (text.isascii() and text.isdecimal()) or len(text) > 19 or int(text) > _LATEST_NANOSECOND:
        raise _malformed(name)
    return int(text)


def _malformed(field: str) -> Malformed:
    return Malformed("the page asked for something in no form", rule="console/parameters", field=field)
