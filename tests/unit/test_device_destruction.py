"""A destroyed device key has a certificate once every epoch that a copy may be under is destroyed, and not before."""

from dataclasses import replace

import orjson
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cryptosvc.core import device_destruction, dsse
from cryptosvc.core.canonical import canonical
from cryptosvc.core.content.service_statement import PAYLOAD_TYPE
from cryptosvc.core.device_records import DeviceWorkRecord, WorkKind, WorkState
from cryptosvc.core.errors import Corrupt, WrongState
from cryptosvc.core.registry import KeyRecord, KeyState
from cryptosvc.flow.device_destruction import DeviceCertifier
from tests.claims import key_record
from tests.governance import DEVICE_WORK, SYSTEM
from tests.unit.test_destruction import Scene

KEY = "90-B3-D5-1F-30-01-00-00.encryption"
WORK = replace(
    DEVICE_WORK,
    work_id="destroy-1",
    state=WorkState.DONE,
    kind=WorkKind.DESTROY,
    subject=KEY,
    source="",
    on_bad_line="",
    keys=0,
    position=1,
    accepted=1,
    facts=(("epochs", "epoch-1,epoch-2"), ("rows", "ab" * 32), ("versions", "1")),
)


def epoch(name: str, state: KeyState = KeyState.DESTROYED) -> KeyRecord:
    return replace(key_record(label=name, key_class="storage-wrapping"), system=SYSTEM, state=state)


class Ended(Scene):
    """A stand on which a device key was removed."""

    async def certificate(self, work: DeviceWorkRecord, *epochs: KeyRecord) -> bytes:
        await self.stand.begin()
        await self.stand.keys.change([work, *epochs])
        one = self.certifier
        certifier = DeviceCertifier(
            one._records,
            one._ledger,
            one._signer,
            one._checkpointer,
            one._service,
            one._service_key,
            one._origin,
        )
        return await certifier.of_device_key(work.work_id)


async def test_a_device_key_whose_epochs_are_destroyed_is_certified() -> None:
    scene = Ended()
    certificate = await scene.certificate(WORK, epoch("epoch-1"), epoch("epoch-2"))
    found = device_destruction.verify(certificate, scene.service, scene.audit)
    assert (found.work, [one.key_id for one in found.epochs]) == (WORK, ["epoch-1", "epoch-2"])
    leaves = b"".join(leaf.entry for leaf in scene.stand.ledger.leaves)
    assert KEY.encode() not in leaves


@pytest.mark.parametrize(
    ("work", "epochs", "rule"),
    [
        (WORK, [epoch("epoch-1"), epoch("epoch-2", KeyState.DEACTIVATED)], "device-destruction/epoch"),
        (WORK, [epoch("epoch-1")], "device-destruction/epoch"),
        (replace(WORK, state=WorkState.APPROVED), [epoch("epoch-1")], "device-destruction/not-done"),
        (replace(WORK, kind=WorkKind.ROTATE), [epoch("epoch-1")], "device-destruction/not-done"),
    ],
)
async def test_before_that_there_is_none(work: DeviceWorkRecord, epochs: list[KeyRecord], rule: str) -> None:
    with pytest.raises(WrongState) as refusal:
        await Ended().certificate(work, *epochs)
    assert refusal.value.rule == rule


async def test_a_certificate_cannot_be_made_to_say_anything_else() -> None:
    scene = Ended()
    certificate = await scene.certificate(WORK, epoch("epoch-1"), epoch("epoch-2"))
    other = ec.generate_private_key(ec.SECP256R1())
    spki = other.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    signers = {dsse.key_id(spki): lambda octets: other.sign(octets, ec.ECDSA(hashes.SHA256()))}
    document = orjson.loads(dsse.parse(certificate).payload)

    def forged(**changes: object) -> bytes:
        return dsse.emit(dsse.sign(PAYLOAD_TYPE, canonical(document | changes), signers))

    assert (
        device_destruction.verify(forged(), spki, scene.audit).work == WORK
    )  # what is signed is what is judged
    with pytest.raises(Corrupt):
        device_destruction.verify(forged(), scene.service, scene.audit)
    less = document["work"] | {"facts": document["work"]["facts"] | {"epochs": "epoch-1"}}
    alive = [document["epochs"][0], document["epochs"][1] | {"key": document["epochs"][0]["key"]}]
    for changes in (
        {"work": less},
        {"work": document["work"] | {"subject": KEY.replace("encryption", "master")}},
        {"epochs": document["epochs"][:1]},
        {"epochs": alive},
        {"epochs": []},
        {"key": "another"},
        {"type": "destruction-certificate"},
        {"origin": "another/log"},
    ):
        with pytest.raises(Corrupt):
            device_destruction.verify(forged(**changes), spki, scene.audit)
