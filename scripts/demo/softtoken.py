"""A SoftHSM token, initialised without its PINs ever standing in an argument list."""

import os
import pty
import re
import subprocess
from pathlib import Path

LIBRARIES = (
    Path("/usr/lib/softhsm/libsofthsm2.so"),
    Path("/usr/lib64/pkcs11/libsofthsm2.so"),
    Path("/usr/local/lib/softhsm/libsofthsm2.so"),
)


def library() -> Path:
    """Where SoftHSM is."""
    for path in LIBRARIES:
        if path.exists():
            return path
    raise FileNotFoundError("SoftHSM is not installed: apt-get install softhsm2")


def init_token(configuration: Path, label: str, pin: str, so_pin: str) -> str:
    """Initialise a free slot as the token `label`; return its serial number."""
    environment = os.environ | {"SOFTHSM2_CONF": str(configuration)}
    command = ["softhsm2-util", "--init-token", "--free", "--label", label]
    child, terminal = pty.fork()
    if child == 0:
        os.execvpe(command[0], command, environment)  # noqa: S606 - no shell is wanted
    said = b""
    # it asks four times: security officer's PIN, again, user's PIN, again; typing ahead would be flushed
    for answer in (so_pin, so_pin, pin, pin):
        said += _until_prompt(terminal)
        os.write(terminal, answer.encode() + b"\n")
    said += _rest(terminal)
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    if os.waitstatus_to_exitcode(status) != 0:
        raise RuntimeError(f"softhsm2-util could not make the token: {said.decode(errors='replace')}")
    return _serial(environment, label)


def _until_prompt(terminal: int) -> bytes:
    said = b""
    while not said.rstrip().endswith(b":"):
        said += os.read(terminal, 1024)
    return said


def _rest(terminal: int) -> bytes:
    said = b""
    while True:
        try:
            octets = os.read(terminal, 1024)
        except OSError:  # EIO: the other end is closed
            return said
        if not octets:
            return said
        said += octets


def _serial(environment: dict[str, str], label: str) -> str:
    shown = subprocess.run(
        ["softhsm2-util", "--show-slots"], env=environment, capture_output=True, text=True, check=True
    ).stdout
    for slot in shown.split("\nSlot ")[1:]:
        found = re.search(rf"Serial number:\s+(\w+)[\s\S]*Label:\s+{re.escape(label)}\s", slot + "\n")
        if found:
            return found[1]
    raise RuntimeError("softhsm2-util does not show the token it made")
