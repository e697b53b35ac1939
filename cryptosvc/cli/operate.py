"""`serve`, `worker`, `init`, `doctor`: what an operator does on the machine of the service."""

from pathlib import Path
from typing import Annotated

import typer

from cryptosvc.cli import console
from cryptosvc.cli.actions import Finding, Health
from cryptosvc.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption, actions_of


def serve(context: typer.Context, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Run the service until SIGTERM or SIGINT, then drain and leave.

    Starts one worker process per processor (server.workers), replaces those that die, and sweeps what they had
    claimed. Logs are JSON lines on standard error.
    """
    actions_of(context).serve(config)


def worker(
    context: typer.Context,
    index: Annotated[int, typer.Option(help="Number of this worker, from 0.")],
    listen: Annotated[str, typer.Option(help="HOST:PORT, as the supervisor holds it.")],
    ready: Annotated[Path | None, typer.Option(help="File to make once the worker serves.")] = None,
    proven: Annotated[
        str, typer.Option(help="Digest of the policies that were proven under the ceiling already.")
    ] = "",
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Run one worker process. `serve` starts these; there is no reason to do so by hand."""
    actions_of(context).work(config, index, listen, ready, proven)


def init(
    context: typer.Context,
    provisioning: Annotated[
        Path,
        typer.Argument(
            metavar="PROVISIONING_FILE", help="TOML file that names keys and callers.", exists=True
        ),
    ],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Provision a TEST deployment from a file: store, log, keys, callers.

    On an empty store: creates the database, the log's own keys and its genesis entry, then every key and caller of
    the file. On a store of the same system: adds what the file has and the store has not, and gives keys the
    certificates that they lacked. Keys are generated on the module, or adopted from it (`adopt = true`); an adopted
    key is marked so for ever.

    Refuses environment `live` (keys there come from ceremonies), and a store or token that belongs to another
    system (G2.20, G2.25, G3.14).
    """
    with console.progress_bar(as_json=as_json) as progress:
        done = actions_of(context).init(config, provisioning, progress)
    console.print_document(done, as_json=as_json)


def doctor(
    context: typer.Context, config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False
) -> None:
    """Look at everything a worker needs, and say what is wrong and what to do about it.

    Configuration, modules and their mechanisms, tokens, clock, store and log, certificates and their expiry,
    policies. Uses no key. Exit code 1 where anything is wrong; warnings alone leave it 0.
    """
    findings = actions_of(context).doctor(config)
    if as_json:
        console.print_json([_document(finding) for finding in findings])
    else:
        for finding in findings:
            print(f"{_MARKS[finding.health]} {finding.subject}: {finding.seen}")
            if finding.advice:
                print(f"          → {finding.advice}")
    if any(finding.health is Health.WRONG for finding in findings):
        raise typer.Exit(console.FAULT)


def reconcile(
    context: typer.Context,
    config: ConfigOption = DEFAULT_CONFIG,
    finish: Annotated[
        bool, typer.Option("--finish", help="First end acts that a process left unfinished when it died.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare every module with the registry and the log, and record what differs (G2.3).

    Objects nobody registered, objects that are missing, changed keys and attributes, keys that were destroyed and are
    there again, modules whose identity or firmware drifted, acts that have no end. Each comes with what to do. With
    --finish an act that was begun and left is looked up on the module and finished, or undone; never repeated.

    Exit code 1 where anything differs.
    """
    found, endings = actions_of(context).reconcile(config, finish=finish)
    if as_json:
        console.print_json(
            [{"kind": "ended", **one} for one in endings]
            + [
                {"kind": one.kind.value, "subject": one.subject, "seen": one.seen, "remedy": one.remedy}
                for one in found
            ]
        )
    else:
        for ending in endings:
            print(f"ended    {ending['proposal_id']}: {ending['state']}, {ending['why']}")
        for one in found:
            print(f"DIFFERS  {one.subject}: {one.kind}: {one.seen}")
            print(f"          → {one.remedy}")
        if not found:
            print("ok       modules, registry and log agree")
    if found:
        raise typer.Exit(console.FAULT)


_MARKS = {Health.OK: "ok      ", Health.WARNING: "warning ", Health.WRONG: "WRONG   "}


def _document(finding: Finding) -> dict[str, str]:
    return {
        "subject": finding.subject,
        "health": finding.health.value,
        "seen": finding.seen,
        "advice": finding.advice,
    }


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(serve)
    app.command(hidden=True)(worker)
    app.command()(init)
    app.command()(doctor)
    app.command()(reconcile)
