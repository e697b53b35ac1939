"""A deployment to measure: one command-signing key on a SoftHSM token, one caller, as many workers as asked."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "scripts" / "demo"))

from certificates import TlsAuthority  # noqa: E402
from deployment import free_port  # noqa: E402
from measure import children  # noqa: E402

COMMAND = REPOSITORY / ".venv" / "bin" / "cryptosvc"
LABEL = "bench"
KEY_ID = "supplier-signing"
VARIANT = "7.2"
USER_ID = "90-B3-D5-1F-30-01-00-00"
USER_ROLE = "IS"
SUPPLIER = bytes.fromhex("90b3d51f30010000")
DEVICES = 512


@dataclass
class Deployment:
    """Files of one deployment, and its service process while it runs.

    Args:
        folder: everything is in here.
        library: PKCS#11 library to configure; None is SoftHSM itself.
        sessions: sessions of each worker.
        store: store URL; None is SQLite in the folder.
        provisioning: keys and callers; empty is one key that signs Commands.
        settings: what is configured besides.

    """

    folder: Path
    library: Path | None = None
    sessions: int = 1
    store: str | None = None
    provisioning: str = ""
    settings: str = ""
    port: int = 0
    token: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def target(self) -> str:
        """Where the service listens."""
        return f"127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What its processes run with."""
        return os.environ | {"SOFTHSM2_CONF": str(self.folder / "softhsm2.conf")}

    def make(self) -> None:
        """Token, TLS, configuration, registry."""
        self.folder.mkdir(mode=0o700, parents=True)
        tls = TlsAuthority(self.folder / "tls")
        tls.issue("server", server=True)
        tls.issue("caller")
        made = subprocess.run(
            [
                sys.executable,
                str(REPOSITORY / "softhsm" / "provision.py"),
                str(self.folder),
                "--label",
                LABEL,
            ],
            check=True,
            stdout=subprocess.PIPE,
        )
        self.token = json.loads(made.stdout)
        self.port = free_port()
        self.configure(1)
        (self.folder / "provisioning.toml").write_text(self.provisioning or PROVISIONING)
        subprocess.run(
            [
                str(COMMAND),
                "init",
                "--config",
                str(self.folder / "cryptosvc.toml"),
                str(self.folder / "provisioning.toml"),
            ],
            env=self.environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def configure(self, workers: int) -> None:
        """Write the configuration file."""
        (self.folder / "cryptosvc.toml").write_text(
            SETTINGS.format(
                port=self.port,
                workers=workers,
                store=self.store or "sqlite:///cryptosvc.db",
                library=self.library or self.token["library"],
                serial=self.token["serial"],
                sessions=self.sessions,
                policies=REPOSITORY / "policies",
            )
            + self.settings
        )

    def start(self, workers: int) -> list[int]:
        """Start the service; return the process ids of its workers."""
        self.configure(workers)
        log = self.folder / "service.log"
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [str(COMMAND), "serve", "--config", str(self.folder / "cryptosvc.toml")],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        until = time.monotonic() + 60
        while b'"event": "ready"' not in log.read_bytes() and b'"event":"ready"' not in log.read_bytes():
            if self.process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"the service did not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.05)
        return children(self.process.pid)

    def stop(self) -> None:
        """Stop the service."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)
            self.process = None

    def payloads(self, path: Path, count: int, first_counter: int) -> None:
        """Write `count` Pre-Commands that differ, each with a counter of its own (four-octet length before each)."""
        with path.open("wb") as file:
            for index in range(count):
                message = disable_supply(first_counter + index, index % DEVICES)
                file.write(len(message).to_bytes(4) + message)


def disable_supply(counter: int, device: int) -> bytes:
    """An ECS43 Pre-Command to one of the devices."""
    target = b"\x00\xdb\x12\x34" + device.to_bytes(4)
    payload = (
        b"\xd9\x20"
        + counter.to_bytes(8)[-3:]
        + b"\x00\x01\x03\x00\x09\x00\x00\x0a\x00\x6a\xff\x01\x01\x12\x00\x34"
    )
    return (
        b"\xdf\x09\x01"
        + counter.to_bytes(8)
        + b"\x08"
        + SUPPLIER
        + b"\x08"
        + target
        + b"\x00\x02\x00\x50"
        + bytes((len(payload),))
        + payload
        + b"\x00"
    )


SETTINGS = """\
[deployment]
system = "bench"
environment = "test"
worker_country = "GB"

[server]
listen = "127.0.0.1:{port}"
workers = {workers}
certificate = "tls/server.pem"
private_key = "tls/server.key"
client_ca = "tls/ca.pem"

[store]
url = "{store}"
anchor = "head.anchor"

[log]
origin = "cryptosvc.example/bench"

[[modules]]
name = "softhsm"
library = "{library}"
token_label = "bench"
token_serial = "{serial}"
pin_file = "pin"
sessions = {sessions}
manufacturer = "SoftHSM project"
model = "SoftHSM v2"
firmware = "2.6"
country = "GB"

[policy]
folder = "{policies}"
"""

PROVISIONING = """\
[[keys]]
id = "supplier-signing"
class = "command-signing"
role = 2
eui64 = "90-B3-D5-1F-30-01-00-00"

[[callers]]
id = "supplier"
certificate = "tls/caller.pem"
user_roles = ["IS"]
user_ids = ["90-B3-D5-1F-30-01-00-00"]

[[callers.grants]]
key_class = "command-signing"
"""
