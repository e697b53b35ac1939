"""Transcripts: one that was held as planned verifies; whatever was changed afterwards, or was not as planned, does not."""

import re
from dataclasses import replace

import orjson
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from cryptosvc.core import dsse
from cryptosvc.core.ceremony.entries import Begun, Done, Footer, Mode, Outcome, Resumed
from cryptosvc.core.ceremony.printed import markdown
from cryptosvc.core.ceremony.rows import ActKind, Role
from cryptosvc.core.ceremony.transcript import PAYLOAD_TYPE, Transcript, emit, lines, parse
from cryptosvc.core.ceremony.verdict import LogKey, unmet, verify
from cryptosvc.core.errors import Corrupt, CryptosvcError, Malformed
from cryptosvc.core.fingerprint import from_words
from cryptosvc.core.names import Environment
from tests.ceremonies import (
    ORIGIN,
    READY,
    changed,
    entries,
    held,
    key,
    keys_of,
    note,
    people,
    person,
    script,
    sha,
    signed,
    spki_of,
)

PLAN = script("root-oca")
THERE = people(PLAN)
KEYS = keys_of(THERE)
_ECDSA = ec.ECDSA(hashes.SHA256())
LOG = LogKey(ORIGIN, spki_of(key("log")))


def refusal(octets: bytes, keys=KEYS, log=LOG) -> CryptosvcError:
    with pytest.raises(CryptosvcError) as caught:
        verify(octets, keys, log)
    return caught.value


def rule_of(found, there=THERE, keys=KEYS) -> str:
    return refusal(emit(signed(found, there)), keys).rule


@pytest.mark.parametrize("path", READY, ids=lambda path: path.stem)
@pytest.mark.parametrize("mode", Mode)
def test_a_ceremony_that_was_held_as_planned_verifies(path, mode):
    plan = script(path.stem)
    transcript = held(plan, mode)

    verdict = verify(emit(transcript), keys_of(people(plan)), LOG)

    assert verdict.script == plan
    assert (verdict.mode, verdict.outcome, verdict.steps) == (mode, Outcome.COMPLETED, len(plan.acts))
    assert verdict.signed_by == tuple(one.name for one in people(plan))
    assert parse(emit(transcript)) == parse(emit(parse(emit(transcript))))


def test_without_the_logs_key_the_verdict_says_that_the_log_was_not_checked():
    octets = emit(held(PLAN))
    assert verify(octets, KEYS).log_checked is False
    assert verify(octets, KEYS, LOG).log_checked is True
    assert refusal(octets, log=LogKey(ORIGIN, spki_of(key("another")))).rule == "checkpoint/unsigned"
    assert refusal(octets, log=LogKey("other.example/log", LOG.spki)).rule == "checkpoint/origin"


# --- changed afterwards -------------------------------------------------------------------------------------------


def test_a_transcript_that_was_cut_off_anywhere_does_not_verify():
    whole = emit(held(PLAN))
    ends = [at + 1 for at, octet in enumerate(whole) if octet == 0x0A][:-1]
    assert len(ends) == 2 * len(PLAN.acts) + 2
    for end in ends[:-1]:
        assert refusal(whole[:end]).rule == "transcript/unfinished"
        assert not parse(whole[:end]).footer
    assert refusal(whole[: ends[-1]]).rule == "transcript/unsigned"
    assert {refusal(whole[:end]).rule for end in range(1, 400, 7)} == {"transcript/line"}


def test_no_line_can_be_taken_out_doubled_or_moved():
    read = emit(held(PLAN)).splitlines(keepends=True)
    for at in range(1, len(read) - 1):
        without = read[:at] + read[at + 1 :]
        doubled = [*read[: at + 1], *read[at:]]
        moved = [*read[:at], read[at + 1], read[at], *read[at + 2 :]]
        for wrong in (without, doubled, moved):
            assert refusal(b"".join(wrong)).rule in {
                "transcript/chain",
                "transcript/line",
                "dsse/fields",
                "dsse/json",
            }


def test_parts_of_two_transcripts_do_not_join():
    first = emit(held(PLAN)).splitlines(keepends=True)
    second = emit(held(PLAN, start=1_800_100_000)).splitlines(keepends=True)
    for at in range(1, len(first) - 1):
        assert refusal(b"".join(first[:at] + second[at:])).rule == "transcript/chain"
    swapped = b"".join([*first[:-1], second[-1]])
    assert refusal(swapped).rule == "transcript/signatures"


def test_a_chain_that_was_made_anew_is_not_what_was_signed():
    honest = held(PLAN)
    rewritten = changed(
        list(honest.entries), 6, facts={**honest.entries[6].facts, "transferable": True, "leaf": 1}
    )
    forged = Transcript(tuple(rewritten), honest.envelope)
    assert parse(emit(forged)).entries[6].facts["leaf"] == 1
    assert refusal(emit(forged)).rule == "transcript/signatures"


def test_what_stands_behind_the_signatures_is_refused():
    whole = emit(held(PLAN))
    assert refusal(whole + whole.splitlines(keepends=True)[-1]).rule == "transcript/line"
    assert refusal(whole + b"\n").rule == "transcript/line"
    assert refusal(b"").rule == "transcript/line"
    assert refusal(b"\n").rule == "transcript/line"
    assert refusal(b"x" * ((16 << 20) + 1)).rule == "transcript/size"


@pytest.mark.parametrize("text", [b'{"kind":"header"}', b"[]", b"null", b'"x"', b"{", b"[" * 3000, b"\xff"])
def test_lines_that_are_no_entries_are_malformed(text):
    with pytest.raises(Malformed):
        parse(text + b"\n")


def test_another_spelling_of_the_same_line_is_refused():
    read = emit(held(PLAN)).splitlines()
    loose = orjson.dumps(orjson.loads(read[0]), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS).replace(
        b"\n", b""
    )
    assert refusal(b"\n".join([loose, *read[1:], b""])).rule == "transcript/line"
    more = orjson.dumps({**orjson.loads(read[0]), "more": 1}, option=orjson.OPT_SORT_KEYS)
    assert refusal(b"\n".join([more, *read[1:], b""])).rule == "transcript/line"


def test_a_second_header_is_refused():
    found = entries(PLAN)
    octets = b"".join(one + b"\n" for one in lines([found[0], found[0]]))
    assert refusal(octets).rule == "transcript/header"
    assert refusal(b"".join(one + b"\n" for one in lines(found[1:]))).rule == "transcript/header"


# --- signed by everyone, and still not as planned -----------------------------------------------------------------


def wrongly_held():
    """Name → (entries, rule): what people could agree to sign, and the verdict on it."""
    found = entries(PLAN)
    header, begun, done, footer = found[0], found[1], found[6], found[-1]
    act = {**begun.act, "statement": "I was not there."}
    script_changed = {**header.script, "location": "elsewhere "}
    return {
        "another act": (changed(found, 1, act=act), "act"),
        "another sentence": (changed(found, 1, sentence="Nothing."), "confirmation"),
        "confirmed otherwise": (changed(found, 1, confirmation="y"), "confirmation"),
        "stated by another role": (changed(found, 1, by=THERE[0].name), "people"),
        "by nobody present": (changed(found, 1, by="stranger"), "people"),
        "unexpected state": (changed(found, 6, facts={**done.facts, "state": "active"}), "expectation"),
        "a number for a truth": (changed(found, 6, facts={**done.facts, "transferable": 1}), "expectation"),
        "a result missing": (changed(found, 6, facts={}), "expectation"),
        "a step left out": (found[:3] + found[5:], "order"),
        "a step begun twice": (found[:2] + found[1:], "order"),
        "a result twice": ([*found[:3], found[2], *found[3:]], "order"),
        "steps the other way round": (found[:3] + found[5:7] + found[3:5] + found[7:], "order"),
        "one step more": ([*found[:-1], replace(found[-3], number=11, at=footer.at), footer], "outcome"),
        "stopped early, said completed": (found[:5] + found[-1:], "outcome"),
        "completed, said stopped": (
            changed(found, len(found) - 1, outcome=Outcome.STOPPED, reason="x"),
            "outcome",
        ),
        "completed for a reason": (changed(found, len(found) - 1, reason="x"), "outcome"),
        "time runs backwards": (changed(found, 4, at=found[1].at), "time"),
        "in another environment": (changed(found, 0, environment=Environment.TEST), "environment"),
        "in another system": (changed(found, 0, system="dcc-cos"), "system"),
        "the log shrank": (changed(found, len(found) - 1, checkpoint=note(9)), "checkpoint"),
        "a person twice": (changed(found, 0, present=(*header.present, header.present[0])), "people"),
        "a witness too few": (changed(found, 0, present=header.present[:-1]), "people"),
        "a plan as nobody prints it": (
            changed(found, 0, script={**header.script, "acts": [*header.script["acts"][:2]], "given": []}),
            "outcome",
        ),
        "an unknown plan": (changed(found, 0, script=script_changed), None),
    }


@pytest.mark.parametrize("name", wrongly_held())
def test_what_everyone_signed_is_still_judged(name):
    found, rule = wrongly_held()[name]
    said = rule_of(found)
    assert said == (f"transcript/{rule}" if rule else "ceremony/value")


def test_everyone_present_signs_and_nobody_else():
    found = entries(PLAN)
    assert rule_of(found, THERE[:-1]) == "transcript/signatures"
    assert rule_of(found, [*THERE, person("stranger", Role.WITNESS)]) == "transcript/signatures"
    other = replace(THERE[-1], key=key("another"))
    assert rule_of(found, [*THERE[:-1], other]) == "transcript/signatures"


def test_keys_are_believed_from_the_register_only():
    octets = emit(held(PLAN))
    without = {name: spki for name, spki in KEYS.items() if name != THERE[1].name}
    assert refusal(octets, without).rule == "transcript/people"
    assert refusal(octets, {**KEYS, THERE[1].name: spki_of(key("another"))}).rule == "transcript/people"


def test_signatures_over_something_else_do_not_count():
    honest = held(PLAN)
    signers = {dsse.key_id(one.spki): (lambda octets, one=one: one.key.sign(octets, _ECDSA)) for one in THERE}
    for kind, payload in ((PAYLOAD_TYPE, b"{}"), ("application/json", honest.envelope.payload)):
        wrong = honest.signed(dsse.sign(kind, payload, signers))
        assert refusal(emit(wrong)).rule == "transcript/signatures"


def test_one_person_has_no_two_roles_that_watch_each_other():
    watching = replace(THERE[-1].present, roles=(Role.WITNESS, Role.CUSTODIAN))
    found = entries(PLAN)
    header = found[0]
    assert rule_of(changed(found, 0, present=(*header.present[:-1], watching))) == "transcript/people"


def test_custodians_may_hold_parts():
    plan = script("recovery-key-split")
    there = people(plan)
    both = [
        replace(one, roles=(Role.CUSTODIAN, Role.PART_HOLDER)) for one in there if Role.CUSTODIAN in one.roles
    ]
    alone = [one for one in there if Role.CUSTODIAN not in one.roles]
    alone = [one for one in alone if one.name not in {"part-holder-4", "part-holder-5"}]
    meeting = [*alone, *both]
    found = changed(entries(plan), 0, present=tuple(one.present for one in meeting))
    assert verify(emit(signed(found, meeting)), keys_of(meeting), LOG).steps == len(plan.acts)


def test_in_live_a_split_carries_the_modules_own_evidence():
    plan = script("contingency-key-split")
    found = entries(plan)
    at = next(at for at, one in enumerate(found) if isinstance(one, Done) and "module_evidence" in one.facts)
    bare = {name: value for name, value in found[at].facts.items() if name != "module_evidence"}
    octets = emit(signed(changed(found, at, facts=bare), people(plan)))
    error = refusal(octets, keys_of(people(plan)))
    assert (error.rule, error.clause) == ("transcript/module-evidence", "G2.44B")


# --- interruptions ------------------------------------------------------------------------------------------------


def test_after_an_interruption_the_open_step_begins_again_or_is_found_done():
    found = entries(PLAN)
    at = found[7].at
    again = Resumed(reason="the power failed", by=THERE[0].name, at=at)
    for tail in ([again, *found[8:]], [again, again, replace(found[7]), *found[8:]]):
        transcript = signed([*found[:8], *tail], THERE)
        assert verify(emit(transcript), KEYS, LOG).interruptions == tail.count(again)
    stranger = replace(again, by="stranger")
    assert rule_of([*found[:8], stranger, *found[8:]]) == "transcript/people"


def test_a_step_that_was_begun_twice_is_judged_both_times():
    found = entries(PLAN)
    again = Resumed(reason="the power failed", by=THERE[0].name, at=found[7].at)
    first = replace(found[7], confirmation="yes")
    assert isinstance(first, Begun)
    assert rule_of([*found[:7], first, again, *found[7:]]) == "transcript/confirmation"


def test_a_ceremony_that_was_stopped_is_a_ceremony_and_says_why():
    found = entries(PLAN)
    stopped = Footer(
        outcome=Outcome.STOPPED, reason="a label exists already", checkpoint=note(20), at=found[8].at
    )
    for steps in (8, 9):
        verdict = verify(emit(signed([*found[:steps], stopped], THERE)), KEYS, LOG)
        assert verdict.outcome is Outcome.STOPPED
        assert verdict.steps == (steps - 1) // 2
    assert rule_of([*found[:8], replace(stopped, reason="")]) == "transcript/outcome"


def test_an_interrupted_transcript_reads_back_to_go_on_from():
    found = entries(PLAN)
    octets = b"".join(one + b"\n" for one in lines(found[:8]))
    transcript = parse(octets)
    assert emit(transcript) == octets
    begun, done = transcript.steps()[-1]
    assert (begun.number, done) == (4, None)
    assert (transcript.open_step(), transcript.done()) == (begun, 3)
    for entry in found[8:]:
        transcript = transcript.then(entry)
    assert verify(emit(signed(list(transcript.entries), THERE)), KEYS, LOG).script_sha256 == sha(PLAN.title)
    assert transcript.open_step() is None
    with pytest.raises(Malformed, match="has ended"):
        transcript.then(found[8])


# --- paper --------------------------------------------------------------------------------------------------------


def scalars(value):
    if isinstance(value, dict):
        return [one for inner in value.values() for one in scalars(inner)]
    if isinstance(value, list):
        return [one for inner in value for one in scalars(inner)]
    return [value]


@pytest.mark.parametrize("path", READY, ids=lambda path: path.stem)
def test_the_paper_holds_every_value_of_the_file(path):
    transcript = held(script(path.stem))
    paper = markdown(transcript)
    pressed = re.sub(r"\s", "", paper.replace("\\|", "|"))
    for line in emit(transcript).splitlines():
        entry = orjson.loads(line)
        for name in ("kind", "v", "previous", "payload"):  # the layout and the chain itself
            entry.pop(name, None)
        for value in scalars(entry):
            text = str(value).lower() if isinstance(value, bool) else str(value)
            assert re.sub(r"\s", "", text) in pressed, value


def test_the_paper_shows_fingerprints_as_words_to_read_aloud():
    transcript = held(PLAN)
    paper = markdown(transcript)
    block = paper.split("Fingerprint of `ceremony file`:\n\n")[1].splitlines()
    assert from_words(" ".join(block[1:5])).hex() == sha(PLAN.title)


def test_the_paper_says_what_is_a_rehearsal():
    assert "**REHEARSAL. Nothing made here is kept.**" in markdown(held(PLAN, Mode.REHEARSAL))
    assert "REHEARSAL" not in markdown(held(PLAN))


def test_values_cannot_pose_as_markup():
    found = entries(PLAN)
    found = changed(found, 6, facts={**found[6].facts, "note": "a | **b** | <script>"})
    paper = markdown(signed(found, THERE))
    assert "| `note` | `a \\| **b** \\| <script>` |" in paper
    with pytest.raises(Malformed):
        parse(emit(Transcript(tuple(changed(found, 6, facts={"note": "`x"})))))


def test_expected_lists_have_no_order_and_no_other_members():
    act = next(act for act in PLAN.acts if act.kind is ActKind.SELF_SIGN_CERTIFICATE)
    facts = {name: list(value) if isinstance(value, tuple) else value for name, value in act.expected}
    facts["key_usage"] = ["keyCertSign", "cRLSign"]
    assert unmet(act, facts) == ()
    for wrong in (["keyCertSign"], ["keyCertSign", "cRLSign", "cRLSign"], "keyCertSign", None):
        assert unmet(act, {**facts, "key_usage": wrong}) == ("key_usage",)


def test_corrupt_is_what_a_broken_chain_is():
    read = emit(held(PLAN)).splitlines(keepends=True)
    with pytest.raises(Corrupt, match="line 3 does not follow"):
        parse(b"".join([*read[:2], *read[3:]]))
