"""The part of the configuration file that is about SMETS1 Devices."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from cryptosvc.config.reading import Section
from cryptosvc.core.content.dlms.profile import ASSOCIATION_SECONDS


def _title(text: str) -> str:
    if len(text) != 16 or not set(text) <= set("0123456789abcdef"):
        raise ValueError("a system title is 16 hex digits in lower case, 8 octets")
    return text


def _obis(text: str) -> str:
    parts = text.replace("-", ".").replace(":", ".").split(".")
    octets = [int(part) for part in parts if part.isascii() and part.isdigit() and int(part) < 256]
    if len(octets) != 6 or text != "{}-{}:{}.{}.{}.{}".format(*octets):
        raise ValueError("an OBIS code is A-B:C.D.E.F in decimal, as 0-0:19.40.0.255")
    return text


class CosemMethodSettings(Section):
    """One method of a COSEM object.

    Args:
        class_id: of the object.
        obis: its logical name, as `0-0:19.40.0.255`.
        method: its number.

    """

    class_id: Annotated[int, Field(ge=0, le=0xFFFF)]
    obis: Annotated[str, AfterValidator(_obis)]
    method: Annotated[int, Field(ge=1, le=255)]


class Smets1ModelSettings(Section):
    """SMETS1 Devices of one manufacturer, model and firmware, each text as their keys were imported with.

    Args:
        manufacturer, model, firmware: all three have to agree.
        category_1: a Category 1 Device (G2.44A(b)).
        category_2: a Category 2 Device (G2.44A(c)).
        titled_by_eui64: its system title is its EUI-64.

    """

    manufacturer: Annotated[str, Field(min_length=1, max_length=64)]
    model: Annotated[str, Field(min_length=1, max_length=64)]
    firmware: Annotated[str, Field(min_length=1, max_length=64)]
    category_1: bool = False
    category_2: bool = False
    titled_by_eui64: bool = False


class Smets1Settings(Section):
    """SMETS1 Devices (G2.44(c), (e), G2.44A); without a system title nothing is protected for one.

    Args:
        system_titles: this service's own towards Devices, 16 hex digits each.
        models: what the SMETS1 Supporting Requirements say of Devices; the lists were not found in public sources.
        add_credit: methods that add credit (G2.44A(a)); without a row `enter` of the token gateway.
        association_seconds: how long an Application Association lasts at most, and its dedicated key with it (G2.44A(c)).

    """

    system_titles: tuple[Annotated[str, AfterValidator(_title)], ...] = ()
    models: tuple[Smets1ModelSettings, ...] = ()
    add_credit: tuple[CosemMethodSettings, ...] = ()
    association_seconds: Annotated[int, Field(ge=10, le=86_400)] = ASSOCIATION_SECONDS

    @model_validator(mode="after")
    def _models_differ(self) -> Self:
        names = [(one.manufacturer, one.model, one.firmware) for one in self.models]
        if len(set(names)) != len(names):
            raise ValueError("smets1.models has two rows of one manufacturer, model and firmware")
        return self
