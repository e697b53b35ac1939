"""A Signed Pre-Command, as the running service signed it for the supplier, gets its MAC from the running service.

Nothing published: a token, keys and certificates of the test's own. The Device verifies the MAC with its own key.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cryptosvc.client.errors import CallError, NotPermitted
from cryptosvc.client.messages import request
from cryptosvc.core.content.gbcs import mac
from cryptosvc.pb.v1 import crypto_pb2
from tests import certificates, precommands
from tests.command_line import caller
from tests.deployment import KEY, Deployment, make_deployment, pre_command_request
from tests.mac_keys import derived, shared_secret, tag

BROKER_KEY = "broker-agreement"
KEYS = f"""\
[[keys]]
id = "{KEY}"
class = "command-signing"
role = 2
eui64 = "{precommands.SUPPLIER}"

[[keys]]
id = "{BROKER_KEY}"
class = "key-agreement"
role = 4
eui64 = "{precommands.BROKER}"
"""
CALLERS = f"""\
[[callers]]
id = "supplier"
certificate = "tls/supplier.pem"
user_roles = ["IS"]
user_ids = ["{precommands.SUPPLIER}"]
grants = [{{ key_class = "command-signing" }}]

[[callers]]
id = "auditor"
certificate = "tls/auditor.pem"
auditor = true
grants = [{{ operation = "mac", key_class = "key-agreement" }}]
"""
DEVICE = ec.derive_private_key(0xDE71CE, ec.SECP256R1())


@dataclass
class Subject:
    deployment: Deployment
    issuing: certificates.Authority
    signed: list[bytes]
    broker_point: bytes

    def question(self, index: int, **changes: object) -> crypto_pb2.SignRequest:
        asked = {
            "gbcs_command": self.signed[index],
            "device_certificate": device_certificate(self.issuing),
            "service_reference_variant": "7.2",
        }
        return request(BROKER_KEY, **(asked | changes))


def device_certificate(
    issuer: certificates.Authority, entity: str = str(precommands.DEVICE), *, days: int = 3650
) -> bytes:
    """A Device Certificate for key agreement: empty subject, the EUI-64 as a HardwareModuleName; in force for days from yesterday."""
    hardware = bytes.fromhex("06082b060104018237020408") + bytes.fromhex(entity.replace("-", ""))
    other = x509.OtherName(
        x509.ObjectIdentifier("1.3.6.1.5.5.7.8.4"), b"\x30" + bytes((len(hardware),)) + hardware
    )
    issued_by = x509.load_der_x509_certificate(issuer.certificate)
    begins = certificates.AT - timedelta(days=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issued_by.subject)
        .public_key(DEVICE.public_key())
        .serial_number(0x4455)
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=days))
        .add_extension(certificates.key_usage("key_agreement"), critical=True)
        .add_extension(x509.SubjectAlternativeName([other]), critical=True)
        .add_extension(
            x509.SubjectKeyIdentifier(certificates.key_identifier(DEVICE.public_key())), critical=False
        )
    )
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def pem(path: Path, der: bytes) -> Path:
    path.write_bytes(x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    folder = tmp_path_factory.mktemp("mac")
    deployment = make_deployment(folder, keys=KEYS, callers=CALLERS)
    issuing = certificates.issuing_authority(certificates.root_authority())
    with deployment.serving(), deployment.client() as client:
        signed = [client.sign(pre_command_request(1000 + number)).artefact for number in range(4)]
        supplier = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), deployment.public_point())
    made = certificates.organisation_certificate(issuing, supplier, role=2, entity=str(precommands.SUPPLIER))
    originator = pem(folder / "supplier.pem", made)
    authority = pem(folder / "devices.pem", issuing.certificate)
    with deployment.config.open("a", encoding="utf-8") as config:
        config.write(
            f'\n[gbcs]\naccess_control_brokers = ["{precommands.BROKER}"]\n'
            f'originators = ["{originator}"]\ndevice_authorities = ["{authority}"]\n'
        )
    with deployment.serving():
        yield Subject(deployment, issuing, signed, deployment.public_point(BROKER_KEY, "auditor"))


def expected(subject: Subject, finished: bytes) -> bytes:
    """The MAC that the Device computes over what it received."""
    read = mac.read_back(finished, 65_535)
    key = derived(shared_secret(DEVICE, subject.broker_point), read.agreement)
    return tag(key, read.agreement, read.additional)[:12]


@pytest.mark.xdist_group("apply-mac")
def test_the_device_verifies_what_the_service_authenticated(subject: Subject) -> None:
    with subject.deployment.client("auditor") as client:
        answer = client.apply_mac(subject.question(0))
        batch = client.apply_mac_batch([subject.question(1), subject.question(1, device_certificate=b"")])
        streamed = list(client.apply_mac_stream([subject.question(2), subject.question(3)]))
        explained = client.explain(subject.question(0))
    assert (answer.derivation, answer.clause) == ("service", "G2.44(b)")
    assert answer.signature == answer.artefact[-12:] == expected(subject, answer.artefact)
    assert subject.signed[0] in answer.artefact
    done = [batch[0], *streamed]
    assert all(isinstance(one, crypto_pb2.SignResponse) for one in done)
    for index, one in enumerate(done, start=1):
        assert one.artefact[-12:] == expected(subject, one.artefact)
        assert subject.signed[index] in one.artefact
    assert isinstance(batch[1], CallError)
    assert batch[1].rule == "gbcs/no-device-certificate"
    assert explained.permitted
    assert explained.facts["device_chain"] == "checked"
    entries = subject.deployment.verified_log().uses(BROKER_KEY)
    assert [entry.fields["operation"] for entry in entries] == ["mac"] * 4
    assert {entry.fields["derivation"] for entry in entries} == {"service"}


@pytest.mark.xdist_group("apply-mac")
def test_who_may_not_or_asks_for_what_is_not_right_gets_none(subject: Subject) -> None:
    stranger = certificates.issuing_authority(certificates.root_authority("ZZ"), "Z9")
    with subject.deployment.client("auditor") as client, subject.deployment.client() as supplier:
        for rule, question in (
            ("gbcs/device-chain", subject.question(0, device_certificate=device_certificate(stranger))),
            (
                "gbcs/other-device",
                subject.question(
                    0, device_certificate=device_certificate(subject.issuing, "00-DB-12-34-56-78-90-A1")
                ),
            ),
            (
                "gbcs/not-in-force",
                subject.question(0, device_certificate=device_certificate(subject.issuing, days=0)),
            ),
            ("gbcs/service-reference-variant", subject.question(0, service_reference_variant="7.1")),
            ("gbcs/inner-signature", subject.question(0, gbcs_command=subject.signed[0][:-1] + b"\0")),
        ):
            with pytest.raises(CallError) as caught:
                client.apply_mac(question)
            assert caught.value.rule == rule
        with pytest.raises(CallError) as caught:
            client.sign(subject.question(0))
        assert caught.value.rule == "request/method"
        with pytest.raises(NotPermitted) as refused:
            supplier.apply_mac(subject.question(0))
        assert refused.value.rule == "key/not-granted"
    recorded = {one.fields["rule"] for one in subject.deployment.verified_log().of_kind("refusal")}
    assert recorded >= {
        "gbcs/device-chain",
        "gbcs/other-device",
        "gbcs/not-in-force",
        "gbcs/inner-signature",
        "gbcs/no-device-certificate",
        "request/method",
        "key/not-granted",
    }


@pytest.mark.xdist_group("apply-mac")
def test_the_command_line_gets_a_mac_and_says_why_it_does_not(
    subject: Subject, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cryptosvc, out = caller(subject.deployment, tmp_path, capsys, "auditor"), tmp_path / "command.bin"
    device = pem(tmp_path / "device.pem", device_certificate(subject.issuing))
    words = ("--device-certificate", device, "--variant", "7.2")
    code, done = cryptosvc("mac", BROKER_KEY, subject.signed[0], *words, "--out", out)
    finished = out.read_bytes()
    assert (code, done["clause"], done["derivation"]) == (0, "G2.44(b)", "service")
    assert bytes.fromhex(done["mac"]) == finished[-12:] == expected(subject, finished)
    assert done["written_to"] == str(out)
    code, asked = cryptosvc("mac", BROKER_KEY, subject.signed[0], *words, "--explain")
    assert (code, asked["permitted"], asked["content_kind"]) == (0, True, "gbcs-command")
    wrong = ("--device-certificate", device, "--variant", "7.1")
    code, asked = cryptosvc("mac", BROKER_KEY, subject.signed[0], *wrong, "--explain")
    assert (code, asked["refusal"]["rule"]) == (3, "gbcs/service-reference-variant")
    code, refused = cryptosvc("mac", BROKER_KEY, subject.signed[0], *wrong)
    assert (code, refused["error"]["rule"]) == (3, "gbcs/service-reference-variant")
    code, refused = cryptosvc("mac", BROKER_KEY, subject.signed[0], *words[2:], "--device-certificate", b"x")
    assert (code, refused["error"]["field"]) == (3, "device_certificate")
    torn = b"-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----"
    assert cryptosvc("mac", BROKER_KEY, subject.signed[0], "--device-certificate", torn)[0] == 2
