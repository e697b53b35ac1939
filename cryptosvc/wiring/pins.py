"""PINs: from a file only its owner can read, or from a systemd credential; never from arguments or environment."""

import os
import stat
from pathlib import Path

from cryptosvc.config.settings import ModuleSettings
from cryptosvc.core.errors import Malformed


def read_pin(module: ModuleSettings) -> str:
    """Read the PIN of a module.

    Raises:
        Malformed: `config/pin-source` (absent or unreadable), `config/pin-mode` (others may read it),
            `config/pin-empty`.

    """
    path = _source(module)
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            octets = file.read(1024)
    except OSError as error:
        raise Malformed(
            f"module {module.name}: cannot read the PIN from {path}: {error.strerror}",
            rule="config/pin-source",
            field=f"modules.{module.name}.pin_file",
        ) from None
    # systemd mounts credentials read-only for the service's user alone; their mode may carry an ACL mask
    if module.pin_file is not None and stat.S_IMODE(mode) & (stat.S_IRWXG | stat.S_IRWXO):
        raise Malformed(
            f"module {module.name}: {path} can be read by others; run: chmod 600 {path}",
            rule="config/pin-mode",
            field=f"modules.{module.name}.pin_file",
        )
    try:
        pin = octets.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        pin = ""
    if not pin:
        raise Malformed(
            f"module {module.name}: {path} holds no PIN",
            rule="config/pin-empty",
            field=f"modules.{module.name}.pin_file",
        )
    return pin


def _source(module: ModuleSettings) -> Path:
    if module.pin_file is not None:
        return module.pin_file
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if folder is None or module.pin_credential is None:
        raise Malformed(
            f"module {module.name}: pin_credential is set, but no systemd credentials are there; "
            "give the unit LoadCredential= or set pin_file",
            rule="config/pin-source",
            field=f"modules.{module.name}.pin_credential",
        )
    return Path(folder) / module.pin_credential
