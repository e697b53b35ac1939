"""A destroyed key has a certificate that anybody can verify, and that cannot be made to say anything else."""

from dataclasses import replace

import orjson
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cryptosvc.core import destruction, dsse
from cryptosvc.core.canonical import JsonValue, canonical
from cryptosvc.core.case import Principal
from cryptosvc.core.content.checkpoint_note import public_key_der
from cryptosvc.core.content.forms import Profiles
from cryptosvc.core.content.gbcs.profile import GbcsProfile
from cryptosvc.core.content.service_statement import PAYLOAD_TYPE
from cryptosvc.core.content.x509.profile import default_profile
from cryptosvc.core.errors import Corrupt, WrongState
from cryptosvc.core.names import Environment, KeyId
from cryptosvc.core.proposal import ProposalRecord, ProposalState
from cryptosvc.core.record import Because
from cryptosvc.core.registry import Grant, KeyState
from cryptosvc.core.supply import SupplyProfile
from cryptosvc.flow.checkpoint import Checkpointer
from cryptosvc.flow.destruction import Certifier
from cryptosvc.flow.gather import Gatherer
from cryptosvc.flow.sign import Signer
from tests import claims
from tests.fakes.hsm import FakeHsm
from tests.fakes.policy import FakePolicy
from tests.govern_stand import Stand
from tests.governance import ORIGIN, SYSTEM

AUDIT, SERVICE = KeyId("log-audit"), KeyId("log-service")


class Scene:
    """A stand whose log signs checkpoints and whose service signs statements."""

    def __init__(self) -> None:
        self.hsm = FakeHsm()
        own = []
        for name, key_class in ((AUDIT, "audit-signing"), (SERVICE, "service-signing")):
            point = self.hsm.generate(name, name.encode())
            record = claims.key_record(
                label=name, object_id=name.encode(), public_point=point, key_class=key_class
            )
            own.append(replace(record, system=SYSTEM))
        self.audit, self.service = (public_key_der(one.public_point) for one in own)
        grants = tuple(Grant(operation="sign", key_class=one.key_class) for one in own)
        caller = replace(claims.caller_record(), system=SYSTEM, grants=grants)
        self.stand = Stand(records=(*own, caller))
        principal = Principal(caller=caller, peer="service")
        stand = self.stand
        profiles = Profiles(x509=default_profile(), gbcs=GbcsProfile(), duis=None, log_origin=ORIGIN)
        supply = SupplyProfile(frozenset())
        gatherer = Gatherer(stand.keys, self.hsm, stand.clock, Environment.TEST, supply)
        signer = Signer(gatherer, FakePolicy(), stand.ledger, self.hsm, stand.clock, profiles)
        checkpointer = Checkpointer(signer, stand.ledger, principal, AUDIT, ORIGIN)
        self.certifier = Certifier(stand.keys, stand.ledger, signer, checkpointer, principal, SERVICE, ORIGIN)

    async def destroyed(self) -> bytes:
        """Make and destroy a key; its certificate."""
        await self.stand.begin()
        await self.stand.active("k")
        await self.stand.carry("key.deactivate", "k")
        await self.stand.carry("key.destroy", "k")
        return await self.certifier.certificate(KeyId("k"))


@pytest.fixture
async def scene() -> Scene:
    return Scene()


async def test_a_certificate_covers_every_copy(scene: Scene) -> None:
    stand = scene.stand
    await stand.begin()
    await stand.active("k")
    await stand.carry("key.back-up", "k", copy="tape-7", place="the safe", evidence="0a" * 32)
    await stand.carry("key.deactivate", "k")
    await stand.carry("key.destroy", "k", backups_destroyed="tape-7: Wim saw it shredded")
    envelope = await scene.certifier.certificate(KeyId("k"))
    found = destruction.verify(envelope, scene.service, scene.audit)
    assert found.key.life.backups == ("tape-7",)
    assert found.proposal.statement.parameters["backups_destroyed"] == "tape-7: Wim saw it shredded"


async def test_a_certificate_that_lacks_a_copy_does_not_hold(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The act refuses it first; whoever verifies does not rely on that."""
    monkeypatch.setattr("cryptosvc.core.acts.keys.require_accounted", lambda _copies, _text: None)
    stand = scene.stand
    await stand.begin()
    await stand.active("k")
    await stand.carry("key.back-up", "k", copy="tape-7", place="the safe", evidence="0a" * 32)
    await stand.carry("key.deactivate", "k")
    await stand.carry("key.destroy", "k")
    envelope = await scene.certifier.certificate(KeyId("k"))
    with pytest.raises(Corrupt) as caught:
        destruction.verify(envelope, scene.service, scene.audit)
    assert "not accounted for" in caught.value.message


async def test_a_destroyed_key_is_certified(scene: Scene) -> None:
    envelope = await scene.destroyed()
    found = destruction.verify(envelope, scene.service, scene.audit)
    assert (found.key.key_id, found.key.state) == ("k", KeyState.DESTROYED)
    assert found.proposal.statement.act == "key.destroy"
    assert {one.custodian_id for one in found.proposal.endorsements} == {"ada", "ben", "cat"}
    assert dict(found.proposal.outcome)["objects_left"] == "0"
    # and again, later: another checkpoint, the same facts
    again = await scene.certifier.certificate(KeyId("k"))
    assert destruction.verify(again, scene.service, scene.audit).key == found.key


async def test_only_a_key_destroyed_under_dual_control_has_one(scene: Scene) -> None:
    await scene.stand.begin()
    await scene.stand.active("k")
    with pytest.raises(WrongState) as refusal:
        await scene.certifier.certificate(KeyId("k"))
    assert refusal.value.rule == "destruction/not-destroyed"
    with pytest.raises(WrongState):
        await scene.certifier.certificate(KeyId("no-such-key"))
    key = scene.stand.key("k")
    await scene.stand.keys.change([replace(key, version=key.version + 1, state=KeyState.DESTROYED)])
    with pytest.raises(WrongState) as refusal:
        await scene.certifier.certificate(KeyId("k"))
    assert refusal.value.rule == "destruction/not-governed"


async def test_keys_of_somebody_else_verify_nothing(scene: Scene) -> None:
    envelope = await scene.destroyed()
    for service, log in ((scene.audit, scene.audit), (scene.service, scene.service)):
        with pytest.raises(Corrupt):
            destruction.verify(envelope, service, log)


def resigned(document: dict[str, object]) -> tuple[bytes, bytes]:
    """The statement signed by another key, and that key: what a thief of the service-signing key could make."""
    key = ec.generate_private_key(ec.SECP256R1())
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    envelope = dsse.sign(
        PAYLOAD_TYPE,
        canonical(document),  # type: ignore[arg-type]  # a document read back
        {dsse.key_id(spki): lambda octets: key.sign(octets, ec.ECDSA(hashes.SHA256()))},
    )
    return dsse.emit(envelope), spki


async def test_whoever_holds_the_service_key_alone_can_still_not_lie(scene: Scene) -> None:
    good = orjson.loads(dsse.parse(await scene.destroyed()).payload)
    envelope, spki = resigned(good)
    assert destruction.verify(envelope, spki, scene.audit).key.key_id == "k"
    changes: list[tuple[str, object]] = [
        ("subject", "another"),
        ("destroyed_on", good["destroyed_on"] + 1),
        ("evidence", good["evidence"] | {"objects_left": "1"}),
        ("type", "ceremony-seal"),
        ("origin", "another/log"),
        ("reason", "no reason"),
        ("system", "another"),
        ("public_key_sha256", "00" * 32),
        ("key", good["key"] | {"key_id": "another"}),
        ("key", good["key"] | {"state": "active"}),
        ("proposal", good["proposal"] | {"endorsements": good["proposal"]["endorsements"][:1]}),
        ("key_entry", good["act_entry"]),
        ("key_entry", good["key_entry"] | {"leaf_index": 1}),
        ("act_entry", good["act_entry"] | {"proof": []}),
        ("checkpoint", good["checkpoint"].replace("\n", "\n1", 1)),
    ]
    for name, value in changes:
        envelope, spki = resigned(good | {name: value})
        with pytest.raises(Corrupt) as found:
            destruction.verify(envelope, spki, scene.audit)
        assert found.value.rule.startswith(("destruction/", "checkpoint/", "merkle/")), (
            name,
            found.value.rule,
        )
    for name in good:
        envelope, spki = resigned({key: value for key, value in good.items() if key != name})
        with pytest.raises(Corrupt):
            destruction.verify(envelope, spki, scene.audit)


async def test_a_record_that_says_destroyed_for_another_reason_is_not_certified_by_somebodys_act(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The holder of the log writes a record and an act that led nowhere beside each other; both are in the log."""
    stand = scene.stand
    await stand.begin()
    await stand.active("k")
    await stand.carry("key.deactivate", "k")
    proposal_id = await stand.approved("key.destroy", "k")
    found, key = stand.proposal(proposal_id), stand.key("k")
    outcome = (("needed_people", "2"), ("needed_roles", "key-custodian"), ("objects_left", "0"))
    done = replace(
        found,
        version=found.version + 1,
        state=ProposalState.DONE,
        ended_on=stand.room.now,
        outcome=outcome,
    )
    await stand.keys.change([done], Because("proposal", proposal_id))
    await stand.keys.change([replace(key, version=key.version + 1, state=KeyState.DESTROYED)])
    located = await stand.keys.located("proposal-record", proposal_id)
    assert located is not None

    async def by_that_act(_entry: bytes) -> tuple[ProposalRecord, int]:
        record, leaf = located
        assert isinstance(record, ProposalRecord)
        return record, leaf

    monkeypatch.setattr(scene.certifier, "_proposal", by_that_act)
    envelope = await scene.certifier.certificate(KeyId("k"))
    with pytest.raises(Corrupt, match="did not change because of this act"):
        destruction.verify(envelope, scene.service, scene.audit)


async def test_an_act_of_another_deployment_certifies_nothing(scene: Scene) -> None:
    """Its statement stands in this log, as whoever holds the log can have it stand there."""
    found = destruction.verify(await scene.destroyed(), scene.service, scene.audit)
    because: dict[str, JsonValue] = {"proposal": found.proposal.proposal_id}
    for changes in ({"system": "other"}, {"environment": Environment.LIVE}, {"origin": "another/log"}):
        statement = replace(found.proposal.statement, **changes)  # type: ignore[arg-type]  # of one of the three fields
        proposal = replace(found.proposal, statement=statement)
        with pytest.raises(Corrupt, match="another deployment"):
            destruction._require_destroyed(found.key, proposal, {"proposal": proposal.proposal_id}, ORIGIN)
    destruction._require_destroyed(found.key, found.proposal, because, ORIGIN)
