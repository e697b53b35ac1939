"""`audit incident`: a Major Security Incident is one command: the pack to notify with, and its entry in the log."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol, cast

import typer

from cryptosvc.cli import console
from cryptosvc.cli.actions import Connection, Document, Progress
from cryptosvc.cli.inquiry import moment
from cryptosvc.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """An incident as given on the command line; times in nanoseconds, 0 for none."""

    title: str
    said: str
    start: int
    stop: int
    known_at: int
    keys: tuple[str, ...]
    log_key: Path | None
    out: Path


class Incidents(Protocol):
    """What this command can do."""

    def declare(
        self, config: Path, declared: Declared, connection: Connection | None, progress: Progress
    ) -> Document:
        """Make the pack and record it."""


class _Declaring(Protocol):
    def incidents(self) -> Incidents:
        """Give them."""


def incident(
    context: typer.Context,
    title: Annotated[str, typer.Argument(metavar="TITLE", help="What happened, in a line.")],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to make; it must not exist.")],
    config: ConfigOption = DEFAULT_CONFIG,
    words: Annotated[
        Path | None, typer.Option("--words", exists=True, help="Text file: what is known so far.")
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option("--key", metavar="KEY", help="Id of a key it is about; again for more."),
    ] = None,
    begin: Annotated[
        str,
        typer.Option("--from", metavar="TIME", help="Not before: 2026-11-23 or 2026-11-23T10:00:00Z, UTC."),
    ] = "",
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="Before, likewise.")] = "",
    known: Annotated[
        str,
        typer.Option(
            metavar="TIME", help="When it became known; the time to notify runs from it. Default: now."
        ),
    ] = "",
    log_key: Annotated[
        Path | None,
        typer.Option("--log-key", exists=True, help="The log's public key, with --target."),
    ] = None,
    target: Annotated[str, typer.Option(envvar="CRYPTOSVC_TARGET", help="HOST:PORT of the service.")] = "",
    ca: Annotated[Path | None, typer.Option(envvar="CRYPTOSVC_CA", help="PEM of the server's CA.")] = None,
    certificate: Annotated[
        Path | None, typer.Option("--cert", envvar="CRYPTOSVC_CERT", help="PEM of an auditor's certificate.")
    ] = None,
    private_key: Annotated[
        Path | None, typer.Option("--private-key", envvar="CRYPTOSVC_KEY", help="PEM of its private key.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Declare a Major Security Incident (G2.11, G3.5): write the pack to notify with, and record that it was made.

    The pack has a page of words with who is to be notified by when ([incident] of the configuration), the alarms of
    that time, and the evidence: with --target, --cert and --log-key an evidence bundle of those keys and times; without,
    the whole log as `audit export` writes it, whether the service runs or not. Works on the machine of the service.
    """
    declared = Declared(
        title=title,
        said="" if words is None else words.read_text(encoding="utf-8", errors="replace"),
        start=moment(begin),
        stop=moment(end),
        known_at=moment(known),
        keys=tuple(key or ()),
        log_key=log_key,
        out=out,
    )
    where = _connection(target, ca, certificate, private_key, log_key)
    incidents = cast("_Declaring", context.obj).incidents()
    with console.progress_bar(as_json=as_json) as progress:
        done = incidents.declare(config, declared, where, progress)
    console.print_document(done, as_json=as_json)


def _connection(
    target: str, ca: Path | None, certificate: Path | None, private_key: Path | None, log_key: Path | None
) -> Connection | None:
    if not target:
        return None
    if ca is None or certificate is None or private_key is None or log_key is None:
        raise typer.BadParameter(
            "a bundle needs --ca, --cert, --private-key and --log-key", param_hint="--target"
        )
    return Connection(target=target, ca=ca, certificate=certificate, private_key=private_key)


def add_to(app: typer.Typer) -> None:
    """Add this command to `audit`."""
    app.command("incident")(incident)
