"""Keys as they are made and adopted on SoftHSM2 and NSS softokn; what other tools see of them."""

import json
import subprocess
import sys

import pytest

from cryptosvc.adapters.clock import SystemClock
from cryptosvc.adapters.hsm.constants import Cka, Ckk, Ckm, Cko
from cryptosvc.adapters.hsm.cryptoki import FALSE, TRUE, number
from cryptosvc.adapters.hsm.hsm import Pkcs11Hsm
from cryptosvc.adapters.hsm.mechanisms import Capability, check
from cryptosvc.adapters.hsm.provision import P256_PARAMETERS, RSA_BITS, Provisioner
from cryptosvc.core.errors import Conflict, Corrupt, Unavailable
from cryptosvc.core.keyclass import KEY_CLASSES, Algorithm, Usage, ceiling
from cryptosvc.core.record import Produced
from tests.claims import claim_to_sign, key_record
from tests.hsm_fixtures import REPOSITORY, make_nss, make_softhsm, plant_pair

P384_PARAMETERS = bytes.fromhex("06052b81040022")


@pytest.fixture(scope="module", params=["softhsm", "nss"])
def token(request, tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        make = make_softhsm if request.param == "softhsm" else make_nss
        made = make(tmp_path_factory.mktemp("t"))
        monkeypatch.setenv("SOFTHSM2_CONF", made.conf)
        yield made


@pytest.fixture
def provisioner(token):
    with Provisioner(token.config, token.locks) as opened:
        yield opened


def attributes(provisioner, label, object_id, object_class) -> dict[str, bytes | None]:
    functions, session = provisioner._library.functions, provisioner._session
    template = [(Cka.CLASS, number(object_class)), (Cka.LABEL, label.encode()), (Cka.ID, object_id)]
    (handle,) = functions.find(session, template, 2)
    return {kind.name: functions.attribute(session, handle, kind) for kind in Cka}


@pytest.mark.parametrize("name", sorted(KEY_CLASSES))
def test_a_key_of_each_class_has_every_attribute_of_its_template_and_no_other_power(provisioner, name):
    template = ceiling(name).template
    label, object_id = f"made-{name}", b"\x10" + name.encode()
    point = provisioner.generate(label, object_id, template)
    elliptic = template.algorithm is Algorithm.EC_P256
    assert len(point) == (65 if elliptic else 0)
    pair = elliptic or template.algorithm is Algorithm.RSA_3072
    made = attributes(provisioner, label, object_id, Cko.PRIVATE_KEY if pair else Cko.SECRET_KEY)
    assert made["SENSITIVE"] == made["TOKEN"] == made["PRIVATE"] == TRUE
    assert made["MODIFIABLE"] == FALSE
    assert made["EXTRACTABLE"] == made["WRAP_WITH_TRUSTED"] == (TRUE if template.transferable else FALSE)
    powers = ("SIGN", "VERIFY", "ENCRYPT", "DECRYPT", "WRAP", "UNWRAP", "DERIVE", "SIGN_RECOVER")
    may = {power.lower() for power in powers if made[power] == TRUE}
    assert may == {usage.value for usage in template.usages}
    if pair:
        public = attributes(provisioner, label, object_id, Cko.PUBLIC_KEY)
        # the public half of a key that derives does nothing at all: what it would verify is never made
        undoes = {"VERIFY"} if Usage.SIGN in template.usages else set()
        undoes |= {"WRAP"} if Usage.UNWRAP in template.usages else set()
        assert {power for power in (*powers, "VERIFY_RECOVER") if public[power] == TRUE} == undoes
    if elliptic:
        assert provisioner.public_point(label, object_id) == point
    elif pair:
        assert len(public["MODULUS"]) * 8 == RSA_BITS
    adopted = provisioner.adopt(label, object_id, template)
    assert (adopted.public_point, adopted.differences) == (point, ())


def test_adopting_reports_every_difference_and_changes_nothing(provisioner):
    provisioner.generate("open", b"\x20", ceiling("root-oca").template)
    adopted = provisioner.adopt("open", b"\x20", ceiling("audit-signing").template)
    assert list(map(str, adopted.differences)) == [
        "CKA_EXTRACTABLE is true, the class asks for false",
        "CKA_WRAP_WITH_TRUSTED is true, the class asks for false",
    ]
    assert provisioner.adopt("open", b"\x20", ceiling("root-oca").template).differences == ()


def test_a_label_and_id_that_are_taken_are_not_made_again(provisioner):
    template = ceiling("audit-signing").template
    point = provisioner.generate("taken", b"\x30", template)
    with pytest.raises(Conflict):
        provisioner.generate("taken", b"\x30", template)
    assert provisioner.public_point("taken", b"\x30") == point


def test_what_is_not_there_or_is_another_kind_is_not_adopted(provisioner):
    with pytest.raises(Unavailable):
        provisioner.adopt("no-such-key", b"\x40", ceiling("audit-signing").template)
    provisioner.generate("secret", b"\x41", ceiling("log-authentication").template)
    with pytest.raises(Unavailable):
        provisioner.adopt("secret", b"\x41", ceiling("audit-signing").template)


def test_a_key_on_another_curve_is_not_adopted(provisioner):
    common = [(Cka.TOKEN, TRUE), (Cka.LABEL, b"p384"), (Cka.ID, b"\x50")]
    provisioner._library.functions.generate_pair(
        provisioner._session,
        Ckm.EC_KEY_PAIR_GEN,
        [*common, (Cka.EC_PARAMS, P384_PARAMETERS), (Cka.VERIFY, TRUE)],
        [*common, (Cka.PRIVATE, TRUE), (Cka.SENSITIVE, TRUE), (Cka.SIGN, TRUE)],
    )
    with pytest.raises(Corrupt):
        provisioner.adopt("p384", b"\x50", ceiling("audit-signing").template)
    assert P256_PARAMETERS != P384_PARAMETERS


def test_two_objects_under_one_name_are_not_adopted(token):
    if not token.conf:
        pytest.skip("NSS keeps one key per id")
    with Provisioner(token.config, token.locks) as provisioner:
        provisioner.generate("twice", b"\x60", ceiling("audit-signing").template)
    plant_pair(token, "twice", b"\x60")
    with Provisioner(token.config, token.locks) as provisioner:
        with pytest.raises(Corrupt) as caught:
            provisioner.adopt("twice", b"\x60", ceiling("audit-signing").template)
        assert caught.value.rule == "hsm/object-ambiguous"
        assert provisioner.destroy("twice", b"\x60") == 4


def test_the_list_of_objects_has_what_was_made(provisioner):
    point = provisioner.generate("listed", b"\x70", ceiling("audit-signing").template)
    seen = [item for item in provisioner.objects() if item.label == "listed"]
    assert sorted((item.object_class, item.key_type, item.object_id, item.public_point) for item in seen) == [
        (Cko.PUBLIC_KEY, Ckk.EC, b"\x70", point),
        (Cko.PRIVATE_KEY, Ckk.EC, b"\x70", b""),
    ]


def test_both_modules_have_what_this_service_needs(provisioner):
    missing = {
        finding.row.capability for finding in check(provisioner.mechanisms) if finding.mechanism is None
    }
    needed = {
        Capability.SIGN_P256,
        Capability.GENERATE_P256,
        Capability.AUTHENTICATE_LOG,
        Capability.GENERATE_SECRET,
    }
    assert not missing & needed


_REFEREE = """
import json, sys
import pkcs11
from pkcs11 import Attribute, ObjectClass
library, label, pin_file, name = sys.argv[1:]
token = pkcs11.lib(library).get_token(token_label=label)
with token.open(user_pin=open(pin_file).read().strip()) as session:
    key = session.get_key(object_class=ObjectClass.PRIVATE_KEY, label=name)
    names = ("SENSITIVE", "EXTRACTABLE", "SIGN", "DECRYPT", "UNWRAP", "DERIVE", "MODIFIABLE", "WRAP_WITH_TRUSTED", "LOCAL")
    print(json.dumps({name: bool(key[Attribute[name]]) for name in names}))
"""


def test_another_library_reads_the_same_attributes(token):
    """python-pkcs11 as referee: our own attribute code cannot agree with itself by mistake."""
    if not token.conf:
        pytest.skip("python-pkcs11 cannot hand NSS its arguments")
    with Provisioner(token.config, token.locks) as provisioner:
        provisioner.generate("refereed", b"\x80", ceiling("root-oca").template)
    config = token.config
    arguments = [config.library, config.token_label, token.folder / "pin", "refereed"]
    read = subprocess.run(
        [sys.executable, "-c", _REFEREE, *map(str, arguments)],
        check=True,
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    assert json.loads(read.stdout) == {
        "SENSITIVE": True,
        "EXTRACTABLE": True,
        "SIGN": True,
        "DECRYPT": False,
        "UNWRAP": False,
        "DERIVE": False,
        "MODIFIABLE": False,
        "WRAP_WITH_TRUSTED": True,
        "LOCAL": True,
    }


def test_provisioning_twice_changes_nothing_and_pins_are_private(tmp_path):
    first, second = make_softhsm(tmp_path), make_softhsm(tmp_path)
    assert first.config.token_serial == second.config.token_serial
    for name in ("pin", "so-pin"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


async def test_a_provisioner_comes_and_goes_beside_a_signing_service(token):
    """It shares the process's login and must not take it along (hazard 4)."""
    hsm = Pkcs11Hsm([token.config], SystemClock(), token.locks)
    hsm.start()
    try:
        for number in range(3):
            with Provisioner(token.config, token.locks) as provisioner:
                label, object_id = f"beside-{number}", b"\x90" + bytes([number])
                point = provisioner.generate(label, object_id, ceiling("audit-signing").template)
            key = key_record(label=label, object_id=object_id, public_point=point)
            answers = await hsm.sign([claim_to_sign(key, b"x") for _ in range(4)])
            assert all(isinstance(answer, Produced) for answer in answers)
            assert hsm.reported(token.config.name)[0].serial == token.config.token_serial
    finally:
        hsm.close()
