"""What claims of keys took, out of the store it leaves and into the store it comes to; implements `flow.transfer.Promises`.

Claims are stored in groups, under fingerprints that do not say whose they are; the entry of each claim does. So they are
found by going through all groups: some seconds for a million, once for a transfer, whatever number of keys it moves. What came from another
system stands in groups of its own, each of which begins with a mark of the key, so that it is found again when the key
moves on.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import cast

import orjson

from cryptosvc.adapters.store import taking
from cryptosvc.adapters.store.claims import GROUP, NUMBER_OCTETS, OPEN
from cryptosvc.adapters.store.ledger import Ledger
from cryptosvc.adapters.store.session import Session
from cryptosvc.core.erased import is_alone
from cryptosvc.core.errors import Conflict, Corrupt
from cryptosvc.core.handover.claimed import Claimed
from cryptosvc.core.names import KeyId

SCOPES = ("checkpoint-size", "crl-number")
"""Every scope in which a key's numbers rise; a test holds it to the contents."""

_GROUPS_AT_ONCE = 200
_MARK_DIGEST = bytes(taking.DIGEST_OCTETS)


class MovedClaims:
    """Reads and writes them.

    Args:
        ledger: of the deployment.

    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def of_keys(self, key_ids: Collection[KeyId]) -> Mapping[KeyId, Claimed]:
        """All that claims of keys took here, whether or not they have ended. None may be usable any more.

        Raises:
            Unavailable: the store is out of reach.
            Corrupt: a claim has neither an entry nor an opening.

        """
        return await self._ledger.read(lambda session, _: _of_keys(session, key_ids))

    async def take(self, key_id: KeyId, found: Claimed) -> None:
        """Take the same here, before the key is usable; what was taken by an interrupted attempt stays.

        Raises:
            Conflict: other bytes have one of the fingerprints here.
            Unavailable: the store is out of reach; asked again it goes on.

        """
        for at in range(0, len(found.once), GROUP):
            part = found.once[at : at + GROUP]
            await self._ledger.job(lambda part=part: self._take_once(key_id, part))  # type: ignore[misc]  # its own part
        await self._ledger.job(lambda: self._take_numbers(key_id, found))

    def _take_once(self, key_id: KeyId, part: Sequence[tuple[int, bytes]]) -> None:
        with self._ledger.writer.worker.store.writing() as session:
            there = _taken_here(session, [fingerprint for fingerprint, _ in part])
            for fingerprint, digest in part:
                if there.get(fingerprint, digest) != digest:
                    raise Conflict(
                        f"this system has taken for other bytes what key {key_id} was used for at its source",
                        rule="transfer/claims",
                        clause="G2.22G",
                    )
            new = [one for one in part if one[0] not in there]
            if new:
                mark = (taking.of_moved(key_id), 0, _MARK_DIGEST)
                group = session.open_group(
                    0, b"", taking.emit([mark, *((one, 0, digest) for one, digest in new)])
                )
                session.take(group, [fingerprint for fingerprint, _ in new])

    def _take_numbers(self, key_id: KeyId, claimed: Claimed) -> None:
        wanted = {taking.of_rising(key_id, scope): number for scope, number in claimed.rising}
        if claimed.used:
            wanted[taking.of_usage(key_id)] = claimed.used
        with self._ledger.writer.worker.store.writing() as session:
            for fingerprint, number in wanted.items():
                before = session.rising(fingerprint)
                if before is None or int.from_bytes(before) < number:
                    session.rise(fingerprint, before, number.to_bytes(NUMBER_OCTETS))


def _of_keys(session: Session, key_ids: Collection[KeyId]) -> dict[KeyId, Claimed]:
    once: dict[KeyId, dict[int, bytes]] = {key_id: {} for key_id in key_ids}
    marks = {taking.of_moved(key_id): key_id for key_id in key_ids}
    after = 0
    while groups := _groups(session, after):
        for group, leaves, taken in groups:
            for owners, fingerprint, digest in _of_group(session, marks, group, leaves, taken):
                for key_id in owners:
                    once[key_id][fingerprint] = digest
        after = groups[-1][0]
    return {key_id: _claimed(session, key_id, found) for key_id, found in once.items()}


def _claimed(session: Session, key_id: KeyId, once: Mapping[int, bytes]) -> Claimed:
    numbers = {scope: session.rising(taking.of_rising(key_id, scope)) for scope in SCOPES}
    used = session.rising(taking.of_usage(key_id))
    return Claimed(
        once=tuple(sorted(once.items())),
        rising=tuple((scope, int.from_bytes(found)) for scope, found in numbers.items() if found),
        used=int.from_bytes(used or b""),
    )


def _groups(session: Session, after: int) -> list[tuple[int, bytes, bytes]]:
    found = session.rows(
        "SELECT claim_batch, leaves, taken FROM claim WHERE claim_batch > ? ORDER BY claim_batch LIMIT ?",
        after,
        _GROUPS_AT_ONCE,
    )
    return cast("list[tuple[int, bytes, bytes]]", found)


def _of_group(
    session: Session, marks: Mapping[int, KeyId], group: int, leaves: bytes, taken: bytes
) -> Iterator[tuple[Collection[KeyId], int, bytes]]:
    """Keys, fingerprint and digest of each thing that claims of the keys took in this group, but for request ids.

    Whose a claim was cannot be told any more once its entry is deleted (`core/erased.py`). What it took goes along with every
    key: it keeps a key from nothing but what that very fingerprint stands for.
    """
    items = list(taking.parse(taken))
    if not leaves:
        moved = marks.get(items[0][0]) if items else None
        if moved is not None:
            yield from (((moved,), fingerprint, digest) for fingerprint, _, digest in items[1:])
        return
    mine = _positions(session, frozenset(marks.values()), group, leaves)
    seen: set[int] = set()
    for fingerprint, position, digest in items:
        if position in mine and position in seen:
            yield mine[position], fingerprint, digest
        seen.add(position)  # the first thing a claim takes is its caller's request id


def _positions(
    session: Session, key_ids: frozenset[KeyId], group: int, leaves: bytes
) -> dict[int, Collection[KeyId]]:
    """Positions of the claims of a group that are of these keys, and whose: by their entries, or by their openings while they are open."""
    slots = [leaves[at : at + 8] for at in range(0, len(leaves), 8)]
    closed = {position: int.from_bytes(slot) for position, slot in enumerate(slots) if slot != OPEN}
    entries = session.leaves_of(sorted(set(closed.values()))) if closed else {}
    try:
        keys = {
            position: None if is_alone(entries[leaf][0]) else orjson.loads(entries[leaf][0])["key"]
            for position, leaf in closed.items()
        }
        if len(closed) < len(slots):
            openings = orjson.loads(session.opening(group) or b"")
            keys |= {at: openings[at]["entry"]["key"] for at, slot in enumerate(slots) if slot == OPEN}
    except (KeyError, IndexError, orjson.JSONDecodeError):
        raise Corrupt(
            "a claim has neither an entry nor an opening: the database was edited", rule="log/claim-lost"
        ) from None
    return {
        position: key_ids if name is None else (name,)
        for position, name in keys.items()
        if name is None or name in key_ids
    }


def _taken_here(session: Session, fingerprints: Sequence[int]) -> dict[int, bytes]:
    """Digest of each of these fingerprints that was taken here."""
    found: dict[int, bytes] = {}
    for fingerprint, group in session.taken(fingerprints):
        row = session.group(group)
        if row is not None and (seen := taking.look(row[1], fingerprint)) is not None:
            found[fingerprint] = seen[1]
    return found
