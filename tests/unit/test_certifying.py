"""At `init` a key gets only a certificate that it can sign under: this key's, this party's, and for its class's use."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from cryptosvc.config.provisioning import KeyEntry
from cryptosvc.core.content.x509 import signer
from cryptosvc.core.content.x509.identity import read_certificate
from cryptosvc.core.errors import Malformed
from cryptosvc.core.names import Eui64, RemotePartyRole
from cryptosvc.wiring.certifying import certificate_named, certified
from tests.certificates import (
    SUPPLIER,
    issuing_authority,
    key_pair,
    key_record,
    key_usage,
    oca_name,
    organisation_certificate,
    organisation_name,
    root_authority,
)

ROOT = root_authority()
ISSUING = issuing_authority(ROOT)
KEY = key_pair("certifying")
STRANGER = "90-B3-D5-1F-30-02-00-00"


def organisation(**choices: object) -> bytes:
    return organisation_certificate(ISSUING, KEY.public_key(), **choices)


def with_extensions(subject: x509.Name, *usages: str, authority: bool) -> bytes:
    """A certificate for KEY with these usages, which says or does not say that it is a CA's."""
    issuer = x509.load_der_x509_certificate(ISSUING.certificate)
    plain = x509.load_der_x509_certificate(organisation())
    builder = (
        x509.CertificateBuilder(
            extensions=[one for one in plain.extensions if not isinstance(one.value, x509.KeyUsage)]
        )
        .issuer_name(issuer.subject)
        .subject_name(subject)
        .public_key(KEY.public_key())
        .serial_number(5)
        .not_valid_before(plain.not_valid_before_utc)
        .not_valid_after(plain.not_valid_after_utc)
        .add_extension(key_usage(*usages), critical=True)
    )
    if authority:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return builder.sign(ISSUING.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def entry(key_class: str = "command-signing", **choices: Any) -> KeyEntry:
    return KeyEntry.model_validate({"id": "it", "class": key_class} | choices)


FITTING: dict[str, tuple[str, bytes]] = {
    "a command key": ("command-signing", organisation()),
    "a document key": ("xml-signing", organisation(role=135)),
    "an OCA": (
        "issuing-oca",
        with_extensions(oca_name(7, "Z9"), "key_cert_sign", "crl_sign", authority=True),
    ),
    "a root": ("root-oca", with_extensions(oca_name(0, "Z9"), "key_cert_sign", "crl_sign", authority=True)),
}


@pytest.mark.parametrize("what", list(FITTING))
def test_one_for_its_class_is_taken_with_what_it_says(what: str) -> None:
    key_class, certificate = FITTING[what]
    made = certified(entry(key_class), key_record(key_class, KEY.public_key()), certificate)
    facts = read_certificate(certificate)
    assert (made.certificate, made.eui64, made.role) == (certificate, facts.eui64, facts.role)
    signer.require_own_certificate(made)


SUPPLIERS = organisation_name(2, SUPPLIER)
OCA = ("key_cert_sign", "crl_sign")
WRONG: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "key agreement": ("command-signing", lambda: organisation(usage="key_agreement"), "digital signatures"),
    "key agreement, documents": (
        "xml-signing",
        lambda: organisation(role=135, usage="key_agreement"),
        "digital signatures",
    ),
    "two usages": (
        "command-signing",
        lambda: with_extensions(SUPPLIERS, "digital_signature", "key_agreement", authority=False),
        "digital signatures",
    ),
    "a CA": (
        "command-signing",
        lambda: with_extensions(SUPPLIERS, "digital_signature", authority=True),
        "digital signatures",
    ),
    "an OCA without the flag": (
        "issuing-oca",
        lambda: with_extensions(oca_name(7, "Z9"), *OCA, authority=False),
        "OCA Certificate",
    ),
    "an OCA for signatures": (
        "issuing-oca",
        lambda: with_extensions(oca_name(7, "Z9"), "digital_signature", authority=True),
        "OCA Certificate",
    ),
    "an OCA for half": (
        "root-oca",
        lambda: with_extensions(oca_name(0, "Z9"), "key_cert_sign", authority=True),
        "OCA Certificate",
    ),
    "another key": ("issuing-oca", lambda: ISSUING.certificate, "another key"),
    "a role of another class": ("command-signing", lambda: organisation(role=135), "role that no"),
    "an Organisation's on an OCA key": ("issuing-oca", organisation, "role that no"),
    "unreadable": ("command-signing", lambda: b"\x30\x00", "cannot be used"),
    "an unknown role": ("command-signing", lambda: organisation(role=0x55), "cannot be used"),
}


@pytest.mark.parametrize("what", list(WRONG))
def test_one_it_could_not_sign_under_is_refused_by_name(what: str) -> None:
    key_class, make, said = WRONG[what]
    with pytest.raises(Malformed) as refused:
        certified(entry(key_class), key_record(key_class, KEY.public_key()), make())
    assert (refused.value.rule, refused.value.field) == ("provisioning/certificate", "keys.it")
    assert refused.value.message.startswith("key it: its certificate ")
    assert said in refused.value.message


@pytest.mark.parametrize(
    ("choices", "said"),
    [({"eui64": STRANGER}, "another party"), ({"role": 3}, "another role than the file's")],
)
def test_one_that_says_otherwise_than_the_file_is_refused(choices: dict[str, object], said: str) -> None:
    with pytest.raises(Malformed, match=said):
        certified(entry(**choices), key_record("command-signing", KEY.public_key()), organisation())
    made = certified(
        entry(eui64=SUPPLIER, role=2), key_record("command-signing", KEY.public_key()), organisation()
    )
    assert (made.eui64, made.role) == (Eui64.parse(SUPPLIER), RemotePartyRole.SUPPLIER)


def test_an_entry_names_a_file_or_none(tmp_path: Path) -> None:
    assert certificate_named(entry()) == b""
    file = tmp_path / "it.pem"
    certificate = organisation()
    pem = x509.load_der_x509_certificate(certificate).public_bytes(serialization.Encoding.PEM)
    file.write_bytes(pem)
    assert certificate_named(entry(certificate=file)) == certificate
    file.write_bytes(pem * 2)
    with pytest.raises(Malformed) as refused:
        certificate_named(entry(certificate=file))
    assert (refused.value.rule, refused.value.field) == ("config/certificate", "keys.it")
