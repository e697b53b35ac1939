"""A SoftHSM2 token made on the spot, with random PINs in files only their owner can read: for rehearsals and tests.

SoftHSM is for environment `test`; it stands in for a validated module nowhere else. PINs go to the module through its
C interface, never through an argument list (`softhsm2-util --pin` shows them to every user of the host).

A PKCS#11 library is global to its process and SoftHSM reads SOFTHSM2_CONF when it is initialised: a process that makes
a token here uses no other SoftHSM configuration afterwards.
"""

import ctypes
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptosvc.adapters.hsm.assurance import Reported
from cryptosvc.adapters.hsm.constants import CKF_RW_SESSION, CKF_SERIAL_SESSION, CKU_SO, TokenFlag
from cryptosvc.adapters.hsm.cryptoki import CryptokiError, Functions, require
from cryptosvc.core.errors import Unavailable

LIBRARIES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so")
_CONFIGURATION = """\
directories.tokendir = {tokens}
objectstore.backend = file
log.level = ERROR
slots.removable = false
slots.mechanisms = ALL
library.reset_on_fork = false
"""


@dataclass(frozen=True, slots=True)
class MadeToken:
    """A new token: the library, the file of its user PIN, and what it reports of itself."""

    library: str
    pin_file: Path
    reported: Reported


def make_token(folder: Path, label: str) -> MadeToken:
    """Make a token in an empty folder and point this process at it.

    Args:
        folder: private to its owner; holds configuration, token and PINs afterwards.
        label: CKA label of the token, at most 32 octets.

    Raises:
        Unavailable: SoftHSM2 is not installed, or cannot make the token.

    """
    library = next((path for path in LIBRARIES if Path(path).exists()), "")
    if not library:
        raise Unavailable(
            "a rehearsal needs SoftHSM2, which is not installed: apt-get install softhsm2",
            rule="hsm/no-softhsm",
        )
    tokens, conf = folder / "tokens", folder / "softhsm2.conf"
    tokens.mkdir(mode=0o700, parents=True)
    conf.write_text(_CONFIGURATION.format(tokens=tokens.resolve()), encoding="utf-8")
    os.environ["SOFTHSM2_CONF"] = str(conf)
    functions = Functions.load(library)
    try:
        functions.initialise(b"")
        try:
            return MadeToken(library, folder / "pin", _new(functions, label, folder))
        finally:
            functions.C_Finalize(None)
    except CryptokiError as error:
        raise Unavailable(f"SoftHSM2 cannot make a token: {error}", rule="hsm/no-softhsm") from None


def _new(functions: Functions, label: str, folder: Path) -> Reported:
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
    return next(
        reported
        for reported in (Reported.of(functions.token(slot)) for slot in functions.slots())
        if reported.label == label
    )


def _new_pin(path: Path) -> bytearray:
    pin = secrets.token_hex(8)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(pin + "\n")
    return bytearray(pin, "ascii")
