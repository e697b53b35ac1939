"""What the operator owes outside: notices of a Major Security Incident, checkpoints, and a clock that agrees."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from cryptosvc.config.reading import Section, from_folder
from cryptosvc.config.watching import Transport
from cryptosvc.core.clocks import Kind

_NTP_PORT = 123
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


class TimeSourceSettings(Section):
    """A time source that speaks NTP (RFC 5905).

    Args:
        name: how entries name it.
        kind: `network` where Communications Hubs follow it (G2.46(a)), `independent` where it is not maintained by the
            DCC (G2.46(b)).
        address: HOST, or HOST:PORT; an IPv6 address in brackets.

    """

    name: Annotated[str, Field(pattern="^[a-z0-9-]{1,64}$")]
    kind: Kind
    address: Annotated[str, Field(pattern=r"^([A-Za-z0-9.-]+|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?$")]

    def where(self) -> tuple[str, int]:
        """Host and port."""
        host, colon, port = self.address.rpartition(":")
        if not colon or self.address.endswith("]"):
            return self.address.strip("[]"), _NTP_PORT
        return host.strip("[]"), int(port)


class TimeSettings(Section):
    """Clocks that are compared (G2.47). Without sources none is.

    Args:
        sources: Network Time and Independent Time Sources.
        tolerance_ms: a difference of more is material; a source that is less sure than that does not count.
        every_seconds: how often they are asked.
        answer_seconds: a source may take so long.

    """

    sources: tuple[TimeSourceSettings, ...] = ()
    tolerance_ms: Annotated[int, Field(ge=1, le=3_600_000)] = 1000
    every_seconds: Annotated[float, Field(ge=1, le=86_400)] = 64.0
    answer_seconds: Annotated[float, Field(gt=0, le=30)] = 2.0

    @model_validator(mode="after")
    def _sources_differ(self) -> Self:
        if len({one.name for one in self.sources}) != len(self.sources):
            raise ValueError("two [[time.sources]] have the same name")
        return self


class DutySettings(Section):
    """What `Settings` has of these.

    Args:
        incident: who is notified of a Major Security Incident.
        outside: where checkpoints are put outside of the service.
        time: clocks that are compared.

    """

    incident: IncidentSettings = IncidentSettings()
    outside: tuple[OutsideSettings, ...] = ()
    time: TimeSettings = TimeSettings()

    @model_validator(mode="after")
    def _places_differ(self) -> Self:
        if len({one.name for one in self.outside}) != len(self.outside):
            raise ValueError("two [[outside]] places have the same name")
        return self
