"""`mac`, `verify-mac` and `decrypt`: GBCS messages, as the Access Control Broker sends them and the party they are for reads them."""

from enum import StrEnum
from typing import Annotated, TypeAlias

import typer

from cryptosvc.cli import processing
from cryptosvc.cli.options import (
    CaOption,
    CertificateOption,
    JsonOption,
    PrivateKeyOption,
    TargetOption,
    connection,
    read_input,
)
from cryptosvc.cli.processing import Asked, Call, ExplainOption, OutOption
from cryptosvc.cli.sign import (
    HexOption,
    KeyArgument,
    RequestIdOption,
    UserIdOption,
    UserRoleOption,
    VariantOption,
)
from cryptosvc.core.content.base import Statement
from cryptosvc.core.names import ContentForm

DeviceOption: TypeAlias = Annotated[
    str,
    typer.Option(
        "--device-certificate", metavar="FILE", help="The Device's key agreement certificate, PEM or DER."
    ),
]


class Form(StrEnum):
    """What can be given a MAC."""

    COMMAND = "command"
    TOKEN = "token"  # noqa: S105 -- a prepayment token's name


_FORMS = {Form.COMMAND: ContentForm.GBCS_COMMAND, Form.TOKEN: ContentForm.TOP_UP}


def mac(
    context: typer.Context,
    key_id: KeyArgument,
    payload: Annotated[
        str,
        typer.Argument(
            metavar="PAYLOAD",
            help="File with a Signed Pre-Command, or the unsigned Command of a code that is not critical; - is standard input.",
        ),
    ],
    *,
    device_certificate: DeviceOption,
    target: TargetOption,
    ca: CaOption,
    certificate: CertificateOption,
    private_key: PrivateKeyOption,
    form: Annotated[
        Form, typer.Option(help="What the payload is: a command, or the 35 octets of a prepayment token.")
    ] = Form.COMMAND,
    out: OutOption = None,
    hexadecimal: HexOption = False,
    request_id: RequestIdOption = "",
    variant: VariantOption = "",
    user_id: UserIdOption = "",
    user_role: UserRoleOption = "",
    explain: ExplainOption = False,
    as_json: JsonOption = False,
) -> None:
    """Give a Command its MAC (G2.44(b)), or a prepayment token its UTRN.

    The Command is read to its last octet and the signature inside it is verified; the MAC is made with the Access Control Broker's
    key-agreement key, for the Device whose certificate is given. One originator, target and counter gets one MAC, for ever; the same
    octets again get the same answer. A token is authenticated with its supplier's prepayment key (--form token, --user-role IS or GS).

      cryptosvc mac broker-agreement signed.bin --device-certificate meter.pem --variant 7.2 -o command.bin
    """
    asked = Asked(
        call=Call.APPLY_MAC,
        key_id=key_id,
        form=_FORMS[form],
        payload=read_input(payload, hexadecimal=hexadecimal),
        device_certificate=processing.read_certificate(device_certificate),
        request_id=request_id,
        statement=Statement(service_reference_variant=variant, user_id=user_id, user_role=user_role),
    )
    reached = connection(target, ca, certificate, private_key)
    processing.carry_out(context, reached, asked, out=out, explain=explain, as_json=as_json)


def verify_mac(
    context: typer.Context,
    key_id: KeyArgument,
    payload: Annotated[
        str,
        typer.Argument(
            metavar="MESSAGE", help="File with a Response or Alert and its MAC; - is standard input."
        ),
    ],
    *,
    device_certificate: DeviceOption,
    target: TargetOption,
    ca: CaOption,
    certificate: CertificateOption,
    private_key: PrivateKeyOption,
    out: OutOption = None,
    hexadecimal: HexOption = False,
    request_id: RequestIdOption = "",
    user_id: UserIdOption = "",
    user_role: UserRoleOption = "",
    explain: ExplainOption = False,
    as_json: JsonOption = False,
) -> None:
    """Verify the MAC of a Response or Alert with the key of the party it is for; --out gets the message inside.

    Exit code 3 where it does not verify; why is said to nobody.

      cryptosvc verify-mac supplier-agreement response.bin --device-certificate meter.pem -o inner.bin
    """
    asked = Asked(
        call=Call.VERIFY_MAC,
        key_id=key_id,
        form=ContentForm.GBCS_MESSAGE,
        payload=read_input(payload, hexadecimal=hexadecimal),
        device_certificate=processing.read_certificate(device_certificate),
        request_id=request_id,
        statement=Statement(user_id=user_id, user_role=user_role),
    )
    reached = connection(target, ca, certificate, private_key)
    processing.carry_out(context, reached, asked, out=out, explain=explain, as_json=as_json)


def decrypt(
    context: typer.Context,
    key_id: KeyArgument,
    payload: Annotated[
        str,
        typer.Argument(
            metavar="RESPONSE",
            help="File with a Response, in its MAC or as it stands inside; - is standard input.",
        ),
    ],
    *,
    device_certificate: DeviceOption,
    target: TargetOption,
    ca: CaOption,
    certificate: CertificateOption,
    private_key: PrivateKeyOption,
    hexadecimal: HexOption = False,
    request_id: RequestIdOption = "",
    user_id: UserIdOption = "",
    user_role: UserRoleOption = "",
    explain: ExplainOption = False,
    as_json: JsonOption = False,
) -> None:
    """Decrypt the encrypted attributes of a Response: all of them, in order, in hexadecimal, or none.

    They are printed and written nowhere. What a SMETS1 Device sent is for `smets1 decrypt`.

      cryptosvc decrypt supplier-agreement inner.bin --device-certificate meter.pem --json
    """
    asked = Asked(
        call=Call.DECRYPT,
        key_id=key_id,
        form=ContentForm.ENCRYPTED_RESPONSE,
        payload=read_input(payload, hexadecimal=hexadecimal),
        device_certificate=processing.read_certificate(device_certificate),
        request_id=request_id,
        statement=Statement(user_id=user_id, user_role=user_role),
    )
    reached = connection(target, ca, certificate, private_key)
    processing.carry_out(context, reached, asked, explain=explain, as_json=as_json)


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(mac)
    app.command("verify-mac")(verify_mac)
    app.command()(decrypt)
