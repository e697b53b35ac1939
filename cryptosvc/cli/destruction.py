"""`destruction …`: certificates for keys that were destroyed, and their verification."""

from pathlib import Path
from typing import Annotated

import typer

from cryptosvc.cli import console
from cryptosvc.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption, actions_of
from cryptosvc.cli.sign import KeyArgument

app = typer.Typer(
    name="destruction",
    help="Certificates for keys that were destroyed (G5.13(b)).",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def certify(
    context: typer.Context,
    key_id: KeyArgument,
    out: Annotated[Path, typer.Argument(help="File to write the certificate to.")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Issue the destruction certificate of a key that was destroyed under dual control.

    It says what, when, where, who approved it, and what the modules answered when they were asked again; it carries
    the entries of the log with their proofs, and the service-signing key signs it. Works on the machine of the
    service, running or not.
    """
    console.print_document(actions_of(context).certify_destruction(config, key_id, out), as_json=as_json)


@app.command()
def verify(
    context: typer.Context,
    certificate: Annotated[
        Path, typer.Argument(metavar="CERTIFICATE", exists=True, help="What `destruction certify` wrote.")
    ],
    service_key: Annotated[
        Path, typer.Option(exists=True, help="Public key of the service-signing key, PEM or DER.")
    ],
    log_key: Annotated[Path, typer.Option(exists=True, help="The log's public key, PEM or DER.")],
    as_json: JsonOption = False,
) -> None:
    """Verify a destruction certificate with two public keys and nothing else. Exit code 4 where it does not hold."""
    document = actions_of(context).verify_destruction(certificate, service_key, log_key)
    console.print_document(document, as_json=as_json)
