"""The Sealing port: works on device keys, spread over processes that each have a session of their own.

An import is bound by the module, and SoftHSM serves processes better than threads (hazard 2). One process is enough for
single keys; then it is a thread of this one. A process dies with the one that started it.
"""

import asyncio
import ctypes
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import TypeVar

from cryptosvc.adapters.hsm import faults
from cryptosvc.adapters.hsm.assurance import ModuleConfig
from cryptosvc.adapters.hsm.cryptoki import CryptokiError
from cryptosvc.adapters.hsm.provision import Provisioner
from cryptosvc.adapters.hsm.sealing import Sealer
from cryptosvc.core.device_file import Line
from cryptosvc.core.device_keys import DeviceKey, SealedKeyRecord
from cryptosvc.core.errors import Malformed, Refusal, Unavailable
from cryptosvc.core.names import ModuleName
from cryptosvc.core.registry import KeyRecord
from cryptosvc.flow.ports import FileKey

_Answer = TypeVar("_Answer")
_Item = TypeVar("_Item")
_PR_SET_PDEATHSIG = 1
_LEAST = 64
"""Fewer keys than this are not worth another process."""


class Pkcs11Sealing:
    """Seals device keys on the configured modules. `close` at the end.

    Args:
        configs: the modules.
        lock_folder: shared by all processes of the host that use the libraries.
        processes: how many work at a time; 1 is a thread of this process.

    """

    def __init__(self, configs: Sequence[ModuleConfig], lock_folder: Path, processes: int = 1) -> None:
        self._modules = {config.name for config in configs}
        self._processes = processes
        opened = ({config.name: config for config in configs}, lock_folder)
        self._executor: Executor = (
            ThreadPoolExecutor(1, "sealing", initializer=_begin, initargs=(*opened, False))
            if processes == 1
            else ProcessPoolExecutor(processes, get_context("spawn"), _begin, (*opened, True))
        )

    def close(self) -> None:
        """Close every session."""
        if self._processes == 1:
            self._executor.submit(_end).result()
        self._executor.shutdown()

    async def arrive(
        self, file_key: FileKey, lines: Sequence[Line], wrapping: KeyRecord, binding: KeyRecord
    ) -> Sequence[DeviceKey | Refusal]:
        """See `flow/ports.py`."""
        return await self._spread(_arrive, lines, (file_key, wrapping, binding), wrapping)

    async def generate(
        self, rows: Sequence[DeviceKey], wrapping: KeyRecord, binding: KeyRecord
    ) -> Sequence[DeviceKey]:
        """See `flow/ports.py`."""
        return await self._spread(_generate, rows, (wrapping, binding), wrapping)

    async def re_wrap(
        self, keys: Sequence[SealedKeyRecord], wrapping: KeyRecord, binding: KeyRecord
    ) -> Sequence[DeviceKey | Refusal]:
        """See `flow/ports.py`."""
        for key in keys:
            if key.module != wrapping.module:
                raise Malformed(
                    "epochs on two modules: a key is wrapped anew in the module that opens it",
                    rule="device-key/other-module",
                )
        return await self._spread(_re_wrap, keys, (wrapping, binding), wrapping)

    async def bind_anew(
        self, rows: Sequence[tuple[DeviceKey, DeviceKey]], binding: KeyRecord
    ) -> Sequence[DeviceKey | Refusal]:
        """See `flow/freight.py`."""
        return await self._spread(_bind_anew, rows, (binding,), binding)

    async def _spread(
        self,
        work: Callable[..., list[_Answer]],
        items: Sequence[_Item],
        about: tuple[object, ...],
        key: KeyRecord,
    ) -> list[_Answer]:
        """Cut items into a part for each process."""
        if key.module not in self._modules:
            raise Malformed(
                f"there is no module {key.module!r} in the configuration", rule="hsm/unknown-module"
            )
        size = max(_LEAST, -(-len(items) // self._processes))
        loop = asyncio.get_running_loop()
        try:
            parts = await asyncio.gather(
                *(
                    loop.run_in_executor(self._executor, work, key.module, items[at : at + size], *about)
                    for at in range(0, len(items), size)
                )
            )
        except BrokenProcessPool:
            raise Unavailable(
                "a process that seals device keys died; go on with the work", rule="hsm/sealing"
            ) from None
        return [answer for part in parts for answer in part]


class _Room:
    """What one thread of execution holds: tokens it opened, and file keys it unwrapped."""

    def __init__(self, configs: Mapping[ModuleName, ModuleConfig], lock_folder: Path) -> None:
        self._configs = configs
        self._lock_folder = lock_folder
        self._open: dict[ModuleName, tuple[Provisioner, Sealer]] = {}
        self._file_keys: dict[bytes, int] = {}

    def sealer(self, module: ModuleName) -> Sealer:
        if module not in self._open:
            token = Provisioner(self._configs[module], self._lock_folder)
            token.__enter__()
            self._open[module] = (token, Sealer(*token.session_of_its_own()))
        return self._open[module][1]

    def file_key(self, sealer: Sealer, key: FileKey) -> int:
        if key.wrapped not in self._file_keys:
            self._file_keys[key.wrapped] = sealer.open_file_key(key.transport, key.wrapped, key.oaep)
        return self._file_keys[key.wrapped]

    def close(self) -> None:
        for token, _ in self._open.values():
            token.__exit__(None, None, None)
        self._open.clear()
        self._file_keys.clear()


_here = threading.local()


def _begin(configs: Mapping[ModuleName, ModuleConfig], lock_folder: Path, alone: bool) -> None:  # noqa: FBT001 - an initializer has no keywords
    if alone:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        parent = parent_process()
        if parent is None or os.getppid() != parent.pid:  # it died while this process began: nobody will tell
            os._exit(1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it stops it
    _here.room = _Room(configs, lock_folder)


def _end() -> None:
    _here.room.close()


def _with(module: ModuleName, doing: Callable[[_Room, Sealer], list[_Answer]]) -> list[_Answer]:
    """Do one part of a work; a session that failed is opened anew for the next."""
    room: _Room = _here.room
    try:
        return doing(room, room.sealer(module))
    except CryptokiError as error:
        room.close()
        raise faults.translated(module, error, doing="sealing device keys") from None


def _arrive(
    module: ModuleName, lines: Sequence[Line], file_key: FileKey, wrapping: KeyRecord, binding: KeyRecord
) -> list[DeviceKey | Refusal]:
    def doing(room: _Room, sealer: Sealer) -> list[DeviceKey | Refusal]:
        handle = room.file_key(sealer, file_key)
        return [sealer.arrive(handle, line, wrapping, binding) for line in lines]

    return _with(module, doing)


def _generate(
    module: ModuleName, rows: Sequence[DeviceKey], wrapping: KeyRecord, binding: KeyRecord
) -> list[DeviceKey]:
    return _with(module, lambda _, sealer: [sealer.generate(row, wrapping, binding) for row in rows])


def _bind_anew(
    module: ModuleName, rows: Sequence[tuple[DeviceKey, DeviceKey]], binding: KeyRecord
) -> list[DeviceKey | Refusal]:
    return _with(module, lambda _, sealer: [sealer.bind_anew(*row, binding) for row in rows])


def _re_wrap(
    module: ModuleName, keys: Sequence[SealedKeyRecord], wrapping: KeyRecord, binding: KeyRecord
) -> list[DeviceKey | Refusal]:
    # whatever state the epoch is in: a compromised one is left with all the more reason
    return _with(module, lambda _, sealer: [sealer.re_wrap(key, wrapping, binding) for key in keys])
