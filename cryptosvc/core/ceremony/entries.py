"""The entries of a transcript as values: each prints as a JSON object and is read back from one.

Example:
    >>> Resumed(reason="power returned", by="custodian-1", at=UnixSeconds(0)).document()["kind"]
    'resumed'
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.ceremony import fields
from cryptosvc.core.ceremony.rows import Role
from cryptosvc.core.documents import mapping, mappings, number, text, texts
from cryptosvc.core.life import UnixSeconds
from cryptosvc.core.names import Environment

VERSION = 1
FACT_CHARACTERS = 8192


class Mode(StrEnum):
    """Whether it counts."""

    REHEARSAL = "rehearsal"
    REAL = "real"


class Outcome(StrEnum):
    """How it ended."""

    COMPLETED = "completed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """Somebody who is there.

    Args:
        person: custodian id, or the name under which a witness was admitted.
        roles: in what capacities.
        key_id: of the key they sign the transcript with, as `dsse.key_id`.

    """

    person: str
    roles: tuple[Role, ...]
    key_id: str

    def document(self) -> dict[str, JsonValue]:
        """Print it."""
        return {"person": self.person, "roles": [role.value for role in self.roles], "key_id": self.key_id}


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What was planned, with what, by whom.

    Args:
        mode: rehearsal or real.
        environment: of the deployment it was held on.
        system: of the deployment.
        script: the ceremony file as `script.document` prints it.
        script_sha256: of the file's octets, lower-case hex.
        software_version: of this service.
        build_sha256: of what is installed, lower-case hex.
        policy_digest: of the policy set, lower-case hex.
        modules: identity of each module, as it reported itself: name, manufacturer, model, serial, firmware, token.
        checkpoint: signed note of the log before the first act.
        present: everyone who is there.
        at: when it began.

    """

    mode: Mode
    environment: Environment
    system: str
    script: Mapping[str, JsonValue]
    script_sha256: str
    software_version: str
    build_sha256: str
    policy_digest: str
    modules: tuple[tuple[tuple[str, str], ...], ...]
    checkpoint: str
    present: tuple[Present, ...]
    at: UnixSeconds

    def document(self) -> dict[str, JsonValue]:
        """Print it."""
        return {
            "kind": "header",
            "v": VERSION,
            "mode": self.mode.value,
            "environment": self.environment.value,
            "system": self.system,
            "script": self.script,
            "script_sha256": self.script_sha256,
            "software_version": self.software_version,
            "build_sha256": self.build_sha256,
            "policy_digest": self.policy_digest,
            "modules": [dict(one) for one in self.modules],
            "checkpoint": self.checkpoint,
            "present": [one.document() for one in self.present],
            "at": self.at,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """Somebody typed the confirmation of an act; nothing is done yet.

    Args:
        number: of the act, from 1.
        act: as the script prints it.
        sentence: what was read out.
        confirmation: what was typed.
        by: who typed it.
        at: when.

    """

    number: int
    act: Mapping[str, JsonValue]
    sentence: str
    confirmation: str
    by: str
    at: UnixSeconds

    def document(self) -> dict[str, JsonValue]:
        """Print it."""
        return {
            "kind": "begun",
            "number": self.number,
            "act": self.act,
            "sentence": self.sentence,
            "confirmation": self.confirmation,
            "by": self.by,
            "at": self.at,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """An act was done, read again and verified again.

    Args:
        number: of the act.
        facts: what was found, name → text, whole number, truth or list of texts. No secrets.
        fingerprints: name of what was made or used → SHA-256, lower-case hex.
        at: when it ended.

    """

    number: int
    facts: Mapping[str, JsonValue]
    fingerprints: Mapping[str, str]
    at: UnixSeconds

    def document(self) -> dict[str, JsonValue]:
        """Print it."""
        return {
            "kind": "done",
            "number": self.number,
            "facts": self.facts,
            "fingerprints": self.fingerprints,
            "at": self.at,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """The ceremony went on after an interruption: why, who says so, when."""

    reason: str
    by: str
    at: UnixSeconds

    def document(self) -> dict[str, JsonValue]:
        """Print it."""
        return {"kind": "resumed", "reason": self.reason, "by": self.by, "at": self.at}


@dataclass(frozen=True, slots=True, kw_only=True)
class Footer:
    """How it ended: outcome, the reason where it was stopped (else empty), signed note of the log, when."""

    outcome: Outcome
    reason: str
    checkpoint: str
    at: UnixSeconds

    def document(self) -> dict[str, JsonValue]:
        """Print it."""
        return {
            "kind": "footer",
            "outcome": self.outcome.value,
            "reason": self.reason,
            "checkpoint": self.checkpoint,
            "at": self.at,
        }


Entry = Header | Begun | Done | Resumed | Footer


def read(document: Mapping[str, JsonValue]) -> Entry:
    """Read what an entry's `document` prints; KeyError, TypeError, ValueError or Malformed where it is not that.

    Fields that are not there are for the caller to notice, who prints the entry again and compares.
    """
    at = UnixSeconds(fields.seconds(document["at"]))
    match text(document, "kind"):
        case "header":
            return _header(document, at)
        case "begun":
            return Begun(
                number=number(document, "number"),
                act=mapping(document, "act"),
                sentence=text(document, "sentence"),
                confirmation=text(document, "confirmation"),
                by=fields.name(document["by"]),
                at=at,
            )
        case "done":
            facts, fingerprints = mapping(document, "facts"), mapping(document, "fingerprints")
            return Done(
                number=number(document, "number"),
                facts={fields.label(name): fact(value) for name, value in facts.items()},
                fingerprints={
                    fields.name(name): fields.sha256(value) for name, value in fingerprints.items()
                },
                at=at,
            )
        case "resumed":
            return Resumed(reason=fields.sentence(document["reason"]), by=fields.name(document["by"]), at=at)
        case "footer":
            return Footer(
                outcome=Outcome(text(document, "outcome")),
                reason=fields.sentence(document["reason"]) if document["reason"] else "",
                checkpoint=text(document, "checkpoint"),
                at=at,
            )
        case _:
            raise ValueError("kind")


def _header(document: Mapping[str, JsonValue], at: UnixSeconds) -> Header:
    if number(document, "v") != VERSION:
        raise ValueError("version")
    return Header(
        mode=Mode(text(document, "mode")),
        environment=Environment(text(document, "environment")),
        system=fields.name(document["system"]),
        script=mapping(document, "script"),
        script_sha256=fields.sha256(document["script_sha256"]),
        software_version=fields.sentence(document["software_version"]),
        build_sha256=fields.sha256(document["build_sha256"]),
        policy_digest=fields.sha256(document["policy_digest"]),
        modules=tuple(
            tuple((fields.name(name), fields.sentence(value)) for name, value in one.items())
            for one in mappings(document, "modules")
        ),
        checkpoint=text(document, "checkpoint"),
        present=tuple(
            Present(
                person=fields.name(one["person"]),
                roles=tuple(Role(role) for role in texts(one, "roles")),
                key_id=fields.sha256(one["key_id"]),
            )
            for one in mappings(document, "present")
        ),
        at=at,
    )


def fact(value: JsonValue) -> JsonValue:
    """Take a fact as a transcript may hold it: text of one printable line, whole number, truth, or list of texts.

    Raises:
        ValueError: anything else.

    """
    if isinstance(value, bool | int):
        return value
    several: Sequence[JsonValue] = value if isinstance(value, list | tuple) else [value]
    for one in several:
        if not isinstance(one, str) or len(one) > FACT_CHARACTERS or "`" in one or not one.isprintable():
            raise ValueError("a fact is one printable line, a whole number, true, false, or a list of lines")
    return value
