"""`[watch]`: which rules the log is watched by, and who is told. What is not said here is as the table of the service has it."""

from collections.abc import Iterator
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from cryptosvc.config.reading import Section, from_folder
from cryptosvc.core.errors import Malformed
from cryptosvc.core.watch.defaults import DEFAULT_RULES
from cryptosvc.core.watch.rules import Rule, Severity, Test, table

_REQUIRED = ("clause", "severity", "meaning", "test", "where")
_Words = dict[str, tuple[str, ...]]


class WatchRuleSettings(Section):
    """A rule of one's own, or another form of one there is: what is left out stays as it is.

    Args:
        name: of the rule.
        off: it is not watched for.

    The others are as `core/watch/rules.py` says.

    """

    name: Annotated[str, Field(pattern="^[a-z0-9-]{1,64}$")]
    off: bool = False
    clause: Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9.()]{0,31}$")] | None = None
    severity: Severity | None = None
    meaning: Annotated[str, Field(min_length=1, max_length=300)] | None = None
    test: Test | None = None
    where: _Words | None = None
    unless: _Words | None = None
    per: str | None = None
    window_seconds: int | None = None
    threshold: int | None = None
    fact: str | None = None
    watched: str | None = None
    ended_by: _Words | None = None
    by: str | None = None
    first_hour: int | None = None
    last_hour: int | None = None
    days: tuple[str, ...] | None = None


class ReceiverForm(StrEnum):
    """How an alarm is written for others."""

    OCSF = "ocsf"
    CEF = "cef"


class Transport(StrEnum):
    """How syslog is spoken."""

    TCP = "tcp"
    TLS = "tls"
    UDP = "udp"


class WatchReceiverSettings(Section):
    """Who is told of alarms: a webhook (`url`) or syslog (`syslog`).

    Args:
        name: how metrics name it; another name is told everything from the first alarm on.
        url: http or https; alarms are posted to it.
        syslog: HOST:PORT.
        transport: of syslog.
        form: OCSF 1.3.0 Detection Finding, or CEF.
        authority: PEM file that the receiver's certificate must chain to; without it those of the system count.
        seconds: an attempt may take this long.

    """

    name: Annotated[str, Field(pattern="^[a-z0-9-]{1,64}$")]
    url: Annotated[str, Field(pattern="^https?://[^/?#@]+([/?][^#]*)?$")] | None = None
    syslog: Annotated[str, Field(pattern="^.+:[0-9]{1,5}$")] | None = None
    transport: Transport = Transport.TCP
    form: ReceiverForm = ReceiverForm.OCSF
    authority: Annotated[Path, AfterValidator(from_folder)] | None = None
    seconds: Annotated[float, Field(gt=0, le=60)] = 5.0

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.url is None) == (self.syslog is None):
            raise ValueError("give exactly one of url and syslog")
        return self


class WatchSettings(Section):
    """The watch over the log; without this table there is none.

    Args:
        rules: beside those of the service, or in the place of one of the same name.
        receivers: who is told of alarms.
        review_within_days: entries older than that, which no auditor signed off, are alarmed (`review-late`).

    """

    review_within_days: Annotated[int, Field(ge=1, le=3660)] = 31
    rules: tuple[WatchRuleSettings, ...] = ()
    receivers: tuple[WatchReceiverSettings, ...] = ()

    @model_validator(mode="after")
    def _receivers_differ(self) -> Self:
        if len({one.name for one in self.receivers}) != len(self.receivers):
            raise ValueError("two receivers have the same name")
        return self

    @model_validator(mode="after")
    def _can_be_meant(self) -> Self:
        try:
            rules_of(self)
        except Malformed as error:
            raise ValueError(error.message) from None
        return self


def rules_of(settings: WatchSettings) -> tuple[Rule, ...]:
    """The table in force.

    Raises:
        Malformed: a rule that is named twice, lacks what a new one needs, or cannot be meant.

    """
    names = [one.name for one in settings.rules]
    if len(set(names)) != len(names):
        raise Malformed("[[watch.rules]] names a rule twice", rule="watch/rules", field="watch.rules")
    return table(_merged({one.name: one for one in settings.rules}))


def _merged(own: dict[str, WatchRuleSettings]) -> Iterator[Rule]:
    for rule in DEFAULT_RULES:
        changed = own.pop(rule.name, None)
        if changed is None:
            yield rule
        elif not changed.off:
            yield replace(rule, **_said(changed))
    for added in own.values():
        said = _said(added)
        if missing := [name for name in _REQUIRED if name not in said]:
            raise Malformed(
                f"watch rule {added.name} is new and needs {', '.join(missing)}",
                rule="watch/new-rule",
                field=f"watch.rules.{added.name}",
            )
        if not added.off:
            yield Rule(name=added.name, **said)


def _said(settings: WatchRuleSettings) -> dict[str, Any]:
    """What a table in the file says of a rule, by the names of `Rule`."""
    return {
        name: value
        for name in WatchRuleSettings.model_fields
        if name not in ("name", "off") and (value := getattr(settings, name)) is not None
    }
