"""One round of the store thread: what waits to be recorded and what waits to be claimed.

Where the store has one writer at a time (SQLite), a round is one transaction, and so one flush to the disk, for both,
and it is filled only once the write lock is held: while other workers commit, it grows. Records are settled with the
claims, or, where that transaction cannot be made, apart and before them, so that a claim that fails costs nobody the
record of work that is done; unless it failed because the store is corrupt, when nothing more is released.
"""

from collections.abc import Sequence
from typing import Any

from cryptosvc.adapters.store.claims import Wanted
from cryptosvc.adapters.store.faults import Moved
from cryptosvc.adapters.store.groups import Lane, Taken
from cryptosvc.adapters.store.recording import Prepared
from cryptosvc.adapters.store.writer import LogWriter, LookOver
from cryptosvc.core.errors import Corrupt, Refusal
from cryptosvc.core.record import Claim, Receipt
from cryptosvc.flow.ports import Stale


class Rounds:
    """The lanes of claims and records, and how a round of them is served; in the store thread.

    Args:
        writer: writes them.
        look_over: what a claim looks at first.
        at_most: items of each kind in one round.

    """

    def __init__(self, writer: LogWriter, look_over: LookOver, at_most: int) -> None:
        self.records: Lane[Prepared, Receipt] = Lane()
        self.claims: Lane[Wanted, Claim | Refusal | Stale] = Lane()
        self._writer = writer
        self._look_over = look_over
        self._at_most = at_most

    def serve(self) -> Sequence[Taken[Any, Any]]:
        """Take what waits and write it; what is to be delivered."""
        records, claims = Taken(self.records), Taken(self.claims)

        def collect() -> tuple[Sequence[Prepared], Sequence[Wanted]]:
            records.collect(self._at_most)
            claims.collect(self._at_most)
            return records.items, claims.items

        try:
            if self._writer.worker.store.one_writer:
                with self._writer.keeper.trust():
                    receipts, answers = self._writer.together(collect, self._look_over)
                records.answer(receipts)
                claims.answer(answers)
            else:
                (records if self.records.waiting else claims).collect(self._at_most)
                self._apart(records, claims)
        except BaseException as error:  # noqa: BLE001  # whatever it is belongs to the callers
            collect()
            if isinstance(error, Moved) or (
                records.items and claims.items and not isinstance(error, Corrupt)
            ):
                self._apart(records, claims)
            else:
                records.answer(error)
                claims.answer(error)
        return records, claims

    def _apart(
        self, records: Taken[Prepared, Receipt], claims: Taken[Wanted, Claim | Refusal | Stale]
    ) -> None:
        def record(items: Sequence[Prepared]) -> Sequence[Receipt]:
            with self._writer.keeper.trust():
                return self._writer.record(items)

        def claim(items: Sequence[Wanted]) -> Sequence[Claim | Refusal | Stale]:
            with self._writer.keeper.trust():
                return self._writer.claim(items, self._look_over)

        records.serve(record)
        claims.serve(claim)
