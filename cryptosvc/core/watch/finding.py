"""An alarm as other systems read it: an OCSF event, or a line of CEF.

OCSF 1.3.0, class Detection Finding (2004) of category Findings; `finding_info.uid` is the cause, by which a receiver
that gets an alarm twice knows it. CEF version 0. Whom an alarm is about is in neither where the log withholds it: a
receiver is no auditor, and the leaves named lead whoever is one to it.

Source: schema.ocsf.io, version 1.3.0; ArcSight Common Event Format, version 25.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from cryptosvc.core.canonical import JsonValue, canonical
from cryptosvc.core.watch.alarm import Alarm
from cryptosvc.core.watch.rules import Severity

OCSF_VERSION = "1.3.0"
_CATEGORY = 2
_CLASS = 2004
_CREATE = 1
_NEW = 1
_ANALYTIC_RULE = 1
_OCSF_SEVERITY: Mapping[Severity, tuple[int, str]] = MappingProxyType(
    {
        Severity.INFORMATIONAL: (1, "Informational"),
        Severity.LOW: (2, "Low"),
        Severity.MEDIUM: (3, "Medium"),
        Severity.HIGH: (4, "High"),
        Severity.CRITICAL: (5, "Critical"),
    }
)
_CEF_SEVERITY: Mapping[Severity, int] = MappingProxyType(
    {
        Severity.INFORMATIONAL: 1,
        Severity.LOW: 3,
        Severity.MEDIUM: 5,
        Severity.HIGH: 8,
        Severity.CRITICAL: 10,
    }
)
_NAME = "cryptosvc"


@dataclass(frozen=True, slots=True)
class Sender:
    """Whose log it is.

    Args:
        origin: of the log.
        system, environment: the deployment.
        version: of the software.

    """

    origin: str
    system: str
    environment: str
    version: str


def ocsf(alarm: Alarm, leaf_index: int, sender: Sender) -> bytes:
    """Give the event as canonical JSON; `leaf_index` is that of the alarm's own entry."""
    number, word = _OCSF_SEVERITY[alarm.severity]
    milliseconds = alarm.at * 1000
    event: dict[str, JsonValue] = {
        "activity_id": _CREATE,
        "activity_name": "Create",
        "category_name": "Findings",
        "category_uid": _CATEGORY,
        "class_name": "Detection Finding",
        "class_uid": _CLASS,
        "count": alarm.count,
        "finding_info": {
            "analytic": {"name": alarm.rule, "type": "Rule", "type_id": _ANALYTIC_RULE, "uid": alarm.rule},
            "created_time": milliseconds,
            "desc": alarm.meaning,
            "title": alarm.rule,
            "uid": alarm.cause,
        },
        "message": alarm.meaning,
        "metadata": {
            "log_name": sender.origin,
            "product": {"name": _NAME, "vendor_name": _NAME, "version": sender.version},
            "uid": f"{sender.origin}#{leaf_index}",
            "version": OCSF_VERSION,
        },
        "severity": word,
        "severity_id": number,
        "status": "New",
        "status_id": _NEW,
        "time": milliseconds,
        "type_name": "Detection Finding: Create",
        "type_uid": _CLASS * 100 + _CREATE,
        "unmapped": {
            "about": alarm.field,
            "clause": alarm.clause,
            "environment": sender.environment,
            "leaf_index": leaf_index,
            "leaves": alarm.leaves,
            "system": sender.system,
            "value": alarm.value,
        },
    }
    return canonical(event)


def cef(alarm: Alarm, leaf_index: int, sender: Sender) -> bytes:
    """Give the line, UTF-8, without a line end."""
    header = (
        "CEF:0",
        _NAME,
        _NAME,
        sender.version,
        alarm.rule,
        alarm.meaning,
        str(_CEF_SEVERITY[alarm.severity]),
    )
    extension = {
        "rt": str(alarm.at * 1000),
        "externalId": alarm.cause,
        "cnt": str(alarm.count),
        "dvchost": sender.origin,
        "cs1Label": "clause",
        "cs1": alarm.clause,
        "cs2Label": "leaves",
        "cs2": " ".join(str(one) for one in alarm.leaves),
        "cs3Label": "system",
        "cs3": f"{sender.system} {sender.environment}",
        "cn1Label": "leaf",
        "cn1": str(leaf_index),
    }
    if alarm.field and alarm.value:
        extension |= {"cs4Label": alarm.field, "cs4": alarm.value}
    fields = " ".join(f"{name}={_extension(value)}" for name, value in extension.items())
    return ("|".join((header[0], *map(_header, header[1:]))) + f"|{fields}").encode()


def _header(text: str) -> str:
    return _one_line(text).replace("\\", "\\\\").replace("|", "\\|")


def _extension(text: str) -> str:
    return _one_line(text).replace("\\", "\\\\").replace("=", "\\=")


def _one_line(text: str) -> str:
    return text.replace("\r", " ").replace("\n", " ")
