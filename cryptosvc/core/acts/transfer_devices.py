"""Device keys of SMETS1 Devices in a transfer: they move with the storage keys they are wrapped under, all of them together.

What is wrapped under the transport key are the storage keys; the rows stay as they are. From the export on the storage keys
are in transfer, so no row opens; the store takes no change of rows then. Once the receipt is there the storage keys are
destroyed and a work removes the rows. Where they arrive another work takes them in, row by row bound anew to the system
that has them now.

Source: Smart Energy Code G2.22G, G2.22I, G2.44(c), (e), G5.13(b).
"""

from cryptosvc.core.acts.base import Turn
from cryptosvc.core.device_keys import STORAGE_BINDING, STORAGE_WRAPPING
from cryptosvc.core.device_records import (
    DEVICE_STORE,
    DeviceStoreRecord,
    DeviceWorkRecord,
    WorkKind,
    WorkState,
)
from cryptosvc.core.errors import Conflict, Forbidden
from cryptosvc.core.handover.notices import Package
from cryptosvc.core.names import SystemName
from cryptosvc.core.registry import Record
from cryptosvc.core.statement import Statement
from cryptosvc.core.transfer.papers import DESTROY, Plan
from cryptosvc.core.transfer.record import TransferRecord

STORE = ("device-store-record", DEVICE_STORE)
STORAGE_CLASSES = frozenset({STORAGE_WRAPPING, STORAGE_BINDING})
_FACT = "devices"
_CLAUSE = "G2.22G"


def work_id(transfer_id: str, kind: WorkKind) -> str:
    """Id of the work on device keys that follows from a transfer."""
    return f"{kind.value}-{transfer_id}"


def work_name(statement: Statement, kind: WorkKind) -> tuple[str, str]:
    """Kind and id of the record of that work."""
    return ("device-work-record", work_id(statement.subject, kind))


def storage_keys(plan: Plan, key_class: str) -> frozenset[str]:
    """Ids of the storage keys of a class that a plan moves."""
    return frozenset(one.key_id for one in plan.keys if one.key_class == key_class)


def require_destroyed_at_source(plan: Plan) -> None:
    """Require that storage keys are destroyed once they have moved: a deactivated one would still open rows.

    Raises:
        Forbidden: `transfer/devices`.

    """
    if plan.disposition != DESTROY and any(one.key_class in STORAGE_CLASSES for one in plan.keys):
        raise _refused(
            "storage keys that moved are destroyed: a deactivated one would still open device keys"
        )


def require_whole(plan: Plan, store: Record | None) -> tuple[tuple[str, str], ...]:
    """Require that every storage key that device keys are under moves with them; what the record keeps of the store.

    Raises:
        Forbidden: `transfer/devices`.

    """
    require_destroyed_at_source(plan)
    moving = storage_keys(plan, STORAGE_WRAPPING) | storage_keys(plan, STORAGE_BINDING)
    if not isinstance(store, DeviceStoreRecord) or not moving or not store.keys:
        return ()
    left = sorted(name for name, _ in store.needed if name not in moving)
    if left:
        raise _refused(
            f"device keys move all together, and some need {', '.join(left)}, which this plan does not move: re-wrap what "
            "is under another epoch first"
        )
    return ((_FACT, f"{store.version}:{store.keys}:{store.root.hex()}"),)


def rows_of(found: TransferRecord) -> int:
    """Device keys that an exported transfer moves."""
    return int(dict(found.facts).get(_FACT, "0:0:").split(":")[1])


def root_of(found: TransferRecord) -> bytes:
    """Root over them, as the store's record had it at the export; empty where none move."""
    return bytes.fromhex(dict(found.facts).get(_FACT, "0:0:").split(":")[2])


def received(turn: Turn, package: Package) -> tuple[DeviceWorkRecord, ...]:
    """The work that takes in the rows of a package; none where it has none."""
    freight = package.freight
    if freight is None:
        return ()
    storage = [one for one in package.keys if one.record.key_class in STORAGE_CLASSES]
    if not freight.rows or not storage:
        raise _refused("a package that has device keys has the storage keys they are under")
    return (_work(turn, WorkKind.RECEIVE, freight.last, freight.rows),)


def released(turn: Turn, found: TransferRecord) -> tuple[DeviceWorkRecord, ...]:
    """The work that removes the rows a transfer took away; none where it took none."""
    rows = rows_of(found)
    return (_work(turn, WorkKind.RELEASE, found.transfer_id, rows),) if rows else ()


def _work(turn: Turn, kind: WorkKind, subject: str, rows: int) -> DeviceWorkRecord:
    statement = turn.statement
    if work_name(statement, kind) in turn.records:
        raise Conflict(
            f"there is a work {work_id(statement.subject, kind)} already",
            rule="device-work/exists",
            clause=_CLAUSE,
        )
    return DeviceWorkRecord(
        work_id=work_id(statement.subject, kind),
        version=1,
        state=WorkState.APPROVED,
        system=SystemName(statement.system),
        kind=kind,
        subject=subject,
        keys=rows,
    )


def _refused(what: str) -> Forbidden:
    return Forbidden(what, rule="transfer/devices", clause=_CLAUSE)
