#!/usr/bin/env python3
"""Make the test module: a SoftHSM2 configuration, one token, and random PINs in files only their owner can read.

    python softhsm/provision.py FOLDER [--label cryptosvc-test]

prints JSON: conf (for SOFTHSM2_CONF), library, label, serial, manufacturer, model, firmware, pin_file, so_pin_file.
Run again on the same folder it changes nothing and prints the same. PINs go to the module through its C interface,
never through an argument list (`softhsm2-util --pin` shows them to every user of the host).

SoftHSM is for environment `test`; it stands in for a validated module nowhere else.
"""

import argparse
import ctypes
import json
import os
import secrets
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cryptosvc.adapters.hsm.assurance import Reported
from cryptosvc.adapters.hsm.constants import CKF_RW_SESSION, CKF_SERIAL_SESSION, CKU_SO, TokenFlag
from cryptosvc.adapters.hsm.cryptoki import Functions, require

LIBRARIES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so")
TEMPLATE = Path(__file__).resolve().parent / "softhsm2.conf.template"


def provision(folder: Path, label: str) -> dict[str, str]:
    """Make the folder's configuration and token where they are missing; what the service must be told of them."""
    tokens, conf = folder / "tokens", folder / "softhsm2.conf"
    tokens.mkdir(mode=0o700, parents=True, exist_ok=True)
    conf.write_text(
        TEMPLATE.read_text(encoding="utf-8").replace("@TOKENS@", str(tokens.resolve())), encoding="utf-8"
    )
    os.environ["SOFTHSM2_CONF"] = str(conf)
    library = next((path for path in LIBRARIES if Path(path).exists()), "")
    if not library:
        raise SystemExit("SoftHSM2 is not installed: apt-get install softhsm2")
    functions = Functions.load(library)
    functions.initialise(b"")
    try:
        reported = _token(functions, label) or _new_token(functions, label, folder)
    finally:
        functions.C_Finalize(None)
    return {
        "conf": str(conf),
        "library": library,
        "label": reported.label,
        "serial": reported.serial,
        "manufacturer": reported.manufacturer,
        "model": reported.model,
        "firmware": reported.firmware,
        "pin_file": str(folder / "pin"),
        "so_pin_file": str(folder / "so-pin"),
    }


def _token(functions: Functions, label: str) -> Reported | None:
    for slot in functions.slots():
        reported = Reported.of(functions.token(slot))
        if reported.flags & TokenFlag.TOKEN_INITIALIZED and reported.label == label:
            return reported
    return None


def _new_token(functions: Functions, label: str, folder: Path) -> Reported:
    so_pin, pin = _new_pin(folder / "so-pin"), _new_pin(folder / "pin")
    slot = next(
        slot
        for slot in functions.slots()
        if not Reported.of(functions.token(slot)).flags & TokenFlag.TOKEN_INITIALIZED
    )
    room = ctypes.create_string_buffer(bytes(so_pin))
    require("C_InitToken", functions.C_InitToken(slot, room, len(so_pin), label.encode().ljust(32)))
    session = functions.open_session(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION)
    functions.login(session, CKU_SO, so_pin)
    room = ctypes.create_string_buffer(bytes(pin))
    require("C_InitPIN", functions.C_InitPIN(session, room, len(pin)))
    functions.C_Logout(session)
    functions.C_CloseSession(session)
    made = _token(functions, label)
    if made is None:
        raise SystemExit(f"the module does not show the new token {label!r}")
    return made


def _new_pin(path: Path) -> bytearray:
    pin = secrets.token_hex(8)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(pin + "\n")
    return bytearray(pin, "ascii")


def main() -> None:
    """Read the arguments, provision, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the configuration, the token and its PINs go")
    parser.add_argument("--label", default="cryptosvc-test", help="label of the token, at most 32 octets")
    arguments = parser.parse_args()
    json.dump(provision(arguments.folder, arguments.label), sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
