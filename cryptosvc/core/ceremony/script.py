"""The ceremony file as values.

`read` takes the mapping that a TOML file holds and gives a `Script`, or refuses it naming the path of the key at
fault; `document` prints a script as the mapping it is read from, so that a transcript carries the whole plan and
anyone can read it back from there. `plan.py` then walks the acts on paper: what is not possible in this order is
refused before anybody meets.

Rules of their own: there are key custodians for the quorum of every key class touched, and one person more who
proposes, since nobody approves their own proposal; the parts of a split key have a holder each; no two names are equal.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from cryptosvc.core import dsse
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.ceremony import fields
from cryptosvc.core.ceremony.acts import Act
from cryptosvc.core.ceremony.fields import Field, Setting
from cryptosvc.core.ceremony.plan import Given, planned
from cryptosvc.core.ceremony.rows import RESULTS, ROWS, ActKind, Role, Thing
from cryptosvc.core.errors import Malformed
from cryptosvc.core.keyclass import ceiling
from cryptosvc.core.names import Environment, ModuleName, SystemName
from cryptosvc.core.registry import KeyState

ACTS_AT_MOST = 200
PEOPLE_AT_MOST = dsse.SIGNATURES_AT_MOST
"""Everyone present signs the transcript, in one envelope."""

_HEAD = (
    Field("title", fields.sentence),
    Field("purpose", fields.sentence),
    Field("clause", fields.clause),
    Field("location", fields.sentence),
)
_PARAMETERS = (
    Field("party", fields.word("dcc", "user")),
    Field("environment", fields.environment),
    Field("system", fields.name),
    Field("module", fields.name),
)
_PEOPLE = (Field("role", fields.word(*(role.value for role in Role))), Field("number", fields.positive))
_GIVEN = (
    Field("thing", fields.word(*(thing.value for thing in Thing if thing is not Thing.FILE))),
    Field("name", fields.name),
    Field("class", fields.key_class, required=False),
    Field("state", fields.key_state, required=False),
    Field("split", fields.truth, required=False),
    Field("key", fields.name, required=False),
    Field("fingerprint", fields.sha256, required=False),
)
_PROPOSERS = (Role.CUSTODIAN, Role.ADMINISTRATOR, Role.OPERATOR, Role.SECURITY_OFFICER)
_TOP = ("parameters", "people", "given", "acts", *(field.name for field in _HEAD))


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A ceremony that can be held.

    Args:
        title, purpose, location: for people; one line each.
        clause: of Section G that the ceremony serves; acts without a clause of their own are done under it.
        party: `dcc` or `user`: whose obligations are cited (G5.13 or G5.24).
        environment: where it is for. A rehearsal of it is always held in `test`.
        system: the system the keys belong to (G2.20, G3.14).
        module: the configured module that keys are generated in.
        people: how many must be present in each role, in the file's order.
        given: what is there before.
        acts: in order.

    """

    title: str
    purpose: str
    clause: str
    location: str
    party: str
    environment: Environment
    system: SystemName
    module: ModuleName
    people: tuple[tuple[Role, int], ...]
    given: tuple[Given, ...]
    acts: tuple[Act, ...]


def read(document: Mapping[str, JsonValue]) -> Script:
    """Read and plan a ceremony.

    Raises:
        Malformed: `ceremony/unknown-key`, `ceremony/missing`, `ceremony/value`, `ceremony/people`,
            `ceremony/quorum`, or one of `plan.planned`; `field` is the dotted path in the file.

    """
    top = fields.table(document, "", _TOP)
    head = dict(fields.settings(top, _HEAD, ""))
    parameters = _texts(top, "parameters", _PARAMETERS)
    people = _people(top)
    given = tuple(
        _given(one, f"given.{at}") for at, one in enumerate(fields.tables(top.get("given", ()), "given"))
    )
    listed = fields.tables(top.get("acts", ()), "acts")
    if not 1 <= len(listed) <= ACTS_AT_MOST:
        raise fields.wrong("acts", f"a ceremony has 1 to {ACTS_AT_MOST} acts")
    acts = tuple(_act(one, at) for at, one in enumerate(listed))
    script = Script(
        title=str(head["title"]),
        purpose=str(head["purpose"]),
        clause=str(head["clause"]),
        location=str(head["location"]),
        party=parameters["party"],
        environment=Environment(parameters["environment"]),
        system=SystemName(parameters["system"]),
        module=ModuleName(parameters["module"]),
        people=people,
        given=given,
        acts=planned(acts, given, str(head["clause"]), parameters["party"], parameters["system"]),
    )
    _require_people(script)
    return script


def document(script: Script) -> dict[str, JsonValue]:
    """Print a script as the mapping `read` takes; the results an act implies are written out."""
    return {
        "title": script.title,
        "purpose": script.purpose,
        "clause": script.clause,
        "location": script.location,
        "parameters": {
            "party": script.party,
            "environment": script.environment.value,
            "system": script.system,
            "module": script.module,
        },
        "people": [{"role": role.value, "number": number} for role, number in script.people],
        "given": [_given_document(one) for one in script.given],
        "acts": [act_document(one) for one in script.acts],
    }


def act_document(act: Act) -> dict[str, JsonValue]:
    """Print an act as the table `read` takes."""
    printed: dict[str, JsonValue] = {"act": act.kind.value, **printable(act.settings)}
    return printed | ({"expect": printable(act.expected)} if act.expected else {})


def number_of(script: Script, role: Role) -> int:
    """How many people in a role the ceremony requires."""
    return dict(script.people).get(role, 0)


def printable(pairs: tuple[tuple[str, Setting], ...]) -> dict[str, JsonValue]:
    """Give (name, value) pairs as a JSON object; a list for what is several."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in pairs}


def _texts(top: Mapping[str, JsonValue], name: str, known: tuple[Field, ...]) -> dict[str, str]:
    if name not in top:
        raise Malformed(f"{name}: this table is missing", rule="ceremony/missing", field=name)
    entries = fields.table(top[name], name, [field.name for field in known])
    return {key: str(value) for key, value in fields.settings(entries, known, name)}


def _people(top: Mapping[str, JsonValue]) -> tuple[tuple[Role, int], ...]:
    found: list[tuple[Role, int]] = []
    for at, one in enumerate(fields.tables(top.get("people", ()), "people")):
        path = f"people.{at}"
        entry = dict(
            fields.settings(fields.table(one, path, [field.name for field in _PEOPLE]), _PEOPLE, path)
        )
        found.append((Role(str(entry["role"])), int(str(entry["number"]))))
    if sum(number for _, number in found) > PEOPLE_AT_MOST:
        raise fields.wrong("people", f"at most {PEOPLE_AT_MOST} people can sign a transcript")
    if len({role for role, _ in found}) != len(found):
        raise Malformed(
            "people: a role is named once, with its number", rule="ceremony/people", field="people"
        )
    return tuple(found)


def _given(value: JsonValue, path: str) -> Given:
    entries = fields.table(value, path, [field.name for field in _GIVEN])
    found = dict(fields.settings(entries, _GIVEN, path))
    thing = Thing(str(found["thing"]))
    of_keys = {"class", "state", "split"} & found.keys()
    if (thing is Thing.KEY) != ("class" in found) or (thing is not Thing.KEY and of_keys):
        raise fields.wrong(
            path, "a key that is given has a class, and perhaps a state; nothing else has them"
        )
    if ("key" in found) != (thing in {Thing.CERTIFICATE, Thing.REQUEST}):
        raise fields.wrong(path, "a certificate or request that is given names its key; nothing else does")
    split = found.get("split") is True
    usual = KeyState.SPLIT if split else KeyState.ACTIVE
    return Given(
        thing=thing,
        name=str(found["name"]),
        key_class=str(found.get("class", "")),
        state=KeyState(str(found.get("state", usual))) if thing is Thing.KEY else None,
        split=split,
        key=str(found.get("key", "")),
        fingerprint=str(found.get("fingerprint", "")),
    )


def _given_document(given: Given) -> dict[str, JsonValue]:
    printed: dict[str, JsonValue] = {"thing": given.thing.value, "name": given.name}
    if given.state is not None:
        printed |= {"class": given.key_class, "state": given.state.value}
    if given.split:
        printed["split"] = True
    printed |= {"key": given.key} if given.key else {}
    return printed | ({"fingerprint": given.fingerprint} if given.fingerprint else {})


def _act(value: JsonValue, at: int) -> Act:
    path = f"acts.{at}"
    if not isinstance(value, Mapping):
        raise fields.wrong(path, "an act is a table")
    kinds = Field("act", fields.word(*(kind.value for kind in ActKind)))
    kind = ActKind(str(dict(fields.settings(value, (kinds,), path))["act"]))
    row = ROWS[kind]
    entries = fields.table(value, path, ["act", "expect", *(field.name for field in row.fields)])
    results = [Field(name, RESULTS[name], required=False) for name in sorted(row.results)]
    expected = fields.table(entries.get("expect", {}), f"{path}.expect", [field.name for field in results])
    return Act(
        number=at + 1,
        kind=kind,
        settings=fields.settings(entries, row.fields, path),
        expected=fields.settings(expected, results, f"{path}.expect"),
    )


def _require_people(script: Script) -> None:
    classes = {one.key_class for one in script.given if one.key_class}
    classes |= {act.text("class") for act in script.acts if act.kind is ActKind.GENERATE_KEY}
    quorum = max((ceiling(name).quorum for name in classes), default=1)
    custodians = number_of(script, Role.CUSTODIAN)
    if custodians < quorum or sum(number_of(script, role) for role in _PROPOSERS) < quorum + 1:
        raise Malformed(
            f"people: the key classes ask for {quorum} key custodians who approve what somebody else proposes, and "
            f"{custodians} are required to be present",
            rule="ceremony/quorum",
            field="people",
        )
    for act in script.acts:
        if act.kind is ActKind.ATTEST and not number_of(script, Role(act.text("role"))):
            raise Malformed(
                f"acts.{act.number - 1}.role: nobody in this role is required to be present",
                rule="ceremony/people",
                field=f"acts.{act.number - 1}.role",
            )
        holders = number_of(script, Role.PART_HOLDER)
        wanted = {ActKind.SPLIT_KEY: "parts", ActKind.RECOMBINE_KEY: "threshold"}.get(act.kind)
        if wanted and holders < act.number_of(wanted):
            raise Malformed(
                f"people: {holders} part holders are required and act {act.number} needs {act.number_of(wanted)}",
                rule="ceremony/people",
                field="people",
            )
