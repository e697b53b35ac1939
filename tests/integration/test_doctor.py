"""`doctor` on a deployment with one thing wrong: it names that thing, says what to do, and goes on to the rest."""

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cryptosvc.cli.actions import Finding, Health
from cryptosvc.wiring import doctor
from tests.deployment import REPOSITORY, Deployment, make_deployment
from tests.pki import Authority


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return make_deployment(tmp_path_factory.mktemp("doctor") / "deployment")


@pytest.fixture(autouse=True)
def as_it_was(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every file of the deployment that a test may change, put back."""
    monkeypatch.setenv("SOFTHSM2_CONF", deployment.token.conf)
    paths = [
        *(deployment.folder / "tls").iterdir(),
        deployment.config,
        deployment.database,
        deployment.token.folder / "pin",
    ]
    before = {path: (path.read_bytes(), path.stat().st_mode) for path in paths}
    yield
    for path, (octets, mode) in before.items():
        path.write_bytes(octets)
        path.chmod(mode)


def found(deployment: Deployment) -> dict[str, Finding]:
    return {finding.subject: finding for finding in doctor.examine(deployment.config)}


def test_a_sound_deployment_has_nothing_wrong(deployment: Deployment) -> None:
    findings = found(deployment)
    assert [one for one in findings.values() if one.health is Health.WRONG] == []
    wanted = {
        "configuration",
        "clock",
        "server.certificate",
        "server.client_ca",
        "server.private_key",
        "policies",
        "module softhsm",
        "module softhsm mechanisms",
        "module softhsm assurance",
        "store and log",
        "registry",
    }
    assert wanted <= findings.keys()
    assert re.search(r"[1-9]\d* keys and 3 callers", findings["registry"].seen)


def _replace(before: str, after: str) -> Callable[[Deployment], None]:
    def change(deployment: Deployment) -> None:
        text = deployment.config.read_text()
        assert before in text
        deployment.config.write_text(text.replace(before, after))

    return change


def _server_of(**choices: bool) -> Callable[[Deployment], None]:
    def change(deployment: Deployment) -> None:
        made = Authority().client("server", **choices)
        (deployment.folder / "tls/server.pem").write_bytes(made.certificate)
        if choices:
            (deployment.folder / "tls/server.key").write_bytes(made.key)

    return change


def _write(name: str, octets: bytes) -> Callable[[Deployment], None]:
    return lambda deployment: _put(deployment.folder / name, octets)


def _put(path: Path, octets: bytes) -> None:
    path.write_bytes(octets)


def _readable_pin(deployment: Deployment) -> None:
    (deployment.token.folder / "pin").chmod(0o644)


def _another_serial(deployment: Deployment) -> None:
    _replace(f'token_serial = "{deployment.token.config.token_serial}"', 'token_serial = "0"')(deployment)


def _another_manufacturer(deployment: Deployment) -> None:
    _replace(f'manufacturer = "{deployment.token.config.manufacturer}"', 'manufacturer = "X"')(deployment)


def _no_store(deployment: Deployment) -> None:
    _replace('url = "sqlite:///cryptosvc.db"', 'url = "sqlite:///another.db"')(deployment)


def _edited_head(deployment: Deployment) -> None:
    with closing(sqlite3.connect(deployment.database)) as connection:
        connection.execute("UPDATE head SET tag = zeroblob(32)")
        connection.commit()


OTHER_FIRMWARE = 'certificate = "1"\ncertificate_firmware = ["9.9"]\n'
NO_POLICIES = _replace(str(REPOSITORY / "policies"), "/nowhere")


@pytest.mark.parametrize(
    ("change", "subject", "said"),
    [
        (_server_of(expired=True), "server.certificate", r"valid until"),
        (_server_of(), "server.private_key", r"is not the .* key of server.certificate"),
        (_write("tls/ca.pem", b"no certificate"), "server.client_ca", r"holds no PEM certificate"),
        (_another_serial, "module softhsm", r"token"),
        (_another_manufacturer, "module softhsm", r"manufacturer"),
        (
            _replace('country = "GB"\n\n[policy]', f'country = "GB"\n{OTHER_FIRMWARE}\n[policy]'),
            "module softhsm",
            r"covers 9\.9",
        ),
        (_write("softhsm/pin", b"wrong-pin\n"), "module softhsm", r"PIN"),
        (_readable_pin, "module softhsm", r"PIN"),
        (_replace('library = "/', 'library = "/nowhere/'), "module softhsm", r"library|load"),
        (_no_store, "store and log", r"tables|initialised"),
        (_edited_head, "store and log", r"head"),
    ],
)
def test_what_is_wrong_is_named_with_what_to_do_and_the_rest_is_looked_at(
    deployment: Deployment, change: Callable[[Deployment], None], subject: str, said: str
) -> None:
    change(deployment)
    NO_POLICIES(deployment)  # a second thing that is wrong; and policies take the longest to look at
    wrong = {one.subject: one for one in found(deployment).values() if one.health is Health.WRONG}
    assert {subject, "policies"} <= wrong.keys()
    # a store cannot be opened without the module that authenticates its head
    assert wrong.keys() <= {subject, "policies", "store and log"}
    assert re.search(said, wrong[subject].seen), wrong[subject].seen
    assert all(one.advice for one in wrong.values())
    assert deployment.token.pin not in repr(wrong)


def test_a_configuration_that_cannot_be_read_is_all_there_is_to_say(deployment: Deployment) -> None:
    _replace("[store]", "[stoer]")(deployment)
    (finding,) = doctor.examine(deployment.config)
    assert (finding.subject, finding.health) == ("configuration", Health.WRONG)
    assert "stoer" in finding.seen
    assert "config.example.toml" in finding.advice


@pytest.mark.parametrize(
    ("environment", "tables", "warned"),
    [
        ("test", "", set()),
        ("live", "", {"watch", "time sources"}),
        ("live", "[watch]", {"time sources"}),
        (
            "live",
            '[watch]\n[[time.sources]]\nname = "a"\nkind = "network"\naddress = "h"\n',
            {"time sources"},
        ),
        (
            "live",
            "[watch]"
            + "".join(
                f'\n[[time.sources]]\nname = "{kind}"\nkind = "{kind}"\naddress = "h"\n'
                for kind in ("network", "independent")
            ),
            set(),
        ),
    ],
)
def test_a_live_deployment_is_warned_that_nobody_looks_on(
    deployment: Deployment, environment: str, tables: str, warned: set[str]
) -> None:
    text = deployment.config.read_text().replace('environment = "test"', f'environment = "{environment}"')
    deployment.config.write_text(f"{text}\n{tables}\n")
    findings = found(deployment)
    looked = {name: findings[name] for name in ("watch", "time sources")}
    assert {name for name, one in looked.items() if one.health is Health.WARNING} == warned
    assert all(bool(one.advice) == (name in warned) for name, one in looked.items())
