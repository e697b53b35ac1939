"""A worker process for store tests: `python -m tests.store_worker URL FOLDER WHAT NAME`.

It prints one JSON line when it is ready, waits for a line on standard input, works, and prints its findings.

    race SECONDS       claims until the key is suspended; prints how many, and the time of the last claim's answer
    load SECONDS       claims and records groups of 64; prints commits and the slowest transaction
    die                claims, says so, and waits to be killed
"""

import asyncio
import sys
import time
from pathlib import Path

import orjson

from cryptosvc.adapters.store.ledger import Limits
from cryptosvc.core.record import Claim
from cryptosvc.core.registry import KeyState
from cryptosvc.flow.ports import Stale
from tests.store_stand import KEY, Stand, authorised, checked, once, open_stand


def say(**what: object) -> None:
    sys.stdout.write(orjson.dumps(what).decode() + "\n")
    sys.stdout.flush()


async def race(stand: Stand, name: str, seconds: float) -> None:
    """Claim as the corridor does, for ever one key, until its record says suspended; record what was claimed."""
    claimed: list[str] = []
    until = time.monotonic() + seconds
    number = 0
    while time.monotonic() < until:
        view = await stand.keys.keys([KEY.key_id])
        if view.keys[KEY.key_id].state != KeyState.ACTIVE:
            break
        number += 1
        batch = [
            authorised(
                request_id=f"{name}-{number}-{at}", generation=view.generation, key=view.keys[KEY.key_id]
            )
            for at in range(4)
        ]
        answers = await stand.ledger.claim(batch)
        claims = [one for one in answers if isinstance(one, Claim)]
        assert len(claims) + sum(isinstance(one, Stale) for one in answers) == len(batch)
        if claims:
            await stand.ledger.record([checked(one) for one in claims])
            claimed += [one.authorised.case.request.request_id for one in claims]
    say(claimed=claimed)


async def load(stand: Stand, name: str, seconds: float) -> None:
    """Claim and record without a pause; every answer's wait counts, with the wait for the lock in it."""
    commits, slowest = 0, 0.0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        batch = [
            authorised(request_id=f"{name}-{commits}-{at}", promises=[once(f"{name}/{commits}/{at}")])
            for at in range(64)
        ]
        began = time.monotonic()
        claims = [one for one in await stand.ledger.claim(batch) if isinstance(one, Claim)]
        between = time.monotonic()
        await stand.ledger.record([checked(one) for one in claims])
        slowest = max(slowest, between - began, time.monotonic() - between)
        commits += 2
    say(commits=commits, slowest=slowest)


async def die(stand: Stand) -> None:
    """Leave claims open."""
    claims = await stand.ledger.claim([authorised(request_id=f"left-{at}") for at in range(3)])
    await stand.ledger.record([checked(one) for one in claims[:1] if isinstance(one, Claim)])
    say(claimed=len(claims))
    await asyncio.sleep(60)


async def main(url: str, folder: Path, what: str, name: str) -> None:
    stand = await open_stand(url, folder, worker=name, limits=Limits())
    say(ready=True)
    await asyncio.to_thread(sys.stdin.readline)
    work, _, seconds = what.partition(":")
    match work:
        case "race":
            await race(stand, name, float(seconds))
        case "load":
            await load(stand, name, float(seconds))
        case _:
            await die(stand)
    await stand.ledger.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4]))
