"""What the operator owes outside: who is notified of a Major Security Incident, by when."""

from typing import Annotated

from pydantic import Field

from cryptosvc.config.reading import Section

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


class DutySettings(Section):
    """What `Settings` has of these.

    Args:
        incident: who is notified of a Major Security Incident.

    """

    incident: IncidentSettings = IncidentSettings()
