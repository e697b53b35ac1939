"""`custodian`, `caller`, `key due`, `asset list`: the registers, to read and to print (G4.7, G5.6, G5.21)."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from cryptosvc.cli import console
from cryptosvc.cli.actions import Document
from cryptosvc.cli.governance import OutOption, require_absent, write_file
from cryptosvc.cli.keys import app as key_app
from cryptosvc.cli.options import (
    CaOption,
    CertificateOption,
    JsonOption,
    PrivateKeyOption,
    TargetOption,
    actions_of,
    connection,
)
from cryptosvc.core.canonical import JsonValue

custodians = typer.Typer(
    name="custodian", help="The custodian register.", no_args_is_help=True, rich_markup_mode=None
)
assets = typer.Typer(name="asset", help="The asset register.", no_args_is_help=True, rich_markup_mode=None)

callers = typer.Typer(name="caller", help="The callers.", no_args_is_help=True, rich_markup_mode=None)

FileArgument: TypeAlias = Annotated[
    Path, typer.Argument(metavar="FILE", help="TOML: one record.", exists=True)
]
SystemOption: TypeAlias = Annotated[str, typer.Option("--system", help="The deployment's system.")]

_CALLER_COLUMNS = ("caller_id", "state", "user_roles", "user_ids", "auditor", "grants", "version")
_CUSTODIAN_COLUMNS = (
    "custodian_id",
    "name",
    "state",
    "roles",
    "security_check",
    "clearance_reviewed",
    "privileged_for",
)
_ASSET_COLUMNS = (
    *("kind", "id", "label", "classification", "responsible", "state", "module", "key_class"),
    *("compromised_since", "replace_by"),
)
_DUE_COLUMNS = ("at", "key_id", "event", "rule")


class Form(StrEnum):
    """How the asset register is printed."""

    TABLE = "table"
    JSON = "json"
    MARKDOWN = "markdown"


@custodians.command("list")
def list_custodians(
    context: typer.Context,
    *,
    target: TargetOption,
    ca: CaOption,
    certificate: CertificateOption,
    private_key: PrivateKeyOption,
    as_json: JsonOption = False,
) -> None:
    """List custodians: roles, Security Check, last review of clearance, systems they are privileged for now."""
    found = actions_of(context).records(connection(target, ca, certificate, private_key), "custodian-record")
    rows = found if as_json else [_custodian(one) for one in found]
    console.print_rows(rows, _CUSTODIAN_COLUMNS, as_json=as_json)


@custodians.command("show")
def show_custodian(
    context: typer.Context,
    custodian_id: Annotated[str, typer.Argument(metavar="CUSTODIAN", help="Custodian id.")],
    *,
    target: TargetOption,
    ca: CaOption,
    certificate: CertificateOption,
    private_key: PrivateKeyOption,
    as_json: JsonOption = False,
) -> None:
    """Show one custodian's whole record, its history included."""
    found = actions_of(context).records(connection(target, ca, certificate, private_key), "custodian-record")
    one = next((record for record in found if record["custodian_id"] == custodian_id), None)
    if one is None:
        raise typer.BadParameter(f"there is no custodian {custodian_id!r} in the register")
    console.print_document(one if as_json else _dated(one), as_json=as_json)


@custodians.command("draft")
def draft_custodian(
    context: typer.Context,
    file: FileArgument,
    *,
    system: SystemOption,
    out: OutOption,
    as_json: JsonOption = False,
) -> None:
    """Write the record of a new custodian, to be proposed: `--param record=@OUT`. The file is as in a genesis file."""
    require_absent(out)
    written = write_file(out, actions_of(context).custodian_draft(file, system))
    console.print_document({"written": written}, as_json=as_json)


@callers.command("draft")
def draft_caller(
    context: typer.Context,
    file: FileArgument,
    *,
    system: SystemOption,
    out: OutOption,
    version: Annotated[int, typer.Option(help="One more than the record's now; 1 to register.", min=1)] = 1,
    as_json: JsonOption = False,
) -> None:
    """Write the record of a caller, to be proposed: `--param record=@OUT`. The file is as in a provisioning file."""
    require_absent(out)
    written = write_file(out, actions_of(context).caller_draft(file, system, version))
    console.print_document({"written": written}, as_json=as_json)


@callers.command("list")
def list_callers(
    context: typer.Context,
    *,
    target: TargetOption,
    ca: CaOption,
    certificate: CertificateOption,
    private_key: PrivateKeyOption,
    as_json: JsonOption = False,
) -> None:
    """List callers with what each may ask."""
    found = actions_of(context).records(connection(target, ca, certificate, private_key), "caller-record")
    console.print_rows(found, _CALLER_COLUMNS, as_json=as_json)


@key_app.command("due")
def due(
    context: typer.Context,
    *,
    target: TargetOption,
    ca: CaOption,
    certificate: CertificateOption,
    private_key: PrivateKeyOption,
    days: Annotated[int, typer.Option(help="How far ahead.", min=1, max=36_500)] = 90,
    as_json: JsonOption = False,
) -> None:
    """List what happens to keys without anybody (activation, deactivation, replacement), soonest first, and by which rule."""
    rows = actions_of(context).due(connection(target, ca, certificate, private_key), days)
    console.print_rows(rows, _DUE_COLUMNS, as_json=as_json)


@assets.command("list")
def list_assets(
    context: typer.Context,
    *,
    target: TargetOption,
    ca: CaOption,
    certificate: CertificateOption,
    private_key: PrivateKeyOption,
    form: Annotated[
        Form, typer.Option("--format", help="table, json, or markdown to print for review.")
    ] = Form.TABLE,
    as_json: JsonOption = False,
) -> None:
    """List every key and module with its classification and the person who answers for it (G5.6, G5.21).

    A compromised key says since when nothing of it is to be trusted; one that serves other purposes too, by when it must be
    replaced (G2.57).
    """
    where = connection(target, ca, certificate, private_key)
    actions = actions_of(context)
    rows = [_asset("key", "key_id", one) for one in actions.records(where, "key-record")]
    rows += [_asset("module", "module", one) for one in actions.records(where, "module-record")]
    if form is Form.MARKDOWN and not as_json:
        for line in _markdown(rows):
            print(line)
        return
    console.print_rows(rows, _ASSET_COLUMNS, as_json=as_json or form is Form.JSON)


def add_to(app: typer.Typer) -> None:
    """Put these commands where they belong; `key due` joins the commands on keys."""
    app.add_typer(custodians)
    app.add_typer(callers)
    app.add_typer(assets)


def _custodian(record: Document) -> Document:
    privileges = record["privileges"]
    assert isinstance(privileges, list)
    return {
        **{name: record[name] for name in ("custodian_id", "name", "state", "roles")},
        "security_check": _day(record["security_check_on"]),
        "clearance_reviewed": _day(record["clearance_reviewed_on"]),
        "privileged_for": tuple(one["system"] for one in privileges if one["until"] is None),
    }


def _dated(record: Document) -> Document:
    """Dates as people write them."""
    return {
        name: _day(value) if name.endswith("_on") else _histories(value) if isinstance(value, list) else value
        for name, value in record.items()
    }


def _histories(values: Sequence[JsonValue]) -> list[JsonValue]:
    return [
        {name: _day(inner) if name in ("since", "until") else inner for name, inner in one.items()}
        if isinstance(one, Mapping)
        else one
        for one in values
    ]


def _day(value: JsonValue) -> str:
    return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d") if isinstance(value, int) else ""


def _moment(value: JsonValue) -> str:
    return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if isinstance(value, int) else ""


def _asset(kind: str, name: str, record: Document) -> Document:
    asset, life = record["asset"], record.get("life", {})
    assert isinstance(asset, Mapping)
    assert isinstance(life, Mapping)
    return {
        "kind": kind,
        "id": record[name],
        **asset,
        "state": record.get("state", "in service"),
        "module": record["module"],
        "key_class": record.get("key_class", ""),
        "compromised_since": _moment(life.get("compromised_since")),
        "replace_by": _moment(life.get("replace_by")),
        "version": record["version"],
    }


def _markdown(rows: Sequence[Document]) -> list[str]:
    """A page to print, review and sign."""
    head = [column.replace("_", " ") for column in _ASSET_COLUMNS]
    lines = [
        "# Asset register",
        "",
        f"{len(rows)} assets: keys and modules, with classification and responsible person (G5.6, G5.21).",
        "",
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
    ]
    lines += ["| " + " | ".join(_cell(row[column]) for column in _ASSET_COLUMNS) + " |" for row in rows]
    return [*lines, "", "Reviewed by: ______________________   on: ______________"]


def _cell(value: JsonValue) -> str:
    return str(value).replace("\\", "\\\\").replace("|", "\\|") or "—"
