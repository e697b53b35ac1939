"""docs/lifecycle.md is what the tables print, and what the tables print is all there is in them."""

import re
from dataclasses import replace
from types import ModuleType

import pytest

from cryptosvc.core import lifecycle
from cryptosvc.core.life import Event, Life, UnixSeconds
from cryptosvc.core.lifecycle import RULES, TRANSITIONS
from cryptosvc.core.registry import KeyState
from tests.claims import key_record
from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs/lifecycle.md").read_text()
EDGES = re.findall(r"^    (\S+) --> (\S+): (.+)$", PAGE, re.MULTILINE)


@pytest.fixture(scope="module")
def printer() -> ModuleType:
    import importlib.util

    spec = importlib.util.spec_from_file_location("lifecycle_page", REPOSITORY / "scripts/lifecycle_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_printed_from_the_tables(printer: ModuleType) -> None:
    """`scripts/lifecycle_page.py > docs/lifecycle.md` brings it up to date."""
    assert printer.page() == PAGE


def test_the_diagram_has_each_change_of_state_once_and_no_other() -> None:
    names = {state.name.lower(): state for state in KeyState} | {"[*]": None}
    drawn = {
        (names[begins], names[ends], event.strip())
        for begins, ends, label in EDGES
        for event in re.sub(r" \(or by .*\)", "", label).split(",")
    }
    table = {
        (state, one.to, event.value) for (state, event), one in TRANSITIONS.items() if state is not one.to
    }
    assert drawn == table


def test_every_event_is_in_the_table_of_the_page() -> None:
    for event in Event:
        assert re.search(rf"^\| {event} \| .+ \| `(key|transfer)\.[\w-]+` \| .+ \|$", PAGE, re.MULTILINE), (
            event
        )


@pytest.mark.parametrize("state", list(KeyState))
def test_a_schedule_goes_by_the_rules_of_the_page(state: KeyState) -> None:
    life = Life(
        milestones=((Event.ACTIVATE, UnixSeconds(5)),),
        activate_on=UnixSeconds(7),
        deactivate_on=UnixSeconds(9),
        usage_limit=1,
    )
    key = replace(key_record(), state=state, life=life)
    for one in lifecycle.schedule(key):
        assert RULES[one.rule][0] is one.event
    spent = lifecycle.spent(replace(key, life=replace(life, deactivate_on=None)), UnixSeconds(6))
    assert (spent is not None) is (state in (KeyState.ACTIVE, KeyState.SUSPENDED, KeyState.SPLIT))
    assert all(f"`{rule}`" in PAGE for rule in RULES)
