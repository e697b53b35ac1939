"""Tokens of kryoptic, a module that has the key derivation of GBCS; built by scripts/kryoptic outside of the project."""

import ctypes
import os
import secrets
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cryptosvc.adapters.hsm.assurance import Reported
from cryptosvc.adapters.hsm.constants import CKF_RW_SESSION, CKF_SERIAL_SESSION, CKU_SO
from cryptosvc.adapters.hsm.cryptoki import Functions, require
from tests.hsm_fixtures import REPOSITORY, TestToken, _config

BUILT_IN_SECONDS = 600


def library() -> str:
    """Path of the library, built where it is not yet; a test is skipped only where there is no cargo to build it with."""
    if shutil.which("cargo") is None:
        pytest.skip("no cargo to build kryoptic with")
    built = subprocess.run(
        [REPOSITORY / "scripts" / "kryoptic"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=BUILT_IN_SECONDS,
        env=os.environ | {"PYTHON": sys.executable},
    )
    return built.stdout.strip()


def make_kryoptic(folder: Path, *, name: str = "module", sessions: int = 2) -> TestToken:
    """A token in `folder`, with an SO and a user PIN. The process's KRYOPTIC_CONF is not needed: it goes in as an argument."""
    path = library()
    conf = folder / "kryoptic.toml"
    conf.write_text(
        f'[[slots]]\nslot = 0\ndbtype = "sqlite"\ndbargs = "{folder / "token.sql"}"\n', encoding="ascii"
    )
    reserved = f"kryoptic_conf={conf}"
    pin, so_pin = secrets.token_hex(8).encode(), secrets.token_hex(8).encode()
    pin_file = folder / "pin"
    pin_file.write_bytes(pin + b"\n")
    pin_file.chmod(0o600)
    functions = Functions.load(path)
    functions.initialise(reserved.encode())
    try:
        room = ctypes.create_string_buffer(so_pin, len(so_pin))
        label = b"test-token".ljust(32)
        require("C_InitToken", functions.C_InitToken(0, room, len(so_pin), label))
        session = functions.open_session(0, CKF_SERIAL_SESSION | CKF_RW_SESSION)
        functions.login(session, CKU_SO, bytearray(so_pin))
        require(
            "C_InitPIN", functions.C_InitPIN(session, ctypes.create_string_buffer(pin, len(pin)), len(pin))
        )
        functions.C_Logout(session)
        functions.C_CloseSession(session)
        reported = Reported.of(functions.token(0))
    finally:
        functions.C_Finalize(None)
    facts = {key: getattr(reported, key) for key in ("label", "serial", "manufacturer", "model", "firmware")}
    config = replace(_config(name, path, facts, pin_file, sessions), init_args=reserved)
    return TestToken(config, "", folder)
