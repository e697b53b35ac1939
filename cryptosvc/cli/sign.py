"""`sign` and `explain`: a caller asks the service."""

import base64
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from cryptosvc.cli import console
from cryptosvc.cli.actions import Ask
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
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.content.base import Statement
from cryptosvc.core.names import ContentForm


class Form(StrEnum):
    """What a payload can be said to be. There is no raw form and no digest."""

    TBS_CERTIFICATE = "tbs-certificate"
    CERTIFICATION_REQUEST_INFO = "certification-request-info"
    TBS_CERT_LIST = "tbs-cert-list"
    GBCS_PRE_COMMAND = "gbcs-pre-command"
    DUIS_DOCUMENT = "duis-document"
    TLS_SERVER_KEY_EXCHANGE = "tls-server-key-exchange"
    TLS_TRANSCRIPT = "tls-transcript"


KeyArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="KEY", help="Id of the key, as `key list` shows it.")
]
FormArgument: TypeAlias = Annotated[
    Form, typer.Argument(metavar="FORM", help="What the payload is: " + ", ".join(Form) + ".")
]
PayloadArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="PAYLOAD", help="File with the whole payload; - is standard input.")
]
HexOption: TypeAlias = Annotated[bool, typer.Option("--hex", help="The payload file is hex text.")]
RequestIdOption: TypeAlias = Annotated[
    str, typer.Option(help="Your id of this request; used once, ever. Default: a new one.")
]
VariantOption: TypeAlias = Annotated[
    str, typer.Option("--variant", help="Service Reference Variant, as 7.1.")
]
UserIdOption: TypeAlias = Annotated[str, typer.Option(help="User ID, as 90-B3-D5-1F-30-01-00-00.")]
UserRoleOption: TypeAlias = Annotated[
    str, typer.Option(help="User Role: DCC, IS, ES, GS, ED, GT, RSA, OU or LC.")
]
CheckOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--supply-sensitive-check", help="DSSE envelope of the Supply Sensitive Check (JSON)."),
]


def sign(
    context: typer.Context,
    key_id: KeyArgument,
    form: FormArgument,
    payload: PayloadArgument,
    *,
    target: TargetOption,
    ca: CaOption,
    certificate: CertificateOption,
    private_key: PrivateKeyOption,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the signed artefact to this file.")
    ] = None,
    hexadecimal: HexOption = False,
    request_id: RequestIdOption = "",
    variant: VariantOption = "",
    user_id: UserIdOption = "",
    user_role: UserRoleOption = "",
    supply_sensitive_check: CheckOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign one thing. The service reads the payload to its last byte and refuses what the key is not for.

    Prints the receipt; the artefact (certificate, CSR, CRL, Signed Pre-Command, signed document) goes to --out.
    """
    ask = _ask(
        key_id,
        form,
        payload,
        request_id,
        Statement(service_reference_variant=variant, user_id=user_id, user_role=user_role),
        supply_sensitive_check,
        hexadecimal=hexadecimal,
    )
    answer = actions_of(context).sign(connection(target, ca, certificate, private_key), ask)
    if out is not None:
        out.write_bytes(answer.artefact)
    document: dict[str, JsonValue] = {
        "clause": answer.clause,
        "request_id": answer.request_id,
        "signature": answer.signature.hex(),
        "receipt": answer.receipt,
    }
    if out is not None:
        document["written_to"] = str(out)
    elif as_json or not sys.stdout.isatty():
        document["artefact_base64"] = base64.b64encode(answer.artefact).decode()
    else:
        document["artefact"] = f"{len(answer.artefact)} octets; --out FILE keeps them"
    console.print_document(document, as_json=as_json)


def explain(
    context: typer.Context,
    key_id: KeyArgument,
    form: FormArgument,
    payload: PayloadArgument,
    *,
    target: TargetOption,
    ca: CaOption,
    certificate: CertificateOption,
    private_key: PrivateKeyOption,
    hexadecimal: HexOption = False,
    request_id: RequestIdOption = "",
    variant: VariantOption = "",
    user_id: UserIdOption = "",
    user_role: UserRoleOption = "",
    supply_sensitive_check: CheckOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether `sign` would sign this, and why not. No key is used; the question itself is recorded.

    Exit code 0 where it would be signed, 3 where it would be refused.
    """
    ask = _ask(
        key_id,
        form,
        payload,
        request_id,
        Statement(service_reference_variant=variant, user_id=user_id, user_role=user_role),
        supply_sensitive_check,
        hexadecimal=hexadecimal,
    )
    document = actions_of(context).explain(connection(target, ca, certificate, private_key), ask)
    console.print_document(document, as_json=as_json)
    if document.get("permitted") is not True:
        raise typer.Exit(console.REFUSED)


def _ask(
    key_id: str,
    form: Form,
    payload: str,
    request_id: str,
    statement: Statement,
    check: Path | None,
    *,
    hexadecimal: bool,
) -> Ask:
    return Ask(
        key_id=key_id,
        form=ContentForm[form.name],
        payload=read_input(payload, hexadecimal=hexadecimal),
        request_id=request_id,
        statement=statement,
        supply_sensitive_check=b"" if check is None else read_input(str(check)),
    )


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(sign)
    app.command()(explain)
