"""What a key record says of the key's life: its line in the asset register, its approved dates, its milestones.

Source: Smart Energy Code G5.6 and G5.21 (an asset has a classification and a responsible person), G5.13(b) (the
manner in which keys are registered, ordered, generated, labelled, distributed, installed, superseded and renewed).

Dates are whole seconds since 1970-01-01T00:00:00Z.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NewType, Self

from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.documents import mapping, number, number_or_none, text, texts

UnixSeconds = NewType("UnixSeconds", int)

NANOSECONDS = 1_000_000_000
DAY = 86_400


class Event(StrEnum):
    """What happens to a key, in the Code's words and those of SP 800-57. `core/lifecycle.py` says when it may."""

    ORDER = "order"
    GENERATE = "generate"
    REGISTER = "register"
    LABEL = "label"
    CERTIFY = "certify"
    DISTRIBUTE = "distribute"
    INSTALL = "install"
    ACTIVATE = "activate"
    SUSPEND = "suspend"
    RESUME = "resume"
    SUPERSEDE = "supersede"
    RENEW = "renew"
    DEACTIVATE = "deactivate"
    COMPROMISE = "compromise"
    DESTROY = "destroy"
    EXPORT = "export"
    IMPORT = "import"
    RETURN = "return"
    RELINQUISH = "relinquish"
    SPLIT = "split"
    RECOMBINE = "recombine"
    BACK_UP = "back-up"
    ADVANCE = "advance"


OF_TRANSFERS = frozenset({Event.EXPORT, Event.IMPORT, Event.RETURN, Event.RELINQUISH})
"""Events that happen to every key of a transfer at once, by an act on the transfer and by no act on the key."""

IN_CEREMONIES = frozenset({Event.SPLIT, Event.RECOMBINE})
"""Events that need what people bring: they happen in ceremonies alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A line of the asset register (G5.6, G5.21).

    Args:
        label: what the key is called among people; CKA_LABEL of the object never changes.
        classification: of the asset, in the organisation's own words.
        responsible: the person who answers for it.

    """

    label: str = ""
    classification: str = ""
    responsible: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """Dates and limits that were approved, and what happened when.

    Args:
        milestones: event → when it last happened; sorted by event.
        activate_on: the key becomes active then without anybody; None where nobody approved that.
        deactivate_on: the key is deactivated then without anybody.
        compromised_since: not to be trusted for anything made since then.
        usage_limit: how often it may be used at most.
        replace_by: a key under G2.57 is replaced by then.
        supersedes, superseded_by: key ids; empty where none.
        backups: names of the copies that the module's own procedure made, sorted (`core/copies.py`).
        held: id of the backup whose restore may have rewound what the key promised; empty where none (`core/rewound.py`).
        above: scope of promise → number that every later one is above, since the key was advanced; sorted.

    """

    milestones: tuple[tuple[Event, UnixSeconds], ...] = ()
    activate_on: UnixSeconds | None = None
    deactivate_on: UnixSeconds | None = None
    compromised_since: UnixSeconds | None = None
    usage_limit: int | None = None
    replace_by: UnixSeconds | None = None
    supersedes: str = ""
    superseded_by: str = ""
    backups: tuple[str, ...] = ()
    held: str = ""
    above: tuple[tuple[str, int], ...] = ()

    def when(self, event: Event) -> UnixSeconds | None:
        """When it last happened; None where it never did."""
        return next((at for known, at in self.milestones if known is event), None)

    @property
    def in_parts(self) -> bool:
        """Whether the key was split and not put together since: then there is no object of it, whatever its state."""
        split, whole = self.when(Event.SPLIT), self.when(Event.RECOMBINE)
        return split is not None and (whole is None or whole < split)

    def passed(self, event: Event, at: UnixSeconds) -> Self:
        """The same life with one more milestone."""
        others = [one for one in self.milestones if one[0] is not event]
        return replace(self, milestones=tuple(sorted([*others, (event, at)])))


def asset_document(asset: Asset) -> dict[str, JsonValue]:
    """Print the register's line."""
    return {
        "label": asset.label,
        "classification": asset.classification,
        "responsible": asset.responsible,
    }


def asset_from_document(document: Mapping[str, JsonValue]) -> Asset:
    """Read it; KeyError or TypeError where a field is missing or no text."""
    return Asset(
        label=text(document, "label"),
        classification=text(document, "classification"),
        responsible=text(document, "responsible"),
    )


def life_document(life: Life) -> dict[str, JsonValue]:
    """Print a life; what it does not have is printed as it was before there was any of it."""
    document: dict[str, JsonValue] = {
        "milestones": {event.value: at for event, at in life.milestones},
        "activate_on": life.activate_on,
        "deactivate_on": life.deactivate_on,
        "compromised_since": life.compromised_since,
        "usage_limit": life.usage_limit,
        "replace_by": life.replace_by,
        "supersedes": life.supersedes,
        "superseded_by": life.superseded_by,
    }
    if life.backups:
        document["backups"] = list(life.backups)
    if life.held:
        document["held"] = life.held
    if life.above:
        document["above"] = {scope: str(number) for scope, number in life.above}
    return document


def life_from_document(document: Mapping[str, JsonValue]) -> Life:
    """Read it; KeyError, TypeError or ValueError where a field is missing or of another type."""
    milestones = document["milestones"]
    if not isinstance(milestones, Mapping):
        raise TypeError("milestones")
    return Life(
        milestones=tuple(sorted((Event(name), UnixSeconds(number(milestones, name))) for name in milestones)),
        activate_on=_date(document, "activate_on"),
        deactivate_on=_date(document, "deactivate_on"),
        compromised_since=_date(document, "compromised_since"),
        usage_limit=number_or_none(document, "usage_limit"),
        replace_by=_date(document, "replace_by"),
        supersedes=text(document, "supersedes"),
        superseded_by=text(document, "superseded_by"),
        backups=tuple(texts(document, "backups")) if "backups" in document else (),
        held=text(document, "held") if "held" in document else "",
        above=_above(document),
    )


def _above(document: Mapping[str, JsonValue]) -> tuple[tuple[str, int], ...]:
    if "above" not in document:
        return ()
    found = mapping(document, "above")
    return tuple(sorted((scope, int(text(found, scope))) for scope in found))


def _date(document: Mapping[str, JsonValue], name: str) -> UnixSeconds | None:
    value = number_or_none(document, name)
    return None if value is None else UnixSeconds(value)
