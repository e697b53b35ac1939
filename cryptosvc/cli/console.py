"""How answers look: JSON for programs, plain tables for people, one exit code per kind of failure."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cryptosvc.cli.actions import Document
from cryptosvc.cli.actions import Progress as Report
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.errors import CryptosvcError, Reason

OK = 0
FAULT = 1
USAGE = 2
REFUSED = 3
VERIFICATION_FAILED = 4
UNAVAILABLE = 5
OUTCOME_UNKNOWN = 6

_EXIT_CODES: Mapping[Reason, int] = {
    Reason.MALFORMED: REFUSED,
    Reason.UNIDENTIFIED: REFUSED,
    Reason.FORBIDDEN: REFUSED,
    Reason.AWAITING_APPROVAL: REFUSED,
    Reason.WRONG_STATE: REFUSED,
    Reason.CONFLICT: REFUSED,
    Reason.BUSY: UNAVAILABLE,
    Reason.UNAVAILABLE: UNAVAILABLE,
    Reason.OUTCOME_UNKNOWN: OUTCOME_UNKNOWN,
    Reason.CORRUPT: VERIFICATION_FAILED,
    Reason.INTERNAL: FAULT,
}

EXIT_CODES_HELP = (
    "Exit codes: 0 done; 1 a fault of ours; 2 wrong usage or configuration; 3 refused; 4 verification failed; "
    "5 unavailable, try again; 6 outcome unknown, ask an operator."
)

_USAGE_AREAS = ("config/", "provisioning/")


def exit_code(error: CryptosvcError) -> int:
    """The exit code of an error.

    What is wrong in a file of the operator's counts as usage, and policies that do not hold as failed verification.
    """
    if error.rule.startswith(_USAGE_AREAS):
        return USAGE
    if error.reason is Reason.MALFORMED and error.rule.startswith("policy/"):
        return VERIFICATION_FAILED
    return _EXIT_CODES[error.reason]


def error_document(error: CryptosvcError) -> Document:
    """An error as `--json` prints it."""
    return {
        "error": {
            "reason": error.reason.value,
            "rule": error.rule,
            "clause": error.clause,
            "field": error.field,
            "policies": tuple(error.policies),
            "message": error.message,
        }
    }


def print_error(error: CryptosvcError, *, as_json: bool) -> None:
    """Say what went wrong: as JSON on standard output, or as a sentence on standard error."""
    if as_json:
        print_json(error_document(error))
        return
    clause = f" ({error.clause})" if error.clause else ""
    print(f"{error.reason.value.lower().replace('_', ' ')}{clause}: {error.message}", file=sys.stderr)
    details = [f"rule {error.rule}"]
    if error.field:
        details.append(f"field {error.field}")
    if error.policies:
        details.append(f"policies {', '.join(error.policies)}")
    print("  " + ", ".join(details), file=sys.stderr)


def print_json(document: Document | Sequence[Document]) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(
        orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS, default=dict).decode()
        + "\n"
    )


def print_document(document: Document, *, as_json: bool) -> None:
    """One document: JSON, or `name  value` lines in the order given."""
    if as_json:
        print_json(document)
        return
    rows = list(_flat(document))
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        first, *others = value.splitlines() or [""]
        print(f"{name:<{width}}  {first}".rstrip())
        for line in others:
            print(f"{'':<{width}}  {line}".rstrip())


def print_rows(rows: Sequence[Document], columns: Sequence[str], *, as_json: bool) -> None:
    """A list of documents: a JSON array, or a table of `columns`."""
    if as_json:
        print_json(rows)
        return
    lines = [[column.replace("_", " ").upper() for column in columns]]
    lines += [[_text(row.get(column, "")) for column in columns] for row in rows]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


@contextmanager
def progress_bar(*, as_json: bool) -> Iterator[Report]:
    """A progress bar on standard error while it is a terminal; silence elsewhere."""
    if as_json or not sys.stderr.isatty():
        yield lambda _what, _done, _total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def report(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total or None)

        yield report


def _flat(document: Document, prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in document.items():
        label = prefix + name.replace("_", " ")
        if isinstance(value, Mapping):
            yield from _flat(value, f"{label} ")
        elif isinstance(value, Sequence) and not isinstance(value, str):
            yield label, "\n".join(_text(item) for item in value)
        else:
            yield label, _text(value)


def _text(value: JsonValue) -> str:
    if value is True or value is False:
        return "yes" if value else "no"
    if isinstance(value, str | int):
        return str(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={_text(inner)}" for name, inner in value.items())
    if value is None:
        return ""
    return ", ".join(_text(item) for item in value)
