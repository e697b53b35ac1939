"""`--param name=value` → what the act's parameter must be."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import orjson
import typer
from cryptography import x509

from cryptosvc.core.acts.base import Kind, Parameter
from cryptosvc.core.acts.table import act as act_named
from cryptosvc.core.canonical import JsonValue

_TRUTHS: Mapping[str, bool] = {"yes": True, "true": True, "no": False, "false": False}


def read_parameters(act: str, given: Sequence[str]) -> dict[str, JsonValue]:
    """Read the parameters of an act.

    Args:
        act: its name.
        given: each `name=value`. A date is `2027-01-31`, an RFC 3339 time, or Unix seconds. `@FILE` takes the value from a
            file: JSON for a document, a PEM or DER certificate for hex.

    Raises:
        Malformed: there is no such act.
        typer.BadParameter: a parameter is not the act's, or is given twice, or is not what it must be.

    """
    known = {parameter.name: parameter for parameter in act_named(act).parameters}
    found: dict[str, JsonValue] = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals or name not in known:
            names = ", ".join(known) or "none"
            raise typer.BadParameter(f"{one!r}: write --param name=value; parameters of {act} are {names}")
        if name in found:
            raise typer.BadParameter(f"{name} is given twice")
        found[name] = _read(known[name], value)
    return found


def read_moment(text: str) -> int:
    """Unix seconds of a date, of an RFC 3339 time or of a number; ValueError otherwise."""
    if text.isdecimal():
        return int(text)
    moment = datetime.fromisoformat(text)
    return int((moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment).timestamp())


def _read(parameter: Parameter, value: str) -> JsonValue:
    try:
        if value.startswith("@"):
            return _from_file(parameter, Path(value[1:]).read_bytes())
        match parameter.kind:
            case Kind.DATE:
                return read_moment(value)
            case Kind.NUMBER:
                return int(value)
            case Kind.TRUTH:
                return _TRUTHS[value.lower()]
            case Kind.HEX:
                return bytes.fromhex(value).hex()
            case Kind.DOCUMENT:
                raise typer.BadParameter(f"{parameter.name} is a document: write {parameter.name}=@FILE.json")
            case Kind.TEXT | Kind.NAME:
                return value
    except OSError as error:
        raise typer.BadParameter(f"{parameter.name}: cannot read {value[1:]}: {error.strerror}") from None
    except (ValueError, KeyError):
        raise typer.BadParameter(f"{parameter.name} is {parameter.kind.value}: {parameter.meaning}") from None


def _from_file(parameter: Parameter, octets: bytes) -> JsonValue:
    if parameter.kind is Kind.DOCUMENT:
        document: JsonValue = orjson.loads(octets)
        return document
    if parameter.kind is Kind.HEX:
        return (_der(octets) if octets.startswith(b"-----BEGIN CERTIFICATE") else octets).hex()
    return octets.decode().strip()


def _der(pem: bytes) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415 - `--help` does not need it

    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
