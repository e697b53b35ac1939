"""The files a plan and an approval are drawn up from.

terms.toml, by the source:

keys = ["command-signing-1", "broker-1"]
reason = "another provider runs the service from May (G2.22F)"
committee_view = "sub-committee.pdf"        # its digest goes into the plan
disposition = "destroy"                     # or "deactivate"
disposition_days = 7

conditions.toml, by the SMKI PMA:

not_before = 2027-05-01T08:00:00Z
not_after = 2027-05-03T18:00:00Z
source_people = 3
destination_people = 3
assurance_level = 3
attempts = 2
witnesses = 2
attested = ["the courier is accompanied from door to door"]
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from cryptosvc.config.reading import Section, read_toml
from cryptosvc.config.settings import FilePath, Name
from cryptosvc.core.life import DAY, UnixSeconds
from cryptosvc.core.transfer.papers import Conditions


def _aware(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("write the time with its zone, as 2027-05-01T08:00:00Z")
    return moment.astimezone(UTC)


_Moment = Annotated[datetime, AfterValidator(_aware)]


class Terms(Section):
    """What the source wants to move.

    Args:
        keys: ids.
        reason: under G2.22F and G2.22G, in a sentence.
        committee_view: file with the Security Sub-Committee's view.
        disposition: what becomes of the source's copies.
        disposition_days: by when after the export.
        may_move_on: the keys stay transferable at the destination.

    """

    keys: tuple[Name, ...] = Field(min_length=1)
    reason: str = Field(min_length=1, max_length=500)
    committee_view: FilePath
    disposition: Literal["destroy", "deactivate"]
    disposition_days: int = Field(ge=1, le=90)
    may_move_on: bool = False

    @property
    def disposition_seconds(self) -> int:
        """As plans say it."""
        return self.disposition_days * DAY


class ConditionsFile(Section):
    """What the SMKI PMA makes its approval depend on; see `core/transfer/papers.Conditions`."""

    not_before: _Moment
    not_after: _Moment
    source_people: int = Field(ge=1, le=16)
    destination_people: int = Field(ge=1, le=16)
    assurance_level: int = Field(ge=0, le=4)
    attempts: int = Field(ge=1, le=16)
    witnesses: int = Field(ge=0, le=16)
    attested: tuple[str, ...] = ()

    def conditions(self, transport_key: str) -> Conditions:
        """The conditions, for one transport key."""
        return Conditions(
            not_before=UnixSeconds(int(self.not_before.timestamp())),
            not_after=UnixSeconds(int(self.not_after.timestamp())),
            transport_key=transport_key,
            source_people=self.source_people,
            destination_people=self.destination_people,
            assurance_level=self.assurance_level,
            attempts=self.attempts,
            witnesses=self.witnesses,
            attested=self.attested,
        )


def read_terms(path: Path) -> Terms:
    """Read terms.toml; Malformed as `reading.read_toml`."""
    return read_toml(path, Terms)


def read_conditions(path: Path) -> ConditionsFile:
    """Read conditions.toml; Malformed as `reading.read_toml`."""
    return read_toml(path, ConditionsFile)
