"""One caller's large payloads, read before anyone has asked whether it may: others have their turn in between."""

import asyncio
from dataclasses import replace

import pytest

from cryptosvc.core.content.base import Statement
from cryptosvc.core.names import ContentForm, RequestId
from cryptosvc.flow.sign import LARGE_OCTETS, NotSigned
from tests import corridor


@pytest.mark.parametrize(("octets", "turns"), [(LARGE_OCTETS, 8), (LARGE_OCTETS - 1, 0)])
async def test_a_batch_of_large_payloads_lets_others_go_first(octets: int, turns: int) -> None:
    walk = corridor.Corridor()
    asked = [
        replace(
            corridor.pre_command_request(f"r{n}"),
            request_id=RequestId(f"r{n}"),
            form=ContentForm.TBS_CERT_LIST,
            payload=bytes(octets),
            statement=Statement(),
        )
        for n in range(8)
    ]
    seen = 0

    async def others() -> None:
        nonlocal seen
        while True:
            await asyncio.sleep(0)
            seen += 1

    task = asyncio.create_task(others())
    await asyncio.sleep(0)
    before = seen
    answers = await walk.signer.sign(walk.principal, asked)
    task.cancel()
    assert seen - before == turns
    assert all(isinstance(answer, NotSigned) for answer in answers)
