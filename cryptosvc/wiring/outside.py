"""Places outside for checkpoints, put together from the configuration; and logs held to them."""

from collections.abc import Sequence
from pathlib import Path

from cryptosvc.adapters.export import entries_of, read_head
from cryptosvc.adapters.outside import AppendedFile, SyslogPlace, read_place
from cryptosvc.adapters.receivers import Syslog
from cryptosvc.adapters.watch_state import StateFile
from cryptosvc.cli.actions import Document
from cryptosvc.config.duties import OutsideSettings
from cryptosvc.config.settings import Settings
from cryptosvc.core.outside import require_of
from cryptosvc.flow.observe import Observer
from cryptosvc.flow.outside import Place, Publisher
from cryptosvc.wiring import stores

EVERY_SECONDS = 1.0


def publisher(settings: Settings, store: stores.Opened, observer: Observer) -> Publisher | None:
    """Put the use case together; None where no place is configured."""
    if not settings.outside:
        return None
    return Publisher(store.ledger, observer, {one.name: _place(settings, one) for one in settings.outside})


def _place(settings: Settings, one: OutsideSettings) -> Place:
    if one.file is not None:
        return AppendedFile(one.file, StateFile(stores.lock_folder(settings) / f"outside-{one.name}.octets"))
    host, _, port = (one.syslog or "").rpartition(":")
    return SyslogPlace(
        Syslog(
            host.strip("[]"),
            int(port),
            one.transport.value,
            lambda _alarm, _leaf: b"",
            one.seconds,
            one.authority,
        )
    )


def require_held(export: Path, key: bytes, places: Sequence[Path]) -> list[Document]:
    """Hold an export, which was verified, to what was put outside; raises as `require_of`."""
    origin = read_head(export).origin
    found: list[Document] = []
    for place in places:
        held = require_of(read_place(place), origin, key, (entry for entry, _ in entries_of(export)))
        found.append({"place": str(place), "checkpoints": held.checkpoints, "largest": held.largest})
    return found
