"""`backup` and `restore`: what an operator does so that a lost store is not a lost service (G2.16)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol, cast

import typer

from cryptosvc.cli import console
from cryptosvc.cli.actions import Document, Progress
from cryptosvc.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption, actions_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a restore is given.

    Args:
        key: file of keys that open the backup.
        known: files of signed checkpoints of this log.
        replaces: URL of the store that this one takes the place of; empty where it is gone.
        destroyed: destruction certificates issued since the backup.
        approvals: DSSE envelopes over one statement of `log.restore`.
        caller: registered caller in whose name the approvals are handed in.
        look: look and say, and write nothing.

    """

    key: Path
    known: Sequence[Path] = ()
    replaces: str = ""
    destroyed: Sequence[Path] = ()
    approvals: Sequence[Path] = ()
    caller: str = ""
    look: bool = False


class Backups(Protocol):
    """What the commands need."""

    def backup(self, config: Path, out: Path, to: Sequence[str], progress: Progress) -> Document:
        """Write a backup."""

    def restore(self, config: Path, sealed: Path, asked: Asked, progress: Progress) -> Document:
        """Look at a backup, or restore it."""


class _Source(Protocol):
    def backups(self) -> Backups:
        """What the commands work with."""


def backup(
    context: typer.Context,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="File to write.")],
    to: Annotated[
        list[str] | None,
        typer.Option(
            "--to",
            metavar="RECIPIENT",
            help="age or SSH public key of who may restore it; give it again for more. Default: backup.recipients.",
        ),
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Back up the store, the log with it, while the service runs (G2.16).

    One moment of the whole store, SQLite or PostgreSQL, encrypted to the recipients, with a manifest that the
    service-signing key signs. The log has an entry of every backup, with the digest of the file. Keys of modules are
    not in it: the modules' own procedures back those up.
    """
    with console.progress_bar(as_json=as_json) as progress:
        done = _backups(context).backup(config, out, to or [], progress)
    console.print_document(done, as_json=as_json)


def restore(
    context: typer.Context,
    sealed: Annotated[Path, typer.Argument(metavar="IN", exists=True, help="What `backup` wrote.")],
    key: Annotated[Path, typer.Option(exists=True, help="File of age identities, or an SSH private key.")],
    known: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True,
            help="A checkpoint of this log from elsewhere: an auditor's, a witness's. Give all there are.",
        ),
    ] = None,
    replaces: Annotated[
        str,
        typer.Option(metavar="URL", help="The store whose place this one takes, where it can still be read."),
    ] = "",
    destroyed: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True,
            help="Destruction certificate issued since the backup: the key stays destroyed. Give all there are.",
        ),
    ] = None,
    approval: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True, help="Envelope over a statement of log.restore; the proposer's and each approver's."
        ),
    ] = None,
    caller: Annotated[
        str, typer.Option(help="Registered caller, with the grant to govern, who hands the approvals in.")
    ] = "",
    look: Annotated[bool, typer.Option("--look", help="Verify and say what it is; write nothing.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Restore a backup into an empty store, once all of it is verified (G2.16). The service must not run.

    Envelope, manifest, head, every entry, every change derived again from the genesis on, every record and device key.
    What is known of the log (the anchor of this host, --known, --replaces, the configured witnesses) is held against it:
    where the log went on after the backup, or nothing is known at all, a restore needs a quorum: a statement of
    log.restore, signed off-line (`--look` prints its parameters).

    The log says for ever that it was put back. Keys that promised counters or serials are held from then on, until they
    are replaced or advanced (`propose key.advance`).
    """
    asked = Asked(
        key=key,
        known=known or [],
        replaces=replaces,
        destroyed=destroyed or [],
        approvals=approval or [],
        caller=caller,
        look=look,
    )
    with console.progress_bar(as_json=as_json) as progress:
        done = _backups(context).restore(config, sealed, asked, progress)
    console.print_document(done, as_json=as_json)


def _backups(context: typer.Context) -> Backups:
    return cast("_Source", actions_of(context)).backups()


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(backup)
    app.command()(restore)
