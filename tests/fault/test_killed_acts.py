"""Kill -9 at each step of generating, adopting and destroying a key, on SoftHSM2 and SQLite: what is left is ended.

Covers SEC G5.13 (never an unrecorded key; destroyed means destroyed) and G2.3.
"""

import json
import signal
from pathlib import Path

import pytest

from tests import governed
from tests.killed_acts import STEPS, key_of

ENDINGS = {
    # 1 nothing was made, or half of it: failed, cleared away, and proposed again
    **{
        key_of("key.generate", step): "failed"
        for step in ("executing-after-commit", "begins", "only-public", "only-private")
    },
    # 2 the module has it: the record follows
    **{key_of("key.generate", step): "done" for step in ("made", "answered", "done-before-commit")},
    **{
        key_of("key.register", step): "done"
        for step in ("executing-after-commit", "answered", "done-before-commit")
    },
    # 3 what was to be destroyed is destroyed
    **{
        key_of("key.destroy", step): "done"
        for step in STEPS["key.destroy"]
        if step not in ("executing-before-commit", "done-after-commit")
    },
}

LEFT = {
    "unregistered-module softhsm",
    f"unknown-object softhsm/{key_of('key.register', 'executing-before-commit')}",
}
"""What the test itself put there: a module nobody entered, and an object whose adoption did not begin."""


@pytest.mark.slow
def test_a_kill_at_each_step_leaves_what_reconcile_ends(tmp_path: Path):
    deployment, _ = governed.founded(tmp_path)
    done = deployment.run(str(deployment.config), module="tests.killed_acts")
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    # 1 each process died where it was to die
    every = {key_of(act, step) for act, steps in STEPS.items() for step in steps}
    assert found["deaths"] == dict.fromkeys(every, -signal.SIGKILL), done.stderr[-3000:]
    # 2 what began a moment ago is left alone; then each act has one end, and no second
    assert found["early"] == ["executing"]
    assert found["endings"] == ENDINGS
    assert found["again"] == 0
    # 3 modules, registry and log agree: no object without its record, no record without its object
    assert set(found["differences"]) == LEFT
    # 4 nothing is in the way of doing what was not done
    failed = {name for name, state in ENDINGS.items() if state == "failed"}
    assert found["retried"] == dict.fromkeys(
        {*failed, key_of("key.generate", "executing-before-commit")}, "pre-activation"
    )
    assert set(found["left"]) == LEFT
    states = found["states"]
    assert {states[key_of("key.destroy", step)] for step in STEPS["key.destroy"][1:]} == {"destroyed"}
    assert states[key_of("key.destroy", "executing-before-commit")] == "pre-activation"
    assert key_of("key.register", "executing-before-commit") not in states
    # 5 an auditor derives all of it again
    log = deployment.verified_log()
    outcomes = [one.fields for one in log.of_kind("reconciled")]
    assert [one["operation"] for one in outcomes].count("compare") == 2
