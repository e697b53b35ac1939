"""What `audit query --bundle` takes, and what `audit verify` says of a bundle."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

BundleOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--bundle",
        metavar="FILE",
        help="Write the answer with its proofs to this file instead, signed with your client key.",
    ),
]
LogKeyOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--log-key", exists=True, help="The log's public key, PEM or DER; with --bundle."),
]
SinceOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--since", exists=True, help="The checkpoint you kept: the bundle proves that the log only grew."
    ),
]
ChainOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--chain", exists=True, help="PEM of certificates of the log's key that its record has not, in order."
    ),
]
CompleteOption: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--complete", help="Fetch the range as well, to FILE.range, and say in the bundle that it is all."
    ),
]

WithoutOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--without",
        metavar="NAME",
        help="A value to leave out of the bundle, as principal or target; again for more.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundling:
    """How a bundle is wanted: where to, the log's key, what was kept, further certificates, whether it must be all, what is left out."""

    out: Path
    log_key: Path
    since: Path | None
    chain: Path | None
    complete: bool
    without: tuple[str, ...]


def bundling(
    out: Path | None,
    log_key: Path | None,
    since: Path | None,
    chain: Path | None,
    without: Sequence[str],
    *,
    complete: bool,
) -> Bundling | None:
    """Put the options together; None where no bundle is wanted."""
    if out is None:
        if log_key or since or chain or complete or without:
            raise typer.BadParameter(
                "these options go with --bundle", param_hint="--log-key, --since, --chain"
            )
        return None
    if log_key is None:
        raise typer.BadParameter("a bundle needs the log's public key", param_hint="--log-key")
    return Bundling(
        out=out, log_key=log_key, since=since, chain=chain, complete=complete, without=tuple(without)
    )
