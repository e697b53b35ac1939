"""A deployment as `scripts/quickstart --keep` leaves it: real processes, mutual TLS, SoftHSM2, SQLite."""

import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.browser import browser  # noqa: F401  # a fixture, one for all modules

REPOSITORY = Path(__file__).resolve().parents[2]
COMMAND = REPOSITORY / ".venv" / "bin" / "cryptosvc"


@dataclass(frozen=True)
class Quickstart:
    """What one run left.

    Args:
        folder: its files.
        output: what it printed.
        seconds: how long it took.
        environment: what `environment` sets, for the supplier.

    """

    folder: Path
    output: str
    seconds: float
    environment: dict[str, str]

    def run(
        self, *arguments: str, caller: str = "supplier", **changes: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `cryptosvc` as a caller."""
        tls = self.folder / "tls"
        mine = {"CRYPTOSVC_CERT": str(tls / f"{caller}.pem"), "CRYPTOSVC_KEY": str(tls / f"{caller}.key")}
        return subprocess.run(
            [str(COMMAND), *arguments],
            env=self.environment | mine | changes,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def json(self, *arguments: str, caller: str = "supplier"):
        """The JSON a command answers with; it must succeed."""
        done = self.run(*arguments, "--json", caller=caller)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    @property
    def process_id(self) -> int:
        """The supervisor."""
        return int((self.folder / "service.pid").read_text())

    def workers(self) -> list[int]:
        """Process ids of its workers."""
        children = Path(f"/proc/{self.process_id}/task/{self.process_id}/children").read_text()
        return [int(word) for word in children.split()]


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory) -> Iterator[Quickstart]:
    """Run it once for all tests of the group."""
    made = run_quickstart(tmp_path_factory.mktemp("e2e") / "quickstart")
    yield made
    end(made.process_id)


def run_quickstart(folder: Path, **environment: str) -> Quickstart:
    """Run `scripts/quickstart --keep` in a folder of its own; it must succeed."""
    started = time.monotonic()
    done = subprocess.run(
        [str(REPOSITORY / "scripts" / "quickstart"), "--keep"],
        env=os.environ | {"QUICKSTART_FOLDER": str(folder)} | environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    seconds = time.monotonic() - started
    assert done.returncode == 0, done.stdout + done.stderr
    return Quickstart(folder, done.stdout, seconds, os.environ | _exports(folder / "environment"))


def _exports(file: Path) -> dict[str, str]:
    words = [word for line in file.read_text().splitlines() for word in shlex.split(line) if "=" in word]
    return dict(word.split("=", 1) for word in words if not word.startswith("PATH="))


def end(process_id: int) -> None:
    """Stop a service and wait for it."""
    try:
        os.kill(process_id, signal.SIGTERM)
        for _ in range(300):
            os.kill(process_id, 0)
            time.sleep(0.1)
    except ProcessLookupError:
        return
    os.kill(process_id, signal.SIGKILL)
