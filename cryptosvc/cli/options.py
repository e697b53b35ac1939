"""Arguments that several commands share, and how a command reaches its actions."""

import sys
from pathlib import Path
from typing import Annotated, TypeAlias, cast

import typer

from cryptosvc.cli.actions import Actions, Connection

ConfigOption: TypeAlias = Annotated[
    Path,
    typer.Option(
        "--config",
        "-c",
        envvar="CRYPTOSVC_CONFIG",
        help="The service's configuration file.",
        show_default=True,
    ),
]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON, errors included.")]
TargetOption: TypeAlias = Annotated[
    str, typer.Option("--target", envvar="CRYPTOSVC_TARGET", help="HOST:PORT of the service.")
]
CaOption: TypeAlias = Annotated[
    Path,
    typer.Option("--ca", envvar="CRYPTOSVC_CA", help="PEM of the CA that issued the server's certificate."),
]
CertificateOption: TypeAlias = Annotated[
    Path, typer.Option("--cert", envvar="CRYPTOSVC_CERT", help="PEM of your client certificate.")
]
PrivateKeyOption: TypeAlias = Annotated[
    Path, typer.Option("--key", envvar="CRYPTOSVC_KEY", help="PEM of its private key.")
]

DEFAULT_CONFIG = Path("/etc/cryptosvc/cryptosvc.toml")


def actions_of(context: typer.Context) -> Actions:
    """The actions `wiring` supplied."""
    return cast("Actions", context.obj)


def connection(target: str, ca: Path, certificate: Path, private_key: Path) -> Connection:
    """Put the four connection options together."""
    return Connection(target=target, ca=ca, certificate=certificate, private_key=private_key)


def read_input(path: str, *, hexadecimal: bool = False) -> bytes:
    """Read a file, or standard input where it is `-`; as hex text where asked."""
    try:
        octets = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"cannot read {path}: {error.strerror}") from None
    if not hexadecimal:
        return octets
    try:
        return bytes.fromhex(octets.decode("ascii"))
    except ValueError:
        raise typer.BadParameter(f"{path} is not hex text") from None
