"""`key list`, `key show`: the keys a caller may use."""

import typer

from cryptosvc.cli import console
from cryptosvc.cli.options import (
    CaOption,
    CertificateOption,
    JsonOption,
    PrivateKeyOption,
    TargetOption,
    actions_of,
    connection,
)
from cryptosvc.cli.sign import KeyArgument

app = typer.Typer(name="key", help="Keys this caller may use.", no_args_is_help=True, rich_markup_mode=None)

_COLUMNS = ("key_id", "key_class", "state", "role", "eui64", "module", "origin")


@app.command("list")
def list_keys(
    context: typer.Context,
    *,
    target: TargetOption,
    ca: CaOption,
    certificate: CertificateOption,
    private_key: PrivateKeyOption,
    as_json: JsonOption = False,
) -> None:
    """List the keys you have a grant for. Other keys are not shown, whether they exist or not."""
    rows = actions_of(context).keys(connection(target, ca, certificate, private_key))
    console.print_rows(rows, _COLUMNS, as_json=as_json)


@app.command("show")
def show_key(
    context: typer.Context,
    key_id: KeyArgument,
    *,
    target: TargetOption,
    ca: CaOption,
    certificate: CertificateOption,
    private_key: PrivateKeyOption,
    as_json: JsonOption = False,
) -> None:
    """Show one key: class, state, certificate, public point, module."""
    document = actions_of(context).key(connection(target, ca, certificate, private_key), key_id)
    console.print_document(document, as_json=as_json)
