"""`smets1 …`: what is done with the keys of SMETS1 Devices, DLMS security suite 0."""

from pathlib import Path
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
from cryptosvc.cli.processing import Asked, Call, Dlms, ExplainOption, OutOption
from cryptosvc.cli.sign import HexOption, RequestIdOption
from cryptosvc.core.content.base import Statement
from cryptosvc.core.names import ContentForm

app = typer.Typer(
    name="smets1",
    help=(
        "Protect requests to SMETS1 Devices and read what they answer (DLMS security suite 0; G2.44(c), (e), G2.44A).\n\n"
        "KEY is DEVICE.encryption, DEVICE.master, or DEVICE.dedicated with --association, as 90-B3-D5-1F-30-01-00-00.encryption; "
        "the role you act in is S1SP or DCO. "
        "Requests are read to their last octet, and a counter is good for one request with a key, whatever for."
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
)

KeyArgument: TypeAlias = Annotated[str, typer.Argument(metavar="KEY", help="DEVICE.KIND of a device key.")]
RequestArgument: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="REQUEST",
        help="File with the whole plaintext request (get, set, action, access); - is standard input.",
    ),
]
RoleOption: TypeAlias = Annotated[str, typer.Option("--user-role", help="S1SP or DCO.")]
TitleOption: TypeAlias = Annotated[
    str, typer.Option("--system-title", metavar="HEX", help="Ours, 8 octets; one of the configured ones.")
]
CounterOption: TypeAlias = Annotated[
    int,
    typer.Option(
        "--counter", min=0, help="Invocation counter, higher than every one used with the key before."
    ),
]
AuthenticationOption: TypeAlias = Annotated[
    int,
    typer.Option(
        "--authentication-key-version",
        min=0,
        help="Version of the Device's authentication key; 0 is the current one.",
    ),
]
AssociationOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--association",
        exists=True,
        dir_okay=False,
        help="For KEY DEVICE.dedicated: the file that `smets1 associate` wrote.",
    ),
]


@app.command()
def associate(
    context: typer.Context,
    key_id: KeyArgument,
    payload: Annotated[
        str,
        typer.Argument(
            metavar="INITIATE",
            help="File with the InitiateRequest without a dedicated key, 14 octets; - is standard input.",
        ),
    ],
    association: Annotated[
        Path,
        typer.Argument(
            metavar="ASSOCIATION",
            dir_okay=False,
            help="Written: the association, which every use of its key asks for. It holds no secret.",
        ),
    ],
    *,
    system_title: TitleOption,
    counter: CounterOption,
    user_role: RoleOption,
    target: TargetOption,
    ca: CaOption,
    certificate: CertificateOption,
    private_key: PrivateKeyOption,
    authentication_key_version: AuthenticationOption = 0,
    out: OutOption = None,
    hexadecimal: HexOption = False,
    request_id: RequestIdOption = "",
    as_json: JsonOption = False,
) -> None:
    """Open an Application Association with a dedicated key (G2.44A(c)); --out gets the glo-initiate-request for the AARQ.

    The module makes the key; it is used as DEVICE.dedicated, until the association's time is over.

      cryptosvc smets1 associate 90-B3-D5-1F-30-01-00-00.encryption initiate.bin association.json --system-title 4D4D4D0000BC614E --counter 9 --user-role S1SP -o apdu.bin
    """
    asked = Asked(
        call=Call.ENCRYPT,
        key_id=key_id,
        form=ContentForm.DLMS_ASSOCIATION,
        payload=read_input(payload, hexadecimal=hexadecimal),
        dlms=_sent(system_title, counter, authentication_key_version),
        request_id=request_id,
        statement=Statement(user_role=user_role),
    )
    reached = connection(target, ca, certificate, private_key)
    processing.carry_out(
        context, reached, asked, out=out, association_out=association, explain=False, as_json=as_json
    )


@app.command()
def encrypt(
    context: typer.Context,
    key_id: KeyArgument,
    payload: RequestArgument,
    *,
    system_title: TitleOption,
    counter: CounterOption,
    user_role: RoleOption,
    target: TargetOption,
    ca: CaOption,
    certificate: CertificateOption,
    private_key: PrivateKeyOption,
    unauthenticated: Annotated[
        bool, typer.Option("--unauthenticated", help="Encrypt only (security control 20), without a tag.")
    ] = False,
    authentication_key_version: AuthenticationOption = 0,
    association: AssociationOption = None,
    out: OutOption = None,
    hexadecimal: HexOption = False,
    request_id: RequestIdOption = "",
    explain: ExplainOption = False,
    as_json: JsonOption = False,
) -> None:
    """Encrypt and authenticate a request to a Device; --out gets the APDU for it.

    cryptosvc smets1 encrypt 90-B3-D5-1F-30-01-00-00.encryption get.bin --system-title 4D4D4D0000BC614E --counter 7 --user-role S1SP -o apdu.bin
    """
    form = ContentForm.DLMS_ENCRYPTION if unauthenticated else ContentForm.DLMS_AUTHENTICATED_ENCRYPTION
    asked = Asked(
        call=Call.ENCRYPT,
        key_id=key_id,
        form=form,
        payload=read_input(payload, hexadecimal=hexadecimal),
        dlms=_sent(system_title, counter, authentication_key_version, association),
        request_id=request_id,
        statement=Statement(user_role=user_role),
    )
    reached = connection(target, ca, certificate, private_key)
    processing.carry_out(context, reached, asked, out=out, explain=explain, as_json=as_json)


@app.command()
def authenticate(
    context: typer.Context,
    key_id: KeyArgument,
    payload: RequestArgument,
    *,
    system_title: TitleOption,
    counter: CounterOption,
    user_role: RoleOption,
    target: TargetOption,
    ca: CaOption,
    certificate: CertificateOption,
    private_key: PrivateKeyOption,
    challenge: Annotated[
        bool,
        typer.Option(
            "--challenge",
            help="REQUEST is the challenge of a Device (HLS 5), 8 to 64 octets, to be answered.",
        ),
    ] = False,
    authentication_key_version: AuthenticationOption = 0,
    association: AssociationOption = None,
    out: OutOption = None,
    hexadecimal: HexOption = False,
    request_id: RequestIdOption = "",
    explain: ExplainOption = False,
    as_json: JsonOption = False,
) -> None:
    """Authenticate a request to a Device and leave it readable, or answer the Device's challenge.

    cryptosvc smets1 authenticate DEVICE.encryption challenge.bin --challenge --system-title 4D4D4D0000BC614E --counter 8 --user-role DCO
    """
    asked = Asked(
        call=Call.APPLY_MAC,
        key_id=key_id,
        form=ContentForm.DLMS_CHALLENGE if challenge else ContentForm.DLMS_AUTHENTICATION,
        payload=read_input(payload, hexadecimal=hexadecimal),
        dlms=_sent(system_title, counter, authentication_key_version, association),
        request_id=request_id,
        statement=Statement(user_role=user_role),
    )
    reached = connection(target, ca, certificate, private_key)
    processing.carry_out(context, reached, asked, out=out, explain=explain, as_json=as_json)


@app.command()
def decrypt(
    context: typer.Context,
    key_id: KeyArgument,
    payload: Annotated[
        str, typer.Argument(metavar="APDU", help="File with the whole APDU as it came; - is standard input.")
    ],
    *,
    system_title: Annotated[
        str, typer.Option("--system-title", metavar="HEX", help="The Device's, 8 octets.")
    ],
    user_role: RoleOption,
    target: TargetOption,
    ca: CaOption,
    certificate: CertificateOption,
    private_key: PrivateKeyOption,
    authentication_key_version: AuthenticationOption = 0,
    association: AssociationOption = None,
    hexadecimal: HexOption = False,
    request_id: RequestIdOption = "",
    explain: ExplainOption = False,
    as_json: JsonOption = False,
) -> None:
    """Verify and decrypt what a Device sent; the plaintext is printed in hexadecimal and written nowhere.

    Exit code 3 where it does not verify; why is said to nobody.

      cryptosvc smets1 decrypt DEVICE.encryption answer.bin --system-title 4D4D4D0000000002 --user-role S1SP --json
    """
    asked = Asked(
        call=Call.DECRYPT,
        key_id=key_id,
        form=ContentForm.DLMS_PROTECTED,
        payload=read_input(payload, hexadecimal=hexadecimal),
        dlms=_sent(system_title, 0, authentication_key_version, association),
        request_id=request_id,
        statement=Statement(user_role=user_role),
    )
    reached = connection(target, ca, certificate, private_key)
    processing.carry_out(context, reached, asked, explain=explain, as_json=as_json)


@app.command()
def wrap(
    context: typer.Context,
    key_id: KeyArgument,
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND", help="Which of the Device's keys is changed: encryption, authentication, …"
        ),
    ],
    version: Annotated[
        int,
        typer.Argument(
            metavar="VERSION", min=1, help="Of the new key, which stands in the device store as next."
        ),
    ],
    *,
    user_role: RoleOption,
    target: TargetOption,
    ca: CaOption,
    certificate: CertificateOption,
    private_key: PrivateKeyOption,
    out: OutOption = None,
    request_id: RequestIdOption = "",
    explain: ExplainOption = False,
    as_json: JsonOption = False,
) -> None:
    """Wrap a Device's new key under its master key, inside the module; --out gets the 24 octets for the Device.

    cryptosvc smets1 wrap 90-B3-D5-1F-30-01-00-00.master encryption 2 --user-role S1SP -o wrapped.bin
    """
    asked = Asked(
        call=Call.WRAP_KEY,
        key_id=key_id,
        form=ContentForm.DLMS_KEY_CHANGE,
        dlms=Dlms(kind=kind, version=version),
        request_id=request_id,
        statement=Statement(user_role=user_role),
    )
    reached = connection(target, ca, certificate, private_key)
    processing.carry_out(context, reached, asked, out=out, explain=explain, as_json=as_json)


def _sent(
    system_title: str, counter: int, authentication_key_version: int, association: Path | None = None
) -> Dlms:
    try:
        title = bytes.fromhex(system_title.replace("-", ""))
    except ValueError:
        raise typer.BadParameter("--system-title is 16 hexadecimal digits") from None
    return Dlms(
        system_title=title,
        counter=counter,
        authentication_key_version=authentication_key_version,
        association=b"" if association is None else association.read_bytes(),
    )
