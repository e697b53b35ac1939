"""No change of a signed transcript verifies, whatever and wherever it is; and every change shows on paper."""

from functools import cache

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from cryptosvc.core.ceremony.difference import compare
from cryptosvc.core.ceremony.entries import Done, Mode
from cryptosvc.core.ceremony.printed import markdown
from cryptosvc.core.ceremony.script import document, read
from cryptosvc.core.ceremony.transcript import Transcript, emit, lines, link, parse
from cryptosvc.core.ceremony.verdict import verify
from cryptosvc.core.errors import CryptosvcError, Malformed, Refusal
from tests.ceremonies import READY, changed, entries, held, keys_of, people, script

PLAN = script("destruction")
KEYS = keys_of(people(PLAN))
TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
VALUES = st.one_of(TEXTS, st.integers(-5, 10**6), st.booleans(), st.none(), st.lists(TEXTS, max_size=2))


@cache
def whole() -> bytes:
    return emit(held(PLAN))


def verifies(octets: bytes) -> bool:
    try:
        verify(octets, KEYS)
    except CryptosvcError:
        return False
    return True


def test_the_untouched_transcript_verifies():
    assert verifies(whole())


@given(st.data())
@settings(deadline=None, max_examples=300)
def test_no_changed_octet_verifies(data):
    octets = bytearray(whole())
    octets[data.draw(st.integers(0, len(octets) - 1))] ^= data.draw(st.integers(1, 255))
    assert not verifies(bytes(octets))


@given(st.permutations(range(whole().count(b"\n"))), st.integers(0, 30))
@settings(deadline=None, max_examples=150)
def test_no_other_order_and_no_shorter_selection_verifies(order, keep):
    read = whole().splitlines(keepends=True)
    chosen = list(order)[:keep]
    assert verifies(b"".join(read[at] for at in chosen)) == (chosen == list(range(len(read))))


@given(st.data())
@settings(deadline=None, max_examples=200)
def test_no_piece_of_another_transcript_fits_in(data):
    read = whole().splitlines(keepends=True)
    strange = emit(held(PLAN, start=1_700_000_000)).splitlines(keepends=True)
    at, other = (data.draw(st.integers(0, len(read) - 1)) for _ in range(2))
    assert not verifies(b"".join([*read[:at], strange[other], *read[at + 1 :]]))
    assert not verifies(b"".join([*read[:at], strange[other], *read[at:]]))


def leaves(value, path=()):
    if isinstance(value, dict):
        return [one for name, inner in value.items() for one in leaves(inner, (*path, name))]
    if isinstance(value, list):
        return [one for at, inner in enumerate(value) for one in leaves(inner, (*path, at))]
    return [path]


@given(st.data())
@settings(deadline=None, max_examples=200)
def test_no_changed_field_verifies_even_in_a_chain_made_anew(data):
    """Every entry is printed again after the change; only the signatures stand against it."""
    envelope = parse(whole()).envelope
    read = [orjson.loads(one) for one in whole().splitlines()[:-1]]
    at = data.draw(st.integers(0, len(read) - 1))
    path = data.draw(st.sampled_from(leaves(read[at])))
    inner = read[at]
    for part in path[:-1]:
        inner = inner[part]
    old, new = inner[path[-1]], data.draw(VALUES)
    inner[path[-1]] = new
    try:
        octets = rechained(read, envelope)
    except Malformed:
        return
    assert verifies(octets) == ((type(old) is type(new) and old == new) or path == ("previous",))


def rechained(read, envelope) -> bytes:
    found = []
    for one in read:
        previous = found[-1] if found else None
        printed = lines_of(one, previous)
        found.append(printed)
    return emit(Transcript(parse(b"".join(one + b"\n" for one in found)).entries, envelope))


def lines_of(entry, previous) -> bytes:
    try:
        return orjson.dumps({**entry, "previous": link(previous)}, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        raise Malformed("not JSON", rule="test") from None


@given(
    st.integers(1, 2 * len(PLAN.acts)),
    st.sampled_from(["note", "state", "leaf"]),
    st.text("abc|*<", min_size=1),
)
@settings(deadline=None)
def test_every_changed_fact_shows_on_paper_and_in_the_comparison(position, name, value):
    found = entries(PLAN, start=1_800_100_000)
    entry = found[position]
    if not isinstance(entry, Done) or entry.facts.get(name) == value:
        return
    other = changed(found, position, facts={**entry.facts, name: value})
    before, after = Transcript(tuple(found)), Transcript(tuple(other))
    assert markdown(before) != markdown(after)
    rehearsal = Transcript(tuple(entries(PLAN, Mode.REHEARSAL)))
    shown = compare(rehearsal, after)
    assert (name == "leaf" and name in entry.facts) == (not shown.others)
    assert any(one.where.endswith(f"facts.{name}") for one in (*shown.others, *shown.by_nature))


@given(st.integers(0, 11), st.data())
@settings(deadline=None)
def test_a_cut_chain_reads_back_as_far_as_it_goes(steps, data):
    found = parse(whole()).entries[: 1 + steps]
    octets = b"".join(one + b"\n" for one in lines(found))
    assert emit(parse(octets)) == octets
    cut = octets[: data.draw(st.integers(0, len(octets) - 1))]
    try:
        assert emit(parse(cut)) == cut
    except Refusal:
        assert not cut.endswith(b"\n")


@given(st.sampled_from(READY), st.data())
@settings(deadline=None, max_examples=300)
def test_a_changed_plan_is_refused_or_is_read_as_what_it_prints(path, data):
    tree = orjson.loads(orjson.dumps(document(script(path.stem))))
    where = data.draw(st.sampled_from(leaves(tree)))
    inner = tree
    for part in where[:-1]:
        inner = inner[part]
    if data.draw(st.booleans()):
        inner[where[-1]] = data.draw(VALUES)
    elif isinstance(inner, dict):
        inner[data.draw(TEXTS)] = data.draw(VALUES)
    try:
        plan = read(tree)
    except Malformed as error:
        refused = error
    else:
        assert read(document(plan)) == plan
        return
    assert refused.rule.startswith("ceremony/")
    assert refused.field
