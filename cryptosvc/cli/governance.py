"""`propose`, `approve`, `withdraw`, `submit`, `execute`, `proposal`: acts under dual control.

Signing is off-line: `propose` and `approve` write files, and `submit` hands them in. A custodian's key is a PEM file in
test, a card or token by its PKCS#11 URI in live; a PIN is asked for or comes from a file, never from an argument.
"""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, TypeAlias

import orjson
import typer

from cryptosvc.cli import console
from cryptosvc.cli.actions import Connection, Document, Draft
from cryptosvc.cli.options import (
    CaOption,
    CertificateOption,
    JsonOption,
    PrivateKeyOption,
    TargetOption,
    actions_of,
    connection,
    read_input,
)
from cryptosvc.cli.parameters import read_parameters
from cryptosvc.cli.said import digest_lines, said
from cryptosvc.core import statement as statements

SigningKeyOption: TypeAlias = Annotated[
    str,
    typer.Option(
        "--key", help="Your signing key: a PEM file, or the pkcs11: URI of one on a card (RFC 7512)."
    ),
]
OutOption: TypeAlias = Annotated[Path, typer.Option("--out", "-o", help="File to write; it must not exist.")]
YesOption: TypeAlias = Annotated[
    bool, typer.Option("--yes", help="Do not ask; for programs, together with --json.")
]
ProposalArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="PROPOSAL", help="Id of the proposal: 64 hex digits.")
]

app = typer.Typer(
    name="proposal",
    help="What was proposed, and who approved it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
_COLUMNS = ("proposal_id", "state", "act", "subject", "approvals", "proposed_by", "expires_at")


def propose(
    context: typer.Context,
    act: Annotated[str, typer.Argument(metavar="ACT", help="As key.activate.")],
    subject: Annotated[
        str, typer.Argument(metavar="SUBJECT", help="Id of the key, caller, custodian or module.")
    ],
    *,
    key: SigningKeyOption,
    reason: Annotated[str, typer.Option(help="Why, in a sentence.")],
    out: OutOption,
    parameters: Annotated[
        list[str] | None, typer.Option("--param", "-p", help="name=value, or name=@FILE; once for each.")
    ] = None,
    proposer: Annotated[
        str, typer.Option("--as", help="Your custodian id; found by your key where the service is asked.")
    ] = "",
    version: Annotated[
        int,
        typer.Option(
            help="Version of the subject's record, with --setting; 0 where it does not exist.", min=0
        ),
    ] = 0,
    hours: Annotated[int, typer.Option(help="How long it may be approved and carried out.", min=1)] = 24,
    setting: Annotated[
        Path | None,
        typer.Option(help="File that `proposal setting` wrote; then the service is not asked.", exists=True),
    ] = None,
    target: Annotated[str, typer.Option(envvar="CRYPTOSVC_TARGET", help="HOST:PORT of the service.")] = "",
    ca: Annotated[Path | None, typer.Option(envvar="CRYPTOSVC_CA", help="PEM of the server's CA.")] = None,
    certificate: Annotated[
        Path | None, typer.Option("--cert", envvar="CRYPTOSVC_CERT", help="PEM of your client certificate.")
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option("--tls-key", envvar="CRYPTOSVC_KEY", help="PEM of its private key.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a statement and sign it as its proposer; nothing is handed in yet.

    Writes three files: the statement, your envelope beside it (.dsse), and the record as it is now (.record), where there
    is one. Give all three to those who approve; then `submit` the envelopes, yours first.
    """
    paths = (out, out.with_name(out.name + ".dsse"), out.with_name(out.name + ".record"))
    require_absent(*paths)
    where = None if setting is not None else _whole(target, ca, certificate, tls_key)
    drafted = Draft(
        act=act,
        subject=subject,
        parameters=read_parameters(act, parameters or []),
        reason=reason,
        key=key,
        proposer=proposer,
        version=version,
        open_seconds=int(timedelta(hours=hours).total_seconds()),
        setting={} if setting is None else _object(setting),
    )
    octets, envelope, record = actions_of(context).draft(where, drafted)
    statement = statements.parse(octets)
    written = [write_file(paths[0], octets), write_file(paths[1], envelope)]
    if record is not None:
        written.append(write_file(paths[2], orjson.dumps(record, option=orjson.OPT_SORT_KEYS)))
    if as_json:
        console.print_json({"proposal_id": statements.proposal_id(statement), "files": written})
        return
    for line in said(statement, record):
        print(line)
    print(f"\nSigned by you. Written: {', '.join(written)}")


def approve(
    context: typer.Context,
    statement_file: Annotated[
        str, typer.Argument(metavar="STATEMENT", help="The file; - for standard input.")
    ],
    *,
    key: SigningKeyOption,
    out: OutOption,
    record: Annotated[
        Path | None,
        typer.Option(
            help="The subject's record as it is now; STATEMENT.record where that is there.", exists=True
        ),
    ] = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show what a statement changes, and sign it if you type that you agree. Off-line: nothing is handed in.

    Compare the digest with the others, aloud: the words are the same as the hex digits. What you sign is the statement and
    nothing else.
    """
    require_may_skip(yes=yes, as_json=as_json)
    require_absent(out)
    octets = read_input(statement_file)
    statement = statements.parse(octets)
    beside = Path(f"{statement_file}.record")
    source = record if record is not None else beside if beside.is_file() else None
    lines = list(said(statement, None if source is None else _object(source)))
    if not as_json:
        for line in lines:
            print(line)
    if not yes:
        confirm(f"approve {statement.subject}")
    made = actions_of(context).sign_statement(key, octets)
    _tell(made.key_id, statements.proposal_id(statement), write_file(out, made.envelope), as_json=as_json)


def withdraw(
    context: typer.Context,
    proposal_id: ProposalArgument,
    *,
    key: SigningKeyOption,
    reason: Annotated[str, typer.Option(help="Why, in a sentence.")],
    out: OutOption,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Sign the withdrawal of a proposal that you proposed or approved. Off-line: `submit` hands it in."""
    require_may_skip(yes=yes, as_json=as_json)
    require_absent(out)
    digest = _digest(proposal_id)
    if not as_json:
        print("WITHDRAW THE PROPOSAL WITH THIS DIGEST\n")
        for line in digest_lines(digest):
            print(line)
    if not yes:
        confirm(f"withdraw {proposal_id[:8]}")
    made = actions_of(context).sign_withdrawal(key, proposal_id, reason)
    _tell(made.key_id, proposal_id, write_file(out, made.envelope), as_json=as_json)


def submit(
    context: typer.Context,
    envelopes: Annotated[
        list[str],
        typer.Argument(metavar="ENVELOPE...", help="Files that propose, approve or withdraw wrote."),
    ],
    *,
    target: TargetOption,
    ca: CaOption,
    certificate: CertificateOption,
    private_key: PrivateKeyOption,
    as_json: JsonOption = False,
) -> None:
    """Hand envelopes in, in the order given: the proposer's first, then approvals; or a withdrawal."""
    found = actions_of(context).submit(
        connection(target, ca, certificate, private_key), [read_input(path) for path in envelopes]
    )
    console.print_rows(found, _COLUMNS, as_json=as_json)


def execute(
    context: typer.Context,
    proposal_id: ProposalArgument,
    *,
    target: TargetOption,
    ca: CaOption,
    certificate: CertificateOption,
    private_key: PrivateKeyOption,
    as_json: JsonOption = False,
) -> None:
    """Have an approved proposal carried out, once. Exit code 3 while approvals are missing."""
    done = actions_of(context).execute(connection(target, ca, certificate, private_key), proposal_id)
    console.print_document(done, as_json=as_json)


@app.command("list")
def list_proposals(
    context: typer.Context,
    *,
    target: TargetOption,
    ca: CaOption,
    certificate: CertificateOption,
    private_key: PrivateKeyOption,
    state: Annotated[
        str, typer.Option(help="open, executing, done, failed, withdrawn or expired; all where left out.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """List proposals, the newest first."""
    rows = actions_of(context).proposals(connection(target, ca, certificate, private_key), state)
    console.print_rows(rows, _COLUMNS, as_json=as_json)


@app.command("show")
def show_proposal(
    context: typer.Context,
    proposal_id: ProposalArgument,
    *,
    target: TargetOption,
    ca: CaOption,
    certificate: CertificateOption,
    private_key: PrivateKeyOption,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the statement to this file, to be approved.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show one proposal: what will change, who signed, what it came to."""
    document, octets = actions_of(context).proposal(
        connection(target, ca, certificate, private_key), proposal_id
    )
    if out is not None:
        require_absent(out)
        write_file(out, octets)
    if as_json:
        console.print_json({**document, "statement": orjson.loads(octets)})
        return
    for line in said(statements.parse(octets), None):
        print(line)
    print()
    console.print_document(document, as_json=False)


@app.command("setting")
def show_setting(
    context: typer.Context,
    *,
    target: TargetOption,
    ca: CaOption,
    certificate: CertificateOption,
    private_key: PrivateKeyOption,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write it to this file, for `propose --setting`.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a statement has to name to be accepted; with -o, write it as JSON to propose off-line."""
    found = actions_of(context).setting(connection(target, ca, certificate, private_key))
    if out is None:
        console.print_document(found, as_json=as_json)
    else:
        require_absent(out)
        write_file(out, orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))


def add_to(app_: typer.Typer) -> None:
    """Put these commands on the top level."""
    for command in (propose, approve, withdraw, submit, execute):
        app_.command()(command)
    app_.add_typer(app)


def _whole(target: str, ca: Path | None, certificate: Path | None, tls_key: Path | None) -> Connection:
    if not target or ca is None or certificate is None or tls_key is None:
        raise typer.BadParameter("give --target, --ca, --cert and --tls-key, or --setting to work off-line")
    return connection(target, ca, certificate, tls_key)


def confirm(wanted: str) -> None:
    """Ask for the words; anything else stops, and nothing is signed."""
    print(f"\nTo sign it, type: {wanted}")
    try:
        typed = input("> ")
    except EOFError:
        typed = ""
    if typed != wanted:
        print("Not signed.")
        raise typer.Exit(console.REFUSED)


def require_may_skip(*, yes: bool, as_json: bool) -> None:
    """Refuse --yes without --json and the other way round."""
    if yes != as_json:
        raise typer.BadParameter(
            "--yes and --json go together: a person reads and types, a program does neither"
        )


def require_absent(*paths: Path) -> None:
    """Refuse to write over a file."""
    for path in paths:
        if path.exists():
            raise typer.BadParameter(f"{path} exists; it is not written over")


def write_file(path: Path, octets: bytes) -> str:
    """Write a new file; its name."""
    try:
        with path.open("xb") as file:
            file.write(octets)
    except OSError as error:
        raise typer.BadParameter(f"cannot write {path}: {error.strerror}") from None
    return str(path)


def _object(path: Path) -> Document:
    try:
        document: object = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        document = None
    if not isinstance(document, dict):
        raise typer.BadParameter(f"{path} is no JSON object")
    return document


def _digest(proposal_id: str) -> bytes:
    try:
        digest = bytes.fromhex(proposal_id)
    except ValueError:
        digest = b""
    if len(digest) != 32 or proposal_id != digest.hex():
        raise typer.BadParameter("the id of a proposal is 64 lower-case hex digits")
    return digest


def _tell(key_id: str, proposal_id: str, written: str, *, as_json: bool) -> None:
    console.print_document(
        {"proposal_id": proposal_id, "signed_with_key": key_id, "written": written}, as_json=as_json
    )
