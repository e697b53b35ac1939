"""What claims of keys took, without a store."""

from collections.abc import Collection, Mapping

from cryptosvc.core.errors import Conflict
from cryptosvc.core.handover.claimed import Claimed
from cryptosvc.core.names import KeyId

NOTHING = Claimed(once=(), rising=(), used=0)


class FakePromises:
    """Implements `flow.transfer.Promises`; what a key is to have been used for a test puts into `taken`."""

    def __init__(self) -> None:
        self.taken: dict[KeyId, Claimed] = {}

    async def of_keys(self, key_ids: Collection[KeyId]) -> Mapping[KeyId, Claimed]:
        return {key_id: self.taken.get(key_id, NOTHING) for key_id in key_ids}

    async def take(self, key_id: KeyId, found: Claimed) -> None:
        mine = self.taken.get(key_id, NOTHING)
        once = dict(mine.once)
        if any(once.get(fingerprint, digest) != digest for fingerprint, digest in found.once):
            raise Conflict("taken for other bytes", rule="transfer/claims", clause="G2.22G")
        rising = dict(mine.rising)
        for scope, number in found.rising:
            rising[scope] = max(number, rising.get(scope, 0))
        self.taken[key_id] = Claimed(
            once=tuple(sorted((once | dict(found.once)).items())),
            rising=tuple(sorted(rising.items())),
            used=max(mine.used, found.used),
        )
