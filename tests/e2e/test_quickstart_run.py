"""`scripts/quickstart` does what it says, and what it signed verifies with other software."""

import base64
import re
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

pytestmark = pytest.mark.xdist_group("quickstart")


def certificate(quickstart, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((quickstart.folder / "pki" / f"{name}.pem").read_bytes())


def test_it_takes_less_than_three_minutes(quickstart):
    assert quickstart.seconds < 180


def test_it_says_what_was_signed_and_what_was_refused_and_why(quickstart):
    said = quickstart.output

    for line in (
        r"issuing-oca signed the Organisation Certificate of supplier-signing \(OU=02\): G2\.61\(a\)",
        r"a GBCS Pre-Command .* with supplier-signing: G2\.56, log entry \d+",
        r"a DUIS document .* with supplier-xml: G3\.29, log entry \d+",
        r"the Root OCA key asked for an Organisation certificate:\n +G2\.60: ",
        r"the supplier's key asked for a load controller's command \(ECS47e\):\n +G\d",
        r"a bare digest: 32 octets said to be a Pre-Command:\n +G2\.56: ",
        r"the client package does not even send one",
        r"\d+ entries verified from genesis to checkpoint",
        r"one refusal turned into a permit in a copy: found",
        r"Try next:",
    ):
        assert re.search(line, said), line


def test_the_certificates_chain_up_to_the_root(quickstart):
    root, issuing = certificate(quickstart, "root-oca"), certificate(quickstart, "issuing-oca")

    root.verify_directly_issued_by(root)
    issuing.verify_directly_issued_by(root)
    for name in ("supplier-signing", "supplier-xml"):
        certificate(quickstart, name).verify_directly_issued_by(issuing)
    with pytest.raises(ValueError, match="does not match certificate issuer"):
        certificate(quickstart, "supplier-xml").verify_directly_issued_by(root)


def test_the_pre_command_is_signed_by_the_suppliers_key_over_what_was_sent(quickstart):
    sent = (quickstart.folder / "signed" / "pre-command.bin").read_bytes()
    signed = (quickstart.folder / "signed" / "signed-pre-command.bin").read_bytes()

    body, length, signature = signed[:-65], signed[-65], signed[-64:]
    assert length == 0x40
    assert body + b"\x00" == sent
    der = encode_dss_signature(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
    key = certificate(quickstart, "supplier-signing").public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(der, body[1:], ec.ECDSA(hashes.SHA256()))  # raises where it is not


def test_the_document_is_signed_by_the_xml_key(quickstart):
    document = (quickstart.folder / "signed" / "signed-read-inventory.xml").read_bytes()
    from lxml import etree

    names = {"ds": "http://www.w3.org/2000/09/xmldsig#"}
    root = etree.fromstring(document)
    (info,) = root.findall(".//ds:SignedInfo", names)
    (value,) = root.findall(".//ds:SignatureValue", names)
    signature = base64.b64decode(value.text)
    der = encode_dss_signature(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
    key = certificate(quickstart, "supplier-xml").public_key()
    key.verify(der, etree.tostring(info, method="c14n", exclusive=True), ec.ECDSA(hashes.SHA256()))


def pins(quickstart) -> list[bytes]:
    files = [quickstart.folder / "softhsm" / name for name in ("pin", "so-pin")]
    assert [file.stat().st_mode & 0o777 for file in files] == [0o600, 0o600]
    return [file.read_bytes().strip() for file in files]


def test_no_pin_is_anywhere_but_in_its_file(quickstart):
    looked = [path for path in quickstart.folder.rglob("*") if path.is_file() and "softhsm" not in path.parts]

    assert {"service.log", "cryptosvc.db", "log.export"} <= {path.name for path in looked}
    for pin in pins(quickstart):
        assert [path.name for path in looked if pin in path.read_bytes()] == []
        assert pin.decode() not in quickstart.output


def test_no_process_shows_a_pin_in_its_arguments_or_environment(quickstart):
    processes = [quickstart.process_id, *quickstart.workers()]

    assert len(processes) >= 2
    for process in processes:
        command = ["ps", "eww", "-o", "args=", "-p", str(process)]
        shown = subprocess.run(command, capture_output=True, check=True).stdout
        assert b"cryptosvc" in shown
        assert not any(pin in shown for pin in pins(quickstart))
