"""`device-key …`: keys of SMETS1 Devices, by the million, on the machine of the service."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cryptosvc.cli import console
from cryptosvc.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption, actions_of

app = typer.Typer(
    name="device-key",
    help=(
        "Keys of SMETS1 Devices, kept wrapped in the store (docs/smets1.md). Every change is a work that custodians "
        "approved: propose device-work.import, .rotate, .re-wrap or .destroy, and carry it out here. A work that was "
        "interrupted goes on when it is called again."
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
)

WorkArgument = Annotated[str, typer.Argument(metavar="WORK", help="Id of the approved work.")]
ProcessesOption = Annotated[
    int, typer.Option(min=1, max=64, help="How many processes use the module at a time.")
]


class OnBadLine(StrEnum):
    """What becomes of an import with a bad line."""

    REPORT = "report"
    STOP = "stop"


@app.command(name="import")
def import_keys(
    context: typer.Context,
    work: WorkArgument,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="What the source sent.")],
    on_bad_line: Annotated[
        OnBadLine,
        typer.Option(help="report: the rest goes on; stop: nothing is done. As the work was approved."),
    ] = OnBadLine.REPORT,
    processes: ProcessesOption = 4,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Import a signed and encrypted file of device keys, for an approved work.

    The file is looked through before anything is done: one that is truncated, changed, or not the one that was
    approved is refused. No key is ever in the clear outside of the module.

    Exit code 1 where lines were bad; they are listed with their numbers.
    """
    with console.progress_bar(as_json=as_json) as progress:
        done = actions_of(context).import_device_keys(
            config, work, file, on_bad_line.value, processes, progress
        )
    console.print_document(done, as_json=as_json)
    if done["bad_lines"]:
        raise typer.Exit(console.FAULT)


@app.command()
def show(
    context: typer.Context,
    key: Annotated[str, typer.Argument(metavar="DEVICE.KIND", help="As 90-B3-D5-1F-30-01-00-00.encryption.")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Show every version of a device key: state, Device, epoch, check value. Never the key."""
    console.print_document(actions_of(context).show_device_key(config, key), as_json=as_json)


@app.command()
def rotate(
    context: typer.Context,
    work: WorkArgument,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="The Device has the next version: it takes the old one's place.")
    ] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Make the next version of a device key in the module; with --confirm it becomes the one in use."""
    console.print_document(
        actions_of(context).rotate_device_key(config, work, confirm=confirm), as_json=as_json
    )


@app.command(name="re-wrap")
def re_wrap(
    context: typer.Context,
    work: WorkArgument,
    processes: ProcessesOption = 4,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Leave an epoch: wrap every device key that is under its storage-wrapping key anew, inside the module."""
    with console.progress_bar(as_json=as_json) as progress:
        done = actions_of(context).re_wrap_device_keys(config, work, processes, progress)
    console.print_document(done, as_json=as_json)


@app.command()
def destroy(
    context: typer.Context,
    work: WorkArgument,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Remove a device key for good, and say which epochs must be left and destroyed to complete it."""
    console.print_document(actions_of(context).destroy_device_key(config, work), as_json=as_json)


@app.command()
def certify(
    context: typer.Context,
    work: WorkArgument,
    out: Annotated[Path, typer.Argument(help="File to write the certificate to.")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Issue the destruction certificate of the device key a work removed.

    There is one once every epoch that a copy of the key may be under is destroyed as well, so that what backups hold
    opens no more. The service-signing key signs it.
    """
    console.print_document(actions_of(context).certify_device_key(config, work, out), as_json=as_json)


@app.command()
def verify(
    context: typer.Context,
    certificate: Annotated[
        Path, typer.Argument(metavar="CERTIFICATE", exists=True, help="What `device-key certify` wrote.")
    ],
    service_key: Annotated[
        Path, typer.Option(exists=True, help="Public key of the service-signing key, PEM or DER.")
    ],
    log_key: Annotated[Path, typer.Option(exists=True, help="The log's public key, PEM or DER.")],
    as_json: JsonOption = False,
) -> None:
    """Verify a certificate of `device-key certify` with two public keys and nothing else. Exit code 4 where it does not hold."""
    document = actions_of(context).verify_device_key_certificate(certificate, service_key, log_key)
    console.print_document(document, as_json=as_json)


@app.command()
def transport(
    context: typer.Context,
    key: Annotated[str, typer.Argument(metavar="KEY", help="Id of a device-transport key.")],
    out: Annotated[Path, typer.Argument(help="File to write the public key to, PEM.")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Write the public key under which those who send device keys wrap the key of their file."""
    console.print_document(actions_of(context).device_transport_key(config, key, out), as_json=as_json)
