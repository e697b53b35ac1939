"""Two nodes on one PostgreSQL are asked for two different MACs under one tuple, at the same time and again: one gets it."""

import asyncio
from pathlib import Path

from cryptosvc.core.case import Request
from cryptosvc.core.content.base import Statement
from cryptosvc.core.content.gbcs import dlms, framing, mac
from cryptosvc.core.errors import Conflict
from cryptosvc.core.names import ContentForm, RequestId
from cryptosvc.flow.sign import NotSigned, Signed
from tests.mac_corridor import BROKER_OCTETS, IN_FORCE, KEY, Walk, broker_record, parties_of, policy_set
from tests.mac_keys import certificate, private
from tests.postgres import PostgresServer
from tests.store_stand import SetClock, new_database, open_stand

SUPPLIER = bytes.fromhex("90b3d51f30010000")
METER = bytes.fromhex("00db1234567890a0")
TUPLES = 40


def reading(folder: Path, counter: int, attribute: int, name: str) -> Request:
    """ECS52, read firmware version, under a counter; another attribute makes it another message."""
    item = (dlms.spec(dlms.GET, 1, "0-0:0.2.1.255", attribute), dlms.NULL)
    message = framing.build(
        code=0x0059,
        originator=SUPPLIER,
        target=METER,
        counter=counter,
        payload=dlms.emit(counter.to_bytes(8), [item]),
    )
    return Request(
        request_id=RequestId(name),
        key_id=KEY,
        form=ContentForm.GBCS_COMMAND,
        payload=message,
        statement=Statement(service_reference_variant="11.2"),
        device_certificate=certificate(folder, METER),
    )


async def test_of_two_messages_under_one_tuple_one_gets_its_mac_whoever_asks(
    gbcs_data: Path, tmp_path: Path, postgres_server: PostgresServer
) -> None:
    url = new_database(postgres_server.make_database())
    clock = SetClock(IN_FORCE)
    policy, parties, key = policy_set(), parties_of(gbcs_data), private(gbcs_data, BROKER_OCTETS)
    one = await open_stand(url, tmp_path, first=True, clock=clock, worker="node-1")
    two = await open_stand(url, tmp_path, clock=clock, worker="node-2")
    try:
        walks = [Walk(stand, policy, key, parties) for stand in (one, two)]
        await one.keys.change([broker_record(gbcs_data), walks[0].caller])

        async def ask(walk: Walk, attribute: int, turn: str) -> list[Signed | NotSigned]:
            answers = await asyncio.gather(
                *(
                    walk.apply([reading(gbcs_data, counter, attribute, f"{turn}-{attribute}-{counter}")])
                    for counter in range(1000, 1000 + TUPLES)
                )
            )
            return [answer for (answer,) in answers]

        first, second = await asyncio.gather(ask(walks[0], 2, "race"), ask(walks[1], 3, "race"))
        for mine, theirs in zip(first, second, strict=True):
            assert isinstance(mine, Signed) is not isinstance(theirs, Signed)
            refused = theirs if isinstance(mine, Signed) else mine
            assert isinstance(refused, NotSigned)
            assert isinstance(refused.error, Conflict)
            assert (refused.error.rule, refused.error.clause) == ("once/gbcs-mac", "G2.44(b)")
        # and for ever: whoever lost is refused by either node, whoever won gets the same answer from the other one
        for walk in walks:
            for attribute, before in ((2, first), (3, second)):
                again = await ask(walk, attribute, f"again-{walks.index(walk)}")
                for earlier, later in zip(before, again, strict=True):
                    assert isinstance(later, Signed) is isinstance(earlier, Signed)
                    if isinstance(earlier, Signed) and isinstance(later, Signed):
                        assert later.checked.artefact == earlier.checked.artefact
        made = [answer for answer in (*first, *second) if isinstance(answer, Signed)]
        assert len({mac.read_back(answer.checked.artefact, 65_535).agreement for answer in made}) == TUPLES
    finally:
        await two.ledger.close()
        await one.ledger.close()
