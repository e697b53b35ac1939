"""Real GBCS messages through the corridor: real policies, a real store, and the published key of each originator.

What `test_gbcs_rtds` shows of the inspector is shown here of the whole walk: each Pre-Command of the test data comes
back signed and recorded; and those that share originator, target and counter are signed once in each ledger.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path

import orjson
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cryptosvc.adapters.policy import CedarPolicy, load_policy
from cryptosvc.core.case import ModuleFacts, Principal, Request
from cryptosvc.core.content.forms import Profiles
from cryptosvc.core.content.gbcs import codes, precommand
from cryptosvc.core.content.x509.profile import default_profile
from cryptosvc.core.errors import Conflict, Forbidden
from cryptosvc.core.names import ContentForm, Environment, Eui64, KeyId, RequestId
from cryptosvc.core.registry import Grant, KeyRecord
from cryptosvc.core.supply import SupplyProfile
from cryptosvc.flow.gather import Gatherer
from cryptosvc.flow.sign import NotSigned, Signed, Signer
from tests.conftest import REPOSITORY
from tests.corridor import MODULE, SYSTEM, SoftwareHsm, caller_record
from tests.rtds import PROFILE, Message, commands, published, statement, verifies
from tests.store_stand import SetClock, Stand, new_database, open_stand

TOGETHER = 64
IN_FORCE = 1_577_836_800_000_000_000
"""2020-01-01: the published certificates were valid from 2015 to 2025, and out of date a key signs nothing."""
MODULE_FACTS = ModuleFacts(
    name=MODULE, standard="", level=0, certificate="", country="GB", worker_country="GB"
)


@pytest.fixture
def pre_commands(gbcs_data: Path) -> list[Message]:
    """The Pre-Commands, and what is inside the signed Commands."""
    found = [
        message for message in commands(gbcs_data / "rtds") if message.is_pre_command or message.signature
    ]
    assert len(found) > 100
    return found


@pytest.fixture(scope="module")
def policy() -> CedarPolicy:
    folder = REPOSITORY / "policies"
    return load_policy({path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()})


class Walk:
    """The corridor over one store, with every originator's key registered under its EUI-64."""

    def __init__(
        self, stand: Stand, policy: CedarPolicy, keys: dict[KeyId, ec.EllipticCurvePrivateKey]
    ) -> None:
        self.stand = stand
        profiles = Profiles(x509=default_profile(), gbcs=PROFILE, duis=None, log_origin="test/log")
        hsm = SoftwareHsm(MODULE_FACTS, keys)
        gatherer = Gatherer(
            stand.keys, hsm, stand.clock, Environment.TEST, SupplyProfile(sensitive_variants=frozenset())
        )
        self._signer = Signer(gatherer, policy, stand.ledger, hsm, stand.clock, profiles)
        roles = frozenset(role for held in codes.USERS.values() for role in held)
        self.caller = replace(
            caller_record(Grant(operation="sign", key_class="command-signing")),
            user_roles=roles,
            user_ids=frozenset(map(Eui64.parse, keys)),
        )

    async def sign(self, asked: Sequence[tuple[str, Message, str]]) -> list[Signed | NotSigned]:
        """Ask for each (request id, message, key id)."""
        principal = Principal(caller=self.caller, peer="ipv4:127.0.0.1:1")
        rest = iter(asked)
        answers: list[Signed | NotSigned] = []
        while some := list(islice(rest, TOGETHER)):
            answers += await self._signer.sign(
                principal,
                [
                    Request(
                        request_id=RequestId(request_id),
                        key_id=KeyId(key_id),
                        form=ContentForm.GBCS_PRE_COMMAND,
                        payload=message.octets,
                        statement=statement(message),
                    )
                    for request_id, message, key_id in some
                ],
            )
        return answers


def originator(message: Message) -> str:
    return precommand.parse(message.octets, PROFILE).originator


@asynccontextmanager
async def fresh(
    gbcs_data: Path, folder: Path, policy: CedarPolicy, entities: set[str]
) -> AsyncIterator[Walk]:
    """A walk over a store of its own, in which the published keys of these entities are registered."""
    folder.mkdir()
    database = new_database(f"sqlite:///{folder}/store.db")
    stand = await open_stand(database, folder, first=True, clock=SetClock(IN_FORCE))
    try:
        keys: dict[KeyId, ec.EllipticCurvePrivateKey] = {}
        records: list[KeyRecord] = []
        for entity in sorted(entities):
            keys[KeyId(entity)], record = published(gbcs_data, entity)
            certificate = _certificate(gbcs_data, entity)
            records.append(
                replace(record, key_id=KeyId(entity), module=MODULE, system=SYSTEM, certificate=certificate)
            )
        walk = Walk(stand, policy, keys)
        await stand.keys.change([*records, walk.caller])
        yield walk
    finally:
        await stand.ledger.close()


async def test_every_pre_command_comes_back_signed_and_recorded(
    gbcs_data: Path, tmp_path: Path, policy: CedarPolicy, pre_commands: list[Message]
) -> None:
    by_counter: dict[object, list[Message]] = defaultdict(list)
    for message in pre_commands:
        by_counter[precommand.parse(message.octets, PROFILE).promises[0].value].append(message)
    first_of_each = [found[0] for found in by_counter.values()]
    entities = set(map(originator, pre_commands))
    async with fresh(gbcs_data, tmp_path / "all", policy, entities) as walk:
        answers = await walk.sign([(one.name, one, originator(one)) for one in first_of_each])
        for message, answer in zip(first_of_each, answers, strict=True):
            assert isinstance(answer, Signed), (message, answer.error)
            key, _ = published(gbcs_data, originator(message))
            assert answer.checked.artefact == message.octets + b"\x40" + answer.checked.signature
            assert verifies(key.public_key(), answer.checked.signature, message.octets[1:])
            stored = await walk.stand.ledger.entry(answer.receipt.leaf_index)
            assert stored is not None
            assert orjson.loads(stored.entry)["request_id"] == message.name
        # and with the key of another party none of them does
        others = [(f"{one.name} other", one, _other(originator(one), entities)) for one in first_of_each]
        for refused in await walk.sign(others):
            assert isinstance(refused, NotSigned)
            assert isinstance(refused.error, Forbidden)
            assert refused.error.clause in ("G2.56", "G3.29")


async def test_what_shares_a_counter_is_signed_by_a_fresh_ledger_and_refused_by_the_same(
    gbcs_data: Path, tmp_path: Path, policy: CedarPolicy, pre_commands: list[Message]
) -> None:
    by_counter: dict[object, dict[bytes, Message]] = defaultdict(dict)
    for message in pre_commands:
        content = precommand.parse(message.octets, PROFILE)
        by_counter[content.promises[0].value][content.signed_bytes] = message
    shared = [list(found.values()) for found in by_counter.values() if len(found) > 1]
    assert shared, "some Pre-Commands of the test data share originator, target and counter"
    entities = {originator(found[0]) for found in shared}
    # the same ledger refuses every one after the first
    async with fresh(gbcs_data, tmp_path / "same", policy, entities) as walk:
        for found in shared:
            answers = await walk.sign([(one.name, one, originator(one)) for one in found])
            assert isinstance(answers[0], Signed)
            for later in answers[1:]:
                assert isinstance(later, NotSigned)
                assert isinstance(later.error, Conflict)
                assert (later.error.rule, later.error.clause) == ("once/gbcs-counter", "G2.56")
    # a fresh ledger for each signs it: the n-th of every set in the n-th ledger
    most = max(map(len, shared))
    assert most >= 2
    for turn in range(most):
        nth = [found[turn] for found in shared if turn < len(found)]
        async with fresh(gbcs_data, tmp_path / f"fresh-{turn}", policy, entities) as walk:
            answers = await walk.sign([(one.name, one, originator(one)) for one in nth])
            assert all(isinstance(answer, Signed) for answer in answers)


def _other(entity: str, entities: set[str]) -> str:
    return next(other for other in sorted(entities) if other != entity)


def _certificate(folder: Path, entity: str) -> bytes:
    pem = folder / "keystore" / f"{entity.replace('-', '').lower()}-ds.pem"
    return x509.load_pem_x509_certificate(pem.read_bytes()).public_bytes(serialization.Encoding.DER)
