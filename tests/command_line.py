"""The command line as a caller of a running deployment, in this process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from cryptosvc.cli.app import run
from cryptosvc.wiring.actions import WiredActions
from tests.deployment import Deployment

Command = Callable[..., tuple[int, dict[str, Any]]]


def caller(
    deployment: Deployment, folder: Path, capsys: pytest.CaptureFixture[str], name: str = "supplier"
) -> Command:
    """What runs `cryptosvc … --json` as the identity `name`: exit code, and the document printed.

    Octets among the words are written to a file, whose name takes their place.
    """
    tls = deployment.folder / "tls"
    authority = folder / "authority.pem"
    authority.write_bytes(deployment.target(name).authorities)
    where = ["--target", f"127.0.0.1:{deployment.port}", "--ca", str(authority)]
    where += ["--cert", str(tls / f"{name}.pem"), "--key", str(tls / f"{name}.key"), "--json"]

    def command(*words: str | bytes | Path) -> tuple[int, dict[str, Any]]:
        given: list[str] = []
        for number, word in enumerate(words):
            if isinstance(word, bytes):
                path = folder / f"given-{number}"
                path.write_bytes(word)
                given.append(str(path))
            else:
                given.append(str(word))
        capsys.readouterr()
        code = run(WiredActions(), [*given, *where])
        printed = capsys.readouterr().out
        return code, orjson.loads(printed) if printed else {}

    return command
