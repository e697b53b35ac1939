"""A report counts what the log holds, leads from every number to its entries, and says nothing of a log that fails."""

import html
import re
import shlex
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from cryptosvc.adapters.export import write_export
from cryptosvc.cli.actions import Document
from cryptosvc.cli.inquiry import conditions, moment
from cryptosvc.cli.reporting import Report
from cryptosvc.core.entries import values_beside
from cryptosvc.core.errors import Malformed
from cryptosvc.core.query import LATEST, Query
from cryptosvc.core.report import survey
from cryptosvc.core.report.grids import MOST_SHOWN, counted
from cryptosvc.core.report.page import Scope, Sources
from cryptosvc.core.report.survey import Figure, Survey, Table
from cryptosvc.core.said import moment as said_at
from cryptosvc.core.said import said
from cryptosvc.core.watch.alarm import KIND, alarm_of
from cryptosvc.core.watch.defaults import DEFAULT_RULES
from cryptosvc.wiring.reporting import Reports
from tests.report_stand import (
    BEGAN,
    HOSTILE,
    HOSTILE_KEY,
    SECOND,
    entry,
    key_record,
    log,
    ranged,
    refusal,
    use,
)
from tests.signed_logs import ORIGIN, SPKI, Entry, note


def made(
    folder: Path, entries: list[Entry] | None = None, from_entry: int = 0, **asked: object
) -> tuple[Document, str]:
    range_file, key = ranged(folder, entries, from_entry)
    out = folder / "report.html"
    report = Report(log_key=key, origin="", key="", system="", start=0, stop=0, out=out)
    done = Reports().from_range(range_file, replace(report, **asked), lambda _what, _done, _size: None)  # type: ignore[arg-type]  # as asked
    return done, out.read_text()


def row(page: str, first: str) -> list[str]:
    """Texts of the table row that begins with this text."""
    for found in re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL):
        cells = [
            html.unescape(re.sub(r"<[^>]*>", "", cell)).strip()
            for cell in re.findall(r"<t[hd].*?</t[hd]>", found, re.DOTALL)
        ]
        if cells and cells[0] == first:
            return cells
    pytest.fail(f"no row begins with {first!r}")


def test_every_section_counts_what_the_log_holds(tmp_path: Path) -> None:
    done, page = made(tmp_path)
    assert (done["verified"], done["entries"], done["from"], done["to"]) == (True, 60, 0, 60)
    assert "Verified: entries 0 to 59" in page
    assert row(page, "Entries")[1] == "60"
    assert row(page, "Key uses and requests: signed")[1] == "49"
    assert row(page, "Key uses and requests: refused")[1] == "2"
    assert [row(page, f"2026-10-26T{hour:02}")[1:] for hour in (9, 11)] == [
        ["4", "2", "0"],
        ["4", "0", "1"],
    ]
    assert row(page, "key-1")[1:] == ["17", "1", "0"]
    assert row(page, "key-2")[1:] == ["16", "0", "1"]
    assert row(page, "FORBIDDEN")[3] == "1"
    assert row(page, "c-1")[1] == "1"
    assert row(page, "t-1")[1] == "1"
    assert row(page, "critical")[1:] == ["alarm", "1"]
    assert row(page, "entry 30")[2:] == [
        *("critical", "alarm", "alarm", "alarm/first-use", "G2.29"),
        "count: 3",
        "7 22 9999",
    ]
    assert re.search(r'<a href="#e7">7</a> <a href="#e22">22</a> 9999', page)
    assert row(page, "high")[1:] == ["reconciled", "1"]
    assert row(page, "softhsm")[1:] == [
        "SoftHSM project",
        "SoftHSM v2",
        "s-1",
        "2.6",
        "FIPS 140-2 level 3, certificate 1234",
        "entry 1",
    ]
    assert row(page, "entry 20")[2:6] == ["key-1", "2", "suspended", "proposal p-20"]


def test_every_link_leads_somewhere_and_every_id_is_there_once(tmp_path: Path) -> None:
    _, page = made(tmp_path)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    links = re.findall(r'href="([^"]*)"', page)
    assert len(links) > 150
    assert {link for link in links if not link.startswith("#") or link[1:] not in ids} == set()
    assert {f"e{number}" for number in (4, 13, 30)} <= set(ids)


def test_nothing_in_the_page_runs_or_reaches_out(tmp_path: Path) -> None:
    _, page = made(tmp_path)
    assert "<script" not in page.lower()
    assert not re.search(r"<[^>]*\s(on\w+|src|srcset|action)\s*=", page)
    assert not re.search(r"url\(|@import", page)
    assert html.escape(HOSTILE) in page.replace("&#34;", "&quot;").replace("&#39;", "&#x27;")
    addresses = set(re.findall(r"https?://[^\s\"'<]+", page))
    assert addresses == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def commands(page: str) -> list[tuple[str, int, list[str]]]:
    """What is counted, how often, and the words of the command that finds it."""
    found = re.findall(
        r'<li id="f\d+"><bdi>(.*?)</bdi>: ([\d,]+) .*?(?:<code>(.*?)</code>)?\s*</li>', page, re.DOTALL
    )
    return [
        (html.unescape(label), int(count.replace(",", "")), shlex.split(html.unescape(command)))
        for label, count, command in found
        if command
    ]


@pytest.mark.parametrize(
    "asked", [{}, {"key": "key-1"}, {"start": (BEGAN + 6000) * SECOND, "stop": (BEGAN + 24_000) * SECOND}]
)
def test_the_command_below_a_figure_finds_what_the_figure_counts(
    tmp_path: Path, asked: dict[str, object]
) -> None:
    """Every one of them, asked over the same log: as many entries, the same first ones."""
    _, page = made(tmp_path, **asked)
    found = commands(page)
    assert len(found) > 15
    told = [(orjson.loads(octets), values_beside(0, orjson.loads(octets), kept)) for octets, kept in log()]
    for label, count, words in found:
        assert words[:3] == ["cryptosvc", "audit", "query"]
        options = list(zip(words[3::2], words[4::2], strict=True))
        where = conditions([value for name, value in options if name == "-w"])
        times = {name: moment(value) for name, value in options if name in {"--from", "--to"}}
        query = Query.of(where, start=times.get("--from", 0), stop=times.get("--to", LATEST))
        answers = [query.answered_by(said(entry, beside), said_at(entry)) for entry, beside in told]
        assert sum(answers) == count, (label, words)


def test_a_command_below_a_figure_is_safe_to_paste(tmp_path: Path) -> None:
    _, page = made(
        tmp_path, [refusal(0, key=HOSTILE_KEY), refusal(1, key="a,b"), refusal(2, key="schl\u00fcssel")]
    )
    keys = {word for _, _, words in commands(page) for word in words if word.startswith("key=")}
    assert keys == {f"key={HOSTILE_KEY}"}


@pytest.mark.parametrize(
    ("asked", "entries"),
    [
        ({"key": "key-1"}, 20),
        ({"system": "other-system"}, 12),
        ({"start": (BEGAN + 600 * 50) * SECOND}, 10),
        ({"start": (BEGAN + 600 * 10) * SECOND, "stop": (BEGAN + 600 * 20) * SECOND, "key": "key-1"}, 4),
        ({"key": "nobody"}, 0),
    ],
)
def test_a_report_is_on_what_was_asked_for(tmp_path: Path, asked: dict[str, object], entries: int) -> None:
    done, page = made(tmp_path, **asked)
    assert done["entries"] == entries
    assert row(page, "Entries")[1] == str(entries)
    assert "Verified: entries 0 to 59" in page


def test_a_range_that_begins_later_says_from_where_it_was_verified(tmp_path: Path) -> None:
    done, page = made(tmp_path, from_entry=11)
    assert (done["from"], done["entries"]) == (11, 49)
    assert "Verified: entries 11 to 59" in page
    assert "First checkpoint" in page


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        (b'"clause":"G3.29"', b'"clause":"G3.28"', "completeness/root"),
        (b'"head-end-1"', b'"head-end-2"', "export/commitment"),
        (b'"outcome":"signed"', b'"outcome": "signed"', "export/entry"),
        (b"\\n60\\n", b"\\n61\\n", "checkpoint/signature"),
    ],
)
def test_a_range_that_does_not_verify_is_said_so_and_counted_not(
    tmp_path: Path, old: bytes, new: bytes, rule: str
) -> None:
    range_file, key = ranged(tmp_path)
    octets = range_file.read_bytes()
    changed = octets.replace(b'"stop":60', b'"stop":61', 1) if rule == "checkpoint/signature" else octets
    range_file.write_bytes(changed.replace(old, new, 1))
    out = tmp_path / "report.html"
    report = Report(log_key=key, origin="", key="", system="", start=0, stop=0, out=out)
    done = Reports().from_range(range_file, report, lambda _what, _done, _size: None)
    page = out.read_text()
    assert (done["verified"], done["rule"]) == (False, rule)
    assert "This range of the log does not verify" in page
    assert rule in page
    assert "<table" not in page
    assert "Verified:" not in page


def test_a_log_export_is_reported_on_too(tmp_path: Path) -> None:
    entries = log()
    path, key = tmp_path / "log.export", tmp_path / "log.pub"
    write_export(path, ORIGIN, [note(entries[:5]), note(entries)], [], entries)
    key.write_bytes(SPKI)
    out = tmp_path / "report.html"
    report = Report(log_key=key, origin=ORIGIN, key="", system="", start=0, stop=0, out=out)
    done = Reports().from_range(path, report, lambda _what, _done, _size: None)
    assert (done["verified"], done["entries"]) == (True, 60)
    assert "e13" in re.findall(r'\bid="([^"]+)"', out.read_text())


def test_another_log_than_was_asked_for_is_not_reported_on(tmp_path: Path) -> None:
    done, page = made(tmp_path, origin="other.test/log")
    assert (done["verified"], done["rule"]) == (False, "checkpoint/origin")
    assert "Verified:" not in page


def test_what_is_no_range_makes_no_report(tmp_path: Path) -> None:
    _, key = ranged(tmp_path)
    out = tmp_path / "report.html"
    report = Report(log_key=key, origin="", key="", system="", start=0, stop=0, out=out)
    with pytest.raises(Malformed):
        Reports().from_range(key, report, lambda _what, _done, _size: None)
    assert list(tmp_path.glob("report*")) == []


def test_a_file_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(Malformed) as caught:
        made(tmp_path, out=tmp_path / "absent" / "report.html")
    assert caught.value.rule == "config/output"


def test_the_gravest_alarms_come_first(tmp_path: Path) -> None:
    words = ("informational", "high", "high", "unheard-of", "critical", "low")
    _, page = made(tmp_path, [entry(number, "alarm", severity=word) for number, word in enumerate(words)])
    section = page[page.index('id="alarms"') : page.index('id="reviews"')]
    shown = re.findall(r"<bdi>([\w-]+)</bdi></th>", section)
    assert shown == ["unheard-of", "critical", "high", "low", "informational"]


def test_an_alarm_of_the_watch_is_shown_with_what_it_rests_on(tmp_path: Path) -> None:
    rule = DEFAULT_RULES[0]
    alarm = alarm_of(rule, "", (0, 1), 2, BEGAN)
    entries = [
        use(0),
        use(1),
        entry(2, KIND, alarm.withheld(), operation="raise", facts=alarm.facts("ab" * 32)),
    ]
    _, page = made(tmp_path, entries)
    cells = row(page, "entry 2")
    assert (cells[2], cells[5], cells[6], cells[8]) == (rule.severity, rule.name, rule.clause, "0 1")
    assert row(page, rule.severity)[1:] == ["alarm", "1"]


def test_entries_nobody_can_place_any_more_are_counted_as_undecided(tmp_path: Path) -> None:
    entries = [(octets, b"") for octets, _ in log()]
    done, page = made(tmp_path, entries)
    assert (done["entries"], done["undecided"]) == (60, 0)
    assert row(page, "none")


def test_memory_does_not_grow_with_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "MOST_ROWS", 60)
    table = Table()
    for number in range(100):
        table.figure((f"k{number % 80:02}",)).take(number)
    assert len(table.rows) == 60
    assert table.others.count == 20
    grid = counted("Keys", ("Key",), ("key",), table, Sources(Scope()))
    assert len(grid.rows) == MOST_SHOWN
    assert grid.note == "The largest 50 are shown; 10 and more others have 30 entries together."


def test_a_figure_keeps_its_first_entries_and_the_last() -> None:
    odd, even = Figure(), Figure()
    for number in range(20):
        (odd if number % 2 else even).take(number)
    both = even.plus(odd)
    assert (both.count, both.first, both.last) == (20, [0, 1, 2, 3, 4], 19)


def test_a_log_that_means_harm_is_laid_out_all_the_same(tmp_path: Path) -> None:
    """Times at both ends, names no font has, names longer than a page: nothing but text comes of it."""
    odd = "\x00\x1b[31m\u202e]]>\ufffe" + "long" * 500
    entries = [
        use(0, time="0", key_class=odd, key=odd),
        use(1, time="9223372036854775807", outcome=odd),
        use(2, time="soon"),
        key_record(3, odd, 1, odd),
        entry(4, odd, facts={"severity": odd, "transfer": odd}),
    ]
    done, page = made(tmp_path, entries)
    assert (done["verified"], done["entries"]) == (True, 5)
    assert [row(page, year)[1:] for year in ("no time", "2262")] == [["2", "0", "0"], ["0", "0", "1"]]
    assert html.escape("]]>") in page


def test_lists_are_cut_and_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "MOST_LISTED", 4)
    _, page = made(tmp_path, [use(0), *(refusal(number) for number in range(1, 10))])
    assert "The first 4 of 9 are listed." in page


def test_a_survey_of_nothing_is_a_report_all_the_same(tmp_path: Path) -> None:
    _, page = made(tmp_path, [use(0)], from_entry=1)
    assert "No entry of the range belongs to this report." in page
    assert Survey().entries.count == 0


def test_what_nobody_signed_off_is_listed_with_its_age(tmp_path: Path) -> None:
    def signed(number: int, start: str, stop: str, operation: str = "sign-off") -> Entry:
        facts = {"start": start, "stop": stop, "clause": "G2.26"}
        return entry(number, "review", {"custodian": "ann"}, operation=operation, facts=facts)

    entries = log()
    entries[40] = signed(40, "10", "35")
    entries[41] = signed(41, "0", "60", "overdue")
    entries[59] = entry(59 + 3 * 144, "read", operation="read-log")
    _, page = made(tmp_path, entries)
    section = page[page.index('id="reviews"') : page.index('id="inventory"')]
    assert "35 entries are signed off by nobody" in section
    assert row(section, "entry 0")[1:3] == ["entry 9", "10"]
    assert row(section, "entry 0")[4] == "3"
    assert row(section, "entry 35")[1:3] == ["entry 59", "25"]
    assert row(section, "entry 40")[2] == "ann"
    assert "entry 41" not in section
    entries[58] = signed(58, "0", "99")
    assert "All entries of this report are signed off" in made(tmp_path, entries)[1]
    assert "all of it is unreviewed" in made(tmp_path)[1]
