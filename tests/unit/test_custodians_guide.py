"""docs/custodians.md has every key press of every ready file, as the files say today."""

import os

import pytest

from cryptosvc.config.ceremony import read_ceremony
from cryptosvc.core.ceremony.guide import NAME, guide_markdown, presses
from cryptosvc.core.ceremony.rows import Role
from cryptosvc.core.ceremony.script import number_of
from cryptosvc.wiring.ceremony import judging
from tests.ceremonies import READY, script
from tests.conftest import REPOSITORY

PAGE = REPOSITORY / "docs" / "custodians.md"
MARK = "<!-- generated from scripts/ceremonies"


def test_the_page_has_every_key_press_of_every_file():
    printed = "\n" + "\n".join(guide_markdown(read_ceremony(path).script, path.name) for path in READY)
    page = PAGE.read_text(encoding="utf-8")
    head, mark, rest = page.partition(MARK)
    first, _, generated = rest.partition("\n")
    if os.environ.get("CRYPTOSVC_REWRITE"):
        PAGE.write_text(f"{head}{mark}{first}\n{printed}", encoding="utf-8")
        generated = printed

    assert generated == printed
    assert len(READY) == 13


def test_a_step_is_confirmed_named_and_compared():
    plan = script("root-oca")
    attested, checkpoint, generated = plan.acts[:3]

    assert number_of(plan, Role.WITNESS) == 2
    assert presses(attested, plan) == ("attest witness", NAME)
    assert presses(checkpoint, plan) == ("checkpoint", "")
    assert presses(generated, plan) == ("generate-key root-oca-1", "")


@pytest.mark.parametrize("path", READY, ids=lambda path: path.stem)
def test_check_prints_what_can_be_held(path):
    plan, summary = judging.check(path)
    assert plan.startswith(f"# {summary['title']}\n")
    assert all(act.sentence in plan for act in read_ceremony(path).script.acts)
