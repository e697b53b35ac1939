"""The greatest numbers that keys have claimed, read and raised by the thousand; implements `flow.freight.Counters`."""

from collections.abc import Mapping, Sequence
from typing import cast

from cryptosvc.adapters.store import taking
from cryptosvc.adapters.store.claims import NUMBER_OCTETS
from cryptosvc.adapters.store.ledger import Ledger
from cryptosvc.adapters.store.session import Session
from cryptosvc.core.names import KeyId

_AT_ONCE = 500


class MovedCounters:
    """Reads and raises them.

    Args:
        ledger: of the deployment.

    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def numbers(self, key_ids: Sequence[KeyId], scope: str) -> Mapping[KeyId, int]:
        """See `flow/freight.py`."""
        wanted = {taking.of_rising(one, scope): one for one in key_ids}

        def look(session: Session, _: object) -> dict[KeyId, int]:
            return {
                wanted[one]: int.from_bytes(found) for one, found in _numbers(session, list(wanted)).items()
            }

        return await self._ledger.read(look)

    async def raise_to(self, numbers: Mapping[KeyId, int], scope: str) -> None:
        """See `flow/freight.py`."""
        if numbers:
            wanted = {taking.of_rising(one, scope): number for one, number in numbers.items()}
            await self._ledger.job(lambda: self._raise(wanted))

    def _raise(self, wanted: Mapping[int, int]) -> None:
        with self._ledger.writer.worker.store.writing() as session:
            there = _numbers(session, list(wanted))
            for fingerprint, number in wanted.items():
                before = there.get(fingerprint)
                if before is None or int.from_bytes(before) < number:
                    session.rise(fingerprint, before, number.to_bytes(NUMBER_OCTETS))


def _numbers(session: Session, fingerprints: Sequence[int]) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for at in range(0, len(fingerprints), _AT_ONCE):
        some = fingerprints[at : at + _AT_ONCE]
        marks = ", ".join("?" * len(some))
        sql = f"SELECT fingerprint, number FROM rising WHERE fingerprint IN ({marks})"  # noqa: S608  # marks
        found |= cast("dict[int, bytes]", dict(cast("list[tuple[int, bytes]]", session.rows(sql, *some))))
    return found
