"""`audit console`: questions to the log in a browser, read-only."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Protocol, cast

import typer

from cryptosvc.cli.actions import Connection
from cryptosvc.cli.options import CaOption, CertificateOption, PrivateKeyOption, TargetOption, connection


class Consoles(Protocol):
    """What this command can do."""

    def serve(
        self,
        connection: Connection,
        log_key: Path,
        origin: str,
        since: Path | None,
        port: int,
        ready: Callable[[str], None],
    ) -> None:
        """Serve until interrupted; `ready` is given the address to open."""


class _Showing(Protocol):
    def consoles(self) -> Consoles:
        """Give them."""


def show(
    context: typer.Context,
    *,
    target: TargetOption,
    ca: CaOption,
    certificate: CertificateOption,
    private_key: PrivateKeyOption,
    log_key: Annotated[
        Path,
        typer.Option(
            "--log-key", envvar="CRYPTOSVC_LOG_KEY", exists=True, help="The log's public key, PEM or DER."
        ),
    ],
    origin: Annotated[
        str, typer.Option(help="Origin the log must have. Default: as its newest checkpoint says.")
    ] = "",
    since: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            help="The checkpoint you kept, which the log must extend. Default: its newest one now.",
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 for any.")] = 0,
) -> None:
    """Serve a read-only console for a browser on this machine: query, the life of a key, an entry and its proof.

    Prints an address that works once. It asks the service with your certificate, and what you ask is recorded. Proofs
    are verified by the browser, against --log-key. Ctrl-C ends it.
    """

    def ready(address: str) -> None:
        print(f"Open this address; it works once:\n{address}\nCtrl-C ends the console.", flush=True)

    consoles = cast("_Showing", context.obj).consoles()
    consoles.serve(connection(target, ca, certificate, private_key), log_key, origin, since, port, ready)


def add_to(app: typer.Typer) -> None:
    """Add this command to `audit`."""
    app.command("console")(show)
