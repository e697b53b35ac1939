"""A key split into sealed parts and put together again, on SoftHSM2: what comes back, and what does not go together."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cryptosvc.adapters.hsm import splitting
from cryptosvc.adapters.hsm.provision import Provisioner
from cryptosvc.adapters.hsm.splitting import Brought, Holder, Place
from cryptosvc.adapters.hsm.transfer_token import TransferToken
from cryptosvc.core import parts
from cryptosvc.core.errors import CryptosvcError, Forbidden, Malformed
from cryptosvc.core.keyclass import ceiling
from cryptosvc.core.names import Environment, KeyId, ModuleName, SystemName
from cryptosvc.core.parts import Part
from cryptosvc.core.registry import KeyRecord, KeyState, Origin
from tests.hsm_fixtures import make_softhsm

pytestmark = pytest.mark.xdist_group("splitting")
THRESHOLD, PARTS = 3, 5


@dataclass(frozen=True)
class Scene:
    place: Place
    key: KeyRecord
    holders: dict[str, ec.EllipticCurvePrivateKey]
    parts: tuple[Part, ...]

    def brought(self, numbers: Sequence[int], made: Sequence[Part] = ()) -> list[Brought]:
        return [opened(self.holders, one) for one in made or self.parts if one.number in numbers]


def opened(holders: dict[str, ec.EllipticCurvePrivateKey], part: Part) -> Brought:
    private = holders[part.holder]
    peer = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), part.ephemeral)
    point = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    secret = private.exchange(ec.ECDH(), peer)
    return Brought(part, parts.sealing_key(secret, part.ephemeral, point))


def holder(person: str, private: ec.EllipticCurvePrivateKey) -> Holder:
    spki = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Holder(person, spki)


def record(name: str, point: bytes) -> KeyRecord:
    return KeyRecord(
        key_id=KeyId(name),
        version=1,
        key_class="recovery",
        state=KeyState.ACTIVE,
        system=SystemName("dcc"),
        environment=Environment.TEST,
        module=ModuleName("module"),
        label=name,
        object_id=name.encode(),
        public_point=point,
        certificate=b"",
        eui64=None,
        role=None,
        origin=Origin.GENERATED,
        transferable=True,
        signs_for_eligible_user=False,
    )


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("splitting")
    token = make_softhsm(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", token.conf)
        place = Place(token.config, token.locks, token.folder / "so-pin")
        with Provisioner(token.config, token.locks) as opened_token:
            point = opened_token.generate("recovery-1", b"recovery-1", ceiling("recovery").template)
        key = record("recovery-1", point)
        holders = {
            f"holder-{number}": ec.generate_private_key(ec.SECP256R1()) for number in range(1, PARTS + 1)
        }
        given = [holder(person, private) for person, private in holders.items()]
        yield Scene(place, key, holders, splitting.split(place, key, given, THRESHOLD, "mark"))


def destroyed(scene: Scene) -> None:
    with Provisioner(scene.place.config, scene.place.lock_folder) as token:
        token.destroy(scene.key.label, scene.key.object_id)


def labels(scene: Scene) -> list[str]:
    with Provisioner(scene.place.config, scene.place.lock_folder) as token:
        return sorted(one.label for one in token.objects())


def rule_of(scene: Scene, brought: Sequence[Brought], key: KeyRecord | None = None) -> str:
    with pytest.raises(CryptosvcError) as caught:
        splitting.restore(scene.place, key or scene.key, brought)
    return caught.value.rule


def test_any_three_of_five_parts_restore_the_key_whole(scene):
    for numbers in ((1, 2, 3), (2, 4, 5)):
        destroyed(scene)
        assert labels(scene) == []
        splitting.restore(scene.place, scene.key, scene.brought(numbers))
        assert labels(scene) == ["recovery-1", "recovery-1"]  # both halves, and nothing else
        with Provisioner(scene.place.config, scene.place.lock_folder) as token:
            found = token.adopt("recovery-1", b"recovery-1", ceiling("recovery").template)
        assert found.public_point == scene.key.public_point
        assert found.differences == ()


def test_a_key_that_is_back_already_proves_itself_and_is_not_made_twice(scene):
    destroyed(scene)
    splitting.restore(scene.place, scene.key, scene.brought((1, 2, 3)))
    splitting.restore(scene.place, scene.key, scene.brought((3, 4, 5)))
    assert labels(scene) == ["recovery-1", "recovery-1"]


def test_parts_read_back_as_they_were_printed(scene):
    assert [parts.parse(parts.emit(one)) for one in scene.parts] == list(scene.parts)
    assert [one.number for one in scene.parts] == [1, 2, 3, 4, 5]
    assert parts.whole_sets(scene.parts) == {scene.parts[0].set_id: list(scene.parts)}
    assert parts.whole_sets(scene.parts[1:]) == {}


@pytest.mark.parametrize("numbers", [(), (1,), (1, 2), (1, 2, 3, 4), (1, 2, 3, 4, 5)])
def test_other_numbers_of_parts_restore_nothing(scene, numbers):
    destroyed(scene)
    assert rule_of(scene, scene.brought(numbers)) in ("split/too-few", "split/other-key")
    assert labels(scene) == []


def test_one_part_three_times_restores_nothing(scene):
    assert rule_of(scene, scene.brought((1,)) * 3) == "split/too-few"


def test_parts_of_two_splittings_do_not_go_together(scene):
    splitting.restore(scene.place, scene.key, scene.brought((1, 2, 3)))
    given = [holder(person, private) for person, private in scene.holders.items()]
    again = splitting.split(scene.place, scene.key, given, THRESHOLD, "mark")
    mixed = [*scene.brought((1, 2)), *scene.brought((3,), again)]
    assert rule_of(scene, mixed) == "split/sets"
    renamed = [replace(one, part=replace(one.part, set_id=again[0].set_id)) for one in scene.brought((1, 2))]
    assert rule_of(scene, [*renamed, *scene.brought((3,), again)]) == "split/sealed"


def test_parts_of_one_key_do_not_make_another(scene):
    other = record("recovery-2", bytes([4]) + bytes(64))
    assert rule_of(scene, scene.brought((1, 2, 3)), other) == "split/other-key"


@pytest.mark.parametrize("field", ["holder", "number", "key_id", "mark", "threshold", "sealed", "ephemeral"])
def test_a_part_that_was_changed_does_not_open(scene, field):
    (first, *others) = scene.brought((1, 2, 3))
    changes = {
        "holder": "someone-else",
        "number": 4,
        "key_id": "recovery-2",
        "mark": "other",
        "threshold": THRESHOLD,
        "sealed": bytes([first.part.sealed[0] ^ 1]) + first.part.sealed[1:],
        "ephemeral": scene.parts[1].ephemeral,
    }
    changed = replace(first.part, **{field: changes[field]})
    if changed == first.part:
        changed = replace(changed, parts=PARTS + 1)
    assert rule_of(scene, [replace(first, part=changed), *others]) == "split/sealed"


def test_a_part_opens_for_its_holder_alone(scene):
    mine, *others = scene.brought((1, 2, 3))
    theirs = opened({mine.part.holder: scene.holders["holder-5"]}, mine.part)
    assert rule_of(scene, [theirs, *others]) == "split/sealed"


def test_no_share_and_no_scalar_is_in_what_a_part_says(scene):
    (plain,) = {parts.open_part(one.part, one.key) for one in scene.brought((1,))}
    printed = b"".join(parts.emit(one) for one in scene.parts)
    words = plain.split()
    assert len(words) == 33
    assert not any(b" ".join(pair) in printed for pair in itertools.pairwise(words))


@pytest.mark.parametrize(("threshold", "holders"), [(1, 5), (0, 5), (6, 5), (2, 1), (3, 17)])
def test_numbers_that_make_no_sense_split_nothing(scene, threshold, holders):
    given = [holder(str(number), scene.holders["holder-1"]) for number in range(holders)]
    with pytest.raises(Malformed) as caught:
        splitting.split(scene.place, scene.key, given, threshold, "mark")
    assert caught.value.rule == "split/shares"


def test_without_the_security_officer_the_key_stays_where_it_is(scene):
    splitting.restore(scene.place, scene.key, scene.brought((1, 2, 3)))
    given = [holder(person, private) for person, private in scene.holders.items()]
    with pytest.raises(Forbidden) as caught:
        splitting.split(replace(scene.place, so_pin_file=None), scene.key, given, THRESHOLD, "mark")
    assert caught.value.rule == "transfer/security-officer"


def test_a_holder_with_a_key_of_another_curve_is_refused(scene, tmp_path: Path):
    splitting.restore(scene.place, scene.key, scene.brought((1, 2, 3)))
    given = [holder(person, private) for person, private in scene.holders.items()]
    given[0] = holder("holder-1", ec.generate_private_key(ec.SECP384R1()))
    with pytest.raises(Forbidden) as caught:
        splitting.split(scene.place, scene.key, given, THRESHOLD, "mark")
    assert caught.value.rule == "split/holder-key"


def test_what_a_killed_restoring_left_is_gone_after_the_next(scene: Scene) -> None:
    """The transport key of a process that died between making it and destroying it."""
    label = f"restore-{scene.key.object_id.hex()}"
    with TransferToken(scene.place.config, scene.place.lock_folder) as token:
        token.make_transport(label, label.encode())
        assert label in {one.label for one in token.objects()}
    splitting.restore(scene.place, scene.key, scene.brought((1, 2, 3)))
    with TransferToken(scene.place.config, scene.place.lock_folder) as token:
        assert {one.label for one in token.objects()} == {str(scene.key.label)}
