"""`transfer …`: keys that move between systems, as the SMKI PMA approved it (G2.22F to G2.22I).

Each step is a governed act: `propose transfer.STEP`, `approve`, `submit`. What a module has a part in is then carried
out here, on the machine of the service; docs/transfer.md has the whole order.
"""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from cryptosvc.cli import console
from cryptosvc.cli.governance import SigningKeyOption, confirm
from cryptosvc.cli.options import (
    DEFAULT_CONFIG,
    CaOption,
    CertificateOption,
    ConfigOption,
    JsonOption,
    PrivateKeyOption,
    TargetOption,
    actions_of,
    connection,
)

app = typer.Typer(
    name="transfer",
    help="Move keys to another system, or take them in, as the SMKI PMA approved it (G2.22F to G2.22I).",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_COLUMNS = ("transfer", "side", "state", "version", "dispose_by", "device_keys")

FolderOption: TypeAlias = Annotated[
    Path, typer.Option("--folder", "-f", help="Folder of the transfer's papers and blobs.")
]
CallerOption: TypeAlias = Annotated[
    str,
    typer.Option(
        "--caller", help="Registered caller, with the grant to govern, in whose name it is recorded."
    ),
]
TransferArgument: TypeAlias = Annotated[str, typer.Argument(metavar="TRANSFER", help="Id of the transfer.")]


@app.command("carry-out")
def carry_out(
    context: typer.Context,
    proposal: Annotated[str, typer.Argument(metavar="PROPOSAL", help="Id of the approved act.")],
    folder: FolderOption,
    caller: CallerOption,
    config: ConfigOption = DEFAULT_CONFIG,
    so_pin_file: Annotated[
        Path | None,
        typer.Option(
            "--so-pin-file", help="PIN of the module's Security Officer, for an export.", exists=True
        ),
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, max=64, help="How many processes use the module, where device keys move.")
    ] = 4,
    as_json: JsonOption = False,
) -> None:
    """Carry out an approved act on a transfer, or go on with one that was interrupted.

    An export wraps the keys in a process of its own, in which the Security Officer marks the keys they are wrapped
    under. Asked again after a power cut it goes on; what was done is not done twice.
    """
    with console.progress_bar(as_json=as_json) as progress:
        done = actions_of(context).transfer_carry_out(
            config, proposal, folder, so_pin_file, caller, processes, progress
        )
    console.print_document(done, as_json=as_json)


@app.command()
def say(
    context: typer.Context,
    transfer: TransferArgument,
    folder: FolderOption,
    caller: CallerOption,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Have the service sign what it has to say of a transfer, as it stands: offer, package, receipt, a notice."""
    with console.progress_bar(as_json=as_json) as progress:
        done = actions_of(context).transfer_say(config, transfer, folder, caller, progress)
    console.print_document(done, as_json=as_json)


@app.command("list")
def list_transfers(
    context: typer.Context,
    *,
    target: TargetOption,
    ca: CaOption,
    certificate: CertificateOption,
    private_key: PrivateKeyOption,
    as_json: JsonOption = False,
) -> None:
    """List the transfers of a running service, and how far each is. Over gRPC."""
    rows = actions_of(context).transfers(connection(target, ca, certificate, private_key))
    console.print_rows(rows, _COLUMNS, as_json=as_json)


@app.command()
def fetch(
    context: typer.Context,
    transfer: TransferArgument,
    *,
    folder: FolderOption,
    target: TargetOption,
    ca: CaOption,
    certificate: CertificateOption,
    private_key: PrivateKeyOption,
    as_json: JsonOption = False,
) -> None:
    """Fetch what a running service has to say of a transfer, signed, and its part of the log. Over gRPC.

    The package of an export is not among it: it is signed on the machine of the service, where its blobs lie.
    """
    where = connection(target, ca, certificate, private_key)
    console.print_document(actions_of(context).transfer_fetch(where, transfer, folder), as_json=as_json)


@app.command()
def evidence(
    context: typer.Context,
    transfer: TransferArgument,
    folder: FolderOption,
    caller: CallerOption,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Take the transfer out of this system's log, with a checkpoint and the proofs to it, for those who verify it."""
    done = actions_of(context).transfer_evidence(config, transfer, folder, caller)
    console.print_document(done, as_json=as_json)


@app.command()
def plan(
    context: typer.Context,
    terms: Annotated[
        Path, typer.Argument(metavar="TERMS", exists=True, help="TOML: which keys, why, and then.")
    ],
    folder: FolderOption,
    caller: CallerOption,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Draw up a plan for the offer in the folder, by what this system's module is measured to do."""
    console.print_document(actions_of(context).transfer_plan(config, terms, folder, caller), as_json=as_json)


@app.command()
def scope(
    context: typer.Context,
    folder: FolderOption,
    caller: CallerOption,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Write down which keys move and who of the SMKI PMA signed, for `propose --param scope=@scope.json`."""
    console.print_document(actions_of(context).transfer_scope(config, folder, caller), as_json=as_json)


@app.command()
def approval(
    context: typer.Context,
    conditions: Annotated[
        Path, typer.Argument(metavar="CONDITIONS", exists=True, help="TOML: what the approval depends on.")
    ],
    folder: FolderOption,
    as_json: JsonOption = False,
) -> None:
    """Draw up the SMKI PMA's approval of the plan and offer in the folder. Off-line; nothing is signed yet."""
    console.print_document(actions_of(context).transfer_approval(conditions, folder), as_json=as_json)


@app.command("sign-approval")
def sign_approval(
    context: typer.Context,
    folder: FolderOption,
    key: SigningKeyOption,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; for scripts.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the approval in the folder and add one signature of the SMKI PMA to it. Off-line."""
    if not yes:
        print((folder / "approval.json").read_text())
        confirm("approve the transfer")
    console.print_document(actions_of(context).transfer_sign_approval(key, folder), as_json=as_json)


@app.command()
def verify(
    context: typer.Context,
    folder: FolderOption,
    pma: Annotated[
        Path,
        typer.Option("--pma", exists=True, help="Folder of the approving body's public keys, NAME.pem each."),
    ],
    source_log: Annotated[
        Path | None,
        typer.Option("--source-log", exists=True, help="Public key of the source's log, PEM or DER."),
    ] = None,
    destination_log: Annotated[
        Path | None,
        typer.Option(
            "--destination-log", exists=True, help="Public key of the destination's log, PEM or DER."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Verify every paper in the folder off-line and print the transfer as one page. Exit code 4 where one does not hold."""
    found = actions_of(context).transfer_verify(folder, pma, source_log, destination_log)
    if as_json:
        console.print_document(found, as_json=True)
    else:
        print(found["page"])
