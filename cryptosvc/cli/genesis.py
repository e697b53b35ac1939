"""`genesis-draft`, `genesis-sign`, `genesis`: how a deployment begins, in live and in test."""

from pathlib import Path
from typing import Annotated

import typer

from cryptosvc.cli import console
from cryptosvc.cli.governance import (
    OutOption,
    SigningKeyOption,
    YesOption,
    confirm,
    require_absent,
    require_may_skip,
    write_file,
)
from cryptosvc.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption, actions_of, read_input
from cryptosvc.cli.said import genesis_said
from cryptosvc.core import dsse
from cryptosvc.core import genesis as founding


def genesis_draft(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="GENESIS_FILE", help="TOML: first custodians and callers.", exists=True)
    ],
    *,
    out: OutOption,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Draw up the genesis of this deployment: its custodians, its callers, the log's keys, the policies in force.

    Refused where a custodian may not be one (screening, clearance, Security Check, Separated systems: G4.1 to G4.8,
    G2.22B(d), G2.24). Everyone it names then signs it with genesis-sign.
    """
    require_absent(out)
    octets = actions_of(context).genesis_draft(config, file)
    digest = founding.digest(founding.parse(octets))
    console.print_document({"genesis": digest, "written": write_file(out, octets)}, as_json=as_json)


def genesis_sign(
    context: typer.Context,
    file: Annotated[
        str,
        typer.Argument(
            metavar="GENESIS", help="What genesis-draft wrote, or genesis-sign for who signed before."
        ),
    ],
    *,
    key: SigningKeyOption,
    out: OutOption,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show a genesis, and sign it if you type that you agree. Off-line; hand the file on to whoever signs next."""
    require_may_skip(yes=yes, as_json=as_json)
    require_absent(out)
    octets = read_input(file)
    signed = octets.startswith(b'{"payload"')
    genesis = founding.parse(dsse.parse(octets).payload if signed else octets)
    if not as_json:
        for line in genesis_said(genesis):
            print(line)
    if not yes:
        confirm(f"begin {genesis.system}")
    made = actions_of(context).genesis_sign(key, octets)
    document = {
        "genesis": founding.digest(genesis),
        "signed_with_key": made.key_id,
        "signatures": f"{len(dsse.parse(made.envelope).signatures)} of {len(genesis.custodians)}",
        "written": write_file(out, made.envelope),
    }
    console.print_document(document, as_json=as_json)


def genesis(
    context: typer.Context,
    file: Annotated[
        Path,
        typer.Argument(metavar="SIGNED_GENESIS", help="Signed by every custodian it names.", exists=True),
    ],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Begin a deployment, live or test, with what its first custodians signed.

    Takes the tokens, generates the log's own keys, writes entry 0 with the genesis and registers who it names. From then
    on everything changes under dual control. Refuses a deployment that has begun.
    """
    with console.progress_bar(as_json=as_json) as progress:
        done = actions_of(context).genesis(config, file, progress)
    console.print_document(done, as_json=as_json)


def add_to(app: typer.Typer) -> None:
    """Put these commands on the top level."""
    for command in (genesis, genesis_draft, genesis_sign):
        app.command()(command)
