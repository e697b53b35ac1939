"""Originators and Device authorities count where the policy set names them; the configuration cannot add one (G2.44(b))."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from cryptosvc.adapters.policy.governance import read_governance
from cryptosvc.config.settings import Settings, read_settings
from cryptosvc.core.errors import Malformed
from cryptosvc.core.quorum import Governance
from cryptosvc.wiring.registered import require_registered
from tests import certificates

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLE = (REPOSITORY / "config.example.toml").read_text()
RULES = (REPOSITORY / "policies" / "governance.toml").read_text()
ISSUING = certificates.issuing_authority(certificates.root_authority()).certificate
OTHER = certificates.issuing_authority(certificates.root_authority("ZZ"), "Z9").certificate
DIGEST = hashlib.sha256(ISSUING).hexdigest()


def settings(folder: Path, environment: str, *configured: bytes) -> Settings:
    paths = []
    for number, der in enumerate(configured):
        path = folder / f"{number}.pem"
        path.write_bytes(x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM))
        paths.append(f'"{path}"')
    text = EXAMPLE.replace('environment = "test"', f'environment = "{environment}"')
    named = f"originators = [{', '.join(paths)}]\ndevice_authorities = [{', '.join(paths)}]\n"
    file = folder / "cryptosvc.toml"
    file.write_text(text.replace("access_control_brokers = []\n", f"access_control_brokers = []\n{named}"))
    return read_settings(file)


def rules(**named: list[str]) -> Governance:
    head, tail = RULES.split("[custody]", 1)
    lists = "".join(f"{name} = {digests}\n".replace("'", '"') for name, digests in named.items())
    return read_governance(f"{head}{lists}[custody]{tail}".encode())


@pytest.mark.parametrize("environment", ["test", "live"])
def test_what_is_named_is_registered(tmp_path: Path, environment: str) -> None:
    named = rules(originators=[DIGEST], device_authorities=[DIGEST])
    assert (named.originators, named.device_authorities) == ({DIGEST}, {DIGEST})
    assert require_registered(settings(tmp_path, environment, ISSUING), named) == 2
    assert require_registered(settings(tmp_path, environment), named) == 0


@pytest.mark.parametrize("environment", ["test", "live"])
@pytest.mark.parametrize("field", ["originators", "device_authorities"])
def test_what_is_configured_and_not_named_is_refused(tmp_path: Path, environment: str, field: str) -> None:
    both = rules(originators=[DIGEST], device_authorities=[DIGEST])
    asked = settings(tmp_path, environment, ISSUING)
    with pytest.raises(Malformed) as refused:
        require_registered(asked, replace(both, **{field: frozenset({"0" * 64})}))
    assert (refused.value.rule, refused.value.clause) == ("config/not-registered", "G2.44(b)")
    assert refused.value.field == f"gbcs.{field}"
    assert DIGEST in refused.value.message
    with pytest.raises(Malformed):
        require_registered(settings(tmp_path, environment, ISSUING, OTHER), both)


def test_an_empty_list_asks_nothing_in_test_and_everything_in_live(tmp_path: Path) -> None:
    assert require_registered(settings(tmp_path, "test", ISSUING), rules()) == 0
    with pytest.raises(Malformed) as refused:
        require_registered(settings(tmp_path, "live", ISSUING), rules())
    assert refused.value.field == "gbcs.originators"


@pytest.mark.parametrize("field", ["foreign_issuers", "originators", "device_authorities"])
@pytest.mark.parametrize("wrong", [[DIGEST.upper()], [DIGEST[:-1]], [DIGEST + "0"]])
def test_a_list_is_of_digests(field: str, wrong: list[str]) -> None:
    with pytest.raises(Malformed) as refused:
        rules(**{field: wrong})
    assert (refused.value.rule, refused.value.field) == ("governance/field", field)
