"""`audit review sign | record | list`: an auditor signs off a range of the log; what nobody did is listed and aged."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol, cast

import typer

from cryptosvc.cli import console
from cryptosvc.cli.actions import Document
from cryptosvc.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption

app = typer.Typer(
    name="review",
    help="Sign-off of what was reviewed (G2.26), and what was not.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviewed:
    """What an auditor signs off: entries `start` to `stop` - 1 (`stop` 0: all that the checkpoint covers)."""

    checkpoint: Path
    log_key: Path
    start: int
    stop: int
    remarks: str


class Reviews(Protocol):
    """What these commands can do."""

    def sign(self, key: str, reviewed: Reviewed, out: Path) -> Document:
        """Write a signed statement."""

    def record(self, config: Path, envelope: Path) -> Document:
        """Enter it into the log."""

    def listed(self, config: Path, *, signed: bool) -> list[Document]:
        """What nobody signed off; or what was."""


class _Reviewing(Protocol):
    def reviews(self) -> Reviews:
        """Give them."""


@app.command()
def sign(
    context: typer.Context,
    *,
    checkpoint: Annotated[
        Path,
        typer.Option(
            exists=True, help="The checkpoint (a signed note) under which you reviewed the entries."
        ),
    ],
    log_key: Annotated[
        Path,
        typer.Option(
            "--log-key", envvar="CRYPTOSVC_LOG_KEY", exists=True, help="The log's public key, PEM or DER."
        ),
    ],
    key: Annotated[
        str,
        typer.Option("--key", help="Your signing key: a PEM file, or the pkcs11: URI of one on a card."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write; it must not exist.")],
    start: Annotated[int, typer.Option("--from", min=0, help="First entry, by leaf index.")] = 0,
    last: Annotated[
        int, typer.Option("--to", min=-1, help="Last entry. Default: the last that the checkpoint covers.")
    ] = -1,
    remarks: Annotated[str, typer.Option(help="What you found, for whoever reads the log later.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Sign off-line that you have reviewed a range of the log.

    Needs no service. The checkpoint is verified first; what you sign names its size and root, so it holds of this log
    only. Hand the file to the operator, who enters it with `audit review record`.
    """
    reviewed = Reviewed(checkpoint=checkpoint, log_key=log_key, start=start, stop=last + 1, remarks=remarks)
    console.print_document(_reviews(context).sign(key, reviewed, out), as_json=as_json)


@app.command()
def record(
    context: typer.Context,
    envelope: Annotated[
        Path, typer.Argument(metavar="FILE", exists=True, help="What `audit review sign` wrote.")
    ],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Enter a signed review into the log. Works on the machine of the service, running or not."""
    console.print_document(_reviews(context).record(config, envelope), as_json=as_json)


@app.command("list")
def list_reviews(
    context: typer.Context,
    config: ConfigOption = DEFAULT_CONFIG,
    signed: Annotated[
        bool, typer.Option("--signed", help="List what was signed off in place of what was not.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the ranges of the log that nobody signed off, with their age.

    Works on the machine of the service. Exit code 1 where one is older than `review_within_days` of [watch].
    """
    rows = _reviews(context).listed(config, signed=signed)
    columns = ("entry", "from", "to", "at") if signed else ("from", "to", "entries", "since", "days", "late")
    console.print_rows(rows, columns, as_json=as_json)
    if any(row.get("late") is True for row in rows):
        raise typer.Exit(console.FAULT)


def add_to(audit: typer.Typer) -> None:
    """Add these commands to `audit`."""
    audit.add_typer(app)


def _reviews(context: typer.Context) -> Reviews:
    return cast("_Reviewing", context.obj).reviews()
