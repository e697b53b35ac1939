"""What `--help` says, as one text: read it in review. CRYPTOSVC_REWRITE=1 writes it anew."""

import os
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
COMMAND = REPOSITORY / ".venv" / "bin" / "cryptosvc"
TRANSCRIPT = Path(__file__).with_name("help.txt")
COMMANDS = (
    "",
    "serve",
    "init",
    "doctor",
    "reconcile",
    "sign",
    "explain",
    "mac",
    "verify-mac",
    "decrypt",
    "smets1",
    "smets1 encrypt",
    "smets1 authenticate",
    "smets1 decrypt",
    "smets1 wrap",
    "genesis",
    "genesis-draft",
    "genesis-sign",
    "propose",
    "approve",
    "withdraw",
    "submit",
    "execute",
    "device-key",
    "device-key import",
    "device-key show",
    "device-key rotate",
    "device-key re-wrap",
    "device-key destroy",
    "device-key certify",
    "device-key verify",
    "device-key transport",
    "proposal",
    "proposal list",
    "proposal show",
    "proposal setting",
    "custodian",
    "custodian list",
    "custodian show",
    "custodian draft",
    "caller",
    "caller list",
    "caller draft",
    "asset",
    "asset list",
    "key",
    "key list",
    "key due",
    "key export",
    "key request",
    "key show",
    "audit",
    "audit export",
    "audit verify",
    "audit checkpoint",
    "audit show",
    "audit prove",
    "audit query",
    "audit usage",
    "audit who",
    "audit why",
    "audit users",
    "audit range",
    "audit complete",
    "audit redact",
    "audit report",
    "audit console",
    "audit incident",
    "audit review",
    "audit review sign",
    "audit review record",
    "audit review list",
    "policy",
    "policy check",
    "policy explain",
    "policy matrix",
    "destruction",
    "destruction certify",
    "destruction verify",
    "ceremony",
    "ceremony check",
    "ceremony rehearse",
    "ceremony run",
    "ceremony resume",
    "ceremony diff",
    "ceremony verify",
    "transfer",
    "transfer carry-out",
    "transfer say",
    "transfer evidence",
    "transfer plan",
    "transfer scope",
    "transfer approval",
    "transfer sign-approval",
    "transfer verify",
)
AT_A_TERMINAL = frozenset({"ceremony rehearse", "ceremony run", "ceremony resume"})
"""Held before people, and written down in a transcript that programs read."""


def said(command: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CRYPTOSVC_")}
    done = subprocess.run(
        [str(COMMAND), *command.split(), "--help"],
        env=environment | {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return f"$ cryptosvc {command} --help".replace("  ", " ") + "\n" + done.stdout + "\n"


def test_the_transcript():
    found = "".join(map(said, COMMANDS))
    if os.environ.get("CRYPTOSVC_REWRITE"):
        TRANSCRIPT.write_text(found)

    assert found == TRANSCRIPT.read_text()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_answers_can_answer_in_json(command):
    text = said(command)

    is_group = command in {
        *(
            "",
            "smets1",
            "key",
            "audit",
            "audit review",
            "policy",
            "destruction",
            "device-key",
            "ceremony",
            "transfer",
            "proposal",
            "custodian",
            "caller",
            "asset",
        ),
    }
    assert ("--json" in text) is not (
        is_group or command in {"serve", "audit console"} or command in AT_A_TERMINAL
    )


def test_the_worker_is_not_for_people():
    assert not any(line.startswith("  worker") for line in said("").splitlines())
