"""A command that signs does not prove again what this very software has proven: the log says so."""

import shutil
from pathlib import Path

import pytest

from tests.deployment import REPOSITORY, Deployment, make_deployment


@pytest.mark.slow
def test_policies_are_proven_by_a_worker_and_again_once_they_are_others(tmp_path: Path) -> None:
    deployment = make_deployment(tmp_path / "deployment", workers=1)
    assert proves(deployment, "1")  # no worker has served yet
    with deployment.serving():
        pass
    assert not proves(deployment, "2")
    policies = tmp_path / "policies"
    shutil.copytree(REPOSITORY / "policies", policies)
    (policies / "99-more.cedar").write_text("// nothing but a comment: the digest is another\n")
    text = deployment.config.read_text(encoding="utf-8")
    deployment.config.write_text(text.replace(str(REPOSITORY / "policies"), str(policies)), encoding="utf-8")
    assert proves(deployment, "3")


def proves(deployment: Deployment, name: str) -> bool:
    """Export the log; whether the policies were proven for it."""
    out = str(deployment.folder / f"{name}.export")
    command = ("audit", "export", "--config", str(deployment.config), out)
    done = deployment.run(*command, module="tests.told_of_proofs")
    assert done.returncode == 0, done.stderr
    return "proving" in done.stderr
