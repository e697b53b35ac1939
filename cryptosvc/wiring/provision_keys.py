"""Keys of `cryptosvc init`: a key is ordered in the registry, then made on its module, then registered as made.

No key is ever on a module without a record. What an interrupted run left is found by its record and destroyed, since
nobody can have used a key whose public point is not recorded, and made again.

Source: Smart Energy Code G5.13(b) (registered, ordered, generated), for environment test.
"""

from collections.abc import Mapping
from dataclasses import replace

from cryptosvc.adapters.hsm.provision import Provisioner
from cryptosvc.config.provisioning import KeyEntry
from cryptosvc.config.settings import Settings
from cryptosvc.core.errors import Malformed
from cryptosvc.core.keyclass import ceiling
from cryptosvc.core.life import Asset, Event, Life, UnixSeconds
from cryptosvc.core.names import Eui64, KeyId, ModuleName, SystemName
from cryptosvc.core.registry import KeyRecord, KeyState, Origin
from cryptosvc.wiring import logkeys

OPERATOR = "whoever ran init"
"""The responsible person of what the shortcut made: there is no better answer in environment test."""

Tokens = Mapping[ModuleName, Provisioner]

_ON_THE_WAY: Mapping[Event, frozenset[KeyState]] = {
    Event.ACTIVATE: frozenset(
        {KeyState.ACTIVE, KeyState.SUSPENDED, KeyState.DEACTIVATED, KeyState.COMPROMISED}
    ),
    Event.SUSPEND: frozenset({KeyState.SUSPENDED}),
    Event.DEACTIVATE: frozenset({KeyState.DEACTIVATED}),
    Event.COMPROMISE: frozenset({KeyState.COMPROMISED}),
}
"""Event → states a key begins in that it passed on the way there."""


def is_to_be_made(record: KeyRecord | None) -> bool:
    """Whether a key is not there yet, or was ordered by a run that was interrupted; custodians carry out their own orders."""
    return record is None or (record.state is KeyState.ORDERED and record.life.when(Event.ORDER) is None)


def place(entry: KeyEntry) -> tuple[str, bytes]:
    """CKA_LABEL and CKA_ID of a key's object."""
    object_id = bytes.fromhex(entry.object_id) if entry.object_id else logkeys.object_id(entry.id)
    return entry.label or entry.id, object_id


def module_of(settings: Settings, entry: KeyEntry, tokens: Tokens) -> ModuleName:
    """Find the module of a key; Malformed where it is not in the configuration."""
    module = ModuleName(entry.module or settings.modules[0].name)
    if module not in tokens:
        raise Malformed(
            f"key {entry.id}: module {module!r} is not in the configuration",
            rule="provisioning/module",
            field="keys",
        )
    return module


def ordered(settings: Settings, entry: KeyEntry) -> KeyRecord:
    """The record of a key of which there is no object yet."""
    label, object_id = place(entry)
    template = ceiling(entry.key_class).template
    return KeyRecord(
        key_id=KeyId(entry.id),
        version=1,
        key_class=entry.key_class,
        state=KeyState.ORDERED,
        system=SystemName(entry.system or settings.deployment.system),
        environment=settings.deployment.environment,
        module=ModuleName(entry.module or settings.modules[0].name),
        label=label,
        object_id=object_id,
        public_point=b"",
        certificate=b"",
        eui64=None if entry.eui64 is None else Eui64.parse(entry.eui64),
        role=entry.role,
        origin=Origin.ADOPTED if entry.adopt else Origin.GENERATED,
        transferable=template.transferable and not entry.adopt,
        signs_for_eligible_user=entry.signs_for_eligible_user,
        asset=Asset(label=entry.id, classification="test", responsible=OPERATOR),
    )


def generate(record: KeyRecord, tokens: Tokens) -> tuple[bytes, bool]:
    """Generate an ordered key; its public point, and whether something of an interrupted run was in its place."""
    token = tokens[record.module]
    begun = token.destroy(record.label, record.object_id)
    return token.generate(record.label, record.object_id, ceiling(record.key_class).template), bool(begun)


def generated(entry: KeyEntry, record: KeyRecord, point: bytes, at: UnixSeconds) -> KeyRecord:
    """The record of an ordered key once it was generated, in the state it is to begin in."""
    life = _life(entry, Event.GENERATE, at)
    return replace(record, version=record.version + 1, state=entry.state, public_point=point, life=life)


def adopted(
    settings: Settings, entry: KeyEntry, tokens: Tokens, at: UnixSeconds
) -> tuple[KeyRecord, list[str]]:
    """Adopt the object of a key; its record, and how the object differs from the template of its class."""
    label, object_id = place(entry)
    token = tokens[module_of(settings, entry, tokens)]
    found = token.adopt(label, object_id, ceiling(entry.key_class).template)
    record = replace(
        ordered(settings, entry),
        state=entry.state,
        public_point=found.public_point,
        life=_life(entry, Event.REGISTER, at),
    )
    return record, [str(difference) for difference in found.differences]


def _life(entry: KeyEntry, first: Event, at: UnixSeconds) -> Life:
    """How it came to the state it begins in: the crypto-period of its class runs from its activation, as of any key."""
    life = Life().passed(first, at)
    for event, states in _ON_THE_WAY.items():
        if entry.state in states:
            life = life.passed(event, at)
    return replace(life, compromised_since=at) if entry.state is KeyState.COMPROMISED else life
