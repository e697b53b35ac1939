"""A custodian's key on a token by its RFC 7512 URI, and in a file: what is signed verifies, and what is unclear is refused."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_der_public_key,
)

from cryptosvc.adapters.hsm import card
from cryptosvc.adapters.hsm.provision import Provisioner
from cryptosvc.core.errors import Corrupt, CryptosvcError, Malformed, Unavailable
from cryptosvc.core.keyclass import ceiling
from tests.hsm_fixtures import TestToken, make_softhsm

LABEL = "approve; by ada"


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestToken]:
    made = make_softhsm(tmp_path_factory.mktemp("card"), label="ada's card")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", made.conf)
        with Provisioner(made.config, made.locks) as opened:
            template = ceiling("service-signing").template
            opened.generate(LABEL, b"\x01", template)
            opened.generate("twice", b"\x02", template)
            opened.generate("twice", b"\x03", template)
        yield made


def uri(token: TestToken, path: str = "", query: str = "") -> str:
    """A URI of Ada's key; parts may be replaced."""
    where = path or f"token={quote(token.config.token_label)};object={quote(LABEL)};id=%01;type=private"
    asked = query or f"module-path={token.config.library}&pin-source=file:{token.folder / 'pin'}"
    return f"pkcs11:{where}?{asked}"


def refused(where: str) -> CryptosvcError:
    with pytest.raises(CryptosvcError) as error, card.open_key(where) as key:
        key.sign(b"anything")
    return error.value


def test_what_a_card_signs_verifies_under_its_public_key(token: TestToken):
    with card.open_key(uri(token)) as key:
        signature = key.sign(b"a statement")
        public = load_der_public_key(key.spki)
        assert isinstance(public, ec.EllipticCurvePublicKey)
        public.verify(signature, b"a statement", ec.ECDSA(hashes.SHA256()))
        again = key.sign(b"a statement")
        assert hashlib.sha256(again).digest() != hashlib.sha256(signature).digest()


def test_token_serial_and_id_alone_are_enough(token: TestToken):
    where = uri(token, f"serial={token.config.token_serial};id=%01")
    with card.open_key(where) as key, card.open_key(uri(token)) as same:
        assert key.spki == same.spki


def test_the_pin_is_asked_for_where_no_file_is_named(token: TestToken, monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return token.pin

    monkeypatch.setattr("getpass.getpass", ask)
    with card.open_key(uri(token, query=f"module-path={token.config.library}")) as key:
        assert len(key.sign(b"x")) > 60
    assert asked == ["PIN of token ada's card: "]


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("token=nobody;id=%01", "hsm/token-absent"),
        ("token=ada%27s%20card;serial=0000;id=%01", "hsm/token-absent"),
        ("token=ada%27s%20card;object=nothing", "hsm/object-missing"),
        ("token=ada%27s%20card;id=%09", "hsm/object-missing"),
        ("token=ada%27s%20card;object=twice", "hsm/object-ambiguous"),
    ],
)
def test_what_is_not_there_or_there_twice_signs_nothing(token: TestToken, path: str, rule: str):
    found = refused(uri(token, path))
    assert found.rule == rule
    assert isinstance(found, Unavailable | Corrupt)


def test_a_wrong_pin_is_tried_once(token: TestToken, tmp_path: Path):
    wrong = tmp_path / "pin"
    wrong.write_text("0000\n")
    wrong.chmod(0o600)
    found = refused(uri(token, query=f"module-path={token.config.library}&pin-source=file:{wrong}"))
    assert found.rule == "hsm/pin-refused"


def test_a_pin_file_that_others_may_read_is_refused(token: TestToken, tmp_path: Path):
    loose = tmp_path / "pin"
    loose.write_text(token.pin)
    loose.chmod(0o644)
    found = refused(uri(token, query=f"module-path={token.config.library}&pin-source={loose}"))
    assert found.rule == "hsm/pin-source"
    assert token.pin not in found.message


@pytest.mark.parametrize(
    "text",
    [
        "pkcs11:token=a;object=b?module-path=/x.so&pin-value=1234",
        "pkcs11:token=a;object=b;pin-value=1234?module-path=/x.so",
        "pkcs11:token=a;object=b",
        "pkcs11:token=a;object=b?module-path=x.so",
        "pkcs11:token=a?module-path=/x.so",
        "pkcs11:object=b?module-path=/x.so",
        "pkcs11:token=a;object=b;type=public?module-path=/x.so",
        "pkcs11:token=a;token=a;object=b?module-path=/x.so",
        "pkcs11:token=a;object=b;colour=red?module-path=/x.so",
        "pkcs11:token=a;object=%zz?module-path=/x.so",
        "pkcs11:token=%ff;object=b?module-path=/x.so",
        "pkcs11:token=a;object=b?module-path=/x.so&pin-source=|cat",
        "pkcs11:token=a;object=b?module-path=/x.so&pin-source=file:relative",
    ],
)
def test_a_uri_that_is_unclear_or_has_a_pin_in_it_is_refused(text: str):
    with pytest.raises(Malformed) as refused_uri:
        card.parse_uri(text)
    assert refused_uri.value.rule == "key/uri"
    assert "1234" not in refused_uri.value.message


def test_a_file_with_a_passphrase_asks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "ada.pem"
    key = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"open")))
    monkeypatch.setattr("getpass.getpass", lambda _prompt: "open")
    with card.open_key(str(path)) as opened:
        key.public_key().verify(opened.sign(b"x"), b"x", ec.ECDSA(hashes.SHA256()))
    monkeypatch.setattr("getpass.getpass", lambda _prompt: "wrong")
    assert refused(str(path)).rule == "key/file"


def test_a_file_that_is_no_p256_key_is_refused(tmp_path: Path):
    path = tmp_path / "key.pem"
    assert refused(str(path)).rule == "config/unreadable"
    path.write_text("no key")
    assert refused(str(path)).rule == "key/file"
