"""Two nodes on one PostgreSQL are asked to protect two requests under one counter of a Device's key, at once and again: one does."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from cryptosvc.adapters.hsm.hsm import Pkcs11Hsm
from cryptosvc.core.device_work import stepped
from cryptosvc.core.errors import Conflict
from cryptosvc.core.names import ContentForm
from cryptosvc.flow.ports import DeviceKeyChange
from cryptosvc.flow.sign import NotSigned, Signed
from tests.device_rows import SYSTEM, WORK
from tests.device_sealing import make_storage
from tests.hsm_fixtures import make_softhsm
from tests.postgres import PostgresServer
from tests.smets1_corridor import GET, KEYS, Smets1Walk, asked, name, sealed_rows
from tests.store_stand import new_database, open_stand

pytestmark = pytest.mark.xdist_group("smets1")
BOTH, ENCRYPTED = ContentForm.DLMS_AUTHENTICATED_ENCRYPTION, ContentForm.DLMS_ENCRYPTION
COUNTERS = range(100, 120)


async def test_of_two_requests_under_one_counter_one_is_protected_whoever_asks(
    tmp_path: Path, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = make_softhsm(tmp_path)
    monkeypatch.setenv("SOFTHSM2_CONF", token.conf)
    storage = make_storage(token)
    rows = sealed_rows(token, storage, KEYS)
    url = new_database(postgres_server.make_database())
    one = await open_stand(url, tmp_path, first=True, worker="node-1")
    two = await open_stand(url, tmp_path, worker="node-2")
    hsm = Pkcs11Hsm([token.config], one.clock, token.locks)
    hsm.start()
    try:
        walks = [Smets1Walk(stand, hsm) for stand in (one, two)]
        storing = [replace(key, system=SYSTEM) for key in (storage.epoch, storage.binding)]
        await one.keys.change([*storing, walks[0].caller, WORK])
        after = stepped(WORK, position=len(rows), accepted=len(rows))
        await walks[0].devices.change(DeviceKeyChange(rows, (), after, await one.keys.generation()))

        async def ask(number: int) -> list[Signed | NotSigned]:
            """Each counter once, one after the other, by another name of the key and for another form at either node."""
            key_id, form = (name("encryption"), BOTH) if number else (name("encryption", 1), ENCRYPTED)
            return [
                (await walks[number].ask([asked(form, GET, counter, key_id=key_id)]))[0]
                for counter in COUNTERS
            ]

        first, second = await asyncio.gather(ask(0), ask(1))
        for mine, theirs in zip(first, second, strict=True):
            # a node that is ahead has taken higher ones by then: never both, and what is refused is refused for that
            assert not (isinstance(mine, Signed) and isinstance(theirs, Signed))
        answers = [*first, *second]
        for refused in (answer for answer in answers if isinstance(answer, NotSigned)):
            assert isinstance(refused.error, Conflict)
            assert refused.error.rule == "rising/dlms-invocation-counter"
        used = [
            int(dict(answer.checked.claim.authorised.case.content.facts)["counter"])
            for answer in answers
            if isinstance(answer, Signed)
        ]
        assert len(set(used)) == len(used)
        assert max(used) == COUNTERS[-1]
        # and for ever, at either node, by any name, whatever is asked
        for number in (0, 1):
            assert all(isinstance(answer, NotSigned) for answer in await ask(number))
            await walks[number].done(asked(BOTH, GET, COUNTERS[-1] + 1 + number))
    finally:
        hsm.close()
        await two.ledger.close()
        await one.ledger.close()
