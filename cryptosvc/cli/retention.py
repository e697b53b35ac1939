"""`audit seal`, `archive`, `bring-back` and `retire`: entries and what they withhold, kept as long as they must be and then deleted (G2.17, G2.18)."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Protocol, cast

import typer

from cryptosvc.cli import console
from cryptosvc.cli.actions import Document, Progress
from cryptosvc.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption, actions_of


class Retention(Protocol):
    """What the commands need."""

    def seal(
        self, config: Path, key_id: str, before: datetime, progress: Progress, *, rewrite: bool
    ) -> Document:
        """Seal a segment under a key."""

    def retire(self, config: Path, key_id: str) -> Document:
        """Clear away what a destroyed key has deleted."""

    def archive(self, config: Path, key_id: str, out: Path) -> Document:
        """Move a sealed segment to a file."""

    def bring_back(self, config: Path, file: Path) -> Document:
        """Verify an archived segment, and put it back."""


class _Source(Protocol):
    def retention(self) -> Retention:
        """What the commands work with."""


def seal(
    context: typer.Context,
    key_id: Annotated[
        str, typer.Argument(metavar="KEY", help="Active log-authentication key of the segment.")
    ],
    before: Annotated[
        datetime,
        typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="Entries older than this (UTC)."),
    ],
    rewrite: Annotated[
        bool,
        typer.Option(
            "--rewrite",
            help="Write the table of entries anew after, so that no dead row or gap keeps octets; signing waits for it.",
        ),
    ] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Seal older entries, and what they withhold, under a key of the module (G2.18).

    From where the last segment ended. Sealed whole are entries of what callers did (uses, refusals, reads); beside any other
    entry but those that records are derived from, what is withheld. It is read as before while the key is there; destroying the key under dual control
    (`propose key.destroy`) deletes it, in every backup made after this. Signing goes on meanwhile. May be stopped and
    called again.
    """
    with console.progress_bar(as_json=as_json) as progress:
        done = _retention(context).seal(config, key_id, before.replace(tzinfo=UTC), progress, rewrite=rewrite)
    console.print_document(done, as_json=as_json)


def retire(
    context: typer.Context,
    key_id: Annotated[
        str, typer.Argument(metavar="KEY", help="Key of a segment, destroyed under dual control.")
    ],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Clear away what nobody can open since the key of its segment was destroyed (G2.18).

    The sealed octets leave the store, the query index is begun anew without them, and the log has an entry of it. Of an
    entry that was sealed whole the leaf hash is left, and proofs of every other entry stay what they were.
    """
    console.print_document(_retention(context).retire(config, key_id), as_json=as_json)


def archive(
    context: typer.Context,
    key_id: Annotated[str, typer.Argument(metavar="KEY", help="Key of a sealed segment.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="File to write.")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Move a sealed segment out of the store, to a file; the log has an entry with the file's digest.

    The file stays sealed under the segment's key: destroying the key deletes it there too. Until it is brought back its
    entries are hashes alone, and of the others what they withhold is left out.
    """
    console.print_document(_retention(context).archive(config, key_id, out), as_json=as_json)


def bring_back(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, help="What `audit archive` wrote.")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Bring an archived segment back into the store, once all of it is verified.

    The file is the one the log has the digest of; every entry opens and has its leaf's hash, and every value is the one its
    entry commits to.
    """
    console.print_document(_retention(context).bring_back(config, file), as_json=as_json)


def _retention(context: typer.Context) -> Retention:
    return cast("_Source", actions_of(context)).retention()


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(seal)
    app.command()(archive)
    app.command("bring-back")(bring_back)
    app.command()(retire)
