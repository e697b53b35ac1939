"""What the operator owes outside: who is notified of a Major Security Incident, and where checkpoints are put."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from cryptosvc.config.reading import Section, from_folder
from cryptosvc.config.watching import Transport

_BY_THE_CODE = ("Panel", "Security Sub-Committee")
_Clause = Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9.()]{0,31}$")]
_Words = Annotated[str, Field(pattern=r"^[^|\r\n]{0,200}$")]


class NoticeSettings(Section):
    """Somebody to be notified.

    Args:
        who: body or person.
        how: address, number or procedure.
        within_hours: after it became known. The Code says promptly; how many hours those are is the operator's plan.
        clause: where it is another than that of the table.

    """

    who: Annotated[str, Field(pattern=r"^[^|\r\n]{1,100}$")]
    how: _Words | None = None
    within_hours: Annotated[int, Field(ge=0, le=24 * 365)] = 24
    clause: _Clause | None = None


class IncidentSettings(Section):
    """A Major Security Incident (`audit incident`).

    Args:
        clause: G2.11(a) or G2.11(b) for the DCC, G3.5 for a User.
        notify: who; the Panel and the Security Sub-Committee where this is not said.

    """

    clause: _Clause = "G2.11(a)"
    notify: tuple[NoticeSettings, ...] = ()

    def plan(self) -> list[tuple[str, str, str, int]]:
        """Who, how, clause and hours of each."""
        notices = self.notify or tuple(NoticeSettings(who=who) for who in _BY_THE_CODE)
        return [(one.who, one.how or "", one.clause or self.clause, one.within_hours) for one in notices]


class OutsideSettings(Section):
    """A place outside of the service for checkpoints: a file that is appended to, or syslog.

    Args:
        name: how entries name it.
        file: on a device or a share that its operators do not have, if it can be.
        syslog: HOST:PORT.
        transport: of syslog.
        authority: PEM file that its certificate must chain to; without it those of the system count.
        seconds: an attempt may take this long.

    """

    name: Annotated[str, Field(pattern="^[a-z0-9-]{1,64}$")]
    file: Annotated[Path, AfterValidator(from_folder)] | None = None
    syslog: Annotated[str, Field(pattern="^.+:[0-9]{1,5}$")] | None = None
    transport: Transport = Transport.TCP
    authority: Annotated[Path, AfterValidator(from_folder)] | None = None
    seconds: Annotated[float, Field(gt=0, le=60)] = 5.0

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.file is None) == (self.syslog is None):
            raise ValueError("give exactly one of file and syslog")
        return self


class DutySettings(Section):
    """What `Settings` has of these.

    Args:
        incident: who is notified of a Major Security Incident.
        outside: where checkpoints are put outside of the service.

    """

    incident: IncidentSettings = IncidentSettings()
    outside: tuple[OutsideSettings, ...] = ()

    @model_validator(mode="after")
    def _places_differ(self) -> Self:
        if len({one.name for one in self.outside}) != len(self.outside):
            raise ValueError("two [[outside]] places have the same name")
        return self
