"""`witness key | serve | show`: the auditor's own machine keeps what it saw of a log, and cosigns only what extends it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Protocol, TypeAlias, cast

import typer

from cryptosvc.cli import console
from cryptosvc.cli.actions import Document
from cryptosvc.cli.options import JsonOption

app = typer.Typer(
    name="witness",
    help=(
        "Be a witness of logs (C2SP tlog-witness), on a machine that the operators of the service do not have: cosign "
        "checkpoints that extend what was cosigned before, and nothing else. A log that was put back, or shows two "
        "faces, is found out by any witness."
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
)

StateOption: TypeAlias = Annotated[
    Path, typer.Option("--state", help="Folder in which the witness keeps what it cosigned last of each log.")
]
WitnessOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--witness",
        metavar="KEY",
        help="Verifier key of a witness (name+keyid+base64) whose cosignature counts; give it again for more.",
    ),
]
QuorumOption: TypeAlias = Annotated[
    int, typer.Option("--witness-quorum", min=0, help="How many of them must have cosigned. Default: all.")
]
OutsideOption: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(
        "--outside",
        exists=True,
        help="A file in which checkpoints were put outside ([[outside]]), or what a syslog wrote; again for more.",
    ),
]


class Witnessing(Protocol):
    """What the commands need."""

    def make_key(self, path: Path, name: str) -> Document:
        """Make a witness's key; its verifier key."""

    def serve(
        self,
        state: Path,
        key: Path,
        name: str,
        logs: Sequence[str],
        listen: str,
        ready: Callable[[int], None],
    ) -> None:
        """Answer until interrupted; `ready` gets the port once it listens."""

    def show(self, state: Path) -> Sequence[Document]:
        """The newest checkpoint that was cosigned of each log."""

    def require_held(self, file: Path, key: Path, places: Sequence[Path]) -> Sequence[Document]:
        """Hold an export to the checkpoints that were put outside."""

    def require_cosigned(self, file: Path, witnesses: Sequence[str], quorum: int) -> Sequence[Document]:
        """Who cosigned an export or a bundle, up to which entry, and when."""


class _HasWitnessing(Protocol):
    def witnessing(self) -> Witnessing:
        """Give it."""


def witnessing_of(context: typer.Context) -> Witnessing:
    """What `wiring` supplied."""
    return cast("_HasWitnessing", context.obj).witnessing()


@app.command()
def key(
    context: typer.Context,
    path: Annotated[
        Path, typer.Argument(metavar="FILE", help="Where the private key is written; must be new.")
    ],
    name: Annotated[
        str, typer.Option("--name", help="Name of the key, as example.org/witness; without blanks or +.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Make a witness's Ed25519 key (PEM, for its owner alone) and print its verifier key.

    The operators of the log put the verifier key into their configuration ([[witnesses]]); auditors give it to
    `audit verify --witness`.
    """
    console.print_document(witnessing_of(context).make_key(path, name), as_json=as_json)


@app.command()
def serve(
    context: typer.Context,
    *,
    state: StateOption,
    private_key: Annotated[Path, typer.Option("--key", exists=True, help="The witness's private key.")],
    name: Annotated[str, typer.Option("--name", help="Name of the key, as it was made.")],
    log: Annotated[
        list[str],
        typer.Option(
            "--log",
            metavar="ORIGIN=FILE",
            help="A log it witnesses and that log's public key; again for more.",
        ),
    ],
    listen: Annotated[str, typer.Option("--listen", help="Address to listen on.")] = "127.0.0.1:8700",
) -> None:
    """Answer `POST /add-checkpoint` until interrupted.

    What is cosigned is on disk before the cosignature leaves. Keep the folder: a witness that forgets can be told
    anything once more.
    """

    def ready(port: int) -> None:
        print(f"{name} listens on port {port}", flush=True)

    witnessing_of(context).serve(state, private_key, name, log, listen, ready)


@app.command()
def show(context: typer.Context, state: StateOption, as_json: JsonOption = False) -> None:
    """Print the newest checkpoint that was cosigned of each log."""
    console.print_rows(witnessing_of(context).show(state), ("origin", "size", "root"), as_json=as_json)
