"""Gather: requests and what they turned out to be become cases. Reads only."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache

from cryptosvc.core import associations, lifecycle, separation, supply
from cryptosvc.core.associations import DedicatedKey
from cryptosvc.core.assurance import AssuranceProfile
from cryptosvc.core.case import Case, Facts, ModuleFacts, Principal, Request, Second
from cryptosvc.core.content.base import Content
from cryptosvc.core.content.dlms.profile import Smets1Profile
from cryptosvc.core.content.dlms.protection import DlmsContent, Way
from cryptosvc.core.content.x509.identity import registered_oca
from cryptosvc.core.content.x509.profile import KnownOca
from cryptosvc.core.device_keys import SealedKeyRecord
from cryptosvc.core.errors import Forbidden, Malformed, Refusal
from cryptosvc.core.keyclass import AUTHORITY_CLASSES
from cryptosvc.core.lifecycle import Standing
from cryptosvc.core.names import (
    ContentKind,
    Environment,
    Eui64,
    KeyId,
    Operation,
    UnixNanoseconds,
    UserRole,
)
from cryptosvc.core.registry import CallerRecord, KeyRecord, KeyState
from cryptosvc.core.separation import RelevantSystem, SeparationProfile
from cryptosvc.core.values import quickly
from cryptosvc.flow.ports import Clock, Hsm, Instant, Keys, KeyView

UNITED_KINGDOM = "GB"
_NONE: frozenset[KnownOca] = frozenset()
_STANDINGS_AT_MOST = 20_000
_case = quickly(Case)


class Gatherer:
    """Reads what a decision may depend on, through the ports."""

    def __init__(
        self,
        keys: Keys,
        hsm: Hsm,
        clock: Clock,
        environment: Environment,
        supply_profile: supply.SupplyProfile,
        assurance: AssuranceProfile | None = None,
        separated: SeparationProfile | None = None,
        smets1: Smets1Profile | None = None,
    ) -> None:
        """Without a table of accepted standards no module is accepted."""
        self._keys = keys
        self._hsm = hsm
        self._clock = clock
        self._environment = environment
        self._supply = supply_profile
        self._assurance = assurance or AssuranceProfile()
        self._separated = separated or SeparationProfile()
        self._smets1 = smets1 or Smets1Profile()
        self._standings: dict[KeyId, Standing] = {}

    async def gather(
        self, principal: Principal, operation: Operation, items: Sequence[tuple[Request, Content]]
    ) -> list[Case | Refusal]:
        """Make a case of each item. Per item: Forbidden (unknown or not granted key, role not held), Unavailable."""
        if operation is Operation.SIGN:
            wanted = {request.key_id for request, _ in items}
        else:
            wanted = _wanted([request for request, _ in items])
        view = await self._keys.keys(wanted)
        batch = _Batch(principal, operation, view, self._clock.now())
        if any(content.kind is ContentKind.ORGANISATION_ARL for _, content in items):
            authorities = await self._keys.keys_of_classes(AUTHORITY_CLASSES)
            batch.registered_oca = registered_oca(authorities.keys.values())
            batch.generation = min(batch.generation, authorities.generation)
        return [self._case(batch, request, content) for request, content in items]

    def _case(self, batch: "_Batch", request: Request, content: Content) -> Case | Refusal:
        try:
            name = request.association or request.key_id
            ground = batch.grounds.get(name)
            if ground is None:
                ground = batch.grounds[name] = (
                    self._dedicated(batch, request)
                    if request.association
                    else self._ground(batch, request.key_id, batch.view)
                )
            facts = self._facts_of(batch, ground, request, content)
            second: Second | None = None
            if batch.operation is not Operation.SIGN:
                facts = self._of_device(facts, ground, content)
                second = self._second(batch, facts, request, content)
        except Refusal as refusal:
            return refusal
        return _case(
            request=request,
            principal=batch.principal,
            content=content,
            key=ground.key,
            module=ground.module,
            facts=facts,
            generation=batch.generation,
            at=batch.instant.at,
            time_quality=batch.instant.quality,
            registered_oca=batch.registered_oca if content.kind is ContentKind.ORGANISATION_ARL else _NONE,
            second=second,
        )

    def _of_device(self, facts: Facts, ground: "_Ground", content: Content) -> Facts:
        """Add what G2.44A asks of a SMETS1 Device's key; other facts stay as they are."""
        key = ground.key
        if not isinstance(key, SealedKeyRecord) or not isinstance(content, DlmsContent):
            return facts
        row = key.row
        model = self._smets1.model_of(row.manufacturer, row.model, row.firmware)
        facts = replace(
            facts,
            add_credit=content.add_credit,
            instruction=content.way is Way.PROTECT and bool(content.request_tag),
            category_1=model.category_1,
            category_2=model.category_2,
            one_association=isinstance(row, DedicatedKey),
        )
        if (
            facts.add_credit
            or (facts.instruction and facts.category_1)
            or (facts.one_association and facts.category_2)
        ):
            facts = replace(
                facts,
                module_established=self._assurance.establishes(
                    key.asset.classification, ground.module.name, ground.module.level, exempt=True
                ),
            )
        return facts

    def _second(self, batch: "_Batch", facts: Facts, request: Request, content: Content) -> Second | None:
        """The other key of the request, where one takes part: granted, in its state, and judged like the first."""
        if not request.second_key or (isinstance(content, DlmsContent) and not content.authenticated):
            return None
        ground = batch.seconds.get(request.second_key)
        if ground is None:
            ground = batch.seconds[request.second_key] = self._ground(
                batch, request.second_key, batch.view, Operation.ACCOMPANY
            )
        key = ground.key
        return Second(
            key=key,
            facts=replace(
                facts,
                operation=Operation.ACCOMPANY,
                key_class=key.key_class,
                state=ground.state,
                origin=key.origin,
                same_system=key.system == batch.principal.caller.system,
                one_association=False,
            ),
        )

    def _dedicated(self, batch: "_Batch", request: Request) -> "_Ground":
        """The key of an association, which the request brings along; whether it is ours its tag says, in the module."""
        row = associations.read(request.association)
        storage = batch.view.keys
        wrapping, binding = storage.get(row.wrapping), storage.get(row.binding)
        if f"{row.device}.{row.kind}" != request.key_id or wrapping is None or binding is None:
            raise not_granted()
        key = associations.dedicated_record(row, request.key_id, wrapping, binding, batch.instant.at)
        return self._ground(batch, request.key_id, KeyView(batch.generation, {request.key_id: key}))

    def _ground(
        self, batch: "_Batch", key_id: KeyId, view: KeyView, operation: Operation | None = None
    ) -> "_Ground":
        key = granted_key(batch.principal.caller, operation or batch.operation, key_id, view)
        return _Ground(
            key,
            self._state(key, batch.instant.at),
            self._hsm.facts(key.module),
            supply.of_eligible_user(key, self._supply),
        )

    def _state(self, key: KeyRecord, at: UnixNanoseconds) -> KeyState:
        """The key's state now, whether or not somebody has written down what came about by date."""
        known = self._standings.get(key.key_id)
        if known is None or known.key is not key or not known.since <= at < known.until:
            if len(self._standings) >= _STANDINGS_AT_MOST:
                self._standings.clear()
            known = self._standings[key.key_id] = lifecycle.standing(key, at)
        return known.state

    def _facts_of(self, batch: "_Batch", ground: "_Ground", request: Request, content: Content) -> Facts:
        """The categorical facts; items of a batch that are alike in all of them share one value."""
        caller = batch.principal.caller
        role = _role_held(caller, request)
        sensitive = supply.sensitive(content, self._supply)
        checked = supply.check_attached(
            request.supply_sensitive_check,
            request.payload,
            request.request_id,
            caller.supply_sensitive_checker_key,
        )
        received = separation.received(content, self._separated)
        verified = (received or bool(request.origin_statement)) and separation.verified(
            content, request.payload, request.origin_statement, self._separated
        )
        alike = (ground.key.key_id, content.kind, role, sensitive, checked, received, verified)
        facts = batch.facts.get(alike)
        if facts is None:
            key, module = ground.key, ground.module
            facts = batch.facts[alike] = Facts(
                operation=batch.operation,
                key_class=key.key_class,
                content_kind=content.kind,
                state=ground.state,
                origin=key.origin,
                environment=self._environment,
                user_role=role,
                same_system=key.system == caller.system,
                granted=True,
                module_standard=module.standard,
                module_level=module.level,
                module_accepted=self._assurance.accepts(module.standard, batch.instant.at),
                module_established=self._assurance.establishes(
                    key.asset.classification, module.name, module.level
                ),
                in_united_kingdom=module.country == module.worker_country == UNITED_KINGDOM,
                supply_sensitive=sensitive,
                supply_sensitive_check=checked,
                eligible_user_key=ground.for_eligible_user,
                cos_party=self._separated.this is RelevantSystem.COS_PARTY,
                from_relevant_system=received,
                origin_verified=verified,
            )
        return facts


def in_module(
    facts: Facts, module: ModuleFacts, profile: AssuranceProfile, classification: str, at: UnixNanoseconds
) -> Facts:
    """The same facts with the key, classified so, in that module."""
    return replace(
        facts,
        module_standard=module.standard,
        module_level=module.level,
        module_accepted=profile.accepts(module.standard, at),
        module_established=profile.establishes(classification, module.name, module.level),
        in_united_kingdom=module.country == module.worker_country == UNITED_KINGDOM,
    )


@dataclass(frozen=True, slots=True)
class _Ground:
    """A key the caller may ask for, its state now, its module, and whether it signs for an Eligible User (G3.23)."""

    key: KeyRecord
    state: KeyState
    module: ModuleFacts
    for_eligible_user: bool


@dataclass(slots=True)
class _Batch:
    """What the items of one batch share: who asks, one reading of registry and clock, and what was found by then.

    `generation` is the oldest at which any of it was read, so that the claim finds out if the registry moved between.
    """

    principal: Principal
    operation: Operation
    view: KeyView
    instant: Instant
    grounds: dict[KeyId | bytes, _Ground] = field(default_factory=dict)
    seconds: dict[KeyId, _Ground] = field(default_factory=dict)
    facts: dict[tuple[KeyId, ContentKind, UserRole | None, bool, bool, bool, bool], Facts] = field(
        default_factory=dict
    )
    registered_oca: frozenset[KnownOca] = _NONE
    generation: int = field(init=False)

    def __post_init__(self) -> None:
        self.generation = self.view.generation


def _wanted(requests: Sequence[Request]) -> set[KeyId]:
    """Every key that these rest on: of an association its storage keys, since its own key is in no store."""
    found = {request.second_key for request in requests if request.second_key}
    for request in requests:
        if not request.association:
            found.add(request.key_id)
            continue
        with suppress(Malformed):  # said where its case is made
            row = associations.read(request.association)
            found |= {row.wrapping, row.binding}
    return found


def granted_key(caller: CallerRecord, operation: Operation, key_id: KeyId, view: KeyView) -> KeyRecord:
    """Find a key this caller may ask `operation` of; an unknown key and a key not granted raise the same Forbidden."""
    key = view.keys.get(key_id)
    if key is not None and _is_granted(caller, operation, key):
        return key
    raise not_granted()


def not_granted() -> Forbidden:
    """All that is said of a key that is not there, or not for this caller."""
    return Forbidden(
        "there is no such key for this caller; list_keys shows the keys it has",
        rule="key/not-granted",
        clause="G2.20",
        field="key_id",
    )


def _is_granted(caller: CallerRecord, operation: Operation, key: KeyRecord) -> bool:
    return any(
        grant.operation == operation
        and grant.key_class == key.key_class
        and (key.key_id in grant.key_ids if grant.key_ids else key.system == caller.system)
        for grant in caller.grants
    )


def _role_held(caller: CallerRecord, request: Request) -> UserRole | None:
    """Check the User Role and User ID stated against the caller's record."""
    stated = request.statement
    if stated.user_id and stated.user_id not in _texts(caller.user_ids):
        raise Forbidden(
            "the User ID stated is not one of this caller's",
            rule="caller/user-id",
            clause="G1.5",
            field="user_id",
        )
    if not stated.user_role:
        return None
    for role in caller.user_roles:
        if role == stated.user_role:
            return role
    raise Forbidden(
        "the User Role stated is not one of this caller's",
        rule="caller/user-role",
        clause="G1.5",
        field="user_role",
    )


@lru_cache(maxsize=4096)
def _texts(user_ids: frozenset[Eui64]) -> frozenset[str]:
    return frozenset(map(str, user_ids))
