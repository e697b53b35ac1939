"""The command `cryptosvc`: every command in one place, and what happens to what they raise."""

import sys
from collections.abc import Sequence

import typer

import cryptosvc
from cryptosvc.cli import (
    audit,
    backup,
    ceremony,
    console,
    destruction,
    device_keys,
    genesis,
    governance,
    keys,
    mac,
    operate,
    policy,
    publishing,
    registers,
    retention,
    sign,
    smets1,
    transfer,
    witness,
)
from cryptosvc.cli.actions import Actions
from cryptosvc.core.errors import CryptosvcError

app = typer.Typer(
    name="cryptosvc",
    help=(
        "A signing service for GB smart metering that reads what it is asked to sign.\n\n"
        "Operators run `serve`, `init`, `doctor`, `reconcile`, `backup`, `restore`, `destruction`, `device-key`, `transfer`; callers use `sign`, `explain`, `mac`, `verify-mac`, `decrypt`, `smets1`, `key`; custodians use `propose`, `approve`, `withdraw`, `submit`, `execute`; auditors use `audit` and `witness`; "
        "reviewers of policy use `policy`. Callers and auditors reach the service over mutual TLS: give --target, "
        "--ca, --cert and --key, or set CRYPTOSVC_TARGET, CRYPTOSVC_CA, CRYPTOSVC_CERT and CRYPTOSVC_KEY."
    ),
    epilog=console.EXIT_CODES_HELP,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _version(value: bool) -> None:
    if value:
        print(f"cryptosvc {cryptosvc.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    del version


operate.add_to(app)
backup.add_to(app)
sign.add_to(app)
mac.add_to(app)
genesis.add_to(app)
governance.add_to(app)
registers.add_to(app)
publishing.add_to(keys.app)
app.add_typer(keys.app)
retention.add_to(audit.app)
app.add_typer(audit.app)
app.add_typer(policy.app)
app.add_typer(ceremony.app)
app.add_typer(destruction.app)
app.add_typer(smets1.app)
app.add_typer(device_keys.app)
app.add_typer(transfer.app)
app.add_typer(witness.app)


def run(actions: Actions, arguments: Sequence[str]) -> int:
    """Run one command line (without the program's name) and return its exit code."""
    try:
        app(args=list(arguments), prog_name="cryptosvc", obj=actions)
    except CryptosvcError as error:
        console.print_error(error, as_json="--json" in arguments)
        return console.exit_code(error)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else console.OK
    except BrokenPipeError:  # the reader of our output left, as `| head` does
        sys.stderr.close()
        return console.OK
    return console.OK
