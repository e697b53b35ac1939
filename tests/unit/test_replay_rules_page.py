"""docs/log-format.md names every rule by which deriving a log can fail, and no other."""

import re

from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs/log-format.md").read_text()
CORE = REPOSITORY / "cryptosvc/core"


def test_the_rules_of_replay_are_on_the_page() -> None:
    described = set(re.findall(r"^\| `(replay/[a-z-]+)` \| .+ \|$", PAGE, re.MULTILINE))
    source = (CORE / "replay.py").read_text()
    raised = {
        f"replay/{name}"
        for name in re.findall(r'_refused\(\s*change,[^()]*(?:\([^()]*\)[^()]*)*"([a-z-]+)"\s*\)', source)
    }
    raised |= set(re.findall(r'rule="(replay/[a-z-]+)"', source + (CORE / "derivation.py").read_text()))
    assert described == raised
    assert len(raised) >= 20
