"""A real ceremony beside its rehearsal: what cannot but differ is shown, anything else is refused."""

from dataclasses import replace

import pytest

from cryptosvc.core.ceremony.difference import ABSENT, BY_NATURE, compare, require_as_rehearsed
from cryptosvc.core.ceremony.entries import Footer, Mode, Outcome, Resumed
from cryptosvc.core.ceremony.printed import differences_markdown
from cryptosvc.core.ceremony.transcript import Transcript
from cryptosvc.core.errors import Corrupt, Malformed
from tests.ceremonies import READY, changed, entries, note, script, sha

PLAN = script("issuing-oca")
LATER = 1_800_100_000
RESUMED = Resumed(reason="The power failed.", by="y", at=LATER)


def rehearsed(plan=PLAN) -> Transcript:
    return Transcript(tuple(entries(plan, Mode.REHEARSAL, prefix="trainee-")))


def real(found) -> Transcript:
    return Transcript(tuple(found))


def others(found) -> list[str]:
    differences = compare(rehearsed(), real(found))
    if differences.others:
        with pytest.raises(Corrupt, match="not as rehearsed"):
            require_as_rehearsed(differences)
    return [one.where for one in differences.others]


@pytest.mark.parametrize("path", READY, ids=lambda path: path.stem)
def test_a_ceremony_held_as_rehearsed_differs_by_nature_only(path):
    plan = script(path.stem)
    differences = compare(rehearsed(plan), real(entries(plan, start=LATER)))

    assert differences.others == ()
    require_as_rehearsed(differences)
    shown = {one.where: one for one in differences.by_nature}
    assert shown["header mode"].real == '"real"'
    assert shown["header modules.0.serial"].why == "module"
    assert shown["header present.0.person"].rehearsal.startswith('"trainee-')
    assert shown["step 1 done fingerprints.result"].why == "key value"
    assert all(one.why for one in differences.by_nature)


def test_every_field_that_may_differ_is_shown_with_both_values():
    found = entries(PLAN, start=LATER)
    found = changed(found, 6, facts={**found[6].facts, "leaf": 99})
    (leaf,) = [
        one for one in compare(rehearsed(), real(found)).by_nature if one.where == "step 3 done facts.leaf"
    ]
    assert (leaf.rehearsal, leaf.real, leaf.why) == ("3", "99", "state of the log")


def otherwise():
    """Name → (entries, where it must be noticed)."""
    found = entries(PLAN, start=LATER)
    header, step, done, footer = found[0], found[5], found[6], found[-1]
    odd = {"name": PLAN.module, "serial": "1"}
    return {
        "another policy": (changed(found, 0, policy_digest=sha("other")), "header policy_digest"),
        "another build": (changed(found, 0, build_sha256=sha("other")), "header build_sha256"),
        "another version": (changed(found, 0, software_version="0.2"), "header software_version"),
        "another file": (changed(found, 0, script_sha256=sha("other")), "header script_sha256"),
        "another system": (changed(found, 0, system="x"), "header system"),
        "a module more": (
            changed(found, 0, modules=(*header.modules, tuple(odd.items()))),
            "header modules.1.serial",
        ),
        "another module": (
            changed(found, 0, modules=(tuple({**dict(header.modules[0]), "name": "x"}.items()),)),
            "header modules.0.name",
        ),
        "a role changed": (
            changed(found, 0, present=(replace(header.present[0], roles=()), *header.present[1:])),
            "header present.0.roles",
        ),
        "somebody more": (
            changed(found, 0, present=(*header.present, header.present[0])),
            f"header present.{len(header.present)}.person",
        ),
        "another sentence": (changed(found, 5, sentence="x"), "step 3 begun sentence"),
        "another confirmation": (changed(found, 5, confirmation="x"), "step 3 begun confirmation"),
        "another class": (changed(found, 5, act={**step.act, "class": "x"}), "step 3 begun act.class"),
        "another state": (changed(found, 6, facts={**done.facts, "state": "x"}), "step 3 done facts.state"),
        "a fact more": (changed(found, 6, facts={**done.facts, "serial": "1"}), "step 3 done facts.serial"),
        "a fact that looks like one that may differ": (
            changed(found, 6, facts={**done.facts, "serials": "1"}),
            "step 3 done facts.serials",
        ),
        "a fact less": (
            changed(found, 6, facts={"state": "pre-activation"}),
            "step 3 done facts.transferable",
        ),
        "a fingerprint more": (
            changed(found, 6, fingerprints={**done.fingerprints, "x": sha("x")}),
            "step 3 done fingerprints.x",
        ),
        "a step begun again without an interruption": (
            [*found[:6], found[5], *found[6:]],
            "step 3 begun (2) sentence",
        ),
        "a step begun again otherwise": (
            [*found[:6], RESUMED, replace(found[5], act={**step.act, "class": "x"}), *found[6:]],
            "step 3 begun (2) act.class",
        ),
        "a step done again after an interruption": (
            [*found[:7], RESUMED, *found[5:]],
            "step 3 begun (2) sentence",
        ),
        "another step after an interruption": (
            [*found[:6], RESUMED, *found[7:]],
            "step 3 done facts.state",
        ),
        "a step twice": ([*found[:7], *found[5:]], "step 3 begun (2) sentence"),
        "a step less": (found[:-3] + found[-1:], "step 10 begun sentence"),
        "other order": (found[:3] + found[5:7] + found[3:5] + found[7:], "order of entries"),
        "stopped": (
            [*found[:-1], Footer(outcome=Outcome.STOPPED, reason="x", checkpoint=note(40), at=footer.at)],
            "footer outcome",
        ),
        "no footer": (found[:-1], "footer outcome"),
        "held before the rehearsal ended": (
            entries(PLAN, start=1_800_000_010),
            "rehearsal ended before the real ceremony began",
        ),
    }


@pytest.mark.parametrize("name", otherwise())
def test_what_was_not_rehearsed_is_noticed(name):
    found, where = otherwise()[name]
    assert where in others(found)


def test_a_ceremony_that_was_interrupted_and_then_did_the_same_is_as_rehearsed():
    found = entries(PLAN, start=LATER)
    begun = replace(found[5], by="somebody-else", at=LATER)
    whole = [*found[:5], RESUMED, found[5], RESUMED, begun, RESUMED, *found[6:]]
    differences = compare(rehearsed(), real(whole))
    require_as_rehearsed(differences)
    assert differences.others == ()
    # before it was begun; while it was open, and it was begun again; and when what it had left was whole
    assert [(one.after, one.again) for one in differences.interruptions] == [(2, 0), (2, 3), (2, 0)]
    page = differences_markdown(differences)
    assert "**As rehearsed, interrupted 3 times.**" in page
    assert page.count("The power failed.") == 3
    assert "**As rehearsed.**" in differences_markdown(compare(rehearsed(), real(found)))
    # what was done otherwise still counts, however often it was interrupted
    other = compare(rehearsed(), real([*whole[:-1], replace(whole[-1], outcome=Outcome.STOPPED)]))
    with pytest.raises(Corrupt, match="footer outcome"):
        require_as_rehearsed(other)
    assert len(other.interruptions) == 3
    assert "**NOT as rehearsed.**" in differences_markdown(other)


def test_a_rehearsal_is_not_resumed():
    found = entries(PLAN, Mode.REHEARSAL, prefix="trainee-")
    broken = Transcript((*found[:5], RESUMED, *found[5:]))
    shown = compare(broken, real(entries(PLAN, start=LATER)))
    assert "resumed reason" in [one.where for one in shown.others]


def test_evidence_of_the_module_is_in_the_real_ceremony_only_and_nowhere_else():
    plan = script("contingency-key-split")
    found = entries(plan, start=LATER)
    by_nature = {one.where: one for one in compare(rehearsed(plan), real(found)).by_nature}
    (evidence,) = [one for where, one in by_nature.items() if where.endswith("facts.module_evidence")]
    assert evidence.rehearsal == ABSENT
    backwards = compare(
        Transcript(tuple(changed(found, 0, mode=Mode.REHEARSAL))),
        Transcript(tuple(changed(list(rehearsed(plan).entries), 0, mode=Mode.REAL))),
    )
    assert any(one.where.endswith("facts.module_evidence") for one in backwards.others)


def test_two_of_a_kind_are_not_compared():
    for first, second in (
        (Mode.REAL, Mode.REHEARSAL),
        (Mode.REAL, Mode.REAL),
        (Mode.REHEARSAL, Mode.REHEARSAL),
    ):
        with pytest.raises(Malformed, match="rehearsal first"):
            compare(Transcript(tuple(entries(PLAN, first))), Transcript(tuple(entries(PLAN, second))))


def test_nothing_a_plan_says_may_differ_by_nature():
    assert not [
        field for field in BY_NATURE if field.startswith(("script", "act", "sentence", "confirmation"))
    ]
    assert "facts.state" not in BY_NATURE
    assert "policy_digest" not in BY_NATURE


def test_the_paper_shows_both_lists():
    found = entries(PLAN, start=LATER)
    good = differences_markdown(compare(rehearsed(), real(found)))
    bad = differences_markdown(compare(rehearsed(), real(changed(found, 0, policy_digest=sha("other")))))

    assert "## Not as rehearsed\n\nNothing." in good
    assert "header policy_digest" not in good
    assert f'`"{sha("other")}"`' in bad.split("## Different by nature")[0]
