"""Wrapping for another system in a process of its own: see `transfer_token.py` for why.

The process is spawned, never forked (hazard 5), does one export, and ends. Its arguments and its answer cross a pipe;
PINs do not: each process reads them where they are kept.
"""

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from cryptosvc.adapters.hsm.assurance import ModuleConfig
from cryptosvc.adapters.hsm.pins import PinFile
from cryptosvc.adapters.hsm.transfer_token import TransferToken
from cryptosvc.core.errors import CryptosvcError, Unavailable
from cryptosvc.core.handover.cargo import Wrapped
from cryptosvc.core.registry import KeyRecord
from cryptosvc.core.transfer.mechanism import OaepHash

_Said = tuple[type[CryptosvcError], dict[str, Any]]


def export(
    config: ModuleConfig,
    lock_folder: Path,
    keys: Sequence[KeyRecord],
    transport: bytes,
    oaep_hash: OaepHash,
    so_pin_file: Path | None,
    transfer_id: str = "",
) -> Wrapped:
    """As `TransferToken.export`, in a process of its own.

    Raises:
        Unavailable: the process died; nothing it made outlives it.
        CryptosvcError: as `TransferToken.export`.

    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as pool:
        work = pool.submit(_export, config, lock_folder, keys, transport, oaep_hash, so_pin_file, transfer_id)
        try:
            answer = work.result()
        except BrokenProcessPool:
            raise Unavailable(
                "the process that wraps the keys died; nothing it made is left, ask again",
                rule="transfer/process-died",
            ) from None
    if isinstance(answer, Wrapped):
        return answer
    kind, said = answer
    raise kind(**said)


def _export(
    config: ModuleConfig,
    lock_folder: Path,
    keys: Sequence[KeyRecord],
    transport: bytes,
    oaep_hash: OaepHash,
    so_pin_file: Path | None,
    transfer_id: str,
) -> Wrapped | _Said:
    """In the other process. An error crosses the pipe as what it is made of, so that it arrives whole."""
    try:
        with TransferToken(config, lock_folder) as token:
            so_pin = None if so_pin_file is None else PinFile(so_pin_file)
            return token.export(keys, transport, oaep_hash, so_pin, transfer_id)
    except CryptosvcError as error:
        said = {"message": error.message, "rule": error.rule, "clause": error.clause, "field": error.field}
        return type(error), said
