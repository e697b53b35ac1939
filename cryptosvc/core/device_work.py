"""How a work on device keys goes, step by step: what the service does by these rules, a replay of the log holds it to.

A step changes the work's record and, where rows changed, the device store's record, in this order. A work that is done, or
that nobody approved, changes nothing.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from cryptosvc.core.device_records import DeviceStoreRecord, DeviceWorkRecord, WorkKind, WorkState
from cryptosvc.core.errors import Corrupt, WrongState

CLAUSE = "G5.13(b)"

ROWS_FOR_EACH: Mapping[WorkKind, int] = MappingProxyType(
    {
        WorkKind.IMPORT: 1,
        WorkKind.ROTATE: 1,
        WorkKind.RE_WRAP: 0,
        WorkKind.DESTROY: -1,
        WorkKind.RECEIVE: 1,
        WorkKind.RELEASE: -1,
    }
)
"""By how many the rows of the store change for each that a work of the kind accepts."""

_COUNTED = frozenset({WorkKind.IMPORT, WorkKind.RECEIVE, WorkKind.RELEASE})
"""Kinds whose approval says how many rows there are."""
_MAY_FOLLOW = frozenset(
    {
        (WorkState.APPROVED, WorkState.UNDER_WAY),
        (WorkState.APPROVED, WorkState.DONE),
        (WorkState.UNDER_WAY, WorkState.UNDER_WAY),
        (WorkState.UNDER_WAY, WorkState.DONE),
    }
)


def require_open(work: DeviceWorkRecord, kind: WorkKind) -> None:
    """Require that a work is of a kind and not over; WrongState otherwise."""
    if work.kind is not kind:
        raise WrongState(
            f"work {work.work_id} was approved to {work.kind}, not to {kind}",
            rule="device-work/kind",
            clause=CLAUSE,
            field="work",
        )
    if work.state is WorkState.DONE:
        raise WrongState(
            f"work {work.work_id} is done; propose another",
            rule="device-work/done",
            clause=CLAUSE,
            field="work",
        )


def stepped(
    work: DeviceWorkRecord,
    *,
    position: int,
    accepted: int,
    facts: Mapping[str, str] | None = None,
    done: bool = False,
) -> DeviceWorkRecord:
    """The work's record after one more step.

    Args:
        work: as it is.
        position: as it is then.
        accepted: as it is then.
        facts: to be added.
        done: the work is over.

    """
    return replace(
        work,
        version=work.version + 1,
        state=WorkState.DONE if done else WorkState.UNDER_WAY,
        position=position,
        accepted=accepted,
        facts=tuple(sorted((dict(work.facts) | dict(facts or {})).items())),
    )


def require_step(before: DeviceWorkRecord, after: DeviceWorkRecord) -> None:
    """Require that one version of a work may follow another; Corrupt otherwise."""
    same = replace(
        after,
        version=before.version,
        state=before.state,
        position=before.position,
        accepted=before.accepted,
        facts=before.facts,
    )
    bounded = after.kind not in _COUNTED or after.position <= after.keys
    for what, holds in (
        ("it changes what was approved", same == before),
        ("it does not go that way", (before.state, after.state) in _MAY_FOLLOW),
        ("it goes back", after.position >= before.position and after.accepted >= before.accepted),
        ("it does more than was approved", bounded and after.accepted <= after.position),
        ("it forgets what it found", set(dict(before.facts)) <= set(dict(after.facts))),
    ):
        if not holds:
            raise _refused(what)


def require_store_step(
    work: DeviceWorkRecord, accepted: int, before: DeviceStoreRecord | None, after: DeviceStoreRecord
) -> None:
    """Require that a work may have led from one record of the device store to the next.

    Args:
        work: as it is after the step.
        accepted: how many more it accepted in this step.
        before: None where there was none.
        after: the next.

    Raises:
        Corrupt: it may not.

    """
    keys = 0 if before is None else before.keys
    versions = 0 if before is None else before.version
    needed = {} if before is None else dict(before.needed)
    for what, holds in (
        ("its version is not one on", after.version == versions + 1),
        ("it is of another system", after.system == work.system),
        (
            "it has more or fewer keys than the work accounts for",
            after.keys == keys + ROWS_FOR_EACH[work.kind] * accepted,
        ),
        ("its keys need others than there are", sum(count for _, count in after.needed) == 2 * after.keys),
        (
            "more keys are left under the epoch that is being left",
            work.kind is not WorkKind.RE_WRAP
            or dict(after.needed).get(work.subject, 0) <= needed.get(work.subject, 0),
        ),
    ):
        if not holds:
            raise _refused(what)


class Steps:
    """The steps of a log, in its order: a work's own record first, then that of the device store."""

    def __init__(self) -> None:
        self._accepted: dict[str, int] = {}

    def require(self, reference: str, work: object, before: object, record: object) -> None:
        """Require that a change made on behalf of a work is a step of it.

        Args:
            reference: the work's id, as the leaf names it.
            work: its record before the change, or what is there instead.
            before: the changed record as it was.
            record: as it is now.

        Raises:
            Corrupt: it is none.

        """
        if not isinstance(work, DeviceWorkRecord):
            raise _refused("the work it names was not approved before it")
        if isinstance(record, DeviceWorkRecord) and record.work_id == reference:
            require_step(work, record)
            self._accepted[reference] = record.accepted - work.accepted
            return
        accepted = self._accepted.pop(reference, None)
        if not isinstance(record, DeviceStoreRecord) or accepted is None:
            raise _refused("no such record follows there")
        require_store_step(work, accepted, before if isinstance(before, DeviceStoreRecord) else None, record)


def _refused(what: str) -> Corrupt:
    return Corrupt(f"a step of a work on device keys is none: {what}", rule="device-work/step", clause=CLAUSE)
