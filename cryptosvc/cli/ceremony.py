"""`ceremony check | rehearse | run | resume | diff | verify`: key ceremonies, held at a terminal everyone looks at."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cryptosvc.cli import console
from cryptosvc.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption, actions_of

if TYPE_CHECKING:
    from cryptosvc.cli.desk import TerminalDesk

app = typer.Typer(
    name="ceremony",
    help="Key ceremonies: check a file, rehearse it, hold it, and judge what was written down.",
    no_args_is_help=True,
)

FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="The ceremony file (scripts/ceremonies/ has ready ones).")
]
FolderOption = Annotated[
    Path,
    typer.Option(
        "--folder",
        "-f",
        help="Where papers, files and the transcript go; one folder for all ceremonies of a system.",
    ),
]
PeopleOption = Annotated[
    Path, typer.Option("--people", "-p", help="TOML file: who is here, in which roles, with which key.")
]
CallerOption = Annotated[
    str, typer.Option("--caller", help="Registered caller in whose name the ceremony asks the service.")
]

SoPinOption = Annotated[
    Path | None,
    typer.Option(
        "--so-pin-file",
        help="PIN of the module's Security Officer, where a key is split in environment test.",
        exists=True,
    ),
]


@app.command()
def check(context: typer.Context, file: FileArgument, as_json: JsonOption = False) -> None:
    """Walk a ceremony file on paper and print the plan.

    Refused are unknown keys, names used before they are made, signatures and events that class and state do not
    allow, and too few people.
    """
    plan, document = actions_of(context).ceremony_check(file)
    if as_json:
        console.print_document(document, as_json=True)
    else:
        print(plan)


@app.command()
def rehearse(
    context: typer.Context,
    file: FileArgument,
    folder: FolderOption = Path(),
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Hold a ceremony on a fresh software token and a fresh store, with the same code and the same key presses.

    Nothing is kept but the transcript and the public keys that verify it.
    """
    desk = _desk()
    with desk.attended():
        done = actions_of(context).ceremony_rehearse(config, file, folder, desk)
    console.print_document(done, as_json=False)


@app.command()
def run(
    context: typer.Context,
    file: FileArgument,
    people: PeopleOption,
    folder: FolderOption = Path(),
    config: ConfigOption = DEFAULT_CONFIG,
    caller: CallerOption = "ceremony",
    so_pin_file: SoPinOption = None,
) -> None:
    """Hold a ceremony that counts.

    Each step waits for the words it asks for. Ctrl-C stops before the next step; `resume` goes on, after a power cut
    too.
    """
    desk = _desk()
    with desk.attended():
        done = actions_of(context).ceremony_run(config, file, people, folder, caller, so_pin_file, desk)
    console.print_document(done, as_json=False)


@app.command()
def resume(
    context: typer.Context,
    file: FileArgument,
    people: PeopleOption,
    folder: FolderOption = Path(),
    config: ConfigOption = DEFAULT_CONFIG,
    caller: CallerOption = "ceremony",
    so_pin_file: SoPinOption = None,
) -> None:
    """Go on with a ceremony that was interrupted: same file, same people, same folder.

    What the open step left behind is looked at first; it is done again only where nothing is found.
    """
    desk = _desk()
    with desk.attended():
        done = actions_of(context).ceremony_resume(config, file, people, folder, caller, so_pin_file, desk)
    console.print_document(done, as_json=False)


@app.command()
def diff(
    context: typer.Context,
    rehearsal: Annotated[Path, typer.Argument(metavar="REHEARSAL", help="Transcript of the rehearsal.")],
    real: Annotated[Path, typer.Argument(metavar="REAL", help="Transcript of the real ceremony.")],
    as_json: JsonOption = False,
) -> None:
    """Show that the real ceremony did what was rehearsed and nothing else.

    Exit code 4 where it did otherwise. One that was interrupted, resumed, and then did what was rehearsed did not do
    otherwise; its interruptions are listed. Verify both transcripts first: this compares what they say.
    """
    page, document, require = actions_of(context).ceremony_diff(rehearsal, real)
    if as_json:
        console.print_document(document, as_json=True)
        if document["others"]:
            raise typer.Exit(console.VERIFICATION_FAILED)
    else:
        print(page)
        require()


@app.command()
def verify(
    context: typer.Context,
    transcript: Annotated[Path, typer.Argument(metavar="TRANSCRIPT", help="The .jsonl file.")],
    people: Annotated[
        Path,
        typer.Option("--people", "-p", help="Folder of public keys, NAME.pem, from the custodian register."),
    ],
    log_key: Annotated[
        Path | None, typer.Option("--log-key", help="PEM of the log's public key; not for rehearsals.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Judge a transcript off-line: chain, plan, words, people, results, checkpoints, signatures."""
    console.print_document(actions_of(context).ceremony_verify(transcript, people, log_key), as_json=as_json)


def _desk() -> "TerminalDesk":
    """The terminal, with what it needs of core, which `--help` should not wait for."""
    from cryptosvc.cli.desk import TerminalDesk  # noqa: PLC0415 - only the commands that need it

    return TerminalDesk()
