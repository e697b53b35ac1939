"""`policy …`: is the policy sound, what would it say, what does it permit altogether."""

from pathlib import Path
from typing import Annotated

import typer

from cryptosvc.cli import console
from cryptosvc.cli.options import JsonOption, actions_of
from cryptosvc.core.keyclass import KEY_CLASSES
from cryptosvc.core.names import ContentKind, Operation

app = typer.Typer(
    name="policy",
    help="Cedar policies: check, explain, list all they permit.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_FolderOption = Annotated[
    Path,
    typer.Option(
        "--folder", "-f", envvar="CRYPTOSVC_POLICIES", exists=True, file_okay=False, help="Policy folder."
    ),
]
_FOLDER = Path("policies")


@app.command()
def check(context: typer.Context, folder: _FolderOption = _FOLDER, as_json: JsonOption = False) -> None:
    """Load the policies as a worker does, and run their decision tables.

    Schema validation, lint, the matrix under the ceiling, and every row of the tables in `tests/`. Exit code 4
    where anything does not hold; the message names the policy, the cell or the row.
    """
    console.print_document(actions_of(context).policy_check(folder), as_json=as_json)


@app.command()
def explain(
    context: typer.Context,
    key_class: Annotated[str, typer.Argument(help="One of: " + ", ".join(KEY_CLASSES))],
    content_kind: Annotated[ContentKind, typer.Argument(help="What is to be signed.")],
    fact: Annotated[
        list[str] | None,
        typer.Option(
            "--fact", help="NAME=VALUE, as state=suspended or in_united_kingdom=false; may be repeated."
        ),
    ] = None,
    operation: Annotated[Operation, typer.Option(help="What is asked.")] = Operation.SIGN,
    folder: _FolderOption = _FOLDER,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", "-c", help="Configuration file: say of each module in it whether it would do."
        ),
    ] = None,
    classification: Annotated[
        str, typer.Option(help="Classification of the key in the asset register, for --config.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Say what ceiling and policies answer for one set of facts, and why.

    Facts not given take the values of an ordinary permitted request: an active, generated key of the caller's own
    system, in a suitable module. With a configuration, each of its modules is put in the place of that one, as its
    assurance statement, the accepted standards of today and the Information Classification Scheme have it. Exit code 3 where the answer is no.
    """
    facts = {"operation": operation.value, "key_class": key_class, "content_kind": content_kind.value}
    for item in fact or ():
        name, separator, value = item.partition("=")
        if not separator:
            raise typer.BadParameter(f"--fact takes NAME=VALUE, not {item!r}")
        facts[name] = value
    document = actions_of(context).policy_explain(folder, facts, config, classification)
    console.print_document(document, as_json=as_json)
    if document.get("permitted") is not True:
        raise typer.Exit(console.REFUSED)


@app.command()
def matrix(context: typer.Context, folder: _FolderOption = _FOLDER, as_json: JsonOption = False) -> None:
    """List everything the policies permit, for a reviewer. What is not listed is refused.

    --json gives every cell of the matrix (class, content, state, environment, User Role), refused ones too.
    """
    text, cells = actions_of(context).policy_matrix(folder)
    if as_json:
        console.print_json(cells)
    else:
        print(text, end="")
