"""Tokens for tests: SoftHSM2, NSS softokn, and a SoftHSM2 token behind a p11-kit server that can be killed.

A PKCS#11 library is global to its process, and SoftHSM reads SOFTHSM2_CONF when it is initialised: a test points
the variable at its own folder (`monkeypatch.setenv("SOFTHSM2_CONF", token.conf)`) and closes what it opened.
"""

import ctypes
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from cryptosvc.adapters.hsm import provision
from cryptosvc.adapters.hsm.assurance import Assurance, ModuleConfig, Reported
from cryptosvc.adapters.hsm.constants import CKF_RW_SESSION, CKF_SERIAL_SESSION, CKU_SO, Ckm, TokenFlag
from cryptosvc.adapters.hsm.cryptoki import Functions, require
from cryptosvc.adapters.hsm.pins import PinFile
from cryptosvc.adapters.hsm.provision import Provisioner
from cryptosvc.core.keyclass import ceiling
from cryptosvc.core.names import Environment, ModuleName

REPOSITORY = Path(__file__).resolve().parent.parent
NSS_LIBRARY = "/usr/lib/x86_64-linux-gnu/libsoftokn3.so"
P11_KIT_CLIENT = "/usr/lib/x86_64-linux-gnu/pkcs11/p11-kit-client.so"
NO_ASSURANCE = Assurance(standard="", level=0, certificate="", country="GB")


@dataclass(frozen=True)
class TestToken:
    """A token that was made for one test (or one test module).

    Args:
        config: what to open it with.
        conf: value for SOFTHSM2_CONF.
        folder: where everything of it lies; `locks` in it is the lock folder.

    """

    __test__ = False

    config: ModuleConfig
    conf: str
    folder: Path

    @property
    def locks(self) -> Path:
        return self.folder / "locks"

    @property
    def pin(self) -> str:
        return (self.folder / "pin").read_text(encoding="ascii").strip()

    def with_config(self, **changes: object) -> "TestToken":
        return replace(self, config=replace(self.config, **changes))


def make_softhsm(
    folder: Path, *, name: str = "module", sessions: int = 2, label: str = "test-token"
) -> TestToken:
    """A SoftHSM2 token in `folder`, made by the project's own provisioning script in a process of its own."""
    made = subprocess.run(
        [sys.executable, REPOSITORY / "softhsm" / "provision.py", folder, "--label", label],
        check=True,
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    facts = json.loads(made.stdout)
    return TestToken(_config(name, facts["library"], facts, folder / "pin", sessions), facts["conf"], folder)


def make_nss(folder: Path, *, name: str = "module", sessions: int = 2) -> TestToken:
    """An NSS softokn database with a user PIN. NSS has no security officer: its PIN is empty until the user's is set."""
    database = folder / "nssdb"
    database.mkdir(parents=True)
    reserved = f"configdir='sql:{database}' certPrefix='' keyPrefix='' secmod='secmod.db' flags="
    pin_file = folder / "pin"
    pin_file.write_text(secrets.token_hex(8) + "\n", encoding="ascii")
    pin_file.chmod(0o600)
    functions = Functions.load(NSS_LIBRARY)
    functions.initialise(reserved.encode())
    try:
        slot = next(
            slot
            for slot in functions.slots()
            if Reported.of(functions.token(slot)).flags & TokenFlag.LOGIN_REQUIRED
            or Reported.of(functions.token(slot)).label == "NSS Certificate DB"
        )
        session = functions.open_session(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION)
        functions.login(session, CKU_SO, bytearray())
        pin = pin_file.read_bytes().strip()
        require("C_InitPIN", functions.C_InitPIN(session, ctypes.create_string_buffer(pin), len(pin)))
        functions.C_Logout(session)
        functions.C_CloseSession(session)
        reported = Reported.of(functions.token(slot))
    finally:
        functions.C_Finalize(None)
    facts = {key: getattr(reported, key) for key in ("label", "serial", "manufacturer", "model", "firmware")}
    config = replace(_config(name, NSS_LIBRARY, facts, pin_file, sessions), init_args=reserved)
    return TestToken(config, "", folder)


def _config(name: str, library: str, facts: dict[str, str], pin_file: Path, sessions: int) -> ModuleConfig:
    return ModuleConfig(
        name=ModuleName(name),
        library=library,
        token_label=facts["label"],
        token_serial=facts["serial"],
        pin=PinFile(pin_file),
        sessions=sessions,
        manufacturer=facts["manufacturer"],
        model=facts["model"],
        firmware=facts["firmware"],
        assurance=NO_ASSURANCE,
        worker_country="GB",
        environment=Environment.TEST,
    )


def plant_pair(token: TestToken, label: str, object_id: bytes) -> None:
    """Generate a pair under a label and id that may be taken: what an operator with another tool can do."""
    template = ceiling("audit-signing").template
    with Provisioner(token.config, token.locks) as provisioner:
        provisioner._library.functions.generate_pair(
            provisioner._session,
            Ckm.EC_KEY_PAIR_GEN,
            provision.wanted_public(label, object_id, template),
            provision.wanted(label, object_id, template),
        )


def build_slow_module(folder: Path) -> Path:
    """Compile the bench's slow module, which can also hang: see `scripts/bench_native/slow_module.c`."""
    compiler = shutil.which("cc")
    if compiler is None:
        if os.environ.get("CI"):
            pytest.fail("no C compiler")
        pytest.skip("no C compiler to build the slow module with")
    built = folder / "slow_module.so"
    source = REPOSITORY / "scripts" / "bench_native" / "slow_module.c"
    subprocess.run(
        [compiler, "-O2", "-shared", "-fPIC", "-o", built, source, "-ldl", "-lpthread"], check=True
    )
    return built


class DyingHsm:
    """A p11-kit server that serves a SoftHSM2 token on a socket, and can be killed and started again.

    The client library asks for the socket in P11_KIT_SERVER_ADDRESS: set it to `address`.
    """

    def __init__(self, token: TestToken) -> None:
        self._token = token
        self._socket = token.folder / "p11"
        self.address = f"unix:path={self._socket}"
        self._server: subprocess.Popen[bytes] | None = None
        self.token = token.with_config(library=P11_KIT_CLIENT)

    def start(self) -> None:
        self._socket.unlink(missing_ok=True)
        self._server = subprocess.Popen(
            [
                "p11-kit",
                "server",
                "--foreground",
                "--provider",
                self._token.config.library,
                "--name",
                self._socket,
                f"pkcs11:token={self._token.config.token_label}",
            ],
            env=os.environ | {"SOFTHSM2_CONF": self._token.conf},
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + 10
        while not self._socket.exists():
            if time.monotonic() > end or self._server.poll() is not None:
                raise RuntimeError("p11-kit server did not start")
            time.sleep(0.01)

    def kill(self) -> None:
        """Kill the server and the processes it forked for its connections."""
        if self._server is not None:
            os.killpg(self._server.pid, 9)
            self._server.wait()
            self._server = None
