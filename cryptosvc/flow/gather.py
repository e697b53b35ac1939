"""Gather: requests and what they turned out to be become cases. Reads only."""

from collections.abc import Sequence

from cryptosvc.core import supply
from cryptosvc.core.assurance import AssuranceProfile
from cryptosvc.core.case import Case, Facts, Principal, Request
from cryptosvc.core.content.base import Content
from cryptosvc.core.errors import Forbidden, Refusal
from cryptosvc.core.names import Environment, KeyId, Operation, UserRole
from cryptosvc.core.registry import CallerRecord, KeyRecord
from cryptosvc.flow.ports import Clock, Hsm, Keys, KeyView

UNITED_KINGDOM = "GB"


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
    ) -> None:
        """Without a table of accepted standards no module is accepted."""
        self._keys = keys
        self._hsm = hsm
        self._clock = clock
        self._environment = environment
        self._supply = supply_profile
        self._assurance = assurance or AssuranceProfile()

    async def gather(
        self, principal: Principal, operation: Operation, items: Sequence[tuple[Request, Content]]
    ) -> list[Case | Refusal]:
        """Make a case of each item. Per item: Forbidden (unknown or not granted key, role not held), Unavailable."""
        view = await self._keys.keys({request.key_id for request, _ in items})
        return [self._case(principal, operation, request, content, view) for request, content in items]

    def _case(
        self, principal: Principal, operation: Operation, request: Request, content: Content, view: KeyView
    ) -> Case | Refusal:
        try:
            key = granted_key(principal.caller, operation, request.key_id, view)
            module = self._hsm.facts(key.module)
            instant = self._clock.now()
            facts = Facts(
                operation=operation,
                key_class=key.key_class,
                content_kind=content.kind,
                state=key.state,
                origin=key.origin,
                environment=self._environment,
                user_role=_role_held(principal.caller, request),
                same_system=key.system == principal.caller.system,
                granted=True,
                module_standard=module.standard,
                module_level=module.level,
                module_accepted=self._assurance.accepts(module.standard, instant.at),
                in_united_kingdom=module.country == module.worker_country == UNITED_KINGDOM,
                supply_sensitive=supply.sensitive(content, self._supply),
                supply_sensitive_check=supply.check_attached(
                    request.supply_sensitive_check,
                    request.payload,
                    request.request_id,
                    principal.caller.supply_sensitive_checker_key,
                ),
                eligible_user_key=key.signs_for_eligible_user,
            )
        except Refusal as refusal:
            return refusal
        return Case(
            request=request,
            principal=principal,
            content=content,
            key=key,
            module=module,
            facts=facts,
            generation=view.generation,
            at=instant.at,
            time_quality=instant.quality,
        )


def granted_key(caller: CallerRecord, operation: Operation, key_id: KeyId, view: KeyView) -> KeyRecord:
    """Find a key this caller may ask `operation` of; an unknown key and a key not granted raise the same Forbidden."""
    key = view.keys.get(key_id)
    if key is not None and _is_granted(caller, operation, key):
        return key
    raise Forbidden(
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
    if stated.user_id and stated.user_id not in {str(user_id) for user_id in caller.user_ids}:
        raise Forbidden(
            "the User ID stated is not one of this caller's", rule="caller/user-id", field="user_id"
        )
    if not stated.user_role:
        return None
    for role in caller.user_roles:
        if role == stated.user_role:
            return role
    raise Forbidden(
        "the User Role stated is not one of this caller's", rule="caller/user-role", field="user_role"
    )
