"""The one request of a key that derives: signed while it is made, by a key that can sign at no other time."""

import asyncio
import time
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cryptosvc.adapters.clock import SystemClock
from cryptosvc.adapters.hsm import first_signature
from cryptosvc.adapters.hsm.agreement_work import Job
from cryptosvc.adapters.hsm.constants import Cka, Cko, Ckr
from cryptosvc.adapters.hsm.cryptoki import FALSE, CryptokiError, number
from cryptosvc.adapters.hsm.first_signature import NotCopied
from cryptosvc.adapters.hsm.hsm import Pkcs11Hsm
from cryptosvc.adapters.hsm.provision import Provisioner
from cryptosvc.adapters.hsm.vault import Pkcs11Vault
from cryptosvc.core import first_request
from cryptosvc.core.content.gbcs.agreement import Agreement, Purpose
from cryptosvc.core.content.x509 import csr
from cryptosvc.core.content.x509.extensions import KeyUsage
from cryptosvc.core.content.x509.profile import default_profile
from cryptosvc.core.errors import Corrupt, Forbidden
from cryptosvc.core.keyclass import ceiling
from cryptosvc.core.life import Asset
from cryptosvc.core.names import Eui64, RemotePartyRole, UnixNanoseconds
from tests.claims import key_record
from tests.hsm_fixtures import make_nss, make_softhsm
from tests.kryoptic import make_kryoptic
from tests.mac_keys import derived, shared_secret, tag

ENTITY = Eui64.parse("90-B3-D5-1F-30-00-00-02")


MAKERS = {"softhsm": make_softhsm, "nss": make_nss, "kryoptic": make_kryoptic}

pytestmark = pytest.mark.xdist_group("agreement")


@pytest.fixture(scope="module", params=list(MAKERS))
def token(request, tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        made = MAKERS[request.param](tmp_path_factory.mktemp("t"))
        monkeypatch.setenv("SOFTHSM2_CONF", made.conf)
        yield made


def deriving(name: str, key_class: str = "key-agreement", *, label: str = "Broker 1", role: int = 4):
    key = key_record(label=name, object_id=name.encode(), key_class=key_class)
    return replace(key, eui64=ENTITY, role=RemotePartyRole(role), asset=Asset(label=label))


def generate(token, key) -> tuple[bytes, dict[str, str]]:
    made = asyncio.run(Pkcs11Vault([token.config], token.locks).generate(key))
    return made.public_point, dict(made.facts)


@pytest.mark.parametrize(("key_class", "role"), [("key-agreement", 4), ("prepayment", 2)])
def test_a_key_that_derives_comes_with_a_request_that_it_signed(token, key_class, role):
    key = deriving(f"k-{key_class}", key_class, role=role)
    point, facts = generate(token, key)
    request = x509.load_der_x509_csr(bytes.fromhex(facts["certification_request"]))
    assert request.is_signature_valid
    read = csr.parse(request.tbs_certrequest_bytes, default_profile())
    assert isinstance(read, csr.RequestContent)
    assert read.public_point == point
    assert (read.subject.role, read.subject.common_name) == (role, "Broker 1")
    assert read.subject.entity == ENTITY
    assert read.usages == {KeyUsage.KEY_AGREEMENT}


def test_its_object_on_the_token_cannot_sign_and_nothing_else_is_left(token):
    key = deriving("signs-nothing")
    generate(token, key)
    with Provisioner(token.config, token.locks) as opened:
        functions, session, _ = opened.session_of_its_own()
        named = [(Cka.LABEL, key.label.encode()), (Cka.ID, key.object_id)]
        private, public = (
            functions.find(session, [*named, (Cka.CLASS, number(kind))], 5)
            for kind in (Cko.PRIVATE_KEY, Cko.PUBLIC_KEY)
        )
        assert (len(private), len(public)) == (1, 1)
        assert functions.attribute(session, private[0], Cka.SIGN) == FALSE
        assert functions.attribute(session, private[0], Cka.MODIFIABLE) == FALSE
        with pytest.raises(CryptokiError):
            first_signature._signed(functions, session, private[0], bytes(32))
        template = ceiling(key.key_class).template
        assert opened.adopt(key.label, key.object_id, template).differences == ()


async def test_it_agrees_keys_as_any_other(token):
    device = ec.generate_private_key(ec.SECP256R1())
    key = deriving("agrees")
    with Provisioner(token.config, token.locks) as opened:
        template = ceiling(key.key_class).template
        point, _ = opened.generate_with_request(key.label, key.object_id, template, lambda point: point)
    of = Agreement(ENTITY.octets, Purpose.COMMAND, 7, bytes.fromhex("00db1234567890a0"))
    hsm = Pkcs11Hsm([token.config], SystemClock(), token.locks)
    hsm.start()
    try:
        deadline = UnixNanoseconds(time.time_ns() + 20_000_000_000)
        asked = Job(
            key=replace(key, public_point=point),
            peer=_point(device),
            agreement=of,
            additional=b"additional",
            deadline=deadline,
        )
        (answer,) = await hsm.agree([asked])
    finally:
        hsm.close()
    assert answer.octets == tag(derived(shared_secret(device, point), of), of, b"additional")


def test_where_a_module_copies_no_key_there_is_no_request_and_the_key_is_made_all_the_same(
    token, monkeypatch
):
    def refuses(*_: object) -> int:
        raise NotCopied(Ckr.FUNCTION_NOT_SUPPORTED)

    monkeypatch.setattr(first_signature, "_copied", refuses)
    key = deriving("not-copied")
    point, facts = generate(token, key)
    assert len(point) == 65
    assert "certification_request" not in facts
    assert facts["certification_request_not_made"] == "C_CopyObject: 0x54"
    with Provisioner(token.config, token.locks) as opened:
        assert [seen.public_point for seen in opened.objects() if seen.label == key.label].count(point) == 1


def test_where_only_one_half_is_copied_neither_stays(token, monkeypatch):
    copied, calls = first_signature._copied, []

    def once(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise NotCopied(Ckr.ATTRIBUTE_READ_ONLY)
        return copied(*arguments)

    monkeypatch.setattr(first_signature, "_copied", once)
    key = deriving("half")
    with Provisioner(token.config, token.locks) as opened:
        with pytest.raises(NotCopied):
            opened.generate_with_request(
                key.label, key.object_id, ceiling(key.key_class).template, lambda point: point
            )
        assert [seen for seen in opened.objects() if seen.label == key.label] == []


@pytest.mark.parametrize("change", [{"role": None}, {"eui64": None}, {"key_class": "command-signing"}])
def test_no_request_is_made_for_a_key_without_a_name_or_one_that_signs(change):
    assert first_request.is_due(deriving("x"))
    assert not first_request.is_due(replace(deriving("x"), **change))


def test_a_label_that_is_no_name_is_left_out_and_a_wrong_signature_is_not_put_together():
    key, point = deriving("x", label="y" * 65), _point()
    read = csr.parse(first_request.information(key, point), default_profile())
    assert isinstance(read, csr.RequestContent)
    assert read.subject.common_name == ""
    with pytest.raises(Corrupt):
        first_request.finished(key, point, bytes(64))


def test_such_a_key_signs_no_request_by_way_of_sign():
    key, point = deriving("x"), _point()
    content = csr.parse(first_request.information(key, point), default_profile())
    with pytest.raises(Forbidden) as refused:
        csr.bind(content, key, csr.Statement(), default_profile(), 0)
    assert (refused.value.rule, refused.value.clause) == ("ceiling/purpose", "G2.44(b)")


def _point(key: ec.EllipticCurvePrivateKey | None = None) -> bytes:
    public = (key or ec.generate_private_key(ec.SECP256R1())).public_key()
    return public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
