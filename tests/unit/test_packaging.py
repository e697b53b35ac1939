"""Dockerfile and systemd unit hold what they promise, as far as their text shows it.

`scripts/check-dockerfile` runs the Dockerfile's steps in clean Debian roots; that takes minutes, root and a mirror.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
UNIT = REPOSITORY / "packaging" / "cryptosvc.service"
RECONCILE = REPOSITORY / "packaging" / "cryptosvc-reconcile.service"
EXPOSURE_AT_MOST = 2.0


def stages() -> dict[str, tuple[str, list[str]]]:
    """Name → (base, instructions) of each stage, in order."""
    text = "\n".join(
        line for line in (REPOSITORY / "Dockerfile").read_text().splitlines() if not line.startswith("#")
    )
    found: dict[str, tuple[str, list[str]]] = {}
    for line in filter(None, map(str.strip, text.replace("\\\n", " ").splitlines())):
        if line.startswith("FROM "):
            _, base, _, name = line.split()
            found[name] = (base, [])
        else:
            found[name][1].append(line)
    return found


def ancestry(name: str) -> list[str]:
    """Every instruction a stage is made of, its bases' first."""
    every = stages()
    base, own = every[name]
    return [*(ancestry(base) if base in every else []), *own]


def test_a_plain_build_gives_the_service_as_a_user_that_is_not_root():
    assert list(stages())[-1] == "service"
    for name in ("service", "test"):
        assert [line for line in ancestry(name) if line.startswith("USER")][-1] == "USER cryptosvc"


def test_softhsm_is_in_the_test_target_only():
    assert any("softhsm2" in line for line in ancestry("test"))
    assert not any("softhsm" in line for line in ancestry("service"))


def test_dependencies_are_installed_by_hash_and_pip_does_not_stay():
    (install,) = [line for line in ancestry("build") if "pip install" in line]

    assert "--require-hashes" in install
    assert "--only-binary :all:" in install
    assert "uninstall --yes pip" in install
    assert not any("pip" in line for line in ancestry("service"))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("path", [UNIT, RECONCILE], ids=lambda path: path.name)
def test_the_unit_is_hardened(path: Path):
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    exposure = re.search(r"Overall exposure level for \S+: (\d+\.\d+)", done.stdout)

    assert exposure, done.stderr
    assert float(exposure[1]) <= EXPOSURE_AT_MOST


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("path", [UNIT, RECONCILE], ids=lambda path: path.name)
def test_systemd_understands_the_unit(tmp_path: Path, path: Path):
    unit = tmp_path / path.name
    # the command is not installed where tests run; everything else must stand
    unit.write_text(path.read_text().replace("/opt/cryptosvc/bin/cryptosvc", "/bin/true"))
    timer = tmp_path / RECONCILE.with_suffix(".timer").name
    timer.write_text(RECONCILE.with_suffix(".timer").read_text())
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit), *([str(timer)] if path == RECONCILE else [])],
        capture_output=True,
        text=True,
        check=False,
    )

    assert [line for line in done.stderr.splitlines() if path.stem in line] == []


def test_what_runs_beside_the_service_is_confined_like_it_and_ends_no_act_by_itself():
    def confined(path: Path) -> list[str]:
        text = path.read_text().partition("# Nothing of the machine")[2].partition("[Install]")[0]
        return [line for line in text.splitlines() if "=" in line and not line.startswith("#")]

    assert confined(RECONCILE) == confined(UNIT) != []
    (command,) = re.findall(r"^ExecStart=(.*)$", RECONCILE.read_text(), re.MULTILINE)
    assert command.split()[1:] == ["reconcile", "--config", "/etc/cryptosvc/cryptosvc.toml"]


def test_the_unit_waits_longer_than_the_longest_call():
    unit = UNIT.read_text()
    (stop,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    (longest,) = re.findall(
        r"^longest_deadline_seconds = (\d+)$", (REPOSITORY / "config.example.toml").read_text(), re.MULTILINE
    )

    assert int(stop) >= int(longest) + 10
