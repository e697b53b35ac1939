"""`audit report`: a stretch of the log on one page, verified first."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol, cast

import typer

from cryptosvc.cli import console
from cryptosvc.cli.actions import Connection, Document, Progress
from cryptosvc.cli.inquiry import moment
from cryptosvc.cli.options import JsonOption


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A report as asked for on the command line; times in nanoseconds, 0 for no bound.

    Args:
        log_key: the log's public key, PEM or DER.
        origin: the origin the log must have; empty takes the one the range claims.
        key, system: what it is on; empty for everything.
        start, stop: time.
        out: file to write.

    """

    log_key: Path
    origin: str
    key: str
    system: str
    start: int
    stop: int
    out: Path


class Reports(Protocol):
    """What these commands can do."""

    def from_range(self, range_file: Path, report: Report, progress: Progress) -> Document:
        """Report on a range that was fetched before."""

    def from_service(
        self, connection: Connection, since: Path | None, report: Report, progress: Progress
    ) -> Document:
        """Fetch the range, and report on it."""


class _Reporting(Protocol):
    def reports(self) -> Reports:
        """Give them."""


def report(
    context: typer.Context,
    *,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="HTML file to write.")],
    log_key: Annotated[
        Path,
        typer.Option(
            "--log-key", envvar="CRYPTOSVC_LOG_KEY", exists=True, help="The log's public key, PEM or DER."
        ),
    ],
    begin: Annotated[
        str,
        typer.Option("--from", metavar="TIME", help="Not before: 2026-11-23 or 2026-11-23T10:00:00Z, UTC."),
    ] = "",
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="Before, likewise.")] = "",
    key: Annotated[str, typer.Option("--key", metavar="KEY", help="Id of the key to report on.")] = "",
    system: Annotated[str, typer.Option(metavar="SYSTEM", help="The system to report on.")] = "",
    range_file: Annotated[
        Path | None,
        typer.Option("--range", exists=True, help="Off-line: what `audit range` or `audit export` wrote."),
    ] = None,
    origin: Annotated[str, typer.Option(help="Origin the log must have. Default: as the range says.")] = "",
    since: Annotated[
        Path | None,
        typer.Option(exists=True, help="The checkpoint you kept, to begin at. Default: the whole log."),
    ] = None,
    target: Annotated[str, typer.Option(envvar="CRYPTOSVC_TARGET", help="HOST:PORT of the service.")] = "",
    ca: Annotated[
        Path | None,
        typer.Option(envvar="CRYPTOSVC_CA", help="PEM of the CA that issued the server's certificate."),
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option("--cert", envvar="CRYPTOSVC_CERT", help="PEM of your client certificate.")
    ] = None,
    private_key: Annotated[
        Path | None,
        typer.Option("--private-key", envvar="CRYPTOSVC_KEY", help="PEM of its private key."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a report on a stretch of the log as one HTML file: verified, counted, every figure linked to its entries.

    Fetches every entry up to the newest checkpoint, or takes a range that was fetched before (--range), and verifies
    all of it first. The file needs no network and no script. Exit code 4 where the range does not verify; the report
    then says so and counts nothing. Here --key is the key to report on; your own private key is --private-key.
    """
    asked = Report(
        log_key=log_key, origin=origin, key=key, system=system, start=moment(begin), stop=moment(end), out=out
    )
    reports = cast("_Reporting", context.obj).reports()
    with console.progress_bar(as_json=as_json) as progress:
        if range_file is not None:
            done = reports.from_range(range_file, asked, progress)
        else:
            where = _connection(target, ca, certificate, private_key)
            done = reports.from_service(where, since, asked, progress)
    console.print_document(done, as_json=as_json)
    if not done["verified"]:
        raise typer.Exit(console.VERIFICATION_FAILED)


def _connection(
    target: str, ca: Path | None, certificate: Path | None, private_key: Path | None
) -> Connection:
    if not target or ca is None or certificate is None or private_key is None:
        raise typer.BadParameter(
            "give --range, or --target, --ca, --cert and --private-key to fetch the log", param_hint="--range"
        )
    return Connection(target=target, ca=ca, certificate=certificate, private_key=private_key)


def add_to(app: typer.Typer) -> None:
    """Add these commands to `audit`."""
    app.command("report")(report)
