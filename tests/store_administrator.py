"""The write side of the registry, from a process of its own: `python -m tests.store_administrator CONFIG ID STATE`.

Changes the state of a key or a caller as a governed act will one day, through the same ledger and registry as the service. Prints one
JSON line: the entry of the change, the newest claim group when it was committed, and the monotonic time by which it was.
"""

import asyncio
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

from cryptosvc.adapters.clock import SystemClock
from cryptosvc.adapters.hsm.hsm import Pkcs11Hsm
from cryptosvc.config.settings import read_settings
from cryptosvc.core.names import KeyId
from cryptosvc.core.registry import CallerState, KeyState, Record
from cryptosvc.wiring import modules, stores, worker


async def change(config: Path, record_id: str, state: str) -> None:
    settings = read_settings(config)
    clock = SystemClock()
    hsm = Pkcs11Hsm(modules.module_configs(settings), clock, stores.lock_folder(settings))
    hsm.start()
    try:
        async with stores.opened(settings, hsm, clock, worker.scope(settings, "administrator")) as store:
            record = (await store.registry.keys({KeyId(record_id)})).keys.get(KeyId(record_id))
            changed: Record
            if record is None:
                (record,) = [one for one in await store.registry.callers() if one.caller_id == record_id]
                changed = replace(record, version=record.version + 1, state=CallerState(state))
            else:
                changed = replace(record, version=record.version + 1, state=KeyState(state))
            print(json.dumps({"ready": record.state.value}), flush=True)
            await asyncio.to_thread(sys.stdin.readline)
            await store.registry.change([changed])
            committed = time.monotonic()
            newest = await store.ledger.read(
                lambda session, _: session.rows("SELECT MAX(claim_batch) FROM claim")[0][0]
            )
            print(json.dumps({"committed": committed, "newest_claim_group": newest}), flush=True)
    finally:
        hsm.close()


if __name__ == "__main__":
    asyncio.run(change(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
