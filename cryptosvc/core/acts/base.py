"""What an act is, and what it works on.

An act is pure: records before, statement, moment and (for acts that touch a module) what the module gave make the
records after. The service carries an act out with it, and off-line verification carries it out again with the same
function, so a record that differs from what was approved is found by anybody who replays the log.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.custody import Rules
from cryptosvc.core.errors import Conflict, Malformed
from cryptosvc.core.keyclass import KEY_CLASSES
from cryptosvc.core.life import Asset, Event, UnixSeconds
from cryptosvc.core.registry import Record
from cryptosvc.core.statement import Statement
from cryptosvc.core.transfer.bodies import Body


class Kind(StrEnum):
    """What a parameter is."""

    TEXT = "text"
    NAME = "id"
    DATE = "date"
    NUMBER = "number"
    TRUTH = "yes or no"
    HEX = "hex"
    DOCUMENT = "document"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of an act.

    Args:
        name: in the statement.
        kind: what it must be.
        meaning: one line for a person.
        required: whether it must be there; one that is not required may be left out, and is then None.

    """

    name: str
    kind: Kind
    meaning: str
    required: bool = True


@dataclass(frozen=True, slots=True)
class Made:
    """What a module gave for an act.

    Args:
        public_point: of a generated or adopted key, 65 octets; empty for a symmetric key and for a destruction.
        facts: what was seen, for the record; sorted by name.

    """

    public_point: bytes = b""
    facts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """An act being carried out.

    Args:
        statement: what was approved.
        at: when.
        records: (kind, id) → record as it is before, for every record the act may look at.
        made: what the module gave; None for an act that touches none.
        custody: the rules custodians are held to.
        ecos_service_live: the ECoS Service Live Date (G2.58); None where none is configured yet.
        foreign_issuers: hex SHA-256 of the OCA Certificates of other systems that may have issued a key's certificate;
            None where the policies are not at hand, as in a replay.
        transfer_bodies: who approves transfers of classes that the SMKI PMA is not asked for; None likewise.

    """

    statement: Statement
    at: UnixSeconds
    records: Mapping[tuple[str, str], Record]
    made: Made | None = None
    custody: Rules = field(default=Rules())
    ecos_service_live: UnixSeconds | None = None
    foreign_issuers: frozenset[str] | None = None
    transfer_bodies: tuple[Body, ...] | None = None

    def subject(self, kind: str) -> Record | None:
        """The record the statement is about; Conflict where it is not at the version its signers saw."""
        statement = self.statement
        found = self.records.get((kind, statement.subject))
        version = 0 if found is None else found.version
        if version != statement.subject_version:
            raise Conflict(
                f"{statement.subject} is at version {version}, the statement was signed on version "
                f"{statement.subject_version}; propose it again",
                rule="statement/version",
                clause=statement.clause,
            )
        return found

    def given(self) -> Made:
        """What the module gave."""
        if self.made is None:
            raise Malformed("this act needs what the module gave", rule="statement/made")
        return self.made


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One row of the table of acts.

    Args:
        name: as the statement names it.
        clause: clause it is done under; a statement names this one.
        parameters: what the statement gives.
        sentence: what will change, in words for those who approve.
        after: the records afterwards, each one version on.
        event: what it is in the life of a key; None for an act on people.
        touches_module: whether a module has to do something.
        looks_at: (kind, id) of further records the act looks at or changes.
        looks_at_every: kind of record of which it looks at every one; empty where it does not.
        least_people: people who approve it whatever policy says, where it is not on a key of one class.
        alone: whether it changes no record: that it was approved and carried out once is all there is to it.

    """

    name: str
    clause: str
    parameters: tuple[Parameter, ...]
    sentence: Callable[[Statement], str]
    after: Callable[[Turn], tuple[Record, ...]]
    event: Event | None = None
    touches_module: bool = False
    looks_at: Callable[[Statement], tuple[tuple[str, str], ...]] = lambda _: ()
    looks_at_every: str = ""
    least_people: int = 1
    alone: bool = False

    @property
    def kind(self) -> str:
        """Kind of the record it is about."""
        return f"{self.name.partition('.')[0]}-record"


@dataclass(frozen=True, slots=True)
class Sentence:
    """What an act changes, in words, with the statement's own words in it.

    Args:
        text: `{subject}` and the names of required parameters stand for what the statement says.

    """

    text: str

    def __call__(self, statement: Statement) -> str:
        """Say it of one statement."""
        words = {name: str(value) for name, value in statement.parameters.items()}
        return self.text.format(subject=statement.subject, **words)


def require_parameters(act: Act, statement: Statement) -> None:
    """Require that a statement has the parameters of its act, each of its kind, and no other.

    Raises:
        Malformed: `statement/parameters`, naming the parameter; `statement/clause` for another clause than the act's.

    """
    known = {one.name: one for one in act.parameters}
    if unknown := sorted(set(statement.parameters) - set(known)):
        raise _parameters(act, f"has no parameter {unknown[0]!r}")
    for name, parameter in known.items():
        value = statement.parameters.get(name)
        if value is None and (parameter.required or name in statement.parameters):
            raise _parameters(act, f"needs {name!r}: {parameter.meaning}")
        if value is not None and not _is(parameter.kind, value):
            raise _parameters(act, f"wants {name!r} as {parameter.kind.value}: {parameter.meaning}")
    if statement.clause != act.clause:
        raise Malformed(
            f"{act.name} is done under {act.clause}; the statement says otherwise",
            rule="statement/clause",
            clause=act.clause,
        )


def key_class_of(act: Act, statement: Statement, subject: Record | None) -> str:
    """Key class that the quorum depends on: the subject's, or the one that is asked for; empty for other records."""
    if act.kind != "key-record":
        return ""
    named = statement.parameters.get("class")
    found = getattr(subject, "key_class", named)
    return found if isinstance(found, str) and found in KEY_CLASSES else ""


def text_of(statement: Statement, name: str, otherwise: str = "") -> str:
    """A text parameter that `require_parameters` has looked at."""
    value = statement.parameters.get(name)
    return value if isinstance(value, str) else otherwise


def date_of(statement: Statement, name: str) -> UnixSeconds | None:
    """A date that `require_parameters` has looked at."""
    value = statement.parameters.get(name)
    return UnixSeconds(value) if isinstance(value, int) and not isinstance(value, bool) else None


def require_classified(asset: Asset) -> None:
    """Require that a line of the asset register has a classification and a person who answers for it.

    Raises:
        Malformed: `asset/incomplete`, naming the field.

    """
    for name, value, clause in (
        ("classification", asset.classification, "G5.6"),
        ("responsible", asset.responsible, "G5.21"),
    ):
        if not value.strip():
            raise Malformed(
                f"every key and module stands in the asset register with its {name}; this one would have none",
                rule="asset/incomplete",
                clause=clause,
                field=name,
            )


def _is(kind: Kind, value: JsonValue) -> bool:
    if kind in (Kind.DATE, Kind.NUMBER):
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if kind is Kind.TRUTH:
        return isinstance(value, bool)
    if kind is Kind.DOCUMENT:
        return isinstance(value, Mapping)
    if not isinstance(value, str):
        return False
    if kind is Kind.HEX:
        return value == value.lower() and len(value) % 2 == 0 and _is_hex(value)
    return value.isprintable() and len(value) <= 500


def _is_hex(value: str) -> bool:
    return all(character in "0123456789abcdef" for character in value)


def _parameters(act: Act, what: str) -> Malformed:
    return Malformed(f"act {act.name} {what}", rule="statement/parameters", clause=act.clause)
