"""What an auditor types, as the question it becomes; and answers as a spreadsheet may open them."""

import pytest
import typer

from cryptosvc.cli.inquiry import Form, Rows, _print, conditions, moment


def test_conditions_of_one_field_are_put_together():
    assert conditions(["key=a,b", "outcome=signed", "key=c"]) == {
        "key": ["a", "b", "c"],
        "outcome": ["signed"],
    }
    assert conditions(["rule=a=b"]) == {"rule": ["a=b"]}


@pytest.mark.parametrize("text", ["key", "=x", "key=", ""])
def test_what_is_no_condition_is_said(text: str):
    with pytest.raises(typer.BadParameter):
        conditions([text])


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("", 0),
        ("1970-01-02", 86_400_000_000_000),
        ("2026-11-23T10:00:00Z", 1_795_428_000_000_000_000),
        ("2026-11-23T10:00:00.000001Z", 1_795_428_000_000_001_000),
        ("2026-11-23T11:00:00+01:00", 1_795_428_000_000_000_000),
    ],
)
def test_a_moment_is_read_in_utc(text: str, nanoseconds: int):
    assert moment(text) == nanoseconds


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "1969-12-31"])
def test_what_is_no_moment_is_said(text: str):
    with pytest.raises(typer.BadParameter):
        moment(text)


def test_a_spreadsheet_is_given_no_formula(capsys: pytest.CaptureFixture[str]):
    row = {"leaf_index": 1, "key": "=cmd()", "caller": "@x", "rule": "a,b"}
    assert _print(iter([Rows([row], "next", 5), Rows([row], "", 5)]), Form.CSV) == ""
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "leaf_index,key,caller,rule"
    assert lines[1:] == ["1,'=cmd(),'@x,\"a,b\""] * 2


def test_a_table_comes_with_the_cursor_behind_it(capsys: pytest.CaptureFixture[str]):
    assert (
        _print(iter([Rows([], "c1", 5), Rows([{"leaf_index": 3, "kind": "use"}], "c2", 5)]), Form.TABLE)
        == "c2"
    )
    assert "3" in capsys.readouterr().out
