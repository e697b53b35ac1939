"""The Carriage port: keys leave and enter the configured modules. Each call opens the token, does one thing, closes it.

Source: Smart Energy Code G2.22G.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from cryptosvc.adapters.hsm import exporting
from cryptosvc.adapters.hsm.assurance import Assurance, ModuleConfig
from cryptosvc.adapters.hsm.transfer_token import TransferToken
from cryptosvc.adapters.hsm.vault import identity
from cryptosvc.core.errors import Malformed
from cryptosvc.core.handover.cargo import Arrival, Arrived, Transport, Wrapped
from cryptosvc.core.names import ModuleName
from cryptosvc.core.registry import KeyRecord
from cryptosvc.core.transfer.mechanism import OaepHash, Trust

_Answer = TypeVar("_Answer")


class Pkcs11Carriage:
    """Implements `flow.transfer.Carriage`.

    Args:
        configs: the modules.
        lock_folder: shared by all processes of the host that use a library.
        so_pin_file: PIN of the Security Officer, for an export; None where none is needed.

    """

    def __init__(
        self, configs: Sequence[ModuleConfig], lock_folder: Path, so_pin_file: Path | None = None
    ) -> None:
        self._configs = {config.name: config for config in configs}
        self._lock_folder = lock_folder
        self._so_pin_file = so_pin_file

    async def transport(self, module: ModuleName, label: str, object_id: bytes) -> Transport:
        """See `flow/transfer.py`."""
        config = self._config(module)

        def work(token: TransferToken) -> Transport:
            token.destroy(label, object_id)
            public = token.make_transport(label, object_id)
            facts = {
                **identity(token.reported),
                "assurance": _said(config.assurance),
                "assurance_level": str(config.assurance.level),
            }
            return Transport(public, token.hashes(), facts)

        return await self._with(module, work)

    async def measured(self, module: ModuleName) -> tuple[tuple[OaepHash, ...], Trust]:
        """What a module wraps with, and what it holds transferable keys to, as tried now."""
        return await self._with(module, lambda token: (token.hashes(), token.trust()))

    async def wrap(
        self, keys: Sequence[KeyRecord], transport: bytes, oaep_hash: OaepHash, transfer_id: str
    ) -> Wrapped:
        """See `flow/transfer.py`."""
        config = self._config(keys[0].module)
        return await asyncio.to_thread(
            exporting.export,
            config,
            self._lock_folder,
            keys,
            transport,
            oaep_hash,
            self._so_pin_file,
            transfer_id,
        )

    async def receive(
        self,
        place: tuple[ModuleName, str, bytes],
        carrier: bytes,
        oaep_hash: OaepHash,
        arrivals: Sequence[Arrival],
        transfer_id: str,
    ) -> Sequence[Arrived]:
        """See `flow/transfer.py`."""
        module, label, object_id = place
        return await self._with(
            module,
            lambda token: token.receive((label, object_id), carrier, oaep_hash, arrivals, transfer_id),
        )

    async def discard(self, module: ModuleName, label: str, object_id: bytes) -> int:
        """See `flow/transfer.py`."""
        await self._with(module, lambda token: token.destroy(label, object_id))
        # asked again in a new session: what the first one still sees is no evidence
        return int(await self._with(module, lambda token: token.holds(label, object_id)))

    def _config(self, module: ModuleName) -> ModuleConfig:
        config = self._configs.get(module)
        if config is None:
            raise Malformed(
                f"there is no module {module!r} in the configuration",
                rule="hsm/unknown-module",
                field="module",
            )
        return config

    async def _with(self, module: ModuleName, work: Callable[[TransferToken], _Answer]) -> _Answer:
        config = self._config(module)

        def opened() -> _Answer:
            with TransferToken(config, self._lock_folder) as token:
                return work(token)

        return await asyncio.to_thread(opened)


def _said(assurance: Assurance) -> str:
    if not assurance.standard:
        return "none"
    return f"{assurance.standard} level {assurance.level}, certificate {assurance.certificate}"
