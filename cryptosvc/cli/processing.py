"""What the commands that use a key for something else than a signature have in common: `mac` and its like, and `smets1`.

Each asks the service over gRPC, or with `--explain` whether it would; each prints the receipt. What is finished (a Command with its MAC,
an APDU for a Device) goes to --out or is printed; a plaintext is printed and written nowhere.
"""

import base64
import sys
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Protocol, TypeAlias, cast

import typer

from cryptosvc.cli import console
from cryptosvc.cli.actions import Connection, Document
from cryptosvc.cli.options import read_input
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.content.base import Statement
from cryptosvc.core.names import ContentForm


class Call(StrEnum):
    """The method that is asked."""

    APPLY_MAC = "apply-mac"
    VERIFY_MAC = "verify-mac"
    DECRYPT = "decrypt"
    ENCRYPT = "encrypt"
    WRAP_KEY = "wrap-key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dlms:
    """What stands beside the octets of a SMETS1 Device's key.

    Args:
        system_title: 8 octets.
        counter: of what is sent.
        authentication_key_version: 0 is the current one.
        kind: of a key change: which key.
        version: likewise.
        association: sealed, of a dedicated key; empty for every other.

    """

    system_title: bytes = b""
    counter: int = 0
    authentication_key_version: int = 0
    kind: str = ""
    version: int = 0
    association: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request as given on the command line.

    Args:
        call: what is to be done.
        key_id: with which key.
        form: what the payload is.
        payload: whole.
        device_certificate: DER; empty where there is none.
        dlms: for forms of SMETS1 alone.
        request_id: empty where the client may choose it.
        statement: as for `sign`.

    """

    call: Call
    key_id: str
    form: ContentForm
    payload: bytes = b""
    device_certificate: bytes = b""
    dlms: Dlms = field(default=Dlms())
    request_id: str = ""
    statement: Statement = field(default=Statement())


@dataclass(frozen=True, slots=True, kw_only=True)
class Processed:
    """What came of it.

    Args:
        artefact: what is finished; empty for a decryption.
        mac: MAC, tag or token authentication; empty where there is none.
        plaintexts: in the order of the message.
        association: sealed, of an association that was opened; empty otherwise.
        derivation: where the key was derived or the work was done: `module` or `service`.
        clause: under which it may be done.
        request_id: of this request.
        receipt: its fields.

    """

    artefact: bytes
    mac: bytes
    plaintexts: tuple[bytes, ...]
    association: bytes
    derivation: str
    clause: str
    request_id: str
    receipt: Document


class Processing(Protocol):
    """What these commands can do."""

    def ask(self, connection: Connection, asked: Asked) -> Processed:
        """Have it done."""

    def explain(self, connection: Connection, asked: Asked) -> Document:
        """Ask whether it would be done."""


class _Giving(Protocol):
    def processing(self) -> Processing:
        """Give it."""


ExplainOption: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--explain", help="Ask only whether it would be done; no key is used. Exit code 3 where it would not."
    ),
]
OutOption: TypeAlias = Annotated[
    Path | None, typer.Option("--out", "-o", help="Write what is finished to this file.")
]


def carry_out(
    context: typer.Context,
    connection: Connection,
    asked: Asked,
    *,
    out: Path | None = None,
    association_out: Path | None = None,
    explain: bool,
    as_json: bool,
) -> None:
    """Ask, and print what came of it; an association goes to a file of its own."""
    service = cast("_Giving", context.obj).processing()
    if explain:
        said = service.explain(connection, asked)
        console.print_document(said, as_json=as_json)
        if said.get("permitted") is not True:
            raise typer.Exit(console.REFUSED)
        return
    done = service.ask(connection, asked)
    if out is not None:
        out.write_bytes(done.artefact)
    if association_out is not None:
        association_out.write_bytes(done.association)
    console.print_document(_document(done, out, as_json=as_json), as_json=as_json)


def _document(done: Processed, out: Path | None, *, as_json: bool) -> Document:
    document: dict[str, JsonValue] = {"clause": done.clause, "request_id": done.request_id}
    if done.mac:
        document["mac"] = done.mac.hex()
    if done.derivation:
        document["derivation"] = done.derivation
    if done.plaintexts:
        document["plaintexts"] = tuple(one.hex() for one in done.plaintexts)
    if out is not None:
        document["written_to"] = str(out)
    elif done.artefact and (as_json or not sys.stdout.isatty()):
        document["artefact_base64"] = base64.b64encode(done.artefact).decode()
    elif done.artefact:
        document["artefact"] = f"{len(done.artefact)} octets; --out FILE keeps them"
    return document | {"receipt": done.receipt}


def read_certificate(path: str) -> bytes:
    """DER of a certificate, from a file of PEM or DER; empty where no file is named."""
    octets = read_input(path) if path else b""
    if not octets.startswith(b"-----BEGIN CERTIFICATE-----"):
        return octets
    try:
        body = octets.split(b"-----BEGIN CERTIFICATE-----", 2)[1].split(b"-----END CERTIFICATE-----", 1)[0]
        return base64.b64decode(b"".join(body.split()), validate=True)
    except ValueError:
        raise typer.BadParameter(f"{path} is no PEM certificate") from None
