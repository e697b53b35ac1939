"""The demonstration's own deployment: a token, certificates, configuration and a service process, in one folder."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from certificates import TlsAuthority

REPOSITORY = Path(__file__).resolve().parents[2]
COMMAND = REPOSITORY / ".venv" / "bin" / "cryptosvc"
READY_WITHIN_SECONDS = 30.0
SUPPLIER = bytes.fromhex("90b3d51f30010000")
DEVICE = bytes.fromhex("00db1234567890a0")
SYSTEM = "quickstart"
_MARK = ".made-by-quickstart"
"""In a folder that may be made anew."""


class Failed(Exception):
    """The demonstration cannot go on; says why."""


class Deployment:
    """Files, and the processes that use them.

    Args:
        folder: everything is in here; made anew.

    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "cryptosvc.toml"
        self.provisioning = folder / "provisioning.toml"
        self.log = folder / "service.log"
        self.token = folder / "softhsm"
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def target(self) -> str:
        """Where the service listens."""
        return f"127.0.0.1:{self.port}"

    def prepare(self) -> None:
        """Make the folder anew: token, TLS certificates, configuration."""
        if self.folder.exists() and any(self.folder.iterdir()) and not (self.folder / _MARK).exists():
            raise Failed(f"{self.folder} holds something that this did not make; empty it or name another")
        stop_earlier(self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(mode=0o700)
        (self.folder / _MARK).touch()
        (self.folder / "pki").mkdir()
        (self.folder / "signed").mkdir()
        tls = TlsAuthority(self.folder / "tls")
        tls.issue("server", server=True)
        for caller in ("oca-operator", "supplier", "auditor"):
            tls.issue(caller)
        token = self._make_token()
        self.port = free_port()
        self.config.write_text(self._settings(token))

    def command(self, *arguments: str) -> dict[str, object]:
        """Run `cryptosvc … --json` and return its answer; Failed where it has another exit code than 0."""
        done = subprocess.run(
            [str(COMMAND), *arguments, "--json"],
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise Failed(f"cryptosvc {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
        answer: dict[str, object] = json.loads(done.stdout)
        return answer

    def environment(self) -> dict[str, str]:
        """What the processes of the deployment run with."""
        return os.environ | {
            "SOFTHSM2_CONF": str(self.token / "softhsm2.conf"),
            "CRYPTOSVC_CONFIG": str(self.config),
        }

    def start(self) -> None:
        """Start the service and wait until every worker serves."""
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(COMMAND), "serve"],
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # with --keep it goes on after the terminal is gone
            )
        (self.folder / "service.pid").write_text(str(self._process.pid))
        until = time.monotonic() + READY_WITHIN_SECONDS
        while b'"event": "ready"' not in self.log.read_bytes():
            if self._process.poll() is not None or time.monotonic() > until:
                raise Failed(f"the service did not start; its log ends:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop the service and wait for it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
            self._process = None

    def _make_token(self) -> dict[str, str]:
        """A SoftHSM token of our own; its PINs go to files only we can read."""
        made = subprocess.run(
            [
                sys.executable,
                str(REPOSITORY / "softhsm" / "provision.py"),
                str(self.token),
                "--label",
                SYSTEM,
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode != 0:
            raise Failed(f"no test token could be made:\n{made.stderr}")
        token: dict[str, str] = json.loads(made.stdout)
        return token

    def _settings(self, token: dict[str, str]) -> str:
        duis = _duis_schemas()
        return f"""\
# Made by scripts/quickstart. config.example.toml explains every setting.
[deployment]
system = "{SYSTEM}"
environment = "test"
worker_country = "GB"

[server]
listen = "127.0.0.1:{self.port}"
workers = {min(os.cpu_count() or 1, 2)}
certificate = "tls/server.pem"
private_key = "tls/server.key"
client_ca = "tls/ca.pem"

[store]
url = "{os.environ.get("QUICKSTART_STORE", "sqlite:///cryptosvc.db")}"
anchor = "head.anchor"

[log]
origin = "cryptosvc.example/quickstart"
checkpoint_seconds = 1

[[modules]]
name = "softhsm"
library = "{token["library"]}"
token_label = "{token["label"]}"
token_serial = "{token["serial"]}"
pin_file = "softhsm/pin"
manufacturer = "{token["manufacturer"]}"
model = "{token["model"]}"
firmware = "{token["firmware"]}"
country = "GB"

[policy]
folder = "{REPOSITORY / "policies"}"

[duis]
{duis}
"""


def stop_earlier(folder: Path) -> None:
    """Stop the service that an earlier run with --keep left in this folder."""
    try:
        process_id = int((folder / "service.pid").read_text())
        command = Path(f"/proc/{process_id}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return
    if b"cryptosvc" not in command or b"serve" not in command:
        return  # the number is another process's by now
    os.kill(process_id, signal.SIGTERM)
    for _ in range(600):
        if not Path(f"/proc/{process_id}").exists():
            return
        time.sleep(0.1)
    raise Failed(f"the service of an earlier run (process {process_id}) does not stop")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _duis_schemas() -> str:
    """The DCC's schema where it is at hand (it cannot be shipped), else the stand-in."""
    given = os.environ.get("CRYPTOSVC_GBCS_DATA")
    folder = (Path(given) if given else REPOSITORY.parent / "shared" / "gbcs") / "duis_xsd"
    found = (
        {path.name.split()[0].split("-")[0]: path for path in folder.glob("*.xsd")} if folder.is_dir() else {}
    )
    if {"DUIS", "MMC", "xmldsig"} <= found.keys():
        return "\n".join(
            (
                f'schema = "{found["DUIS"]}"',
                f'xmldsig_schema = "{found["xmldsig"]}"',
                f'other_schemas = ["{found["MMC"]}"]',
            )
        )
    examples = REPOSITORY / "examples" / "duis"
    return f'schema = "{examples / "demo.xsd"}"\nxmldsig_schema = "{examples / "xmldsig-subset.xsd"}"'
