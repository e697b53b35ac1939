"""Reconciliation: what lies on the modules against what the registry says, difference by difference (G2.3, G5.13(b)).

Pure: whoever reads modules and registry hands both in. Nothing is put right here; each difference says what to do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from cryptosvc.core.asset import ModuleRecord
from cryptosvc.core.names import KeyId, ModuleName
from cryptosvc.core.proposal import ProposalRecord, ProposalState
from cryptosvc.core.registry import KeyRecord, KeyState

BEGINNING = "cryptosvc-beginning:"
"""Begins the label of the mark that a deployment is beginning: it goes once every key has its record."""


class Kind(StrEnum):
    """What can differ."""

    UNKNOWN_OBJECT = "unknown-object"
    MISSING_OBJECT = "missing-object"
    CHANGED_KEY = "changed-key"
    CHANGED_ATTRIBUTES = "changed-attributes"
    NOT_DESTROYED = "not-destroyed"
    NOT_IN_PARTS = "not-in-parts"
    DRIFTED_MODULE = "drifted-module"
    UNREGISTERED_MODULE = "unregistered-module"
    UNFINISHED_ACT = "unfinished-act"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as the registry says.

    Args:
        kind: what differs.
        subject: key id, module name, proposal id, or `module/label` of an object no record knows.
        seen: what was found.
        remedy: what to do next.

    """

    kind: Kind
    subject: str
    seen: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Held:
    """A key object on a module, as `flow/ports.HeldObject`, with the module it lies on."""

    module: ModuleName
    kind: str
    label: str
    object_id: bytes
    public_point: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Everything that is compared.

    Args:
        keys: every key record.
        held: every key object on every configured module.
        attributes: key id → differences of its object from its class's template, a sentence each.
        modules: every module record, by name.
        identities: configured module → what it reports.
        proposals: those that are not over.
        own: (module, label) of objects that belong to the service itself: owner marks and the head's key.

    """

    keys: Sequence[KeyRecord]
    held: Sequence[Held]
    attributes: Mapping[KeyId, Sequence[str]]
    modules: Mapping[str, ModuleRecord]
    identities: Mapping[str, Mapping[str, str]]
    proposals: Sequence[ProposalRecord]
    own: frozenset[tuple[str, str]]


_WITHOUT_OBJECT = frozenset({KeyState.ORDERED, KeyState.DESTROYED})


def differences(scene: Scene) -> list[Difference]:
    """Everything that differs, in an order that reads well: modules, keys, objects, acts."""
    return [
        *_of_modules(scene),
        *(found for key in scene.keys for found in _of_key(key, scene)),
        *_unknown(scene),
        *(
            Difference(
                Kind.UNFINISHED_ACT,
                f"{one.module}/{one.label}",
                "the deployment began, and that was interrupted before every key of it had its record",
                "run what was interrupted again, `cryptosvc genesis` or `cryptosvc init`: it destroys what it left and goes on",
            )
            for one in scene.held
            if one.label.startswith(BEGINNING)
        ),
        *(
            Difference(
                Kind.UNFINISHED_ACT,
                one.proposal_id,
                f"{one.statement.act} of {one.statement.subject} was begun and has no end in the log",
                "run `cryptosvc reconcile --finish`: it looks at the module and finishes or undoes the act",
            )
            for one in scene.proposals
            if one.state is ProposalState.EXECUTING
        ),
    ]


def _of_modules(scene: Scene) -> list[Difference]:
    found: list[Difference] = []
    for name, reported in sorted(scene.identities.items()):
        record = scene.modules.get(name)
        if record is None:
            found.append(
                Difference(
                    Kind.UNREGISTERED_MODULE,
                    name,
                    "it is in the configuration and not in the asset register",
                    "propose module.register with its classification and responsible person (G5.6)",
                )
            )
            continue
        drifted = [
            f"{field} is {reported.get(field, 'not reported')}, registered as {value}"
            for field, value in record.identity
            if reported.get(field) != value
        ]
        if drifted:
            found.append(
                Difference(
                    Kind.DRIFTED_MODULE,
                    name,
                    "; ".join(drifted),
                    "find out who changed the module; propose module.register with its new identity where it is right",
                )
            )
    return found


def _of_key(key: KeyRecord, scene: Scene) -> list[Difference]:
    mine = [one for one in scene.held if (one.label, one.object_id) == (key.label, key.object_id)]
    here = [one for one in mine if one.module == key.module]
    private = [one for one in here if one.kind in ("private-key", "secret-key")]
    points = {one.public_point for one in here if one.kind == "public-key"}
    found: list[Difference] = []
    if key.state is KeyState.DESTROYED and mine:
        where = ", ".join(sorted({str(one.module) for one in mine}))
        found.append(
            Difference(
                Kind.NOT_DESTROYED,
                key.key_id,
                f"its record says destroyed, and {where} has {len(mine)} objects of it",
                "take the module out of use; somebody put the key back from a backup (G5.13(b))",
            )
        )
    if key.state is KeyState.ORDERED and mine and not _under_way(key, scene):
        where = ", ".join(sorted({str(one.module) for one in mine}))
        found.append(
            Difference(
                Kind.UNKNOWN_OBJECT,
                key.key_id,
                f"the key is only ordered, and {where} has {len(mine)} objects in its place",
                "where `init` was interrupted run it again, which makes the key anew; else find out who put them there",
            )
        )
    split = key.state is KeyState.SPLIT or key.life.in_parts
    if split and mine:
        where = ", ".join(sorted({str(one.module) for one in mine}))
        found.append(
            Difference(
                Kind.NOT_IN_PARTS,
                key.key_id,
                f"its record says that it is in parts, and {where} has {len(mine)} objects of it",
                "resume the ceremony that was interrupted, or take the module out of use: somebody put the key back (G2.44B)",
            )
        )
    if key.state not in _WITHOUT_OBJECT and not split and key.module in scene.identities and not private:
        found.append(
            Difference(
                Kind.MISSING_OBJECT,
                key.key_id,
                f"module {key.module} has no object {key.label!r} with its id",
                "restore the module, or propose key.compromise or key.deactivate",
            )
        )
    if key.public_point and points and points != {key.public_point}:
        found.append(
            Difference(
                Kind.CHANGED_KEY,
                key.key_id,
                "the object's public key is another than its record's",
                "take the key out of use at once: propose key.suspend, then find out who replaced it",
            )
        )
    changed = scene.attributes.get(key.key_id, ())
    if changed and private:
        found.append(
            Difference(
                Kind.CHANGED_ATTRIBUTES,
                key.key_id,
                "; ".join(changed),
                "propose key.suspend and replace the key: what it may be used for has changed",
            )
        )
    return found


def _under_way(key: KeyRecord, scene: Scene) -> bool:
    return any(
        one.state is ProposalState.EXECUTING and one.statement.subject == key.key_id
        for one in scene.proposals
    )


def _unknown(scene: Scene) -> list[Difference]:
    known = {(str(key.module), key.label, key.object_id) for key in scene.keys}
    copies = {(key.label, key.object_id, key.public_point) for key in scene.keys if key.public_point}
    strangers: dict[tuple[str, str, bytes], set[str]] = {}
    for one in scene.held:
        name = (str(one.module), one.label, one.object_id)
        if name in known or (str(one.module), one.label) in scene.own or one.label.startswith(BEGINNING):
            continue
        if (one.label, one.object_id, one.public_point) in copies:
            continue
        strangers.setdefault(name, set()).add(one.kind)
    return [
        Difference(
            Kind.UNKNOWN_OBJECT,
            f"{module}/{label}",
            f"{' and '.join(sorted(kinds))} with id {object_id.hex()}, which no record knows",
            "find out who made it; propose key.register to adopt it, or have it removed with the vendor's tools",
        )
        for (module, label, object_id), kinds in sorted(strangers.items())
    ]
