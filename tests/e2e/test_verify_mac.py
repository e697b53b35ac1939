"""What a Device sent, verified and decrypted by the running service; and a top-up authenticated, in the order of a shift.

Nothing published: a token, keys and certificates of the test's own. The Device makes MACs and attributes with its own key.
"""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cryptosvc.client import asynchronous
from cryptosvc.client.errors import CallError, NotPermitted
from cryptosvc.client.messages import request
from cryptosvc.core.content.gbcs import answer, attributes, codes, envelope, framing
from cryptosvc.core.content.gbcs.agreement import Agreement, Purpose
from cryptosvc.core.content.gbcs.codes import Payload
from cryptosvc.core.content.gbcs.top_up import Token, ValueClass, authentication_of
from cryptosvc.pb.v1 import crypto_pb2
from tests import certificates, precommands
from tests.command_line import caller
from tests.deployment import Deployment, make_deployment
from tests.e2e.test_apply_mac import DEVICE, device_certificate
from tests.mac_keys import derived, shared_secret, tag

AGREEMENT_KEY, TOP_UP_KEY = "supplier-agreement", "supplier-prepayment"
SUPPLIER, METER = precommands.SUPPLIER.octets, precommands.DEVICE.octets
GBZ_CODE = next(code.number for code in codes.CODES.values() if code.payload is Payload.GBZ)
PLAIN = b"1234.5 kWh and 67"
KEYS = f"""\
[[keys]]
id = "{AGREEMENT_KEY}"
class = "key-agreement"
role = 2
eui64 = "{precommands.SUPPLIER}"

[[keys]]
id = "{TOP_UP_KEY}"
class = "prepayment"
role = 2
eui64 = "{precommands.SUPPLIER}"
"""
CALLERS = f"""\
[[callers]]
id = "supplier"
certificate = "tls/supplier.pem"
user_roles = ["IS"]
user_ids = ["{precommands.SUPPLIER}"]
grants = [
  {{ operation = "verify-mac", key_class = "key-agreement" }},
  {{ operation = "decrypt", key_class = "key-agreement" }},
  {{ operation = "mac", key_class = "prepayment" }},
]

[[callers]]
id = "auditor"
certificate = "tls/auditor.pem"
auditor = true
grants = [{{ operation = "verify-mac", key_class = "key-agreement" }}]
"""

pytestmark = pytest.mark.xdist_group("apply-mac")


@dataclass
class Subject:
    deployment: Deployment
    issuing: certificates.Authority
    agreement_point: bytes
    certificate: bytes

    def response(self, number: int) -> bytes:
        """A Response with one encrypted attribute and a MAC, as the Device makes it."""
        body = (
            b"\x00\x00" + b"\x18\x01\x00" + (5 + len(PLAIN) + 12).to_bytes(2) + b"\x31\x00\x00\x00\x00"
        ) + self._encrypted(number)
        payload = b"\x01\x09\x01\x03\x07\x02" + len(body).to_bytes(2) + body
        inner = (
            b"\xdf\x09\x02"
            + number.to_bytes(8)
            + b"\x08"
            + METER
            + b"\x08"
            + SUPPLIER
            + b"\x00\x02"
            + GBZ_CODE.to_bytes(2)
            + framing.emit_length(len(payload))
            + payload
            + b"\x00"
        )
        of = answer.read(inner, "x").agreement
        key = derived(shared_secret(DEVICE, self.agreement_point), of)
        return envelope.wrap(inner, tag(key, of, envelope.additional(inner))[:12])

    def _encrypted(self, number: int) -> bytes:
        of = Agreement(METER, Purpose.ENCRYPTED_ATTRIBUTE, number, SUPPLIER)
        key = derived(shared_secret(DEVICE, self.agreement_point), of)
        return AESGCM(key).encrypt(of.vector, PLAIN, attributes.ADDITIONAL)[:-4]

    def verify(self, message: bytes, **changes: object) -> crypto_pb2.SignRequest:
        asked = {"gbcs_message": message, "device_certificate": self.certificate}
        return request(AGREEMENT_KEY, **(asked | changes))

    def decrypt(self, message: bytes) -> crypto_pb2.SignRequest:
        return request(
            AGREEMENT_KEY, encrypted_response=message, device_certificate=self.certificate, user_role="IS"
        )


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    folder: Path = tmp_path_factory.mktemp("verify")
    deployment = make_deployment(folder, keys=KEYS, callers=CALLERS)
    issuing = certificates.issuing_authority(certificates.root_authority())
    authority = folder / "devices.pem"
    authority.write_bytes(
        x509.load_der_x509_certificate(issuing.certificate).public_bytes(serialization.Encoding.PEM)
    )
    with deployment.config.open("a", encoding="utf-8") as config:
        config.write(f'\n[gbcs]\ndevice_authorities = ["{authority}"]\n')
    with deployment.serving():
        point = deployment.public_point(AGREEMENT_KEY, "auditor")
        yield Subject(deployment, issuing, point, device_certificate(issuing))


def test_a_response_is_verified_and_decrypted_one_by_one_and_many(subject: Subject) -> None:
    whole = [subject.response(2000 + number) for number in range(4)]
    broken = whole[1][:-1] + bytes((whole[1][-1] ^ 1,))
    with subject.deployment.client() as client:
        one = client.verify_mac(subject.verify(whole[0]))
        again = client.verify_mac(subject.verify(whole[0]))
        batch = client.verify_mac_batch([subject.verify(whole[1]), subject.verify(broken)])
        streamed = list(client.verify_mac_stream([subject.verify(each) for each in whole[2:]]))
        plain = client.decrypt(subject.decrypt(one.artefact))
        many = client.decrypt_batch([subject.decrypt(each) for each in whole])
        flowing = list(client.decrypt_stream([subject.decrypt(each) for each in whole]))
        explained = client.explain(subject.verify(whole[0]))
    assert one.artefact in whole[0]
    assert (one.signature, one.artefact) == (whole[0][-12:], again.artefact)
    assert isinstance(batch[0], crypto_pb2.SignResponse)
    assert isinstance(batch[1], NotPermitted)
    assert (batch[1].rule, batch[1].message) == ("gbcs/mac-not-verified", "not verified")
    assert [each.signature for each in streamed] == [each[-12:] for each in whole[2:]]
    for answered in (plain, *many, *flowing):
        assert list(answered.plaintexts) == [PLAIN]
        assert (answered.signature, answered.artefact) == (b"", b"")
    assert explained.permitted
    log = subject.deployment.verified_log()
    operations = [entry.fields["operation"] for entry in log.uses(AGREEMENT_KEY)]
    assert (operations.count("verify-mac"), operations.count("decrypt")) == (6, 9)
    for path in subject.deployment.config.parent.rglob("*"):
        if path.is_file():
            assert PLAIN not in path.read_bytes(), path


async def test_the_same_for_asyncio(subject: Subject) -> None:
    whole = subject.response(3000)
    async with asynchronous.AsyncClient(subject.deployment.target()) as client:
        assert (await client.verify_mac(subject.verify(whole))).signature == whole[-12:]
        (verified,) = await client.verify_mac_batch([subject.verify(whole)])
        streamed = [each async for each in client.verify_mac_stream([subject.verify(whole)])]
        decrypted = [await client.decrypt(subject.decrypt(whole))]
        decrypted += await client.decrypt_batch([subject.decrypt(whole)])
        decrypted += [each async for each in client.decrypt_stream([subject.decrypt(whole)])]
    assert verified.artefact == streamed[0].artefact
    assert [list(each.plaintexts) for each in decrypted] == [[PLAIN]] * 3


def test_who_may_not_or_asks_for_what_is_not_right_is_refused(subject: Subject) -> None:
    whole = subject.response(4000)
    stranger = certificates.issuing_authority(certificates.root_authority("ZZ"), "Z9")
    with subject.deployment.client() as client, subject.deployment.client("auditor") as auditor:
        for rule, question in (
            ("gbcs/device-chain", subject.verify(whole, device_certificate=device_certificate(stranger))),
            ("gbcs/no-device-certificate", subject.verify(whole, device_certificate=b"")),
            ("gbcs/mac-length", subject.verify(whole[:-1])),
            ("gbcs/mac-not-verified", subject.verify(whole[:-1] + bytes((whole[-1] ^ 1,)))),
            ("request/method", subject.decrypt(whole)),
        ):
            with pytest.raises(CallError) as caught:
                client.verify_mac(question)
            assert caught.value.rule == rule
        with pytest.raises(NotPermitted) as refused:
            auditor.decrypt(
                request(AGREEMENT_KEY, encrypted_response=whole, device_certificate=subject.certificate)
            )
        assert refused.value.rule == "key/not-granted"
    log = subject.deployment.verified_log()
    recorded = {one.fields["rule"] for one in log.of_kind("refusal")}
    assert recorded >= {"gbcs/device-chain", "gbcs/mac-length", "request/method", "key/not-granted"}
    assert "gbcs/mac-not-verified" in {one.fields.get("rule") for one in log.uses(AGREEMENT_KEY)}


def test_a_top_up_is_authenticated_and_a_counter_has_one_value(subject: Subject) -> None:
    token = Token(SUPPLIER, METER, 7 << 32, ValueClass.POUNDS, 20)
    with subject.deployment.client() as client:

        def ask(of: Token) -> crypto_pb2.SignRequest:
            return request(
                TOP_UP_KEY,
                prepayment_token=of.additional,
                device_certificate=subject.certificate,
                service_reference_variant="2.2",
                user_role="IS",
            )

        point = client.get_key(TOP_UP_KEY).public_point
        (answered,) = client.apply_mac_batch([ask(token)])
        with pytest.raises(CallError) as caught:
            client.apply_mac(ask(Token(SUPPLIER, METER, 7 << 32, ValueClass.POUNDS, 21)))
    made = tag(derived(shared_secret(DEVICE, point), token.agreement), token.agreement, token.additional)
    assert authentication_of(token, answered.artefact.decode()) == answered.signature == made[-4:]
    assert (answered.clause, caught.value.rule) == ("G3.22", "once/gbcs-mac")


def test_the_command_line_verifies_decrypts_and_tops_up(
    subject: Subject, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cryptosvc, inner = caller(subject.deployment, tmp_path, capsys), tmp_path / "inner.bin"
    whole = subject.response(5000)
    device = tmp_path / "device.der"
    device.write_bytes(subject.certificate)
    code, done = cryptosvc("verify-mac", AGREEMENT_KEY, whole, "--device-certificate", device, "--out", inner)
    assert (code, done["mac"]) == (0, whole[-12:].hex())
    assert inner.read_bytes() in whole
    words = ("--device-certificate", device, "--user-role", "IS")
    code, done = cryptosvc("decrypt", AGREEMENT_KEY, inner, *words)
    assert (code, done["plaintexts"]) == (0, [PLAIN.hex()])
    assert "artefact_base64" not in done
    broken = whole[:-1] + bytes((whole[-1] ^ 1,))
    code, refused = cryptosvc("verify-mac", AGREEMENT_KEY, broken, "--device-certificate", device)
    assert (code, refused["error"]["message"]) == (3, "not verified")
    token = Token(SUPPLIER, METER, 8 << 32, ValueClass.POUNDS, 20)
    words = (*words, "--form", "token", "--variant", "2.2")
    code, done = cryptosvc("mac", TOP_UP_KEY, token.additional, *words)
    assert (code, done["clause"]) == (0, "G3.22")
    utrn = base64.b64decode(done["artefact_base64"]).decode()
    assert authentication_of(token, utrn).hex() == done["mac"]
