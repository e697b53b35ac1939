"""A whole deployment for tests: token, TLS, configuration, `init`, `serve`, callers, and the log exported and verified.

Everything is in one folder and the service listens on a free port, so tests of several processes do not meet.

    deployment = make_deployment(tmp_path)
    with deployment.serving(), deployment.client() as client:
        client.sign(pre_command_request(1))
    log = deployment.verified_log()
"""

import hashlib
import json
import os
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import psycopg
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from cryptosvc.client.asynchronous import AsyncClient
from cryptosvc.client.calls import Client
from cryptosvc.client.channels import Target
from cryptosvc.client.messages import request
from cryptosvc.client.retries import Retries
from cryptosvc.core import erased
from cryptosvc.core.names import Eui64
from cryptosvc.pb.v1 import crypto_pb2
from tests import precommands
from tests.hsm_fixtures import TestToken, make_softhsm
from tests.pki import Authority, Identity

REPOSITORY = Path(__file__).resolve().parent.parent
KEY = "supplier-signing"
READY_WITHIN_SECONDS = 60.0
ONCE = Retries(attempts=1)
"""A client that never asks twice."""

KEYS = f"""\
[[keys]]
id = "{KEY}"
class = "command-signing"
role = 2
eui64 = "{precommands.SUPPLIER}"
"""

CALLERS = f"""\
[[callers]]
id = "supplier"
certificate = "tls/supplier.pem"
user_roles = ["IS"]
user_ids = ["{precommands.SUPPLIER}"]
grants = [{{ key_class = "command-signing" }}]

[[callers]]
id = "auditor"
certificate = "tls/auditor.pem"
auditor = true
"""


@dataclass(frozen=True)
class Entry:
    """One verified line of an export; of kind `erased` where the hash alone is left."""

    leaf_index: int
    octets: bytes
    fields: dict
    withheld: dict

    @property
    def leaf_hash(self) -> bytes:
        return erased.hash_of(self.octets)


@dataclass(frozen=True)
class Log:
    """An export that `cryptosvc audit verify` accepted."""

    octets: bytes
    entries: list[Entry]
    verdict: dict = field(default_factory=dict)

    def of_kind(self, kind: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.fields["kind"] == kind]

    def uses(self, key: str = KEY) -> list[Entry]:
        return [entry for entry in self.of_kind("use") if entry.fields["key"] == key]

    def require_holds(
        self, question: crypto_pb2.SignRequest, answer: crypto_pb2.SignResponse, public_key: bytes
    ) -> None:
        """The receipt leads to the entry of this very use, and the signature is good for what was asked."""
        entry = self.entries[answer.receipt.leaf_index]
        payload = question.gbcs_pre_command
        assert entry.leaf_hash == answer.receipt.leaf_hash
        assert entry.fields["kind"] == "use"
        assert entry.fields["outcome"] == "signed"
        assert entry.fields["request_id"] == question.request_id == answer.request_id
        assert entry.fields["payload_digest"] == hashlib.sha256(payload).hexdigest()
        assert entry.fields["result_digest"] == hashlib.sha256(answer.artefact).hexdigest()
        verify_signature(public_key, answer.signature, payload[1:-1])


@dataclass
class Deployment:
    """Files of one deployment, and its service while it runs.

    Args:
        folder: everything is in here.
        token: the test module.
        authority: issues client certificates.
        store: store URL.
        settings: values of the configuration file that tests change.
        environment: added to that of every process.

    """

    folder: Path
    token: TestToken
    authority: Authority
    store: str
    settings: dict[str, object]
    environment: dict[str, str] = field(default_factory=dict)
    public_points: dict[str, bytes] = field(default_factory=dict)
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    services: int = 0
    said: list[str] = field(default_factory=list)

    # Making

    def configure(self, **changes: object) -> None:
        """Write the configuration file, with changes."""
        self.settings |= changes
        config = self.token.config
        values = {
            "store": self.store,
            "policies": REPOSITORY / "policies",
            "library": config.library,
            "label": config.token_label,
            "serial": config.token_serial,
            "pin_file": self.token.folder / "pin",
            "manufacturer": config.manufacturer,
            "model": config.model,
            "firmware": config.firmware,
            "initialise": f'initialise = "{config.init_args}"' if config.init_args else "",
        }
        self.config.write_text(_CONFIG.format(**(_SETTINGS | self.settings | values)), encoding="utf-8")

    @property
    def config(self) -> Path:
        return self.folder / "cryptosvc.toml"

    @property
    def database(self) -> Path:
        """The SQLite file."""
        assert self.store.startswith("sqlite:///")
        return self.folder / self.store.removeprefix("sqlite:///")

    def identity(self, name: str, *, authority: Authority | None = None, expired: bool = False) -> Identity:
        """Make a TLS identity; its certificate is tls/NAME.pem then."""
        made = (authority or self.authority).client(name, expired=expired)
        tls = self.folder / "tls"
        (tls / f"{name}.pem").write_bytes(made.certificate)
        (tls / f"{name}.key").touch(mode=0o600)
        (tls / f"{name}.key").write_bytes(made.key)
        return made

    def init(self, provisioning: str = KEYS + CALLERS) -> dict:
        """Run `cryptosvc init`; keeps the log's public key."""
        path = self.folder / "provisioning.toml"
        path.write_text(provisioning, encoding="utf-8")
        answer = self.json("init", "--config", str(self.config), str(path))
        (self.folder / "log.pub.pem").write_text(answer["log_public_key"])
        return answer

    # Processes

    @property
    def process_environment(self) -> dict[str, str]:
        return os.environ | {"SOFTHSM2_CONF": self.token.conf} | self.environment

    def run(self, *arguments: str, module: str = "cryptosvc") -> subprocess.CompletedProcess[str]:
        """Run a program of the project to its end; `said` keeps what it wrote."""
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            env=self.process_environment,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        self.said += [done.stdout, done.stderr]
        return done

    def json(self, *arguments: str) -> dict:
        """The JSON a command answers with; it must succeed."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def start(self, *command: str) -> None:
        """Start the service and wait until every worker serves; `command` instead of `cryptosvc serve --config …`."""
        self.launch(*command)
        self.ready()

    def launch(self, *command: str) -> None:
        """Start the service."""
        self.services += 1
        arguments = command or ("-m", "cryptosvc", "serve", "--config", str(self.config))
        with self.service_log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *arguments],
                env=self.process_environment,
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def ready(self) -> None:
        """Wait until every worker serves."""
        self.port = int(str(self.event("ready")["address"]).rpartition(":")[2])

    @property
    def service_log(self) -> Path:
        """What the running service writes (the n-th of this deployment)."""
        return self.folder / f"service-{self.services}.log"

    def event(self, name: str, seconds: float = READY_WITHIN_SECONDS) -> dict:
        """Wait for a line of the service's log."""
        end = time.monotonic() + seconds
        while True:
            for line in self.service_log.read_bytes().splitlines():
                if line.startswith(b"{") and (found := orjson.loads(line)).get("event") == name:
                    return found
            assert self.process is not None
            assert self.process.poll() is None, self.service_log.read_text()[-3000:]
            assert time.monotonic() < end, (
                f"no {name!r} within {seconds} s:\n" + self.service_log.read_text()[-3000:]
            )
            time.sleep(0.03)

    def stop(self) -> None:
        """Stop the service as systemd does, and wait for it."""
        if self.process is not None:
            process, self.process = self.process, None
            process.terminate()
            try:
                assert process.wait(60) == 0, self.service_log.read_text()[-3000:]
            finally:
                process.kill()
                process.wait()

    @contextmanager
    def serving(self, *command: str) -> Iterator[None]:
        """Start, and stop at the end."""
        try:
            self.start(*command)
            yield
        finally:
            self.stop()

    def workers(self) -> list[int]:
        """Process ids of its workers."""
        assert self.process is not None
        supervisor = self.process.pid
        children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text()
        return [int(word) for word in children.split()]

    def kill_worker(self, number: int = 0) -> None:
        os.kill(self.workers()[number], signal.SIGKILL)

    # Callers

    def target(self, name: str | Identity = "supplier", connections: int = 8) -> Target:
        """Where the service is, for a caller: the name of an identity made before, or one."""
        if isinstance(name, str):
            tls = self.folder / "tls"
            certificate, key = (tls / f"{name}.pem").read_bytes(), (tls / f"{name}.key").read_bytes()
        else:
            certificate, key = name.certificate, name.key
        return Target(
            f"127.0.0.1:{self.port}", self.authority.certificate, certificate, key, connections=connections
        )

    def client(
        self,
        name: str | Identity = "supplier",
        *,
        connections: int = 2,
        retries: Retries | None = None,
        seconds: float = 30.0,
    ) -> Client:
        return Client(self.target(name, connections), retries=retries, seconds=seconds)

    def async_client(
        self,
        name: str | Identity = "supplier",
        *,
        connections: int = 8,
        retries: Retries | None = None,
        seconds: float = 30.0,
    ) -> AsyncClient:
        return AsyncClient(self.target(name, connections), retries=retries, seconds=seconds)

    def public_point(self, key_id: str = KEY, caller: str = "supplier") -> bytes:
        """A key's public point, as the running service tells it (and as remembered after)."""
        if key_id not in self.public_points:
            with self.client(caller) as client:
                self.public_points[key_id] = client.get_key(key_id).public_point
        return self.public_points[key_id]

    # The log

    def claims(self) -> tuple[list[int], int]:
        """Leaf indexes of closed claims, and how many are open, as the database has them."""
        sql = "SELECT leaves FROM claim"
        if self.store.startswith("sqlite"):
            with closing(sqlite3.connect(self.database, timeout=10)) as connection:
                rows = connection.execute(sql).fetchall()
        else:
            with psycopg.connect(self.store.replace("+psycopg", "")) as connection:
                rows = connection.execute(sql).fetchall()
        slots = [leaves[at : at + 8] for (leaves,) in rows for at in range(0, len(leaves), 8)]
        closed = [int.from_bytes(slot) for slot in slots if slot != b"\xff" * 8]
        return closed, len(slots) - len(closed)

    def open_claims(self) -> list[tuple[object, ...]]:
        """What the database has of each group with an open claim: number, deadline, leaves, and the newest number."""
        sql = "SELECT claim_batch, deadline, leaves, (SELECT max(claim_batch) FROM claim) FROM claim"
        if self.store.startswith("sqlite"):
            with closing(sqlite3.connect(self.database, timeout=10)) as connection:
                rows = connection.execute(sql).fetchall()
        else:
            with psycopg.connect(self.store.replace("+psycopg", "")) as connection:
                rows = connection.execute(sql).fetchall()
        return [row for row in rows if b"\xff" * 8 in bytes(row[2])] + [("now", time.time_ns())]

    def wait_swept(self, seconds: float = 30.0) -> None:
        """Wait until every claim has its end in the log; the service must be running."""
        end = time.monotonic() + seconds
        while self.claims()[1]:
            assert time.monotonic() < end, f"claims are still open after {seconds} s"
            time.sleep(0.1)

    def verified_log(self) -> Log:
        """Export the log and have `cryptosvc audit verify` verify it, as an auditor would: by two commands."""
        out = self.folder / f"log-{secrets.token_hex(4)}.export"
        self.json("audit", "export", "--config", str(self.config), str(out))
        verdict = self.json("audit", "verify", str(out), "--key", str(self.folder / "log.pub.pem"))
        octets = out.read_bytes()
        _, _, lines = octets.partition(b"\n\n")
        entries = []
        for number, line in enumerate(lines.splitlines()):
            entry, _, beside = line.partition(b"\t")
            fields = {"kind": "erased"} if erased.is_alone(entry) else orjson.loads(entry)
            entries.append(Entry(number, entry, fields, orjson.loads(beside or b"{}")))
        assert len(entries) == verdict["entries"] > 0
        return Log(octets, entries, verdict)


def make_deployment(
    folder: Path,
    *,
    store: str = "sqlite:///cryptosvc.db",
    keys: str = KEYS,
    callers: str = CALLERS,
    environment: dict[str, str] | None = None,
    **settings: object,
) -> Deployment:
    """Token, TLS, configuration and registry; not started. `settings` are those of `_SETTINGS`."""
    deployment = prepared(folder, store=store, environment=environment, **settings)
    deployment.init(keys + callers)
    return deployment


def prepared(
    folder: Path,
    *,
    store: str = "sqlite:///cryptosvc.db",
    environment: dict[str, str] | None = None,
    make_token: Callable[..., TestToken] = make_softhsm,
    **settings: object,
) -> Deployment:
    """As `make_deployment`, before `init`; its module is named softhsm, whatever makes its token."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / "tls").mkdir()
    authority = Authority()
    deployment = Deployment(
        folder,
        make_token(folder / "softhsm", name="softhsm"),
        authority,
        store,
        dict(settings),
        dict(environment or {}),
    )
    server = authority.server()
    (folder / "tls" / "ca.pem").write_bytes(authority.certificate)
    (folder / "tls" / "server.pem").write_bytes(server.certificate)
    (folder / "tls" / "server.key").touch(mode=0o600)
    (folder / "tls" / "server.key").write_bytes(server.key)
    for name in ("supplier", "auditor"):
        deployment.identity(name)
    deployment.configure()
    return deployment


def pre_command_request(
    counter: int, *, request_id: str = "", key_id: str = KEY, target: Eui64 | str = precommands.DEVICE
) -> crypto_pb2.SignRequest:
    """Ask for an ECS43 Pre-Command (disable supply) of our own making; each counter is another message."""
    return request(
        key_id,
        gbcs_pre_command=precommands.ecs43(counter=counter, target=target),
        request_id=request_id,
        service_reference_variant="7.2",
        user_id=str(precommands.SUPPLIER),
        user_role="IS",
    )


def verify_signature(public_point: bytes, signature: bytes, octets: bytes) -> None:
    """Raise InvalidSignature where r‖s is not good for the octets."""
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public_point)
    der = encode_dss_signature(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
    key.verify(der, octets, ec.ECDSA(hashes.SHA256()))


def knock(port: int, octets: bytes) -> bytes:
    """Say something to the port; what comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(octets)
        try:
            return connection.recv(4096)
        except ConnectionError:
            return b""


_SETTINGS: dict[str, object] = {
    "workers": 2,
    "claim_ttl": 60,
    "checkpoint_seconds": 60,
    "system": "fault",
    "worker_country": "GB",
    "environment": "test",
    "sessions": 2,
    "call_seconds": 10.0,
    "more": "",
}

_CONFIG = """\
[deployment]
system = "{system}"
environment = "{environment}"
worker_country = "{worker_country}"

[server]
listen = "127.0.0.1:0"
workers = {workers}
certificate = "tls/server.pem"
private_key = "tls/server.key"
client_ca = "tls/ca.pem"
longest_deadline_seconds = 20

[store]
url = "{store}"
anchor = "head.anchor"
claim_ttl_seconds = {claim_ttl}

[log]
origin = "cryptosvc.example/{system}"
checkpoint_seconds = {checkpoint_seconds}

[[modules]]
name = "softhsm"
library = "{library}"
token_label = "{label}"
token_serial = "{serial}"
pin_file = "{pin_file}"
sessions = {sessions}
call_seconds = {call_seconds}
manufacturer = "{manufacturer}"
model = "{model}"
firmware = "{firmware}"
{initialise}
country = "GB"

[policy]
folder = "{policies}"
{more}
"""
