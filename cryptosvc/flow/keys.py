"""Keys as a caller may see them: those it has a grant for, in its own system, in the state they are in at that moment."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from cryptosvc.core import lifecycle
from cryptosvc.core.case import Principal
from cryptosvc.core.errors import Refusal
from cryptosvc.core.names import KeyId, Operation, UnixNanoseconds
from cryptosvc.core.record import Observed, Refused, shown_key
from cryptosvc.core.registry import KeyRecord
from cryptosvc.flow.gather import granted_key
from cryptosvc.flow.ports import Clock, Keys, KeyView, Ledger

_NOTHING: Mapping[str, str] = MappingProxyType({})


class KeyReader:
    """Lists and shows keys; every read is recorded."""

    def __init__(self, keys: Keys, ledger: Ledger, clock: Clock) -> None:
        self._keys = keys
        self._ledger = ledger
        self._clock = clock

    async def list_keys(self, principal: Principal) -> Sequence[KeyRecord]:
        """Every key the caller has a grant for, sorted by key id."""
        # 1 read
        of_system = await self._keys.keys_of(principal.caller.system)
        view = KeyView(0, {key.key_id: key for key in of_system})
        visible = [key for key in of_system if _visible(principal, key.key_id, view) is None]
        # 2 record
        at = await self._record(principal, {"count": str(len(visible)), "what": "list"})
        return [lifecycle.as_at(key, at) for key in visible]

    async def key(self, principal: Principal, key_id: KeyId) -> KeyRecord:
        """One key; Forbidden where it does not exist or the caller has no grant for it, alike and recorded."""
        # 1 read
        view = await self._keys.keys({key_id})
        refusal = _visible(principal, key_id, view)
        # 2 record
        if refusal is not None:
            instant = self._clock.now()
            refused = Refused(
                error=refusal,
                operation=Operation.READ_KEYS.value,
                at=instant.at,
                time_quality=instant.quality,
                principal=principal,
            )
            await self._ledger.record([refused])
            raise refusal
        shown, withheld = shown_key(key_id)
        at = await self._record(principal, {"key": shown, "what": "show"}, withheld)
        return lifecycle.as_at(view.keys[key_id], at)

    async def _record(
        self, principal: Principal, facts: dict[str, str], withheld: Mapping[str, str] = _NOTHING
    ) -> UnixNanoseconds:
        instant = self._clock.now()
        observed = Observed(
            kind="read",
            operation=Operation.READ_KEYS.value,
            at=instant.at,
            time_quality=instant.quality,
            principal=principal,
            facts=facts,
            withheld=withheld,
        )
        await self._ledger.record([observed])
        return instant.at


_USES = (
    Operation.SIGN,
    Operation.MAC,
    Operation.VERIFY,
    Operation.DECRYPT,
    Operation.ENCRYPT,
    Operation.WRAP,
    Operation.ACCOMPANY,
)
"""What uses a key."""


def _visible(principal: Principal, key_id: KeyId, view: KeyView) -> Refusal | None:
    """Visible is what the caller may use, in its own system; there is no grant to merely look."""
    own = {name: key for name, key in view.keys.items() if key.system == principal.caller.system}
    hidden: Refusal | None = None
    for operation in _USES:
        try:
            granted_key(principal.caller, operation, key_id, KeyView(view.generation, own))
        except Refusal as refusal:
            hidden = refusal
        else:
            return None
    return hidden
