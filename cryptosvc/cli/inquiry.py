"""`audit query | usage | who | why | users | range | complete | redact`: what auditors ask, and the proof that it is all."""

import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Protocol, TypeAlias, cast

import orjson
import typer

from cryptosvc.cli import bundling as options
from cryptosvc.cli import console
from cryptosvc.cli.actions import Connection, Document, Progress
from cryptosvc.cli.bundling import Bundling, bundling
from cryptosvc.cli.options import (
    CaOption,
    CertificateOption,
    JsonOption,
    PrivateKeyOption,
    TargetOption,
    connection,
)

_COLUMNS = (
    "leaf_index",
    "time",
    "kind",
    "operation",
    "key",
    "content",
    "message",
    "outcome",
    "rule",
    "caller",
)
_NANOSECONDS = 10**9


class Form(StrEnum):
    """How an answer is printed."""

    TABLE = "table"
    JSONL = "jsonl"
    CSV = "csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question as given on the command line; times in nanoseconds, 0 for no bound."""

    conditions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    start: int = 0
    stop: int = 0
    oldest_first: bool = False
    limit: int = 0
    cursor: str = ""


@dataclass(frozen=True, slots=True)
class Rows:
    """A page of an answer: flat documents, the cursor behind them (empty at the end), and how long the log was."""

    rows: Sequence[Document]
    cursor: str
    size: int


class Inquiries(Protocol):
    """What these commands can do."""

    def query(self, connection: Connection, asked: Asked) -> Iterator[Rows]:
        """Ask the log."""

    def bundle(self, connection: Connection, asked: Asked, wanted: Bundling, progress: Progress) -> Document:
        """Ask the log, and write the answer with its proofs to a file."""

    def usage(self, connection: Connection, key_id: str, start: int, stop: int) -> Document:
        """Everything a key did."""

    def who(self, connection: Connection, name: str, start: int, stop: int) -> Document:
        """Everything a caller or custodian did."""

    def why(self, connection: Connection, leaf_index: int) -> Document:
        """A decision, retold."""

    def users(self, connection: Connection, start: int, stop: int) -> Sequence[Document]:
        """Every User, with its counts by half-year."""

    def fetch_range(
        self, connection: Connection, out: Path, since: Path | None, progress: Progress
    ) -> Document:
        """Fetch every entry since a checkpoint."""

    def complete(
        self, range_file: Path, key: Path, asked: Asked, origin: str, answer: Path | None, progress: Progress
    ) -> Document:
        """Replay a query over a range, off-line."""

    def verify_bundle(
        self, path: Path, key: Path, origin: str, since: Path | None, ranged: Path | None, progress: Progress
    ) -> Document | None:
        """Verify a bundle off-line; None where the file is none."""

    def redact(self, path: Path, out: Path, names: Sequence[str], progress: Progress) -> Document:
        """Write a copy of an export or range without some values."""


class _Answering(Protocol):
    def inquiries(self) -> Inquiries:
        """Give them."""


def inquiries_of(context: typer.Context) -> Inquiries:
    """The inquiries `wiring` supplied."""
    return cast("_Answering", context.obj).inquiries()


_Where: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        "-w",
        metavar="FIELD=VALUE[,VALUE]",
        help="A condition; give it again for more, all of which must hold. docs/auditors.md has the fields.",
    ),
]
_From: TypeAlias = Annotated[
    str, typer.Option("--from", metavar="TIME", help="Not before: 2026-11-23 or 2026-11-23T10:00:00Z, UTC.")
]
_To: TypeAlias = Annotated[str, typer.Option("--to", metavar="TIME", help="Before, likewise.")]


def query(
    context: typer.Context,
    *,
    target: TargetOption,
    ca: CaOption,
    certificate: CertificateOption,
    private_key: PrivateKeyOption,
    where: _Where = None,
    begin: _From = "",
    end: _To = "",
    oldest_first: Annotated[bool, typer.Option("--oldest-first", help="Begin at the oldest entry.")] = False,
    limit: Annotated[int, typer.Option(min=0, help="Entries at most; 0 for all.")] = 50,
    cursor: Annotated[
        str, typer.Option(help="Go on where an earlier answer to the same question ended.")
    ] = "",
    form: Annotated[Form, typer.Option("--format", help="table, jsonl or csv.")] = Form.TABLE,
    bundle: options.BundleOption = None,
    log_key: options.LogKeyOption = None,
    since: options.SinceOption = None,
    chain: options.ChainOption = None,
    complete: options.CompleteOption = False,
    without: options.WithoutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find log entries, newest first. For auditors; the question is recorded.

    Where more entries answer than were asked for, the cursor to go on with is printed on standard error. Fields that
    only some entries have are left out of the table; jsonl and csv have every column.
    """
    asked = Asked(
        conditions=conditions(where or []),
        start=moment(begin),
        stop=moment(end),
        oldest_first=oldest_first,
        limit=limit,
        cursor=cursor,
    )
    wanted = bundling(bundle, log_key, since, chain, without or [], complete=complete)
    if wanted is not None:
        with console.progress_bar(as_json=as_json) as progress:
            calling = connection(target, ca, certificate, private_key)
            done = inquiries_of(context).bundle(calling, asked, wanted, progress)
        console.print_document(done, as_json=as_json)
        return
    pages = inquiries_of(context).query(connection(target, ca, certificate, private_key), asked)
    reached = _print(pages, Form.JSONL if as_json else form)
    if reached:
        print(f"more: --cursor {reached}", file=sys.stderr)


def usage(
    context: typer.Context,
    key_id: Annotated[str, typer.Argument(metavar="KEY", help="Key id.")],
    *,
    target: TargetOption,
    ca: CaOption,
    certificate: CertificateOption,
    private_key: PrivateKeyOption,
    begin: _From = "",
    end: _To = "",
    as_json: JsonOption = False,
) -> None:
    """Tell everything a key ever did: uses by content, outcome and month, who, refusals, changes and approvals."""
    where = connection(target, ca, certificate, private_key)
    document = inquiries_of(context).usage(where, key_id, moment(begin), moment(end))
    console.print_document(document, as_json=as_json)


def who(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="PERSON|CALLER", help="Id of a caller or a custodian.")],
    *,
    target: TargetOption,
    ca: CaOption,
    certificate: CertificateOption,
    private_key: PrivateKeyOption,
    begin: _From = "",
    end: _To = "",
    as_json: JsonOption = False,
) -> None:
    """Tell everything a caller asked, or a custodian approved, and how their records changed."""
    where = connection(target, ca, certificate, private_key)
    document = inquiries_of(context).who(where, name, moment(begin), moment(end))
    console.print_document(document, as_json=as_json)


def why(
    context: typer.Context,
    leaf_index: Annotated[int, typer.Argument(metavar="ENTRY", min=0, help="Leaf index, from 0.")],
    *,
    target: TargetOption,
    ca: CaOption,
    certificate: CertificateOption,
    private_key: PrivateKeyOption,
    as_json: JsonOption = False,
) -> None:
    """Retell a decision: what was known, the policies that applied as they read then, and its approvals, verified again."""
    where = connection(target, ca, certificate, private_key)
    console.print_document(inquiries_of(context).why(where, leaf_index), as_json=as_json)


def users(
    context: typer.Context,
    *,
    target: TargetOption,
    ca: CaOption,
    certificate: CertificateOption,
    private_key: PrivateKeyOption,
    begin: _From = "",
    end: _To = "",
    as_json: JsonOption = False,
) -> None:
    """List every User that was served (G10.4), with uses and different devices by half-year (G5.27)."""
    where = connection(target, ca, certificate, private_key)
    rows = inquiries_of(context).users(where, moment(begin), moment(end))
    console.print_rows(rows, ("user", "half_year", "uses", "devices"), as_json=as_json)


def fetch_range(
    context: typer.Context,
    out: Annotated[Path, typer.Argument(help="File to write; replaced only when it is complete.")],
    *,
    target: TargetOption,
    ca: CaOption,
    certificate: CertificateOption,
    private_key: PrivateKeyOption,
    since: Annotated[
        Path | None,
        typer.Option(
            exists=True, help="The checkpoint you kept (a signed note). Default: from the beginning."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch every entry from the checkpoint you kept to the newest one, for `audit complete`."""
    where = connection(target, ca, certificate, private_key)
    with console.progress_bar(as_json=as_json) as progress:
        done = inquiries_of(context).fetch_range(where, out, since, progress)
    console.print_document(done, as_json=as_json)


def complete(
    context: typer.Context,
    range_file: Annotated[
        Path, typer.Argument(metavar="RANGE", exists=True, help="What `audit range` or `audit export` wrote.")
    ],
    key: Annotated[Path, typer.Option("--key", exists=True, help="The log's public key, PEM or DER.")],
    where: _Where = None,
    begin: _From = "",
    end: _To = "",
    origin: Annotated[str, typer.Option(help="Origin the log must have. Default: as the file says.")] = "",
    answer: Annotated[
        Path | None,
        typer.Option(exists=True, help="An answer to check, as `audit query --format jsonl` printed it."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Prove off-line which entries of a range answer a question, and that an answer left none out.

    Exit code 4 where the range does not lead from one checkpoint to the other, or the answer is not complete. Entries
    of which a redacted value would have to be known, or whose hash alone is left, are counted as undecided.
    """
    asked = Asked(conditions=conditions(where or []), start=moment(begin), stop=moment(end))
    with console.progress_bar(as_json=as_json) as progress:
        document = inquiries_of(context).complete(range_file, key, asked, origin, answer, progress)
    console.print_document(document, as_json=as_json)


def redact(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="FILE", exists=True, help="An export or a range.")],
    out: Annotated[Path, typer.Argument(help="File to write; replaced only when it is complete.")],
    field: Annotated[
        list[str],
        typer.Option(
            "--field", "-f", help="Value to leave out, as principal, peer, target, user_id, document."
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Leave values out of an export or a range, for somebody who may not know them; every proof still holds."""
    with console.progress_bar(as_json=as_json) as progress:
        done = inquiries_of(context).redact(path, out, field, progress)
    console.print_document(done, as_json=as_json)


def add_to(app: typer.Typer) -> None:
    """Add these commands to `audit`."""
    for name, command in (
        ("query", query),
        ("usage", usage),
        ("who", who),
        ("why", why),
        ("users", users),
        ("range", fetch_range),
        ("complete", complete),
        ("redact", redact),
    ):
        app.command(name)(command)


def conditions(where: Sequence[str]) -> dict[str, list[str]]:
    """Read `FIELD=VALUE[,VALUE]`; a field that is given again adds values."""
    found: dict[str, list[str]] = {}
    for one in where:
        name, mark, values = one.partition("=")
        if not mark or not name or not values:
            raise typer.BadParameter(f"{one!r} is not FIELD=VALUE", param_hint="--where")
        found.setdefault(name, []).extend(values.split(","))
    return found


def moment(text: str) -> int:
    """Read a date or a moment in UTC as nanoseconds; 0 for none."""
    if not text:
        return 0
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not a date or an ISO 8601 moment", param_hint="--from, --to"
        ) from None
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    seconds = int(found.timestamp())
    if seconds < 0:
        raise typer.BadParameter("no log is from before 1970", param_hint="--from, --to")
    return seconds * _NANOSECONDS + found.microsecond * 1000


def _print(pages: Iterator[Rows], form: Form) -> str:
    """Print an answer as it comes; the cursor behind it."""
    cursor = ""
    table: list[Document] = []
    writer = csv.writer(sys.stdout)
    headed = False
    for page in pages:
        cursor = page.cursor
        for row in page.rows:
            if form is Form.TABLE:
                table.append(row)
            elif form is Form.JSONL:
                sys.stdout.write(orjson.dumps(row).decode() + "\n")
            else:
                if not headed:
                    writer.writerow(row)
                    headed = True
                writer.writerow([_cell(value) for value in row.values()])
    if form is Form.TABLE:
        console.print_rows(table, _COLUMNS, as_json=False)
    return cursor


def _cell(value: object) -> str:
    """A value as a spreadsheet may open it: what begins like a formula is marked as text."""
    text = str(value)
    return "'" + text if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
