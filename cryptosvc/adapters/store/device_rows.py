"""Device keys as rows: the statements, and how a row is believed."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeVar, cast

from cryptosvc.adapters.store.session import Row, Session, Value
from cryptosvc.core import device_tree
from cryptosvc.core.device_keys import DeviceKey, DeviceKeyName, RowState
from cryptosvc.core.errors import Malformed
from cryptosvc.core.names import Eui64, KeyId, SystemName
from cryptosvc.core.registry_tree import NodeName

_COLUMNS = "device, kind, version, state, system, manufacturer, model, firmware, wrapping, binding, check_value, blob, work, tag"
_MARKS = ", ".join("?" * len(_COLUMNS.split(", ")))
_AT_ONCE = 500
_Value = TypeVar("_Value")


def of_devices(session: Session, devices: Collection[Eui64]) -> list[DeviceKey]:
    """Every row of these Devices, by device, kind and version. Corrupt: a row is none."""
    found: list[DeviceKey] = []
    for some in _parts(sorted({one.octets for one in devices})):
        sql = f"SELECT {_COLUMNS} FROM device_key WHERE device IN ({_marks(some)}) ORDER BY device, kind, version"  # noqa: S608  # constants and marks
        found += map(_read, session.rows(sql, *some))
    return found


def page(session: Session, after: bytes, at_most: int) -> list[DeviceKey]:
    """Rows of at least one Device beyond `after`, whole Devices, in their order; none at the end."""
    sql = f"SELECT {_COLUMNS} FROM device_key WHERE device > ? ORDER BY device, kind, version LIMIT ?"  # noqa: S608  # constants
    found = [_read(row) for row in session.rows(sql, after, at_most + 1)]
    if len(found) <= at_most:
        return found
    cut = [row for row in found if row.device != found[-1].device]
    return cut or of_devices(session, [found[0].device])


def put(session: Session, device_keys: Sequence[DeviceKey]) -> None:
    """Insert rows."""
    session.run_many(
        f"INSERT INTO device_key ({_COLUMNS}) VALUES ({_MARKS})",  # noqa: S608  # constants
        [_values(row) for row in device_keys],
    )


def remove(session: Session, names: Sequence[DeviceKeyName]) -> None:
    """Delete rows; each name has its version."""
    session.run_many(
        "DELETE FROM device_key WHERE device = ? AND kind = ? AND version = ?",
        [(name.device.octets, name.kind, name.version) for name in names],
    )


def buckets(session: Session, numbers: Collection[int]) -> dict[int, bytes]:
    """Octets of these buckets; one that is not there is empty."""
    found: dict[int, bytes] = {}
    for some in _parts(sorted(numbers)):
        found |= dict.fromkeys(some, b"")
        sql = f"SELECT bucket, members FROM device_bucket WHERE bucket IN ({_marks(some)})"  # noqa: S608  # marks
        found |= cast("dict[int, bytes]", dict(cast("list[tuple[int, bytes]]", session.rows(sql, *some))))
    return found


def put_buckets(session: Session, changed: Mapping[int, bytes]) -> None:
    """Insert or replace buckets."""
    session.run_many(
        "INSERT INTO device_bucket (bucket, members) VALUES (?, ?) "
        "ON CONFLICT (bucket) DO UPDATE SET members = excluded.members",
        list(changed.items()),
    )


def nodes(session: Session, names: Collection[NodeName]) -> dict[NodeName, bytes]:
    """Those of these nodes that are there."""
    by_id = {level << 32 | index: (level, index) for level, index in names}
    found: dict[NodeName, bytes] = {}
    for some in _parts(sorted(by_id)):
        sql = f"SELECT node_id, children FROM device_node WHERE node_id IN ({_marks(some)})"  # noqa: S608  # marks
        found |= {
            by_id[node_id]: children
            for node_id, children in cast("list[tuple[int, bytes]]", session.rows(sql, *some))
        }
    return found


def put_nodes(session: Session, changed: Mapping[NodeName, bytes]) -> None:
    """Insert or replace nodes."""
    session.run_many(
        "INSERT INTO device_node (node_id, children) VALUES (?, ?) "
        "ON CONFLICT (node_id) DO UPDATE SET children = excluded.children",
        [(level << 32 | index, children) for (level, index), children in changed.items()],
    )


def verified(session: Session, root: bytes, devices: Collection[Eui64]) -> dict[Eui64, list[DeviceKey]]:
    """Every row of these Devices, none hidden; Corrupt where they are not those the root vouches for."""
    numbers = {device: device_tree.bucket_of(device) for device in devices}
    octets = buckets(session, set(numbers.values()))
    above = nodes(session, device_tree.names_above(octets))
    for number, found in octets.items():
        device_tree.require_bucket(number, found, above, root)
    rows: dict[Eui64, list[DeviceKey]] = {device: [] for device in devices}
    for row in of_devices(session, devices):
        rows[row.device].append(row)
    for device, mine in rows.items():
        device_tree.require_rows(device, mine, octets[numbers[device]])
    return rows


def _read(row: Row) -> DeviceKey:
    (
        device,
        kind,
        version,
        state,
        system,
        manufacturer,
        model,
        firmware,
        wrapping,
        binding,
        check,
        blob,
        work,
        tag,
    ) = row
    try:
        return DeviceKey(
            device=Eui64(cast("bytes", device)),
            kind=cast("str", kind),
            version=cast("int", version),
            state=RowState(cast("str", state)),
            system=SystemName(cast("str", system)),
            manufacturer=cast("str", manufacturer),
            model=cast("str", model),
            firmware=cast("str", firmware),
            wrapping=KeyId(cast("str", wrapping)),
            binding=KeyId(cast("str", binding)),
            check_value=cast("bytes", check),
            blob=cast("bytes", blob),
            work=cast("str", work),
            tag=cast("bytes", tag),
        )
    except (ValueError, Malformed):
        raise device_tree.edited() from None


def _values(row: DeviceKey) -> tuple[Value, ...]:
    return (
        row.device.octets,
        row.kind,
        row.version,
        row.state.value,
        row.system,
        row.manufacturer,
        row.model,
        row.firmware,
        row.wrapping,
        row.binding,
        row.check_value,
        row.blob,
        row.work,
        row.tag,
    )


def _marks(some: Collection[object]) -> str:
    return ", ".join("?" * len(some))


def _parts(values: Sequence[_Value]) -> Iterator[list[_Value]]:
    rest = iter(values)
    while some := list(islice(rest, _AT_ONCE)):
        yield some
