"""Device keys that are objects just now: those of one session, the least recently used destroyed first.

Of one session, and so of one thread: a handle that another thread may free could be given out again by the module, and a
key of another Device would be used without an error. Objects go with their session; here they are only forgotten.
"""

from collections import OrderedDict
from collections.abc import Collection

from cryptosvc.adapters.hsm.cryptoki import Functions
from cryptosvc.adapters.hsm.sealing import Sealer
from cryptosvc.core.device_keys import DeviceKey, SealedKeyRecord, require_opens
from cryptosvc.core.registry import KeyRecord


class OpenedKeys:
    """The cache of one session.

    Args:
        functions: of the module.
        at_most: objects it holds.

    """

    def __init__(self, functions: Functions, at_most: int) -> None:
        self._functions = functions
        self._at_most = at_most
        self._sealer: Sealer | None = None
        self._opening: tuple[int, Collection[int]] | None = None
        self._open: OrderedDict[tuple[str, int], tuple[DeviceKey, int]] = OrderedDict()
        self.unwrapped = 0
        """How often a key had to be unwrapped."""

    def begin(self, session: int, advertised: Collection[int]) -> None:
        """A session was opened; nothing is held in it yet."""
        self._open.clear()
        self._sealer, self._opening = None, (session, advertised)

    def handle(self, key: SealedKeyRecord) -> int:
        """Handle of a device key, unwrapped where it is not an object yet.

        Raises:
            WrongState: its storage keys are suspended or worse.
            Corrupt: its octets are not bound to its row.
            CryptokiError: the module failed.

        """
        require_opens(key)
        name = (str(key.row.name), key.row.version)
        known = self._open.get(name)
        if known is not None and known[0] == key.row:
            self._open.move_to_end(name)
            return known[1]
        sealer = self._sealing()
        if known is not None:
            del self._open[name]
            sealer.destroy(known[1])
        handle = sealer.open(key)
        self.unwrapped += 1
        self._open[name] = (key.row, handle)
        if len(self._open) > self._at_most:
            _, (_, oldest) = self._open.popitem(last=False)
            sealer.destroy(oldest)
        return handle

    def wrapped(self, master: SealedKeyRecord, key: SealedKeyRecord) -> bytes:
        """A Device's key under its master key, RFC 3394, 24 octets; raises as `handle`."""
        require_opens(key)
        return self._sealing().wrap_for_device(self.handle(master), key)

    def made(self, row: DeviceKey, epoch: KeyRecord, binding: KeyRecord) -> DeviceKey:
        """Have the module make a key, and seal it for this row."""
        return self._sealing().generate(row, epoch, binding)

    def read_into(self, key: SealedKeyRecord, address: int) -> None:
        """Write the value of a device key, 16 octets, where the caller overwrites it; raises as `handle`."""
        require_opens(key)
        self._sealing().read_into(key, address)

    def forget(self) -> None:
        """Destroy every object, and find the storage keys anew; the session is still there."""
        if self._sealer is not None:
            for _, handle in self._open.values():
                self._sealer.destroy(handle)
        self.gone()

    def gone(self) -> None:
        """The session is gone or is about to be closed, and its objects with it."""
        self._open.clear()
        self._sealer = None

    def _sealing(self) -> Sealer:
        if self._sealer is None:
            assert self._opening is not None
            self._sealer = Sealer(self._functions, *self._opening)
        return self._sealer
