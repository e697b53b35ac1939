"""docs/custodians.md has every key press of every ready file that can be held, as the files say today."""

import os

import pytest

from cryptosvc.config.ceremony import read_ceremony
from cryptosvc.core.ceremony.guide import NAME, guide_markdown, presses
from cryptosvc.core.ceremony.rows import ActKind, Role
from cryptosvc.core.ceremony.script import number_of
from cryptosvc.core.errors import Forbidden
from cryptosvc.wiring.ceremony import judging
from cryptosvc.wiring.ceremony.supported import UNSUPPORTED
from tests.ceremonies import READY, script
from tests.conftest import REPOSITORY

PAGE = REPOSITORY / "docs" / "custodians.md"
MARK = "<!-- generated from scripts/ceremonies"
HELD = [path for path in READY if not any(act.kind in UNSUPPORTED for act in read_ceremony(path).script.acts)]


def test_the_page_has_every_key_press_of_every_file():
    printed = "\n" + "\n".join(guide_markdown(read_ceremony(path).script, path.name) for path in HELD)
    page = PAGE.read_text(encoding="utf-8")
    head, mark, rest = page.partition(MARK)
    first, _, generated = rest.partition("\n")
    if os.environ.get("CRYPTOSVC_REWRITE"):
        PAGE.write_text(f"{head}{mark}{first}\n{printed}", encoding="utf-8")
        generated = printed

    assert generated == printed
    assert len(HELD) == 8


def test_a_step_is_confirmed_named_and_compared():
    plan = script("root-oca")
    attested, checkpoint, generated = plan.acts[:3]

    assert number_of(plan, Role.WITNESS) == 2
    assert presses(attested, plan) == ("attest witness", NAME)
    assert presses(checkpoint, plan) == ("checkpoint", "")
    assert presses(generated, plan) == ("generate-key root-oca-1", "")


@pytest.mark.parametrize("path", READY, ids=lambda path: path.stem)
def test_check_prints_what_can_be_held_and_refuses_what_cannot(path):
    if path in HELD:
        plan, summary = judging.check(path)
        assert plan.startswith(f"# {summary['title']}\n")
        assert all(act.sentence in plan for act in read_ceremony(path).script.acts)
        return
    with pytest.raises(Forbidden) as raised:
        judging.check(path)
    kinds = {act.kind for act in read_ceremony(path).script.acts} & UNSUPPORTED.keys()
    assert raised.value.rule == "ceremony/unsupported"
    assert any(kind.value in raised.value.message for kind in kinds)
    assert raised.value.clause.startswith("G2.44B")
    assert ActKind.BACK_UP not in kinds
