"""What a record transaction does: ended work becomes leaves, and claims are closed.

A claim that was swept as outcome unknown while its work still went on (a module that hung past the deadline) is
recorded again, with `after: outcome_unknown` and the index of the earlier leaf, so that a signature that left the
service is always in the log.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never, cast

import orjson

from cryptosvc.adapters.store.claims import OPEN, OpenClaim
from cryptosvc.adapters.store.session import Session
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.check import Checked
from cryptosvc.core.errors import OutcomeUnknown
from cryptosvc.core.merkle import leaf_hash
from cryptosvc.core.opening import Opening
from cryptosvc.core.record import (
    SALT_OCTETS,
    Failed,
    Leaf,
    Observed,
    Refused,
    Scope,
    failed_leaf,
    observed_leaf,
    opening,
    refused_leaf,
    signed_leaf,
)

Ended = Checked | Failed | Refused | Observed


@dataclass(slots=True)
class Prepared:
    """A leaf to append, its hash, and the claim it closes, if any; no item where the sweeper made it."""

    item: Ended | None
    leaf: Leaf
    leaf_hash: bytes
    group: int = 0
    position: int = 0


class Preparer:
    """Makes leaves before any lock is held."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def prepare(self, items: Sequence[Ended], kept: Mapping[str, OpenClaim], salts: bytes) -> list[Prepared]:
        """One leaf for each item; `salts` are 16 fresh random octets for each, joined."""
        prepared: list[Prepared] = []
        for number, item in enumerate(items):
            salt = salts[SALT_OCTETS * number : SALT_OCTETS * (number + 1)]
            match item:
                case Checked() | Failed():
                    claim = item.claim
                    open_claim = kept.get(claim.claim_id)
                    if open_claim is None:  # swept as late, or another worker's
                        leaf = self._ended_leaf(item, {}, salt)
                    elif isinstance(item, Checked):
                        leaf = open_claim.opening.signed(item.digest, item.derivation)
                    else:
                        leaf = open_claim.opening.failed(item.error)
                    group, _, position = claim.claim_id.partition(".")
                    prepared.append(Prepared(item, leaf, leaf_hash(leaf.entry), int(group), int(position)))
                case Refused():
                    leaf = refused_leaf(item, self._scope, salt)
                    prepared.append(Prepared(item, leaf, leaf_hash(leaf.entry)))
                case Observed():
                    leaf = observed_leaf(item, self._scope, salt)
                    prepared.append(Prepared(item, leaf, leaf_hash(leaf.entry)))
                case _:
                    assert_never(item)
        return prepared

    def mark_late(self, prepared: Prepared, earlier: int, salt: bytes) -> None:
        """Say in the leaf that its claim was swept before."""
        item = prepared.item
        assert isinstance(item, Checked | Failed)
        prepared.leaf = self._ended_leaf(item, {"after": "outcome_unknown", "after_leaf": earlier}, salt)
        prepared.leaf_hash = leaf_hash(prepared.leaf.entry)

    def _ended_leaf(self, item: Checked | Failed, more: Mapping[str, JsonValue], salt: bytes) -> Leaf:
        body = {**opening(item.claim.authorised, self._scope), **more}
        withheld = cast("Mapping[str, str]", body.pop("_withheld"))
        if isinstance(item, Checked):
            return signed_leaf(body, withheld, item.digest, salt, item.derivation)
        return failed_leaf(body, withheld, item.error, salt)


class Closing:
    """The claims a group of leaves closes, inside the transaction."""

    def __init__(self, session: Session, groups: Iterable[int]) -> None:
        self._session = session
        wanted = sorted(set(groups) - {0})
        self._slots = {
            group: bytearray(leaves)
            for group, leaves in (session.leaves_for_update(wanted) if wanted else {}).items()
        }

    def earlier(self, group: int, position: int) -> int | None:
        """Leaf that closed this claim already; None while it is open."""
        slot = bytes(self._slots.get(group, b"")[8 * position : 8 * position + 8])
        return None if slot in (OPEN, b"") else int.from_bytes(slot)

    def positions(self, group: int) -> list[int]:
        """Positions of the claims of a group that are open."""
        slots = self._slots.get(group, bytearray())
        return [at // 8 for at in range(0, len(slots), 8) if slots[at : at + 8] == OPEN]

    def close(self, start: int, closed: Sequence[tuple[int, int]]) -> None:
        """Enter leaf indexes `start`, `start + 1`, …; (0, 0) stands for a leaf that closes none."""
        for leaf_index, (group, position) in enumerate(closed, start):
            if group in self._slots:
                self._slots[group][8 * position : 8 * position + 8] = leaf_index.to_bytes(8)

    def write(self) -> None:
        """Write the groups back."""
        for group, slots in self._slots.items():
            self._session.close(group, bytes(slots), finished=not self.positions(group))


def expired_leaf(opening: Opening) -> Leaf:
    """The leaf of a claim nobody closed in time."""
    return opening.failed(OutcomeUnknown("the claim was still open at its deadline", rule="claim/expired"))


def openings(body: bytes) -> list[Opening]:
    """Read what `claims.emit_openings` printed of a group."""
    return [Opening.of_document(document) for document in orjson.loads(body)]
