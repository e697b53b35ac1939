"""`audit …`: read the log, prove entries, export it, verify an export with nothing but a public key."""

from pathlib import Path
from typing import Annotated

import typer

from cryptosvc.cli import console, incidents, inquiry, reporting, reviewing
from cryptosvc.cli.browser import command as browser_command
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
from cryptosvc.cli.witness import OutsideOption, QuorumOption, WitnessOption, witnessing_of
from cryptosvc.core.canonical import JsonValue

app = typer.Typer(
    name="audit",
    help="The log: checkpoints, entries, proofs, export and verification.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_LeafArgument = Annotated[
    int, typer.Argument(metavar="LEAF_INDEX", min=0, help="From 0, as the receipt says.")
]


@app.command()
def export(
    context: typer.Context,
    out: Annotated[Path, typer.Argument(help="File to write; replaced only when the export is complete.")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Sign a checkpoint, and write the log up to it, with the registry records, to one file.

    Works on the machine of the service, running or not: it reads the store and uses the log's own keys.
    """
    with console.progress_bar(as_json=as_json) as progress:
        done = actions_of(context).export(config, out, progress)
    console.print_document(done, as_json=as_json)


@app.command()
def verify(
    context: typer.Context,
    export_file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", exists=True, help="What `audit export` or `audit query --bundle` wrote."
        ),
    ],
    key: Annotated[Path, typer.Option("--key", exists=True, help="The log's public key, PEM or DER.")],
    origin: Annotated[str, typer.Option(help="Origin the log must have. Default: as the file says.")] = "",
    since: Annotated[
        Path | None, typer.Option(exists=True, help="The checkpoint you kept: the log must extend it.")
    ] = None,
    ranged: Annotated[
        Path | None,
        typer.Option("--range", exists=True, help="Of a bundle: the range its answer must be complete in."),
    ] = None,
    witnesses: WitnessOption = None,
    quorum: QuorumOption = 0,
    outside: OutsideOption = None,
    processes: Annotated[int, typer.Option(min=0, help="Processes to use; 0 is one per processor.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Verify an export off-line, from its genesis to its checkpoint, or an evidence bundle.

    Finds any changed, removed, inserted or reordered entry, a forked log, a record that is not what the log says, a
    key used in the wrong state or too often, and a change that does not follow from what was approved. Needs nothing
    but the export and the key. Exit code 4 where it does not verify. Changes whose document was redacted cannot be
    derived again: how many those are is in the answer.
    """
    with console.progress_bar(as_json=as_json) as progress:
        found = inquiry.inquiries_of(context).verify_bundle(export_file, key, origin, since, ranged, progress)
        if found is None:
            verdict = actions_of(context).verify(export_file, key, origin, since, processes, progress)
    cosigned = witnessing_of(context).require_cosigned(export_file, witnesses, quorum) if witnesses else ()
    held = witnessing_of(context).require_held(export_file, key, outside) if outside else ()
    if found is not None:
        console.print_document({**found, "cosigned": list(cosigned)}, as_json=as_json)
        return
    document: dict[str, JsonValue] = {
        "verified": True,
        "origin": verdict.origin,
        "entries": verdict.size,
        "root": verdict.root.hex(),
        "checkpoints": verdict.checkpoints,
        "records": verdict.records,
        "kinds": dict(sorted(verdict.kinds.items())),
        "erased": verdict.gone.erased,
        "archived": verdict.gone.archived,
        "environment": verdict.environment,
        "changes_derived": verdict.derived.changes,
        "changes_not_derivable": verdict.derived.underived,
        "governed_acts_derived": verdict.derived.proposals,
        "reviews_verified": verdict.derived.reviews,
        "cosigned": list(cosigned),
        "held_outside": list(held),
    }
    console.print_document(document, as_json=as_json)


@app.command()
def checkpoint(
    context: typer.Context,
    *,
    target: TargetOption,
    ca: CaOption,
    certificate: CertificateOption,
    private_key: PrivateKeyOption,
    as_json: JsonOption = False,
) -> None:
    """Show the newest signed checkpoint (a C2SP signed note)."""
    document = actions_of(context).checkpoint(connection(target, ca, certificate, private_key))
    console.print_document(document, as_json=as_json)


@app.command()
def show(
    context: typer.Context,
    leaf_index: _LeafArgument,
    *,
    target: TargetOption,
    ca: CaOption,
    certificate: CertificateOption,
    private_key: PrivateKeyOption,
    as_json: JsonOption = False,
) -> None:
    """Show one log entry. Callers see their own; auditors see all."""
    document = actions_of(context).entry(connection(target, ca, certificate, private_key), leaf_index)
    console.print_document(document, as_json=as_json)


@app.command()
def prove(
    context: typer.Context,
    leaf_index: _LeafArgument,
    *,
    target: TargetOption,
    ca: CaOption,
    certificate: CertificateOption,
    private_key: PrivateKeyOption,
    as_json: JsonOption = False,
) -> None:
    """Fetch the proof that an entry is in the log, and verify it against the newest checkpoint.

    Exit code 4 where the proof does not verify, 5 where no checkpoint covers the entry yet.
    """
    document = actions_of(context).prove(connection(target, ca, certificate, private_key), leaf_index)
    console.print_document(document, as_json=as_json)


@app.command()
def module_log(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", exists=True, help="CSV or JSON Lines: time, object_id, label.")
    ],
    module: Annotated[str, typer.Option("--module", help="The module, as the configuration names it.")],
    config: ConfigOption = DEFAULT_CONFIG,
    tolerance: Annotated[
        int, typer.Option(min=0, max=3600, help="Seconds by which the two clocks may differ.")
    ] = 60,
    as_json: JsonOption = False,
) -> None:
    """Hold a module's own audit log against the service's: what it signed past the service is found and recorded.

    Works on the machine of the service, running or not. FILE has every signature the module counted in a period, one a
    row. Exit code 1 where the log lacks one.
    """
    found = actions_of(context).module_log(config, module, file, tolerance)
    console.print_document(found, as_json=as_json)
    if found["unrecorded"]:
        raise typer.Exit(console.FAULT)


inquiry.add_to(app)
reporting.add_to(app)
browser_command.add_to(app)
reviewing.add_to(app)
incidents.add_to(app)
